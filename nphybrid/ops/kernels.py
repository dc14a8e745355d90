"""The words of `reference`, fast: norms, pooling and activations here, the rest from its own files.

Each word has two storeys: a Python front that checks, allocates and hands out tasks, and below it a jitted
loop without checks.
"""
import numpy as np

from . import threads
from .attention import attention, attention_with_weights
from .checks import floats
from .elementwise import activate_in, code_of
from .emit import wide
from .folds import moments
from .jit import jit
from .matmul import conv2d, linear, linear_activate, linear_add
from .memory import aligned, empty
from .packed import prepare, ready

__all__ = ["activate", "attention", "attention_with_weights", "conv2d", "group_norm", "group_norm_activate",
           "group_norm_add_activate", "layer_norm", "linear", "linear_activate", "linear_add", "max_pool", "mean_pool",
           "prepare", "ready"]

CHUNK = 65536                             # elements that one task sums or writes, at most: 256 KB, a fifth of L2
EVEN = 4                                  # larger maps come in a multiple of so many chunks: threads share evenly
LONG = 256                                # loops over fewer channels take several cells at once


def group_norm(x, norm, groups, eps):
    """Sums of x and x^2 in float64, so that one reading is enough.

    A mean of 1e4 at a standard deviation of 1 costs 8 of float64's 16 digits; float32 keeps 7.
    """
    return _group_norm(x, norm, groups, eps, None, "")


def group_norm_activate(x, norm, groups, eps, activation):
    """The activation runs over each chunk while that is in L2."""
    return _group_norm(x, norm, groups, eps, None, activation)


def group_norm_add_activate(x, norm, groups, eps, shortcut, activation):
    """The shortcut is added row by row, while the row is in L1."""
    return _group_norm(x, norm, groups, eps, shortcut, activation)


