"""A file of another dialect gets Hugging Face's names and layouts, without being read."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..params import named_leaves
from ..tensorfile import FormatError, Stored
from . import DIALECTS, guess
from .layout import Layout, Shape, Table, derived, entry, refuse_misfits


def without_wrappers(arrays: Mapping[str, Stored]) -> dict[str, Stored]:
    """{name: array} without the prefixes of training loops, and without the arrays of an optimizer.

    Raises FormatError for a name that is there twice, with a prefix and without.
    """
    result = {}
    for full_name, name in zip(arrays, guess.without_prefix(arrays)):
        if name in result:
            raise FormatError(f"{name} is there twice, once as {full_name}")
        if not name.startswith("opt/"):
            result[name] = arrays[full_name]
    return result


class _Part(NamedTuple):
    """One of our arrays as a part of one of theirs: rows `first` to `first + their_shape[0]` of it."""

    ours: str
    shape: Shape
    theirs: str
    layout: Layout
    their_shape: Shape
    first: int


def to_hugging_face(arrays: Mapping[str, Stored], tree: Any, table: Table, hugging_face: Table, config: Any,
                    ignored: Iterable[str] = ()) -> dict[str, Stored]:
    """A file's arrays under Hugging Face's names and in its layouts, none read.

    arrays: {their name: Stored}; tree: the shapes of the network; table: that of their dialect; hugging_face: the table
    of the result; ignored: beginnings of their names that are left out.
    Raises Misfit that lists, under their names, what is missing, unexpected or of another shape.
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
    """The options of the image processor for a network of another dialect.

    config: its configuration; card: timm's config.json, or {}. Raises ValueError for one that cannot be used.
    """
    return DIALECTS[config["dialect"]["name"]].processor(config, card)


def _converted(part: _Part, source: Stored, name: str, layout: Layout, config: Any) -> Stored:
    """A part of one of their arrays under another name and in another layout."""
    def read():
        rows = source.read()[part.first:part.first + part.their_shape[0]]
        return np.ascontiguousarray(layout.theirs(part.layout.ours(rows, part.shape), config))
    return derived(source, name, layout.their_shape(part.shape, config), read)


def _reshaped(array: Stored, expected: Shape | None) -> Stored:
    """An array in the expected shape, if it has the same values in the same order.

    Some files of flax hold group norms as (1, 1, 1, C), and old files of timm hold patches as (D, C * P * P).
    """
    if expected is None or array.shape == expected or math.prod(array.shape) != math.prod(expected):
        return array
    axes_of_length_1 = [n for n in array.shape if n > 1] == [n for n in expected if n > 1]
    flat_patches = len(array.shape) == 2 and len(expected) == 4 and array.shape[0] == expected[0]
    if not (axes_of_length_1 or flat_patches):
        return array
    return derived(array, array.name, expected, lambda: array.read().reshape(expected))
