"""The image processors of Hugging Face: what the options of each class mean.

A preprocessor_config.json names the class that wrote it.  The class decides what an option means, which options it
ignores, and the options that the file does not state.  `spelled_out` converts the options of a class in CLASSES to the
options of ViTHybridImageProcessor, which then computes the same pixels.  The table is from transformers 4.57.

A class whose name ends in "Fast" resizes with torchvision, which can differ from Pillow by one level of 255.  Its
options are read as those of the class without "Fast", which transformers also uses if torchvision is not installed.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..text import shortened
from .preprocessing import INTERPOLATIONS, check_option, is_finite_number

HALF = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLIP = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
BILINEAR, BICUBIC = INTERPOLATIONS["bilinear"], INTERPOLATIONS["bicubic"]


class Kind(NamedTuple):
    """The defaults of a class of image processors."""

    size: int
    crop: int | None                      # None: the class has no crop, and ignores the options of a crop
    square: bool                          # True: `size` is the size of both sides; False: of the short side
    resample: int
    normalization: tuple[list[float], list[float]]          # mean and std
    convert_rgb: bool = False


CLASSES = {
    "ViT": Kind(224, None, True, BILINEAR, HALF),
    "DeiT": Kind(256, 224, True, BICUBIC, HALF),
    "Beit": Kind(256, 224, True, BICUBIC, HALF),
    "Siglip": Kind(224, None, True, BICUBIC, HALF),
    "Pvt": Kind(224, None, True, BILINEAR, IMAGENET),
    "ViTHybrid": Kind(224, 224, False, BICUBIC, CLIP, convert_rgb=True),
    "Bit": Kind(224, 224, False, BICUBIC, CLIP, convert_rgb=True),
    "CLIP": Kind(224, 224, False, BICUBIC, CLIP, convert_rgb=True),
    "ConvNext": Kind(384, None, False, BILINEAR, HALF),
    "Levit": Kind(224, 224, False, BICUBIC, IMAGENET),
    "MobileNetV1": Kind(256, 224, False, BILINEAR, HALF),
    "MobileNetV2": Kind(256, 224, False, BILINEAR, HALF),
}
CLASS_KEYS = ("image_processor_type", "feature_extractor_type")
# The options that all classes have.
OPTIONS = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
           "do_normalize", "image_mean", "image_std", "do_convert_rgb")
NAME = re.compile(r"(\w+?)(ImageProcessor(Fast)?|FeatureExtractor)")
# Options of some classes that change the pixels and that are not computed here. They are refused if they are true.
REFUSED = ("do_pad", "use_square_size")
# The class that computes exactly the options of `spelled_out`, in all versions of transformers since 4.26.
GENERAL = "BitImageProcessor"


def spelled_out(options: Mapping[str, Any], model_type: str | None = None) -> dict[str, Any]:
    """Converts the options of a preprocessor_config.json to options with which ViTHybridImageProcessor computes the
    pixels of the class that the file names.

    If the file names no class, the `model_type` of config.json decides: "vit" means ViTImageProcessor, and any other
    value means ViTHybridImageProcessor. The options of the result are not changed by a second call. Raises ValueError
    for a class that is not in CLASSES, and for an option that this package does not compute.

    >>> spelled_out({"feature_extractor_type": "DeiTFeatureExtractor", "size": 36, "crop_size": 32})["size"]
    {'height': 36, 'width': 36}
    >>> spelled_out({"image_processor_type": "ConvNextImageProcessor", "size": 224})["size"]
    {'shortest_edge': 256}
    """
    written = next((options[key] for key in CLASS_KEYS if options.get(key)), None)
    if written is None and model_type != "vit":
        return dict(options)
    name, fast = _class_name("ViTImageProcessor" if written is None else written)
    for key in REFUSED:
        check_option(not options.get(key), f"{key} of {written or name}", options.get(key), "false")
    kind = CLASSES[name]
    # For the classes of Pillow, null means false in the options do_resize, do_rescale, …, and the default in others.
    given = {key: value for key, value in options.items()
             if value is not None or (key.startswith("do_") and not fast)}
    result = {**_defaults(kind), **given}
    if kind.crop is None and written is not None and not fast:
        result["do_center_crop"] = False
    result["size"] = _size(result["size"], kind, str(written or name))
    return TRANSLATED[name](result) if name in TRANSLATED else result


def with_class(options: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """Returns the options for the preprocessor_config.json of a model, with the name of a class if it needs one.

    Without a name, transformers chooses the class by the `model_type` of config.json. For "vit", this would be
    ViTImageProcessor, which has no crop. So options without a name get the name GENERAL there.
    """
    named = model_type != "vit" or any(options.get(key) for key in CLASS_KEYS)
    return dict(options) if named else {**options, "image_processor_type": GENERAL}


def _class_name(written: Any) -> tuple[str, bool]:
    """Returns a key of CLASSES, and whether the class is a fast class, for a name such as "DeiTImageProcessorFast"."""
    match = NAME.fullmatch(written) if isinstance(written, str) else None
    if match is None or match[1] not in CLASSES:
        raise ValueError(f"the image processor is a {shortened(written)}, whose pixels nphybrid does not compute; "
                         f"expected one of {', '.join(f'{name}ImageProcessor' for name in CLASSES)}, or the options of "
                         "another image processor")
    return match[1], match[3] is not None


def _defaults(kind: Kind) -> dict[str, Any]:
    """Returns the options of a class without the options of a file."""
    mean, std = kind.normalization
    options = {"do_resize": True, "size": kind.size, "resample": kind.resample, "do_center_crop": kind.crop is not None,
               "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": list(mean),
               "image_std": list(std), "do_convert_rgb": kind.convert_rgb}
    if kind.crop is not None:
        options["crop_size"] = {"height": kind.crop, "width": kind.crop}
    return options


def _size(size: Any, kind: Kind, written: str) -> Any:
    """Returns a `size` in which a number is spelled out.  Raises ValueError for keys that the class does not accept.

    A number such as 224.0 is accepted, because some programs write each number of a JSON file in this form.
    """
    if isinstance(size, (int, float)):
        return {"height": size, "width": size} if kind.square else {"shortest_edge": size}
    if kind.square and isinstance(size, Mapping):
        check_option({"height", "width"} <= size.keys(), f"size of {written}", size, "a height and a width")
    return size


def _convnext(options: dict[str, Any]) -> dict[str, Any]:
    """ConvNextImageProcessor: a crop of `crop_pct` of the picture below 384 pixels; both sides from 384 pixels on."""
    options = {**options, "image_processor_type": GENERAL}
    size, part = options["size"], options.pop("crop_pct", 224 / 256)
    edge: Any = size.get("shortest_edge") if isinstance(size, Mapping) else None
    check_option(type(edge) is int, "size of ConvNextImageProcessor", size, "{'shortest_edge': n}")
    check_option(is_finite_number(part) and part > 0, "crop_pct", part, "a number above 0")
    sides = {"height": edge, "width": edge}
    if edge >= 384:
        return {**options, "size": sides, "do_center_crop": False, "crop_size": sides}
    # The crop is a part of the resizing: without resizing, there is no crop.
    return {**options, "size": {"shortest_edge": int(edge / part)}, "do_center_crop": bool(options["do_resize"]),
            "crop_size": sides}


def _levit(options: dict[str, Any]) -> dict[str, Any]:
    """LevitImageProcessor: the short side becomes 256 / 224 of the size that the options state."""
    options = {**options, "image_processor_type": GENERAL}
    edge = options["size"].get("shortest_edge") if isinstance(options["size"], Mapping) else None
    return options if edge is None else {**options, "size": {"shortest_edge": int(256 / 224 * edge)}}


TRANSLATED = {"ConvNext": _convnext, "Levit": _levit}
