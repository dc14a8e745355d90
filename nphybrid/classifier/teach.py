"""Fit a head for your own classes to the features of labelled pictures, and report the accuracy of the head."""
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence

import numpy as np

from ..api.base import Model
from ..batch import run
from ..batch.inputs import source_name
from ..checkpoint import Head
from ..features.contents import Features
from . import probe, scores
from .classes import in_order


def features_of(model: Model, digest: str, sources: Iterable, batch: int = 8,
                watched: Callable[[Iterable[run.Row]], Iterable[run.Row]] = lambda rows: rows
                ) -> tuple[Features, dict]:
    """Compute the features of pictures.  The features are the input of the model's classifier.

    `digest` is the SHA-256 of the model's file, from `checkpoint.sha256`. A head stores this digest. `sources` are
    pictures, as `find_pictures` returns them. `watched` is a function that takes the rows of results and returns the
    rows unchanged. The function may show progress. Returns the Features of the pictures that could be read, and
    {position: error} of all other pictures. Raises ValueError for a model without an image processor.
    """
    prepare, extractor = run.preparer_and_extractor(model)
    good, errors = [], {}
    for row in watched(run.compute_rows(sources, prepare, extractor.compute, batch, workers=model.num_threads)):
        if row.error is None:
            good.append(row)
        else:
            errors[row.position] = row.error
    values = np.array([row.result for row in good], np.float32).reshape(len(good), *extractor.shape)
    return Features(values, [source_name(row.source) for row in good], digest, extractor.state, extractor.pool), errors


def readable_names(names: Sequence[str], errors: Container[int] = ()) -> list[str]:
    """The classes of the pictures that could be read.

    `names` holds the class of each picture. `errors` holds the positions of the pictures that could not be read. Raises
    ValueError if there is only one class, and for a class with fewer than two pictures that could be read.

    >>> readable_names(["cat", "cat", "dog", "cat", "dog"], {1: "is empty"})
    ['cat', 'dog', 'cat', 'dog']
    """
    readable = [name for i, name in enumerate(names) if i not in errors]
    labels, counts = in_order(names), Counter(readable)
    probe.check_counts([counts[label] for label in labels], labels, len(names) - len(readable))
    return readable


def fit_head(features: Features, names: Sequence[str], method: str = "logistic", folds: int = 5, seed: int = 0,
             neighbours: int = 5) -> tuple[Head, dict]:
    """Fit a head to the features of pictures with known classes.  Returns the head, and a report as JSON.

    `features` holds one vector per picture. `names` holds the class of each picture. `method` is "logistic" or "ridge".
    `folds` is the number of folds of the cross-validation. There is at most one fold per picture. `seed` is the seed of
    the random folds. `neighbours` is the number of nearest neighbours that the baseline uses. Raises ValueError for
    features that are not vectors, and for a class with fewer than two pictures.

    If pictures of one class have equal features, only the first one is used. A copy in another fold would make the
    accuracy too high.

    The report contains the accuracy of the cross-validation. Each picture is classified by a classifier that was fitted
    without this picture. The strength of the regularization is chosen for the best accuracy, so the reported accuracy
    is slightly too high.

    >>> values = np.random.default_rng(0).normal(size=(20, 3)) + 4 * np.eye(3)[np.arange(20) % 2]
    >>> features = Features(values, list("abcdefghijklmnopqrst"), "", "norm", "token")
    >>> head, report = fit_head(features, ["cat", "dog"] * 10)
    >>> head.labels, head.kernel.shape, report["accuracy"]["right"]
    (['cat', 'dog'], (3, 2), 20)
    """
    labels = in_order(names)
    classes, K = np.array([labels.index(name) for name in names]), len(labels)
    values = probe.checked_features(features.values, classes, K, labels)
    kept = _first_of_copies(features.values, classes)
    values, classes, copies = values[kept], classes[kept], len(names) - len(kept)
    probe.check_counts(np.bincount(classes, minlength=K).tolist(), labels, copies=copies)
    fold = probe.stratified_folds(classes, folds, seed)
    found = probe.fit_probe(values, classes, K, method, fold)
    nearest = probe.neighbours(values, classes, K, fold, neighbours)
    made = {"method": method, "strength": found.strength, "pictures": len(kept), "folds": int(fold.max()) + 1,
            "seed": seed, "accuracy": _accuracy(found.answers, classes)}
    head = Head(found.head.kernel.astype(np.float32), found.head.bias.astype(np.float32), labels,
                features.model or None, features.state, features.pool, made)
    tried = [{"strength": C, "accuracy": share} for C, share in found.accuracies.items()]
    return head, {**made, "copies": copies, "features": values.shape[1], "labels": labels, "strengths": tried,
                  "neighbours": {"k": neighbours, **_accuracy(nearest, classes)},
                  "confusion": scores.confusion(classes, found.answers, K).tolist()}


def _first_of_copies(values, classes):
    """The positions of the pictures, without those whose features and class an earlier picture has.  -> int (m,)"""
    first = {}
    for i, (row, k) in enumerate(zip(values, classes)):
        first.setdefault((row.tobytes(), int(k)), i)
    return np.array(list(first.values()))


def _accuracy(answers, classes):
    return scores.accuracy_fields((answers == classes).sum(), len(classes))


def text(report: dict) -> str:
    """The report of `fit_head` as text."""
    right, nearest = report["accuracy"], report["neighbours"]
    tried = [row["strength"] for row in report["strengths"]]
    edge = "; C is at an end of this range" if report["strength"] in (tried[0], tried[-1]) else ""
    copies = (f"{report['copies']:,} more pictures are copies of these pictures and were left out. "
              if report["copies"] else "")
    return "\n".join([
        f"{report['pictures']:,} pictures of {len(report['labels']):,} classes, {report['features']:,} features. "
        f"{copies}Cross-validation with {report['folds']} folds: each fold is classified by a classifier that was "
        "fitted to the other folds.",
        f"{report['method']:20}  {scores.accuracy_text(right['right'], right['count'])}  C = {report['strength']:g}, "
        f"chosen from {tried[0]:g} to {tried[-1]:g}{edge}",
        f"{nearest['k']:2} nearest neighbours  {scores.accuracy_text(nearest['right'], nearest['count'])}", "",
        scores.confusion_table(np.array(report["confusion"]), report["labels"])])
