"""Draw sheets, text, maps, colour bars and axes with Pillow, for print at 300 dots per inch.

A point is (x, y), and a box is (left, top, right, bottom). All coordinates are distances in dots from the upper left
corner of a sheet. A box contains neither the row `bottom` nor the column `right`. Text sizes are in dots: 36 dots are
8.6 points.
"""
import collections
import functools
import math
import unicodedata
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ..tensorfile import write_atomically
from ..text import ellipsis
from .colours import SEQUENTIAL, coloured

DPI = 300
MARGIN = 70
SIDE, GUTTER, COLUMN = 440, 80, 700       # widths of a photograph, of a gap and of a column
TITLE, TEXT, SMALL = 56, 36, 30
INK, QUIET, RULE = "#1f1f1f", "#595959", "#c9c9c9"
# Pillow contains only a part of the font Aileron. These fonts of Linux, Windows and macOS draw what it lacks.
SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "segoeui.ttf", "arial.ttf", "Arial Unicode.ttf",
                "NotoSansCJK-Regular.ttc", "YuGothM.ttc", "msyh.ttc", "malgun.ttf", "PingFang.ttc",
                "AppleSDGothicNeo.ttc")


class Scale(NamedTuple):
    """A colour scale from the number `low` (first colour) to the number `high` (last colour).

    The position of a number on the scale, from 0 to 1, is raised to the power `power`. A power below 1 makes small
    numbers easier to see.
    """
    low: float
    high: float
    colours: tuple = SEQUENTIAL
    power: float = 1.0


def painted(x: np.ndarray, scale: Scale) -> np.ndarray:
    """The colours of numbers on a scale.  (...) -> (..., 3) uint8

    >>> painted(np.array([0, 0.25, 1]), Scale(0, 1, ("000000", "ffffff"), power=0.5)).tolist()
    [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    """
    share = np.clip((x - scale.low) / (scale.high - scale.low), 0, 1)
    return coloured(share ** scale.power, 0, 1, scale.colours)


def rounded_up(x: float) -> float:
    """The smallest round number that is at least x, for the end of a scale.  For x = 0 the result is 1.

    >>> [rounded_up(x) for x in (0, 0.0181, 0.41, 7, 96)]
    [1.0, 0.02, 0.5, 7.0, 100.0]
    """
    if x <= 0:
        return 1.0
    power = int(np.floor(np.log10(x)))
    ends = (float(f"{step}e{power}") for step in (1, 1.2, 1.6, 2, 2.4, 2.8, 3.2, 3.6, 4, 5, 6, 7, 8, 10, 12))
    return next(end for end in ends if end >= x)


# ---------------------------------------------------------------- sheets and text

def sheet(title, caption, width, height):
    """Make a white page with a title, a caption, and `height` dots of space below the caption.

    Returns the page, and the y at which the space below the caption begins.
    """
    title_lines = wrapped(title, TITLE, width - 2 * MARGIN)
    caption_lines = wrapped(caption, TEXT, width - 2 * MARGIN)
    top = MARGIN + 75 * len(title_lines) + 50 * len(caption_lines) + 65
    page = Image.new("RGB", (width, top + height), "white")
    for i, line in enumerate(title_lines):
        write(page, MARGIN, MARGIN + 75 * i, line, TITLE)
    for i, line in enumerate(caption_lines):
        write(page, MARGIN, top - 40 - 50 * (len(caption_lines) - i), line, TEXT, QUIET)
    return page, top


def save_png(page, path, texts):
    """Write a page as a PNG of 300 dots per inch, completely or not at all.  `texts` is {key: text} of text chunks."""
    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)
    with write_atomically(path) as temporary:
        page.save(temporary, "PNG", pnginfo=chunks, dpi=(DPI, DPI), optimize=True)


def trimmed(page):
    """The page with only a margin of white space below the drawing."""
    inked = (np.asarray(page) < 255).any(axis=(1, 2))
    return page.crop((0, 0, page.width, int(inked.nonzero()[0][-1]) + 1 + MARGIN))


@functools.cache
def _font(name, size):
    """The font with a file name, or None if this computer does not have it.  "" is the font Aileron from Pillow.

    Raises ImportError if Pillow was built without FreeType.
    """
    if not name:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@functools.cache
