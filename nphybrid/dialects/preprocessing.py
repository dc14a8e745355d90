"""The options of the image processor in each dialect.

For Hugging Face, the file preprocessor_config.json names a class and its options, which `processors` describes.

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

    The size of a picture, (H, W) in pixels, changes from `old` to `new`. The sides in `size` and `crop_size` of the
    options change in proportion, and the `shortest_edge` in proportion to the short side of the picture. Other values
    are not changed.

    >>> options = for_image({"size": {"shortest_edge": 256}, "crop_size": 224}, (224, 224), (384, 384))
    >>> options["size"], options["crop_size"]
    ({'shortest_edge': 439}, {'height': 384, 'width': 384})
    """
    if options is None:
        return None
    ratios = {"shortest_edge": (min(old), min(new)), "height": (old[0], new[0]), "width": (old[1], new[1])}
    changed = dict(options)
    for key in "size", "crop_size":
        size = options.get(key)
        if type(size) is int and (key == "crop_size" or old[0] == old[1] == size):
            size = {"height": size, "width": size}
        if isinstance(size, Mapping) and all(type(n) is int for n in size.values()):
            changed[key] = {name: round(n * ratios[name][1] / ratios[name][0]) if name in ratios else n
                            for name, n in size.items()}
    return changed


def for_channels(options: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Returns a copy of an image processor's options, changed for a network with this number of channels.

    For one channel, a mean that is the same number for each channel becomes a list of one number, and the image
    processor then converts pictures to grey. The std is changed likewise. Without normalization, the mean becomes 0
    and the std 1, which change no pixel. Other options are not changed. Raises ValueError if the mean or the std has
    different numbers for the channels.

    >>> for_channels({"image_mean": [0.5, 0.5, 0.5], "image_std": 0.25}, 1)
    {'image_mean': [0.5], 'image_std': [0.25]}
    """
    changed = dict(options)
    if channels == 1 and options.get("do_normalize") is False:
        return {**changed, "do_normalize": True, "image_mean": [0.0], "image_std": [1.0]}
    for key in ("image_mean", "image_std") if channels == 1 else ():
        value = options.get(key)
        numbers = list(value) if isinstance(value, (list, tuple)) else [value]
        if any(n != numbers[0] for n in numbers):
            raise ValueError(f"the network has 1 channel, but the {key} of its image processor is {value}, one number "
                             "per colour; expected one number. Give options with one number: on the command line with "
                             "--processor FILE, in Python with model.processor = {**model.processor, "
                             "'image_mean': [m], 'image_std': [s]}")
        if numbers and is_finite_number(numbers[0]):
            changed[key] = numbers[:1]
    return changed


def check_option(holds: bool, name: str, found: Any, expected: str) -> None:
    """Raises ValueError about an option if the condition `holds` is False."""
    if not holds:
        raise ValueError(f"{name} must be {expected}; found {found!r}")


def is_finite_number(value: Any) -> bool:
    """Whether a value of a JSON document is a finite int or float.  True and False are not numbers."""
    return type(value) in (int, float) and math.isfinite(value)
