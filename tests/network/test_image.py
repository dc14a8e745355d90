"""Preprocessing: each step against a definition written as loops, surprises, and the checks of the processor."""

import copy
import doctest
import json
import pickle
import re
import sys
import types
import warnings
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

import nphybrid.api.processor
from nphybrid import image
from nphybrid.api.processor import BatchFeature, ViTHybridImageProcessor

BICUBIC = Image.Resampling.BICUBIC


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


def noise(rng, *shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def pixel_values(pictures, steps=image.Steps()):
    """The whole preparation.  B pictures -> (B, C, H, W)"""
    return np.stack([image.prepare(image.rgb(picture), steps).transpose(2, 0, 1) for picture in pictures])


def crop_by_loop(x, height, width):
    """Row i of the result is row i + floor((H - h) / 2) of the image, or zeros where there is none."""
    H, W, C = x.shape
    y = np.zeros((height, width, C), x.dtype)
    for i in range(height):
        for j in range(width):
            u, v = i + int(np.floor((H - height) / 2)), j + int(np.floor((W - width) / 2))
            if 0 <= u < H and 0 <= v < W:
                y[i, j] = x[u, v]
    return y


# -- each step against its definition ------------------------------------------------------------------------

@pytest.mark.parametrize("H", [1, 2, 7, 8])
@pytest.mark.parametrize("h", [1, 2, 5, 6, 7, 8, 9, 12])
def test_centre_crop_is_its_definition(rng, H, h):
    for W, w in [(6, 3), (6, 4), (5, 8), (6, 9), (6, 6)]:
        x = noise(rng, H, W, 3)
        y = image.centre_crop(x, h, w)
        assert y.dtype == x.dtype and np.array_equal(y, crop_by_loop(x, h, w))


def test_centre_crop_surprises():
    column = np.array([1, 2, 3, 4], np.uint8).reshape(4, 1, 1)
    # One row too many is lost at the bottom, not on top.
    assert image.centre_crop(column, 3, 1).ravel().tolist() == [1, 2, 3]
    # One row too few is added on top, not at the bottom.
    assert image.centre_crop(column, 5, 1).ravel().tolist() == [0, 1, 2, 3, 4]
    # Not torchvision's offset, which rounds halves to even: 3 rows too many start at 2 there, at 1 here.
    rows = np.arange(10, dtype=np.uint8).reshape(10, 1, 1)
    assert image.centre_crop(rows, 7, 1)[0] == 1 != round((10 - 7) / 2)


def test_resized_size_keeps_the_ratio():
    for H in range(1, 90):
        for W in range(1, 90, 4):
            for size in (1, 23, 384):
                h, w = image.resized_size(H, W, size)
                long = int(Fraction(size * max(H, W), min(H, W)))
                assert (h, w) == ((size, long) if H < W else (long, size))


def test_resized_size_cuts_off():
    assert image.resized_size(427, 640, 384) == (384, 575) != (384, round(384 * 640 / 427))
    assert image.resized_size(640, 427, 384) == (575, 384)
    assert image.resized_size(5, 7, (3, 9)) == (3, 9)


@pytest.mark.parametrize("resample", range(6))
def test_resize_is_pillows_per_channel(rng, resample):
    x = noise(rng, 31, 23, 3)
    y = image.resize(x, 17, 40, resample)
    for c in range(3):
        channel = Image.fromarray(np.ascontiguousarray(x[:, :, c])).resize((40, 17), resample)
        assert np.array_equal(y[:, :, c], np.array(channel))
    assert np.array_equal(image.resize(x[:, :, :1], 17, 40, resample), y[:, :, :1])


def bicubic_by_definition(x, n):
    """Pillow's 8-bit resampling along the rows.  (H, W) uint8 -> (n, W) uint8

    Cubic with a = -1/2, widened when shrinking; weights in 22 bits, rounded, cut off to bytes.
    """
    def cubic(t):
        t = abs(t)
        return (1.5 * t - 2.5) * t * t + 1 if t < 1 else ((-0.5 * t + 2.5) * t - 4) * t + 2 if t < 2 else 0.0

    H, W = x.shape
    scale = H / n
    stretch = max(scale, 1.0)
    y = np.zeros((n, W), np.uint8)
    for i in range(n):
        centre = (i + 0.5) * scale
        low, high = max(int(centre - 2 * stretch + 0.5), 0), min(int(centre + 2 * stretch + 0.5), H)
        weights = [cubic((u - centre + 0.5) / stretch) for u in range(low, high)]
        whole = [int(np.copysign(0.5, w) + w / sum(weights) * (1 << 22)) for w in weights]
        for j in range(W):
            total = (1 << 21) + sum(w * int(x[u, j]) for w, u in zip(whole, range(low, high)))
            y[i, j] = min(max(total >> 22, 0), 255)
    return y


@pytest.mark.parametrize("H, n", [(20, 33), (33, 20), (50, 7), (9, 9)])
def test_resize_is_the_bicubic_we_think_it_is(rng, H, n):
    x = noise(rng, H, 12)
    expected = bicubic_by_definition(x, n)
    assert np.array_equal(image.resize(x[:, :, None], n, 12, BICUBIC)[:, :, 0], expected)
    # Not interpolation at points: shrinking without widening the filter gives other bytes.
    if H > n:
        grid = (1, 0, 0, 0, H / n, 0)
        points = np.array(Image.fromarray(x).transform((12, n), Image.Transform.AFFINE, grid, BICUBIC))
        assert np.abs(points.astype(int) - expected).max() > 20


def test_rescale_is_one_rounding():
    x = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    y = image.rescale(x, 1 / 255)
    third = Fraction(1 / 255)
    for value, result in zip(x.ravel().tolist(), y.ravel()):
        nearest = np.float32(float(value * third))
        assert result == nearest
    assert y.dtype == np.float32
    wrong = x.astype(np.float32) * np.float32(1 / 255)
    assert (wrong != y).sum() == 126
    # Dividing by 255 happens to agree for every byte.
    assert (x.astype(np.float32) / 255 != y).sum() == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_normalize_works_in_the_dtype_of_the_image(rng, dtype):
    x = rng.random((5, 4, 3)).astype(dtype)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    y = image.normalize(x, mean, std)
    assert y.dtype == dtype
    for c in range(3):
        expected = (x[:, :, c] - dtype(mean[c])) / dtype(std[c])
        assert expected.dtype == dtype and np.array_equal(y[:, :, c], expected)
    if dtype != np.float64:
        wide = (x.astype(np.float64) - np.array(mean)) / np.array(std)
        assert (wide.astype(dtype) != y).any()
        assert (np.multiply(x - np.array(mean, dtype), 1 / np.array(std, dtype), dtype=dtype) != y).any()


def test_normalize_makes_integers_float32():
    y = image.normalize(np.array([[[1, 2]]], np.int64), 0.5, [0.25, 0.5])
    assert y.dtype == np.float32 and y.ravel().tolist() == [2, 3]


# -- what Pillow is given ------------------------------------------------------------------------------------

def test_fractions_make_a_way_through_bytes():
    x = np.full((4, 4, 3), 0.5)
    x[0, 0] = 0.999
    pixels, fractions = image.as_bytes(x)
    # 0.5 * 255 = 127.5 is cut off, not rounded.
    assert fractions and pixels.dtype == np.uint8 and pixels[1, 1, 0] == 127 and pixels[0, 0, 0] == 254
    y = image.resize(x, 4, 4, BICUBIC)
    assert y.dtype == np.float32 and y[1, 1, 0] == np.float32(127 / 255)
    # In float32 before it is cut off.
    x[0, 0] = 1 - 1e-8
    assert image.as_bytes(x)[0][0, 0, 0] == 255 != int((1 - 1e-8) * 255)


def test_whole_numbers_stay_bytes():
    x = np.array([[[0.0, 1.0, 255.0]]])
    pixels, fractions = image.as_bytes(x)
    assert not fractions and pixels.ravel().tolist() == [0, 1, 255]
    # Only zeros and ones: black, not white.
    assert image.as_bytes(np.ones((2, 2, 3)))[0].max() == 1
    assert image.as_bytes(np.ones((2, 2, 3), bool))[0].max() == 1
    assert image.resize(x, 2, 2, BICUBIC).dtype == np.uint8


@pytest.mark.parametrize("value", [-1.0, 256.0, 1.5, np.nan, np.inf, 1e30, -np.inf, 300])
def test_other_numbers_are_refused(value):
    x = np.zeros((3, 3, 3), np.asarray(value).dtype)
    x[1, 1, 1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="Pillow resizes only whole numbers in 0..255 or fractions in 0..1; the "
                                             f"pixels are {x.dtype} from "):
            image.as_bytes(x)


def test_four_channels_are_weighed_with_alpha(rng):
    x = noise(rng, 16, 16, 4)
    y = image.resize(x, 9, 9, BICUBIC)
    assert np.array_equal(y, np.array(Image.fromarray(x, mode="RGBA").resize((9, 9), BICUBIC)))
    assert not np.array_equal(y[:, :, :3], image.resize(x[:, :, :3], 9, 9, BICUBIC))


def test_the_way_and_its_order(rng):
    x = noise(rng, 60, 45, 3)
    y = pixel_values([Image.fromarray(x)], image.Steps(size=40, crop=(40, 40)))
    assert y.shape == (1, 3, 40, 40) and y.dtype == np.float32
    resized = np.array(Image.fromarray(x).resize((40, 53), BICUBIC))
    cropped = crop_by_loop(resized, 40, 40)
    expected = ((cropped / 255).astype(np.float32) - 0.5) / np.float32(0.5)
    assert np.array_equal(y[0].transpose(1, 2, 0), expected)
    # Cropping first, or resizing fractions instead of bytes, is something else.
    first = pixel_values([Image.fromarray(x)], image.Steps(size=None, crop=(45, 45)))
    assert first.shape[2] == 45
    square = np.array(Image.fromarray(crop_by_loop(x, 45, 45)).resize((40, 40), BICUBIC))
    assert not np.array_equal(square, cropped)


def test_pixel_values_is_the_processor(rng):
    pictures = [Image.fromarray(noise(rng, 50, 70, 3)), Image.fromarray(noise(rng, 80, 40))]
    processor = ViTHybridImageProcessor(size=384, crop_size=384, image_mean=0.5, image_std=[0.5] * 3)
    assert np.array_equal(processor(pictures, return_tensors="np").pixel_values, pixel_values(pictures))


def test_pixels_are_left_alone(rng):
    x = noise(rng, 20, 30, 3)
    kept = x.copy()
    x.flags.writeable = False
    ViTHybridImageProcessor()(x)
    assert np.array_equal(x, kept)


# -- the processor's border ----------------------------------------------------------------------------------

def test_doctests():
    assert doctest.testmod(nphybrid.api.processor).failed == 0


def test_batch_feature():
    inputs = BatchFeature(pixel_values=[1])
    inputs.more = 2
    assert inputs == {"pixel_values": [1], "more": 2} and inputs.pixel_values == [1]
    assert dict(**inputs)["more"] == 2
    for again in (copy.copy(inputs), copy.deepcopy(inputs), pickle.loads(pickle.dumps(inputs))):
        assert type(again) is BatchFeature and again == inputs
    with pytest.raises(AttributeError, match="BatchFeature has no 'cuda'; its keys are 'pixel_values', 'more'"):
        inputs.cuda
    with pytest.raises(KeyError):
        inputs["to"]


def test_return_tensors():
    x = np.zeros((20, 20, 3), np.uint8)
    assert isinstance(ViTHybridImageProcessor()(x).pixel_values, list)
    assert ViTHybridImageProcessor()(x, return_tensors="np").pixel_values.flags.c_contiguous
    message = ("return_tensors is {!r}; expected \"np\" or None; for PyTorch, use \"np\" and then "
               "torch.from_numpy(inputs.pixel_values)")
    for framework in ("pt", "tf", "jax", "mlx"):
        with pytest.raises(ValueError, match=re.escape(message.format(framework))) as caught:
            ViTHybridImageProcessor()(x, return_tensors=framework)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 2000, 3), (2000, 1, 3), (1, 65500, 3)])
