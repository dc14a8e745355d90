"""The products of the register tile: a word is one float32, two bfloat16 or four int8.

A vector of the tile has LANES words of 32 bits, and the sum of each lane has 32 bits as well:

    word of x    word of b    sum                           with one instruction
    float32      float32      float32   + x0 b0             vfmadd on AVX2 and AVX-512, fmla on NEON
    2 bfloat16   2 bfloat16   float32   + x1 b1, + x0 b0    vdpbf16ps on AVX-512 with BF16
    4 uint8      4 int8       int32     + x0 b0 + ... x3 b3  vpdpbusd on AVX-512 or AVX2 with VNNI

In memory, number 0 is in the lowest bits of a word. The arrays of words have the dtype of the numbers in them: float32,
uint16 (bits of bfloat16), uint8 or int8. In the tile, every index counts words.

Without such an instruction, a word is taken apart: each of its PARTS is multiplied by an instruction of its own. For
bfloat16, a part is one number, which becomes a float32 and is multiplied like a float32. With vpmaddwd, a part is two
numbers of 16 bits. The integers of all versions are equal. The float32 sums of both versions of bfloat16 are computed
in the same order.
"""
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload

from .emit import F32, I32, Emit
from .target import PRODUCTS

I16 = ir.IntType(16)


class Float32(Emit):
    """One float32."""
    PARTS = 1
    INTEGERS = False                      # whether the sums are integers, which must be scaled

    def words(self, pointer):
        """A pointer to words, which loads and address computations take."""
        return self.build.bitcast(pointer, F32.as_pointer())

    def left(self, vector, part):
        """The factor of x that is multiplied for a part of the words."""
        return vector

    def right(self, vector, part):
        """The factor of b that is multiplied for a part of the words."""
        return vector

    def multiply_add(self, x, b, sums):
        """sums + x * b"""
        return self.fma(x, b, sums)

    def integers(self, vector):
        """The bits of a vector of words, as integers of 32 bits."""
        return self.build.bitcast(vector, ir.VectorType(I32, self.lanes))

    def call(self, name, result, *arguments):
        """Call an LLVM function with a result of the type of `result`."""
        kind = ir.FunctionType(result.type, [argument.type for argument in arguments])
        return self.build.call(cgutils.get_or_insert_function(self.build.module, kind, name), arguments)

    def constant(self, vector, value):
        """A vector of the type of `vector`, in which every element is `value`."""
        return ir.Constant(vector.type, [value] * vector.type.count)

    def shift(self, way, vector, count):
        """Shift every element by `count` bits.  The way is "shl" (left), "lshr" (right) or "ashr" (right, signed)."""
        return getattr(self.build, way)(vector, self.constant(vector, count))


class Bfloat16(Float32):
    """Two bfloat16.  Each of them becomes a float32.  The upper number is multiplied first, as vdpbf16ps does."""
    PARTS = 2

    def left(self, vector, part):
        bits = self.integers(vector)
        bits = self.shift("shl", bits, 16) if part else self.build.and_(bits, self.constant(bits, 0xFFFF0000))
        return self.build.bitcast(bits, self.vector)

    right = left


class Bfloat16Dot(Float32):
    """Two bfloat16, multiplied by vdpbf16ps."""

    def multiply_add(self, x, b, sums):
        return self.call("llvm.x86.avx512bf16.dpbf16ps.512", sums, sums, self.integers(x), self.integers(b))


class Int8(Float32):
    """Four uint8 in x and four int8 in b.  Each number becomes an integer of 32 bits."""
    PARTS = 4
    INTEGERS = True

    def __init__(self, build, lanes):
        super().__init__(build, lanes)
        self.zero = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)

    def left(self, vector, part):
        bits = self.integers(vector)
        return self.build.and_(self.shift("lshr", bits, 8 * part), self.constant(bits, 0xFF))

    def right(self, vector, part):
        return self.shift("ashr", self.shift("shl", self.integers(vector), 24 - 8 * part), 24)

    def multiply_add(self, x, b, sums):
        return self.build.add(sums, self.build.mul(x, b))


class Int8Pairs(Int8):
    """Four int8, multiplied by vpmaddwd: each part is two numbers of 16 bits, the even or the odd numbers of a word."""
    PARTS = 2
    NAMES = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}

    def left(self, vector, part):
        pairs = self.pairs(vector)
        return self.shift("lshr", pairs, 8) if part else self.build.and_(pairs, self.constant(pairs, 0xFF))

    def right(self, vector, part):
        pairs = self.pairs(vector)
        return self.shift("ashr", pairs if part else self.shift("shl", pairs, 8), 8)

    def pairs(self, vector):
        return self.build.bitcast(vector, ir.VectorType(I16, 2 * self.lanes))

    def multiply_add(self, x, b, sums):
        return self.build.add(sums, self.call(self.NAMES[self.lanes], sums, x, b))


class Int8Dot(Int8):
    """Four int8, multiplied by vpdpbusd."""
    PARTS = 1

    def left(self, vector, part):
        return self.integers(vector)

    right = left

    def multiply_add(self, x, b, sums):
        return self.call(f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}", sums, sums, x, b)


EMITTERS = {"": {"bfloat16": Bfloat16, "int8": Int8}, "vdpbf16ps": {"bfloat16": Bfloat16Dot},
            "vpdpbusd": {"int8": Int8Dot}, "vpmaddwd": {"int8": Int8Pairs}}


def emitter_of(kind):
    """The class that emits the products for a panel of a Numba dtype: float32, uint16 (bfloat16) or int8."""
    if kind == types.float32:
        return Float32
    width = {types.uint16: "bfloat16", types.int8: "int8"}[kind]
    return EMITTERS[PRODUCTS[width]][width]


# ---------------------------------------------------------------- the plain definitions

def number(x):
    """The number that a float32, a uint16 (bfloat16), a uint8 or an int8 stands for, as float32 or as int32."""
    if isinstance(x, np.uint16):
        return (np.uint32(x) << np.uint32(16)).view(np.float32)
    return x if isinstance(x, np.float32) else np.int32(x)


@overload(number)
def _number(x):
    if x == types.uint16:
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return (lambda x: x) if x == types.float32 else (lambda x: np.int32(x))


def sums_of(b, rows, columns):
    """Zeros (rows, columns) for the sums of products with the panel `b`, float32 or int32."""
    return np.zeros((rows, columns), np.int32 if b.itemsize == 1 else np.float32)


@overload(sums_of)
def _sums_of(b, rows, columns):
    if b.dtype == types.int8:
        return lambda b, rows, columns: np.zeros((rows, columns), np.int32)
    return lambda b, rows, columns: np.zeros((rows, columns), np.float32)
