"""The measures of what goes on inside, against their definitions: loops over plain numbers, written from the papers."""
import math
from dataclasses import replace

import numpy as np
import pytest

from nphybrid.config import Config
from nphybrid.explain import measures
from nphybrid.ops import reference
from nphybrid.params import shapes, tree_map

GRIDS = [(3, 5), (4, 1)]


def attention(grid, class_token, L=3, A=2):
    """Weights that are neither uniform nor one-hot, float64.  -> (L, A, T, T), rows sum to 1"""
    T = class_token + grid[0] * grid[1]
    weights = np.exp(1.5 * np.random.default_rng(T).standard_normal((L, A, T, T)))
    return weights / weights.sum(-1, keepdims=True)


def apart(a, b):
    """max|a - b| / max|b|"""
    return np.abs(np.subtract(a, b)).max() / np.abs(b).max()


# ---------------------------------------------------------------- rollout

def rollout(weights, shortcut=0.5, forwards=True):
    """Abnar and Zuidema 2020: A = 0.5 W + 0.5 I; the rollout of layer i is A of i times that of the layer below."""
    L, A, T, _ = np.shape(weights)
    below, found = [[float(i == j) for j in range(T)] for i in range(T)], []
    for l in range(L):
        mixed = [[(1 - shortcut) * sum(weights[l][a][i][j] for a in range(A)) / A + shortcut * (i == j)
                  for j in range(T)] for i in range(T)]
        first, second = (mixed, below) if forwards else (below, mixed)
        below = [[sum(first[i][k] * second[k][j] for k in range(T)) for j in range(T)] for i in range(T)]
        found.append(below)
    return np.array(found)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("class_token", [0, 1])
def test_rollout(grid, class_token):
    weights = attention(grid, class_token)
    found = measures.rollout(weights)
    assert apart(found, rollout(weights)) < 1e-12
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-12)
    mistakes = {"no identity": rollout(weights, shortcut=0), "reversed": rollout(weights, forwards=False),
                "columns for rows": rollout(weights.swapaxes(2, 3)), "one head": rollout(weights[:, :1]),
                "from above": rollout(weights[::-1])}
    for mistake, other in mistakes.items():
        assert apart(found[-1], other[-1]) > 0.03, mistake


def test_rollout_of_heads_that_are_off():
    """With one head of two, the attention W of this head has the share 1/3: (W / 2 + I) / (1/2 + 1). Then no heads."""
    weights = attention((3, 5), 1)
    weights[:, 0] = 0
    found = measures.rollout(weights)
    assert apart(found, rollout(weights[:, 1:], shortcut=2 / 3)) < 1e-12                # observed 3e-16
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-12)
    assert (measures.rollout(0 * weights) == np.eye(16)).all()


def test_rollout_of_float32_is_computed_in_float64():
    weights = attention((3, 5), 1).astype(np.float32)
    assert measures.rollout(weights).dtype == np.float64
    assert apart(measures.rollout(weights), measures.rollout(weights.astype(np.float64))) < 1e-12


# ---------------------------------------------------------------- attention distance

def attention_distance(weights, grid, cell, class_token):
    """ViT, appendix D.7: the distance between the query pixel and all others, weighted by attention, on average."""
    rows, columns = grid
    far = []
    for layer in weights:
        far.append([])
        for head in layer:
            means = []
            for q in range(rows * columns):
                total = share = 0
                for k in range(rows * columns):
                    down, right = q // columns - k // columns, q % columns - k % columns
                    weight = head[class_token + q][class_token + k]
                    total += weight * math.hypot(down * cell[0], right * cell[1])
                    share += weight
                means.append(total / share)
            far[-1].append(sum(means) / len(means))
    return np.array(far)


@pytest.mark.parametrize("class_token", [0, 1])
def test_attention_distance(class_token):
    grid, cell = (3, 5), (16, 8)
    weights = attention(grid, class_token)
    found = measures.attention_distance(weights, grid, cell)
    assert found.shape == (3, 2) and apart(found, attention_distance(weights, grid, cell, class_token)) < 1e-12
    among = weights[:, :, -15:, -15:]
    mistakes = {"columns for rows": measures.attention_distance(weights.swapaxes(2, 3), grid, cell),
                "grid turned": measures.attention_distance(weights, grid[::-1], cell),
                "cell turned": measures.attention_distance(weights, grid, cell[::-1])}
    if class_token:
        mistakes["cells taken from the front"] = attention_distance(weights, grid, cell, 0)
        mistakes["the rest is not the whole"] = (among * measures.distances(grid, cell)).sum(-1).mean(-1)
    for mistake, other in mistakes.items():
        assert apart(found, other) > 0.01, mistake


