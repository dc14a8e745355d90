"""Resizing and cropping of other dialects, against definitions written as loops."""
import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from nphybrid import image
from nphybrid.api.processor import ViTHybridImageProcessor
from nphybrid.dialects.google import for_jax
from nphybrid.pictures.resample import TF_BILINEAR, neighbours, tf_bilinear

from oracles.pictures import noise

centre_crop = partial(image.centre_crop, rounding="half_even")

SIZES = [(1, 1, 3, 5), (1, 7, 4, 3), (7, 1, 5, 2), (5, 9, 5, 9), (6, 4, 13, 11), (31, 23, 9, 14), (40, 57, 8, 8),
         (97, 101, 33, 47)]


def bilinear_by_loop(x, height, width, number):
    """Cell i of n lies at (i + 0.5) (N / n) - 0.5; a border cell repeats outwards.

    Every operation rounds to `number`, np.float32 or np.float64.
    """
    H, W, C = x.shape
    y = np.zeros((height, width, C), number)
    half = number(0.5)

    def place(i, N, n):
        at = (number(i) + half) * (number(N) / number(n)) - half
        first = int(np.floor(at))
        return max(first, 0), min(first + 1, N - 1) if at > first else max(min(first, N - 1), 0), at - number(first)

    for i in range(height):
        top, bottom, down = place(i, H, height)
        for j in range(width):
            left, right, along = place(j, W, width)
            for c in range(C):
                a, b, d, e = (number(x[u, v, c]) for u in (top, bottom) for v in (left, right))
                upper, lower = a + (b - a) * along, d + (e - d) * along
                y[i, j, c] = upper + (lower - upper) * down
    return y


@pytest.mark.parametrize("H, W, h, w", SIZES)
def test_tf_bilinear_is_its_definition(H, W, h, w):
    x = noise(1, H, W, 3)
    y = tf_bilinear(x, h, w)
    assert y.dtype == np.float32 and y.shape == (h, w, 3)
    assert np.array_equal(y, bilinear_by_loop(x, h, w, np.float32))
    # A cell of the float32 grid is misplaced by less than 1e-4 of a cell, whose values differ by 255 at most.
    assert np.abs(y - bilinear_by_loop(x, h, w, np.float64)).max() < 255e-4


def test_tf_bilinear_keeps_what_needs_no_resizing():
    x = noise(2, 6, 5, 4)
    assert np.array_equal(tf_bilinear(x, 6, 5), x)
    fractions = x / 300
    assert np.array_equal(tf_bilinear(fractions, 6, 5), fractions.astype(np.float32))


def test_an_infinite_neighbour_does_not_spread():
    x = np.array([1, 2, np.inf])[None, :, None]
    assert tf_bilinear(x, 1, 1).item() == 2


def test_tf_bilinear_is_not_pillows():
    x = noise(3, 64, 48, 1)
    ours = tf_bilinear(x, 16, 12)[:, :, 0]
    picture = Image.fromarray(x[:, :, 0])
    pillows = np.asarray(picture.resize((12, 16), Image.Resampling.BILINEAR)).astype(float)
    # Pillow averages 8 x 8 pixels with a triangle, TensorFlow 2 x 2 in the middle of every 4 x 4.
    middle = x.reshape(16, 4, 12, 4)[:, 1:3, :, 1:3].mean((1, 3))
    assert np.abs(ours - middle).max() < 1e-3 < 20 < np.abs(ours - pillows).max()
    assert (ours % 1 > 0).any()


def test_neighbours_at_the_borders():
    first, second, distance = neighbours(3, 6)
    assert first.tolist() == [0, 0, 0, 1, 1, 2] and second.tolist() == [0, 1, 1, 2, 2, 2]
    assert distance.tolist() == [0.75, 0.25, 0.75, 0.25, 0.75, 0.25]


def crop_by_loop(x, height, width):
    """torchvision 0.9 and later: zeros around what is too small, then rows from int(round((H - h) / 2)) on."""
    for axis, size in enumerate((height, width)):
        missing = size - x.shape[axis]
        for k in range(max(missing, 0)):
            zeros = np.zeros_like(x.take([0], axis))
            # The first of an odd number goes to the end, and then one goes to either side in turn.
            x = np.concatenate([zeros, x] if (missing - k) % 2 == 0 else [x, zeros], axis)
    top, left = (int(np.round((x.shape[axis] - size) / 2.0)) for axis, size in enumerate((height, width)))
    return np.array([[x[top + i, left + j] for j in range(width)] for i in range(height)])


@pytest.mark.parametrize("H", range(1, 13))
@pytest.mark.parametrize("h", [1, 2, 3, 7, 8, 12])
def test_centre_crop_is_torchvisions(H, h):
    for W, w in [(6, 3), (9, 4), (5, 8), (4, 9), (6, 6)]:
        x = noise(4, H, W, 2)
        assert np.array_equal(centre_crop(x, h, w), crop_by_loop(x, h, w))


