"""What the tables of all dialects are made of: rows from our names to theirs, and the change of layout."""
from typing import Callable, NamedTuple

import numpy as np

from ..tensorfile import FormatError, Stored

MOST_BLOCKS = 1024                        # of an encoder, or units of a backbone; published: 51


def derived(array, name, shape, read):
    """What becomes of a Stored array, read no earlier than itself."""
    return Stored(array.path, name, tuple(shape), array.dtype, read, None)


class Misfit(FormatError):
    """Arrays that do not fill a network, or not with finite numbers."""


class Layout(NamedTuple):
    """How an array of ours becomes theirs: reshape to `split(shape, config)`, then transpose by `order`."""
    split: Callable
    order: tuple

    def their_shape(self, shape, config):
        """The shape that the file must hold for an array of ours."""
        split = self.split(shape, config)
        return tuple(split[axis] for axis in self.order)

    def theirs(self, array, config):
        """Our array in their layout, a view."""
        return array.reshape(self.split(array.shape, config)).transpose(self.order)

    def ours(self, array, shape):
        """Their array in our layout, a view but for patches of several cells."""
        return array.transpose(np.argsort(self.order)).reshape(shape)


SAME = Layout(lambda shape, config: shape, (0,))
ROW = Layout(lambda shape, config: (1, 1, *shape), (0, 1, 2))           # (D,)         <-> (1, 1, D)
TABLE = Layout(lambda shape, config: (1, *shape), (0, 1, 2))            # (T, D)       <-> (1, T, D)
LINEAR = Layout(lambda shape, config: shape, (1, 0))                    # (C, O)       <-> (O, C)
CONV = Layout(lambda shape, config: shape, (3, 2, 0, 1))                # (KH,KW,C,O)  <-> (O, C, KH, KW)


def cut(shape, config):
    """(P * P * C, D) -> (P, P, C, D)"""
    P = config.patch
    return P, P, shape[0] // P ** 2, shape[1]


PATCH = Layout(cut, (3, 2, 0, 1))                                       # (P*P*C, D)   <-> (D, C, P, P)


def norm_entries(ours, theirs):
    """The rows of a norm in a table of torch's names."""
    return {f"{ours}.scale": (f"{theirs}.weight", SAME), f"{ours}.bias": (f"{theirs}.bias", SAME)}


def linear_entries(ours, theirs, layout=LINEAR):
    """The rows of a linear layer in a table of torch's names."""
    return {f"{ours}.kernel": (f"{theirs}.weight", layout), f"{ours}.bias": (f"{theirs}.bias", SAME)}


def prefixed(prefix, table):
    """A table of names with a prefix before each name of the file."""
    return {ours: (prefix + theirs, layout) for ours, (theirs, layout) in table.items()}


class _Index(int):
    """An index of ours in a name of theirs: {} as it is, {:1} counted from one, {:01} that in two digits."""

    def __format__(self, spec):
        return f"{self + 1:02}" if spec == "01" else str(self + (spec == "1"))


def entry(name, table):
    """Their name and the layout change for one of our names, its indices put in place."""
    parts = name.split(".")
    theirs, layout = table[".".join("*" if part.isdigit() else part for part in parts)]
    return theirs.format(*(_Index(part) for part in parts if part.isdigit())), layout


def refuse_misfits(expected, arrays, ignore):
    """Raise Misfit unless names, shapes and kinds are as expected, {name: shape}."""
    faults = [f"missing: {name} {list(shape)}" for name, shape in expected.items() if name not in arrays]
    faults += [f"unexpected: {name} {list(array.shape)}" for name, array in arrays.items()
               if name not in expected and not name.startswith(tuple(ignore))]
    faults += [f"{name} has shape {list(arrays[name].shape)}, expected {list(shape)}"
               for name, shape in expected.items() if name in arrays and arrays[name].shape != tuple(shape)]
    faults += [f"{name} is {array.dtype}, expected a float type" for name, array in arrays.items()
               if name in expected and array.dtype.kind != "f"]
    refuse(faults)


def refuse(faults):
    """Raise Misfit if there are faults, each a line of its message."""
    if faults:
        raise Misfit(f"these arrays do not fit this network, {len(faults)} fault(s):\n  " + "\n  ".join(faults))
