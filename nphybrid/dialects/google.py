"""Google's dialects for .npz files: vision_transformer (JAX) and big_transfer (BiT)."""

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..pictures.resample import TF_BILINEAR
from ..tensorfile import FormatError, Stored
from .layout import MOST_BLOCKS, ROW, SAME, TABLE, Layout, Mark, Shape, Table, derived, patch_axes, unsplit
from .preprocessing import INTERPOLATIONS, check_option
from .shapes import block_count, hf_bit_config, hf_vit_config, stages_in

JAX_MARKS = (
    Mark("jax hybrid", ("conv_root/kernel", "embedding/kernel")),
    Mark("jax vit", ("embedding/kernel", "Transformer/encoder_norm/scale")),
)
BIT_MARKS = (Mark("google bit", ("resnet/root_block/standardized_conv2d/kernel",)),)

# Settings of Google's networks that differ from Hugging Face's settings. The value of "name" is a key of DIALECTS.
JAX = {"name": "JAX", "resampling": "linear", "gn_eps": 1e-6, "ws_form": "deviation", "ws_eps": 1e-5}
BIT = {"name": "BiT", "ws_eps": 1e-10}

FRAMEWORKS = ("jax", "torch")             # the frameworks of BiT's published code

MATRIX = Layout(unsplit, (0, 1))
HWIO = Layout(unsplit, (0, 1, 2, 3))
HWIO_PATCH = Layout(patch_axes, (0, 1, 2, 3))                                         # (P*P*C, D) <-> (P, P, C, D)
HWIO_HEAD = Layout(lambda shape, config: (1, 1, *shape), (0, 1, 2, 3))                # (C, O)     <-> (1, 1, C, O)
# (C, D) <-> (C, A, K);  (D,) <-> (A, K);  (D, O) <-> (A, K, O)
TO_HEADS = Layout(lambda shape, config: (shape[0], config.heads, config.head_width), (0, 1, 2))
OF_HEADS = Layout(lambda shape, config: (config.heads, config.head_width), (0, 1))
FROM_HEADS = Layout(lambda shape, config: (config.heads, config.head_width, shape[1]), (0, 1, 2))


# ---------------------------------------------------------------- names and layouts

def jax_names(config: Any) -> Table:
    """Returns names and layouts of the arrays in a vision_transformer file; without encoder blocks, in a BiT file.

    The names are from the published files, which are older than Flax's Linen. The published files number the layers of
    a block in the order in which they are called.
    """
    if not config.blocks:
        return _bit_names()
    unit, block = "block{stage_from_1}/unit{unit_from_1}/", "Transformer/encoderblock_{block}/"
    attention, mlp = f"{block}MultiHeadDotProductAttention_1/", f"{block}MlpBlock_3/"
    table = {"stem.conv": ("conv_root/kernel", HWIO), **_norm_entries("stem.norm", "gn_root")}
    for i in 1, 2, 3:
        table[f"stages.*.*.conv{i}"] = f"{unit}conv{i}/kernel", HWIO
        table |= _norm_entries(f"stages.*.*.norm{i}", f"{unit}gn{i}")
    return {
        **table,
        "stages.*.*.proj": (f"{unit}conv_proj/kernel", HWIO),
        **_norm_entries("stages.*.*.norm_proj", f"{unit}gn_proj"),
        **_linear_entries("tokens.proj", "embedding", HWIO_PATCH),
        "tokens.cls": ("cls", ROW),
        "tokens.positions": ("Transformer/posembed_input/pos_embedding", TABLE),
        **_norm_entries("blocks.*.norm1", f"{block}LayerNorm_0"),
        **_norm_entries("blocks.*.norm2", f"{block}LayerNorm_2"),
        **_linear_entries("blocks.*.query", f"{attention}query", TO_HEADS, OF_HEADS),
        **_linear_entries("blocks.*.key", f"{attention}key", TO_HEADS, OF_HEADS),
        **_linear_entries("blocks.*.value", f"{attention}value", TO_HEADS, OF_HEADS),
        **_linear_entries("blocks.*.out", f"{attention}out", FROM_HEADS),
        **_linear_entries("blocks.*.fc1", f"{mlp}Dense_0"),
        **_linear_entries("blocks.*.fc2", f"{mlp}Dense_1"),
        **_norm_entries("norm", "Transformer/encoder_norm"),
        **_linear_entries("pre_logits", "pre_logits"),
        **_linear_entries("head", "head"),
    }


