"""Each known surprise, got wrong on purpose: the logits must then exceed the tolerance of "the same network".

The README lists them. A wrong variant changes one thing in the right forward pass. This shows that a comparison in
float64 at 1e-9 detects exactly this mistake.
"""
import functools
import math
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import backbone, config, encoder, image, model, params, tokens
from nphybrid.ops import reference
from nphybrid.trace import Trace

HYBRID = config.Config(image=(63, 63), stem=16, depths=(1, 2), widths=(32, 48), groups=4, patch=1, width=24,
                       blocks=2, heads=3, hidden=40, classes=5)
BIT = replace(HYBRID, unit="preactivation", padding="symmetric", pool_padding="valid",
              width=0, blocks=0, heads=0, hidden=0)


class Changed:
    """The reference operations, some of them replaced."""

    def __init__(self, **operations):
        self.__dict__.update(operations)

    def __getattr__(self, operation):
        return getattr(reference, operation)


def telling(network_config, seed=0):
    """float64 parameters in which every number matters: norms 1 +- 0.3, biases 0.3, convolutions with a mean."""
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        x = rng.standard_normal(shape)
        if name.endswith("scale"):
            return 1 + 0.3 * x
        if len(shape) == 1 or name.endswith("positions"):
            return 0.3 * x
        return x + 0.5 if len(shape) == 4 else x * np.sqrt(2 / shape[0])
    return params.tree_map(draw, params.shapes(network_config))


PIXELS = np.random.default_rng(5).standard_normal((2, 63, 63, 3))


def logits(network_config=HYBRID, ops=reference, p=None):
    network = model.hybrid if network_config.blocks else model.bit
    p = ops.prepare(telling(network_config) if p is None else p, network_config, np.float64)
    out = Trace(keep={"logits"})
    network(PIXELS, p, network_config, ops, out)
    return out["logits"]


@functools.cache
def truth():
    """The logits of the right forward pass."""
    return logits()


def differs(wrong, right=None):
    """max|wrong - right| / max|right| lies far outside the tolerance of 1e-9."""
    right = truth() if right is None else right
    return np.abs(wrong - right).max() / np.abs(right).max() > 1e-8


def test_the_right_forward_pass_does_not_differ():
    assert not differs(logits())


# ------------------------------------------------------------------ the backbone

def test_units_activate_after_the_norm():
    """The hybrid's unit is that of ResNet v1: moving each activation to before its convolution is another network."""
    def before(x, p, move, c, ops, out):
        norm = functools.partial(ops.group_norm, groups=c.groups, eps=c.gn_eps)
        shortcut = x if p.proj is None else norm(backbone.conv(x, p.proj, 1, c, ops, move.stride), p.norm_proj)
        y = norm(backbone.conv(ops.activate(x, "relu"), p.conv1, 1, c, ops), p.norm1)
        y = norm(backbone.conv(ops.activate(y, "relu"), p.conv2, 3, c, ops, move.stride), p.norm2)
        return norm(backbone.conv(ops.activate(y, "relu"), p.conv3, 1, c, ops), p.norm3) + shortcut
    with swapped(backbone, bottleneck=before):
        assert differs(logits())


def test_the_last_activation_comes_after_the_sum():
    def before(x, norm, groups, eps, shortcut, activation):
        return reference.group_norm_activate(x, norm, groups, eps, activation) + shortcut
    assert differs(logits(ops=Changed(group_norm_add_activate=before)))


def test_same_padding_puts_the_odd_pixel_last():
    def first(rule, n, kernel, stride, dilation=1):
        return config.pads(rule, n, kernel, stride, dilation)[::-1]
    even = replace(HYBRID, image=(64, 64))
    x = np.random.default_rng(1).standard_normal((1, 64, 64, 3))
    p = reference.prepare(telling(even), even, np.float64)
    right = backbone.backbone(x, p, even, reference, Trace())
    with swapped(backbone, pads=first):
        assert differs(backbone.backbone(x, p, even, reference, Trace()), right)