def test_strips_are_refused_before_they_grow(shape):
    processor = ViTHybridImageProcessor(size=384, crop_size=384)
    with pytest.raises(ValueError, match="picture 0 has .* pixels and would become .* pixels; expected at most "
                                         "max_pixels, 64,000,000 pixels"):
        processor(np.zeros(shape, np.uint8), input_data_format="channels_last")
    with pytest.raises(ValueError, match="max_pixels, 999"):
        processor(np.zeros((9, 9, 3), np.uint8), do_center_crop=False, size=32, max_pixels=999)


def test_max_pixels_is_the_last_that_passes():
    x = np.zeros((9, 9, 3), np.uint8)
    processor = ViTHybridImageProcessor(size=32, crop_size=10)
    assert processor(x, max_pixels=1024).pixel_values[0].shape == (3, 10, 10)
    with pytest.raises(ValueError):
        processor(x, max_pixels=1023)
    with pytest.raises(ValueError, match="would become 100000 x 100000"):
        processor(x, crop_size=100000)


def test_warnings():
    with pytest.warns(UserWarning, match="do_rescale=False"):
        ViTHybridImageProcessor()(np.full((9, 8, 3), 0.3))
    message = ("a picture has shape (3, 9, 3), and the first axis is used as the channels; to use another axis, pass "
               "input_data_format")
    with pytest.warns(UserWarning, match=re.escape(message)):
        ViTHybridImageProcessor()(np.zeros((3, 9, 3), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ViTHybridImageProcessor()(np.full((9, 8, 3), 0.3), do_rescale=False)
        ViTHybridImageProcessor()(np.zeros((3, 9, 3), np.uint8), input_data_format="channels_last")
        ViTHybridImageProcessor()(Image.new("RGB", (9, 3)))


@pytest.mark.parametrize("made, message", [
    ({"size": {"shortest_edge": 0}}, r"size\['shortest_edge'\]"),
    ({"size": True}, r"size\['shortest_edge'\] is True; expected a whole number of pixels from 1 to 2\*\*31 - 1"),
    ({"size": [1, 2, 3]}, r"found \[1, 2, 3\]"), ({"size": {"height": 3}}, "size must be"),
    ({"crop_size": {"width": 3, "height": None}}, r"crop_size\['height'\] is None; expected a whole number"),
    ({"crop_size": "x"}, r"crop_size\['height'\] is 'x'; expected a whole number"), ({"crop_size": 2.5}, "2.5"),
    ({"preprocess": 1}, "found a key 'preprocess'; expected another name, because the image processor has a method or "
                        "attribute 'preprocess'"),
    ({"__class__": 1}, "__class__"),
])
def test_constructor_refuses(made, message):
    with pytest.raises(ValueError, match=message):
        ViTHybridImageProcessor(**made)


@pytest.mark.parametrize("made, message", [
    ({"resample": "bicubic"}, "resample is 'bicubic'; expected 'tf-bilinear' or one of Pillow's filters, .*3 bicubic"),
    ({"resample": None}, "resample is None; expected"), ({"resample": True}, "resample is True; expected"),
    ({"rescale_factor": None}, "rescale_factor"), ({"rescale_factor": [1, 2, 3]}, "one number"),
    ({"rescale_factor": "1/255"}, "rescale_factor"), ({"image_mean": [[0.5] * 3]}, "image_mean"),
    ({"image_mean": ["a"]}, "image_mean"), ({"image_mean": [[1], [1, 2]]}, "image_mean"),
    ({"image_std": [0.5, 0.5]}, r"picture 0 has 3 channels \(layout channels_last\), but image_std has 2 numbers; "
                                "expected one number for each channel"),
    ({"image_std": 0}, "zero"),
    ({"do_normalize": "no"}, "do_normalize must be True or"), ({"do_convert_rgb": "no"}, "do_convert_rgb"),
    ({"size": {"max_height": 3, "max_width": 4}}, "size is {'max_height': 3, 'max_width': 4}; expected the key "
                                                  "'shortest_edge', or the keys 'height' and 'width'"),
])
def test_preprocess_refuses(made, message):
    with pytest.raises(ValueError, match=message):
        ViTHybridImageProcessor(**made)(np.zeros((9, 8, 3), np.uint8))


def test_what_is_switched_off_is_not_looked_at():
    processor = ViTHybridImageProcessor(do_resize=False, resample=None, do_rescale=None, rescale_factor=None,
                                        do_normalize=0, image_std=0, do_center_crop=False)
    x = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    y = processor(x, input_data_format="channels_last").pixel_values[0]
    assert np.array_equal(y, x.transpose(2, 0, 1))


def test_defaults_are_not_shared():
    ViTHybridImageProcessor().image_mean[0] = 9
    assert ViTHybridImageProcessor().image_mean[0] == 0.48145466
    options = {"image_mean": [1, 2, 3], "size": {"shortest_edge": 9}}
    processor = ViTHybridImageProcessor.from_dict(options)
    processor.image_mean[0] = processor.size["shortest_edge"] = 5
    assert options == {"image_mean": [1, 2, 3], "size": {"shortest_edge": 9}}
    processor.to_dict()["image_mean"][0] = 7
    assert processor.image_mean[0] == 5


# -- files ---------------------------------------------------------------------------------------------------

def test_save_and_load(tmp_path):
    made = ViTHybridImageProcessor(size=48, crop_size=(40, 44), image_mean=0.5, tomorrow={"a": [1]},
                                   processor_class="X")
    assert made.tomorrow == {"a": [1]}
    paths = made.save_pretrained(tmp_path / "new" / "folder")
    assert paths == [str(tmp_path / "new" / "folder" / "preprocessor_config.json")]
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["preprocessor_config.json"]
    for path in (tmp_path / "new" / "folder", paths[0]):
        again = ViTHybridImageProcessor.from_pretrained(path)
        assert again.to_dict() == made.to_dict()
    assert ViTHybridImageProcessor.from_dict(made.to_dict()).to_dict() == made.to_dict()
    assert json.loads(open(paths[0]).read())["tomorrow"] == {"a": [1]}
    assert json.loads(repr(made).removeprefix("ViTHybridImageProcessor "))["size"] == {"shortest_edge": 48}


def test_a_failed_save_leaves_the_old_file(tmp_path):
    ViTHybridImageProcessor(size=48).save_pretrained(tmp_path)
    with pytest.raises(AttributeError):
        ViTHybridImageProcessor(size=49, odd=object()).save_pretrained(tmp_path)
    assert ViTHybridImageProcessor.from_pretrained(tmp_path).size == {"shortest_edge": 48}
    assert len(list(tmp_path.iterdir())) == 1


def test_options_one_level_down(tmp_path):
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"size": 33}}))
    assert ViTHybridImageProcessor.from_pretrained(tmp_path).size == {"shortest_edge": 33}


