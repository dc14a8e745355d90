"""Matrix products with AMX, a unit of the CPU that multiplies bfloat16 numbers and returns float32 sums.

AMX is designed to multiply bfloat16 numbers many times faster than the CPU multiplies float32 numbers. A float32 has 24
significant bits. A bfloat16 has 8 significant bits and the range of a float32. So a float32 x is the exact sum of three
bfloat16 numbers, which are called the parts of x:

    x = x0 + x1 + x2            x0 = bfloat16(x)      x1 = bfloat16(x - x0)      x2 = bfloat16(x - x0 - x1)

Here bfloat16(x) is the bfloat16 nearest to x. The product of two numbers x and w is a sum of nine products xi * wj.
Only the six products xi * wj with i + j < 3 are computed. The three products with i + j >= 3 are smaller than 2**-24
times x * w. With fewer parts, fewer products are computed. The table shows the rms error of a sum of K = 768 products,
divided by the standard deviation of the sum:

    parts   products ij            error
    3       00 01 10 11 02 20      1.2e-7     dtype float32
    2       00 01 10               4.4e-6     dtype float32, precision="high"
    1       00                     2.3e-3     dtype bfloat16
            none                   3.6e-7     float32 without AMX (register tile, NumPy)

The matrix product a @ b is computed in steps. One step multiplies 32 rows of a by 32 columns of b, for 32 values of the
inner index k. In each step, the products ij of one row of the table are computed one after another. A step uses the
eight tiles (registers) of the unit:

                            tile 6                tile 7
                       b  k, k+1 of 16 columns   the next 16
                         +---------------------+---------------+
    tile 4   a  16 rows  |  tile 0: sums       |  tile 1: sums |   sums += a @ b
    tile 5      16 more  |  tile 2: sums       |  tile 3: sums |
                         +---------------------+---------------+

A tile has 16 rows of 64 bytes. A row of a tile of b holds the elements k and k + 1 of 16 columns, column by column. AMX
adds in float32 and reads denormals as 0.

The correct result is defined by `reference.linear`, applied to the sums of the parts of x and of w
(tests/ops/test_amx.py). The loops around the tiles are the loops of matmul.py, with one difference: the rows of a are
split into parts before the products are computed. The parts stay in L1 while the panels of b are read.

Very small numbers: AMX reads denormals as 0. So the errors in the table hold only if the magnitudes of x, w and x * w
are above 2**-102. Below 2**-102, the smaller parts or their products become 0. For example, if x and w are about
2**-60, the error is 2.5e-3. A weight below 2**-110 cannot always be restored from its parts. If a kernel has a weight
that cannot be restored, the whole kernel is stored beside the parts.

Very large numbers: The bfloat16 nearest to a float32 above 3.396e38 is infinite. So the first part of such a float32 is
the largest finite bfloat16. The sum of the three parts is still exact. A product xi * wj of two parts may be infinite
although x * w is finite. If a row of x has an infinite or NaN element, the whole row of the result is NaN.

No processor with AMX was available. tests/ops/test_amx.py runs the machine code of this module with emulated AMX
instructions. So the results are tested, but the speed is unknown.
"""
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .emit import I64, Emit, pointers, wide
from .epilogue import add_before_in, place_of, write_block_into
from .integers import ceil_div
from .jit import jit, jit_allocating
from .memory import aligned
from .reference_narrow import widened
from .rounding import NAN
from .windows import block_of, starts_into

SIDE = 32                                 # a block has SIDE rows and SIDE columns, and a step has SIDE values of k
STEP = SIDE * SIDE                        # number of elements of one part in a step
HALF = STEP // 2                          # number of elements of one part in one tile
DEPTH = 576                               # most elements in a row of a RowBlock, all parts together; 36 KB per RowBlock
# For each number of parts, PAIRS_OF_PARTS lists the products (part of a, part of b) in the order of computation.
# Each product shares a part with the product before it, so the tiles of this part are already loaded.
PAIRS_OF_PARTS = {
    1: ((0, 0),),
    2: ((1, 0), (0, 0), (0, 1)),
    3: ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0)),
}

