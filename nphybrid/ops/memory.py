"""New float32 arrays on a 64-byte border."""
import math

import numpy as np

from .jit import jit

LARGE = 1 << 16


@jit
def aligned(n):
    """n float32, not set, on a 64-byte border: a vector across two cache lines costs two accesses."""
    buffer = np.empty(n + 16, np.float32)
    first = (-buffer.ctypes.data // 4) % 16
    return buffer[first:first + n]


def empty(*shape):
    """A new float32 array, not set; a large one on a 64-byte border, which a small one is not worth.

    What is freed is taken again: a steady call of R50+ViT-B/16 has no page faults (glibc; ru_minflt of getrusage).
    """
    n = math.prod(shape)
    return (aligned(n) if n > LARGE else np.empty(n, np.float32)).reshape(shape)
