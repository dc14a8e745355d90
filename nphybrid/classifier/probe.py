"""Linear classifiers on features: how they are fitted, and how well they do on pictures they were not fitted to.

    ridge      least squares onto +1 for a picture's class and -1 for the others   ViT, section 4.1: the few-shot probe
    logistic   multinomial logistic regression

Features are standardized first, each to mean 0 and standard deviation 1 over the pictures that are fitted, and the
kernel is led back to the features as they are: a head knows nothing of it. How little the kernel is held back is C for
both, 1 / C being the factor of the squared kernel beside the sum over pictures (of half of it beside the sum of
logarithms); no bias is ever held back.
"""
from typing import NamedTuple

import numpy as np

from ..params import Linear
from ..text import name_list
from .logistic import logistic as _solved


class Fitted(NamedTuple):
    """A classifier, and what it answered for pictures that it was not fitted to."""
    head: Linear                          # kernel (D, K), bias (K,), float64, fitted to every picture
    strength: float                       # C
    answers: np.ndarray                   # int (n,), of the classifier of the folds that a picture is not in
    accuracies: dict                      # {strength: mean over folds of the share of right answers}


def fitted(features, classes, K, method="logistic", folds=5, strengths=None, seed=0, standardize=True):
    """Fit a linear classifier, its strength chosen by cross-validation.  -> Fitted

    features: floats (n, D); classes: int (n,) in 0 .. K-1; method: of METHODS; folds: how many, or the fold of each
    picture, int (n,); strengths: the C to choose from, by default the method's own; standardize: False takes features
    as they are. Of strengths that do equally well the smallest is taken. Raises ValueError for a method that there is
    not, strengths that are no finite numbers above 0, features that are not finite, and where a class has fewer than
    two pictures.

    >>> features = np.array([[0., 1], [1, 1], [2, 0], [8, 1], [9, 0], [7, 0]])
    >>> found = fitted(features, np.array([0, 0, 0, 1, 1, 1]), 2, "ridge", folds=3)
    >>> found.answers, (features @ found.head.kernel + found.head.bias).argmax(1)
    (array([0, 0, 0, 1, 1, 1]), array([0, 0, 0, 1, 1, 1]))
    """
    fit, strengths = _chosen(method, strengths)
    features = checked(features, classes, K)
    fold = dealt(classes, folds, seed) if np.ndim(folds) == 0 else folds
    answers = np.empty((len(strengths), len(classes)), int)
    for f in np.unique(fold):
        heads = fit(features[fold != f], classes[fold != f], K, strengths, standardize)
        answers[:, fold == f] = [answered(features[fold == f], head) for head in heads]
    accuracies = [np.mean([(row == classes)[fold == f].mean() for f in np.unique(fold)]) for row in answers]
    best = int(np.argmax(accuracies))
    head, = fit(features, classes, K, strengths[best:best + 1], standardize)
    return Fitted(head, strengths[best], answers[best], dict(zip(strengths, map(float, accuracies))))


def answered(features, head):
    """The class that each row is given.  (n, D) -> int (n,)"""
    return (features @ head.kernel + head.bias).argmax(1)


def _chosen(method, strengths):
    """What fits, and the strengths to try, in order."""
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    fit, usual = METHODS[method]
    strengths = sorted(usual if strengths is None else strengths)
    if not strengths or not all(0 < C < np.inf for C in strengths):
        raise ValueError(f"strengths are {strengths}; expected finite numbers above 0, one or more")
    return fit, strengths


def checked(features, classes, K, names=None):
    """Features in float64.  Raises ValueError for what cannot be fitted.  names: what to call the classes"""
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or features.shape[:1] != np.shape(classes):
        raise ValueError(f"features have shape {list(features.shape)} and classes {list(np.shape(classes))}; expected "
                         "[n, D] and [n]: one vector per picture")
    if bad := np.flatnonzero(~np.isfinite(features).all(1)).tolist():
        raise ValueError(f"the features of row {bad[0]} are not finite, and of {len(bad)} rows in all")
    check_counts(np.bincount(np.asarray(classes, int), minlength=K).tolist(), names or range(K))
    return features


def check_counts(counts, names, failed=0):
    """Raise ValueError for classes that cannot be told apart.

    counts: how many pictures there are of each; names: what to call them; failed: how many more could not be read.
    """
    if len(counts) < 2:
        only = f"the only class is {name_list(map(str, names))}" if counts else "there is no class"
        raise ValueError(f"{only}; expected two classes or more")
    if few := [str(name) for name, count in zip(names, counts) if count < 2]:
        raise ValueError(f"fewer than two pictures of {name_list(few)}{' could be read' if failed else ''}; expected two "
                         "or more of each class")


