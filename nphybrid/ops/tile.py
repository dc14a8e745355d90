"""The register tile: for Numba's own loops do not keep 24 sums in registers.

                   b   k-th row of a panel: NV vectors of LANES
                   +-----------+-----------+-----------+-----------+
    x   k-th of    | b[k, 0:16]| b[k,16:32]| b[k,32:48]| b[k,48:64]|    registers, MR x NV x LANES = 6 x 4 x 16:
    each row       +===========+===========+===========+===========+       24  sums, from the first k to the last
      row 0 [k]    |  sum 0,0  |  sum 0,1  |  sum 0,2  |  sum 0,3  |        4  of b
      row 1 [k]    |  sum 1,0  |  sum 1,1  |  sum 1,2  |  sum 1,3  |        1  x in every lane
        ...        |    ...    |    ...    |    ...    |    ...    |       --
      row 5 [k]    |  sum 5,0  |  sum 5,1  |  sum 5,2  |  sum 5,3  |       29  of 32 of AVX-512
                   +-----------+-----------+-----------+-----------+   AVX2: 6 x 2 x 8, 15 of 16. NEON: 5 x 4 x 4, 25

The rows of the left factor are read where they lie: `starts` says where in x each begins, so nothing has to be
packed, and a convolution is the same loop with other starts (Dukhan 2019, "The Indirect Convolution
Algorithm"). Only b is packed, k-major (k_len, NR). Every element of c is one chain of fused multiply-adds over
k; then d is added (what c held so far, or a bias, whose rows are 0 elements apart), then e (a residual).
All arrays are flat; `_at` says where in them the tile begins.

The ladder: 577 x 768 -> 3072 in GFLOP/s, and as a share of what the FMA unit can do (Ice Lake, AVX-512, one thread,
upper quartile of 12 to 25 runs in turn; examples/time_kernels.py times the one that was kept):

    14 x 2 x 16, x packed k-major              105   57 %     16 loads for 28 multiply-adds
    14 x 2 x 16, rows in place                 105   57 %
     8 x 3 x 16, rows in place                 151   82 %     11 loads for 24; but 64 channels need 96 columns
     6 x 4 x 16, rows in place                 155   85 %     10 loads for 24
     6 x 4 x 16, the next rows prefetched      133   73 %     dropped, like prefetching b: 150
"""
import numpy as np
from numba import types
from numba.extending import intrinsic

from .emit import I64, Emit, pointers
from .jit import jit
from .target import ISA, LANES, MR, NR, NV

UNROLL = 4


def emit_tile(build, x, starts, zeros, taps, run, b, c, ldc, addends, shape):
    """Write the whole tile: for every tap the rows it looks at, the loop over their `run` elements; addends; stores.

    starts[tap, i] is where row i begins in x; below 0 it is `zeros`.
    """
    MR, NV, LANES = shape
    emit = Emit(build, LANES)
    whole = build.and_(run, I64(-UNROLL))

    def tap(t, sums):
        rows = [emit.row(x, starts, zeros, build.add(build.mul(t, I64(MR)), I64(i))) for i in range(MR)]
        panel = emit.at(b, build.mul(build.mul(t, run), I64(NV * LANES)))
        sums = emit.loop(I64(0), whole, UNROLL, sums, lambda k, sums: _steps(emit, rows, panel, k, UNROLL, sums))
        return emit.loop(whole, run, 1, sums, lambda k, sums: _steps(emit, rows, panel, k, 1, sums))
    sums = emit.loop(I64(0), taps, 1, [emit.zero] * (MR * NV), tap)
    for d, ldd, adds in addends:
        sums = _addition(emit, sums, d, ldd, adds, NV)
    for s, value in enumerate(sums):
        emit.store(value, emit.spot(c, ldc, *divmod(s, NV)))


def _steps(emit, rows, b, k, count, sums):
    """sums += outer([row[k] for row in rows], b[k]), for `count` k."""
    build, NV, after = emit.build, len(sums) // len(rows), list(sums)
    for u in range(count):
        ku = build.add(k, I64(u))
        at = build.mul(ku, I64(NV * emit.lanes))
        vectors = [emit.load(emit.at(b, build.add(at, I64(j * emit.lanes)))) for j in range(NV)]
        for i, row in enumerate(rows):
            scalar = emit.broadcast(emit.at(row, ku))
            for s, vector in enumerate(vectors, i * NV):
                after[s] = emit.fma(scalar, vector, after[s])
    return after


def _addition(emit, sums, d, ldd, adds, NV):
    """if adds: sums += d.  Returns the sums after it."""
    build, before = emit.build, emit.build.block
    with build.if_then(build.icmp_signed("!=", adds, I64(0))):
        added = [build.fadd(value, emit.load(emit.spot(d, ldd, *divmod(s, NV)))) for s, value in enumerate(sums)]
        inside = build.block
    after = [build.phi(emit.vector) for _ in sums]
    for phi, value, more in zip(after, sums, added):
        phi.add_incoming(value, before)
        phi.add_incoming(more, inside)
    return after


@intrinsic
def _vector_tile(typing, x, starts, zeros, taps, run, b, b_at, c, c_at, ldc, d, d_at, ldd, adds, e, e_at, lde, adds_e):
    def codegen(context, build, sig, args):
        (x, starts, zeros, taps, run, b, b_at, c, c_at, ldc, d, d_at, ldd, adds, e, e_at, lde, adds_e
         ) = pointers(context, build, sig, args)
        addends = (build.gep(d, [d_at]), ldd, adds), (build.gep(e, [e_at]), lde, adds_e)
        b, c = build.gep(b, [b_at]), build.gep(c, [c_at])
        emit_tile(build, x, starts, zeros, taps, run, b, c, ldc, addends, (MR, NV, LANES))
        return context.get_dummy_value()
    i8 = types.int64
    return types.void(x, starts, zeros, i8, i8, b, i8, c, i8, i8, d, i8, i8, i8, e, i8, i8, i8), codegen


def _plain_tile(x, starts, zeros, taps, run, b, b_at, c, c_at, ldc, d, d_at, ldd, adds, e, e_at, lde, adds_e):
    """The same in ordinary loops: other roundings, for products and sums are not fused."""
    sums = np.zeros((MR, NR), np.float32)
    for tap in range(taps):
        for i in range(MR):
            start = starts[tap * MR + i]
            for k in range(run):
                value = x[start + k] if start >= 0 else zeros[k]
                row = b_at + (tap * run + k) * NR
                for j in range(NR):
                    sums[i, j] += value * b[row + j]
    for i in range(MR):
        for j in range(NR):
            total = sums[i, j]
            if adds:
                total += d[d_at + i * ldd + j]
            if adds_e:
                total += e[e_at + i * lde + j]
            c[c_at + i * ldc + j] = total


# tile(x, starts, zeros, taps, run, b, b_at, c, c_at, ldc, d, d_at, ldd, adds, e, e_at, lde, adds_e)
#     c[:MR, :NR] = sum over taps of rows (MR, run) @ b[tap], + d[:MR, :NR] if adds, + e[:MR, :NR] if adds_e
tile = jit(_plain_tile) if ISA == "plain" else _vector_tile
