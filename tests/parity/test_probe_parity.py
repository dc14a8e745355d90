"""The probes against scikit-learn: the same folds, strengths and tolerance."""
import time

import numpy as np
import pytest

from nphybrid import ViTHybridForImageClassification, default_model
from nphybrid.api import extractor
from nphybrid.batch import run
from nphybrid.classifier import probe, scores
from nphybrid.classifier.logistic import logistic_regression, loss

from tools.on_demand import on_demand

pytestmark = pytest.mark.slow

datasets, linear_model, metrics = (on_demand(f"sklearn.{name}") for name in ("datasets", "linear_model", "metrics"))
neighbors, threadpoolctl = on_demand("sklearn.neighbors"), on_demand("threadpoolctl")

STRENGTHS, TOLERANCE, COUNT = (1e-4, 1e-2, 1.0), 1e-6, 400


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices on many threads take longer, and far longer where the cores have other work."""
    with threadpoolctl.threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def digits():
    """What the bundled network makes of 400 handwritten digits, a set it never saw, standardized.  -> X, y"""
    data = datasets.load_digits()
    model = ViTHybridForImageClassification.from_pretrained(default_model())
    prepare = run.preparer(model.processor)
    grey = np.round(data.images[:COUNT] * (255 / 16)).astype(np.uint8)
    x = np.stack([prepare(np.repeat(image[..., None], 3, -1)) for image in grey])
    compute = extractor.extractor(model, x[:1]).compute
    features = np.concatenate([compute(x[i:i + 50]) for i in range(0, COUNT, 50)]).astype(np.float64)
    return probe.standardized(features)[0], data.target[:COUNT]


def test_cross_validated_logistic_regression(digits):
    """Same strength, loss to 1e-6, accuracy to 0.2 points; how long either took is printed, and not asserted."""
    X, y = digits
    fold, start = probe.stratified_folds(y, 5), time.perf_counter()
    ours = probe.fit_probe(X, y, 10, "logistic", fold, STRENGTHS, standardize=False)
    seconds, start = time.perf_counter() - start, time.perf_counter()
    splits = [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(5)]
    options = dict(Cs=STRENGTHS, cv=splits, tol=TOLERANCE, max_iter=10_000, scoring="accuracy", l1_ratios=(0,))
    if "use_legacy_attributes" in linear_model.LogisticRegressionCV().get_params():
        options["use_legacy_attributes"] = False
    theirs = linear_model.LogisticRegressionCV(**options).fit(X, y)
    print(f"nphybrid {seconds:.2f} s, scikit-learn {time.perf_counter() - start:.2f} s")
    assert np.ravel(theirs.C_)[0] == ours.strength
    values = [loss(X, y, *pair, ours.strength) for pair in (ours.head, (theirs.coef_.T, theirs.intercept_))]
    assert abs(values[0] - values[1]) < 1e-6                # observed 4e-10
    assert values[0] <= values[1] + 1e-9
    assert np.mean(probe.predict(X, ours.head) != theirs.predict(X)) <= 0.002
    grid = theirs.scores_[0] if isinstance(theirs.scores_, dict) else theirs.scores_
    assert np.abs(np.reshape(grid, (5, -1)).mean(0) - list(ours.accuracies.values())).max() <= 0.002


@pytest.mark.parametrize("K", [2, 10])
def test_the_optimum_is_scikit_learns(digits, K):
    """Two classes too, of which scikit-learn fits one direction."""
    X, y = digits[0], digits[1] % K
    (W, b), = logistic_regression(X, y, K, [0.05], 1e-9)
    theirs = linear_model.LogisticRegression(C=0.05, tol=1e-9, max_iter=10_000).fit(X, y)
    W, b = (W, b) if K > 2 else (W[:, 1:] - W[:, :1], b[1:] - b[:1])
    assert np.abs(W - theirs.coef_.T).max() < 1e-5 and np.abs(b - theirs.intercept_).max() < 1e-4


def test_ridge_is_scikit_learns(digits):
    X, y = digits
    for C, head in zip((0.01, 1.0), probe.ridge(X, y, 10, (0.01, 1.0))):
        theirs = linear_model.Ridge(alpha=1 / C, solver="cholesky").fit(X, np.where(np.eye(10)[y] > 0, 1.0, -1.0))
        assert np.abs(X @ head.kernel + head.bias - theirs.predict(X)).max() < 1e-8


def test_neighbours_and_confusion_are_scikit_learns(digits):
    X, y = digits
    fold = probe.stratified_folds(y, 4)
    for k in (1, 5):
        theirs = np.empty(len(y), int)
        for f in range(4):
            peer = neighbors.KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(X[fold != f], y[fold != f])
            theirs[fold == f] = peer.predict(X[fold == f])
        ours = probe.neighbours(X, y, 10, fold, k)
        # Of several classes with equally many of the five, scikit-learn takes the smallest, and we the nearest.
        assert np.mean(ours != theirs) <= (0 if k == 1 else 0.06)
        assert (scores.confusion(y, ours, 10) == metrics.confusion_matrix(y, ours)).all()
