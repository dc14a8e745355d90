"""The three losses against loops over single numbers, the choice between them, and what they refuse."""
import math

import numpy as np
import pytest

from nphybrid.api.losses import PROBLEM_TYPES, binary_cross_entropy, cross_entropy, loss, mean_squared_error

# relative.                       observed: float64 2e-16, float32 1e-7
TOLERANCE = {"float64": 1e-14, "float32": 1e-6}


@pytest.fixture
def rng():
    return np.random.default_rng(20260403)


@pytest.fixture(params=TOLERANCE)
def dtype(request):
    return request.param


# -- the definitions -------------------------------------------------------------------------------

def squares(logits, labels):
    pairs = list(zip(logits.ravel().tolist(), np.ravel(labels).tolist(), strict=True))
    return math.fsum((x - y) ** 2 for x, y in pairs) / len(pairs)


def surprise(logits, labels):
    """The mean of -log(softmax(x)[label]), over the labels that count."""
    each = [-math.log(math.exp(x[y]) / math.fsum(map(math.exp, x)))
            for x, y in zip(logits.tolist(), labels) if y != -100]
    return math.fsum(each) / len(each)


def bits(logits, labels):
    def one(x, y):
        s = 1 / (1 + math.exp(-x))
        return -(y * math.log(s) + (1 - y) * math.log(1 - s))
    pairs = list(zip(logits.ravel().tolist(), labels.ravel().tolist(), strict=True))
    return math.fsum(one(x, y) for x, y in pairs) / len(pairs)


def check(actual, expected, dtype):
    assert (actual.dtype, actual.shape) == (dtype, ())
    assert actual == pytest.approx(expected, rel=TOLERANCE[dtype])


@pytest.mark.parametrize("K", [1, 3])
def test_mean_squared_error_is_its_definition(rng, dtype, K):
    logits, labels = rng.normal(1, 2, (5, K)).astype(dtype), rng.normal(size=(5, K))
    check(mean_squared_error(logits, labels.astype(dtype)), squares(logits, labels.astype(dtype)), dtype)


@pytest.mark.parametrize("labels", [[0, 6, 3, 3, 2], [-100, 6, -100, 0, 1], [-100, -100, -100, -100, 5]])
def test_cross_entropy_is_its_definition(rng, dtype, labels):
    logits = rng.normal(0, 2, (5, 7)).astype(dtype)
    check(cross_entropy(logits, np.array(labels)), surprise(logits, labels), dtype)


def test_binary_cross_entropy_is_its_definition(rng, dtype):
    logits, labels = rng.normal(0, 3, (5, 7)).astype(dtype), rng.uniform(size=(5, 7)).astype(dtype)
    check(binary_cross_entropy(logits, labels), bits(logits, labels), dtype)


# -- worked by hand --------------------------------------------------------------------------------

def test_worked_by_hand():
    assert mean_squared_error(np.array([[1.0, 2], [3, 4]]), np.array([[1, 0], [0, 4]])) == (4 + 9) / 4
    assert cross_entropy(np.zeros((2, 8)), np.array([0, 7])) == pytest.approx(math.log(8))
    assert cross_entropy(np.log([[1.0, 2, 5]]), np.array([2])) == pytest.approx(math.log(8 / 5))
    assert binary_cross_entropy(np.zeros((2, 3)), np.ones((2, 3))) == pytest.approx(math.log(2))


def test_losses_do_not_overflow():
    far = np.float32([[3e4, -3e4]])
    assert cross_entropy(far, np.array([0])) == 0
    assert cross_entropy(far, np.array([1])) == 6e4
    assert binary_cross_entropy(far, np.float32([[0, 1]])) == 3e4
    assert binary_cross_entropy(far, np.float32([[1, 0]])) == 0


# -- ignored labels --------------------------------------------------------------------------------

def test_an_ignored_label_does_not_count(rng):
    logits = rng.normal(size=(4, 3))
    counted = cross_entropy(logits[[0, 2]], np.array([2, 0]))
    assert cross_entropy(logits, np.array([2, -100, 0, -100])) == counted


