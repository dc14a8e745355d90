"""timm's dialect: its names, its config.json, its preparation of pictures."""
import math
import re
from collections.abc import Mapping

from ..tensorfile import FormatError
from .layout import CONV, PATCH, ROW, TABLE, Layout, linear_entries, norm_entries
from .preprocessing import _check, _is_number
from .shapes import _bit, _count, _stages, _vit

HEAD_CONV = Layout(lambda shape, config: (1, 1, *shape), (3, 2, 0, 1))                # (C, O)     <-> (O, C, 1, 1)


def _timm_backbone(stem, unit):
    table = {"stem.conv": (f"{stem}conv.weight", CONV), **norm_entries("stem.norm", f"{stem}norm")}
    for i in 1, 2, 3:
        table[f"stages.*.*.conv{i}"] = f"{unit}conv{i}.weight", CONV
        table |= norm_entries(f"stages.*.*.norm{i}", f"{unit}norm{i}")
    table["stages.*.*.proj"] = f"{unit}downsample.conv.weight", CONV
    return table | norm_entries("stages.*.*.norm_proj", f"{unit}downsample.norm")


def timm_names(config):
    """timm's table: a hybrid, a plain ViT, or, without blocks, a resnetv2 BiT."""
    if not config.blocks:
        return (_timm_backbone("stem.", "stages.{}.blocks.{}.") | norm_entries("features_norm", "norm")
                | linear_entries("head", "head.fc", HEAD_CONV))
    backbone, block = "patch_embed.backbone.", "blocks.{}."
    return {
        **_timm_backbone(f"{backbone}stem." if config.depths else backbone, f"{backbone}stages.{{}}.blocks.{{}}."),
        **linear_entries("tokens.proj", "patch_embed.proj", PATCH),
        "tokens.cls": ("cls_token", ROW), "tokens.positions": ("pos_embed", TABLE),
        **norm_entries("blocks.*.norm1", f"{block}norm1"), **norm_entries("blocks.*.norm2", f"{block}norm2"),
        # Of one array: the rows of the queries, of the keys, of the values.
        **linear_entries("blocks.*.query", f"{block}attn.qkv"), **linear_entries("blocks.*.key", f"{block}attn.qkv"),
        **linear_entries("blocks.*.value", f"{block}attn.qkv"), **linear_entries("blocks.*.out", f"{block}attn.proj"),
        **linear_entries("blocks.*.fc1", f"{block}mlp.fc1"), **linear_entries("blocks.*.fc2", f"{block}mlp.fc2"),
        **norm_entries("norm", "norm"), **norm_entries("pool_norm", "fc_norm"),
        **linear_entries("pre_logits", "pre_logits.fc"), **linear_entries("head", "head"),
    }


# How many heads there are in timm's networks whose heads are not 64 wide, by D: so400m, huge, giant, gigantic.
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}

# timm's networks of this kind. Others have the same names and shapes, and compute otherwise: residual post-norm (rpn),
# the tanh form of GELU (siglip).
KNOWN = re.compile(r"(vit|deit)_(tiny|small|medium|base|large|huge|giant|gigantic)_(r\d*_s\d+(_p\d+)?|patch\d+)(_\d+)?"
                   r"|resnetv2_\d+x\d+_bit(_\w+)?")

# What timm's config.json may say of a network that shapes tell as well, or that does not matter here.
TOLD = {"num_heads", "embed_dim", "depth", "mlp_ratio", "patch_size", "img_size", "num_classes", "in_chans", "qkv_bias",
        "global_pool", "class_token", "fc_norm", "dynamic_img_size", "drop_rate", "drop_path_rate", "layers"}

TIMM = {"name": "timm", "resampling": "antialiased"}


