"""The fast gradients of linear layers and convolutions: same numbers as gradients.py, same bits on any threads."""
import inspect

import numpy as np
import pytest

from nphybrid.config import Config
from nphybrid.ops import gradient_kernels, gradients, jit, kernels, product_gradients, reference, threads
from nphybrid.ops.packed import AMX, Packed
from nphybrid.ops.record import Record, Variable
from nphybrid.params import Linear

from oracles.cases import CASES, SLOW, Case, Kernel, dense, normal
from ops.test_kernels import error, leaves, read_only, strided

# As in test_kernels.py: the error of a gradient is at most FLOOR, or BOUND times the error of the float32 rules of
# gradients.py. The rule of `conv2d` computes dx tap by tap, so its chains of additions are short. A kernel computes all
# taps in chains of up to 384 additions, as in the forward pass.
BOUND = 2.5                               # largest ratio above FLOOR: 1.4 (AVX2)
FLOOR = 4e-6                              # largest error below FLOOR: 3.7e-6
NONE = (0, 0), (0, 0)
ONE = (1, 1), (1, 1)


def convolutions():
    """Cases beside those of oracles/cases.py: strides, dilations and paddings in which the phases of dx differ."""
    kinds = [                             # B, H, W, C, O, (KH, KW), stride, dilation, padding
        ("stride 3, 2 x 4 taps", 2, 11, 13, 5, 7, (2, 4), 3, 1, ((1, 0), (2, 3))),
        ("stride 2, dilation 2: rows without a tap", 1, 10, 9, 4, 6, (3, 3), 2, 2, NONE),
        ("stride 4, dilation 6", 1, 19, 20, 3, 5, (3, 2), 4, 6, ((3, 5), (4, 0))),
        ("stride 3, dilation 2", 2, 12, 10, 6, 5, (3, 3), 3, 2, ((2, 1), (0, 4))),
        ("stride larger than the kernel", 1, 11, 12, 4, 3, (2, 2), 5, 1, NONE),
        ("stride larger than the map", 3, 4, 3, 7, 5, (3, 3), 6, 1, ((1, 0), (0, 1))),
        ("padding larger than the kernel", 1, 4, 5, 6, 7, (3, 3), 1, 1, ((4, 3), (5, 3))),
        ("1x1 with padding", 2, 4, 3, 9, 10, (1, 1), 1, 1, ONE),
        ("1x1/2 with padding", 1, 5, 6, 20, 8, (1, 1), 2, 1, ((1, 0), (0, 1))),
        ("1x1/3, cells after the last window", 2, 9, 8, 33, 17, (1, 1), 3, 1, NONE),
        ("a kernel of one row", 1, 3, 9, 5, 6, (1, 5), 1, 1, ((0, 0), (2, 2))),
        ("a window of the whole map", 2, 5, 4, 10, 50, (5, 4), 1, 1, NONE),
        ("31 channels, stride 2", 1, 7, 8, 31, 18, (3, 3), 2, 1, ((0, 1), (0, 1))),
    ]
    if not SLOW:
        kinds += [("wide 3x3/2", 2, 24, 23, 64, 100, (3, 3), 2, 1, ((0, 1), (0, 1))),
                  ("wide 1x1", 3, 20, 19, 200, 70, (1, 1), 1, 1, NONE),
                  ("7x7/2 stem, several chains", 2, 65, 63, 3, 20, (7, 7), 2, 1, ((2, 3), (2, 3)))]
    for i, (name, B, H, W, C, O, taps, *rest) in enumerate(kinds):
        yield Case(name, lambda i=i, x=(B, H, W, C), k=(*taps, C, O), rest=tuple(rest): (
            normal(i, *x), Kernel(normal(100 + i, *k)), *rest))


def layers():
    sizes = [(1, 1, 1), (385, 7, 33)] + ([] if SLOW else [(1000, 100, 200), (769, 13, 1), (2080, 192, 96)])
    for i, (N, C, O) in enumerate(sizes):
        yield Case(f"{N} x {C} -> {O}", lambda i=i, N=N, C=C, O=O: (normal(i, N, C), dense(20 + i, C, O)))