@pytest.mark.parametrize("kind", ["int64", "int32", "int16", "int8"])
def test_nothing_but_ignored_labels_is_nan_of_the_logits_dtype(dtype, kind):
    value = cross_entropy(np.zeros((2, 3), dtype), np.array([-100, -100], kind))
    assert math.isnan(value)
    assert value.dtype == dtype


# -- the choice ------------------------------------------------------------------------------------

@pytest.mark.parametrize("K, labels, chosen", [
    (1, np.array([0.5, 2.0]), mean_squared_error),
    (1, np.array([1, 2]), mean_squared_error),
    (3, np.array([1, 2]), cross_entropy),
    (3, np.array([1, 2], np.uint8), cross_entropy),
    (3, np.array([[1], [2]]), cross_entropy),
    (3, np.array([[0.0, 1, 1], [1, 0, 0]]), binary_cross_entropy),
    (3, np.array([[0.0, 1, 1], [1, 0, 0]], np.float32), binary_cross_entropy),
    (3, np.array([[False, True, True], [True, False, False]]), binary_cross_entropy),
])
def test_the_loss_follows_from_what_is_given(rng, K, labels, chosen):
    logits = rng.normal(size=(2, K))
    assert loss(logits, labels) == chosen(logits, labels)


def test_lists_are_labels_too(rng):
    logits = rng.normal(size=(2, 3))
    assert loss(logits, [1, 2]) == cross_entropy(logits, np.array([1, 2]))


@pytest.mark.parametrize("kind, chosen", [
    ("regression", mean_squared_error), ("single_label_classification", cross_entropy),
    ("multi_label_classification", binary_cross_entropy)])
def test_a_stated_problem_overrules_the_choice(rng, kind, chosen):
    logits, labels = rng.normal(size=(2, 1)), np.array([[0], [0]])
    values = [f(logits, labels) for f in (mean_squared_error, cross_entropy, binary_cross_entropy)]
    assert len(set(values)) == 3
    assert loss(logits, labels, kind) == chosen(logits, labels)


# -- refused ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("problem_type, labels, said", [
    (None, np.array([0, 3]), ["single-label loss: a label is 3; expected 0 to 2, or -100"]),
    (None, np.array([-1, 0]), ["single-label loss: a label is -1; expected 0 to 2, or -100"]),
    (None, np.array([0, -99]), ["single-label loss: a label is -99; expected 0 to 2, or -100"]),
    (None, np.array([0, 1, 2]), ["(3,)", "(2,)"]),
    (None, np.array([[0, 1, 2], [0, 1, 2]]), ["(6,)", "(2,)"]),
    (None, np.array(0), ["(1,)", "(2,)"]),
    (None, np.array([0.0, 1.0]), ["multi-label", "(2,) and dtype float64", "(2, 3)"]),
    (None, np.zeros((3, 2)), ["multi-label", "(3, 2)", "(2, 3)"]),
    ("single_label_classification", np.array([0.0, 1.0]), ["labels are float64; expected one integer"]),
    ("multi_label_classification", np.array([0, 1]), ["(2,)", "(2, 3)"]),
    ("regression", np.array([0.0, 1.0]), ["regression", "(2,)", "(2, 3)"]),
    ("ranking", np.array([0, 1]), ["ranking", *PROBLEM_TYPES]),
    (None, np.array(["cat", "dog"]), ["labels have dtype <U3; expected integers (B,), or numbers (B, K)"]),
    (None, np.array(None), ["labels have dtype object; expected integers (B,), or numbers (B, K)"]),
])
def test_labels_that_do_not_fit_are_refused(problem_type, labels, said):
    with pytest.raises(ValueError) as refused:
        loss(np.zeros((2, 3)), labels, problem_type)
    assert all(words in str(refused.value) for words in said)


def test_a_regression_does_not_broadcast():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        loss(np.zeros((2, 1)), np.zeros((3, 1)))
