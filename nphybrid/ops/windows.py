"""A convolution as a matrix product: row m of the left factor is the window of output cell m.

                 map (H, W, C), 3x3 kernel              row of the left factor, K = 9 C elements
                 +---+---+---+---+---+                  +-------+-------+-------+--   --+-------+
                 | 0 | 1 | 2 |   |   |                  | tap 0 | tap 1 | tap 2 |  ...  | tap 8 |
                 +---+---+---+---+---+      ->          +-------+-------+-------+--   --+-------+
                 | 3 | 4 | 5 |   |   |                  each tap is a run of C neighbours in memory
                 +---+---+---+---+---+
                 | 6 | 7 | 8 |   |   |                  if C is small, a run is a row of the kernel,
                 +---+---+---+---+---+                  with 3 C neighbours: 0 1 2 | 3 4 5 | 6 7 8

im2col would copy each window. Here the windows are read in place from x, the flat array of all maps. `starts_into`
computes the index in x where each run begins. A map with small C is padded before its windows are read. A linear layer
is a 1x1 convolution over a map of one column.
"""
import functools
from typing import NamedTuple

import numpy as np

from .jit import jit

NOWHERE = (0, 0), (0, 0)                  # no padding


class Windows(NamedTuple):
    """The positions of the windows in the maps (images, H, W, C).  A window has runs of `run` neighbours in memory."""
    H: int
    W: int
    C: int
    rows: int                             # number of rows of the output
    columns: int                          # number of columns of the output
    stride: int
    dilation: int
    top: int                              # padding above the map
    left: int                             # padding left of the map
    across: int                           # number of runs per kernel row
    run: int
    K: int                                # number of elements of a window


@functools.lru_cache(4096)
def windows_of(map_shape, kernel_shape, run, stride, dilation, padding):
    """The Windows of a kernel (KH, KW) over a map (H, W, C).

    Raises ValueError if the dilated kernel is larger than the padded map.
    """
    H, W, C = map_shape
    KH, KW = kernel_shape
    (top, bottom), (left, right) = padding
    height = top + H + bottom
    width = left + W + right
    reach_down = dilation * (KH - 1) + 1
    reach_right = dilation * (KW - 1) + 1
    if height < reach_down or width < reach_right:
        raise ValueError(f"expected a padded map of at least {reach_down} x {reach_right} cells, the size of the "
                         f"dilated kernel, found {height} x {width} cells")
    rows = (height - reach_down) // stride + 1
    columns = (width - reach_right) // stride + 1
    return Windows(H, W, C, rows=rows, columns=columns, stride=stride, dilation=dilation, top=top, left=left,
                   across=KW * C // run, run=run, K=KH * KW * C)


def padded(x, padding):
    """Return the maps with zeros around each map.  With the zeros, no run crosses the edge of a map."""
    B, H, W, C = x.shape
    (top, bottom), (left, right) = padding
    y = np.zeros((B, top + H + bottom, left + W + right, C), np.float32)
    y[:, top:top + H, left:left + W] = x
    return y


@jit
def starts_into(starts, count, windows, first_row, M, first_tap, taps, channel):
    """starts[tap * count + i] = the index in x where run first_tap + tap of row first_row + i begins.

    x is the flat array of all maps, and a row is one of the M rows of the left factor. The starts of `taps` runs are
    computed for each of `count` rows. The index is -1 for a run outside the map and for a row after the last row. Each
    run begins at channel number `channel`.
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
