"""The configurations with the names of Hugging Face: defaults, round trips, labels, and what is refused."""
import inspect
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import BitConfig, BitForImageClassification, ViTConfig, ViTHybridConfig, ViTHybridForImageClassification
from nphybrid.config import PRESETS, Config

BIT_DEFAULTS = dict(
    num_channels=3, embedding_size=64, hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3],
    layer_type="preactivation", hidden_act="relu", global_padding=None, num_groups=32, drop_path_rate=0.0,
    embedding_dynamic_padding=False, output_stride=32, width_factor=1, out_features=["stage4"],
    out_indices=[4])

HYBRID_DEFAULTS = dict(
    backbone=None, use_pretrained_backbone=False, use_timm_backbone=False, backbone_kwargs=None,
    hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, hidden_act="gelu",
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.02, layer_norm_eps=1e-12,
    image_size=224, patch_size=1, num_channels=3, qkv_bias=True)

COMMON_DEFAULTS = dict(output_attentions=False, output_hidden_states=False, return_dict=True,
                       use_return_dict=True, problem_type=None, num_labels=2,
                       id2label={0: "LABEL_0", 1: "LABEL_1"}, label2id={"LABEL_0": 0, "LABEL_1": 1})

# A config.json as transformers 4.57.6 writes it for a network of its own tests.
WRITTEN = {
    "architectures": ["ViTHybridForImageClassification"],
    "attention_probs_dropout_prob": 0.0,
    "backbone": None,
    "backbone_config": {
        "_name_or_path": "", "add_cross_attention": False, "architectures": None, "bad_words_ids": None,
        "begin_suppress_tokens": None, "bos_token_id": None, "chunk_size_feed_forward": 0,
        "cross_attention_hidden_size": None, "decoder_start_token_id": None, "depths": [3, 4, 9],
        "diversity_penalty": 0.0, "do_sample": False, "drop_path_rate": 0.0, "dtype": None,
        "early_stopping": False, "embedding_dynamic_padding": True, "embedding_size": 64,
        "encoder_no_repeat_ngram_size": 0, "eos_token_id": None, "exponential_decay_length_penalty": None,
        "finetuning_task": None, "forced_bos_token_id": None, "forced_eos_token_id": None,
        "global_padding": "SAME", "hidden_act": "relu", "hidden_sizes": [4, 8, 16, 32],
        "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "is_decoder": False, "is_encoder_decoder": False,
        "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "layer_type": "bottleneck", "length_penalty": 1.0,
        "max_length": 20, "min_length": 0, "model_type": "bit", "no_repeat_ngram_size": 0,
        "num_beam_groups": 1, "num_beams": 1, "num_channels": 3, "num_groups": 2, "num_return_sequences": 1,
        "out_features": ["stage3"], "out_indices": [3], "output_attentions": False,
        "output_hidden_states": False, "output_scores": False, "output_stride": 32, "pad_token_id": None,
        "prefix": None, "problem_type": None, "pruned_heads": {}, "remove_invalid_values": False,
        "repetition_penalty": 1.0, "return_dict": True, "return_dict_in_generate": False,
        "sep_token_id": None, "stage_names": ["stem", "stage1", "stage2", "stage3"], "suppress_tokens": None,
        "task_specific_params": None, "temperature": 1.0, "tf_legacy_loss": False,
        "tie_encoder_decoder": False, "tie_word_embeddings": True, "tokenizer_class": None, "top_k": 50,
        "top_p": 1.0, "torchscript": False, "typical_p": 1.0, "use_bfloat16": False, "width_factor": 1,
    },
    "backbone_featmap_shape": [1, 16, 4, 4],
    "backbone_kwargs": None,
    "dtype": "float32",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 32,
    "id2label": {"0": "cat", "1": "dog", "2": "eel"},
    "image_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 37,
    "label2id": {"cat": 0, "dog": 1, "eel": 2},
    "layer_norm_eps": 1e-12,
    "model_type": "vit-hybrid",
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": 1,
    "qkv_bias": True,
    "transformers_version": "4.57.6",
    "use_pretrained_backbone": False,
    "use_timm_backbone": False,
}


