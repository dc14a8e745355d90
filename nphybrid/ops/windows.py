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
computes the index in x where each run begins, and asks only for the first cell of a run whether it is in the map. So if
C is small, and a run has several cells, the map is padded before its windows are read. A linear layer is a 1x1
convolution over a map of one column. In a map of narrow words, C, `run` and K count words.
"""
import functools
from typing import NamedTuple

import numpy as np

from . import threads
from .chunks import rows_per_task
from .integers import ceil_div
from .jit import jit
from .memory import empty

NO_PADDING = (0, 0), (0, 0)


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
    runs_per_row: int                     # number of runs per kernel row
    run: int
    K: int                                # number of elements of a window


class Blocks(NamedTuple):
    """A result, divided into blocks: its tile rows into `down` parts, and its panels into `across` parts."""
    windows: Windows
    tiles: int                            # number of tile rows
    down: int
    panels: int
    across: int
    panels_in_L2: int
    chain: int                            # most words of a row that are added in one pass over K


class Block(NamedTuple):
    """A task: tile rows range(first_tile, end_tile) and panels range(first_panel, end_panel) of the result."""
    first_tile: int
    end_tile: int
    first_panel: int
    end_panel: int


@jit
def block_of(blocks, number):
    """The Block with a number in range(down * across)."""
    i, j = divmod(number, blocks.across)
    return Block(blocks.tiles * i // blocks.down, blocks.tiles * (i + 1) // blocks.down,
                 blocks.panels * j // blocks.across, blocks.panels * (j + 1) // blocks.across)


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
                   runs_per_row=KW * C // run, run=run, K=KH * KW * C)


def padded(x, padding):
    """Return the maps with zeros around each map.  With the zeros, no run crosses the edge of a map."""
    B, H, W, C = x.shape
    (top, bottom), (left, right) = padding
    y = empty(B, top + H + bottom, left + W + right, C)
    together = rows_per_task(B * y.shape[1], y.shape[2] * C)
    threads.run(ceil_div(B * y.shape[1], together), _pad_into, threads.COPY * y.size, (y, x, top, left, together))
    return y


@jit
def _pad_into(y, x, top, left, together, task):
    """Write some rows of the padded maps.  The rows of all maps are numbered in one sequence."""
    B, H, W, _ = x.shape
    for line in range(task * together, min((task + 1) * together, B * y.shape[1])):
        b, i = divmod(line, y.shape[1])
        row = y[b, i].reshape(y[b, i].size)
        row[:] = np.float32(0)
        if top <= i < top + H:
            inside = x[b, i - top].reshape(x[b, i - top].size)
            start = left * x.shape[3]
            for j in range(inside.size):
                row[start + j] = inside[j]


@jit
def starts_into(starts, count, windows, first_row, M, first_run, runs, channel):
    """starts[r * count + i] = the index in x where run first_run + r of row first_row + i begins.

    x is the flat array of all maps, and a row is one of the M rows of the left factor. The starts of `runs` runs are
    computed for each of `count` rows. The index is -1 for a run outside the map and for a row after the last row. Each
    run begins at channel number `channel`.
    """
    image, cell = divmod(first_row, windows.rows * windows.columns)
    row, column = divmod(cell, windows.columns)
    first_u, first_v = divmod(first_run, windows.runs_per_row)
    for i in range(count):
        u = first_u
        v = first_v
        for r in range(runs):
            h = row * windows.stride + u * windows.dilation - windows.top
            w = column * windows.stride + v * windows.dilation - windows.left
            inside = first_row + i < M and 0 <= h < windows.H and 0 <= w < windows.W
            start = ((image * windows.H + h) * windows.W + w) * windows.C + channel
            starts[r * count + i] = start if inside else -1
            v += 1
            if v == windows.runs_per_row:
                v = 0
                u += 1
        column += 1
        if column == windows.columns:
            column = 0
            row += 1
        if row == windows.rows:
            row = 0
            image += 1
