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
from .jit import jit, jit_allocating
from .matmul import FEW, KC, NOTHING, multiply, split
from .memory import aligned, empty
from .pack import pack_channels, pack_panels
from .packed import packed_transposed
from .target import L2, MR, NR
from .tile import Addend, Columns, Panel, Target, transposed_tile_add
from .windows import NO_PADDING, Blocks, block_of, padded, starts_into, windows_of
from .words import words_of_floats

PACKING_X = 4                             # packing an element of x takes as long as reading PACKING_X elements from L3
PACKING_DY = 2                            # the same for dy, which is packed in longer pieces
TILES = 64                                # TILES tile rows are packed together: 590 KB; 24 and 128 are as fast (Zen 3)


def linear(dy, y, x, p):
    """The rule `gradients.linear`.  Each gradient is a function, as `_add` of record.py explains.

    The tasks of the kernel's gradient read dy, and also compute the gradient of the bias.
    """
    C, O = p.kernel.shape
    x = floats(x, shape=(*np.shape(x)[:-1], C))
    dy = floats(dy, "dy", (*x.shape[:-1], O))
    x = x.reshape(1, 1, -1, C)
    rows = dy.reshape(1, 1, -1, O)
    kernel = floats(p.kernel, "kernel").reshape(1, 1, C, O)
    sums = None                           # the sums of all rows of dy
    kernel_submit = None                  # what runs the tasks that compute them

    def dx(so_far, submit):
        return _convolved_back(so_far, rows, x.shape, kernel, 1, 1, NO_PADDING).reshape(*dy.shape[:-1], C)

    def dkernel(so_far, submit):
        nonlocal sums, kernel_submit
        kernel_submit = submit
        sums = np.zeros(0 if p.bias is None else O, np.float32)
        return _plus(so_far, _kernel_gradient(submit, rows, x, kernel.shape, 1, 1, NO_PADDING, sums).reshape(C, O))

    def dbias(so_far, submit):
        if submit != kernel_submit:       # the kernel has no gradient, or its tasks run later
            return _plus(so_far, rows.sum((0, 1, 2), np.float64).astype(np.float32))
        return _plus(so_far, sums)
    return dx, Linear(dkernel, None if p.bias is None else dbias)


def conv2d(dy, y, x, kernel, stride, dilation, padding):
    """The rule `gradients.conv2d`.  Each gradient is a function, as `_add` of record.py explains."""
    kernel = floats(kernel, "kernel")
    KH, KW, C, O = kernel.shape
    x = floats(x, shape=(*np.shape(x)[:3], C))
    windows = windows_of(x.shape[1:], (KH, KW), C, stride, dilation, padding)
    dy = floats(dy, "dy", (len(x), windows.rows, windows.columns, O))
    if (KH, KW) == (1, 1) and stride == 1 and padding == NO_PADDING:
        dx, (dmatrix, _) = linear(dy, y, x, Linear(kernel[0, 0], None))
        return dx, lambda so_far, submit: _plus(so_far, dmatrix(None, submit).reshape(kernel.shape))

    def dx(so_far, submit):
        return _convolved_back(so_far, dy, x.shape, kernel, stride, dilation, padding)

    def dkernel(so_far, submit):
        return _plus(so_far, _kernel_gradient(submit, dy, x, kernel.shape, stride, dilation, padding, NOTHING))
    return dx, dkernel


def _plus(so_far, gradient):
    """The sum of two gradients.  `so_far` may be None."""
    return gradient if so_far is None else so_far + gradient


# ------------------------------------------------------------------ dx

class Phase(NamedTuple):
    """The rows of x that are `stride` apart, and the convolution of dy that computes their gradient.

    The row numbers are first, first + stride, and so on. The same holds for columns.
    """
    first: int
    count: int                            # the number of rows
    taps: list                            # the numbers of the taps that these rows meet, the last tap first
    pads: tuple                           # the padding (before, after) of dy; it can be negative