def test_attention_distance_of_known_heads():
    """Attention to the query itself, to its right neighbour in the row, and to all cells alike."""
    T = 8
    itself, right = np.eye(T), np.zeros((T, T))
    for t in range(T):
        right[t, t // 4 * 4 + (t + 1) % 4] = 1
    far = measures.attention_distance(np.stack([itself, right])[None], (2, 4), (16, 16))
    np.testing.assert_allclose(far, [[0, (3 * 16 + 48) / 4]], atol=1e-12)
    uniform = measures.attention_distance(np.full((1, 1, T, T), 1 / T), (2, 4), (16, 16))
    assert uniform == pytest.approx(measures.distances((2, 4), (16, 16)).mean())


# ---------------------------------------------------------------- position similarity

@pytest.mark.parametrize("class_token", [0, 1])
def test_position_similarity(class_token):
    grid, rng = (3, 5), np.random.default_rng(3)
    positions = rng.standard_normal((class_token + 15, 7)) * rng.uniform(0.1, 9, (class_token + 15, 1)) + 0.5

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    cells = positions[class_token:]
    expected = np.array([[cosine(a, b) for b in cells] for a in cells])
    found = measures.position_similarity(positions, grid)
    assert found.shape == (15, 15) and apart(found, expected) < 1e-12
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-12)
    mistakes = {"no lengths": cells @ cells.T, "centred": np.corrcoef(cells)}
    if class_token:
        mistakes["class token left in"] = measures.position_similarity(positions[:15], grid)
    for mistake, other in mistakes.items():
        assert apart(found, other) > 0.1, mistake


# ---------------------------------------------------------------- logit lens

LENS = Config(image=(8, 12), stem=0, patch=4, width=6, heads=2, blocks=1, hidden=5, classes=4, ln_eps=1e-3)
LENSES = {"token": LENS, "mean": replace(LENS, pool="mean"),
          "mean without a class token": replace(LENS, pool="mean", class_token=False),
          "norm after the pooling": replace(LENS, pool="mean", norm_pooled=True),
          "pre_logits": replace(LENS, pre_logits=3)}


def norm(x, learned, eps):
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    return [(v - mean) / math.sqrt(variance + eps) * s + b for v, s, b in zip(x, learned.scale, learned.bias)]


def linear(x, learned):
    return [sum(v * k for v, k in zip(x, column)) + b for column, b in zip(learned.kernel.T, learned.bias)]


def answer(tokens, p, config):
    """ViT eq. 4 and the head, for the tokens of one picture as plain numbers."""
    tokens = [norm(x, p.norm, config.ln_eps) if p.norm else x for x in tokens]
    others = tokens[config.class_token:]
    x = tokens[0] if config.pool == "token" else [sum(column) / len(others) for column in zip(*others)]
    x = norm(x, p.pool_norm, config.ln_eps) if p.pool_norm else x
    x = [math.tanh(v) for v in linear(x, p.pre_logits)] if p.pre_logits else x
    return linear(x, p.head)


@pytest.mark.parametrize("kind", LENSES)
def test_logit_lens(kind):
    config, rng = LENSES[kind], np.random.default_rng(8)
    p = tree_map(lambda name, shape: rng.standard_normal(shape) + (name.endswith("scale")), shapes(config))
    states = rng.standard_normal((3, 2, config.tokens, config.width)) + 0.7
    found = measures.logit_lens(list(states), p, config, reference)
    expected = np.array([[answer(tokens.tolist(), p, config) for tokens in state] for state in states])
    assert found.shape == (3, 2, 4) and apart(found, expected) < 1e-12
    for other in LENSES.values():
        if (other.pool, other.class_token) != (config.pool, config.class_token) and p.pool_norm is None:
            assert apart(found, [[answer(tokens.tolist(), p, other) for tokens in state] for state in states]) > 0.05


# ---------------------------------------------------------------- occlusion

def occluded(score, x, window, step):
    """Zeiler and Fergus 2014: the square's centre moves from edge to edge; what it covers is grey, 0."""
    _, C, H, W = x.shape
    fall = []
    for y in range(0, H + 1, step):
        fall.append([])
        for z in range(0, W + 1, step):
            hidden = np.array([[[[0 if -(window // 2) <= i - y < window - window // 2
                                  and -(window // 2) <= j - z < window - window // 2 else x[0, c, i, j]
                                  for j in range(W)] for i in range(H)] for c in range(C)]])
            fall[-1].append(score(x)[0] - score(hidden)[0])
    return np.array(fall)


@pytest.mark.parametrize("window, step", [(4, 2), (3, 2), (5, 3), (2, 4), (1, 1)])
def test_occlusion(window, step):
    rng = np.random.default_rng(window)
    x, weight = rng.standard_normal((1, 3, 7, 10)), rng.standard_normal((3, 7, 10))

    def score(x):
        return np.tanh((x * weight).sum((1, 2, 3)) / 8) + (x[:, 0] ** 2 * weight[1]).sum((1, 2))
    before = x.copy()
    found = measures.occlusion(score, x, window, step)
    assert found.shape == (7 // step + 1, 10 // step + 1)
    assert apart(found, occluded(score, x, window, step)) < 1e-12
    assert (x == before).all()
    for mistake, other in {"sign": -found, "wider": measures.occlusion(score, x, window + 2, step),
                           "turned": measures.occlusion(score, x[:, :, ::-1], window, step)}.items():
        assert apart(found, other) > 0.05, mistake


def test_attention_is_what_a_trace_keeps():
    kept = attention((3, 5), 1)
    trace = {f"blocks.{l}.weights": np.stack([layer, layer[::-1]]) for l, layer in enumerate(kept)}
    assert (measures.attention(trace, 3) == kept).all()
