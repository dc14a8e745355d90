"""Matrix products with AMX, a unit of the CPU that multiplies matrices of bfloat16 numbers or of int8 numbers.

AMX is designed to multiply bfloat16 numbers many times faster than the CPU multiplies float32 numbers, and int8 numbers
twice as fast as bfloat16 numbers. The sums of products of bfloat16 are float32. The sums of products of int8 are exact
int32 numbers, which become float32 at the end (`Scaling` of tile.py).

The matrix product a @ b is computed in steps. One step multiplies 32 rows of a by 32 columns of b, for 16 words of each
row and of each column. A word has 32 bits. It holds 2 bfloat16 or 4 int8, as in the register tile (widths.py). A step
uses the eight tiles (registers) of the unit:

                            tile 6                tile 7
                       b  16 words of 16 columns  the next 16
                         +---------------------+---------------+
    tile 4   a  16 rows  |  tile 0: sums       |  tile 1: sums |   sums += a @ b
    tile 5      16 more  |  tile 2: sums       |  tile 3: sums |
                         +---------------------+---------------+

A tile has 16 rows of 16 words. A row of a tile of b is a part of a row of a panel. The panels are those of the
register tile (packed.py), and zeros after the last row of a panel fill the last step. A panel holds two blocks of 32
columns. The loops around the tiles are similar to the loops of matmul.py. The words of 32 rows of a are copied before
the products are computed. So they are neighbours in memory, and stay in the cache while the panels of b are read.

float32 on AMX: A float32 has 24 significant bits. A bfloat16 has 8 significant bits and the range of a float32. So a
float32 x is the exact sum of three bfloat16 numbers, which are called the parts of x:

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

The weights are split when they are packed, and the rows of a are split when they are copied. In each step, the products
ij of one row of the table are computed one after another. The correct result is defined by `reference.linear`, applied
to the sums of the parts of x and of w (tests/ops/test_amx.py). For bfloat16 and int8, reference_narrow.py defines it.

Very small float32: AMX reads denormals as 0. So the errors in the table hold only if the magnitudes of x, w and x * w
are above 2**-102. Below 2**-102, the smaller parts or their products become 0. For example, if x and w are about
2**-60, the error is 2.5e-3. A weight below 2**-110 cannot always be restored from its parts. If a kernel has a weight
that cannot be restored, the whole kernel is stored beside the parts.

Very large float32: The bfloat16 nearest to a float32 above 3.396e38 is infinite. So the first part of such a float32 is
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
from .epilogue import add_earlier_in, place_of, write_block_into
from .integers import ceil_div
from .jit import jit, jit_allocating
from .memory import aligned
from .reference_narrow import widened
from .rounding import NAN
from .target import NR
from .windows import block_of, starts_into
from .words import row_scales_into

SIDE = 32                                 # a block has SIDE rows and SIDE columns
DEEP = 16                                 # the words of a row in a step
STEP = SIDE * DEEP                        # the words of one part of SIDE rows in a step
HELD = 3                                  # the parts that are stored for a float32 weight, so that it can be restored
DEPTH = 576                               # most parts of a float32 row in a pass; the parts of SIDE rows take 36 KB
# For each number of parts, PAIRS_OF_PARTS lists the products (part of a, part of b) in the order of computation.
# Each product shares a part with the product before it, so the tiles of this part are already loaded.
# Narrow words are multiplied like a single part.
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


def parts_of(kernel):
    """Split a float32 kernel.  -> uint16 (HELD, *kernel.shape), and True if the parts restore the kernel bit for bit"""
    rest = np.array(kernel, np.float32, order="C").reshape(-1)
    parts = np.empty((HELD, *kernel.shape), np.uint16)
    split_into(parts.reshape(-1), 0, rest.size, rest, HELD)
    return parts, not rest.any()


def restored(parts):
    """Add the parts of a kernel in float32, from the smallest to the largest."""
    values = widened(parts)
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

    def load(self, tile, pointer, stride):
        """Load 16 rows of 16 words into a tile.  In memory, the rows begin `stride` words apart."""
        self.do("tileloadd64", I8(tile), self.build.bitcast(pointer, BYTES), I64(4 * stride))

    def store(self, tile, pointer):
        """Store the 16 rows of a tile into a block of SIDE columns."""
        self.do("tilestored64", I8(tile), self.build.bitcast(pointer, BYTES), I64(4 * SIDE))


def emit_block(build, a, b, c, steps, apart, parts, instruction):
    """c (32, 32) = the sum of (part i of a) @ (part j of b) over all steps and all pairs (i, j) of PAIRS_OF_PARTS.

    `a` and `b` are words. `a` has the shape (steps, parts, 32, 16). Row k of part j of the block's columns begins at
    b[j * apart + k * NR]. `instruction` multiplies two tiles: "tdpbf16ps" (bfloat16) or "tdpbusd" (int8).
    """
    tiles = _Tiles(build, 1)
    for sums in range(4):
        tiles.do("tilezero", I8(sums))

    def step(s, _):
        a_step = build.mul(s, I64(parts * STEP))
        b_step = build.mul(s, I64(DEEP * NR))
        loaded_i = loaded_j = None
        for i, j in PAIRS_OF_PARTS[parts]:
            if i != loaded_i:
                a_part = tiles.at(a, build.add(a_step, I64(i * STEP)))
                tiles.load(4, a_part, DEEP)
                tiles.load(5, tiles.at(a_part, I64(STEP // 2)), DEEP)
                loaded_i = i
            if j != loaded_j:
                b_part = tiles.at(b, build.add(b_step, build.mul(apart, I64(j))))
                tiles.load(6, b_part, NR)
                tiles.load(7, tiles.at(b_part, I64(SIDE // 2)), NR)
                loaded_j = j
            for sums, left, right in ((0, 4, 6), (1, 4, 7), (2, 5, 6), (3, 5, 7)):
                tiles.do(instruction, I8(sums), I8(left), I8(right))
        return []
    tiles.loop(I64(0), steps, 1, [], step)
    tiles.store(0, tiles.at(c, I64(0)))
    tiles.store(1, tiles.at(c, I64(16)))
    tiles.store(2, tiles.at(c, I64(16 * SIDE)))
    tiles.store(3, tiles.at(c, I64(16 * SIDE + 16)))


def _multiply(parts, instruction):
    """Return a function block(a, b, b_at, c, steps, apart) that runs `emit_block`'s code.

    The first row of the block's columns begins at b[b_at].
    """
    @intrinsic
    def block(typing, a, b, b_at, c, steps, apart):
        def codegen(context, build, signature, arguments):
            a, b, b_at, c, steps, apart = pointers(context, build, signature, arguments)
            emit_block(build, a, build.gep(b, [b_at]), c, steps, apart, parts, instruction)
            return context.get_dummy_value()
        return types.void(a, b, types.int64, c, types.int64, types.int64), codegen
    return block


multiply_int8 = _multiply(1, "tdpbusd")
multiply_bfloat16 = _multiply(1, "tdpbf16ps")
multiply_2_parts = _multiply(2, "tdpbf16ps")
multiply_3_parts = _multiply(3, "tdpbf16ps")


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

class RowBlock(NamedTuple):
    """The words k to k + deep - 1 of SIDE rows of the left factor.

    `row` is the number of the first of the SIDE rows. The whole left factor has M rows.
    """
    row: int
    M: int
    k: int
    deep: int


@jit_allocating
def multiply_into(out, x, weights, parts, bias, residual, blocks, code, number):
    """out[block] = activation(x @ kernel + bias), or x @ kernel + bias + residual, for the block with the given number.

    `out` has the shape (M, N). `x` is a Words, and `weights` is a Weights. The other arrays are flat. A tile row of the
    block has SIDE rows, and a panel has SIDE columns. The loops are numbered as in matmul.py.
    """
    wide()
    config = CONFIG.copy()
    windows = blocks.windows
    block = block_of(blocks, number)
    M, N = out.shape
    K = windows.K
    flat = out.reshape(out.size)
    words = x.values.view(np.uint32)
    panels = weights.panels.view(np.uint32)
    step = DEEP if parts == 1 else 2 * DEEP               # the words of x in a step: a float32 becomes half a word
    apart = panels.size // HELD           # the words of one part of a float32 kernel; not used for narrow words
    panel_rows = ceil_div(K, step) * DEEP
    depth = ceil_div(min(blocks.chain, K), step) * step
    sums = aligned(SIDE * SIDE).reshape(SIDE, SIDE)
    a = aligned(depth // step * parts * STEP).view(np.uint32)
    one_row = aligned(depth).view(np.uint32)
    starts = np.empty((depth // windows.run + 2) * SIDE, np.int64)
    scales = np.empty(SIDE, np.float32)
    zero_points = np.empty(SIDE, np.int32)
    configure(config)
    # Loop 5 goes over groups of panels. The panels of a group share L2.
    for panels_start in range(block.first_panel, block.end_panel, blocks.panels_in_L2):
        panels_end = min(panels_start + blocks.panels_in_L2, block.end_panel)
        # Loop 4 goes over K, `depth` words at a time. These rows of each panel stay in L2.
        for k in range(0, K, depth):
            deep = min(depth, K - k)
            steps = ceil_div(deep, step)
            first = k == 0
            last = k + depth >= K
            # Loop 2 goes over tile rows. The words of the SIDE rows stay in the cache.
            for tile_row in range(block.first_tile, block.end_tile):
                row = tile_row * SIDE
                rows_into(a, one_row, starts, words, windows, RowBlock(row, M, k, deep), parts)
                if x.scales.size:
                    row_scales_into(scales, zero_points, x, starts)
                # Loop 1 goes over the panels of the group.
                for panel in range(panels_start, panels_end):
                    column = panel * SIDE
                    at = (column // NR * panel_rows + k // step * DEEP) * NR + column % NR
                    if x.scales.size:
                        multiply_int8(a, panels, at, sums, steps, apart)
                        _scale_in(sums, scales, zero_points, weights, column)
                    elif parts == 1:
                        multiply_bfloat16(a, panels, at, sums, steps, apart)
                    elif parts == 2:
                        multiply_2_parts(a, panels, at, sums, steps, apart)
                    else:
                        multiply_3_parts(a, panels, at, sums, steps, apart)
                    place = place_of(flat, N, row, column, sums)
                    add_earlier_in(sums, place, flat, bias, first)
                    write_block_into(flat, place, sums, residual, code, last)
    release()


@jit
def rows_into(a, one_row, starts, x, windows, rows, parts):
    """Write the words of a RowBlock into `a` (steps, parts, SIDE, DEEP), which is flat.

    With more than one part, the words of x are float32 numbers, which are split. `one_row` and `starts` are scratch
    memory. The words of `a`, `one_row` and x are uint32.
    """
    k = rows.k
    deep = rows.deep
    run = windows.run
    first_run, channel = divmod(k, run)
    runs = ceil_div(channel + deep, run)
    starts_into(starts, SIDE, windows, rows.row, rows.M, first_run, runs, 0)
    halves = a.view(np.uint16)
    numbers = one_row.view(np.float32)
    for i in range(SIDE):
        for r in range(runs):             # a RowBlock may begin and end inside a run
            run_at = r * run - channel
            first = max(run_at, 0)
            end = min(run_at + run, deep)
            start = starts[r * SIDE + i]
            to = one_row[first:end]
            if start < 0:
                to[:] = np.uint32(0)
            else:
                start += first - run_at
                for j in range(to.size):  # an assignment to a slice would make an array
                    to[j] = x[start + j]
        one_row[deep:] = np.uint32(0)     # the weights from `deep` on are 0, but 0 * NaN would be NaN
        if parts == 1:
            for s in range(ceil_div(deep, DEEP)):
                to = a[s * STEP + i * DEEP:s * STEP + (i + 1) * DEEP]
                for j in range(DEEP):
                    to[j] = one_row[s * DEEP + j]
        else:
            step = 2 * DEEP
            for s in range(ceil_div(deep, step)):
                at = s * parts * STEP + i * DEEP
                split_into(halves, 2 * at, 2 * STEP, numbers[s * step:(s + 1) * step], parts)


@jit
def _scale_in(sums, scales, zero_points, weights, column):
    """Turn the int32 sums of a block into float32, as `Scaling` of tile.py defines it.

    `column` is the number of the first column of the block.
    """
    wide()
    integers = sums.view(np.int32)
    for i in range(SIDE):
        for j in range(SIDE):
            offset = np.int32(zero_points[i] * weights.totals[column + j])
            exact = np.int32(integers[i, j] - offset)
            sums[i, j] = np.float32(exact) * np.float32(scales[i] * weights.channels[column + j])
