"""Measure the limit, the highest speed that this machine can reach.  Other speeds are given as a share of the limit.

The limit is measured with fused multiply-adds whose sums never leave the registers. The register tile with all data in
L1 is measured too. A matrix product would reach the speed of the register tile if memory access took no time. The
kernels for the instruction set `plain` contain no explicit vector instructions. So the limit of `plain` is the speed of
its register tile.
"""
import time

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..ops import threads
from ..ops.emit import I64, Emit, pointers
from ..ops.jit import jit
from ..ops.memory import aligned
from ..ops.target import ISA, LANES, MR, NR, NV
from ..ops.tile import Panel, Rows, Target, tile

SECONDS = 0.2                             # length of one measurement in seconds
SLICE = 0.002                             # seconds between two readings of the clock
DEPTH = 128                               # rows of the panel; with NR = 64 the panel has 32 KB and fits into L1


@intrinsic
def _registers(typing, x, n):
    """Add factor * factor to each of MR * NV vectors of sums, n times.

    The first LANES numbers of x are the vector `factor`. After the additions, the sums are stored in x behind this
    vector. The sums start from different numbers. If the numbers were equal, LLVM could compute one sum instead of all.
    """
    def codegen(context, build, sig, args):
        x, n = pointers(context, build, sig, args)
        emit = Emit(build, LANES)
        factor = emit.load(x)
        first = [ir.Constant(emit.vector, [float(i)] * LANES) for i in range(MR * NV)]
        sums = emit.loop(I64(0), n, 1, first, lambda i, sums: [emit.fma(factor, factor, value) for value in sums])
        for i, value in enumerate(sums, 1):
            emit.store(value, emit.at(x, I64(i * LANES)))
        return context.get_dummy_value()
    return types.void(x, types.int64), codegen


@jit
def _multiply_add(x, n):
    _registers(x, n)


@jit
def _tiles(x, starts, b, c, times):
    rows = Rows(x, starts, x, 1, DEPTH)
    for _ in range(times):
        tile(rows, Panel(b, 0), Target(c, 0, NR, MR, NR))


def tile_loop():
    """Return (function, work).  function(n) computes n tiles with data from L1.  A tile takes `work` multiply-adds."""
    x = aligned(DEPTH * MR)
    b = aligned(DEPTH * NR)
    c = aligned(MR * NR)
    x[:] = 0.5
    b[:] = 0.5
    starts = np.arange(MR) * DEPTH
    return lambda n: _tiles(x, starts, b, c, n), DEPTH * MR * NR


def register_loop():
    """Return (function, work).  function(n) adds n products to each sum of a tile, in registers.

    `work` is the number of multiply-adds for n = 1. For `plain`, the result is that of `tile_loop`.
    """
    if ISA == "plain":
        return tile_loop()
    x = np.full((MR * NV + 1) * LANES, 1e-3, np.float32)
    return lambda n: _multiply_add(x, n), MR * NR


def speed(loop, n=1, seconds=SECONDS):
    """The GFLOP/s of n threads together.  `n` has the limit MOST_THREADS.  A multiply-add counts as two operations.

    `loop` is `register_loop` or `tile_loop`. Each thread calls its own function for about `seconds` seconds.

    >>> from nphybrid.machine import limits
    >>> limits.speed(limits.tile_loop, seconds=0.01) > 0
    True
    """
    n = min(n, threads.MOST_THREADS)
    loops = [loop() for _ in range(n)]
    done = [0] * n                        # multiply-adds of each thread
    slices = _slices(loops[0][0])

    def task(i):
        function, work = loops[i]
        while time.perf_counter() < start + seconds:
            function(slices)
            done[i] += slices * work
    with threads.using(n):
        start = time.perf_counter()
        threads.run(n, task, float("inf"))
        return 2e-9 * sum(done) / (time.perf_counter() - start)


def _slices(function):
    """The smallest power of two n for which function(n) takes at least SLICE seconds."""
    function(1)                           # this call compiles the function
    n = 1
    start = time.perf_counter()
    function(1)
    while time.perf_counter() - start < SLICE:
        n *= 2
        start = time.perf_counter()
        function(n)
    return n
