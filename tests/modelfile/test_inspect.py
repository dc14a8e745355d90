"""`nphybrid inspect`: what a file holds, told without reading an array; against the bytes themselves."""
import hashlib
import io
import json
import math
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from nphybrid import FormatError, ViTHybridForImageClassification, default_model, tensorfile
from nphybrid.__main__ import main
from nphybrid.checkpoint import Head, hub, write_head
from nphybrid.features import files
from nphybrid.features.contents import Contents
from nphybrid.modelfile.inspect import format_text, inspect_file
from nphybrid.tensorfile import read_h5, write_h5, write_json, write_safetensors

ARRAYS = {"blocks.0.attn.qkv.weight": np.arange(6, dtype=np.float16).reshape(2, 3),
          "patch_embed.proj.weight": np.ones((1, 5), np.float32), "steps": np.int64(3)}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def weights(tmp_path):
    """A small safetensors file."""
    write_safetensors(tmp_path / "w.safetensors", ARRAYS, {"format": "pt"})
    return tmp_path / "w.safetensors"


@pytest.fixture(scope="module")
def model():
    return ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")


# ---------------------------------------------------------------- the kinds of files

def test_text_of_a_safetensors_file(weights, capsys):
    assert main(["inspect", str(weights)]) == 0
    assert capsys.readouterr().out == f"""\
file     {weights}
         safetensors, {weights.stat().st_size} bytes
         sha256 {sha256(weights)}
dialect  timm vit, by patch_embed.proj.weight
format   pt

tensor                    dtype    shape  bytes
steps                     int64       ()      8
patch_embed.proj.weight   float32    1x5     20
blocks.0.attn.qkv.weight  float16    2x3     12

3 tensors, 12 parameters, 40 bytes
"""


