"""The fast rules of the backward pass: same signature, same numbers, same bits on any number of threads."""
import inspect

import numpy as np
import pytest

from nphybrid.ops import gradient_kernels, gradients, kernels, reference, threads
from nphybrid.ops.record import Record, Variable
from nphybrid.params import Linear, Norm

from oracles import cases
from oracles.cases import CASES, Case
from ops.test_kernels import FLOOR, error, read_only, strided

# As in test_kernels.py: the error of a gradient is at most FLOOR, or its bound times the error of the float32 rules of
# gradients.py. Every rule has its bound here, except the rules of products.
BOUNDS = {                                # bound    largest ratio above FLOOR, or largest error below it (AVX2)
    "max_pool": 2.5,                      #          error 2.7e-7
    "mean_pool": 2.5,                     #          error 7.3e-8
    "group_norm": 2.5,                    #          error 1.2e-6
    "group_norm_activate": 2.5,           #          error 1.2e-6
    "group_norm_add_activate": 2.5,       #          error 1.8e-6
    "layer_norm": 2.5,                    #          error 6.6e-7
    "attention": 2.5,                     #          1.5
    "activate": 2.5,                      #          error 6.9e-7
}
PRODUCTS = {"linear", "linear_add", "conv2d", "standardize"}


def fused_norms():
    """Group norms with each activation; the cases of oracles/cases.py have relu alone."""
    for name in reference.ACTIVATIONS:
        x, p = cases.normal(1, 2, 3, 5, 12), cases.norm(2, 12)
        yield "group_norm_activate", Case(name, lambda name=name: (x, p, 3, 1e-5, name))
        yield "group_norm_add_activate", Case(name, lambda name=name: (x, p, 3, 1e-5, cases.normal(3, *x.shape), name))


ALL = [(rule, case) for rule in BOUNDS for case in CASES[rule]] + list(fused_norms())
NAMES = [f"{rule}: {case.name}" for rule, case in ALL]
each_case = pytest.mark.parametrize("rule, case", ALL, ids=NAMES)
one_case = pytest.mark.parametrize("rule, case", [(rule, CASES[rule][0]) for rule in BOUNDS], ids=list(BOUNDS))
last_case = pytest.mark.parametrize("rule, case", [(rule, CASES[rule][-1]) for rule in BOUNDS], ids=list(BOUNDS))


def backward(ops, rules, operation, arguments, dy):
    """The gradients of the arrays among the arguments, in their order."""
    record, leaves = Record(ops, rules), []

    def leaf(argument):
        if isinstance(argument, np.ndarray):
            leaves.append(Variable(argument, record))
            return leaves[-1]
        return type(argument)(*map(leaf, argument)) if isinstance(argument, (Linear, Norm)) else argument
    record.backward(getattr(record, operation)(*map(leaf, arguments)), dy)
    return [leaf.gradient for leaf in leaves]


def fast(operation, arguments, dy):
    rules = {rule: gradient_kernels.RULES[rule] for rule in BOUNDS}
    return backward(kernels, rules, operation, arguments, dy)


def plain(operation, arguments, dy, dtype):
    arguments = [cases.ready(reference, a, dtype) for a in arguments]
    return backward(reference, gradients.RULES, operation, arguments, dy.astype(dtype))


def dy_of(operation, arguments, seed=99):
    return cases.normal(seed, *np.shape(getattr(kernels, operation)(*arguments)))


def test_every_rule_has_a_fast_version_a_case_and_a_bound():
    assert set(gradient_kernels.RULES) >= set(gradients.RULES)
    assert set(gradient_kernels.RULES) == set(BOUNDS) | PRODUCTS


@pytest.mark.parametrize("rule", sorted(set(gradients.RULES) - PRODUCTS))
def test_both_versions_of_a_rule_have_the_same_arguments(rule):
    assert inspect.signature(gradient_kernels.RULES[rule]) == inspect.signature(gradients.RULES[rule])


@each_case
def test_accuracy(rule, case):
    arguments = case.arguments()
    dy = dy_of(rule, arguments)
    found = fast(rule, arguments, dy)
    truth = plain(rule, arguments, dy, np.float64)
    single = plain(rule, arguments, dy, np.float32)
    for x, y, t in zip(found, single, truth, strict=True):
        assert x.shape == t.shape and x.dtype == np.float32
        assert error(x, t) <= max(BOUNDS[rule] * error(y, t), FLOOR)


@pytest.mark.parametrize("mean", [0, 1e4])
def test_norms_keep_a_large_mean(mean):
    x, p = cases.normal(1, 2, 6, 6, 64, mean=mean), cases.norm(3, 64)
    for rule, arguments in (("group_norm_activate", (x, p, 8, 1e-5, "gelu")), ("layer_norm", (x[0], p, 1e-12))):
        dy = dy_of(rule, arguments)
        for a, t in zip(fast(rule, arguments, dy), plain(rule, arguments, dy, np.float64), strict=True):
            assert error(a, t) <= 1e-5                    # observed at 1e4: 6.1e-7; the float32 rules 1.1e-2


