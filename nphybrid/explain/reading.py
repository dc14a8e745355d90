"""What figures read: of a picture what the network sees, of a walk its states, of the tokens one."""
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..api.processor import ViTHybridImageProcessor
from ..pictures.decode import open_picture
from ..trace import Trace
from . import measures
from .scene import normalization, seen


class Seen(NamedTuple):
    """A picture on its way into a network."""
    pixel_values: np.ndarray              # (1, C, H, W)
    photograph: np.ndarray                # (H, W, 3) uint8: the same before it is scaled
    grey: np.ndarray                      # (3,) uint8: the colour that becomes 0


class Token(NamedTuple):
    """Whose attention is shown."""
    row: np.ndarray                       # (T,): how much each row of the weights counts
    words: str
    cell: tuple | None                    # its (row, column) in the grid


def looked_at(model, image):
    """A picture, as `open_picture` takes it, through the network's own image processor.  -> Seen

    >>> from nphybrid import ViTHybridModel, default_model
    >>> model = ViTHybridModel.from_pretrained(default_model())
    >>> looked_at(model, Image.new("RGB", (80, 64), "#ff8000")).photograph[0, 0]
    array([255, 128,   0], dtype=uint8)
    """
    if model.processor is None:
        raise ValueError(f"this {type(model).__name__} came without an image processor, which prepares the picture; "
                         "expected a preprocessor_config.json beside it, or model.processor")
    processor, picture = ViTHybridImageProcessor.from_dict(model.processor), open_picture(image)
    x = processor(picture, return_tensors="np").pixel_values
    said = normalization(processor, x.shape[1])
    return Seen(x, _bytes(seen(picture, processor)), _bytes(np.divide(said["mean"], said["factor"])))


def _bytes(x):
    return np.rint(np.clip(x, 0, 255)).astype(np.uint8)


def walked(model, picture, states):
    """The named states of a picture's walk.  -> Trace"""
    out = Trace(keep=set(states))
    model.run_into(out, picture.pixel_values)
    return out


def attention_weights(model, picture):
    """Who looks at whom.  -> (L, A, T, T)"""
    blocks = model.network_config.blocks
    return measures.attention(walked(model, picture, [f"blocks.{l}.weights" for l in range(blocks)]), blocks)


def chosen_token(config, token=None):
    """"class", "mean" (of all cells) or "row,column" -> Token; None is what the head reads.

    >>> from nphybrid import Config
    >>> chosen_token(Config(), "23,0").row.nonzero(), chosen_token(Config()).words
    ((array([553]),), 'the class token')
    """
    rows, columns = config.grid
    row, first = np.zeros(config.tokens), int(config.class_token)
    token = token or ("class" if config.pool == "token" else "mean")
    if token == "class" and config.class_token:
        row[0] = 1
        return Token(row, "the class token", None)
    if token == "mean":
        row[first:] = 1 / (rows * columns)
        return Token(row, "all cells, on average", None)
    i, _, j = str(token).partition(",")
    if i.strip().isdecimal() and j.strip().isdecimal() and int(i) < rows and int(j) < columns:
        row[first + int(i) * columns + int(j)] = 1
        return Token(row, f"the cell in row {int(i)}, column {int(j)}", (int(i), int(j)))
    raise ValueError(f"there is no token {token!r}; expected {'class, ' if first else ''}mean, or row,column in a grid "
                     f"of {rows} rows and {columns} columns, counted from 0")


def over_picture(cells, side, size, smooth=False):
    """A number for every pixel, from one per cell of `side` pixels: as squares, or interpolated between their centres.

    (rows, columns) -> (H, W)   A rest of the picture in which no cell lies gets 0: the network does not see it.

    >>> over_picture(np.array([[1., 2]]), side=2, size=(2, 5))
    array([[1., 1., 2., 2., 0.],
           [1., 1., 2., 2., 0.]], dtype=float32)
    """
    rows, columns = cells.shape
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    spread = Image.fromarray(cells.astype(np.float32)).resize((columns * side, rows * side), method)
    covered = np.asarray(spread)[:size[0], :size[1]]
    pixels = np.zeros(size, np.float32)
    pixels[:covered.shape[0], :covered.shape[1]] = covered
    return pixels
