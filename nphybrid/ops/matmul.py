"""Linear layers and convolutions: the loops around the register tile.

A linear layer is a 1x1 convolution. A convolution is a matrix product, and the rows of its left factor are read in
place from the maps (windows.py). The result (M, N) is x (M, K) @ kernel (K, N) + bias, and then an activation or the
sum with a residual. reference.py has the plain definitions, `linear` and `conv2d`. The loops and their numbers come
from BLIS (Van Zee & van de Geijn 2015), but loop 3 is the outermost here. A register tile has MR rows and NR columns:

    task     a block of the result for one thread: some tile rows, some panels of NR columns   (loop 3 of BLIS)
    loop 5   groups of panels; the panels of a group share L2
    loop 4   passes: KC of the K rows of these panels stay in half of L2 until all tile rows are computed
    loop 2   tile rows: MR rows of x come into L1 once for all these panels
    loop 1   panels: KC x NR elements of a panel come from L2
    tile     MR x NR sums over KC elements, in registers                                       (tile.py)

BLIS packs both factors. Here only the weights are packed, and this happens when a model is loaded (packed.py). x and
the result are used in place.

The loops are written for words (widths.py): a word is one float32, two bfloat16 or four int8. x is written as words
before it is multiplied (words.py), and K counts words. The integer sums of int8 are exact. So a pass of int8 takes all
K words, and the tile scales its sums before it adds the bias and the residual.

Each element of the result is a sum over K, and the order of the additions depends only on the layer. So the bits of an
element do not depend on the number of rows, the position of its row, the number of threads or the size of L2.

The rows of the residual and of the result that a tile will need come into the cache while earlier tiles are computed.
So do the rows of x, if they follow each other in memory. Without this, one thread is slower: 132 instead of 185 GFLOP/s
for (8192, 32) @ (32, 128) in float32, and 457 instead of 500 GFLOP/s for (577, 768) @ (768, 3072) in bfloat16 (Zen 5).
With AVX2, no cache line is asked for in advance, neither here nor for the panels (`PREFETCH` of target.py).

The panels of the next pass come into L2 while the tiles of a pass are computed (`Ahead` of tile.py): a few cache lines
in each tile, at equal distances. The weights of a network do not fit into the cache, so they come from memory in each
forward pass. R50+ViT-B/16 takes 2 to 3 % less time in float32, 1 to 3 % in bfloat16, and up to 1 % in int8 (Zen 5, 2
threads). If all lines of a tile are asked for at once, before the tile, nothing is gained.

The table lists what was tried, on Ice Lake with 2 virtual cores and AVX-512. Its first two lines are for a kernel
(1, 1, 64, 256) and a map (96, 96, 64). Where the table gives no number of threads, one thread was used.
examples/time_kernels.py times the versions that were kept. The code no longer contains the versions that were dropped.

    one panel at a time, all rows            42 GFLOP/s     dropped: the result is written in strips of 256 bytes
    panels that share L2, row by row         63 GFLOP/s     kept
    chains of 768 instead of KC = 384        +3 %           dropped: 2.7 times the error of NumPy; 2.5 are allowed
    partial sums of two chains kept in L1    no gain        dropped
    4 tasks for 2 threads                    11 % idle      R50+ViT-B/16 at 384, two threads
    up to 32 tasks for 2 threads             6 % idle       R50+ViT-B/16 at 384, two threads: kept
"""
import functools
from typing import NamedTuple

import numpy as np

from . import amx, threads
from .checks import floats
from .elementwise import activate_in, code_of
from .emit import prefetch, wide
from .epilogue import add_earlier_in, place_of, write_block_into
from .integers import ceil_div
from .jit import jit, jit_allocating
from .memory import LINE, aligned, empty, prefetch_tile
from .packed import packed_once
from .target import L2, MR, NR
from .tile import STEPS, Addend, Ahead, Panel, Rows, Scaling, Target, tile_add
from .widths import NUMBERS
from .windows import NO_PADDING, Blocks, block_of, padded, starts_into, windows_of
from .words import row_scales_into, words_of, words_of_floats

