"""The arguments of transformers' from_pretrained: what they do here, and what is said of those that do nothing."""
import json
import warnings

import numpy as np
import pytest

from nphybrid import (BitConfig, BitForImageClassification, FormatError, ViTConfig, ViTForImageClassification,
                      ViTHybridConfig, ViTHybridForImageClassification, ViTHybridImageProcessor, ViTHybridModel,
                      ViTModel)
from nphybrid.api.arguments import ARGUMENTS, own_options
from nphybrid.api.load import load
from nphybrid.batch.pipeline import pipeline

from oracles.cases import normal
from oracles.published import telling, timm_file, timm_vit
from tools.on_demand import on_demand

transformers = on_demand("transformers")
torch = on_demand("torch")

BACKBONE = dict(embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=2)
ENCODER = dict(image_size=32, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=8,
               id2label={0: "ant", 1: "bee", 2: "cow"})
CONFIG = ViTConfig(patch_size=8, **ENCODER)
MODELS = {
    "vit": (ViTForImageClassification, CONFIG),
    "hybrid": (ViTHybridForImageClassification, ViTHybridConfig(
        backbone_config=dict(**BACKBONE, layer_type="bottleneck", global_padding="SAME", out_features=["stage1"],
                             embedding_dynamic_padding=True), **ENCODER)),
    "bit": (BitForImageClassification, BitConfig(**BACKBONE, num_labels=3)),
}
OTHER_LABELS = [({"num_labels": 7}, [f"LABEL_{i}" for i in range(7)]),
                ({"id2label": {0: "x", 1: "y"}, "label2id": {"x": 0, "y": 1}}, ["x", "y"]),
                ({"id2label": {"0": "one"}}, ["one"]),
                ({"num_labels": 2, "id2label": {0: "x", 1: "y"}}, ["x", "y"])]


@pytest.fixture(params=MODELS)
def saved(request, tmp_path):
    """A model that is saved to a folder, and the folder."""
    kind, config = MODELS[request.param]
    model = kind(config, engine="reference", seed=3)
    model.save_pretrained(tmp_path)
    return model, tmp_path


@pytest.mark.parametrize("options, names", OTHER_LABELS)
def test_a_fresh_head(saved, options, names):
    model, folder = saved
    with pytest.raises(ValueError, match=f"has a classifier for 3 classes, but num_labels is {len(names)}. To replace "
                                         ".* pass ignore_mismatched_sizes=True"):
        type(model).from_pretrained(folder, engine="reference", **options)
    with pytest.warns(UserWarning, match=f"{folder} has a classifier for 3 classes. The new arrays "
                                         rf"classifier.*weight \[{len(names)}, \d+\], which are random, and "
                                         rf"classifier.*bias \[{len(names)}\]"):
        fresh = type(model).from_pretrained(folder, engine="reference", ignore_mismatched_sizes=True, **options)
    assert list(fresh.config.id2label.values()) == names
    assert fresh.config.label2id == {name: i for i, name in enumerate(names)}
    before, after = model.state_dict(), fresh.state_dict()
    head = [name for name in after if name.startswith("classifier.")]
    assert all(np.array_equal(after[name], before[name]) for name in after if name not in head)
    weight, bias = (after[name] for name in sorted(head, reverse=True))
    assert not bias.any() and weight.shape[0] == len(names) and 0.005 < weight.std() < 0.04     # 0.02 is expected
    assert fresh(normal(1, 1, 3, 32, 32)).logits.shape == (1, len(names))


def test_a_head_that_fits_is_kept(saved):
    model, folder = saved
    for options in {}, {"num_labels": 3}, {"id2label": {0: "x", 1: "y", 2: "z"}}:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = type(model).from_pretrained(folder, engine="reference", ignore_mismatched_sizes=True, **options)
        assert all(np.array_equal(array, again.state_dict()[name]) for name, array in model.state_dict().items())
    assert again.config.id2label[2] == "z"
    stated = type(model).from_pretrained(folder, engine="reference", num_labels=3)
    assert stated.config.id2label == model.config.id2label


