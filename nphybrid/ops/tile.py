"""The register tile: the product of MR rows and a panel of NR = NV * LANES columns, with all sums in registers.

                   panel   row k: NV vectors of LANES float32
                   +-----------+-----------+-----------+-----------+
    rows  element  | b[k, 0:16]| b[k,16:32]| b[k,32:48]| b[k,48:64]|    registers for MR x NV x LANES = 6 x 4 x 16:
          k        +===========+===========+===========+===========+       24  sums, which stay there for all k
      row 0 [k]    |  sum 0,0  |  sum 0,1  |  sum 0,2  |  sum 0,3  |        4  vectors of b
      row 1 [k]    |  sum 1,0  |  sum 1,1  |  sum 1,2  |  sum 1,3  |        1  element of a row, in every lane
        ...        |    ...    |    ...    |    ...    |    ...    |       --
      row 5 [k]    |  sum 5,0  |  sum 5,1  |  sum 5,2  |  sum 5,3  |       29  of the 32 of AVX-512
                   +-----------+-----------+-----------+-----------+  AVX2 6 x 2 x 8: 15 of 16. NEON 5 x 4 x 4: 25 of 32

The picture shows words of one float32. A word can also be two bfloat16 or four int8 (widths.py). Then k counts words,
and a multiply-add adds all products of two words to the sum. The sums of int8 are integers, which become float32 at the
end (`Scaling`).

For each k, the NV vectors in row k of the panel are loaded. Element k of each of the MR rows is multiplied by all NV
vectors, and the products are added to the sums. In the picture, sum i,j += row i [k] * b[k, vector j]. `_plain_sums` is
the plain definition.

The vector version is written in the intermediate representation of LLVM, the compiler behind Numba. If the tile were a
loop of Python that Numba compiles, LLVM would store the sums in memory. For NEON, LLVM stores some of 24 vectors of
sums also in this version, so MR is 5, for 20 vectors. The functions with `emit` or `build` run when Numba compiles
(emit.py): build.add(x, y) adds an instruction to the code, and a loop of Python repeats instructions. Only `emit.loop`
makes a loop in the code.

The rows are not packed into another order. They are read in place from an array x. A row consists of `runs` runs. A run
is a sequence of neighbours in x, and `Rows.starts` holds the index in x where each run begins. Element k of run r is
multiplied by row r * run + k of the panel. A convolution differs from a linear layer only in the starts (Dukhan 2019,
"The Indirect Convolution Algorithm"). The panel is packed row by row (packed.py). In float32, each element of the
result is one chain of fused multiply-adds over k. `tile_add` then adds the first addend, and after it the second
addend.

A whole tile writes MR x NR values. At the edge of a result, the caller gives it another array as target, and says how
many rows and columns are needed. If they are few, a smaller tile is computed (`emit_smallest`). With 577 rows, the last
tile has one row. A product with a kernel (768, 768) then takes about 1 % less time than with a whole last tile. With
577 keys, the last panel of attention has one column, and 12 heads take 1 % (bfloat16) or 3 % (float32) less time. These
times were measured on Zen 5, with one thread.

All arrays are flat. `at` is the index of the first used element of an array. The indices of x, `zeros` and panels count
words, also if the elements of these arrays are narrower. Words are loaded as float32, whatever they hold, because this
changes no bit. `integers` then gives a vector of them another type.

The table lists what was tried for the product of x (577, 768) and a kernel (768, 3072). Its columns are MR x NV x
LANES, the speed in GFLOP/s, and the share of the highest speed of the FMA units. The speeds were measured on Ice Lake
with AVX-512 and one thread. Each speed is the upper quartile of 12 to 25 runs. The runs of different versions
alternated. examples/time_kernels.py times the version that was kept.

    14 x 2 x 16, x packed column by column     105   57 %     16 loads for 28 multiply-adds
    14 x 2 x 16, rows in place                 105   57 %
     8 x 3 x 16, rows in place                 151   82 %     11 loads for 24 multiply-adds; 64 columns become 96
     6 x 4 x 16, rows in place                 155   85 %     10 loads for 24 multiply-adds: kept
"""
from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from .emit import I64, TO_L2, fields
from .jit import jit, jit_allocating
from .target import ISA, LANES, MR, NR, NV, PREFETCH, SHORT
from .widths import Float32, emitter_of, number, zero_sums

