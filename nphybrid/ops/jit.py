"""The decorator of all kernels, which compiles a kernel at its first call or loads it from the cache."""
import hashlib
import inspect
import pickle
import sys

import numba
from numba import config
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from . import cache

USED = []                                 # the cache names of the kernels that this process loaded or compiled
COMPILED = []                             # the cache names of the kernels that this process compiled


def before_compiling():
    """Do nothing.  `load_overload` calls this function before a kernel is compiled.

    Other modules may replace this function by a function that prints a message, or that raises an exception.
    """


def jit(function):
    """Compile a function at its first call.

    A later process loads the compiled kernels from the cache. Then the first calls in examples/time_kernels.py take
    0.3 s instead of 14 s (Ice Lake, 2 virtual cores).

    `nogil`: Several Python threads can run kernels at the same time (threads.py).
    `fastmath=False`: LLVM keeps the order of every summation, and the results for NaN are correct.
    `error_model="numpy"`: 1 / 0 is infinite, as in NumPy. A check for 0 in each division would prevent vectorization.
    """
    dispatcher = numba.njit(nogil=True, fastmath=False, error_model="numpy")(function)
    if not config.DISABLE_JIT:
        # Numba's own cache (cache=True) loads damaged files, ignores changes in called functions, and cannot be read
        # if it cannot be written.
        dispatcher._cache = KernelCache(function)
    return dispatcher


class KernelCache:
    """The cache of one kernel.  Numba calls these methods as it calls those of numba.core.caching.FunctionCache."""

    cache_path = None

    def __init__(self, function):
        self.function = function

    def load_overload(self, signature, target_context):
        """Return the compiled kernel for a signature, or None.  If None is returned, Numba compiles the kernel."""
        target_context.refresh()
        name = self._name(signature)
        data = cache.load(name)
        if data is None:
            before_compiling()
            COMPILED.append(name)
        USED.append(name)
        return None if data is None else CompileResult._rebuild(target_context, *pickle.loads(data))

    def save_overload(self, signature, compiled):
        """Write a compiled kernel."""
        cache.store(self._name(signature), dumps(compiled._reduce()))

    def _name(self, signature):
        """Return MODULE.KERNEL-HASH.  HASH depends on the module's source and on the types of the arguments."""
        module = sys.modules[self.function.__module__]
        digest = hashlib.sha256(f"{signature}\n{inspect.getsource(module)}".encode()).hexdigest()
        return f"{module.__name__.rpartition('.')[2]}.{self.function.__qualname__}-{digest[:16]}"
