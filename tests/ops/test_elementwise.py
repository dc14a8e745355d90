"""Errors of exp and the activations in units in the last place (ULP), over dense grids, against float64."""
import numpy as np
import pytest

from nphybrid.ops import elementwise, kernels, reference
from nphybrid.ops.jit import jit

from oracles.cases import SLOW
from oracles.loops import ACTIVATIONS

STEPS = 2_000 if SLOW else 400_001


def grid(low, high):
    x = np.linspace(low, high, STEPS).astype(np.float32)
    return np.concatenate([x, *(s * np.geomspace(1e-30, 1, STEPS // 10).astype(np.float32) for s in (1, -1))])


def ulp(x, truth):
    """|x - truth| in units in the last place of truth; below the smallest normal number the unit is 2**-149."""
    return np.abs(x - truth) / np.spacing(np.maximum(np.abs(truth), 2.0 ** -126).astype(np.float32))


@jit
def exp_of(x, negative):
    for i in range(x.size):
        x[i] = elementwise.exp_negative(x[i]) if negative else elementwise.exp(x[i])


def exps(x, negative=False):
    y = x.copy()
    with np.errstate(all="ignore"):
        exp_of(y, negative)
    return y


def test_exp():
    x = grid(-87.3, 88.7)
    assert ulp(exps(x), np.exp(x.astype(np.float64))).max() <= 2           # observed 1.0
    tail = np.linspace(-103, -87.3, 2000).astype(np.float32)
    assert ulp(exps(tail), np.exp(tail.astype(np.float64))).max() <= 2     # observed 1.0
    ends = np.array([np.nan, np.inf, -np.inf, 89, -110, 0], np.float32)
    assert np.array_equal(exps(ends), np.array([np.nan, np.inf, 0, np.inf, 0, 1], np.float32), equal_nan=True)


def test_exp_of_softmax():
    x = grid(-86.9, 0)
    x = x[x <= 0]
    assert ulp(exps(x, True), np.exp(x.astype(np.float64))).max() <= 2     # observed 1.0
    ends = np.array([np.nan, -np.inf, -88, 0], np.float32)
    assert np.array_equal(exps(ends, True), np.array([np.nan, 0, 0, 1], np.float32), equal_nan=True)


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activations(name):
    """Every kernel against the reference in float64, with the bounds of its row in oracles/loops.py."""
    assert name in ACTIVATIONS, f"expected a row for {name!r} in ACTIVATIONS of tests/oracles/loops.py"
    row = ACTIVATIONS[name]
    x = grid(-12, 12)
    truth = reference.activate(x.astype(np.float64), name)
    y = kernels.activate(x, name)
    near = x >= row.near
    error = np.abs(y - truth)
    assert ulp(y, truth)[near].max() <= row.ulp
    assert (error / np.maximum(1, np.abs(x)))[~near].max(initial=0) <= row.below
    assert error.max() <= 2e-6                         # observed 1.2e-6 (silu)


def derivative(x, name):
    d = np.ones_like(x)
    elementwise.differentiate_in(d, x, elementwise.code_of(name))
    return d


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_derivatives(name):
    """Every kernel of a derivative against the reference in float64, with the bound of its row in oracles/loops.py."""
    x = grid(-12, 12)
    truth = reference.ACTIVATIONS[name].derivative(x.astype(np.float64))
    assert np.abs(derivative(x, name) - truth).max() <= ACTIVATIONS[name].steep


@pytest.mark.parametrize("name, largest", [("sigmoid", 1e-6), ("tanh", 3e-6)])
def test_derivatives_close_to_zero_keep_their_digits(name, largest):
    """1 - s has few digits in float32.  The largest relative error is observed: sigmoid 3.1e-7, tanh 1.2e-6."""
    x = grid(-12, 12)
    truth = np.array([ACTIVATIONS[name].derivative(number) for number in x.tolist()])
    assert (np.abs(derivative(x, name) - truth) / truth).max() <= largest


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_derivatives_at_the_ends(name):
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e10, -1e10, 88.8, -104, 1e-30, -1e-30], np.float32)
    with np.errstate(all="ignore"):
        truth = reference.ACTIVATIONS[name].derivative(x.astype(np.float64))
    assert np.allclose(derivative(x, name), truth, rtol=1e-6, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_a_derivative_is_multiplied_in_place(name):
    x = np.linspace(-3, 3, 101, dtype=np.float32)
    d = np.linspace(1, 2, 101, dtype=np.float32)
    expected = d * derivative(x, name)
    d[50] = np.nan
    elementwise.differentiate_in(d, x, elementwise.code_of(name))
    assert np.isnan(d[50]) and np.array_equal(np.delete(d, 50), np.delete(expected, 50))


def test_without_an_activation_the_derivative_is_1():
    assert derivative(np.float32([-1, 0, 2]), "").tolist() == [1, 1, 1]


def test_one_list_of_names():
    assert set(elementwise.CODES) - {""} == set(reference.ACTIVATIONS)
    assert elementwise.CODES["gelu_new"] == elementwise.CODES["gelu_pytorch_tanh"]


def test_an_activation_without_a_kernel_is_named():
    names = ", ".join(filter(None, elementwise.CODES))
    with pytest.raises(ValueError, match=f"expected one of {names}, found 'gellu'"):
        elementwise.code_of("gellu")
