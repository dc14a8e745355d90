"""Each operation against its definition by loops over single float64 numbers (oracles/loops.py)."""
import math

import numpy as np
import pytest

from nphybrid.config import Config
from nphybrid.ops import OPERATIONS, reference, reference_narrow
from nphybrid.params import Linear, Norm, named_leaves, random, shapes

from oracles import cases, loops
from oracles.loops import ACTIVATIONS, DEFINITIONS

# The largest difference, divided by the largest number expected.   observed: float64 8e-16; float32 4e-7, and 5e-6
# for a group norm over two numbers, whose sums nearly cancel
TOLERANCE = {"float64": 5e-15, "float32": 1e-5}


@pytest.fixture
def rng():
    return np.random.default_rng(20260402)


def draw(rng, *shape, mean=0.0, std=1.0):
    return rng.normal(mean, std, shape)


def error(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


def norm(rng, C):
    return Norm(draw(rng, C, mean=1, std=0.3), draw(rng, C, std=0.3))


def dense(rng, C, O, bias=True):
    return Linear(draw(rng, C, O), draw(rng, O) if bias else None)


def conv_case(size, taps, stride, dilation, padding, B=1):
    H, W, C, O = size
    KH, KW = taps
    return lambda rng: (draw(rng, B, H, W, C), draw(rng, KH, KW, C, O, mean=0.4), stride, dilation, padding)


def norm_case(B, H, W, C, groups, eps, *rest):
    """Numbers far from zero, and an eps as large as their variance, so that an eps in the wrong place is noticed."""
    def arguments(rng):
        x = draw(rng, B, H, W, C, mean=3, std=0.5)
        more = [draw(rng, *x.shape) if extra == "shortcut" else extra for extra in rest]
        return x, norm(rng, C), groups, eps, *more
    return arguments


CASES = [
    ("conv2d", conv_case((7, 5, 3, 4), (3, 3), 1, 1, ((1, 1), (1, 1)), B=2)),
    ("conv2d", conv_case((7, 6, 2, 3), (3, 3), 2, 1, ((0, 1), (2, 0)))),
    ("conv2d", conv_case((9, 11, 2, 3), (3, 3), 1, 2, ((2, 2), (1, 3)))),
    ("conv2d", conv_case((9, 8, 2, 2), (3, 3), 2, 3, ((3, 3), (3, 2)))),
    ("conv2d", conv_case((13, 10, 3, 2), (7, 7), 2, 1, ((2, 3), (3, 3)))),
    ("conv2d", conv_case((5, 4, 3, 5), (1, 1), 2, 1, ((0, 0), (0, 0)), B=3)),
    ("conv2d", conv_case((6, 7, 2, 2), (2, 3), 3, 1, ((0, 0), (1, 0)))),
    ("conv2d", conv_case((1, 1, 1, 1), (3, 3), 1, 1, ((1, 1), (1, 1)))),
    *[("max_pool", lambda rng, n=n, padding=padding, fill=fill: (draw(rng, 2, *n, 3, mean=-2), padding, fill))
      for n, padding, fill in [((7, 6), ((0, 1), (1, 1)), 0.0), ((6, 5), ((0, 1), (1, 0)), -math.inf),
                               ((5, 8), ((0, 0), (0, 0)), 0.0), ((1, 1), ((1, 1), (1, 1)), 0.0)]],
    ("mean_pool", lambda rng: (draw(rng, 3, 5, 7, 4, mean=1),)),
    ("group_norm", norm_case(2, 3, 5, 12, 3, 0.25)),
    ("group_norm", norm_case(3, 1, 1, 6, 3, 1e-5)),
    ("group_norm", norm_case(1, 5, 3, 4, 4, 1e-5)),
    ("group_norm", norm_case(1, 4, 3, 7, 1, 0.25)),
    ("group_norm_activate", norm_case(2, 3, 5, 6, 2, 0.25, "relu")),
    ("group_norm_activate", norm_case(1, 3, 5, 6, 2, 0.25, "silu")),
    ("group_norm_add_activate", norm_case(2, 5, 3, 6, 2, 0.25, "shortcut", "relu")),
    ("group_norm_add_activate", norm_case(1, 5, 3, 6, 2, 0.25, "shortcut", "tanh")),
    ("layer_norm", lambda rng: (draw(rng, 2, 5, 7, mean=3, std=0.5), norm(rng, 7), 0.25)),
    ("layer_norm", lambda rng: (draw(rng, 1, 3, 9, mean=3), norm(rng, 9), 1e-12)),
    ("linear", lambda rng: (draw(rng, 2, 3, 5), dense(rng, 5, 7))),
    ("linear", lambda rng: (draw(rng, 3, 5), dense(rng, 5, 1, bias=False))),
    ("linear_activate", lambda rng: (draw(rng, 2, 3, 5), dense(rng, 5, 7), "gelu")),
    ("linear_add", lambda rng: (draw(rng, 2, 3, 5), dense(rng, 5, 7), draw(rng, 2, 3, 7))),
    ("linear_add", lambda rng: (draw(rng, 2, 3, 5), dense(rng, 5, 7, bias=False), draw(rng, 2, 3, 7))),
    ("attention", lambda rng: (*draw(rng, 3, 2, 5, 12, std=1.2), 3)),
    ("attention", lambda rng: (*draw(rng, 3, 1, 7, 5), 1)),
    ("attention_with_weights", lambda rng: (*draw(rng, 3, 2, 5, 12, std=1.2), 3)),
    ("attention_with_weights", lambda rng: (*draw(rng, 3, 1, 1, 6), 6)),
    *[("activate", lambda rng, name=name: (draw(rng, 4, 9, std=3), name)) for name in reference.ACTIVATIONS],
]
IDS = [f"{operation}-{i}" for i, (operation, _) in enumerate(CASES)]


def cast(arguments, dtype):
    """The arguments with every array in dtype, also the arrays of norms and linear layers."""
    def leaf(a):
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            return type(a)(*map(leaf, a))
        return a.astype(dtype) if isinstance(a, np.ndarray) else a
    return tuple(map(leaf, arguments))


def arrays(answer):
    return answer if isinstance(answer, tuple) else (answer,)


def test_every_operation_has_a_definition_and_a_case():
    """In DEFINITIONS of oracles/loops.py, and in CASES of this file and of oracles/cases.py."""
    expected = set(OPERATIONS) - {"prepare"}
    assert set(DEFINITIONS) == expected
    assert {operation for operation, _ in CASES} == expected
    assert set(cases.CASES) == expected


def test_every_activation_has_a_row_of_definition_and_bounds():
    """In ACTIVATIONS of oracles/loops.py."""
    assert set(ACTIVATIONS) == set(reference.ACTIVATIONS)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("operation, case", CASES, ids=IDS)
def test_an_operation_is_its_definition_and_keeps_its_dtype(rng, operation, case, dtype):
    arguments = cast(case(rng), dtype)
    for actual, expected in zip(arrays(getattr(reference, operation)(*arguments)),
                                arrays(DEFINITIONS[operation](*cast(arguments, "float64"))), strict=True):
        assert actual.dtype == dtype
        assert actual.shape == expected.shape
        assert error(actual, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("operation, case", CASES, ids=IDS)
def test_an_operation_does_not_change_its_arguments(rng, operation, case):
    arguments = case(rng)
    before = cast(arguments, "float64")
    getattr(reference, operation)(*arguments)
    for a, b in zip(arguments, before):
        assert all(map(np.array_equal, a, b)) if isinstance(a, tuple) else np.array_equal(a, b)


# -- similar definitions would give other numbers --------------------------------------------------

def unbiased(x, norm, eps):
    n = x.shape[-1]
    variance = x.var(-1, keepdims=True) * n / (n - 1)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + eps) * norm.scale + norm.bias


def eps_outside_the_root(x, norm, eps):
    return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + eps) * norm.scale + norm.bias


