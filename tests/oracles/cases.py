"""Seeded arguments for every operation.

`CASES[operation]` is a list of `Case`. `call(ops, operation, case.arguments(), dtype)` runs the operation in either
implementation, `reference` or `kernels`.
"""
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nphybrid.config import Config
from nphybrid.ops import reference
from nphybrid.params import Linear, Norm

CONFIG = Config()
# With NUMBA_DISABLE_JIT=1 the kernels are plain Python loops: small cases only.
SLOW = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


class Kernel(NamedTuple):
    """The kernel of a convolution before `prepare`."""
    array: np.ndarray


class Case(NamedTuple):
    name: str
    arguments: Callable


def call(ops, operation, arguments, dtype=np.float32):
    """The operation's result: learned arrays are prepared first, other arrays converted to dtype."""
    return getattr(ops, operation)(*(ready(ops, a, dtype) for a in arguments))


def ready(ops, argument, dtype):
    """One argument as the implementation `ops` takes it."""
    if isinstance(argument, Kernel):
        return ops.prepare(argument.array, CONFIG, dtype)
    if isinstance(argument, (Linear, Norm)):
        return ops.prepare(argument, CONFIG, dtype)
    return argument.astype(dtype) if isinstance(argument, np.ndarray) else argument


def normal(seed, *shape, mean=0.0, std=1.0):
    """Normally distributed float32 numbers; the same seed gives the same numbers."""
    return (mean + std * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def norm(seed, C):
    return Norm(normal(seed, C, mean=1, std=0.3), normal(seed + 1, C, std=0.3))


def dense(seed, C, O, bias=True):
    return Linear(normal(seed, C, O, std=C ** -0.5), normal(seed + 1, O, std=0.3) if bias else None)


def _conv2d():
    kinds = [                             # B, H, W, C, O, taps, stride, dilation, padding
        ("1x1", 1, 5, 7, 24, 33, 1, 1, 1, ((0, 0), (0, 0))),
        ("1x1/2", 3, 9, 8, 16, 40, 1, 2, 1, ((0, 0), (0, 0))),
        ("3x3", 3, 6, 5, 8, 16, 3, 1, 1, ((1, 1), (1, 1))),
        ("3x3 asymmetric", 1, 7, 9, 5, 3, 3, 2, 1, ((0, 1), (1, 0))),
        ("3x3 dilated", 2, 9, 7, 12, 7, 3, 1, 2, ((2, 2), (2, 2))),
        ("3x3/2 dilated, odd", 1, 8, 9, 5, 6, 3, 2, 2, ((2, 1), (1, 3))),
        ("3x3 no padding", 1, 5, 5, 4, 9, 3, 1, 1, ((0, 0), (0, 0))),
        ("7x7/2 stem", 1, 13, 11, 3, 8, 7, 2, 1, ((2, 3), (3, 2))),
        ("one channel", 1, 4, 4, 1, 1, 3, 1, 1, ((1, 1), (1, 1))),
        ("K in two blocks", 1, 3, 4, 40, 5, 3, 1, 1, ((1, 1), (1, 1))),
    ]
    if not SLOW:
        kinds += [("wide 3x3", 2, 24, 23, 64, 96, 3, 1, 1, ((1, 1), (1, 1))),
                  ("wide 3x3 dilated", 1, 12, 12, 128, 64, 3, 1, 2, ((2, 2), (2, 2))),
                  ("wide 1x1/2", 2, 24, 23, 256, 512, 1, 2, 1, ((0, 0), (0, 0))),
                  ("stem", 1, 96, 94, 3, 64, 7, 2, 1, ((2, 3), (2, 3)))]
    for i, (name, B, H, W, C, O, taps, *rest) in enumerate(kinds):
        yield Case(name, lambda i=i, x=(B, H, W, C), k=(taps, taps, C, O), rest=tuple(rest): (
            normal(i, *x), Kernel(normal(100 + i, *k, mean=0.3)), *rest))


def _linear(*more):
    sizes = [(3, 5, 37, 45), (1, 1, 20, 10), (2, 13, 1, 7), (3, 4, 9, 1), (1, 15, 300, 33), (5, 3, 16, 32)]
    sizes += [] if SLOW else [(1, 577, 768, 768), (3, 50, 192, 768), (2, 65, 768, 100), (1, 1, 768, 1000)]
    for i, (B, T, C, O) in enumerate(sizes):
        for bias in (True, False) if i < 2 else (True,):
            name = f"{B}x{T}x{C}->{O}{'' if bias else ' no bias'}"
            yield Case(name, lambda i=i, B=B, T=T, C=C, O=O, bias=bias: (
                normal(i, B, T, C), dense(20 + i, C, O, bias),
                *(m(B, T, O) if callable(m) else m for m in more)))


def _attention():
    sizes = [(1, 1, 16, 2), (3, 2, 24, 1), (1, 50, 24, 3), (2, 9, 128, 2)]
    sizes += [] if SLOW else [(3, 65, 48, 2), (1, 577, 192, 3), (2, 197, 24, 1)]
    for i, (B, T, D, A) in enumerate(sizes):
        yield Case(f"B{B} T{T} D{D} A{A}", lambda i=i, B=B, T=T, D=D, A=A: (
            normal(i, B, T, D, std=1.5), normal(30 + i, B, T, D, std=1.5), normal(60 + i, B, T, D), A))


def _group_norm(*more):
    sizes = [(1, 5, 7, 8, 4), (3, 3, 4, 6, 6), (2, 4, 4, 64, 32), (1, 1, 1, 8, 2)]
    sizes += [] if SLOW else [(1, 48, 47, 128, 32), (2, 24, 24, 256, 32)]
    for i, (B, H, W, C, G) in enumerate(sizes):
        for mean in (0, 1e4) if i in (2, 5) else (0,):
            name = f"B{B} {H}x{W}x{C} G{G} mean {mean:g}"
            yield Case(name, lambda i=i, B=B, H=H, W=W, C=C, G=G, mean=mean: (
                normal(i, B, H, W, C, mean=mean), norm(20 + i, C), G, 1e-5,
                *(m(B, H, W, C) if callable(m) else m for m in more)))


def _layer_norm():
    for i, (B, T, D, mean) in enumerate(((1, 1, 8, 0), (3, 5, 37, 0), (2, 4, 768, 0), (1, 3, 192, 1e4))):
        yield Case(f"B{B} T{T} D{D} mean {mean:g}", lambda i=i, B=B, T=T, D=D, mean=mean: (
            normal(i, B, T, D, mean=mean), norm(20 + i, D), 1e-12))


def _max_pool():
    kinds = ((2, 9, 8, 5, ((0, 1), (0, 1))), (1, 8, 9, 16, ((1, 1), (1, 1))), (3, 5, 7, 4, ((0, 0), (0, 0))))
    for i, (B, H, W, C, padding) in enumerate(kinds):
        for fill in (0.0, -np.inf):
            yield Case(f"{H}x{W}x{C} fill {fill}", lambda i=i, s=(B, H, W, C), p=padding, f=fill: (
                normal(i, *s, mean=-1), p, f))


def _mean_pool():
    for i, (shape, mean) in enumerate((((1, 1, 1, 3), 0), ((3, 7, 5, 20), 0), ((2, 12, 12, 33), 1e4))):
        yield Case(f"{shape} mean {mean:g}", lambda i=i, s=shape, mean=mean: (normal(i, *s, mean=mean),))


def _activate():
    for i, name in enumerate(reference.ACTIVATIONS):
        yield Case(name, lambda i=i, name=name: (normal(i, 3, 7, 11, std=3), name))


def _tensor(seed):
    return lambda *shape: normal(seed, *shape)


CASES = {
    "conv2d": list(_conv2d()),
    "max_pool": list(_max_pool()),
    "mean_pool": list(_mean_pool()),
    "group_norm": list(_group_norm()),
    "group_norm_activate": list(_group_norm("relu")),
    "group_norm_add_activate": list(_group_norm(_tensor(7), "relu")),
    "layer_norm": list(_layer_norm()),
    "linear": list(_linear()),
    "linear_activate": list(_linear("gelu")),
    "linear_add": list(_linear(_tensor(8))),
    "attention": list(_attention()),
    "attention_with_weights": list(_attention()),
    "activate": list(_activate()),
}
ALL = [(operation, case) for operation, cases in CASES.items() for case in cases]
NAMES = [f"{operation}: {case.name}" for operation, case in ALL]
