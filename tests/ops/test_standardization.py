"""Weight standardization: the bits of the float64 definition, and its gradient, for both forms."""
import numpy as np
import pytest

from nphybrid.ops import gradients, reference, threads
from nphybrid.ops.standardization import WIDTH, standardize, standardize_gradient

from oracles.cases import normal

SHAPES = [(7, 7, 3, 64), (1, 1, 5, 1), (3, 3, 10, WIDTH + 1), (1, 1, 1, 7), (2, 3, 4, 3 * WIDTH - 1)]
FORMS = ["variance", "deviation"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_each_weight_is_rounded_once(shape, form, dtype):
    kernel = normal(0, *shape, mean=3).astype(dtype)
    truth = reference.standardize(kernel.astype(np.float64), 1e-6, form)
    found = standardize(kernel, 1e-6, form)
    assert found.dtype == np.float32 and np.array_equal(found, truth.astype(np.float32))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_that_of_the_float64_rule(shape, form):
    """Observed: 4.2e-8 of the largest element; the float32 rule by NumPy has 2.3e-7."""
    kernel = normal(0, *shape, mean=3)
    dy = normal(1, *shape)
    exact = kernel.astype(np.float64)
    truth, = gradients.standardize(dy.astype(np.float64), reference.standardize(exact, 0.25, form), exact, 0.25, form)
    found, = standardize_gradient(dy, standardize(kernel, 0.25, form), kernel, 0.25, form)
    assert found.dtype == np.float32
    assert np.abs(found - truth).max() <= 8e-8 * max(np.abs(truth).max(), 1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_channel_has_a_finite_gradient(form):
    kernel = normal(0, 3, 3, 4, 5)
    kernel[..., 2] = 0.5
    dy = normal(1, *kernel.shape)
    y = standardize(kernel, 1e-3, form)
    found, = standardize_gradient(dy, y, kernel, 1e-3, form)
    truth, = gradients.standardize(dy.astype(np.float64), y.astype(np.float64), kernel.astype(np.float64), 1e-3, form)
    assert not y[..., 2].any()
    np.testing.assert_allclose(found[..., 2], truth[..., 2], rtol=1e-6, atol=1e-6 * np.abs(truth).max())


def test_nan_stays_in_its_channel():
    kernel = normal(0, 3, 3, 4, WIDTH + 5)
    kernel[1, 2, 3, 7] = np.nan
    y = standardize(kernel, 1e-6)
    dkernel, = standardize_gradient(normal(1, *kernel.shape), y, kernel, 1e-6)
    for found in y, dkernel:
        assert np.isnan(found[..., 7]).all() and np.isfinite(np.delete(found, 7, -1)).all()


def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 0)
    kernel = normal(0, 3, 3, 6, 5 * WIDTH + 3)
    dy = normal(1, *kernel.shape)
    results = []
    for n in (1, 2, 3):
        with threads.using(n):
            y = standardize(kernel, 1e-6)
            results.append(y.tobytes() + standardize_gradient(dy, y, kernel, 1e-6)[0].tobytes())
    assert len(set(results)) == 1
