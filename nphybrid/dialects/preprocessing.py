"""The options of the image processor in each dialect.

For Hugging Face, the file preprocessor_config.json states the options.  For a plain ViT, the defaults of
ViTImageProcessor are added.

In the following, `size` is the side of the network's picture.  For timm, a filter of Pillow resizes the short side to
floor(size / crop_pct).  Then the centre is cut out.  The checkpoint states crop_pct, the mean and the std.

For JAX and BiT, TensorFlow's bilinear filter resizes both sides to `size`.  The aspect ratio is not kept.  The mean and
the std are 127.5, for pixels from 0 to 255.

For BiT in PyTorch, Pillow's bilinear filter resizes both sides to `size`.  The aspect ratio is not kept.  The mean and
the std are 0.5, for pixels from 0 to 1.
"""

import math
from collections.abc import Mapping
from typing import Any

# {timm's name of a Pillow filter: Pillow's number of this filter}
INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def for_image(options: Mapping[str, Any] | None, old: tuple[int, int], new: tuple[int, int]) -> dict[str, Any] | None:
    """Returns a copy of an image processor's options, changed for pictures of another size.

    The size of a picture, (H, W) in pixels, changes from `old` to `new`. If `size` or `crop_size` of the options is
    `old`, it becomes `new`. The `shortest_edge` is scaled in proportion to the short side of the picture.
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
    """Raises ValueError about an option if the condition `holds` is False."""
    if not holds:
        raise ValueError(f"{name} must be {expected}; found {found!r}")


def is_finite_number(value: Any) -> bool:
    """Whether a value of a JSON document is a finite int or float.  True and False are not numbers."""
    return type(value) in (int, float) and math.isfinite(value)


def _sides(image: tuple[int, int]) -> dict[str, int]:
    return {"height": image[0], "width": image[1]}