# -- defaults --------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, defaults", [(BitConfig, BIT_DEFAULTS), (ViTHybridConfig, HYBRID_DEFAULTS)])
def test_defaults_are_upstreams(kind, defaults):
    config = kind()
    for key, value in {**defaults, **COMMON_DEFAULTS}.items():
        assert getattr(config, key) == value, key


@pytest.mark.parametrize("kind, names", [
    (BitConfig, list(BIT_DEFAULTS)),
    (ViTHybridConfig, ["backbone_config", *list(HYBRID_DEFAULTS)[:-1], "backbone_featmap_shape", "qkv_bias"]),
])
def test_arguments_come_in_upstreams_order(kind, names):
    assert list(inspect.signature(kind).parameters) == [*names, "kwargs"]


def test_the_default_hybrid_builds():
    """Upstream's default states 24 x 24 cells beside a picture of 14 x 14, and crashes."""
    config = ViTHybridConfig()
    assert config.backbone_featmap_shape == [1, 1024, 14, 14]
    assert config.network_config().tokens == 197
    assert config.backbone_config.out_features == ["stage3"]
    assert config.backbone_config.depths == [3, 4, 9]


def test_the_faces_of_the_published_networks():
    hybrid = ViTHybridConfig(image_size=384, num_labels=1000).network_config()
    assert replace(hybrid, feature_stage=-1) == PRESETS["R50+ViT-B/16"]                  # 3 is the last
    assert hybrid.feature_map == PRESETS["R50+ViT-B/16"].feature_map
    assert BitConfig(num_labels=1000).network_config() == PRESETS["BiT-R50x1"]


def test_two_configurations_share_no_list():
    BitConfig().depths.append(5)
    assert BitConfig().depths == [3, 4, 6, 3]
    assert ViTHybridConfig().backbone_config is not ViTHybridConfig().backbone_config


# -- to Config -------------------------------------------------------------------------------------

@pytest.mark.parametrize("given, expected", [
    (dict(num_channels=1), dict(channels=1)),
    (dict(embedding_size=32), dict(stem=32)),
    (dict(depths=[1, 2], hidden_sizes=[64, 128], num_groups=8), dict(depths=(1, 2), widths=(64, 128))),
    (dict(depths=[1, 2]), dict(depths=(1, 2), widths=(256, 512))),
    (dict(hidden_sizes=[4, 8, 16, 32], num_groups=2), dict(widths=(8, 8, 16, 32), groups=2)),
    (dict(width_factor=2), dict(widths=(512, 1024, 2048, 4096), stem=64)),
    (dict(width_factor=0.5), dict(widths=(128, 256, 512, 1024))),
    (dict(layer_type="bottleneck"), dict(unit="bottleneck")),
    (dict(global_padding="same"), dict(padding="same")),
    (dict(global_padding="Same"), dict(padding="same")),
    (dict(global_padding=None), dict(padding="symmetric")),
    (dict(global_padding="valid", depths=[]), dict(padding="valid", depths=(), widths=())),
    (dict(embedding_dynamic_padding=True), dict(pool_padding="same")),
    (dict(output_stride=8), dict(output_stride=8)),
    (dict(hidden_act="silu"), dict(backbone_activation="silu", activation="gelu")),
    (dict(num_labels=7), dict(classes=7)),
    (dict(num_labels=0), dict(classes=0)),
])
def test_each_key_of_a_bit_reaches_its_size(given, expected):
    network_config = BitConfig(**given).network_config()
    assert {key: getattr(network_config, key) for key in expected} == expected