# CONFIG is the argument of the instruction LDTILECFG (Intel's manual, volume 2).
# CONFIG describes eight tiles, each with 16 rows of 64 bytes.
# Byte 0 is the palette. Bytes 16 to 31 hold the number of bytes per row of each tile, as 16-bit numbers.
# Bytes 48 to 55 hold the number of rows of each tile.
CONFIG = np.zeros(64, np.uint8)
CONFIG[0] = 1
CONFIG[16:32:2] = 64
CONFIG[48:56] = 16

I8 = ir.IntType(8)
VOID = ir.VoidType()
BYTES = I8.as_pointer()


# ---------------------------------------------------------------- split numbers into parts, and restore the numbers

@jit
def _upper(x):
    """Round x to the nearest bfloat16, with ties to even.  -> the float32 bits of the result, as uint32

    If the bfloat16 nearest to a finite x is infinite, the result is x with the lower 16 bits set to 0. If x is NaN or
    infinite, the result is NaN.
    """
    bits = np.float32(x).view(np.uint32)
    if not abs(x) < np.float32(np.inf):
        return NAN
    near = np.uint32(bits + np.uint32(0x7FFF) + (np.uint32(bits >> np.uint32(16)) & np.uint32(1)))
    if np.uint32(near & np.uint32(0x7F800000)) == np.uint32(0x7F800000):
        near = bits
    return np.uint32(near & np.uint32(0xFFFF0000))


@jit
def split_into(out, at, apart, x, parts):
    """out[at + i * apart:][:x.size] = part i of x.  Each part is subtracted from x in place."""
    wide()
    for i in range(parts):
        to = out[at + i * apart:at + i * apart + x.size]
        for j in range(x.size):
            part = _upper(x[j])
            to[j] = np.uint16(part >> np.uint32(16))
            x[j] -= np.uint32(part).view(np.float32)


@jit
def held(parts):
    """The number of parts that are stored for a weight: three for float32, so that the weight can be restored."""
    return 1 if parts == 1 else 3


def packed(kernel, parts):
    """Pack a float32 kernel (K, N) into panels of SIDE columns.

    A panel consists of steps, a step consists of parts, and a part consists of two tiles.

    -> panels, uint16 (panels, steps, parts, 2, 16, 16, 2), and True if the parts restore the kernel bit for bit
    """
    K, N = kernel.shape
    steps = ceil_div(K, SIDE)
    strips = ceil_div(N, SIDE)
    size = strips * steps * parts * STEP
    panels = aligned(ceil_div(size, 2)).view(np.uint16)[:size].reshape(strips, steps, parts, 2, 16, 16, 2)
    columns = np.zeros((steps * SIDE, SIDE), np.float32)
    split = np.empty((parts, steps, 16, 2, 2, 16), np.uint16)
    exact = True
    for p, panel in enumerate(panels):
        width = min(SIDE, N - p * SIDE)
        columns[:K, :width] = kernel[:, p * SIDE:p * SIDE + width]
        columns[:, width:] = 0
        columns[K:] = 0
        split_into(split.reshape(-1), 0, columns.size, columns.reshape(-1), parts)
        exact &= not columns.any()
        panel[:] = split.transpose(1, 0, 4, 2, 5, 3)      # axes: step, part, tile, pair of k, column, one k of the pair
    return panels, exact


def unpacked(panels, K, N):
    """Restore the kernel (K, N) as the sum of its parts, added in float32 from the smallest part to the largest."""
    strips, steps, parts = panels.shape[:3]
    halves = panels.transpose(2, 1, 4, 6, 0, 3, 5).reshape(parts, steps * SIDE, strips * SIDE)[:, :K, :N]
    values = widened(halves)
    total = values[-1]
    for part in values[-2::-1]:
        total = total + part
    return np.copysign(total, values[0])                  # a weight of -0 keeps its sign, although -0 + 0 is 0


# ---------------------------------------------------------------- a block of 32 x 32 sums

