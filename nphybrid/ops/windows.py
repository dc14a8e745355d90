"""A convolution as a matmul: row m of the left factor is the window of output cell m, read in place from the maps.

                 map (H, W, C), 3x3 kernel              row of the left factor, K = 9 C elements
                 +---+---+---+---+---+                  +-------+-------+-------+--   --+-------+
                 | 0 | 1 | 2 |   |   |                  | tap 0 | tap 1 | tap 2 |  ...  | tap 8 |
                 +---+---+---+---+---+      ->          +-------+-------+-------+--   --+-------+
                 | 3 | 4 | 5 |   |   |                  each tap is a run of C neighbours in memory
                 +---+---+---+---+---+
                 | 6 | 7 | 8 |   |   |                  padded first, C small: a run is a row of the kernel,
                 +---+---+---+---+---+                  0 1 2 | 3 4 5 | 6 7 8, of 3 C neighbours

Instead of copying the windows (im2col), `starts_into` computes the index in x where each run begins. A linear layer is
a 1x1 convolution over a map of one column.
"""
import functools
from typing import NamedTuple

import numpy as np

from .jit import jit

NOWHERE = (0, 0), (0, 0)                  # no padding


class Windows(NamedTuple):
    """How the windows lie in the maps (images, H, W, C).  A window is made of runs of `run` neighbours."""
    H: int
    W: int
    C: int
    rows: int                             # of the output
    columns: int
    stride: int
    dilation: int
    top: int                              # padding
    left: int
    across: int                           # runs per kernel row
    run: int
    K: int                                # elements of a window


@functools.lru_cache(4096)
def windows_of(map_shape, kernel_shape, run, stride, dilation, padding):
    """The Windows of a kernel (KH, KW) over a map (H, W, C).  Raises ValueError if the kernel is larger."""
    H, W, C = map_shape
    KH, KW = kernel_shape
    (top, bottom), (left, right) = padding
    height = top + H + bottom
    width = left + W + right
    reach_down = dilation * (KH - 1) + 1
    reach_right = dilation * (KW - 1) + 1
    if height < reach_down or width < reach_right:
        raise ValueError(f"expected a padded map of at least {reach_down} x {reach_right} cells, the reach of its "
                         f"kernel, found {height} x {width} cells")
    rows = (height - reach_down) // stride + 1
    columns = (width - reach_right) // stride + 1
    return Windows(H, W, C, rows=rows, columns=columns, stride=stride, dilation=dilation, top=top, left=left,
                   across=KW * C // run, run=run, K=KH * KW * C)


def padded(x, padding):
    """The maps with zeros around them, so that a run never crosses the edge of a map."""
    B, H, W, C = x.shape
    (top, bottom), (left, right) = padding
    y = np.zeros((B, top + H + bottom, left + W + right, C), np.float32)
    y[:, top:top + H, left:left + W] = x
    return y


@jit
def starts_into(starts, count, windows, first_row, M, first_tap, taps, channel):
    """starts[tap * count + i] = index in x where a run of row first_row + i begins, or -1 outside the map.

    For `count` rows of M, and `taps` runs from first_tap on; a run begins at `channel`.
    """
    image, cell = divmod(first_row, windows.rows * windows.columns)
    row, column = divmod(cell, windows.columns)
    first_u, first_v = divmod(first_tap, windows.across)
    for i in range(count):
        u = first_u
        v = first_v
        for tap in range(taps):
            h = row * windows.stride + u * windows.dilation - windows.top
            w = column * windows.stride + v * windows.dilation - windows.left
            inside = first_row + i < M and 0 <= h < windows.H and 0 <= w < windows.W
            start = ((image * windows.H + h) * windows.W + w) * windows.C + channel
            starts[tap * count + i] = start if inside else -1
            v += 1
            if v == windows.across:
                v = 0
                u += 1
        column += 1
        if column == windows.columns:
            column = 0
            row += 1
        if row == windows.rows:
            row = 0
            image += 1
