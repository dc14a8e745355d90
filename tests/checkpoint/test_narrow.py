"""Files and folders with narrow weights: the numbers of the dtype come back, and all else is refused by name."""
import copy
import json
import os
import pickle
import warnings

import numpy as np
import pytest

from nphybrid import (FormatError, ViTConfig, ViTHybridForImageClassification, ViTHybridModel, ViTModel, default_model)
from nphybrid.__main__ import main
from nphybrid.api import base
from nphybrid.checkpoint import Head, Narrow, read, sha256
from nphybrid.explain.figures import MissingPartError, every_figure
from nphybrid.explain.page import page
from nphybrid.machine.bench import combinations
from nphybrid.modelfile.compare import compare_files
from nphybrid.modelfile.convert import convert
from nphybrid.modelfile.verify import verify_model
from nphybrid.dialects.layout import Layout, unsplit
from nphybrid.modelfile.inspect import inspect_file
from nphybrid.ops.reference_narrow import LONGEST, Kernel, factors_of
from nphybrid.params import named_leaves
from nphybrid.pictures.decode import open_picture
from nphybrid.tensorfile import (read_h5, read_safetensors, safetensors_header, write_h5, write_json,
                                 write_safetensors)
from nphybrid.training.finetune import finetune

from checkpoint.test_checkpoint import CONFIG, logits
from tools.on_demand import on_demand

transformers = on_demand("transformers")

DTYPES = ["bfloat16", "int8"]
CONV = "vit.embeddings.patch_embeddings.backbone.bit.encoder.stages.1.layers.1.conv2.weight"
QUERY = "vit.encoder.layer.0.attention.attention.query.weight"


@pytest.fixture
def model():
    return ViTHybridForImageClassification(CONFIG, engine="reference", seed=1)


@pytest.fixture(params=[(form, dtype) for form in ("h5", "folder") for dtype in DTYPES], ids="-".join)
def narrow(request, model, tmp_path):
    """An .h5 file or a folder with narrow weights, and its dtype."""
    form, dtype = request.param
    path = tmp_path / (f"{dtype}.h5" if form == "h5" else dtype)
    save(model, path, dtype=dtype)
    return path, dtype


def save(model, path, **options):
    """Write an .h5 file, or a folder if the path has another suffix."""
    (model.save if path.suffix == ".h5" else model.save_pretrained)(path, **options)


def contents(path):
    """The arrays and the manifest of a file or a folder."""
    source = read(path)
    return {name: np.asarray(array) for name, array in source.arrays.items()}, source.manifest


@pytest.mark.parametrize("engine", ["reference", "numba"])
def test_the_logits_are_those_of_the_dtype(model, narrow, engine):
    path, dtype = narrow
    expected = ViTHybridForImageClassification(CONFIG, state_dict=model.state_dict(), engine=engine, dtype=dtype)
    found = ViTHybridForImageClassification.from_pretrained(path, engine=engine)
    assert found.dtype == dtype and logits(found) == logits(expected)
    assert logits(pickle.loads(pickle.dumps(found))) == logits(expected)
    assert logits(ViTHybridForImageClassification.from_pretrained(path, engine=engine, dtype=dtype)) == logits(expected)


def test_the_bytes(narrow):
    """A narrow kernel has a half or a quarter of the bytes, in Hugging Face's layout."""
    path, dtype = narrow
    arrays, manifest = contents(path)
    assert manifest["dtype"] == dtype
    loaded = named_leaves(ViTHybridForImageClassification.from_pretrained(path, engine="reference").params)
    kernel = loaded["blocks.0.query.kernel"]
    assert isinstance(kernel, Kernel) and arrays[QUERY].shape == kernel.shape[::-1]
    if dtype == "int8":
        assert arrays[QUERY].dtype == np.int8 and arrays[CONV].dtype == np.int8
        assert np.array_equal(arrays[QUERY].T, kernel.values)
        assert np.array_equal(arrays[QUERY + ".scales"], kernel.scales)
        assert np.array_equal(arrays[QUERY + ".factors"], kernel.factors) and CONV + ".factors" not in arrays
    else:
        assert arrays[QUERY].dtype == np.uint16
        assert np.array_equal((arrays[QUERY].T.astype(np.uint32) << 16).view(np.float32), kernel.values)


