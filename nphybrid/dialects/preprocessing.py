"""How each dialect prepares a picture, as options of the image processor.

    timm           short side to floor(size / crop_pct), Pillow; crop from the centre; mean and std of the checkpoint
    JAX, BiT       both sides to the size, ratio not kept; TensorFlow's bilinear; (x - 127.5) / 127.5
    BiT (PyTorch)  both sides to the size; Pillow's bilinear; mean and std 0.5

A Hugging Face checkpoint says it itself, in preprocessor_config.json; what a plain ViT's leaves unsaid is not what a
hybrid's does.
"""
import math
from collections.abc import Mapping


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


def _check(holds, name, found, expected):
    if not holds:
        raise ValueError(f"{name} must be {expected}; found {found!r}")


def _is_number(value):
    return type(value) in (int, float) and math.isfinite(value)
