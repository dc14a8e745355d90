"""A position table at another resolution, by the rule of its dialect.

Hugging Face resizes the grid of positions by bicubic interpolation: Keys' kernel with a = -0.75, cells as
areas (half-pixel centres), no antialiasing, the border cell repeated; the class token's row stays. Upstream
asks for a grid of the image's *pixels* when the model is a hybrid and stops; here it is the true token grid.
"""
import numpy as np

A = -0.75                                 # of Keys 1981, eq. 4; PyTorch's choice, Pillow takes -0.5


def resized(positions, old, new):
    """A table for a grid of `new` (rows, columns) from one for `old`.  (1 + h * w, D) -> (1 + h' * w', D)"""
    if tuple(old) == tuple(new):
        return positions
    grid = positions[1:].reshape(*old, -1).astype(np.float64)
    rows, columns = (bicubic(n, m) for n, m in zip(old, new))
    grid = np.einsum("ij,jkd,lk->ild", rows, grid, columns, optimize=True).reshape(new[0] * new[1], -1)
    return np.concatenate([positions[:1], grid.astype(positions.dtype)])


def bicubic(n, m):
    """The matrix that resamples n cells to m.  -> float64 (m, n), rows sum to 1"""
    centre = (np.arange(m) + 0.5) * (n / m) - 0.5
    first = np.floor(centre).astype(int)
    matrix = np.zeros((m, n))
    for tap in range(-1, 3):
        cell = np.clip(first + tap, 0, n - 1)
        np.add.at(matrix, (np.arange(m), cell), keys(np.abs(centre - first - tap)))
    return matrix


def keys(t):
    """Keys' cubic kernel at distance t >= 0.  Keys 1981, eq. 4 with A free"""
    near = ((A + 2) * t - (A + 3)) * t * t + 1
    far = ((A * t - 5 * A) * t + 8 * A) * t - 4 * A
    return np.where(t <= 1, near, np.where(t < 2, far, 0))