KC = 384                                  # products in a chain of additions; the module docstring compares KC with 768
# Times in `split`, as numbers of multiply-adds: READING a float32 from L3 (Zen 5), and STARTING a task.
READING = 16
STARTING = 100_000
# Each thread is assumed to wait at the end for WAITING times as long as a task takes. With 1 / 2, a training step of
# the bundled model is 2 to 4 % slower (Zen 3).
WAITING = 1 / 8
FEW = 32                                  # a float32 map of fewer than FEW channels is padded (`_left_factor`)
NOTHING = np.zeros(0, np.float32)


def linear(x, p):
    """Compute a linear layer.  The bits of a row of the result do not depend on the number of rows."""
    return _linear(x, p, NOTHING, "")


def linear_activate(x, p, activation):
    """Compute a linear layer and an activation.  Each tile of the result is activated while it is in L1."""
    return _linear(x, p, NOTHING, activation)


def linear_add(x, p, residual):
    """Compute a linear layer and add a residual.  The residual is added to each tile while the tile is in registers."""
    residual = floats(residual, "residual", (*np.shape(x)[:-1], p.kernel.shape[-1]))
    return _linear(x, p, residual.reshape(-1), "")


def _linear(x, p, residual, activation):
    C, O = p.kernel.shape
    x = floats(x, shape=(*np.shape(x)[:-1], C))
    code = code_of(activation)
    bias = NOTHING if p.bias is None else floats(p.bias, "bias", (O,))
    if not x.size:
        return empty(*x.shape[:-1], O)
    kernel = packed_once(p.kernel)
    rows_as_map = x.reshape(1, x.size // C, 1, C)
    words, windows = _left_factor(rows_as_map, kernel, (1, 1), stride=1, dilation=1, padding=NO_PADDING)
    return multiply(words, kernel, windows, 1, bias, residual, code).reshape(*x.shape[:-1], O)


def conv2d(x, kernel, stride, dilation, padding):
    """Compute a convolution without copies of the windows."""
    KH, KW, C, O = kernel.shape
    x = floats(x, shape=(*np.shape(x)[:3], C))
    kernel = packed_once(kernel)
    words, windows = _left_factor(x, kernel, (KH, KW), stride, dilation, padding)
    y = multiply(words, kernel, windows, len(x), NOTHING, NOTHING, 0)
    return y.reshape(len(x), windows.rows, windows.columns, O)


def _left_factor(x, kernel, size, stride, dilation, padding):
    """Write x as words, if necessary with zeros around each map.  x (B, H, W, C), size (KH, KW) -> Words, Windows

    Maps of narrow words always hold their padding. Maps of float32 hold it if they have few channels. Then a run of a
    window can be a row of the kernel: KW * C neighbours in memory.
    """
    C = x.shape[3]
    taps_per_run = size[1] if dilation == 1 else 1
    if kernel.width == "float32":
        if taps_per_run > 1 and C < FEW:
            x = padded(x, padding)
            padding = NO_PADDING
        else:
            taps_per_run = 1
        words, map_shape = words_of_floats(x), x.shape[1:]
    else:
        words, map_shape = words_of(x, kernel.width, padding, kernel.factors)
        padding = NO_PADDING
    return words, windows_of(map_shape, size, taps_per_run * map_shape[2], stride, dilation, padding)


def multiply(x, kernel, windows, B, bias, residual, code):
    """Compute activation(windows of x @ kernel + bias), or windows of x @ kernel + bias + residual.  -> (M, N)

    `x` is a Words, and `kernel` is a Packed or a Panels. `windows` are the windows of B maps. `bias` may be empty.
    `code` is the code of the activation, or 0. `residual` may be empty, and must be empty if there is an activation.
    """
    M = B * windows.rows * windows.columns
    N = kernel.shape[-1]
    work = M * N * windows.K
    out = empty(M, N)
    weights = kernel.weights
    if kernel.width == "int8":
        chain = windows.K
    elif kernel.parts > 1:
        chain = amx.DEPTH // kernel.parts
    else:
        chain = KC // NUMBERS[kernel.width]
    blocks = _blocks(windows, M, N, kernel.parts, chain, weights.panels.nbytes, L2, threads.threads_for(work))
    multiply_into, parts = (amx.multiply_into, [kernel.parts]) if kernel.parts else (_multiply_into, [])
    threads.run(blocks.down * blocks.across, multiply_into, work,
                (out, x, weights, *parts, bias, residual, blocks, code))
    return out


@functools.lru_cache(4096)
def _blocks(windows, M, N, parts, chain, weights_bytes, L2, n):
    """The Blocks into which a result (M, N) is divided for n threads."""
    height, width = (amx.SIDE, amx.SIDE) if parts else (MR, NR)
    tiles = ceil_div(M, height)
    panels = ceil_div(N, width)
    panel_bytes = weights_bytes // panels
    # A pass reads min(chain, K) of the K rows of a panel.
    panels_in_L2 = max(1, L2 // 2 * windows.K // (panel_bytes * min(chain, windows.K)))
    x_size = M // (windows.rows * windows.columns) * windows.H * windows.W * windows.C
    down, across = split(tiles, panels, height * width * windows.K, x_size, weights_bytes // 4, n)
    return Blocks(windows, tiles, down, panels, across, panels_in_L2, chain)


def split(tiles, panels, tile_work, x_size, weights_size, n):
    """Divide the tile rows into `down` parts and the panels into `across` parts, for n threads.  -> down, across

    The division with the lowest cost is chosen. The cost is the sum of work, waiting, starting and reading. Every
    thread is assumed to take as long as the slowest thread, which has the most tasks. All weights are read once for
    each part of the rows, and all of x is read once for each part of the panels. `x_size` and `weights_size` count 4
    bytes.
    """
    def cost(split):
        down, across = split
        task = ceil_div(tiles, down) * ceil_div(panels, across)
        slowest = ceil_div(down * across, n) * task
        reading = READING * (down * weights_size + across * x_size)
        return n * (slowest + WAITING * task) * tile_work + down * across * STARTING + reading
    if n == 1 or not tiles:
        return min(tiles, 1), 1
    most = 16 * n                         # tasks
    splits = [(down, across) for down in range(1, min(tiles, most) + 1)
              for across in range(1, min(panels, most) + 1) if down * across <= most]
    return min(splits, key=cost)


class TileBuffers(NamedTuple):
    """The memory of a task."""
    sums: np.ndarray                      # (MR, NR), the sums of a tile that is not written in place
    zero_words: np.ndarray                # zeros for `depth` words
    starts: np.ndarray                    # int64, for the runs of MR rows
    scales: np.ndarray                    # float32 (MR,), the scales of MR rows
    zero_points: np.ndarray               # int32 (MR,), the zero points of MR rows


@jit_allocating
def _multiply_into(out, x, weights, bias, residual, blocks, code, number):
    """out[block] = activation(x @ kernel + bias), or x @ kernel + bias + residual, for the block with the given number.

    `out` has the shape (M, N). `x` is a Words, and `weights` is a Weights. The other arrays are flat.
    """
    depth = min(blocks.chain, blocks.windows.K)
    buffers = TileBuffers(aligned(MR * NR).reshape(MR, NR), np.zeros(depth * (4 // x.values.itemsize), x.values.dtype),
                          np.empty(depth * MR, np.int64), np.zeros(MR, np.float32), np.zeros(MR, np.int32))
    _block_into(out, x, weights, bias, residual, blocks, code, block=block_of(blocks, number), buffers=buffers)


@jit
def _block_into(out, x, weights, bias, residual, blocks, code, block, buffers):
    """The loops of `_multiply_into`, for a Block of the result.

    Inside the result, the tile adds the bias, the sums of earlier passes and the residual in registers. At an edge of
    the result, it would write outside. There it stores its sums in `edge`, and epilogue.py does the rest.
    """
    wide()
    windows = blocks.windows
    M, N = out.shape
    K = windows.K
    flat = out.reshape(out.size)
    depth = min(blocks.chain, K)
    sums = buffers.sums
    edge = sums.reshape(sums.size)        # a tile that is not written in place
    starts = buffers.starts
    numbers = 4 // x.values.itemsize      # the elements of x.values in a word
    # Whether row i of x is its words i * K to (i + 1) * K - 1.
    consecutive = windows.run == K and M * K * numbers == x.values.size
    # Loop 5 goes over groups of panels. The panels of a group share L2.
    for panels_start in range(block.first_panel, block.end_panel, blocks.panels_in_L2):
        panels_end = min(panels_start + blocks.panels_in_L2, block.end_panel)
        k = 0
        # Loop 4 goes over passes. A pass takes one or more whole runs, or a part of one run, but at most `depth` words
        # of a row of x. It reads as many rows of each panel, and these rows stay in L2.
        while k < K:
            first_run, channel = divmod(k, windows.run)
            run = min(windows.run - channel, depth)
            runs = max(1, min(depth // windows.run, K // windows.run - first_run))
            pass_words = runs * run
            first_pass = k == 0
            last_pass = k + pass_words == K
            following = _pass_after(blocks, block, panels_start, panels_end, k + pass_words)
            tiles = (block.end_tile - block.first_tile) * (panels_end - panels_start)
            tile = 0
            # Loop 2 goes over tile rows. MR rows of x come into L1.
            for tile_row in range(block.first_tile, block.end_tile):
                row = tile_row * MR
                starts_into(starts, MR, windows, row, M, first_run, runs, channel)
                rows = Rows(x.values, starts, buffers.zero_words, runs, run)
                if x.scales.size:
                    row_scales_into(buffers.scales, buffers.zero_points, x, starts)
                if consecutive:
                    for i in range(row + MR, row + 2 * MR):
                        for word in range(k, k + pass_words, LINE):
                            prefetch(x.values, (i * K + word) * numbers)
                # Loop 1 goes over panels. `pass_words` x NR words of each panel come from L2.
                for panel in range(panels_start, panels_end):
                    column = panel * NR
                    at = row * N + column
                    # While a tile is computed, the place of the next tile in this column comes into the cache.
                    prefetch_tile(flat, at + MR * N, N)
                    if last_pass and residual.size:
                        prefetch_tile(residual, at + MR * N, N)
                    inside = column + NR <= N and row + MR <= M
                    target = Target(flat, at, N, M - row, NR) if inside else Target(edge, 0, NR, M - row, NR)
                    if first_pass:
                        earlier = Addend(bias, min(column, bias.size), 0, bias.size if inside else 0)
                    else:
                        earlier = Addend(flat, at, N, 1 if inside else 0)
                    added = Addend(residual, at, N, residual.size if inside and last_pass else 0)
                    scaling = Scaling(buffers.scales, buffers.zero_points, weights.channels, weights.totals, column)
                    ahead = _ahead(following, K, depth, pass_words, tile, tiles)
                    tile += 1
                    tile_add(rows, Panel(weights.panels, (panel * K + k) * NR), target, earlier, added, scaling, ahead)
                    if not inside:
                        place = place_of(flat, N, row, column, sums)
                        add_earlier_in(sums, place, flat, bias, first_pass)
                        write_block_into(flat, place, sums, residual, code, last_pass)
                    elif last_pass and code:   # the tile is in L1
                        for i in range(MR):
                            activate_in(flat[at + i * N:at + i * N + NR], code)
            k += pass_words


class Pass(NamedTuple):
    """A pass of loop 4, which multiplies the panels range(first_panel, end_panel) from row k on."""
    first_panel: int
    end_panel: int
    k: int


@jit
def _pass_after(blocks, block, first_panel, end_panel, k):
    """The Pass after the one that ends before row k.  The next task is assumed to follow the last pass of a task.

    The next task is assumed to have as many panels as this one. After the last panel of all, it begins with the first.
    """
    if k < blocks.windows.K:
        return Pass(first_panel, end_panel, k)
    first_panel = end_panel % blocks.panels
    end = block.end_panel
    if end_panel == end:
        end = min(first_panel + block.end_panel - block.first_panel, blocks.panels)
    return Pass(first_panel, min(first_panel + blocks.panels_in_L2, end), 0)


@jit
def _ahead(following, K, depth, pass_words, tile, tiles):
    """The words that come into L2 during one tile: an equal share of the words of `following`.

    A tile asks for at most one cache line in UNROLL rows (widths.py). So if a pass has few tile rows, its tiles cannot
    ask for all words. If a share reaches the end of the rows of a panel, the tile asks for what follows in memory. The
    processor ignores an address outside the memory.

    `tile` is the number of the tile, in range(tiles). This pass multiplies `pass_words` rows of its panels, and
    `following` at most `depth` rows.
    """
    size = min(depth, K - following.k) * NR               # words of a panel
    share = ceil_div((following.end_panel - following.first_panel) * size, tiles)
    panel, word = divmod(tile * share, size)
    return Ahead(((following.first_panel + panel) * K + following.k) * NR + word, ceil_div(share * STEPS, pass_words))