def test_where_the_crops_differ():
    """Of 1 to 8 rows too many and too few: which rows come first, by either rule."""
    rows = np.arange(1, 10, dtype=np.uint8).reshape(9, 1, 1)
    first = [[crop(rows, 9 - n, 1)[0, 0, 0] for n in range(1, 9)] for crop in (image.centre_crop, centre_crop)]
    assert first == [[1, 2, 2, 3, 3, 4, 4, 5], [1, 2, 3, 3, 3, 4, 5, 5]]
    second = [[crop(rows, 9 + n, 1)[1, 0, 0] for n in (1, 2, 3)] for crop in (image.centre_crop, centre_crop)]
    assert second == [[1, 1, 0], [2, 1, 1]]


def test_long_side_is_torchvisions():
    """Resize(int) of torchvision: the long side is int(size * long / short)."""
    for short in range(1, 700, 7):
        for long in range(short, 1500, 11):
            for size in (224, 248, 384, 448):
                expected = size, int(size * long / short)
                assert image.resized_size(short, long, size) == expected
                assert image.resized_size(long, short, size) == expected[::-1]


# -- the processor's options ---------------------------------------------------------------------------------

def test_crop_rounding_of_the_processor():
    x = noise(5, 23, 30, 3)
    options = {"do_resize": False, "crop_size": 20, "do_rescale": False, "do_normalize": False}
    for rounding, top in (("floor", 1), ("half_even", 2)):
        expected = x[top:top + 20, 5:25].transpose(2, 0, 1)
        made = ViTHybridImageProcessor(crop_rounding=rounding, **options)(x)
        called = ViTHybridImageProcessor(**options)(x, crop_rounding=rounding)
        assert np.array_equal(made.pixel_values[0], expected) and np.array_equal(called.pixel_values[0], expected)


def test_crop_rounding_comes_after_resizing():
    x = noise(6, 50, 71, 3)
    processor = ViTHybridImageProcessor(size=20, crop_size=17, crop_rounding="half_even", do_rescale=False,
                                        do_normalize=False)
    resized = np.asarray(Image.fromarray(x).resize((28, 20), Image.Resampling.BICUBIC))
    # 3 rows and 11 columns too many.
    assert np.array_equal(processor(x).pixel_values[0], resized[2:19, 6:23].transpose(2, 0, 1))


def test_tf_bilinear_of_the_processor():
    pictures = [Image.fromarray(noise(7, 40, 57, 3)), Image.fromarray(noise(8, 33, 20))]
    found = ViTHybridImageProcessor(**for_jax(24))(pictures, return_tensors="np").pixel_values
    assert found.shape == (2, 3, 24, 24) and found.dtype == np.float32
    for picture, values in zip(pictures, found):
        x = bilinear_by_loop(np.asarray(picture.convert("RGB")), 24, 24, np.float32)
        assert np.array_equal(values, ((x - np.float32(127.5)) / np.float32(127.5)).transpose(2, 0, 1))
    # More channels than Pillow can resize.
    many = ViTHybridImageProcessor(**for_jax(8) | {"image_mean": 0, "image_std": 1})
    x = noise(9, 9, 9, 6)
    assert np.array_equal(many(x, input_data_format="channels_last").pixel_values[0],
                          tf_bilinear(x, 8, 8).transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(1, 2000, 3), (2000, 1, 3)])
def test_strips_are_refused_before_they_grow(shape):
    with pytest.raises(ValueError, match="picture 0 has .* pixels and would become .* pixels; expected at most "
                                         "max_pixels, 64,000,000 pixels"):
        ViTHybridImageProcessor(size=384, resample=TF_BILINEAR)(np.zeros(shape, np.uint8),
                                                                input_data_format="channels_last")


def test_options_are_saved_where_they_are_not_the_default(tmp_path):
    made = ViTHybridImageProcessor(**for_jax(24), crop_rounding="half_even")
    made.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (saved["resample"], saved["crop_rounding"]) == ("tf-bilinear", "half_even")
    again = ViTHybridImageProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == made.to_dict() and again.crop_rounding == "half_even"
    assert ViTHybridImageProcessor.from_dict(made.to_dict()).to_dict() == made.to_dict()
    assert "crop_rounding" not in ViTHybridImageProcessor(crop_rounding="floor").to_dict()
    assert ViTHybridImageProcessor.from_pretrained(tmp_path, crop_rounding="floor").crop_rounding == "floor"


@pytest.mark.parametrize("option, value, message", [
    ("resample", "tf-bicubic", "resample is 'tf-bicubic'; expected 'tf-bilinear' or one of Pillow's filters"),
    ("crop_rounding", "ceil", "'floor' or 'half_even'; found 'ceil'"),
    ("crop_rounding", None, "'floor' or 'half_even'; found None"),
])
def test_unknown_values_are_refused(option, value, message):
    x = np.zeros((9, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        ViTHybridImageProcessor(**{option: value})(x)
    switched_off = ViTHybridImageProcessor(**{option: value}, do_resize=False, do_center_crop=False)
    assert switched_off(x).pixel_values[0].shape == (3, 9, 8)
