"""A preprocessor_config.json of each class of image processors: the pixels of this class in transformers."""
import json

import numpy as np
import pytest
from PIL import Image

from nphybrid.api.processor import ViTHybridImageProcessor
from nphybrid.checkpoint import read_processor
from nphybrid.dialects.processors import CLASSES, spelled_out

from oracles.pictures import noise
from tools.on_demand import on_demand

transformers = on_demand("transformers")
hybrid = on_demand("transformers.models.deprecated.vit_hybrid.image_processing_vit_hybrid")
LATER = {"shortest_edge": 40}

# Files as the classes wrote them over the years; without the key of the class, the model_type decides.
WRITTEN = {
    "ViT": [{}, {"size": {"height": 96, "width": 64}, "resample": 3}, {"size": 48, "do_rescale": None},
            {"size": 48, "do_center_crop": True, "crop_size": 40}, {"size": 24, "crop_pct": 0.5, "image_std": None}],
    "DeiT": [{}, {"size": 36, "crop_size": 32}, {"size": [40, 50], "crop_size": {"height": 33, "width": 22}},
             {"size": 36, "do_center_crop": False}, {"size": 36, "do_resize": False, "crop_size": 32},
             {"size": 30, "crop_size": 41, "do_normalize": None}],
    "Beit": [{}, {"size": 36, "crop_size": 32, "do_reduce_labels": True}, {"do_center_crop": False, "size": 48}],
    "Siglip": [{}, {"size": {"height": 48, "width": 32}}, {"resample": 2, "do_center_crop": True}],
    "Pvt": [{}, {"size": 32, "image_mean": [0.1, 0.2, 0.3]}],
    "Bit": [{}, {"size": 36, "crop_size": 32}, {"size": {"height": 40, "width": 50}, "crop_size": 32}],
    "CLIP": [{}, {"size": 36, "crop_size": 32, "do_convert_rgb": False}, {"size": LATER, "do_center_crop": False}],
    "ViTHybrid": [{}, {"size": 36, "crop_size": 32}],
    "ConvNext": [{}, {"size": 36, "crop_pct": 0.9}, {"size": LATER, "crop_pct": None}, {"size": 384},
                 {"size": 36, "do_resize": False}, {"size": 33, "crop_pct": 0.875, "resample": 3}],
    "Levit": [{}, {"size": 36, "crop_size": 32}, {"size": {"height": 40, "width": 50}, "do_center_crop": False}],
    "MobileNetV1": [{}, {"size": 36, "crop_size": 32}],
    "MobileNetV2": [{}, {"size": 36, "crop_size": 32, "image_mean": 0.25}],
}


def test_every_class_is_compared():
    assert WRITTEN.keys() == CLASSES.keys()


@pytest.mark.parametrize("name, options", [(name, options) for name, cases in WRITTEN.items() for options in cases])
def test_the_pixels_of_the_class(name, options, tmp_path):
    theirs = getattr(hybrid if name == "ViTHybrid" else transformers, f"{name}ImageProcessor")(**options)
    found = {}
    for key, kind in {"image_processor_type": "ImageProcessor", "feature_extractor_type": "FeatureExtractor"}.items():
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({key: name + kind, **options}))
        found[key] = read_processor(tmp_path)
    for shape in (50, 70), (300, 200), (33, 33):
        image = Image.fromarray(noise(1, *shape, 3))
        expected = theirs(image, return_tensors="np").pixel_values
        for file in found.values():
            ours = ViTHybridImageProcessor.from_dict(file)(image, return_tensors="np").pixel_values
            assert ours.shape == expected.shape and np.array_equal(ours, expected)


@pytest.mark.parametrize("options", [{}, {"size": 64}, {"size": {"height": 32, "width": 40}, "resample": 3}])
def test_a_file_without_a_class_beside_a_plain_vit(options, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(options))
    image = Image.fromarray(noise(1, 50, 70, 3))
    expected = transformers.ViTImageProcessor(**options)(image, return_tensors="np").pixel_values
    for path in tmp_path, tmp_path / "preprocessor_config.json":
        ours = ViTHybridImageProcessor.from_pretrained(path)(image, return_tensors="np").pixel_values
        assert np.array_equal(ours, expected)


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_what_is_written_is_read_by_transformers(name):
    """The options that are spelled out have the same pixels under the class that they name then."""
    options = spelled_out({"image_processor_type": f"{name}ImageProcessor", "size": 36, "crop_size": 32})
    written = options["image_processor_type"]
    theirs = getattr(hybrid if name == "ViTHybrid" else transformers, written)(
        **{key: value for key, value in options.items() if key != "image_processor_type"})
    image = Image.fromarray(noise(1, 50, 70, 3))
    ours = ViTHybridImageProcessor.from_dict(options)(image, return_tensors="np").pixel_values
    assert np.array_equal(ours, theirs(image, return_tensors="np").pixel_values)
    assert spelled_out(options) == options
