"""Position tables at another resolution against torch's bicubic interpolation and scipy's linear zoom."""
import numpy as np
import pytest

from nphybrid.dialects.positions import antialiased, bicubic, linear, resize_positions

from tools.on_demand import on_demand

torch = on_demand("torch")

GRIDS = [((14, 14), (24, 24)), ((24, 24), (14, 14)), ((24, 24), (7, 31)), ((4, 6), (9, 5)), ((5, 5), (1, 1)),
         ((1, 3), (4, 2)), ((12, 12), (13, 12)), ((28, 28), (14, 14)), ((48, 48), (24, 20)),
         ((7, 7), (50, 3))]


def interpolated(table, old, new, **options):
    """As transformers resizes the grid of a ViT: channels first, half-pixel centres, no antialiasing."""
    grid = torch.from_numpy(table[1:]).reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=new, mode="bicubic", align_corners=False, **options)
    return np.concatenate([table[:1], grid.permute(0, 2, 3, 1).reshape(new[0] * new[1], -1).numpy()])


def table_of(old, seed=20260406):
    return np.random.default_rng(seed).normal(size=(1 + old[0] * old[1], 3))


RULES = {"bicubic": (bicubic, {}), "antialiased": (antialiased, {"antialias": True})}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("old, new", GRIDS)
def test_resized_is_torchs_interpolation(old, new, rule):
    table, (_, options) = table_of(old), RULES[rule]
    theirs = interpolated(table, old, new, **options)
    assert np.abs(resize_positions(table, old, new, rule) - theirs).max() < 1e-12                 # observed 4e-14


@pytest.mark.parametrize("rule", RULES)
def test_every_pair_of_lengths(rule):
    matrix, options = RULES[rule]
    for n in range(1, 33):
        for m in range(1, 33):
            theirs = interpolated(np.eye(n + 1)[:, 1:], (n, 1), (m, 1), **options)[1:]
            assert np.abs(matrix(n, m) - theirs).max() < 1e-12                           # observed 5e-14


def test_antialiasing_would_be_noticed():
    old, new = (24, 24), (14, 14)
    table = table_of(old)
    assert np.abs(resize_positions(table, old, new) - interpolated(table, old, new, antialias=True)).max() > 0.1


def test_every_pair_of_lengths_of_scipys_zoom():
    """But for its last cell, which is 0 where i * (n - 1) / (m - 1) is rounded to beyond the table."""
    zoom, zeros = pytest.importorskip("scipy.ndimage").zoom, 0
    for n in range(2, 33):
        for m in range(2, 33):
            theirs = zoom(np.eye(n), (m / n, 1), order=1)
            lost = not theirs[-1].any()
            zeros += lost
            assert np.abs(linear(n, m)[:m - lost] - theirs[:m - lost]).max() < 1e-12     # observed 4e-15
    print(f"{zeros} pairs of lengths whose last cell scipy loses")
    assert zeros < 100
