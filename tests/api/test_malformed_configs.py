"""Configurations that no network can have, each with the words of its refusal: key, found, expected."""
import pytest

from nphybrid import BitConfig, FormatError, ViTHybridConfig
from nphybrid.checkpoint import read_config

NAN, INF = float("nan"), float("inf")
NO_COUNT = [0, -1, 1.0, 2.5, "3", None, True, [3], NAN, 2 ** 24]


def bad(kind, key, values, **rest):
    return [(kind, {**rest, key: value}, [key, repr(value)]) for value in values]


BAD = [
    *bad(BitConfig, "num_channels", NO_COUNT),
    *bad(BitConfig, "embedding_size", NO_COUNT),
    *bad(BitConfig, "num_groups", [*NO_COUNT, 3, 5, 33]),
    *bad(BitConfig, "output_stride", NO_COUNT),
    *bad(BitConfig, "depths", [3, "3463", None, {"0": 3}, NAN, [1025], [600, 600], [2 ** 23]]),
    *[(BitConfig, {"depths": [3, value, 2]}, ["depths", repr(value)]) for value in NO_COUNT],
    *bad(BitConfig, "hidden_sizes", [256, "256", None, {256}]),
    *[(BitConfig, {"hidden_sizes": [256, value, 1024, 2048]}, ["hidden_sizes", repr(value)])
      for value in NO_COUNT],
    (BitConfig, {"depths": [1, 1, 1], "hidden_sizes": [256, 512]},
     ["depths has 3 entries, but hidden_sizes has only 2"]),
    *bad(BitConfig, "layer_type", ["basic", "Bottleneck", None, 1, ["bottleneck"]]),
    *bad(BitConfig, "hidden_act", ["swish", "RELU", None, 1, {}]),
    *[(BitConfig, {"global_padding": value}, ["global_padding", said])
      for value, said in [("reflect", "REFLECT"), ("valid", "VALID"), ("", "''"), (1, "1"), ([2], "[2]")]],
    *bad(BitConfig, "embedding_dynamic_padding", ["yes", None, 2]),
    *bad(BitConfig, "width_factor", [0, -1, "2", None, NAN, INF, True, 10 ** 30, 1e30]),
    *bad(BitConfig, "out_features", ["stage4", [], ["stage5"], ["stage2", "stage1"], ["stem"] * 2, [4], 4]),
    *bad(BitConfig, "out_indices", [[5], [-6], ["4"], [1.0], [True], 4]),
    *[(BitConfig, {"out_indices": value}, ["out_features", said])
      for value, said in [([], "[]"), ([2, 1], "['stage2', 'stage1']"), ([4, -1], "['stage4', 'stage4']")]],
    *[(BitConfig, {"out_features": ["stage4"], "out_indices": value}, ["out_indices", repr(value)])
      for value in ([3], [9], [4, 4], ["a"], 4, [3, 4])],
    *bad(BitConfig, "problem_type", ["ranking", "", 1, ["regression"]]),
    *bad(BitConfig, "model_type", ["resnet", "vit-hybrid", "", 5, None]),
    *bad(BitConfig, "num_labels", [-1, 1.0, "2", True, 2 ** 15 + 1, 2 ** 31]),
    *bad(BitConfig, "id2label", [["a", "b"], "ab", 5, {"one": "a"}, {0.5: "a"}, {None: "a"},
                                 {0: "a", "0": "b"}]),
    (BitConfig, {"id2label": {0: "a", 2: "c"}}, ["id2label has 2 names, but no name for class 1"]),
    (BitConfig, {"id2label": {1: "a", 2: "b"}}, ["id2label has 2 names, but no name for class 0"]),
    (BitConfig, {"id2label": {-1: "a", 0: "b"}}, ["id2label has 2 names, but no name for class 1"]),
    (BitConfig, {"id2label": {0: "a"}, "num_labels": 3}, ["num_labels is 3", "id2label has 1"]),
    *[(BitConfig, {"id2label": {0: "a", 1: name}}, ["id2label", "class 1", repr(name), "a string"])
      for name in (7, None, ["b"], 1.5)],
    *[(BitConfig, {key: 3}, [f"the key {key} is 3; expected another name for the key, because BitConfig has a method "
                             f"{key}"])
      for key in ("sizes", "to_dict", "from_dict", "save_pretrained")],
    *[case for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                       "patch_size", "num_channels") for case in bad(ViTHybridConfig, key, NO_COUNT)],
    *bad(ViTHybridConfig, "num_hidden_layers", [1025, 2 ** 23]),
    (ViTHybridConfig, {"hidden_size": 770}, ["hidden_size is 770; expected a multiple of num_attention_heads, 12"]),
    (ViTHybridConfig, {"num_attention_heads": 7}, ["hidden_size is 768; expected a multiple of num_attention_heads, "
                                                   "7"]),
    (ViTHybridConfig, {"num_channels": 1}, ["num_channels is 1, but num_channels of backbone_config is 3"]),
    *bad(ViTHybridConfig, "hidden_act", ["gelu_python", "GELU", None, 1, []]),
    *bad(ViTHybridConfig, "qkv_bias", ["true", None, 2]),
    *bad(ViTHybridConfig, "layer_norm_eps", [-1e-12, "1e-12", None, NAN, INF, True, [1e-6]]),
    *bad(ViTHybridConfig, "initializer_range", [-0.02, "0.02", None, NAN, INF]),
    *bad(ViTHybridConfig, "image_size", [(224,), [224, 224, 3], "224", 3.5, None, {"height": 224}]),
    *[(ViTHybridConfig, {"image_size": value}, ["image_size", said])
      for value, said in [(0, "0"), (-224, "-224"), (True, "True"), ([224, 0], "0"), ([224, 2.5], "2.5"),
                          ((1, "2"), "'2'")]],
    (ViTHybridConfig, {"image_size": 8, "patch_size": 2}, ["image_size is 8", "1 x 1", "2 x 2"]),
    (ViTHybridConfig, {"patch_size": 15}, ["14 x 14", "15 x 15"]),
    *bad(ViTHybridConfig, "backbone_config", [5, "bit", [3, 4, 9]]),
    *bad(ViTHybridConfig, "backbone", ["resnet50"]), *bad(ViTHybridConfig, "use_timm_backbone", [True]),
    *bad(ViTHybridConfig, "use_pretrained_backbone", [True]),
    *bad(ViTHybridConfig, "backbone_kwargs", [{"a": 1}]),
    (ViTHybridConfig, {"backbone_config": {"model_type": "swin"}}, ["model_type", "'swin'", "'bit'"]),
    (ViTHybridConfig, {"backbone_config": {"depths": [0]}}, ["depths", "0"]),
    *bad(ViTHybridConfig, "backbone_featmap_shape", [5, "24"]),
    (ViTHybridConfig, {"backbone_featmap_shape": [1024, 14, 14]}, ["[1024, 14, 14]", "[1, 1024, 14, 14]"]),
    *bad(ViTHybridConfig, "backbone_featmap_shape", [[1, 1024, 14], [1, 1024, "\33[31m", 14], [1, 1024, 14, 14.0]]),
    (ViTHybridConfig, {"backbone_featmap_shape": [1, 512, 14, 14]},
     ["[1, 512, 14, 14]", "[1, 1024, 14, 14]"]),
    *bad(ViTHybridConfig, "model_type", ["vit", "bit", 5]),
    *bad(ViTHybridConfig, "problem_type", ["ranking"]),
]


