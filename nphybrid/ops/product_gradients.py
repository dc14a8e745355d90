"""Fast versions of the rules `linear` and `conv2d` of gradients.py, around the register tiles.

There are three products. M is the number of rows, or of output cells. K is the number of elements of a window.

    y  = x @ W       (M, K) @ (K, N)      the forward pass (matmul.py)
    dx = dy @ W.T    (M, N) @ (N, K)      the loops of the forward pass, with panels of W.T (panels.py)
    dW = x.T @ dy    (K, M) @ (M, N)      sums over cells: `_multiply_columns_into`, with the tile of column_tile.py

The gradient dx of a convolution is a convolution of dy. `_convolved_back` explains it. The windows of x are read in
place for dW, too.

Each element of dW is a sum over M, which is divided into passes of at most KC cells. The order of the additions depends
only on the shapes. A task computes a block of dW, so the bits do not depend on the number of threads.
"""
import math
from typing import NamedTuple

import numpy as np

from ..params import Linear
from . import threads
from .checks import floats
from .column_tile import Columns, column_tile
from .emit import wide
from .integers import ceil_div
from .jit import jit
from .matmul import FEW, KC, NOTHING, multiply, split
from .memory import aligned, empty
from .panels import packed_transposed, panels_of
from .target import L2, MR, NR
from .tile import Addend, Panel, Target
from .windows import NOWHERE, Windows, padded, windows_of

WIDTH = 256                               # a task of `_sum_rows` adds up WIDTH columns


def linear(dy, y, x, p):
    """The rule `gradients.linear`.  Each gradient is a function, which the record calls only if it is needed."""
    C, O = p.kernel.shape
    x = floats(x).reshape(1, 1, -1, C)
    dy = floats(dy, "dy")
    rows = dy.reshape(1, 1, -1, O)
    kernel = floats(p.kernel, "kernel").reshape(1, 1, C, O)

    def dx():
        return _convolved_back(rows, x.shape, kernel, 1, 1, NOWHERE).reshape(*dy.shape[:-1], C)

    def dkernel():
        return _kernel_gradient(rows, x, kernel.shape, 1, 1, NOWHERE).reshape(C, O)
    return dx, Linear(dkernel, lambda: _sum_rows(rows.reshape(-1, O)))


def conv2d(dy, y, x, kernel, stride, dilation, padding):
    """The rule `gradients.conv2d`.  Each gradient is a function, which the record calls only if it is needed."""
    x = floats(x)
    dy = floats(dy, "dy")
    kernel = floats(kernel, "kernel")
    if kernel.shape[:2] == (1, 1) and stride == 1 and padding == NOWHERE:
        dx, (dkernel, _) = linear(dy, y, x, Linear(kernel[0, 0], None))
        return dx, lambda: dkernel().reshape(kernel.shape)
    return (lambda: _convolved_back(dy, x.shape, kernel, stride, dilation, padding),
            lambda: _kernel_gradient(dy, x, kernel.shape, stride, dilation, padding))


# ------------------------------------------------------------------ dx

class Phase(NamedTuple):
    """The rows of x that are `stride` apart, and the convolution of dy that computes their gradient.

    The row numbers are first, first + stride, and so on. The same holds for columns.
    """
    first: int
    count: int                            # the number of rows
    taps: list                            # the numbers of the taps that these rows meet, the last tap first
    pads: tuple                           # the padding (before, after) of dy; it can be negative


def _convolved_back(dy, x_shape, kernel, stride, dilation, padding):
    """dx (B, H, W, C) of a convolution, from dy (B, H', W', O).

    Row i of x meets row h of dy through tap u if i + top = h * stride + u * dilation. With stride 1, this is a
    convolution of dy with the taps in reverse order and with transposed matrices. With a larger stride, the taps that a
    row i meets depend on (i + top) modulo the stride. So the rows of x are divided into as many phases as the stride,
    and each phase is a convolution with stride 1 and with a part of the taps. No product with an inserted zero is
    computed. A phase without taps has the gradient 0.
    """
    B, H, W, C = x_shape
    _, rows, columns, O = dy.shape
    down = _phases(H, kernel.shape[0], rows, stride, dilation, padding[0])
    across = _phases(W, kernel.shape[1], columns, stride, dilation, padding[1])
    distance = dilation // math.gcd(stride, dilation)      # neighbouring taps of a phase meet cells of dy this far apart
    dx = None if stride == 1 else np.zeros(x_shape, np.float32)
    for v in across:
        for u in down:
            taps = [(i, j) for i in u.taps for j in v.taps]
            if not taps or not u.count or not v.count or not B:
                continue
            windows = windows_of((rows, columns, O), (len(u.taps), len(v.taps)), O, 1, distance, (u.pads, v.pads))
            part = multiply(dy, packed_transposed(kernel, taps), windows, B, NOTHING, NOTHING, 0)
            part = part.reshape(B, u.count, v.count, C)
            if dx is None:
                return part
            dx[:, u.first::stride, v.first::stride] = part
    return np.zeros(x_shape, np.float32) if dx is None else dx


