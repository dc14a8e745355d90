"""The Hugging Face dialect, which every other one is led to: a table from our names to theirs, with the layout change.

We walk over our own names and ask the file, then report every name that is missing, unexpected or of another
shape, and stop. Nothing is matched by pattern until it fits, and nothing is reshaped until it fits.
"""
import math
import os
from dataclasses import replace

import numpy as np

from ..dialects.layout import entry, refuse, refuse_misfits
from ..ops import threads
from ..params import named_leaves, tree_map
from ..tensorfile import Stored, digest
from ..trace import first_non_finite

READERS = 8                               # arrays in flight; each is in memory twice for as long


def to_state_dict(params, table, config, originals=None):
    """Our arrays under their names, in their layouts, views: a state dict.  -> {name: array}

    What stands in `originals` already, under their name, is taken from there. Rows of one name are put one behind the
    other along its first axis.
    """
    state, originals = {}, originals or {}
    for name, leaf in named_leaves(params).items():
        theirs, layout = entry(name, table)
        array = originals[theirs] if theirs in originals else layout.theirs(np.asarray(leaf), config)
        state[theirs] = np.concatenate([state[theirs], array]) if theirs in state else array
    return state


def fill_parameters(shapes, arrays, table, config, ready, ignore=(), dtype=np.float32):
    """Params from their arrays: each of ours filled exactly once, each of theirs used exactly once.

    An array is read (where it is Stored), checked, laid out and made ready before its thread takes the next one:
    ready(name, array) receives it in `dtype`, perhaps a view of what the caller gave, and returns the leaf. Second
    result: {their name: original} of the convolution kernels, which no engine can give back. Names that begin with
    one of `ignore` may be left over. Raises Misfit, which lists every missing, unexpected, mis-shaped and non-finite
    array.
    """
    rows = [(name, *entry(name, table), shape) for name, shape in named_leaves(shapes).items()]
    refuse_misfits({theirs: layout.their_shape(shape, config) for _, theirs, layout, shape in rows}, arrays, ignore)
    leaves, originals, faults = {}, {}, {}

    def fill(i):
        name, theirs, layout, shape = rows[i]
        source = arrays[theirs]
        found = np.asarray(source)
        array = found.astype(dtype, copy=False)
        if where := first_non_finite(array):
            faults[i] = f"{theirs} holds {found[where]} at {list(where)}, which is no finite {np.dtype(dtype)}"
        if not faults:
            try:
                leaves[name] = ready(name, layout.ours(array, shape))
            except ValueError as error:                       # beyond what the engine's dtype can hold
                faults[i] = f"{theirs}: {error}"
            if len(shape) == 4:
                originals[theirs] = _original(source, found, dtype)
    # The largest first: the memory that reading it took does for all others.
    order = sorted(range(len(rows)), key=lambda i: -math.prod(rows[i][3]))
    with threads.using(min(threads.number(), READERS)):
        threads.run(len(rows), lambda i: fill(order[i]))
    refuse([faults[i] for i in sorted(faults)])
    return tree_map(lambda name, shape: leaves[name], shapes), originals


def _original(source, found, dtype):
    """What brings an array back in `dtype`: a copy; or of one in a file the way to it, and its SHA-256."""
    if isinstance(source, Stored):
        return replace(source, path=os.path.abspath(source.path), sha256=source.sha256 or digest(found))
    return np.array(found, dtype, order="C")
