"""Linear layers and convolutions: packing, and the five loops around the register tile.

The names are those of BLIS (Van Zee & van de Geijn 2015, section 3).

A linear layer is a 1x1 convolution; a convolution is a matmul whose rows are gathered while they are
packed (implicit im2col). MR, NR: the tile. KC: a panel of B (KC, NR) has 48 KB, the whole L1 of an Ice Lake,
so it comes from L2 for every tile of A. MC: a block of A (MC, KC), 500 KB, stays in L2. NC: all columns,
unless there are more threads than blocks of rows.

Every element of the result is summed over K in one order, which depends on K alone: the bits do not depend on
the number of rows, the place of a row, or the number of threads.

Speed in GFLOP/s, one thread of an Ice Lake with 2 virtual cores, on a busy machine: the middle one of five
runs of examples/time_kernels.py, and the slowest and fastest. The tile alone, out of L1: 127 (109 to 142).

    577 x 768 -> 768               89 (79 to 116)      384 x 384, 7x7/2, 3 -> 64    46 (40 to 68)
    577 x 768 -> 768, residual     87 (74 to 109)      96 x 96, 1x1, 64 -> 256      52 (49 to 77)
    577 x 768 -> 3072, GELU       100 (77 to 116)      96 x 96, 3x3, 64 -> 64       82 (69 to 104)
    577 x 3072 -> 768, residual   104 (88 to 115)      24 x 24, 3x3, 256 -> 256     93 (84 to 121)
"""
import math
from typing import NamedTuple

import numpy as np

from . import reference, threads
from ..params import mapped
from .elementwise import activate_in, code_of
from .jit import LANES, MR, NR, jit
from .tile import aligned, pack, tile, wide

KC = 384
MC = 24 * MR
NOTHING = np.zeros(0, np.float32)