def test_inspect_names_the_dtype_of_each_array(narrow):
    """The bits of bfloat16 are stored as uint16.  They take 2 bytes, and are called bfloat16."""
    path, dtype = narrow
    report = inspect_file(path)
    found = {each["name"]: each for each in report["tensors"]}
    assert report["manifest"]["dtype"] == dtype and found["classifier.weight"]["dtype"] == "float32"
    assert found[QUERY]["dtype"] == dtype
    assert found[QUERY]["bytes"] == 24 * 24 * (2 if dtype == "bfloat16" else 1)
    first = CONV.replace("stages.1.layers.1", "stages.0.layers.0")       # bfloat16 also in an int8 file
    assert found[first]["dtype"] == "bfloat16"


@pytest.mark.parametrize("engine", ["reference", "numba"])
def test_the_factors_of_q_k_and_v(model, engine):
    """They follow from all three kernels of the block, as Hugging Face stores them: (outputs, inputs)."""
    state, rng = model.state_dict(), np.random.default_rng(0)
    names = [QUERY.replace("query", layer) for layer in ("query", "key", "value")]
    for name in names:
        state[name] *= 2.0 ** rng.integers(-9, 9, state[name].shape[1])
    block = ViTHybridForImageClassification(CONFIG, state_dict=state, engine=engine, dtype="int8").params.blocks[0]
    expected = factors_of(np.concatenate([state[name] for name in names]).T)
    assert len(set(expected)) > 4
    for layer in block.query, block.key, block.value:
        assert np.array_equal(layer.kernel.factors, expected)


def test_a_class_without_a_classifier(narrow):
    path, dtype = narrow
    assert ViTHybridModel.from_pretrained(path, engine="reference").dtype == dtype


def test_the_file_is_verified_by_golden_logits_of_its_own(narrow):
    path, dtype = narrow
    checks = verify_model(path)
    assert [check.ok for check in checks] == [True] * 3
    assert checks[0].what.startswith("SHA-256 of")
    assert f"reference {dtype}" in checks[1].what and f"numba {dtype}" in checks[2].what
    assert checks[1].found <= 1e-5        # the same operations in float32


@pytest.mark.parametrize("wanted", ["float32", "float64", "other"])
def test_another_dtype_is_refused(narrow, wanted):
    path, dtype = narrow
    wanted = DTYPES[1 - DTYPES.index(dtype)] if wanted == "other" else wanted
    with pytest.raises(ValueError, match=f"rounded for the dtype {dtype}; expected the dtype {dtype}, found {wanted}"):
        ViTHybridForImageClassification.from_pretrained(path, engine="reference", dtype=wanted)


def test_the_original_weights_are_not_invented(narrow, tmp_path):
    found = ViTHybridForImageClassification.from_pretrained(narrow[0], engine="reference")
    target = tmp_path / "target.h5"
    for action in (found.state_dict, lambda: found.save(target), lambda: found.save_pretrained(tmp_path / "folder"),
                   lambda: convert(found, target)):
        with pytest.raises(ValueError, match="the original weights cannot be restored"):
            action()
    assert not target.exists() and not (tmp_path / "folder").exists()


