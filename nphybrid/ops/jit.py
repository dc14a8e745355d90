"""The one decorator."""
import numba
from numba import config

from .cache import CACHE


def jit(function):
    """Compile at the first call.

    cache: what one process compiled, the next one reads: the first calls in examples/time_kernels.py take
        0.3 s instead of 14 (Ice Lake, 2 virtual cores).
    nogil: several Python threads run kernels at once (threads.py).
    fastmath=False: the order of summation is a promise, and NaN has to pass.
    error_model="numpy": 1 / 0 is infinite, as in NumPy; a check in each division keeps LLVM from vectorizing.
    Numba reads its cache folder here and nowhere else, so the user's own setting is put back.
    No two kernels may have one name, so none is a closure: Numba names machine code by function, kinds of arguments
    and a number that each process counts for itself, and could mix up what two processes compiled.
    """
    before = config.CACHE_DIR
    try:
        config.CACHE_DIR = str(CACHE or before)
        return numba.njit(cache=CACHE is not None, nogil=True, fastmath=False, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before
