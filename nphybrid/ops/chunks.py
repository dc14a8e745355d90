"""How the work on an array is divided into tasks.

The order of the additions depends on the size of a task. So this size must depend only on the shape of the array, and
not on the number of threads.
"""
import functools

from .integers import ceil_div

CHUNK = 65536                             # a task reads or writes at most CHUNK elements: 256 KB, 1/5 of L2 on Ice Lake
EVEN = 4                                  # about a multiple of EVEN tasks, so that threads get equal shares
LEAST = 2048                              # an array of more than EVEN * LEAST elements is divided
LONG = 256                                # an inner loop covers LONG // C neighbouring cells, but at least one cell


@functools.lru_cache(4096)
def rows_per_task(rows, width, least=LEAST):
    """The number of rows of `width` elements in one task.

    A task has at most CHUNK elements, but at least one row. More than EVEN * least elements are divided.
    """
    tasks = ceil_div(rows * width, CHUNK)
    if rows * width > EVEN * least:
        tasks = ceil_div(tasks, EVEN) * EVEN
    return max(1, ceil_div(rows, max(tasks, 1)))


def lines_and_chunks(size, C, least=LEAST):
    """Divide a map of `size` elements and C channels.  -> the number of elements in a line, and in a chunk

    A line contains the channels of one or more neighbouring cells. A chunk contains the lines of one task. `least` is
    an argument of `rows_per_task`.
    """
    width = C * max(1, LONG // C)
    return width, width * rows_per_task(ceil_div(size, width), width, least)