@pytest.mark.parametrize("form", ["h5", "folder"])
@pytest.mark.parametrize("engine", ["reference", "numba"])
def test_the_same_weights_are_saved_again(narrow, tmp_path, engine, form):
    """Nothing is rounded again, and names of classes can be changed."""
    path, dtype = narrow
    model = ViTHybridForImageClassification.from_pretrained(path, engine=engine)
    again = tmp_path / ("again.h5" if form == "h5" else "again")
    model.config.id2label = {0: "one", 1: "two", 2: "three"}
    save(model, again, source={"name": "first"}, dtype=dtype)
    (arrays, manifest), (expected, first) = contents(again), contents(path)
    assert arrays.keys() == expected.keys() and all(arrays[name].tobytes() == expected[name].tobytes()
                                                    for name in arrays)
    assert manifest["source"] == {"name": "first"}
    golden, other = (np.array(found["golden"]["values"]) for found in (manifest, first))
    assert np.abs(golden - other).max() <= 1e-6           # observed 0 (reference) and 0 (numba)
    loaded = ViTHybridForImageClassification.from_pretrained(again, engine=engine)
    assert loaded.config.id2label == model.config.id2label and logits(loaded) == logits(model)
    save(model, path, dtype=dtype)        # over its own file, which holds the same weights
    assert logits(ViTHybridForImageClassification.from_pretrained(path, engine=engine)) == logits(model)
    with pytest.raises(ValueError, match="rounded twice"):
        save(model, again, dtype=DTYPES[1 - DTYPES.index(dtype)])


@pytest.mark.parametrize("kind", ["file", "link", "folder", "shards"])
def test_the_original_weights_are_not_overwritten(model, tmp_path, kind):
    """In a folder, model.safetensors would be read instead of shards."""
    path = target = tmp_path / "model.h5"
    if kind in ("folder", "shards"):
        model.save_pretrained(tmp_path)
        path, target = tmp_path, tmp_path / "model.safetensors"
        if kind == "shards":
            shard = target.rename(tmp_path / "model-00001-of-00001.safetensors")
            names = dict.fromkeys(read_safetensors(shard), shard.name)
            write_json(tmp_path / "model.safetensors.index.json", {"metadata": {}, "weight_map": names})
    else:
        model.save(path)
    if kind == "link":
        target = tmp_path / "link.h5"
        os.symlink(path, target)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    loaded = ViTHybridForImageClassification.from_pretrained(path, engine="reference")
    rounded = ViTHybridForImageClassification.from_pretrained(path, engine="reference", dtype="int8")
    refused = ("holds the original weights of this model, which cannot be restored from weights that are rounded for "
               "the dtype int8; expected the name of another file")
    actions = [lambda: loaded.save(target, dtype="int8"), lambda: copy.copy(loaded).save(target, dtype="int8"),
               lambda: pickle.loads(pickle.dumps(loaded)).save(target, dtype="int8"), lambda: rounded.save(target)]
    if kind in ("folder", "shards"):
        actions += [lambda: rounded.save_pretrained(tmp_path), lambda: loaded.save_pretrained(tmp_path, dtype="int8")]
    for action in actions:
        with pytest.raises(ValueError, match=refused):
            action()
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    loaded.save(tmp_path / "other.h5", dtype="int8")
    loaded.save_pretrained(tmp_path / "other", dtype="int8")
    loaded.save(path if path.is_file() else tmp_path / "same.h5")         # the same weights


def test_a_network_without_convolutions_keeps_its_weights(tmp_path):
    """The names of its arrays, and a state that is not the last one: this model has a pooler."""
    path = tmp_path / "vit.h5"
    model = ViTModel(ViTConfig(image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=1, intermediate_size=48,
                               num_attention_heads=2), engine="reference")
    model.save(path)
    before = path.read_bytes()
    assert main(["convert", str(path), str(path), "--dtype", "int8"]) == 3 and path.read_bytes() == before
    narrow = tmp_path / "narrow.h5"
    assert main(["convert", str(path), str(narrow), "--dtype", "int8"]) == 0
    assert read_h5(narrow).documents["manifest"]["golden"]["state"] == "norm"


def test_a_float64_model_is_saved_in_float32(model, tmp_path):
    exact = ViTHybridForImageClassification(CONFIG, state_dict=model.state_dict(), engine="reference", dtype="float64")
    for name, found in (("first", model), ("second", exact)):
        found.save(tmp_path / name, dtype="int8")
    (a, _), (b, _) = (read_h5(tmp_path / name) for name in ("first", "second"))
    assert all(a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]) for name in a)


