"""Position tables at another resolution, against a cubic written as loops over single cells."""
import math
from itertools import product

import numpy as np
import pytest

from nphybrid.positions import bicubic, keys, resized

A = -0.75                                 # of Keys' kernel

SIZES = [(2, 7), (7, 2), (5, 5), (4, 8), (24, 14), (14, 24), (1, 4), (4, 1), (3, 31), (12, 13)]


@pytest.fixture
def rng():
    return np.random.default_rng(20260404)


def cubic(t):
    """Keys' kernel with a = -3/4, as in the paper: no factoring."""
    t, a = abs(t), -0.75
    if t <= 1:
        return (a + 2) * t ** 3 - (a + 3) * t ** 2 + 1
    return a * t ** 3 - 5 * a * t ** 2 + 8 * a * t - 4 * a if t < 2 else 0.0


def taps(n, m):
    """For each of m new cells its four old ones, the border cell repeated, with their weights."""
    for i in range(m):
        centre = (i + 0.5) * n / m - 0.5
        yield [(min(max(j, 0), n - 1), cubic(centre - j))
               for j in range(math.floor(centre) - 1, math.floor(centre) + 3)]


def resized_by_loop(table, old, new):
    """(1 + h * w, D) -> (1 + h' * w', D)"""
    grid, rows = table[1:].reshape(*old, -1), [table[0]]
    for row, column in product(taps(old[0], new[0]), taps(old[1], new[1])):
        rows.append(sum(a * b * grid[i, j] for i, a in row for j, b in column))
    return np.array(rows)


@pytest.mark.parametrize("new", [(5, 7), (9, 4), (3, 3), (1, 1), (4, 6), (13, 2)])
def test_resized_is_its_definition(rng, new):
    old = 4, 6
    table = rng.normal(size=(25, 3))
    actual = resized(table, old, new)
    assert actual.shape == (1 + new[0] * new[1], 3)
    assert np.abs(actual - resized_by_loop(table, old, new)).max() < 1e-14               # observed 2e-15


def test_rows_and_columns_are_not_exchanged():
    table = np.concatenate([[[0.0]], np.repeat([[1.0], [2.0]], 3, axis=0)])  # a grid of rows 1 1 1, 2 2 2
    grid = resized(table, (2, 3), (4, 5))[1:].reshape(4, 5)
    assert np.ptp(grid, axis=1).max() < 1e-14                                            # observed 1.3e-15
    assert np.ptp(grid, axis=0).min() > 0.5


@pytest.mark.parametrize("new", [(5, 7), (2, 2), (4, 6), (6, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_class_tokens_row_is_untouched(rng, new, dtype):
    table = rng.normal(size=(25, 3)).astype(dtype)
    actual = resized(table, (4, 6), new)
    assert actual.dtype == dtype
    assert np.array_equal(actual[0], table[0])


def test_the_same_grid_keeps_the_table(rng):
    table = rng.normal(size=(25, 3))
    assert resized(table, (4, 6), (4, 6)) is table
    assert resized(table, [4, 6], (4, 6)) is table


def test_as_many_cells_in_another_shape_are_not_the_same_grid(rng):
    table = rng.normal(size=(25, 3))
    assert np.abs(resized(table, (4, 6), (6, 4)) - table).max() > 0.1


def test_a_float32_table_is_resized_in_float64(rng):
    table = rng.normal(size=(25, 3)).astype(np.float32)
    exact = resized_by_loop(table.astype(np.float64), (4, 6), (5, 9))
    assert np.array_equal(resized(table, (4, 6), (5, 9)), exact.astype(np.float32))


# -- the matrix of one axis ------------------------------------------------------------------------

@pytest.mark.parametrize("n, m", SIZES)
def test_a_constant_stays_constant(n, m):
    assert bicubic(n, m).shape == (m, n)
    assert np.abs(bicubic(n, m).sum(1) - 1).max() < 2e-15                                # observed 7e-16


@pytest.mark.parametrize("n", [1, 2, 5, 24])
def test_as_many_cells_are_the_identity(n):
    assert np.array_equal(bicubic(n, n), np.eye(n))


@pytest.mark.parametrize("n, m", SIZES)
def test_the_axis_has_no_preferred_end(n, m):
    assert np.abs(bicubic(n, m) - bicubic(n, m)[::-1, ::-1]).max() < 1e-14               # observed 1e-15


def test_shrinking_skips_cells():
    """No antialiasing: of 16 cells, each of two new ones reads 4."""
    assert (bicubic(16, 2) != 0).sum(1).tolist() == [4, 4]


def test_doubling_by_hand():
    """The new cells lie a quarter off the old: distances 1/4, 3/4, 5/4, 7/4; the border cell takes three."""
    weights = 256 * bicubic(5, 10)
    assert weights[4].tolist() == [-9, 67, 225, -27, 0]
    assert weights[5].tolist() == [0, -27, 225, 67, -9]
    assert weights[0].tolist() == [-9 + 67 + 225, -27, 0, 0, 0]


def test_pillows_cubic_would_be_noticed(rng):
    def other(t):
        return np.where(t <= 1, (1.5 * t - 2.5) * t * t + 1,
                        np.where(t < 2, ((-0.5 * t + 2.5) * t - 4) * t + 2, 0))
    t = np.array([0.25, 0.75, 1.25, 1.75])
    assert np.abs(other(t) - keys(t, -0.75)).min() > 0.005


def test_the_kernel_is_its_definition():
    t = np.linspace(0, 3, 301)
    assert np.abs(keys(t, -0.75) - [cubic(x) for x in t]).max() < 1e-14                         # observed 1.8e-15
    assert A == -0.75
    assert keys(np.array([0.0, 1, 2, 2.5]), -0.75).tolist() == [1, 0, 0, 0]
