"""Copies of pictures with their labels and scores in a white band below the picture."""
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from ..batch.copies import file_names, refuse_links
from ..batch.inputs import open_source
from ..batch.rows import NO_LABEL
from ..tensorfile import write_atomically
from ..text import printable
from .drawing import is_drawable, length, write

SMALLEST, SHARE = 14, 25                  # a line of text has 14 pixels, or 1/25 of the shorter side of the picture


def drawn_copies(folder: str, sources: Sequence[Any]) -> Callable[[Any, list], str]:
    """Return a function that writes a picture with its labels to FOLDER/NAME, and returns this path.

    FOLDER is created if it is missing.

    `sources` are the pictures, as `find_pictures` returns them. The arguments of the function are the `run.Row` of a
    picture and its labels, as `rows.labelled_fields` returns them. The copy of a JPEG file is a JPEG file. All other
    copies are PNG files. The function raises OSError if the copy cannot be written. If no font can draw a label, the
    copy shows the number of the class after "#", and a warning has the label.
    """
    names = file_names(sources, lambda suffix: suffix if suffix.lower() in (".jpg", ".jpeg") else ".png")
    folder = os.path.realpath(folder)
    os.makedirs(folder, exist_ok=True)
    numbered = set()

    def shown(label):
        if is_drawable(label["label"]):
            return label["label"]
        number = f"#{label['index']}"
        if number not in numbered:
            numbered.add(number)
            warnings.warn(f"the drawn copies show {number} instead of a name that cannot be drawn: "
                          f"{printable(label['label'])}", UserWarning, stacklevel=2)
        return number

    def draw(row, labels):
        lines = [f"{shown(label)}  {label['score']:.4f}" for label in labels] or [NO_LABEL]
        path = os.path.join(folder, names[row.position])
        page = with_lines(open_source(row.source), lines)
        refuse_links(path, folder)
        with write_atomically(path) as temporary:
            page.save(temporary, "PNG" if path.endswith(".png") else "JPEG", quality=95)
        return path
    return draw


def with_lines(picture: Any, lines: Sequence[str]) -> Any:
    """Return a copy of an RGB Pillow picture with lines of text below it.

    If a line is wider than the picture, the copy is wider too. The pixels of the picture do not change.

    >>> with_lines(Image.new("RGB", (300, 200)), ["cat  0.8", "dog  0.1"]).size
    (300, 249)
    """
    size = max(SMALLEST, min(picture.size) // SHARE)
    step = size * 3 // 2
    width = max(picture.width, *(round(length(line, size)) + size for line in lines))
    page = Image.new("RGB", (width, picture.height + step * len(lines) + size // 2), "white")
    page.paste(picture, (0, 0))
    for i, line in enumerate(lines):
        write(page, size // 2, picture.height + step * i + size // 4, line, size)
    return page