def test_the_learned_arrays_are_what_the_weights_stand_for(narrow):
    path, dtype = narrow
    arrays, _ = contents(path)
    model = ViTHybridForImageClassification.from_pretrained(path)
    learned = model.learned()
    query, conv = arrays[QUERY], arrays[CONV]
    if dtype == "int8":
        query = query * arrays[QUERY + ".scales"][:, None] * arrays[QUERY + ".factors"]
        conv = conv * arrays[CONV + ".scales"][:, None, None, None]
    else:
        query, conv = ((array.astype(np.uint32) << 16).view(np.float32) for array in (query, conv))
    assert np.array_equal(learned.blocks[0].query.kernel, query.T)
    assert not np.shares_memory(learned.norm.scale, model.params.norm.scale)
    assert np.array_equal(learned.stages[1][1].conv2, conv.transpose(2, 3, 1, 0))
    stem = ViTHybridForImageClassification.from_pretrained(path, engine="reference").params.stem.conv
    assert np.abs(learned.stem.conv - stem).max() <= 1e-6 * np.abs(stem).max()          # observed 1.2e-7


@pytest.fixture(scope="module", params=DTYPES)
def bundled(request, tmp_path_factory):
    """The model of the package with narrow weights, written by the command line, and its dtype."""
    path = tmp_path_factory.mktemp("bundled") / "model.h5"
    assert main(["convert", str(default_model()), str(path), "--dtype", request.param]) == 0
    return path, request.param


def test_the_command_line_converts_again(bundled, tmp_path, capsys):
    """Without --dtype, it says how."""
    path, dtype = bundled
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"class {i}" for i in range(10)))
    again = str(tmp_path / "again.h5")
    assert main(["convert", str(path), again, "--class-names", str(names)]) == 3
    assert f"can be written with the dtype {dtype}" in capsys.readouterr().err
    assert main(["convert", str(path), again, "--class-names", str(names), "--dtype", dtype]) == 0
    assert "change" not in capsys.readouterr().err
    assert ViTHybridForImageClassification.from_pretrained(again).config.id2label[3] == "class 3"


def test_the_change_by_rounding_is_printed(bundled, tmp_path, capsys):
    """The change is that of the golden logits, against their standard deviation."""
    path, dtype = bundled
    assert main(["convert", str(default_model()), str(tmp_path / "model.h5"), "--dtype", dtype]) == 0
    text = capsys.readouterr().err
    exact, narrow = (np.array(read_h5(file).documents["manifest"]["golden"]["values"])
                     for file in (default_model(), path))
    change = np.abs(narrow - exact).max() / exact.std()
    assert f"the logits of a built-in picture change by {change:.2g} of their standard deviation" in text


def test_a_head_of_the_original_model_fits(bundled, tmp_path):
    """A narrow file has the SHA-256 of the model from which it was converted.  Other files that name it do not fit."""
    path, dtype = bundled
    made = Head(np.ones((192, 2), np.float32), np.zeros(2, np.float32), ["a", "b"], sha256(default_model()), "norm",
                "token", {})
    load = ViTHybridForImageClassification.from_pretrained
    for model in path, default_model():
        assert load(model, head=made).config.id2label == {0: "a", 1: "b"}
    again = tmp_path / "again.h5"
    assert main(["convert", str(path), str(again), "--dtype", dtype]) == 0
    assert load(again, head=made).config.id2label == {0: "a", 1: "b"}
    with pytest.raises(ValueError, match=f"with SHA-256 {'0' * 64}, but .* has the SHA-256 {sha256(path)}"):
        load(path, head=made._replace(model="0" * 64))
    trained = load(default_model(), engine="reference")
    trained.params.head.bias[:] += 1
    trained.save(tmp_path / "trained.h5", source={"name": "origin", "sha256": made.model})
    with pytest.raises(ValueError, match="the head was fitted to features of the model"):
        load(tmp_path / "trained.h5", head=made)