STEPS = 64                                # Ahead.step is a multiple of 1 / STEPS words; a power of two, for a shift


class Rows(NamedTuple):
    """MR rows of the left factor.  A row has `runs` runs, and a run is `run` neighbouring words in x.

    starts[r * MR + i] is the index in x where run r of row i begins. If this index is negative, the run is read from
    `zeros`: it is outside the map of a convolution, or in a row after the last. Maps of narrow words hold their padding
    (words.py), so there only the rows after the last have negative indices.
    """
    x: np.ndarray                         # the dtype depends on the width (words.py)
    starts: np.ndarray                    # int64 (runs * MR,)
    zeros: np.ndarray                     # at least `run` words of zeros
    runs: int
    run: int


class Columns(NamedTuple):
    """MR columns of a matrix, whose transpose is the left factor.  Element k of row i is x[at + k * stride + i].

    Only the gradients of weights use it (product_gradients.py).
    """
    x: np.ndarray
    at: int
    stride: int
    run: int                              # number of elements of a row


class Panel(NamedTuple):
    """NR columns of the right factor, stored row by row.  Row k begins at word number at + k * NR of b."""
    b: np.ndarray                         # float32, uint16 (bfloat16) or int8
    at: int


class Ahead(NamedTuple):
    """What comes into L2 while a tile is computed: cache lines of the Panel's array b, which later tiles will need.

    At every UNROLL-th row k of the panel (widths.py), the tile asks for the line with the word at + k * step // STEPS.
    """
    at: int
    step: int                             # words per row, times STEPS


class Target(NamedTuple):
    """The place where MR x NR results are stored.  Row i begins at values[at + i * stride].

    `rows` and `columns` say how many rows and columns of the result there are from here on. They can be larger than MR
    and NR. Rows and columns after the last are not always computed. `tile_add` does not use `columns`, and
    `transposed_tile_add` uses neither.
    """
    values: np.ndarray
    at: int
    stride: int
    rows: int
    columns: int


class Addend(NamedTuple):
    """MR x NR values that are added to the results.  Row i begins at values[at + i * stride].

    If stride is 0, one row of values is added to all rows. If used is 0, nothing is added.
    """
    values: np.ndarray
    at: int
    stride: int
    used: int                             # 0 or another number


class Scaling(NamedTuple):
    """What turns the integer sums of an int8 panel into float32.  Other panels need no Scaling, and ignore it.

    result[i, j] = float32(sum[i, j] - zero_points[i] * totals[at + j]) * (scales[i] * channels[at + j])
    """
    scales: np.ndarray                    # float32 (MR,), the scale of each row
    zero_points: np.ndarray               # int32 (MR,), the zero point of each row
    channels: np.ndarray                  # float32, the scale of each column
    totals: np.ndarray                    # int32, the sum of the integers of each column
    at: int                               # number of the first column


def _plain_sums(rows, panel):
    """Return the sum over all runs r of rows[r] (MR, run) @ panel[r] (run, NR), float32 or int32.

    The plain definition does not fuse products and sums. So it rounds differently from the vector version. Its words
    hold one number.
    """
    sums = zero_sums(panel.b, MR, NR)
    for r in range(rows.runs):
        for i in range(MR):
            start = rows.starts[r * MR + i]
            for k in range(rows.run):
                value = rows.x[start + k] if start >= 0 else rows.zeros[k]
                panel_row = panel.at + (r * rows.run + k) * NR
                for j in range(NR):
                    sums[i, j] += value * number(panel.b[panel_row + j])
    return sums


def _plain_tile(rows, panel, target):
    """target[:MR, :NR] = the sums"""
    sums = _plain_sums(rows, panel)
    for i in range(MR):
        for j in range(NR):
            target.values[target.at + i * target.stride + j] = sums[i, j]