def test_stride_sits_on_the_3x3():
    def on_the_first(x, p, move, c, ops, out):
        y = backbone.norm_activate(backbone.conv(x, p.conv1, 1, c, ops, move.stride), p.norm1, c, ops)
        y = backbone.norm_activate(backbone.conv(y, p.conv2, 3, c, ops), p.norm2, c, ops)
        y = backbone.conv(y, p.conv3, 1, c, ops)
        shortcut = x
        if move.project:
            shortcut = backbone.conv(x, p.proj, 1, c, ops, move.stride)
            shortcut = ops.group_norm(shortcut, p.norm_proj, c.groups, c.gn_eps)
        return ops.group_norm_add_activate(y, p.norm3, c.groups, c.gn_eps, shortcut, "relu")
    with swapped(backbone, bottleneck=on_the_first):
        assert differs(logits())


def test_a_projected_shortcut_is_normed_and_not_activated():
    p = telling(HYBRID)

    def wrong(bare):
        def unit(x, p, move, c, ops, out):
            y = backbone.norm_activate(backbone.conv(x, p.conv1, 1, c, ops), p.norm1, c, ops)
            y = backbone.norm_activate(backbone.conv(y, p.conv2, 3, c, ops, move.stride), p.norm2, c, ops)
            shortcut = x
            if move.project:
                shortcut = backbone.conv(x, p.proj, 1, c, ops, move.stride)
                shortcut = shortcut if bare else backbone.norm_activate(shortcut, p.norm_proj, c, ops)
            y = backbone.conv(y, p.conv3, 1, c, ops)
            return ops.group_norm_add_activate(y, p.norm3, c.groups, c.gn_eps, shortcut, "relu")
        return unit
    for bare in (True, False):
        with swapped(backbone, bottleneck=wrong(bare)):
            assert differs(logits(p=p))


def test_every_stage_projects_its_first_shortcut():
    """Also where the widths agree: unlike the first stage of a plain ResNet."""
    level = replace(HYBRID, widths=(16, 48), stem=16, groups=4)
    p = telling(level)
    bare = p._replace(stages=((p.stages[0][0]._replace(proj=np.eye(16)[None, None]),), p.stages[1]))
    assert differs(logits(level, p=bare), logits(level, p=p))


def test_variance_of_a_kernel_divides_by_n():
    def standardize(kernel, eps):
        axes = (0, 1, 2)
        centred = kernel - kernel.mean(axes, keepdims=True)
        return centred / np.sqrt(kernel.var(axes, ddof=1, keepdims=True) + eps)
    assert differs(logits(ops=prepared_by(standardize)))


@pytest.mark.parametrize("eps, power", [(1e-8, 1), (1e-6, 0.5), (1e-10, 0.5), (1e-5, 1)],
                         ids=["outside the root", "class default", "BiT", "JAX"])
def test_eps_of_the_standardization(eps, power):
    def standardize(kernel, _):
        centred = kernel - kernel.mean((0, 1, 2), keepdims=True)
        variance = np.square(centred).mean((0, 1, 2), keepdims=True)
        return centred / (np.sqrt(variance) + eps if power == 1 else np.sqrt(variance + eps))
    # eps matters for kernels of small spread, which trained kernels have.
    small = params.tree_map(lambda name, a: a * 0.02 if a.ndim == 4 else a, telling(HYBRID))
    assert differs(logits(ops=prepared_by(standardize), p=small), logits(p=small))


def prepared_by(standardize):
    return Changed(prepare=lambda p, c, dtype: params.tree_map(
        lambda name, a: standardize(a, c.ws_eps) if a.ndim == 4 else a, p))


def test_kernels_are_standardized_over_all_inputs_of_an_output():
    def standardize(kernel, eps):
        return (kernel - kernel.mean((0, 1), keepdims=True)) / np.sqrt(kernel.var((0, 1), keepdims=True) + eps)
    assert differs(logits(ops=prepared_by(standardize)))


