"""How each dialect prepares a picture, as options of the image processor.

    Hugging Face   as its preprocessor_config.json states; for a plain ViT with the defaults of ViTImageProcessor
    timm           short side to floor(size / crop_pct), Pillow; crop from the centre; mean and std of the checkpoint
    JAX, BiT       both sides to the size, ratio not kept; TensorFlow's bilinear; (x - 127.5) / 127.5
    BiT (PyTorch)  both sides to the size; Pillow's bilinear; mean and std 0.5
"""

import math
from collections.abc import Mapping
from typing import Any

# timm's names of Pillow's filters, and Pillow's numbers for them.
INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def for_image(options: Mapping[str, Any] | None, old: tuple[int, int], new: tuple[int, int]) -> dict[str, Any] | None:
    """The options for a network whose picture, (H, W) in pixels, changed from `old` to `new`.

    A size or crop of the old picture becomes that of the new one; a short side is scaled in proportion.
    """
    if options is None:
        return None
    changed, size = dict(options), options.get("size")
    same_as_old = (_sides(old), old[0] if old[0] == old[1] else None)
    if options.get("crop_size") in same_as_old:
        changed["crop_size"] = _sides(new)
    if size in same_as_old:
        changed["size"] = _sides(new)
    elif isinstance(size, Mapping) and type(size.get("shortest_edge")) is int:
        changed["size"] = {"shortest_edge": round(size["shortest_edge"] * min(new) / min(old))}
    return changed


def check_option(holds: bool, name: str, found: Any, expected: str) -> None:
    """Raises ValueError about an option unless a condition holds."""
    if not holds:
        raise ValueError(f"{name} must be {expected}; found {found!r}")


def is_finite_number(value: Any) -> bool:
    """Whether a value of a JSON document is a finite int or float.  True and False are not."""
    return type(value) in (int, float) and math.isfinite(value)


def _sides(image: tuple[int, int]) -> dict[str, int]:
    return {"height": image[0], "width": image[1]}
