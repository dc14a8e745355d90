"""Fit linear classifiers to features, and measure their accuracy on pictures that were not used for the fit.

`ridge` is least squares with the target +1 for the class of a picture and -1 for all other classes. It is the
few-shot probe of the ViT paper (section 4.1). `logistic` is multinomial logistic regression.

Each feature is first standardized to mean 0 and standard deviation 1 over the pictures of the fit. The kernel W is then
rescaled for the original features, which are not standardized. Both methods have L2 regularization with the inverse
strength C. Ridge minimizes the sum of squared errors plus |W|^2 / C. Logistic regression minimizes the sum of the
negative log-probabilities plus |W|^2 / (2 C), or plus |W|^2 / C for two classes. The bias is never regularized.
"""
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..params import Linear
from ..text import name_list
from .logistic import logistic_regression


class FittedProbe(NamedTuple):
    """A fitted classifier, and the results of the cross-validation."""
    head: Linear                          # kernel (D, K), bias (K,), float64, fitted to every picture
    strength: float                       # C
    answers: np.ndarray                   # int (n,): the class that cross-validation predicts for each picture
    accuracies: dict                      # {strength: the mean accuracy over the folds}


def fit_probe(features: Any, classes: np.ndarray, K: int, method: str = "logistic", folds: int | np.ndarray = 5,
              strengths: Sequence[float] | None = None, seed: int = 0, standardize: bool = True) -> FittedProbe:
    """Fit a linear classifier with the C that gives the best accuracy in cross-validation.

    `features` is a float array (n, D). `classes` is an int array (n,) with the numbers 0 to K-1. `method` is a key of
    METHODS. `folds` is the number of folds, or an int array (n,) with the fold of each picture. `strengths` are the
    values of C to choose from. The default strengths are in METHODS. If several strengths are equally good, the
    smallest C is taken. If `standardize` is False, the features are not rescaled.

    Raises ValueError for an unknown method, and for strengths that are not finite numbers above 0. Raises ValueError
    also for features that are not finite, for a class with fewer than two pictures, and for classes or folds that are
    not as described.

    >>> features = np.array([[0., 1], [1, 1], [2, 0], [8, 1], [9, 0], [7, 0]])
    >>> found = fit_probe(features, np.array([0, 0, 0, 1, 1, 1]), 2, "ridge", folds=3)
    >>> found.answers, (features @ found.head.kernel + found.head.bias).argmax(1)
    (array([0, 0, 0, 1, 1, 1]), array([0, 0, 0, 1, 1, 1]))
    """
    fit, strengths = _method(method, strengths)
    classes = np.asarray(classes)
    if classes.dtype.kind not in "iu":
        raise ValueError(f"classes have the dtype {classes.dtype}; expected integers from 0 to {K - 1}")
    if (wrong := classes[(classes < 0) | (classes >= K)]).size:
        raise ValueError(f"classes: found {wrong[0]}; expected integers from 0 to {K - 1}")
    features = checked_features(features, classes, K)
    fold = stratified_folds(classes, folds, seed) if isinstance(folds, (int, np.integer)) else np.asarray(folds)
    if fold.shape != classes.shape or len(np.unique(fold)) < 2:
        raise ValueError(f"folds have the shape {fold.shape} and {len(np.unique(fold))} different numbers; expected "
                         f"the shape {classes.shape} and two folds or more")
    answers = np.empty((len(strengths), len(classes)), int)
    for f in np.unique(fold):
        heads = fit(features[fold != f], classes[fold != f], K, strengths, standardize)
        answers[:, fold == f] = [predict(features[fold == f], head) for head in heads]
    accuracies = [np.mean([(row == classes)[fold == f].mean() for f in np.unique(fold)]) for row in answers]
    best = int(np.argmax(accuracies))
    head, = fit(features, classes, K, strengths[best:best + 1], standardize)
    return FittedProbe(head, strengths[best], answers[best], dict(zip(strengths, map(float, accuracies))))


