"""The products of the register tile, for numbers of 32, 16 and 8 bits.

The tile multiplies words, which have 32 bits in a register. A word of x is repeated in all lanes of a vector, and each
lane of the other vector is a word of b. The products of a lane are added to the sum of this lane, which is a float32 or
an int32:

    width       word of x       word of b       instruction     processors
    float32     float32         float32         vfmadd, fmla    AVX2, AVX-512; NEON
    bfloat16    2 bfloat16      2 bfloat16      vdpbf16ps       AVX-512 with BF16
                2 bfloat16      2 bfloat16      bfdot           NEON with BF16
                float32         float32         vfmadd, fmla    all others
    int8        4 uint8         4 int8          vpdpbusd        AVX-512 or AVX2 with VNNI
                4 uint8         4 int8          usdot           NEON with I8MM
                4 int8          4 int8          sdot            NEON with DotProd; OFFSET is subtracted from x
                2 int16         2 int16         vpmaddwd        AVX2, AVX-512
                int32           int32           mla and others  all others

In memory, number 0 of a word is in the lowest bits. The words of x have 32 bits. The panels of bfloat16 hold 16 bits
for each number on all processors, and those of int8 hold 8 bits. So the weights of a width take the same memory
everywhere, and a word of a panel can have fewer than 32 bits: then a vector of b is widened when it is loaded. In the
tile, every index counts words.

The results of all versions of int8 are equal. In all versions of bfloat16, both factors are rounded to bfloat16. The
instructions add the same products in different orders, and bfdot rounds a sum of two products differently.
"""
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from .emit import F32, I32, Emit
from .target import INSTRUCTIONS

I8 = ir.IntType(8)
I16 = ir.IntType(16)


class _BF16(ir.Type):
    """LLVM's type of a bfloat16, which llvmlite does not have."""

    def _to_string(self):
        return "bfloat"


BF16 = _BF16()


class Float32(Emit):
    """The product of two float32.  The other products differ in the panel, in how it is loaded, and in the sums."""
    NUMBERS = 1                           # the numbers in a word
    INTEGERS = False                      # whether the sums are integers, which must be scaled
    SIGNED = False                        # whether the integers of x have a sign
    PANEL = F32                           # a type with as many bits as a word in a panel
    UNROLL = 4                            # number of values of k in one pass of the inner loop

    def words(self, pointer):
        """A pointer to the words of x."""
        return self.build.bitcast(pointer, F32.as_pointer())

    def panel_words(self, pointer):
        """A pointer to the words of a panel."""
        return self.build.bitcast(pointer, self.PANEL.as_pointer())

    def load_panel(self, pointer):
        """A vector of words of a panel."""
        return self.load(pointer)

    def multiply_add(self, x, b, sums):
        """sums + x * b"""
        return self.fma(x, b, sums)

    def load_narrow(self, pointer, kind, count):
        """A vector of `count` elements of a type."""
        return self.build.load(self.build.bitcast(pointer, ir.VectorType(kind, count).as_pointer()), align=1)

    def integers(self, vector, kind=I32):
        """The bits of a vector of words, as integers."""
        return self.build.bitcast(vector, ir.VectorType(kind, 32 // kind.width * self.lanes))


class Bfloat16(Float32):
    """The product of two bfloat16 that are widened to float32."""
    PANEL = I16

    def load_panel(self, pointer):
        bits = self.build.zext(self.load_narrow(pointer, I16, self.lanes), ir.VectorType(I32, self.lanes))
        bits = self.build.shl(bits, ir.Constant(bits.type, [16] * self.lanes))
        return self.build.bitcast(bits, self.vector)


class Bfloat16Dot(Float32):
    """Two products of bfloat16, computed by vdpbf16ps."""
    NUMBERS = 2

    def multiply_add(self, x, b, sums):
        return self.call("llvm.x86.avx512bf16.dpbf16ps.512", sums.type, sums, self.integers(x), self.integers(b))


class Bfloat16DotArm(Bfloat16Dot):
    """Two products of bfloat16, computed by bfdot."""

    def multiply_add(self, x, b, sums):
        kind = ir.VectorType(BF16, 2 * self.lanes)
        x, b = (self.build.bitcast(vector, kind) for vector in (x, b))
        return self.call("llvm.aarch64.neon.bfdot.v4f32.v8bf16", sums.type, sums, x, b)


class Int8(Float32):
    """The product of two integers that are widened to 32 bits."""
    INTEGERS = True
    PANEL = I8

    def __init__(self, build, lanes):
        super().__init__(build, lanes)
        self.zero = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)

    def load_panel(self, pointer):
        return self.build.sext(self.load_narrow(pointer, I8, self.lanes), self.zero.type)

    def multiply_add(self, x, b, sums):
        return self.build.add(sums, self.build.mul(self.integers(x), b))


class Int8Pairs(Int8):
    """Two products of integers that are widened to 16 bits, computed by vpmaddwd."""
    NUMBERS = 2
    PANEL = I16
    UNROLL = 1                            # with 4, LLVM adds products of two k first, and too few registers are left
    NAMES = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}

    def load_panel(self, pointer):
        return self.build.sext(self.load_narrow(pointer, I8, 2 * self.lanes), ir.VectorType(I16, 2 * self.lanes))

    def multiply_add(self, x, b, sums):
        return self.build.add(sums, self.call(self.NAMES[self.lanes], sums.type, self.integers(x, I16), b))


