"""Each picture alone, at print quality: a table of names, and one function per figure.

    filters              the stem's kernels
    feature-maps         what the stem and each stage make of a picture
    position-similarity  the learned positions, each beside all                ViT, figure 7, centre
    attention            a token's row of the weights of every layer and head
    attention-distance   how far each head looks                               ViT, figure 7, right
    rollout              what reaches a token through all layers               ViT, figure 6
    occlusion            where the answer falls when a square hides the picture

Layers are the encoder's blocks. They, heads, rows and columns are counted from 0.
"""
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from .. import __version__
from ..api.scores import scores_of
from ..tensorfile import write_atomically
from ..text import printable
from . import drawing, measures
from .colours import DIVERGING
from .drawing import COLUMN, GUTTER, INK, MARGIN, QUIET, SIDE, SMALL, Scale
from .reading import attention_weights, chosen_token, looked_at, over_picture, walked
from .scene import cell

FILTERS, MAPS = 64, 16                    # at most, of the stem and of each stage
PLACES = 144                              # of the grey square, at most


class Figure(NamedTuple):
    """One figure, to be printed at 300 dots per inch."""
    image: Image.Image                    # RGB
    title: str
    description: str                      # what is to be seen, in words: the alternative text
    boxes: dict                           # {what: (left, top, right, bottom)} of each part of the sheet, in dots


def figure(name, model, image=None, **options):
    """Draw a figure.  -> Figure

    name: one of FIGURES. model: of any of the package's classes. image: a picture, as `open_picture` takes it; filters
    and position-similarity have none. options: token, layer and head of attention, token and layer of rollout; a token
    is "class", "mean" (of all cells) or "row,column", by default what the network's head reads. Raises ValueError for a
    network that lacks what the figure is of, and for options that do not fit; PictureError, OSError.

    >>> from nphybrid import ViTHybridModel, default_model
    >>> drawn = figure("position-similarity", ViTHybridModel.from_pretrained(default_model()))
    >>> drawn.title, len(drawn.boxes)
    ('Similarity of the learned positions', 64)
    """
    checked(name, image, options)
    pictures = () if name in PICTURELESS else (looked_at(model, image),)
    return FIGURES[name](model, *pictures, **options)


def checked(name, image, options):
    """Raise ValueError unless there is a figure of this name, and it is given what it needs and nothing else."""
    if name not in FIGURES:
        raise ValueError(f"there is no figure {name!r}; expected one of {', '.join(FIGURES)}")
    if name in PICTURELESS and image is not None:
        raise ValueError(f"the figure {name} is of weights alone: expected no IMAGE, found {image}")
    if name not in PICTURELESS and image is None:
        raise ValueError(f"the figure {name} is of a picture: expected an IMAGE, found none")
    for option in options:
        if option not in OPTIONS.get(name, ()):
            fitting = [figure for figure, names in OPTIONS.items() if option in names]
            raise ValueError(f"the figure {name} has no {option}" + (f"; {', '.join(fitting)} has" if fitting else ""))