@last_case
def test_bits_do_not_depend_on_the_threads(rule, case, monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 0)
    arguments = case.arguments()
    dy = dy_of(rule, arguments)
    results = []
    for n in (1, 2, 3):
        with threads.using(n):
            results.append(fast(rule, arguments, dy))
    for result in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], result, strict=True))


@one_case
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "dy"])
def test_nan_and_infinity_pass(rule, case, value, where):
    x, *rest = case.arguments()
    dy = dy_of(rule, (x, *rest))
    changed = x if where == "x" else dy
    changed.flat[changed.size // 2] = value
    with np.errstate(all="ignore"):
        theirs = plain(rule, (x, *rest), dy, np.float64)
        ours = fast(rule, (x, *rest), dy)
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(np.isfinite(a), np.isfinite(b))


@one_case
def test_any_layout_of_memory(rule, case):
    """Also, the arguments are not changed."""
    arguments = case.arguments()
    dy = dy_of(rule, arguments)
    expected = fast(rule, arguments, dy)
    for arranged in (np.asfortranarray, strided, read_only):
        others = [arranged(a) if isinstance(a, np.ndarray) else a for a in arguments]
        found = fast(rule, others, arranged(dy))
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(others, case.arguments()) if isinstance(a, np.ndarray))


@one_case
def test_an_empty_batch(rule, case):
    arguments = [a[:0] if isinstance(a, np.ndarray) else a for a in case.arguments()]
    y = getattr(kernels, rule)(*arguments)
    dx, *others = gradient_kernels.RULES[rule](y, y, *arguments)
    assert dx.shape == arguments[0].shape
    assert not any(array.any() for other in others if isinstance(other, Norm) for array in other)


@one_case
def test_a_gradient_of_another_shape_is_refused(rule, case):
    """The loops would read beyond its end."""
    arguments = case.arguments()
    y = getattr(kernels, rule)(*arguments)
    if rule != "mean_pool":               # NumPy checks the shape
        with pytest.raises(ValueError, match="dy: expected shape"):
            gradient_kernels.RULES[rule](y.repeat(2, axis=0), y, *arguments)
        with pytest.raises(TypeError, match="dy: expected a float32 array, found float64"):
            gradient_kernels.RULES[rule](y.astype(np.float64), y, *arguments)


def max_pool_arguments(B, H, W, C, padding, fill):
    """Whole numbers from -2 to 2, so that most windows have several largest cells, also in the padding."""
    rng = np.random.default_rng(H)
    x = rng.integers(-2, 3, (B, H, W, C)).astype(np.float32)
    y = kernels.max_pool(x, padding, fill)
    return rng.integers(-8, 9, y.shape).astype(np.float32), y, x, padding, fill


@pytest.mark.parametrize("fill", [0.0, -np.inf])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((0, 1), (1, 0)), ((1, 1), (1, 1)), ((1, 0), (0, 0))])
@pytest.mark.parametrize("shape", [(2, 9, 8, 3), (1, 3, 3, 5), (1, 64, 65, 48), (3, 33, 32, 64)])
def test_ties_of_a_max_pool(shape, padding, fill):
    """Sums of whole numbers are exact.  The large maps are divided into several tasks."""
    arguments = max_pool_arguments(*shape, padding, fill)
    assert np.array_equal(gradient_kernels.max_pool(*arguments)[0], gradients.max_pool(*arguments)[0])


def test_the_rows_of_a_max_pool_without_a_window_get_0():
    """A window has 3 rows, so no window covers the last row of 6."""
    x = np.ones((1, 6, 6, 2), np.float32)
    y = kernels.max_pool(x, ((0, 0), (0, 0)), 0.0)
    dx, = gradient_kernels.max_pool(np.ones_like(y), y, x, ((0, 0), (0, 0)), 0.0)
    assert dx[0, :, :, 0].sum() == y[..., 0].size and not dx[:, 5].any() and not dx[:, :, 5].any()


@pytest.mark.parametrize("kernel", ["now", "later", "none"])
def test_the_gradient_of_a_bias_is_complete(kernel):
    """The tasks of the kernel's gradient also add up the rows of dy, but they may run later, or never."""
    x, dy, p = cases.normal(0, 3000, 64), cases.normal(1, 3000, 96), cases.dense(2, 64, 96)
    with threads.using(2), threads.Later() as later:
        _, gradient = gradient_kernels.RULES["linear"](dy, None, x, p)
        if kernel != "none":
            gradient.kernel(None, later.run if kernel == "later" else threads.run)
        found = gradient.bias(np.ones(96, np.float32), threads.run)
        exact = dy.sum(0, np.float64) + 1
        assert np.abs(found - exact).max() <= 1e-5 * np.abs(exact).max()      # observed 8e-8


def test_one_token_has_no_gradient_for_query_and_key():
    """The single weight is 1 and does not change."""
    states = [cases.normal(i, 3, 1, 32) for i in range(3)]
    dy = dy_of("attention", (*states, 2))
    dq, dk, dv = fast("attention", (*states, 2), dy)
    assert np.abs(dq).max() <= 1e-5 and np.abs(dk).max() <= 1e-5          # observed 3.2e-7
    assert np.array_equal(dv, dy)
