"""Vector instructions in LLVM's intermediate representation, for loops that Numba does not vectorize.

The register tile, the reductions, the transposes and the rounding use vector instructions. Each of the four also has a
plain definition in ordinary loops. It is used if the instruction set is `plain` or if NUMBA_DISABLE_JIT=1 is set. The
rounding needs AVX512-BF16, and without it, the plain definition is used too.

A function with the decorator `intrinsic` is not compiled. When Numba compiles a call of it, Numba passes the types of
the arguments. The function returns a signature, and a function `codegen` that adds LLVM instructions to the code. In
`codegen`, `build` is llvmlite's IRBuilder, build.gep(pointer, [i]) is the address of pointer[i], and the result of
`get_dummy_value` stands for None.

The instructions between two jumps are a block. A value of LLVM gets its content only once. So a variable that changes
in a loop is a `phi` at the beginning of a block: its content depends on the block from which the program comes.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import jit
from .target import ISA, LANES, PREFETCH

F32 = ir.FloatType()
F64 = ir.DoubleType()
I32 = ir.IntType(32)
I64 = ir.IntType(64)
TO_L1, TO_L2 = 3, 2                       # the hints of LLVM's prefetch for L1 and for L2


class Emit:
    """Emits instructions, such as `load` and `fma`, for vectors of `lanes` float32 numbers."""

    def __init__(self, build, lanes):
        self.build = build
        self.lanes = lanes
        self.vector = ir.VectorType(F32, lanes)
        self.zero = ir.Constant(self.vector, [0.0] * lanes)
        self.undefined = ir.Constant(self.vector, ir.Undefined)

    def at(self, pointer, index):
        """The address of pointer[index]."""
        return self.build.gep(pointer, [index])

    def spot(self, pointer, stride, i, j):
        """The address of vector j in row i of an array whose rows begin `stride` elements apart."""
        return self.at(pointer, self.build.add(self.build.mul(stride, I64(i)), I64(j * self.lanes)))

    def load(self, pointer):
        """The vector at an address, which can be any multiple of 4 bytes."""
        return self.build.load(self.build.bitcast(pointer, self.vector.as_pointer()), align=4)

    def store(self, value, pointer):
        """Write a vector to an address, which can be any multiple of 4 bytes."""
        self.build.store(value, self.build.bitcast(pointer, self.vector.as_pointer()), align=4)

    def broadcast(self, pointer):
        """A vector with the number at an address in every lane."""
        one = self.build.insert_element(self.undefined, self.build.load(pointer), I32(0))
        return self.build.shuffle_vector(one, self.undefined, ir.Constant(ir.VectorType(I32, self.lanes),
                                                                          [0] * self.lanes))

    def prefetch(self, pointer, cache=TO_L1):
        """Ask for the cache line at an address, which will soon be used.  `cache` is TO_L1 or TO_L2."""
        line = self.build.bitcast(pointer, ir.IntType(8).as_pointer())
        read, data = I32(0), I32(1)       # the line will be read, and it holds data, not instructions
        self.call("llvm.prefetch.p0", ir.VoidType(), line, read, I32(cache), data)

    def fma(self, x, y, z):
        """x * y + z, rounded once."""
        return self.call(f"llvm.fma.v{self.lanes}f32", self.vector, x, y, z)

    def call(self, name, result, *arguments):
        """Call an LLVM function.  `result` is the type of its result."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.build.call(cgutils.get_or_insert_function(self.build.module, kind, name), arguments)

    def shuffle(self, x, y, lanes):
        """A vector of some lanes of x and y.  The lanes of y are counted after those of x."""
        return self.build.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, self.lanes), lanes))

    def row(self, x, starts, zeros, i):
        """The address of x[starts[i]], or of `zeros` if starts[i] is negative."""
        start = self.build.load(self.at(starts, i))
        return self.build.select(self.build.icmp_signed("<", start, I64(0)), zeros, self.at(x, start))

    def loop(self, start, stop, step, carried, body):
        """Emit `for i in range(start, stop, step): carried = body(i, carried)`.

        `carried` is a sequence of LLVM values. Returns its last values.
        """
        build = self.build
        before = build.block
        head = build.append_basic_block("loop")
        inside = build.append_basic_block("loop.body")
        done = build.append_basic_block("loop.done")
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


def address(context, build, kind, value):
    """Return the address of an array's first element.  A value that is not an array is returned unchanged."""
    return context.make_array(kind)(context, build, value).data if isinstance(kind, types.Array) else value


def pointers(context, build, signature, arguments):
    """Return the arguments of an intrinsic.  Each array is replaced by the address of its first element."""
    return [address(context, build, kind, value) for kind, value in zip(signature.args, arguments)]


def fields(context, build, kind, value):
    """Return the fields of a NamedTuple.  Each array is replaced by the address of its first element."""
    values = cgutils.unpack_tuple(build, value, len(kind))
    return [address(context, build, *field) for field in zip(kind.types, values)]


@jit
def _fma_plain(x, y, z):
    return x * y + z


@intrinsic
def _fma_fused(typing, x, y, z):
    def codegen(context, build, sig, args):
        return Emit(build, 1).call("llvm.fma.f32", F32, *args)
    return types.float32(types.float32, types.float32, types.float32), codegen


fma = _fma_plain if ISA == "plain" else _fma_fused


@jit
def _no_prefetch(x, at):
    pass


@intrinsic
def _prefetch(typing, x, at):
    def codegen(context, build, signature, arguments):
        x, at = pointers(context, build, signature, arguments)
        Emit(build, 1).prefetch(build.gep(x, [at]))
        return context.get_dummy_value()
    return types.void(x, types.int64), codegen


# prefetch(x, at) asks for the cache line of x[at], which will soon be used. Nothing waits for the answer.
prefetch = _prefetch if PREFETCH else _no_prefetch


@intrinsic
def _wide(typing):
    def codegen(context, build, sig, args):
        # llvmlite does not know the attribute "prefer-vector-width", and `attributes.add` would refuse it.
        # So set.add adds the attribute without a check, and llvmlite prints the attribute unchanged.
        set.add(build.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()
    return types.void(), codegen


@jit
def _not_wide():
    pass


# wide() is the first line of every function whose loops LLVM should vectorize with 512 bits.
# Without wide(), LLVM vectorizes loops with 256 bits on Ice Lake.
# exp over an array in L1 takes 0.79 ns per element with 256 bits, and 0.62 ns with 512 bits.
# The times of exp are medians of five runs of examples/time_kernels.py on Ice Lake with 2 virtual cores.
wide = _wide if LANES == 16 else _not_wide

