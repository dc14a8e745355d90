"""Converts arrays with Hugging Face's names to parameters, and converts parameters back to arrays.

The array of each parameter is looked up by its full name in the file.  No name is matched by a pattern.  An array with
a wrong shape is not reshaped.  An error message lists the arrays that are missing, are unexpected or have a wrong
shape.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..dialects.layout import Layout, Shape, Table, entry, refuse, refuse_misfits
from ..ops import threads
from ..params import Params, named_leaves, tree_map
from ..tensorfile import Stored, digest, kept_open
from ..trace import first_non_finite
from .kept import with_digest
from .narrow import Narrow, all_arrays

# The largest number of arrays that are read at the same time. An array is in memory twice while it is prepared.
# In int8, the kernels of q, k and v are read three times, because their factors depend on each other. If a file has one
# array for q, k and v, this array is read nine times.
READERS = 8

ArrayOf = Callable[[str], np.ndarray]     # name of a parameter -> its array, in the layout of this package


class _Row(NamedTuple):
    """The name and the shape of a parameter, and its name and layout in the file."""

    ours: str
    theirs: str
    layout: Layout
    shape: Shape


def to_state_dict(params: Params, table: Table, config: Any, originals: Mapping[str, np.ndarray] | None = None
                  ) -> dict[str, np.ndarray]:
    """Returns the parameters as views, with the names and layouts of a dialect's table.

    `originals` is {name in the file: array}. An array in `originals` is used instead of the parameter of this name. If
    several parameters have one name in the file, their arrays are concatenated along the first axis.
    """
    state: dict[str, np.ndarray] = {}
    originals = originals or {}
    for name, leaf in named_leaves(params).items():
        theirs, layout = entry(name, table)
        array = originals[theirs] if theirs in originals else layout.theirs(np.asarray(leaf), config)
        state[theirs] = np.concatenate([state[theirs], array]) if theirs in state else array
    return state


def fill_parameters(shapes: Any, arrays: Mapping[str, Any], table: Table, config: Any,
                    ready: Callable[[str, Any, ArrayOf], Any], ignore: Iterable[str] = (), dtype: Any = np.float32
                    ) -> tuple[Any, dict[str, Any]]:
    """Fills a tree of shapes with arrays, and returns the filled tree and the original convolution kernels.

    Each shape gets exactly one array. Each array is used exactly one time. An array whose name begins with a string in
    `ignore` may remain unused. Each file is opened one time.

    Several threads work at the same time. A thread reads an array, checks that its values are finite in `dtype`,
    changes its layout and calls ready(name, array, array_of). The result of `ready` becomes the leaf of the tree. The
    array that `ready` receives may be a view of the caller's array. array_of(other) reads the array of another
    parameter, and does not check whether its values are finite.

    A `narrow.Narrow` is read as a Kernel, which `ready` receives instead of an array. array_of(other) raises ValueError
    if the other array is narrow.

    The second result holds the original convolution kernels: {name in the file: kernel}. An engine keeps only the
    standardized kernels, and the original kernels cannot be computed from the standardized kernels.

    Raises Misfit if the arrays do not fit the shapes. The message lists the arrays that are missing, are unexpected, or
    have a wrong shape or type. Raises Misfit also if arrays have values that are not finite. The message then lists
    these arrays. A ValueError of `ready` is listed, too. After the first fault, `ready` is called only for narrow
    arrays. A message lists at most `layout.MOST_FAULTS` arrays.
    """
    rows = [_Row(name, *entry(name, table), shape) for name, shape in named_leaves(shapes).items()]
    named = {row.ours: row for row in rows}
    refuse_misfits({row.theirs: row.layout.their_shape(row.shape, config) for row in rows}, arrays, ignore)
    leaves: dict[str, Any] = {}
    originals: dict[str, Any] = {}
    faults: dict[int, str] = {}

    def array_of(name: str) -> np.ndarray:
        """Reads the array of a parameter.  Raises ValueError if it is narrow."""
        row = named[name]
        source = arrays[row.theirs]
        if isinstance(source, Narrow):
            raise ValueError(f"expected float32 numbers also in {row.theirs}, found {source.values.dtype}")
        return row.layout.ours(np.asarray(source).astype(dtype, copy=False), row.shape)

    def fill(i: int) -> None:
        """Fills leaf i, or adds its fault to `faults`."""
        row = rows[i]
        source = arrays[row.theirs]
        if isinstance(source, Narrow):
            try:
                if len(row.shape) != 4 and not row.ours.endswith("kernel"):
                    raise ValueError("expected float32 numbers, because only kernels are narrow, found "
                                     f"{source.values.dtype}")
                leaves[row.ours] = ready(row.ours, source.kernel(row.layout, row.shape), array_of)
            except ValueError as error:
                faults[i] = f"{row.theirs}: {error}"
            return
        stored = np.asarray(source)
        array = stored.astype(dtype, copy=False)
        if where := first_non_finite(array):
            faults[i] = (f"{row.theirs} holds {stored[where]} at {list(where)}; expected numbers that are "
                         f"finite in {np.dtype(dtype)}")
        if faults:
            return
        try:
            leaves[row.ours] = ready(row.ours, row.layout.ours(array, row.shape), array_of)
        except ValueError as error:                           # a value is beyond the range of the engine's dtype
            faults[i] = f"{row.theirs}: {error}"
        if len(row.shape) == 4:
            originals[row.theirs] = _original(source, stored, dtype)

    # The largest arrays are read first. The memory that reading them needs is then used again for the smaller arrays.
    order = sorted(range(len(rows)), key=lambda i: -math.prod(rows[i].shape))
    with kept_open(all_arrays(arrays)), threads.using(min(threads.number(), READERS)):
        threads.run(len(rows), lambda i: fill(order[i]))
    refuse([faults[i] for i in sorted(faults)])
    return tree_map(lambda name, shape: leaves[name], shapes), originals


def _original(source: Any, stored: np.ndarray, dtype: Any) -> Any:
    """Returns a copy of an array in `dtype`; for a Stored array, a Stored array with absolute path and SHA-256."""
    if isinstance(source, Stored):
        return with_digest(source, source.sha256 or digest(stored))
    return np.array(stored, dtype, order="C")