def test_the_size_of_the_table():
    assert len(BAD) == 278


@pytest.mark.parametrize("kind, given, said", BAD, ids=range(len(BAD)))
def test_a_value_no_network_can_have_is_refused(kind, given, said):
    with pytest.raises(ValueError) as refused:
        kind(**given)
    assert all(words in str(refused.value) for words in said), str(refused.value)


def test_a_feature_map_that_disagrees_is_refused_with_both_numbers():
    with pytest.raises(ValueError) as refused:
        ViTHybridConfig(image_size=224, backbone_featmap_shape=[1, 1024, 24, 24])
    for words in ("[1, 1024, 24, 24]", "24x24", "image_size 224", "[1, 1024, 14, 14]", "14x14"):
        assert words in str(refused.value)
    assert ViTHybridConfig(image_size=384, backbone_featmap_shape=[1, 1024, 24, 24]).network_config().tokens == 577


def test_a_feature_map_cannot_be_set():
    with pytest.raises(AttributeError):
        ViTHybridConfig().backbone_featmap_shape = [1, 1024, 24, 24]


DOCUMENTS = {  # the bytes of a config.json -> words of the refusal
    b"": "empty (0 bytes)",
    b"[]": "holds a JSON list; expected a JSON object",
    b"[1, 2": "not valid JSON",
    b'{"hidden_size": 768': "not valid JSON",
    b'{"hidden_size": 768,}': "not valid JSON",
    b"{'hidden_size': 768}": "not valid JSON",
    b'{"hidden_size": 768} {}': "not valid JSON",
    b'\xef\xbb\xbf{"hidden_size": 768}': "not valid JSON",
    b'{"hidden_act": "\xff"}': "not valid UTF-8",
    b'{"hidden_act": "\\ud800"}': "not valid UTF-8",
    b'{"layer_norm_eps": NaN}': "the number 'NaN' is not allowed",
    b'{"layer_norm_eps": -Infinity}': "the number '-Infinity' is not allowed",
    b'{"layer_norm_eps": 1e999}': "the number '1e999' is not allowed",
    b'{"hidden_size": ' + b"9" * 5000 + b"}": "the number '9999",
    b'{"hidden_size": 768, "hidden_size": 384}': "duplicate key: found 'hidden_size'",
    b'{"backbone_config": {"depths": [3], "depths": [4]}}': "duplicate key: found 'depths'",
    b'{"note": ' + b"[" * 64 + b"]" * 64 + b"}": "nested too deeply",
    b'{"note": ' + b'{"a": ' * 64 + b"1" + b"}" * 65: "nested too deeply",
    b"[" * 200_000: "nested too deeply",
    b"<!DOCTYPE html><title>Sign in</title>": "web page",
    b"version https://git-lfs.github.com/spec/v1\n": "Git LFS pointer",
}


