"""Write x as narrow words for the register tile and the tiles of AMX.  widths.py explains words, which have 32 bits.

x is rounded or quantized for each product, on all threads. The result is a map with its padding, so that no window
crosses the edge of the map. The padding holds the number 0: the bits 0 in bfloat16, and the zero point in int8. If the
number of channels is no multiple of the numbers in a word, the last word of each cell has numbers that are multiplied
by weights that are 0.

`reference_narrow.rounded` and `reference_narrow.quantized` are the plain definitions. The results are equal, apart from
OFFSET.
"""
import math
from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from . import threads
from .chunks import CHUNK, rows_per_task
from .elementwise import MAGIC
from .emit import wide
from .integers import ceil_div
from .jit import jit, jit_allocating
from .memory import aligned, empty
from .reference_narrow import SMALLEST
from .rounding import SIGN, round_exponentials_into, round_into
from .target import NR
from .widths import NUMBERS, OFFSET
from .windows import NO_PADDING, padded

PER_WORD = NUMBERS["bfloat16"]            # 1 or 2 bfloat16
# The dtype of an array of words, for the numbers in a word. A bfloat16 that fills a word is a float32.
DTYPES = {("bfloat16", 2): np.uint16, ("bfloat16", 1): np.float32,
          ("int8", 4): np.int8 if OFFSET else np.uint8, ("int8", 2): np.int16, ("int8", 1): np.int32}
NO_SCALES = np.zeros(0, np.float32)
NO_INTEGERS = np.zeros(0, np.int32)

MAGIC_BITS = np.int32(MAGIC.view(np.int32))


class Words(NamedTuple):
    """The left factor of a product, as words.

    In int8, words n * unit to (n + 1) * unit - 1 have the scale scales[n] and the zero point zero_points[n]. The
    integers and their zero points are those of `reference_narrow.quantized`, minus OFFSET (widths.py).
    """
    values: np.ndarray                    # flat; float32, or a dtype of DTYPES
    scales: np.ndarray                    # float32
    zero_points: np.ndarray               # int32
    unit: int


def words_of_floats(x):
    """A float32 array as Words.  Nothing is copied."""
    return Words(x.reshape(-1), NO_SCALES, NO_INTEGERS, 1)


def words_of(x, width, padding, factors=None):
    """Write maps x (B, H, W, C) as words, with zeros around each map.  -> Words, the shape of a map in words

    `width` is "bfloat16" or "int8". In int8, each map has a scale. If there are factors (C,), x is multiplied by the
    factors, and each cell has a scale. In a plan (recorder.py), products that follow each other and have the same x and
    equal factors share its words.
    """
    if recorder := threads.recorder.get():
        return recorder.words_of(_words_of, x, width, padding, factors)
    return _words_of(x, width, padding, factors)


def _words_of(x, width, padding, factors):
    if factors is not None and padding != NO_PADDING:
        x = padded(x, padding)
        padding = NO_PADDING
    B, H, W, C = x.shape
    (top, bottom), (left, right) = padding
    numbers = NUMBERS[width]
    map_shape = top + H + bottom, left + W + right, ceil_div(C, numbers)
    unit = math.prod(map_shape)
    words = empty(B * unit)
    values = words.view(DTYPES[width, numbers])
    out = values.reshape(B, *map_shape[:2], map_shape[2] * numbers)
    work = threads.ELEMENT * x.size
    if factors is not None:
        cells = B * H * W
        scales, zero_points = empty(cells), empty(cells).view(np.int32)
        together = rows_per_task(cells, C)
        threads.run(ceil_div(cells, together), _cells_into, work,
                    (out.reshape(cells, out.shape[3]), scales, zero_points, x.reshape(cells, C), factors, together))
        return Words(values, scales, zero_points, map_shape[2]), map_shape
    scales, zero_points = _scales_of_maps(x, work) if width == "int8" else (NO_SCALES, NO_INTEGERS)
    lines = B * map_shape[0]
    together = rows_per_task(lines, map_shape[1] * C)
    threads.run(ceil_div(lines, together), _lines_into, work, (out, x, top, left, scales, zero_points, together))
    return Words(values, scales, zero_points, unit), map_shape


def _scales_of_maps(x, work):
    """The scale and the zero point of each map."""
    B = len(x)
    flat = x.reshape(B, math.prod(x.shape[1:]))
    together = rows_per_task(flat.shape[1], 1)
    parts = ceil_div(flat.shape[1], together)
    extents = empty(B, parts, 2)
    scales, zero_points = empty(B), empty(B).view(np.int32)
    threads.run(B * parts, _extents_into, work, (extents, flat, together))
    threads.run(B, _scales_into, 0, (scales, zero_points, extents))
    return scales, zero_points


@jit
def _extents_into(extents, x, together, task):
    """The extent of one part of a map.  x (B, elements of a map) -> extents (B, parts, 2)"""
    b, part = divmod(task, extents.shape[1])
    low, high = extent(x[b, part * together:(part + 1) * together])
    extents[b, part, 0] = low
    extents[b, part, 1] = high


