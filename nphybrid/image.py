"""The steps from a picture to pixel_values (the input of the network), with the shape and dtype of each result.

    `picture`          (H, W)             in any mode that Pillow converts to RGB.
    `rgb`              (H, W, 3)          uint8.
    `resize`           (h, w, 3)          uint8, with a short side of 384 pixels.
    `centre_crop`      (384, 384, 3)      uint8.
    `rescale`          (384, 384, 3)      float32, from 0 to 1.
    `normalize`        (384, 384, 3)      float32, from -1 to 1.
    `pixel_values`     (B, 3, 384, 384)   float32.

The image processor (api/processor.py) transposes the normalized pictures and stacks them into one array.

With the same version of Pillow, ViTHybridImageProcessor in transformers gives equal pixel_values, bit for bit. If the
height of a picture shrinks much more than the width, Pillow 13.0 and later resize the height first. For these pictures,
the results of Pillow 12 and Pillow 13 differ by up to 20 of 255 levels.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from .pictures.resample import TF_BILINEAR, tf_bilinear

CROP_ROUNDINGS = ("floor", "half_even")
Numbers = float | Sequence[float] | np.ndarray


class Steps(NamedTuple):
    """The steps that prepare a picture.  If `size`, `crop`, `factor` or `mean` is None, its step is omitted.

    The default steps are those of the published checkpoint.
    """
    size: int | tuple[int, int] | None = 384                # the short side, or (height, width)
    resample: int | str = Image.Resampling.BICUBIC          # a filter of Pillow, or TF_BILINEAR as in Google's code
    crop: tuple[int, int] | None = (384, 384)               # height and width
    crop_rounding: str = "floor"                            # "floor", or "half_even" as in timm
    factor: float | None = 1 / 255
    mean: Numbers | None = (0.5, 0.5, 0.5)                  # one number, or one number per channel
    std: Numbers = (0.5, 0.5, 0.5)                          # not used if mean is None


def prepare(image: np.ndarray, steps: Steps) -> np.ndarray:
    """Apply the steps to one picture.  (H, W, C) -> (h, w, C)

    >>> prepare(np.zeros((480, 640, 3), np.uint8), Steps()).shape
    (384, 384, 3)
    """
    x = image                                                                           # (480, 640, 3)
    if steps.size is not None:
        H, W, _ = x.shape
        height, width = resized_size(H, W, steps.size)
        x = resize(x, height, width, steps.resample)                                    # (384, 512, 3)
    if steps.crop is not None:
        x = centre_crop(x, *steps.crop, steps.crop_rounding)                            # (384, 384, 3)
    if steps.factor is not None:
        x = rescale(x, steps.factor)
    if steps.mean is not None:
        x = normalize(x, steps.mean, steps.std)
    return x


def rgb(picture: Image.Image) -> np.ndarray:
    """The RGB pixels of a Pillow picture.  -> (H, W, 3) uint8

    Pillow drops the alpha channel and replaces 16-bit values above 255 by 255. For files, use `open_picture`, which
    blends transparent pixels with a background and scales 16-bit values to 8 bits.
    """
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def resized_size(height: int, width: int, size: int | tuple[int, int]) -> tuple[int, int]:
    """The (height, width) of a picture after resizing.

    If `size` is a pair, the result is `size`. An int `size` is the length of the short side, and the ratio of the sides
    is kept.
    """
    if not isinstance(size, int):
        return size
    # The length of the long side is rounded down. For example, 384 * 640 / 427 = 575.6 becomes 575.
    if height < width:
        return size, int(size * width / height)
    return int(size * height / width), size


def resize(image: np.ndarray, height: int, width: int, resample: int | str) -> np.ndarray:
    """Resize a picture with Pillow, or with TensorFlow's method TF_BILINEAR.  (H, W, C) -> (h, w, C)

    Pillow resizes only bytes. For whole numbers in 0..255, the result is uint8. Fractions in 0..1 are reduced to 256
    levels, and the result is float32 in 0..1. With Pillow, all other numbers raise ValueError. TF_BILINEAR
    accepts all numbers and returns float32.
    """
    if resample == TF_BILINEAR:
        return tf_bilinear(image, height, width)
    C = image.shape[2]
    pixels, fractions = as_bytes(image)
    # As in transformers, Pillow treats two channels as LA and four as RGBA, and weights the colours by alpha.
    picture = Image.fromarray(pixels[:, :, 0] if C == 1 else pixels)
    filtered = picture.resize((width, height), Image.Resampling(resample))
    resized = np.array(filtered).reshape(height, width, C)
    return rescale(resized, 1 / 255) if fractions else resized


def as_bytes(image: np.ndarray) -> tuple[np.ndarray, bool]:
    """Convert pixels to bytes.  (H, W, C) -> (H, W, C) uint8, bool

    The bool is True if the pixels were fractions in 0..1.
    """
    if image.dtype == np.uint8:
        return image, False
    low, high = image.min(), image.max()
    # transformers has an equal test. np.allclose accepts 100.0009 as a whole number.
    # If every pixel is 0.0 or 1.0, the pixels are whole numbers, not fractions.
    if 0 <= low and high <= 255 and np.allclose(image, image.astype(int)):
        return image.astype(np.uint8), False
    if 0 <= low and high <= 1:
        # The product is rounded to float32, then truncated to an integer. The fraction 0.99999999 becomes 255, not 254.
        return rescale(image, 255).astype(np.uint8), True
    raise ValueError("Pillow resizes only whole numbers in 0..255 or fractions in 0..1; "
                     f"the pixels are {image.dtype} from {low} to {high}")


def centre_crop(image: np.ndarray, height: int, width: int, rounding: str = "floor") -> np.ndarray:
    """Crop a picture around its centre.  (H, W, C) -> (h, w, C)

    A picture that is smaller than the crop is padded with zeros.
    """
    H, W, C = image.shape
    top = surplus_before(H - height, rounding)
    left = surplus_before(W - width, rounding)
    cropped = np.zeros((height, width, C), image.dtype)
    # NumPy clips a slice at the end of the array.
    middle = image[max(top, 0):top + height, max(left, 0):left + width]
    cropped[max(-top, 0):H - top, max(-left, 0):W - left] = middle
    return cropped


def surplus_before(surplus: int, rounding: str) -> int:
    """The number of surplus rows that are cut off above the crop, or of surplus columns that are cut off at its left.

    If the picture has too few rows, `surplus` is negative, and the result is negative or 0. For example, the result -2
    means that 2 rows of zeros are added above the picture.

    >>> [surplus_before(n, "floor") for n in (-3, 1, 3)], [surplus_before(n, "half_even") for n in (-3, 1, 3)]
    ([-2, 0, 1], [-1, 0, 2])
    """
    if rounding == "floor":
        return surplus // 2
    # timm calls torchvision, which rounds a half to the even number, as Python's `round` does.
    # If the picture has too few rows, half of the missing rows, rounded down, are added above the picture.
    return round(surplus / 2) if surplus > 0 else -(-surplus // 2)


def rescale(image: np.ndarray, factor: float) -> np.ndarray:
    """image * factor.  (H, W, C) -> (H, W, C) float32"""
    # The product is computed in float64 and then rounded to float32.
    # A product in float32 with the factor 1 / 255 would give other results for 126 of the 256 byte values.
    return (image.astype(np.float64) * factor).astype(np.float32)


def normalize(image: np.ndarray, mean: Numbers, std: Numbers) -> np.ndarray:
    """Compute (image - mean) / std in each channel.  (H, W, C) -> (H, W, C)

    `mean`, `std`: arrays (C,) or numbers.
    """
    # Integers become float32. Arrays of float16 and float64 keep their dtype, and mean and std get the dtype of x.
    x = image if image.dtype.kind == "f" else image.astype(np.float32)
    return (x - np.array(mean, x.dtype)) / np.array(std, x.dtype)
