"""How many pictures of known classes a model gets right."""
from typing import NamedTuple

import numpy as np

from ..batch import run
from ..batch.inputs import source_name
from ..text import printable, table
from . import scores

TOP = 5


class Evaluation(NamedTuple):
    """What a model answered for pictures whose classes are known."""
    labels: list                          # the model's, in order
    classes: np.ndarray                   # int (n,), the true class of each picture that could be read
    answers: np.ndarray                   # int (n, 5 or all classes), the best first
    errors: list                          # a run.Row for each of the others


def evaluated(model, processor, sources, classes, batch=8, watched=lambda rows: rows):
    """A model's answers for pictures.  -> Evaluation

    model: a classifier. processor: its image processor, or the options of one. sources: as `inputs.listed` gives them.
    classes: the model's number for each. watched: what shows progress, from rows to rows. Of equal logits the
    class with the smaller number comes first.

    >>> from nphybrid import ViTHybridForImageClassification, default_model
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    >>> evaluated(model, model.processor, ["examples/images/cat.png"], [3]).answers
    array([[3, 6, 5, 4, 2]])
    """
    found = run.compute_rows(sources, run.preparer(processor), lambda x: model(x).logits, batch, workers=model.num_threads)
    known, answers, errors = [], [], []
    for row in watched(found):
        if row.error is None:
            known.append(classes[row.position])
            answers.append(np.argsort(-row.result, kind="stable")[:TOP])
        else:
            errors.append(row)
    labels = list(model.config.id2label.values())
    shape = len(known), min(TOP, len(labels))
    return Evaluation(labels, np.array(known, int), np.array(answers, int).reshape(shape), errors)


def right(found, top, k=None):
    """Of how many pictures, of class k or of all, the true class is among the `top` best.  -> right, count"""
    of = slice(None) if k is None else found.classes == k
    hits = (found.answers[of, :top] == found.classes[of, None]).any(1)
    return int(hits.sum()), len(hits)


def document(found):
    """An Evaluation as JSON: every share with its 95 % interval.  -> dict"""
    tops = _tops(found)
    return {"pictures": len(found.classes) + len(found.errors),
            "errors": [{"path": source_name(row.source), "error": str(row.error)} for row in found.errors],
            **{f"top{top}": scores.scored(*right(found, top)) for top in tops},
            "classes": [{"index": int(k), "label": found.labels[k],
                         **{f"top{top}": scores.scored(*right(found, top, k)) for top in tops}}
                        for k in np.unique(found.classes)]}


def text(found):
    """An Evaluation as a text: the whole, then a row per class."""
    tops = _tops(found)
    more = f", {len(found.errors):,} more could not be read" if found.errors else ""
    lines = [f"{len(found.classes):,} pictures{more}"]
    lines += [f"top-{top}  {right(found, top)[0]:,} right  {scores.told(*right(found, top))}" for top in tops]
    cells = [("class", "pictures", *(f"top-{top}" for top in tops), "taken for")]
    for k in np.unique(found.classes):
        count = right(found, 1, k)[1]
        cells.append((printable(found.labels[k], 32), f"{count:,}",
                      *(scores.told(*right(found, top, k)) for top in tops), _mistake(found, k, count)))
    return "\n".join([*lines, "", table(cells, "<>" + ">" * len(tops) + "<")])


def _tops(found):
    """What is counted: the five best tell something only where there are more classes."""
    return (1, TOP) if len(found.labels) > TOP else (1,)


def _mistake(found, k, count):
    """What pictures of a class are most often taken for."""
    wrong = found.answers[(found.classes == k) & (found.answers[:, 0] != k), 0]
    if not len(wrong):
        return ""
    most = int(np.bincount(wrong).argmax())
    return f"{printable(found.labels[most], 24)} {100 * (wrong == most).sum() / count:.1f} %"