@pytest.mark.parametrize("given, expected", [
    (dict(hidden_size=36, num_attention_heads=3), dict(width=36, heads=3, head_width=12)),
    (dict(num_hidden_layers=5), dict(blocks=5)),
    (dict(intermediate_size=7), dict(hidden=7)),
    (dict(hidden_act="gelu_new"), dict(activation="gelu_new", backbone_activation="relu")),
    (dict(layer_norm_eps=0), dict(ln_eps=0.0)),
    (dict(layer_norm_eps=1e-6), dict(ln_eps=1e-6, gn_eps=1e-5)),
    (dict(image_size=97), dict(image=(97, 97), grid=(7, 7))),
    (dict(image_size=[64, 97]), dict(image=(64, 97), grid=(4, 7))),
    (dict(image_size=(64, 97), patch_size=3), dict(patch=3, grid=(1, 2))),
    (dict(qkv_bias=False), dict(qkv_bias=False)),
    (dict(num_labels=9), dict(classes=9)),
    (dict(backbone_featmap_shape=(1, 1024, 14, 14)), dict(feature_map=(14, 14, 1024))),
    (dict(backbone_featmap_shape=[8, 1024, 14, 14]), dict(feature_map=(14, 14, 1024))),
    (dict(backbone_config=dict(depths=[1, 1])),
     dict(unit="preactivation", padding="symmetric", feature_stage=2)),
    (dict(backbone_config=dict(depths=[1, 1], out_features=["stage1"])),
     dict(feature_stage=1, feature_map=(56, 56, 256))),
    (dict(backbone_config=BitConfig(depths=[], out_features=["stem"], global_padding="same",
                                    embedding_dynamic_padding=True), patch_size=8),
     dict(feature_map=(56, 56, 64), grid=(7, 7), depths=())),
])
def test_each_key_of_a_hybrid_reaches_its_size(given, expected):
    network_config = ViTHybridConfig(**given).network_config()
    assert {key: getattr(network_config, key) for key in expected} == expected


def test_every_field_comes_from_the_configuration():
    """A field that a configuration does not set would keep the default of Config; here no field may."""
    config = ViTHybridConfig(
        image_size=(95, 97), hidden_size=30, num_hidden_layers=2, num_attention_heads=5, intermediate_size=7,
        hidden_act="tanh", layer_norm_eps=1e-3, patch_size=2, num_channels=1, qkv_bias=False, num_labels=3,
        backbone_config=dict(num_channels=1, embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2],
                             num_groups=4, hidden_act="selu", output_stride=8, out_features=["stage1"]),
        dialect=dict(name="JAX", ws_form="deviation", ws_eps=0.1, gn_eps=0.2, class_token=False, pool="mean",
                     norm_pooled=True, pre_logits=9, resampling="linear"))
    same = {key for key, value in vars(config.network_config()).items() if value == getattr(Config(), key)}
    assert same == {"pool_fill"}


@pytest.mark.parametrize("dialect, message", [
    ("timm", "dialect is 'timm'; expected a dict"),
    ({"gn-eps": 1}, "expected a dict with some of the keys name, ws_form"),
    ({"name": "tim"}, "name of dialect is 'tim'"), ({"ws_form": "std"}, "ws_form of dialect is 'std'"),
    ({"gn_eps": -1}, "gn_eps of dialect is -1"), ({"ws_eps": float("nan")}, "ws_eps of dialect is nan"),
    ({"pre_logits": 0}, "pre_logits of dialect is 0"),
    ({"class_token": False}, "class_token of dialect is False and pool is 'token'; expected the pool 'mean'"),
    ({"pool": "max"}, "pool of dialect is 'max'"), ({"resampling": "cubic"}, "resampling of dialect is 'cubic'")])
def test_a_dialect_no_network_has(dialect, message):
    for kind in ViTHybridConfig, ViTConfig:
        with pytest.raises(ValueError, match=re.escape(message)):
            kind(dialect=dialect)


