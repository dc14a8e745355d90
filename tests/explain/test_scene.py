"""The numbers of a network that its page stores, compared with the states of the network."""
import math
import re

import numpy as np
import pytest

from nphybrid.api.presets import configuration
from nphybrid.backbone import backbone
from nphybrid.config import PRESETS, Config, plan
from nphybrid.explain import inside, page as pages, scene as scenes
from nphybrid.ops import reference
from nphybrid.params import random, shapes
from nphybrid.trace import Trace

from oracles import sights


def numbers(array):
    """The numbers that the page computes from codes and scales."""
    if array.scales is None:
        return array.codes
    most = {"uint8": 255, "int8": 127, "uint16": 65535, "int16": 32767}[str(array.codes.dtype)]
    flat = array.codes.reshape(-1, array.row) * (array.scales[:, None].astype(np.float64) / most)
    return flat.reshape(array.codes.shape)


def close(array, truth, bits):
    """Every number is within half a step of its row's scale of the truth."""
    assert array.codes.shape == truth.shape
    steps = (2 ** (bits - 1) - 1) if truth.min() < 0 else 2 ** bits - 1
    error = np.abs(numbers(array) - truth).reshape(-1, array.row)
    largest = np.abs(truth).reshape(-1, array.row).max(1, keepdims=True)
    assert (error <= largest * (0.5 / steps + 1e-6)).all()
    assert (error <= largest * 0.1 / steps).mean() < 0.9           # fewer bits would not be enough


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("low", [-3, 0])
def test_quantized_numbers_are_off_by_half_a_step(bits, low):
    x = np.random.default_rng(bits).uniform(low, 5, (3, 4, 5)).astype(np.float32)
    x[1, 2] = 0
    for axes in (1, 2, 3):
        array = scenes.quantize(x, axes, bits)
        assert array.row == np.prod(x.shape[3 - axes:]) and array.scales.size * array.row == x.size
        close(array, x, bits)
    assert (numbers(scenes.quantize(x, 1, bits))[1, 2] == 0).all()


def test_the_scene_holds_the_states(case):
    model, trace, (facts, arrays, _) = case
    p, config = model.learned(), model.network_config
    values = arrays["pixels"].codes * facts["steps"]["photograph"]["factor"]
    values = (values - facts["steps"]["photograph"]["mean"]) / facts["steps"]["photograph"]["std"]
    assert np.abs(values - trace["pixel_values"][0]).max() < 1e-6            # observed 2e-7
    for stage in facts["steps"].get("stages", []):
        x = trace[stage["name"]][0].transpose(2, 0, 1)
        close(arrays[stage["name"]], x[stage["channels"]], 16)
        spread = x.reshape(len(x), -1).std(1)
        assert spread[stage["channels"]].min() >= np.delete(spread, stage["channels"]).max(initial=0)
    if config.blocks:
        close(arrays["positions"], p.tokens.positions, 16)
        assert np.abs(numbers(arrays["contents"]) + numbers(arrays["positions"]) - trace["tokens"][0]).max() < 1e-3
        weights = np.stack([trace[f"blocks.{l}.weights"][0] for l in range(config.blocks)])
        close(arrays["attention"], weights[..., int(config.class_token):], 16)
        assert ("to_class" in arrays) == config.class_token
        if config.class_token:
            close(arrays["to_class"], weights[..., :1], 16)
        for name in ("query", "key"):
            close(arrays[name], np.stack([trace[f"blocks.{l}.{name}"][0] for l in range(config.blocks)]), 16)


