"""New float32 arrays that start on a 64-byte boundary."""
import math

import numpy as np

from .jit import jit

LARGE = 1 << 16


@jit
def aligned(n):
    """Return n uninitialized float32 numbers that start on a 64-byte boundary.

    A vector that lies in two cache lines takes two memory accesses.
    """
    buffer = np.empty(n + 16, np.float32)
    first = (-buffer.ctypes.data // 4) % 16
    return buffer[first:first + n]


def empty(*shape):
    """Return an uninitialized float32 array.  An array of more than LARGE elements starts on a 64-byte boundary.

    The allocator reuses memory that was freed. So with glibc, only the first calls of R50+ViT-B/16 have page faults
    (ru_minflt of getrusage).
    """
    n = math.prod(shape)
    return (aligned(n) if n > LARGE else np.empty(n, np.float32)).reshape(shape)