def dealt(classes, count, seed=0):
    """The fold of each picture: every class is shuffled, and dealt like cards, one class after the other.  -> int (n,)

    So folds differ by one picture at most, and so do the pictures that they have of a class. Of fewer pictures than
    folds each has one of its own.

    >>> fold = dealt(np.repeat([0, 1], [6, 4]), 5)
    >>> np.bincount(fold), np.bincount(fold[6:])
    (array([2, 2, 2, 2, 2]), array([0, 1, 1, 1, 1]))
    """
    if count < 2:
        raise ValueError(f"{count} folds; expected two or more")
    rng, fold = np.random.default_rng(seed), np.empty(len(classes), int)
    order = np.concatenate([rng.permutation(np.flatnonzero(classes == k)) for k in np.unique(classes)])
    fold[order] = np.arange(len(classes)) % count
    return fold


# ---------------------------------------------------------------- the two methods

def ridge(features, classes, K, strengths, standardize=True):
    """The few-shot probe, in closed form: W = (X'X + 1/C)^-1 X'Y, Y in {-1, 1}.  -> [Linear, …], one per strength"""
    X, mean, deviation = standardized(features, standardize)
    Y = 2 * np.eye(K)[classes] - 1                                              # (n, K)
    axes, squares = principal_axes(X)
    target = axes.T @ (X.T @ Y)                                                 # (R, K)
    return [_led_back(axes @ (target / (squares + 1 / C)[:, None]), Y.mean(0), mean, deviation) for C in strengths]


def logistic(features, classes, K, strengths, standardize=True, tolerance=1e-6):
    """Multinomial logistic regression.  -> [Linear, …], one per strength"""
    X, mean, deviation = standardized(features, standardize)
    return [_led_back(kernel, bias, mean, deviation)
            for kernel, bias in _solved(X, classes, K, strengths, tolerance)]


# Each with the strengths to choose from, the best of which should lie between them.
METHODS = {"ridge": (ridge, tuple(10.0 ** e for e in range(-6, 5))),
           "logistic": (logistic, tuple(10.0 ** e for e in range(-4, 3)))}


def standardized(features, standardize=True):
    """(n, D) -> the same with means 0 and standard deviations 1 (0 where a feature never varies), and both (D,)

    With standardize False the means alone are taken off, which without a held back bias changes no answer.
    """
    mean, deviation = features.mean(0), features.std(0) if standardize else np.ones(features.shape[1])
    # What differs by its rounding alone does not vary.
    deviation[deviation <= 1e-12 * np.abs(mean)] = np.inf
    return (features - mean) / deviation, mean, deviation


def principal_axes(X):
    """The directions in which rows differ.  (n, D) -> axes (D, R) with orthonormal columns, squared lengths (R,)

    R is the smaller of n and D; X @ axes holds all of X, in columns at right angles to each other.
    """
    rows = np.linalg.qr(X.T)[0] if len(X) < X.shape[1] else None                # (D, n)
    Z = X if rows is None else X @ rows
    squares, axes = np.linalg.eigh(Z.T @ Z)
    return axes if rows is None else rows @ axes, squares.clip(0)


def _led_back(kernel, bias, mean, deviation):
    """The Linear that does with features what kernel and bias do with standardized ones."""
    kernel = kernel / deviation[:, None]
    return Linear(kernel, bias - mean @ kernel)


# ---------------------------------------------------------------- the baseline

MOST_BYTES = 1 << 26                      # of a block of cosines and of the places that sort it, 8 bytes each


def neighbours(features, classes, K, fold, k=5):
    """What the k nearest pictures of other folds are, by cosine: a baseline that fits nothing.  -> int (n,)

    The class that most of the k have; of several such classes, that of the nearest picture.

    >>> features = np.array([[1., 0], [2, 0.1], [0, 1], [0.1, 3]])
    >>> neighbours(features, np.array([0, 0, 1, 1]), 2, fold=np.arange(4), k=1)
    array([0, 0, 1, 1])
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths == 0, 1, lengths)
    answers = np.empty(len(classes), int)
    for f in np.unique(fold):
        others, known = unit[fold != f], classes[fold != f]
        of_fold, at_once = np.flatnonzero(fold == f), max(MOST_BYTES // (16 * len(known)), 1)
        for rows in np.split(of_fold, range(at_once, len(of_fold), at_once)):
            nearest = _largest(unit[rows] @ others.T, min(k, len(others)))
            votes = np.eye(K, dtype=int)[known[nearest]].sum(1)                 # (rows, K)
            tied = np.take_along_axis(votes, known[nearest], 1) == votes.max(1, keepdims=True)
            answers[rows] = known[nearest][np.arange(len(rows)), tied.argmax(1)]
    return answers


def _largest(x, k):
    """The places of the k largest numbers of each row, the largest first.  (n, m) -> int (n, k)"""
    places = np.argpartition(x, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(x, places, 1), axis=1, kind="stable")
    return np.take_along_axis(places, order, 1)
