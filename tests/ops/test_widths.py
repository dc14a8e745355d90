"""Products of bfloat16 and int8: the definitions against loops, the kernels against the definitions."""
import inspect
import itertools
import math
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from llvmlite import ir

from nphybrid.ops import (NARROW, OPERATIONS, jit, kernels, kernels_narrow, matmul, reference, reference_narrow, target,
                          threads, tile, widths, words)
from nphybrid.ops.packed import AMX, Packed
from nphybrid.ops.reference_narrow import Kernel, widened
from nphybrid.params import Block, Linear

from oracles import cases
from tools.assembly import ARM, FLOATS, INT, INTS, LINUX, SPILLS, assembly, emitted, on_this_machine

f32 = np.float32
LARGEST = f32(3.4028235e38)
TINY = f32(1e-40)                         # a denormal
NO_PADDING = (0, 0), (0, 0)
PRODUCTS = "conv2d", "linear", "linear_activate", "linear_add"
EACH = [(operation, case) for operation in PRODUCTS for case in cases.CASES[operation]]
each_product = pytest.mark.parametrize("operation, case", EACH, ids=[f"{o}-{case.name}" for o, case in EACH])
each_width = pytest.mark.parametrize("width", NARROW)

# Rows with edge values. The last element of the rows is a normal number.
EDGES = {"zeros": [0, 0, 0], "constant": [3, 3, 3], "negative constant": [-3, -3, -3], "denormals": [TINY, -TINY, 0],
         "largest": [LARGEST, -LARGEST, 1], "smallest normal": [f32(2 ** -126), 0, 0], "ones": [1, -1, 0]}
NOT_FINITE = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "negative nan": np.uint32(0xFFC00001).view(f32)}


def narrow(operation, arguments, width, ops):
    """The result of an operation whose kernels are narrow."""
    ready = [ops.prepare(a.array if isinstance(a, cases.Kernel) else a, cases.CONFIG, width)
             if isinstance(a, (cases.Kernel, Linear)) else a for a in arguments]
    return getattr(ops, operation)(*ready)


# ---------------------------------------------------------------- the definitions

def nearest_bfloat16(x):
    """The bfloat16 nearest to one float32, from the two neighbours in float64."""
    if not np.isfinite(x):
        return np.nan
    below = f32(x).view(np.uint32) >> 16
    near = widened(np.array([below, below + 1], np.uint16)).astype(np.float64)
    far = abs(near - np.float64(x))
    best = near[1] if far[1] < far[0] or far[1] == far[0] and below % 2 else near[0]
    if np.isinf(best):
        best = near[0]
    return 0 if abs(x) < 2.0 ** -126 else best


def test_rounded_is_the_nearest_bfloat16():
    rng = np.random.default_rng(0)
    bits = np.concatenate([rng.integers(0, 0x7F7F8000, 3000, np.uint32), 0x3F808000 + 0x10000 * np.arange(100)])
    x = bits.astype(np.uint32).view(f32) * rng.choice(f32([-1, 1]), len(bits))
    edges = [0, -0.0, TINY, -TINY, LARGEST, -LARGEST, 3.3895e38, 2 ** -126, 2 ** -126 - 2 ** -149, 1.17e-38,
             *NOT_FINITE.values()]
    # The vector version rounds whole vectors, and the plain loop rounds the rest: the last 9 elements of AVX-512.
    x = np.concatenate([f32(edges), x, f32(edges)])
    expected = np.array([nearest_bfloat16(value) for value in x])
    found = reference_narrow.rounded(x)
    assert found.dtype == np.float32 and np.array_equal(found, expected, equal_nan=True)
    assert np.array_equal(widened(words.narrowed(x)), found, equal_nan=True)
    assert np.array_equal(np.signbit(found[np.isfinite(x)]), np.signbit(x[np.isfinite(x)]))


def quantized_by_loops(row):
    """q, scale and zero point of one row, number by number.  Each operation is one float32 operation."""
    low, high = f32(0), f32(0)
    for x in row:
        if not np.isfinite(x):
            return None, f32(np.nan), None
        low, high = min(low, x), max(high, x)
    scale = max(f32(f32(high / f32(255)) - f32(low / f32(255))), f32(2.0 ** -126))
    factor = f32(f32(1) / scale)
    zero = round(float(f32(-low * factor)))                   # Python rounds half to even
    return [min(max(round(float(f32(x * factor))) + zero, 0), 255) for x in row], scale, zero


