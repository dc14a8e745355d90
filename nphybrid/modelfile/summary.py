"""What a walk shows, as tables.

`summary` walks the one network with a third arithmetic, which knows shapes and counts multiply-adds but computes
nothing, so that its rows cannot disagree with the model. `states` says what a real walk computed, and how long it took.
"""
import math
from typing import NamedTuple

import numpy as np

from ..config import window_count
from ..model import bit, hybrid
from ..params import Shape, tree_map, named_leaves, shapes
from ..text import dimensions, table
from ..trace import Trace


class Row(NamedTuple):
    """One state of the walk: what made it, and at what cost for one image."""
    name: str
    shape: tuple
    parameters: int
    multiply_adds: int


def summary(config):
    """A row per state of a network, for one image.  Config -> list of Row

    >>> from nphybrid import PRESETS
    >>> rows = summary(PRESETS["R50+ViT-B/16"])
    >>> rows[1], sum(row.parameters for row in rows)
    (Row(name='stem.conv', shape=(1, 192, 192, 64), parameters=9408, multiply_adds=346816512), 98950952)
    """
    tree, ops = shapes(config), Counting()
    ledger = Ledger(ops)
    walk = hybrid if config.blocks else bit
    walk(_blank((1, *config.image, config.channels)), ops.prepare(tree, config), config, ops, ledger)
    owned = dict.fromkeys(ledger, 0)
    for name, shape in named_leaves(tree).items():
        owned[_owner(name, ledger)] += math.prod(shape)
    return [Row(name, ledger[name].shape, owned[name], ledger.costs[name]) for name in ledger]


def _owner(name, states):
    """The state that a learned array goes into: the one of its own path, or of the nearest path around it."""
    name = name.replace("head.", "logits.")
    while name and name not in states:
        name = name.rpartition(".")[0]
    return name


def summary_table(rows):
    """Rows of `summary` as text, with their sums."""
    cells = [(row.name, dimensions(row.shape[1:]), f"{row.parameters:,}", f"{row.multiply_adds:,}") for row in rows]
    total = ("total", "", f"{sum(row.parameters for row in rows):,}", f"{sum(row.multiply_adds for row in rows):,}")
    return table([("state", "shape", "parameters", "multiply-adds"), *cells, total], "<<>>")


class Ledger(Trace):
    """A Trace that notes what each state cost."""

    def __init__(self, ops):
        super().__init__()
        self.ops, self.costs = ops, {}

    def wants(self, name):
        """Everything but the attention weights, which cost the same unseen."""
        return not name.endswith(".weights")

    def __setitem__(self, name, state):
        super().__setitem__(name, state)
        self.costs[name], self.ops.multiply_adds = self.ops.multiply_adds, 0


class Counting:
    """The vocabulary of `ops` on arrays without content: shapes come out right, multiply-adds are added up."""

    def __init__(self):
        self.multiply_adds = 0

    def prepare(self, params, config, dtype=np.float32):
        return tree_map(lambda name, shape: _blank(shape), params)

    def conv2d(self, x, kernel, stride, dilation, padding):
        KH, KW, C, O = kernel.shape
        rows, columns = (window_count(n, k, stride, dilation, pad) for n, k, pad in zip(x.shape[1:3], (KH, KW), padding))
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
        B, T, D = query.shape
        self.multiply_adds += 2 * B * T * T * D
        return query

    def attention_with_weights(self, query, key, value, heads):
        B, T, _ = query.shape
        return self.attention(query, key, value, heads), _blank((B, heads, T, T))

    def activate(self, x, activation):
        return x


def _blank(shape):
    """An array of this shape that takes no memory."""
    return np.broadcast_to(np.float32(0), Shape(shape))
