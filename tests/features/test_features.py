"""Features: every state and pool, every format, interrupted runs and added pictures."""
import io
import itertools
import json
import os
import shutil
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from nphybrid import (BitBackbone, BitConfig, BitForImageClassification, BitModel, FormatError, ViTConfig,
                      ViTForImageClassification, ViTHybridConfig, ViTHybridForImageClassification, ViTHybridModel,
                      checkpoint, default_model)
from nphybrid.__main__ import main
from nphybrid.api import load
from nphybrid.api.extractor import extractor
from nphybrid.batch import resume
from nphybrid.batch.run import Row
from nphybrid.config import Config
from nphybrid.features import files, writer
from nphybrid.features.contents import Contents
from nphybrid.tensorfile import read_h5, write_h5, write_json

pytestmark = pytest.mark.slow

SMALL = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, num_labels=5)
BACKBONE = dict(layer_type="bottleneck", depths=[1, 2], hidden_sizes=[16, 24], embedding_size=8, num_groups=2,
                global_padding="same", embedding_dynamic_padding=True, out_features=["stage2"])
BIT = BitConfig(embedding_size=8, hidden_sizes=[32, 64], depths=[1, 2], num_groups=4, num_labels=5)
HYBRID = ViTHybridConfig(image_size=32, backbone_config=BACKBONE, **SMALL)
X = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)


def built(kind, config, **options):
    return kind(config, seed=3, engine="reference", **options)


MODELS = {
    "hybrid": built(ViTHybridForImageClassification, HYBRID),
    "bare hybrid": built(ViTHybridModel, HYBRID),
    "plain": built(ViTForImageClassification, ViTConfig(image_size=32, **SMALL)),
    "BiT": built(BitForImageClassification, BIT),
    "bare BiT": built(BitModel, BIT),
    "backbone": built(BitBackbone, BIT),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_state_and_pool_by_the_trace(name):
    """Each state of the forward pass: whole, its first token, and its mean, computed here in float64."""
    model = MODELS[name]
    trace, tokens = model.trace(X), model.network_config.tokens if model.network_config.blocks else None
    for state, expected in trace.items():
        if state.endswith("weights"):
            continue
        found = extractor(model, X[:1], state, "none")
        values = found.compute(X)
        assert np.array_equal(values, expected) and values.dtype == np.float32, state
        assert found.shape == expected.shape[1:] and found[:2] == (state, "none")
        if expected.ndim > 2:
            whole = expected.ndim == 3 and expected.shape[1] == tokens
            body = expected[:, 1:] if whole else expected
            mean = body.astype(np.float64).mean(tuple(range(1, expected.ndim - 1)))
            assert np.allclose(extractor(model, X[:1], state, "mean").compute(X), mean, rtol=1e-6, atol=2e-6)
            assert extractor(model, X[:1], state).pool == ("token" if whole else "mean")
            if whole:
                assert np.array_equal(extractor(model, X[:1], state, "token").compute(X), expected[:, 0])


@pytest.mark.parametrize("name", ["hybrid", "plain", "BiT"])
def test_by_default_it_is_what_the_head_reads(name):
    """The kernel and bias of the model's classifier compute the logits from the features."""
    model = MODELS[name]
    head = model.learned().head
    found = extractor(model, X[:1])
    logits = found.compute(X).astype(np.float64) @ head.kernel + head.bias
    assert np.allclose(logits, model(X).logits, rtol=0, atol=1e-5) and len(found.shape) == 1


@pytest.mark.parametrize("pool, norm_pooled, pre_logits, expected", [
    ("mean", False, 0, ("norm", "mean")), ("mean", True, 0, ("pool_norm", "none")),
    ("token", False, 24, ("pre_logits", "none")), ("token", False, 0, ("norm", "token"))])
def test_what_heads_of_other_dialects_read(pool, norm_pooled, pre_logits, expected):
    sizes = Config(pool=pool, norm_pooled=norm_pooled, pre_logits=pre_logits)
    assert checkpoint.head_reads(sizes) == expected


def test_stages_by_their_number():
    found = extractor(MODELS["hybrid"], X[:1], "stages.1", "none")
    assert found.state == "stages.1.1" and found.shape == (4, 4, 24)


@pytest.mark.parametrize("state, pool, told", [
    ("block.0", None, "state is 'block.0'; expected the name of a state, such as pixel_values, stem, stages.0.0"),
    ("blocks.0.weights", None, "state is 'blocks.0.weights'; expected the name of a state, such as pixel_values"),
    ("stem", "token", "pool is 'token', but the state stem of shape .* has no class token; expected one of mean, none"),
    ("logits", "mean", "no patches"), ("norm", "max", "expected one of token, mean, none")])
def test_what_cannot_be_had(state, pool, told):
    with pytest.raises(ValueError, match=told):
        extractor(MODELS["hybrid"], X[:1], state, pool)


# ---------------------------------------------------------------- files

MANIFEST = {"model": "ab" * 32, "state": "norm", "pool": "token", "processor": {"size": 32}}
NAMES = ["a.png", 'q"u,o\nte.png', os.fsdecode(b"\xff.png"), "a.png"]


def contents(rows=3, shape=(5,)):
    """Features of the pictures 0, 2 and 3 of a list of 4."""
    values = np.random.default_rng(1).standard_normal((rows, *shape)).astype(np.float32)
    return Contents(values, np.array([0, 2, 3][:rows]), NAMES[:rows + 1], {1: "q: is\nbad"}, MANIFEST)


@pytest.fixture(params=files.SUFFIXES)
def path(request, tmp_path):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return str(tmp_path / f"x{request.param}")


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 4)], ids=str)
def test_what_is_written_is_read(path, shape):
    written = contents(shape=shape)
    files.write(path, written)
    found = files.contents(path)
    assert np.array_equal(found.values, written.values) and found.values.dtype == np.float32
    assert found.positions.tolist() == [0, 2, 3] and found.names == NAMES and found.errors == written.errors
    assert MANIFEST.items() <= found.manifest.items()
    assert files.read(path)[1:] == ([NAMES[0], NAMES[2], NAMES[3]], "ab" * 32, "norm", "token")
    files.write(path, written)
    assert np.array_equal(files.read(path).values, written.values), "replaced"