def edge_rows():
    """Rows of three elements: the edge values, values at ties, and random rows of very different sizes."""
    rng = np.random.default_rng(0)
    ties = [[0.5, 254.5, 255], [-127.5, 0.5, 127.5], [-1.5, 2.5, 253.5]]
    random = rng.standard_normal((200, 3)) * 10.0 ** rng.integers(-44, 38, (200, 1))
    return np.concatenate([list(EDGES.values()), ties, random]).astype(f32)


def test_quantized_is_the_definition():
    x = edge_rows()
    q, scale, zero = reference_narrow.quantized(x, 1)
    for row, *found in zip(x, q, scale[:, 0], zero[:, 0]):
        expected = quantized_by_loops(row)
        assert (found[0].tolist(), found[1], found[2]) == expected, row
    # An element moves by half a step at most: by 0.501 because the scale and the product are rounded.
    # A constant row keeps its value.
    small = np.abs(x).max(1) < 1e38
    assert (np.abs((q - zero)[small] * scale[small] - x[small]) <= 0.501 * scale[small]).all()
    for value in NOT_FINITE.values():
        assert np.isnan(reference_narrow.quantized(f32([[1, value, 2]]), 1)[1]).all()


@pytest.mark.parametrize("shape", [(7, 5), (3, 3, 4, 6)])
def test_a_kernel_of_int8(shape):
    """A scale for each output channel, from max|w|, and a factor for each input channel of a matrix.

    A channel of zeros or denormals is defined, too.
    """
    kernel = cases.normal(0, *shape)
    kernel[..., 1] = 0
    kernel[..., 2] = TINY
    kernel[..., 3] *= 1e30
    kernel[2] *= f32(0.01)
    kernel[-1] = 0
    found = Kernel.of(kernel, "int8")
    divided = kernel.copy()
    if len(shape) == 2:
        for c in range(shape[0]):
            ratio = abs(kernel[c]).max() / abs(kernel).max()
            assert found.factors[c] in [2.0 ** -n for n in range(127)]
            assert found.factors[c] / 2 < ratio <= found.factors[c] or ratio == 0 and found.factors[c] == 1
            divided[c] = kernel[c] * f32(1 / found.factors[c])
    else:
        assert found.factors is None
    for o in range(shape[-1]):
        weights = divided[..., o].ravel()
        scale = max(f32(abs(weights).max() / f32(127)), f32(2.0 ** -126))
        expected = [round(float(f32(w * f32(1 / scale)))) for w in weights]
        assert found.scales[o] == scale and found.values[..., o].ravel().tolist() == expected
    assert np.abs(found.values).max() == 127 and found.values.dtype == np.int8
    factors = 1 if found.factors is None else found.factors[:, None]
    assert (np.abs(np.array(found) - kernel) <= 0.501 * found.scales * factors).all()


@pytest.mark.parametrize("ops", [kernels, reference_narrow], ids=["kernels", "reference"])
def test_q_k_and_v_share_their_factors(ops):
    """The factors follow from the largest weight of a channel in the three kernels.  Other kernels have their own."""
    arrays = [cases.normal(seed, C, O) * 2 ** cases.normal(seed + 10, C, 1, std=3)
              for seed, (C, O) in enumerate([(24, 24)] * 4 + [(24, 40), (40, 24)])]
    q, k, v, *others = (Linear(array, None) for array in arrays)
    block = ops.prepare(Block(cases.norm(0, 24), q, k, v, others[0], cases.norm(2, 24), *others[1:]), cases.CONFIG,
                        "int8")
    for name, beside in (*((name, arrays[:3]) for name in ("query", "key", "value")),
                         *zip(("out", "fc1", "fc2"), ([array] for array in arrays[3:]))):
        found = getattr(block, name).kernel
        found = found.unpacked() if ops is kernels else found
        rows = [max(float(abs(array[c]).max()) for array in beside) for c in range(found.shape[0])]
        assert found.factors.tolist() == [2.0 ** math.ceil(math.log2(row / max(rows))) for row in rows], name
        array = arrays[Block._fields.index(name) - (1 if len(beside) == 3 or name == "out" else 2)]
        assert (abs(np.asarray(found) - array) <= 0.501 * found.scales * found.factors[:, None]).all(), name
    alone = {tuple(Kernel.of(array, "int8").factors) for array in arrays[:3]}
    assert len(alone | {tuple(block.query.kernel.factors)}) == 4


@pytest.mark.parametrize("beyond", [3.4e38, -3.4e38, *NOT_FINITE.values()])
def test_weights_that_are_not_finite_in_bfloat16_are_refused(beyond):
    largest = Kernel.of(f32([[1, -3.3895e38]]), "bfloat16")
    assert largest.values[0, 1] == -np.uint32(0x7F7F0000).view(f32)
    with pytest.raises(ValueError, match="finite in bfloat16"):
        Kernel.of(f32([[1, beyond]]), "bfloat16")