@jit
def _scales_into(scales, zero_points, extents, b):
    """The scale and the zero point of map b."""
    low, high = extent(extents[b].reshape(extents[b].size))
    scales[b], zero_points[b] = scale_of(low, high)


@jit
def extent(x):
    """The numbers min(0, smallest x) and max(0, largest x).  If an x is not finite, one of the results is not finite.

    The bits of positive floats, as integers, have the order of the floats. The bits of negative floats, as integers
    without a sign, have the opposite order. Infinity and NaN have the largest bits. LLVM vectorizes a loop that finds
    the largest integer, but not a loop that finds the largest float.
    """
    wide()
    high = np.int32(0)                    # the bits of 0
    low = SIGN                            # the bits of -0, which are larger than those of every positive float
    for i in range(x.size):
        bits = np.float32(x[i]).view(np.uint32)
        high = max(high, np.int32(np.float32(x[i]).view(np.int32)))
        low = max(low, bits)
    return np.uint32(low).view(np.float32), np.int32(high).view(np.float32)


@jit
def scale_of(low, high):
    """The scale and the zero point for numbers from low <= 0 to high >= 0.

    The scale is NaN if low or high is not finite. OFFSET is subtracted from the zero point.
    """
    scale = np.float32(high / np.float32(255)) - np.float32(low / np.float32(255))
    scale = SMALLEST if scale < SMALLEST else scale
    if not scale < np.float32(np.inf):
        return np.float32(np.nan), np.int32(0)
    zero = np.float32(-low * np.float32(np.float32(1) / scale)) + MAGIC
    return scale, np.int32(np.float32(zero).view(np.int32) - MAGIC_BITS - OFFSET)


@jit
def _quantize_into(out, x, scale, zero):
    """out = min(max(round(x * (1 / scale)) + zero, 0 - OFFSET), 255 - OFFSET)"""
    wide()
    factor = np.float32(np.float32(1) / scale)
    shift = np.int32(zero - MAGIC_BITS)
    for i in range(x.size):
        near = np.float32(np.float32(x[i] * factor) + MAGIC)          # its last bits are an integer (elementwise.py)
        q = np.int32(near.view(np.int32) + shift)
        out[i] = min(max(q, np.int32(0 - OFFSET)), np.int32(255 - OFFSET))


@jit
def _narrow_into(out, x, scale, zero):
    """Quantize x if the scale is not 0, else round x to bfloat16.  No scale of int8 is 0."""
    if scale != np.float32(0):
        _quantize_into(out, x, scale, zero)
    else:
        round_into(out, x)


@jit_allocating
def _cells_into(out, scales, zero_points, x, factors, together, task):
    """Quantize some cells, each with a scale of its own.  x (cells, C), factors (C,) -> out (cells, channels)"""
    scaled = np.empty(x.shape[1], np.float32)
    for cell in range(task * together, min((task + 1) * together, x.shape[0])):
        _cell_into(out, scales, zero_points, x, factors, scaled, cell)


@jit
def _cell_into(out, scales, zero_points, x, factors, scaled, cell):
    """Quantize one cell.  x[cell] (C,) -> out[cell] (channels,).  `scaled` is memory for C numbers."""
    wide()
    C = x.shape[1]
    row = x[cell]
    for c in range(C):
        scaled[c] = row[c] * factors[c]
    low, high = extent(scaled)
    scales[cell], zero_points[cell] = scale_of(low, high)
    _quantize_into(out[cell, :C], scaled, scales[cell], zero_points[cell])
    out[cell, C:] = 0


@jit
def _lines_into(out, x, top, left, scales, zero_points, together, task):
    """Narrow some rows of the padded maps.  The rows of all maps are numbered in one sequence."""
    B, H, W, C = x.shape
    rows, columns, channels = out.shape[1:]
    for line in range(task * together, min((task + 1) * together, B * rows)):
        b, row = divmod(line, rows)
        scale = scales[b] if scales.size else np.float32(0)
        zero = zero_points[b] if zero_points.size else np.int32(0)
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


@jit
def row_scales_into(scales, zero_points, x, starts):
    """Look up the scale and the zero point of each row of Words, whose first run begins at `starts`.

    scales (rows,), zero_points (rows,), starts (at least rows,). A row after the last, whose start is negative, gets
    those of the first row.
    """
    for i in range(scales.size):
        unit = max(starts[i], 0) // x.unit
        scales[i] = x.scales[unit]
        zero_points[i] = x.zero_points[unit]


# ---------------------------------------------------------------- the products of attention
# Their factors are float32, or are rounded to bfloat16 here. As in widths.py, each of the first three functions has two
# forms. The array `like` has no other purpose than its dtype, float32 or uint16 (bfloat16).

def panels_like(like, panels, rows):
    """Return panels (P, rows, NR) with the dtype of `like`.  All are flat.

    float32 panels are returned unchanged. bfloat16 panels count words, and a missing row of the last word is 0.
    """
    return panels if like.dtype == np.float32 else _rounded_panels(panels, rows)