ALL = [("conv2d", case) for case in (*CASES["conv2d"], *convolutions())]
ALL += [("linear", case) for case in (*CASES["linear"], *layers())]
each_case = pytest.mark.parametrize("rule, case", ALL, ids=[f"{rule}: {case.name}" for rule, case in ALL])
FEW = [("conv2d", CASES["conv2d"][3]), ("conv2d", CASES["conv2d"][5]), ("linear", CASES["linear"][0])]
few_cases = pytest.mark.parametrize("rule, case", FEW, ids=[f"{rule}: {case.name}" for rule, case in FEW])


def arguments_of(case):
    """The arguments of a case.  In training, a kernel is a plain array, which may also be given to the operations."""
    return tuple(a.array if isinstance(a, Kernel) else a for a in case.arguments())


def cast(argument, dtype):
    """An argument with arrays of the given dtype."""
    if isinstance(argument, Linear):
        return Linear(*(cast(part, dtype) for part in argument))
    return argument.astype(dtype) if isinstance(argument, np.ndarray) else argument


def drawn(rule, arguments):
    """y and random dy."""
    y = getattr(kernels, rule)(*arguments)
    return y, normal(99, *y.shape)


def computed(gradient):
    """All arrays of a gradient.  A fast rule returns a function for each array."""
    if isinstance(gradient, tuple):
        return [array for part in gradient for array in computed(part)]
    return [] if gradient is None else [gradient(None, threads.run) if callable(gradient) else gradient]


def fast(rule, arguments, dy, y=None):
    """dx, dW and, for a linear layer with a bias, db."""
    return computed(gradient_kernels.RULES[rule](dy, y, *arguments))


def plain(rule, arguments, dy, dtype=np.float32):
    """The same arrays by the rules of gradients.py."""
    return computed(gradients.RULES[rule](cast(dy, dtype), None, *(cast(a, dtype) for a in arguments)))


def bits(arrays):
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("rule", ["conv2d", "linear"])
def test_both_versions_of_a_rule_have_the_same_arguments(rule):
    assert inspect.signature(gradient_kernels.RULES[rule]) == inspect.signature(gradients.RULES[rule])


def test_a_residual_gets_dy():
    """The rule of linear_add gives the bits of a linear layer and a sum."""
    p = dense(1, 7, 5)
    x, residual, dy = normal(2, 9, 7), normal(3, 9, 5), normal(4, 9, 5)

    def backward(rules):
        record = Record(kernels, rules)
        leaves = [Variable(array, record) for array in (x, *p, residual)]
        record.backward(record.linear_add(leaves[0], Linear(*leaves[1:3]), leaves[3]), dy)
        return bits([leaf.gradient for leaf in leaves])
    rules = gradient_kernels.RULES
    assert "linear_add" in rules
    assert backward(rules) == backward({name: rules[name] for name in rules if name != "linear_add"})


@each_case
def test_accuracy(rule, case, monkeypatch):
    """Memory that is not set is NaN."""
    arguments = arguments_of(case)
    _, dy = drawn(rule, arguments)
    truths = plain(rule, arguments, dy, np.float64)
    singles = plain(rule, arguments, dy)
    monkeypatch.setattr(product_gradients, "empty", lambda *shape: np.full(shape, np.float32(np.nan)))
    for x, single, truth in zip(fast(rule, arguments, dy), singles, truths, strict=True):
        assert x.shape == truth.shape and x.dtype == np.float32 and x.flags.c_contiguous
        assert error(x, truth) <= max(BOUND * error(single, truth), FLOOR)


@each_case
def test_plain_arrays_give_the_bits_of_packed_kernels(rule, case):
    """In the forward pass of a training step, a kernel is an array."""
    x, learned, *rest = arguments_of(case)
    packed = Packed(learned) if rule == "conv2d" else Linear(Packed(learned.kernel), learned.bias)
    operation = getattr(kernels, rule)
    assert np.array_equal(operation(x, learned, *rest), operation(x, packed, *rest))


