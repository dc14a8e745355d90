"""Rows become columns: panels of keys for the register tile."""

import numpy as np
from numba import types
from numba.extending import intrinsic

from .emit import I64, Emit, pointers
from .jit import jit
from .target import ISA, LANES, NR


def emit_transpose(build, x, starts, k, zeros, out, width, lanes):
    """out[l, i] = x[starts[i] + k + l] for l in range(lanes), i in range(width), a multiple of lanes.

    A start below 0 reads `zeros` instead. log2(lanes) rounds of shuffles turn `lanes` rows into `lanes` columns.
    """
    emit = Emit(build, lanes)
    for first in range(0, width, lanes):
        for l, column in enumerate(_emit_square(emit, x, starts, k, zeros, first)):
            emit.store(column, emit.at(out, I64(l * width + first)))


def _emit_square(emit, x, starts, k, zeros, first):
    lanes = emit.lanes
    square = [emit.load(emit.at(emit.row(x, starts, zeros, I64(first + i)), k)) for i in range(lanes)]
    step = 1
    while step < lanes:
        for i in range(lanes):
            if not i & step:
                upper, lower = square[i], square[i + step]
                square[i] = emit.shuffle(upper, lower, [l if not l & step else lanes + l - step
                                                        for l in range(lanes)])
                square[i + step] = emit.shuffle(upper, lower, [l + step if not l & step else lanes + l
                                                               for l in range(lanes)])
        step *= 2
    return square


@intrinsic
def _vector_transpose(typing, x, starts, k, zeros, out, out_at):
    def codegen(context, build, sig, args):
        x, starts, k, zeros, out, out_at = pointers(context, build, sig, args)
        emit_transpose(build, x, starts, k, zeros, build.gep(out, [out_at]), NR, LANES)
        return context.get_dummy_value()
    return types.void(x, starts, types.int64, zeros, out, types.int64), codegen


def _plain_transpose(x, starts, k, zeros, out, out_at):
    for l in range(LANES):
        for i in range(NR):
            out[out_at + l * NR + i] = x[starts[i] + k + l] if starts[i] >= 0 else zeros[k + l]


# transpose(x, starts, k, zeros, out, out_at)
#     LANES columns of NR rows, k-major
transpose = jit(_plain_transpose) if ISA == "plain" else _vector_transpose


@jit
def pack(x, starts, length, zeros, out, out_at):
    """out[k, i] = x[starts[i] + k] for k in range(length), i in range(NR); a start below 0 is zeros.

    `x` and `out` are flat, `zeros` holds at least `length`.
    """
    whole = length // LANES * LANES
    for k in range(0, whole, LANES):
        transpose(x, starts, k, zeros, out, out_at + k * NR)
    for k in range(whole, length):
        for i in range(NR):
            out[out_at + k * NR + i] = x[starts[i] + k] if starts[i] >= 0 else np.float32(0)
