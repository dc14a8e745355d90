"""What happens to a block of sums in cache before it is written: bias, activation, residual.

`matmul` uses this where a tile crosses the edge of the result or an activation follows; `amx` uses it for every block.
In whole arrays: result = activation(sums + bias) + residual. K is summed in several passes, and between
them `result` holds the sums so far.
"""
from typing import NamedTuple

from .elementwise import activate_in
from .emit import wide
from .jit import jit


class Place(NamedTuple):
    """Where a block lies in a flat result of N columns, and how much of it lies inside."""
    N: int
    column: int                           # of the block's first element
    at: int                               # index of the block's first element
    height: int                           # rows and columns of the block that lie inside the result
    width: int


@jit
def place_of(out, N, row, column, block):
    """The Place of a block (rows, columns) whose first element is out[row, column]."""
    height = min(block.shape[0], out.size // N - row)
    width = min(block.shape[1], N - column)
    return Place(N, column, row * N + column, height, width)


@jit
def add_before_in(block, place, out, bias, first):
    """block += bias in the first pass over K, and what `out` holds of the earlier passes in the others.

    `bias` may be empty.
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
    """out[place] = block; in the last pass over K it is activation(block) + residual, which may be empty."""
    wide()
    if last and code:
        activate_in(block.reshape(block.size), code)
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