def _plain_tile_add(rows, panel, target, first, second, scaling, ahead):
    """target[:MR, :NR] = the scaled sums + `first` + `second`.  An addend with used = 0 is not added.

    `ahead` changes no result.
    """
    sums = _plain_sums(rows, panel)
    for i in range(MR):
        for j in range(NR):
            total = np.float32(sums[i, j])
            if panel.b.itemsize == 1:
                column = scaling.at + j
                exact = sums[i, j] - scaling.zero_points[i] * scaling.totals[column]
                total = np.float32(exact) * (scaling.scales[i] * scaling.channels[column])
            if first.used:
                total += first.values[first.at + i * first.stride + j]
            if second.used:
                total += second.values[second.at + i * second.stride + j]
            target.values[target.at + i * target.stride + j] = total


def _plain_transposed_tile_add(columns, panel, target, first):
    """target[:MR, :NR] = columns.T (MR, run) @ panel (run, NR) + first"""
    for i in range(MR):
        for j in range(NR):
            total = np.float32(0)
            for k in range(columns.run):
                total += columns.x[columns.at + k * columns.stride + i] * panel.b[panel.at + k * NR + j]
            if first.used:
                total += first.values[first.at + i * first.stride + j]
            target.values[target.at + i * target.stride + j] = total


def emit_smallest(build, rows, panel, target, addends, shape, emitter=Float32, scaling=None, ahead=None,
                  few_columns=False):
    """Emit the register tile, and a tile of only SHORT rows for the last rows of a result.

    If `few_columns` is True, a tile of one vector of columns is also emitted, for the last columns. The first tile that
    is large enough is computed. The smaller tiles take less time, and compute the same bits. The other arguments are
    those of `emit_tile`.
    """
    mr, nv, lanes = shape

    def emit_one_of(smaller):
        """Emit a branch for each of the smaller tiles, and the whole tile in the last branch."""
        if not smaller:
            emit_tile(build, rows, panel, target, addends, shape, emitter, scaling, ahead=ahead)
            return
        (needed, most, size), *others = smaller
        with build.if_else(build.icmp_signed("<=", needed, I64(most))) as (then, otherwise):
            with then:
                emit_tile(build, rows, panel, target, addends, shape, emitter, scaling, ahead=ahead, size=size)
            with otherwise:
                emit_one_of(others)
    few_rows = target.rows, SHORT, (SHORT, nv)
    emit_one_of([few_rows, (target.columns, lanes, (mr, 1))] if few_columns else [few_rows])


def emit_tile(build, rows, panel, target, addends, shape, emitter=Float32, scaling=None, ahead=None, size=None):
    """Emit the register tile: a loop over runs with a loop over k in it, then the additions and the stores.

    The fields of `rows`, `panel`, `target`, `addends`, `scaling` and `ahead` are LLVM values. Each array is replaced by
    a pointer, and each field `at` must be 0, but ahead.at is a pointer. `shape` is (MR, NV, LANES). `emitter` is a
    class of widths.py. The tile is scaled if `scaling` is not None. If `size` is given, only size[0] rows and size[1]
    vectors of columns are computed.
    """
    mr, nv, lanes = shape
    height, vectors = size or (mr, nv)
    emit = emitter(build, lanes)
    rows = rows._replace(x=emit.words(rows.x), zeros=emit.words(rows.zeros))
    panel = Panel(emit.panel_words(panel.b), 0)

    def add_run(r, sums):
        """Add the products of run r of the rows, and of its rows of the panel."""
        first_start = build.mul(r, I64(mr))
        addresses = [emit.row(rows.x, rows.starts, rows.zeros, build.add(first_start, I64(i))) for i in range(height)]
        rows_before = build.mul(r, rows.run)
        b = emit.at(panel.b, build.mul(rows_before, I64(nv * lanes)))

        def prefetch_ahead(k):
            """Ask for the line of `ahead` that belongs to row k of the run."""
            if ahead is not None:
                words = build.ashr(build.mul(build.add(rows_before, k), ahead.step), I64(STEPS.bit_length() - 1))
                emit.prefetch(emit.at(ahead.at, words), TO_L2)

        def elements(k):
            """The addresses of element k of the run in each row."""
            return [emit.at(address, k) for address in addresses]
        return _add_products(emit, elements, b, nv * lanes, rows.run, sums, prefetch_ahead)
    sums = [emit.zero] * (height * vectors) if scaling is None else _first_sums(emit, scaling, height, vectors)
    sums = emit.loop(I64(0), rows.runs, 1, sums, add_run)
    if scaling is not None:
        sums = _scaled(emit, sums, scaling, vectors)
    _finish(emit, sums, target, addends, vectors)