def _phases(n, taps, outputs, stride, dilation, pads):
    """The phases of an axis of n cells, for a kernel with `taps` taps and an output with `outputs` cells."""
    distance = dilation // math.gcd(stride, dilation)
    phases = []
    for first in range(min(stride, n)):
        remainder = (first + pads[0]) % stride
        met = [u for u in range(taps) if (u * dilation - remainder) % stride == 0][::-1]
        count = ceil_div(n - first, stride)
        if not met:
            phases.append(Phase(first, count, [], (0, 0)))
            continue
        before = (met[0] * dilation - first - pads[0]) // stride
        after = count - before - outputs + distance * (len(met) - 1)
        phases.append(Phase(first, count, met, (before, after)))
    return phases


# ------------------------------------------------------------------ dW

class ColumnBlock(NamedTuple):
    """A task: tile rows range(first_tile, end_tile) and panels range(first_panel, end_panel) of dW."""
    windows: Windows
    images: int
    tiles: int                            # number of tiles of MR channels of one tap
    first_tile: int
    end_tile: int
    first_panel: int
    end_panel: int
    panels_in_L2: int


def _kernel_gradient(dy, x, kernel_shape, stride, dilation, padding):
    """The gradient (KH, KW, C, O) of a kernel."""
    KH, KW, C, O = kernel_shape
    if not dy.size:
        return np.zeros(kernel_shape, np.float32)
    run = C
    if dilation == 1 and 1 < KW and C < FEW:
        x = padded(x, padding)
        padding = NOWHERE
        run = KW * C                      # a row of the kernel is one tap with KW * C channels, as in `conv2d`
    if run < MR:
        return _with_more_channels(dy, x, kernel_shape, stride, dilation, padding)
    B, H, W, _ = x.shape
    windows = windows_of((H, W, C), (KH, KW), run, stride, dilation, padding)
    out = empty(windows.K, O)
    panels = panels_of(dy.reshape(-1, O)).reshape(-1)
    work = dy.size * windows.K
    blocks = _column_blocks(windows, B, O, x.size, dy.size, threads.worth(work))
    flat = x.reshape(-1)
    threads.run(len(blocks), lambda i: _multiply_columns_into(out, flat, panels, blocks[i]), work)
    return out.reshape(kernel_shape)


def _with_more_channels(dy, x, kernel_shape, stride, dilation, padding):
    """The gradient of a kernel with fewer than MR channels.  Channels of zeros are added, and dropped at the end."""
    KH, KW, C, O = kernel_shape
    more = np.zeros((*x.shape[:3], FEW), np.float32)
    more[..., :C] = x
    return np.ascontiguousarray(_kernel_gradient(dy, more, (KH, KW, FEW, O), stride, dilation, padding)[:, :, :C])


