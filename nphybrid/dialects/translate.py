"""Converts names and layouts of arrays from other dialects to Hugging Face's, without reading an array."""

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..params import named_leaves
from ..tensorfile import FormatError, Stored
from ..text import name_list
from . import DIALECTS, guess
from .layout import Layout, Shape, Table, derived, entry, refuse_misfits


def without_wrappers(arrays: Mapping[str, Stored]) -> dict[str, Stored]:
    """Removes the prefixes of training loops from the names, and leaves out what is kept beside the weights.

    Averages of the weights are left out with a warning, and are used if the file has no other weights. Raises
    FormatError if two names differ only in their prefixes, and for several networks in one file.
    """
    refuse_several_networks(arrays)
    found = guess.unwrapped(arrays)
    for name, full_name in found.twice:
        raise FormatError(f"the array {name} is in the file twice, also with the name {full_name}")
    if found.averages:
        warnings.warn(f"the file also holds {len(found.averages):,} averages of weights, such as {found.averages[0]}; "
                      "nphybrid reads the weights themselves", stacklevel=2)
    return {name: arrays[full_name] for name, full_name in found.names.items()}


def refuse_several_networks(arrays: Mapping[str, Stored]) -> None:
    """Raises FormatError if the arrays of a file belong to several networks, such as a student and a teacher."""
    parts = guess.networks(arrays)
    if parts:
        path = next(iter(arrays.values())).path
        raise FormatError(f"{path} holds {len(parts)} networks, whose names begin with {name_list(parts)}; expected "
                          "one network. Write the arrays of one of them to a file of its own")


class _Part(NamedTuple):
    """A parameter and its rows in an array of the file: from row `first` to row `first + their_shape[0]`."""

    ours: str
    shape: Shape
    theirs: str
    layout: Layout
    their_shape: Shape
    first: int


def to_hugging_face(arrays: Mapping[str, Stored], tree: Any, table: Table, hugging_face: Table, config: Any,
                    ignored: Iterable[str] = ()) -> dict[str, Stored]:
    """Returns the arrays of a file with Hugging Face's names and layouts.  No array is read.

    `arrays` is {name in the file: Stored}. `tree` holds the shapes of the parameters. `table` maps parameters to names
    and layouts in the file, and `hugging_face` maps parameters to names and layouts in the result. Arrays whose
    names begin with a string in `ignored` are not expected to be used. Raises Misfit if the arrays do not fit the
    network. The message lists every array that is missing, is unexpected or has a wrong shape, by its name in the file.
    """
    parts, rows = [], {}
    for name, shape in named_leaves(tree).items():
        theirs, layout = entry(name, table)
        their_shape = layout.their_shape(shape, config)
        parts.append(_Part(name, shape, theirs, layout, their_shape, first=rows.get(theirs, 0)))
        rows[theirs] = rows.get(theirs, 0) + their_shape[0]
    expected = {part.theirs: (rows[part.theirs], *part.their_shape[1:]) for part in parts}
    reshaped = {name: _reshaped(array, expected.get(name)) for name, array in arrays.items()}
    refuse_misfits(expected, reshaped, ignored)
    result = {}
    for part in parts:
        name, layout = entry(part.ours, hugging_face)
        result[name] = _converted(part, reshaped[part.theirs], name, layout, config)
    return result


def processor_of(config: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of the image processor for a network of timm or Google.

    `config` is the configuration of the network. `card` is the content of timm's config.json, or {}. Raises ValueError
    if a value in config.json cannot be used.
    """
    return DIALECTS[config["dialect"]["name"]].processor(config, card)


def _converted(part: _Part, source: Stored, name: str, layout: Layout, config: Any) -> Stored:
    """Returns a part of an array in the file as a Stored array with a new name and a new layout."""
    def read():
        rows = source.read()[part.first:part.first + part.their_shape[0]]
        return np.ascontiguousarray(layout.theirs(part.layout.ours(rows, part.shape), config))
    return derived(source, name, layout.their_shape(part.shape, config), read)


def _reshaped(array: Stored, expected: Shape | None) -> Stored:
    """Returns an array in the expected shape, if the shapes differ in one of two known ways; else the array itself.

    Some files of Flax hold group norms in the shape (1, 1, 1, C). Old files of timm hold the kernel of the patches in
    the shape (D, C * P * P).
    """
    if expected is None or array.shape == expected or math.prod(array.shape) != math.prod(expected):
        return array
    axes_of_length_1 = [n for n in array.shape if n > 1] == [n for n in expected if n > 1]
    flat_patches = len(array.shape) == 2 and len(expected) == 4 and array.shape[0] == expected[0]
    if not (axes_of_length_1 or flat_patches):
        return array
    return derived(array, array.name, expected, lambda: array.read().reshape(expected))
