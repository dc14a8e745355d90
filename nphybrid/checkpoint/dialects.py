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
import re
import threading

import numpy as np

from ..params import named
from ..tensorfile import FormatError, Stored
from . import guess
from .names import CONV, PATCH, ROW, SAME, TABLE, Layout, cut, linear_rows, norm_rows, refuse_misfits, row

MOST_BLOCKS = 1024                        # of an encoder, or units of a backbone; published: 51

AS_OURS = Layout(lambda shape, config: shape, (0, 1))
HWIO = Layout(lambda shape, config: shape, (0, 1, 2, 3))
CUT = Layout(cut, (0, 1, 2, 3))                                                       # (P*P*C, D) <-> (P, P, C, D)
TO_HEADS = Layout(lambda shape, config: (shape[0], config.heads, config.head_width), (0, 1, 2))
OF_HEADS = Layout(lambda shape, config: (config.heads, config.head_width), (0, 1))    # (D,)       <-> (A, K)
FROM_HEADS = Layout(lambda shape, config: (config.heads, config.head_width, shape[1]), (0, 1, 2))
HEAD_CONV = Layout(lambda shape, config: (1, 1, *shape), (3, 2, 0, 1))                # (C, O)     <-> (O, C, 1, 1)
HEAD_HWIO = Layout(lambda shape, config: (1, 1, *shape), (0, 1, 2, 3))                # (C, O)     <-> (1, 1, C, O)


# ---------------------------------------------------------------- timm

def _timm_backbone(stem, unit):
    table = {"stem.conv": (f"{stem}conv.weight", CONV), **norm_rows("stem.norm", f"{stem}norm")}
    for i in 1, 2, 3:
        table[f"stages.*.*.conv{i}"] = f"{unit}conv{i}.weight", CONV
        table |= norm_rows(f"stages.*.*.norm{i}", f"{unit}norm{i}")
    table["stages.*.*.proj"] = f"{unit}downsample.conv.weight", CONV
    return table | norm_rows("stages.*.*.norm_proj", f"{unit}downsample.norm")


def timm_names(config):
    """timm's table: a hybrid, a plain ViT, or, without blocks, a resnetv2 BiT."""
    if not config.blocks:
        return (_timm_backbone("stem.", "stages.{}.blocks.{}.") | norm_rows("features_norm", "norm")
                | linear_rows("head", "head.fc", HEAD_CONV))
    backbone, block = "patch_embed.backbone.", "blocks.{}."
    return {
        **_timm_backbone(f"{backbone}stem." if config.depths else backbone, f"{backbone}stages.{{}}.blocks.{{}}."),
        **linear_rows("tokens.proj", "patch_embed.proj", PATCH),
        "tokens.cls": ("cls_token", ROW), "tokens.positions": ("pos_embed", TABLE),
        **norm_rows("blocks.*.norm1", f"{block}norm1"), **norm_rows("blocks.*.norm2", f"{block}norm2"),
        # Of one array: the rows of the queries, of the keys, of the values.
        **linear_rows("blocks.*.query", f"{block}attn.qkv"), **linear_rows("blocks.*.key", f"{block}attn.qkv"),
        **linear_rows("blocks.*.value", f"{block}attn.qkv"), **linear_rows("blocks.*.out", f"{block}attn.proj"),
        **linear_rows("blocks.*.fc1", f"{block}mlp.fc1"), **linear_rows("blocks.*.fc2", f"{block}mlp.fc2"),
        **norm_rows("norm", "norm"), **norm_rows("pool_norm", "fc_norm"),
        **linear_rows("pre_logits", "pre_logits.fc"), **linear_rows("head", "head"),
    }


# ---------------------------------------------------------------- Google

def _jax(ours, theirs, layout=AS_OURS, bias=SAME):
    return {f"{ours}.kernel": (f"{theirs}/kernel", layout), f"{ours}.bias": (f"{theirs}/bias", bias)}


def _jax_norm(ours, theirs, scale="scale", bias="bias"):
    return {f"{ours}.scale": (f"{theirs}/{scale}", SAME), f"{ours}.bias": (f"{theirs}/{bias}", SAME)}


def jax_names(config):
    """vision_transformer's table as its published files spell it, from before Linen; without blocks, BiT's."""
    if not config.blocks:
        return _bit_names()
    unit, block = "block{:1}/unit{:1}/", "Transformer/encoderblock_{}/"
    attention, mlp = f"{block}MultiHeadDotProductAttention_1/", f"{block}MlpBlock_3/"
    table = {"stem.conv": ("conv_root/kernel", HWIO), **_jax_norm("stem.norm", "gn_root")}
    for i in 1, 2, 3:
        table[f"stages.*.*.conv{i}"] = f"{unit}conv{i}/kernel", HWIO
        table |= _jax_norm(f"stages.*.*.norm{i}", f"{unit}gn{i}")
    return {
        **table,
        "stages.*.*.proj": (f"{unit}conv_proj/kernel", HWIO), **_jax_norm("stages.*.*.norm_proj", f"{unit}gn_proj"),
        **_jax("tokens.proj", "embedding", CUT),
        "tokens.cls": ("cls", ROW), "tokens.positions": ("Transformer/posembed_input/pos_embedding", TABLE),
        **_jax_norm("blocks.*.norm1", f"{block}LayerNorm_0"), **_jax_norm("blocks.*.norm2", f"{block}LayerNorm_2"),
        **_jax("blocks.*.query", f"{attention}query", TO_HEADS, OF_HEADS),
        **_jax("blocks.*.key", f"{attention}key", TO_HEADS, OF_HEADS),
        **_jax("blocks.*.value", f"{attention}value", TO_HEADS, OF_HEADS),
        **_jax("blocks.*.out", f"{attention}out", FROM_HEADS),
        **_jax("blocks.*.fc1", f"{mlp}Dense_0"), **_jax("blocks.*.fc2", f"{mlp}Dense_1"),
        **_jax_norm("norm", "Transformer/encoder_norm"),
        **_jax("pre_logits", "pre_logits"), **_jax("head", "head"),
    }