def test_a_sum_that_does_not_fit_into_32_bits_is_refused():
    with pytest.raises(ValueError, match="at most 66311 products in a sum of int8"):
        Kernel.of(np.ones((66312, 1), f32), "int8")
    kernel = np.ones((66311, 1), f32)
    x = np.ones((1, 66311), f32)
    for row in (x, -x):                   # the largest sums, without and with the zero point
        found = kernels.linear(row, Linear(Packed(Kernel.of(kernel, "int8")), None))
        assert abs(found / row.sum() - 1) < 1e-6


def test_linear_by_loops():
    """The int8 product, with Python's integers."""
    x, p = cases.normal(0, 3, 7), cases.dense(1, 7, 5)
    kernel = Kernel.of(p.kernel, "int8")
    found = reference_narrow.linear(x, Linear(kernel, p.bias))
    for i, row in enumerate(x):
        q, scale, zero = quantized_by_loops(row * kernel.factors)
        for o in range(5):
            total = sum((q[k] - zero) * int(kernel.values[k, o]) for k in range(7))
            assert found[i, o] == f32(f32(total) * f32(scale * kernel.scales[o])) + p.bias[o]


@pytest.mark.parametrize("taps, stride, dilation, padding", [
    (3, 1, 1, ((1, 1), (1, 1))), (3, 2, 1, ((0, 1), (1, 0))), (1, 2, 1, NO_PADDING), (1, 1, 1, ((1, 0), (0, 0))),
    (2, 1, 2, NO_PADDING)])
def test_conv2d_by_loops(taps, stride, dilation, padding):
    """Windows of integers; a cell of the padding is the number 0. A 1x1 convolution has a scale for each cell."""
    x, weights = cases.normal(0, 2, 4, 5, 3), cases.normal(1, taps, taps, 3, 2)
    kernel = Kernel.of(weights, "int8")
    found = reference_narrow.conv2d(x, kernel, stride, dilation, padding)
    (top, _), (left, _) = padding
    if taps == 1:
        x = x * kernel.factors
    for b, i, j in itertools.product(*map(range, found.shape[:3])):
        total = np.zeros(2, np.int64)
        scale = f32(2.0 ** -126) if taps == 1 else quantized_by_loops(x[b].ravel())[1]
        for u, v in np.ndindex(taps, taps):
            h, w = i * stride + u * dilation - top, j * stride + v * dilation - left
            if 0 <= h < 4 and 0 <= w < 5:
                q, scale, zero = quantized_by_loops(x[b, h, w] if taps == 1 else x[b].ravel())
                cell = np.array(q).reshape(-1, 3)[0 if taps == 1 else h * 5 + w] - zero
                total += cell @ kernel.values[u, v].astype(np.int64)
        assert np.array_equal(found[b, i, j], total.astype(f32) * (scale * kernel.scales))


def test_a_large_channel_does_not_cost_the_others_their_digits():
    """A channel of x times 100, and its weights divided by 100: the product has almost the same error."""
    x, p = cases.normal(0, 50, 96), cases.dense(1, 96, 80, bias=False)
    truth = x.astype(np.float64) @ p.kernel
    errors = []
    for factor in (f32(1), f32(100)):
        x[:, 5] *= factor
        p.kernel[5] *= 1 / factor
        found = reference_narrow.linear(x, Linear(Kernel.of(p.kernel, "int8"), None))
        errors.append(np.sqrt(np.square(found - truth).mean()) / truth.std())
    assert 5e-3 < errors[0] < 1.5e-2 and errors[1] < 1.05 * errors[0]         # observed 9e-3


def test_bfloat16_products_by_loops():
    x, p = cases.normal(0, 3, 7), cases.dense(1, 7, 5)
    a, b = (np.vectorize(nearest_bfloat16)(array) for array in (x, p.kernel))
    found = reference_narrow.linear(x, Linear(Kernel.of(p.kernel, "bfloat16"), p.bias))
    assert np.abs(found - (a @ b + p.bias)).max() < 1e-6      # observed 1.2e-7
    kernel = Kernel.of(p.kernel[None, None], "bfloat16")
    assert np.abs(reference_narrow.conv2d(x[None, None], kernel, 1, 1, NO_PADDING) - a @ b).max() < 1e-6


