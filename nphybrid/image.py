"""Pictures -> pixel_values, what the network reads.

    picture            (H, W)             any mode Pillow can turn into RGB
    rgb                (H, W, 3)          uint8
    resize             (h, w, 3)          uint8, the short side becomes 384
    centre_crop        (384, 384, 3)      uint8
    rescale            (384, 384, 3)      float32, 0 to 1
    normalize          (384, 384, 3)      float32, -1 to 1
    pixel_values       (B, 3, 384, 384)   float32

Every bit is that of transformers' ViTHybridImageProcessor on the same Pillow. Pillow resizes, so its version
is part of the result: since 13.0 a picture that shrinks much more in height than in width is resized
vertically first, and differs by up to 20 levels of 255 from what 12.x makes of it.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from .pictures.resample import TF_BILINEAR, tf_bilinear

CROP_ROUNDINGS = ("floor", "half_even")


class Steps(NamedTuple):
    """What is done to a picture; None leaves a step out.  Defaults: those of the published checkpoint."""

    size: int | tuple[int, int] | None = 384                # the short side, or (height, width)
    resample: int | str = Image.Resampling.BICUBIC          # or TF_BILINEAR, Google's
    crop: tuple[int, int] | None = (384, 384)
    crop_rounding: str = "floor"                            # "half_even" is timm's
    factor: float | None = 1 / 255
    mean: float | list[float] | None = (0.5, 0.5, 0.5)
    std: float | list[float] | None = (0.5, 0.5, 0.5)       # left out with mean


def prepare(image, steps):
    """One image through the steps.  (H, W, C) -> (h, w, C)"""
    x = image
    if steps.size is not None:
        x = resize(x, *resized_size(*x.shape[:2], steps.size), steps.resample)  # (384, 512, C) from 480 x 640
    if steps.crop is not None:
        x = centre_crop(x, *steps.crop, steps.crop_rounding)                    # (384, 384, C)
    if steps.factor is not None:
        x = rescale(x, steps.factor)
    if steps.mean is not None:
        x = normalize(x, steps.mean, steps.std)
    return x


def rgb(picture):
    """A Pillow picture's pixels.  mode (H, W) -> (H, W, 3) uint8

    Pillow's rules: alpha is dropped, not composited, and 16 bits are clipped at 255. Files come through
    `open_picture`, which composites and scales, and are RGB when they get here.
    """
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def resized_size(height, width, size):
    """Rows and columns after resizing.  H, W -> h, w"""
    if not isinstance(size, int):
        return size
    # The long side is rounded down: 384 * 640 / 427 = 575.6 gives 575.
    if height < width:
        return size, int(size * width / height)
    return int(size * height / width), size


def resize(image, height, width, resample):
    """Pillow's resampling, on bytes; with TF_BILINEAR that of TensorFlow, in float32.  (H, W, C) -> (h, w, C)

    To Pillow, fractions in 0..1 give float32 fractions, whole numbers in 0..255 uint8.
    """
    if resample == TF_BILINEAR:
        return tf_bilinear(image, height, width)
    C = image.shape[2]
    pixels, fractions = as_bytes(image)
    # As upstream: two channels are LA and four RGBA to Pillow, which then weighs the colours with their alpha.
    picture = Image.fromarray(pixels[:, :, 0] if C == 1 else pixels)
    resized = np.array(picture.resize((width, height), resample)).reshape(height, width, C)
    return rescale(resized, 1 / 255) if fractions else resized


def as_bytes(image):
    """Pixels as Pillow holds them, and whether they were fractions.  (H, W, C) -> (H, W, C) uint8, bool"""
    if image.dtype == np.uint8:
        return image, False
    low, high = image.min(), image.max()
    # np.allclose, as upstream: what exceeds a whole number by 1e-5 of it counts as whole, and a mask of 0 and 1, too.
    if 0 <= low and high <= 255 and np.allclose(image, image.astype(int)):
        return image.astype(np.uint8), False
    if 0 <= low and high <= 1:
        # In float32 before it is rounded down: 0.99999999 is 255, not 254.
        return rescale(image, 255).astype(np.uint8), True
    raise ValueError("to be resized, pixels must be whole numbers in 0..255 or fractions in 0..1; "
                     f"found {image.dtype} from {low} to {high}")


def centre_crop(image, height, width, rounding="floor"):
    """The middle of an image; zeros where it is too small.  (H, W, C) -> (h, w, C)"""
    H, W, C = image.shape
    top, left = surplus_before(H - height, rounding), surplus_before(W - width, rounding)
    cropped = np.zeros((height, width, C), image.dtype)
    middle = image[max(top, 0):top + height, max(left, 0):left + width]
    cropped[max(-top, 0):H - top, max(-left, 0):W - left] = middle
    return cropped


def surplus_before(surplus, rounding):
    """How many of the surplus rows are cut off before the crop; a negative number is added there.

    >>> [surplus_before(n, "floor") for n in (-3, 1, 3)], [surplus_before(n, "half_even") for n in (-3, 1, 3)]
    ([-2, 0, 1], [-1, 0, 2])
    """
    if rounding == "floor":
        return surplus // 2
    # torchvision, which timm calls: Python rounds a half to the even neighbour; missing rows are halved by floor.
    return round(surplus / 2) if surplus > 0 else -(-surplus // 2)


def rescale(image, factor):
    """Multiply.  (H, W, C) -> (H, W, C) float32"""
    # In float64, then rounded once: in float32, 126 of the 256 bytes times 1/255 come out different.
    return (image.astype(np.float64) * factor).astype(np.float32)


def normalize(image, mean, std):
    """(x - mean) / std, per channel.  (H, W, C), mean (C), std (C) -> (H, W, C)"""
    # Integers become float32; a float16 or float64 image keeps its dtype, and mean and std are rounded to it.
    x = image if image.dtype.kind == "f" else image.astype(np.float32)
    return (x - np.array(mean, x.dtype)) / np.array(std, x.dtype)
