"""Position tables at another resolution, against each rule written as loops over single cells."""
import math
from itertools import product

import numpy as np
import pytest

from nphybrid.dialects.positions import antialiased, bicubic, keys, linear, resize_positions

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


def pillows_cubic(t):
    """The same with a = -1/2."""
    t, a = abs(t), -0.5
    if t <= 1:
        return (a + 2) * t ** 3 - (a + 3) * t ** 2 + 1
    return a * t ** 3 - 5 * a * t ** 2 + 8 * a * t - 4 * a if t < 2 else 0.0


def antialiased_taps(n, m):
    """For each of m new cells the old ones under the cubic, which is stretched where the grid shrinks."""
    scale = n / m
    wide = max(scale, 1)
    for i in range(m):
        centre = (i + 0.5) * scale
        cells = range(max(int(centre - 2 * wide + 0.5), 0), min(int(centre + 2 * wide + 0.5), n))
        weights = [pillows_cubic((j + 0.5 - centre) / wide) for j in cells]
        yield [(j, weight / sum(weights)) for j, weight in zip(cells, weights)]


def linear_taps(n, m):
    """For each of m new points i * (n - 1) / (m - 1) the old point before it and the one after."""
    for i in range(m):
        place = i * (n - 1) / (m - 1) if m > 1 else 0
        before = min(int(place), n - 1)
        after = min(before + 1, n - 1)
        yield [(before, 1 - (place - before)), (after, place - before)]


TAPS = {"bicubic": taps, "antialiased": antialiased_taps, "linear": linear_taps}


def resized_by_loop(table, old, new, rule="bicubic"):
    """(1 + h * w, D) -> (1 + h' * w', D)"""
    grid, rows = table[1:].reshape(*old, -1), [table[0]]
    for row, column in product(TAPS[rule](old[0], new[0]), TAPS[rule](old[1], new[1])):
        rows.append(sum(a * b * grid[i, j] for i, a in row for j, b in column))
    return np.array(rows)


@pytest.mark.parametrize("rule", TAPS)
@pytest.mark.parametrize("new", [(5, 7), (9, 4), (3, 3), (1, 1), (4, 6), (13, 2), (2, 31)])
def test_resized_is_its_definition(rng, new, rule):
    old = 4, 6
    table = rng.normal(size=(25, 3))
    actual = resize_positions(table, old, new, rule)
    assert actual.shape == (1 + new[0] * new[1], 3)
    assert np.abs(actual - resized_by_loop(table, old, new, rule)).max() < 2e-14         # observed 6e-15


@pytest.mark.parametrize("rule", TAPS)
def test_a_table_without_a_class_token(rng, rule):
    table = rng.normal(size=(25, 3))
    whole, grid = resize_positions(table, (4, 6), (5, 3), rule), resize_positions(table[1:], (4, 6), (5, 3), rule)
    assert grid.shape == (15, 3) and np.array_equal(grid, whole[1:])


@pytest.mark.parametrize("new", [(5, 7), (2, 2), (9, 4)])
def test_the_rules_are_three(rng, new):
    table = rng.normal(size=(25, 3))
    a, b, c = (resize_positions(table, (4, 6), new, rule) for rule in TAPS)
    assert min(np.abs(a - b).max(), np.abs(b - c).max(), np.abs(a - c).max()) > 0.05


def test_rows_and_columns_are_not_exchanged():
    table = np.concatenate([[[0.0]], np.repeat([[1.0], [2.0]], 3, axis=0)])  # a grid of rows 1 1 1, 2 2 2
    grid = resize_positions(table, (2, 3), (4, 5))[1:].reshape(4, 5)
    assert np.ptp(grid, axis=1).max() < 1e-14                                            # observed 1.3e-15
    assert np.ptp(grid, axis=0).min() > 0.5


@pytest.mark.parametrize("new", [(5, 7), (2, 2), (4, 6), (6, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_class_tokens_row_is_untouched(rng, new, dtype):
    table = rng.normal(size=(25, 3)).astype(dtype)
    actual = resize_positions(table, (4, 6), new)
    assert actual.dtype == dtype
    assert np.array_equal(actual[0], table[0])


def test_the_same_grid_keeps_the_table(rng):
    table = rng.normal(size=(25, 3))
    assert resize_positions(table, (4, 6), (4, 6)) is table
    assert resize_positions(table, [4, 6], (4, 6)) is table


def test_as_many_cells_in_another_shape_are_not_the_same_grid(rng):
    table = rng.normal(size=(25, 3))
    assert np.abs(resize_positions(table, (4, 6), (6, 4)) - table).max() > 0.1


def test_a_float32_table_is_resized_in_float64(rng):
    table = rng.normal(size=(25, 3)).astype(np.float32)
    exact = resized_by_loop(table.astype(np.float64), (4, 6), (5, 9))
    assert np.array_equal(resize_positions(table, (4, 6), (5, 9)), exact.astype(np.float32))


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


# -- antialiased and linear ------------------------------------------------------------------------

@pytest.mark.parametrize("matrix", [antialiased, linear])
@pytest.mark.parametrize("n, m", SIZES)
def test_constants_and_symmetry_of_the_other_rules(n, m, matrix):
    assert matrix(n, m).shape == (m, n)
    assert np.abs(matrix(n, m).sum(1) - 1).max() < 2e-15                                 # observed 2e-16
    if m > 1:                             # a lone new point lies on the first old one, not in the middle
        assert np.abs(matrix(n, m) - matrix(n, m)[::-1, ::-1]).max() < 1e-14             # observed 3e-15
    assert np.array_equal(matrix(n, n), np.eye(n))


def test_antialiasing_reads_every_cell():
    """Of 16 cells, each of two new ones reads all but the far end; without antialiasing it reads 4."""
    assert (antialiased(16, 2) != 0).any(0).all() and (antialiased(16, 2) != 0).sum(1).min() > 8


@pytest.mark.parametrize("n, m", [(24, 22), (28, 14), (32, 16), (48, 24), (16, 30), (8, 26), (7, 12), (14, 24)])
def test_linear_keeps_both_corners(n, m):
    """Also at lengths whose last cell scipy.ndimage.zoom makes 0, by a rounding error."""
    matrix = linear(n, m)
    assert matrix[0].tolist() == np.eye(n)[0].tolist() and matrix[-1].tolist() == np.eye(n)[-1].tolist()


def test_linear_by_hand():
    """Seven points from four: every other one lies on an old one, the rest halfway."""
    expected = [[2, 0, 0, 0], [1, 1, 0, 0], [0, 2, 0, 0], [0, 1, 1, 0], [0, 0, 2, 0], [0, 0, 1, 1], [0, 0, 0, 2]]
    assert (2 * linear(4, 7)).tolist() == expected
