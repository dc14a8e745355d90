"""Names, layouts, and files: what is written comes back, and what does not fit is refused with every name."""
import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from nphybrid import (BitBackbone, BitConfig, BitForImageClassification, BitModel, FormatError, ViTHybridConfig,
                      ViTHybridForImageClassification, ViTHybridImageProcessor, ViTHybridModel, checkpoint,
                      default_model)
from nphybrid.dialects.layout import entry
from nphybrid.ops import packed, threads
from nphybrid.params import named_leaves
from nphybrid.tensorfile import Stored, h5_documents, read_h5, read_safetensors, write_h5, write_safetensors

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
    theirs = model.state_dict()
    ours, _ = checkpoint.fill_parameters(model.shapes, theirs, model.table, model.network_config,
                                         ready=lambda name, array, array_of: array)
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
    with pytest.raises(TypeError, match="BitConfig has no depth; its keys are .*out_features"):
        BitBackbone.from_pretrained(tmp_path, depth=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'pooler'"):
        ViTHybridForImageClassification(CONFIG, pooler=True)


def test_a_changed_configuration_is_not_saved(model, tmp_path):
    config = ViTHybridConfig.from_dict(CONFIG.to_dict())
    changed = ViTHybridForImageClassification(config, engine="reference")
    changed.config.num_labels = 5
    with pytest.raises(ValueError, match="model.config was changed after the model was built; expected a configuration "
                                         "that fits the model"):
        changed.save(tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_any_spelling_of_a_dtype():
    for dtype in "float64", np.float64, np.dtype("float64"):
        assert ViTHybridForImageClassification(CONFIG, engine="reference", dtype=dtype).dtype == "float64"
    with pytest.raises(ValueError, match="expected one of"):
        ViTHybridForImageClassification(CONFIG, dtype="double precision")


@pytest.mark.parametrize("processor", [3, [1], "x"])
def test_a_processor_of_another_type_is_refused(processor, model, tmp_path):
    model.save(tmp_path / "m.h5")
    arrays, documents = read_h5(tmp_path / "m.h5")
    write_h5(tmp_path / "m.h5", arrays, {**documents, "processor": processor})
    with pytest.raises(FormatError, match="m.h5: the document processor is .*; expected a JSON object"):
        checkpoint.read(tmp_path / "m.h5")


def test_a_configuration_that_no_network_has_names_its_file(model, tmp_path):
    model.save(tmp_path / "m.h5")
    arrays, documents = read_h5(tmp_path / "m.h5")
    write_h5(tmp_path / "m.h5", arrays, {**documents, "config": {**documents["config"], "num_attention_heads": "3"}})
    for overrides in {}, {"num_labels": 3, "ignore_mismatched_sizes": True}:
        with pytest.raises(FormatError, match="m.h5: num_attention_heads is '3'"):
            ViTHybridForImageClassification.from_pretrained(tmp_path / "m.h5", **overrides)
    heads = model.config.num_attention_heads
    assert ViTHybridForImageClassification.from_pretrained(tmp_path / "m.h5", num_attention_heads=heads)
    with pytest.raises(ValueError, match="^num_attention_heads is 'x'") as error:
        model.save(tmp_path / "good.h5")
        ViTHybridForImageClassification.from_pretrained(tmp_path / "good.h5", num_attention_heads="x")
    assert not isinstance(error.value, FormatError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_hashed(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match="not a regular file"):
        checkpoint.sha256(tmp_path)


def test_a_json_file_of_any_length_is_not_read(tmp_path):
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="config.json: the file has 1,099,511,627,776 bytes; expected .* at most 100"):
        checkpoint.read_json(tmp_path / "config.json")


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
    last, head = bare(X).last_hidden_state, model.params.head
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
    for fault in ("5 faults:", "missing: vit.layernorm.bias [24]", "missing: classifier.weight [3, 24]",
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


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("layer", ["query", "key", "value"])
def test_only_the_wrong_one_of_q_k_and_v_is_named(model, layer, value):
    """In int8, the factors of each follow from all three."""
    state = model.state_dict()
    name = f"vit.encoder.layer.1.attention.attention.{layer}.weight"
    state[name][3, 5] = value
    with pytest.raises(FormatError, match=rf"1 fault:\s*{name} holds .* at \[3, 5\]"):
        ViTHybridForImageClassification(CONFIG, engine="reference", dtype="int8", state_dict=state)


def test_a_double_beyond_float32_is_refused(model):
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    state["classifier.bias"][1] = 1e39
    message = r"classifier.bias holds 1e\+39 at \[1\]; expected numbers that are finite in float32"
    with pytest.raises(FormatError, match=message):
        model.load_state_dict(state)
    exact = ViTHybridForImageClassification(CONFIG, engine="reference", dtype="float64", state_dict=state)
    assert exact(X).logits[0, 1] > 9e38


def save_sharded(model, folder):
    """A folder whose arrays lie in two shards by turns."""
    model.save_pretrained(folder)
    names = sorted(state := model.state_dict())
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, held in shards.items():
        write_safetensors(folder / shard, {name: state[name] for name in held})
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_sharded_folder(model, tmp_path):
    save_sharded(model, tmp_path)
    assert logits(ViTHybridForImageClassification.from_pretrained(tmp_path, engine="reference")) == logits(model)
    assert checkpoint.sha256(tmp_path) != checkpoint.sha256(tmp_path / "model-00001-of-00002.safetensors")


# ------------------------------------------------------------------ one array at a time, one form of each

KINDS = {"h5": lambda model, path: model.save(path / "m.h5") or path / "m.h5",
         "folder": lambda model, path: model.save_pretrained(path / "m") or path / "m",
         "sharded": lambda model, path: save_sharded(model, path / "m") or path / "m"}


@pytest.fixture(params=KINDS)
def path(request, model, tmp_path):
    """The model in a file of each kind."""
    return KINDS[request.param](model, tmp_path)


def weights(path):
    """The files that hold arrays."""
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path]


def same_state(model, state):
    mine = model.state_dict()
    return list(mine) == list(state) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(mine.values(), state.values()))


@pytest.mark.parametrize("engine", ["reference", "numba"])
def test_the_state_dict_is_the_files_bit_for_bit(engine, path, model):
    back = ViTHybridForImageClassification.from_pretrained(path, engine=engine)
    assert same_state(back, model.state_dict())
    assert all(array.flags.c_contiguous and array.flags.writeable for array in back.state_dict().values())


def test_each_weight_is_held_once(path):
    """Convolution kernels have an original beside them: in the file, or where there is none, in memory."""
    back = ViTHybridForImageClassification.from_pretrained(path)
    leaves = named_leaves(back.params)
    kernels = [name for name, shape in named_leaves(back.shapes).items() if len(shape) == 4]
    assert all(isinstance(leaves[name], packed.Packed) for name in leaves if name in kernels or "kernel" in name)
    assert len(back.originals) == len(kernels) == 12
    assert all(type(original) is Stored for original in back.originals.values())
    fresh = ViTHybridForImageClassification(CONFIG)
    assert all(type(original) is np.ndarray for original in fresh.originals.values())


def test_a_file_that_is_gone_is_named(path, model):
    back = ViTHybridForImageClassification.from_pretrained(path)
    before, twin = logits(back), copy.deepcopy(back)
    for file in weights(path):
        file.unlink()
    assert logits(back) == before
    with pytest.raises(FormatError, match=r"no longer holds the array vit\.[\w.]+\.weight that was loaded"
                                          ".*No such file"):
        back.state_dict()
    with pytest.raises(FormatError, match="no longer holds"):
        back.save_pretrained(path.parent / "new")
    assert not (path.parent / "new").exists()
    assert same_state(twin, model.state_dict()), "a copy holds everything itself"


def test_a_file_that_has_changed_is_named(path, model):
    back = ViTHybridForImageClassification.from_pretrained(path)
    state = model.state_dict()
    name = "vit.embeddings.patch_embeddings.backbone.bit.encoder.stages.1.layers.0.conv2.weight"
    state[name][0, 0, 0, 0] += 1
    other = ViTHybridForImageClassification(CONFIG, engine="reference", state_dict=state)
    KINDS["h5" if path.suffix else "sharded" if len(weights(path)) == 2 else "folder"](other, path.parent)
    with pytest.raises(FormatError, match=f"no longer holds the array {name} that was loaded: found [0-9a-f]{{64}}"):
        back.state_dict()
    with pytest.raises(FormatError, match="no longer holds"):
        pickle.dumps(back)
    back.load_state_dict(state)
    assert same_state(back, state)


def test_a_model_may_be_saved_over_its_own_file(path, model):
    """What counts are the bytes of an array, not where in the file they lie."""
    back = ViTHybridForImageClassification.from_pretrained(path, engine="reference")
    for _ in range(2):
        if path.is_dir():
            write_safetensors(weights(path)[0], read_safetensors(weights(path)[0]), {"a longer": "header " * 50})
        else:
            back.save(path, source={"a longer": "manifest " * 50})
        assert same_state(back, model.state_dict())


def test_the_way_back_does_not_depend_on_the_working_folder(path, model, monkeypatch):
    monkeypatch.chdir(path.parent)
    back = ViTHybridForImageClassification.from_pretrained(path.name)
    monkeypatch.chdir("/")
    assert same_state(back, model.state_dict())


def test_a_file_that_changes_while_it_is_read_is_refused(path):
    source = checkpoint.read(path)
    for file in weights(path):
        os.utime(file, ns=(1, 1))
    with pytest.raises(FormatError, match="was replaced or written to while it was read") as refused:
        ViTHybridForImageClassification.from_checkpoint(source)
    assert str(refused.value).count(str(path)) == 1


def test_bfloat16_and_float16_files(model, tmp_path):
    """Widened exactly; the kernels are read again in the file's type."""
    model.save_pretrained(tmp_path)
    state = {name: array.astype(np.float16) for name, array in model.state_dict().items()}
    write_safetensors(tmp_path / "model.safetensors", state)
    wide = {name: array.astype(np.float32) for name, array in state.items()}
    assert same_state(ViTHybridForImageClassification.from_pretrained(tmp_path), wide)

    upper = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in model.state_dict().items()}
    write_safetensors(tmp_path / "model.safetensors", upper)
    data = (tmp_path / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = data[8:start].replace(b'"U16"', b'"BF16"')
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data[start:])
    wide = {name: (array.astype(np.uint32) << 16).view(np.float32) for name, array in upper.items()}
    assert same_state(ViTHybridForImageClassification.from_pretrained(tmp_path), wide)