def test_no_features_at_all(path):
    empty = np.zeros((0, 5), np.float32)
    files.write(path, Contents(empty, np.array([], int), ["a"], {0: "bad"}, MANIFEST))
    assert files.read(path).values.shape == (0, 5) and files.contents(path).errors == {0: "bad"}


def test_a_message_that_is_no_text(path):
    files.write(path, contents()._replace(errors={1: os.fsdecode(b"\xff.png: bad")}))
    assert files.contents(path).errors[1].endswith(".png: bad")


def test_h5_is_read_by_anyone(tmp_path):
    files.write(tmp_path / "x.h5", contents())
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["features"].shape == (3, 5) and file["features"].dtype == "<f4"
        assert bytes(file["paths"][:]).split(b"\0")[:-1] == [os.fsencode(name) for name in NAMES]
        assert json.loads(bytes(file["nphybrid/manifest"][:]))["state"] == "norm"


def test_npy_is_read_by_anyone(tmp_path):
    files.write(tmp_path / "x.npy", contents())
    assert np.load(tmp_path / "x.npy").shape == (3, 5)
    rows = [json.loads(line) for line in open(tmp_path / "x.npy.jsonl")]
    assert [row["path"] for row in rows] == NAMES and ["error" in row for row in rows] == [False, True, False, False]


@pytest.mark.parametrize("change, told", [
    (dict(positions=np.array([0, 2])), r"found features of dtype float32 and shape \(3, 5\) for 2 pictures; expected "
                                       "float32 and one row for each picture$"),
    (dict(errors={}),
     "found 3 features and 0 errors; expected either features or an error for each of the 4 pictures$"),
    (dict(errors={2: "x"}),
     "found 3 features and 1 errors; expected either features or an error for each of the 4 pictures$"),
    (dict(manifest={}), "the value of model in the manifest is None; expected a string$"),
    (dict(values=np.zeros((3,), np.float32)), r"shape \(3,\) for 3 pictures; expected float32 and one row for each")])