def test_a_file_without_a_classifier_gets_one(tmp_path):
    """The recipes begin with a network that was trained on ImageNet-21k, and that has a pooler and no classifier."""
    body = ViTModel(CONFIG, engine="reference", seed=3)
    body.save_pretrained(tmp_path)
    for options, names in OTHER_LABELS:
        with pytest.warns(UserWarning, match=f"{tmp_path} has no classifier. The new arrays classifier.weight"):
            fresh = ViTForImageClassification.from_pretrained(tmp_path, engine="reference", **options)
        assert list(fresh.config.id2label.values()) == names
        assert np.array_equal(fresh.state_dict()["vit.layernorm.bias"], body.state_dict()["layernorm.bias"])


@pytest.mark.filterwarnings("ignore:.*has no classifier")
@pytest.mark.parametrize("name", ["vit", "hybrid"])
def test_a_mask_token_is_left_out_of_a_classifier(name, tmp_path):
    """As in transformers, which also leaves out the pooler."""
    kind, config = MODELS[name]
    bare = {"vit": ViTModel, "hybrid": ViTHybridModel}[name](config, use_mask_token=True, engine="reference")
    bare.save_pretrained(tmp_path)
    with pytest.raises(FormatError, match=f"(?s)missing: classifier.weight.*has no classifier. {kind.__name__} adds a "
                                          "random classifier if num_labels is given"):
        kind.from_pretrained(tmp_path, engine="reference")
    fresh = kind.from_pretrained(tmp_path, num_labels=2, engine="reference").state_dict()
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path, num_labels=2) if name == "vit" else None
    assert theirs is None or fresh.keys() == theirs.state_dict().keys()
    kept = {name for name in bare.state_dict() if "mask_token" not in name and "pooler" not in name}
    assert fresh.keys() == {f"vit.{name}" for name in kept} | {"classifier.weight", "classifier.bias"}
    assert all(np.array_equal(fresh[f"vit.{name}"], bare.state_dict()[name]) for name in kept)


def test_the_feature_map_of_another_picture_size(tmp_path):
    """transformers writes backbone_featmap_shape in every config.json; another size has another map."""
    kind, config = MODELS["hybrid"]
    kind(config, engine="reference").save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["backbone_featmap_shape"] == [1, 16, 8, 8]
    larger = kind.from_pretrained(tmp_path, image_size=48, engine="reference")
    assert larger.config.backbone_featmap_shape == [1, 16, 12, 12]
    assert larger(normal(1, 1, 3, 48, 48)).logits.shape == (1, 3)
    deeper = ViTHybridConfig.from_pretrained(tmp_path, backbone_config={
        **config.backbone_config.to_dict(), "depths": [1, 1], "hidden_sizes": [16, 24], "stage_names": None,
        "out_features": ["stage2"], "out_indices": [2]})
    assert deeper.backbone_featmap_shape == [1, 24, 4, 4]
    with pytest.raises(ValueError, match=r"backbone_featmap_shape is \[1, 16, 8, 8\]"):
        ViTHybridConfig.from_pretrained(tmp_path, image_size=48, backbone_featmap_shape=[1, 16, 8, 8])


@pytest.mark.filterwarnings("ignore:.*has a classifier")
def test_a_fresh_head_on_a_network_of_timm(tmp_path):
    path = timm_file(tmp_path, telling(timm_vit(D=64, L=1, F=8, classes=5)), {"label_names": list("abcde")})
    fresh = ViTHybridForImageClassification.from_pretrained(path, num_labels=2, ignore_mismatched_sizes=True,
                                                            engine="reference")
    assert (fresh.config.num_labels, fresh.config.dialect["name"]) == (2, "timm")