def test_the_scene_holds_the_inside_of_the_last_block(case):
    """For one token, and for its hidden units that add the longest vectors."""
    model, trace, (facts, arrays, _) = case
    p, config = model.learned(), model.network_config
    if not config.blocks:
        assert "inside" not in facts
        return
    l, token = facts["inside"].values()
    block, steps = p.blocks[l], facts["steps"]
    assert l == config.blocks - 1
    assert token == (0 if config.pool == "token" else steps["rollout"]["brightest"])
    close(arrays["value"], trace[f"blocks.{l}.value"], 8)
    close(arrays["out"], block.out.kernel[None], 8)
    assert (arrays["before"].codes[0, 0] == trace[f"blocks.{l - 1}"][0, token]).all()
    assert (arrays["norm_scale"].codes[0] == block.norm1.scale).all()
    assert (arrays["norm_bias"].codes[0] == block.norm1.bias).all()
    after, units = trace[f"blocks.{l}.fc1"][0, token], steps["mlp"]["units"]
    lengths = np.abs(after) * np.linalg.norm(block.fc2.kernel, axis=1)
    assert units == sorted(units) and len(units) == min(config.hidden, 64)
    assert lengths[units].min() >= np.delete(lengths, units).max(initial=0)
    before = trace[f"blocks.{l}.norm2"][0, token].astype(np.float64) @ block.fc1.kernel + block.fc1.bias
    assert np.abs(arrays["hidden"].codes[0, 0] - before[units]).max() < 1e-5         # observed 1.2e-6
    assert (arrays["activated"].codes[0, 0] == after[units]).all()
    close(arrays["fc2"], block.fc2.kernel[None, units], 8)
    x, y = np.transpose(steps["mlp"]["curve"])
    assert np.abs(y - [value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x]).max() < 1e-4
    assert x[0] == -1000 and x[-1] == 1000                               # the axes of the curve end before
    assert arrays["rms"].codes.shape == (config.blocks + 1, config.tokens, 3)
    assert np.allclose(arrays["rms"].codes[-1, :, 0] ** 2, (trace[f"blocks.{l}"][0] ** 2).mean(1), rtol=1e-5)


@pytest.mark.parametrize("config", [Config(), Config(output_stride=8), Config(depths=(1, 2), widths=(64, 128))])
def test_the_pixels_that_one_cell_reads(config):
    """Step by step back from a cell, by the pixels that each window reads."""
    plans = plan(config)
    for count in range(len(plans) + 1):
        windows = [(7, 2, 1), (3, 2, 1)]                                 # taps, stride, dilation
        windows += [(3, stride, dilation) for stage in plans[:count] for stride, dilation, _ in stage]
        read = {0}
        for taps, stride, dilation in reversed(windows):
            read = {stride * n + dilation * tap for n in read for tap in range(taps)}
        assert scenes.reach(config, count) == max(read) - min(read) + 1
    assert scenes.reach(Config(depths=(2, 2), widths=(64, 128)), 2) == 51


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_straight_lines_between_the_points_of_a_curve(activation):
    x = np.linspace(-900, 900, 180_001)
    drawn = np.interp(x, *np.transpose(inside.curve(activation)))
    assert np.abs(drawn - reference.activate(x, activation)).max() < 2e-3             # observed 1.0e-3


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("unit", ["bottleneck", "preactivation"])
def test_the_rows_that_one_cell_reads(padding, unit):
    """Where a row of NaN makes a cell NaN, in a backbone without norms."""
    class WithoutNorms:
        def __getattr__(self, name):
            return getattr(reference, name)

        def group_norm(self, x, *options):
            return x

        def group_norm_activate(self, x, *options):
            return x

        def group_norm_add_activate(self, x, norm, groups, eps, residual, activation):
            return x + residual
    config = Config(image=(59, 61), stem=8, widths=(8, 16), depths=(1, 2), groups=4, blocks=0, unit=unit,
                    padding=padding, pool_padding="same" if padding == "same" else "valid")
    p = random(shapes(config), seed=3)
    for axis, size in enumerate((59, 61)):
        read = {}
        for row in range(size):
            x = np.random.default_rng(row).standard_normal((1, 59, 61, 3)).astype(np.float32)
            np.moveaxis(x, 1 + axis, 0)[row] = np.nan
            trace = Trace()
            backbone(x, p, config, WithoutNorms(), trace)
            for s, depth in enumerate(config.depths):
                cells = np.isnan(np.moveaxis(trace[f"stages.{s}.{depth - 1}"][0], axis, 0)).any((1, 2))
                for i in np.flatnonzero(cells):
                    read.setdefault((s, i), []).append(row)
        for (s, i), rows in read.items():
            first = scenes.reads_from(config, s + 1, size) + 4 * (1, 2)[s] * i
            expected = np.arange(first, first + scenes.reach(config, s + 1))
            assert rows == expected[(expected >= 0) & (expected < size)].tolist(), (axis, s, i)
        assert len(read) > 20


