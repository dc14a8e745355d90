"""Lists the states of a network with their shapes, parameters, multiply-adds and sizes.

`summarize` runs the network with the operations of ShapeOperations.  These operations compute shapes and count
multiply-adds, but compute no values.  The rows always agree with the model, because the code of the model runs.
"""
import math
from typing import NamedTuple

import numpy as np

from ..config import Config, window_count
from ..model import bit, hybrid
from ..params import Shape, named_leaves, shapes, tree_map
from ..text import dimensions, grouped, table
from ..trace import Trace

# The fields of a Row that are added in a group of rows.
SUMMED = "parameters", "multiply_adds", "bytes"


class Row(NamedTuple):
    """One state of the forward pass for one image: its shape, its parameters, its multiply-adds, and its size."""
    name: str
    shape: tuple
    parameters: int
    multiply_adds: int
    bytes: int                            # the size of the state in float32


def summarize(config: Config, needed: int | None = None) -> list[Row]:
    """Returns one row for each state of a network, computed for one image.

    `needed`: the number of tokens that are needed after the last block, or None for all.

    Each parameter and each multiply-add is counted in one row only. A row counts only the operations between the state
    of the previous row and the state of this row. So the row of an encoder block counts only the last linear layer of
    the block.

    >>> from nphybrid import PRESETS
    >>> rows = summarize(PRESETS["R50+ViT-B/16"])
    >>> rows[1], sum(row.parameters for row in rows)
    (Row(name='stem.conv', shape=(1, 192, 192, 64), parameters=9408, multiply_adds=346816512, bytes=9437184), 98950952)
    """
    tree, ops = shapes(config), ShapeOperations()
    trace = CostTrace(ops)
    x, p = _blank((1, *config.image, config.channels)), ops.prepare(tree, config)
    if config.blocks:
        hybrid(x, p, config, ops, trace, needed=needed)
    else:
        bit(x, p, config, ops, trace)
    parameters = dict.fromkeys(trace, 0)
    for name, shape in named_leaves(tree).items():
        parameters[_state_of(name, trace)] += math.prod(shape)
    return [Row(name, x.shape, parameters[name], trace.costs[name], x.nbytes) for name, x in trace.items()]


def _state_of(name, states):
    """Returns the name of the state whose row counts the parameters in a learned array.

    The state has the name of the array, or the name of the smallest part of the network that contains the array.
    """
    name = name.replace("head.", "logits.")
    while name and name not in states:
        name = name.rpartition(".")[0]
    return name


def format_text(rows: list[Row], depth: int | None = None) -> str:
    """Formats the rows of `summarize` as a table with the sums of each group and of all rows.

    `depth` is the depth of the groups, as in `text.grouped`.
    """
    totals = [sum(getattr(row, field) for row in rows) for field in SUMMED]
    cells = [("state", "shape", "parameters", "of all", "multiply-adds", "of all", "states KB")]
    for line in grouped(rows, SUMMED, depth):
        numbers = [getattr(line.row, field) for field in SUMMED]
        cells.append((line.label, dimensions(line.row.shape[1:]), *_counts(numbers, totals)))
    return table([*cells, ("total", "", *_counts(totals, totals))], "<<>>>>>")


def _counts(numbers, totals):
    """The cells of the parameters, the multiply-adds and the size, with the shares of the first two."""
    (parameters, multiply_adds, size), (all_parameters, all_multiply_adds, _) = numbers, totals
    return (f"{parameters:,}", f"{parameters / (all_parameters or 1):.1%}", f"{multiply_adds:,}",
            f"{multiply_adds / (all_multiply_adds or 1):.1%}", f"{size / 1024:,.0f}")


class CostTrace(Trace):
    """A Trace that also records the multiply-adds of each state."""

    def __init__(self, ops):
        super().__init__()
        self.ops = ops
        self.costs = {}

    def wants(self, name):
        """Returns False for attention weights, which get no row of their own, and True for all other states."""
        return not name.endswith(".weights")

    def __setitem__(self, name, state):
        super().__setitem__(name, state)
        self.costs[name] = self.ops.multiply_adds
        self.ops.multiply_adds = 0


class ShapeOperations:
    """The operations of `ops` for arrays without values.  Each operation computes a shape and counts multiply-adds."""

    def __init__(self):
        self.multiply_adds = 0

    def prepare(self, params, config, dtype=np.float32):
        return tree_map(lambda name, shape: _blank(shape), params)

    def conv2d(self, x, kernel, stride, dilation, padding):
        KH, KW, C, O = kernel.shape
        rows, columns = (window_count(n, taps, stride, dilation, pad)
                         for n, taps, pad in zip(x.shape[1:3], (KH, KW), padding))
        self.multiply_adds += len(x) * rows * columns * KH * KW * C * O
        return _blank((len(x), rows, columns, O))

    def max_pool(self, x, padding, fill):
        rows, columns = (window_count(n, 3, 2, 1, pad) for n, pad in zip(x.shape[1:3], padding))
        return _blank((len(x), rows, columns, x.shape[3]))

    def mean_pool(self, x):
        return _blank((len(x), x.shape[3]))

    def group_norm(self, x, norm, groups, eps):
        return x

    def group_norm_activate(self, x, norm, groups, eps, activation):
        return x

    def group_norm_add_activate(self, x, norm, groups, eps, shortcut, activation):
        return x

    def layer_norm(self, x, norm, eps):
        return x

    def linear(self, x, p):
        self.multiply_adds += math.prod(x.shape[:-1]) * math.prod(p.kernel.shape)
        return _blank((*x.shape[:-1], p.kernel.shape[1]))

    def linear_activate(self, x, p, activation):
        return self.linear(x, p)

    def linear_add(self, x, p, residual):
        return self.linear(x, p)

    def attention(self, query, key, value, heads):
        B, Q, D = query.shape
        self.multiply_adds += 2 * B * Q * key.shape[1] * D
        return query

    def attention_with_weights(self, query, key, value, heads):
        B, Q, _ = query.shape
        return self.attention(query, key, value, heads), _blank((B, heads, Q, key.shape[1]))


def _blank(shape):
    """Returns an array of this shape that needs no memory for its elements."""
    return np.broadcast_to(np.float32(0), Shape(shape))
