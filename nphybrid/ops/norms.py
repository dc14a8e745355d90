"""Group norm and layer norm.  `reference.py` has the plain definitions."""
import numpy as np

from . import threads
from .checks import floats
from .chunks import CHUNK, EVEN, lines_and_chunks, rows_per_task
from .elementwise import activate_in, code_of
from .emit import wide
from .integers import ceil_div
from .jit import jit, jit_allocating
from .memory import aligned, empty
from .reductions import moments


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
    if not x.size:
        return empty(B, H, W, C)
    width, chunk = lines_and_chunks(size, C)
    chunks = ceil_div(size, chunk)
    sums = empty(B, chunks, 2, width, dtype=np.float64)
    y = empty(B, size)
    lines = empty(B, 3, width)
    work = threads.ELEMENT * x.size
    n = size // groups
    if size <= CHUNK and B >= EVEN * threads.threads_for(work):
        images = rows_per_task(B, size)
        threads.run(ceil_div(B, images), _images_into, 2 * work,
                    (y, x, lines, sums, scale, bias, groups, n, eps, added, chunk, code, images))
    else:
        threads.run(B * chunks, sum_chunk_into, work, (sums, x, chunk))
        threads.run(B, lines_into, 0, (lines, sums, scale, bias, groups, n, eps))
        threads.run(B * chunks, _write_chunk_into, work, (y, x, lines, added, chunk, code))
    return y.reshape(B, H, W, C)


@jit
def _images_into(y, x, lines, sums, scale, bias, groups, n, eps, added, chunk, code, images, task):
    """Compute `images` images, each of which stays in L2.  All chunks of an image are one task."""
    chunks = sums.shape[1]
    for b in range(task * images, min((task + 1) * images, x.shape[0])):
        for i in range(chunks):
            sum_chunk_into(sums, x, chunk, b * chunks + i)
        lines_into(lines, sums, scale, bias, groups, n, eps, b)
        for i in range(chunks):
            _write_chunk_into(y, x, lines, added, chunk, code, b * chunks + i)


@jit_allocating
def sum_chunk_into(sums, x, chunk, task):
    """Add up x and x^2 over all lines of a chunk, for each position in a line.

    sums[b, i] = the sums of chunk i of image b. The number of a task is b * chunks + i.
    """
    wide()
    b, i = divmod(task, sums.shape[1])
    width = sums.shape[3]
    both = aligned(4 * width).view(np.float64)
    total = both[:width]
    square = both[width:]
    both[:] = 0.0
    part = x[b, i * chunk:(i + 1) * chunk]
    # Four lines are added at once, in the order of the lines: the sums are loaded and stored only once for them.
    whole = part.size // (4 * width) * 4 * width
    for start in range(0, whole, 4 * width):
        line0 = part[start:start + width]
        line1 = part[start + width:start + 2 * width]
        line2 = part[start + 2 * width:start + 3 * width]
        line3 = part[start + 3 * width:start + 4 * width]
        for c in range(width):
            v0 = np.float64(line0[c])
            v1 = np.float64(line1[c])
            v2 = np.float64(line2[c])
            v3 = np.float64(line3[c])
            total[c] = total[c] + v0 + v1 + v2 + v3
            square[c] = square[c] + v0 * v0 + v1 * v1 + v2 * v2 + v3 * v3
    for line_start in range(whole, part.size, width):
        line = part[line_start:line_start + width]
        for c in range(line.size):
            value = np.float64(line[c])
            total[c] += value
            square[c] += value * value
    sums[b, i, 0] = total
    sums[b, i, 1] = square


@jit
def lines_into(lines, sums, scale, bias, groups, n, eps, b):
    """lines[b] = centre, slope and offset of y = (x - centre) * slope + offset, for image b.

    It is called once for each image, because it adds the sums of all chunks to sums[b, 0].

    Each position in a line has its own centre, slope and offset. `n` is the number of elements in a group. The centre
    is the mean rounded to float32, so that x - centre is exact for x near the mean. The offset is the bias plus a
    correction for the rounding error of the centre.
    """
    wide()
    chunks, _, width = sums.shape[1:]
    C = scale.size
    size = C // groups
    both = sums[b, 0].reshape(2 * width)
    for i in range(1, chunks):
        more = sums[b, i].reshape(2 * width)
        for c in range(2 * width):
            both[c] += more[c]
    for g in range(groups):
        total = 0.0
        square = 0.0
        for first in range(g * size, width, C):           # the group's first channel in each cell of a line
            for c in range(first, first + size):
                total += both[c]
                square += both[width + c]
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
def _write_chunk_into(y, x, lines, added, chunk, code, task):
    """y = activation((x - centre) * slope + offset + added) for one chunk of one image.

    The chunk is computed line by line. A line contains the channels of one or more neighbouring cells. `added` may be
    empty.
    """
    wide()
    b, i = divmod(task, ceil_div(x.shape[1], chunk))
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
    rows = rows_per_task(len(flat), D)
    threads.run(ceil_div(len(flat), rows), _layer_norm_into, threads.ELEMENT * x.size,
                (y, flat, scale, bias, eps, rows))
    return y.reshape(x.shape)


@jit
def _layer_norm_into(y, x, scale, bias, eps, rows, task):
    """Normalize `rows` rows of x."""
    wide()
    D = x.shape[1]
    for n in range(task * rows, min((task + 1) * rows, x.shape[0])):
        row = x[n]
        out = y[n]
        centre, rest, slope = row_of(row, eps)
        for i in range(D):
            out[i] = (row[i] - centre - rest) * slope * scale[i] + bias[i]


@jit
def row_of(row, eps):
    """Compute the centre, the rest and the slope of layer norm without scale and bias, (x - centre - rest) * slope.

    The centre is the mean rounded to float32, and the rest is its rounding error.
    """
    first_moment, second_moment = moments(row)
    mean = first_moment / row.size
    variance = second_moment / row.size - mean * mean
    slope = np.float32(1 / np.sqrt((0.0 if variance < 0.0 else variance) + eps))
    centre = np.float32(mean)
    return centre, np.float32(mean - centre), slope
