"""Every array that a kernel makes is freed, and no function without reference counts gets or returns an array."""
import numpy as np
import pytest

from nphybrid.ops import jit, kernels, kernels_narrow
from nphybrid.ops.jit import jit as without_counts
from nphybrid.ops.jit import jit_allocating
from nphybrid.ops.standardization import standardize, standardize_gradient

from ops import test_gradient_kernels as gradients
from ops import test_product_gradients as products
from ops import test_widths as widths
from oracles import cases
from tools.references import every_array_is_freed

pytestmark = pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="nothing is compiled, so nothing is counted")


def assert_all_is_freed(compute):
    compute()                             # compiles the kernels
    with every_array_is_freed():
        compute()


@pytest.mark.parametrize("operation, case", cases.ALL, ids=cases.NAMES)
def test_operations(operation, case):
    arguments = case.arguments()
    assert_all_is_freed(lambda: cases.call(kernels, operation, arguments))


@widths.each_width
@widths.each_product
def test_narrow_products(operation, case, width):
    arguments = case.arguments()
    assert_all_is_freed(lambda: widths.narrow(operation, arguments, width, kernels_narrow))


@pytest.mark.parametrize("case", cases.CASES["attention"], ids=lambda case: case.name)
def test_narrow_attention(case):
    arguments = case.arguments()
    for operation in "attention", "attention_with_weights":
        assert_all_is_freed(lambda operation=operation: getattr(kernels_narrow, operation)(*arguments))


@gradients.each_case
def test_rules(rule, case):
    arguments = case.arguments()
    dy = gradients.dy_of(rule, arguments)
    assert_all_is_freed(lambda: gradients.fast(rule, arguments, dy))


@products.each_case
def test_rules_of_products(rule, case):
    arguments = products.arguments_of(case)
    _, dy = products.drawn(rule, arguments)
    assert_all_is_freed(lambda: products.fast(rule, arguments, dy))


@pytest.mark.parametrize("form", ["variance", "deviation"])
def test_standardization(form):
    kernel = cases.normal(0, 3, 3, 5, 130)
    y = standardize(kernel, 1e-6, form)
    assert_all_is_freed(lambda: standardize(kernel, 1e-6, form))
    assert_all_is_freed(lambda: standardize_gradient(kernel, y, kernel, 1e-6, form))


@jit_allocating
def _new():
    return np.ones(3)


@without_counts
def _gets_an_array():
    return _new()[0]


@without_counts
def _returns_an_array(x):
    return x, 1


@without_counts
def _makes_an_array():
    return np.ones(3)[0]


@pytest.mark.parametrize("kernel, arguments, error", [
    (_gets_an_array, (), "_gets_an_array gets an array from _new; expected the decorator jit_allocating"),
    (_returns_an_array, (np.ones(3),), "_returns_an_array returns an array; expected the decorator jit_allocating"),
    (_makes_an_array, (), "Only accept returning of array")])
def test_a_kernel_that_breaks_the_rule_is_refused(kernel, arguments, error):
    with pytest.raises((TypeError, jit.numba.core.errors.NumbaError), match=error):
        kernel(*arguments)
