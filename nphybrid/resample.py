"""The two steps on a picture's way that other dialects take differently: resizing and cropping.

    Hugging Face   Pillow's resampling on bytes; an odd surplus of rows is halved and cut off         image.py
    timm           Pillow's resampling on bytes; half a row is rounded to the even neighbour          centre_crop
    Google (JAX)   bilinear interpolation between four pixels, in float32, without antialiasing       tf_bilinear

`checkpoint/preprocessing.py` has the options of each dialect.
"""
import numpy as np

from . import image
from .checkpoint.preprocessing import TF_BILINEAR

CROP_ROUNDINGS = ("floor", "half_even")


def prepare(x, steps, crop_rounding):
    """`image.prepare` with a filter and a rounding of any dialect.  (H, W, C) -> (h, w, C)"""
    if steps.size is not None:
        height, width = image.resized_size(*x.shape[:2], steps.size)
        tf = steps.resample == TF_BILINEAR
        x = tf_bilinear(x, height, width) if tf else image.resize(x, height, width, steps.resample)
    if steps.crop is not None:
        x = (centre_crop if crop_rounding == "half_even" else image.centre_crop)(x, *steps.crop)
    return image.prepare(x, steps._replace(size=None, crop=None))


def centre_crop(x, height, width):
    """torchvision's CenterCrop: the middle; zeros where the image is too small.  (H, W, C) -> (h, w, C)"""
    H, W, _ = x.shape
    # An odd row too few is added at the bottom; image.py adds it on top.
    above, left = max(height - H, 0) // 2, max(width - W, 0) // 2
    x = np.pad(x, ((above, max(height - H, 0) - above), (left, max(width - W, 0) - left), (0, 0)))
    # Python rounds a half to the even neighbour: of 1, 3 or 5 rows too many, 0, 2 or 2 are cut off on top.
    top, left = round((x.shape[0] - height) / 2), round((x.shape[1] - width) / 2)
    return x[top:top + height, left:left + width]


def tf_bilinear(x, height, width):
    """`tf.image.resize`: half-pixel centres, no antialiasing, no rounding.  (H, W, C) -> (h, w, C) float32

    TensorFlow's order of operations in float32 (`resize_bilinear_op.cc`): along the rows, then between them. It
    interpolates between neighbours however much a picture shrinks, where Pillow averages all that a pixel covers.

    >>> tf_bilinear(np.array([[0, 100]], np.uint8)[:, :, None], 1, 4).ravel().tolist()
    [0.0, 25.0, 75.0, 100.0]
    """
    upper, lower, down = neighbours(x.shape[0], height)
    left, right, along = neighbours(x.shape[1], width)
    down, along = down[:, None, None], along[:, None]
    edges = []
    for rows in (upper, lower):
        a, b = (x[rows[:, None], columns].astype(np.float32) for columns in (left, right))
        edges.append(a + (b - a) * along)                                       # (h, w, C)
    top, bottom = edges
    return top + (bottom - top) * down


def neighbours(n, m):
    """Between which of n cells each of m new ones falls, and how far from the first.  -> int, int, float32 (m,)"""
    scale = np.float32(n) / np.float32(m)
    centre = (np.arange(m, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    first = np.floor(centre)
    return np.maximum(first, 0).astype(int), np.minimum(np.ceil(centre), n - 1).astype(int), centre - first
