"""Models of one channel and models that tell a number, from the picture to the label."""
import json

import numpy as np
import pytest
from PIL import Image

from nphybrid import FormatError, ViTConfig, ViTForImageClassification, ViTHybridImageProcessor, open_picture
from nphybrid.api.load import load
from nphybrid.api.scores import best_classes
from nphybrid.batch.pipeline import pipeline
from nphybrid.checkpoint import read_processor
from nphybrid.cli import main
from nphybrid.dialects.preprocessing import for_channels

from oracles.pictures import noise
from oracles.reported import NAMES, SIDE, hf_vit, probabilities, timm_pixels, timm_vit

TIMM = {"architecture": "vit_tiny_patch16_224", "num_classes": 4, "label_names": list(NAMES[:4]), "num_features": 192,
        "global_pool": "token",
        "model_args": {"num_classes": 4, "in_chans": 1, "img_size": [64, 64], "global_pool": "token"},
        "pretrained_cfg": {"input_size": [1, 64, 64], "fixed_input_size": True, "interpolation": "bicubic",
                           "crop_pct": 0.9, "crop_mode": "center", "mean": [0.5], "std": [0.5], "num_classes": 4,
                           "first_conv": "patch_embed.proj", "classifier": "head"}}
HF = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": SIDE, "width": SIDE},
      "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5],
      "image_std": [0.5]}


@pytest.fixture
def cat(root):
    return root / "examples" / "images" / "cat.png"


def test_a_grey_network_of_timm(tmp_path, cat):
    """timm's answer: mode L, then the preparation by hand."""
    model = load(timm_vit(tmp_path / "grey", TIMM, seed=4, channels=1), engine="reference")
    x = model.prepared(cat)
    assert np.array_equal(x[0], timm_pixels(open_picture(cat).convert("L"), 64, 71, Image.Resampling.BICUBIC, 0.5, 0.5))
    assert probabilities(model(x).logits[0]) == [0.8219, 0.0557, 0.1167, 0.0056]
    found = pipeline("image-classification", model)(str(cat))
    assert [each["label"] for each in found] == ["ant", "cow", "bee", "dog"] and round(found[0]["score"], 4) == 0.8219


@pytest.mark.parametrize("mean", [[0.5], 0.5, [0.5, 0.5, 0.5], None])
def test_a_grey_network_of_hugging_face(mean, tmp_path, cat):
    processor = {**HF, "image_mean": mean, "image_std": mean}
    model = load(hf_vit(tmp_path / "grey", seed=4, channels=1, processor=processor), engine="reference")
    resized = open_picture(cat).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    expected = (np.asarray(resized).astype(np.float32) / 255 - 0.5) / 0.5
    x = model.prepared(cat)
    assert x.shape == (1, 1, SIDE, SIDE) and np.abs(x[0, 0] - expected).max() < 1e-6           # observed 0
    # A processor that is made from the options of the model converts the picture, too, where they state one number.
    if mean == [0.5]:
        assert np.array_equal(ViTHybridImageProcessor.from_dict(model.processor)(open_picture(cat), return_tensors="np"
                                                                                 ).pixel_values, x)
    assert pipeline("image-classification", model)(str(cat))[0]["label"] in NAMES


@pytest.mark.parametrize("mean, std", [([0.5] * 3, [0.5] * 3), ([0.5], [0.5] * 3), ([0.5] * 3, [0.5])])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grey_network_of_timm_with_three_equal_means(mean, std, channels, tmp_path, cat):
    """A card often keeps the numbers of the colour network from which the grey network was made."""
    pictures = {**TIMM["pretrained_cfg"], "input_size": [channels, 64, 64], "mean": mean, "std": std}
    card = {**TIMM, "pretrained_cfg": pictures}
    model = load(timm_vit(tmp_path / "grey", card, seed=4, channels=1), engine="reference")
    assert probabilities(model(model.prepared(cat)).logits[0]) == [0.8219, 0.0557, 0.1167, 0.0056]


@pytest.mark.parametrize("key, other", [("mean", "std"), ("std", "mean")])
@pytest.mark.parametrize("kind", ["timm", "huggingface"])
def test_a_grey_network_with_unequal_means(kind, key, other, tmp_path, cat, capsys):
    """Which grey is black and which is white is not known. The network itself can be used."""
    numbers = {key: [0.485, 0.456, 0.406], other: [0.5] * 3}
    if kind == "timm":
        folder = timm_vit(tmp_path / "grey", {**TIMM, "pretrained_cfg": {**TIMM["pretrained_cfg"], **numbers}}, seed=4,
                          channels=1)
    else:
        folder = hf_vit(tmp_path / "grey", seed=4, channels=1,
                        processor={**HF, **{f"image_{name}": value for name, value in numbers.items()}})
    model = load(folder, engine="reference")
    told = f"the network has 1 channel, but the image_{key} of its image processor is .0.485, 0.456, 0.406., one "
    for use in lambda: model.prepared(cat), lambda: pipeline("image-classification", model)(str(cat)):
        with pytest.raises(ValueError, match=told):
            use()
    assert main(["classify", str(cat), "--model", str(folder), "--engine", "reference"]) == 3
    captured = capsys.readouterr()
    assert "the network has 1 channel" in captured.err and "Traceback" not in captured.err and not captured.out
    model.processor = {**model.processor, "image_mean": [0.5], "image_std": [0.5]}
    x = model.prepared(cat)
    assert x.shape[1] == 1
    if kind == "timm":
        assert probabilities(model(x).logits[0]) == [0.8219, 0.0557, 0.1167, 0.0056]


