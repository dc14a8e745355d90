"""The register tile: the one place that writes LLVM, for Numba's own loops do not keep 28 sums in registers.

                  b   k-th row of a panel:  NV vectors of LANES
                  +-----------+-----------+
    a   k-th row  | b[k, 0:16]| b[k,16:32]|        registers, MR x NV x LANES = 14 x 2 x 16 (AVX-512):
    of a block    +===========+===========+          28  sums, in registers from the first k to the last
      a[k, 0]     |  sum 0,0  |  sum 0,1  |           2  of b
      a[k, 1]     |  sum 1,0  |  sum 1,1  |           1  a[k, i] in every lane
        ...       |    ...    |    ...    |          --
      a[k, 13]    |  sum 13,0 |  sum 13,1 |          31  of 32
                  +-----------+-----------+        AVX2: 6 x 2 x 8, 15 of 16.  NEON: 8 x 3 x 4, 28 of 32.

LLVM 22 keeps to that. LLVM 15 and 20 store and load one sum of AVX-512 every fourth k, and 15 (Numba 0.61)
many of NEON's.

`a` is packed k-major (k_len, MR), `b` likewise (k_len, NR): both are read once, front to back, per tile.
Every element of c is one chain of fused multiply-adds over k; then d is added (what c held so far, or a bias,
whose rows are 0 elements apart), then e (a residual). All arrays are flat; `_at` says where
in them the tile begins.
"""
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import ISA, LANES, MR, NR, NV, jit

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
UNROLL = 4


class Emit:
    """A few instructions over vectors of `lanes` float32, named as the hardware names them."""

    def __init__(self, build, lanes):
        self.build, self.lanes, self.vector = build, lanes, ir.VectorType(F32, lanes)
        self.zero = ir.Constant(self.vector, [0.0] * lanes)
        self.undefined = ir.Constant(self.vector, ir.Undefined)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma_function = cgutils.get_or_insert_function(build.module, kind, f"llvm.fma.v{lanes}f32")

    def at(self, pointer, index):
        return self.build.gep(pointer, [index])

    def spot(self, pointer, ld, i, j):
        """Where vector j of row i begins."""
        return self.at(pointer, self.build.add(self.build.mul(ld, I64(i)), I64(j * self.lanes)))

    def load(self, pointer):
        return self.build.load(self.build.bitcast(pointer, self.vector.as_pointer()), align=4)

    def store(self, value, pointer):
        self.build.store(value, self.build.bitcast(pointer, self.vector.as_pointer()), align=4)

    def broadcast(self, pointer):
        one = self.build.insert_element(self.undefined, self.build.load(pointer), I32(0))
        return self.build.shuffle_vector(one, self.undefined, ir.Constant(ir.VectorType(I32, self.lanes),
                                                                          [0] * self.lanes))

    def prefetch(self, pointer):
        """Into L1, for reading."""
        byte = self.build.bitcast(pointer, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [byte.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.build.module, kind, "llvm.prefetch.p0")
        self.build.call(function, [byte, I32(0), I32(3), I32(1)])

    def fma(self, x, y, z):
        return self.build.call(self.fma_function, [x, y, z])

    def shuffle(self, x, y, lanes):
        return self.build.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, self.lanes), lanes))


def emit_tile(build, a, b, c, ldc, k_len, addends, shape):
    """Write the whole tile: the loop over k in steps of UNROLL, its rest one by one, addends, stores."""
    MR, NV, LANES = shape
    emit = Emit(build, LANES)
    whole = build.and_(k_len, I64(-UNROLL))
    following = emit.at(a, build.mul(k_len, I64(MR)))
    sums = [[emit.zero] * NV for _ in range(MR)]
    sums = _emit_loop(emit, a, b, I64(0), whole, UNROLL, sums, following)
    sums = _emit_loop(emit, a, b, whole, k_len, 1, sums, following)
    for d, ldd, adds in addends:
        sums = _emit_addition(emit, sums, d, ldd, adds)
    for i, row in enumerate(sums):
        for j, value in enumerate(row):
            emit.store(value, emit.spot(c, ldc, i, j))


