"""Fast versions of the operations of `reference`.

This file defines norms, poolings and activations, and imports the other operations. Each operation has a Python wrapper
and a jitted loop. The wrapper checks the arguments, allocates the result and divides the work into tasks. The loop
computes one task and checks nothing. `reference.f` is the plain definition of an operation `f`.
"""
import functools

import numpy as np

from . import threads
from .attention import attention, attention_with_weights
from .checks import floats
from .elementwise import activate_in, code_of
from .emit import wide
from .integers import ceil_div
from .jit import jit
from .matmul import conv2d, linear, linear_activate, linear_add
from .memory import aligned, empty
from .packed import prepare, ready, standardize
from .reductions import moments

__all__ = ["activate", "attention", "attention_with_weights", "conv2d", "group_norm", "group_norm_activate",
           "group_norm_add_activate", "layer_norm", "linear", "linear_activate", "linear_add", "max_pool", "mean_pool",
           "prepare", "ready", "standardize"]

CHUNK = 65536                             # a task reads or writes at most CHUNK elements: 256 KB, 1/5 of L2 on Ice Lake
EVEN = 4                                  # the number of tasks is a multiple of EVEN, so that threads get equal shares
LONG = 256                                # an inner loop covers LONG // C neighbouring cells, but at least one cell


def group_norm(x, norm, groups, eps):
    """Compute group norm.  In one pass over x, x and x^2 are added up in float64.

    If the mean is 1e4 and the standard deviation is 1, the variance loses 8 of the 16 digits of float64. The 8 digits
    that remain are enough for a float32 result.
    """
    return _group_norm(x, norm, groups, eps, None, "")


def group_norm_activate(x, norm, groups, eps, activation):
    """Compute group norm and an activation.  Each small part of the result is activated while it is in L1."""
    return _group_norm(x, norm, groups, eps, None, activation)


def group_norm_add_activate(x, norm, groups, eps, shortcut, activation):
    """Compute group norm, add a shortcut, and activate.  Each small part of x stays in L1 for all three steps."""
    return _group_norm(x, norm, groups, eps, shortcut, activation)