class Packed:
    """A kernel (KH, KW, C, O) or (C, O) as the tile reads it: per kc rows, per NR columns, (kc, NR).

    The layout is the instruction set's: a pickle holds the kernel itself, which is packed where it is read.
    """

    def __init__(self, kernel):
        if not kernel.size:
            raise ValueError(f"a kernel of shape {kernel.shape} has no weights")
        self.shape, self.ndim, self.dtype = kernel.shape, kernel.ndim, kernel.dtype
        N = kernel.shape[-1]
        kernel = kernel.reshape(-1, N)
        self.kc = depth(len(kernel))
        self.panels = aligned(len(kernel) * -(-N // NR) * NR)
        for k, panels in self._blocks():
            block = np.zeros((panels.shape[1], len(panels) * NR), np.float32)
            block[:, :N] = kernel[k:k + self.kc]
            panels[...] = block.reshape(len(block), -1, NR).transpose(1, 0, 2)

    def _blocks(self):
        """For every kc rows the first of them, and a view (P, kc, NR) of their panels."""
        K, P = math.prod(self.shape[:-1]), -(-self.shape[-1] // NR)
        for k in range(0, K, self.kc):
            kc = min(self.kc, K - k)
            yield k, self.panels[k * P * NR:(k + kc) * P * NR].reshape(P, kc, NR)

    def unpacked(self):
        """The kernel, bit for bit."""
        rows = [panels.transpose(1, 0, 2).reshape(panels.shape[1], -1) for _, panels in self._blocks()]
        return np.concatenate(rows)[:, :self.shape[-1]].reshape(self.shape)

    def __reduce__(self):
        return Packed, (self.unpacked(),)

    def __repr__(self):
        return f"Packed{self.shape}"


class Walk(NamedTuple):
    """How the rows of A lie in the maps: a row per output cell, runs of `run` neighbours each."""
    H: int
    W: int
    C: int
    rows: int
    columns: int
    stride: int
    dilation: int
    top: int
    left: int
    across: int                           # runs in a row of the kernel
    run: int
    K: int
    kc: int


def depth(K):
    """K in blocks of equal depth, at most KC: a multiple of LANES, so that packing moves whole vectors."""
    blocks = -(-K // KC)
    return -(-K // (blocks * LANES)) * LANES


def prepare(params, config, dtype=np.float32):
    """Kernels become Packed. Standardized in float64: each weight carries one rounding."""
    if np.dtype(dtype) != np.float32:
        raise TypeError(f"the kernels compute in float32, not {np.dtype(dtype)}: see engine='reference'")

    def ready(name, array):
        if array.ndim == 4:
            kernel = reference.standardize(np.asarray(array, np.float64), config.ws_eps)
            return Packed(kernel.astype(np.float32))
        array = np.array(array, np.float32, order="C")
        return Packed(array) if array.ndim == 2 and name.endswith("kernel") else array
    return mapped(ready, params)


def floats(x, name="x", shape=None):
    """x as the jitted loops want it: contiguous and writable (one compilation each), float32 or an error."""
    if getattr(x, "dtype", None) != np.float32:
        raise TypeError(f"{name} must be a float32 array, got {getattr(x, 'dtype', type(x).__name__)}")
    if shape is not None and x.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {x.shape}")
    return np.require(x, requirements="CWA")


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
    M = x.size // C
    walk = Walk(H=M, W=1, C=C, rows=M, columns=1, stride=1, dilation=1, top=0, left=0, across=1, run=C, K=C,
                kc=p.kernel.kc)
    bias = NOTHING if p.bias is None else floats(p.bias, "bias", (O,))
    return _multiply(x, p.kernel, walk, 1, bias, residual, code).reshape(*x.shape[:-1], O)


def conv2d(x, kernel, stride, dilation, padding):
    """Columns are never stored. Kernels of few channels run over rows of KW * C neighbours at once."""
    KH, KW, C, O = kernel.shape
    x = floats(x, shape=(*np.shape(x)[:3], C))
    reach = dilation * (KH - 1) + 1, dilation * (KW - 1) + 1
    if dilation == 1 and 1 < KW and KW * C <= KC // 4:
        x, padding, run = np.pad(x, ((0, 0), *padding, (0, 0))), ((0, 0), (0, 0)), KW * C
    else:
        run = C
    B, H, W, C = x.shape
    (top, bottom), (left, right) = padding
    rows, columns = ((n - r) // stride + 1 for n, r in zip((H + top + bottom, W + left + right), reach))
    if rows < 1 or columns < 1:
        raise ValueError(f"a padded map of {H + top + bottom} x {W + left + right} cells is smaller than its "
                         f"kernel, which spans {reach[0]} x {reach[1]}")
    walk = Walk(H=H, W=W, C=C, rows=rows, columns=columns, stride=stride, dilation=dilation, top=top,
                left=left, across=KW * C // run, run=run, K=KH * KW * C, kc=kernel.kc)
    return _multiply(x, kernel, walk, B, NOTHING, NOTHING, 0).reshape(B, rows, columns, O)


def _multiply(x, kernel, walk, B, bias, residual, code):
    """Loops 5 and 3: NC columns x MC rows of the result are one task."""
    M, N = B * walk.rows * walk.columns, kernel.shape[-1]
    out, x, work = np.empty(M * N, np.float32), x.reshape(-1), M * N * walk.K
    tiles, panels = -(-M // MR), -(-N // NR)
    down, beside = _split(tiles, panels, threads.worth(work))

    def task(i):
        i, j = divmod(i, beside)
        m_range = tiles * i // down * MR, min(tiles * (i + 1) // down * MR, M)
        panel_range = panels * j // beside, panels * (j + 1) // beside
        _multiply_into(out, x, kernel.panels, bias, residual, walk, N, m_range, panel_range, code)
    threads.run(down * beside, task, work)
    return out


def _split(tiles, panels, n):
    """Blocks of rows and of columns for n threads: of 8 tiles or more, so that a panel of B is used often."""
    down = max(d for d in range(1, n + 1) if n % d == 0 and d <= max(1, tiles // 8))
    beside = min(n // down, panels)
    return min(down * -(-tiles * MR // (down * MC)), max(tiles, 1)), max(beside, 1)


@jit
def _multiply_into(out, x, panels, bias, residual, walk, N, m_range, panel_range, code):
    """out[rows m, columns of panels] = activation(gathered x @ kernel + bias) + residual; all arrays flat."""
    wide()
    (m0, m1), (p0, p1) = m_range, panel_range
    P, tiles = (N + NR - 1) // NR, (m1 - m0 + MR - 1) // MR
    a, block = aligned((tiles + 1) * walk.kc * MR), aligned(MR * NR)
    zeros, starts = np.zeros(walk.kc, np.float32), np.empty(MR, np.int64)
    for k0 in range(0, walk.K, walk.kc):                              # loop 4: KC; the block of A goes to L2
        kc = min(walk.kc, walk.K - k0)
        first, last = k0 == 0, k0 + kc == walk.K
        for t in range(tiles):
            _gather_tile_into(a, t * kc * MR, starts, x, zeros, walk, m0 + t * MR, m1, k0, kc)
        for p in range(p0, p1):                                       # loop 2: NR; a panel of B, from L2
            b_at, n0, n = (k0 * P + p * kc) * NR, p * NR, min(NR, N - p * NR)
            d, d_at, ldd, adds = (bias, min(n0, bias.size), 0, bias.size) if first else (out, n0, N, 1)
            adds_e = residual.size if last else 0
            for t in range(tiles):                                    # loop 1: MR; a tile of A through L1
                m = m0 + t * MR
                at = m * N + n0
                if n < NR or m + MR > m1:
                    tile(a, t * kc * MR, panels, b_at, block, 0, NR, kc, block, 0, 0, 0, block, 0, 0, 0)
                    _settle(out, block, bias, residual, at, N, min(MR, m1 - m), n0, n, first, last, code)
                elif last and code:
                    tile(a, t * kc * MR, panels, b_at, block, 0, NR, kc, d, d_at + m * ldd, ldd, adds,
                         residual, 0, 0, 0)
                    activate_in(block, code)
                    _copy_rows(out, block, residual, at, N, MR, NR)
                else:
                    tile(a, t * kc * MR, panels, b_at, out, at, N, kc, d, d_at + m * ldd, ldd, adds,
                         residual, at, N, adds_e)


@jit
def _settle(out, block, bias, residual, at, N, height, n0, n, first, last, code):
    """A tile at an edge: it lies in `block`, with MR - height rows and NR - n columns too many."""
    for i in range(height):
        for j in range(n):
            if not first:
                block[i * NR + j] += out[at + i * N + j]
            elif bias.size:
                block[i * NR + j] += bias[n0 + j]
    if last and code:
        activate_in(block[:height * NR], code)
    _copy_rows(out, block, residual if last else residual[:0], at, N, height, n)


@jit
def _copy_rows(out, block, residual, at, N, height, n):
    for i in range(height):
        y, to = block[i * NR:i * NR + n], out[at + i * N:at + i * N + n]
        if residual.size:
            r = residual[at + i * N:at + i * N + n]
            for j in range(n):
                to[j] = y[j] + r[j]
        else:
            for j in range(n):
                to[j] = y[j]


@jit
def _gather_tile_into(a, at, starts, x, zeros, walk, m0, m1, k0, kc):
    """a[k, i] = the k-th of the cells that output cell m0 + i looks at, for kc of them from k0 on."""
    image, first = divmod(m0, walk.rows * walk.columns)
    first_row, first_column = divmod(first, walk.columns)
    tap, c = divmod(k0, walk.run)
    k = 0
    while k < kc:
        length = min(walk.run - c, kc - k)
        u, v = divmod(tap, walk.across)
        b, row, column = image, first_row, first_column
        for i in range(MR):
            h = row * walk.stride + u * walk.dilation - walk.top
            w = column * walk.stride + v * walk.dilation - walk.left
            inside = m0 + i < m1 and 0 <= h < walk.H and 0 <= w < walk.W
            starts[i] = ((b * walk.H + h) * walk.W + w) * walk.C + c if inside else -1
            column += 1
            if column == walk.columns:
                column, row = 0, row + 1
            if row == walk.rows:
                row, b = 0, b + 1
        pack(x, starts, length, zeros, a, at + k * MR, MR)
        k, tap, c = k + length, tap + 1, 0