def test_a_bfloat16_model_tells_its_rounded_kernels(path, model):
    """Those of linear layers before the pooling; convolution kernels and all other arrays are what was loaded."""
    back, expected = ViTHybridForImageClassification.from_pretrained(path, dtype="bfloat16"), model.state_dict()
    assert back.dtype == "bfloat16" and back(X).logits.dtype == np.float32
    linear = [ours for ours in named_leaves(back.shapes) if ours.endswith("kernel")]
    for name in (entry(ours, back.table)[0] for ours in linear):
        if name != "classifier.weight":
            bits = expected[name].view(np.uint32)
            expected[name] = (bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000).view(np.float32)
    assert len(linear) == 2 * 6 + 2 and same_state(back, expected)


def test_faults_of_a_file_are_all_told(path, model):
    """Not only the first: every array is looked at before the model is refused."""
    source, state = checkpoint.read(path), model.state_dict()
    bad = "vit.encoder.layer.0.output.dense.bias", "vit.layernorm.weight", "classifier.bias"
    for name in bad:
        state[name][2] = np.nan
    with pytest.raises(FormatError) as refused:
        ViTHybridForImageClassification.from_checkpoint(source._replace(arrays={**source.arrays, **{
            name: state[name] for name in bad}}))
    assert str(refused.value).startswith(f"{path}: these arrays do not fit this network, 3 faults:")
    assert [line.split()[0] for line in str(refused.value).splitlines()[1:]] == list(bad)


