"""Fast versions of the operations of `reference`.

This file defines poolings and activations, and imports the other operations. Each operation has a Python wrapper and a
jitted loop. The wrapper checks the arguments, allocates the result and divides the work into tasks. The loop
computes one task and checks nothing. `reference.f` is the plain definition of an operation `f`.
"""
import numpy as np

from . import threads
from .attention import attention, attention_with_weights
from .checks import floats
from .chunks import CHUNK, rows_per_task
from .elementwise import activate_in, code_of
from .integers import ceil_div
from .jit import jit
from .matmul import conv2d, linear, linear_activate, linear_add
from .memory import empty
from .norms import group_norm, group_norm_activate, group_norm_add_activate, layer_norm, sum_chunk_into
from .packed import prepare, ready, standardize

__all__ = ["activate", "attention", "attention_with_weights", "conv2d", "group_norm", "group_norm_activate",
           "group_norm_add_activate", "layer_norm", "linear", "linear_activate", "linear_add", "max_pool", "mean_pool",
           "prepare", "ready", "standardize"]


def max_pool(x, padding, fill):
    """Compute max pooling without a padded copy.  The maximum of a window across the map's edge includes `fill`."""
    B, H, W, C = np.shape(x)
    x = floats(x)
    (top, bottom), (left, right) = padding
    y = empty(B, (H + top + bottom - 3) // 2 + 1, (W + left + right - 3) // 2 + 1, C)
    map_rows = B * y.shape[1]
    rows = rows_per_task(map_rows, y.shape[2] * C)
    fill = np.float32(fill)
    threads.run(ceil_div(map_rows, rows), _max_pool_into, threads.ELEMENT * x.size, (y, x, top, left, fill, rows))
    return y


@jit
def _max_pool_into(y, x, top, left, fill, rows, task):
    """Compute `rows` rows of the output.  The rows of all images are numbered in one sequence.

    NaN counts as the largest value, as in np.maximum.
    """
    B, H, W, C = x.shape
    for row in range(task * rows, min((task + 1) * rows, B * y.shape[1])):
        b, i = divmod(row, y.shape[1])
        for j in range(y.shape[2]):
            h = 2 * i - top
            w = 2 * j - left
            out = y[b, i, j]
            inside = 0 <= h and h + 3 <= H and 0 <= w and w + 3 <= W
            out[:] = np.float32(-np.inf) if inside else fill
            for u in range(max(h, 0), min(h + 3, H)):
                for v in range(max(w, 0), min(w + 3, W)):
                    cell = x[b, u, v]
                    for c in range(C):
                        out[c] = cell[c] if (cell[c] > out[c]) | (cell[c] != cell[c]) else out[c]


def mean_pool(x):
    """Compute the mean over the cells of each map, with sums in float64."""
    B, H, W, C = np.shape(x)
    x = floats(x).reshape(B, H * W * C)
    sums = np.empty((B, 1, 2, C))
    threads.run(B, sum_chunk_into, threads.ELEMENT * x.size, (sums, x, H * W * C))
    return (sums[:, 0, 0] / (H * W)).astype(np.float32)


def activate(x, activation):
    """Copy x and apply the activation to the copy in place."""
    x = floats(x)
    code = code_of(activation)
    flat = x.reshape(-1)
    y = np.empty(x.size, np.float32)

    def task(i):
        part = slice(i * CHUNK, (i + 1) * CHUNK)
        y[part] = flat[part]
        activate_in(y[part], code)
    threads.run(ceil_div(x.size, CHUNK), task, threads.ELEMENT * x.size)
    return y.reshape(x.shape)
