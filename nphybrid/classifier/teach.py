"""Your own classes: from pictures or features with labels to a head, and a report of how good it is."""
from collections import Counter

import numpy as np

from ..api import extractor as states
from ..batch import run
from ..batch.inputs import source_name
from ..checkpoint import Head
from ..features.contents import Features
from . import probe, scores
from .classes import in_order


def features_of(model, digest, sources, batch=8, watched=lambda rows: rows):
    """What a model's head reads, of pictures.  -> Features of those that could be read, {position: error} of the others

    digest: SHA-256 of the model's file, `checkpoint.sha256`, by which a head knows its model. sources: as
    `inputs.listed` gives them. watched: what shows progress, from rows to rows. Raises ValueError for a model without
    an image processor.
    """
    if model.processor is None:
        raise ValueError("this model came without an image processor; pictures cannot be prepared for it")
    prepare = run.preparer(model.processor)
    extractor = states.extractor(model, prepare(np.zeros((64, 64, 3), np.uint8))[None])
    good, errors = [], {}
    for row in watched(run.compute_rows(sources, prepare, extractor.compute, batch, workers=model.num_threads)):
        if row.error is None:
            good.append(row)
        else:
            errors[row.position] = row.error
    values = np.array([row.result for row in good], np.float32).reshape(len(good), *extractor.shape)
    return Features(values, [source_name(row.source) for row in good], digest, extractor.state, extractor.pool), errors


def remaining(names, errors=()):
    """The classes of the pictures that could be read.  names: of each class; errors: positions.  -> list of str

    Raises ValueError where there is one class alone, and for classes of which fewer than two pictures could be read.

    >>> remaining(["cat", "cat", "dog", "cat", "dog"], {1: "is empty"})
    ['cat', 'dog', 'cat', 'dog']
    """
    left, labels = [name for i, name in enumerate(names) if i not in errors], in_order(names)
    counts = Counter(left)
    probe.check_counts([counts[label] for label in labels], labels, len(errors))
    return left


def taught(features, names, method="logistic", folds=5, seed=0, neighbours=5):
    """A head for features of pictures whose classes are known.  -> Head, report as JSON

    features: Features of one vector per picture. names: the class of each, str. method: "logistic" or "ridge". The
    report's accuracy is that of cross-validation, in which every picture is answered by a classifier that was not
    fitted to it; the strength was chosen by it too, which flatters it a little. folds: at most one per picture.
    neighbours: how many the baseline asks. Raises ValueError for features that are no vectors, and for classes of fewer
    than two pictures.

    >>> values = np.random.default_rng(0).normal(size=(20, 3)) + 4 * np.eye(3)[np.arange(20) % 2]
    >>> head, report = taught(Features(values, list("abcdefghijklmnopqrst"), "", "norm", "token"), ["cat", "dog"] * 10)
    >>> head.labels, head.kernel.shape, report["accuracy"]["right"]
    (['cat', 'dog'], (3, 2), 20)
    """
    labels = in_order(names)
    classes, K = np.array([labels.index(name) for name in names]), len(labels)
    values = probe.checked(features.values, classes, K, labels)
    fold = probe.dealt(classes, folds, seed)
    found = probe.fitted(values, classes, K, method, fold)
    near = probe.neighbours(values, classes, K, fold, neighbours)
    made = {"method": method, "strength": found.strength, "pictures": len(names), "folds": int(fold.max()) + 1,
            "seed": seed, "accuracy": scores.scored((found.answers == classes).sum(), len(classes))}
    head = Head(found.head.kernel.astype(np.float32), found.head.bias.astype(np.float32), labels,
                features.model or None, features.state, features.pool, made)
    tried = [{"strength": C, "accuracy": share} for C, share in found.accuracies.items()]
    return head, {**made, "features": values.shape[1], "labels": labels, "strengths": tried,
                  "neighbours": {"k": neighbours, **scores.scored((near == classes).sum(), len(classes))},
                  "confusion": scores.confusion(classes, found.answers, K).tolist()}


def text(report):
    """A report of `taught` as text."""
    right, near = report["accuracy"], report["neighbours"]
    tried = [row["strength"] for row in report["strengths"]]
    edge = ", the end of those that were tried" if report["strength"] in (tried[0], tried[-1]) else ""
    return "\n".join([
        f"{report['pictures']:,} pictures of {len(report['labels']):,} classes, {report['features']:,} features; each "
        f"answered by a classifier that was fitted to the other folds of {report['folds']}",
        f"{report['method']:20}  {scores.told(right['right'], right['count'])}  C = {report['strength']:g}, of "
        f"{tried[0]:g} to {tried[-1]:g}{edge}",
        f"{near['k']:2} nearest neighbours  {scores.told(near['right'], near['count'])}", "",
        scores.confusion_table(np.array(report["confusion"]), report["labels"])])
