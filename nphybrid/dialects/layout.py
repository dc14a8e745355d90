"""The entries of the tables of all dialects: for each of our names, the name in the file and the change of layout.

    "stages.*.*.conv1": ("encoder.stages.{stage}.layers.{unit}.conv1.weight", CONV)

`*` stands for an index in our names.  A placeholder says which index stands in the file's name, and how it is written:

    {stage} {unit} {block}                        from 0
    {stage_from_1} {unit_from_1} {block_from_1}   from 1
    {unit_from_01}                                from 1, in two digits

In all tables `ours` is this package's name, array or shape, and `theirs` is the file's.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..tensorfile import FormatError, Stored

MOST_BLOCKS = 1024                        # of an encoder, or units of a backbone; published networks have at most 51

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """How our array is converted to the file's layout: reshape to `split(shape, config)`, then transpose by `order`."""
    split: Callable[[Shape, Any], Shape]
    order: Shape

    def their_shape(self, shape: Shape, config: Any) -> Shape:
        """The shape in the file of an array that has this shape here."""
        split = self.split(shape, config)
        return tuple(split[axis] for axis in self.order)

    def theirs(self, array: np.ndarray, config: Any) -> np.ndarray:
        """Our array in their layout, a view."""
        return array.reshape(self.split(array.shape, config)).transpose(self.order)

    def ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """Their array in our layout, a view; a copy only for patches of more than one cell."""
        return array.transpose(np.argsort(self.order)).reshape(shape)


Table = dict[str, tuple[str, Layout]]


def unsplit(shape: Shape, config: Any) -> Shape:
    """The same axes."""
    return shape


def patch_axes(shape: Shape, config: Any) -> Shape:
    """(P * P * C, D) -> (P, P, C, D)"""
    P = config.patch
    return P, P, shape[0] // P ** 2, shape[1]


SAME = Layout(unsplit, (0,))
ROW = Layout(lambda shape, config: (1, 1, *shape), (0, 1, 2))           # (D,)         <-> (1, 1, D)
TABLE = Layout(lambda shape, config: (1, *shape), (0, 1, 2))            # (T, D)       <-> (1, T, D)
LINEAR = Layout(unsplit, (1, 0))                                        # (C, O)       <-> (O, C)
CONV = Layout(unsplit, (3, 2, 0, 1))                                    # (KH,KW,C,O)  <-> (O, C, KH, KW)
PATCH = Layout(patch_axes, (3, 2, 0, 1))                                # (P*P*C, D)   <-> (D, C, P, P)


def norm_entries(ours: str, theirs: str) -> Table:
    """The entries of a norm in a table of PyTorch's names."""
    return {f"{ours}.scale": (f"{theirs}.weight", SAME), f"{ours}.bias": (f"{theirs}.bias", SAME)}


def linear_entries(ours: str, theirs: str, layout: Layout = LINEAR) -> Table:
    """The entries of a linear layer in a table of PyTorch's names."""
    return {f"{ours}.kernel": (f"{theirs}.weight", layout), f"{ours}.bias": (f"{theirs}.bias", SAME)}


def prefixed(prefix: str, table: Table) -> Table:
    """The table with a prefix before each of their names."""
    return {ours: (prefix + theirs, layout) for ours, (theirs, layout) in table.items()}


def entry(name: str, table: Table) -> tuple[str, Layout]:
    """Their name and the layout of one of our names, with its indices in place.

    >>> entry("stages.0.2.conv1", {"stages.*.*.conv1": ("block{stage_from_1}/unit{unit_from_01}/conv1", CONV)})[0]
    'block1/unit03/conv1'
    """
    parts = name.split(".")
    theirs, layout = table[".".join("*" if part.isdigit() else part for part in parts)]
    return theirs.format_map(_placeholders(parts)), layout


def _placeholders(parts: list[str]) -> dict[str, str]:
    """What stands for each placeholder in the entry of one of our names, split at its dots."""
    kinds = {"stages": ("stage", "unit"), "blocks": ("block",)}.get(parts[0], ())
    texts = {}
    for kind, part in zip(kinds, parts[1:]):
        index = int(part)
        texts[kind] = str(index)
        texts[f"{kind}_from_1"] = str(index + 1)
        texts[f"{kind}_from_01"] = f"{index + 1:02}"
    return texts


# ---------------------------------------------------------------- arrays of a file

class Mark(NamedTuple):
    """What shows that a file is of one dialect and kind of network."""
    kind: str                             # for example "timm hybrid"
    needs: tuple[str, ...]                # names that are all there; the first is reported
    lacks: str = ""                       # no name begins with it; "" is not tested


class Misfit(FormatError):
    """Arrays that do not fill a network, or not with finite numbers."""


def derived(array: Stored, name: str, shape: Iterable[int], read: Callable[[], np.ndarray]) -> Stored:
    """A Stored array that is computed from another one when it is read."""
    return Stored(array.path, name, tuple(shape), array.dtype, read, None, array.file)


def refuse_misfits(expected: Mapping[str, Shape], arrays: Mapping[str, Any], ignored: Iterable[str]) -> None:
    """Raises Misfit unless names, shapes and types are as expected, {name: shape}.

    ignored: beginnings of names that may be there too.
    """
    ignored = tuple(ignored)
    faults = [f"missing: {name} {list(shape)}" for name, shape in expected.items() if name not in arrays]
    faults += [f"unexpected: {name} {list(array.shape)}" for name, array in arrays.items()
               if name not in expected and not name.startswith(ignored)]
    faults += [f"{name} has shape {list(arrays[name].shape)}, expected {list(shape)}"
               for name, shape in expected.items() if name in arrays and arrays[name].shape != tuple(shape)]
    faults += [f"{name} is {array.dtype}, expected a float type" for name, array in arrays.items()
               if name in expected and array.dtype.kind != "f"]
    refuse(faults)


def refuse(faults: list[str]) -> None:
    """Raises a Misfit that lists these faults, if there are any."""
    if faults:
        raise Misfit(f"these arrays do not fit this network, {len(faults)} fault(s):\n  " + "\n  ".join(faults))
