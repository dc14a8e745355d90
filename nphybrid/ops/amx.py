"""Matrix products in AMX tiles: float32 out of a unit that multiplies bfloat16, many times as fast as float32.

A float32 has 24 bits, a bfloat16 the upper 8 of them and the same range. So a float32 is a sum of three:

    x = x0 + x1 + x2                  each the bfloat16 nearest to what the ones before it left; the sum is exact

Of the products of such sums those of the parts i + j < 3 are six; the other three are below 2**-24 of the whole:

    parts   products of parts                   rms error / std of a sum over K = 768
    3       00 01 10 11 02 20                   1.2e-7     dtype float32
    2       00 01 10                            4.4e-6     float32, precision="high"
    1       00                                  2.3e-3     bfloat16
            float32: register tile, NumPy       3.6e-7

One step multiplies 32 rows by 32 columns over 32 k, for every product of parts, in the eight tiles there are:

                            tile 6                tile 7           a tile: 16 rows of 64 bytes. Of b a row holds
                       b  k, k+1 of 16 columns   the next 16         k and k+1 of one column after the other
                         +---------------------+---------------+
    tile 4   a  16 rows  |  sums 0             |  sums 1       |   sums += a @ b in float32, whose denormals are 0
    tile 5      16 more  |  sums 2             |  sums 3       |
                         +---------------------+---------------+

At the ends. Denormals are 0 in this unit, so the table holds where x, w and their products are above 2**-102; below,
the smaller parts vanish, one after the other: at x = w = 2**-60 the error is 2.5e-3. A weight below 2**-110 cannot be
had back from its parts, and is kept beside them. The largest float32, beyond 3.396e38, have no nearest bfloat16: their
first part is the largest there is, and the three are still exact; but a product of parts may be infinite where that of
the numbers is not quite. An infinite or NaN element of x makes its row's results NaN (in one part: infinite or NaN).

The loops are those of `matmul`, but a block of rows is split into its parts, which stay in L1, before it meets the
panels. The processors at hand had no AMX: tests/ops/test_amx.py runs this machine code with its instructions trapped, so
the numbers are known, and the speed is not.
"""
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .emit import I64, Emit, pointers, wide
from .jit import jit
from .memory import aligned
from .windows import finish, starts_into

SIDE = 32                                 # rows and columns of a block, and k of a step
STEP = SIDE * SIDE                        # elements of one part in a step
DEPTH = 576                               # k of all parts together that are multiplied in turn: 36 KB of rows
# Products of parts; each shares a part with the one before it, which then is in its tile.
PRODUCTS = {1: ((0, 0),), 2: ((1, 0), (0, 0), (0, 1)), 3: ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0))}

# Palette 1: eight tiles of 16 rows of 64 bytes.
CONFIG = np.zeros(64, np.uint8)
CONFIG[0], CONFIG[16:32:2], CONFIG[48:56] = 1, 64, 16

I8, VOID = ir.IntType(8), ir.VoidType()
BYTES = I8.as_pointer()


# ---------------------------------------------------------------- into parts and back

@jit
def _upper(x):
    """The bfloat16 nearest to x, ties to even, as the bits of a float32.  The largest float32 are cut off instead."""
    bits = np.float32(x).view(np.uint32)
    if x != x:
        return np.uint32(0x7FC00000)
    near = np.uint32(bits + np.uint32(0x7FFF) + (np.uint32(bits >> np.uint32(16)) & np.uint32(1)))
    if np.uint32(near & np.uint32(0x7F800000)) == np.uint32(0x7F800000):
        near = bits
    return np.uint32(near & np.uint32(0xFFFF0000))


@jit
def split_into(out, at, apart, x, parts):
    """out[at + i * apart:][:x.size] = part i of x; what the parts leave of x stays in it."""
    wide()
    for i in range(parts):
        to = out[at + i * apart:at + i * apart + x.size]
        for j in range(x.size):
            part = _upper(x[j])
            to[j] = np.uint16(part >> np.uint32(16))
            x[j] -= np.uint32(part).view(np.float32)