def test_several_threads_fill(model):
    both = threading.Barrier(2, timeout=20)

    def ready(name, array, array_of):
        if name in ("blocks.0.fc1.kernel", "blocks.1.fc1.kernel"):
            both.wait()
    with threads.using(2):
        checkpoint.fill_parameters(model.shapes, model.state_dict(), model.table, model.network_config, ready)


MEMORY = """
import sys, numpy as np
from nphybrid import ViTHybridForImageClassification, default_model
def told(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))
ViTHybridForImageClassification.from_pretrained(default_model())
before = told("VmRSS")
model = ViTHybridForImageClassification.from_pretrained(sys.argv[1], num_threads=2)
print((told("VmHWM") - before) / (4 * model.num_parameters()), (told("VmRSS") - before) / (4 * model.num_parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no way to tell a process's memory")
@pytest.mark.parametrize("kind", KINDS)
def test_loading_takes_little_more_memory_than_the_weights(kind, tmp_path):
    """114 MB of them. Observed: 1.05 times as much at most."""
    config = ViTHybridConfig.from_dict(CONFIG.to_dict(), hidden_size=768, intermediate_size=3072, num_hidden_layers=4,
                                       num_attention_heads=12)
    model = ViTHybridForImageClassification(config, engine="reference")
    if kind == "h5":
        path = tmp_path / "m.h5"
        checkpoint.write_h5(path, model.state_dict(), config.to_dict(), None, {})
    else:
        path = KINDS[kind](model, tmp_path)
    done = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    peak, after = map(float, done.stdout.split())
    assert peak < 1.6 and after < 1.3


def test_wrong_places_are_told(tmp_path):
    load = ViTHybridForImageClassification.from_pretrained
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds nothing; expected model.safetensors"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(CONFIG.to_json_string())
    with pytest.raises(FileNotFoundError, match="holds 'config.json'; expected model.safetensors"):
        load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(FormatError, match="pickle.*never opened"):
        load(tmp_path)
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "pytorch_model-00001-of-00001.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(FormatError, match="(?s)an index of pickles.*never opened.*examples/convert_checkpoint.py "
                                          "[^ ]*pytorch_model.bin.index.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(FormatError, match="a JSON list; expected a JSON object"):
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
    x = checkpoint.golden_input(CONFIG.network_config())
    assert x.shape == (1, 32, 32, 3) and x.dtype == np.float64
    assert x[0, 5, 9, 2] == (7 * 5 + 13 * 9 + 29 * 2 + 45) % 256 / 127.5 - 1
    assert x.min() == -1 and x.max() == 1


def test_bundled_file():
    """The default model: its provenance, and its stored logits recomputed in float64."""
    documents = h5_documents(default_model())
    source = documents["manifest"]["source"]
    assert source["sha256"] == "7ddb04a211a12c3aa851677713a27cbeb7277f456017500150d32ee81a213ab5"
    exact = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference", dtype="float64")
    x = checkpoint.golden_input(exact.network_config).transpose(0, 3, 1, 2)
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