@each_case
def test_bits_do_not_depend_on_threads_and_cache(rule, case, monkeypatch):
    arguments = arguments_of(case)
    _, dy = drawn(rule, arguments)
    expected = bits(fast(rule, arguments, dy))
    monkeypatch.setattr(threads, "SMALL", 0)
    for n, L2 in ((1, 1 << 19), (2, 1 << 19), (3, 1 << 30), (1, 0)):
        monkeypatch.setattr(product_gradients, "L2", L2)
        with threads.using(n):
            assert bits(fast(rule, arguments, dy)) == expected


@each_case
def test_dx_of_an_image_does_not_depend_on_the_batch(rule, case):
    x, *rest = arguments_of(case)
    _, dy = drawn(rule, (x, *rest))
    whole = fast(rule, (x, *rest), dy)[0]
    for b in range(len(x)):
        part = slice(b, b + 1)
        assert np.array_equal(fast(rule, (x[part], *rest), dy[part])[0], whole[part])


@few_cases
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("changed", ["x", "dy"])
def test_nan_and_infinity_pass(rule, case, value, changed):
    x, *rest = arguments_of(case)
    _, dy = drawn(rule, (x, *rest))
    array = {"x": x, "dy": dy}[changed]
    array.flat[array.size // 2] = value
    with np.errstate(all="ignore"):
        theirs = plain(rule, (x, *rest), dy, np.float64)
        ours = fast(rule, (x, *rest), dy)
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(np.isfinite(a), np.isfinite(b))
        if not AMX:                       # an infinity in parts is NaN: infinity - infinity
            assert np.array_equal(a[~np.isfinite(a)], b[~np.isfinite(b)], equal_nan=True)


@few_cases
def test_any_layout_of_memory(rule, case):
    arguments = arguments_of(case)
    _, dy = drawn(rule, arguments)
    expected = bits(fast(rule, arguments, dy))
    for arranged in (np.asfortranarray, strided, read_only):
        others = [Linear(arranged(a.kernel), a.bias) if isinstance(a, Linear) else
                  arranged(a) if isinstance(a, np.ndarray) else a for a in arguments]
        assert bits(fast(rule, others, arranged(dy))) == expected


@each_case
def test_arguments_are_left_alone(rule, case):
    arguments = arguments_of(case)
    y, dy = drawn(rule, arguments)
    before = bits(leaves((arguments, y, dy)))
    fast(rule, arguments, dy, y)
    assert bits(leaves((arguments, y, dy))) == before


@few_cases
def test_an_empty_batch(rule, case):
    """dW and db are sums of no terms."""
    x, *rest = arguments_of(case)
    y, _ = drawn(rule, (x[:0], *rest))
    dx, *others = fast(rule, (x[:0], *rest), y)
    assert dx.shape == (0, *x.shape[1:])
    for found, expected in zip(others, fast(rule, (x, *rest), drawn(rule, (x, *rest))[1])[1:], strict=True):
        assert found.shape == expected.shape and not found.any()


@few_cases
def test_wrong_arrays_are_refused(rule, case):
    """The loops would read beyond the end of dy."""
    arguments = arguments_of(case)
    y, dy = drawn(rule, arguments)
    for wrong in (dy[..., :-1], dy[:-1], dy.repeat(2, axis=0)):
        with pytest.raises(ValueError, match="dy: expected shape"):
            fast(rule, arguments, wrong, y)
    with pytest.raises(ValueError, match="x: expected shape"):
        fast(rule, (arguments[0][..., :-1], *arguments[1:]), dy, y)
    with pytest.raises(TypeError, match="dy: expected a float32 array, found float64"):
        fast(rule, arguments, dy.astype(np.float64), y)


def test_a_gradient_is_computed_when_its_function_is_called(monkeypatch):
    """So the record can leave out the gradients that nobody needs."""
    arguments = normal(0, 4, 5), dense(1, 5, 6)
    dx, (dkernel, dbias) = gradient_kernels.linear(normal(2, 4, 6), None, *arguments)
    monkeypatch.setattr(product_gradients, "multiply", None)
    assert dkernel(None, threads.run).shape == (5, 6) and dbias(None, threads.run).shape == (6,)
    with pytest.raises(TypeError):
        dx(None, threads.run)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_gradient_is_added_to_the_gradient_so_far(stride):
    """The sum has the bits of a sum by NumPy, and the gradient so far is not changed."""
    x = normal(0, 2, 7, 6, 5)
    kernel = normal(1, 3, 3, 5, 8)
    padding = (1, 1), (0, 1)
    y = reference.conv2d(x, kernel, stride, 1, padding)
    functions = gradient_kernels.conv2d(normal(2, *y.shape), y, x, kernel, stride, 1, padding)
    for function, like in zip(functions, (x, kernel)):
        so_far = normal(3, *like.shape)
        before = so_far.copy()
        assert np.array_equal(function(so_far, threads.run), before + function(None, threads.run))
        assert np.array_equal(so_far, before)


def test_a_kernel_is_standardized_in_float64():
    """Weights far from 0: the float32 rule would lose 3 digits."""
    kernel = normal(0, 3, 3, 20, 30, mean=100)
    truth = reference.standardize(kernel.astype(np.float64), 1e-6)
    found = kernels.standardize(kernel, 1e-6)
    assert found.dtype == np.float32 and np.array_equal(found, truth.astype(np.float32))
    assert not np.array_equal(reference.standardize(kernel, 1e-6), found)


@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="the loops are slow as plain Python")
def test_long_sums_are_as_accurate_as_short_ones():
    """dW is a sum over 40,000 cells, whose mean is not 0."""
    x, dy = normal(0, 40000, 6, mean=1), normal(1, 40000, 17, mean=1)
    found = fast("linear", (x, dense(2, 6, 17)), dy)
    truths = plain("linear", (x, dense(2, 6, 17)), dy, np.float64)
    for a, truth in zip(found[1:], truths[1:], strict=True):
        assert np.abs(a / truth - 1).max() <= 1e-6       # observed 1.2e-7; one chain of additions 2e-4


