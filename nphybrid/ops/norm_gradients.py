"""The gradients of group norm and layer norm, as in gradients.py, with few passes over memory.

Both norms compute y = z * scale + bias, where z = (x - mean) / root. In each group of n elements with one mean and one
root, the gradient of x is

    dx = (dy * scale - mean(dy * scale) - z * mean(dy * scale * z)) / root

The means and the gradients of scale and bias are sums of dy and of dy * z, which are added up in float64. The arrays
are too large for the cache, so the gradient of a group norm needs three passes:

    reads x                 the mean and the root of each group, as in the forward pass
    reads dy, y and x       the gradient d before the activation is written, and d and d * z are added up
    reads d and x           dx is written

A token of a layer norm fits into L1, so the gradient of a layer norm needs one pass.
"""
from typing import NamedTuple

import numpy as np

from ..params import Norm
from . import threads
from .checks import floats
from .chunks import CHUNK, EVEN, lines_and_chunks, rows_per_task
from .elementwise import RELU, code_of, differentiate_in
from .emit import wide
from .integers import ceil_div
from .jit import jit, jit_allocating
from .memory import aligned, empty
from .norms import lines_into, row_of, sum_chunk_into
from .reductions import products

NOTHING = np.zeros((0, 0), np.float32)


class Work(NamedTuple):
    """The arrays of the gradient of a group norm.  A map (H, W, C) is flat, and has size = H W C elements.

    The last axis of the sums and of the lines is a position in a line (chunks.py).
    """
    dy: np.ndarray                        # (B, size)
    y: np.ndarray                         # (B, size)
    x: np.ndarray                         # (B, size)
    shortcut: np.ndarray                  # (B, size), or empty if no shortcut is added
    affine: np.ndarray                    # (2, width): scale and bias of the norm
    d: np.ndarray                         # (B, size): the gradient of the sum that is activated; dy if code is 0
    dx: np.ndarray                        # (B, size): may be d
    moments: np.ndarray                   # (B, chunks, 2, width): the sums of x and of x^2
    z_lines: np.ndarray                   # (B, 3, width): centre, slope and offset of z
    sums: np.ndarray                      # (B, chunks, 2, width): the sums of d and of d * z
    lines: np.ndarray                     # (B, 3, width): factor, slope and offset of dx
    chunk: int                            # number of elements in a chunk
    channels: int
    groups: int
    eps: float
    code: int                             # the code of the activation


def group_norm(dy, y, x, norm, groups, eps):
    """The gradients of x and of the norm.  The second pass writes nothing, because d is dy."""
    return _group_norm(dy, y, x, norm, groups, eps, None, "")[:2]


def group_norm_activate(dy, y, x, norm, groups, eps, activation):
    """The gradients of x and of the norm.  The second pass writes d into the array of the result."""
    return _group_norm(dy, y, x, norm, groups, eps, None, activation)[:2]


def group_norm_add_activate(dy, y, x, norm, groups, eps, shortcut, activation):
    """The gradients of x, of the norm, and of the shortcut.  d is the gradient of the shortcut."""
    dx, dnorm, d = _group_norm(dy, y, x, norm, groups, eps, shortcut, activation)
    return dx, dnorm, None, None, d


