"""Pack matrices into panels for a single product: kernels that change at each training step, and gradients.

`Packed` (packed.py) packs a kernel that is used many times. The functions of this file pack a matrix that is used one
time, on several threads. The layout of the panels is the one of packed.py: panels[p, k, j] = matrix[k, p * NR + j].
"""
import math
from typing import NamedTuple

import numpy as np

from . import threads
from .emit import wide
from .integers import ceil_div
from .jit import jit
from .memory import empty
from .pack import pack, pack_panels
from .packed import AMX, Packed
from .target import NR

COPY = 16                                 # copying one element takes as long as COPY multiply-adds
TOGETHER = 8                              # a task packs TOGETHER panels


class Panels(NamedTuple):
    """A float32 kernel in panels.  `multiply` of matmul.py takes a Panels or a Packed."""
    shape: tuple[int, ...]                # (KH, KW, C, O) or (C, O)
    panels: np.ndarray                    # (P, K, NR)
    parts: int = 3                        # as in Packed


def packed_once(kernel):
    """Pack an array for one product.  A Packed is returned unchanged.  (…, C, O) -> Panels or Packed"""
    if isinstance(kernel, Packed):
        return kernel
    if AMX:
        return Packed(kernel)
    return Panels(kernel.shape, panels_of(kernel.reshape(-1, kernel.shape[-1])))


def panels_of(matrix):
    """Pack a contiguous float32 matrix.  (K, N) -> panels (P, K, NR)

    A task packs TOGETHER panels, so that it reads TOGETHER * NR neighbours at a time. On Zen 3, a kernel (384, 1536)
    takes 0.45 ns per element panel by panel, and 0.21 ns with 8 panels together.
    """
    K, N = matrix.shape
    panels = empty(ceil_div(N, NR), K, NR)
    flat = matrix.reshape(-1)

    def task(i):
        part = panels[i * TOGETHER:(i + 1) * TOGETHER]
        pack_panels(flat, N, 0, K, i * TOGETHER, i * TOGETHER + len(part), part.reshape(-1))
    threads.run(ceil_div(len(panels), TOGETHER), task, COPY * matrix.size)
    return panels


def packed_transposed(kernel, taps):
    """Pack the transposed matrices of some taps, one below the other.  kernel (KH, KW, C, O) -> Panels

    `taps` lists pairs (u, v) of numbers. The packed matrix is concatenate([kernel[u, v].T for (u, v) in taps]), of
    shape (len(taps) * O, C). The shape of the result is (len(taps), 1, O, C).
    """
    KH, KW, C, O = kernel.shape
    shape = len(taps), 1, O, C
    if AMX:
        return Packed(np.concatenate([kernel[u, v].T for u, v in taps]).reshape(shape))
    panels = empty(ceil_div(C, NR), len(taps) * O, NR)
    flat = kernel.reshape(-1)
    starts = np.array([(u * KW + v) * C * O for u, v in taps])
    threads.run(len(panels), lambda p: _transpose_into(panels[p], flat, starts, p * NR, C, O), COPY * math.prod(shape))
    return Panels(shape, panels)


@jit
def _transpose_into(panel, kernel, taps, channel, C, O):
    """panel[t * O + o, j] = kernel[taps[t] + (channel + j) * O + o], and 0 beyond the last channel."""
    wide()
    zeros = np.zeros(O, np.float32)
    starts = np.empty(NR, np.int64)
    flat = panel.reshape(panel.size)
    for t in range(taps.size):
        for j in range(NR):
            starts[j] = taps[t] + (channel + j) * O if channel + j < C else -1
        pack(kernel, starts, O, zeros, flat, t * O * NR)
