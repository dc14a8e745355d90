"""Write x as narrow words for the register tile.  widths.py says how many numbers a word of 32 bits holds.

x is rounded or quantized once for each product, on all threads. The result is a map with its padding, so that no window
crosses the edge of the map. The padding holds the number 0: the bits 0 in bfloat16, and the zero point in int8. If the
number of channels is no multiple of the numbers in a word, zeros fill the last word of each cell. The zeros are multiplied by
weights that are 0.

`reference_narrow.rounded` and `reference_narrow.quantized` are the plain definitions. The results are equal.
"""
import math
from typing import NamedTuple

import numpy as np

from . import threads
from .chunks import rows_per_task
from .emit import wide
from .integers import ceil_div
from .jit import jit
from .memory import aligned
from .widths import NUMBERS

# The dtype of an array of words, for the numbers in a word. A bfloat16 that fills a word is a float32. Its bits are
# written as uint32.
DTYPES = {("bfloat16", 2): np.uint16, ("bfloat16", 1): np.uint32,
          ("int8", 4): np.uint8, ("int8", 2): np.int16, ("int8", 1): np.int32}
NO_SCALES = np.zeros(0, np.float32)
NO_ZEROS = np.zeros(0, np.int32)

MAGIC = np.float32(12582912)              # the lowest bits of the float32 x + MAGIC are the integer nearest to x
MAGIC_BITS = np.int32(MAGIC.view(np.int32))
SMALLEST = np.float32(2 ** -126)
SIGN = np.uint32(0x80000000)
INFINITE = np.uint32(0x7F800000)          # the bits of infinity; a larger number, without its sign, is NaN
LARGEST = np.uint32(0x7F7F0000)           # the bits of the largest finite bfloat16
NAN = np.uint32(0x7FC00000)


class Words(NamedTuple):
    """The left factor of a product, as words.  In int8, unit n of `unit` words has the scale scales[n] and zeros[n]."""
    values: np.ndarray                    # flat; float32, or a dtype of DTYPES, with float32 instead of uint32
    scales: np.ndarray                    # float32
    zeros: np.ndarray                     # int32
    unit: int


def words_of_floats(x):
    """A float32 array as Words.  Nothing is copied."""
    return Words(x.reshape(-1), NO_SCALES, NO_ZEROS, 1)


def words_of(x, width, padding, by_cell):
    """Write maps x (B, H, W, C) as words, with zeros around each map.  -> Words, the shape of a map in words

    `width` is "bfloat16" or "int8". In int8, each cell has a scale of its own if `by_cell` is True, and then there must
    be no padding. Otherwise each map has a scale.
    """
    B, H, W, C = x.shape
    (top, bottom), (left, right) = padding
    numbers = NUMBERS[width]
    map_shape = top + H + bottom, left + W + right, ceil_div(C, numbers)
    unit = math.prod(map_shape)
    words = aligned(B * unit)
    values = words.view(DTYPES[width, numbers])
    out = values.reshape(B, *map_shape[:2], map_shape[2] * numbers)
    work = threads.ELEMENT * x.size
    if width == "int8" and by_cell:
        scales, zeros = _quantize_cells(out.reshape(B * H * W, -1), x.reshape(B * H * W, C), work)
        return Words(values, scales, zeros, map_shape[2]), map_shape
    scales, zeros = _scales_of_maps(x, work) if width == "int8" else (NO_SCALES, NO_ZEROS)
    lines = B * map_shape[0]
    together = rows_per_task(lines, map_shape[1] * C)
    threads.run(ceil_div(lines, together),
                lambda i: _lines_into(out, x, (top, left), scales, zeros, i * together, together), work)
    return Words(words if values.dtype == np.uint32 else values, scales, zeros, unit), map_shape


def _quantize_cells(out, x, work):
    """Quantize each row of x (cells, C) with a scale of its own.  -> scales, zeros"""
    cells, C = x.shape
    scales = np.empty(cells, np.float32)
    zeros = np.empty(cells, np.int32)
    together = rows_per_task(cells, C)
    threads.run(ceil_div(cells, together), lambda i: _cells_into(out, scales, zeros, x, i * together, together), work)
    return scales, zeros


def _scales_of_maps(x, work):
    """The scale and the zero point of each map."""
    B = len(x)
    flat = x.reshape(B, -1)
    together = rows_per_task(flat.shape[1], 1)
    parts = ceil_div(flat.shape[1], together)
    lows = np.empty((B, parts), np.float32)
    highs = np.empty((B, parts), np.float32)

    def task(i):
        b, part = divmod(i, parts)
        lows[b, part], highs[b, part] = extent(flat[b, part * together:(part + 1) * together])
    threads.run(B * parts, task, work)
    scales = np.empty(B, np.float32)
    zeros = np.empty(B, np.int32)
    for b in range(B):
        low, high = extent(lows[b])[0], extent(highs[b])[1]
        scales[b], zeros[b] = scale_of(low, high)
    return scales, zeros