def _group_norm(x, norm, groups, eps, shortcut, activation):
    B, H, W, C = np.shape(x)
    x, code = floats(x).reshape(B, H * W * C), code_of(activation)
    if C % groups:
        raise ValueError(f"{groups} groups do not divide {C} channels")
    scale, bias = floats(norm.scale, "scale", (C,)), floats(norm.bias, "bias", (C,))
    added = np.zeros((0, 0), np.float32)
    if shortcut is not None:
        added = floats(shortcut, "shortcut", (B, H, W, C)).reshape(x.shape)
    width = C * max(1, LONG // C)
    chunk = width * _share(-(-H * W * C // width), width)  # of the shape alone: the order of the sums is a promise
    chunks = -(-H * W * C // chunk)
    sums, y = np.empty((B, chunks, 2, width)), empty(*x.shape)
    lines = np.empty((B, 3, width), np.float32)
    work = threads.ELEMENT * x.size
    threads.run(B * chunks, lambda i: _sum_chunk_into(sums, x, chunk, *divmod(i, chunks)), work)
    for b in range(B):
        _lines_into(lines, sums, scale, bias, groups, H * W * C // groups, eps, b)
    threads.run(B * chunks, lambda i: _write_chunk_into(y, x, lines, added, chunk, *divmod(i, chunks), code), work)
    return y.reshape(B, H, W, C)


def _share(rows, width):
    """How many rows are a task."""
    tasks = -(-rows * width // CHUNK)
    return max(1, -(-rows // (-(-tasks // EVEN) * EVEN if tasks > 1 else 1)))


@jit
def _sum_chunk_into(sums, x, chunk, b, i):
    """sums[b, i] = sums of x and x^2 over a chunk, per channel of several neighbouring cells."""
    wide()
    width = sums.shape[3]
    both = aligned(4 * width).view(np.float64)
    total, square = both[:width], both[width:]
    both[:] = 0.0
    part = x[b, i * chunk:(i + 1) * chunk]
    for n in range(0, part.size, width):
        row = part[n:n + width]
        for c in range(row.size):
            value = np.float64(row[c])
            total[c] += value
            square[c] += value * value
    sums[b, i, 0], sums[b, i, 1] = total, square


@jit
def _lines_into(lines, sums, scale, bias, groups, n, eps, b):
    """lines[b] = centre, slope and offset of y = (x - centre) slope + offset, per channel of several cells.

    The centre is the mean rounded to float32, so that x - centre is exact near the mean; what the rounding
    left over goes into the offset.
    """
    chunks, _, width = sums.shape[1:]
    C = scale.size
    size = C // groups
    for g in range(groups):
        total, square = 0.0, 0.0
        for i in range(chunks):
            for cell in range(g * size, width, C):
                for c in range(cell, cell + size):
                    total += sums[b, i, 0, c]
                    square += sums[b, i, 1, c]
        mean = total / n
        variance = square / n - mean * mean
        root = np.sqrt((0.0 if variance < 0.0 else variance) + eps)
        centre = np.float32(mean)
        for cell in range(g * size, width, C):
            for c in range(size):
                slope = scale[g * size + c] / root
                lines[b, 0, cell + c], lines[b, 1, cell + c] = centre, slope
                lines[b, 2, cell + c] = bias[g * size + c] - (mean - centre) * slope


@jit
def _write_chunk_into(y, x, lines, added, chunk, b, i, code):
    """y = activation((x - centre) slope + offset + added), a line at a time: the activation finds it in L1."""
    wide()
    centre, slope, offset = lines[b, 0], lines[b, 1], lines[b, 2]
    width, first = centre.size, i * chunk
    for n in range(first, min(first + chunk, x.shape[1]), width):
        row, out = x[b, n:n + width], y[b, n:n + width]
        for c in range(row.size):
            out[c] = (row[c] - centre[c]) * slope[c] + offset[c]
        if added.size:
            more = added[b, n:n + width]
            for c in range(more.size):
                out[c] += more[c]
        if code:
            activate_in(out, code)


def layer_norm(x, norm, eps):
    """One reading: sums of x and x^2 in float64, like group norm's."""
    x = floats(x)
    D = x.shape[-1]
    scale, bias = floats(norm.scale, "scale", (D,)), floats(norm.bias, "bias", (D,))
    flat = x.reshape(-1, D)
    y, rows = empty(*flat.shape), _share(len(flat), D)
    threads.run(-(-len(flat) // rows), lambda i: _layer_norm_into(y, flat, scale, bias, eps, i * rows, rows),
                threads.ELEMENT * x.size)
    return y.reshape(x.shape)


@jit
def _layer_norm_into(y, x, scale, bias, eps, first, rows):
    """As in group norm, the mean is taken off in two steps: rounded to float32, then the rest."""
    wide()
    D = x.shape[1]
    for n in range(first, min(first + rows, x.shape[0])):
        row, out = x[n], y[n]
        first_moment, second_moment = moments(row)
        mean = first_moment / D
        variance = second_moment / D - mean * mean
        slope = np.float32(1 / np.sqrt((0.0 if variance < 0.0 else variance) + eps))
        centre, rest = np.float32(mean), np.float32(mean - np.float32(mean))
        for i in range(D):
            out[i] = (row[i] - centre - rest) * slope * scale[i] + bias[i]


def max_pool(x, padding, fill):
    """Nothing is padded: a window that leaves the map begins with `fill`."""
    B, H, W, C = np.shape(x)
    x, ((top, bottom), (left, right)) = floats(x), padding
    y = empty(B, (H + top + bottom - 3) // 2 + 1, (W + left + right - 3) // 2 + 1, C)
    rows, fill = _share(B * y.shape[1], y.shape[2] * C), np.float32(fill)
    threads.run(-(-B * y.shape[1] // rows), lambda i: _max_pool_into(y, x, top, left, fill, i * rows, rows),
                threads.ELEMENT * x.size)
    return y


@jit
def _max_pool_into(y, x, top, left, fill, first, rows):
    """Some rows of the maps one below the other.  A NaN wins against everything, as in np.maximum."""
    B, H, W, C = x.shape
    for row in range(first, min(first + rows, B * y.shape[1])):
        b, i = divmod(row, y.shape[1])
        for j in range(y.shape[2]):
            h, w, out = 2 * i - top, 2 * j - left, y[b, i, j]
            inside = 0 <= h and h + 3 <= H and 0 <= w and w + 3 <= W
            out[:] = np.float32(-np.inf) if inside else fill
            for u in range(max(h, 0), min(h + 3, H)):
                for v in range(max(w, 0), min(w + 3, W)):
                    cell = x[b, u, v]
                    for c in range(C):
                        out[c] = cell[c] if (cell[c] > out[c]) | (cell[c] != cell[c]) else out[c]


def mean_pool(x):
    """Sums in float64."""
    B, H, W, C = np.shape(x)
    x = floats(x).reshape(B, H * W * C)
    sums = np.empty((B, 1, 2, C))
    threads.run(B, lambda b: _sum_chunk_into(sums, x, H * W * C, b, 0), threads.ELEMENT * x.size)
    return (sums[:, 0, 0] / (H * W)).astype(np.float32)


def activate(x, activation):
    """One of reference.ACTIVATIONS."""
    x, code = floats(x), code_of(activation)
    flat, y = x.reshape(-1), np.empty(x.size, np.float32)
    parts = -(-x.size // CHUNK)

    def task(i):
        part = slice(i * CHUNK, (i + 1) * CHUNK)
        y[part] = flat[part]
        activate_in(y[part], code)
    threads.run(parts, task, threads.ELEMENT * x.size)
    return y.reshape(x.shape)