def test_only_the_units_that_add_most_are_stored(monkeypatch, cat_picture):
    monkeypatch.setattr(inside, "UNITS", 5)
    model = sights.network("vit")
    facts, arrays, _ = scenes.scene(model, cat_picture)
    assert len(facts["steps"]["mlp"]["units"]) == 5 and arrays["fc2"].codes.shape == (1, 5, 24)
    monkeypatch.setattr(pages, "obstacle", lambda model: "it is too large")
    text = re.sub(r"\s+", " ", pages.page(model, cat_picture))
    assert ("stores these numbers only for the class token in the last block, which is block 2. It shows the 5 of 32 "
            "hidden units that add the longest vectors.") in text


def test_the_scene_holds_the_norms_and_the_unit(case):
    """A filter before its standardization, and the maps of one unit, in the same channels for all parts of the sum."""
    model, trace, (facts, arrays, _) = case
    p, config, steps = model.learned(), model.network_config, facts["steps"]
    assert ("norms" in steps) == (config.stem > 0 and config.unit == "bottleneck")
    assert ("unit" in steps) == bool(config.depths)
    if "norms" in steps:
        raw = np.moveaxis(numbers(arrays["raw_filters"]), 0, -1)
        standard = reference.standardize(raw, config.ws_eps, config.ws_form)
        assert np.abs(standard - p.stem.conv).max() < 2e-4                           # observed 7.1e-5
        assert np.abs(raw - p.stem.conv).max() > 0.1
        assert (arrays["stem_scale"].codes == p.stem.norm.scale).all()
        assert (arrays["stem_bias"].codes == p.stem.norm.bias).all()
    if "unit" in steps:
        unit, channels = steps["unit"]["name"], steps["unit"]["channels"]
        assert unit == "stages.1.1"
        for part, state, shown in (("sum", unit, channels), ("shortcut", "stages.1.0", channels),
                                   ("conv1", f"{unit}.conv1", steps["unit"]["conv1"]),
                                   ("conv2", f"{unit}.conv2", steps["unit"]["conv2"])):
            close(arrays[f"unit_{part}"], trace[state][0][:, :, shown].transpose(2, 0, 1), 16)
        added = numbers(arrays["unit_branch"]) + numbers(arrays["unit_shortcut"])
        added = np.maximum(added, 0) if config.unit == "bottleneck" else added
        assert np.abs(added - numbers(arrays["unit_sum"])).max() < 1e-3               # observed 3.8e-4


