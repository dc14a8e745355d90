"""timm's config.json in every form that tools wrote: what is read, what is told, and what is refused."""
import warnings

import numpy as np
import pytest
from PIL import Image

from nphybrid import FormatError, ViTHybridImageProcessor, open_picture
from nphybrid.api.load import load
from nphybrid.checkpoint import read_processor
from nphybrid.dialects.timm import timm_processor
from nphybrid.dialects.timm_card import KNOWN, labels, nested

from oracles.reported import NAMES, probabilities, timm_pixels, timm_vit

FLAT = {"num_classes": 4, "labels": list(NAMES[:4]), "num_features": 192, "architecture": "vit_tiny_patch16_224",
        "input_size": [3, 64, 64], "pool_size": None, "crop_pct": 0.875, "interpolation": "bilinear",
        "fixed_input_size": True, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "first_conv": "patch_embed.proj", "classifier": "head"}
OUTSIDE = {"architecture", "num_classes", "num_features"}
PICTURES = {key: value for key, value in FLAT.items() if key not in OUTSIDE | {"labels"}}
NESTED = {key: FLAT[key] for key in OUTSIDE} | {"label_names": FLAT["labels"], "pretrained_cfg": PICTURES}
WORDNET = {"n1": "ant", "n2": "bee", "n3": "cow", "n4": "dog", "n5": "never used"}

FORMS = {
    "flat": FLAT,
    "flat, with null beside": {**FLAT, "label_names": None, "model_args": None, "global_pool": None, "url": ""},
    "nested": NESTED,
    "names in pretrained_cfg": {**{key: NESTED[key] for key in OUTSIDE},
                                "pretrained_cfg": {**PICTURES, "label_names": FLAT["labels"]}},
    "names as an object": {**NESTED, "label_names": {"3": "dog", "0": "ant", "1": "bee", "2": "cow"}},
    "identifiers with descriptions": {**NESTED, "label_names": list(WORDNET)[:4], "label_descriptions": WORDNET},
    "flat identifiers": {**FLAT, "labels": list(WORDNET)[:4], "label_descriptions": WORDNET},
    "an architecture with a tag": {**NESTED, "architecture": "vit_tiny_patch16_224.augreg_in21k"},
    "an old architecture": {**NESTED, "architecture": "vit_tiny_patch16_224_in21k"},
    "of transformers": {**NESTED, "model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"],
                        "do_pooling": True, "initializer_range": 0.02, "torch_dtype": "float32",
                        "transformers_version": "4.57.6"},
    "of transformers, with id2label": {**{key: value for key, value in NESTED.items() if key != "label_names"},
                                       "model_type": "timm_wrapper", "id2label": dict(enumerate(NAMES[:4]))},
}