@pytest.mark.parametrize("data", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_a_document_that_is_no_configuration_is_refused(data, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(data)
    for source in [tmp_path, path] if data.startswith(b"{") else [tmp_path]:
        with pytest.raises(FormatError) as refused:
            read_config(source)
        assert str(refused.value).startswith(str(path)) and DOCUMENTS[data] in str(refused.value)


def test_a_document_may_be_nested_as_deep_as_the_limit(tmp_path):
    for levels in 62, 63:
        (tmp_path / "config.json").write_bytes(b'{"model_type": "bit", "note": ' + b"[" * levels + b"]" * levels + b"}")
        config = BitConfig.from_pretrained(tmp_path)
        config.save_pretrained(tmp_path)
        assert BitConfig.from_pretrained(tmp_path) == config


@pytest.mark.parametrize("value", ["x" * 10 ** 6, list(range(10 ** 5)), "\33[31m" * 99,
                                   {str(i): i for i in range(10 ** 5)}])
def test_a_refusal_is_short_and_safe_to_print(value):
    """Whatever a file holds where something else was expected."""
    for key in ("hidden_size", "image_size", "hidden_act", "layer_norm_eps", "id2label", "backbone_featmap_shape",
                "problem_type", "model_type", "backbone_config", "backbone"):
        if key == "backbone_config" and isinstance(value, dict):
            continue
        with pytest.raises(ValueError) as refused:
            ViTHybridConfig(**{key: value})
        assert key in str(refused.value) and len(str(refused.value)) < 1000 and str(refused.value).isprintable()