def test_a_group_norm_is_over_all_positions_of_one_image():
    """Over the batch as well, or at each position alone, it would be another norm."""
    def normed(axes):
        def group_norm(x, norm, groups, eps):
            y = x.reshape(*x.shape[:3], groups, -1)
            y = (y - y.mean(axes, keepdims=True)) / np.sqrt(y.var(axes, keepdims=True) + eps)
            return y.reshape(x.shape) * norm.scale + norm.bias
        return Changed(group_norm=group_norm, group_norm_activate=lambda x, n, g, e, a: reference.relu(
            group_norm(x, n, g, e)), group_norm_add_activate=lambda x, n, g, e, s, a: reference.relu(
            group_norm(x, n, g, e) + s))
    assert not differs(logits(ops=normed((1, 2, 4))))
    for axes in ((0, 1, 2, 4), (4,), (1, 2)):
        assert differs(logits(ops=normed(axes))), axes


def test_groups_are_neighbouring_channels():
    def strided(x, norm, groups, eps):
        order = np.arange(x.shape[-1]).reshape(-1, groups).T.ravel()
        back = np.argsort(order)
        one = params.Norm(np.ones_like(norm.scale), np.zeros_like(norm.bias))
        return reference.group_norm(x[..., order], one, groups, eps)[..., back] * norm.scale + norm.bias
    ops = Changed(group_norm=strided, group_norm_activate=lambda x, n, g, e, a: reference.relu(strided(x, n, g, e)))
    assert differs(logits(ops=ops))


@pytest.mark.parametrize("wrong", [dict(gn_eps=1e-6), dict(ln_eps=1e-6), dict(activation="gelu_tanh")], ids=str)
def test_constants(wrong):
    """Group norm's eps, layer norm's, and the form of GELU: what other dialects of this network have."""
    wrong = {key: "gelu_new" if value == "gelu_tanh" else value for key, value in wrong.items()}
    assert differs(logits(replace(HYBRID, **wrong)))


def test_a_bit_stem_pads_its_pool_with_zeros():
    """Raw convolution outputs may be negative, so -inf is another network; after a ReLU it would be the same."""
    def with_infinity(x, padding, fill):
        return reference.max_pool(x[:, 1:-1, 1:-1], ((1, 1), (1, 1)), -np.inf)
    assert differs(logits(BIT, Changed(max_pool=with_infinity)), logits(BIT))


def test_symmetric_padding_joins_before_the_norm():
    """With symmetric padding the ring of zeros counts in the statistics of the stem's norm."""
    ring = replace(HYBRID, padding="symmetric", pool_padding="valid")

    def after(x, p, c, ops, out):
        y = backbone.norm_activate(backbone.conv(x, p.conv, 7, c, ops, 2), p.norm, c, ops)
        return ops.max_pool(y, ((1, 1), (1, 1)), 0.0)
    right = logits(ring)
    with swapped(backbone, stem=after):
        assert differs(logits(ring), right)


def test_bit_projects_the_activated_map():
    right_unit = backbone.preactivation

    def raw(x, p, move, c, ops, out):
        y = right_unit(x, p, move, c, ops, out)
        if p.proj is not None:
            activated = backbone.norm_activate(x, p.norm1, c, ops)
            y = y + backbone.conv(x - activated, p.proj, 1, c, ops, move.stride)
        return y
    right = logits(BIT)
    with swapped(backbone, preactivation=raw):
        assert differs(logits(BIT), right)


# ------------------------------------------------------------------ tokens and encoder

def test_class_token_comes_first():
    right_tokens = tokens.tokens

    def last(x, p, c, ops, out, masked=None):
        y = right_tokens(x, p._replace(positions=0 * p.positions), c, ops, out)
        return np.concatenate([y[:, 1:], y[:, :1]], 1) + p.positions
    with swapped(model, tokens=last):
        assert differs(logits())


def test_positions_join_after_the_class_token():
    right_tokens = tokens.tokens

    def before(x, p, c, ops, out, masked=None):
        positions = np.concatenate([0 * p.positions[:1], p.positions[1:]])
        return right_tokens(x, p._replace(positions=positions), c, ops, out)
    with swapped(model, tokens=before):
        assert differs(logits())