@pytest.mark.filterwarnings("ignore:.*has a classifier")
@pytest.mark.parametrize("options", [options for options, _ in OTHER_LABELS])
def test_the_labels_and_the_body_are_those_of_transformers(options, tmp_path):
    ViTForImageClassification(CONFIG, engine="reference", seed=3).save_pretrained(tmp_path)
    options = {**options, "ignore_mismatched_sizes": True}
    ours = ViTForImageClassification.from_pretrained(tmp_path, engine="reference", **options)
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path, **options)
    # transformers keeps the texts that are keys of an id2label from a JSON document.
    assert ours.config.id2label == {int(i): name for i, name in theirs.config.id2label.items()}
    assert ours.config.num_labels == theirs.config.num_labels
    state = theirs.state_dict()
    assert {name: array.shape for name, array in ours.state_dict().items()} == {
        name: tuple(array.shape) for name, array in state.items()}
    assert all(np.array_equal(array, state[name].numpy()) for name, array in ours.state_dict().items()
               if not name.startswith("classifier"))
    assert not state["classifier.bias"].any()


@pytest.mark.parametrize("options, dtype", [
    ({"torch_dtype": "auto"}, "float32"), ({"torch_dtype": "float32"}, "float32"), ({"dtype": "auto"}, "float32"),
    ({"torch_dtype": "float64"}, "float64"), ({"torch_dtype": np.float64, "dtype": np.float64}, "float64"),
    ({"torch_dtype": None}, "float32"), ({"device_map": "cpu"}, "float32"), ({"device_map": {"": "cpu"}}, "float32"),
    ({"low_cpu_mem_usage": True, "attn_implementation": "sdpa", "use_safetensors": True}, "float32"),
    ({"trust_remote_code": False, "config": None, "subfolder": "", "local_files_only": True}, "float32")])
def test_arguments_that_are_accepted(options, dtype, tmp_path):
    ViTForImageClassification(CONFIG, engine="reference", seed=3).save_pretrained(tmp_path)
    for model in (ViTForImageClassification.from_pretrained(tmp_path, engine="reference", **options),
                  load(tmp_path, engine="reference", **options)):
        assert model.dtype == dtype


def test_dtypes_of_pytorch(tmp_path):
    ViTForImageClassification(CONFIG, engine="reference", seed=3).save_pretrained(tmp_path)
    for options in {"torch_dtype": torch.float64}, {"dtype": torch.float64}:
        assert ViTForImageClassification.from_pretrained(tmp_path, engine="reference", **options).dtype == "float64"
    with pytest.raises(ValueError, match="float16"):
        ViTForImageClassification.from_pretrained(tmp_path, torch_dtype=torch.float16)


@pytest.mark.parametrize("name, value, told", [
    ("device_map", "cuda:0", "device_map is 'cuda:0'; expected 'cpu', because nphybrid computes on the CPU"),
    ("device", 0, "device is '0'; expected 'cpu'"), ("trust_remote_code", True, "never runs code from a model"),
    ("use_safetensors", False, "pickles are never opened"), ("subfolder", "vit", "the path of the folder itself"),
    ("state_dict", {}, "load_state_dict"),
    ("output_loading_info", True, "FormatError"), ("load_in_8bit", True, 'dtype="int8"'),
    ("proxies", {"https": "http://proxy:80"}, "proxies is .*; expected None; set the environment variable HTTPS_PROXY"),
    ("mirror", "tuna", "HF_ENDPOINT"), ("use_fast", True, "because Pillow resizes the pictures"),
    ("key_mapping", {"a": "b"}, "prefixes of wrappers"), ("gguf_file", "x.gguf", "a file of safetensors"),
    ("quantization_config", {"load_in_8bit": True}, 'dtype="int8"')])