def _column_blocks(windows, B, O, x_size, dy_size, n):
    """The list of ColumnBlocks into which dW is divided for n threads."""
    tiles = ceil_div(windows.run, MR)
    taps = windows.K // windows.run
    panels = ceil_div(O, NR)
    M = B * windows.rows * windows.columns
    down, across = split(taps * tiles, panels, MR * NR * M, dy_size, x_size, n)
    panels_in_L2 = max(1, L2 // 3 // (min(KC, M) * NR * 4))
    tile_starts = [taps * tiles * i // down for i in range(down + 1)]
    panel_starts = [panels * j // across for j in range(across + 1)]
    return [ColumnBlock(windows, B, tiles, first_tile, end_tile, first_panel, end_panel, panels_in_L2)
            for first_tile, end_tile in zip(tile_starts, tile_starts[1:])
            for first_panel, end_panel in zip(panel_starts, panel_starts[1:])]


@jit
def _multiply_columns_into(out, x, panels, block):
    """out[block] = x.T @ dy, where the rows of x are the windows.  out (K, N), x and panels are flat.

    A pass adds up at most KC cells. In later passes, `out` holds the sums of all earlier passes.
    """
    windows = block.windows
    N = out.shape[1]
    flat = out.reshape(out.size)
    sums = aligned(MR * NR)               # the sums of a tile that is not written in place
    M = block.images * windows.rows * windows.columns
    starts = np.empty(KC, np.int64)
    cells = np.empty(KC, np.int64)
    lengths = np.empty(KC, np.int64)
    step = windows.stride * windows.C
    # Loop 5 goes over groups of panels. The panels of a group share L2.
    for panels_start in range(block.first_panel, block.end_panel, block.panels_in_L2):
        panels_end = min(panels_start + block.panels_in_L2, block.end_panel)
        # Loop 4 goes over passes. A pass reads KC rows of each panel, and these rows stay in L2.
        for first_cell in range(0, M, KC):
            end_cell = min(first_cell + KC, M)
            tap_before = -1
            count = 0
            # Loop 2 goes over tile rows. MR channels of KC cells come into L1.
            for tile_row in range(block.first_tile, block.end_tile):
                tap, tile = divmod(tile_row, block.tiles)
                if tap != tap_before:
                    count = _runs_into(starts, cells, lengths, windows, tap, first_cell, end_cell)
                    tap_before = tap
                channel = min(tile * MR, windows.run - MR)
                skipped = tile * MR - channel              # rows that the tile before has computed
                row = tap * windows.run + channel
                columns = Columns(x, channel, starts, cells, lengths, count, step)
                # Loop 1 goes over panels.
                for p in range(panels_start, panels_end):
                    column = p * NR
                    at = row * N + column
                    panel = Panel(panels, p * M * NR)
                    if skipped == 0 and column + NR <= N:
                        column_tile(columns, panel, Target(flat, at, N), Addend(flat, at, N, first_cell))
                    else:
                        column_tile(columns, panel, Target(sums, 0, NR), Addend(sums, 0, 0, 0))
                        _add_tile_into(out, sums, row, column, skipped, first_cell == 0)


@jit
def _add_tile_into(out, sums, row, column, skipped, first):
    """out[row + i, column + j] += sums[i, j] for i >= skipped.  In the first pass, `out` holds no sums yet."""
    width = min(NR, out.shape[1] - column)
    for i in range(skipped, MR):
        to = out[row + i, column:column + width]
        for j in range(width):
            to[j] = sums[i * NR + j] + (np.float32(0) if first else to[j])


@jit
def _runs_into(starts, cells, lengths, windows, tap, first_cell, end_cell):
    """Fill the runs of a pass for one tap, and return their number.

    The pass has the output cells range(first_cell, end_cell). A run is a part of a row of output cells, and its windows
    are inside the map at this tap.
    """
    u, v = divmod(tap, windows.across)
    left = v * windows.dilation - windows.left             # the column of x that output column 0 reads
    first_inside = max(0, ceil_div(-left, windows.stride))
    end_inside = min(windows.columns, ceil_div(windows.W - left, windows.stride))
    if windows.run > windows.C:                            # a run is a row of the kernel, and the map is padded
        end_inside = windows.columns
    count = 0
    cell = first_cell
    while cell < end_cell:
        map_row, column = divmod(cell, windows.columns)
        length = min(windows.columns - column, end_cell - cell)
        image, row = divmod(map_row, windows.rows)
        h = row * windows.stride + u * windows.dilation - windows.top
        begin = max(column, first_inside)
        end = min(column + length, end_inside)
        if 0 <= h < windows.H and begin < end:
            w = begin * windows.stride + left
            starts[count] = ((image * windows.H + h) * windows.W + w) * windows.C
            cells[count] = map_row * windows.columns + begin
            lengths[count] = end - begin
            count += 1
        cell += length
    return count


# ------------------------------------------------------------------ db

def _sum_rows(dy):
    """The sum of all rows, added up in float64.  (M, N) -> (N,)"""
    M, N = dy.shape
    sums = np.empty(N, np.float32)

    def task(i):
        _sum_rows_into(sums[i * WIDTH:(i + 1) * WIDTH], dy, i * WIDTH)
    threads.run(ceil_div(N, WIDTH), task, threads.ELEMENT * dy.size)
    return sums


@jit
def _sum_rows_into(sums, dy, column):
    wide()
    total = np.zeros(sums.size)
    for m in range(dy.shape[0]):
        row = dy[m, column:column + sums.size]
        for j in range(row.size):
            total[j] += row[j]
    for j in range(sums.size):
        sums[j] = total[j]
