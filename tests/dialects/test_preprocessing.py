"""The options of each dialect, and what is refused."""
import numpy as np
import pytest
from PIL import Image

from nphybrid.api.processor import OPTIONS, ViTHybridImageProcessor
from nphybrid.dialects.google import for_bit, for_jax
from nphybrid.dialects.timm import for_timm

from oracles.pictures import noise

# As in the config.json of timm's vit_base_r50_s16_384.orig_in21k_ft_in1k.
R50 = {"tag": "orig_in21k_ft_in1k", "custom_load": False, "input_size": [3, 384, 384], "fixed_input_size": True,
       "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center", "mean": [0.5, 0.5, 0.5],
       "std": [0.5, 0.5, 0.5], "num_classes": 1000, "pool_size": None, "first_conv": "patch_embed.backbone.stem.conv",
       "classifier": "head"}


@pytest.mark.parametrize("options", [for_timm(R50), for_timm(R50 | {"crop_mode": "squash"}), for_jax(384), for_bit(),
                                     for_bit(128, framework="torch")])
def test_options_are_the_processors(options):
    assert set(options) <= set(OPTIONS)
    assert ViTHybridImageProcessor(**options)(noise(0, 60, 50, 3)).pixel_values[0].dtype == np.float32


@pytest.mark.parametrize("size, part, edge", [(384, 1.0, 384), (224, 0.9, 248), (224, 0.875, 256), (224, 0.95, 235),
                                              (448, 1, 448), (288, 0.96, 300), (224, 0.965, 232)])
def test_timm_resizes_to_the_floor(size, part, edge):
    options = for_timm(R50 | {"input_size": (3, size, size), "crop_pct": part})
    assert options["size"] == {"shortest_edge": edge} and options["crop_size"] == {"height": size, "width": size}


def test_timm_squashes():
    options = for_timm(R50 | {"crop_mode": "squash", "input_size": [3, 224, 448], "crop_pct": 0.9})
    assert options["size"] == {"height": 248, "width": 497} and options["crop_size"] == {"height": 224, "width": 448}


def test_timms_names():
    for name, number in {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR,
                         "nearest": Image.Resampling.NEAREST, "lanczos": Image.Resampling.LANCZOS}.items():
        assert for_timm(R50 | {"interpolation": name})["resample"] == number
    without = {key: value for key, value in R50.items() if key != "crop_mode"}
    assert for_timm(without) == for_timm(R50 | {"crop_mode": None}) == for_timm(R50)
    numbers = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    options = for_timm(R50 | numbers)
    assert options["image_mean"] == list(numbers["mean"]) and options["image_std"] == list(numbers["std"])


def test_timm_by_hand():
    """Resize with Pillow, cut from row 2 of 3 too many, divide: all written out."""
    x = noise(1, 70, 61, 3)
    mean, std = np.array([0.4, 0.5, 0.6], np.float32), np.array([0.3, 0.2, 0.1], np.float32)
    options = for_timm(R50 | {"input_size": [3, 30, 30], "crop_pct": 0.9, "interpolation": "bilinear",
                              "mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.1]})
    resized = np.asarray(Image.fromarray(x).resize((33, 37), Image.Resampling.BILINEAR))
    # 7 rows and 3 columns too many: 3.5 and 1.5, to the even neighbour.
    expected = (resized[4:34, 2:32] / np.float32(255) - mean) / std
    found = ViTHybridImageProcessor(**options)(Image.fromarray(x)).pixel_values[0]
    assert found.tobytes() == expected.transpose(2, 0, 1).tobytes()


def test_bit_by_hand():
    x = noise(2, 40, 31, 3)
    found = ViTHybridImageProcessor(**for_bit(17, framework="torch"))(Image.fromarray(x)).pixel_values[0]
    resized = np.asarray(Image.fromarray(x).resize((17, 17), Image.Resampling.BILINEAR)) / np.float32(255)
    assert found.tobytes() == ((resized - np.float32(0.5)) / np.float32(0.5)).transpose(2, 0, 1).tobytes()
    assert for_bit(17) == for_jax(17)


def test_google_values_are_between_minus_one_and_one():
    for options in (for_jax(8), for_bit(8, framework="torch")):
        for value, expected in ((0, -1), (255, 1)):
            x = np.full((9, 9, 3), value, np.uint8)
            assert np.all(ViTHybridImageProcessor(**options)(x).pixel_values[0] == expected)


@pytest.mark.parametrize("key, value, message", [
    ("input_size", [0, 384, 384], r"input_size must be \[channels, rows, columns\]; found \[0, 384, 384\]"),
    ("input_size", [1, 384, 384], r"mean must be 1 finite number; found \[0.5, 0.5, 0.5\]"),
    ("input_size", 384, "found 384"), ("input_size", [3, 384], "input_size"), ("input_size", [3, 384.0, 384], "384.0"),
    ("input_size", [3, 0, 384], "input_size"), ("input_size", [3, 384, 224],
     r"input_size must be square if crop_mode is 'center'; found \[3, 384, 224\]"),
    ("interpolation", "cubic", "interpolation must be one of nearest, .*; found 'cubic'"),
    ("interpolation", "random", "found 'random'"), ("interpolation", 3, "found 3"),
    ("interpolation", [], "interpolation"),
    ("crop_pct", 0, "crop_pct must be a number above 0"), ("crop_pct", 1.1, "1.1"), ("crop_pct", "0.9", "'0.9'"),
    ("crop_pct", True, "True"), ("crop_pct", float("nan"), "nan"), ("crop_pct", None, "None"),
    ("crop_mode", "border", "crop_mode must be 'center' or 'squash'; found 'border'"),
    ("mean", [0.5, 0.5], "mean must be 3 finite numbers"), ("mean", 0.5, "mean"), ("mean", ["0.5"] * 3, "mean"),
    ("mean", [0.5, 0.5, float("inf")], "mean"), ("std", [0.5, 0, 0.5], "std must be 3 numbers that are not 0; found"),
    ("std", None, "std"),
])
def test_timm_refuses(key, value, message):
    with pytest.raises(ValueError, match=message):
        for_timm(R50 | {key: value})


@pytest.mark.parametrize("key", ["input_size", "interpolation", "crop_pct", "mean", "std"])
def test_timm_misses(key):
    with pytest.raises(ValueError, match=f"pretrained_cfg lacks {key}; it holds '"):
        for_timm({name: value for name, value in R50.items() if name != key})


def test_the_rest_is_refused():
    with pytest.raises(ValueError, match="pretrained_cfg must be a dictionary; found None"):
        for_timm(None)
    for size in (0, -1, 2.5, "384", True, None, [384, 384]):
        for options in (for_jax, for_bit):
            with pytest.raises(ValueError, match="size must be a number of pixels; found "):
                options(size)
    with pytest.raises(ValueError, match="framework must be 'jax' or 'torch'; found 'tf'"):
        for_bit(128, framework="tf")
