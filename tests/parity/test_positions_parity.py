"""Position tables at another resolution against torch's bicubic interpolation."""
import numpy as np
import pytest

from nphybrid.positions import bicubic, resized

torch = pytest.importorskip("torch")

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


@pytest.mark.parametrize("old, new", GRIDS)
def test_resized_is_torchs_interpolation(old, new):
    table = table_of(old)
    assert np.abs(resized(table, old, new) - interpolated(table, old, new)).max() < 1e-12  # observed 4e-14


def test_every_pair_of_lengths():
    for n in range(1, 33):
        for m in range(1, 33):
            theirs = interpolated(np.eye(n + 1)[:, 1:], (n, 1), (m, 1))[1:]
            assert np.abs(bicubic(n, m) - theirs).max() < 1e-12                          # observed 5e-14


def test_antialiasing_would_be_noticed():
    old, new = (24, 24), (14, 14)
    table = table_of(old)
    assert np.abs(resized(table, old, new) - interpolated(table, old, new, antialias=True)).max() > 0.1
