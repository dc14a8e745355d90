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
from .chunks import lines_and_chunks, rows_per_task
from .elementwise import RELU, code_of, differentiate_in
from .emit import wide
from .integers import ceil_div
from .jit import jit
from .memory import aligned, empty
from .norms import lines_of, row_of
from .reductions import products

NOTHING = np.zeros((0, 0), np.float32)


class Maps(NamedTuple):
    """The arrays of the forward pass, and the gradient of the result.  Each array has the shape (B, H W C)."""
    dy: np.ndarray
    y: np.ndarray
    x: np.ndarray
    shortcut: np.ndarray                  # empty if no shortcut is added


class Place(NamedTuple):
    """A chunk: the elements range(start, end) of an image."""
    image: int
    chunk: int
    start: int
    end: int


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
    """-> the gradient of x, the gradient of the norm, and the gradient d of the sum that is activated"""
    B, H, W, C = shape = np.shape(x)
    size = H * W * C
    code = code_of(activation)
    scale = floats(norm.scale, "scale", (C,))
    bias = floats(norm.bias, "bias", (C,))
    added = NOTHING if shortcut is None else floats(shortcut, "shortcut", shape).reshape(B, size)
    maps = Maps(*(floats(a, name, shape).reshape(B, size) for a, name in ((dy, "dy"), (y, "y"), (x, "x"))), added)
    z_lines = lines_of(maps.x, np.ones(C, np.float32), np.zeros(C, np.float32), groups, eps)
    width, chunk = lines_and_chunks(size, C)
    affine = np.tile(np.stack([scale, bias]), width // C)
    places = [Place(b, start // chunk, start, min(start + chunk, size))
              for b in range(B) for start in range(0, size, chunk)]
    sums = np.empty((B, ceil_div(size, chunk), 2, width))
    work = threads.ELEMENT * maps.x.size
    d = empty(B, size) if code else maps.dy
    threads.run(len(places), lambda i: _sum_chunk_into(sums, d, maps, z_lines, affine, places[i], code), work)
    of_channel = sums.sum(1).reshape(B, 2, width // C, C).sum(2)                        # (B, 2, C)
    lines = _lines(z_lines, of_channel, scale, groups, size // groups)
    dx = empty(B, size) if d is maps.dy or shortcut is not None else d
    threads.run(len(places), lambda i: _write_chunk_into(dx, d, maps.x, lines, places[i]), work)
    dbias, dscale = of_channel.sum(0).astype(np.float32)
    return dx.reshape(shape), Norm(dscale, dbias), d.reshape(shape)


@jit
def _sum_chunk_into(sums, d, maps, z_lines, affine, place, code):
    """Add up d and d * z over all lines of a chunk, for each position in a line.

    If `code` is not 0, d = dy * activation'(z * scale + bias + shortcut) is computed. If `code` is 0, d is dy. The
    derivative of relu is computed from y, because y is positive where the argument of relu is positive.
    """
    wide()
    b = place.image
    width = affine.shape[1]
    scale = affine[0]
    bias = affine[1]
    centre = z_lines[b, 0]
    slope = z_lines[b, 1]
    offset = z_lines[b, 2]
    z = aligned(width)
    argument = aligned(width)
    both = aligned(4 * width).view(np.float64)
    total = both[:width]
    product = both[width:]
    both[:] = 0.0
    for start in range(place.start, place.end, width):
        end = min(start + width, place.end)
        x = maps.x[b, start:end]
        out = d[b, start:end]
        for c in range(x.size):
            z[c] = (x[c] - centre[c]) * slope[c] + offset[c]
        if code:
            out[:] = maps.dy[b, start:end]
        if code == RELU:
            differentiate_in(out, maps.y[b, start:end], code)
        elif code:
            for c in range(x.size):
                argument[c] = z[c] * scale[c] + bias[c]
            if maps.shortcut.size:
                shortcut = maps.shortcut[b, start:end]
                for c in range(x.size):
                    argument[c] += shortcut[c]
            differentiate_in(out, argument, code)
        for c in range(x.size):
            value = np.float64(out[c])
            total[c] += value
            product[c] += value * z[c]
    sums[b, place.chunk, 0] = total
    sums[b, place.chunk, 1] = product


def _lines(z_lines, of_channel, scale, groups, n):
    """Compute the four numbers of dx = d * factor + (x - centre) * slope + offset.  -> (B, 4, width)

    With z = (x - centre) / root + z_offset, the formula of the module is

    dx = d * scale / root - mean(d * scale) / root - ((x - centre) / root + z_offset) * mean(d * scale * z) / root

    of_channel (B, 2, C) has the sums of d and of d * z. `n` is the number of elements in a group.
    """
    B, _, C = of_channel.shape
    width = z_lines.shape[2]
    of_group = (of_channel * scale).reshape(B, 2, groups, C // groups).sum(-1) / n                      # (B, 2, G)
    means = np.tile(np.repeat(of_group, C // groups, axis=-1), width // C)                              # (B, 2, width)
    centre, slope, offset = z_lines.astype(np.float64).transpose(1, 0, 2)                               # (B, width)
    through_mean, through_root = means.transpose(1, 0, 2)                                               # (B, width)
    lines = np.empty((B, 4, width), np.float32)
    lines[:, 0] = np.tile(scale, width // C) * slope
    lines[:, 1] = centre
    lines[:, 2] = -slope * slope * through_root
    lines[:, 3] = -slope * (through_mean + offset * through_root)
    return lines


@jit
def _write_chunk_into(dx, d, x, lines, place):
    """dx = d * factor + (x - centre) * slope + offset for a chunk.  dx and d may be the same array."""
    wide()
    b = place.image
    factor = lines[b, 0]
    centre = lines[b, 1]
    slope = lines[b, 2]
    offset = lines[b, 3]
    width = factor.size
    line = aligned(width)
    for start in range(place.start, place.end, width):
        end = min(start + width, place.end)
        x_line = x[b, start:end]
        d_line = d[b, start:end]
        for c in range(x_line.size):
            line[c] = d_line[c] * factor[c] + ((x_line[c] - centre[c]) * slope[c] + offset[c])
        dx[b, start:end] = line[:end - start]


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


@jit
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
