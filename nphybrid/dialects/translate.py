"""The other dialects: timm, Google's JAX, and BiT, each a table from our names to theirs.

    what                      Hugging Face            timm                     JAX
    convolutions              (O, C, KH, KW)          (O, C, KH, KW)           (KH, KW, C, O), as ours
    query, key, value         three (D, D)            one (3 D, D)             three (D, A, K)
    linear layers             (O, C)                  (O, C)                   (C, O), as ours
    stages and units          from 0                  from 0                   from 1; BiT in two digits
    blocks                    from 0                  from 0                   from 0

`translated` gives a file's arrays the names and layouts of Hugging Face without reading them, so that all that follows
knows one dialect; `names.spelled` with one of these tables goes the other way. Names and shapes were read off timm
1.0.31, google-research/vision_transformer and google-research/big_transfer.
"""
import math

import numpy as np

from ..params import named_leaves
from ..tensorfile import FormatError
from . import google, guess, timm
from .google import jax_names
from .layout import derived, entry, refuse_misfits
from .timm import timm_names

TABLES = {"timm": timm_names, "JAX": jax_names, "BiT": jax_names}


# ---------------------------------------------------------------- a file's own habits

def without_wrappers(arrays):
    """{name: array} without what training put in front of every name, and without what it kept for itself.

    Raises FormatError for an array that is there with and without that.
    """
    result = {}
    for full, name in zip(arrays, guess.without_prefix(arrays)):
        if name in result:
            raise FormatError(f"{name} is there twice, once as {full}")
        if not name.startswith("opt/"):
            result[name] = arrays[full]
    return result


def to_hugging_face(arrays, tree, table, spelling, config, ignored=()):
    """A file's arrays in Hugging Face's names and layouts, none read.  -> {name: Stored}

    arrays: {their name: Stored}; tree: the shapes of the network; table: theirs; spelling: Hugging Face's table.
    Raises Misfit that lists, in their names, what is missing, unexpected or of another shape.
    """
    shared, rows = {}, []
    for name, shape in named_leaves(tree).items():
        theirs, layout = entry(name, table)
        theirs_shape = layout.their_shape(shape, config)
        rows.append((name, shape, theirs, layout, shared.get(theirs, 0), theirs_shape[:1]))
        shared[theirs] = shared.get(theirs, 0) + (theirs_shape[0] if theirs_shape else 0)
    expected = {theirs: (shared[theirs], *layout.their_shape(shape, config)[1:])
                for _, shape, theirs, layout, _, _ in rows}
    arrays = {name: _squeezed(array, expected.get(name)) for name, array in arrays.items()}
    refuse_misfits(expected, arrays, ignored)

    def hugging_face(ours, shape, theirs, layout, first, length):
        name, change = entry(ours, spelling)
        source = arrays[theirs]

        def read():
            whole = source.read()
            part = whole if whole.shape[:1] == length else whole[first:first + length[0]]
            return np.ascontiguousarray(change.theirs(layout.ours(part, shape), config))
        return name, derived(source, name, change.their_shape(shape, config), read)
    return dict(hugging_face(*each) for each in rows)


def _squeezed(array, expected):
    """Without axes of one cell where the others are as expected: flax stored group norms as (1, 1, 1, C) once, and
    timm's old files patches as (D, C * P * P)."""
    if expected is None or array.shape == expected or math.prod(array.shape) != math.prod(expected):
        return array
    known = [n for n in array.shape if n > 1] == [n for n in expected if n > 1]
    patches = len(array.shape) == 2 and len(expected) == 4 and array.shape[0] == expected[0]
    if not (known or patches):
        return array
    return derived(array, array.name, expected, lambda: array.read().reshape(expected))


def processor_of(fields, card):
    """How pictures are prepared for a network of another dialect.  -> dict of the image processor's options

    fields: its configuration; card: timm's config.json, or {}. Raises ValueError for one that cannot be used.
    """
    dialect, bit = fields["dialect"]["name"], fields["model_type"] == "bit"
    if dialect == "BiT":
        return google.for_bit()
    size = fields.get("image_size", 448)
    if dialect == "JAX":
        return google.for_jax(size)
    height, width = (size, size) if isinstance(size, int) else size
    # What timm's own list of networks says of most, where no config.json does.
    usual = {"input_size": [3, height, width], "interpolation": "bilinear" if bit else "bicubic",
             "crop_pct": 0.9 if height == 224 else 1.0, "crop_mode": "center" if height == width else "squash",
             "mean": [0.5] * 3, "std": [0.5] * 3}
    own = {} if bit else {"input_size": [3, height, width]}       # not that of the network it was fine-tuned from
    return timm.for_timm({**usual, **(card.get("pretrained_cfg") or {}), **own})
