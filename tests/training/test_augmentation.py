"""The random changes of pictures: against definitions by loops, their distributions, and what decides them.

In the picture of `coordinates`, each pixel holds its own position. So a result shows from where its pixels come.
"""
import functools
import math

import numpy as np
import pytest
from PIL import Image

from nphybrid.training.augmentation import erased, flipped, generator, mixed, padded_crop, random_resized_crop
from nphybrid.training.pictures import order_of_epoch

NEAREST = Image.Resampling.NEAREST


@functools.cache
def coordinates(H, W):
    picture = np.zeros((H, W, 3), np.uint8)
    for i in range(H):
        for j in range(W):
            picture[i, j] = i, j, 7
    picture.flags.writeable = False
    return picture


def boxes(H, W, count, **options):
    """The boxes (top, left, height, width) of `count` resized crops.  Enlarging by NEAREST keeps the corners."""
    found = []
    for i in range(count):
        crop = random_resized_crop(coordinates(H, W), (2 * H, 2 * W), generator(3, 1, i), resample=NEAREST, **options)
        assert crop.shape == (2 * H, 2 * W, 3) and crop.dtype == np.uint8
        (top, left, _), (bottom, right, _) = crop[0, 0].tolist(), crop[-1, -1].tolist()
        found.append((top, left, bottom + 1 - top, right + 1 - left))
    return np.array(found)


# -- what decides a change

CHANGES = {
    "random_resized_crop": lambda rng: random_resized_crop(coordinates(40, 50), (33, 21), rng),
    "padded_crop": lambda rng: padded_crop(coordinates(40, 50), rng),
    "flipped": lambda rng: [flipped(coordinates(4, 6), rng) for _ in range(40)],
    "erased": lambda rng: erased(np.ones((3, 40, 50), np.float32), rng, 1.0),
    "mixed": lambda rng: mixed(np.arange(60, dtype=np.float32).reshape(5, 3, 2, 2), np.eye(5), rng, 0.8)[0],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_seed_epoch_and_picture_decide_a_change(change):
    first = change(generator(42, 1, 7))
    change(generator(42, 1, 8))
    assert np.array_equal(change(generator(42, 1, 7)), first)
    for other in (43, 1, 7), (42, 2, 7), (42, 1, 8):
        assert not np.array_equal(change(generator(*other)), first)


def test_no_two_generators_of_a_run_are_equal():
    """[1], [1, 0] and [1, 0, 0] are one seed for NumPy, and so are [2**32 + 1, 0] and [1, 1, 0]."""
    numbers = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1), (2, 1, 0), (2 ** 32 + 1, 0, 0), (2 ** 32 + 1, 1, 0)]
    orders = [generator(*each).permutation(30).tolist() for each in numbers]
    orders += [np.random.default_rng(1).permutation(30).tolist()]                       # the split of the pictures
    orders += [order_of_epoch(30, 1, epoch).tolist() for epoch in (1, 2)]
    assert all(orders.count(order) == 1 for order in orders)


# -- crops

def test_a_resized_crop_has_the_promised_area_and_ratio():
    H, W = 80, 110
    top, left, height, width = boxes(H, W, 300).T
    share, ratio = height * width / (H * W), width / height
    # The sides of a box are whole pixels, so its area and ratio can be a little outside the bounds.
    assert 0.075 <= share.min() < 0.1 and 0.85 < share.max() <= 1                       # observed 0.081, 0.95
    assert 0.72 <= ratio.min() < 0.77 and 1.3 < ratio.max() <= 1.38                     # observed 0.74, 1.35
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= H).all() and (left + width <= W).all()


def test_the_area_is_uniform_and_the_ratio_is_uniform_in_its_logarithm():
    """Boxes of at most half the area always fit into a square.  The bounds are 4 standard errors."""
    n = 600
    top, left, height, width = boxes(100, 100, n, scale=(0.1, 0.5)).T
    share, log_ratio = height * width / 1e4, np.log(width / height)
    assert abs(share.mean() - 0.3) <= 4 * 0.4 / math.sqrt(12 * n)                       # observed 0.9 standard errors
    assert abs(np.median(share) - 0.3) <= 4 * 0.2 / math.sqrt(n)
    assert abs(log_ratio.mean()) <= 4 * 2 * math.log(4 / 3) / math.sqrt(12 * n)
    assert (share < 0.2).mean() == pytest.approx(1 / 4, abs=4 * math.sqrt(3 / 16 / n))
    # All boxes are smaller than the picture, and some of them touch each of its borders.
    assert (top == 0).any() and (left == 0).any() and (top + height == 100).any() and (left + width == 100).any()


def test_ten_boxes_are_tried():
    """A box of 0.9 to 1 of a square fits with the probability 0.178, and none of ten fits with 0.822^10 = 0.141."""
    n = 400
    whole = (boxes(100, 100, n, scale=(0.9, 1.0))[:, 2:] == 100).all(1).mean()
    assert whole == pytest.approx(0.141, abs=4 * math.sqrt(0.141 * 0.859 / n))