def predict(features: np.ndarray, head: Linear) -> np.ndarray:
    """The predicted class of each row.  (n, D) -> int (n,)"""
    return (features @ head.kernel + head.bias).argmax(1)


def _method(method, strengths):
    """The function of a method, and the strengths to try, in ascending order."""
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    fit, default_strengths = METHODS[method]
    strengths = sorted(default_strengths if strengths is None else strengths)
    if not strengths or not all(0 < C < np.inf for C in strengths):
        raise ValueError(f"strengths are {strengths}; expected one or more finite numbers above 0")
    return fit, strengths


def checked_features(features: Any, classes: Any, K: int, names: Sequence | None = None) -> np.ndarray:
    """Convert features to float64.  Raises ValueError if no classifier can be fitted to the features.

    `names` are the names of the classes for error messages.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or features.shape[:1] != np.shape(classes):
        raise ValueError(f"features have shape {list(features.shape)} and classes {list(np.shape(classes))}; expected "
                         "[n, D] and [n], with one vector per picture")
    if bad := np.flatnonzero(~np.isfinite(features).all(1)).tolist():
        raise ValueError(f"features are not finite in {len(bad)} rows, the first is row {bad[0]}; expected finite "
                         "numbers")
    check_counts(np.bincount(np.asarray(classes, int), minlength=K).tolist(), names or range(K))
    return features


def check_counts(counts: Sequence[int], names: Sequence, failed: int = 0, copies: int = 0) -> None:
    """Raise ValueError for fewer than two classes, and for a class with fewer than two pictures.

    `counts` holds the number of pictures of each class. `names` are the names of the classes for the message. `failed`
    is the number of pictures that could not be read. `copies` is the number of copies, which are not in `counts`.
    """
    if len(counts) < 2:
        only = f"the only class is {name_list(map(str, names))}" if counts else "there is no class"
        raise ValueError(f"{only}; expected two classes or more")
    if few := [str(name) for name, count in zip(names, counts) if count < 2]:
        read = " could be read" if failed else ""
        different = " different" if copies else ""
        raise ValueError(f"fewer than two{different} pictures of {name_list(few)}{read}; expected two or more"
                         f"{different} pictures of each class")


def stratified_folds(classes: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Assign each picture to a fold, stratified by class.  -> int (n,)

    The pictures are sorted by class, and shuffled within each class. Then the pictures are assigned to the folds 0, 1,
    …, count - 1, 0, 1, … in turn. So the sizes of two folds differ by at most one picture, in total and in each
    class. If there are fewer pictures than folds, each fold contains one picture. Raises ValueError for fewer than
    two folds.

    >>> fold = stratified_folds(np.repeat([0, 1], [6, 4]), 5)
    >>> np.bincount(fold), np.bincount(fold[6:])
    (array([2, 2, 2, 2, 2]), array([0, 1, 1, 1, 1]))
    """
    if count < 2:
        raise ValueError(f"expected two folds or more, found {count}")
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(np.flatnonzero(classes == k)) for k in np.unique(classes)])
    fold = np.empty(len(classes), int)
    fold[order] = np.arange(len(classes)) % count
    return fold


# ---------------------------------------------------------------- the two methods

def ridge(features: np.ndarray, classes: np.ndarray, K: int, strengths: Sequence[float], standardize: bool = True
          ) -> list[Linear]:
    """The few-shot probe in closed form: W = (X'X + I/C)^-1 X'Y, where Y is -1 or 1.  -> [one Linear per strength]"""
    X, mean, deviation = standardized(features, standardize)
    Y = 2 * np.eye(K)[classes] - 1                                              # (n, K)
    axes, squares = principal_axes(X)
    target = axes.T @ (X.T @ Y)                                                 # (R, K)
    return [_rescaled(axes @ (target / (squares + 1 / C)[:, None]), Y.mean(0), mean, deviation) for C in strengths]


