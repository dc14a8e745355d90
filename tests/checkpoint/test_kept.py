"""Packed weights: the same model, bit for bit, as from its file; used for this file only; never used if damaged."""
import copy
import json
import mmap
import os
import pickle
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import (BitForImageClassification, ViTHybridForImageClassification, ViTHybridModel, checkpoint,
                      default_model)
from nphybrid.__main__ import main
from nphybrid.api.load import load
from nphybrid.checkpoint import Narrow, fill
from nphybrid.machine import warmup
from nphybrid.ops import cache, mapped
from nphybrid.params import named_leaves
from nphybrid.tensorfile import SharedFile, Stored, atomic, read_h5, read_safetensors, write_h5, write_safetensors

from checkpoint.test_checkpoint import BIT, CONFIG, logits
from ops.test_mapped import pieces

DTYPES = ["float32", "bfloat16", "int8"]
BIAS = "vit.encoder.layer.0.attention.attention.query.bias"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of the packed weights.  The kernels stay where they are."""
    monkeypatch.setattr(cache, "folders", lambda create=False: iter([tmp_path / "cache"]))
    return tmp_path / "cache"


@pytest.fixture
def model():
    return ViTHybridForImageClassification(CONFIG, engine="reference", seed=1)


@pytest.fixture(params=["h5", "folder"])
def path(request, model, tmp_path):
    """A model in each format that most users have."""
    if request.param == "h5":
        model.save(tmp_path / "model.h5")
        return tmp_path / "model.h5"
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def only_kept(monkeypatch):
    """A function after whose call only packed weights can be loaded."""
    def refuse(*args):
        raise AssertionError("the weights are packed again")
    return lambda: monkeypatch.setattr(fill, "_Row", refuse)


def is_mapped(array):
    """Whether the memory of an array belongs to a mapped file."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array.obj if isinstance(array, memoryview) else array, mmap.mmap)


