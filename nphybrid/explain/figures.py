"""Figures at print quality, with one function per figure.

`filters` shows the filters of the stem, which is the first convolution of the network.
`feature-maps` shows the outputs of the stem and of each stage of the backbone.
`position-similarity` shows the cosines between the position vectors of all cells (ViT, figure 7, centre).
`attention` shows the attention weights of one query in all blocks and heads, or in a chosen block or head.
`attention-distance` shows the mean attention distance of each head (ViT, figure 7, right).
`rollout` estimates how much each cell contributes to one token after all blocks or a chosen block (ViT, figure 6).
`occlusion` shows how much the score of the best label falls when a grey square hides a part of the picture.
`saliency` shows how strongly the logit of the best label depends on each pixel (Simonyan et al. 2014, section 3).

Blocks of the encoder, heads, rows and columns are counted from 0.
"""
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .. import __version__
from ..api.scores import scores_of
from ..ops import NARROW
from ..text import ellipsis
from . import drawing, measures
from .colours import DIVERGING
from .drawing import COLUMN, GUTTER, INK, MARGIN, QUIET, SIDE, SMALL, Scale
from .reading import PreparedPicture, attention_weights, cells_to_pixels, find_token, named_states, prepare_picture
from .scene import cell_size

FILTERS, MAPS = 64, 16                    # the largest numbers of filters, and of maps per stage, in a figure
PLACES = 144                              # the largest number of places of the grey square in `occlusion`


class MissingPartError(ValueError):
    """Raised if a network lacks the part that a figure shows."""


class Figure(NamedTuple):
    """One figure for print at 300 dots per inch."""
    image: Image.Image                    # RGB
    title: str
    description: str                      # the alternative text
    boxes: dict                           # {name of a part: (left, top, right, bottom)} on the sheet, in dots


def figure(name: str, model, image=None, **options) -> Figure:
    """Draw the figure `name`.

    `name` is a key of FIGURES. `model` is a model of any class of the package. `image` is anything that
    `open_picture` accepts. The figures filters and position-similarity do not read it. The options of the figure
    attention are token, block and head. The options of the figure rollout are token and block. The option token is
    "class" for the class token, "mean" for the mean of all cells, or "row,column" for one cell. By default, token
    is the input of the classifier: the class token or the mean.

    Raises MissingPartError for a network that lacks the part that the figure shows, and ValueError for an unknown
    option. Raises PictureError or OSError if the picture cannot be read.

    >>> from nphybrid import ViTHybridModel, default_model
    >>> drawn = figure("position-similarity", ViTHybridModel.from_pretrained(default_model()))
    >>> drawn.title, len(drawn.boxes)
    ('Similarity of the position vectors', 64)
    """
    check_arguments(name, image, options)
    if name in PICTURELESS:
        return FIGURES[name](model, **options)
    return FIGURES[name](model, prepare_picture(model, image), **options)


def every_figure(model, image, token=None, block=None, head=None) -> Iterator[tuple[str, Figure | MissingPartError]]:
    """Draw each figure of FIGURES.  Yields (name, Figure), or (name, error) if the network lacks a part.

    The arguments and the other errors are explained in `figure`. Each figure gets only its own options.
    """
    picture, options = prepare_picture(model, image), {"token": token, "block": block, "head": head}
    for name, draw in FIGURES.items():
        pictures = () if name in PICTURELESS else (picture,)
        try:
            yield name, draw(model, *pictures, **{option: options[option] for option in OPTIONS.get(name, ())})
        except MissingPartError as error:
            yield name, error


def check_arguments(name: str, image, options) -> None:
    """Raise ValueError for an unknown figure, an unknown option, or a missing image."""
    if name not in FIGURES:
        raise ValueError(f"unknown figure {name!r}; expected one of {', '.join(FIGURES)}")
    if name not in PICTURELESS and image is None:
        raise ValueError(f"the figure {name} shows a picture: expected an IMAGE, found none")
    for option in options:
        if option not in OPTIONS.get(name, ()):
            others = [figure for figure, names in OPTIONS.items() if option in names]
            hint = f"; figures with this option: {', '.join(others)}" if others else ""
            raise ValueError(f"the figure {name} has no option {option}{hint}")


