"""Linear layers and convolutions: the loops around the register tile.

A linear layer is a 1x1 convolution; a convolution is a matmul whose left rows are found by their starts. The
weights alone are packed, at load: panels of NR columns, k-major. Some panels side by side, KC rows of each, take
a third of L2 and stay there while tile after tile reads them; x and the result are read and written in place.

Every element of the result is summed over K in one order, which depends on K alone: the bits do not depend on
the number of rows, the place of a row, the number of threads, or the size of L2.

The ladder (Ice Lake, 2 virtual cores, AVX-512; one thread unless said otherwise; examples/time_kernels.py times what
was kept, what was dropped is no longer there):

    one panel at a time, all rows            42 GFLOP/s     96 x 96, 1x1, 64 -> 256: the result in strips of 256 bytes
    panels side by side in L2, row by row    63             the same
    chains of 768 instead of KC = 384        +3 %           dropped: 2.7 times the error of NumPy, 2.5 is allowed
    next panels fetched into L2 meanwhile    no gain        dropped
    partial sums of two chains kept in L1    no gain        dropped
    4 tasks for 2 threads                    11 % idle      R50+ViT-B/16 at 384, two threads
    up to 32 tasks for 2 threads             6 % idle       the same
"""
import functools

import numpy as np

from . import amx, threads
from .checks import floats
from .elementwise import code_of
from .emit import wide
from .jit import jit
from .memory import aligned, empty
from .packed import AMX
from .target import L2, MR, NR
from .tile import tile
from .windows import NOWHERE, finish, padded, starts_into, windows_of

KC = 384                                  # depth of a chain; for 768 see the ladder
READING = 4                               # multiply-adds in the time that it takes to read one float32 from L3
FEW = 32                                  # channels; with fewer, a row of the kernel is one run
NOTHING, NO_HALVES = np.zeros(0, np.float32), np.zeros(0, np.uint16)


def linear(x, p):
    """Bits do not depend on how many rows there are."""
    return _linear(x, p, NOTHING, "")


def linear_activate(x, p, activation):
    """The activation meets each block while it is in cache."""
    return _linear(x, p, NOTHING, activation)


def linear_add(x, p, residual):
    """The residual likewise."""
    residual = floats(residual, "residual", (*np.shape(x)[:-1], p.kernel.shape[-1]))
    return _linear(x, p, residual.reshape(-1), "")


