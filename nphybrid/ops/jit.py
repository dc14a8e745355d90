"""The decorator of all kernels."""
import numba
from numba import config

from .cache import CACHE


def jit(function):
    """Compile at the first call.

    cache: a later process reads the compiled kernels from a folder: the first calls in examples/time_kernels.py take
        0.3 s instead of 14 (Ice Lake, 2 virtual cores).
    nogil: several Python threads run kernels at once (threads.py).
    fastmath=False: the order of summation is a promise, and NaN is passed on.
    error_model="numpy": 1 / 0 is infinite, as in NumPy; a check in each division would prevent vectorization.

    Numba reads the setting of its cache folder only here, so the user's setting is restored afterwards. Each kernel has
    its own name, so none is a closure. Numba names machine code by function, argument types and a counter of the
    process; under one name, the machine code of two processes could be mixed up in the cache.
    """
    before = config.CACHE_DIR
    try:
        config.CACHE_DIR = str(CACHE or before)
        return numba.njit(cache=CACHE is not None, nogil=True, fastmath=False, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before
