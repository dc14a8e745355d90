"""A picture becomes pixel_values, the input of the network.

    picture            (H, W)             of any mode that Pillow converts to RGB
    rgb                (H, W, 3)          uint8
    resize             (h, w, 3)          uint8 if the input is uint8; the short side becomes 384
    centre_crop        (384, 384, 3)      the same dtype
    rescale            (384, 384, 3)      float32, 0 to 1
    normalize          (384, 384, 3)      float32, -1 to 1
    pixel_values       (B, 3, 384, 384)   float32; the image processor (api/processor.py) transposes and stacks

The result equals that of ViTHybridImageProcessor in transformers bit for bit, with the same version of Pillow, which
resizes. Since 13.0, if a picture shrinks much more in height than in width, Pillow resizes it vertically first. Its
result then differs from that of 12.x by up to 20 levels of 255.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from .pictures.resample import TF_BILINEAR, tf_bilinear

CROP_ROUNDINGS = ("floor", "half_even")
Numbers = float | Sequence[float] | np.ndarray


class Steps(NamedTuple):
    """What is done to a picture.  None omits a step.  The defaults are those of the published checkpoint."""
    size: int | tuple[int, int] | None = 384                # the short side, or (height, width)
    resample: int | str = Image.Resampling.BICUBIC          # or TF_BILINEAR, as in Google's code
    crop: tuple[int, int] | None = (384, 384)               # height, width
    crop_rounding: str = "floor"                            # or "half_even", as in timm
    factor: float | None = 1 / 255
    mean: Numbers | None = (0.5, 0.5, 0.5)                  # one number, or one per channel
    std: Numbers = (0.5, 0.5, 0.5)                          # not used if mean is None


def prepare(image: np.ndarray, steps: Steps) -> np.ndarray:
    """One picture through the steps.  (H, W, C) -> (h, w, C)

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

    Pillow's rules: alpha is dropped, and 16-bit values above 255 become 255. `open_picture` reads files better: it
    composites alpha, scales 16 bits, and returns RGB.
    """
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def resized_size(height: int, width: int, size: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns after resizing: `size` itself, or the short side is `size` and the ratio is kept."""
    if not isinstance(size, int):
        return size
    # The long side is rounded down: 384 * 640 / 427 = 575.6 becomes 575.
    if height < width:
        return size, int(size * width / height)
    return int(size * height / width), size


def resize(image: np.ndarray, height: int, width: int, resample: int | str) -> np.ndarray:
    """Resample with Pillow, or with TF_BILINEAR as TensorFlow does.  (H, W, C) -> (h, w, C)

    Pillow resamples bytes. Whole numbers in 0..255 return as uint8. Fractions in 0..1 are cut to 256 levels, resized,
    and return as float32 in 0..1. With Pillow, other numbers raise ValueError. TF_BILINEAR takes all numbers and
    returns float32.
    """
    if resample == TF_BILINEAR:
        return tf_bilinear(image, height, width)
    C = image.shape[2]
    pixels, fractions = as_bytes(image)
    # As in transformers: Pillow takes two channels as LA and four as RGBA, and weights the colours by alpha.
    picture = Image.fromarray(pixels[:, :, 0] if C == 1 else pixels)
    filtered = picture.resize((width, height), Image.Resampling(resample))
    resized = np.array(filtered).reshape(height, width, C)
    return rescale(resized, 1 / 255) if fractions else resized


def as_bytes(image: np.ndarray) -> tuple[np.ndarray, bool]:
    """Pixels as bytes, and whether they were fractions.  (H, W, C) -> (H, W, C) uint8, bool"""
    if image.dtype == np.uint8:
        return image, False
    low, high = image.min(), image.max()
    # As in transformers. np.allclose is tolerant: 100.0009 counts as whole. A picture of only 0.0 and 1.0 counts as
    # whole numbers, not as fractions.
    if 0 <= low and high <= 255 and np.allclose(image, image.astype(int)):
        return image.astype(np.uint8), False
    if 0 <= low and high <= 1:
        # The product is rounded to float32 before it is cut to an integer: 0.99999999 becomes 255, not 254.
        return rescale(image, 255).astype(np.uint8), True
    raise ValueError("to be resized, pixels must be whole numbers in 0..255 or fractions in 0..1; "
                     f"found {image.dtype} from {low} to {high}")


def centre_crop(image: np.ndarray, height: int, width: int, rounding: str = "floor") -> np.ndarray:
    """The middle of a picture; a picture that is too small is padded with zeros.  (H, W, C) -> (h, w, C)"""
    H, W, C = image.shape
    top = surplus_before(H - height, rounding)
    left = surplus_before(W - width, rounding)
    cropped = np.zeros((height, width, C), image.dtype)
    # A slice that reaches beyond the end of an array is clipped there.
    middle = image[max(top, 0):top + height, max(left, 0):left + width]
    cropped[max(-top, 0):H - top, max(-left, 0):W - left] = middle
    return cropped


def surplus_before(surplus: int, rounding: str) -> int:
    """How many of `surplus` rows are cut off before the crop.

    If `surplus` is negative, rows are missing. Then a result of -2 means that 2 rows of zeros are added before.

    >>> [surplus_before(n, "floor") for n in (-3, 1, 3)], [surplus_before(n, "half_even") for n in (-3, 1, 3)]
    ([-2, 0, 1], [-1, 0, 2])
    """
    if rounding == "floor":
        return surplus // 2
    # timm calls torchvision. It uses Python's round, where a half goes to the even number. If rows are missing, half of
    # them, rounded down, are added before.
    return round(surplus / 2) if surplus > 0 else -(-surplus // 2)


def rescale(image: np.ndarray, factor: float) -> np.ndarray:
    """image * factor.  (H, W, C) -> (H, W, C) float32"""
    # Computed in float64 and rounded once. In float32, the result would differ for 126 of the 256 byte values.
    return (image.astype(np.float64) * factor).astype(np.float32)


def normalize(image: np.ndarray, mean: Numbers, std: Numbers) -> np.ndarray:
    """(x - mean) / std, per channel.  image (H, W, C), mean and std (C,) or one number -> (H, W, C)"""
    # Integers become float32. float16 and float64 keep their dtype, and mean and std are rounded to it.
    x = image if image.dtype.kind == "f" else image.astype(np.float32)
    return (x - np.array(mean, x.dtype)) / np.array(std, x.dtype)
