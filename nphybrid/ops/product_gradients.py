"""Fast versions of the rules `linear` and `conv2d` of gradients.py, around the register tile.

There are three products. M is the number of rows, or of output cells. K is the number of elements of a window.

    y  = x @ W       (M, K) @ (K, N)      the forward pass (matmul.py)
    dx = dy @ W.T    (M, N) @ (N, K)      the loops of the forward pass, with panels of W.T (packed.py)
    dW = x.T @ dy    (K, M) @ (M, N)      sums over cells: `_multiply_cells_into`

The gradient dx of a convolution is a convolution of dy. `_convolved_back` explains it.

Each element of dW is a sum over M cells, which is divided into passes of at most KC cells. The order of the additions
depends only on the shapes. A task computes a block of dW, so the bits do not depend on the number of threads.

Both factors of dW are packed, because neighbouring cells are far apart in memory. The rows of the register tile are MR
neighbouring channels of x:

    x, cell by cell                             packed channels
               channel 0 1 2 3 4 ...            cell 0   1   2   3
    cell 0             a b c d e ...            tile row 0: ab  fg  kl  pq       MR = 2 in this picture
    cell 1             f g h i j ...     ->     tile row 1: cd  hi  mn  rs
    cell 2             k l m n o ...            ...
    cell 3             p q r s t ...

`python examples/time_kernels.py` prints the speed of dx and dW.
"""
import functools
import math
from typing import NamedTuple

import numpy as np

from ..params import Linear
from . import threads
from .checks import floats
from .emit import wide
from .integers import ceil_div
from .jit import jit
from .matmul import FEW, KC, NOTHING, multiply, split
from .memory import aligned, empty
from .pack import pack_channels, pack_panels
from .packed import packed_transposed
from .target import L2, MR, NR
from .tile import Addend, Columns, Panel, Target, transposed_tile_add
from .windows import NOWHERE, Windows, padded, starts_into, windows_of
from .words import words_of_floats

PACKING_X = 4                             # packing an element of x takes as long as reading PACKING_X elements from L3
PACKING_DY = 2                            # the same for dy, which is packed in longer pieces
TILES = 64                                # TILES tile rows are packed together: 590 KB; 24 and 128 are as fast (Zen 3)
WIDTH = 256                               # a task of `_sum_rows` adds up WIDTH columns


def linear(dy, y, x, p):
    """The rule `gradients.linear`.  Each gradient is a function, which the record calls only if it is needed."""
    C, O = p.kernel.shape
    x = floats(x, shape=(*np.shape(x)[:-1], C))
    dy = floats(dy, "dy", (*x.shape[:-1], O))
    x = x.reshape(1, 1, -1, C)
    rows = dy.reshape(1, 1, -1, O)
    kernel = floats(p.kernel, "kernel").reshape(1, 1, C, O)

    def dx():
        return _convolved_back(rows, x.shape, kernel, 1, 1, NOWHERE).reshape(*dy.shape[:-1], C)

    def dkernel():
        return _kernel_gradient(rows, x, kernel.shape, 1, 1, NOWHERE).reshape(C, O)

    def dbias():
        return _sum_rows(rows.reshape(-1, O))
    return dx, Linear(dkernel, None if p.bias is None else dbias)


def conv2d(dy, y, x, kernel, stride, dilation, padding):
    """The rule `gradients.conv2d`.  Each gradient is a function, which the record calls only if it is needed."""
    kernel = floats(kernel, "kernel")
    KH, KW, C, O = kernel.shape
    x = floats(x, shape=(*np.shape(x)[:3], C))
    windows = windows_of(x.shape[1:], (KH, KW), C, stride, dilation, padding)
    dy = floats(dy, "dy", (len(x), windows.rows, windows.columns, O))
    if (KH, KW) == (1, 1) and stride == 1 and padding == NOWHERE:
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
    # Two neighbouring taps of a phase meet cells of dy that are `distance` apart.
    distance = dilation // math.gcd(stride, dilation)
    dx = None if stride == 1 else np.zeros(x_shape, np.float32)
    for v in across:
        for u in down:
            taps = [(i, j) for i in u.taps for j in v.taps]
            if not taps or not u.count or not v.count or not B:
                continue
            windows = windows_of((rows, columns, O), (len(u.taps), len(v.taps)), O, 1, distance, (u.pads, v.pads))
            part = multiply(words_of_floats(dy), packed_transposed(kernel, taps), windows, B, NOTHING, NOTHING, 0)
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

class CellBlock(NamedTuple):
    """A task: tile rows range(first_tile, end_tile) and panels range(first_panel, end_panel) of dW."""
    windows: Windows
    tiles: int                            # number of tile rows of one tap; a tile row has MR channels
    first_tile: int
    end_tile: int
    first_panel: int
    end_panel: int
    panels_in_L2: int


