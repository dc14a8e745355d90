"""What a convolution is to the loops of `matmul` and `amx`: rows that lie somewhere in the maps, and blocks of results.

A row per output cell, in which the kernel's taps stand one behind the other; the result has a column per channel.
"""
import functools
from typing import NamedTuple

import numpy as np

from .elementwise import activate_in
from .emit import wide
from .jit import jit

NOWHERE = (0, 0), (0, 0)                  # no padding


class Windows(NamedTuple):
    """How the left rows lie in the maps: a row per output cell, made of runs of `run` neighbours, a run per tap."""
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


@functools.lru_cache(4096)
def windows_of(H, W, C, KH, KW, run, stride, dilation, padding):
    """The Walk of a kernel over maps.  Raises ValueError where the kernel does not fit into them."""
    (top, bottom), (left, right) = padding
    reach, whole = (dilation * (KH - 1) + 1, dilation * (KW - 1) + 1), (top + H + bottom, left + W + right)
    rows, columns = ((n - r) // stride + 1 for n, r in zip(whole, reach))
    if rows < 1 or columns < 1:
        raise ValueError(f"a padded map of {whole[0]} x {whole[1]} cells is smaller than its kernel, which spans "
                         f"{reach[0]} x {reach[1]}")
    return Windows(H, W, C, rows, columns, stride, dilation, top, left, across=KW * C // run, run=run, K=KH * KW * C)


def padded(x, padding):
    """The maps with zeros around them, so that no run crosses a border."""
    B, H, W, C = x.shape
    (top, bottom), (left, right) = padding
    y = np.zeros((B, top + H + bottom, left + W + right, C), np.float32)
    y[:, top:top + H, left:left + W] = x
    return y


@jit
def starts_into(starts, count, walk, m, M, tap, taps, c):
    """Where in x the runs of `count` output cells begin, from cell m, tap and channel c on; -1 outside the map."""
    image, cell = divmod(m, walk.rows * walk.columns)
    row, column = divmod(cell, walk.columns)
    first_u, first_v = divmod(tap, walk.across)
    for i in range(count):
        u, v = first_u, first_v
        for t in range(taps):
            h = row * walk.stride + u * walk.dilation - walk.top
            w = column * walk.stride + v * walk.dilation - walk.left
            inside = m + i < M and 0 <= h < walk.H and 0 <= w < walk.W
            starts[t * count + i] = ((image * walk.H + h) * walk.W + w) * walk.C + c if inside else -1
            v += 1
            if v == walk.across:
                u, v = u + 1, 0
        column += 1
        if column == walk.columns:
            column, row = 0, row + 1
        if row == walk.rows:
            row, image = 0, image + 1


@jit
def finish(out, N, m, n0, block, bias, residual, first, last, added, code):
    """Bring a block (rows, columns) to row m and column n0 of `out` (flat, N columns), as much of it as lies within.

    Unless it is `added` already, what `out` holds of the products before is added, or the bias if these are the
    `first`; after the `last` come activation and residual. `bias` and `residual` may be empty.
    """
    wide()
    height, n, at = min(block.shape[0], out.size // N - m), min(block.shape[1], N - n0), m * N + n0
    for i in range(0 if added else height):
        y = block[i]
        if not first:
            d = out[at + i * N:at + i * N + n]
            for j in range(n):
                y[j] += d[j]
        elif bias.size:
            for j in range(n):
                y[j] += bias[n0 + j]
    if last and code:
        activate_in(block.reshape(block.size), code)
    for i in range(height):
        y, to = block[i], out[at + i * N:at + i * N + n]
        if last and residual.size:
            r = residual[at + i * N:at + i * N + n]
            for j in range(n):
                to[j] = y[j] + r[j]
        else:
            for j in range(n):
                to[j] = y[j]