def test_attention_by_loops():
    """Scores, exponentials and sums of one head in float64, with rounded factors."""
    query, key, value = cases.normal(0, 3, 1, 5, 4)
    context, weights = reference_narrow.attention_with_weights(query, key, value, 2)
    near = np.vectorize(nearest_bfloat16)
    for head in range(2):
        q, k, v = (near(x[0, :, 2 * head:2 * head + 2]) for x in (query, key, value))
        scores = q @ k.T / 2 ** 0.5
        shares = np.exp(scores - scores.max(1, keepdims=True))
        sums = shares.sum(1, keepdims=True)
        assert np.abs(weights[0, head] - shares / sums).max() < 1e-6
        assert np.abs(context[0, :, 2 * head:2 * head + 2] - near(shares) @ v / sums).max() < 1e-6     # observed 1.4e-7


# ---------------------------------------------------------------- the kernels are the definitions

# The largest error of products of bfloat16, in units of the results. test_bfloat16_is_as_accurate_as_float32 has values
# that were observed.
OF_BFLOAT16 = 1e-5 if target.INSTRUCTIONS["bfloat16"] == "bfdot" else 4e-6


def test_both_implementations_have_all_operations():
    for operation in (*OPERATIONS, "ready"):
        ours, theirs = (inspect.signature(getattr(ops, operation)) for ops in (kernels_narrow, reference_narrow))
        assert ours == theirs, operation


@each_product
def test_int8_is_bit_for_bit_the_definition(operation, case):
    """Without an activation. An activation has the error of its float32 kernel."""
    found, expected = (narrow(operation, case.arguments(), "int8", ops) for ops in (kernels_narrow, reference_narrow))
    if operation == "linear_activate":
        assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()        # observed 4e-7
    else:
        assert found.dtype == np.float32 and np.array_equal(found, expected)


@each_product
def test_bfloat16_is_as_accurate_as_float32(operation, case):
    """The truth has the same rounded factors, and products in float64.

    Observed: 1.4e-6. With vdpbf16ps: 2.3e-6. With bfdot, which rounds the sum of two products before it adds them:
    6.2e-6.
    """
    arguments = case.arguments()
    found = narrow(operation, arguments, "bfloat16", kernels_narrow)
    expected = narrow(operation, arguments, "bfloat16", reference_narrow)
    assert np.abs(found - expected).max() <= OF_BFLOAT16 * expected.std()


@pytest.mark.parametrize("width", NARROW)
@pytest.mark.parametrize("taps", [1, 3])
def test_no_images(width, taps):
    """Zero images have zero maps, also where each cell has a scale."""
    kernel = Kernel.of(cases.normal(0, taps, taps, 5, 3), width)
    x = np.zeros((0, 4, 4, 5), f32)
    for ops, learned in (kernels_narrow, Packed(kernel)), (reference_narrow, kernel):
        assert ops.conv2d(x, learned, 1, 1, NO_PADDING).shape == (0, 5 - taps, 5 - taps, 3)


@pytest.mark.parametrize("B, T, D, heads, bound", [
    (1, 1, 1, 1, 1e-6), (1, 5, 6, 2, 1e-6), (2, 65, 30, 2, 2e-4), (2, 3, 7, 1, 1e-6), (1, 150, 192, 3, 5e-4)])
def test_attention(B, T, D, heads, bound):
    """An exponential that the kernel rounds to another float32 may have another bfloat16: a change of 2**-8.

    Observed: 0, 8e-8, 1.9e-7, 1.1e-7, 8e-5.
    """
    arguments = *cases.normal(0, 3, B, T, D), heads
    found, expected = (ops.attention_with_weights(*arguments) for ops in (kernels_narrow, reference_narrow))
    assert np.abs(found[0] - expected[0]).max() <= bound * np.abs(expected[0]).max()
    assert np.abs(found[1] - expected[1]).max() <= 1e-6
    assert np.array_equal(kernels_narrow.attention(*arguments), found[0])
    plain = reference.attention(*arguments)
    if T > 1:
        assert 1e-4 < np.abs(expected[0] - plain).max() / np.abs(plain).max() < 2e-2      # observed 3e-3 to 6e-3


