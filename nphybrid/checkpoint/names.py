"""The Hugging Face dialect, which every other one is led to: a table from our names to theirs, with the layout change.

We walk over our own names and ask the file, then report every name that is missing, unexpected or of another
shape, and stop. Nothing is matched by pattern until it fits, and nothing is reshaped until it fits.
"""
import math
import os
from dataclasses import replace
from typing import Callable, NamedTuple

import numpy as np

from ..ops import threads
from ..params import mapped, named
from ..tensorfile import FormatError, Stored, digest
from ..trace import first_non_finite


READERS = 8                               # arrays in flight; each is in memory twice for as long


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


def norm_rows(ours, theirs):
    """The rows of a norm in a table of torch's names."""
    return {f"{ours}.scale": (f"{theirs}.weight", SAME), f"{ours}.bias": (f"{theirs}.bias", SAME)}


def linear_rows(ours, theirs, layout=LINEAR):
    """The rows of a linear layer in a table of torch's names."""
    return {f"{ours}.kernel": (f"{theirs}.weight", layout), f"{ours}.bias": (f"{theirs}.bias", SAME)}


_UNIT = "encoder.stages.{}.layers.{}"
_BLOCK = "encoder.layer.{}"

BIT = {
    "stem.conv": ("embedder.convolution.weight", CONV),
    **norm_rows("stem.norm", "embedder.norm"),
    "stages.*.*.conv1": (f"{_UNIT}.conv1.weight", CONV),
    **norm_rows("stages.*.*.norm1", f"{_UNIT}.norm1"),
    "stages.*.*.conv2": (f"{_UNIT}.conv2.weight", CONV),
    **norm_rows("stages.*.*.norm2", f"{_UNIT}.norm2"),
    "stages.*.*.conv3": (f"{_UNIT}.conv3.weight", CONV),
    **norm_rows("stages.*.*.norm3", f"{_UNIT}.norm3"),
    "stages.*.*.proj": (f"{_UNIT}.downsample.conv.weight", CONV),
    **norm_rows("stages.*.*.norm_proj", f"{_UNIT}.downsample.norm"),
    **norm_rows("features_norm", "norm"),
}

VIT = {
    **linear_rows("tokens.proj", "embeddings.patch_embeddings.projection", PATCH),
    "tokens.cls": ("embeddings.cls_token", ROW),
    "tokens.positions": ("embeddings.position_embeddings", TABLE),
    "tokens.mask": ("embeddings.mask_token", ROW),
    **norm_rows("blocks.*.norm1", f"{_BLOCK}.layernorm_before"),
    **linear_rows("blocks.*.query", f"{_BLOCK}.attention.attention.query"),
    **linear_rows("blocks.*.key", f"{_BLOCK}.attention.attention.key"),
    **linear_rows("blocks.*.value", f"{_BLOCK}.attention.attention.value"),
    **linear_rows("blocks.*.out", f"{_BLOCK}.attention.output.dense"),
    **norm_rows("blocks.*.norm2", f"{_BLOCK}.layernorm_after"),
    **linear_rows("blocks.*.fc1", f"{_BLOCK}.intermediate.dense"),
    **linear_rows("blocks.*.fc2", f"{_BLOCK}.output.dense"),
    **norm_rows("norm", "layernorm"),
    **linear_rows("pooler", "pooler.dense"),
    # What upstream's ViT has no name for, under ours.
    **norm_rows("pool_norm", "pool_norm"),
    **linear_rows("pre_logits", "pre_logits"),
}


def hybrid_names(prefix):
    """The table of a ViT Hybrid.  prefix is "vit." under a classifier, "" for the bare model."""
    backbone = f"{prefix}embeddings.patch_embeddings.backbone.bit."
    return {**_prefixed(backbone, BIT), **_prefixed(prefix, VIT), **linear_rows("head", "classifier")}


def bit_names(prefix):
    """The table of a BiT.  prefix is "bit." under a classifier or backbone, "" for the bare model."""
    return {**_prefixed(prefix, BIT), **linear_rows("head", "classifier.1")}


def _prefixed(prefix, table):
    return {ours: (prefix + theirs, layout) for ours, (theirs, layout) in table.items()}


class _Index(int):
    """An index of ours in a name of theirs: {} as it is, {:1} counted from one, {:01} that in two digits."""

    def __format__(self, spec):
        return f"{self + 1:02}" if spec == "01" else str(self + (spec == "1"))


def row(name, table):
    """Their name and the layout change for one of our names, its indices put in place."""
    parts = name.split(".")
    theirs, layout = table[".".join("*" if part.isdigit() else part for part in parts)]
    return theirs.format(*(_Index(part) for part in parts if part.isdigit())), layout


def spelled(params, table, config, originals=None):
    """Our arrays under their names, in their layouts, views: a state dict.  -> {name: array}

    What stands in `originals` already, under their name, is taken from there. Rows of one name are put one behind the
    other along its first axis.
    """
    state, originals = {}, originals or {}
    for name, leaf in named(params).items():
        theirs, layout = row(name, table)
        array = originals[theirs] if theirs in originals else layout.theirs(np.asarray(leaf), config)
        state[theirs] = np.concatenate([state[theirs], array]) if theirs in state else array
    return state


def filled(shapes, arrays, table, config, ready, ignore=(), dtype=np.float32):
    """Params from their arrays: each of ours filled exactly once, each of theirs used exactly once.

    An array is read (where it is Stored), checked, laid out and made ready before its thread takes the next one:
    ready(name, array) receives it in `dtype`, perhaps a view of what the caller gave, and returns the leaf. Second
    result: {their name: original} of the convolution kernels, which no engine can give back. Names that begin with
    one of `ignore` may be left over. Raises Misfit, which lists every missing, unexpected, mis-shaped and non-finite
    array.
    """
    rows = [(name, *row(name, table), shape) for name, shape in named(shapes).items()]
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
    _refuse([faults[i] for i in sorted(faults)])
    return mapped(lambda name, shape: leaves[name], shapes), originals


def refuse_misfits(expected, arrays, ignore):
    """Raise Misfit unless names, shapes and kinds are as expected, {name: shape}."""
    faults = [f"missing: {name} {list(shape)}" for name, shape in expected.items() if name not in arrays]
    faults += [f"unexpected: {name} {list(array.shape)}" for name, array in arrays.items()
               if name not in expected and not name.startswith(tuple(ignore))]
    faults += [f"{name} has shape {list(arrays[name].shape)}, expected {list(shape)}"
               for name, shape in expected.items() if name in arrays and arrays[name].shape != tuple(shape)]
    faults += [f"{name} is {array.dtype}, expected a float type" for name, array in arrays.items()
               if name in expected and array.dtype.kind != "f"]
    _refuse(faults)


def _refuse(faults):
    if faults:
        raise Misfit(f"these arrays do not fit this network, {len(faults)} fault(s):\n  " + "\n  ".join(faults))


def _original(source, found, dtype):
    """What brings an array back in `dtype`: a copy; or of one in a file the way to it, and its SHA-256."""
    if isinstance(source, Stored):
        return replace(source, path=os.path.abspath(source.path), sha256=source.sha256 or digest(found))
    return np.array(found, dtype, order="C")