class Int8Dot(Int8):
    """Four products of integers, computed by vpdpbusd."""
    NUMBERS = 4
    PANEL = I32

    def load_panel(self, pointer):
        return self.load_narrow(pointer, I32, self.lanes)

    def multiply_add(self, x, b, sums):
        return self.call(f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}", sums.type, sums, self.integers(x), b)


class Int8DotArm(Int8Dot):
    """Four products of integers, computed by usdot."""
    INSTRUCTION = "usdot"

    def multiply_add(self, x, b, sums):
        return self.call(f"llvm.aarch64.neon.{self.INSTRUCTION}.v4i32.v16i8", sums.type, sums, self.integers(x, I8),
                         self.integers(b, I8))


class Int8SignedDotArm(Int8DotArm):
    """Four products of integers with a sign, computed by sdot."""
    INSTRUCTION = "sdot"
    SIGNED = True


# The class for each width, chosen by the instruction that target.py names.
EMITTERS = {
    "float32": Float32,
    "bfloat16": {"vdpbf16ps": Bfloat16Dot, "bfdot": Bfloat16DotArm, "": Bfloat16}[INSTRUCTIONS["bfloat16"]],
    "int8": {"vpdpbusd": Int8Dot, "vpmaddwd": Int8Pairs, "usdot": Int8DotArm, "sdot": Int8SignedDotArm,
             "": Int8}[INSTRUCTIONS["int8"]],
}
NUMBERS = {width: emitter.NUMBERS for width, emitter in EMITTERS.items()}
OFFSET = 128 if EMITTERS["int8"].SIGNED else 0             # subtracted from x, so that 0 to 255 becomes -128 to 127


def emitter_of(kind):
    """The class that emits the products of a panel with the Numba dtype float32, uint16 (bfloat16) or int8."""
    return EMITTERS[{types.float32: "float32", types.uint16: "bfloat16", types.int8: "int8"}[kind]]


# ---------------------------------------------------------------- the plain definitions
# Each function has two forms. Python runs the first with NUMBA_DISABLE_JIT=1. When Numba compiles a call of it, Numba
# calls the second form with the types of the arguments, and compiles the function that it returns. An `if` would not
# do, because both of its branches would need results of one type.

def number(x):
    """The number that an element of a panel stands for.  float32, uint16 (bfloat16) or int8 -> float32 or int32"""
    if isinstance(x, np.uint16):
        return (np.uint32(x) << np.uint32(16)).view(np.float32)
    return x if isinstance(x, np.float32) else np.int32(x)


@overload(number)
def _number(x):
    if x == types.uint16:
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return (lambda x: x) if x == types.float32 else (lambda x: np.int32(x))


def zero_sums(b, rows, columns):
    """Zeros (rows, columns) for the sums of products with the panel `b`, float32 or int32."""
    return np.zeros((rows, columns), np.int32 if b.itemsize == 1 else np.float32)


@overload(zero_sums)
def _zero_sums(b, rows, columns):
    if b.dtype == types.int8:
        return lambda b, rows, columns: np.zeros((rows, columns), np.int32)
    return lambda b, rows, columns: np.zeros((rows, columns), np.float32)