@pytest.mark.parametrize("wrong", [unbiased, eps_outside_the_root])
def test_another_norm_would_be_noticed(rng, wrong):
    arguments = draw(rng, 2, 5, 7, mean=3, std=0.5), norm(rng, 7), 0.25
    assert error(wrong(*arguments), loops.layer_norm(*arguments)) > 0.01


def test_interleaved_groups_would_be_noticed(rng):
    x, p = draw(rng, 1, 3, 5, 12), Norm(np.ones(12), np.zeros(12))
    interleaved = np.argsort(np.arange(12) % 3, kind="stable")
    wrong = loops.group_norm(x[..., interleaved], p, 3, 1e-5)[..., np.argsort(interleaved)]
    assert error(wrong, reference.group_norm(x, p, 3, 1e-5)) > 0.01


def test_the_odd_pixel_of_padding_goes_to_the_given_side():
    x, kernel = np.arange(1.0, 5).reshape(1, 1, 4, 1), np.ones((1, 3, 1, 1))
    assert reference.conv2d(x, kernel, 2, 1, ((0, 0), (0, 1))).ravel().tolist() == [6, 7]
    assert reference.conv2d(x, kernel, 2, 1, ((0, 0), (1, 0))).ravel().tolist() == [3, 9]


def test_a_convolution_does_not_flip_its_kernel():
    x, kernel = np.arange(1.0, 4).reshape(1, 1, 3, 1), np.array([1.0, 10, 100]).reshape(1, 3, 1, 1)
    assert reference.conv2d(x, kernel, 1, 1, ((0, 0), (0, 0))).ravel().tolist() == [321]


