"""The dialect of timm: names of arrays, config.json, preparation of pictures."""

import math
from collections.abc import Mapping
from typing import Any

from ..tensorfile import FormatError
from ..text import name_list
from .layout import CONV, PATCH, ROW, TABLE, Layout, Mark, Shape, Table, linear_entries, norm_entries
from .preprocessing import INTERPOLATIONS, check_option, for_channels, is_finite_number
from .shapes import block_count, hf_bit_config, hf_vit_config, stages_in
from .timm_card import UNSTATED

MARKS = (
    Mark("timm hybrid", ("patch_embed.backbone.stem.conv.weight", "blocks.0.attn.qkv.weight")),
    # The backbone of R+ViT-Ti/16 has no stage.
    Mark("timm hybrid", ("patch_embed.backbone.conv.weight", "blocks.0.attn.qkv.weight")),
    Mark("timm vit", ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), lacks="patch_embed.backbone."),
    # Other ResNets of version 2 in timm have batch norms, which are not supported.
    Mark("timm bit", ("stem.conv.weight", "stages.0.blocks.0.norm1.weight"),
         lacks="stages.0.blocks.0.norm1.running_mean"),
)

# Settings of timm's ViTs that differ from Hugging Face's settings. The value of "name" is a key of DIALECTS.
TIMM = {"name": "timm", "resampling": "antialiased"}

# {token width D: number of heads} for timm's networks whose heads are not 64 wide: so400m, huge, giant, gigantic.
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}

CONV_HEAD = Layout(lambda shape, config: (1, 1, *shape), (3, 2, 0, 1))                # (C, O)     <-> (O, C, 1, 1)


# ---------------------------------------------------------------- names and layouts

def timm_names(config: Any) -> Table:
    """Returns timm's names and layouts of the arrays in a hybrid or plain ViT; without encoder blocks, in a BiT."""
    if not config.blocks:
        return (_backbone_names("stem.", "stages.{stage}.blocks.{unit}.") | norm_entries("features_norm", "norm")
                | linear_entries("head", "head.fc", CONV_HEAD))
    backbone, block = "patch_embed.backbone.", "blocks.{block}."
    stem = f"{backbone}stem." if config.depths else backbone
    return {
        **_backbone_names(stem, backbone + "stages.{stage}.blocks.{unit}."),
        **linear_entries("tokens.proj", "patch_embed.proj", PATCH),
        "tokens.cls": ("cls_token", ROW),
        "tokens.positions": ("pos_embed", TABLE),
        **norm_entries("blocks.*.norm1", f"{block}norm1"),
        **norm_entries("blocks.*.norm2", f"{block}norm2"),
        # One array holds first the rows of the queries, then the rows of the keys, then the rows of the values.
        **linear_entries("blocks.*.query", f"{block}attn.qkv"),
        **linear_entries("blocks.*.key", f"{block}attn.qkv"),
        **linear_entries("blocks.*.value", f"{block}attn.qkv"),
        **linear_entries("blocks.*.out", f"{block}attn.proj"),
        **linear_entries("blocks.*.fc1", f"{block}mlp.fc1"),
        **linear_entries("blocks.*.fc2", f"{block}mlp.fc2"),
        **norm_entries("norm", "norm"),
        **norm_entries("pool_norm", "fc_norm"),
        **linear_entries("pre_logits", "pre_logits.fc"),
        **linear_entries("head", "head"),
    }


def _backbone_names(stem: str, unit: str) -> Table:
    """Returns names and layouts of arrays in a backbone.  stem, unit: prefixes of the names in the stem, in a unit"""
    table = {"stem.conv": (f"{stem}conv.weight", CONV), **norm_entries("stem.norm", f"{stem}norm")}
    for i in 1, 2, 3:
        table[f"stages.*.*.conv{i}"] = f"{unit}conv{i}.weight", CONV
        table |= norm_entries(f"stages.*.*.norm{i}", f"{unit}norm{i}")
    table["stages.*.*.proj"] = f"{unit}downsample.conv.weight", CONV
    return table | norm_entries("stages.*.*.norm_proj", f"{unit}downsample.norm")


# ---------------------------------------------------------------- configuration

