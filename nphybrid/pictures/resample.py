"""TensorFlow's bilinear resampling, as in Google's JAX code.  All other published code for the model uses Pillow."""

import numpy as np

TF_BILINEAR = "tf-bilinear"               # the name of TensorFlow's filter; Pillow's filters have numbers


def tf_bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize like `tf.image.resize`: half-pixel centres, no antialiasing, no rounding.  (H, W, C) -> (h, w, C) float32

    The operations run in float32 and in TensorFlow's order (`resize_bilinear_op.cc`). The first interpolation is along
    the rows, and the second interpolation is between the rows. TensorFlow uses two neighbours per axis, even if a
    picture becomes much smaller. In this case, Pillow averages all old pixels that a new pixel covers.

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


def neighbours(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of m new cells, return the two neighbours among the n old cells, and the distance from the first one.

    -> int (m,), int (m,), float32 (m,)
    """
    scale = np.float32(n) / np.float32(m)
    centre = (np.arange(m, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    first = np.floor(centre)
    return np.maximum(first, 0).astype(int), np.minimum(np.ceil(centre), n - 1).astype(int), centre - first
