"""Matrix products in AMX tiles: float32 results from a unit that multiplies bfloat16, many times as fast as float32.

A float32 has 24 significant bits. A bfloat16 has the upper 8 of them and the same range. So a float32 is the sum of
three:

    x = x0 + x1 + x2            x0 is the bfloat16 nearest to x, x1 to x - x0, x2 to x - x0 - x1; the sum is exact

A product of two such sums has nine products of parts. The six with i + j < 3 are computed; the other three are smaller
than 2**-24 of the whole:

    parts   products of parts                   rms error / std of a sum over K = 768
    3       00 01 10 11 02 20                   1.2e-7     dtype float32
    2       00 01 10                            4.4e-6     float32, precision="high"
    1       00                                  2.3e-3     bfloat16
            float32: register tile, NumPy       3.6e-7

One step multiplies 32 rows by 32 columns over 32 k, for each product of parts, in the eight tiles of the unit:

                            tile 6                tile 7           a tile: 16 rows of 64 bytes. A row of b holds
                       b  k, k+1 of 16 columns   the next 16         k and k+1 of one column after the other
                         +---------------------+---------------+
    tile 4   a  16 rows  |  tile 0: sums       |  tile 1: sums |   sums += a @ b in float32, with denormals as 0
    tile 5      16 more  |  tile 2: sums       |  tile 3: sums |
                         +---------------------+---------------+

The plain definition is reference.linear on the sums of the parts (tests/ops/test_amx.py). The loops are those of
matmul.py. The difference: the rows are split into parts first, and the parts stay in L1 while the panels are read.

Very small and very large numbers. This unit reads denormals as 0, so the table holds while x, w and their products are
above 2**-102. Below, the smaller parts vanish one after the other: at x = w = 2**-60 the error is 2.5e-3. A weight
below 2**-110 cannot be restored from its parts, so the kernel is kept beside them. A float32 beyond 3.396e38 has no
nearest bfloat16: its first part is the largest finite one, and the sum of the three parts is still exact. But a product
of parts may be infinite where the product of the numbers is just below infinity. An infinite or NaN element of x makes
its row of results NaN (with one part: infinite or NaN).

No processor with AMX was available: tests/ops/test_amx.py runs this machine code with its instructions emulated. So the
results are tested, and the speed is unknown.
"""
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .emit import I64, Emit, pointers, wide
from .epilogue import add_before_in, place_of, write_block_into
from .integers import ceil_div
from .jit import jit
from .memory import aligned
from .windows import starts_into

SIDE = 32                                 # rows and columns of a block, and k of a step
STEP = SIDE * SIDE                        # elements of one part in a step
HALF = STEP // 2                          # of these, in one tile
DEPTH = 576                               # k times parts of a block of rows: 36 KB
# Products (part of a, part of b). Each shares a part with the one before it, which is in its tiles already.
PRODUCTS = {
    1: ((0, 0),),
    2: ((1, 0), (0, 0), (0, 1)),
    3: ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0)),
}

# Palette 1: eight tiles of 16 rows of 64 bytes. LDTILECFG in Intel's manual, volume 2: byte 0 is the palette,
# bytes 16 to 31 are the bytes per row of each tile (16 bits), bytes 48 to 55 the rows.
CONFIG = np.zeros(64, np.uint8)
CONFIG[0] = 1
CONFIG[16:32:2] = 64
CONFIG[48:56] = 16

I8 = ir.IntType(8)
VOID = ir.VoidType()
BYTES = I8.as_pointer()


# ---------------------------------------------------------------- into parts and back

@jit
def _upper(x):
    """The bfloat16 nearest to x, ties to even, as the bits of a float32.  Beyond the largest bfloat16, x is cut off."""
    bits = np.float32(x).view(np.uint32)
    if x != x:
        return np.uint32(0x7FC00000)
    near = np.uint32(bits + np.uint32(0x7FFF) + (np.uint32(bits >> np.uint32(16)) & np.uint32(1)))
    if np.uint32(near & np.uint32(0x7F800000)) == np.uint32(0x7F800000):
        near = bits
    return np.uint32(near & np.uint32(0xFFFF0000))


