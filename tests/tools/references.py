"""Counts the arrays that compiled kernels make and free."""
import contextlib
import gc

from numba.core.registry import cpu_target
from numba.core.runtime import _nrt_python, rtsys


@contextlib.contextmanager
def every_array_is_freed():
    """Raises AssertionError if a kernel made an array within the block that was not freed, or freed one twice.

    The kernels must have been compiled or loaded before, and the results must be deleted within the block.
    """
    rtsys.initialize(cpu_target.target_context)
    _nrt_python.memsys_enable_stats()
    try:
        gc.collect(1)                     # a gradient and its function can refer to each other
        before = _kept()
        yield
        gc.collect(1)
        assert _kept() == before
    finally:
        _nrt_python.memsys_disable_stats()


def _kept():
    """The number of arrays that were made, less the number of arrays that were freed."""
    stats = rtsys.get_allocation_stats()
    return stats.alloc - stats.free