def _bit_names() -> Table:
    """Returns the names and layouts of the arrays in a big_transfer file."""
    unit = "resnet/block{stage_from_1}/unit{unit_from_01}/"
    table: Table = {"stem.conv": ("resnet/root_block/standardized_conv2d/kernel", HWIO)}
    for letter, i in ("a", 1), ("b", 2), ("c", 3):
        table[f"stages.*.*.conv{i}"] = f"{unit}{letter}/standardized_conv2d/kernel", HWIO
        table |= _norm_entries(f"stages.*.*.norm{i}", f"{unit}{letter}/group_norm", "gamma", "beta")
    return {
        **table,
        "stages.*.*.proj": (f"{unit}a/proj/standardized_conv2d/kernel", HWIO),
        **_norm_entries("features_norm", "resnet/group_norm", "gamma", "beta"),
        **_linear_entries("head", "resnet/head/conv2d", HWIO_HEAD),
    }


def _linear_entries(ours: str, theirs: str, layout: Layout = MATRIX, bias: Layout = SAME) -> Table:
    """Returns the entries of a linear layer in a table of Google's names."""
    return {f"{ours}.kernel": (f"{theirs}/kernel", layout), f"{ours}.bias": (f"{theirs}/bias", bias)}


def _norm_entries(ours: str, theirs: str, scale: str = "scale", bias: str = "bias") -> Table:
    """Returns the entries of a norm layer in a table of Google's names."""
    return {f"{ours}.scale": (f"{theirs}/{scale}", SAME), f"{ours}.bias": (f"{theirs}/{bias}", SAME)}


def one_numbering(arrays: Mapping[str, Stored]) -> dict[str, Stored]:
    """Returns the arrays of a JAX file with the names of the published files.

    The published files number the layers of a block in the order in which they are called. Flax's Linen numbers each
    class of layers from 0. Two variants of the names, from big_vision, are also converted. In the first variant, the
    name of the position table does not begin with "Transformer". In the second variant, the arrays of all blocks are
    stacked in one array, along the first axis. Raises FormatError for a stack of 0 blocks or of too many blocks.
    """
    result = {}
    for name, array in arrays.items():
        name = re.sub(r"^pos_embedding$", "Transformer/posembed_input/pos_embedding", name)
        if stacked := re.match(r"Transformer/encoderblock/(.*)", name):
            if not array.shape or not 0 < array.shape[0] <= MOST_BLOCKS:
                raise FormatError(f"{array.name} has shape {list(array.shape)}; expected 1 to {MOST_BLOCKS} blocks "
                                  "along the first axis")
            whole = _read_once(array.read)
            for i in range(array.shape[0]):
                result[f"Transformer/encoderblock_{i}/{_before_linen(stacked[1])}"] = _layer(array, i, whole)
        elif block := re.match(r"(Transformer/encoderblock_\d+)/(.*)", name):
            result[f"{block[1]}/{_before_linen(block[2])}"] = array
        else:
            result[name] = array
    return result


def _before_linen(name: str) -> str:
    """Returns the name of an array in a block, as in the published files, which are older than Linen."""
    layer, _, rest = name.partition("/")
    if layer.startswith("MultiHeadDotProductAttention"):
        layer = "MultiHeadDotProductAttention_1"
    elif layer.startswith("MlpBlock"):
        layer = "MlpBlock_3"
    elif layer == "LayerNorm_1":
        layer = "LayerNorm_2"
    return f"{layer}/{rest}"


def _layer(stack: Stored, i: int, whole: Callable[[], np.ndarray]) -> Stored:
    """Returns the array of block i, which is row i of the array of all blocks.

    `whole` is a function that reads the array of all blocks.
    """
    return derived(stack, stack.name, stack.shape[1:], lambda: whole()[i].copy())


