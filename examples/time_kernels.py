"""Measures the speed of the kernels with the array shapes of R50+ViT-B/16 at 384 pixels.

    python examples/time_kernels.py [--threads N] [--seconds S]

The result of each kernel is compared with the reference engine before the kernel is timed. A multiply-add counts as two
floating-point operations. Each kernel is called repeatedly for S seconds, and the median time of a call is printed. The
last line is the total time of all first calls. With NUMBA_CACHE_DIR=EMPTY_FOLDER, the first calls compile the kernels.
"""
import argparse
import time
from functools import partial
from itertools import chain

import numpy as np

from nphybrid import PRESETS
from nphybrid.machine import limits
from nphybrid.ops import attention, emit, gradient_kernels, gradients, jit, kernels, reference, target, threads
from nphybrid.ops.elementwise import exp
from nphybrid.params import Linear, Norm

CONFIG = PRESETS["R50+ViT-B/16"]
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape, np.float32)


def operations():
    """Yields (name, operation, arguments, multiply-adds or None). None is for operations without a matrix product."""
    T, D, F = 577, 768, 3072
    for C, O, operation, *more in ((D, D, "linear"), (D, D, "linear_add", normal(1, T, D)),
                              (D, F, "linear_activate", "gelu"), (F, D, "linear_add", normal(1, T, D))):
        p = Linear(normal(C, O) / np.float32(C ** 0.5), normal(O))
        yield f"{operation} {T} x {C} -> {O}", operation, (normal(1, T, C), p, *more), T * C * O
    yield f"attention {T} x {D}, 12 heads", "attention", (*normal(3, 1, T, D), 12), 2 * T * T * D
    for n, k, C, O, stride in ((384, 7, 3, 64, 2), (96, 1, 64, 64, 1), (96, 3, 64, 64, 1),
                               (96, 1, 64, 256, 1), (48, 3, 128, 128, 1), (48, 1, 512, 128, 1),
                               (24, 3, 256, 256, 1), (24, 1, 256, 1024, 1)):
        total = k - stride if k > 1 else 0
        around = ((total // 2, total - total // 2),) * 2
        yield (f"conv {n} x {n}, {k}x{k}/{stride}, {C} -> {O}", "conv2d",
               (normal(1, n, n, C), normal(k, k, C, O), stride, 1, around),
               (n // stride) ** 2 * k * k * C * O)
    x, norm = normal(1, 96, 96, 256), Norm(normal(256), normal(256))
    yield "group norm 96 x 96 x 256, relu", "group_norm_activate", (x, norm, 32, 1e-5, "relu"), None
    yield "group norm + shortcut 96 x 96 x 256, relu", "group_norm_add_activate", (x, norm, 32, 1e-5, x, "relu"), None
    yield f"layer norm {T} x {D}", "layer_norm", (normal(1, T, D), Norm(normal(D), normal(D)), 1e-12), None
    yield "max pool 192 x 192 x 64", "max_pool", (normal(1, 192, 192, 64), ((0, 1), (0, 1)), 0.0), None
    for name in ("gelu", "tanh", "silu"):
        yield f"{name} {T} x {F}", "activate", (normal(1, T, F), name), None


def gradient_products():
    """Yields (name, function, its result on the reference engine, multiply-adds) for gradients of convolutions.

    A linear layer is a convolution with one tap, and its rows are the cells.
    """
    for H, W, k, C, O in (1, 577, 1, 768, 3072), (1, 577, 1, 3072, 768), (96, 96, 3, 64, 64), (96, 96, 1, 64, 256):
        arrays = normal(1, H, W, O), None, normal(1, H, W, C), normal(k, k, C, O)
        around = ((k // 2, k // 2),) * 2
        fast, exact = (rules.conv2d(*arrays, 1, 1, around) for rules in (gradient_kernels, gradients))
        for part, run, truth in zip(("dx", "dW"), fast, exact):
            alone = partial(run, None, threads.run)       # record.py explains the arguments
            yield f"{part} of {H} x {W}, {k}x{k}, {C} -> {O}", alone, truth, H * W * k * k * C * O


@jit.jit
def exp_512(x, y):
    emit.wide()
    for i in range(x.size):
        y[i] = exp(x[i])


@jit.jit
def exp_256(x, y):
    for i in range(x.size):
        y[i] = exp(x[i])


def inner_loops():
    """Yields (name, function, elements or None, multiply-adds or None) for each inner loop.  A loop uses one thread."""
    x, y, scores = normal(4096), np.empty(4096, np.float32), normal(577)
    for name, (loop, work) in ("fma, in registers", limits.register_loop()), ("tile, from L1", limits.tile_loop()):
        yield f"  {name}", lambda loop=loop: loop(1000), None, 1000 * work
    yield "  exp, compiled with wide()", lambda: exp_512(x, y), x.size, None
    yield "  exp, compiled without wide()", lambda: exp_256(x, y), x.size, None
    yield "  softmax without the division", lambda: attention.softmax_in(scores, 0.125), 577, None


def prepared(ops, operation, arguments):
    """Prepare the learned arrays, and return a function that runs the operation."""
    ready = [ops.prepare(a, CONFIG) if isinstance(a, Linear) or (operation, i) == ("conv2d", 1) else a
             for i, a in enumerate(arguments)]
    return lambda: getattr(ops, operation)(*ready)


def forward_operations():
    """Yields (name, function, its result on the reference engine, multiply-adds or None) for each operation."""
    for name, operation, arguments, multiply_adds in operations():
        run, definition = (prepared(ops, operation, arguments) for ops in (kernels, reference))
        yield name, run, definition(), multiply_adds


def median(function, seconds):
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def row(name, seconds, elements, adds):
    rate = f"{2e-9 * adds / seconds:9.2f} GFLOP/s" if adds else f"{1e9 * seconds / elements:9.2f} ns per element"
    print(f"{name:42}{seconds * 1e3:9.3f} ms{rate}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="the number of threads (default 1)")
    parser.add_argument("--seconds", type=float, default=0.5, help="the seconds for each kernel (default 0.5)")
    options = parser.parse_args()
    first = 0.0
    print(f"{target.TARGET[1]}, {target.ISA}, tile {target.MR} x {target.NR}, threads: {options.threads}")
    with threads.using(options.threads), np.errstate(all="ignore"):
        for name, run, truth, multiply_adds in chain(forward_operations(), gradient_products()):
            start = time.perf_counter()
            y = run()
            first += time.perf_counter() - start
            assert np.abs(y - truth).max() <= 2e-5 * truth.std(), name
            row(name, median(run, options.seconds), y.size, multiply_adds)
        for name, function, elements, multiply_adds in inner_loops():
            row(name, median(function, options.seconds), elements, multiply_adds)
    print(f"first calls: {first:.1f} s" + (" (with the compilation of the kernels)" if jit.COMPILED else ""))


if __name__ == "__main__":
    main()