@pytest.mark.parametrize("H, W, expected", [(10, 200, (0, 93, 10, 13)), (200, 12, (92, 0, 16, 12)),
                                            (30, 30, (0, 0, 30, 30))])
def test_the_largest_box_at_the_centre_is_cut_if_no_box_fits(H, W, expected):
    """A box of more than the whole picture never fits."""
    assert {tuple(box) for box in boxes(H, W, 3, scale=(1.1, 1.2)).tolist()} == {expected}


def test_a_resized_crop_is_cut_and_resized_by_pillow():
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    crop = random_resized_crop(picture, (33, 21), generator(9, 1, 0), scale=(1.1, 1.2))
    left, top, width, height = 0, 0, 50, 40                                             # 50 / 40 is below 4 / 3
    box = Image.fromarray(picture).crop((left, top, left + width, top + height))
    assert np.array_equal(crop, np.asarray(box.resize((21, 33), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("padding", [0, 3])
def test_a_padded_crop_moves_the_picture_and_reflects_its_border(padding):
    H, W = 9, 7
    picture, moves = coordinates(H, W), set()
    for n in range(500):
        crop = padded_crop(picture, generator(5, 1, n), padding)
        # This pixel comes from inside the picture for each move.
        down, right = int(crop[padding, padding, 0]) - padding, int(crop[padding, padding, 1]) - padding
        moves.add((down, right))
        expected = np.empty_like(picture)
        for i in range(H):
            for j in range(W):
                expected[i, j] = reflected(i + down, H), reflected(j + right, W), 7
        assert np.array_equal(crop, expected)
    ways = range(-padding, padding + 1)
    assert moves == {(down, right) for down in ways for right in ways}


def reflected(i, n):
    """The position in a row of n pixels to which a position outside is reflected."""
    return -i if i < 0 else 2 * (n - 1) - i if i >= n else i


# -- flip, erasing, mixup

def test_half_of_the_pictures_are_flipped():
    picture, n = coordinates(3, 5), 400
    count = 0
    for i in range(n):
        found = flipped(picture, generator(2, 1, i))
        mirrored = [[picture[i, 4 - j].tolist() for j in range(5)] for i in range(3)]
        assert found.tolist() in (picture.tolist(), mirrored)
        count += found.tolist() == mirrored
    assert abs(count - n / 2) <= 4 * math.sqrt(n / 4)


def test_one_box_is_erased_with_the_given_probability():
    x, n = np.ones((3, 60, 50), np.float32), 400
    shares, ratios = [], []
    for i in range(n):
        found = erased(x, generator(4, 1, i), 0.3)
        hole = (found == 0).all(0)
        rows, columns = hole.any(1), hole.any(0)
        assert np.array_equal(hole, np.outer(rows, columns)) and (found[:, ~hole] == 1).all()
        if hole.any():
            shares.append(hole.mean())
            ratios.append(columns.sum() / rows.sum())
    assert abs(len(shares) - 0.3 * n) <= 4 * math.sqrt(0.3 * 0.7 * n)
    assert 0.015 <= min(shares) < 0.06 and 0.28 < max(shares) <= 0.34
    assert 0.25 <= min(ratios) < 0.45 and 2.4 < max(ratios) <= 3.7
    assert (x == 1).all()


@pytest.mark.parametrize("H, W", [(4, 400), (400, 4)])
def test_nothing_is_erased_if_no_box_fits(H, W):
    """A box of 0.3 of 4 x 400 pixels with a ratio from 0.3 to 3.3 has sides of at least 12 pixels."""
    x = np.ones((3, H, W), np.float32)
    found = [erased(x, generator(6, 1, i), 1.0, scale=(0.3, 0.33)) for i in range(20)]
    assert all((each == 1).all() for each in found)


def test_mixup_mixes_pictures_and_targets_with_one_share():
    rng = np.random.default_rng(0)
    B = 6
    x, targets = rng.standard_normal((B, 3, 4, 5)), np.eye(B)
    before = x.copy()
    mixture, shares = mixed(x, targets, generator(7, 1, 0), 0.8)
    for b in range(B):
        expected = np.zeros((3, 4, 5))
        for k in range(B):
            expected += shares[b, k] * before[k]
        assert np.allclose(mixture[b], expected, atol=1e-14)
        assert shares[b].sum() == pytest.approx(1) and (shares[b] > 0).sum() <= 2
    assert len({round(float(share), 12) for share in shares.diagonal()} - {1.0}) == 1
    assert np.array_equal(x, before)
    assert mixed(x.astype(np.float32), targets, generator(7, 1, 0), 0.8)[0].dtype == np.float32


def test_the_share_of_mixup_has_the_beta_distribution():
    """Half of the orders of two pictures exchange them.  Beta(a, a) has the variance 1 / (4 (2 a + 1))."""
    alpha, shares = 0.4, []
    for i in range(2000):
        share, other = mixed(np.zeros((2, 1, 1, 1)), np.eye(2), generator(8, 1, i), alpha)[1][0]
        if other:
            shares.append(share)
    assert len(shares) == pytest.approx(1000, abs=4 * math.sqrt(500))
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * math.sqrt(1 / (4 * (2 * alpha + 1)) / len(shares)))
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