def _read_once(read: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """Returns a function that calls `read` one time and keeps the array.  Any thread may call the new function."""
    lock = threading.Lock()
    arrays: list[np.ndarray] = []

    def whole():
        with lock:
            if not arrays:
                arrays.append(read())
            return arrays[0]
    return whole


# ---------------------------------------------------------------- configuration

def jax_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Returns the configuration of a vision_transformer file.  shapes: {name as in a published file: shape}"""
    block = "Transformer/encoderblock_"
    class_token = "cls" in shapes
    D, heads, _ = shapes[f"{block}0/MultiHeadDotProductAttention_1/query/kernel"]
    dialect: dict[str, Any] = dict(JAX)
    if not class_token:
        dialect |= {"class_token": False, "pool": "mean"}
    if "pre_logits/kernel" in shapes:
        dialect["pre_logits"] = shapes["pre_logits/kernel"][1]
    stem, patch = shapes.get("conv_root/kernel"), shapes["embedding/kernel"]
    if not stem:                          # a network without convolutions standardizes no weights
        for key in "gn_eps", "ws_form", "ws_eps":
            del dialect[key]
    fields = dict(hidden_size=D, num_hidden_layers=block_count(shapes, block + r"(\d+)/"), num_attention_heads=heads,
                  intermediate_size=shapes[f"{block}0/MlpBlock_3/Dense_0/kernel"][1], hidden_act="gelu_new",
                  layer_norm_eps=1e-6, num_labels=shapes.get("head/kernel", (0, 0))[1], dialect=dialect)
    return hf_vit_config(
        fields, patches=shapes["Transformer/posembed_input/pos_embedding"][-2] - class_token, patch_size=patch[0],
        stages=stages_in(shapes, r"block(\d+)/unit(\d+)/conv3/kernel", width_axis=-1, first_unit=1),
        stem=stem[3] if stem else None, channels=(stem or patch)[2])


def bit_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Returns the configuration of a big_transfer file.  shapes: {name: shape}"""
    last_convolution = r"resnet/block(\d+)/unit(\d+)/c/standardized_conv2d/kernel"
    stem = shapes["resnet/root_block/standardized_conv2d/kernel"]
    classes = shapes.get("resnet/head/conv2d/kernel", (0,))[-1]
    stages = stages_in(shapes, last_convolution, width_axis=-1, first_unit=1)
    return hf_bit_config(stages, stem[::-1], classes, dict(BIT))


# ---------------------------------------------------------------- preparation of pictures

def for_jax(size: int) -> dict[str, Any]:
    """Returns the options of the image processor for a checkpoint of Google's JAX code.

    Args:
        size: The number of rows and of columns of the network's picture.

    Returns:
        A dictionary for `ViTHybridImageProcessor(**options)`. The processor then prepares pictures like the evaluation
        in `vit_jax/input_pipeline.py`.

    Raises:
        ValueError: `size` is not a number of pixels.

    >>> options = for_jax(384)
    >>> options["size"], options["resample"], options["image_mean"]
    ({'height': 384, 'width': 384}, 'tf-bilinear', [127.5, 127.5, 127.5])
    """
    return {**_both_sides(size), "resample": TF_BILINEAR, "do_rescale": False, "image_mean": [127.5] * 3,
            "image_std": [127.5] * 3}


def for_bit(size: int = 480, framework: str = "jax") -> dict[str, Any]:
    """Returns the options of the image processor for a checkpoint of Google's BiT code.

    Args:
        size: The number of rows and of columns of the network's picture. The BiT-HyperRule of the published code uses
            128 for pictures of fewer than 96 x 96 pixels, and 480 for all other pictures.
        framework: "jax" or "torch". With "jax", pictures are prepared like in the evaluation of Google's TensorFlow
            and JAX code. With "torch", pictures are prepared like in the evaluation of Google's PyTorch code, which
            resizes with Pillow.

    Returns:
        A dictionary for `ViTHybridImageProcessor(**options)`.

    Raises:
        ValueError: `size` is not a number of pixels, or `framework` is unknown.

    >>> for_bit(128)["resample"], for_bit(128, framework="torch")["resample"]
    ('tf-bilinear', 2)
    """
    check_option(framework in FRAMEWORKS, "framework", framework, " or ".join(map(repr, FRAMEWORKS)))
    if framework == "jax":
        return for_jax(size)
    return {**_both_sides(size), "resample": INTERPOLATIONS["bilinear"], "do_rescale": True,
            "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def _both_sides(size: int) -> dict[str, Any]:
    """Returns the options that are equal in all of Google's dialects.

    Both sides of a picture are resized to `size`. The aspect ratio is not kept.
    """
    check_option(isinstance(size, int) and not isinstance(size, bool) and size > 0, "size", size, "a number of pixels")
    return {"do_resize": True, "size": {"height": size, "width": size}, "do_center_crop": False,
            "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True}
