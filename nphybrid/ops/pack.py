"""Pack NR rows of x into a panel of NR columns for the register tile.  Attention packs its keys with `pack`.

            x, row by row                       panel, k by k
            k  0   1   2   3                        row 0   1   2   ...  NR-1
    row 0    a0  a1  a2  a3  ...                k 0    a0  b0  c0   ...
    row 1    b0  b1  b2  b3  ...      ->        k 1    a1  b1  c1   ...
    row 2    c0  c1  c2  c3  ...                k 2    a2  b2  c2   ...
      ...                                       k 3    a3  b3  c3   ...

Row i begins at x[starts[i]]. `_plain_transpose` is the plain definition of `transpose`. The vector version transposes
squares of LANES x LANES elements in registers, in log2(LANES) rounds of shuffles. For LANES = 4 there are two rounds.
The first round combines rows at distance 1, and the second round combines rows at distance 2:

    a0 a1 a2 a3        a0 b0 a2 b2        a0 b0 c0 d0
    b0 b1 b2 b3   ->   a1 b1 a3 b3   ->   a1 b1 c1 d1
    c0 c1 c2 c3        c0 d0 c2 d2        a2 b2 c2 d2
    d0 d1 d2 d3        c1 d1 c3 d3        a3 b3 c3 d3

`pack_panels` and `pack_channels` copy pieces of rows, without a transposition. panels.py packs the weights of layers
with `pack` and `pack_panels`. In training, `pack_panels` and `pack_channels` pack the two factors of dW.
"""
import numpy as np
from numba import types
from numba.extending import intrinsic

from .emit import I64, Emit, pointers
from .integers import ceil_div
from .jit import jit
from .target import ISA, LANES, MR, NR


def _plain_transpose(x, starts, k, zeros, out, out_at):
    """out[out_at + column * NR + i] = x[starts[i] + k + column] for LANES columns and NR rows i.

    If starts[i] is negative, row i is read from `zeros`.
    """
    for column in range(LANES):
        for i in range(NR):
            value = x[starts[i] + k + column] if starts[i] >= 0 else zeros[k + column]
            out[out_at + column * NR + i] = value


def emit_transpose(build, x, starts, k, zeros, out, width, lanes):
    """Emit `_plain_transpose` as LLVM instructions, for `lanes` columns and `width` rows.

    `width` is a multiple of `lanes`. The result begins at out[0].
    """
    emit = Emit(build, lanes)
    for first in range(0, width, lanes):
        rows = [emit.load(emit.at(emit.row(x, starts, zeros, I64(first + i)), k)) for i in range(lanes)]
        for column, vector in enumerate(_transposed(emit, rows)):
            emit.store(vector, emit.at(out, I64(column * width + first)))


def _transposed(emit, square):
    """Transpose a square of `lanes` vectors.  Returns the columns of the square as vectors."""
    lanes = emit.lanes
    square = list(square)
    step = 1
    while step < lanes:
        # In `even` and `odd`, the number `n` stands for lane n of the upper vector, where n < lanes.
        # The number `lanes + n` stands for lane n of the lower vector.
        even = [lanes + lane - step if lane & step else lane for lane in range(lanes)]
        odd = [lanes + lane if lane & step else lane + step for lane in range(lanes)]
        for i in range(lanes):
            if not i & step:
                upper = square[i]
                lower = square[i + step]
                square[i] = emit.shuffle(upper, lower, even)
                square[i + step] = emit.shuffle(upper, lower, odd)
        step *= 2
    return square


@intrinsic
def _vector_transpose(typing, x, starts, k, zeros, out, out_at):
    def codegen(context, build, signature, arguments):
        x, starts, k, zeros, out, out_at = pointers(context, build, signature, arguments)
        emit_transpose(build, x, starts, k, zeros, build.gep(out, [out_at]), NR, LANES)
        return context.get_dummy_value()
    return types.void(x, starts, types.int64, zeros, out, types.int64), codegen


def _plain_copy(x, at, out, out_at, width):
    """out[out_at:out_at + width] = x[at:at + width]"""
    for i in range(width):
        out[out_at + i] = x[at + i]


@intrinsic(prefer_literal=True)
def _vector_copy(typing, x, at, out, out_at, width):
    def codegen(context, build, signature, arguments):
        x, at, out, out_at, _ = pointers(context, build, signature, arguments)
        emit = Emit(build, width.literal_value)
        emit.store(emit.load(emit.at(x, at)), emit.at(out, out_at))
        return context.get_dummy_value()
    return types.void(x, types.int64, out, types.int64, width), codegen


# The signature of both versions is copy(x, at, out, out_at, width), and `width` is a constant.
# Numba's own copy of a slice takes 20 ns (Zen 3).
copy = jit(_plain_copy) if ISA == "plain" else _vector_copy

# The signature of both versions is transpose(x, starts, k, zeros, out, out_at).
transpose = jit(_plain_transpose) if ISA == "plain" else _vector_transpose


@jit
def pack(x, starts, length, zeros, out, out_at):
    """out[out_at + k * NR + i] = x[starts[i] + k] for k in range(length), i in range(NR).

    If starts[i] is negative, row i is all zeros. `x` and `out` are flat arrays. `zeros` holds at least `length` zeros.
    """
    whole = length // LANES * LANES
    for k in range(0, whole, LANES):
        transpose(x, starts, k, zeros, out, out_at + k * NR)
    for k in range(whole, length):
        for i in range(NR):
            out[out_at + k * NR + i] = x[starts[i] + k] if starts[i] >= 0 else np.float32(0)


@jit
def pack_panels(x, N, first, count, first_panel, end_panel, out):
    """Pack rows range(first, first + count) of a matrix x with N columns into panels, with zeros after the last column.

    out[((p - first_panel) * count + k) * NR + i] = x[(first + k) * N + p * NR + i] for panels p in range(first_panel,
    end_panel). `x` and `out` are flat.
    """
    whole = max(first_panel, min(end_panel, N // NR))
    for k in range(count):
        row = (first + k) * N
        for p in range(first_panel, whole):
            copy(x, row + p * NR, out, ((p - first_panel) * count + k) * NR, NR)
        for p in range(whole, end_panel):
            to = ((p - first_panel) * count + k) * NR
            for i in range(NR):
                out[to + i] = x[row + p * NR + i] if p * NR + i < N else np.float32(0)


@jit
def pack_channels(x, starts, count, width, out):
    """out[(t * count + k) * MR + i] = x[starts[k] + t * MR + i] for t * MR + i < width.

    If starts[k] is negative, zeros are packed for k. `x` and `out` are flat.
    """
    whole = width // MR
    for k in range(count):
        start = starts[k]
        if start < 0:
            for t in range(ceil_div(width, MR)):
                for i in range(MR):
                    out[(t * count + k) * MR + i] = np.float32(0)
        else:
            for t in range(whole):
                copy(x, start + t * MR, out, (t * count + k) * MR, MR)
            for i in range(whole * MR, width):
                out[(whole * count + k) * MR + i - whole * MR] = x[start + i]