def test_a_narrow_model_is_not_trained(bundled):
    """The error names the model that can be trained, if the narrow weights are from a file."""
    path, dtype = bundled
    load = ViTHybridForImageClassification.from_pretrained
    with pytest.raises(ValueError, match=f"dtype {dtype}; expected float32, .*; expected the model from which"):
        finetune(load(path), [], [])
    with pytest.raises(ValueError, match=f"dtype {dtype}; expected float32, or float64 with the engine reference$"):
        finetune(load(default_model(), dtype=dtype), [], [])


def test_a_narrow_file_is_compared_with_the_original(bundled):
    path, dtype = bundled
    logits = compare_files(default_model(), path, only=["logits"])[0]
    exact, narrow = (np.array(read_h5(file).documents["manifest"]["golden"]["values"])
                     for file in (default_model(), path))
    assert logits.error == pytest.approx(np.abs(narrow - exact).max() / np.abs(narrow).max(), rel=1e-4)
    assert {row.verdict for row in compare_files(path, path)} == {"equal"}


def test_a_narrow_file_is_measured_in_its_dtype(bundled, capsys):
    path, dtype = bundled
    found = combinations(path, "numba", None, ["highest"], [1], [1], 1, False)
    assert [combination.dtype for combination in found] == [dtype]
    assert main(["bench", str(path), "--threads", "1", "--runs", "1", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["dtype"] == dtype


def test_a_narrow_file_is_explained(bundled):
    path, dtype = bundled
    model = ViTHybridForImageClassification.from_pretrained(path)
    picture = open_picture(os.path.join(os.path.dirname(__file__), "../../examples/images/cat.png"))
    drawn = dict(every_figure(model, picture))
    assert isinstance(drawn.pop("saliency"), MissingPartError) and len(drawn) == 7
    assert not any(isinstance(figure, MissingPartError) for figure in drawn.values())
    exact = dict(every_figure(ViTHybridForImageClassification.from_pretrained(default_model()), picture))
    for name in "filters", "position-similarity":         # these arrays are not narrow
        assert drawn[name].image.tobytes() == exact[name].image.tobytes()
    text = page(model, picture, "cat.png")
    assert f"The factors of matrix products are rounded to {dtype}. What the page itself computes" in text


@pytest.mark.parametrize("dtype", ["int4", "float16", "float32", np.int16, "INT8"])
def test_other_dtypes_of_a_file_are_refused(model, tmp_path, dtype):
    with pytest.raises((ValueError, TypeError)):
        model.save(tmp_path / "model.h5", dtype=dtype)
    assert not (tmp_path / "model.h5").exists()


def test_a_dtype_of_numpy(model, tmp_path):
    for i, dtype in enumerate(["int8", np.int8, np.dtype(np.int8)]):
        model.save(tmp_path / f"{i}.h5", dtype=dtype)
    assert len({(tmp_path / f"{i}.h5").read_bytes() for i in range(3)}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_not_rounded_twice(model, tmp_path, dtype):
    rounded = ViTHybridForImageClassification(CONFIG, state_dict=model.state_dict(), engine="reference", dtype=dtype)
    with pytest.raises(ValueError, match=f"found {dtype}, whose weights would be rounded twice"):
        rounded.save(tmp_path / "model.h5", dtype="int8")


@pytest.mark.parametrize("engine", ["reference", "numba"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounded_weights_are_saved_with_a_warning(model, tmp_path, dtype, engine):
    """Two blocks with 6 linear layers each, and the projection; the classifier is not rounded."""
    model.save_pretrained(tmp_path)
    rounded = ViTHybridForImageClassification.from_pretrained(tmp_path, engine=engine, dtype=dtype)
    twice = " A model .* with the dtype int8 rounds them again." if dtype == "int8" else ""
    told = (f"the kernels of 13 linear layers, .*rounded for the dtype {dtype}.{twice} To save .* load the model with "
            'dtype="float32"')
    with pytest.warns(UserWarning, match=told):
        rounded.save(tmp_path / "model.h5")
    with pytest.warns(UserWarning, match=told):
        rounded.save_pretrained(tmp_path / "folder")
    saved = ViTHybridForImageClassification.from_pretrained(tmp_path / "folder", engine=engine).state_dict()
    before = model.state_dict()
    assert sum(not np.array_equal(saved[name], before[name]) for name in before) == 13
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ViTHybridForImageClassification.from_pretrained(tmp_path, engine=engine).save(tmp_path / "exact.h5")


@pytest.mark.parametrize("target, to", [("folder", "timm"), ("file.npz", None)])
def test_other_formats_cannot_hold_narrow_weights(model, tmp_path, target, to):
    with pytest.raises(ValueError, match="int8 needs one of the formats h5 and huggingface, found .*; expected the "
                                         "name of a folder, or a name that ends with .h5"):
        convert(model, tmp_path / target, to, dtype="int8")
    assert not list(tmp_path.iterdir())


def test_a_source_needs_a_place(model, tmp_path):
    with pytest.raises(ValueError, match="source: only a folder with narrow weights can hold it"):
        model.save_pretrained(tmp_path / "folder", source={"name": "first"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_command_line_writes_a_folder(tmp_path, dtype, capsys):
    """It holds the same arrays, manifest, configuration and image processor as an .h5 file."""
    file, folder = tmp_path / "model.h5", tmp_path / "folder"
    for target in file, folder:
        assert main(["convert", str(default_model()), str(target), "--dtype", dtype]) == 0
    assert len(set(capsys.readouterr().err.splitlines())) == 1          # the same change of the logits
    a, b = read(file), read(folder)
    assert (a.config, a.processor, a.manifest) == (b.config, b.processor, b.manifest)
    (arrays, _), (others, _) = contents(file), contents(folder)
    assert arrays.keys() == others.keys() and all(arrays[name].tobytes() == others[name].tobytes() for name in arrays)
    assert main(["convert", str(default_model()), str(folder), "--dtype", dtype]) == 3         # it is not empty
    assert main(["verify", str(folder)]) == 0
    report, of_file = inspect_file(folder), inspect_file(file)
    assert report["metadata"] == {} and report["manifest"] == of_file["manifest"]
    assert report["manifest"]["golden"] == {"state": "logits", "count": 10}
    assert sorted(map(str, report["tensors"])) == sorted(map(str, of_file["tensors"]))


def test_a_part_of_a_folder_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path, dtype="int8")
    with pytest.raises(FormatError, match="model.safetensors is only a part of a model; expected the folder"):
        ViTHybridForImageClassification.from_pretrained(tmp_path / "model.safetensors")
    assert inspect_file(tmp_path / "model.safetensors")["manifest"]["dtype"] == "int8"


def test_transformers_refuses_the_folder(model, tmp_path):
    """Otherwise it would read the integers as weights."""
    model.save_pretrained(tmp_path / "float32")
    transformers.ViTHybridForImageClassification.from_pretrained(tmp_path / "float32")
    for dtype in DTYPES:
        model.save_pretrained(tmp_path / dtype, dtype=dtype)
        with pytest.raises(ValueError, match="File metadata is not .* but nphybrid"):
            transformers.ViTHybridForImageClassification.from_pretrained(tmp_path / dtype)


@pytest.mark.parametrize("source", [{"a": float("nan")}, {"a": {1}}, {"a": "\udcff"}])
def test_a_source_that_json_cannot_hold(model, tmp_path, source):
    for path, file in (tmp_path / "model.h5", "model.h5"), (tmp_path / "folder", "folder/model.safetensors"):
        with pytest.raises(FormatError, match=f"{tmp_path}/{file}: document 'manifest' cannot be written as JSON"):
            save(model, path, source=source, dtype="int8")
        assert not path.exists()


def test_a_folder_is_written_completely_or_not_at_all(model, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("the disk is full")
    monkeypatch.setattr(base, "write_safetensors", fail)
    with pytest.raises(OSError, match="the disk is full"):
        convert(model, tmp_path / "folder", dtype="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, at", [(QUERY, 100), (QUERY + ".scales", 3), ("classifier.bias", 0)])
def test_a_changed_byte_of_a_folder_is_found(model, tmp_path, name, at):
    model.save_pretrained(tmp_path, dtype="int8")
    file = tmp_path / "model.safetensors"
    place = safetensors_header(file)[0][name].begin + at
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(FormatError, match="the checksum does not match: the bytes are damaged"):
        ViTHybridForImageClassification.from_pretrained(tmp_path, engine="reference")
    checks = verify_model(tmp_path)
    assert [(check.found, check.ok) for check in checks] == [(repr(name), False)]


METADATA = {
    "no manifest": ({}, "the manifest in the metadata is None; expected a JSON object"),
    "no JSON": ({"manifest": "{"}, "the manifest"),
    "a list": ({"manifest": "[1]"}, r"the manifest in the metadata is \[1\]; expected a JSON object"),
    "another version": ({"manifest": '{"format": "nphybrid", "version": 2, "dtype": "int8"}'},
                        r"format and version are \('nphybrid', 2\), expected \('nphybrid', 1\)"),
    "another dtype": ({"manifest": '{"format": "nphybrid", "version": 1, "dtype": "int4"}'},
                      "the manifest has the dtype 'int4'"),
}


@pytest.mark.parametrize("name", METADATA)
def test_damaged_metadata(model, tmp_path, name):
    changed, message = METADATA[name]
    model.save_pretrained(tmp_path, dtype="int8")
    file = tmp_path / "model.safetensors"
    write_safetensors(file, read_safetensors(file), {"format": "nphybrid"} | changed)
    with pytest.raises(FormatError, match=f"model.safetensors: .*{message}|{tmp_path}: {message}"):
        ViTHybridForImageClassification.from_pretrained(tmp_path)


def test_metadata_of_another_program(model, tmp_path):
    """Without the manifest, integers are refused, because nothing says what they stand for."""
    model.save_pretrained(tmp_path, dtype="int8")
    file = tmp_path / "model.safetensors"
    write_safetensors(file, read_safetensors(file), {"format": "pt"})
    with pytest.raises(FormatError, match="expected a float type"):
        ViTHybridForImageClassification.from_pretrained(tmp_path, engine="reference")


def damaged(path, change):
    """Change the arrays and the manifest of a file, with right checksums."""
    arrays, documents = read_h5(path)
    change(arrays, documents["manifest"])
    write_h5(path, arrays, documents)
    return path


def replace(name, index, value):
    def change(arrays, manifest):
        arrays[name][index] = value
    return change


INT8 = {
    "minus 128": (replace(QUERY, (1, 2), -128), "query.weight: expected integers from -127 to 127, found -128"),
    "nan": (replace(QUERY + ".scales", 3, np.nan), "query.weight: expected 24 positive scales, found nan"),
    "negative": (replace(QUERY + ".scales", 3, -1), "query.weight: expected 24 positive scales, found -1"),
    "short": (lambda arrays, manifest: arrays.update({QUERY + ".scales": np.ones(23, np.float32)}),
              r"expected 24 positive scales in float32, found an array \[23\]"),
    "integers": (lambda arrays, manifest: arrays.update({QUERY + ".scales": np.ones(24, np.int32)}),
                 r"expected 24 positive scales in float32, found an array \[24\] of int32"),
    "zero": (replace(QUERY + ".factors", 0, 0), "query.weight: expected 24 positive factors"),
    "no scales": (lambda arrays, manifest: arrays.pop(CONV + ".scales"), "conv2.weight: expected .* found no array of"),
    "no factors": (lambda arrays, manifest: arrays.pop(QUERY + ".factors"), "query.weight: expected .* found no array"),
    "more factors": (lambda arrays, manifest: arrays.update({CONV + ".factors": np.ones(12, np.float32)}),
                     r"conv2.weight: expected no factors of a kernel \[3, 3\]"),
    "transposed": (lambda arrays, manifest: arrays.update({QUERY: np.zeros((24, 25), np.int8)}), "has shape"),
    "other scales": (lambda arrays, manifest: arrays.update({"classifier.weight.scales": np.ones(3, np.float32)}),
                     "unexpected: classifier.weight.scales"),
    "a float kernel": (lambda arrays, manifest: arrays.update({QUERY: np.zeros((24, 24), np.float32)}), "unexpected"),
    "a bias": (lambda arrays, manifest: arrays.update({"classifier.bias": np.ones(3, np.int8)}),
               "classifier.bias: expected float32 numbers, because only kernels are narrow, found int8"),
    "a norm": (lambda arrays, manifest: arrays.update({"vit.layernorm.weight": np.ones(24, np.uint16)}),
               "vit.layernorm.weight: expected float32 numbers, because only kernels are narrow, found uint16"),
    "dtype": (lambda arrays, manifest: manifest.update(dtype="int4"), "the manifest has the dtype 'int4'"),
    "no dtype": (lambda arrays, manifest: manifest.pop("dtype"), "expected a float type"),
    "list": (lambda arrays, manifest: manifest.update(dtype=["int8"]), "the manifest has the dtype"),
}


@pytest.mark.parametrize("name", INT8)
def test_damaged_int8(model, tmp_path, name):
    change, message = INT8[name]
    path = tmp_path / "model.h5"
    model.save(path, dtype="int8")
    with pytest.raises(FormatError, match=message):
        ViTHybridForImageClassification.from_pretrained(damaged(path, change), engine="reference")


@pytest.mark.parametrize("engine", ["reference", "numba"])
@pytest.mark.parametrize("layer", ["query", "key", "value"])
def test_one_of_q_k_and_v_is_float32(model, tmp_path, layer, engine):
    """Its factors depend on the original numbers of the other two, which the file does not have."""
    name = QUERY.replace("query", layer)

    def change(arrays, manifest):
        del arrays[name + ".scales"], arrays[name + ".factors"]
        arrays[name] = np.ones((24, 24), np.float32)
    path = tmp_path / "model.h5"
    model.save(path, dtype="int8")
    with pytest.raises(FormatError, match=rf"1 fault:\s*{name}: expected float32 numbers also in .*, found int8"):
        ViTHybridForImageClassification.from_pretrained(damaged(path, change), engine=engine)


def test_a_sum_that_could_be_too_large_is_refused():
    """The same bound holds for a kernel of a file and for a kernel that is rounded."""
    def kernel(rows):
        ones = np.ones((1, rows), np.int8), np.ones(1, np.float32), np.ones(rows, np.float32)
        return Narrow(*ones).kernel(Layout(unsplit, (1, 0)), (rows, 1))
    assert kernel(LONGEST).shape == (LONGEST, 1)
    with pytest.raises(ValueError, match=f"expected at most {LONGEST} products in a sum of int8"):
        kernel(LONGEST + 1)


def test_damaged_bfloat16(model, tmp_path):
    path = tmp_path / "model.h5"
    model.save(path, dtype="bfloat16")
    damaged(path, replace(QUERY, (0, 0), 0x7F80))
    with pytest.raises(FormatError, match="query.weight: expected finite bfloat16 numbers"):
        ViTHybridForImageClassification.from_pretrained(path, engine="reference")


def test_a_changed_integer_is_found_by_the_checks(tmp_path):
    """With a right checksum, only the golden logits can find it."""
    path = tmp_path / "model.h5"
    ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference").save(path, dtype="int8")

    def change(arrays, manifest):
        name = "vit.encoder.layer.0.intermediate.dense.weight"
        arrays[name] = np.roll(arrays[name], 1, 0)
    checks = verify_model(damaged(path, change), engine="reference")
    assert checks[0].ok and not checks[1].ok