class _Tiles(Emit):
    """Emits AMX instructions.  The tile numbers, 0 to 7, are constants in the machine code."""

    def do(self, name, *arguments):
        """Emit an instruction without a result."""
        self.call(f"llvm.x86.{name}", VOID, *arguments)

    def load(self, tile, pointer):
        """Load 16 rows of 64 bytes, which follow each other in memory, into a tile."""
        self.do("tileloadd64", I8(tile), self.build.bitcast(pointer, BYTES), I64(64))

    def store(self, tile, pointer):
        """Store the 16 rows of a tile into a block of SIDE float32 columns."""
        self.do("tilestored64", I8(tile), self.build.bitcast(pointer, BYTES), I64(4 * SIDE))

    def multiply_add(self, sums, a, b):
        """tile `sums` += tile `a` @ tile `b`"""
        self.do("tdpbf16ps", I8(sums), I8(a), I8(b))


def emit_block(build, a, b, c, steps, products, held):
    """c (32, 32) = the sum of (part i of a) @ (part j of b) over all steps and products.

    The argument `products` lists the pairs (i, j). `a` and `b` are uint16. A step of `a` holds only the parts that the
    products use. A step of `b` holds `held` parts.
    """
    tiles = _Tiles(build, 1)
    a_parts = 1 + max(i for i, _ in products)
    for sums in range(4):
        tiles.do("tilezero", I8(sums))

    def step(s, _):
        a_step = build.mul(s, I64(a_parts * STEP))
        b_step = build.mul(s, I64(held * STEP))
        loaded_i = loaded_j = None
        for i, j in products:
            if i != loaded_i:
                tiles.load(4, tiles.at(a, build.add(a_step, I64(i * STEP))))
                tiles.load(5, tiles.at(a, build.add(a_step, I64(i * STEP + HALF))))
                loaded_i = i
            if j != loaded_j:
                tiles.load(6, tiles.at(b, build.add(b_step, I64(j * STEP))))
                tiles.load(7, tiles.at(b, build.add(b_step, I64(j * STEP + HALF))))
                loaded_j = j
            tiles.multiply_add(0, 4, 6)
            tiles.multiply_add(1, 4, 7)
            tiles.multiply_add(2, 5, 6)
            tiles.multiply_add(3, 5, 7)
        return []
    tiles.loop(I64(0), steps, 1, [], step)
    tiles.store(0, tiles.at(c, I64(0)))
    tiles.store(1, tiles.at(c, I64(16)))
    tiles.store(2, tiles.at(c, I64(16 * SIDE)))
    tiles.store(3, tiles.at(c, I64(16 * SIDE + 16)))


def _multiply_parts(parts):
    """Return a function block(a, b, b_at, c, steps) that runs `emit_block`'s code.  The panel begins at b[b_at]."""
    @intrinsic
    def block(typing, a, b, b_at, c, steps):
        def codegen(context, build, signature, arguments):
            a, b, b_at, c, steps = pointers(context, build, signature, arguments)
            emit_block(build, a, build.gep(b, [b_at]), c, steps, PAIRS_OF_PARTS[parts], held(parts))
            return context.get_dummy_value()
        return types.void(a, b, types.int64, c, types.int64), codegen
    return block


multiply_1_part = _multiply_parts(1)
multiply_2_parts = _multiply_parts(2)
multiply_3_parts = _multiply_parts(3)


@intrinsic
def configure(typing, config):
    """Configure the AMX tiles.  Each thread must call `configure` before it uses a tile."""
    def codegen(context, build, signature, arguments):
        (config,) = pointers(context, build, signature, arguments)
        _Tiles(build, 16).do("ldtilecfg", build.bitcast(config, BYTES))
        return context.get_dummy_value()
    return types.void(config), codegen


@intrinsic
def release(typing):
    """Release the tiles of this thread, so that the operating system does not save their contents."""
    def codegen(context, build, signature, arguments):
        _Tiles(build, 16).do("tilerelease")
        return context.get_dummy_value()
    return types.void(), codegen


# ---------------------------------------------------------------- the loops around the block

