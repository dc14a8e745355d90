"""Google's dialects: the .npz files of vision_transformer (JAX) and of big_transfer (BiT)."""
import re
import threading

from ..pictures.resample import TF_BILINEAR
from ..tensorfile import FormatError
from .layout import MOST_BLOCKS, ROW, SAME, TABLE, Layout, cut, derived
from .preprocessing import _check
from .shapes import _bit, _count, _stages, _vit
from .timm import INTERPOLATIONS

AS_OURS = Layout(lambda shape, config: shape, (0, 1))

HWIO = Layout(lambda shape, config: shape, (0, 1, 2, 3))

CUT = Layout(cut, (0, 1, 2, 3))                                                       # (P*P*C, D) <-> (P, P, C, D)

TO_HEADS = Layout(lambda shape, config: (shape[0], config.heads, config.head_width), (0, 1, 2))

OF_HEADS = Layout(lambda shape, config: (config.heads, config.head_width), (0, 1))    # (D,)       <-> (A, K)

FROM_HEADS = Layout(lambda shape, config: (config.heads, config.head_width, shape[1]), (0, 1, 2))

HEAD_HWIO = Layout(lambda shape, config: (1, 1, *shape), (0, 1, 2, 3))                # (C, O)     <-> (1, 1, C, O)


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
    return derived(array, array.name, array.shape[1:], lambda: whole()[i])


def _once(read):
    """A function that reads at the first call and remembers, for any thread."""
    lock, found = threading.Lock(), []

    def whole():
        with lock:
            found[:] = found or [read()]
            return found[0]
    return whole


JAX = {"name": "JAX", "resampling": "linear", "gn_eps": 1e-6, "ws_form": "deviation", "ws_eps": 1e-5}


def jax_config(shapes):
    """The configuration of a vision_transformer file.  shapes: {name as before Linen: shape}  -> dict"""
    token, block = "cls" in shapes, "Transformer/encoderblock_"
    D, heads, _ = shapes[f"{block}0/MultiHeadDotProductAttention_1/query/kernel"]
    dialect = {**JAX, **({} if token else {"class_token": False, "pool": "mean"})}
    if "pre_logits/kernel" in shapes:
        dialect["pre_logits"] = shapes["pre_logits/kernel"][1]
    fields = dict(hidden_size=D, num_hidden_layers=_count(shapes, block + r"(\d+)/"), num_attention_heads=heads,
                  intermediate_size=shapes[f"{block}0/MlpBlock_3/Dense_0/kernel"][1], hidden_act="gelu_new",
                  layer_norm_eps=1e-6, num_labels=shapes.get("head/kernel", (0, 0))[1], dialect=dialect)
    stem, patch = shapes.get("conv_root/kernel"), shapes["embedding/kernel"]
    stages = _stages(shapes, r"block(\d+)/unit(\d+)/conv3/kernel", -1)
    patches = shapes["Transformer/posembed_input/pos_embedding"][-2] - token
    if not stem:                          # without convolutions nothing is standardized
        fields["dialect"] = {key: value for key, value in dialect.items() if key not in ("gn_eps", "ws_form", "ws_eps")}
    return _vit(fields, patches, patch[0], stages, stem and stem[3], (stem or patch)[2], ())


def bit_config(shapes):
    """The configuration of a big_transfer file.  shapes: {name: shape}  -> dict"""
    stages = _stages(shapes, r"resnet/block(\d+)/unit(\d+)/c/standardized_conv2d/kernel", -1)
    stem = shapes["resnet/root_block/standardized_conv2d/kernel"]
    return _bit(stages, stem[::-1], shapes.get("resnet/head/conv2d/kernel", (0,))[-1], {"name": "BiT", "ws_eps": 1e-10})


FRAMEWORKS = ("jax", "torch")


def for_jax(size: int) -> dict:
    """Options of the image processor for a checkpoint of Google's JAX code.

    Args:
        size: rows and columns of the network's picture.

    Returns:
        A dictionary for `ViTHybridImageProcessor(**options)`: the evaluation of `vit_jax/input_pipeline.py`.

    Raises:
        ValueError: `size` is not a number of pixels.

    >>> options = for_jax(384)
    >>> options["size"], options["resample"], options["image_mean"]
    ({'height': 384, 'width': 384}, 'tf-bilinear', [127.5, 127.5, 127.5])
    """
    return {**_squashed(size), "resample": TF_BILINEAR, "do_rescale": False, "image_mean": [127.5] * 3,
            "image_std": [127.5] * 3}


def for_bit(size: int = 480, framework: str = "jax") -> dict:
    """Options of the image processor for a checkpoint of Google's BiT code.

    Args:
        size: rows and columns of the network's picture: 480, or 128 for pictures below 96 x 96, in the
            BiT-HyperRule of the published code.
        framework: "jax" for the evaluation of its TensorFlow and JAX code, "torch" for that of its PyTorch code,
            which resizes with Pillow.

    Returns:
        A dictionary for `ViTHybridImageProcessor(**options)`.

    Raises:
        ValueError: `size` is not a number of pixels, or there is no such framework.

    >>> for_bit(128)["resample"], for_bit(128, framework="torch")["resample"]
    ('tf-bilinear', 2)
    """
    _check(framework in FRAMEWORKS, "framework", framework, " or ".join(map(repr, FRAMEWORKS)))
    if framework == "jax":
        return for_jax(size)
    return {**_squashed(size), "resample": INTERPOLATIONS["bilinear"], "do_rescale": True,
            "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def _squashed(size):
    """What the dialects of Google have in common."""
    _check(isinstance(size, int) and not isinstance(size, bool) and size > 0, "size", size, "a number of pixels")
    return {"do_resize": True, "size": {"height": size, "width": size}, "do_center_crop": False,
            "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True}
