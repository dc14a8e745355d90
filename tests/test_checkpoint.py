"""Names, layouts, and files: what is written comes back, and what does not fit is refused with every name."""
import copy
import json
import pickle
import shutil

import numpy as np
import pytest

from nphybrid import (BitBackbone, BitConfig, BitForImageClassification, BitModel, FormatError, ViTHybridConfig,
                      ViTHybridForImageClassification, ViTHybridImageProcessor, ViTHybridModel, checkpoint,
                      default_model)
from nphybrid.tensorfile import h5_documents, read_h5, write_h5, write_safetensors

CONFIG = ViTHybridConfig(backbone_config=dict(layer_type="bottleneck", depths=[1, 2], hidden_sizes=[32, 48],
                                              embedding_size=16, num_groups=4, global_padding="SAME",
                                              embedding_dynamic_padding=True, out_features=["stage2"]),
                         image_size=32, patch_size=2, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                         intermediate_size=40, num_labels=3)
BIT = BitConfig(embedding_size=16, hidden_sizes=[32, 48], depths=[1, 2], num_groups=4, num_labels=3)
X = np.linspace(-1, 1, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)


@pytest.fixture
def model():
    return ViTHybridForImageClassification(CONFIG, engine="reference", seed=1)


def logits(model):
    return model(X).logits.tobytes()


def test_layouts_by_hand(model):
    """A patch projection, a convolution and a linear layer, index by index."""
    ours, theirs = model._params, model.state_dict()
    patch = theirs["vit.embeddings.patch_embeddings.projection.weight"]                # (D, C, P, P)
    assert patch.shape == (24, 48, 2, 2)
    # Row (u * P + v) * C + c of ours is cell (u, v), channel c.
    assert ours.tokens.proj.kernel[(1 * 2 + 0) * 48 + 5, 7] == patch[7, 5, 1, 0]
    conv = theirs["vit.embeddings.patch_embeddings.backbone.bit.encoder.stages.1.layers.0.conv2.weight"]
    assert ours.stages[1][0].conv2[2, 0, 3, 4] == conv[4, 3, 2, 0]
    assert ours.blocks[1].fc1.kernel[5, 30] == theirs["vit.encoder.layer.1.intermediate.dense.weight"][30, 5]
    assert ours.tokens.positions[4, 2] == theirs["vit.embeddings.position_embeddings"][0, 4, 2]


@pytest.mark.parametrize("engine", ["reference", "numba"])
def test_state_dict_round_trip(engine):
    model, other = (ViTHybridForImageClassification(CONFIG, engine=engine, seed=seed) for seed in (1, 2))
    before = logits(model)
    assert logits(other) != before
    other.load_state_dict(model.state_dict())
    assert logits(other) == before


@pytest.mark.parametrize("engine", ["reference", "numba"])
def test_a_state_dict_shares_no_memory(engine):
    """Neither the one that comes out nor the one that goes in, as a training loop that goes on would find out."""
    model = ViTHybridForImageClassification(CONFIG, engine=engine, seed=1)
    before, state = logits(model), model.state_dict()
    kept = {name: array.copy() for name, array in state.items()}
    other = ViTHybridForImageClassification(CONFIG, engine=engine, state_dict=state)
    for array in state.values():
        array[...] = 7
    for built in model, other:
        assert logits(built) == before
        assert all(np.array_equal(array, kept[name]) for name, array in built.state_dict().items())


def test_pickle_and_deepcopy(model):
    for again in pickle.loads(pickle.dumps(model)), copy.deepcopy(model):
        assert logits(again) == logits(model)


def test_configuration_overrides_and_unknown_keywords(tmp_path):
    BitForImageClassification(BIT, engine="reference").save_pretrained(tmp_path)
    backbone = BitBackbone.from_pretrained(tmp_path, out_features=["stem", "stage2"], engine="reference")
    assert [m.shape[1] for m in backbone(X).feature_maps] == backbone.channels == [16, 48]
    assert BitBackbone.from_pretrained(tmp_path, out_indices=[1], engine="reference").out_features == ["stage1"]
    with pytest.raises(TypeError, match="BitConfig has no torch_dtype; it has .*out_features"):
        BitBackbone.from_pretrained(tmp_path, torch_dtype="auto")
    with pytest.raises(TypeError, match="unexpected keyword argument 'pooler'"):
        ViTHybridForImageClassification(CONFIG, pooler=True)