def emit_transposed_tile(build, columns, panel, target, addends, shape):
    """Emit the register tile for the transpose of `columns`.  Every field `at` must be 0, as in `emit_tile`."""
    mr, nv, lanes = shape
    emit = Float32(build, lanes)

    def elements(k):
        """The addresses of element k of the rows, which are neighbours."""
        first = emit.at(columns.x, build.mul(k, columns.stride))
        return [emit.at(first, I64(i)) for i in range(mr)]
    sums = _add_products(emit, elements, panel.b, nv * lanes, columns.run, [emit.zero] * (mr * nv))
    _finish(emit, sums, target, addends, nv)


def _add_products(emit, elements, b, row_size, run, sums, prefetch=lambda k: None):
    """sums += outer(elements of k, b[k]), for all k in range(run).  elements(k) returns the addresses of the elements.

    Row k of the panel begins at b[k * row_size]. prefetch(k) is emitted where a pass of the unrolled loop begins.
    """
    unroll = emit.UNROLL                  # a power of two

    def add_unrolled(k, sums):
        """Add the products of `unroll` values of k, from k on."""
        prefetch(k)
        return _add_steps(emit, elements, b, row_size, k, unroll, sums)
    unrolled_end = emit.build.and_(run, I64(-unroll))     # `run`, rounded down to a multiple of `unroll`
    sums = emit.loop(I64(0), unrolled_end, unroll, sums, add_unrolled)
    return emit.loop(unrolled_end, run, 1, sums, lambda k, sums: _add_steps(emit, elements, b, row_size, k, 1, sums))


def _add_steps(emit, elements, b, row_size, k, count, sums):
    """sums += outer(elements of k, b[k]), for `count` values of k, from k on."""
    build = emit.build
    sums = list(sums)
    for step in range(count):
        k_now = build.add(k, I64(step))
        places = elements(k_now)
        vectors = len(sums) // len(places)
        row_at = build.mul(k_now, I64(row_size))
        row = [emit.load_panel(emit.at(b, build.add(row_at, I64(j * emit.lanes)))) for j in range(vectors)]
        for i, place in enumerate(places):
            element = emit.broadcast(place)
            for j, vector in enumerate(row):
                sums[i * vectors + j] = emit.multiply_add(element, vector, sums[i * vectors + j])
    return sums


def _first_sums(emit, scaling, height, vectors):
    """-zero_points[i] * totals[j], with which the integer sums begin.  So nothing is subtracted from them at the end.

    The result is the same, because integers can be added in any order.
    """
    build = emit.build
    columns = [emit.at(scaling.totals, I64(j * emit.lanes)) for j in range(vectors)]
    totals = [emit.integers(emit.load(emit.words(column))) for column in columns]
    points = [emit.integers(emit.broadcast(emit.words(emit.at(scaling.zero_points, I64(i))))) for i in range(height)]
    return [build.mul(point, total) for point in map(build.neg, points) for total in totals]


def _scaled(emit, sums, scaling, vectors):
    """Turn the integer sums into float32, as `Scaling` defines it.  They began with `_first_sums`."""
    build = emit.build
    channels = [emit.load(emit.at(scaling.channels, I64(j * emit.lanes))) for j in range(vectors)]
    scaled = []
    for s, total in enumerate(sums):
        i, j = divmod(s, vectors)
        scale = emit.broadcast(emit.at(scaling.scales, I64(i)))
        scaled.append(build.fmul(build.sitofp(total, emit.vector), build.fmul(scale, channels[j])))
    return scaled


def _finish(emit, sums, target, addends, vectors):
    """Add the addends to the sums, and store the results."""
    for addend in addends:
        sums = _addition(emit, sums, addend, vectors)
    for s, value in enumerate(sums):
        i, j = divmod(s, vectors)
        emit.store(value, emit.spot(target.values, target.stride, i, j))