def _kernel_gradient(dy, x, kernel_shape, stride, dilation, padding):
    """The gradient (KH, KW, C, O) of a kernel."""
    if not dy.size:
        return np.zeros(kernel_shape, np.float32)
    KH, KW, C, O = kernel_shape
    run = C
    if dilation == 1 and 1 < KW and C < FEW:
        x = padded(x, padding)
        padding = NOWHERE
        run = KW * C                      # a tap is a row of the kernel, with KW * C channels (windows.py)
    B, H, W, _ = x.shape
    windows = windows_of((H, W, C), (KH, KW), run, stride, dilation, padding)
    out = empty(windows.K, O)
    d_rows = dy.reshape(-1, O)
    work = dy.size * windows.K
    blocks = _cell_blocks(windows, len(d_rows), O, L2, threads.worth(work))
    flat = x.reshape(-1)
    threads.run(len(blocks), lambda i: _multiply_cells_into(out, flat, d_rows, blocks[i]), work)
    return out.reshape(kernel_shape)


@functools.lru_cache(4096)
def _cell_blocks(windows, M, O, L2, n):
    """The CellBlocks into which dW is divided for n threads."""
    tiles = ceil_div(windows.run, MR)
    taps = windows.K // windows.run
    panels = ceil_div(O, NR)
    # Each part of the tile rows packs dy again, and each part of the panels packs x again.
    down, across = split(taps * tiles, panels, MR * NR * M, PACKING_X * M * windows.K, PACKING_DY * M * O, n)
    panels_in_L2 = max(1, L2 // 2 // (KC * NR * 4))
    tile_starts = [taps * tiles * i // down for i in range(down + 1)]
    panel_starts = [panels * j // across for j in range(across + 1)]
    return tuple(CellBlock(windows, tiles, first_tile, end_tile, first_panel, end_panel, panels_in_L2)
                 for first_tile, end_tile in zip(tile_starts, tile_starts[1:])
                 for first_panel, end_panel in zip(panel_starts, panel_starts[1:]))


@jit
def _multiply_cells_into(out, x, dy, block):
    """out[block] = windows.T @ dy, where the rows of `windows` are the windows of x.  out (K, N), dy (M, N)"""
    run = block.windows.run
    M, N = dy.shape
    flat = out.reshape(out.size)
    d_flat = dy.reshape(dy.size)
    sums = aligned(MR * NR)               # the sums of a tile that crosses the edge of the result
    nothing = Addend(sums, 0, 0, 0)
    channels = aligned(min(TILES, block.end_tile - block.first_tile) * KC * MR)
    panels = aligned(min(block.panels_in_L2, block.end_panel - block.first_panel) * KC * NR)
    # Loop 5 goes over groups of tile rows. The channels of a group share L3.
    for tiles_start in range(block.first_tile, block.end_tile, TILES):
        tiles_end = min(tiles_start + TILES, block.end_tile)
        # Loop 4 goes over passes of at most KC cells. The channels of the group are packed, and stay in L3.
        for first_cell in range(0, M, KC):
            cells = min(KC, M - first_cell)
            _pack_channels_into(channels, x, block, tiles_start, tiles_end, first_cell, cells, M)
            # Loop 3 goes over groups of panels. KC rows of each panel are packed, and stay in a half of L2.
            for panels_start in range(block.first_panel, block.end_panel, block.panels_in_L2):
                panels_end = min(panels_start + block.panels_in_L2, block.end_panel)
                pack_panels(d_flat, N, first_cell, cells, panels_start, panels_end, panels)
                # Loop 2 goes over tile rows. MR channels of KC cells come into L1 once for all these panels.
                for tile_row in range(tiles_start, tiles_end):
                    columns = Columns(channels, (tile_row - tiles_start) * cells * MR, MR, cells)
                    tap, tile = divmod(tile_row, block.tiles)
                    row = tap * run + tile * MR
                    height = min(MR, run - tile * MR)
                    # Loop 1 goes over panels. KC x NR elements of each panel come from L2.
                    for p in range(panels_start, panels_end):
                        panel = Panel(panels, (p - panels_start) * cells * NR)
                        column = p * NR
                        at = row * N + column
                        if height == MR and column + NR <= N:
                            transposed_tile_add(columns, panel, Target(flat, at, N), Addend(flat, at, N, first_cell))
                        else:
                            transposed_tile_add(columns, panel, Target(sums, 0, NR), nothing)
                            _add_tile_into(out, sums, row, column, height, first_cell == 0)


@jit
def _pack_channels_into(channels, x, block, first_tile, end_tile, first_cell, cells, M):
    """Pack some cells of x for tile rows range(first_tile, end_tile).

    channels[((tile_row - first_tile) * cells + k) * MR + i] = channel i of a tile row in cell first_cell + k
    """
    run = block.windows.run
    starts = np.empty(cells, np.int64)
    tile_row = first_tile
    while tile_row < end_tile:            # the tile rows of one tap are packed together
        tap, tile = divmod(tile_row, block.tiles)
        tap_end = min((tap + 1) * block.tiles, end_tile)
        width = min((tap_end - tile_row) * MR, run - tile * MR)
        starts_into(starts, cells, block.windows, first_cell, M, tap, 1, tile * MR)
        pack_channels(x, starts, cells, width, channels[(tile_row - first_tile) * cells * MR:])
        tile_row = tap_end


@jit
def _add_tile_into(out, sums, row, column, height, first):
    """out[row + i, column + j] += sums[i, j] for i < height.  In the first pass, `out` holds no sums yet."""
    width = min(NR, out.shape[1] - column)
    for i in range(height):
        to = out[row + i, column:column + width]
        for j in range(width):
            to[j] = sums[i * NR + j] + (np.float32(0) if first else to[j])


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