class OnlyInFinish(threads.Later):
    """A Later whose tasks run as late as possible."""

    def run(self, count, kernel, work=0, arguments=()):
        self.jobs.append((count, kernel, arguments))

    def finish(self):
        for count, kernel, arguments in self.jobs:
            for i in range(count):
                kernel(*arguments, i)
        self.jobs.clear()


@pytest.mark.parametrize("later", [threads.Later, OnlyInFinish])
def test_no_gradient_is_read_before_it_is_computed(later, monkeypatch):
    """A leaf that two layers use, a standardized kernel, and a leaf whose gradient is also added by NumPy."""
    def empty(*shape):
        return np.full(shape, np.nan, np.float32)

    def gradients_of(later):
        monkeypatch.setattr(threads, "Later", later)
        record = Record(kernels, gradient_kernels.RULES)
        leaves = [Variable(array, record) for array in (normal(0, 2, 6, 6, 5), normal(1, 3, 3, 5, 8), normal(2, 8, 8))]
        x, kernel, matrix = leaves
        y = record.conv2d(x, record.prepare(kernel, Config()), 1, 1, ((1, 1), (1, 1)))
        y = record.linear(record.linear(y, Linear(matrix, None)), Linear(matrix, None)) + matrix[0]
        record.backward(y, normal(3, 2, 6, 6, 8))
        return [leaf.gradient.tobytes() for leaf in leaves]

    class AtOnce(threads.Later):
        def run(self, *arguments):
            threads.run(*arguments)
    monkeypatch.setattr(product_gradients, "empty", empty)
    assert gradients_of(later) == gradients_of(AtOnce)
