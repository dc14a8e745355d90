"""Prepare the picture, the intermediate states and the token that the figures show."""
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..config import Config
from ..pictures.decode import open_picture
from ..trace import Trace
from . import measures
from .scene import normalization, resized_and_cropped


class PreparedPicture(NamedTuple):
    """A picture that is prepared for a network."""
    pixel_values: np.ndarray              # (1, C, H, W)
    photograph: np.ndarray                # (H, W, 3) uint8: the picture after resizing and cropping
    grey: np.ndarray                      # (3,) uint8: the colour whose pixel_values are 0


class Token(NamedTuple):
    """The token, or the mean of all cells, whose attention or rollout a figure shows."""
    row: np.ndarray                       # (T,): the factor of each token; the factors add up to 1
    name: str
    cell: tuple[int, int] | None          # the (row, column) of the token's cell in the grid


def prepare_picture(model, image) -> PreparedPicture:
    """Prepare a picture with the image processor of a model.

    `image` is anything that `open_picture` accepts. Raises ValueError for a model without an image processor. Raises
    PictureError or OSError if the picture cannot be read.

    >>> from nphybrid import ViTHybridModel, default_model
    >>> model = ViTHybridModel.from_pretrained(default_model())
    >>> prepare_picture(model, Image.new("RGB", (80, 64), "#ff8000")).photograph[0, 0]
    array([255, 128,   0], dtype=uint8)
    """
    processor, picture = model.image_processor(), open_picture(image)
    x = processor(picture, return_tensors="np").pixel_values
    scaling = normalization(processor, x.shape[1])
    grey = np.divide(scaling["mean"], scaling["factor"])
    photograph = _to_bytes(resized_and_cropped(picture, processor))
    copies = 3 // x.shape[1]              # the channel of a grey picture is red, green and blue
    return PreparedPicture(x, np.repeat(photograph, copies, axis=2), np.repeat(_to_bytes(grey), copies))


def _to_bytes(x):
    return np.rint(np.clip(x, 0, 255)).astype(np.uint8)


def named_states(model, picture: PreparedPicture, names) -> Trace:
    """Run one forward pass, and keep the states with the given names."""
    trace = Trace(keep=set(names))
    model.run_into(trace, picture.pixel_values)
    return trace


def attention_weights(model, picture: PreparedPicture) -> np.ndarray:
    """The attention weights of all blocks and heads for one picture.  -> (L, A, T, T)"""
    blocks = model.network_config.blocks
    return measures.attention(named_states(model, picture, [f"blocks.{l}.weights" for l in range(blocks)]), blocks)


def find_token(config: Config, token: str | None = None) -> Token:
    """Find a token by its name: "class", "mean" (of all cells) or "row,column".

    If `token` is None, the result is the input of the classifier.

    >>> find_token(Config(), "23,0").row.nonzero(), find_token(Config()).name
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


def cells_to_pixels(cells: np.ndarray, side: int, size: tuple[int, int], smooth: bool = False) -> np.ndarray:
    """Copy the value of each cell to every pixel of the cell.  (rows, columns) -> (H, W)

    `side` is the side of a cell in pixels. `size` is the (H, W) of the picture. If `smooth` is True, the values are
    interpolated between the centres of the cells. A pixel that no cell covers gets 0, because the network does not read
    this pixel.

    >>> cells_to_pixels(np.array([[1., 2]]), side=2, size=(2, 5))
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