@jit
def split_into(out, at, apart, x, parts):
    """out[at + i * apart:][:x.size] = part i of x.  x keeps the rest: x minus its parts."""
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
    """How many parts of a weight are stored: of a float32 always three, so that it can be restored."""
    return 1 if parts == 1 else 3


def packed(kernel, parts):
    """A kernel (K, N) float32 as panels of SIDE columns. A panel has steps, a step has parts, a part has two tiles.

    -> uint16 (panels, steps, parts, 2, 16, 16, 2), and whether the parts restore the kernel bit for bit
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
        panel[:] = split.transpose(1, 0, 4, 2, 5, 3)      # step, part, tile, pair of k, column, odd k
    return panels, exact


def unpacked(panels, K, N):
    """The kernel (K, N): the sum of the parts in float32, the smallest first."""
    strips, steps, parts = panels.shape[:3]
    halves = panels.transpose(2, 1, 4, 6, 0, 3, 5).reshape(parts, steps * SIDE, strips * SIDE)[:, :K, :N]
    values = widened(halves)
    total = values[-1]
    for part in values[-2::-1]:
        total = total + part
    return np.copysign(total, values[0])                  # -0 + 0 would be 0


# ---------------------------------------------------------------- a block of 32 x 32 sums

class _Tiles(Emit):
    """The instructions of the unit.  The numbers of the tiles are constants in the machine code."""

    def do(self, name, *arguments):
        kind = ir.FunctionType(VOID, [argument.type for argument in arguments])
        self.build.call(cgutils.get_or_insert_function(self.build.module, kind, f"llvm.x86.{name}"), arguments)

    def load(self, tile, pointer):
        """16 rows of 64 bytes, one after the other."""
        self.do("tileloadd64", I8(tile), self.build.bitcast(pointer, BYTES), I64(64))

    def store(self, tile, pointer):
        """16 rows of 64 bytes into a block of SIDE float32 columns."""
        self.do("tilestored64", I8(tile), self.build.bitcast(pointer, BYTES), I64(4 * SIDE))

    def multiply_add(self, sums, a, b):
        """tile `sums` += tile `a` @ tile `b`"""
        self.do("tdpbf16ps", I8(sums), I8(a), I8(b))


def emit_block(build, a, b, c, steps, products, held):
    """c (32, 32) = sum over steps, and over products (i, j), of part i of a @ part j of b.

    a and b are uint16. In each step a has as many parts as the products use, b has `held` parts.
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


def _block_of(parts):
    """block(a, b, b_at, c, steps) as `emit_block` writes it; b begins at b[b_at]."""
    @intrinsic
    def block(typing, a, b, b_at, c, steps):
        def codegen(context, build, signature, arguments):
            a, b, b_at, c, steps = pointers(context, build, signature, arguments)
            emit_block(build, a, build.gep(b, [b_at]), c, steps, PRODUCTS[parts], held(parts))
            return context.get_dummy_value()
        return types.void(a, b, types.int64, c, types.int64), codegen
    return block


block_of_1_part = _block_of(1)
block_of_2_parts = _block_of(2)
block_of_3_parts = _block_of(3)


@intrinsic
def configure(typing, config):
    """Each thread configures its tiles before their first use."""
    def codegen(context, build, signature, arguments):
        (config,) = pointers(context, build, signature, arguments)
        _Tiles(build, 16).do("ldtilecfg", build.bitcast(config, BYTES))
        return context.get_dummy_value()
    return types.void(config), codegen


@intrinsic
def release(typing):
    """The tiles are no longer in use: the operating system need not save them."""
    def codegen(context, build, signature, arguments):
        _Tiles(build, 16).do("tilerelease")
        return context.get_dummy_value()
    return types.void(), codegen