@pytest.mark.parametrize("dialect, message", [
    ({"norm_pooled": True}, "dialect has norm_pooled; expected only keys of a network without an encoder"),
    ({"pre_logits": 10}, "dialect has pre_logits"), ({"ws_form": 1}, "ws_form of dialect is 1")])
def test_a_dialect_no_bit_has(dialect, message):
    with pytest.raises(ValueError, match=message):
        BitConfig(dialect=dialect)
    assert BitConfig(dialect={"name": "BiT", "ws_eps": 1e-10}).network_config().ws_eps == 1e-10


def test_a_backbone_has_no_dialect_of_its_own():
    with pytest.raises(ValueError, match=r"dialect of backbone_config is {'gn_eps': 0.001}; expected the key dialect "
                                         "in the ViTHybridConfig, not in backbone_config"):
        ViTHybridConfig(backbone_config={"layer_type": "bottleneck", "dialect": {"gn_eps": 1e-3}})


def test_a_number_is_no_switch():
    with pytest.raises(ValueError, match="class_token of dialect is 1.0; expected a bool"):
        ViTConfig(dialect={"class_token": 1.0})


def test_the_network_of_a_plain_vit():
    network_config = ViTConfig(image_size=(48, 32), patch_size=8, num_channels=1, num_labels=3).network_config()
    assert (network_config.stem, network_config.feature_map) == (0, (48, 32, 1))
    assert (network_config.grid, network_config.tokens) == ((6, 4), 25)
    with pytest.raises(ValueError, match="pooler_act is 'relu'"):
        ViTConfig(pooler_act="relu")
    with pytest.raises(ValueError, match="image_size is 15, and the feature map has 15 x 15 cells; expected at least "
                                         "16 x 16 cells, the size of a patch"):
        ViTConfig(image_size=15)


def test_a_changed_configuration_changes_the_network():
    config = ViTHybridConfig()
    config.image_size = 384
    assert config.backbone_featmap_shape == [1, 1024, 24, 24]
    config.hidden_size = 5
    with pytest.raises(ValueError, match="hidden_size is 5; expected a multiple of num_attention_heads, 12"):
        config.network_config()


# -- round trips -----------------------------------------------------------------------------------

def test_what_transformers_writes_loads():
    config = ViTHybridConfig.from_dict(WRITTEN)
    network_config = config.network_config()
    assert (network_config.widths, network_config.feature_map) == ((8, 8, 16), (4, 4, 16))
    assert (network_config.tokens, network_config.classes) == (17, 3)
    assert config.id2label == {0: "cat", 1: "dog", 2: "eel"}


def test_what_transformers_writes_comes_back_key_by_key():
    written = json.loads(json.dumps(WRITTEN))
    again = ViTHybridConfig.from_dict(written).to_dict()
    assert written == WRITTEN  # reading leaves the caller's dict alone
    assert {key: again[key] for key in WRITTEN if key != "backbone_config"} == {
        key: value for key, value in WRITTEN.items() if key != "backbone_config"}
    assert again["backbone_config"] == WRITTEN["backbone_config"]
    assert set(again) - set(WRITTEN) == {
        "output_attentions", "output_hidden_states", "return_dict", "problem_type"}


