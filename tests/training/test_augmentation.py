"""The augmentations: where their boxes lie, and that they depend on their generator alone."""
import numpy as np
import pytest
from PIL import Image

from nphybrid.training.augmentation import erased, flipped, generator, mixed, padded_crop, random_resized_crop


def coordinates(H, W):
    """A picture whose pixel (i, j) is (i, j, 255)."""
    picture = np.full((H, W, 3), 255, np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(H)[:, None], np.arange(W)
    return picture


def boxes(H, W, smallest, count=300):
    """The (top, left, height, width) of `count` random crops, read from the corners of the result."""
    found = []
    for i in range(count):
        crop = random_resized_crop(coordinates(H, W), (2 * H, 2 * W), generator(3, 1, i), (smallest, 1),
                                   resample=Image.Resampling.NEAREST)
        (top, left, _), (bottom, right, _) = crop[0, 0].tolist(), crop[-1, -1].tolist()
        found.append((top, left, bottom + 1 - top, right + 1 - left))
    return np.array(found)


def test_random_crops_have_the_promised_areas_and_ratios():
    H, W = 80, 110
    top, left, height, width = boxes(H, W, 0.2).T
    share, ratio = height * width / (H * W), width / height
    # The sides are rounded to whole pixels, so areas and ratios may be a little outside.
    assert 0.19 <= share.min() < 0.25 and 0.85 < share.max() <= 1
    assert 0.73 <= ratio.min() < 0.79 and 1.28 < ratio.max() <= 1.36
    # The area is uniform from 0.2 to 1, but a box fits only if width / height >= share * W / H.
    shares = np.linspace(0.2, 1, 10_001)
    fit = np.clip(np.log(4 / 3 / (shares * W / H)) / np.log(16 / 9), 0, 1)
    assert share.mean() == pytest.approx((shares * fit).sum() / fit.sum(), abs=0.03)    # observed 0.01
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= H).all() and (left + width <= W).all()
    assert (top == 0).any() and (top + height == H).any() and (left == 0).any() and (left + width == W).any()


@pytest.mark.parametrize("H, W, expected", [(10, 200, (0, 93, 10, 13)), (200, 12, (92, 0, 16, 12))])
def test_a_narrow_picture_gets_its_centre(H, W, expected):
    """No box of such a picture has an area of at least 0.9."""
    assert {tuple(row) for row in boxes(H, W, 0.9, 5).tolist()} == {expected}


def test_padded_crops_move_the_picture():
    """By reflection: the row above row 0 is row 1."""
    picture, moves = coordinates(32, 40), set()
    rows, columns = np.pad(np.arange(32), 4, "reflect"), np.pad(np.arange(40), 4, "reflect")
    for i in range(400):
        crop = padded_crop(picture, generator(1, 1, i))
        assert crop.shape == picture.shape and crop.dtype == np.uint8
        fits = [(top, left) for top in range(9) for left in range(9)
                if (crop[..., 0] == rows[top:top + 32, None]).all() and (crop[..., 1] == columns[left:left + 40]).all()]
        assert len(fits) == 1
        moves.update(fits)
    assert {top for top, _ in moves} == {left for _, left in moves} == set(range(9))


def test_flips():
    picture = coordinates(4, 6)
    found = [flipped(picture, generator(2, 1, i)) for i in range(200)]
    mirrored = [np.array_equal(x, picture[:, ::-1]) for x in found]
    assert all(one or np.array_equal(x, picture) for one, x in zip(mirrored, found)) and 70 < sum(mirrored) < 130


def test_erased_boxes():
    x = np.ones((3, 60, 50), np.float32)
    shares, untouched = [], 0
    for i in range(300):
        y = erased(x, generator(4, 1, i), 0.5)
        hole = (y == 0).all(0)
        assert np.array_equal(hole, (y == 0).any(0)) and (y[:, ~hole] == 1).all()
        if not hole.any():
            untouched += 1
            continue
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == rows * columns and 0.28 <= columns / rows <= 3.5
        shares.append(hole.mean())
    assert 110 < untouched < 190 and 0.015 <= min(shares) < 0.05 and 0.28 < max(shares) <= 0.34
    assert (x == 1).all()


def test_mixup_mixes_pixels_and_targets_alike():
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(6, 3, 4, 5)).astype(np.float32), np.eye(6)
    y, mixture = mixed(x, targets, generator(7, 1, 0), 0.8)
    assert y.dtype == np.float32 and np.allclose(mixture.sum(1), 1) and not np.array_equal(mixture, targets)
    assert np.allclose(y, np.tensordot(mixture, x, 1), atol=1e-6)
    assert len(np.unique(mixture.round(12))) <= 4                                       # 0, 1, share and 1 - share
    shares = [float(mixed(x, targets, generator(7, 1, i), 0.2)[1].max()) for i in range(200)]
    assert 0.85 < np.mean(shares) < 0.99 and min(shares) < 0.7                          # Beta(0.2, 0.2): the ends


def test_a_generator_depends_on_all_its_numbers():
    draws = {tuple(generator(*numbers).integers(1 << 60, size=2).tolist())
             for numbers in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0), (0, 1, 1))}
    assert len(draws) == 5