def _group_norm(dy, y, x, norm, groups, eps, shortcut, activation):
    """-> the gradient of x, the gradient of the norm, and d"""
    B, H, W, C = shape = np.shape(x)
    size = H * W * C
    code = code_of(activation)
    width, chunk = lines_and_chunks(size, C, CHUNK // EVEN)      # a small image stays in one chunk (_images_into)
    chunks = ceil_div(size, chunk)
    affine = np.stack([floats(norm.scale, "scale", (C,)), floats(norm.bias, "bias", (C,))])
    dy, y, x = (floats(a, name, shape).reshape(B, size) for a, name in ((dy, "dy"), (y, "y"), (x, "x")))
    added = NOTHING if shortcut is None else floats(shortcut, "shortcut", shape).reshape(B, size)
    d = empty(B, size) if code else dy
    dx = empty(B, size) if d is dy or added.size else d
    work = Work(dy=dy, y=y, x=x, shortcut=added, affine=np.tile(affine, width // C), d=d, dx=dx,
                moments=np.empty((B, chunks, 2, width)), z_lines=np.empty((B, 3, width), np.float32),
                sums=np.empty((B, chunks, 2, width)), lines=np.empty((B, 3, width), np.float32),
                chunk=chunk, channels=C, groups=groups, eps=eps, code=code)
    if chunks == 1:
        images = max(1, CHUNK // max(size, 1))
        threads.run(ceil_div(B, images), lambda i: _images_into(work, i * images, min((i + 1) * images, B)),
                    threads.ELEMENT * x.size)
    else:
        _large_images_into(work)
    dbias, dscale = work.sums.sum((0, 1)).reshape(2, width // C, C).sum(1).astype(np.float32)
    return dx.reshape(shape), Norm(dscale, dbias), d.reshape(shape)


@jit
def _images_into(work, first, end):
    """Compute some images, each of which is a single chunk.  The chunk stays in L2 for all passes."""
    for b in range(first, end):
        _add_moments(work, b, 0)
        _normalize(work, b)
        _add_gradients(work, b, 0)
        _combine(work, b)
        _write(work, b, 0)


def _large_images_into(work):
    """Compute images of several chunks.  A chunk is a task of each pass."""
    B, chunks = work.sums.shape[:2]

    def in_each_chunk(step):
        threads.run(B * chunks, lambda i: step(work, *divmod(i, chunks)), threads.ELEMENT * work.x.size)
    in_each_chunk(_add_moments)
    for b in range(B):
        _normalize(work, b)
    in_each_chunk(_add_gradients)
    for b in range(B):
        _combine(work, b)
    in_each_chunk(_write)


@jit
def _add_moments(work, b, i):
    """Add up x and x^2 over chunk i of image b."""
    sum_chunk_into(work.moments, work.x, work.chunk, b * work.moments.shape[1] + i)


@jit_allocating
def _normalize(work, b):
    """Compute the centre, the slope and the offset of z = (x - centre) * slope + offset for image b."""
    C = work.channels
    n = work.x.shape[1] // work.groups
    lines_into(work.z_lines, work.moments, np.ones(C, np.float32), np.zeros(C, np.float32), work.groups, n, work.eps, b)


@jit_allocating
def _add_gradients(work, b, i):
    """Compute d in chunk i of image b, and add up d and d * z for each position in a line.

    d = dy * activation'(z * scale + bias + shortcut). The derivative of relu is computed from y, because y is positive
    where the argument of relu is positive.
    """
    wide()
    width = work.affine.shape[1]
    scale = work.affine[0]
    bias = work.affine[1]
    centre = work.z_lines[b, 0]
    slope = work.z_lines[b, 1]
    offset = work.z_lines[b, 2]
    z = aligned(width)
    argument = aligned(width)
    both = aligned(4 * width).view(np.float64)
    total = both[:width]
    product = both[width:]
    both[:] = 0.0
    chunk_end = min((i + 1) * work.chunk, work.x.shape[1])
    for start in range(i * work.chunk, chunk_end, width):
        end = min(start + width, chunk_end)
        x = work.x[b, start:end]
        d = work.d[b, start:end]
        for c in range(x.size):
            z[c] = (x[c] - centre[c]) * slope[c] + offset[c]
        if work.code:
            dy = work.dy[b, start:end]
            for c in range(x.size):       # LLVM does not vectorize d[:] = dy
                d[c] = dy[c]
        if work.code == RELU:
            differentiate_in(d, work.y[b, start:end], RELU)
        elif work.code:
            for c in range(x.size):
                argument[c] = z[c] * scale[c] + bias[c]
            if work.shortcut.size:
                shortcut = work.shortcut[b, start:end]
                for c in range(x.size):
                    argument[c] += shortcut[c]
            differentiate_in(d, argument, work.code)
        for c in range(x.size):
            value = np.float64(d[c])
            total[c] += value
            product[c] += value * z[c]
    work.sums[b, i, 0] = total
    work.sums[b, i, 1] = product


@jit
def _combine(work, b):
    """Compute the four numbers of dx = d * factor + (x - centre) * slope + offset for each position in a line.

    With z = (x - centre) / root + shift, the formula of the module is

    dx = d * scale / root - mean(d * scale) / root - ((x - centre) / root + shift) * mean(d * scale * z) / root
    """
    chunks, _, width = work.sums.shape[1:]
    scale = work.affine[0]
    size = work.channels // work.groups   # number of channels in a group
    n = work.x.shape[1] // work.groups    # number of elements in a group
    for g in range(work.groups):
        through_mean = 0.0
        through_root = 0.0
        for i in range(chunks):
            for first in range(g * size, width, work.channels):           # the group's first channel in each cell
                for c in range(first, first + size):
                    through_mean += scale[c] * work.sums[b, i, 0, c] / n
                    through_root += scale[c] * work.sums[b, i, 1, c] / n
        for first in range(g * size, width, work.channels):
            for c in range(first, first + size):
                inverse = np.float64(work.z_lines[b, 1, c])               # 1 / root
                shift = np.float64(work.z_lines[b, 2, c])
                work.lines[b, 0, c] = scale[c] * inverse
                work.lines[b, 1, c] = -inverse * inverse * through_root
                work.lines[b, 2, c] = -inverse * (through_mean + shift * through_root)


@jit_allocating
def _write(work, b, i):
    """dx = d * factor + (x - centre) * slope + offset in chunk i of image b.

    Each line is computed in a buffer. LLVM would not vectorize the loop if dx was written directly, because dx and d
    may be the same array.
    """
    wide()
    centre = work.z_lines[b, 0]
    factor = work.lines[b, 0]
    slope = work.lines[b, 1]
    offset = work.lines[b, 2]
    width = factor.size
    line = aligned(width)
    chunk_end = min((i + 1) * work.chunk, work.x.shape[1])
    for start in range(i * work.chunk, chunk_end, width):
        end = min(start + width, chunk_end)
        x = work.x[b, start:end]
        d = work.d[b, start:end]
        for c in range(x.size):
            line[c] = d[c] * factor[c] + ((x[c] - centre[c]) * slope[c] + offset[c])
        dx = work.dx[b, start:end]
        for c in range(x.size):
            dx[c] = line[c]


def layer_norm(dy, y, x, norm, eps):
    """The gradients of x and of the norm.  Each task adds up its part of the gradients of scale and bias."""
    D = np.shape(x)[-1]
    scale = floats(norm.scale, "scale", (D,))
    flat = floats(x).reshape(-1, D)
    dy = floats(dy, "dy", np.shape(x)).reshape(-1, D)
    rows = rows_per_task(len(flat), D)
    tasks = ceil_div(len(flat), rows)
    dx = empty(*flat.shape)
    sums = np.empty((tasks, 2, D))
    threads.run(tasks, lambda i: _layer_norm_into(dx, sums[i], dy, flat, scale, eps, i * rows, rows),
                threads.ELEMENT * flat.size)
    dscale, dbias = sums.sum(0).astype(np.float32)
    return dx.reshape(np.shape(x)), Norm(dscale, dbias)


@jit_allocating
def _layer_norm_into(dx, sums, dy, x, scale, eps, first_row, rows):
    """Compute some rows of dx, and the sums of dy * z and of dy over these rows."""
    wide()
    D = x.shape[1]
    z = aligned(D)
    dz = aligned(D)
    sums[:] = 0.0
    dscale = sums[0]
    dbias = sums[1]
    for n in range(first_row, min(first_row + rows, x.shape[0])):
        row = x[n]
        d_row = dy[n]
        centre, rest, slope = row_of(row, eps)
        for i in range(D):
            z[i] = (row[i] - centre - rest) * slope
            dz[i] = d_row[i] * scale[i]
        total, product = products(dz, z)
        through_mean = np.float32(total / D)
        through_root = np.float32(product / D)
        out = dx[n]
        for i in range(D):
            out[i] = (dz[i] - through_mean - z[i] * through_root) * slope
        for i in range(D):
            dscale[i] += np.float64(d_row[i]) * z[i]
            dbias[i] += np.float64(d_row[i])
