"""Arrays under Hugging Face's names <-> parameters.

The names of the parameters decide: for each of them the array in the file is looked up, and every array that is
missing, unexpected or of another shape is reported.  No name is matched by a pattern, and no array is reshaped to make
it fit.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..dialects.layout import Layout, Shape, Table, entry, refuse, refuse_misfits
from ..ops import threads
from ..params import Params, named_leaves, tree_map
from ..tensorfile import Stored, digest, kept_open
from ..trace import first_non_finite

# Arrays that are read at the same time; each is in memory twice until it is ready.
READERS = 8


class _Row(NamedTuple):
    """One of our arrays and its place in the file."""

    ours: str
    theirs: str
    layout: Layout
    shape: Shape


def to_state_dict(params: Params, table: Table, config: Any, originals: Mapping[str, np.ndarray] | None = None
                  ) -> dict[str, np.ndarray]:
    """The parameters under the names and in the layouts of a table, as views.

    An array in `originals`, {their name: array}, is taken from there instead. Arrays of one name are concatenated along
    the first axis.
    """
    state: dict[str, np.ndarray] = {}
    originals = originals or {}
    for name, leaf in named_leaves(params).items():
        theirs, layout = entry(name, table)
        array = originals[theirs] if theirs in originals else layout.theirs(np.asarray(leaf), config)
        state[theirs] = np.concatenate([state[theirs], array]) if theirs in state else array
    return state


def fill_parameters(shapes: Any, arrays: Mapping[str, Any], table: Table, config: Any,
                    ready: Callable[[str, np.ndarray], Any], ignore: Iterable[str] = (), dtype: Any = np.float32
                    ) -> tuple[Any, dict[str, Any]]:
    """The tree of shapes, filled with arrays.  Each shape gets exactly one array, and each array is used exactly once.

    A thread reads an array (if it is Stored), checks that it is finite in `dtype`, changes its layout and prepares it,
    before it takes the next one. ready(name, array) receives it, perhaps as a view of the caller's array, and returns
    the leaf. Each file is opened once. Names that begin with one of `ignore` may be left over.

    Second result: {their name: original} of the convolution kernels, because an engine keeps them standardized, and the
    original cannot be computed from that. Raises Misfit, which lists every missing, unexpected, mis-shaped and
    non-finite array.
    """
    rows = [_Row(name, *entry(name, table), shape) for name, shape in named_leaves(shapes).items()]
    refuse_misfits({row.theirs: row.layout.their_shape(row.shape, config) for row in rows}, arrays, ignore)
    leaves: dict[str, Any] = {}
    originals: dict[str, Any] = {}
    faults: dict[int, str] = {}

    def fill(i: int) -> None:
        row = rows[i]
        source = arrays[row.theirs]
        stored = np.asarray(source)
        array = stored.astype(dtype, copy=False)
        if where := first_non_finite(array):
            faults[i] = (f"{row.theirs} holds {stored[where]} at {list(where)}, which is not a finite number in "
                         f"{np.dtype(dtype)}")
        if faults:
            return
        try:
            leaves[row.ours] = ready(row.ours, row.layout.ours(array, row.shape))
        except ValueError as error:                           # beyond the range of the engine's dtype
            faults[i] = f"{row.theirs}: {error}"
        if len(row.shape) == 4:
            originals[row.theirs] = _original(source, stored, dtype)

    # The largest first: their memory is then used again for the others.
    order = sorted(range(len(rows)), key=lambda i: -math.prod(rows[i].shape))
    with kept_open(arrays.values()), threads.using(min(threads.number(), READERS)):
        threads.run(len(rows), lambda i: fill(order[i]))
    refuse([faults[i] for i in sorted(faults)])
    return tree_map(lambda name, shape: leaves[name], shapes), originals


def _original(source: Any, stored: np.ndarray, dtype: Any) -> Any:
    """What restores an array: a copy in `dtype`; or, for an array in a file, its place there and its SHA-256."""
    if isinstance(source, Stored):
        # `absolute` is from when the file was first named: the working folder may have changed since then.
        path = os.path.abspath(source.path) if source.file is None else source.file.absolute
        return replace(source, path=path, sha256=source.sha256 or digest(stored))
    return np.array(stored, dtype, order="C")