def test_tokens_run_row_by_row():
    by_rows = tokens.patches

    def columns(x, P):
        return by_rows(x.transpose(0, 2, 1, 3), P)
    with swapped(tokens, patches=columns):
        assert differs(logits())


def test_queries_and_keys_are_not_interchangeable():
    p = telling(HYBRID)
    swap = tuple(b._replace(query=b.key, key=b.query) for b in p.blocks)
    assert differs(logits(p=p._replace(blocks=swap)))


def test_a_square_matrix_hides_its_transposition():
    p = telling(HYBRID)
    for part in ("query", "key", "value", "out"):
        turned = tuple(block._replace(**{part: params.Linear(getattr(block, part).kernel.T, getattr(block, part).bias)})
                       for block in p.blocks)
        assert differs(logits(p=p._replace(blocks=turned))), part


def test_the_softmax_is_over_the_keys():
    """Over the queries, the sums of what each key gives would be 1, and not of what each query takes."""
    def over_queries(query, key, value, heads):
        B, T, D = query.shape
        q, k, v = (x.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3) for x in (query, key, value))
        weights = reference.softmax(k @ q.transpose(0, 1, 3, 2) / math.sqrt(D // heads)).transpose(0, 1, 3, 2)
        return (weights @ v).transpose(0, 2, 1, 3).reshape(B, T, D)
    assert differs(logits(ops=Changed(attention=over_queries)))


def test_scores_are_divided_by_the_root_of_the_head_width():
    def by_model_width(q, k, v, heads):
        return reference.attention(q * math.sqrt(1 / heads), k, v, heads)
    assert differs(logits(ops=Changed(attention=by_model_width)))


def test_norm_comes_before_attention():
    def post(x, p, c, ops, out, head_mask=None, needed=None):
        x = ops.layer_norm(ops.linear_add(encoder.attention(x, p, c, ops, out), p.out, x), p.norm1, c.ln_eps)
        return ops.layer_norm(ops.linear_add(ops.linear_activate(x, p.fc1, c.activation), p.fc2, x), p.norm2, c.ln_eps)
    with swapped(encoder, block=post):
        assert differs(logits())


def test_head_reads_the_class_token_after_the_last_norm():
    p = telling(HYBRID)
    prepared, out = reference.prepare(p, HYBRID, np.float64), Trace()
    model.hybrid(PIXELS, prepared, HYBRID, reference, out)
    for wrong in out["norm"].mean(1), out["norm"][:, 1], out["blocks.1"][:, 0]:
        assert differs(reference.linear(wrong, prepared.head))


# ------------------------------------------------------------------ the picture

def test_the_long_side_is_rounded_down_and_the_middle_cut_out():
    """Rounding up the width of a resized 427 x 640 photograph, or cropping one pixel beside the middle, is another
    picture."""
    photograph = np.random.default_rng(3).integers(0, 256, (427, 640, 3), np.uint8)
    assert image.resized_size(427, 640, 384) == (384, 575)                 # 575.55
    right = image.prepare(photograph, image.Steps())
    assert right.shape == (384, 384, 3) and right.dtype == np.float32 and -1 <= right.min() < -0.5 < 0.5 < right.max()
    wider = image.resize(photograph, 384, 576, 3)
    exact = image.resize(photograph, 384, 575, 3)
    for wrong in image.centre_crop(wider, 384, 384), exact[:, 96:480], exact[:, :384]:
        assert np.abs(image.normalize(image.rescale(wrong, 1 / 255), [0.5] * 3, [0.5] * 3) - right).max() > 0.1
    middle = image.normalize(image.rescale(exact[:, 95:479], 1 / 255), [0.5] * 3, [0.5] * 3)
    assert np.array_equal(middle, right)


class swapped:
    """Within the block, a module has other functions under some of its names."""

    def __init__(self, module, **names):
        self.module, self.names = module, names

    def __enter__(self):
        truth()                           # while nothing is wrong yet
        self.kept = {name: getattr(self.module, name) for name in self.names}
        self.module.__dict__.update(self.names)

    def __exit__(self, *_):
        self.module.__dict__.update(self.kept)
