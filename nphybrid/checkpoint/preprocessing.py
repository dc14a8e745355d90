"""How each dialect prepares a picture, as options of the image processor.

    timm           short side to floor(size / crop_pct), Pillow; crop from the centre; mean and std of the checkpoint
    JAX, BiT       both sides to the size, ratio not kept; TensorFlow's bilinear; (x - 127.5) / 127.5
    BiT (PyTorch)  both sides to the size; Pillow's bilinear; mean and std 0.5

A Hugging Face checkpoint says it itself, in preprocessor_config.json; what a plain ViT's leaves unsaid is not what a
hybrid's does.
"""
import math
from collections.abc import Mapping

TF_BILINEAR = "tf-bilinear"               # TensorFlow's filter, beside Pillow's numbers for its own
# timm's names of Pillow's filters, and Pillow's numbers for them.
INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
FRAMEWORKS = ("jax", "torch")


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


VIT = {"do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2, "do_center_crop": False,
       "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
       "image_std": [0.5] * 3, "do_convert_rgb": False}


def for_vit(options: dict, model_type: str | None) -> dict:
    """The options of a preprocessor_config.json, with ViTImageProcessor's own defaults where that wrote it.

    It resizes both sides, by Pillow's bilinear filter, and does not crop. model_type tells where the file does not.

    >>> for_vit({"image_processor_type": "ViTImageProcessor", "size": 384}, "vit")["size"]
    {'height': 384, 'width': 384}
    """
    kind = options.get("image_processor_type") or options.get("feature_extractor_type")
    if not (str(kind).startswith(("ViTImageProcessor", "ViTFeatureExtractor")) if kind else model_type == "vit"):
        return options
    size = options.get("size")
    square = {"size": {"height": size, "width": size}} if type(size) is int else {}
    return {**VIT, **{key: value for key, value in options.items() if value is not None}, **square}


def for_image(options: dict | None, old: tuple, new: tuple) -> dict | None:
    """The options for a network whose picture, (H, W) in pixels, became another.  A crop or size of the old goes along.
    """
    if options is None:
        return None
    changed, size = dict(options), options.get("size")
    if options.get("crop_size") in (_sides(old), old[0] if old[0] == old[1] else None):
        changed["crop_size"] = _sides(new)
    if size in (_sides(old), old[0] if old[0] == old[1] else None):
        changed["size"] = _sides(new)
    elif isinstance(size, Mapping) and type(size.get("shortest_edge")) is int:
        changed["size"] = {"shortest_edge": round(size["shortest_edge"] * min(new) / min(old))}
    return changed


def _sides(image):
    return {"height": image[0], "width": image[1]}


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


def _check(holds, name, found, expected):
    if not holds:
        raise ValueError(f"{name} must be {expected}; found {found!r}")


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


def _is_number(value):
    return type(value) in (int, float) and math.isfinite(value)