def logistic(features: np.ndarray, classes: np.ndarray, K: int, strengths: Sequence[float], standardize: bool = True,
             tolerance: float = 1e-6) -> list[Linear]:
    """Fit multinomial logistic regression.  -> [one Linear per strength]"""
    X, mean, deviation = standardized(features, standardize)
    return [_rescaled(kernel, bias, mean, deviation)
            for kernel, bias in logistic_regression(X, classes, K, strengths, tolerance)]


# {method: (function, strengths to choose from)}. The ranges are wide, so that the best strength is rarely at an end.
METHODS: dict[str, tuple[Callable[..., list[Linear]], tuple]] = {
    "ridge": (ridge, tuple(10.0 ** e for e in range(-6, 5))),
    "logistic": (logistic, tuple(10.0 ** e for e in range(-4, 3)))}


def standardized(features: np.ndarray, standardize: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardize each feature to mean 0 and standard deviation 1.  (n, D) -> features, means (D,), deviations (D,)

    A constant feature becomes 0. If `standardize` is False, only the means are subtracted. The subtraction changes no
    prediction, because the bias is not regularized.
    """
    mean = features.mean(0)
    deviation = features.std(0) if standardize else np.ones(features.shape[1])
    # A feature that varies only by rounding errors counts as constant.
    deviation[deviation <= 1e-12 * np.abs(mean)] = np.inf
    return (features - mean) / deviation, mean, deviation


def principal_axes(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The principal axes of the rows of X.  (n, D) -> axes (D, R) with orthonormal columns, squared lengths (R,)

    R is the smaller of n and D. The columns of X @ axes are orthogonal, and the second result is their squared lengths.
    X @ axes @ axes' is equal to X.
    """
    rows = np.linalg.qr(X.T)[0] if len(X) < X.shape[1] else None                # (D, n)
    Z = X if rows is None else X @ rows
    squares, axes = np.linalg.eigh(Z.T @ Z)
    return axes if rows is None else rows @ axes, squares.clip(0)


def _rescaled(kernel, bias, mean, deviation):
    """Convert the kernel and the bias for standardized features to a Linear for the original features."""
    kernel = kernel / deviation[:, None]
    return Linear(kernel, bias - mean @ kernel)


# ---------------------------------------------------------------- the baseline

MOST_BYTES = 1 << 26                      # the memory for one block of cosines and their sorting indices


def neighbours(features: np.ndarray, classes: np.ndarray, K: int, fold: np.ndarray, k: int = 5) -> np.ndarray:
    """Predict the class of each picture from its k nearest neighbours in the other folds.  -> int (n,)

    The prediction is a baseline that needs no fit. The nearest neighbours are the pictures with the largest cosine
    similarity. The predicted class is the most frequent class among the k neighbours. If several classes are equally
    frequent, the class with the nearest neighbour is taken. Raises ValueError if k is less than 1.

    >>> features = np.array([[1., 0], [2, 0.1], [0, 1], [0.1, 3]])
    >>> neighbours(features, np.array([0, 0, 1, 1]), 2, fold=np.arange(4), k=1)
    array([0, 0, 1, 1])
    """
    if k < 1:
        raise ValueError(f"found {k} neighbours; expected 1 or more")
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths == 0, 1, lengths)
    answers = np.empty(len(classes), int)
    for f in np.unique(fold):
        others, known = unit[fold != f], classes[fold != f]
        members = np.flatnonzero(fold == f)
        block = max(MOST_BYTES // (16 * len(known)), 1)
        for rows in np.split(members, range(block, len(members), block)):
            nearest = _largest(unit[rows] @ others.T, min(k, len(others)))
            votes = np.eye(K, dtype=int)[known[nearest]].sum(1)                 # (rows, K)
            tied = np.take_along_axis(votes, known[nearest], 1) == votes.max(1, keepdims=True)
            answers[rows] = known[nearest][np.arange(len(rows)), tied.argmax(1)]
    return answers


def _largest(x, k):
    """The indices of the k largest numbers in each row, with the largest number first.  (n, m) -> int (n, k)"""
    indices = np.argpartition(x, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(x, indices, 1), axis=1, kind="stable")
    return np.take_along_axis(indices, order, 1)
