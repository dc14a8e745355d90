"""New float32 arrays that start on a 64-byte boundary."""
import math

import numpy as np

from .jit import jit

LARGE = 1 << 16


@jit
def aligned(n):
    """n float32, not set, on a 64-byte boundary: a vector across two cache lines takes two accesses."""
    buffer = np.empty(n + 16, np.float32)
    first = (-buffer.ctypes.data // 4) % 16
    return buffer[first:first + n]


def empty(*shape):
    """A new float32 array, not set.  Arrays of more than LARGE elements start on a 64-byte boundary.

    Freed memory is used again: a later call of R50+ViT-B/16 has no page faults (glibc; ru_minflt of getrusage).
    """
    n = math.prod(shape)
    return (aligned(n) if n > LARGE else np.empty(n, np.float32)).reshape(shape)