def test_contradictions_are_refused(tmp_path, change, told):
    files.write(tmp_path / "x.h5", contents()._replace(**change))
    with pytest.raises(FormatError, match=told):
        files.read(tmp_path / "x.h5")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FormatError, match="is not a feature file; expected the array 'features', which is missing$"):
        files.read(default_model())
    with pytest.raises(ValueError, match="is not the name of a feature file; expected a name that ends in .h5, "
                                         ".npy, .parquet$"):
        files.read(tmp_path / "x.txt")
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    with pytest.raises(FileNotFoundError, match="run.json"):
        files.read(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix, damage, told", [
    (".h5", lambda arrays, documents: documents.update(manifest=[1]), "AttributeError"),
    (".h5", lambda arrays, documents: documents.update(errors={"0": "x"}), "TypeError|ValueError"),
    (".h5", lambda arrays, documents: documents.update(errors=7), "TypeError"),
    (".h5", lambda arrays, documents: arrays.update(positions=np.float64([0, 2, 3])), "positions of dtype float64"),
    (".h5", lambda arrays, documents: arrays.update(features=np.float32(1)), "shape|TypeError")])
def test_contents_of_another_kind_are_refused(tmp_path, suffix, damage, told):
    files.write(tmp_path / "x.h5", contents())
    arrays, documents = read_h5(tmp_path / "x.h5")
    damage(arrays, documents)
    write_h5(tmp_path / "x.h5", arrays, documents)
    with pytest.raises(FormatError, match=f"x.h5.*({told})"):
        files.read(tmp_path / "x.h5")