def _addition(emit, sums, addend, vectors):
    """Return sums + addend if the addend is used, else sums."""
    build = emit.build
    before = build.block
    added = []
    with build.if_then(build.icmp_signed("!=", addend.used, I64(0))):
        for s, value in enumerate(sums):
            i, j = divmod(s, vectors)
            added.append(build.fadd(value, emit.load(emit.spot(addend.values, addend.stride, i, j))))
        inside = build.block
    after = [build.phi(emit.vector) for _ in sums]
    for phi, skipped, taken in zip(after, sums, added):
        phi.add_incoming(skipped, before)
        phi.add_incoming(taken, inside)
    return after


def _unpacked(context, build, kinds, values):
    """Return the class of widths.py for the panel, Rows, Panel, and the fields of each other argument.

    Panel.b is a pointer to words. `kinds` and `values` are the Numba types and the LLVM values of the arguments of
    `tile` or `tile_add`.
    """
    rows, (b, at), *others = (fields(context, build, kind, value) for kind, value in zip(kinds, values))
    kind_of_b, _ = kinds[1].types
    emitter = emitter_of(kind_of_b.dtype)
    return emitter, Rows(*rows), Panel(emitter(build, LANES).panel_words(b), at), *others


def _placed(build, panel, target, *addends):
    """Return Panel, Target and Addends whose field `at` is 0: `at` is added to the pointer."""
    target = Target(*target)
    addends = [Addend(*addend) for addend in addends]
    return (Panel(build.gep(panel.b, [panel.at]), 0),
            target._replace(values=build.gep(target.values, [target.at]), at=0),
            [addend._replace(values=build.gep(addend.values, [addend.at]), at=0) for addend in addends])


def _placed_scaling(build, scales, zero_points, channels, totals, at):
    """Return a Scaling whose field `at` is 0: `at` is added to the pointers."""
    return Scaling(scales, zero_points, build.gep(channels, [at]), build.gep(totals, [at]), 0)


@intrinsic
def _vector_tile(typing, rows, panel, target):
    def codegen(context, build, signature, arguments):
        emitter, rows, panel, target = _unpacked(context, build, signature.args, arguments)
        # Attention multiplies with this function, and often its last panel has one column.
        emit_smallest(build, rows, *_placed(build, panel, target), (MR, NV, LANES), emitter, few_columns=True)
        return context.get_dummy_value()
    return types.void(rows, panel, target), codegen


@intrinsic
def _vector_tile_add(typing, rows, panel, target, first, second, scaling, ahead):
    def codegen(context, build, signature, arguments):
        emitter, rows, panel, *others = _unpacked(context, build, signature.args, arguments)
        target, first, second, scaling, (at, step) = others
        ahead = Ahead(build.gep(panel.b, [at]), step) if PREFETCH else None
        scaling = _placed_scaling(build, *scaling) if emitter.INTEGERS else None
        panel, target, addends = _placed(build, panel, target, first, second)
        emit_smallest(build, rows, panel, target, addends, (MR, NV, LANES), emitter, scaling=scaling, ahead=ahead)
        return context.get_dummy_value()
    return types.void(rows, panel, target, first, second, scaling, ahead), codegen


@intrinsic
def _vector_transposed_tile_add(typing, columns, panel, target, first):
    def codegen(context, build, signature, arguments):
        columns, panel, target, first = (fields(context, build, kind, value)
                                         for kind, value in zip(signature.args, arguments))
        columns = Columns(*columns)
        columns = columns._replace(x=build.gep(columns.x, [columns.at]), at=0)
        emit_transposed_tile(build, columns, *_placed(build, Panel(*panel), target, first), (MR, NV, LANES))
        return context.get_dummy_value()
    return types.void(columns, panel, target, first), codegen


# The signatures are tile(rows, panel, target), tile_add(rows, panel, target, first, second, scaling, ahead) and
# transposed_tile_add(columns, panel, target, first). `tile` is not used for int8, because it has no Scaling.
if ISA == "plain":
    _plain_sums = jit_allocating(_plain_sums)
    tile = jit_allocating(_plain_tile)
    tile_add = jit_allocating(_plain_tile_add)
    transposed_tile_add = jit(_plain_transposed_tile_add)
else:
    tile = _vector_tile
    tile_add = _vector_tile_add
    transposed_tile_add = _vector_transposed_tile_add