def test_arguments_that_are_refused(name, value, told, tmp_path):
    ViTForImageClassification(CONFIG, engine="reference", seed=3).save_pretrained(tmp_path)
    assert name in ARGUMENTS
    for function in ViTForImageClassification.from_pretrained, load:
        with pytest.raises(ValueError, match=told):
            function(tmp_path, engine="reference", **{name: value})


@pytest.mark.parametrize("function", [ViTConfig.from_pretrained, ViTHybridImageProcessor.from_pretrained])
def test_the_other_classes_know_the_arguments(function, tmp_path):
    model = ViTForImageClassification(CONFIG, engine="reference", seed=3)
    model.processor = ViTHybridImageProcessor(size=32, crop_size=32)
    model.save_pretrained(tmp_path)
    found = function(tmp_path, use_fast=False, trust_remote_code=None, force_download=False, proxies=None)
    assert found.to_dict() == function(tmp_path).to_dict()
    with pytest.raises(ValueError, match="never runs code from a model"):
        function(tmp_path, trust_remote_code=True)
    with pytest.raises(TypeError, match="Did you mean (image_size|size)"):
        function(tmp_path, **{"image_sizes" if function == ViTConfig.from_pretrained else "sizes": 3})


def test_keys_of_the_configuration_for_any_class(tmp_path):
    ViTForImageClassification(CONFIG, engine="reference", seed=3).save_pretrained(tmp_path)
    model = load(tmp_path, engine="reference", id2label={0: "x", 1: "y", 2: "z"},
                 overrides={"problem_type": "regression"})
    assert (model.config.id2label[2], model.config.problem_type) == ("z", "regression")
    with pytest.raises(TypeError, match="has no engin; .*Did you mean engine"):
        load(tmp_path, engin="reference")


@pytest.mark.filterwarnings("ignore:.*has a classifier")
def test_a_configuration_in_place_of_the_files(tmp_path):
    """Every key is that of the configuration, as in transformers; the positions fit another image_size."""
    ViTForImageClassification(CONFIG, engine="reference", seed=3).save_pretrained(tmp_path)
    config, theirs = (kind.from_pretrained(tmp_path, num_labels=2, layer_norm_eps=1e-3)
                      for kind in (ViTConfig, transformers.ViTConfig))
    config.mine = theirs.mine = "kept"
    x = normal(1, 1, 3, 32, 32)
    plain = ViTForImageClassification.from_pretrained(tmp_path, engine="reference", layer_norm_eps=1e-3, num_labels=2,
                                                      ignore_mismatched_sizes=True)
    for given in config, theirs:
        with pytest.raises(ValueError, match="has a classifier for 3 classes, but num_labels is 2"):
            ViTForImageClassification.from_pretrained(tmp_path, config=given)
        model = ViTForImageClassification.from_pretrained(tmp_path, config=given, ignore_mismatched_sizes=True,
                                                          engine="reference")
        assert model(x).logits.tobytes() == plain(x).logits.tobytes() and model.config.mine == "kept"
    with torch.no_grad():
        expected = transformers.ViTModel.from_pretrained(tmp_path, config=theirs)(torch.from_numpy(x))[0].numpy()
    found = ViTModel.from_pretrained(tmp_path, config=theirs, engine="reference")(x)[0]
    assert abs(found - expected).max() < 2e-5                                     # observed: 8.4e-7
    assert ViTForImageClassification.from_pretrained(tmp_path, config=config, image_size=48, engine="reference",
                                                     ignore_mismatched_sizes=True).network_config.image == (48, 48)
    for other, error, told in ((BitConfig(), ValueError, "model_type is 'bit'; a ViTConfig expects 'vit'"),
                               (3, TypeError, "config is a int; expected a ViTConfig"),
                               (ViTConfig(dialect={"pool": "mean"}), ValueError, "config has the dialect {'pool': ")):
        with pytest.raises(error, match=told):
            ViTForImageClassification.from_pretrained(tmp_path, config=other)