def test_a_1x1_of_stride_2_takes_the_even_cells():
    x = np.arange(15.0).reshape(1, 3, 5, 1)
    y = reference.conv2d(x, np.ones((1, 1, 1, 1)), 2, 1, ((0, 0), (0, 0)))
    assert y.ravel().tolist() == [0, 2, 4, 10, 12, 14]


# -- pooling ---------------------------------------------------------------------------------------

def test_the_padding_of_a_pool_counts_as_its_fill():
    x = np.full((1, 3, 3, 1), -5.0)
    assert (reference.max_pool(x, ((1, 1), (1, 1)), 0.0) == 0).all()
    assert (reference.max_pool(x, ((1, 1), (1, 1)), -math.inf) == -5).all()


def test_a_pool_passes_nan_and_infinity_only_to_its_own_windows():
    x = np.zeros((1, 7, 7, 2))
    x[0, 1, 1, 0], x[0, 6, 6, 1] = math.nan, math.inf
    y = reference.max_pool(x, ((0, 0), (0, 0)), 0.0)
    assert np.argwhere(np.isnan(y)).tolist() == [[0, 0, 0, 0]]
    assert np.argwhere(np.isinf(y)).tolist() == [[0, 2, 2, 1]]


# -- norms, softmax, attention ---------------------------------------------------------------------

def test_a_constant_map_becomes_the_bias():
    p = Norm(np.array([2.0, 3.0]), np.array([-1.0, 0.5]))
    assert np.array_equal(reference.group_norm(np.full((1, 2, 3, 2), 7.0), p, 1, 1e-5),
                          np.broadcast_to(p.bias, (1, 2, 3, 2)))


def test_a_large_mean_keeps_the_variance_exact():
    """The variance takes two passes over x: E[x^2] - E[x]^2 would lose all digits here."""
    x = (np.float32(4096) + np.arange(8, dtype=np.float32) / 64).reshape(1, 1, 8)
    p = Norm(np.ones(8, np.float32), np.zeros(8, np.float32))
    assert error(reference.layer_norm(x, p, 1e-12), loops.layer_norm(x, p, 1e-12)) < 1e-6      # observed 6e-8
    assert np.square(x).mean() - np.square(x.mean()) != pytest.approx(x.astype(float).var(), rel=0.5)