@pytest.fixture
def cat(root):
    return root / "examples" / "images" / "cat.png"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form, tmp_path, cat):
    """The answer of timm itself, and its preparation by hand."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(timm_vit(tmp_path / "model", FORMS[form]), engine="reference")
    assert model.config.id2label == dict(enumerate(NAMES[:4]))
    x = model.prepared(cat)
    by_hand = timm_pixels(open_picture(cat), 64, 73, Image.Resampling.BILINEAR, FLAT["mean"], FLAT["std"])
    assert np.array_equal(x[0], by_hand)
    assert probabilities(model(x).logits[0]) == [0.0174, 0.0178, 0.9113, 0.0535]
    again = ViTHybridImageProcessor.from_dict(read_processor(tmp_path / "model"))
    assert np.array_equal(again(open_picture(cat), return_tensors="np").pixel_values, x)


@pytest.mark.parametrize("card", [{"architecture": "vit_tiny_patch16_224"}, {"num_classes": 4, "pretrained_cfg": {}},
                                  {"pretrained_cfg": {"mean": None, "crop_pct": None, "interpolation": None}}])
def test_what_a_card_leaves_unsaid_is_timms_default(card, tmp_path, cat):
    """In timm: bicubic, 7/8 of the picture, the mean and std of ImageNet.  Published networks state other numbers."""
    with pytest.warns(UserWarning, match=r"neither mean nor crop_pct. .* the mean \[0.485, 0.456, 0.406\] and the crop_"
                                         r"pct 0.875. .* the mean \[0.5, 0.5, 0.5\]"):
        x = load(timm_vit(tmp_path / "model", card), engine="reference").prepared(cat)
    assert np.array_equal(x[0], timm_pixels(open_picture(cat), 64, 73, Image.Resampling.BICUBIC, FLAT["mean"],
                                            FLAT["std"]))


def test_one_mean_is_the_mean_of_each_channel(tmp_path, cat):
    card = {**FLAT, "mean": [0.5], "std": [0.25], "crop_pct": 0.9, "interpolation": "bicubic"}
    x = load(timm_vit(tmp_path / "model", card), engine="reference").prepared(cat)
    assert np.array_equal(x[0], timm_pixels(open_picture(cat), 64, 71, Image.Resampling.BICUBIC, [0.5] * 3, [0.25] * 3))


def test_keys_that_are_read_nowhere_are_told(tmp_path):
    card = {**NESTED, "vflip": True, "pretrained_cfg": {**PICTURES, "gamma": 2.2}}
    with pytest.warns(UserWarning, match="config.json has the keys 'gamma', 'vflip', which nphybrid does not read"):
        load(timm_vit(tmp_path / "model", card), engine="reference")


def test_a_regression_in_transformers_wrapper(tmp_path):
    card = {**NESTED, "num_classes": 1, "label_names": ["age"], "model_type": "timm_wrapper",
            "problem_type": "regression"}
    model = load(timm_vit(tmp_path / "model", card, classes=1), engine="reference")
    assert (model.config.problem_type, model.config.id2label) == ("regression", {0: "age"})


@pytest.mark.parametrize("changes, told", [
    ({"num_classes": 1000}, "num_classes 1000, but the head in the file has 4 classes"),
    ({"label_names": {"ant": "a"}}, "label_names in config.json has the keys 'ant'; expected the numbers of classes"),
    ({"label_names": {"0": 3}}, "not a list of strings"), ({"label_descriptions": ["a"]}, "label_descriptions in conf"),
    ({"pretrained_cfg": "vit"}, "pretrained_cfg in config.json is 'vit'; expected an object"),
    ({"model_args": [1]}, "model_args in config.json is .1.; expected an object"),
    ({"architecture": "vit_base_patch16_clip_224.openai"}, "architecture 'vit_base_patch16_clip_224.openai'"),
    ({"architecture": 3}, "architecture 3"),
    ({"architecture": None, "pretrained_cfg": {**PICTURES, "architecture": "vit_base_patch16_clip_224"}},
     "architecture 'vit_base_patch16_clip_224'"),
    ({"pretrained_cfg": {**PICTURES, "crop_mode": "border"}}, "crop_mode must be 'center' or 'squash'; found 'border'"),
    ({"pretrained_cfg": {**PICTURES, "mean": [0.5, 0.5]}}, "mean must be 3 finite numbers")])
def test_what_cannot_be_right_is_refused(changes, told, tmp_path):
    with pytest.raises(FormatError, match=told):
        load(timm_vit(tmp_path / "model", {**NESTED, **changes}), engine="reference")


THOUSAND = [f"class {number}" for number in range(1000)]


@pytest.mark.parametrize("changes, told", [
    ({"label_names": THOUSAND}, "1,000 label_names, up to class 999"),
    ({"label_names": None, "pretrained_cfg": {**PICTURES, "num_classes": 1000, "label_names": THOUSAND}},
     "1,000 label_names, up to class 999"),
    ({"label_names": ["a", "b"]}, "2 label_names, up to class 1"),
    ({"label_names": {"1": "a", "4": "b"}, "num_classes": None}, "2 label_names, up to class 4")])
def test_names_of_another_number_of_classes_are_told_and_not_used(changes, told, tmp_path, cat):
    """They are often the names of the network before its fine-tuning."""
    with pytest.warns(UserWarning, match=f"config.json has {told}, but the network has 4 classes; the names are not"):
        model = load(timm_vit(tmp_path / "model", {**NESTED, **changes}), engine="reference")
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2", 3: "LABEL_3"}
    assert probabilities(model(model.prepared(cat)).logits[0]) == [0.0174, 0.0178, 0.9113, 0.0535]


def test_names_of_21843_classes_do_not_become_those_of_imagenet():
    """A network of 1,000 classes without names would get the names of ImageNet."""
    with pytest.warns(UserWarning, match="21,843 label_names"):
        found = labels({"label_names": ["x"] * 21843}, 1000)
    assert found == {i: f"LABEL_{i}" for i in range(1000)}


@pytest.mark.parametrize("size", [64, "64", {"height": 64}, [64, 64]])
def test_an_input_size_of_another_form(size):
    config = {"model_type": "bit", "num_channels": 3}
    with pytest.raises(ValueError, match="input_size must be .channels, rows, columns.; found "):
        timm_processor(config, nested({"pretrained_cfg": {"input_size": size}}))


@pytest.mark.parametrize("old_names", [None, ["w", "x", "y", "z"]])
def test_label_names_come_before_labels(old_names):
    """As in timm, where a top-level label_names wins."""
    assert nested({"label_names": ["a", "b"], "labels": old_names})["label_names"] == ["a", "b"]


def test_an_object_of_names_may_have_gaps():
    """timm allows them: 'a dict id: name if there are id gaps'."""
    assert labels({"label_names": {"1": "b", "3": "d"}}, 4) == {0: "LABEL_0", 1: "b", 2: "LABEL_2", 3: "d"}
    assert labels({}, 3) is None and nested({}) == {}


@pytest.mark.parametrize("name", [
    "vit_base_resnet50_384", "vit_base_resnet50_224_in21k", "vit_large_r50_s32_224_in21k", "vit_deit_base_patch16_224",
    "vit_base_patch16_224_sam", "vit_small_patch8_224_dino", "vit_base_patch16_224_miil_in21k", "resnetv2_50x1_bitm",
    "resnetv2_101x3_bitm_in21k", "resnetv2_152x2_bit_teacher_384", "resnetv2_50x1_bit.goog_in21k_ft_in1k",
    "vit_tiny_r_s16_p8_224", "vit_base_r50_s16_384.orig_in21k_ft_in1k"])
def test_old_names_of_architectures(name):
    """From register_model_deprecations in timm 1.0.31, and names with tags."""
    assert KNOWN.fullmatch(name)


@pytest.mark.parametrize("name", ["vit_base_resnet50d_224", "vit_small_resnet26d_224", "vit_base_patch16_clip_224",
                                  "resnetv2_50", "resnetv2_50d_gn", "deit3_base_patch16_224", "resnet50",
                                  "vit_base_patch16_siglip_224", "deit_base_distilled_patch16_224",
                                  "vit_base_patch32_plus_256"])
def test_other_networks(name):
    assert not KNOWN.fullmatch(name)
