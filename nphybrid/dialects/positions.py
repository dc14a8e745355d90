"""A position table at another resolution, by the rule of its dialect.

    "bicubic"       Hugging Face: Keys' kernel with a = -0.75, cells as areas (half-pixel centres), the border cell
                    repeated. For a hybrid upstream asks for a grid of the image's *pixels*, and stops with an error;
                    here the grid is that of the tokens.
    "antialiased"   timm: Keys' kernel with a = -0.5, made wider where the grid shrinks, as in Pillow.
    "linear"        Google's JAX: cells as points, the corners keep their places (scipy.ndimage.zoom, order 1; its
                    zeros at the last row and column of some sizes, a rounding error, are not copied).

The row of the class token, if there is one, is not changed.
"""

import numpy as np


def resize_positions(positions: np.ndarray, old: tuple[int, ...], new: tuple[int, ...], rule: str = "bicubic"
                     ) -> np.ndarray:
    """A table for a grid of `new` (rows, columns) from one for `old`.  (1 + h * w, D) -> (1 + h' * w', D)

    The rows before the grid, of the class token or none, are not changed.
    """
    if tuple(old) == tuple(new):
        return positions
    first = len(positions) - old[0] * old[1]
    grid = positions[first:].reshape(*old, -1).astype(np.float64)
    rows, columns = (RULES[rule](n, m) for n, m in zip(old, new))
    grid = np.einsum("ij,jkd,lk->ild", rows, grid, columns, optimize=True).reshape(new[0] * new[1], -1)
    return np.concatenate([positions[:first], grid.astype(positions.dtype)])


def bicubic(n: int, m: int) -> np.ndarray:
    """The matrix that resamples n cells to m.  -> float64 (m, n), rows sum to 1"""
    centre = (np.arange(m) + 0.5) * (n / m) - 0.5
    first = np.floor(centre).astype(int)
    matrix = np.zeros((m, n))
    for tap in range(-1, 3):
        cell = np.clip(first + tap, 0, n - 1)
        np.add.at(matrix, (np.arange(m), cell), keys(np.abs(centre - first - tap), -0.75))
    return matrix


def antialiased(n: int, m: int) -> np.ndarray:
    """The matrix of Pillow's bicubic filter.  -> float64 (m, n)

    Cells beyond the border have no weight, and each row of weights is divided by its sum.
    """
    scale = max(n / m, 1)
    centre = (np.arange(m)[:, None] + 0.5) * (n / m)
    cells = np.arange(n)
    first, end = np.trunc(centre - 2 * scale + 0.5), np.trunc(centre + 2 * scale + 0.5)
    weights = keys(np.abs(cells + 0.5 - centre) / scale, -0.5) * ((cells >= first) & (cells < end))
    return weights / weights.sum(1, keepdims=True)


def linear(n: int, m: int) -> np.ndarray:
    """The matrix that interpolates between n points at m, the ends on the ends.  -> float64 (m, n)"""
    places = np.linspace(0, n - 1, m) if m > 1 else np.zeros(1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(n)), 0)


def keys(t: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic kernel at distance t >= 0.  Keys 1981, eq. 4 with a free"""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


RULES = {"bicubic": bicubic, "antialiased": antialiased, "linear": linear}
