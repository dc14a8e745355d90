"""Vectors, written in LLVM where Numba's loops do not become them: fused multiply-add, folds, transposes.

Each has a plain twin in ordinary loops, for other instruction sets and for NUMBA_DISABLE_JIT=1.
"""
import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import ISA, LANES, NR, jit

F32, F64, I32, I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
LARGE = 1 << 16
CHAINS = 4                                # independent sums in a fold, for an addition takes four cycles


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

    def fma(self, x, y, z):
        return self.build.call(self.fma_function, [x, y, z])

    def shuffle(self, x, y, lanes):
        return self.build.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, self.lanes), lanes))

    def row(self, x, starts, zeros, i):
        """Where row i begins: starts[i] says it, and below 0 it is `zeros`."""
        start = self.build.load(self.at(starts, i))
        return self.build.select(self.build.icmp_signed("<", start, I64(0)), zeros, self.at(x, start))

    def loop(self, start, stop, step, carried, body):
        """for i in range(start, stop, step): carried = body(i, carried).  Returns what is carried out."""
        build, before = self.build, self.build.block
        head, inside, done = (build.append_basic_block(name) for name in ("loop", "loop.body", "loop.done"))
        build.branch(head)
        build.position_at_end(head)
        i, *phis = (build.phi(value.type) for value in (start, *carried))
        build.cbranch(build.icmp_signed("<", i, stop), inside, done)
        build.position_at_end(inside)
        after = body(i, phis)
        for phi, first, later in zip((i, *phis), (start, *carried), (build.add(i, I64(step)), *after)):
            phi.add_incoming(first, before)
            phi.add_incoming(later, build.block)
        build.branch(head)
        build.position_at_end(done)
        return phis


def pointers(context, build, sig, args):
    """The first elements of all array arguments."""
    return [context.make_array(kind)(context, build, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(sig.args, args)]


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
wide = _wide if LANES == 16 else _narrow


def emit_fold(build, x, n, lanes, start, parts, combine):
    """Fold x[:n], n a multiple of lanes, into one value for each of parts(emit, vector), in an order of n alone."""
    emit = Emit(build, lanes)
    count = len(start)

    def folded(i, sums):
        sums = list(sums)
        for s in range(0, len(sums), count):
            vector = emit.load(emit.at(x, build.add(i, I64(s // count * lanes))))
            sums[s:s + count] = [combine(build, a, b) for a, b in zip(sums[s:s + count], parts(emit, vector))]
        return sums
    step = CHAINS * lanes
    whole = build.mul(build.sdiv(n, I64(step)), I64(step))
    sums = emit.loop(I64(0), whole, step, [ir.Constant(ir.VectorType(value.type, lanes), [value.constant] * lanes)
                                           for value in start] * CHAINS, folded)
    for s in range(count, len(sums)):
        sums[s % count] = combine(build, sums[s % count], sums[s])
    sums = emit.loop(whole, n, lanes, sums[:count], folded)
    for width in (1 << bit for bit in reversed(range(lanes.bit_length() - 1))):
        sums = [combine(build, a, emit.shuffle(a, a, [(l + width) % lanes for l in range(lanes)])) for a in sums]
    return [build.extract_element(a, I32(0)) for a in sums]


def _itself(emit, vector):
    return [vector]


def _with_square(emit, vector):
    vector = emit.build.fpext(vector, ir.VectorType(F64, emit.lanes))
    return [vector, emit.build.fmul(vector, vector)]


def _sum(build, a, b):
    return build.fadd(a, b)


def _larger(build, a, b):
    return build.select(build.fcmp_ordered(">", b, a), b, a)


def _folder(start, parts, combine, kind):
    @intrinsic
    def fold(typing, x, n):
        def codegen(context, build, sig, args):
            x, n = pointers(context, build, sig, args)
            folded = emit_fold(build, x, n, LANES, start, parts, combine)
            return folded[0] if len(folded) == 1 else context.make_tuple(build, sig.return_type, folded)
        return kind(x, types.int64), codegen
    return fold


def _plain_total(x, n):
    total = np.float32(0)
    for i in range(n):
        total += x[i]
    return total


def _plain_largest(x, n):
    largest = np.float32(-np.inf)
    for i in range(n):
        largest = x[i] if x[i] > largest else largest
    return largest


def _plain_moments(x, n):
    total, square = 0.0, 0.0
    for i in range(n):
        value = np.float64(x[i])
        total += value
        square += value * value
    return total, square


if ISA == "plain":
    _total, _largest, _moments = jit(_plain_total), jit(_plain_largest), jit(_plain_moments)
else:
    _total = _folder([ir.Constant(F32, 0.0)], _itself, _sum, types.float32)
    _largest = _folder([ir.Constant(F32, float("-inf"))], _itself, _larger, types.float32)
    _moments = _folder([ir.Constant(F64, 0.0)] * 2, _with_square, _sum, types.UniTuple(types.float64, 2))


@jit
def total(x):
    """The sum of x."""
    whole = x.size // LANES * LANES
    result = _total(x, whole)
    for i in range(whole, x.size):
        result += x[i]
    return result


@jit
def largest(x):
    """The largest of x.  A NaN may be lost."""
    whole = x.size // LANES * LANES
    result = _largest(x, whole)
    for i in range(whole, x.size):
        result = x[i] if x[i] > result else result
    return result


@jit
def moments(x):
    """The sums of x and of x^2, in float64."""
    whole = x.size // LANES * LANES
    first, second = _moments(x, whole)
    for i in range(whole, x.size):
        value = np.float64(x[i])
        first += value
        second += value * value
    return first, second


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


@jit
def aligned(n):
    """n float32, not set, on a 64-byte border: a vector across two cache lines costs two accesses."""
    buffer = np.empty(n + 16, np.float32)
    first = (-buffer.ctypes.data // 4) % 16
    return buffer[first:first + n]


def empty(*shape):
    """A new float32 array, not set; a large one on a 64-byte border, which a small one is not worth.

    What is freed is taken again: a steady call of R50+ViT-B/16 has no page faults (glibc; ru_minflt of getrusage).
    """
    n = math.prod(shape)
    return (aligned(n) if n > LARGE else np.empty(n, np.float32)).reshape(shape)