def timm_config(shapes: Mapping[str, Shape], card: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the configuration of the network in a timm file.

    `shapes` is {name: shape}. `card` is the content of timm's config.json in its present form (see `timm_card.nested`),
    or {}. Raises FormatError if config.json contradicts the arrays.
    """
    arguments = card.get("model_args") or {}
    if "pos_embed" not in shapes:
        stages = stages_in(shapes, r"stages\.(\d+)\.blocks\.(\d+)\.conv3\.weight", width_axis=0, first_unit=0)
        classes = shapes.get("head.fc.weight", (0,))[0]
        return hf_bit_config(stages, shapes["stem.conv.weight"], classes, {"name": "timm"})
    D, class_token = shapes["pos_embed"][-1], "cls_token" in shapes
    dialect = _vit_dialect(shapes, card, arguments)
    fields = dict(hidden_size=D, num_hidden_layers=block_count(shapes, r"blocks\.(\d+)\."),
                  num_attention_heads=_heads(D, arguments), intermediate_size=shapes["blocks.0.mlp.fc1.weight"][0],
                  hidden_act="gelu", layer_norm_eps=1e-6, qkv_bias="blocks.0.attn.qkv.bias" in shapes,
                  num_labels=shapes.get("head.weight", (0,))[0], dialect=dialect)
    stem = shapes.get("patch_embed.backbone.stem.conv.weight", shapes.get("patch_embed.backbone.conv.weight"))
    stages = stages_in(shapes, r"patch_embed\.backbone\.stages\.(\d+)\.blocks\.(\d+)\.conv3\.weight", width_axis=0,
                       first_unit=0)
    patch = shapes["patch_embed.proj.weight"]
    if len(patch) == 2:                   # old files hold the kernel in the shape (D, C * P * P)
        C = stem[0] if stem else 3
        if stages:
            C = stages[-1].width
        patch = patch[0], C, math.isqrt(patch[1] // C), 0
    size = arguments.get("img_size") or ((card.get("pretrained_cfg") or {}).get("input_size") or (None,))[1:]
    size = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    check_option(size in ((), (None, None)) or len(size) == 2 and all(type(n) is int and n > 0 for n in size),
                 "img_size or input_size", size, "a height and a width in pixels")
    return hf_vit_config(fields, patches=shapes["pos_embed"][-2] - class_token, patch_size=patch[2], stages=stages,
                         stem=stem[0] if stem else None, channels=(stem or patch)[1], image_size=size)


def _heads(D: int, arguments: Mapping[str, Any]) -> int:
    """Returns the number of heads for tokens of width D."""
    if arguments.get("num_heads"):
        return arguments["num_heads"]
    if D not in HEADS and D % 64:
        raise FormatError(f"the width of a token is {D}, which is not a multiple of 64; expected a config.json with "
                          "{\"model_args\": {\"num_heads\": …}}")
    return HEADS.get(D) or D // 64


def _vit_dialect(shapes: Mapping[str, Shape], card: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of timm's ViT or hybrid that differ from Hugging Face's settings."""
    class_token = "cls_token" in shapes
    pool = card.get("global_pool") or arguments.get("global_pool")
    if (pool == "token" and not class_token) or arguments.get("class_token", class_token) != class_token:
        count = "a" if class_token else "no"
        raise FormatError(f"config.json contradicts the arrays, which have {count} cls_token")
    dialect: dict[str, Any] = dict(TIMM)
    if not class_token:
        dialect |= {"class_token": False, "pool": "mean"}
    pool_norm = "fc_norm.weight" in shapes
    if pool == "avg" or (not pool and pool_norm):
        dialect["pool"] = "mean"
    if pool_norm:
        dialect["norm_pooled"] = True
    if "pre_logits.fc.weight" in shapes:
        dialect["pre_logits"] = shapes["pre_logits.fc.weight"][0]
    return dialect


# ---------------------------------------------------------------- preparation of pictures

def timm_processor(config: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of the image processor for a network of timm.

    `config` is the configuration of the network. `card` is the content of timm's config.json in its present form, or
    {}. An option that a card does not state gets timm's default. Without a card, an option gets the value that most
    networks in timm's own list have.
    """
    bit = config["model_type"] == "bit"
    size = config.get("image_size", 448)
    height, width = (size, size) if isinstance(size, int) else size
    usual = {"interpolation": "bilinear" if bit else "bicubic", "crop_pct": 0.9 if height == 224 else 1.0,
             "crop_mode": "center" if height == width else "squash", "mean": [0.5], "std": [0.5]}
    stated = {key: value for key, value in (card.get("pretrained_cfg") or {}).items() if value is not None}
    options = {"input_size": [3, height, width], **(UNSTATED if card else usual), **stated}
    # The position table decides the size of a ViT's picture. The config.json may belong to another network.
    if not bit:
        options["input_size"] = [3, height, width]
    C = config["num_channels"]
    _, height, width = _input_size(options["input_size"])
    # The card of a network with one channel may have the numbers of three colours. If these numbers differ, the network
    # can still be loaded, and the image processor is refused when a picture is prepared.
    if C == 1:
        colours = for_timm({**options, "input_size": [3, height, width]})
        try:
            return for_channels(colours, 1)
        except ValueError:
            return colours
    return for_timm({**options, "input_size": [C, height, width]})


def for_timm(pretrained_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of the image processor for the `pretrained_cfg` of a timm checkpoint.

    Args:
        pretrained_cfg: A dictionary with the keys `input_size` (C, H, W), `interpolation`, `crop_pct` in (0, 1],
            `mean` and `std`, each with C numbers or with one number. The key `crop_mode` is "center" (the default) or
            "squash". Other keys are ignored.

    Returns:
        A dictionary for `ViTHybridImageProcessor(**options)`. The processor then resizes, crops and rounds like
        `timm.data.transforms_factory.transforms_imagenet_eval`.

    Raises:
        ValueError: A key is missing, or has a value that cannot be used. The message names the key.

    >>> options = for_timm({"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9,
    ...                     "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]})
    >>> options["size"], options["crop_size"], options["crop_rounding"]
    ({'shortest_edge': 248}, {'height': 224, 'width': 224}, 'half_even')
    """
    _check_keys(pretrained_cfg, ("input_size", "interpolation", "crop_pct", "mean", "std"))
    C, height, width = _input_size(pretrained_cfg["input_size"])
    interpolation, part = pretrained_cfg["interpolation"], pretrained_cfg["crop_pct"]
    mode = pretrained_cfg.get("crop_mode") or "center"
    check_option(mode in ("center", "squash"), "crop_mode", mode, "'center' or 'squash'")
    # If the crop is not square, timm rounds the long side by another rule, which this package does not implement.
    check_option(mode == "squash" or height == width, "input_size", pretrained_cfg["input_size"],
           "square if crop_mode is 'center'")
    check_option(isinstance(interpolation, str) and interpolation in INTERPOLATIONS, "interpolation", interpolation,
           f"one of {', '.join(INTERPOLATIONS)}")
    check_option(is_finite_number(part) and 0 < part <= 1, "crop_pct", part, "a number above 0, at most 1")
    size = {"height": math.floor(height / part), "width": math.floor(width / part)}
    if mode == "center":
        size = {"shortest_edge": size["height"]}
    return {"do_resize": True, "size": size, "resample": INTERPOLATIONS[interpolation],
            "do_center_crop": True, "crop_size": {"height": height, "width": width}, "crop_rounding": "half_even",
            "do_rescale": True, "rescale_factor": 1 / 255, "do_convert_rgb": True, "do_normalize": True,
            "image_mean": _per_channel(pretrained_cfg, "mean", C), "image_std": _per_channel(pretrained_cfg, "std", C)}


def to_timm(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Converts options of the image processor to keys of a `pretrained_cfg`.

    A `pretrained_cfg` cannot express all options. To find a difference, add `input_size` to the result, and compare
    `for_timm(result)` with `options`.

    >>> cfg = {"interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "mean": [0.5] * 3, "std": [0.25] * 3}
    >>> result = to_timm(for_timm({**cfg, "input_size": [3, 224, 224]}))
    >>> result["crop_mode"], result["crop_pct"], result["std"]
    ('center', 0.903, [0.25, 0.25, 0.25])
    """
    if options is None:
        return {}
    size, crop = options.get("size") or {}, options.get("crop_size") or {}
    if not options.get("do_center_crop", True):
        crop = {}
    names: dict[Any, str] = {number: name for name, number in INTERPOLATIONS.items()}
    edge: Any = size.get("shortest_edge", size.get("height"))
    height = crop.get("height", edge)
    # For a crop of 224 out of 248, timm writes the crop_pct 0.9.
    # The crop_pct 0.903, which is 224 / 248 in three digits, also gives the size 248.
    parts = [part for part in (round(height / edge, 3), height / edge)
             if 0 < part <= 1 and math.floor(height / part) == edge]
    return {"interpolation": names.get(options.get("resample"), "bicubic"), "crop_pct": parts[0] if parts else 1.0,
            "crop_mode": "center" if "shortest_edge" in size else "squash",
            "mean": list(options.get("image_mean") or [0.5] * 3), "std": list(options.get("image_std") or [0.5] * 3)}


def _check_keys(pretrained_cfg: Any, names: tuple[str, ...]) -> None:
    check_option(isinstance(pretrained_cfg, Mapping), "pretrained_cfg", pretrained_cfg, "a dictionary")
    missing = [name for name in names if name not in pretrained_cfg]
    if missing:
        raise ValueError(f"pretrained_cfg lacks {', '.join(missing)}; it holds {name_list(map(str, pretrained_cfg))}")


def _input_size(value: Any) -> tuple[int, int, int]:
    """[C, H, W] -> C, H, W"""
    check_option(isinstance(value, (list, tuple)) and len(value) == 3 and all(type(n) is int and n > 0 for n in value),
                 "input_size", value, "[channels, rows, columns]")
    return value[0], value[1], value[2]


def _per_channel(pretrained_cfg: Mapping[str, Any], name: str, C: int) -> list[float]:
    """Returns the C numbers of an option.  One number is the number of each channel."""
    value = pretrained_cfg[name]
    numbers = isinstance(value, (list, tuple)) and len(value) in (1, C) and all(map(is_finite_number, value))
    plural = "numbers" if C > 1 else "number"
    check_option(numbers, name, value, f"{C} finite {plural}")
    check_option(name != "std" or all(value), name, value, f"{C} {plural} that are not 0")
    return list(value) * (C if len(value) == 1 else 1)