@pytest.mark.parametrize("size", [1, 3, 5])
def test_words_are_the_quantized_numbers(size):
    """The numbers of the words are those of `quantized`, also between the channels and around the map."""
    x = np.resize(edge_rows(), (2, 9, 7, size))
    factors = np.linspace(0.3, 1, size, dtype=f32)
    for by_cell, padding in ((True, NO_PADDING), (False, ((1, 2), (0, 3)))):
        found, (rows, columns, in_words) = words.words_of(x, "int8", padding, factors if by_cell else None)
        q, scale, zero = reference_narrow.quantized(x * factors if by_cell else x, 3 if by_cell else (1, 2, 3))
        expected = np.pad(q - zero, ((0, 0), *padding, (0, 0)))
        numbers = found.values.reshape(2, rows, columns, -1)[..., :size].astype(np.float64)
        zeros = found.zero_points.reshape(-1, 1, 1, 1) if not by_cell else found.zero_points.reshape(2, 9, 7, 1)
        assert np.array_equal(numbers - zeros, expected)
        assert np.array_equal(found.scales, scale.ravel())
        assert np.array_equal(found.zero_points + widths.OFFSET, zero.ravel())
        assert found.unit == (in_words if by_cell else rows * columns * in_words)


@each_width
@pytest.mark.parametrize("edge", EDGES)
def test_edge_rows(width, edge):
    """Between normal rows, and beside other channels.  All results are defined, and equal in both implementations.

    With the largest float32, a sum can be infinite.
    """
    x = cases.normal(0, 5, 13)
    x[2] = np.resize(EDGES[edge], 13)
    p = cases.dense(1, 13, 33)
    with np.errstate(over="ignore"):
        found, expected = (narrow("linear", (x, p), width, ops) for ops in (kernels_narrow, reference_narrow))
    finite = np.isfinite(expected)
    # Only in bfloat16, a sum near the largest float32 can be infinite in one of the two.
    assert np.array_equal(finite, np.isfinite(found)) or (width, edge) == ("bfloat16", "largest")
    finite &= np.isfinite(found)
    assert finite.sum() >= (4 if edge == "largest" else 5) * 33 and not np.isnan(found).any()
    largest = np.abs(expected).max(1, where=finite, initial=0)[:, None]
    difference = np.abs(np.subtract(found, expected, where=finite, out=np.zeros_like(found)))
    assert (difference <= (0 if width == "int8" else OF_BFLOAT16) * largest).all()      # observed 0 and 3.7e-8
    if edge in ("zeros", "denormals"):
        assert np.array_equal(found[2], p.bias) and np.array_equal(expected[2], p.bias)
    alone = narrow("linear", (x[[0, 1, 3, 4]], p), width, kernels_narrow)
    assert np.array_equal(found[[0, 1, 3, 4]], alone)


@each_width
@pytest.mark.parametrize("value", NOT_FINITE.values(), ids=NOT_FINITE)
def test_nan_and_infinity_make_a_row_nan(width, value):
    """Only the row: other rows keep their bits. In a larger convolution of int8, the row is the image."""
    x, p = cases.normal(0, 5, 13), cases.dense(1, 13, 33)
    clean = narrow("linear", (x, p), width, kernels_narrow)
    x[2, 7] = value
    for ops in kernels_narrow, reference_narrow:
        assert np.isnan(narrow("linear", (x, p), width, ops)[2]).all()
    found = narrow("linear", (x, p), width, kernels_narrow)
    assert np.array_equal(found[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])
    maps, kernel = cases.normal(2, 3, 6, 6, 5), cases.Kernel(cases.normal(3, 3, 3, 5, 4))
    clean = narrow("conv2d", (maps, kernel, 1, 1, ((1, 1), (1, 1))), width, kernels_narrow)
    maps[1, 0, 0, 0] = value
    results = [narrow("conv2d", (maps, kernel, 1, 1, ((1, 1), (1, 1))), width, ops)
               for ops in (kernels_narrow, reference_narrow)]
    nan = np.zeros(results[0].shape, bool)
    nan[1, :2, :2] = True
    if width == "int8":
        nan[1] = True
    for result in results:
        assert np.array_equal(np.isnan(result), nan)
    assert np.array_equal(results[0][~nan], clean[~nan])


def test_attention_passes_nan():
    q, k, v = cases.normal(0, 3, 2, 19, 8)
    q[0, 4, 1] = np.inf
    for ops in kernels_narrow, reference_narrow:
        with np.errstate(all="ignore"):
            found = ops.attention(q, k, v, 2)
        nan = np.zeros(found.shape, bool)
        nan[0, 4, :4] = True
        assert np.array_equal(np.isnan(found), nan)


