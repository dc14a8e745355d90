"""Count the pictures with a known class that a model classifies correctly."""
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..batch import run
from ..batch.inputs import source_name
from ..text import ellipsis, table
from . import scores

TOP = 5


class Evaluation(NamedTuple):
    """The answers of a model for pictures of known classes."""
    labels: list                          # the labels of the model, in order
    classes: np.ndarray                   # int (n,), the true class of each picture that could be read
    answers: np.ndarray                   # int (n, at most 5): indices of classes, with the best answer first
    errors: list                          # a run.Row for each picture that could not be read


def evaluate_model(model: Any, processor: Any, sources: Sequence, classes: Sequence[int], batch: int = 8,
                   watched: Callable[[Iterable[run.Row]], Iterable[run.Row]] = lambda rows: rows) -> Evaluation:
    """Predict the classes of pictures.

    `model` is a classifier. `processor` is the image processor of the model, or the options of an image processor.
    `sources` are pictures, as `find_pictures` returns them. `classes` holds the true class of each picture, as an index
    into the labels of the model. `watched` is a function that takes the rows of results and returns the rows unchanged.
    The function may show progress. If two logits are equal, the class with the smaller index comes first. Raises
    ValueError if a picture has no class, or a class that the model does not have.

    >>> from nphybrid import ViTHybridForImageClassification, default_model
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    >>> evaluate_model(model, model.processor, ["examples/images/cat.png"], [3]).answers
    array([[3, 6, 5, 4, 2]])
    """
    labels = list(model.config.id2label.values())
    if len(sources) != len(classes):
        raise ValueError(f"found {len(sources):,} pictures and {len(classes):,} classes; expected one class for each "
                         "picture")
    if wrong := [k for k in classes if not isinstance(k, (int, np.integer)) or not 0 <= k < len(labels)]:
        raise ValueError(f"classes: found {wrong[0]!r}; expected indices from 0 to {len(labels) - 1}")
    prepare = run.preparer(processor)
    rows = run.compute_rows(sources, prepare, lambda x: model(x).logits, batch, workers=model.num_threads)
    known, answers, errors = [], [], []
    for row in watched(rows):
        if row.error is None:
            known.append(classes[row.position])
            answers.append(np.argsort(-row.result, kind="stable")[:TOP])
        else:
            errors.append(row)
    shape = len(known), min(TOP, len(labels))
    return Evaluation(labels, np.array(known, int), np.array(answers, int).reshape(shape), errors)


def count_right(found: Evaluation, top: int, k: int | None = None) -> tuple[int, int]:
    """Count the pictures whose true class is among the `top` best answers.

    Returns the number of these pictures, and the number of all pictures. If `k` is given, only the pictures of class
    k are counted.
    """
    selected = slice(None) if k is None else found.classes == k
    hits = (found.answers[selected, :top] == found.classes[selected, None]).any(1)
    return int(hits.sum()), len(hits)


def document(found: Evaluation) -> dict:
    """An Evaluation as JSON, with a 95 % confidence interval for every accuracy."""
    tops = _tops(found)
    return {"pictures": len(found.classes) + len(found.errors),
            "errors": [{"path": source_name(row.source), "error": str(row.error)} for row in found.errors],
            **{f"top{top}": scores.accuracy_fields(*count_right(found, top)) for top in tops},
            "classes": [{"index": int(k), "label": found.labels[k],
                         **{f"top{top}": scores.accuracy_fields(*count_right(found, top, k)) for top in tops}}
                        for k in np.unique(found.classes)]}


def text(found: Evaluation) -> str:
    """An Evaluation as text, with the total first and then one row per class."""
    tops = _tops(found)
    more = f", {len(found.errors):,} more could not be read" if found.errors else ""
    lines = [f"{len(found.classes):,} pictures{more}"]
    for top in tops:
        right, count = count_right(found, top)
        lines.append(f"top-{top}  {right:,} right  {scores.accuracy_text(right, count)}")
    cells = [("class", "pictures", *(f"top-{top}" for top in tops), "taken for")]
    for k in np.unique(found.classes):
        count = count_right(found, 1, k)[1]
        accuracies = [scores.accuracy_text(*count_right(found, top, k)) for top in tops]
        cells.append((ellipsis(found.labels[k], 32), f"{count:,}", *accuracies, _mistake(found, k, count)))
    return "\n".join([*lines, "", table(cells, "<>" + ">" * len(tops) + "<")])


def _tops(found):
    """The values of k for the top-k accuracies.  For five classes or fewer, top-5 is always 100 % and is left out."""
    return (1, TOP) if len(found.labels) > TOP else (1,)


def _mistake(found, k, count):
    """The most frequent wrong answer for the pictures of a class, and the share of the pictures with this answer."""
    wrong = found.answers[(found.classes == k) & (found.answers[:, 0] != k), 0]
    if not len(wrong):
        return ""
    most = int(np.bincount(wrong).argmax())
    return f"{ellipsis(found.labels[most], 24)} {100 * (wrong == most).sum() / count:.1f} %"