def test_a_configuration_of_another_dialect_is_refused(tmp_path):
    """A configuration with the defaults of Hugging Face would give other numerics to a network of timm."""
    path = timm_file(tmp_path, telling(timm_vit(D=64, L=1, F=8, classes=5)))
    config = ViTHybridConfig.from_pretrained(path)
    model = ViTHybridForImageClassification.from_pretrained(path, config=config, engine="reference")
    assert model.config.layer_norm_eps == 1e-6
    keys = {key: value for key, value in config.to_dict().items() if key != "dialect"}
    with pytest.raises(ValueError, match="config has the dialect {}, but .* has the dialect {'name': 'timm'"):
        ViTHybridForImageClassification.from_pretrained(path, config=ViTHybridConfig.from_dict(keys))


@pytest.mark.parametrize("function", [ViTForImageClassification.from_pretrained, ViTConfig.from_pretrained,
                                      ViTHybridImageProcessor.from_pretrained])
def test_the_name_of_the_path_in_transformers(function, tmp_path):
    model = ViTForImageClassification(CONFIG, engine="reference", seed=3)
    model.processor = ViTHybridImageProcessor(size=32, crop_size=32)
    model.save_pretrained(tmp_path)
    assert type(function(pretrained_model_name_or_path=tmp_path)) is type(function(tmp_path))
    for options in {}, {"path": tmp_path, "pretrained_model_name_or_path": tmp_path}:
        with pytest.raises(TypeError, match="expected one path"):
            function(**options)


def test_arguments_of_save_pretrained(tmp_path):
    model = ViTForImageClassification(CONFIG, engine="reference", seed=3)
    for saved in model, model.config, ViTHybridImageProcessor():
        saved.save_pretrained(tmp_path, safe_serialization=True, max_shard_size="5GB", push_to_hub=False, token=None)
        for name, value, error, told in (
                ("safe_serialization", False, ValueError, "pickles are never written"),
                ("push_to_hub", True, ValueError, "run `hf upload`"),
                ("state_dict", model.state_dict(), ValueError, r"call model.load_state_dict\(state_dict\)"),
                ("safe_serialisation", True, TypeError, "'safe_serialisation'. Did you mean safe_serialization")):
            with pytest.raises(error, match=told):
                saved.save_pretrained(tmp_path / "none", **{name: value})
    assert not (tmp_path / "none").exists()
    assert transformers.ViTForImageClassification.from_pretrained(tmp_path).num_labels == 3


def test_two_dtypes_that_differ():
    with pytest.raises(ValueError, match="dtype is float32, and torch_dtype is float64; expected one of the two"):
        own_options({"dtype": "float32", "torch_dtype": "float64"})


def test_no_argument_is_a_warning(tmp_path):
    ViTForImageClassification(CONFIG, engine="reference", seed=3).save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ViTForImageClassification.from_pretrained(tmp_path, engine="reference", device_map="auto", token=False)


@pytest.mark.parametrize("function", [
    ViTForImageClassification.from_pretrained, load, ViTConfig.from_pretrained, ViTHybridImageProcessor.from_pretrained,
    lambda name, **options: pipeline("image-classification", name, **options)])
def test_how_the_hub_is_used(function, tmp_path, monkeypatch):
    """huggingface_hub gets the three arguments; with local_files_only, the error names the folder of the cache."""
    hub = pytest.importorskip("huggingface_hub")
    calls = []

    def download(repository, file, **options):
        calls.append((repository, file, options))
        raise hub.errors.LocalEntryNotFoundError("not in the cache")
    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(FileNotFoundError, match=f"in the cache {tmp_path}, and local_files_only is True"):
        function("owner/name", token="secret", cache_dir=tmp_path, local_files_only=True)
    repository, file, options = calls[0]
    assert (repository, file, options["token"], options["cache_dir"], options["local_files_only"]) == (
        "owner/name", "config.json", "secret", tmp_path, True)