def save(figure, path):
    """Write a Figure as a PNG, whole or not at all: 300 dots per inch, its words in the chunks Title, Description and
    Software.  Raises ValueError for a name that does not end in .png, OSError.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{os.fspath(path)}: a figure is a PNG; expected a name that ends in .png")
    words = PngImagePlugin.PngInfo()
    for key, text in (("Title", figure.title), ("Description", figure.description),
                      ("Software", f"nphybrid {__version__}")):
        words.add_text(key, text)
    with write_atomically(path) as temporary:
        figure.image.save(temporary, "PNG", pnginfo=words, dpi=(drawing.DPI, drawing.DPI), optimize=True)


def _demand(there, name, model, needs):
    """Raise ValueError unless the network has what a figure is of."""
    if not there:
        raise ValueError(f"the figure {name} needs {needs}; this {type(model).__name__} has none")


# ---------------------------------------------------------------- of weights

def filters(model):
    """The stem's kernels as small colour pictures."""
    _demand(model.network_config.stem, "filters", model, "the convolution of a hybrid's or a BiT's stem")
    kernels = model.learned().stem.conv.transpose(3, 0, 1, 2)
    if kernels.shape[-1] != 3:
        raise ValueError(f"the figure filters shows red, green and blue; this stem reads {kernels.shape[-1]} channels")
    shown, title = kernels[:FILTERS], "Filters of the stem"
    count = f"{len(shown)}" if len(shown) == len(kernels) else f"The first {len(shown)} of {len(kernels)}"
    caption = (f"{count} kernels of 7 x 7 pixels in red, green and blue, each standardized to mean 0 and variance 1. "
               "Grey is 0; each filter has its own scale.")
    page, top = drawing.sheet(title, caption, 2260, 1200)
    places = drawing.grid(page, MARGIN, top, ("filter", range(0, len(shown), 16)),
                          ("", [f"+{i}" for i in range(min(16, len(shown)))]), (112, 112), gap=14)
    scale, boxes = Scale(-1, 1, ("000000", "ffffff")), {}
    for i, kernel in enumerate(shown):
        boxes[f"filter {i}"] = box = places[i - i % 16, f"+{i % 16}"]
        drawing.show(page, drawing.painted(kernel / (np.abs(kernel).max() or 1), scale)[..., 0], box)
    drawing.colour_bar(page, drawing.placed(MARGIN + 110, box[3] + 110, (36, 700)), scale,
                       "weight / largest absolute weight of the filter")
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} A colour is dark at minus its filter's largest "
                  "absolute weight and bright at plus that.", boxes)


def position_similarity(model):
    """For each cell of the grid a map of cosines."""
    config, title = model.network_config, "Similarity of the learned positions"
    _demand(config.blocks, "position-similarity", model, "the tokens of a transformer")
    (rows, columns), positions = config.grid, model.learned().tokens.positions
    if not positions.any(axis=1).all():
        raise ValueError("the figure position-similarity needs positions that were learned; one of this "
                         f"{type(model).__name__} is 0 everywhere, and has no cosine")
    similar = measures.position_similarity(positions, config.grid)
    caption = (f"For each of the {rows} x {columns} cells a map: the cosine between its position embedding, of width "
               f"{config.width}, and that of every cell.")
    factor = drawing.whole_factor(config.grid, (2000 // rows - 10, 2100 // columns - 10))
    page, top = drawing.sheet(title, caption, max(2000, 2 * MARGIN + 100 + columns * (columns * factor + 10)),
                              rows * (rows * factor + 10) + 500)
    places = drawing.grid(page, MARGIN, top, ("row of the cell", range(rows)), ("column of the cell", range(columns)),
                          (rows * factor, columns * factor))
    scale = Scale(-1, 1, DIVERGING)
    for (i, j), box in places.items():
        drawing.show_map(page, similar[i * columns + j].reshape(config.grid), scale, box)
    drawing.colour_bar(page, drawing.placed(MARGIN + 110, box[3] + 110, (36, 700)), scale, "cosine")
    apart = measures.distances(config.grid, (1, 1))
    found = "".join(f" Between {who} it is {similar[which].mean():.2g} on average."
                    for who, which in (("neighbours", apart == 1), ("all cells", apart > 0)) if which.any())
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} Colours from -1, blue, over 0, white, to 1, "
                  f"brown.{found}", {f"row {i} column {j}": box for (i, j), box in places.items()})


# ---------------------------------------------------------------- of a picture