CONFIGS = [
    BitConfig(),
    BitConfig(depths=[1, 2], out_features=["stem", "stage2"], global_padding="same", num_labels=0),
    BitConfig(id2label={0: "a", 1: "b", 2: "c"}, problem_type="regression"),
    ViTHybridConfig(), ViTHybridConfig(image_size=(64, 97), num_labels=1000, output_attentions=True),
    ViTHybridConfig(backbone_config=BitConfig(depths=[2], layer_type="bottleneck"), qkv_bias=False),
    ViTHybridConfig.from_dict(WRITTEN),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_json_there_and_back(config, tmp_path):
    again = type(config).from_dict(json.loads(config.to_json_string()))
    assert again == config
    assert again.network_config() == config.network_config()
    config.save_pretrained(tmp_path / "new" / "folder")
    for path in (tmp_path / "new" / "folder", tmp_path / "new" / "folder" / "config.json"):
        assert type(config).from_pretrained(path) == config


def test_equality_looks_at_every_key():
    assert BitConfig(note=1) != BitConfig(note=2)
    assert BitConfig(num_labels=3) != BitConfig()
    assert BitConfig() != ViTHybridConfig()


def test_overrides_win(tmp_path):
    ViTHybridConfig().save_pretrained(tmp_path)
    config = ViTHybridConfig.from_pretrained(tmp_path, backbone_featmap_shape=None, image_size=384)
    assert config.network_config().tokens == 577


UNKNOWN = {"_name_or_path": "google/vit-hybrid-base-bit-384", "torch_dtype": "float32",
           "note": {"a": [1, None, 2.5]}, "transformers_version": "4.26.0.dev0", "architectures": ["X"],
           "pruned_heads": {}, "dtype": None, "_x": "y", "self": 1}


@pytest.mark.parametrize("kind, key, meant", [
    (ViTHybridConfig, "hiden_size", "hidden_size"), (ViTHybridConfig, "num_attention_head", "num_attention_heads"),
    (BitConfig, "num_group", "num_groups"), (BitConfig, "id2labels", "id2label")])
def test_a_misspelt_key_is_told(kind, key, meant):
    with pytest.warns(UserWarning, match=f"{kind.__name__} has no key {key}, .* Did you mean {meant}?") as told:
        config = kind(**{key: 3})
    assert getattr(config, key) == 3 and told[0].filename == __file__


@pytest.mark.parametrize("kind", [BitConfig, ViTHybridConfig])
def test_unknown_keys_are_kept_as_they_are(kind):
    config = kind(**UNKNOWN)
    for key, value in UNKNOWN.items():
        assert getattr(config, key) == config.to_dict()[key] == value
    assert kind.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_numpy_values_are_written_as_json():
    fields = BitConfig(note=np.float32(0.5), more=np.arange(3)).to_dict()
    assert (fields["note"], fields["more"]) == (0.5, [0, 1, 2])


def test_model_type_may_have_a_hyphen_or_an_underscore():
    for model_type in ("vit_hybrid", "vit-hybrid"):
        assert ViTHybridConfig(model_type=model_type) == ViTHybridConfig()
    assert ViTHybridConfig(backbone_config={"depths": [1]}).backbone_config.model_type == "bit"


# -- labels ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("given, names", [
    (dict(), ["LABEL_0", "LABEL_1"]),
    (dict(num_labels=3), ["LABEL_0", "LABEL_1", "LABEL_2"]),
    (dict(num_labels=0), []),
    (dict(id2label={0: "a", 1: "b", 2: "c"}), ["a", "b", "c"]),
    (dict(id2label={"1": "b", "0": "a"}), ["a", "b"]),
    (dict(id2label={str(i): str(i) for i in reversed(range(12))}), [str(i) for i in range(12)]),
    (dict(id2label={"0": "a"}, num_labels=1), ["a"]),
    (dict(id2label={}), []),
])
def test_labels(given, names):
    config = BitConfig(**given)
    assert list(config.id2label.items()) == list(enumerate(names))
    assert config.num_labels == config.network_config().classes == len(names)
    assert config.to_dict()["id2label"] == {str(i): name for i, name in enumerate(names)}


def test_a_name_that_occurs_twice_keeps_both_classes():
    config = BitConfig(id2label={0: "crane", 1: "dog", 2: "crane"})
    assert config.num_labels == 3
    assert config.label2id == {"crane": 2, "dog": 1}


def test_a_stated_label2id_is_kept():
    assert BitConfig(id2label={0: "crane", 1: "crane"}, label2id={"crane": 0}).label2id == {"crane": 0}