@each_width
@pytest.mark.parametrize("operation", [*PRODUCTS, "attention"])
def test_bits_do_not_depend_on_the_batch_and_the_threads(operation, width, monkeypatch):
    """Batches of 1, 2, 3 and 5, every place, 1, 2 and 3 threads."""
    monkeypatch.setattr(threads, "SMALL", 0)
    images = [cases.normal(seed, 1, 9, 8, 20) * 10 ** seed for seed in range(5)]
    p, kernel = cases.dense(9, 20, 70), cases.Kernel(cases.normal(8, 3, 3, 20, 70))

    def run(x):
        if operation == "attention":
            tokens = x.reshape(len(x), 72, 20)
            return kernels_narrow.attention(tokens, tokens, tokens, 5)
        rest = {"conv2d": (kernel, 1, 1, ((1, 1), (1, 1))), "linear_activate": (p, "gelu"), "linear": (p,),
                "linear_add": (p, np.ones((*x.shape[:3], 70), f32))}
        return narrow(operation, (x, *rest[operation]), width, kernels_narrow)
    alone = [run(image)[0] for image in images]
    for n, size in itertools.product((1, 2, 3), (1, 2, 3, 5)):
        with threads.using(n):
            order = np.roll(np.arange(5), n)[:size]
            found = run(np.concatenate([images[i] for i in order]))
        assert all(np.array_equal(found[place], alone[i]) for place, i in enumerate(order))


DEEP = {"3x3x512": (3, 512, 70), "3x3x390": (3, 390, 65), "7x7x70": (7, 70, 66), "1x1x3900": (1, 3900, 65)}