def test_a_changed_configuration_is_not_saved(model, tmp_path):
    config = ViTHybridConfig.from_dict(CONFIG.to_dict())
    changed = ViTHybridForImageClassification(config, engine="reference")
    changed.config.num_labels = 5
    with pytest.raises(ValueError, match="no longer describes it"):
        changed.save(tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_any_spelling_of_a_dtype():
    for dtype in "float64", np.float64, np.dtype("float64"):
        assert ViTHybridForImageClassification(CONFIG, engine="reference", dtype=dtype).dtype == np.float64
    with pytest.raises(ValueError, match="expected one of"):
        ViTHybridForImageClassification(CONFIG, dtype="double precision")


def test_the_processor_travels_with_the_model(model, tmp_path):
    model.processor = ViTHybridImageProcessor(size=33)
    model.save(tmp_path / "m.h5")
    assert ViTHybridImageProcessor.from_pretrained(tmp_path / "m.h5").size == {"shortest_edge": 33}
    assert ViTHybridForImageClassification.from_pretrained(tmp_path / "m.h5").processor == model.processor


@pytest.mark.parametrize("write", [lambda model, path: model.save(path / "m.h5") or path / "m.h5",
                                   lambda model, path: model.save_pretrained(path) or path], ids=["h5", "folder"])
def test_files_round_trip(write, model, tmp_path):
    model.processor = {"size": {"shortest_edge": 32}}
    path = write(model, tmp_path)
    back = ViTHybridForImageClassification.from_pretrained(path, engine="reference")
    assert logits(back) == logits(model)
    assert back.config == model.config
    assert back.config.architectures == ["ViTHybridForImageClassification"]
    assert back.processor == model.processor


def test_bit_round_trip(tmp_path):
    model = BitForImageClassification(BIT, engine="reference", seed=3)
    model.save(tmp_path / "bit.h5")
    assert logits(BitForImageClassification.from_pretrained(tmp_path / "bit.h5", engine="reference")) == logits(model)
    bare = BitModel.from_pretrained(tmp_path / "bit.h5", engine="reference")
    assert "embedder.convolution.weight" in bare.state_dict() and bare(X).pooler_output.shape == (1, 48, 1, 1)


def test_prefix_is_added_and_stripped(model, tmp_path):
    """A classifier's file serves the bare model, without inventing the pooler it lacks; a bare file lacks the head."""
    model.save_pretrained(tmp_path / "classifier")
    bare = ViTHybridModel.from_pretrained(tmp_path / "classifier", engine="reference")
    assert bare(X).pooler_output is None
    with pytest.raises(FormatError, match="missing: pooler.dense.weight"):
        ViTHybridModel.from_pretrained(tmp_path / "classifier", add_pooling_layer=True, engine="reference")
    bare.save_pretrained(tmp_path / "bare")
    with pytest.raises(FormatError, match="missing: classifier.weight") as caught:
        ViTHybridForImageClassification.from_pretrained(tmp_path / "bare", engine="reference")
    assert "vit.layernorm.weight" not in str(caught.value), "only the head is missing"


def test_bare_model_sees_what_the_classifier_sees(model, tmp_path):
    model.save(tmp_path / "m.h5")
    bare = ViTHybridModel.from_pretrained(tmp_path / "m.h5", engine="reference")
    last, head = bare(X).last_hidden_state, model._params.head
    np.testing.assert_allclose(last[:, 0] @ head.kernel + head.bias, model(X).logits, rtol=1e-5, atol=1e-6)


def test_every_fault_is_named(model):
    state = model.state_dict()
    state["vit.extra.weight"] = np.zeros((2, 2), np.float32)
    del state["vit.layernorm.bias"], state["classifier.weight"]
    state["vit.embeddings.cls_token"] = np.zeros((1, 1, 23), np.float32)
    state["classifier.bias"] = np.zeros(3, np.int64)
    before = logits(model)
    with pytest.raises(FormatError) as caught:
        model.load_state_dict(state)
    for fault in ("5 fault(s)", "missing: vit.layernorm.bias [24]", "missing: classifier.weight [3, 24]",
                  "unexpected: vit.extra.weight [2, 2]",
                  "vit.embeddings.cls_token has shape [1, 1, 23], expected [1, 1, 24]",
                  "classifier.bias is int64, expected a float type"):
        assert fault in str(caught.value)
    assert logits(model) == before, "a refused state dict leaves the model as it was"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(model, value):
    state = model.state_dict()
    state["vit.encoder.layer.1.output.dense.weight"][3, 5] = value
    with pytest.raises(FormatError, match=r"vit.encoder.layer.1.output.dense.weight holds .* at \[3, 5\]"):
        model.load_state_dict(state)


def test_a_double_beyond_float32_is_refused(model):
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    state["classifier.bias"][1] = 1e39
    with pytest.raises(FormatError, match=r"classifier.bias holds 1e\+39 at \[1\], which is no finite float32"):
        model.load_state_dict(state)
    exact = ViTHybridForImageClassification(CONFIG, engine="reference", dtype="float64", state_dict=state)
    assert exact(X).logits[0, 1] > 9e38


def test_sharded_folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    names = sorted(state := model.state_dict())
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, held in shards.items():
        write_safetensors(tmp_path / shard, {name: state[name] for name in held})
    (tmp_path / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert logits(ViTHybridForImageClassification.from_pretrained(tmp_path, engine="reference")) == logits(model)
    assert checkpoint.sha256(tmp_path) != checkpoint.sha256(tmp_path / sorted(shards)[0])


def test_wrong_places_are_told(tmp_path):
    load = ViTHybridForImageClassification.from_pretrained
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="config.json: no such file"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(CONFIG.to_json_string())
    with pytest.raises(FileNotFoundError, match="holds config.json; expected model.safetensors"):
        load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(FormatError, match="pickle.*never opened"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(FormatError, match="a JSON list, expected an object"):
        load(tmp_path)


def test_foreign_h5_is_refused(tmp_path):
    documents = {"config": {}, "manifest": {"format": "other", "version": 1}}
    write_h5(tmp_path / "x.h5", {"w": np.zeros(2, np.float32)}, documents)
    with pytest.raises(FormatError, match=r"format and version are \('other', 1\), expected \('nphybrid', 1\)"):
        checkpoint.read(tmp_path / "x.h5")
    write_h5(tmp_path / "y.h5", {"w": np.zeros(2, np.float32)}, {"config": {}})
    with pytest.raises(FormatError, match="/nphybrid/manifest"):
        checkpoint.read(tmp_path / "y.h5")


def test_golden_input_by_hand():
    x = checkpoint.golden_input(CONFIG.sizes())
    assert x.shape == (1, 32, 32, 3) and x.dtype == np.float64
    assert x[0, 5, 9, 2] == (7 * 5 + 13 * 9 + 29 * 2 + 45) % 256 / 127.5 - 1
    assert x.min() == -1 and x.max() == 1


def test_bundled_file():
    """The default model: its provenance, and its stored logits recomputed in float64."""
    documents = h5_documents(default_model())
    source = documents["manifest"]["source"]
    assert source["sha256"] == "7ddb04a211a12c3aa851677713a27cbeb7277f456017500150d32ee81a213ab5"
    exact = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference", dtype="float64")
    x = checkpoint.golden_input(exact.sizes).transpose(0, 3, 1, 2)
    stored = documents["manifest"]["golden"]
    assert stored["state"] == "logits"
    # Observed 2e-15; the summation order of the machine's BLAS is all that may differ.
    np.testing.assert_allclose(exact(x).logits[0], stored["values"], rtol=1e-11)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = shutil.copy(default_model(), tmp_path / "m.h5")
    array = read_h5(path).arrays["classifier.weight"]
    data = bytearray(path.read_bytes())
    data[data.index(array.tobytes()) + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match="classifier.weight"):
        ViTHybridForImageClassification.from_pretrained(path)
