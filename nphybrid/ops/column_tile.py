"""The register tile for sums over cells: MR neighbouring channels of x times a panel of NR columns.

The gradient of a kernel is dW = x.T @ dy. Row i of the left factor x.T is channel i of all cells, so the elements of a
row are `step` elements apart in memory, and neighbouring rows are neighbours in memory:

                channels of x                      panel of dy
           k    i = 0 1 2 ... MR - 1          NR columns
    cell   0      [a b c d e f] ...          +--------------+
    cell   1      [a b c d e f] ...          | row of dy    |        sums[i, j] += x[k, i] * dy[k, j]
    cell   2      [a b c d e f] ...          | row of dy    |        for all cells k of all runs
           ...                               +--------------+

Apart from these addresses, the tile is the tile of tile.py: the MR x NR sums stay in registers, and each sum is one
chain of fused multiply-adds. x is read in place. The cells are divided into runs. The cells of a run are `step`
elements apart in x, and are neighbours in the panel. In a convolution, a run is a part of a row of the map. Cells of x
in the padding are in no run.

`_plain_column_tile` is the plain definition.
"""
from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from .emit import I64, Emit, fields
from .jit import jit
from .target import ISA, LANES, MR, NR, NV
from .tile import UNROLL, Addend, Panel, Target, emit_addition


class Columns(NamedTuple):
    """MR channels of x, over all cells of `count` runs.  Cell k of run r begins at x[at + starts[r] + k * step]."""
    x: np.ndarray
    at: int
    starts: np.ndarray                    # int64 (count,)
    cells: np.ndarray                     # int64 (count,): the row of the panel that belongs to the first cell of a run
    lengths: np.ndarray                   # int64 (count,): the number of cells of a run
    count: int
    step: int


def _plain_column_tile(columns, panel, target, addend):
    """target[:MR, :NR] = the sum over all cells of x[cell, :MR] * panel[cell, :NR] + addend"""
    sums = np.zeros((MR, NR), np.float32)
    for r in range(columns.count):
        for k in range(columns.lengths[r]):
            start = columns.at + columns.starts[r] + k * columns.step
            panel_row = panel.at + (columns.cells[r] + k) * NR
            for i in range(MR):
                for j in range(NR):
                    sums[i, j] += columns.x[start + i] * panel.b[panel_row + j]
    for i in range(MR):
        for j in range(NR):
            total = sums[i, j]
            if addend.used:
                total += addend.values[addend.at + i * addend.stride + j]
            target.values[target.at + i * target.stride + j] = total


def emit_column_tile(build, columns, panel, target, addend, shape):
    """Emit the tile: a loop over runs with a loop over cells in it, then the addition and the stores.

    The fields of the arguments are LLVM values. Each array is replaced by a pointer. `shape` is (MR, NV, LANES).
    """
    MR, NV, LANES = shape
    emit = Emit(build, LANES)
    x = emit.at(columns.x, columns.at)
    b = emit.at(panel.b, panel.at)

    def run(r, sums):
        left = emit.at(x, build.load(emit.at(columns.starts, r)))
        right = emit.at(b, build.mul(build.load(emit.at(columns.cells, r)), I64(NV * LANES)))
        length = build.load(emit.at(columns.lengths, r))
        unrolled_end = build.and_(length, I64(-UNROLL))

        def steps(count):
            return lambda k, sums: _steps(emit, left, right, columns.step, k, count, sums)
        sums = emit.loop(I64(0), unrolled_end, UNROLL, sums, steps(UNROLL))
        return emit.loop(unrolled_end, length, 1, sums, steps(1))
    sums = emit.loop(I64(0), columns.count, 1, [emit.zero] * (MR * NV), run)
    sums = emit_addition(emit, sums, addend, NV)
    to = emit.at(target.values, target.at)
    for s, value in enumerate(sums):
        i, j = divmod(s, NV)
        emit.store(value, emit.spot(to, target.stride, i, j))


def _steps(emit, left, right, step, k, count, sums):
    """sums += outer(left[k * step:][:MR], right[k]), for `count` values of k."""
    build = emit.build
    NV = NR // LANES
    sums = list(sums)
    for more in range(count):
        k_now = build.add(k, I64(more))
        cell = emit.at(left, build.mul(k_now, step))
        row = emit.at(right, build.mul(k_now, I64(NR)))
        vectors = [emit.load(emit.at(row, I64(j * LANES))) for j in range(NV)]
        for i in range(len(sums) // NV):
            element = emit.broadcast(emit.at(cell, I64(i)))
            for j, vector in enumerate(vectors):
                sums[i * NV + j] = emit.fma(element, vector, sums[i * NV + j])
    return sums


@intrinsic
def _vector_column_tile(typing, columns, panel, target, addend):
    def codegen(context, build, signature, arguments):
        kinds = zip((Columns, Panel, Target, Addend), signature.args, arguments)
        columns, panel, target, addend = (kind(*fields(context, build, numba_type, value))
                                          for kind, numba_type, value in kinds)
        addend = addend._replace(values=build.gep(addend.values, [addend.at]), at=0)
        emit_column_tile(build, columns, panel, target, addend, (MR, NV, LANES))
        return context.get_dummy_value()
    return types.void(columns, panel, target, addend), codegen


# The signature of both versions is column_tile(columns, panel, target, addend).
column_tile = jit(_plain_column_tile) if ISA == "plain" else _vector_column_tile
