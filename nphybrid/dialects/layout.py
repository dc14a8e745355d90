"""Defines the tables of dialects.  An entry maps an array's name in this package to its name and layout in a file.

    "stages.*.*.conv1": ("encoder.stages.{stage}.layers.{unit}.conv1.weight", CONV)

In the name in this package, `*` is any index.  In the name in the file, a placeholder such as {stage} is this index:

    {stage} {unit} {block}                        from 0
    {stage_from_1} {unit_from_1} {block_from_1}   from 1
    {unit_from_01}                                from 1, in two digits

In the code, `ours` is a name, an array or a shape in this package, and `theirs` is a name, an array or a shape in the
file.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..tensorfile import FormatError, Stored

# The largest number of encoder blocks, or of units of a backbone. Published networks have at most 50 blocks or units.
MOST_BLOCKS = 1024
# The largest number of faults in a message.
MOST_FAULTS = 100

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """A change of layout from this package to a file: reshape to `split(shape, config)`, then transpose by `order`."""
    split: Callable[[Shape, Any], Shape]
    order: Shape

    def their_shape(self, shape: Shape, config: Any) -> Shape:
        """Converts the shape of an array in this package to the shape of this array in the file."""
        split = self.split(shape, config)
        return tuple(split[axis] for axis in self.order)

    def theirs(self, array: np.ndarray, config: Any) -> np.ndarray:
        """Converts an array with the layout of this package to the layout of the file, as a view."""
        return array.reshape(self.split(array.shape, config)).transpose(self.order)

    def ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """Converts an array with the layout of the file to the layout of this package.

        The result is a view; for patches of more than one cell, the result is a copy.
        """
        return array.transpose(np.argsort(self.order)).reshape(shape)


Table = dict[str, tuple[str, Layout]]


def unsplit(shape: Shape, config: Any) -> Shape:
    """Returns the shape without a change."""
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
    """Returns the entries of a norm layer in a table of PyTorch's names."""
    return {f"{ours}.scale": (f"{theirs}.weight", SAME), f"{ours}.bias": (f"{theirs}.bias", SAME)}


def linear_entries(ours: str, theirs: str, layout: Layout = LINEAR) -> Table:
    """Returns the entries of a linear layer in a table of PyTorch's names."""
    return {f"{ours}.kernel": (f"{theirs}.weight", layout), f"{ours}.bias": (f"{theirs}.bias", SAME)}


def prefixed(prefix: str, table: Table) -> Table:
    """Returns the table with a prefix before each name in the file."""
    return {ours: (prefix + theirs, layout) for ours, (theirs, layout) in table.items()}


def entry(name: str, table: Table) -> tuple[str, Layout]:
    """Returns the name and the layout, in the file, of the array that is called `name` in this package.

    >>> entry("stages.0.2.conv1", {"stages.*.*.conv1": ("block{stage_from_1}/unit{unit_from_01}/conv1", CONV)})[0]
    'block1/unit03/conv1'
    """
    parts = name.split(".")
    theirs, layout = table[".".join("*" if part.isdigit() else part for part in parts)]
    return theirs.format_map(_placeholders(parts)), layout


def _placeholders(parts: list[str]) -> dict[str, str]:
    """Returns {placeholder: text} for the `parts` between the dots of an array's name in this package."""
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
    """Names by which one dialect and one kind of network are recognized."""
    kind: str                             # for example "timm hybrid"
    needs: tuple[str, ...]                # the file has all of these names; reports print the first name
    lacks: str = ""                       # no name in the file begins with this text; "" is not tested


class Misfit(FormatError):
    """The error for arrays that do not fill a network with finite numbers."""


def derived(array: Stored, name: str, shape: Iterable[int], read: Callable[[], np.ndarray]) -> Stored:
    """Returns a Stored array whose values the function `read` computes from another array in the file."""
    return Stored(array.path, name, tuple(shape), array.dtype, read, None, array.file)


def refuse_misfits(expected: Mapping[str, Shape], arrays: Mapping[str, Any], ignored: Iterable[str]) -> None:
    """Raises Misfit if the arrays do not have the expected names, shapes and types.

    `expected` is {name: shape}. An array whose name begins with a string in `ignored` is not reported as unexpected.
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
    """Raises a Misfit that lists the first MOST_FAULTS faults.  Does nothing if there is no fault."""
    if faults:
        more = f"\n  and {len(faults) - MOST_FAULTS:,} more" if len(faults) > MOST_FAULTS else ""
        count = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
        raise Misfit(f"these arrays do not fit this network, {count}:\n  "
                     + "\n  ".join(faults[:MOST_FAULTS]) + more)
