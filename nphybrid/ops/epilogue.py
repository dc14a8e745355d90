"""Apply bias, activation and residual to a block of sums, while the block is in the cache.

`matmul` uses this module if a tile crosses the edge of the result. `amx` uses this module for every block. The result
is activation(sums + bias) or sums + bias + residual. A sum of K terms is added up in several passes. Between two
passes, the result holds the bias and the sums of all earlier passes.
"""
from typing import NamedTuple

from .elementwise import activate_in
from .emit import wide
from .jit import jit


class Place(NamedTuple):
    """The position of a block in a flat result of N columns, and the size of the block's part inside the result."""
    N: int
    column: int                           # column of the block's first element
    at: int                               # index of the block's first element in the flat result
    height: int                           # number of rows of the block inside the result
    width: int                            # number of columns of the block inside the result


@jit
def place_of(out, N, row, column, block):
    """The Place of a block (rows, columns) whose first element is out[row, column]."""
    height = min(block.shape[0], out.size // N - row)
    width = min(block.shape[1], N - column)
    return Place(N, column, row * N + column, height, width)


@jit
def add_earlier_in(block, place, out, bias, first):
    """In the first pass, add the bias to the block.  In later passes, add `out`.

    After the first pass, `out` holds the bias and the sums of the earlier passes. `bias` may be empty.
    """
    wide()
    for i in range(place.height):
        y = block[i]
        if not first:
            start = place.at + i * place.N
            earlier = out[start:start + place.width]
            for j in range(place.width):
                y[j] += earlier[j]
        elif bias.size:
            for j in range(place.width):
                y[j] += bias[place.column + j]


@jit
def write_block_into(out, place, block, residual, code, last):
    """In the last pass, out[place] = activation(block) + residual.  In earlier passes, out[place] = block.

    `residual` may be empty.
    """
    wide()
    if last and code:
        activate_in(block.reshape(block.size), code)      # also the part outside the result, which is not written
    for i in range(place.height):
        y = block[i]
        start = place.at + i * place.N
        to = out[start:start + place.width]
        if last and residual.size:
            added = residual[start:start + place.width]
            for j in range(place.width):
                to[j] = y[j] + added[j]
        else:
            for j in range(place.width):
                to[j] = y[j]