def _has(name, character):
    """Whether a font can draw a character.  A font draws each missing character as a box, or does not draw it.

    The letters of scripts that run from right to left, and marks that belong to other letters, count as missing. They
    would be drawn at wrong places.
    """
    found = _font(name, 40)
    if found is None or not character.isprintable() or unicodedata.bidirectional(character) in ("R", "AL") or (
            unicodedata.category(character).startswith("M")):
        return False
    box = bytes(found.getmask("\U0010fffd"))
    return character == " " or bytes(found.getmask(character)) not in (box, b"")


def _font_name(words):
    """The name of the first font that has all characters of a text, or None."""
    return next((name for name in ("", *SYSTEM_FONTS) if all(_has(name, c) for c in words)), None)


def font(size, words=""):
    """The font for a text that `drawable` returned, in the given size."""
    return _font(_font_name(words) or "", size)


def drawable(words):
    """Convert a text to characters that one font has.

    Signs that Aileron lacks, such as "×", become similar signs. If no font has all characters, then a letter with an
    accent becomes the letter without the accent, and every other missing character becomes "?".

    >>> drawable("8 × 8 – 9")
    '8 x 8 - 9'
    """
    words = _with_plain_signs(words)
    if _font_name(words) is not None:
        return words
    plain = (c if _has("", c) else unicodedata.normalize("NFKD", c)[0] for c in words.replace("ß", "ss"))
    return "".join(c if _has("", c) else "?" for c in plain)


def is_drawable(words):
    """Whether `drawable` changes no letter of a text.

    >>> is_drawable("cat"), is_drawable("חתול")
    (True, False)
    """
    return _font_name(_with_plain_signs(words)) is not None


def _with_plain_signs(words):
    return unicodedata.normalize("NFC", words).translate(str.maketrans("×–−", "x--"))


def fitting(words, size, width):
    """Shorten a line of text to at most `width` dots, with "…" at the end.

    >>> fitting("the class token reads cells", 36, 300), fitting("cells", 36, 300)
    ('the class token r…', 'cells')
    """
    line = ellipsis(words, 100)
    while length(line, size) > width:
        line = line[:-2] + "…"
    return line


def class_labels(names, size, width):
    """The labels of classes in a drawing, each at most `width` dots wide, and a legend {number of a class: name}.

    The label of a class is its name, shortened if necessary. If no font can draw the name, or if two labels look
    alike, the label is the number of the class after "#", and the legend has the name.

    >>> class_labels(["cat", "חתול", "dog"], 36, 300)
    (['cat', '#1', 'dog'], {1: 'חתול'})
    """
    labels = [fitting(name, size, width) for name in names]
    alike = collections.Counter(map(drawable, filter(is_drawable, labels)))
    legend = {k: names[k] for k, label in enumerate(labels) if not is_drawable(label) or alike[drawable(label)] > 1}
    return [f"#{k}" if k in legend else label for k, label in enumerate(labels)], legend


def write(page, x, y, words, size=TEXT, colour=INK, anchor="la"):
    """Draw a line of text.

    `anchor` is the point of the text that lies at (x, y), as two letters of Pillow. The first letter is l, m or r for
    the left, the middle or the right. The second letter is a, m or s for the top, the middle or the baseline.
    """
    words = drawable(words)
    ImageDraw.Draw(page).text((x, y), words, colour, font(size, words), anchor)


def write_upwards(page, x, y, words, size=TEXT, colour=INK):
    """Draw a line of text that runs upwards and has its middle at (x, y)."""
    words = drawable(words)
    left, top, right, bottom = font(size, words).getbbox(words)
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), words, 255, font(size, words))
    mask = mask.transpose(Image.Transpose.ROTATE_90)
    page.paste(colour, (round(x - mask.width / 2), round(y - mask.height / 2)), mask)


def length(words, size):
    """The width of a line of text, in dots."""
    words = drawable(words)
    return font(size, words).getlength(words)


def wrapped(words, size, width):
    """Break a text into lines of at most `width` dots.  A word that is longer than `width` gets a line of its own.

    >>> wrapped("the class token reads cells", 36, 300)
    ['the class token', 'reads cells']
    """
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if length(longer, size) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


