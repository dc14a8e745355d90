"""Resizes a position table (one row for each position of a token) to another grid, by the rule of a dialect.

    "bicubic"       Hugging Face: Keys' kernel with a = -0.75.
    "antialiased"   timm: Keys' kernel with a = -0.5, as in Pillow.
    "linear"        Google's JAX: linear interpolation, as in scipy.ndimage.zoom with order 1.

In "bicubic" a cell is an area, with its position at the centre (half-pixel centres).  Beyond the border, the cells at
the border are repeated.  For a hybrid, Hugging Face's code tries to resize to a grid of the image's *pixels*, and
raises an error.  This package uses the grid of the tokens instead.

In "antialiased" the kernel becomes wider if the grid becomes smaller.

In "linear" a cell is a point, and the corner cells keep their places.  For some sizes scipy returns zeros in the last
row and column because of a rounding error.  This package does not copy scipy's error.

The row of the class token, if there is one, is not changed.
"""

import numpy as np


def resize_positions(positions: np.ndarray, old: tuple[int, ...], new: tuple[int, ...], rule: str = "bicubic"
                     ) -> np.ndarray:
    """Resizes a position table from the grid `old` to the grid `new`.  (1 + h * w, D) -> (1 + h' * w', D)

    A grid is (rows, columns). If the table has a row for the class token, this row is not changed.
    """
    if tuple(old) == tuple(new):
        return positions
    first = len(positions) - old[0] * old[1]
    grid = positions[first:].reshape(*old, -1).astype(np.float64)
    rows, columns = (RULES[rule](n, m) for n, m in zip(old, new))
    grid = np.einsum("ij,jkd,lk->ild", rows, grid, columns, optimize=True).reshape(new[0] * new[1], -1)
    return np.concatenate([positions[:first], grid.astype(positions.dtype)])


def bicubic(n: int, m: int) -> np.ndarray:
    """Returns the matrix that resamples n cells to m cells.  -> float64 (m, n); the sum of each row is 1"""
    centre = (np.arange(m) + 0.5) * (n / m) - 0.5
    first = np.floor(centre).astype(int)
    matrix = np.zeros((m, n))
    for tap in range(-1, 3):
        cell = np.clip(first + tap, 0, n - 1)
        np.add.at(matrix, (np.arange(m), cell), keys(np.abs(centre - first - tap), -0.75))
    return matrix


def antialiased(n: int, m: int) -> np.ndarray:
    """Returns the matrix that resamples n cells to m cells with Pillow's bicubic filter.  -> float64 (m, n)

    Cells beyond the border have no weight. Each row of weights is divided by its sum.
    """
    scale = max(n / m, 1)
    centre = (np.arange(m)[:, None] + 0.5) * (n / m)
    cells = np.arange(n)
    first, end = np.trunc(centre - 2 * scale + 0.5), np.trunc(centre + 2 * scale + 0.5)
    weights = keys(np.abs(cells + 0.5 - centre) / scale, -0.5) * ((cells >= first) & (cells < end))
    return weights / weights.sum(1, keepdims=True)


def linear(n: int, m: int) -> np.ndarray:
    """Returns the matrix that interpolates n points linearly to m points.  -> float64 (m, n)

    The first and the last point keep their values.
    """
    places = np.linspace(0, n - 1, m) if m > 1 else np.zeros(1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(n)), 0)


def keys(t: np.ndarray, a: float) -> np.ndarray:
    """Returns Keys' cubic kernel with the parameter a at the distances t >= 0.  Source: equation 4 of Keys 1981"""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


RULES = {"bicubic": bicubic, "antialiased": antialiased, "linear": linear}
