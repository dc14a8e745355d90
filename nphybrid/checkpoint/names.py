"""The Hugging Face dialect: one table from our names to theirs, with the layout change beside it.

We walk over our own names and ask the file, then report every name that is missing, unexpected or of another
shape, and stop. Nothing is matched by pattern until it fits, and nothing is reshaped until it fits.
"""
from typing import Callable, NamedTuple

import numpy as np

from ..params import mapped, named
from ..tensorfile import FormatError
from ..trace import first_non_finite


class Layout(NamedTuple):
    """How an array of ours becomes theirs: reshape to `split(shape, P)`, then transpose by `order`."""
    split: Callable
    order: tuple

    def their_shape(self, shape, P):
        """The shape that the file must hold for an array of ours."""
        split = self.split(shape, P)
        return tuple(split[axis] for axis in self.order)

    def theirs(self, array, P):
        """Our array in their layout, a copy."""
        return np.array(array.reshape(self.split(array.shape, P)).transpose(self.order), order="C")

    def ours(self, array, shape):
        """Their array in our layout, a copy."""
        return np.array(array.transpose(np.argsort(self.order)).reshape(shape), order="C")


SAME = Layout(lambda shape, P: shape, (0,))
ROW = Layout(lambda shape, P: (1, 1, *shape), (0, 1, 2))                # (D,)         <-> (1, 1, D)
TABLE = Layout(lambda shape, P: (1, *shape), (0, 1, 2))                 # (T, D)       <-> (1, T, D)
LINEAR = Layout(lambda shape, P: shape, (1, 0))                         # (C, O)       <-> (O, C)
CONV = Layout(lambda shape, P: shape, (3, 2, 0, 1))                     # (KH,KW,C,O)  <-> (O, C, KH, KW)
PATCH = Layout(lambda shape, P: (P, P, shape[0] // P ** 2, shape[1]), (3, 2, 0, 1))  # (P*P*C, D) <-> (D, C, P, P)


def _norm(ours, theirs):
    return {f"{ours}.scale": (f"{theirs}.weight", SAME), f"{ours}.bias": (f"{theirs}.bias", SAME)}


def _linear(ours, theirs, layout=LINEAR):
    return {f"{ours}.kernel": (f"{theirs}.weight", layout), f"{ours}.bias": (f"{theirs}.bias", SAME)}


_UNIT = "encoder.stages.{}.layers.{}"
_BLOCK = "encoder.layer.{}"

BIT = {
    "stem.conv": ("embedder.convolution.weight", CONV),
    **_norm("stem.norm", "embedder.norm"),
    "stages.*.*.conv1": (f"{_UNIT}.conv1.weight", CONV),
    **_norm("stages.*.*.norm1", f"{_UNIT}.norm1"),
    "stages.*.*.conv2": (f"{_UNIT}.conv2.weight", CONV),
    **_norm("stages.*.*.norm2", f"{_UNIT}.norm2"),
    "stages.*.*.conv3": (f"{_UNIT}.conv3.weight", CONV),
    **_norm("stages.*.*.norm3", f"{_UNIT}.norm3"),
    "stages.*.*.proj": (f"{_UNIT}.downsample.conv.weight", CONV),
    **_norm("stages.*.*.norm_proj", f"{_UNIT}.downsample.norm"),
    **_norm("features_norm", "norm"),
}

VIT = {
    **_linear("tokens.proj", "embeddings.patch_embeddings.projection", PATCH),
    "tokens.cls": ("embeddings.cls_token", ROW),
    "tokens.positions": ("embeddings.position_embeddings", TABLE),
    "tokens.mask": ("embeddings.mask_token", ROW),
    **_norm("blocks.*.norm1", f"{_BLOCK}.layernorm_before"),
    **_linear("blocks.*.query", f"{_BLOCK}.attention.attention.query"),
    **_linear("blocks.*.key", f"{_BLOCK}.attention.attention.key"),
    **_linear("blocks.*.value", f"{_BLOCK}.attention.attention.value"),
    **_linear("blocks.*.out", f"{_BLOCK}.attention.output.dense"),
    **_norm("blocks.*.norm2", f"{_BLOCK}.layernorm_after"),
    **_linear("blocks.*.fc1", f"{_BLOCK}.intermediate.dense"),
    **_linear("blocks.*.fc2", f"{_BLOCK}.output.dense"),
    **_norm("norm", "layernorm"),
    **_linear("pooler", "pooler.dense"),
}


def hybrid_names(prefix):
    """The table of a ViT Hybrid.  prefix is "vit." under a classifier, "" for the bare model."""
    backbone = f"{prefix}embeddings.patch_embeddings.backbone.bit."
    return {**_prefixed(backbone, BIT), **_prefixed(prefix, VIT), **_linear("head", "classifier")}


def bit_names(prefix):
    """The table of a BiT.  prefix is "bit." under a classifier or backbone, "" for the bare model."""
    return {**_prefixed(prefix, BIT), **_linear("head", "classifier.1")}


def _prefixed(prefix, table):
    return {ours: (prefix + theirs, layout) for ours, (theirs, layout) in table.items()}


def row(name, table):
    """Their name and the layout change for one of our names, its indices put in place."""
    parts = name.split(".")
    theirs, layout = table[".".join("*" if part.isdigit() else part for part in parts)]
    return theirs.format(*(part for part in parts if part.isdigit())), layout


def spelled(params, table, P):
    """Our arrays under their names, in their layouts: a state dict.  -> {name: array}"""
    state = {}
    for name, array in named(params).items():
        theirs, layout = row(name, table)
        state[theirs] = layout.theirs(array, P)
    return state


def filled(shapes, arrays, table, P, ignore=(), dtype=np.float32):
    """Params of `dtype` from their arrays: each of ours filled exactly once, each of theirs used exactly once.

    Names that begin with one of `ignore` may be left over. Raises FormatError, which lists every missing,
    unexpected, mis-shaped and non-finite array.
    """
    rows = {name: row(name, table) for name in named(shapes)}
    expected = {theirs: layout.their_shape(shape, P)
                for (theirs, layout), shape in zip(rows.values(), named(shapes).values())}
    faults = [f"missing: {name} {list(shape)}" for name, shape in expected.items() if name not in arrays]
    faults += [f"unexpected: {name} {list(array.shape)}" for name, array in arrays.items()
               if name not in expected and not name.startswith(tuple(ignore))]
    faults += [f"{name} has shape {list(arrays[name].shape)}, expected {list(shape)}"
               for name, shape in expected.items() if name in arrays and arrays[name].shape != tuple(shape)]
    faults += [f"{name} is {array.dtype}, expected a float type" for name, array in arrays.items()
               if name in expected and array.dtype.kind != "f"]
    faults = faults or [f"{name} holds {fault}" for name in expected
                        if (fault := _non_finite(arrays[name], dtype))]
    if faults:
        raise FormatError(f"these arrays do not fit this network, {len(faults)} fault(s):\n  " + "\n  ".join(faults))

    def ours(name, shape):
        theirs, layout = rows[name]
        return layout.ours(np.asarray(arrays[theirs], dtype), shape)
    return mapped(ours, shapes)


def _non_finite(array, dtype):
    """What is not finite in `dtype` about an array, and where; "" if nothing."""
    with np.errstate(over="ignore"):
        where = first_non_finite(array.astype(dtype, copy=False))
    return where and f"{array[where]} at {list(where)}, which is no finite {np.dtype(dtype)}"