def test_an_npy_file_of_another_kind_is_refused(tmp_path):
    files.write(tmp_path / "x.npy", contents())
    good = (tmp_path / "x.npy").read_bytes()
    for bad in (b"", b"junk", good[:-1]):
        (tmp_path / "x.npy").write_bytes(bad)
        with pytest.raises(FormatError, match="x.npy: expected a feature file that nphybrid wrote, found other"):
            files.read(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(good)
    (tmp_path / "x.npy.jsonl").write_text(json.dumps({"position": 0, "path": 7}) + "\n")
    with pytest.raises(FormatError, match="x.npy.jsonl: line 1 is not a row that nphybrid writes"):
        files.read(tmp_path / "x.npy")


def test_a_parquet_file_without_the_shape_is_refused(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    files.write(tmp_path / "x.parquet", contents())
    table = parquet.read_table(tmp_path / "x.parquet")
    manifest = json.loads(table.schema.metadata[b"nphybrid"])
    del manifest["shape"]
    parquet.write_table(table.replace_schema_metadata({"nphybrid": json.dumps(manifest)}), tmp_path / "x.parquet")
    assert arrow.__version__
    with pytest.raises(FormatError, match="x.parquet: expected .*KeyError: 'shape'"):
        files.read(tmp_path / "x.parquet")


def test_damage_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    files.write(path, contents())
    data = bytearray(path.read_bytes())
    data[data.index(contents().values.tobytes()) + 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match="checksum"):
        files.read(path)


# ---------------------------------------------------------------- the folder of an unfinished run

RUN = {"shape": [2], "list": "x", "pictures": 7}


def some(count):
    """Rows of two numbers, every third an error."""
    return [Row(i, f"{i}.png", None, ValueError("bad")) if i % 3 == 1 else
            Row(i, f"{i}.png", np.float32([i, -i]), None) for i in range(count)]


def test_cut_at_every_byte_it_goes_on_to_the_same_file(tmp_path):
    """For every length of the two files in the folder at which the features are written before their row."""
    path, rows = str(tmp_path / "x.npy"), some(7)
    writer.begin_folder(path, RUN)
    with writer.writer(path, (2,)) as write:
        for row in rows:
            write(row)
    whole = {name: open(f"{path}.part/{name}", "rb").read() for name in ("features", "rows.jsonl")}
    for length in range(len(whole["rows.jsonl"]) + 1):
        good = sum(row.error is None for row in rows[:whole["rows.jsonl"][:length].count(b"\n")])
        for extra in (0, 3, 8):
            for name, size in (("rows.jsonl", length), ("features", 8 * good + extra)):
                with open(f"{path}.part/{name}", "wb") as file:
                    file.write(whole[name][:size])
            done, failed = writer.continue_folder(path, RUN)
            assert failed == sum(row.error is not None for row in rows[:done])
            with writer.writer(path, (2,)) as write:
                for row in rows[done:]:
                    write(row)
            assert {name: open(f"{path}.part/{name}", "rb").read() for name in whole} == whole
    found = writer.finish(path, RUN, MANIFEST)
    assert found.values.tolist() == [[0, 0], [2, -2], [3, -3], [5, -5], [6, -6]] and not os.path.exists(f"{path}.part")
    assert files.contents(path).positions.tolist() == [0, 2, 3, 5, 6]


def test_features_that_were_lost_are_noticed(tmp_path):
    path = str(tmp_path / "x.npy")
    writer.begin_folder(path, RUN)
    with writer.writer(path, (2,)) as write:
        for row in some(7):
            write(row)
    os.truncate(f"{path}.part/features", 16)
    with pytest.raises(ValueError, match="has 16 bytes; expected at least 32. Remove the folder .* to begin again.$"):
        writer.continue_folder(path, RUN)


def test_another_shape_costs_its_own_row(tmp_path):
    path = str(tmp_path / "x.npy")
    writer.begin_folder(path, RUN)
    with writer.writer(path, (2,)) as write:
        row = write(Row(0, "a.png", np.zeros((3,), np.float32), None))
    assert row.result is None and str(row.error) == (
        "a.png: the features have the shape (3,); expected (2,). Pictures of different sizes need pool='token' or "
        "pool='mean'.")


@pytest.mark.parametrize("disk, replace, resumed, appended", [
    ("nothing", (3, 0, False), (3, 0, False), (3, 0, False)),
    ("a file", (3, 0, False), (3, 0, True), (6, 3, False)),
    ("an unfinished folder", (3, 0, False), (3, 1, False), (3, 1, False)),
    ("a finished folder", (3, 0, False), (3, 0, True), (3, 0, True))])
def test_what_a_run_has_to_do_by_what_is_on_the_disk(disk, replace, resumed, appended, tmp_path):
    """The table of features/writer.py, for the same run: pictures in all, pictures done, whether nothing is left.

    Of an unfinished folder with two pictures the last one is computed again.
    """
    for mode, expected in ("replace", replace), ("resume", resumed), ("append", appended):
        path, rows = str(tmp_path / f"{mode}.npy"), some(3)
        sources = [row.source for row in rows]
        if disk != "nothing":
            begun = writer.start(path, sources, (2,), MANIFEST)
            with writer.writer(path, (2,)) as write:
                for row in rows[:2] if disk == "an unfinished folder" else rows:
                    write(row)
            if disk == "a file":
                writer.finish(path, begun.run, MANIFEST)
            elif disk == "a finished folder":
                write_json(f"{path}.part/manifest.json", {**MANIFEST, "run": begun.run})
        found = writer.start(path, sources, (2,), MANIFEST, mode)
        assert (len(found.sources), found.done, found.finished is not None) == expected, mode
        assert not found.discarded and found.failed == (found.done > 1)


def test_the_folder_of_another_append_is_discarded(tmp_path):
    path = str(tmp_path / "x.npy")
    writer.start(path, ["a.png"], (2,), MANIFEST, "append")
    assert writer.start(path, ["b.png"], (2,), MANIFEST, "append").discarded


def embed(*args):
    return main(["embed", *map(str, args), "--quiet"])


def test_embed_and_add(path, cat, tmp_path, capsys):
    assert embed(cat, "nothing.png", "-o", path) == 1
    assert capsys.readouterr().out == f"{path}: 1x192 float32, norm, pool token; 1 of 2 pictures failed\n"
    assert embed(cat, cat, "-o", path, "--append") == 1
    found = files.contents(path)
    assert found.names == [str(cat), "nothing.png", str(cat), str(cat)] and found.positions.tolist() == [0, 2, 3]
    assert (found.values == found.values[0]).all() and found.manifest["model"] == checkpoint.sha256(default_model())
    assert embed(cat, "-o", path, "--append", "--state", "blocks.2") == 3
    assert (f"no features can be added to {path}, because its features were computed with another state"
            in capsys.readouterr().err)
    assert files.contents(path).names == found.names
    assert embed(cat, "-o", path) == 0
    assert files.contents(path).names == [str(cat)]


def test_what_is_complete_is_not_computed_again(cat, tmp_path, monkeypatch, capsys):
    path = str(tmp_path / "x.h5")
    assert embed(cat, "nothing.png", "-o", path, "--resume") == 1
    before = os.stat(path)
    assert embed(cat, "nothing.png", "-o", path, "--resume") == 1
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns and capsys.readouterr().out.count("1x192") == 2
    for other, told in (([cat], "another list"), ([cat, "nothing.png", "--state", "blocks.2"], "another state"),
                        ([cat, "nothing.png", "--pool", "mean"], "another pool"),
                        ([cat, "nothing.png", "--dtype", "float64", "--engine", "reference"], "another dtype")):
        assert embed(*other, "-o", path, "--resume") == 3
        assert told.removeprefix("another ") in capsys.readouterr().err
    assert files.contents(path).names == [str(cat), "nothing.png"]


def test_pictures_that_are_added_a_second_time_are_told(cat, tmp_path, capsys):
    path, copy = tmp_path / "x.h5", tmp_path / "copy.png"
    shutil.copy(cat, copy)
    line = ["embed", str(cat), str(copy), "-o", str(path), "--append"]
    assert main(line[:2] + line[3:]) == 0 and capsys.readouterr().err == ""
    assert main(line) == 0
    assert capsys.readouterr().err == (f"nphybrid: {path} already has 1 of 2 pictures, which are added a second time: "
                                       f"'{cat}'\n")


# ---------------------------------------------------------------- added to, and interrupted

class Killed(BaseException):
    """Raised in place of a SIGKILL at a certain line; tests/batch/test_folders.py sends real ones, at random."""


@pytest.fixture
def begun(path, cat, tmp_path):
    """A file of features of three pictures, two of which no longer exist, and one that is to be added."""
    pictures = [str(tmp_path / f"{i}.png") for i in range(4)]
    for picture in pictures:
        shutil.copy(cat, picture)
    assert embed(*pictures[:3], "-o", path) == 0
    for picture in pictures[1:3]:
        os.remove(picture)
    return path, pictures, files.contents(path).values.tobytes()


def holds_all(path, pictures, before):
    found = files.contents(path)
    return (found.names == pictures and not found.errors and found.values[:3].tobytes() == before
            and not os.path.exists(f"{path}.part"))


@pytest.mark.parametrize("place", ["begun", "seeding", "computing", "writing", "written", "removing"])
def test_killed_while_it_adds_it_loses_nothing(place, begun, monkeypatch):
    """The features of pictures that no longer exist are kept, and no picture is added twice."""
    path, pictures, before = begun

    def killed(*args):
        raise Killed

    def after(function, count):
        """The function for the first `count` calls, then `killed`."""
        calls = itertools.count()
        return lambda *args: function(*args) if next(calls) < count else killed()
    if place == "begun":
        monkeypatch.setattr(resume, "write_json", killed)
    if place == "seeding":
        monkeypatch.setattr(writer, "with_shape", after(writer.with_shape, 2))
    if place == "computing":
        monkeypatch.setattr(writer, "with_shape", after(writer.with_shape, 3))
    if place == "writing":
        monkeypatch.setattr(files, "write", killed)
    if place == "written":
        monkeypatch.setattr(os, "rename", killed)
    if place == "removing":
        remove = shutil.rmtree

        def half(folder, **options):
            if os.path.exists(f"{folder}/manifest.json"):
                os.remove(f"{folder}/rows.jsonl.run.json")
                killed()
            remove(folder, **options)
        monkeypatch.setattr(shutil, "rmtree", half)
    with pytest.raises(Killed):
        embed(pictures[3], "-o", path, "--append")
    monkeypatch.undo()
    if place == "removing":               # the last step: the file is complete, and would be added to again
        assert holds_all(path, pictures, before)
        return
    assert embed(pictures[3], "-o", path, "--append") == 0
    assert holds_all(path, pictures, before)
    assert embed(pictures[3], "-o", path, "--append") == 0
    assert holds_all(path, [*pictures, pictures[3]], before)


def test_another_list_is_added_after_a_kill(begun, monkeypatch):
    path, pictures, before = begun
    monkeypatch.setattr(files, "write", lambda *args: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        embed(pictures[3], "-o", path, "--append")
    monkeypatch.undo()
    assert embed(pictures[0], pictures[0], "-o", path, "--append") == 0
    assert holds_all(path, [*pictures, pictures[0], pictures[0]], before)


def test_another_picture_on_stdin_is_another(begun, monkeypatch):
    """The name of both is "-"."""
    path, pictures, before = begun

    def add(picture):
        with open(picture, "rb") as file:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
            return embed("-", "-o", path, "--append")
    with monkeypatch.context() as patch:
        patch.setattr(files, "write", lambda *args: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            add(pictures[0])
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(pictures[1])
    assert add(pictures[1]) == 0
    assert holds_all(path, [*pictures[:3], "-", "-"], before)
    values = files.contents(path).values
    assert (values[3] == values[0]).all() and (values[4] != values[0]).any()


def test_features_that_were_lost_say_how_to_go_on(begun, monkeypatch, capsys):
    path, pictures, before = begun
    with monkeypatch.context() as patch:
        patch.setattr(writer, "finish", lambda *args: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            embed(pictures[3], "-o", path, "--append")
    os.truncate(f"{path}.part/features", 100)
    assert embed(pictures[3], "-o", path, "--append") == 3
    assert f"Remove the folder {path}.part to begin again." in capsys.readouterr().err
    shutil.rmtree(f"{path}.part")
    assert embed(pictures[3], "-o", path, "--append") == 0
    assert holds_all(path, pictures, before)


def test_a_full_disk_costs_no_features(begun, monkeypatch, capsys):
    """If the new file cannot be written, the old one is kept, and no feature has to be computed again."""
    path, pictures, before = begun
    fsync, writes = os.fsync, []

    def full(file):
        writes.append(file)
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    assert embed(pictures[3], "-o", path, "--append") == 3 and writes
    monkeypatch.setattr(os, "fsync", fsync)
    assert "No space left" in capsys.readouterr().err
    # For .npy the old file is removed first.
    assert path.endswith(".npy") or files.contents(path).names == pictures[:3]
    assert embed(pictures[3], "-o", path, "--append") == 0
    assert holds_all(path, pictures, before)


@pytest.mark.parametrize("key, value", [("dtype", "float64"), ("precision", "high"), ("engine", "reference"),
                                        ("config", "0" * 64), ("processor", {"size": 32}), ("model", "0" * 64)])
def test_features_of_another_kind_are_not_added_to(key, value, cat, tmp_path, capsys):
    path = str(tmp_path / "x.h5")
    assert embed(cat, "-o", path) == 0
    found = files.contents(path)
    files.write(path, found._replace(manifest={**found.manifest, key: value}))
    before = open(path, "rb").read()
    assert embed(cat, "-o", path, "--append") == 3
    assert (f"no features can be added to {path}, because its features were computed with another {key}"
            in capsys.readouterr().err)
    assert open(path, "rb").read() == before and not os.path.exists(f"{path}.part")


def test_parquet_without_its_package_is_refused_before_anything_is_computed(cat, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(load, "load", None)
    assert embed(cat, "-o", tmp_path / "x.parquet") == 3
    assert ".parquet files need the package pyarrow: pip install pyarrow" in capsys.readouterr().err


def test_append_and_resume_are_two_things(cat, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        embed(cat, "-o", tmp_path / "x.h5", "--append", "--resume")
    assert ("nphybrid embed: error: --append and --resume cannot be combined. To continue an interrupted --append, "
            "repeat its command.\n") in capsys.readouterr().err and not os.listdir(tmp_path)


@pytest.mark.parametrize("args, told", [
    (["x.png", "-o", "x.txt"], "ends in .h5"), (["x.png", "-o", "nowhere/x.h5"], "nowhere does not exist"),
    (["x.png", "-o", "x.h5", "--state", "nothing"], "state is 'nothing'; expected the name of a state, such as ")])
def test_refusals(args, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert embed(*args) == 3
    assert told in capsys.readouterr().err and os.listdir() == []