def test_label2id_and_id2label_follow_from_each_other():
    """In `from_dict`, each of them replaces both keys of a file.  Two that contradict each other are refused."""
    fields = BitConfig(id2label={0: "a", 1: "b"}).to_dict()
    for given in (dict(label2id={"d": 1, "c": 0}), dict(id2label={0: "c", 1: "d"}),
                  dict(label2id={"c": "0", "d": np.int64(1)}), dict(label2id={"c": 0, "d": 1}, id2label=None),
                  dict(id2label={"0": "c", "1": "d"}, label2id={"c": "0", "d": "1"}, num_labels=2)):
        config = BitConfig.from_dict(fields, **given)
        assert (config.id2label, config.label2id) == ({0: "c", 1: "d"}, {"c": 0, "d": 1})
    for numbers in ({"c": 0, "d": 0}, {"c": 99}):
        with pytest.raises(ValueError, match="label2id: found .*; expected an index that has this name in id2label"):
            BitConfig.from_dict(fields, id2label={0: "c", 1: "d"}, label2id=numbers)
    for numbers in ({"c": None}, {"c": [0]}, {"c": "first"}, {"c": 0.5}, {"c": "0.5"}):
        with pytest.raises(ValueError, match=r"label2id is .*; expected \{name: index\}"):
            BitConfig.from_dict(fields, label2id=numbers)


def test_a_label2id_that_fits_the_labels_of_the_file_changes_no_label():
    """Two classes have one name."""
    fields = BitConfig(id2label={0: "crane", 1: "crane"}).to_dict()
    config = BitConfig.from_dict(fields, label2id={"crane": 0})
    assert config.id2label == {0: "crane", 1: "crane"} and config.label2id == {"crane": 0}


def test_setting_num_labels_renames_them():
    config = BitConfig(id2label={0: "a"})
    config.num_labels = 3
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


def test_problem_type_is_not_written_back():
    config = BitConfig(embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=2, num_labels=3)
    before = config.to_dict()
    classifier = BitForImageClassification(config, engine="reference")
    x = np.zeros((2, 3, 8, 8))
    for labels in ([0, 1], np.zeros((2, 3)), [2, 2]):
        assert classifier(x, labels=labels).loss > 0
    assert config.problem_type is None
    assert config.to_dict() == before


def test_a_hybrids_problem_type_is_not_written_back_either():
    config = ViTHybridConfig.from_dict(WRITTEN)
    classifier = ViTHybridForImageClassification(config, engine="reference")
    for labels in ([0, -100], np.ones((2, 3))):
        assert classifier(np.zeros((2, 3, 64, 64)), labels=labels).loss > 0
    assert config == ViTHybridConfig.from_dict(WRITTEN)


# -- what a backbone returns -----------------------------------------------------------------------

@pytest.mark.parametrize("given, features, indices", [
    (dict(), ["stage4"], [4]),
    (dict(out_features=["stem", "stage2"]), ["stem", "stage2"], [0, 2]),
    (dict(out_indices=[0, 2]), ["stem", "stage2"], [0, 2]),
    (dict(out_indices=(1, 3)), ["stage1", "stage3"], [1, 3]),
    (dict(out_indices=[-1]), ["stage4"], [4]),
    (dict(out_indices=[-5, -2]), ["stem", "stage3"], [0, 3]),
    (dict(out_features=["stage1", "stage4"], out_indices=[1, -1]), ["stage1", "stage4"], [1, 4]),
    (dict(depths=[1, 1]), ["stage2"], [2]),
    (dict(depths=[]), ["stem"], [0]),
    (dict(depths=[1], stage_names=["anything"]), ["stage1"], [1]),
])
def test_features_and_indices_follow_from_each_other(given, features, indices):
    config = BitConfig(**given)
    assert (config.out_features, config.out_indices) == (features, indices)
    assert config.stage_names == ["stem", "stage1", "stage2", "stage3", "stage4"][:len(config.depths) + 1]