@pytest.mark.parametrize("width", ["float32", *NARROW])
@pytest.mark.parametrize("name", DEEP)
def test_bits_do_not_depend_on_the_cache(name, width, monkeypatch):
    """How many panels share L2 changes the speed alone.  Deep kernels, several chains; memory not set is NaN."""
    taps, C, O = DEEP[name]
    x, array = cases.normal(0, 2, 5, 4, C), cases.normal(1, taps, taps, C, O)
    kernel = array if width == "float32" else Kernel.of(array, width)
    around, results = ((taps // 2, taps // 2),) * 2, []
    for module in matmul, words:
        monkeypatch.setattr(module, "empty", lambda *shape: np.full(shape, f32(np.nan)))
    for size in (0, 1 << 17, 1 << 20, 1 << 30):
        monkeypatch.setattr(matmul, "L2", size)
        results.append(kernels.conv2d(x, Packed(kernel), 1, 1, around))
    assert all(np.array_equal(results[0], result) for result in results[1:])
    if width == "int8":
        assert np.array_equal(results[0], reference_narrow.conv2d(x, kernel, 1, 1, around))
        return
    rounded = reference_narrow.rounded(x) if width == "bfloat16" else x
    truth = reference.conv2d(rounded.astype(np.float64), np.asarray(kernel, np.float64), 1, 1, around)
    assert np.abs(results[0] - truth).max() <= 4e-6 * truth.std()       # observed 1.7e-6 (float32), 7.6e-7 (bfloat16)


# ---------------------------------------------------------------- packed kernels

@each_width
@pytest.mark.parametrize("shape", [(1, 1), (37, 45), (768, 64), (3, 3, 5, 33), (7, 7, 1, 2), (1, 1, 30, 17)])
def test_a_packed_kernel_is_restored(shape, width):
    """As a kernel, as an array, and after pickling."""
    kernel = Kernel.of(cases.normal(0, *shape), width)
    packed = Packed(kernel)
    for found in (packed, pickle.loads(pickle.dumps(packed))):
        restored = found.unpacked()
        assert np.array_equal(restored.values, kernel.values) and (found.shape, found.width) == (shape, width)
        assert width == "bfloat16" or np.array_equal(restored.scales, kernel.scales)
        assert kernel.factors is None or np.array_equal(restored.factors, kernel.factors)
        assert np.array_equal(np.asarray(found), np.asarray(kernel)) and np.asarray(found).dtype == np.float32
        assert found.panels.tobytes() == packed.panels.tobytes() and found.panels.ctypes.data % 64 == 0


@each_width
@pytest.mark.parametrize("shape", [(1, 1), (37, 45), (768, 64)])
def test_the_order_in_memory_changes_nothing(shape, width):
    """The weights of a linear layer are a transposed view of the array in a file."""
    array = cases.normal(0, *shape)
    rows, columns = (Kernel.of(np.asarray(array, order=order), width) for order in "CF")
    assert columns.values.flags.f_contiguous and np.array_equal(columns.values, rows.values)
    assert Packed(columns).panels.tobytes() == Packed(rows).panels.tobytes()


@pytest.mark.skipif(AMX, reason="on AMX, float32 is three bfloat16")
def test_narrow_panels_take_half_and_a_quarter_of_the_memory():
    kernel = cases.normal(0, 3, 3, 32, 64)
    whole = Packed(kernel).panels.nbytes
    assert [Packed(Kernel.of(kernel, width)).panels.nbytes / whole for width in NARROW] == [1 / 2, 1 / 4]


@each_width
def test_which_kernels_are_narrow(width):
    """The kernels that read the pixels, and the kernels after the pooling, keep float32 in both implementations."""
    plain = replace(cases.CONFIG, stem=0, depths=(), widths=())
    for name, shape, config, expected in (
            ("stem.conv", (7, 7, 3, 8), cases.CONFIG, "float32"),
            ("stages.0.1.conv2", (3, 3, 8, 8), cases.CONFIG, "bfloat16"),
            ("stages.1.0.proj", (1, 1, 8, 8), cases.CONFIG, "bfloat16"),
            ("stages.1.1.conv1", (1, 1, 8, 8), cases.CONFIG, width),
            ("stages.2.0.proj", (1, 1, 8, 8), cases.CONFIG, width), ("tokens.proj.kernel", (8, 5), cases.CONFIG, width),
            ("tokens.proj.kernel", (8, 5), plain, "float32"), ("blocks.0.fc1.kernel", (8, 5), plain, width),
            ("head.kernel", (8, 5), cases.CONFIG, "float32"), ("pooler.kernel", (8, 8), cases.CONFIG, "float32"),
            ("pre_logits.kernel", (8, 8), cases.CONFIG, "float32")):
        array = cases.normal(0, *shape)
        assert kernels.ready(name, array, config, width).width == expected
        assert getattr(reference_narrow.ready(name, array, config, width), "width", "float32") == expected
    for name, shape in (("head.bias", (5,)), ("tokens.positions", (5, 8)), ("norm.scale", (8,))):
        assert kernels.ready(name, cases.normal(0, *shape), cases.CONFIG, width).dtype == np.float32


# ---------------------------------------------------------------- the instructions

def test_the_instruction_follows_from_the_features():
    base = "+avx512f,+avx512vl,+avx2,+fma"
    for isa, features, expected in (
            ("avx512", base, ("", "")), ("avx512", base + ",+avx512bw", ("", "vpmaddwd")),
            ("avx512", base + ",+avx512bw,+avx512vnni", ("", "vpdpbusd")),
            ("amx", base + ",+avx512bf16,+avx512vnni", ("vdpbf16ps", "vpdpbusd")),
            ("avx2", "+avx2,+fma", ("", "vpmaddwd")), ("avx2", "+avx2,+fma,+avxvnni", ("", "vpdpbusd")),
            ("neon", "+neon", ("", "")), ("neon", "+neon,+dotprod", ("", "sdot")),
            ("neon", "+bf16,+dotprod,+i8mm", ("bfdot", "usdot")), ("plain", base, ("", ""))):
        found = target.instructions(isa, ("", "", features))
        assert (found["bfloat16"], found["int8"]) == expected, (isa, features)


PRODUCT = [FLOATS, INTS, FLOATS, INT, INT, FLOATS, FLOATS, INT]       # x, starts, zeros, runs, run; b; values, stride
SCALING = [FLOATS, FLOATS, FLOATS, FLOATS]                              # scales, zeros, channels, totals


def emit_tile(build, arguments, shape, products, size=None):
    x, starts, zeros, runs, run, b, c, stride, *scaling = arguments
    tile.emit_tile(build, tile.Rows(x, starts, zeros, runs, run), tile.Panel(b, 0),
                   tile.Target(c, 0, stride, None, None), [], shape, products,
                   tile.Scaling(*scaling, 0) if products.INTEGERS else None, size=size)


HERE = [(widths.Int8, isa) for isa in target.TILES] + [(widths.Bfloat16, isa) for isa in target.TILES]
HERE += [(widths.Int8Pairs, "avx2")] * ("avx2" in target.available(target.TARGET))


@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="LLVM is not used")
@pytest.mark.parametrize("part", ["whole", "short", "narrow"])
@pytest.mark.parametrize("products, isa", HERE)
def test_every_product_in_every_shape(products, isa, part):
    """The tiles of all instruction sets, with products that run on this machine, against integers and float64."""
    (MR, NV, L), module = target.TILES[isa], ir.Module()
    NR, n, rng = NV * L, products.NUMBERS, np.random.default_rng(0)
    height, vectors = size = {"whole": (MR, NV), "short": (target.SHORT, NV), "narrow": (MR, 1)}[part]
    kinds = PRODUCT + SCALING * products.INTEGERS
    emitted(module, "tile", kinds, lambda build, *args: emit_tile(build, args, (MR, NV, L), products, size))
    engine, function = on_this_machine(module)
    for runs, run in ((0, 1), (1, 0), (1, 1), (1, 4), (3, 3), (2, 9), (1, 50)):
        K = runs * run
        starts, c = rng.integers(0, 200 - run, (runs, MR)), np.full((MR, NR + 3), f32(7))
        starts[:1, 1] = -1                # a row of zeros
        if products.INTEGERS:
            x = rng.integers(0, 256, (200, n)).astype({1: np.int32, 2: np.int16, 4: np.uint8}[n])
            b = rng.integers(-127, 128, (K + 1, NR, n)).astype(np.int8)
            scales, channels = rng.random(MR, f32), rng.random(NR, f32)
            zeros, totals = rng.integers(0, 256, MR).astype(np.int32), rng.integers(-999, 999, NR).astype(np.int32)
            scaling = [scales, zeros, channels, totals]
        else:
            x, scaling = rng.standard_normal((200, 1), f32), []
            halves = rng.integers(0x3F00, 0x4000, (K + 1, NR, 1)).astype(np.uint16)
            b = halves
        arguments = [x, starts, np.zeros(run + 1, f32), runs, run, b, c, NR + 3, *scaling]
        function("tile", kinds)(*arguments)
        rows = np.zeros((MR, K, n))
        for t, i in np.ndindex(runs, MR):
            if starts[t, i] >= 0:
                rows[i, t * run:(t + 1) * run] = x[starts[t, i]:starts[t, i] + run]
        numbers = (b if products.INTEGERS else widened(b))[:K].astype(np.float64)
        sums = np.einsum("ikn,kjn->ij", rows, numbers)
        if products.INTEGERS:
            exact = (sums - zeros[:, None] * totals.astype(np.float64)).astype(f32) * (scales[:, None] * channels)
            assert np.array_equal(c[:height, :vectors * L], exact[:height, :vectors * L])
        else:
            assert np.abs((c[:, :NR] - sums)[:height, :vectors * L]).max() <= 1e-6 * (K + 2) ** 0.5 * 4
        assert (c[:, vectors * L:] == 7).all() and (c[height:] == 7).all()


@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="LLVM is not used")
@pytest.mark.parametrize("products, isa, cpu, instruction", [
    (widths.Bfloat16Dot, "avx512", "znver4", r"vdpbf16ps\s.*%zmm"),
    (widths.Bfloat16Dot, "avx512", "cooperlake", r"vdpbf16ps\s.*%zmm"),
    (widths.Int8Dot, "avx512", "znver4", r"vpdpbusd\s.*%zmm"),
    (widths.Int8Dot, "avx512", "icelake-server", r"vpdpbusd\s.*%zmm"),
    (widths.Int8Dot, "avx2", "alderlake", r"vpdpbusd\s.*%ymm"),
    (widths.Int8Pairs, "avx2", "haswell", r"vpmaddwd\s.*%ymm"),
    (widths.Int8Pairs, "avx512", "skylake-avx512", r"vpmaddwd\s.*%zmm"),
    (widths.Bfloat16, "avx2", "haswell", r"vfmadd\d+ps\s.*%ymm"),
    (widths.Bfloat16DotArm, "neon", "neoverse-v1", r"\sbfdot\s"),
    (widths.Int8DotArm, "neon", "neoverse-v1", r"\susdot\s"),
    (widths.Int8SignedDotArm, "neon", "neoverse-n1", r"\ssdot\s")])
def test_assembly(products, isa, cpu, instruction):
    """MR x NV products per k, in whole vectors, and no vector leaves its register inside the loops over k."""
    MR, NV, _ = shape = target.TILES[isa]
    kinds = PRODUCT + SCALING * products.INTEGERS
    triple = ARM if isa == "neon" else LINUX
    text = assembly(triple, cpu, kinds, lambda build, *args: emit_tile(build, args, shape, products))
    lines = text.splitlines()
    places = [i for i, line in enumerate(lines) if re.search(instruction, line)]
    # A loop over UNROLL values of k, and a loop over the rest. If UNROLL is 1, LLVM may drop the loop over the rest.
    counts = (1, 2) if products.UNROLL == 1 else (products.UNROLL + 1,)
    assert len(places) in [MR * NV * count for count in counts]
    for first, last in zip(places, places[1:]):
        between = "\n".join(lines[first:last])
        assert re.search(r"^\.\w+:", between, re.M) or not re.search(SPILLS[triple], between)