def _emit_addition(emit, sums, d, ldd, adds):
    """if adds: sums += d.  Returns the sums after it."""
    build, before = emit.build, emit.build.block
    with build.if_then(build.icmp_signed("!=", adds, I64(0))):
        added = [[build.fadd(value, emit.load(emit.spot(d, ldd, i, j))) for j, value in enumerate(row)]
                 for i, row in enumerate(sums)]
        inside = build.block
    after = [[build.phi(emit.vector) for _ in row] for row in sums]
    for i, row in enumerate(after):
        for j, phi in enumerate(row):
            phi.add_incoming(sums[i][j], before)
            phi.add_incoming(added[i][j], inside)
    return after


def _emit_loop(emit, a, b, start, stop, step, sums, following):
    """for k in range(start, stop, step): sums += outer(a[k], b[k]).  Returns the sums after it.

    Meanwhile the block of A that follows comes from L2 to L1, a cache line per k.
    """
    build, MR, NV = emit.build, len(sums), len(sums[0])
    before = build.block
    head, body, done = (build.append_basic_block(name) for name in ("k", "k.body", "k.done"))
    build.branch(head)
    build.position_at_end(head)
    k = build.phi(I64)
    k.add_incoming(start, before)
    phis = [[build.phi(emit.vector) for _ in row] for row in sums]
    for i, row in enumerate(sums):
        for j, value in enumerate(row):
            phis[i][j].add_incoming(value, before)
    build.cbranch(build.icmp_signed("<", k, stop), body, done)
    build.position_at_end(body)
    now = [list(row) for row in phis]
    for u in range(step):
        ku = build.add(k, I64(u))
        ka, kb = build.mul(ku, I64(MR)), build.mul(ku, I64(NV * emit.lanes))
        emit.prefetch(emit.at(following, ka))
        vectors = [emit.load(emit.at(b, build.add(kb, I64(j * emit.lanes)))) for j in range(NV)]
        for i in range(MR):
            scalar = emit.broadcast(emit.at(a, build.add(ka, I64(i))))
            for j in range(NV):
                now[i][j] = emit.fma(scalar, vectors[j], now[i][j])
    k.add_incoming(build.add(k, I64(step)), build.block)
    for i in range(MR):
        for j in range(NV):
            phis[i][j].add_incoming(now[i][j], build.block)
    build.branch(head)
    build.position_at_end(done)
    return phis


def emit_transpose(build, x, starts, k, zeros, out, width, lanes):
    """out[l, i] = x[starts[i] + k + l] for l in range(lanes), i in range(width).

    A start below 0 reads `zeros` instead.

    log2(lanes) rounds of shuffles turn `lanes` rows into `lanes` columns. Where width is no multiple of
    lanes, a store runs over into the next l, which is written after it: `out` needs `lanes` more elements.
    """
    emit = Emit(build, lanes)
    columns = [_emit_square(emit, x, starts, k, zeros, first, min(lanes, width - first))
               for first in range(0, width, lanes)]
    for l in range(lanes):
        for g, square in enumerate(columns):
            emit.store(square[l], emit.at(out, I64(l * width + g * lanes)))


def _emit_square(emit, x, starts, k, zeros, first, count):
    build, lanes, square = emit.build, emit.lanes, []
    for i in range(count):
        row = build.load(emit.at(starts, I64(first + i)))
        start = build.select(build.icmp_signed("<", row, I64(0)), zeros, emit.at(x, row))
        square.append(emit.load(emit.at(start, k)))
    square += [emit.undefined] * (lanes - count)
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