@overload(panels_like)
def _panels_like(like, panels, rows):
    if like.dtype == types.float32:
        return lambda like, panels, rows: panels
    return lambda like, panels, rows: _rounded_panels(panels, rows)


def rows_like(like, x, starts, length):
    """Return the rows x[start:start + length] with the dtype of `like`.  -> x, starts, length in words

    float32 rows are returned unchanged. For bfloat16, the rows are copied. A row with a negative start stays negative.
    """
    return (x, starts, length) if like.dtype == np.float32 else _rounded_rows(x, starts, length)


@overload(rows_like)
def _rows_like(like, x, starts, length):
    if like.dtype == types.float32:
        return lambda like, x, starts, length: (x, starts, length)
    return lambda like, x, starts, length: _rounded_rows(x, starts, length)


def round_exponentials_again(like, rows, x, starts, length):
    """Copy the rows again after x has changed to numbers that `round_exponentials_into` takes.

    `rows` is the first result of `rows_like`. No start is negative.
    """
    if like.dtype != np.float32:
        _round_exponential_rows_into(rows, x, starts, length)


@overload(round_exponentials_again)
def _round_exponentials_again(like, rows, x, starts, length):
    if like.dtype == types.float32:
        return lambda like, rows, x, starts, length: None
    return lambda like, rows, x, starts, length: _round_exponential_rows_into(rows, x, starts, length)


@jit_allocating
def _rounded_panels(panels, rows):
    """Round panels (P, rows, NR).  -> panels (P, words, NR, PER_WORD), flat, uint16"""
    words = ceil_div(rows, PER_WORD)
    count = panels.size // (rows * NR)
    out = aligned(ceil_div(count * words * NR * PER_WORD, 2)).view(np.uint16)
    near = np.zeros(words * PER_WORD * NR, np.uint16)
    for p in range(count):
        round_into(near[:rows * NR], panels[p * rows * NR:(p + 1) * rows * NR])
        to = out[p * near.size:(p + 1) * near.size]
        if PER_WORD == 2:
            _pairs_into(to.view(np.uint32), near)
        else:
            to[:] = near
    return out


@jit
def _pairs_into(out, x):
    """out[word, j] = the word with x[2 * word, j] in its lower half and x[2 * word + 1, j] in its upper half"""
    wide()
    for at in range(0, out.size, NR):
        low = x[2 * at:2 * at + NR]
        high = x[2 * at + NR:2 * at + 2 * NR]
        to = out[at:at + NR]
        for j in range(NR):
            to[j] = np.uint32(low[j]) | np.uint32(np.uint32(high[j]) << np.uint32(16))


@jit_allocating
def _rounded_rows(x, starts, length):
    """Copy the rows x[start:start + length], rounded.  -> rows, the word where each row begins, words of a row"""
    words = ceil_div(length, PER_WORD)
    rows = as_bfloat16(aligned(starts.size * words))
    places = np.empty(starts.size, np.int64)
    for i in range(starts.size):
        places[i] = i * words if starts[i] >= 0 else -1
    _round_rows_into(rows, x, starts, length)
    return rows, places, words


@jit
def _round_rows_into(rows, x, starts, length):
    """Row i of `rows` = x[starts[i]:starts[i] + length], rounded, if starts[i] is not negative.

    A missing number of the last word is 0.
    """
    numbers = ceil_div(length, PER_WORD) * PER_WORD
    for i in range(starts.size):
        if starts[i] >= 0:
            at = i * numbers
            round_into(rows[at:at + length], x[starts[i]:starts[i] + length])
            for j in range(at + length, at + numbers):
                rows[j] = 0


@jit
def _round_exponential_rows_into(rows, x, starts, length):
    """As `_round_rows_into`, for the numbers of `round_exponentials_into`.

    A missing number of the last word is 0 already.
    """
    numbers = ceil_div(length, PER_WORD) * PER_WORD
    for i in range(starts.size):
        round_exponentials_into(rows[i * numbers:i * numbers + length], x[starts[i]:starts[i] + length])


@jit_allocating
def _pairs(values):
    return values.view(np.uint16)


@jit_allocating
def _floats(values):
    return values


# An array of words in float32, with its dtype in Words. No bit changes.
as_bfloat16 = _pairs if PER_WORD == 2 else _floats


# ---------------------------------------------------------------- whole arrays

def narrowed(x):
    """Round float32 numbers to bfloat16.  -> the bits of bfloat16, as uint16, in an array of the shape of x"""
    x = np.ascontiguousarray(x, np.float32)
    out = np.empty(x.shape, np.uint16)
    threads.run(ceil_div(x.size, CHUNK), _round_chunk_into, threads.ELEMENT * x.size, (out.reshape(-1), x.reshape(-1)))
    return out


@jit
def _round_chunk_into(out, x, task):
    part = slice(task * CHUNK, min((task + 1) * CHUNK, x.size))
    round_into(out[part], x[part])