def timm_config(shapes, card):
    """The configuration of a timm file.  shapes: {name: shape}; card: its config.json, or {}.  -> dict

    Raises FormatError for what its config.json says and this package cannot do.
    """
    arguments = _arguments(card)
    pool = card.get("global_pool") or arguments.get("global_pool")
    if "pos_embed" not in shapes:
        return _bit(_stages(shapes, r"stages\.(\d+)\.blocks\.(\d+)\.conv3\.weight"), shapes["stem.conv.weight"],
                    shapes.get("head.fc.weight", (0,))[0], {"name": "timm"})
    D, token = shapes["pos_embed"][-1], "cls_token" in shapes
    if (pool == "token" and not token) or arguments.get("class_token", token) != token:
        raise FormatError(f"its config.json contradicts its arrays, which have {'a' if token else 'no'} cls_token")
    dialect = {**TIMM, **({} if token else {"class_token": False, "pool": "mean"})}
    if (pool or ("avg" if "fc_norm.weight" in shapes else "token")) == "avg":
        dialect["pool"] = "mean"
    if "fc_norm.weight" in shapes:
        dialect["norm_pooled"] = True
    if "pre_logits.fc.weight" in shapes:
        dialect["pre_logits"] = shapes["pre_logits.fc.weight"][0]
    heads = arguments.get("num_heads") or HEADS.get(D) or D // 64
    if not arguments.get("num_heads") and D not in HEADS and D % 64:
        raise FormatError(f"tokens are {D} wide, no multiple of 64: a config.json has to say {{\"model_args\": "
                          "{\"num_heads\": …}}")
    fields = dict(hidden_size=D, num_hidden_layers=_count(shapes, r"blocks\.(\d+)\."), num_attention_heads=heads,
                  intermediate_size=shapes["blocks.0.mlp.fc1.weight"][0], hidden_act="gelu", layer_norm_eps=1e-6,
                  qkv_bias="blocks.0.attn.qkv.bias" in shapes, num_labels=shapes.get("head.weight", (0,))[0],
                  dialect=dialect)
    patches = shapes["pos_embed"][-2] - token
    size = ((card.get("pretrained_cfg") or {}).get("input_size") or (None,))[1:]
    stem = shapes.get("patch_embed.backbone.stem.conv.weight", shapes.get("patch_embed.backbone.conv.weight"))
    stages = _stages(shapes, r"patch_embed\.backbone\.stages\.(\d+)\.blocks\.(\d+)\.conv3\.weight")
    patch = shapes["patch_embed.proj.weight"]
    if len(patch) == 2:                   # an old file holds the kernel flat, (D, C * P * P)
        C = stages[-1][1] if stages else stem[0] if stem else 3
        patch = patch[0], C, math.isqrt(patch[1] // C), 0
    channels, side = (stem or patch)[1], patch[2]
    return _vit(fields, patches, side, stages, stem and stem[0], channels, size)


def _arguments(card):
    """The model_args of timm's config.json, if all that it says of the network is supported."""
    arguments, architecture = card.get("model_args") or {}, card.get("architecture")
    if architecture is not None and not KNOWN.fullmatch(architecture):
        raise FormatError(f"its config.json says architecture {architecture!r}; expected a plain ViT, vit_SIZE_patchP, "
                          "a hybrid, vit_SIZE_rN_sS, or a BiT, resnetv2_NxW_bit")
    if unknown := sorted(arguments.keys() - TOLD):
        raise FormatError(f"its config.json builds the network with {', '.join(unknown)}, which is not supported")
    for pool in card.get("global_pool"), arguments.get("global_pool"):
        if pool not in (None, "token", "avg"):
            raise FormatError(f"its config.json says global_pool {pool!r}; expected 'token' or 'avg'")
    return arguments


# timm's names of Pillow's filters, and Pillow's numbers for them.
INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def for_timm(pretrained_cfg: Mapping) -> dict:
    """Options of the image processor from the `pretrained_cfg` of a timm checkpoint.

    Args:
        pretrained_cfg: with the keys `input_size` (3, H, W), `interpolation`, `crop_pct` in (0, 1], `mean` and `std`
            (3 numbers each); `crop_mode` is "center", which it is without this key too, or "squash". Other keys say
            nothing about pictures.

    Returns:
        A dictionary for `ViTHybridImageProcessor(**options)`. Resizing, cropping and their roundings are
        `timm.data.transforms_factory.transforms_imagenet_eval`'s.

    Raises:
        ValueError: a key is missing, or has a value that cannot be used; names it, what was found and expected.

    >>> options = for_timm({"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9,
    ...                     "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]})
    >>> options["size"], options["crop_size"], options["crop_rounding"]
    ({'shortest_edge': 248}, {'height': 224, 'width': 224}, 'half_even')
    """
    _check_keys(pretrained_cfg, ("input_size", "interpolation", "crop_pct", "mean", "std"))
    height, width = _input_size(pretrained_cfg["input_size"])
    interpolation, part = pretrained_cfg["interpolation"], pretrained_cfg["crop_pct"]
    mode = pretrained_cfg.get("crop_mode") or "center"
    _check(mode in ("center", "squash"), "crop_mode", mode, "'center' or 'squash'")
    # With two sides timm rounds the resized long one by another rule.
    _check(mode == "squash" or height == width, "input_size", pretrained_cfg["input_size"],
           "as many rows as columns, or crop_mode 'squash'")
    _check(isinstance(interpolation, str) and interpolation in INTERPOLATIONS, "interpolation", interpolation,
           f"one of {', '.join(INTERPOLATIONS)}")
    _check(_is_number(part) and 0 < part <= 1, "crop_pct", part, "a number above 0, at most 1")
    size = {"height": math.floor(height / part), "width": math.floor(width / part)}
    if mode == "center":
        size = {"shortest_edge": size["height"]}
    return {"do_resize": True, "size": size, "resample": INTERPOLATIONS[interpolation],
            "do_center_crop": True, "crop_size": {"height": height, "width": width}, "crop_rounding": "half_even",
            "do_rescale": True, "rescale_factor": 1 / 255, "do_convert_rgb": True, "do_normalize": True,
            "image_mean": _three(pretrained_cfg, "mean"), "image_std": _three(pretrained_cfg, "std")}


def to_timm(options: Mapping | None) -> dict:
    """What a `pretrained_cfg` can say of options of the image processor; `for_timm` tells whether that is all of it.

    >>> cfg = {"interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "mean": [0.5] * 3, "std": [0.25] * 3}
    >>> said = to_timm(for_timm({**cfg, "input_size": [3, 224, 224]}))
    >>> said["crop_mode"], said["crop_pct"], said["std"]
    ('center', 0.903, [0.25, 0.25, 0.25])
    """
    if options is None:
        return {}
    size, crop = options.get("size") or {}, options.get("crop_size") or {}
    if not options.get("do_center_crop", True):
        crop = {}
    names = {number: name for name, number in INTERPOLATIONS.items()}
    edge = size.get("shortest_edge", size.get("height"))
    wanted = crop.get("height", edge)
    # 224 of 248 is what timm calls 0.9; with three digits the quotient leads back to 248.
    parts = [part for part in (round(wanted / edge, 3), wanted / edge)
             if 0 < part <= 1 and math.floor(wanted / part) == edge]
    return {"interpolation": names.get(options.get("resample"), "bicubic"), "crop_pct": parts[0] if parts else 1.0,
            "crop_mode": "center" if "shortest_edge" in size else "squash",
            "mean": list(options.get("image_mean") or [0.5] * 3), "std": list(options.get("image_std") or [0.5] * 3)}


def _check_keys(pretrained_cfg, names):
    _check(isinstance(pretrained_cfg, Mapping), "pretrained_cfg", pretrained_cfg, "a dictionary")
    missing = [name for name in names if name not in pretrained_cfg]
    if missing:
        raise ValueError(f"pretrained_cfg lacks {', '.join(missing)}; it holds {', '.join(map(str, pretrained_cfg))}")


def _input_size(value):
    """[3, H, W] -> H, W"""
    _check(isinstance(value, (list, tuple)) and len(value) == 3 and value[0] == 3
           and all(type(n) is int and n > 0 for n in value), "input_size", value, "[3, rows, columns]")
    return value[1:]


def _three(pretrained_cfg, name):
    value = pretrained_cfg[name]
    _check(isinstance(value, (list, tuple)) and len(value) == 3 and all(map(_is_number, value)), name, value,
           "3 finite numbers")
    _check(name != "std" or all(value), name, value, "without zero")
    return list(value)
