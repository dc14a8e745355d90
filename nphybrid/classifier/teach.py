"""Your own classes: from pictures or features with labels to a head, and a report of its accuracy."""
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
    """The features that a model's classifier reads.  -> Features of the pictures that could be read, {position: error}

    digest: SHA-256 of the model's file, `checkpoint.sha256`, which a head keeps. sources: as from `find_pictures`.
    watched: a function from rows to the same rows, for progress. Raises ValueError for a model without an image
    processor.
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
    """The classes of the pictures that could be read.  names: that of each picture; errors: positions of the others

    Raises ValueError if there is only one class, and for classes of which fewer than two pictures could be read.

    >>> readable_names(["cat", "cat", "dog", "cat", "dog"], {1: "is empty"})
    ['cat', 'dog', 'cat', 'dog']
    """
    readable = [name for i, name in enumerate(names) if i not in errors]
    labels, counts = in_order(names), Counter(readable)
    probe.check_counts([counts[label] for label in labels], labels, len(names) - len(readable))
    return readable


def fit_head(features: Features, names: Sequence[str], method: str = "logistic", folds: int = 5, seed: int = 0,
             neighbours: int = 5) -> tuple[Head, dict]:
    """A head for features of pictures whose classes are known, and its report as JSON.

    features: one vector per picture. names: the class of each. method: "logistic" or "ridge". folds: of
    cross-validation, at most one per picture. neighbours: how many the baseline uses. Raises ValueError for features
    that are not vectors, and for classes of fewer than two pictures.

    The report's accuracy is that of cross-validation: each picture is classified by a classifier that was not fitted
    to it. The strength is chosen by the same accuracy, which makes it slightly optimistic.

    >>> values = np.random.default_rng(0).normal(size=(20, 3)) + 4 * np.eye(3)[np.arange(20) % 2]
    >>> features = Features(values, list("abcdefghijklmnopqrst"), "", "norm", "token")
    >>> head, report = fit_head(features, ["cat", "dog"] * 10)
    >>> head.labels, head.kernel.shape, report["accuracy"]["right"]
    (['cat', 'dog'], (3, 2), 20)
    """
    labels = in_order(names)
    classes, K = np.array([labels.index(name) for name in names]), len(labels)
    values = probe.checked_features(features.values, classes, K, labels)
    fold = probe.stratified_folds(classes, folds, seed)
    found = probe.fit_probe(values, classes, K, method, fold)
    nearest = probe.neighbours(values, classes, K, fold, neighbours)
    made = {"method": method, "strength": found.strength, "pictures": len(names), "folds": int(fold.max()) + 1,
            "seed": seed, "accuracy": _accuracy(found.answers, classes)}
    head = Head(found.head.kernel.astype(np.float32), found.head.bias.astype(np.float32), labels,
                features.model or None, features.state, features.pool, made)
    tried = [{"strength": C, "accuracy": share} for C, share in found.accuracies.items()]
    return head, {**made, "features": values.shape[1], "labels": labels, "strengths": tried,
                  "neighbours": {"k": neighbours, **_accuracy(nearest, classes)},
                  "confusion": scores.confusion(classes, found.answers, K).tolist()}


def _accuracy(answers, classes):
    return scores.accuracy_fields((answers == classes).sum(), len(classes))


def text(report: dict) -> str:
    """A report of `fit_head` as text."""
    right, nearest = report["accuracy"], report["neighbours"]
    tried = [row["strength"] for row in report["strengths"]]
    edge = ", the end of those that were tried" if report["strength"] in (tried[0], tried[-1]) else ""
    return "\n".join([
        f"{report['pictures']:,} pictures of {len(report['labels']):,} classes, {report['features']:,} features; each "
        f"classified by a classifier that was fitted to the other folds of {report['folds']}",
        f"{report['method']:20}  {scores.accuracy_text(right['right'], right['count'])}  C = {report['strength']:g}, "
        f"of {tried[0]:g} to {tried[-1]:g}{edge}",
        f"{nearest['k']:2} nearest neighbours  {scores.accuracy_text(nearest['right'], nearest['count'])}", "",
        scores.confusion_table(np.array(report["confusion"]), report["labels"])])