# ---------------------------------------------------------------- the loops around it

def panels_in(size, K, parts):
    """How many panels, as deep as one pass over K, fit into `size` bytes of cache; at least 1."""
    depth = min(DEPTH // parts, ceil_div(K, SIDE) * SIDE)
    return max(1, size // (2 * SIDE * depth * held(parts)))


class RowBlock(NamedTuple):
    """SIDE rows of the left factor from `row` on, of M, and of these the elements k to k + deep."""
    row: int
    M: int
    k: int
    deep: int


@jit
def multiply_into(out, x, weights, parts, bias, residual, block, code):
    """out[block] = activation(x @ kernel + bias) + residual; all arrays but `out` (M, N) are flat.

    weights: the panels of `packed`, uint16. A tile row of the block has SIDE rows. The loops have the numbers of
    matmul.py.
    """
    wide()
    config = CONFIG.copy()
    windows = block.windows
    M, N = out.shape
    K = windows.K
    flat = out.reshape(out.size)
    depth = min(DEPTH // parts, ceil_div(K, SIDE) * SIDE)
    all_steps = ceil_div(K, SIDE)
    sums = aligned(SIDE * SIDE).reshape(SIDE, SIDE)
    a = aligned(depth * SIDE * parts // 2).view(np.uint16)
    one_row = aligned(depth)
    starts = np.empty((depth // windows.run + 2) * SIDE, np.int64)
    weights_step = (1 if parts == 1 else 3) * STEP
    configure(config)
    # Loop 5: panels that share L2.
    for panels_start in range(block.first_panel, block.end_panel, block.panels_in_L2):
        panels_end = min(panels_start + block.panels_in_L2, block.end_panel)
        # Loop 4: `depth` of K. These steps of the panels stay in L2.
        for k in range(0, K, depth):
            deep = min(depth, K - k)
            steps = ceil_div(deep, SIDE)
            first = k == 0
            last = k + depth >= K
            # Loop 2: tile rows. The parts of SIDE rows stay in L1.
            for tile_row in range(block.first_tile, block.end_tile):
                row = tile_row * SIDE
                rows_into(a, one_row, starts, x, windows, RowBlock(row, M, k, deep), parts)
                # Loop 1: panels.
                for panel in range(panels_start, panels_end):
                    weights_at = (panel * all_steps + k // SIDE) * weights_step
                    if parts == 3:
                        block_of_3_parts(a, weights, weights_at, sums, steps)
                    elif parts == 2:
                        block_of_2_parts(a, weights, weights_at, sums, steps)
                    else:
                        block_of_1_part(a, weights, weights_at, sums, steps)
                    place = place_of(flat, N, row, panel * SIDE, sums)
                    add_before_in(sums, place, flat, bias, first)
                    write_block_into(flat, place, sums, residual, code, last)
    release()


@jit
def rows_into(a, one_row, starts, x, windows, rows, parts):
    """a = the parts of a RowBlock, step by step; `one_row` and `starts` are scratch memory."""
    k = rows.k
    deep = rows.deep
    run = windows.run
    first_tap, channel = divmod(k, run)
    taps = ceil_div(channel + deep, run)
    starts_into(starts, SIDE, windows, rows.row, rows.M, first_tap, taps, 0)
    for i in range(SIDE):
        for tap in range(taps):           # the first run may begin, and the last may end, inside a tap
            tap_at = tap * run - channel
            first = max(tap_at, 0)
            end = min(tap_at + run, deep)
            start = starts[tap * SIDE + i]
            to = one_row[first:end]
            if start < 0:
                to[:] = np.float32(0)
            else:
                start += first - tap_at
                to[:] = x[start:start + end - first]
        one_row[deep:] = np.float32(0)    # the weights there are 0, but 0 * NaN would be NaN
        for s in range(ceil_div(deep, SIDE)):
            split_into(a, s * parts * STEP + i * SIDE, STEP, one_row[s * SIDE:(s + 1) * SIDE], parts)