def test_json_of_a_safetensors_file(weights, capsys):
    assert main(["inspect", str(weights), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == [{"path": str(weights), "kind": "safetensors", "bytes": weights.stat().st_size,
                               "sha256": sha256(weights)}]
    assert found["totals"] == {"tensors": 3, "parameters": 12, "bytes": 40}
    assert found["dialect"] == "timm vit" and found["anchor"] == "patch_embed.proj.weight"
    assert found["metadata"] == {"format": "pt"} and found["manifest"] == found["model"] == {}
    assert {each["name"]: (each["dtype"], tuple(each["shape"]), each["bytes"]) for each in found["tensors"]} == {
        name: (array.dtype.name, array.shape, array.nbytes) for name, array in ARRAYS.items()}


def test_the_header_says_the_same(model, tmp_path):
    """Names, shapes and bytes of a whole model, against the header as json reads it."""
    model.save_pretrained(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    header.pop("__metadata__")
    found = inspect_file(tmp_path)
    assert {each["name"]: (each["shape"], each["bytes"]) for each in found["tensors"]} == {
        name: (entry["shape"], entry["data_offsets"][1] - entry["data_offsets"][0]) for name, entry in header.items()}
    assert found["totals"]["parameters"] == model.num_parameters()


def test_bfloat16_is_told_as_stored(tmp_path):
    header = json.dumps({"w": {"dtype": "BF16", "shape": [3, 1], "data_offsets": [0, 6]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(6))
    assert inspect_file(tmp_path / "w.safetensors")["tensors"] == [
        {"name": "w", "dtype": "bfloat16", "shape": [3, 1], "bytes": 6}]


def test_an_h5_tells_its_checksums_and_its_manifest():
    found, file = inspect_file(default_model()), read_h5(default_model())
    for each in found["tensors"]:
        assert each["sha256"] == hashlib.sha256(file.arrays[each["name"]].tobytes()).hexdigest()
    assert found["manifest"] == file.documents["manifest"] | {"golden": {"state": "logits", "count": 10}}
    assert found["model"] == {"architectures": ["ViTHybridForImageClassification"], "model_type": "vit-hybrid"}
    text = format_text(found).splitlines()
    assert "golden         state logits, count 10" in text
    assert "dialect        huggingface hybrid, by vit.embeddings.patch_embeddings.backbone.bit.embedder." \
        "convolution.weight" in text
    assert text[-1] == "117 tensors, 1,469,834 parameters, 5,879,336 bytes"
    assert f" {found['tensors'][0]['sha256'][:16]}" in format_text(found)


def test_features_and_heads_tell_how_they_were_made(tmp_path):
    manifest = {"model": "ab", "state": "norm", "pool": "token"}
    contents = Contents(np.ones((1, 5)), np.array([1]), ["a", "b"], {0: "is empty"}, manifest)
    files.write(str(tmp_path / "x.h5"), contents)
    found = inspect_file(tmp_path / "x.h5")
    assert found["manifest"] == {**manifest, "format": "nphybrid features", "version": 1, "errors": 1}
    assert [(row["name"], row["shape"]) for row in found["tensors"]] == [("features", [1, 5]), ("paths", [4]),
                                                                         ("positions", [1])]
    assert "3 tensors, 10 numbers, " in format_text(found)
    write_head(tmp_path / "head.h5", Head(np.ones((2, 3)), np.ones(3), ["a", "b", "c"], None, "norm", "token",
                                          {"by": "hand"}))
    found = inspect_file(tmp_path / "head.h5")
    assert found["manifest"]["labels"] == ["a", "b", "c"] and found["totals"]["parameters"] == 9
    assert "dialect" not in format_text(found) and "made     by hand\n" in format_text(found)


def test_a_folder_tells_its_files(model, tmp_path):
    model.save_pretrained(tmp_path)
    found = inspect_file(tmp_path)
    assert [each["path"] for each in found["files"]] == [
        str(tmp_path / name) for name in ("config.json", "preprocessor_config.json", "model.safetensors")]
    assert all(each["sha256"] == sha256(tmp_path / each["path"]) for each in found["files"])
    assert found["model"]["model_type"] == "vit-hybrid" and found["dialect"] == "huggingface hybrid"


def test_a_model_on_the_hub_is_the_folder_that_was_fetched(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(hub, "fetched", lambda name, *_: tmp_path if name == "owner/name" else pytest.fail(name))
    assert inspect_file("owner/name") == inspect_file(tmp_path)


@pytest.mark.parametrize("of", ["index", "folder"])
def test_shards_are_added_up(tmp_path, of):
    write_safetensors(tmp_path / "a.safetensors", {"x": np.zeros((2, 2), np.float32)})
    write_safetensors(tmp_path / "b.safetensors", {"y": np.zeros(3)})
    index = tmp_path / "model.safetensors.index.json"
    write_json(index, {"metadata": {"total_size": 1.5}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})
    found = inspect_file(index if of == "index" else tmp_path)
    assert [(each["path"], each["kind"]) for each in found["files"]] == [
        (str(index), "json"), (str(tmp_path / "a.safetensors"), "safetensors"),
        (str(tmp_path / "b.safetensors"), "safetensors")]
    assert found["totals"] == {"tensors": 2, "parameters": 7, "bytes": 40} and found["metadata"] == {"total_size": 1.5}
    assert found["dialect"] is found["anchor"] is None and "dialect     unknown" in format_text(found)


def test_a_configuration_alone(model, tmp_path, capsys):
    model.config.save_pretrained(tmp_path)
    assert main(["inspect", str(tmp_path / "config.json")]) == 0
    text = capsys.readouterr().out
    assert "model_type     vit-hybrid" in text and "tensor" not in text and "dialect" not in text


def test_an_npz_tells_its_crc_and_its_numbering(tmp_path):
    names = ["embedding/kernel", "Transformer/encoder_norm/scale", "conv_root/kernel",
             "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/bias"]
    np.savez(tmp_path / "w.npz", **{name: np.ones(2, np.float32) for name in names}, half=np.zeros(3, "V2"))
    found = inspect_file(tmp_path / "w.npz")
    assert (found["dialect"], found["numbering"]) == ("jax hybrid", "pre-Linen")
    assert [each["name"] for each in found["tensors"]] == [*names, "half"]
    assert found["tensors"][-1].items() >= {"dtype": "bfloat16", "bytes": 6}.items()
    assert len({each["crc32"] for each in found["tensors"]}) == 2 and len(found["tensors"][0]["crc32"]) == 8
    text = format_text(found)
    assert "jax hybrid, pre-Linen numbering, by conv_root/kernel" in text and "crc32" in text


# ---------------------------------------------------------------- what is not read, and what is refused

def zipped(name):
    """A zip archive with one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"\x80\x02}q\x00.")
    return file.getvalue()


def test_no_array_is_read(weights, monkeypatch):
    def refuse(*_):
        raise AssertionError("an array was read")
    monkeypatch.setattr(tensorfile.safetensors, "read_array", refuse)
    assert inspect_file(weights)["totals"]["tensors"] == 3


def test_a_damaged_array_is_told_all_the_same(tmp_path):
    """Inspecting reads no array, so its checksum is told, not compared; the file's own betrays the damage."""
    whole = inspect_file(default_model())
    data, array = bytearray(default_model().read_bytes()), read_h5(default_model()).arrays["classifier.weight"]
    data[data.index(array.tobytes()) + 5] ^= 1
    (tmp_path / "m.h5").write_bytes(data)
    found = inspect_file(tmp_path / "m.h5")
    assert found["tensors"] == whole["tensors"] and found["files"][0]["sha256"] != whole["files"][0]["sha256"]


@pytest.mark.parametrize("data, told", [
    (b"", "the file is empty"), (b"<!DOCTYPE html><title>Sign in</title>", "is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"\x80\x02}q\x00.", "never opened here"),
    (zipped("archive/data.pkl"), "is a pickle"), (zipped("notes.txt"), "is of another kind"),
    (b"[1, 2]", "a JSON list; expected a JSON object"),
    (b"\x89HDF\r\n\x1a\n" + bytes(100), "broken or truncated"),
    (b"nothing of the kind", "this is no safetensors, npz or HDF5 file"),
    (struct.pack("<Q", 50) + b'{"w": ', "ends inside its header"),
], ids=["empty", "page", "git-lfs", "pickle", "torch", "zip", "list", "hdf5", "text", "truncated"])
def test_refusals(data, told, tmp_path, capsys):
    (tmp_path / "w.bin").write_bytes(data)
    assert main(["inspect", str(tmp_path / "w.bin")]) == 3
    printed = capsys.readouterr()
    assert told in printed.err and "w.bin" in printed.err and printed.out == ""


def test_places_without_a_model(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nowhere")]) == 3 and main(["inspect", str(tmp_path)]) == 3
    told = capsys.readouterr().err
    assert "nowhere" in told and f"{tmp_path} holds nothing; expected model.safetensors" in told
    (tmp_path / "model.safetensors").symlink_to(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 3 and "is a folder, not a file" in capsys.readouterr().err


def test_a_foreign_h5_and_a_foreign_manifest(tmp_path):
    documents = {"config": {}, "manifest": {"format": "nphybrid", "version": 1, "golden": "yes"}}
    write_h5(tmp_path / "x.h5", {}, documents)
    with pytest.raises(FormatError, match=r"golden is 'yes'; expected an object with the keys state \(a name\) and "
                                          r"values \(a list of numbers\)"):
        inspect_file(tmp_path / "x.h5")
    write_h5(tmp_path / "y.h5", {}, {"config": {}, "manifest": {}})
    with pytest.raises(FormatError, match="format and version"):
        inspect_file(tmp_path / "y.h5")


def test_names_from_a_stranger_cannot_command_the_terminal(tmp_path):
    red = "\x1b[31m\n"
    write_safetensors(tmp_path / "w.safetensors", {red: np.zeros(2), "long" * 100: np.zeros(2)}, {red: red * 50})
    text = format_text(inspect_file(tmp_path / "w.safetensors"))
    assert "\x1b" not in text and max(map(len, text.splitlines())) < 300
    assert r"'\x1b[31m\n'" in text and len(text.splitlines()) == 3 + 1 + 1 + 1 + 3 + 2


def test_totals_add_up(model, tmp_path):
    model.save(tmp_path / "m.h5")
    found = inspect_file(tmp_path / "m.h5")
    assert found["totals"] == {"tensors": len(found["tensors"]),
                               "parameters": sum(math.prod(each["shape"]) for each in found["tensors"]),
                               "bytes": sum(array.nbytes for array in model.state_dict().values())}


def test_a_safetensors_file_is_inspected_without_numba_and_h5py(weights, root):
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "nphybrid", "inspect", "w.safetensors"],
                          cwd=weights.parent, capture_output=True,
                          text=True, timeout=60)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0 and "nphybrid" in imported and not imported & {"numba", "h5py"}