def _bit_names():
    unit, table = "resnet/block{:1}/unit{:01}/", {}
    for letter, i in ("a", 1), ("b", 2), ("c", 3):
        table[f"stages.*.*.conv{i}"] = f"{unit}{letter}/standardized_conv2d/kernel", HWIO
        table |= _jax_norm(f"stages.*.*.norm{i}", f"{unit}{letter}/group_norm", "gamma", "beta")
    return {
        "stem.conv": ("resnet/root_block/standardized_conv2d/kernel", HWIO), **table,
        "stages.*.*.proj": (f"{unit}a/proj/standardized_conv2d/kernel", HWIO),
        **_jax_norm("features_norm", "resnet/group_norm", "gamma", "beta"),
        **_jax("head", "resnet/head/conv2d", HEAD_HWIO),
    }


TABLES = {"timm": timm_names, "JAX": jax_names, "BiT": jax_names}


# ---------------------------------------------------------------- a file's own habits

def bare(arrays):
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


def one_numbering(arrays):
    """JAX names as before Linen: there the children of a block count on, in Linen each kind counts by itself.

    Big_vision's habits go with it: the position table at the root, and blocks stacked along a first axis. Raises
    FormatError for a stack of no number of blocks.
    """
    result = {}
    for name, array in arrays.items():
        name = re.sub(r"^pos_embedding$", "Transformer/posembed_input/pos_embedding", name)
        if stacked := re.match(r"Transformer/encoderblock/(.*)", name):
            if not array.shape or not 0 < array.shape[0] <= MOST_BLOCKS:
                raise FormatError(f"{array.name} has shape {list(array.shape)}; expected at most {MOST_BLOCKS} blocks")
            whole = _once(array.read)
            for i in range(array.shape[0]):
                result[f"Transformer/encoderblock_{i}/{_renumbered(stacked[1])}"] = _layer(array, i, whole)
        elif block := re.match(r"(Transformer/encoderblock_\d+)/(.*)", name):
            result[f"{block[1]}/{_renumbered(block[2])}"] = array
        else:
            result[name] = array
    return result


def _renumbered(name):
    kind, _, rest = name.partition("/")
    if kind.startswith("MultiHeadDotProductAttention"):
        kind = "MultiHeadDotProductAttention_1"
    elif kind.startswith("MlpBlock"):
        kind = "MlpBlock_3"
    elif kind == "LayerNorm_1":
        kind = "LayerNorm_2"
    return f"{kind}/{rest}"


def _layer(array, i, whole):
    return _derived(array, array.name, array.shape[1:], lambda: whole()[i])


def _once(read):
    """A function that reads at the first call and remembers, for any thread."""
    lock, found = threading.Lock(), []

    def whole():
        with lock:
            found[:] = found or [read()]
            return found[0]
    return whole


def _derived(array, name, shape, read):
    """What becomes of a Stored array, read no earlier than itself."""
    return Stored(array.path, name, tuple(shape), array.dtype, read, None)


def translated(arrays, tree, table, spelling, config, ignored=()):
    """A file's arrays in Hugging Face's names and layouts, none read.  -> {name: Stored}

    arrays: {their name: Stored}; tree: the shapes of the network; table: theirs; spelling: Hugging Face's table.
    Raises Misfit that lists, in their names, what is missing, unexpected or of another shape.
    """
    shared, rows = {}, []
    for name, shape in named(tree).items():
        theirs, layout = row(name, table)
        theirs_shape = layout.their_shape(shape, config)
        rows.append((name, shape, theirs, layout, shared.get(theirs, 0), theirs_shape[:1]))
        shared[theirs] = shared.get(theirs, 0) + (theirs_shape[0] if theirs_shape else 0)
    expected = {theirs: (shared[theirs], *layout.their_shape(shape, config)[1:])
                for _, shape, theirs, layout, _, _ in rows}
    arrays = {name: _squeezed(array, expected.get(name)) for name, array in arrays.items()}
    refuse_misfits(expected, arrays, ignored)

    def hugging_face(ours, shape, theirs, layout, first, length):
        name, change = row(ours, spelling)
        source = arrays[theirs]

        def read():
            whole = source.read()
            part = whole if whole.shape[:1] == length else whole[first:first + length[0]]
            return np.ascontiguousarray(change.theirs(layout.ours(part, shape), config))
        return name, _derived(source, name, change.their_shape(shape, config), read)
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
    return _derived(array, array.name, expected, lambda: array.read().reshape(expected))
