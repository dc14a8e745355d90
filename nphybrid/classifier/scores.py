"""Accuracies with confidence intervals, and confusion matrices as text and as pictures."""
import math
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..explain import drawing
from ..explain.drawing import INK, MARGIN, SMALL, Scale
from ..text import ellipsis, printable, table

# 95 % of a normal distribution is within Z95 standard deviations of the mean.
Z95 = 1.959963984540054
MOST_IN_TEXT, MOST_NAMED = 12, 60         # the largest number of classes in a table, and in a picture with names
CELL = 88                                 # the side of a cell with space for a number, in dots
WIDEST_NAME, SMALLEST_SIDE = 400, 700     # the largest width of a name, and the smallest side of a matrix, in dots


def interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval (low, high) of an accuracy: `right` of `count` answers are correct.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference". The interval is also valid for
    an accuracy near 0 or 1.

    >>> [round(end, 4) for end in interval(8536, 10_000)]
    [0.8465, 0.8604]
    >>> interval(0, 0)
    (0.0, 1.0)
    """
    if not count:
        return 0.0, 1.0
    share, z2 = right / count, Z95 ** 2 / count
    centre = (share + z2 / 2) / (1 + z2)
    reach = math.sqrt(share * (1 - share) * z2 + z2 ** 2 / 4) / (1 + z2)
    return (0.0 if right == 0 else centre - reach), (1.0 if right == count else centre + reach)


def accuracy_fields(right: int, count: int) -> dict:
    """The JSON fields of an accuracy: `right` of `count` answers, the accuracy, and its confidence interval."""
    low, high = interval(right, count)
    return {"right": int(right), "count": int(count), "accuracy": right / count if count else None, "low": low,
            "high": high}


def accuracy_text(right: int, count: int) -> str:
    """The share of correct answers and its 95 % confidence interval, as a text in percent.

    >>> accuracy_text(8536, 10_000)
    '85.36 % (84.65 to 86.04)'
    """
    low, high = interval(right, count)
    return f"{100 * right / count:.2f} % ({100 * low:.2f} to {100 * high:.2f})" if count else "-"


def confusion(classes: np.ndarray, answers: np.ndarray, K: int) -> np.ndarray:
    """The confusion matrix of answers.  -> int (K, K)

    Row i, column j is the number of pictures of class i for which the model answered j. `classes` and `answers` are
    int arrays (n,). `K` is the number of classes.

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    return np.bincount(np.asarray(classes) * K + answers, minlength=K * K).reshape(K, K)


def confusion_table(matrix: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix as text, with a row per class and a column per answer.

    If there are many classes, the text lists only the most frequent mistakes.
    """
    names = [ellipsis(name, 24) for name in names]
    if len(names) <= MOST_IN_TEXT:
        cells = [["", *names]]
        for name, row in zip(names, matrix):
            cells.append([name, *(f"{n:,}" if n else "." for n in row)])
        return f"Each row is a true class. Each column is an answer.\n{table(cells, '<' + '>' * len(names))}"
    mistakes = [(-matrix[i, j], i, j) for i, j in zip(*np.nonzero(matrix)) if i != j]
    cells = [(names[i], "taken for", names[j], f"{-n:,}", f"of {matrix[i].sum():,}")
             for n, i, j in sorted(mistakes)[:MOST_IN_TEXT]]
    return "The most frequent mistakes:\n" + table(cells, "<<<>>") if cells else "no mistakes"


def confusion_picture(matrix: np.ndarray, names: Sequence[str], title: str) -> Any:
    """Draw a confusion matrix as a sheet at 300 dots per inch.  -> Pillow picture

    Each row shows the answers for one class, as shares of the pictures of this class. A class whose name cannot be
    drawn has a number instead. A warning has the names of these classes, and so does `page.info["Description"]`, which
    `save_picture` writes into the file.
    """
    K = len(names)
    right, count = int(np.trace(matrix)), int(matrix.sum())
    labels, legend = drawing.class_labels(names, SMALL, WIDEST_NAME) if K <= MOST_NAMED else ([""] * K, {})
    cell = max(CELL, SMALLEST_SIDE // K) if K <= 24 else max(24 * CELL // K, 4)
    room = 30 + int(max(drawing.length(label, SMALL) for label in labels))      # dots for the longest label
    left, side = MARGIN + 60 + room, K * cell
    caption = (f"{right:,} of {count:,} pictures are classified correctly: {accuracy_text(right, count)}. Each row "
               "shows the answers for the pictures of one class.")
    description = f"{title}. {caption}"
    if legend:
        caption += " A label such as #0 is the number of a class. The description of this file has its name."
        description += f" {_legend_text(legend)}."
        warnings.warn(_legend_text(legend), stacklevel=2)
    page, top = drawing.sheet(title, caption, max(left + side + 2 * MARGIN, 1100), side + room + 360)
    box = drawing.placed(left, top + room + 60, (side, side))
    shares, scale = matrix / np.maximum(matrix.sum(1, keepdims=True), 1), Scale(0, 1, power=0.5)
    drawing.show_map(page, shares, scale, box)
    drawing.write_upwards(page, MARGIN + 10, box[1] + side // 2, "the true class")
    drawing.write(page, left + side // 2, top - 20, "the answer", anchor="ma")
    for k, label in enumerate(labels):
        middle = k * cell + cell // 2
        drawing.write(page, left - 18, box[1] + middle, label, SMALL, INK, "rm")
        if label:
            drawing.write_upwards(page, left + middle, box[1] - 18 - drawing.length(label, SMALL) / 2, label, SMALL)
    if cell >= CELL:
        _write_shares(page, shares, box, cell)
    drawing.colour_bar(page, (left, box[3] + 120, left + min(side, 700), box[3] + 150), scale,
                       "share of the class, square-root scale")
    page = drawing.trimmed(page)
    page.info |= {"Title": title, "Description": description}
    return page


def _legend_text(legend):
    """A sentence with the names of the classes that have a number in the picture."""
    return ("The confusion matrix shows numbers instead of names that cannot be drawn or look alike: "
            + ", ".join(f"#{k} is {printable(name)}" for k, name in legend.items()))


def _write_shares(page, shares, box, cell):
    """Write the percentage into each cell that is not 0, with light text on dark cells and dark text on light cells."""
    for i, j in zip(*np.nonzero(shares)):
        text = f"{100 * shares[i, j]:.0f} %" if shares[i, j] >= 0.01 else "<1 %"
        x, y = box[0] + j * cell + cell // 2, box[1] + i * cell + cell // 2
        drawing.write(page, x, y, text, SMALL, "white" if shares[i, j] < 0.4 else INK, "mm")


def save_picture(page: Any, path: str | os.PathLike) -> None:
    """Write a sheet as a PNG, completely or not at all."""
    drawing.save_png(page, path, page.info)
