"""A picture of a training run: the loss of each step, and the accuracy of each epoch."""
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..explain import drawing
from ..explain.drawing import MARGIN, QUIET, SMALL

LOSS, ACCURACY = "#0072b2", "#d55e00"
WIDTH, HEIGHT = 2000, 560                 # of a plot, in dots
SMOOTH = 20                               # the thick line is the mean of SMOOTH neighbouring steps


def curves(rows: list[dict[str, Any]], title: str = "Training") -> Image.Image:
    """Draw the curves of a run.  `rows` are the rows of its log (folder.py).

    >>> curves([{"epoch": 0, "loss": 1.0, "right": 1, "count": 2}, {"epoch": 1, "step": 1, "loss": 0.5}]).width
    2370
    """
    steps = [row for row in rows if "step" in row]
    epochs = [row for row in rows if "step" not in row and row["count"]]
    page, top = drawing.sheet(title, "Above: the loss of each step, and the mean of neighbouring steps. Below: the "
                              "accuracy on the validation pictures after each epoch.", WIDTH + 2 * MARGIN + 230, 2000)
    left, last = MARGIN + 190, max([row["step"] for row in steps], default=1)
    plot = left, top + 40, left + WIDTH, top + 40 + HEIGHT
    losses = np.array([row["loss"] for row in steps])
    high = float(losses.max(initial=1e-9)) * 1.05
    _axes(page, plot, high, last, "loss", "step")
    _line(page, plot, np.arange(1, len(losses) + 1) / last, losses / high, "#9ecae1", 2)
    if len(losses) > SMOOTH:
        mean = np.convolve(losses, np.full(SMOOTH, 1 / SMOOTH), "valid")
        _line(page, plot, (np.arange(len(mean)) + (SMOOTH + 1) / 2) / last, mean / high, LOSS, 6)
    plot = plot[0], plot[3] + 200, plot[2], plot[3] + 200 + HEIGHT
    end = max([row["epoch"] for row in epochs], default=1) or 1
    _axes(page, plot, 100, end, "accuracy (%)", "epoch")
    shares = np.array([row["right"] / row["count"] for row in epochs])
    numbers = np.array([row["epoch"] for row in epochs])
    _line(page, plot, numbers / end, shares, ACCURACY, 6)
    for number, share in zip(numbers, shares):
        x, y = _place(plot, number / end, share)
        drawing.dot(page, x, y, 11, ACCURACY)
    if len(shares):
        drawing.write(page, plot[2], plot[1] - 16, f"best {100 * shares.max():.2f} %", SMALL, QUIET, "rs")
    return drawing.trimmed(page)


def _axes(page, plot, high, last, up_words, along_words):
    left, top, right, bottom = plot
    up = [(f"{tick:g}", bottom - tick / high * (bottom - top)) for tick in drawing.ticks(high)]
    along = [(f"{tick:g}", left + tick / last * (right - left)) for tick in drawing.ticks(last)
             if float(tick).is_integer()]
    drawing.axes(page, plot, up, along, up_words, along_words)


def _place(plot, along, up):
    left, top, right, bottom = plot
    return left + along * (right - left), bottom - up * (bottom - top)


def _line(page, plot, along, up, colour, width):
    points = [tuple(np.rint(_place(plot, x, y)).astype(int).tolist()) for x, y in zip(along, up)]
    if len(points) > 1:
        ImageDraw.Draw(page).line(points, colour, width, "curve")