def test_h5_is_read_by_the_checkpoint_module(tmp_path, monkeypatch):
    asked = []
    module = types.ModuleType("nphybrid.checkpoint")
    module.Access = lambda *access: None
    module.read_processor = lambda path, revision, access: asked.append(path) or {"size": 31}
    monkeypatch.setitem(sys.modules, "nphybrid.checkpoint", module)
    monkeypatch.setattr(sys.modules["nphybrid"], "checkpoint", module, raising=False)
    processor = ViTHybridImageProcessor.from_pretrained(str(tmp_path / "model.h5"), crop_size=30)
    assert asked == [str(tmp_path / "model.h5")]
    assert processor.size == {"shortest_edge": 31} and processor.crop_size == {"height": 30, "width": 30}


@pytest.mark.parametrize("text, message", [
    (b"", "the file is empty"), (b"{", "not valid JSON"), (b"[1]", "holds a JSON list"),
    (b'{"image_processor": 3}', "image_processor is 3"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"), (b"<html>", "a web page"),
    (b"\xff\xfe\x00", "not valid UTF-8"), (b"[" * 100000, "nested too deeply"),
    (b'{"size": -1}', r"size\['shortest_edge'\] is -1; expected a whole number of pixels"),
    (b'{"size": 1' + b"0" * 400 + b'}', "the number '1000"),
    (b'{"crop_size": {"height": 1}}', "crop_size must be"),
])
def test_bad_files(tmp_path, text, message):
    (tmp_path / "preprocessor_config.json").write_bytes(text)
    with pytest.raises(ValueError, match=message) as caught:
        ViTHybridImageProcessor.from_pretrained(tmp_path)
    assert len(str(caught.value)) < 600


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the file preprocessor_config.json beside the weights"):
        ViTHybridImageProcessor.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="x.json: no such file or folder on this computer"):
        ViTHybridImageProcessor.from_pretrained(tmp_path / "x.json")
    with pytest.raises(TypeError, match="unknown option do_resise; the options are do_resize"):
        ViTHybridImageProcessor.from_dict({}, do_resise=False)
    with pytest.raises(TypeError, match="image_processor_dict has type list; expected a dictionary of options"):
        ViTHybridImageProcessor.from_dict([1])