def feature_maps(model, picture):
    """Per stage the maps that vary most over the picture."""
    config, title = model.network_config, "Feature maps of the backbone"
    _demand(config.stem, "feature-maps", model, "the convolutions of a hybrid's or a BiT's backbone")
    states = {"stem": "stem"} | {f"stage {s}": f"stages.{s}.{depth - 1}" for s, depth in enumerate(config.depths)}
    out = walked(model, picture, states.values())
    caption = ("The output of the stem and of each stage at its own coarseness: the channels that vary most over this "
               "picture.")
    tile = out["stem"].shape[1:3]
    factor = drawing.whole_factor(tile, (200, 200))
    tile = tile[0] * factor, tile[1] * factor
    left = MARGIN + SIDE + GUTTER
    page, top = drawing.sheet(title, caption, left + 8 * _across(tile) - 14 + MARGIN,
                              max(len(states) * (2 * tile[0] + 350), 1200))
    boxes, found = {"photograph": drawing.beside(page, top, picture.photograph)[0]}, []
    for stage, name in states.items():
        x = out[name][0]
        varied = np.argsort(-x.var(axis=(0, 1), dtype=np.float64), kind="stable")[:MAPS].tolist()
        shown = {c: x[..., c] for c in sorted(varied)}
        end = drawing.rounded_up(float(np.abs(x[..., varied]).max()))
        scale = Scale(0, end) if x.min() >= 0 else Scale(-end, end, DIVERGING)
        drawing.write(page, left, top, stage)
        drawing.write(page, left, top + 48, "{} x {} cells, {} channels".format(*x.shape), SMALL, QUIET)
        drawing.colour_bar(page, drawing.placed(left + 8 * _across(tile) - 614, top + 40, (36, 600)), scale,
                           "activation")
        places = _channels(page, left, top + 130, shown, scale, tile)
        boxes |= {f"{stage} channel {c}": box for c, box in places.items()}
        top = max(bottom for *_, bottom in places.values()) + 70
        found.append(f"{stage}: {_colours(scale).lower()}, channels {', '.join(map(str, varied))}")
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} The channels that vary most come first here. "
                  f"{'; '.join(found)}.", boxes)


def _channels(page, left, top, maps, scale, tile):
    """Draw maps in rows of eight, each below its number.  {channel: map} -> {channel: box}"""
    boxes = {}
    for k, (c, x) in enumerate(maps.items()):
        y = top + k // 8 * (tile[0] + 60) + 44
        boxes[c] = box = drawing.placed(left + k % 8 * _across(tile), y, tile)
        drawing.write(page, (box[0] + box[2]) // 2, y - 10, str(c), SMALL, QUIET, "ms")
        drawing.show_map(page, x, scale, box)
    return boxes


def _across(tile):
    """From one channel's map to the next: even narrow ones leave room for words."""
    return max(tile[1], 160) + 14


def attention(model, picture, token=None, layer=None, head=None):
    """A token's row of the weights, as maps."""
    config = model.network_config
    _demand(config.blocks, "attention", model, "the tokens of a transformer")
    layers, heads = _numbers("layer", layer, config.blocks), _numbers("head", head, config.heads)
    token, (rows, columns) = chosen_token(config, token), config.grid
    given = np.einsum("t,lats->las", token.row, attention_weights(model, picture)[layers.start:layers.stop])
    maps = given[:, heads.start:heads.stop, -rows * columns:].reshape(len(layers), len(heads), rows, columns)
    scale = Scale(0, drawing.rounded_up(float(maps.max())), power=0.5)
    title = f"Attention of {token.words}"
    caption = f"How much it takes from each of the {rows} x {columns} cells, per layer and head: rows of the softmax."
    factor = drawing.whole_factor(config.grid, (1700 // len(layers) - 10, 1640 // len(heads) - 10))
    left = MARGIN + SIDE + GUTTER
    page, top = drawing.sheet(title, caption, max(2000, left + 100 + len(heads) * (columns * factor + 10) + MARGIN),
                              max(len(layers) * (rows * factor + 10), 1200) + 300)
    places = drawing.grid(page, left, top, ("layer", layers), ("head", heads), (rows * factor, columns * factor))
    for (l, a), box in places.items():
        drawing.show_map(page, maps[l - layers.start, a - heads.start], scale, box)
    box, below = drawing.beside(page, top + 100, picture.photograph, token.cell, cell(config)[0])
    drawing.colour_bar(page, drawing.placed(MARGIN, below + 70, (36, SIDE)), scale, "weight")
    l, a, i, j = np.unravel_index(maps.argmax(), maps.shape)
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} {_colours(scale)} by the square root. The most, "
                  f"{maps.max():.2g}, layer {layers[l]}, head {heads[a]} takes from row {i}, column {j}.",
                  {"photograph": box} | {f"layer {l} head {a}": box for (l, a), box in places.items()})


def _numbers(what, chosen, count):
    """All layers or heads of a network, or the chosen one.  -> range"""
    if chosen is None:
        return range(count)
    if chosen not in range(count):
        raise ValueError(f"there is no {what} {chosen}; this network has {what}s 0 to {count - 1}")
    return range(chosen, chosen + 1)


def attention_distance(model, picture):
    """The mean distance of each head, in pixels, against depth."""
    config, title = model.network_config, "Attention distance"
    _demand(config.blocks, "attention-distance", model, "the tokens of a transformer")
    (rows, columns), (height, width) = config.grid, cell(config)
    far = measures.attention_distance(attention_weights(model, picture), (rows, columns), (height, width))
    uniform = measures.distances((rows, columns), (height, width)).mean()
    caption = (f"For each head the mean distance between a cell and the cells it takes from, weighted by how much: "
               f"{rows} x {columns} cells of {height} x {width} pixels.")
    page, top = drawing.sheet(title, caption, 2260, 1400)
    photograph, _ = drawing.beside(page, top, picture.photograph)
    plot = MARGIN + SIDE + GUTTER + 130, top + 80, 2260 - MARGIN, top + 1080
    boxes = {"photograph": photograph} | _heads(page, plot, far, uniform)
    near, wide = (np.unravel_index(index, far.shape) for index in (far.argmin(), far.argmax()))
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} Layer {near[0]}, head {near[1]} looks nearest, "
                  f"{far[near]:.1f} pixels, and layer {wide[0]}, head {wide[1]} farthest, {far[wide]:.1f}; uniform "
                  f"attention would be {uniform:.1f}.", boxes)