def _linear(x, p, residual, activation):
    C, O = p.kernel.shape
    x, code = floats(x, shape=(*np.shape(x)[:-1], C)), code_of(activation)
    bias = NOTHING if p.bias is None else floats(p.bias, "bias", (O,))
    if not x.size:
        return empty(*x.shape[:-1], O)
    walk = windows_of(x.size // C, 1, C, 1, 1, C, 1, 1, NOWHERE)
    return _multiply(x, p.kernel, walk, 1, bias, residual, code).reshape(*x.shape[:-1], O)


def conv2d(x, kernel, stride, dilation, padding):
    """Columns are never stored. Kernels of few channels see runs of KW * C neighbours, in a map padded first."""
    KH, KW, C, O = kernel.shape
    x, run = floats(x, shape=(*np.shape(x)[:3], C)), C
    if dilation == 1 and 1 < KW and C < FEW:
        x, padding, run = padded(x, padding), NOWHERE, KW * C
    B, H, W, _ = x.shape
    walk = windows_of(H, W, C, KH, KW, run, stride, dilation, padding)
    return _multiply(x, kernel, walk, B, NOTHING, NOTHING, 0).reshape(B, walk.rows, walk.columns, O)


def _multiply(x, kernel, walk, B, bias, residual, code):
    """Tasks are blocks of rows and columns of the result."""
    M, N = B * walk.rows * walk.columns, kernel.shape[-1]
    out, x, work = empty(M * N), x.reshape(-1), M * N * walk.K
    height, width, beside, into, weights = _loops(kernel, walk.K)
    tiles, strips = -(-M // height), -(-N // width)
    down, across = _split(tiles, strips, height * width * walk.K, x.size, kernel.panels.size, threads.worth(work))

    def task(i):
        i, j = divmod(i, across)
        rows = tiles * i // down, tiles * (i + 1) // down
        columns = strips * j // across, strips * (j + 1) // across
        into(out, x, *weights, bias, residual, walk, N, rows, columns, beside, code)
    threads.run(down * across, task, work)
    return out


def _loops(kernel, K):
    """Height and width of a block, how many panels share L2, the function that multiplies, what it reads."""
    panels = kernel.panels.reshape(-1)
    if AMX:
        return amx.SIDE, amx.SIDE, amx.beside(K, kernel.parts, L2), amx.multiply_into, (panels, kernel.parts)
    beside = max(1, L2 // 3 // (min(KC, K) * NR * 4))
    return MR, NR, beside, _multiply_into, (NOTHING, panels) if kernel.parts == 1 else (panels, NO_HALVES)


@functools.lru_cache(4096)
def _split(tiles, strips, tile_work, x_size, b_size, n):
    """How many parts of the rows and of the columns are tasks for n threads.

    The slowest thread shall have little to do; the others shall not wait long for the last task, which may be held
    up; and little shall be read: a part of the rows reads all of b, a part of the columns all of x.
    """
    def cost(way):
        down, across = way
        task = -(-tiles // down) * -(-strips // across)
        slowest = -(-down * across // n) * task
        return n * (slowest + task / 2) * tile_work + READING * (down * b_size + across * x_size)
    if n == 1 or not tiles:
        return min(tiles, 1), 1
    return min(((down, across) for down in range(1, min(tiles, 16 * n) + 1)
                for across in range(1, min(strips, 16 * n) + 1) if down * across <= 16 * n), key=cost)


@jit
def _multiply_into(out, x, panels, halves, bias, residual, walk, N, rows, columns, beside, code):
    """out[tiles of rows, panels of columns] = activation(x @ kernel + bias) + residual; all arrays flat.

    Panels are float32, or halves of it, which are widened in L2 for all rows at once.
    """
    wide()
    M, depth = out.size // N, min(KC, walk.K)
    block, zeros, starts = aligned(MR * NR), np.zeros(depth, np.float32), np.empty(depth * MR, np.int64)
    square = block.reshape(MR, NR)
    wider = aligned(min(beside, columns[1] - columns[0]) * depth * NR if halves.size else 0)
    for p0 in range(columns[0], columns[1], beside):          # panels that share L2
        k = 0
        while k < walk.K:                                     # a block of at most KC: runs, or a part of one
            tap, c = divmod(k, walk.run)
            length = min(walk.run - c, KC)
            taps = max(1, min(KC // walk.run, walk.K // walk.run - tap))
            deep = taps * length
            first, last = k == 0, k + deep == walk.K
            for p in range(p0, min(p0 + beside, columns[1]) if halves.size else p0):
                _widen_into(wider[(p - p0) * deep * NR:], halves, (p * walk.K + k) * NR, deep * NR)
            for t in range(rows[0], rows[1]):                 # a row of tiles: x comes to L1 once
                m = t * MR
                starts_into(starts, MR, walk, m, M, tap, taps, c)
                for p in range(p0, min(p0 + beside, columns[1])):
                    n0 = p * NR
                    at, whole = m * N + n0, n0 + NR <= N and m + MR <= M
                    inplace = whole and not (last and code)
                    to, to_at, ldc = (out, at, N) if inplace else (block, 0, NR)
                    d, d_at, ldd, adds = (bias, min(n0, bias.size), 0, bias.size) if first else (out, at, N, 1)
                    b, b_at = (wider, (p - p0) * deep * NR) if halves.size else (panels, (p * walk.K + k) * NR)
                    tile(x, starts, zeros, taps, length, b, b_at, to, to_at, ldc,
                         d, d_at, ldd, adds if whole else 0, residual, at, N, residual.size if inplace and last else 0)
                    if not inplace:
                        finish(out, N, m, n0, square, bias, residual, first, last, whole, code)
            k += deep


@jit
def _widen_into(out, halves, at, n):
    wide()
    part = halves[at:at + n]
    for i in range(n):
        bits = np.uint32(part[i]) << np.uint32(16)
        out[i] = np.uint32(bits).view(np.float32)