def uses_kept(model):
    assert (model.kept.path is not None) == is_mapped(model.params.head.bias)
    return model.kept.path is not None


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_model(path, dtype, only_kept):
    expected = load(path, dtype=dtype)
    file, new = warmup.keep_weights(path, dtype)
    assert new and file.name == f"{expected.kept.key}.weights" and expected.kept.path is None
    assert warmup.keep_weights(path, dtype) == (file, False)
    only_kept()
    found = load(path, dtype=dtype)
    leaves, wanted = (named_leaves(model.params) for model in (found, expected))
    assert {name: pieces(leaves[name]) for name in leaves} == {name: pieces(wanted[name]) for name in wanted}
    assert all(is_mapped(leaf.panels if hasattr(leaf, "panels") else leaf) for leaf in leaves.values())
    assert [logits(found) for _ in range(5)] == [logits(expected) for _ in range(5)]         # also with a plan
    assert found.name_or_path == expected.name_or_path and found.files == expected.files
    assert found.kept == (expected.kept.key, file)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_saved_is_the_same(path, dtype, tmp_path):
    """The original convolution kernels are read from the file, with the same SHA-256."""
    expected = load(path, dtype=dtype)
    warmup.keep_weights(path, dtype)
    found = load(path, dtype=dtype)
    assert uses_kept(found) and not uses_kept(expected)
    assert {name: (array.path, array.sha256) for name, array in found.originals.items()} == {
        name: (array.path, array.sha256) for name, array in expected.originals.items()}
    a, b = found.state_dict(), expected.state_dict()
    assert {name: array.tobytes() for name, array in a.items()} == {name: array.tobytes() for name, array in b.items()}
    for again in pickle.loads(pickle.dumps(found)), copy.deepcopy(found):
        assert logits(again) == logits(expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_file_with_narrow_weights(model, dtype, tmp_path, only_kept):
    model.save(tmp_path / "narrow.h5", dtype=dtype)
    expected = load(tmp_path / "narrow.h5")
    warmup.keep_weights(tmp_path / "narrow.h5")
    only_kept()
    found = load(tmp_path / "narrow.h5")
    assert uses_kept(found) and found.dtype == dtype == found.stored_dtype and logits(found) == logits(expected)
    with pytest.raises(ValueError, match="holds weights that were rounded for the dtype"):
        load(tmp_path / "narrow.h5", dtype="float32")


def test_a_bit_and_a_sharded_folder(tmp_path):
    other = BitForImageClassification(BIT, engine="reference", seed=3)
    other.save_pretrained(tmp_path / "bit")
    state = read_safetensors(tmp_path / "bit" / "model.safetensors")
    names = sorted(state)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, part in shards.items():
        write_safetensors(tmp_path / "bit" / shard, {name: state[name] for name in part}, {"format": "pt"})
    (tmp_path / "bit" / "model.safetensors").unlink()
    index = {name: shard for shard, part in shards.items() for name in part}
    (tmp_path / "bit" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    expected = load(tmp_path / "bit")
    warmup.keep_weights(tmp_path / "bit")
    found = load(tmp_path / "bit")
    assert uses_kept(found) and logits(found) == logits(expected)


def test_the_working_folder_may_change(path, model, tmp_path, monkeypatch):
    """The original kernels are read from the file when the model is saved."""
    monkeypatch.chdir(tmp_path)
    warmup.keep_weights(path)
    found = load(path.name)
    assert uses_kept(found)
    monkeypatch.chdir("/")
    assert found.state_dict().keys() == model.state_dict().keys()


# ---------------------------------------------------------------- for this file only

def test_every_part_of_the_key(path, model):
    """A Stored that differs in one field, another name, shape or option, another state of the file, other sources."""
    array = Stored("a", "b", (3, 2), np.dtype("f4"), model, None, SharedFile(path / "model.safetensors" if path.is_dir()
                                                                          else path))
    def key(arrays=None, shapes=model.shapes, option=1, **fields):
        return checkpoint.key_of(arrays or {"name": replace(array, **fields)}, shapes, option)
    other = SharedFile(default_model())
    keys = [key(), key({"other": array}), key(shapes=model.shapes._replace(head=None)), key(option=2), key(name="c"),
            key(shape=(2, 3)), key(dtype=np.dtype("f8")), key(sha256="0" * 64), key(sha256="1" * 64), key(file=other)]
    assert len(set(keys)) == len(keys) and key() == keys[0] == key(path="c", read=None)
    assert key(sha256="0" * 64) == key(sha256="0" * 64, file=other)
    assert key({"name": np.zeros(3)}) is None and key(file=None) is None
    assert key({"name": Narrow(array)}) == keys[0] != key({"name": Narrow(array, replace(array, name="scales"))})

def test_other_options_are_other_weights(path, model):
    warmup.keep_weights(path)
    assert uses_kept(ViTHybridForImageClassification.from_pretrained(path))
    keys = {load(path, dtype=dtype).kept.key for dtype in DTYPES}
    keys |= {load(path, precision="high").kept.key, ViTHybridModel.from_pretrained(path).kept.key,
             load(path, layer_norm_eps=1e-3).kept.key, load(path, bare=True, add_pooling_layer=False).kept.key}
    assert len(keys) == 6 and None not in keys                # the last class has the same arrays as ViTHybridModel
    assert load(path, engine="reference").kept is None
    assert ViTHybridForImageClassification(CONFIG, state_dict=model.state_dict()).kept is None
    assert load(path, image_size=48).kept is None         # the positions are computed
    with pytest.warns(UserWarning, match="random"):
        fresh = ViTHybridForImageClassification.from_pretrained(path, num_labels=5, ignore_mismatched_sizes=True)
    assert fresh.kept is None and fresh.params.head.bias.shape == (5,)


def test_other_arrays_replace_kept_weights(path, model):
    warmup.keep_weights(path)
    found = load(path)
    found.load_state_dict(ViTHybridForImageClassification(CONFIG, seed=2).state_dict())
    assert found.kept is None and not is_mapped(found.params.head.bias)
    assert logits(found) == logits(ViTHybridForImageClassification(CONFIG, seed=2))
    assert logits(load(path)) == logits(ViTHybridForImageClassification(CONFIG, state_dict=model.state_dict()))


def test_a_changed_weight_in_a_folder(model, tmp_path):
    """In place, with the same size and the same time of the last change: only st_ctime differs."""
    model.save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    warmup.keep_weights(tmp_path / "model")
    before, time = load(tmp_path / "model"), weights.stat().st_mtime_ns
    assert uses_kept(before)
    content = weights.read_bytes()
    with open(weights, "r+b") as file:
        file.seek(len(content) - 400)
        file.write(b"\x3f" * 400)
    os.utime(weights, ns=(time, time))
    assert weights.stat().st_mtime_ns == time and len(content) == weights.stat().st_size
    after = load(tmp_path / "model")
    assert not uses_kept(after) and logits(after) != logits(before)


def test_a_changed_weight_in_an_h5_file(model, tmp_path):
    path = tmp_path / "model.h5"
    model.save(path)
    warmup.keep_weights(path)
    before = load(path)
    arrays, documents = read_h5(path)
    write_h5(path, {**arrays, BIAS: arrays[BIAS] + np.float32(1)}, documents)
    after = load(path)
    assert uses_kept(before) and not uses_kept(after) and logits(after) != logits(before)


def test_a_copy_of_an_h5_file_is_the_same_model(model, tmp_path, only_kept):
    """Its arrays are known by their SHA-256; a folder is known by its place."""
    model.save(tmp_path / "model.h5")
    warmup.keep_weights(tmp_path / "model.h5")
    shutil.copy(tmp_path / "model.h5", tmp_path / "copy.h5")
    (tmp_path / "model.h5").unlink()
    only_kept()
    found = load(tmp_path / "copy.h5")
    assert found.originals and {array.path for array in found.originals.values()} == {str(tmp_path / "copy.h5")}
    assert len(found.state_dict()) == len(model.state_dict())


def test_a_copy_of_a_folder_is_another_model(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    warmup.keep_weights(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    assert uses_kept(load(tmp_path / "model")) and not uses_kept(load(tmp_path / "copy"))


# ---------------------------------------------------------------- damage and obstacles

@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:100], lambda content: content[:-100],
                                    lambda content: bytes(len(content)),
                                    lambda content: content[:-1000] + bytes(1000)])
def test_damaged_weights_are_not_used(path, damage):
    expected = logits(load(path))
    file, _ = warmup.keep_weights(path)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(RuntimeWarning, match=f"^{file} is not used, because it is damaged .* `nphybrid warmup") as told:
        found = load(path)
    assert len(told) == 1 and not uses_kept(found) and logits(found) == expected
    with pytest.warns(RuntimeWarning, match="is not used"):
        assert warmup.keep_weights(path) == (file, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert uses_kept(load(path)) and logits(load(path)) == expected


def test_a_damaged_copy_is_not_the_last_word(path, folder, tmp_path, monkeypatch):
    """As for kernels, the second folder is searched too."""
    file, _ = warmup.keep_weights(path)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    file.write_bytes(b"")
    monkeypatch.setattr(cache, "folders", lambda create=False: iter([folder, other]))
    with pytest.warns(RuntimeWarning, match="is not used"):
        assert uses_kept(load(path))


def test_a_folder_that_cannot_be_written(path, folder):
    folder.write_text("")
    with pytest.raises(OSError, match=f"^the packed weights of {path} cannot be written: .*{folder}"):
        warmup.keep_weights(path)
    assert not uses_kept(load(path))


def test_the_second_folder_is_used(path, folder, tmp_path, monkeypatch):
    """Also if the first folder can be written, but the write fails."""
    monkeypatch.setattr(cache, "folders", lambda create=False: iter([folder, tmp_path / "second"]))
    write = mapped.write

    def full(path, *args):
        if path.parent == folder:
            raise OSError("no space left")
        write(path, *args)
    monkeypatch.setattr(mapped, "write", full)
    file, new = warmup.keep_weights(path)
    assert new and file.parent == tmp_path / "second" and uses_kept(load(path))


def test_a_folder_where_the_file_should_be(path, folder):
    key = load(path).kept.key
    (folder / f"{key}.weights").mkdir(parents=True)
    assert not uses_kept(load(path)) and cache.files(cache.WEIGHTS) == []
    with pytest.raises(OSError, match="not a regular file"):
        warmup.keep_weights(path)


def test_the_file_of_the_model_is_still_checked(path, model, tmp_path):
    """Kept weights do not hide that a file is gone, or is no model."""
    warmup.keep_weights(path)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError):
        load(path)


# ---------------------------------------------------------------- the command line

def test_warmup_doctor_and_prune(model, tmp_path, folder, capsys, monkeypatch):
    model.save(tmp_path / "a.h5")
    ViTHybridForImageClassification(CONFIG, engine="reference", seed=2).save(tmp_path / "b.h5")
    # The kernels are not in this test's folder.
    monkeypatch.setattr(warmup, "compile_kernels", lambda training: (0, 0.0))
    monkeypatch.setattr(warmup, "is_warm", lambda: True)
    monkeypatch.setattr(cache, "PRIVATE_TOO", cache.PRIVATE_TOO)          # with NUMBA_CACHE_DIR, `warmup` changes it
    for name, options in ("a.h5", ()), ("a.h5", ("--dtype", "int8")), ("b.h5", ()):
        assert main(["warmup", "--model", str(tmp_path / name), *options]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[1].startswith("stored the packed weights: 0.") and str(folder) in out[1], out
        assert main(["warmup", "--model", str(tmp_path / name), *options]) == 0
        assert capsys.readouterr().out.splitlines()[1].startswith("the packed weights are already stored: 0.")
    assert len(cache.files(cache.WEIGHTS)) == 3
    leftover = folder / f".some.weights.{atomic._place()}-999999999-0123abcd.tmp"
    leftover.write_bytes(b"")
    main(["doctor"])
    out = capsys.readouterr().out
    for name, dtype in ("a.h5", "float32"), ("a.h5", "int8"), ("b.h5", "float32"):
        assert out.count(f"packed weights of {tmp_path / name}, {dtype}, 0.") == 1
    assert main(["warmup", "--model", str(tmp_path / "a.h5"), "--prune"]) == 0
    out = capsys.readouterr().out
    assert out.count("deleted ") == 2 and len(cache.files(cache.WEIGHTS)) == 1 and not leftover.exists()
    assert uses_kept(load(tmp_path / "a.h5")) and not uses_kept(load(tmp_path / "b.h5"))
    assert main(["warmup", "--prune"]) == 0 and cache.files(cache.WEIGHTS) == []
    assert main(["warmup", "--model", "R50+ViT-B/16"]) == 3 and "is a preset" in capsys.readouterr().err
    monkeypatch.setattr(warmup, "compile_kernels", lambda training: pytest.fail("it compiled"))
    assert main(["warmup", "--model", str(tmp_path / "none.h5")]) == 3
    assert "none.h5: no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["warmup", "--dtype", "int8"])


def test_precision_is_passed_on(path, monkeypatch):
    monkeypatch.setattr(warmup, "compile_kernels", lambda training: (0, 0.0))
    monkeypatch.setattr(warmup, "is_warm", lambda: True)
    monkeypatch.setattr(cache, "PRIVATE_TOO", cache.PRIVATE_TOO)
    assert main(["warmup", "--model", str(path), "--precision", "high"]) == 0
    assert uses_kept(load(path, precision="high")) and not uses_kept(load(path))


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_doctor_reports_damaged_and_open_files(path, folder, capsys):
    file, _ = warmup.keep_weights(path)
    file.chmod(0o646)
    main(["doctor"])
    assert f"every user of this computer can write {file}, and so can change your results" in capsys.readouterr().out
    file.chmod(0o644)
    file.write_bytes(b"")
    main(["doctor"])
    assert f"PROBLEM  the packed weights {file} are damaged" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_private_model_stays_private(model, tmp_path):
    model.save(tmp_path / "model.h5")
    (tmp_path / "model.h5").chmod(0o640)
    file, _ = warmup.keep_weights(tmp_path / "model.h5")
    assert file.stat().st_mode & 0o777 == 0o640


def test_classify_uses_kept_weights(tmp_path, only_kept, capsys):
    arguments = ["classify", "examples/images/cat.png", "--format", "json"]
    assert main(arguments) == 0
    before = capsys.readouterr().out
    warmup.keep_weights(default_model())
    only_kept()
    assert main(arguments) == 0 and capsys.readouterr().out == before
