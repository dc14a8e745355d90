"""Pack matrices into panels on several threads.  packed.py shows the layout: panels[p, k, j] = matrix[k, p * NR + j].

A matrix that lies in memory row by row is copied. A matrix that lies column by column is transposed in registers. The
weights of linear layers are such matrices, because a checkpoint of Hugging Face stores (O, C) instead of (C, O).
"""
import math

import numpy as np

from . import threads
from .emit import wide
from .integers import ceil_div
from .jit import jit_allocating
from .memory import aligned
from .pack import pack, pack_panels
from .target import NR

TOGETHER = 8                              # a task packs TOGETHER panels
ONE_START = np.zeros(1, np.int64)         # the start of a single tap


def panels_of(matrix):
    """Pack a matrix.  (K, N) -> panels (P, K, NR), float32

    A task packs TOGETHER panels, so that it reads TOGETHER * NR neighbours at a time. On Zen 3, a kernel (384, 1536)
    takes 0.45 ns per element panel by panel, and 0.21 ns with 8 panels together.
    """
    K, N = matrix.shape
    matrix = matrix.astype(np.float32, copy=False)        # a copy keeps the order of the elements in memory
    if matrix.T.flags.c_contiguous:
        return transposed_panels(matrix.T.reshape(-1), ONE_START, N, K)
    flat = np.ascontiguousarray(matrix).reshape(-1)
    panels = _empty(N, K)

    def task(i):
        part = panels[i * TOGETHER:(i + 1) * TOGETHER]
        pack_panels(flat, N, 0, K, i * TOGETHER, i * TOGETHER + len(part), part.reshape(-1))
    threads.run(ceil_div(len(panels), TOGETHER), task, threads.COPY * matrix.size)
    return panels


def transposed_panels(flat, starts, N, rows):
    """Pack the transposed matrices of some taps, one below the other.  -> panels (P, taps * rows, NR), float32

    Tap t is a matrix (N, rows) that begins at flat[starts[t]]. The packed matrix is concatenate([tap.T for each tap]).
    """
    panels = _empty(N, len(starts) * rows)
    threads.run(ceil_div(len(panels), TOGETHER), _transpose_into, threads.COPY * panels.size,
                (panels, flat, starts, N, rows))
    return panels


def _empty(N, K):
    shape = ceil_div(N, NR), K, NR
    return aligned(math.prod(shape)).reshape(shape)


@jit_allocating
def _transpose_into(panels, flat, starts, N, rows, task):
    """panels[p, t * rows + k, j] = flat[starts[t] + (p * NR + j) * rows + k] for TOGETHER panels p.

    After the last of the N columns, a panel has zeros.
    """
    wide()
    zeros = np.zeros(rows, np.float32)
    columns = np.empty(NR, np.int64)
    for p in range(task * TOGETHER, min((task + 1) * TOGETHER, len(panels))):
        out = panels[p].reshape(panels[p].size)
        for t in range(starts.size):
            for j in range(NR):
                column = p * NR + j
                columns[j] = starts[t] + column * rows if column < N else -1
            pack(flat, columns, rows, zeros, out, t * rows * NR)