def save(figure: Figure, path) -> None:
    """Write a Figure as a PNG of 300 dots per inch, completely or not at all.

    The text chunks Title and Description of the PNG hold the title and the description of the figure. Raises ValueError
    for a name that does not end in .png, and OSError if the file cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{os.fspath(path)}: a figure is written as a PNG; expected a name that ends in .png")
    texts = {"Title": figure.title, "Description": figure.description, "Software": f"nphybrid {__version__}"}
    drawing.save_png(figure.image, path, texts)


def _require(part, name, model, needs):
    """Raise MissingPartError if the network lacks the part that a figure shows."""
    if not part:
        raise MissingPartError(f"the figure {name} needs {needs}; this {type(model).__name__} has none")


# ---------------------------------------------------------------- figures of weights

def filters(model):
    """The filters of the stem as small colour pictures."""
    _require(model.network_config.stem, "filters", model, "the stem convolution of a hybrid or a BiT network")
    kernels = model.learned().stem.conv.transpose(3, 0, 1, 2)
    if kernels.shape[-1] != 3:
        raise MissingPartError("the figure filters needs a stem with 3 input channels; the stem of this "
                               f"{type(model).__name__} has {kernels.shape[-1]}")
    shown, title = kernels[:FILTERS], "Filters of the stem"
    count = f"{len(shown)}" if len(shown) == len(kernels) else f"The first {len(shown)} of {len(kernels)}"
    caption = (f"{count} filters of 7 x 7 pixels in red, green and blue. Each filter is standardized to mean 0 and "
               "variance 1. Each filter has its own scale, on which 0 is grey.")
    page, top = drawing.sheet(title, caption, 2260, 1200)
    places = drawing.grid(page, MARGIN, top, ("filter", range(0, len(shown), 16)),
                          ("", [f"+{i}" for i in range(min(16, len(shown)))]), (112, 112), gap=14)
    scale, boxes = Scale(-1, 1, ("000000", "ffffff")), {}
    for i, kernel in enumerate(shown):
        boxes[f"filter {i}"] = box = places[i - i % 16, f"+{i % 16}"]
        drawing.show(page, drawing.painted(kernel / (np.abs(kernel).max() or 1), scale)[..., 0], box)
    drawing.colour_bar(page, drawing.placed(MARGIN + 110, box[3] + 110, (36, 700)), scale,
                       "weight / largest absolute weight of the filter")
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} Dark colours mean negative weights, "
                  "and bright colours mean positive weights. Each scale ends at the largest absolute weight of the "
                  "filter.", boxes)


def position_similarity(model):
    """One map for each cell: the cosines between the position vectors of this cell and of all cells."""
    config, title = model.network_config, "Similarity of the position vectors"
    _require(config.blocks, "position-similarity", model, "the tokens of a transformer")
    (rows, columns), positions = config.grid, model.learned().tokens.positions
    if not positions.any(axis=1).all():
        raise MissingPartError("the figure position-similarity needs position vectors; one position vector "
                               f"of this {type(model).__name__} is a vector of zeros, which has no cosine")
    similar = measures.position_similarity(positions, config.grid)
    caption = (f"One map for each of the {rows} x {columns} cells. Each map shows the cosines between the position "
               f"vector of one cell and the position vectors of all cells. The vectors have {config.width} numbers.")
    factor = drawing.whole_factor(config.grid, (2000 // rows - 10, 2100 // columns - 10))
    page, top = drawing.sheet(title, caption, max(2000, 2 * MARGIN + 100 + columns * (columns * factor + 10)),
                              rows * (rows * factor + 10) + 500)
    places = drawing.grid(page, MARGIN, top, ("row of the cell", range(rows)), ("column of the cell", range(columns)),
                          (rows * factor, columns * factor))
    scale = Scale(-1, 1, DIVERGING)
    for (i, j), box in places.items():
        drawing.show_map(page, similar[i * columns + j].reshape(config.grid), scale, box)
    drawing.colour_bar(page, drawing.placed(MARGIN + 110, box[3] + 110, (36, 700)), scale, "cosine")
    distances = measures.distances(config.grid, (1, 1))
    means = ""
    for pairs, which in ("neighbouring cells", distances == 1), ("different cells", distances > 0):
        if which.any():
            means += f" The mean cosine of {pairs} is {similar[which].mean():.2g}."
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} Colours from -1 to 1: -1 is blue, 0 is white "
                  f"and 1 is brown.{means}", {f"row {i} column {j}": box for (i, j), box in places.items()})


# ---------------------------------------------------------------- figures of a picture

def feature_maps(model, picture: PreparedPicture):
    """For the stem and each stage, the maps that vary most over the picture."""
    config, title = model.network_config, "Feature maps of the backbone"
    _require(config.stem, "feature-maps", model, "the convolutional backbone of a hybrid or a BiT network")
    states = {"stem": "stem"} | {f"stage {s}": f"stages.{s}.{depth - 1}" for s, depth in enumerate(config.depths)}
    trace = named_states(model, picture, states.values())
    caption = ("The outputs of the stem and of each stage, each at its own resolution. The figure shows the channels "
               "that vary most over this picture.")
    tile = trace["stem"].shape[1:3]
    factor = drawing.whole_factor(tile, (200, 200))
    tile = tile[0] * factor, tile[1] * factor
    left = MARGIN + SIDE + GUTTER
    page, top = drawing.sheet(title, caption, left + 8 * _pitch(tile) - 14 + MARGIN,
                              max(len(states) * (2 * tile[0] + 350), 1200))
    boxes = {"photograph": drawing.beside(page, top, picture.photograph)[0]}
    summaries = []
    for stage, name in states.items():
        x = trace[name][0]
        varied = np.argsort(-x.var(axis=(0, 1), dtype=np.float64), kind="stable")[:MAPS].tolist()
        shown = {c: x[..., c] for c in sorted(varied)}
        end = drawing.rounded_up(float(np.abs(x[..., varied]).max()))
        scale = Scale(0, end) if x.min() >= 0 else Scale(-end, end, DIVERGING)
        drawing.write(page, left, top, stage)
        drawing.write(page, left, top + 48, "{} x {} cells, {} channels".format(*x.shape), SMALL, QUIET)
        drawing.colour_bar(page, drawing.placed(left + 8 * _pitch(tile) - 614, top + 40, (36, 600)), scale,
                           "activation")
        places = _draw_channels(page, left, top + 130, shown, scale, tile)
        boxes |= {f"{stage} channel {c}": box for c, box in places.items()}
        top = max(bottom for *_, bottom in places.values()) + 70
        summaries.append(f"{stage}: {_colours(scale).lower()}, channels {', '.join(map(str, varied))}")
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} In this text, channels with a larger "
                  f"variance come first. {'; '.join(summaries)}.", boxes)


def _draw_channels(page, left, top, maps, scale, tile):
    """Draw maps in rows of eight, and write the channel number above each map.  {channel: map} -> {channel: box}"""
    boxes = {}
    for k, (c, x) in enumerate(maps.items()):
        y = top + k // 8 * (tile[0] + 60) + 44
        boxes[c] = box = drawing.placed(left + k % 8 * _pitch(tile), y, tile)
        drawing.write(page, (box[0] + box[2]) // 2, y - 10, str(c), SMALL, QUIET, "ms")
        drawing.show_map(page, x, scale, box)
    return boxes


def _pitch(tile):
    """The distance in dots between the left edges of two neighbouring maps.

    The distance is large enough for a channel number above each map.
    """
    return max(tile[1], 160) + 14


def attention(model, picture: PreparedPicture, token=None, block=None, head=None):
    """The attention weights of one query, as maps."""
    config = model.network_config
    _require(config.blocks, "attention", model, "the tokens of a transformer")
    blocks, heads = _chosen("block", block, config.blocks), _chosen("head", head, config.heads)
    token, (rows, columns) = find_token(config, token), config.grid
    weights = np.einsum("t,lats->las", token.row, attention_weights(model, picture)[blocks.start:blocks.stop])
    maps = weights[:, heads.start:heads.stop, -rows * columns:].reshape(len(blocks), len(heads), rows, columns)
    scale = Scale(0, drawing.rounded_up(float(maps.max())), power=0.5)
    title = f"Attention of {token.name}"
    caption = (f"Each map shows the attention weights that the {rows} x {columns} cells get in one block and head. "
               "The weights are the output of the softmax.")
    factor = drawing.whole_factor(config.grid, (1700 // len(blocks) - 10, 1640 // len(heads) - 10))
    left = MARGIN + SIDE + GUTTER
    page, top = drawing.sheet(title, caption, max(2000, left + 100 + len(heads) * (columns * factor + 10) + MARGIN),
                              max(len(blocks) * (rows * factor + 10), 1200) + 300)
    places = drawing.grid(page, left, top, ("block", blocks), ("head", heads), (rows * factor, columns * factor))
    for (l, a), box in places.items():
        drawing.show_map(page, maps[l - blocks.start, a - heads.start], scale, box)
    box, below = drawing.beside(page, top + 100, picture.photograph, token.cell, cell_size(config)[0])
    drawing.colour_bar(page, drawing.placed(MARGIN, below + 70, (36, SIDE)), scale, "weight, square-root scale")
    l, a, i, j = np.unravel_index(maps.argmax(), maps.shape)
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} {_colours(scale)} on a square-root scale. The "
                  f"largest weight is {maps.max():.2g}, in block {blocks[l]}, head {heads[a]}, row {i}, column {j}.",
                  {"photograph": box} | {f"block {l} head {a}": box for (l, a), box in places.items()})


def _chosen(what, chosen, count):
    """The range of the chosen blocks or heads.  If `chosen` is None, the range contains all blocks or heads."""
    if chosen is None:
        return range(count)
    if chosen not in range(count):
        raise ValueError(f"there is no {what} {chosen!r}; this network has {what}s 0 to {count - 1}")
    return range(chosen, chosen + 1)


def attention_distance(model, picture: PreparedPicture):
    """The mean attention distance of each head in pixels."""
    config, title = model.network_config, "Attention distance"
    _require(config.blocks, "attention-distance", model, "the tokens of a transformer")
    (rows, columns), (height, width) = config.grid, cell_size(config)
    far = measures.attention_distance(attention_weights(model, picture), (rows, columns), (height, width))
    uniform = measures.distances((rows, columns), (height, width)).mean()
    caption = (f"Each dot shows the mean distance between query and key cells for one head. The mean is weighted by "
               f"the attention. The grid has {rows} x {columns} cells of {height} x {width} pixels.")
    page, top = drawing.sheet(title, caption, 2260, 1400)
    photograph, _ = drawing.beside(page, top, picture.photograph)
    plot = MARGIN + SIDE + GUTTER + 130, top + 80, 2260 - MARGIN, top + 1080
    boxes = {"photograph": photograph} | _draw_heads(page, plot, far, uniform)
    near, wide = (np.unravel_index(index, far.shape) for index in (far.argmin(), far.argmax()))
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} The smallest mean distance is "
                  f"{far[near]:.1f} pixels (block {near[0]}, head {near[1]}). The largest mean distance is "
                  f"{far[wide]:.1f} pixels (block {wide[0]}, head {wide[1]}). Uniform attention has a mean distance of "
                  f"{uniform:.1f} pixels.", boxes)


def _draw_heads(page, plot, far, uniform):
    """Draw a dot for each head, a line for the mean of each block, and a line for uniform attention.

    `far` holds the mean distances of the heads, (L, A). Returns {name of a head: box of the dot}.
    """
    left, top, right, bottom = plot
    (blocks, heads), end = far.shape, 1.06 * max(far.max(), uniform, 1e-9)
    boxes, step = {}, (right - left) / blocks
    drawing.axes(page, plot, [(f"{tick:g}", bottom - tick / end * (bottom - top)) for tick in drawing.ticks(end)],
                 [(str(l), left + (l + 0.5) * step) for l in range(0, blocks, math.ceil(blocks / 32))],
                 "mean distance (pixels)", "block")
    drawing.level(page, left, right, bottom - uniform / end * (bottom - top), QUIET, dash=16)
    for l in range(blocks):
        middle, y = left + (l + 0.5) * step, bottom - far[l].mean() / end * (bottom - top)
        for a in range(heads):
            x, y_of = middle + (a - (heads - 1) / 2) * 0.65 * step / heads, bottom - far[l, a] / end * (bottom - top)
            boxes[f"block {l} head {a}"] = drawing.dot(page, x, y_of, 11)
        drawing.level(page, middle - 0.42 * step, middle + 0.42 * step, y)
    drawing.dot(page, left + 20, top - 70, 11)
    drawing.write(page, left + 50, top - 70, "one head", SMALL, INK, "lm")
    drawing.level(page, left + 250, left + 330, top - 70)
    drawing.write(page, left + 350, top - 70, "mean of a block", SMALL, INK, "lm")
    drawing.level(page, left + 650, left + 730, top - 70, QUIET, dash=16)
    drawing.write(page, left + 750, top - 70, f"uniform attention: {uniform:.1f} pixels", SMALL, INK, "lm")
    return boxes


def rollout(model, picture: PreparedPicture, token=None, block=None):
    """Estimate how much each cell contributes to a token after a block, as a map and as brightness of the picture."""
    config = model.network_config
    _require(config.blocks, "rollout", model, "the tokens of a transformer")
    block, token = _chosen("block", block, config.blocks)[-1], find_token(config, token)
    shares, (rows, columns) = token.row @ measures.rollout(attention_weights(model, picture))[block], config.grid
    cells = shares[-rows * columns:].reshape(rows, columns)
    scale, size = Scale(0, drawing.rounded_up(float(cells.max()))), picture.photograph.shape[:2]
    brightness = cells_to_pixels(cells / cells.max(), cell_size(config)[0], size, smooth=True)
    title = f"Attention rollout of {token.name}"
    caption = (f"An estimate of the share that each cell contributes to {token.name}, after block {block}. The heads "
               "are averaged, and each shortcut counts as much as the attention.")
    if config.class_token:
        caption += f" The share of the initial class token is {shares[0]:.2g}."
    page, boxes = drawing.three(title, caption, size, {
        "photograph": f"the picture, {size[0]} x {size[1]} pixels", "veil": "the picture times the rollout",
        "rollout": f"the rollout, {rows} x {columns} cells"})
    drawing.show(page, picture.photograph, boxes["photograph"])
    drawing.show(page, np.rint(picture.photograph * brightness[..., None]).astype(np.uint8), boxes["veil"])
    drawing.show_map(page, cells_to_pixels(cells, cell_size(config)[0], size), scale, boxes["rollout"])
    drawing.colour_bar(page, drawing.below(boxes["rollout"], COLUMN), scale, "share of a cell")
    i, j = np.unravel_index(cells.argmax(), cells.shape)
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} {_colours(scale)}. The picture is black where "
                  f"the share is 0. The largest share is {cells.max():.2g}, in row {i}, column {j}.", boxes)


def occlusion(model, picture: PreparedPicture):
    """Show how much the score of the best label falls when a grey square hides a part of the picture."""
    _require(model.has_head and model.network_config.classes, "occlusion", model, "a classifier")
    logits, size = model(picture.pixel_values).logits, picture.photograph.shape[:2]
    best, step = int(logits[0].argmax()), _step(*size)
    window = 2 * step

    def score(x):
        return scores_of(model(x).logits, model.config)[:, best]
    fall = measures.occlusion(score, picture.pixel_values, window, step)
    whole = scores_of(logits, model.config)[0, best]
    i, j = np.unravel_index(fall.argmax(), fall.shape)
    hidden = picture.photograph.copy()
    square = tuple(slice(max(n * step - step, 0), n * step + step) for n in (i, j))
    hidden[square] = picture.grey
    end = drawing.rounded_up(float(np.abs(fall).max()))
    scale = Scale(-end, end, DIVERGING)
    title, drawn_title = (f"Occlusion: the score of “{label}”" for label in _labels(model, best))
    caption = (f"The score of the picture is {whole:.3g}. The figure shows how much the score falls when the pixel "
               f"values in a square of {window} x {window} pixels are set to 0, the value of grey. The centre of the "
               f"square is put at {fall.shape[0]} x {fall.shape[1]} places, which are {step} pixels apart.")
    page, boxes = drawing.three(drawn_title, caption, size, {
        "photograph": f"the picture, {size[0]} x {size[1]} pixels",
        "hidden": f"the square that gives the lowest score, {whole - fall[i, j]:.3g}",
        "fall": "the fall of the score at each place"})
    drawing.show(page, picture.photograph, boxes["photograph"])
    drawing.show(page, hidden, boxes["hidden"])
    drawing.show_map(page, _around_places(fall, step, size), scale, boxes["fall"])
    drawing.colour_bar(page, drawing.below(boxes["fall"], COLUMN), scale, "fall of the score")
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} {_colours(scale)}. Brown means that the score "
                  f"falls, and blue means that the score rises. The lowest score is {whole - fall[i, j]:.3g}, with the "
                  f"centre of the square at pixel row {i * step}, column {j * step}.", boxes)


def saliency(model, picture: PreparedPicture):
    """Show how strongly the logit of the best label depends on each pixel, from one backward pass."""
    _require(model.has_head and model.network_config.classes, "saliency", model, "a classifier")
    if model.dtype in NARROW:
        raise MissingPartError(f"the figure saliency needs gradients, which the dtype {model.dtype} does not have; "
                               "expected the original model in float32 or float64")
    gradient, best = measures.saliency(model, picture.pixel_values)
    size = picture.photograph.shape[:2]
    end = drawing.rounded_up(float(gradient.max()))
    scale = Scale(0, end, power=0.5)
    title, drawn_title = (f"Saliency: the logit of “{label}”" for label in _labels(model, best))
    caption = ("The absolute derivative of the logit with respect to each pixel value, after the pixel values were "
               "normalized. A pixel has one value per channel, and the map shows the largest of the absolute "
               "derivatives.")
    page, boxes = drawing.three(drawn_title, caption, size, {
        "photograph": f"the picture, {size[0]} x {size[1]} pixels", "veil": "the picture times the root of the map",
        "saliency": f"the map, {size[0]} x {size[1]} pixels"})
    drawing.show(page, picture.photograph, boxes["photograph"])
    brightness = np.sqrt(gradient / (gradient.max() or 1))[..., None]
    drawing.show(page, np.rint(picture.photograph * brightness).astype(np.uint8), boxes["veil"])
    drawing.show_map(page, gradient, scale, boxes["saliency"])
    drawing.colour_bar(page, drawing.below(boxes["saliency"], COLUMN), scale, "|derivative|, square-root scale")
    i, j = np.unravel_index(gradient.argmax(), gradient.shape)
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} {_colours(scale)} on a square-root scale. The "
                  f"largest derivative is {gradient.max():.3g}, at pixel row {i}, column {j}.", boxes)


def _labels(model, k):
    """The label of class k, at most 40 characters, and the text that a figure shows for it.

    If no font can draw the label, the figure shows the number of the class.
    """
    label = ellipsis(model.config.id2label[k], 40)
    return label, label if drawing.is_drawable(label) else f"class {k}"


def _step(H, W):
    """The number of pixels between neighbouring places of the square, on a picture of H x W pixels.

    The square has at most PLACES places. If possible, the first and the last place are at the edges of the picture.

    >>> _step(64, 64), _step(384, 384), _step(39, 50)
    (8, 48, 5)
    """
    first = next(step for step in range(1, H + W) if (H // step + 1) * (W // step + 1) <= PLACES)
    return min(range(first, 2 * first + 1), key=lambda step: H % step + W % step)


def _around_places(fall, step, size):
    """Give each pixel the value of the nearest place of the square.  (rows, columns) -> (H, W)

    >>> _around_places(np.array([[1, 2, 3]]), 2, (1, 4)).tolist()
    [[1, 2, 2, 3]]
    """
    rows, columns = (np.minimum((np.arange(n) + step // 2) // step, m - 1) for n, m in zip(size, fall.shape))
    return fall[rows[:, None], columns]


def _colours(scale):
    """A text with the lowest and the highest number of a colour scale."""
    return f"Colours from {scale.low:.4g} to {scale.high:.4g}"


FIGURES = {"filters": filters, "feature-maps": feature_maps, "position-similarity": position_similarity,
           "attention": attention, "attention-distance": attention_distance, "rollout": rollout,
           "occlusion": occlusion, "saliency": saliency}
PICTURELESS = "filters", "position-similarity"
OPTIONS = {"attention": ("token", "block", "head"), "rollout": ("token", "block")}
