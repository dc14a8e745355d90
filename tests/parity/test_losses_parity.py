"""The three losses against the ones transformers calls."""
from types import SimpleNamespace

import numpy as np
import pytest

from nphybrid.api.losses import loss

from tools.on_demand import on_demand

torch, upstream = on_demand("torch"), on_demand("transformers.loss.loss_utils")


@pytest.fixture
def rng():
    return np.random.default_rng(20260405)


def theirs(logits, labels, problem_type=None):
    config = SimpleNamespace(num_labels=logits.shape[1], problem_type=problem_type)
    return upstream.ForSequenceClassificationLoss(torch.from_numpy(labels), torch.from_numpy(logits), config).numpy()


CASES = [
    (1, lambda rng: rng.normal(size=5), None),
    (1, lambda rng: rng.normal(size=(5, 1)), None),
    (1, lambda rng: rng.integers(0, 9, 5), None),
    (4, lambda rng: rng.normal(size=(5, 4)), "regression"),
    (4, lambda rng: rng.integers(0, 4, 5), None),
    (4, lambda rng: rng.integers(0, 4, (5, 1)), None),
    (4, lambda rng: np.array([0, -100, 3, -100, 1]), None),
    (4, lambda rng: np.full(5, -100), None),
    (4, lambda rng: rng.integers(0, 2, (5, 4)).astype(float), None),
    (4, lambda rng: rng.uniform(size=(5, 4)), "multi_label_classification"),
    (1, lambda rng: rng.uniform(size=(5, 1)), "multi_label_classification"),
    (1, lambda rng: np.zeros(5, int), "single_label_classification"),
]


# relative.                                            observed: float64 4e-16, float32 2e-7
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("K, labels, problem_type", CASES, ids=range(len(CASES)))
def test_loss_is_upstreams(rng, K, labels, problem_type, dtype, tolerance):
    logits, labels = rng.normal(0, 3, (5, K)).astype(dtype), labels(rng)
    labels = labels.astype(dtype) if labels.dtype.kind == "f" else labels
    ours = loss(logits, labels, problem_type)
    assert ours.dtype == dtype
    assert ours == pytest.approx(float(theirs(logits, labels, problem_type)), rel=tolerance, abs=1e-30,
                                 nan_ok=True)


@pytest.mark.parametrize("scale", [50, 1e4])
@pytest.mark.parametrize("labels", [np.array([0, 3, 1]), np.eye(3, 4)], ids=["single", "multi"])
def test_far_logits(rng, scale, labels):
    logits = rng.normal(0, scale, (3, 4))
    assert loss(logits, labels) == pytest.approx(float(theirs(logits, labels)), rel=1e-14)  # observed 2e-16


def test_one_picture_and_one_class():
    logits, labels = np.array([[3.0]]), np.array([1.0])
    assert loss(logits, labels) == theirs(logits, labels) == 4


def test_nan_where_every_label_is_ignored():
    logits, labels = np.zeros((2, 3)), np.array([-100, -100])
    assert np.isnan(theirs(logits, labels))
    assert np.isnan(loss(logits, labels))


def test_what_upstream_refuses_is_refused():
    logits = np.zeros((2, 3))
    for labels in (np.array([0, 3]), np.zeros((2, 3), int), np.zeros(2), np.zeros((3, 2))):
        with pytest.raises((ValueError, IndexError, RuntimeError)):
            theirs(logits, labels)
        with pytest.raises(ValueError):
            loss(logits, labels)