def _group_norm(x, norm, groups, eps, shortcut, activation):
    B, H, W, C = np.shape(x)
    size = H * W * C
    x = floats(x).reshape(B, size)
    code = code_of(activation)
    if C % groups:
        raise ValueError(f"expected a number of groups that divides {C} channels, found {groups} groups")
    scale = floats(norm.scale, "scale", (C,))
    bias = floats(norm.bias, "bias", (C,))
    added = np.zeros((0, 0), np.float32)
    if shortcut is not None:
        added = floats(shortcut, "shortcut", (B, H, W, C)).reshape(x.shape)
    # A line of x contains the channels of one or more neighbouring cells. A chunk contains the lines of one task.
    # The order of the additions depends on the size of a chunk. So this size must depend only on the shape of x.
    width = C * max(1, LONG // C)
    chunk = width * _rows_per_task(ceil_div(size, width), width)
    chunks = ceil_div(size, chunk)
    sums = np.empty((B, chunks, 2, width))
    y = empty(B, size)
    lines = np.empty((B, 3, width), np.float32)
    work = threads.ELEMENT * x.size
    threads.run(B * chunks, lambda i: _sum_chunk_into(sums, x, chunk, *divmod(i, chunks)), work)
    for b in range(B):
        _lines_into(lines, sums, scale, bias, groups, size // groups, eps, b)
    threads.run(B * chunks, lambda i: _write_chunk_into(y, x, lines, added, chunk, *divmod(i, chunks), code), work)
    return y.reshape(B, H, W, C)


@functools.lru_cache(4096)
def _rows_per_task(rows, width):
    """The number of rows of `width` elements in one task.  A task has at most CHUNK elements, but at least one row."""
    tasks = ceil_div(rows * width, CHUNK)
    if tasks > 1:
        tasks = ceil_div(tasks, EVEN) * EVEN
    return max(1, ceil_div(rows, max(tasks, 1)))


@jit
def _sum_chunk_into(sums, x, chunk, b, i):
    """Add up x and x^2 over all lines of a chunk, for each position in a line.

    sums[b, i] = the sums of chunk i of image b.
    """
    wide()
    width = sums.shape[3]
    both = aligned(4 * width).view(np.float64)
    total = both[:width]
    square = both[width:]
    both[:] = 0.0
    part = x[b, i * chunk:(i + 1) * chunk]
    for line_start in range(0, part.size, width):
        line = part[line_start:line_start + width]
        for c in range(line.size):
            value = np.float64(line[c])
            total[c] += value
            square[c] += value * value
    sums[b, i, 0] = total
    sums[b, i, 1] = square


@jit
def _lines_into(lines, sums, scale, bias, groups, n, eps, b):
    """lines[b] = centre, slope and offset of y = (x - centre) * slope + offset, for image b.

    Each position in a line has its own centre, slope and offset. `n` is the number of elements in a group. The centre
    is the mean rounded to float32, so that x - centre is exact for x near the mean. The offset is the bias plus a
    correction for the rounding error of the centre.
    """
    chunks, _, width = sums.shape[1:]
    C = scale.size
    size = C // groups
    for g in range(groups):
        total = 0.0
        square = 0.0
        for i in range(chunks):
            for first in range(g * size, width, C):       # the group's first channel in each cell of a line
                for c in range(first, first + size):
                    total += sums[b, i, 0, c]
                    square += sums[b, i, 1, c]
        mean = total / n
        variance = square / n - mean * mean
        root = np.sqrt((0.0 if variance < 0.0 else variance) + eps)
        centre = np.float32(mean)
        for first in range(g * size, width, C):
            for c in range(size):
                slope = scale[g * size + c] / root
                lines[b, 0, first + c] = centre
                lines[b, 1, first + c] = slope
                lines[b, 2, first + c] = bias[g * size + c] - (mean - centre) * slope


@jit
def _write_chunk_into(y, x, lines, added, chunk, b, i, code):
    """y = activation((x - centre) * slope + offset + added) for chunk i of image b.

    The chunk is computed line by line. A line contains the channels of one or more neighbouring cells. `added` may be
    empty.
    """
    wide()
    centre = lines[b, 0]
    slope = lines[b, 1]
    offset = lines[b, 2]
    width = centre.size
    chunk_start = i * chunk
    for line_start in range(chunk_start, min(chunk_start + chunk, x.shape[1]), width):
        line = x[b, line_start:line_start + width]
        out = y[b, line_start:line_start + width]
        for c in range(line.size):
            out[c] = (line[c] - centre[c]) * slope[c] + offset[c]
        if added.size:
            more = added[b, line_start:line_start + width]
            for c in range(more.size):
                out[c] += more[c]
        if code:
            activate_in(out, code)


def layer_norm(x, norm, eps):
    """Compute layer norm.  As in `group_norm`, x and x^2 are added up in float64, in one pass over x."""
    x = floats(x)
    D = x.shape[-1]
    scale = floats(norm.scale, "scale", (D,))
    bias = floats(norm.bias, "bias", (D,))
    flat = x.reshape(-1, D)
    y = empty(*flat.shape)
    rows = _rows_per_task(len(flat), D)
    threads.run(ceil_div(len(flat), rows), lambda i: _layer_norm_into(y, flat, scale, bias, eps, i * rows, rows),
                threads.ELEMENT * x.size)
    return y.reshape(x.shape)


@jit
def _layer_norm_into(y, x, scale, bias, eps, first_row, rows):
    """Normalize some rows of x.  The mean rounded to float32 is subtracted, and then the mean's rounding error."""
    wide()
    D = x.shape[1]
    for n in range(first_row, min(first_row + rows, x.shape[0])):
        row = x[n]
        out = y[n]
        first_moment, second_moment = moments(row)
        mean = first_moment / D
        variance = second_moment / D - mean * mean
        slope = np.float32(1 / np.sqrt((0.0 if variance < 0.0 else variance) + eps))
        centre = np.float32(mean)
        rest = np.float32(mean - centre)
        for i in range(D):
            out[i] = (row[i] - centre - rest) * slope * scale[i] + bias[i]


def max_pool(x, padding, fill):
    """Compute max pooling without a padded copy.  The maximum of a window across the map's edge includes `fill`."""
    B, H, W, C = np.shape(x)
    x = floats(x)
    (top, bottom), (left, right) = padding
    y = empty(B, (H + top + bottom - 3) // 2 + 1, (W + left + right - 3) // 2 + 1, C)
    map_rows = B * y.shape[1]
    rows = _rows_per_task(map_rows, y.shape[2] * C)
    fill = np.float32(fill)
    threads.run(ceil_div(map_rows, rows), lambda i: _max_pool_into(y, x, top, left, fill, i * rows, rows),
                threads.ELEMENT * x.size)
    return y


@jit
def _max_pool_into(y, x, top, left, fill, first_row, rows):
    """Compute some rows of the output.  The rows of all images are numbered in one sequence.

    NaN counts as the largest value, as in np.maximum.
    """
    B, H, W, C = x.shape
    for row in range(first_row, min(first_row + rows, B * y.shape[1])):
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
    threads.run(B, lambda b: _sum_chunk_into(sums, x, H * W * C, b, 0), threads.ELEMENT * x.size)
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