# ---------------------------------------------------------------- maps and pictures

def whole_factor(cells, room):
    """The largest whole number of dots per cell at which all cells fit into `room`.

    `cells` is (rows, columns), and `room` is (height, width) in dots. If the cells do not fit with one dot per cell,
    the result is still 1.
    """
    return max(min(n // m for n, m in zip(room, cells)), 1)


def fitted(size, room):
    """The largest (height, width) that fits into `room` and has the aspect ratio of `size`.

    `size` and `room` are (height, width).
    """
    factor = min(room[0] / size[0], room[1] / size[1])
    return tuple(max(round(n * factor), 1) for n in size)


def placed(left, top, size):
    """The box with the upper left corner (left, top) and the size (height, width)."""
    return left, top, left + size[1], top + size[0]


def grid(page, left, top, down, across, size, gap=10):
    """Make a grid of equal boxes, and write a number beside each row and above each column.

    `size` is the (height, width) of each box. `down` is the pair (name, numbers) for the rows, such as
    ("block", range(12)). `across` is the pair (name, numbers) for the columns. Returns {(row, column): box}.
    """
    left, top, (height, width) = left + 110, top + (100 if across[0] else 50), size
    boxes = {(row, column): placed(left + j * (width + gap), top + i * (height + gap), size)
             for i, row in enumerate(down[1]) for j, column in enumerate(across[1])}
    # If the boxes are small, only some rows and columns get a number, so that the numbers do not overlap.
    for row in down[1][::math.ceil(40 / (height + gap))]:
        box = boxes[row, across[1][0]]
        write(page, left - 18, (box[1] + box[3]) // 2, str(row), SMALL, INK, "rm")
    for column in across[1][::math.ceil(75 / (width + gap))]:
        box = boxes[down[1][0], column]
        write(page, (box[0] + box[2]) // 2, top - 14, str(column), SMALL, INK, "ms")
    right, bottom = boxes[down[1][-1], across[1][-1]][2:]
    if across[0]:
        write(page, (left + right) // 2, top - 100, across[0], TEXT, INK, "ma")
    write_upwards(page, left - 92, (top + bottom) // 2, down[0])
    return boxes


def show(page, colours, box):
    """Fill a box with a picture (H, W, 3).

    A picture that is enlarged by a factor of 4 or more shows its pixels as sharp rectangles. All other pictures are
    smoothed.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    sharp = width >= 4 * colours.shape[1]
    method = Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS
    page.paste(Image.fromarray(colours).resize((width, height), method), box[:2])


def show_map(page, x, scale, box):
    """Fill a box with the colours of the numbers `x`, (rows, columns), and draw a thin frame around the box."""
    frame(page, box)
    width, height = box[2] - box[0], box[3] - box[1]
    page.paste(Image.fromarray(painted(x, scale)).resize((width, height), Image.Resampling.NEAREST), box[:2])


def frame(page, box, colour=RULE, width=2):
    """Draw a line around the outside of a box."""
    left, top, right, bottom = box
    ImageDraw.Draw(page).rectangle((left - width, top - width, right + width - 1, bottom + width - 1), None, colour,
                                   width)


def outlined(page, box):
    """Draw an orange and white line around a box.  The line is visible on light and dark pictures."""
    frame(page, box, "white", 7)
    frame(page, box, "#d55e00", 4)


def colour_bar(page, box, scale, words):
    """Draw a colour bar, with three numbers below the bar and a text above the bar."""
    left, top, right, bottom = box
    write(page, left, top - 14, words, SMALL, INK, "ls")
    shares = (np.arange(right - left) + 0.5) / (right - left)
    values = scale.low + (scale.high - scale.low) * shares ** (1 / scale.power)
    show_map(page, values[None], scale, box)
    for share, anchor in (0, "la"), (0.5, "ma"), (1, "ra"):
        x = left + share * (right - left - 1)
        value = scale.low + (scale.high - scale.low) * share ** (1 / scale.power)
        ImageDraw.Draw(page).line((x, bottom, x, bottom + 9), INK, 2)
        write(page, x, bottom + 16, f"{value:.4g}", SMALL, INK, anchor)


def below(box, width):
    """The box of a colour bar below another box."""
    return placed(box[0], box[3] + 80, (36, width))


def beside(page, top, photograph, place=None, side=None):
    """Draw a photograph (H, W, 3) to the left of a figure, and a text below the photograph.

    `place` is the (row, column) of the cell that gets an outline, or None. The cell has `side` x `side` pixels. Returns
    the box of the photograph, and the y below the text.
    """
    H, W, _ = photograph.shape
    box = placed(MARGIN, top, fitted((H, W), (2 * SIDE, SIDE)))
    show(page, photograph, box)
    if place is not None:
        factor = side * (box[2] - box[0]) / W
        left, top = round(box[0] + place[1] * factor), round(box[1] + place[0] * factor)
        outlined(page, (left, top, min(round(left + factor), box[2]), min(round(top + factor), box[3])))
    write(page, MARGIN, box[3] + 20, "the input of the network,", SMALL, QUIET)
    write(page, MARGIN, box[3] + 60, f"{H} x {W} pixels", SMALL, QUIET)
    return box, box[3] + 100


def three(title, caption, size, words):
    """Make a sheet with space for three pictures side by side.

    `size` is a (height, width) with the aspect ratio of the pictures. `words` is {name of a picture: text
    above the picture}. Returns the page, and {name of a picture: box}.
    """
    height, width = fitted(size, (1400, COLUMN))
    page, top = sheet(title, caption, 3 * COLUMN + 2 * (GUTTER + MARGIN), height + 300)
    boxes = {}
    for k, (name, about) in enumerate(words.items()):
        boxes[name] = placed(MARGIN + k * (COLUMN + GUTTER), top + 56, (height, width))
        write(page, boxes[name][0], top, about, SMALL)
    return page, boxes


# ---------------------------------------------------------------- axes

def ticks(high, most=7):
    """Choose round numbers from 0 to `high` as the ticks of an axis with at most `most` steps.

    >>> ticks(34.5), ticks(3)
    ([0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0], [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    """
    power = 10.0 ** np.floor(np.log10(high / most))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * most >= high)
    return [float(step * i) for i in range(int(high / step + 1e-9) + 1)]


def axes(page, plot, up, along, up_words, along_words):
    """Draw the two axes of a plot, with ticks, horizontal lines and names.  `plot` is the box between the axes.

    `up` has one pair (number, y) for each tick of the vertical axis. `along` has one pair (number, x) for each tick of
    the horizontal axis.
    """
    left, top, right, bottom = plot
    draw = ImageDraw.Draw(page)
    for number, y in up:
        draw.line((left, y, right, y), RULE, 2)
        write(page, left - 18, y, number, SMALL, INK, "rm")
    draw.line((left, bottom, right, bottom), INK, 3)
    for number, x in along:
        draw.line((x, bottom, x, bottom + 10), INK, 3)
        write(page, x, bottom + 20, number, SMALL, INK, "ma")
    write_upwards(page, left - 120, (top + bottom) // 2, up_words)
    write(page, (left + right) // 2, bottom + 74, along_words, TEXT, INK, "ma")


def dot(page, x, y, radius, colour="#0072b2"):
    """Draw a disc with a smooth edge and a thin white rim, which separates overlapping discs.

    Returns the box of the disc.
    """
    reach = radius + 4
    side = np.arange(-reach, reach + 1)
    away = np.hypot(side[:, None], side)
    corner = round(x) - reach, round(y) - reach
    for edge, ink in (radius + 3, "white"), (radius, colour):
        mask = Image.fromarray((np.clip(edge + 0.5 - away, 0, 1) * 255).astype(np.uint8))
        page.paste(ink, corner, mask)
    return placed(*corner, (2 * reach + 1, 2 * reach + 1))


def level(page, left, right, y, colour=INK, dash=None):
    """Draw a horizontal line.  `dash` is the length of a dash, or None for a solid line."""
    left, right, y = round(left), round(right), round(y)
    dash = dash or right - left
    for x in range(left, right, 2 * dash):
        ImageDraw.Draw(page).line((x, y, min(x + dash, right), y), colour, 4)