def _pointers(context, build, sig, args):
    """The first elements of all array arguments."""
    return [context.make_array(kind)(context, build, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(sig.args, args)]


@intrinsic
def _vector_tile(typing, a, a_at, b, b_at, c, c_at, ldc, k_len, d, d_at, ldd, adds, e, e_at, lde, adds_e):
    def codegen(context, build, sig, args):
        (a, a_at, b, b_at, c, c_at, ldc, k_len, d, d_at, ldd, adds, e, e_at, lde, adds_e
         ) = _pointers(context, build, sig, args)
        addends = (build.gep(d, [d_at]), ldd, adds), (build.gep(e, [e_at]), lde, adds_e)
        a, b, c = build.gep(a, [a_at]), build.gep(b, [b_at]), build.gep(c, [c_at])
        emit_tile(build, a, b, c, ldc, k_len, addends, (MR, NV, LANES))
        return context.get_dummy_value()
    i8 = types.int64
    return types.void(a, i8, b, i8, c, i8, i8, i8, d, i8, i8, i8, e, i8, i8, i8), codegen


def _transposer(width):
    @intrinsic
    def transpose(typing, x, starts, k, zeros, out, out_at):
        def codegen(context, build, sig, args):
            x, starts, k, zeros, out, out_at = _pointers(context, build, sig, args)
            emit_transpose(build, x, starts, k, zeros, build.gep(out, [out_at]), width, LANES)
            return context.get_dummy_value()
        return types.void(x, starts, types.int64, zeros, out, types.int64), codegen
    return transpose


def _plain_tile(a, a_at, b, b_at, c, c_at, ldc, k_len, d, d_at, ldd, adds, e, e_at, lde, adds_e):
    """The same in ordinary loops: other roundings, for products and sums are not fused."""
    sums = np.zeros((MR, NR), np.float32)
    for k in range(k_len):
        for i in range(MR):
            scalar = a[a_at + k * MR + i]
            for j in range(NR):
                sums[i, j] += scalar * b[b_at + k * NR + j]
    for i in range(MR):
        for j in range(NR):
            total = sums[i, j]
            if adds:
                total += d[d_at + i * ldd + j]
            if adds_e:
                total += e[e_at + i * lde + j]
            c[c_at + i * ldc + j] = total


def _plain_transposer(width):
    def transpose(x, starts, k, zeros, out, out_at):
        for l in range(LANES):
            for i in range(width):
                out[out_at + l * width + i] = x[starts[i] + k + l] if starts[i] >= 0 else zeros[k + l]
    return transpose


# One name for each, whatever the instruction set:
#   tile(a, a_at, b, b_at, c, c_at, ldc, k_len, d, d_at, ldd, adds, e, e_at, lde, adds_e)
#       c[:MR, :NR] = a.T @ b, + d[:MR, :NR] if adds, + e[:MR, :NR] if adds_e
#   transpose_rows, transpose_columns(x, starts, k, zeros, out, out_at)
#       LANES columns of MR or NR rows, k-major
if ISA == "plain":
    tile = jit(_plain_tile)
    transpose_rows, transpose_columns = jit(_plain_transposer(MR)), jit(_plain_transposer(NR))
else:
    tile, transpose_rows, transpose_columns = _vector_tile, _transposer(MR), _transposer(NR)


@jit
def _fma_plain(x, y, z):
    return x * y + z


@intrinsic
def _fma_fused(typing, x, y, z):
    def codegen(context, build, sig, args):
        kind = ir.FunctionType(F32, [F32] * 3)
        return build.call(cgutils.get_or_insert_function(build.module, kind, "llvm.fma.f32"), args)
    return types.float32(types.float32, types.float32, types.float32), codegen


fma = _fma_plain if ISA == "plain" else _fma_fused


@intrinsic
def _wide(typing):
    def codegen(context, build, sig, args):
        # llvmlite knows no such attribute and would refuse it, but prints it as it stands.
        set.add(build.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()
    return types.void(), codegen


@jit
def _narrow():
    pass


# First line of a function whose loops LLVM should turn into vectors of 512 bits; by itself it takes 256 on
# Ice Lake. exp over an array in L1: 0.79 ns per element with 256 bits, 0.62 with 512 (Ice Lake, 2 virtual
# cores; middle of five runs of examples/time_kernels.py).
wide = _wide if ISA == "avx512" else _narrow


@jit
def aligned(n):
    """n float32, not set, on a 64-byte border: a vector across two cache lines costs two accesses."""
    buffer = np.empty(n + 16, np.float32)
    first = (-buffer.ctypes.data // 4) % 16
    return buffer[first:first + n]


@jit
def pack(x, starts, length, zeros, out, out_at, width):
    """out[k, i] = x[starts[i] + k] for k in range(length), i in range(width); a start below 0 is zeros.

    width is MR or NR. `x` and `out` are flat, `zeros` holds at least `length`.
    """
    whole = length // LANES * LANES
    for k in range(0, whole, LANES):
        if width == MR:
            transpose_rows(x, starts, k, zeros, out, out_at + k * MR)
        else:
            transpose_columns(x, starts, k, zeros, out, out_at + k * NR)
    for k in range(whole, length):
        for i in range(width):
            out[out_at + k * width + i] = x[starts[i] + k] if starts[i] >= 0 else np.float32(0)