@pytest.mark.parametrize("scores, expected", [
    ([1e4, 1e4, -1e4], [0.5, 0.5, 0]), ([-1e4, -1e4], [0.5, 0.5]), ([0, 0, 0, 0], [0.25] * 4), ([-7], [1]),
    ([3e38, -3e38], [1, 0]), ([0, math.log(3)], [0.25, 0.75]), ([-math.inf, 2], [0, 1]),
])
def test_softmax_of_extreme_scores(scores, expected):
    with np.errstate(over="ignore"):
        y = reference.softmax(np.float32([scores]))
    assert y.dtype == np.float32
    assert y[0].tolist() == pytest.approx(expected, abs=1e-7)                            # observed 3e-8


@pytest.mark.parametrize("scores", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_softmax_shows_values_that_are_not_finite(scores):
    with np.errstate(invalid="ignore"):
        assert np.isnan(reference.softmax(np.array([scores]))).any()


def test_each_row_of_attention_weights_sums_to_1_and_is_neither_uniform_nor_one_hot(rng):
    q, k, v = draw(rng, 3, 2, 5, 12, std=1.2)
    weights = reference.attention_with_weights(q, k, v, 3)[1]
    assert np.abs(weights.sum(-1) - 1).max() < 1e-15                                     # observed 2e-16
    entropy = -(weights * np.log(weights)).sum(-1).mean()
    assert 0.2 * math.log(5) < entropy < 0.9 * math.log(5)                               # observed 0.81


def test_a_head_reads_its_own_columns_only(rng):
    q, k, v = draw(rng, 3, 1, 5, 12)
    before = reference.attention(q, k, v, 3)
    q[..., 4:8] += 1
    changed = (reference.attention(q, k, v, 3) != before).any((0, 1))
    assert changed.tolist() == [False] * 4 + [True] * 4 + [False] * 4


@pytest.mark.parametrize("module, bound", [(reference, 1e-14), (reference_narrow, 1e-6)])
def test_each_query_is_computed_by_itself(rng, module, bound):
    """Observed: at most 7e-16 in float64, and 0 in the float32 of reference_narrow, with four other seeds."""
    q, k, v = draw(rng, 3, 2, 5, 12, std=1.2)
    context, weights = module.attention_with_weights(q, k, v, 3)
    for queries in slice(0, 1), slice(1, 4):
        some, their_weights = module.attention_with_weights(q[:, queries], k, v, 3)
        assert some.shape == context[:, queries].shape and their_weights.shape == weights[:, :, queries].shape
        assert np.abs(some - context[:, queries]).max() < bound
        assert np.abs(their_weights - weights[:, :, queries]).max() < bound
    for wrong in k[:1], k[..., :6], k.reshape(1, 10, 12):
        with pytest.raises(ValueError):
            module.attention(q, wrong, wrong, 3)


# -- standardized kernels --------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(3, 3, 4, 5), (1, 1, 7, 3), (7, 5, 3, 2)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_standardize_is_its_definition(rng, shape, dtype):
    kernel = draw(rng, *shape, mean=0.4, std=0.5).astype(dtype)
    actual, expected = reference.standardize(kernel, 0.25), loops.standardize(kernel.astype(float), 0.25)
    assert actual.dtype == dtype
    assert error(actual, expected) < TOLERANCE[dtype]


def test_standardize_puts_eps_inside_the_root_and_divides_by_n():
    kernel = np.array([1.0, 3.0]).reshape(1, 2, 1, 1)  # mean 2, variance 1
    assert reference.standardize(kernel, 3.0).ravel().tolist() == [-0.5, 0.5]


def test_prepare_standardizes_convolutions_and_nothing_else():
    config = Config(image=(32, 32), stem=8, depths=(1,), widths=(16,), groups=2, width=8, blocks=1, heads=2,
                    hidden=12, classes=3, ws_eps=0.25)
    params = random(shapes(config), seed=3, std=0.5)
    before = {name: array.copy() for name, array in named_leaves(params).items()}
    ready = named_leaves(reference.prepare(params, config, np.float64))
    for name, array in before.items():
        expected = loops.standardize(array.astype(float), 0.25) if array.ndim == 4 else array
        assert ready[name].dtype == np.float64
        assert np.abs(ready[name] - expected).max() < 5e-15                              # observed 1e-15
        assert np.array_equal(named_leaves(params)[name], array)
    assert {ready[name].ndim for name in ready} == {1, 2, 4}


# -- activations -----------------------------------------------------------------------------------

LARGE = {"float64": 1e200, "float32": 1e30}


def grid(dtype):
    """From far below to far above 0, both zeros, the smallest numbers, and the edges of branches."""
    info = np.finfo(dtype)
    points = np.concatenate([np.linspace(-40, 40, 1601), np.geomspace(1e-30, 0.01, 40),
                             [info.smallest_subnormal, info.tiny, info.tiny / 4, LARGE[dtype], 0.0]])
    return np.concatenate([points, -points]).astype(dtype)


# |error| over max(1, |x|).       observed: float64 2.9e-16, float32 1.1e-7
@pytest.mark.parametrize("dtype, tolerance", [("float64", 6e-16), ("float32", 2.5e-7)])
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_an_activation_is_its_definition(name, dtype, tolerance):
    x = grid(dtype)
    with np.errstate(all="ignore"):
        y = reference.activate(x, name)
    assert y.dtype == dtype
    expected = loops.activate(x.astype(float), name)
    assert (np.abs(y - expected) / np.maximum(1, np.abs(x))).max() < tolerance


# |error| over max(1, |x|).       observed: float64 4.4e-16, float32 2.2e-7
@pytest.mark.parametrize("dtype, tolerance", [("float64", 8e-16), ("float32", 4e-7)])
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_a_derivative_is_its_definition(name, dtype, tolerance):
    x = grid(dtype)
    x = x[np.abs(x) < 100]
    with np.errstate(under="ignore"):
        y = reference.ACTIVATIONS[name].derivative(x)
    assert y.dtype == dtype
    expected = [ACTIVATIONS[name].derivative(number) for number in x.tolist()]
    assert (np.abs(y - expected) / np.maximum(1, np.abs(x))).max() < tolerance


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_the_definition_of_a_derivative_is_a_central_difference(name):
    row, step = ACTIVATIONS[name], 1e-5
    for x in np.linspace(-8, 8, 200).tolist():            # without 0, where relu and selu have no derivative
        expected = (row.definition(x + step) - row.definition(x - step)) / (2 * step)
        assert abs(row.derivative(x) - expected) < 1e-9                                  # observed 1.4e-10


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_activations_at_nan_and_infinity(name, dtype):
    """At minus infinity x * 0 is NaN, as in PyTorch: an overflow stays visible."""
    row = ACTIVATIONS[name]
    with np.errstate(all="ignore"):
        y = reference.activate(np.array([math.nan, -math.inf, math.inf], dtype), name)
    assert np.array_equal(y, np.array([math.nan, row.at_minus_infinity, row.at_infinity], dtype), equal_nan=True)


ZERO_AT_ZERO = [name for name, row in ACTIVATIONS.items() if row.definition(0.0) == 0]


@pytest.mark.parametrize("name", ZERO_AT_ZERO)
def test_zero_stays_zero(name):
    y = reference.activate(np.array([0.0, -0.0]), name)
    assert (y == 0).all()
    assert not np.signbit(y[0])


@pytest.mark.parametrize("name", ZERO_AT_ZERO)
def test_activations_near_zero_keep_their_digits(name):
    x = np.concatenate([np.geomspace(1e-30, 1e-3, 60), -np.geomspace(1e-30, 1e-3, 60)])
    y, expected = reference.activate(x, name), loops.activate(x, name)
    assert (np.abs(y - expected) <= 1e-15 * np.abs(expected)).all()  # observed 4e-16


def test_the_two_gelus_differ():
    x = np.array([-2.5, 1.5])
    assert np.abs(reference.activate(x, "gelu") - reference.activate(x, "gelu_new")).min() > 1e-4


def test_the_tail_of_gelu_keeps_its_digits():
    """Phi(-10) = 7.619853024160526e-24, which 1 + erf would make 0."""
    y = reference.activate(np.array([-10.0]), "gelu")[0]
    assert y == pytest.approx(-7.619853024160526e-23, rel=1e-13, abs=0)                         # 4e-15
