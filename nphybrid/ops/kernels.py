"""The words of `reference`, fast: norms, pooling and activations here, the rest from its own files.

Each word has two storeys: a Python front that checks, allocates and hands out tasks, and below it a jitted
loop without checks.
"""
import numpy as np

from . import threads
from .attention import attention, attention_with_weights  # noqa: F401
from .elementwise import activate_in, code_of
from .jit import jit
from .matmul import conv2d, floats, linear, linear_activate, linear_add, prepare  # noqa: F401
from .tile import wide

CHUNK = 32768                             # elements that one task sums or writes: 128 KB, a tenth of L2
SUMS = 128                                # partial sums per token: LLVM may not reorder a single one


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
    x, code = floats(x).reshape(B, H * W, C), code_of(activation)
    if C % groups:
        raise ValueError(f"{groups} groups do not divide {C} channels")
    scale, bias = floats(norm.scale, "scale", (C,)), floats(norm.bias, "bias", (C,))
    added = np.zeros((0, 0, 0), np.float32)
    if shortcut is not None:
        added = floats(shortcut, "shortcut", (B, H, W, C)).reshape(x.shape)
    rows = max(1, CHUNK // C)             # of the shape alone: the order of the sums is a promise
    chunks = -(-H * W // rows)
    sums, y = np.empty((B, chunks, 2, C)), np.empty_like(x)
    threads.run(B * chunks, lambda i: _sum_chunk_into(sums, x, rows, *divmod(i, chunks)), x.size)
    line = _lines(sums.sum(1), scale, bias, groups, H * W * C // groups, eps)
    threads.run(B * chunks, lambda i: _write_chunk_into(y, x, line, added, rows, *divmod(i, chunks), code),
                x.size)
    return y.reshape(B, H, W, C)


def _lines(sums, scale, bias, groups, n, eps):
    """(B, 2, C) sums -> (B, 3, C): centre, slope and offset of y = (x - centre) slope + offset.

    The centre is the mean rounded to float32, so that x - centre is exact near the mean; what the rounding
    left over goes into the offset.
    """
    B, _, C = sums.shape
    with np.errstate(all="ignore"):
        mean, square = (sums.reshape(B, 2, groups, C // groups).sum(-1) / n).transpose(1, 0, 2)
        root = np.sqrt(np.maximum(square - mean * mean, 0) + eps)
        mean, root = (np.repeat(a, C // groups, axis=1) for a in (mean, root))
        centre = mean.astype(np.float32)
        return np.stack([centre, scale / root, bias - (mean - centre) * (scale / root)], 1).astype(np.float32)


@jit
def _sum_chunk_into(sums, x, rows, b, chunk):
    """sums[b, chunk] = sums of x and x^2 over the chunk's rows, per channel."""
    wide()
    N, C = x.shape[1:]
    total, square = sums[b, chunk, 0], sums[b, chunk, 1]
    total[:] = 0.0
    square[:] = 0.0
    for n in range(chunk * rows, min(N, (chunk + 1) * rows)):
        row = x[b, n]
        for c in range(C):
            value = np.float64(row[c])
            total[c] += value
            square[c] += value * value


@jit
def _write_chunk_into(y, x, line, added, rows, b, chunk, code):
    """y = activation((x - centre) slope + offset + added), row by row."""
    wide()
    N, C = x.shape[1:]
    centre, slope, offset = line[b, 0], line[b, 1], line[b, 2]
    last = min(N, (chunk + 1) * rows)
    for n in range(chunk * rows, last):
        row, out = x[b, n], y[b, n]
        for c in range(C):
            out[c] = (row[c] - centre[c]) * slope[c] + offset[c]
        if added.size:
            more = added[b, n]
            for c in range(C):
                out[c] += more[c]
    if code:
        activate_in(y[b, chunk * rows:last].reshape((last - chunk * rows) * C), code)


def layer_norm(x, norm, eps):
    """Five passes over a token: the first reads memory, the others L1."""
    x = floats(x)
    D = x.shape[-1]
    scale, bias = floats(norm.scale, "scale", (D,)), floats(norm.bias, "bias", (D,))
    flat = x.reshape(-1, D)
    y, rows = np.empty_like(flat), max(1, CHUNK // D)
    threads.run(-(-len(flat) // rows), lambda i: _layer_norm_into(y, flat, scale, bias, eps, i * rows, rows),
                2 * x.size)
    return y.reshape(x.shape)


@jit
def _layer_norm_into(y, x, scale, bias, eps, first, rows):
    """The mean is taken twice: what float32 lost of a large one is the mean of what is left."""
    wide()
    D = x.shape[1]
    sums = np.empty(SUMS, np.float32)
    for n in range(first, min(first + rows, x.shape[0])):
        row, out = x[n], y[n]
        mean = np.float32(_sum(row, sums) / D)
        for i in range(D):
            out[i] = row[i] - mean
        rest = _sum(out, sums) / D
        variance = _sum_squares(out, sums) / D - rest * rest
        slope, rest = np.float32(1 / np.sqrt(variance + eps)), np.float32(rest)
        for i in range(D):
            out[i] = (out[i] - rest) * slope * scale[i] + bias[i]


@jit
def _sum(x, sums):
    """Every SUMS-th element has its own float32 sum; those are added in float64."""
    wide()
    whole = x.size // SUMS * SUMS
    sums[:] = np.float32(0)
    for i in range(0, whole, SUMS):
        part = x[i:i + SUMS]
        for s in range(SUMS):
            sums[s] += part[s]
    return _total(sums) + _total(x[whole:])


@jit
def _sum_squares(x, sums):
    wide()
    whole = x.size // SUMS * SUMS
    sums[:] = np.float32(0)
    for i in range(0, whole, SUMS):
        part = x[i:i + SUMS]
        for s in range(SUMS):
            sums[s] += part[s] * part[s]
    rest = x[whole:]
    return _total(sums) + _total(rest * rest)


@jit
def _total(x):
    total = 0.0
    for i in range(x.size):
        total += x[i]
    return total


def max_pool(x, padding, fill):
    """Nothing is padded: a window that leaves the map begins with `fill`."""
    B, H, W, C = np.shape(x)
    x, ((top, bottom), (left, right)) = floats(x), padding
    y = np.empty((B, (H + top + bottom - 3) // 2 + 1, (W + left + right - 3) // 2 + 1, C), np.float32)
    rows = y.shape[1]
    fill = np.float32(fill)
    threads.run(B * rows, lambda i: _max_pool_row_into(y, x, top, left, fill, *divmod(i, rows)), 9 * y.size)
    return y


@jit
def _max_pool_row_into(y, x, top, left, fill, b, i):
    """A NaN wins against everything, as in np.maximum."""
    B, H, W, C = x.shape
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
    x = floats(x).reshape(B, H * W, C)
    sums = np.empty((B, 1, 2, C))
    threads.run(B, lambda b: _sum_chunk_into(sums, x, H * W, b, 0), x.size)
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
    threads.run(parts, task, 8 * x.size)
    return y.reshape(x.shape)