@jit
def depth_of(K, parts):
    """The largest number of elements of a row in one pass of loop 4: whole steps, so a multiple of SIDE."""
    return min(DEPTH // parts, ceil_div(K, SIDE) * SIDE)


def panels_in(size, K, parts):
    """The number of panels of which the rows of one pass of loop 4 fit into `size` bytes of cache, but at least 1."""
    return max(1, size // (2 * SIDE * depth_of(K, parts) * held(parts)))


class RowBlock(NamedTuple):
    """The elements k to k + deep - 1 of SIDE rows of the left factor.

    `row` is the number of the first of the SIDE rows. The whole left factor has M rows.
    """
    row: int
    M: int
    k: int
    deep: int


@jit_allocating
def multiply_into(out, x, weights, parts, bias, residual, blocks, code, number):
    """out[block] = activation(x @ kernel + bias) + residual, for the block with the given number

    `out` has the shape (M, N); all other arrays are flat. `weights` holds the kernel in the panels of `packed`.
    A tile row of the block has SIDE rows. The loops are numbered as in matmul.py.
    """
    wide()
    config = CONFIG.copy()
    windows = blocks.windows
    block = block_of(blocks, number)
    M, N = out.shape
    K = windows.K
    flat = out.reshape(out.size)
    depth = depth_of(K, parts)
    all_steps = ceil_div(K, SIDE)
    sums = aligned(SIDE * SIDE).reshape(SIDE, SIDE)
    a = aligned(depth * SIDE * parts // 2).view(np.uint16)
    one_row = aligned(depth)
    starts = np.empty((depth // windows.run + 2) * SIDE, np.int64)
    weights_step = held(parts) * STEP
    configure(config)
    # Loop 5 goes over groups of panels. The panels of a group share L2.
    for panels_start in range(block.first_panel, block.end_panel, blocks.panels_in_L2):
        panels_end = min(panels_start + blocks.panels_in_L2, block.end_panel)
        # Loop 4 goes over K, `depth` elements at a time. The `depth` rows of each panel stay in L2.
        for k in range(0, K, depth):
            deep = min(depth, K - k)
            steps = ceil_div(deep, SIDE)
            first = k == 0
            last = k + depth >= K
            # Loop 2 goes over tile rows. The parts of the SIDE rows stay in L1.
            for tile_row in range(block.first_tile, block.end_tile):
                row = tile_row * SIDE
                rows_into(a, one_row, starts, x, windows, RowBlock(row, M, k, deep), parts)
                # Loop 1 goes over the panels of the group.
                for panel in range(panels_start, panels_end):
                    weights_at = (panel * all_steps + k // SIDE) * weights_step
                    if parts == 3:
                        multiply_3_parts(a, weights, weights_at, sums, steps)
                    elif parts == 2:
                        multiply_2_parts(a, weights, weights_at, sums, steps)
                    else:
                        multiply_1_part(a, weights, weights_at, sums, steps)
                    place = place_of(flat, N, row, panel * SIDE, sums)
                    add_before_in(sums, place, flat, bias, first)
                    write_block_into(flat, place, sums, residual, code, last)
    release()


@jit
def rows_into(a, one_row, starts, x, windows, rows, parts):
    """Write the parts of a RowBlock into `a`, step by step.  `one_row` and `starts` are scratch memory."""
    k = rows.k
    deep = rows.deep
    run = windows.run
    first_run, channel = divmod(k, run)
    runs = ceil_div(channel + deep, run)
    starts_into(starts, SIDE, windows, rows.row, rows.M, first_run, runs, 0)
    for i in range(SIDE):
        for r in range(runs):             # a RowBlock may begin and end inside a run
            run_at = r * run - channel
            first = max(run_at, 0)
            end = min(run_at + run, deep)
            start = starts[r * SIDE + i]
            to = one_row[first:end]
            if start < 0:
                to[:] = np.float32(0)
            else:
                start += first - run_at
                for j in range(to.size):  # an assignment to a slice would make an array
                    to[j] = x[start + j]
        one_row[deep:] = np.float32(0)    # the weights from `deep` on are 0, but 0 * NaN would be NaN
        for s in range(ceil_div(deep, SIDE)):
            split_into(a, s * parts * STEP + i * SIDE, STEP, one_row[s * SIDE:(s + 1) * SIDE], parts)