def test_the_filters_give_the_responses(case):
    """As the page computes them: pixels times filters, with the padding of the facts."""
    model, trace, (facts, arrays, _) = case
    if "stem" not in facts["steps"]:
        return
    x, kernels, stem = trace["pixel_values"][0], arrays["filters"].codes, facts["steps"]["stem"]
    rows, columns, count = stem["map"]
    for row, column in ((0, 0), (rows - 1, columns - 1), (rows // 2, 1)):
        sums = np.zeros(count)
        for u in range(7):
            for v in range(7):
                i, j = 2 * row - stem["padding"][0] + u, 2 * column - stem["padding"][1] + v
                if 0 <= i < x.shape[0] and 0 <= j < x.shape[1]:
                    sums += kernels[:, u, v] @ x[i, j]
        assert np.abs(sums - trace["stem.conv"][0, row, column]).max() < 1e-4    # observed 2e-6


def test_the_logit_lens_ends_at_the_logits(case):
    model, trace, (facts, *_) = case
    if "answer" not in facts["steps"]:
        return
    logits = trace["logits"][0]
    shares = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-logits)
    labels = facts["steps"]["answer"]["labels"]
    assert [row["label"] for row in labels] == [f"LABEL_{i}" for i in order[:5]]
    assert np.allclose([row["score"] for row in labels], shares[order[:5]], atol=1e-6)
    if "logit_lens" in facts["steps"]:
        lens = facts["steps"]["logit_lens"]
        assert len(lens["scores"]) == model.network_config.blocks + 1
        assert np.allclose(lens["scores"][-1], shares[order[:5]], atol=2e-6)
        assert lens["leaders"][-1]["label"] == labels[0]["label"]
        assert not np.allclose(lens["scores"][0], lens["scores"][-1], atol=1e-3)


def test_a_network_has_its_own_steps(case):
    model, _, (facts, *_) = case
    hybrid, encoder_steps = bool(model.network_config.stem), bool(model.network_config.blocks)
    head, steps = model.has_head, set(facts["steps"])
    assert ("stem" in steps) == ("stages" in steps) == hybrid
    of_encoder = {"tokens", "positions", "layer_norm", "attention", "weight", "context", "mlp", "residual", "distance",
                  "rollout"}
    assert of_encoder & steps == (of_encoder if encoder_steps else set())
    assert ("answer" in steps) == head and ("logit_lens" in steps) == (head and encoder_steps)


@pytest.mark.parametrize("grid", [(4, 6), (5, 3), (1, 1)])
@pytest.mark.parametrize("cls", [0, 1])
def test_keys_are_added_up_two_by_two(grid, cls):
    T = cls + grid[0] * grid[1]
    weights = np.random.default_rng(0).random((2, 3, T, T))
    pooled = scenes.pooled_keys(weights, grid, 2)
    keys = (-(-grid[0] // 2), -(-grid[1] // 2))
    assert pooled.shape == (2, 3, T, keys[0] * keys[1])
    expected = np.zeros(pooled.shape)
    for i in range(grid[0]):
        for j in range(grid[1]):
            expected[..., i // 2 * keys[1] + j // 2] += weights[..., cls + i * grid[1] + j]
    assert np.abs(pooled - expected).max() < 1e-12
    assert np.array_equal(scenes.pooled_keys(weights, grid, 1), weights[..., cls:])


@pytest.mark.parametrize("name, pixels", [("R50+ViT-B/16", 16), ("R+ViT-Ti/16", 32), ("R26+ViT-S/32", 32)])
def test_cells_are_as_wide_as_the_strides_say(name, pixels):
    assert scenes.cell_size(PRESETS[name]) == [pixels, pixels]
    assert scenes.cell_size(configuration(PRESETS[name]).network_config()) == [pixels, pixels]


def test_many_tokens_are_stored_in_fewer_numbers(cat_picture, monkeypatch):
    monkeypatch.setattr(scenes, "EXACT_BYTES", 0)
    monkeypatch.setattr(scenes, "MAX_BYTES", 3 * 2 * 26 * 10)
    model = sights.network("hybrid")
    facts, arrays, _ = scenes.scene(model, cat_picture)
    assert facts["steps"]["attention"]["side"] == 2 and facts["steps"]["attention"]["keys"] == [3, 3]
    assert facts["steps"]["weight"]["first"] == 2 and arrays["query"].codes.shape == (1, 26, 24)
    assert arrays["attention"].codes.shape == (3, 2, 26, 9) and arrays["attention"].codes.dtype == np.uint8
    rows = numbers(arrays["attention"]).sum(-1) + numbers(arrays["to_class"])[..., 0]
    assert np.abs(rows - 1).max() < 9 / 510
    assert "The weights of 2 × 2 cells are added up and shown as one weight." in pages.page(model, cat_picture)


@pytest.mark.parametrize("sizes, side, bits", [
    (dict(), 2, 8), (dict(width=1024, blocks=24, heads=16), 4, 8),                   # R50+ViT-B/16 and ViT-L/16 at 384
    (dict(image=(224, 224), stem=0, depths=(), widths=(), patch=16), 1, 8),           # ViT-B/16 at 224
    (dict(depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048), width=1024, blocks=24, heads=16), 1, 8),    # R50+ViT-L/32
    (dict(depths=(), widths=(), patch=8, width=192, heads=3, image=(224, 224)), 1, 16),                    # R+ViT-Ti/16
])
def test_the_page_of_a_large_network_does_not_grow_with_it(sizes, side, bits):
    """The worst case, without compression: all large arrays as base64 take 24.9 MB for R50+ViT-B/16."""
    config = Config(**sizes)
    assert scenes.attention_storage(config) == (side, bits)
    L, A, T, D = config.blocks, config.heads, config.tokens, config.width
    keys = -(-config.grid[0] // side) * -(-config.grid[1] // side)
    bytes_ = L * A * T * (keys * bits // 8 + 4 + 2) + 2 * T * D * 2 + T * T
    bytes_ += 2 * 2 * (L if bits == 16 else 1) * T * D + T * D + D * D + 64 * D     # queries, keys, and the inside
    maps = 16 * 2 * sum(n * n for n in (96, 48, 24, 12)) + 64 * 147 * 4 + 384 * 384 * 3
    assert (bytes_ + maps) * 4 / 3 + 5e5 < 25e6