def test_grey_without_a_card(tmp_path, cat):
    folder = timm_vit(tmp_path / "grey", TIMM, seed=4, channels=1)
    (folder / "config.json").unlink()
    model = load(folder / "model.safetensors", engine="reference")
    assert model.prepared(cat).shape == (1, 1, 64, 64) and model.config.num_channels == 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pictures_of_every_mode_become_grey(mode):
    rgb = Image.fromarray(noise(1, 20, 30, 3))
    picture = Image.new("I;16", (30, 20), 77) if mode == "I;16" else rgb.convert(mode)
    processor = ViTHybridImageProcessor(do_resize=False, do_center_crop=False, image_mean=[0.5], image_std=[0.5])
    x = processor(picture, return_tensors="np").pixel_values
    assert x.shape == (1, 1, 20, 30)
    assert np.abs(x[0, 0] - (np.asarray(picture.convert("L")) / 255 - 0.5) / 0.5).max() < 1e-6  # observed 1e-7


def test_a_grey_model_is_saved_and_loaded(tmp_path, cat):
    model = load(timm_vit(tmp_path / "grey", TIMM, seed=4, channels=1), engine="reference")
    expected = model(model.prepared(cat)).logits
    model.save(tmp_path / "m.h5")
    model.save_pretrained(tmp_path / "again")
    for path in tmp_path / "m.h5", tmp_path / "again":
        again = load(path, engine="reference")
        assert np.array_equal(again(again.prepared(cat)).logits, expected)


@pytest.mark.parametrize("problem_type, classes, expected", [
    ("regression", 1, [36.845]), ("regression", 3, None), (None, 1, None), ("multi_label_classification", 3, None)])
def test_the_number_of_a_regression_is_the_score(problem_type, classes, expected, tmp_path, cat):
    folder = hf_vit(tmp_path / "age", seed=8, classes=classes, processor={**HF, "image_mean": [0.5] * 3,
                                                                           "image_std": [0.5] * 3},
                    **({"problem_type": problem_type} if problem_type else {}))
    model = load(folder, engine="reference")
    if expected:
        state = model.state_dict()
        model.load_state_dict({**state, "classifier.bias": np.float32([36.5])})
    logits = model(model.prepared(cat)).logits[0]
    scores = logits if problem_type == "regression" else 1 / (1 + np.exp(-logits))
    found = pipeline("image-classification", model)(str(cat))
    assert np.allclose([each["score"] for each in found], np.sort(scores)[::-1], atol=1e-6)
    if expected:
        assert np.allclose([each["score"] for each in found], expected, atol=5e-4)
    softmax = pipeline("image-classification", model)(str(cat), function_to_apply="softmax")
    assert abs(sum(each["score"] for each in softmax) - 1) < 1e-6


def test_the_scores_of_a_regression_by_hand():
    config = ViTConfig(num_labels=2, problem_type="regression")
    assert best_classes(np.array([-3.5, 40.0]), config) == [(1, 40.0), (0, -3.5)]


def test_one_text_for_a_missing_image_processor(tmp_path):
    hf_vit(tmp_path / "checkpoint-500", seed=9)
    model = ViTForImageClassification.from_pretrained(tmp_path / "checkpoint-500", engine="reference")
    texts = []
    for function in (model.image_processor, lambda: pipeline("image-classification", tmp_path / "checkpoint-500"),
                     lambda: ViTHybridImageProcessor.from_pretrained(tmp_path / "checkpoint-500")):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            function()
        texts.append(str(caught.value))
    assert len(set(texts)) == 1 and "expected the file preprocessor_config.json beside the weights" in texts[0]
    assert "--processor FILE" in texts[0] and "checkpoint-500 came without an image processor" in texts[0]


@pytest.mark.parametrize("document", [{}, {"hello": 1}, {"model_type": "vit", "image_size": 32}])
def test_a_file_that_is_no_image_processor(document, tmp_path):
    """For example the config.json of a model. Its pictures would be prepared with defaults."""
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match="x.json has no option of an image processor, such as size"):
        read_processor(tmp_path / "x.json")


def test_grey_without_normalization(cat):
    """The mean 0 and the std 1 change no pixel.  Without one channel, the picture keeps its colours."""
    options = {"size": {"height": SIDE, "width": SIDE}, "do_normalize": False, "image_mean": [0.5] * 3}
    grey = ViTHybridImageProcessor.from_dict(for_channels(options, 1))(open_picture(cat), return_tensors="np")
    expected = ViTHybridImageProcessor.from_dict(options)(open_picture(cat).convert("L"), return_tensors="np")
    assert grey.pixel_values.shape[1] == 1 and 0 <= grey.pixel_values.min() < grey.pixel_values.max() <= 1
    assert np.array_equal(grey.pixel_values[0, 0], expected.pixel_values[0, 0])