@jit
def extent(x):
    """The numbers min(0, smallest x) and max(0, largest x).  If an x is not finite, one of the results is not finite.

    The bits of positive floats, as integers, have the order of the floats. The bits of negative floats, as integers
    without a sign, have the opposite order. LLVM vectorizes the largest integer, but not the largest float.
    """
    wide()
    high = np.int32(0)
    low = SIGN
    for i in range(x.size):
        bits = np.float32(x[i]).view(np.uint32)
        high = max(high, np.int32(np.float32(x[i]).view(np.int32)))
        low = max(low, bits)
    return np.uint32(low).view(np.float32), np.int32(high).view(np.float32)


@jit
def scale_of(low, high):
    """The scale and the zero point for numbers from low <= 0 to high >= 0.  The scale is NaN if one is not finite."""
    scale = np.float32(high / np.float32(255)) - np.float32(low / np.float32(255))
    scale = SMALLEST if scale < SMALLEST else scale
    if not scale < np.float32(np.inf):
        return np.float32(np.nan), np.int32(0)
    zero = np.float32(-low * np.float32(np.float32(1) / scale)) + MAGIC
    return scale, np.int32(np.float32(zero).view(np.int32) - MAGIC_BITS)


@jit
def _quantize_into(out, x, scale, zero):
    """out = min(max(round(x / scale) + zero, 0), 255)"""
    wide()
    factor = np.float32(np.float32(1) / scale)
    shift = np.int32(zero - MAGIC_BITS)
    for i in range(x.size):
        near = np.float32(np.float32(x[i] * factor) + MAGIC)
        q = np.int32(near.view(np.int32) + shift)
        out[i] = min(max(q, np.int32(0)), np.int32(255))


@jit
def round_into(out, x):
    """out = the bits of the bfloat16 nearest to x, as `reference_narrow.rounded` defines it.

    If `out` is uint32, its elements are the bits of float32 numbers.
    """
    wide()
    low = np.uint32(16 if out.itemsize == 2 else 0)
    for i in range(x.size):
        bits = np.float32(x[i]).view(np.uint32)
        sign = np.uint32(bits & SIGN)
        size = np.uint32(bits ^ sign)
        even = np.uint32(np.uint32(size >> np.uint32(16)) & np.uint32(1))
        near = np.uint32(np.uint32(size + np.uint32(0x7FFF)) + even)
        near = np.uint32(min(near, LARGEST) & np.uint32(0xFFFF0000))
        near = np.uint32(0) if near < np.uint32(0x00800000) else near
        near = NAN if size >= INFINITE else near
        out[i] = np.uint32(near | sign) >> low


@jit
def _narrow_into(out, x, scale, zero):
    """Quantize x if the scale is not 0, else round x to bfloat16."""
    if scale != np.float32(0):
        _quantize_into(out, x, scale, zero)
    else:
        round_into(out, x)


@jit
def _cells_into(out, scales, zeros, x, first, count):
    """Quantize some cells, each with a scale of its own.  x (cells, C) -> out (cells, channels)"""
    C = x.shape[1]
    for cell in range(first, min(first + count, x.shape[0])):
        low, high = extent(x[cell])
        scales[cell], zeros[cell] = scale_of(low, high)
        _quantize_into(out[cell, :C], x[cell], scales[cell], zeros[cell])
        out[cell, C:] = 0


@jit
def _lines_into(out, x, corner, scales, zeros, first, count):
    """Narrow some rows of the padded maps.  The rows of all maps are numbered in one sequence.

    `corner` holds the row and the column of the padded map where x begins.
    """
    B, H, W, C = x.shape
    rows, columns, channels = out.shape[1:]
    top, left = corner
    for line in range(first, min(first + count, B * rows)):
        b, row = divmod(line, rows)
        scale = scales[b] if scales.size else np.float32(0)
        zero = zeros[b] if zeros.size else np.int32(0)
        h = row - top
        to = out[b, row]
        if h < 0 or H <= h:
            to[:] = zero
            continue
        to[:left] = zero
        to[left + W:] = zero
        if channels == C:
            _narrow_into(to[left:left + W].reshape(W * C), x[b, h].reshape(W * C), scale, zero)
        else:
            for w in range(W):
                _narrow_into(to[left + w, :C], x[b, h, w], scale, zero)
                to[left + w, C:] = 0


def narrowed(x):
    """Round float32 numbers to bfloat16.  -> the bits of bfloat16, as uint16, in an array of the shape of x"""
    x = np.ascontiguousarray(x, np.float32)
    out = np.empty(x.shape, np.uint16)
    flat, out_flat = x.reshape(-1), out.reshape(-1)
    together = rows_per_task(x.size, 1)
    threads.run(ceil_div(x.size, together), lambda i: round_into(out_flat[i * together:(i + 1) * together],
                                                                 flat[i * together:(i + 1) * together]),
                threads.ELEMENT * x.size)
    return out


def widened(halves):
    """Convert bfloat16 numbers, stored as uint16, to float32 without rounding."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