def _convolved_back(so_far, dy, x_shape, kernel, stride, dilation, padding):
    """so_far + dx (B, H, W, C) of a convolution, from dy (B, H', W', O).  `so_far` may be None.

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
    residual = NOTHING                    # with stride 1, the only phase has all rows, and `multiply` adds so_far
    dx = None
    if stride > 1:
        dx = np.zeros(x_shape, np.float32) if so_far is None else so_far.reshape(x_shape).copy()
    elif so_far is not None:
        residual = floats(so_far, "so_far").reshape(-1)
    for v in across:
        for u in down:
            taps = [(i, j) for i in u.taps for j in v.taps]
            if not taps or not u.count or not v.count or not B:
                continue
            windows = windows_of((rows, columns, O), (len(u.taps), len(v.taps)), O, 1, distance, (u.pads, v.pads))
            part = multiply(words_of_floats(dy), packed_transposed(kernel, taps), windows, B, NOTHING, residual, 0)
            part = part.reshape(B, u.count, v.count, C)
            if dx is None:
                return part
            dx[:, u.first::stride, v.first::stride] += part
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

def _kernel_gradient(submit, dy, x, kernel_shape, stride, dilation, padding, sums):
    """The gradient (KH, KW, C, O) of a kernel.  `submit` gets the tasks, and may run them later.

    `sums` (O,) gets the sums of all rows of dy. It holds zeros before. It may be empty.
    """
    if not dy.size:
        return np.zeros(kernel_shape, np.float32)
    KH, KW, C, O = kernel_shape
    run = C
    if dilation == 1 and 1 < KW and C < FEW:
        x = padded(x, padding)
        padding = NO_PADDING
        run = KW * C                      # a run is a row of the kernel, with KW * C channels (windows.py)
    B, H, W, _ = x.shape
    windows = windows_of((H, W, C), (KH, KW), run, stride, dilation, padding)
    out = empty(windows.K, O)
    d_rows = dy.reshape(-1, O)
    work = dy.size * windows.K
    blocks = _cell_blocks(windows, len(d_rows), O, L2, threads.threads_for(work))
    flat = x.reshape(-1)
    submit(blocks.down * blocks.across, _multiply_cells_into, work, (out, sums, flat, d_rows, blocks))
    return out.reshape(kernel_shape)


@functools.lru_cache(4096)
def _cell_blocks(windows, M, O, L2, n):
    """The Blocks into which dW is divided for n threads.  A tile row has MR channels of one run."""
    tiles = windows.K // windows.run * ceil_div(windows.run, MR)
    panels = ceil_div(O, NR)
    # Each part of the tile rows packs dy again, and each part of the panels packs x again.
    down, across = split(tiles, panels, MR * NR * M, PACKING_X * M * windows.K, PACKING_DY * M * O, n)
    panels_in_L2 = max(1, L2 // 2 // (KC * NR * 4))
    return Blocks(windows, tiles, down, panels, across, panels_in_L2, KC)


@jit_allocating
def _multiply_cells_into(out, sums, x, dy, blocks, number):
    """out[block] = windows.T @ dy, for the block with the given number.  out (K, N), windows of x (M, K), dy (M, N)

    If `sums` is not empty, the blocks with the first tile row compute sums = sum of dy over its rows, in float64.
    """
    block = block_of(blocks, number)
    run = blocks.windows.run
    tiles_of_run = ceil_div(run, MR)
    M, N = dy.shape
    flat = out.reshape(out.size)
    d_flat = dy.reshape(dy.size)
    edge = aligned(MR * NR)               # the sums of a tile that crosses the edge of the result
    nothing = Addend(edge, 0, 0, 0)
    totals = np.zeros((block.end_panel - block.first_panel) * NR)
    channels = aligned(min(TILES, block.end_tile - block.first_tile) * KC * MR)
    panels = aligned(min(blocks.panels_in_L2, block.end_panel - block.first_panel) * KC * NR)
    # Loop 5 goes over groups of tile rows. The channels of a group share L3.
    for tiles_start in range(block.first_tile, block.end_tile, TILES):
        tiles_end = min(tiles_start + TILES, block.end_tile)
        # Loop 4 goes over passes of at most KC cells. The channels of the group are packed, and stay in L3.
        for first_cell in range(0, M, KC):
            cells = min(KC, M - first_cell)
            _pack_channels_into(channels, x, blocks.windows, tiles_start, tiles_end, first_cell, cells, M)
            # Loop 3 goes over groups of panels. KC rows of each panel are packed, and stay in a half of L2.
            for panels_start in range(block.first_panel, block.end_panel, blocks.panels_in_L2):
                panels_end = min(panels_start + blocks.panels_in_L2, block.end_panel)
                pack_panels(d_flat, N, first_cell, cells, panels_start, panels_end, panels)
                if sums.size and tiles_start == 0:
                    first = (panels_start - block.first_panel) * NR
                    _add_rows_in(totals[first:], panels, panels_end - panels_start, cells)
                # Loop 2 goes over tile rows. MR channels of KC cells come into L1 once for all these panels.
                for tile_row in range(tiles_start, tiles_end):
                    columns = Columns(channels, (tile_row - tiles_start) * cells * MR, MR, cells)
                    r, tile = divmod(tile_row, tiles_of_run)
                    row = r * run + tile * MR
                    height = min(MR, run - tile * MR)
                    # Loop 1 goes over panels. KC x NR elements of each panel come from L2.
                    for p in range(panels_start, panels_end):
                        panel = Panel(panels, (p - panels_start) * cells * NR)
                        column = p * NR
                        at = row * N + column
                        if height == MR and column + NR <= N:
                            transposed_tile_add(columns, panel, Target(flat, at, N, MR, NR),
                                                Addend(flat, at, N, first_cell))
                        else:
                            transposed_tile_add(columns, panel, Target(edge, 0, NR, MR, NR), nothing)
                            _add_tile_into(out, edge, row, column, height, first_cell == 0)
    if sums.size and block.first_tile == 0:
        first = block.first_panel * NR
        for column in range(first, min(block.end_panel * NR, N)):
            sums[column] = totals[column - first]


@jit
def _add_rows_in(totals, panels, count, cells):
    """Add up the rows of each of `count` packed panels.  totals (count * NR,) += panels (count, cells, NR)"""
    wide()
    for p in range(count):
        total = totals[p * NR:(p + 1) * NR]
        panel = panels[p * cells * NR:(p + 1) * cells * NR]
        even = cells // 2 * 2
        for k in range(0, even, 2):       # two rows at a time, because `total` stays in memory
            for j in range(NR):
                total[j] += np.float64(panel[k * NR + j]) + np.float64(panel[(k + 1) * NR + j])
        for k in range(even, cells):
            for j in range(NR):
                total[j] += panel[k * NR + j]


@jit_allocating
def _pack_channels_into(channels, x, windows, first_tile, end_tile, first_cell, cells, M):
    """Pack some cells of x for tile rows range(first_tile, end_tile).

    channels[((tile_row - first_tile) * cells + k) * MR + i] = channel i of a tile row in cell first_cell + k
    """
    run = windows.run
    tiles_of_run = ceil_div(run, MR)
    starts = np.empty(cells, np.int64)
    tile_row = first_tile
    while tile_row < end_tile:            # the tile rows of one run are packed together
        r, tile = divmod(tile_row, tiles_of_run)
        run_end = min((r + 1) * tiles_of_run, end_tile)
        width = min((run_end - tile_row) * MR, run - tile * MR)
        starts_into(starts, cells, windows, first_cell, M, r, 1, tile * MR)
        pack_channels(x, starts, cells, width, channels[(tile_row - first_tile) * cells * MR:])
        tile_row = run_end


@jit
def _add_tile_into(out, sums, row, column, height, first):
    """out[row + i, column + j] += sums[i, j] for i < height.  In the first pass, `out` holds no sums yet."""
    width = min(NR, out.shape[1] - column)
    for i in range(height):
        to = out[row + i, column:column + width]
        for j in range(width):
            to[j] = sums[i * NR + j] + (np.float32(0) if first else to[j])
