"""The classes of Hugging Face's image processors: one by hand, and those that are refused."""
import json

import numpy as np
import pytest
from PIL import Image

from nphybrid import ViTConfig, ViTForImageClassification, ViTHybridImageProcessor
from nphybrid.checkpoint import read_processor
from nphybrid.dialects.preprocessing import for_image
from nphybrid.dialects.processors import CLASSES, spelled_out

from oracles.pictures import noise

DEIT = {"crop_size": 32, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "DeiTFeatureExtractor", "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": 36}


def test_deit_by_hand():
    """Both sides become 36 pixels long, and the middle 32 rows and columns are cut out."""
    picture = Image.fromarray(noise(3, 100, 200, 3))
    resized = picture.resize((36, 36), Image.Resampling.BICUBIC).crop((2, 2, 34, 34))
    expected = (np.asarray(resized) / 255 - DEIT["image_mean"]) / DEIT["image_std"]
    found = ViTHybridImageProcessor.from_dict(DEIT)(picture, return_tensors="np").pixel_values[0]
    assert np.abs(found - expected.transpose(2, 0, 1)).max() < 1e-6                          # observed 3e-7


def test_a_number_with_a_point_is_the_size_of_both_sides():
    """Read as the short side, it would give other pixels without a word."""
    assert spelled_out({**DEIT, "size": 36.0})["size"] == {"height": 36.0, "width": 36.0}
    picture = Image.fromarray(noise(3, 100, 200, 3))
    a, b = (ViTHybridImageProcessor.from_dict({**DEIT, "size": size})(picture, return_tensors="np").pixel_values
            for size in (36, 36.0))
    assert np.array_equal(a, b)
    with pytest.raises(ValueError, match="36.5"):
        ViTHybridImageProcessor.from_dict({**DEIT, "size": 36.5})


@pytest.mark.parametrize("options, told", [
    ({"image_processor_type": "EfficientNetImageProcessor"}, "is a 'EfficientNetImageProcessor', whose pixels nphybrid "
                                                             "does not compute; expected one of ViTImageProcessor, "),
    ({"feature_extractor_type": "PoolFormerFeatureExtractor"}, "PoolFormerFeatureExtractor"),
    ({"image_processor_type": "DPTImageProcessor", "size": 32}, "DPTImageProcessor"),
    ({"image_processor_type": "DINOv3ViTImageProcessorFast"}, "DINOv3ViTImageProcessorFast"),
    ({"image_processor_type": "ChineseCLIPImageProcessor"}, "ChineseCLIP"),      # it fails upstream without a height
    ({"image_processor_type": "Mine"}, "Mine"), ({"image_processor_type": 3}, "is a 3"),
    ({"image_processor_type": "ViTImageProcessorFast", "do_pad": True}, "do_pad of ViTImageProcessorFast must be"),
    ({"image_processor_type": "CLIPImageProcessor", "use_square_size": True}, "use_square_size of CLIP"),
    ({"image_processor_type": "DeiTImageProcessor", "size": {"shortest_edge": 36}},
     "size of DeiTImageProcessor must be a height and a width; found {'shortest_edge': 36}"),
    ({"image_processor_type": "ConvNextImageProcessor", "size": {"height": 36, "width": 36}}, "size of ConvNext"),
    ({"image_processor_type": "ConvNextImageProcessor", "size": 36, "crop_pct": 0}, "crop_pct must be")])
def test_what_is_not_computed_is_refused_at_the_first_picture(options, told, tmp_path):
    """The network of the folder can be loaded all the same."""
    ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, hidden_size=8, num_attention_heads=2,
                                        num_hidden_layers=1, intermediate_size=8), engine="reference"
                              ).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(options))
    model = ViTForImageClassification.from_pretrained(tmp_path, engine="reference")
    with pytest.raises(ValueError, match=told):
        model.image_processor()
    with pytest.raises(ValueError, match=told):
        ViTHybridImageProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("options, told", [({"size": 36, "do_pad": True}, "do_pad of ViTImageProcessor must be false"),
                                           ({"size": {"shortest_edge": 36}}, "size of ViTImageProcessor must be")])
def test_a_file_without_a_class_beside_a_plain_vit_is_refused_alike(options, told, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(options))
    for path in tmp_path, tmp_path / "preprocessor_config.json":
        with pytest.raises(ValueError, match=told):
            ViTHybridImageProcessor.from_pretrained(path)


def test_null_means_the_default_in_a_fast_class():
    slow, fast = (spelled_out({"image_processor_type": f"DeiTImageProcessor{kind}", "do_rescale": None})
                  for kind in ("", "Fast"))
    assert (slow["do_rescale"], fast["do_rescale"]) == (None, True)


def test_spelling_out_twice_changes_nothing(tmp_path):
    for name in CLASSES:
        written = {"image_processor_type": f"{name}ImageProcessor"}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
        options = read_processor(tmp_path)
        assert spelled_out(options) == options


def test_a_processor_without_a_class_names_one_when_it_is_written(tmp_path):
    """transformers would read a file without a class as one of ViTImageProcessor, which does not crop."""
    model = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, hidden_size=8, num_attention_heads=2,
                                                num_hidden_layers=1, intermediate_size=8), engine="reference")
    model.processor = {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": 16}
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert written["image_processor_type"] == "BitImageProcessor" and written["do_center_crop"]


def test_both_sides_and_the_crop_follow_the_image_size():
    options = for_image(spelled_out(DEIT), (32, 32), (64, 48))
    assert options["size"] == {"height": 72, "width": 54} and options["crop_size"] == {"height": 64, "width": 48}