def _heads(page, plot, far, uniform):
    """Draw a dot per head, a line per layer's mean, and the line of uniform attention.  far: (L, A) -> boxes of dots"""
    left, top, right, bottom = plot
    (layers, heads), end = far.shape, 1.06 * max(far.max(), uniform, 1e-9)
    boxes, step = {}, (right - left) / layers
    drawing.axes(page, plot, [(f"{tick:g}", bottom - tick / end * (bottom - top)) for tick in drawing.ticks(end)],
                 [(str(l), left + (l + 0.5) * step) for l in range(0, layers, -(-layers // 32))],
                 "mean distance (pixels)", "layer")
    drawing.level(page, left, right, bottom - uniform / end * (bottom - top), QUIET, dash=16)
    for l in range(layers):
        middle, y = left + (l + 0.5) * step, bottom - far[l].mean() / end * (bottom - top)
        for a in range(heads):
            x, y_of = middle + (a - (heads - 1) / 2) * 0.65 * step / heads, bottom - far[l, a] / end * (bottom - top)
            boxes[f"layer {l} head {a}"] = drawing.dot(page, x, y_of, 11)
        drawing.level(page, middle - 0.42 * step, middle + 0.42 * step, y)
    drawing.dot(page, left + 20, top - 70, 11)
    drawing.write(page, left + 50, top - 70, "a head", SMALL, INK, "lm")
    drawing.level(page, left + 250, left + 330, top - 70)
    drawing.write(page, left + 350, top - 70, "mean of a layer", SMALL, INK, "lm")
    drawing.level(page, left + 650, left + 730, top - 70, QUIET, dash=16)
    drawing.write(page, left + 750, top - 70, f"uniform attention: {uniform:.1f} pixels", SMALL, INK, "lm")
    return boxes


def rollout(model, picture, token=None, layer=None):
    """What reaches a token of a layer's output, as a map and as a veil over the picture."""
    config = model.network_config
    _demand(config.blocks, "rollout", model, "the tokens of a transformer")
    layer, token = _numbers("layer", layer, config.blocks)[-1], chosen_token(config, token)
    reached, (rows, columns) = token.row @ measures.rollout(attention_weights(model, picture))[layer], config.grid
    cells = reached[-rows * columns:].reshape(rows, columns)
    scale, size = Scale(0, drawing.rounded_up(float(cells.max()))), picture.photograph.shape[:2]
    veil = over_picture(cells / cells.max(), cell(config)[0], size, smooth=True)
    title = f"Attention rollout of {token.words}"
    caption = (f"Each cell's share in it after layer {layer}: heads averaged, shortcuts counted as attention."
               + (f" The class token's own share is {reached[0]:.2g}." if config.class_token else ""))
    page, boxes = drawing.three(title, caption, size, {
        "photograph": f"the picture, {size[0]} x {size[1]} pixels", "veil": "the picture times the rollout",
        "rollout": f"the rollout, {rows} x {columns} cells"})
    drawing.show(page, picture.photograph, boxes["photograph"])
    drawing.show(page, np.rint(picture.photograph * veil[..., None]).astype(np.uint8), boxes["veil"])
    drawing.show_map(page, over_picture(cells, cell(config)[0], size), scale, boxes["rollout"])
    drawing.colour_bar(page, drawing.below(boxes["rollout"], COLUMN), scale, "share of a cell")
    i, j = np.unravel_index(cells.argmax(), cells.shape)
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} {_colours(scale)}; over the picture, black "
                  f"at 0 and clear at the most. The most, {cells.max():.2g}, is of row {i}, column {j}.", boxes)


def occlusion(model, picture):
    """How far the answer's probability falls where a grey square hides the picture."""
    _demand(model.has_head and model.network_config.classes, "occlusion", model, "a classifier")
    logits, size = model(picture.pixel_values).logits, picture.photograph.shape[:2]
    best, step = int(logits[0].argmax()), _step(*size)
    window = 2 * step

    def score(x):
        return scores_of(model(x).logits, model.config)[:, best]
    fall = measures.occlusion(score, picture.pixel_values, window, step)
    whole, label = scores_of(logits, model.config)[0, best], printable(model.config.id2label[best])
    label = label if len(label) <= 40 else label[:39] + "…"
    i, j = np.unravel_index(fall.argmax(), fall.shape)
    hidden = picture.photograph.copy()
    square = tuple(slice(max(n * step - step, 0), n * step + step) for n in (i, j))
    hidden[square] = picture.grey
    end = drawing.rounded_up(float(np.abs(fall).max()))
    scale, title = Scale(-end, end, DIVERGING), f"Occlusion: what “{label}” rests on"
    caption = (f"The fall of its probability, {whole:.3g}, where a square of {window} x {window} pixels set to 0 hides "
               f"the picture: {fall.shape[0]} x {fall.shape[1]} places of its centre, {step} pixels apart.")
    page, boxes = drawing.three(title, caption, size, {
        "photograph": f"the picture, {size[0]} x {size[1]} pixels",
        "hidden": f"hidden where it counts most: probability {whole - fall[i, j]:.3g}",
        "fall": "the fall at each place"})
    drawing.show(page, picture.photograph, boxes["photograph"])
    drawing.show(page, hidden, boxes["hidden"])
    drawing.show_map(page, _around_places(fall, step, size), scale, boxes["fall"])
    drawing.colour_bar(page, drawing.below(boxes["fall"], COLUMN), scale, "fall of the probability")
    return Figure(drawing.trimmed(page), title, f"{title}. {caption} {_colours(scale)}: brown where it falls, blue "
                  f"where it rises. It falls most, to {whole - fall[i, j]:.3g}, with the square's centre at pixel row "
                  f"{i * step}, column {j * step}.", boxes)


def _step(H, W):
    """How far the square moves: so far that PLACES suffice, and where possible from edge to edge.

    >>> _step(64, 64), _step(384, 384), _step(39, 50)
    (8, 48, 5)
    """
    first = next(step for step in range(1, H + W) if (H // step + 1) * (W // step + 1) <= PLACES)
    return min(range(first, 2 * first + 1), key=lambda step: H % step + W % step)


def _around_places(fall, step, size):
    """To each pixel the number of the place it is nearest to.  (rows, columns) -> (H, W)

    >>> _around_places(np.array([[1, 2, 3]]), 2, (1, 4)).tolist()
    [[1, 2, 2, 3]]
    """
    rows, columns = (np.minimum((np.arange(n) + step // 2) // step, m - 1) for n, m in zip(size, fall.shape))
    return fall[rows[:, None], columns]


def _colours(scale):
    """What a colour bar says, in words."""
    return f"Colours from {scale.low:.4g} to {scale.high:.4g}"


FIGURES = {"filters": filters, "feature-maps": feature_maps, "position-similarity": position_similarity,
           "attention": attention, "attention-distance": attention_distance, "rollout": rollout,
           "occlusion": occlusion}
PICTURELESS = "filters", "position-similarity"
OPTIONS = {"attention": ("token", "layer", "head"), "rollout": ("token", "layer")}