def widened(halves):
    """bfloat16 -> float32, exactly."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


def held(parts):
    """How many parts of a weight are held to multiply so many: a float32 keeps its three, to be had back."""
    return 1 if parts == 1 else 3


def packed(kernel, parts):
    """A kernel (K, N) float32 as the tiles read it: panels of SIDE columns, in each step the parts, in each two tiles.

    -> uint16 (panels, steps, parts, 2, 16, 16, 2), and whether the parts give the kernel back bit for bit
    """
    K, N = kernel.shape
    steps, strips, exact = -(-K // SIDE), -(-N // SIDE), True
    size = strips * steps * parts * STEP
    panels = aligned(-(-size // 2)).view(np.uint16)[:size].reshape(strips, steps, parts, 2, 16, 16, 2)
    columns, split = np.zeros((steps * SIDE, SIDE), np.float32), np.empty((parts, steps, 16, 2, 2, 16), np.uint16)
    for p, panel in enumerate(panels):
        n = min(SIDE, N - p * SIDE)
        columns[:K, :n] = kernel[:, p * SIDE:p * SIDE + n]
        columns[:, n:], columns[K:] = 0, 0
        split_into(split.reshape(-1), 0, columns.size, columns.reshape(-1), parts)
        exact &= not columns.any()
        panel[:] = split.transpose(1, 0, 4, 2, 5, 3)      # step, part, half, pair, column, odd
    return panels, exact


def unpacked(panels, K, N):
    """The sum of the parts, smallest first: (K, N) in float32."""
    strips, steps, parts = panels.shape[:3]
    halves = panels.transpose(2, 1, 4, 6, 0, 3, 5).reshape(parts, steps * SIDE, strips * SIDE)[:, :K, :N]
    values = widened(halves)
    total = values[-1]
    for part in values[-2::-1]:
        total = total + part
    return np.copysign(total, values[0])                  # -0 + 0 would be 0


# ---------------------------------------------------------------- the block

class _Tiles(Emit):
    """The instructions, named as the hardware names them; which instruction uses which tile is fixed when compiled."""

    def do(self, name, *arguments):
        kind = ir.FunctionType(VOID, [argument.type for argument in arguments])
        self.build.call(cgutils.get_or_insert_function(self.build.module, kind, f"llvm.x86.{name}"), arguments)

    def move(self, name, tile, pointer, stride):
        """tileloadd64 or tilestored64: 16 rows, `stride` bytes apart."""
        self.do(name, I8(tile), self.build.bitcast(pointer, BYTES), I64(stride))


def emit_block(build, a, b, c, steps, products, held):
    """c (32, 32) = sum over steps, and over products (i, j), of part i of a @ part j of b.

    a and b are uint16; of each step a holds as many parts as there are i, b as many as `held`.
    """
    tiles, parts = _Tiles(build, 1), (1 + max(i for i, _ in products), held)
    for t in range(4):
        tiles.do("tilezero", I8(t))

    def step(s, _):
        firsts, there = [build.mul(s, I64(each * STEP)) for each in parts], [None, None]
        for product in products:
            for factor, (part, x, first) in enumerate(zip(product, (a, b), firsts)):
                if there[factor] != part:
                    for half in 0, 1:
                        at = tiles.at(x, build.add(first, I64(part * STEP + half * STEP // 2)))
                        tiles.move("tileloadd64", 4 + 2 * factor + half, at, 64)
            there = product
            for t in range(4):
                tiles.do("tdpbf16ps", I8(t), I8(4 + t // 2), I8(6 + t % 2))
        return []
    tiles.loop(I64(0), steps, 1, [], step)
    for t in range(4):
        row, column = divmod(t, 2)
        tiles.move("tilestored64", t, tiles.at(c, I64(16 * (row * SIDE + column))), 4 * SIDE)


def _block_of(products, held):
    @intrinsic
    def block(typing, a, b, b_at, c, steps):
        def codegen(context, build, sig, args):
            a, b, b_at, c, steps = pointers(context, build, sig, args)
            emit_block(build, a, build.gep(b, [b_at]), c, steps, products, held)
            return context.get_dummy_value()
        return types.void(a, b, types.int64, c, types.int64), codegen
    return block


_one, _three, _six = _block_of(PRODUCTS[1], 1), _block_of(PRODUCTS[2], 3), _block_of(PRODUCTS[3], 3)


@intrinsic
def _configure(typing, config):
    def codegen(context, build, sig, args):
        (config,) = pointers(context, build, sig, args)
        _Tiles(build, 16).do("ldtilecfg", build.bitcast(config, BYTES))
        return context.get_dummy_value()
    return types.void(config), codegen


@intrinsic
def _release(typing):
    def codegen(context, build, sig, args):
        _Tiles(build, 16).do("tilerelease")
        return context.get_dummy_value()
    return types.void(), codegen


# ---------------------------------------------------------------- the loops around it

def beside(K, parts, cache):
    """How many panels, as deep as they are multiplied at once, take half of a cache."""
    deep = min(DEPTH // parts, -(-K // SIDE) * SIDE)
    return max(1, cache // 2 // (2 * SIDE * deep * held(parts)))


@jit
def multiply_into(out, x, weights, parts, bias, residual, walk, N, rows, columns, abreast, code):
    """out[blocks of rows, panels of columns] = activation(x @ kernel + bias) + residual; all arrays flat.

    weights: `packed`, uint16. rows, columns: (first, end), in blocks of SIDE. abreast: how many panels share L2.
    """
    wide()
    config, M, depth = CONFIG.copy(), out.size // N, min(DEPTH // parts, (walk.K + SIDE - 1) // SIDE * SIDE)
    deepest, block = (walk.K + SIDE - 1) // SIDE, aligned(SIDE * SIDE).reshape(SIDE, SIDE)
    a, row = aligned(depth * SIDE * parts // 2).view(np.uint16), aligned(depth)
    starts, step = np.empty((depth // walk.run + 2) * SIDE, np.int64), (1 if parts == 1 else 3) * STEP
    _configure(config)                    # of this thread
    for p0 in range(columns[0], columns[1], abreast):
        for k in range(0, walk.K, depth):
            steps, last = (min(depth, walk.K - k) + SIDE - 1) // SIDE, k + depth >= walk.K
            for t in range(rows[0], rows[1]):
                _rows_into(a, row, starts, x, walk, t * SIDE, M, k, min(depth, walk.K - k), parts)
                for p in range(p0, min(p0 + abreast, columns[1])):
                    at = (p * deepest + k // SIDE) * step
                    if parts == 3:
                        _six(a, weights, at, block, steps)
                    elif parts == 2:
                        _three(a, weights, at, block, steps)
                    else:
                        _one(a, weights, at, block, steps)
                    finish(out, N, t * SIDE, p * SIDE, block, bias, residual, k == 0, last, False, code)
    _release()


@jit
def _rows_into(a, row, starts, x, walk, m, M, k, deep, parts):
    """Columns k to k + deep of SIDE left rows from m on, in parts, step by step."""
    tap, c = divmod(k, walk.run)
    taps = (c + deep + walk.run - 1) // walk.run
    starts_into(starts, SIDE, walk, m, M, tap, taps, 0)
    for i in range(SIDE):
        for t in range(taps):             # the runs, of which the first may begin, and the last end, in the middle
            first, end = max(t * walk.run - c, 0), min((t + 1) * walk.run - c, deep)
            start, to = starts[t * SIDE + i], row[first:end]
            if start < 0:
                to[:] = np.float32(0)
            else:
                start += first - (t * walk.run - c)
                to[:] = x[start:start + end - first]
        row[deep:] = np.float32(0)
        for s in range((deep + SIDE - 1) // SIDE):
            split_into(a, s * parts * STEP + i * SIDE, STEP, row[s * SIDE:(s + 1) * SIDE], parts)
