"""tensorfile: what is written comes back, the malformed is refused by name, the damaged is noticed."""

import ast
import doctest
import hashlib
import importlib
import io
import json
import os
import pickle
import random
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from nphybrid import tensorfile
from nphybrid.tensorfile import (FormatError, atomic, h5_documents, read, read_h5, read_safetensors, read_sharded,
                                 refuse_unreadable, safetensors_header, sniff, stored, stored_h5, stored_npz,
                                 stored_safetensors, stored_sharded, write_atomically,
                                 write_folder_atomically, write_h5, write_json, write_npz, write_safetensors)

from oracles.specimens import F4, GOOD, blob, entry

PACKAGE = Path(tensorfile.__file__).parent


def child(code, *arguments, **options):
    """Runs Python code in a process of its own, so that a crash or a hang is a result."""
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], text=True,
                          capture_output=True, timeout=60, **options)


def same(a, b):
    """Equal names in equal order, and each array equal in dtype, shape and bytes."""
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a)


# ---------------------------------------------------------------- round trips

def zoo():
    """Arrays of every allowed type and of awkward shape, layout and byte order."""
    rng = np.random.default_rng(0)
    cube = rng.standard_normal((3, 4, 5))
    arrays = {f"type.{code}": rng.integers(0, 100, (2, 3)).astype(code)
              for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")}
    return arrays | {
        "0-d": np.float32(7), "zero.size": np.zeros((2, 0, 3), "f4"), "one": np.ones((1, 1, 1, 1), "f4"),
        "fortran": np.asfortranarray(cube), "strided": cube[::2, ::-1, 1::3], "transposed": cube.T,
        "big.endian": cube.astype(">f4"), "big.endian.0-d": np.array(258, ">i4"),
        "ünï.коd": np.float32([1.5]),
        "special": np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], "f4"),
        "payload": np.array([0x7FC12345, 0xFF800001], "<u4").view("<f4"), "list": [1, 2, 3]}


def expected_of(arrays):
    """The same arrays as any reader must give them: native, C order."""
    arrays = {name: np.asarray(a) for name, a in arrays.items()}
    return {name: np.array(a, dtype=a.dtype.newbyteorder("="), order="C") for name, a in arrays.items()}


def test_safetensors_round_trip(tmp_path):
    arrays = zoo() | {"bool": np.array([True, False, True])}
    write_safetensors(tmp_path / "m", arrays, {"format": "pt", "note": "ü"})
    got, want = read_safetensors(tmp_path / "m"), expected_of(arrays)
    assert same({k: got[k] for k in want}, want) and len(got) == len(want)
    entries, metadata = safetensors_header(tmp_path / "m")
    assert metadata == {"format": "pt", "note": "ü"} and list(entries) == list(got)
    data = (tmp_path / "m").read_bytes()
    for name, e in entries.items():
        assert data[e.begin:e.end] == want[name].astype(want[name].dtype.newbyteorder("<")).tobytes()
    assert min(e.begin for e in entries.values()) % 8 == 0
    assert all(a.flags.owndata and a.flags.writeable and a.flags.c_contiguous for a in got.values())


def test_h5_round_trip(tmp_path):
    arrays = zoo()
    documents = {"config": {"labels": ["é", "猫"], "depth": 12, "eps": 1e-6, "none": None},
                 "manifest": [1, "a"], "x": 3}
    write_h5(tmp_path / "m", arrays, documents)
    got, want = read_h5(tmp_path / "m"), expected_of(arrays)
    assert same(got.arrays, {k: want[k] for k in sorted(want)})
    assert got.documents == documents == h5_documents(tmp_path / "m")
    assert all(a.flags.writeable and a.flags.c_contiguous for a in got.arrays.values())


def test_h5_layout_is_what_the_drawing_says(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_h5(tmp_path / "m", {"a.b": np.arange(6, dtype=">f4").reshape(2, 3)}, {"config": {"é": 1}})
    with h5py.File(tmp_path / "m") as file:
        data = file["a.b"]
        assert data.chunks is None and data.dtype == "<f4" and data.dtype.byteorder in "=<"
        text = file["nphybrid/config"][()].tobytes()
        assert json.loads(text) == {"é": 1}
        for dataset, raw in (data, np.arange(6, dtype="<f4").tobytes()), (file["nphybrid/config"], text):
            kind = dataset.attrs.get_id("sha256").get_type()
            assert dataset.attrs["sha256"].decode() == hashlib.sha256(raw).hexdigest()
            assert kind.get_size() == 64 and not kind.is_variable_str()


def test_empty_files_of_both_formats(tmp_path):
    write_safetensors(tmp_path / "s", {})
    write_h5(tmp_path / "h", {}, {})
    assert read_safetensors(tmp_path / "s") == {} and read_h5(tmp_path / "h") == ({}, {})


def test_same_input_same_bytes(tmp_path):
    arrays = zoo()
    for write in (write_safetensors, lambda p, a: write_h5(p, a, {"c": {"k": 1}})):
        write(tmp_path / "1", arrays)
        time.sleep(1.1)     # a time stamp would show
        write(tmp_path / "2", dict(reversed(arrays.items())))
        assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.slow
def test_bfloat16_is_widened_exactly_for_every_bit_pattern(tmp_path):
    halves = np.arange(65536, dtype="<u2")
    (tmp_path / "m").write_bytes(blob({"w": entry("BF16", (256, 256), 0, 131072)}, halves.tobytes()))
    got = read_safetensors(tmp_path / "m")["w"]
    assert got.dtype == np.float32 and got.shape == (256, 256)
    assert (got.view(np.uint32).reshape(-1) == halves.astype(np.uint32) << 16).all()
    torch = pytest.importorskip("torch")
    theirs = torch.from_numpy(halves.view(np.int16)).view(torch.bfloat16).float().numpy()
    assert np.array_equal(got.reshape(-1), theirs, equal_nan=True)


def test_file_order_is_the_order_of_the_bytes(tmp_path):
    header = {"z": entry(begin=4, end=8), "a": entry(begin=8, end=12), "m": entry(begin=0, end=4)}
    (tmp_path / "m").write_bytes(blob(header, np.float32([1, 2, 3]).tobytes()))
    assert {k: float(v[0]) for k, v in read_safetensors(tmp_path / "m").items()} == {"m": 1, "z": 2, "a": 3}
    assert list(read_safetensors(tmp_path / "m")) == ["m", "z", "a"]


def test_original_reads_what_is_written_and_writes_the_same_bytes(tmp_path):
    original = pytest.importorskip("safetensors.numpy")
    arrays = expected_of(zoo() | {"bool": np.array([True, False])})
    write_safetensors(tmp_path / "m", arrays, {"format": "pt"})
    assert (tmp_path / "m").read_bytes() == original.save(arrays, {"format": "pt"})
    theirs = original.load_file(tmp_path / "m")
    assert same(dict(sorted(theirs.items())), dict(sorted(arrays.items())))
    (tmp_path / "t").write_bytes(original.save(arrays))
    assert same(dict(sorted(read_safetensors(tmp_path / "t").items())), dict(sorted(arrays.items())))


@pytest.mark.parametrize("write", [write_safetensors, lambda p, a: write_h5(p, a, {})])
@pytest.mark.parametrize("name, array, message", [
    ("w", np.array([1j]), "cannot store this dtype"), ("w", np.array([object()]), "cannot store this dtype"),
    ("w", np.array(["text"]), "cannot store this dtype"),
    ("w", np.zeros(2, "M8[s]"), "cannot store this dtype"),
    ("w", np.zeros(2, [("a", "f4")]), "cannot store this dtype"),
    ("w", np.zeros(1, "g"), "cannot store this dtype"),
    (3, np.zeros(1), "a name must be a string"), ("\ud800", np.zeros(1), "a name must be valid Unicode")])
def test_writers_refuse_what_readers_would(tmp_path, write, name, array, message):
    with pytest.raises(FormatError, match=message):
        write(tmp_path / "m", {name: array})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call, message", [
    (lambda p: write_safetensors(p, {"__metadata__": np.zeros(1)}), "this name belongs to the metadata"),
    (lambda p: write_safetensors(p, {}, {"a": 1}), "not an object of strings"),
    (lambda p: write_safetensors(p, {}, {"a": "\udc80"}), "not an object of strings"),
    (lambda p: write_h5(p, {"a/b": np.zeros(1)}, {}), "name is not allowed"),
    (lambda p: write_h5(p, {"": np.zeros(1)}, {}), "name is not allowed"),
    (lambda p: write_h5(p, {".": np.zeros(1)}, {}), "name is not allowed"),
    (lambda p: write_h5(p, {"a\0b": np.zeros(1)}, {}), "name is not allowed"),
    (lambda p: write_h5(p, {}, {"a/b": 1}), "name is not allowed"),
    (lambda p: write_h5(p, {"nphybrid": np.zeros(1)}, {}), "the group of documents"),
    (lambda p: write_h5(p, {"w": np.zeros(1, bool)}, {}), "cannot store this dtype"),
    (lambda p: write_h5(p, {}, {"c": {1: "a", "1": "b"}}), "duplicate key"),
    (lambda p: write_h5(p, {}, {"c": float("nan")}), "cannot be written as JSON"),
    (lambda p: write_h5(p, {}, {"c": np.zeros(1)}), "cannot be written as JSON"),
    (lambda p: write_h5(p, {}, {"c": ["\ud800"]}), "cannot be written as JSON"),
    (lambda p: write_h5(p, {str(i): np.zeros(0) for i in range(20_000)}, {}), "too many objects")])
def test_writers_refuse_their_own_rules(tmp_path, call, message):
    with pytest.raises(FormatError, match=message):
        call(tmp_path / "m")
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- no more memory than needed

def test_refusing_allocates_nothing(tmp_path):
    tracemalloc = importlib.import_module("tracemalloc")
    path = tmp_path / "m"
    path.write_bytes(blob({"w": entry(shape=(2**28,), end=2**30)}, F4))
    tracemalloc.start()
    with pytest.raises(FormatError):
        read_safetensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_reading_needs_one_copy(tmp_path):
    tracemalloc = importlib.import_module("tracemalloc")
    arrays = {str(i): np.ones(2**20, "f4") for i in range(8)}
    write_safetensors(tmp_path / "s", arrays)
    write_h5(tmp_path / "h", arrays, {})
    for reader, name in (read_safetensors, "s"), (read_h5, "h"):
        reader(tmp_path / name)
        tracemalloc.start()
        held = reader(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert held and peak < 1.2 * 32 * 2**20, f"{name}: {peak} bytes for 32 MiB"


# ---------------------------------------------------------------- arrays that stay in their file

@pytest.fixture(params=["safetensors", "h5", "npz", "sharded"])
def kept(request, tmp_path):
    """A file of each kind, its arrays, and its reader that leaves them there."""
    arrays = zoo()
    if request.param == "h5":
        write_h5(tmp_path / "m", arrays, {})
        return tmp_path / "m", arrays, lambda path: stored_h5(path).arrays
    if request.param == "npz":
        write_npz(tmp_path / "m", arrays)
        return tmp_path / "m", arrays, stored_npz
    if request.param == "safetensors":
        write_safetensors(tmp_path / "m", arrays)
        return tmp_path / "m", arrays, stored_safetensors
    names = {f"{i}.safetensors": list(arrays)[i::2] for i in range(2)}
    for shard, held in names.items():
        write_safetensors(tmp_path / shard, {name: arrays[name] for name in held})
    write_json(tmp_path / "i.json", {"weight_map": {name: shard for shard, held in names.items() for name in held}})
    return tmp_path / "i.json", arrays, stored_sharded


def test_stored_arrays_know_what_they_will_be(kept):
    path, arrays, reader = kept
    lazy, eager = reader(path), read(path)
    assert list(lazy) == list(eager) == list(stored(path)) and same({k: lazy[k].read() for k in eager}, eager)
    for name, array in lazy.items():
        assert (array.name, array.shape, array.dtype) == (name, eager[name].shape, eager[name].dtype)
        assert array.sha256 in (None, hashlib.sha256(eager[name].tobytes()).hexdigest())
        assert np.asarray(array).tobytes() == eager[name].tobytes()
        assert not np.shares_memory(np.asarray(array), np.asarray(array))
    assert np.asarray(lazy["type.f4"], np.float64).dtype == np.float64
    assert same(eager, {name: expected_of(arrays)[name] for name in eager})


def test_bfloat16_is_float32_before_it_is_read(tmp_path):
    (tmp_path / "m").write_bytes(blob({"w": entry("BF16", (2, 1))}, bytes([0x80, 0x3F, 0x49, 0xC0])))
    array = stored_safetensors(tmp_path / "m")["w"]
    assert (array.shape, array.dtype) == ((2, 1), np.float32) and array.read().tolist() == [[1], [-3.140625]]
    (tmp_path / "m").write_bytes(blob({"w": entry("BF16", (), 0, 2)}, bytes([0x80, 0x3F])))
    array = stored_safetensors(tmp_path / "m")["w"].read()
    assert type(array) is np.ndarray and (array.shape, array.dtype, array.item()) == ((), np.float32, 1)


def test_a_file_that_changes_between_header_and_array_is_refused(kept):
    """Replaced by an equal one, written to, cut, taken away."""
    path, _, reader = kept
    name = "type.f4"
    file = Path(reader(path)[name].path)
    data = file.read_bytes()

    def replace():
        (file.parent / "other").write_bytes(data)
        os.replace(file.parent / "other", file)

    def touch():
        os.utime(file, ns=(1, 1))
    for change in (replace, touch, lambda: file.write_bytes(data + b"x"), lambda: file.write_bytes(data[:-1])):
        file.write_bytes(data)
        array = reader(path)[name]
        assert array.read().shape == (2, 3)
        change()
        with pytest.raises(FormatError, match="was replaced or written to while it was read"):
            array.read()
    file.unlink()
    with pytest.raises(FileNotFoundError):
        np.asarray(array)


def test_what_stays_in_the_file_takes_no_memory(tmp_path):
    tracemalloc = importlib.import_module("tracemalloc")
    arrays = {str(i): np.ones(2**20, "f4") for i in range(8)}
    write_safetensors(tmp_path / "s", arrays)
    write_h5(tmp_path / "h", arrays, {})
    for reader, name in (stored_safetensors, "s"), (stored_h5, "h"):
        reader(tmp_path / name)
        tracemalloc.start()
        held = reader(tmp_path / name)
        for array in getattr(held, "arrays", held).values():
            array.read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.2 * 4 * 2**20, f"{name}: {peak} bytes for arrays of 4 MiB"


# ---------------------------------------------------------------- damage

@settings(max_examples=300, derandomize=True, deadline=None, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x89HDF\r\n\x1a\n", b"<",
                             b"version https://git-lfs", b"{", b'{"weight_map": {', bytes(8)]),
       tail=st.binary(max_size=200))
def test_only_format_errors_escape_from_any_bytes(tmp_path, head, tail):
    path = tmp_path / "m"
    path.write_bytes(head + tail)
    for reader in (read, read_safetensors, read_h5, read_sharded):
        with pytest.raises(FormatError):
            reader(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The path of a small good file, and what it holds."""
    path = tmp_path_factory.mktemp("model") / "m.h5"
    rng = np.random.default_rng(1)
    arrays = {f"layer.{i}.weight": rng.standard_normal((i + 1, 7)).astype("f4") for i in range(10)}
    write_h5(path, arrays | {"scale": np.float64(2), "nothing": np.zeros((0, 3), "i8")},
             {"config": {"a": [1, 2]}, "manifest": {"v": 1}})
    return path, read_h5(path)


def test_overlapping_arrays_are_refused(tmp_path):
    # One array's place is given to another: the checksum would pass, as both hold the same bytes.
    hdf5 = importlib.import_module("nphybrid.tensorfile.hdf5")
    place = hdf5._Place("a", np.dtype("<f4"), (4,), 100, 16, "0" * 64)
    for offset, message in ((100, "shares bytes with 'a'"), (115, "shares bytes with 'a'"), (990, "outside")):
        with pytest.raises(FormatError, match=message):
            hdf5._refuse_overlap([place, place._replace(name="b", offset=offset)], tmp_path, 1000)
    hdf5._refuse_overlap([place, place._replace(name="b", offset=116)], tmp_path, 132)


@pytest.mark.slow
def test_every_flipped_byte_of_data_is_noticed(model, tmp_path):
    h5py = pytest.importorskip("h5py")
    path, held = model
    good = path.read_bytes()
    with h5py.File(path) as file:
        datasets = [file[name] for name in held.arrays] + list(file["nphybrid"].values())
        spans = [(d.name.split("/")[-1], d.id.get_offset(), d.nbytes) for d in datasets if d.nbytes]
    rng = random.Random(0)
    places = [(name, offset + i) for name, offset, size in spans for i in range(size)]
    assert len(places) > 1500
    for name, at in rng.sample(places, 600):
        bad = bytearray(good)
        bad[at] ^= 1 << rng.randrange(8)
        (tmp_path / "m").write_bytes(bad)
        with pytest.raises(FormatError, match="checksum does not match") as refused:
            read_h5(tmp_path / "m")
        assert f"tensor {name!r}" in str(refused.value)


def test_every_truncation_of_h5_is_noticed(model, tmp_path):
    good = model[0].read_bytes()
    for length in [*range(64), *range(64, len(good), 97), len(good) - 1]:
        (tmp_path / "m").write_bytes(good[:length])
        with pytest.raises(FormatError):
            read_h5(tmp_path / "m")


DAMAGE = """
import random, sys
from nphybrid.tensorfile import FormatError, read_h5
path, scratch, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
good, held, rng, refused, equal = open(path, "rb").read(), read_h5(path), random.Random(seed), 0, 0
words = [bytes(8), b"\\xff" * 8, (2**62).to_bytes(8, "little"), len(good).to_bytes(8, "little")]
for _ in range(700):
    bad = bytearray(good)
    for _ in range(rng.randrange(1, 4)):
        at, other = rng.randrange(len(bad)), rng.randrange(len(bad))
        kind = rng.randrange(6)
        if kind < 3: bad[at] ^= rng.randrange(1, 256)
        elif kind == 3: bad[at:at + 8] = rng.choice(words)
        elif kind == 4: bad[at:at + 16] = bad[other:other + 16]
        else: del bad[max(at, 8):]
    open(scratch, "wb").write(bad)
    try:
        got = read_h5(scratch)
    except FormatError:
        refused += 1
        continue
    assert list(got.arrays) == list(held.arrays) and got.documents == held.documents
    for name, array in got.arrays.items():
        assert array.shape == held.arrays[name].shape and array.dtype == held.arrays[name].dtype
        assert array.tobytes() == held.arrays[name].tobytes()
    equal += 1
print(refused, equal)
"""


@pytest.mark.slow
def test_damaged_h5_is_refused_or_read_right(model, tmp_path):
    """Damage anywhere, the library's own structures included: no crash, no other error, no wrong array."""
    result = child(DAMAGE, model[0], tmp_path / "m", 7)
    assert result.returncode == 0, result.stderr[-2000:]
    refused, equal = map(int, result.stdout.split())
    assert refused > 300 and equal > 10


# ---------------------------------------------------------------- shards

def sharded(folder, weight_map=None, **shards):
    folder.mkdir(exist_ok=True)
    for shard, names in (shards or {"one": "ab", "two": "c"}).items():
        write_safetensors(folder / f"{shard}.safetensors", {n: np.float32([ord(n)]) for n in names})
    default = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    index = folder / "model.safetensors.index.json"
    write_json(index, {"metadata": {"total_size": 12.5}, "weight_map": weight_map or default})
    return index


def test_shards_are_joined(tmp_path):
    got = read_sharded(sharded(tmp_path))
    assert {name: float(a[0]) for name, a in got.items()} == {"a": 97, "b": 98, "c": 99}
    assert same(read(tmp_path / "model.safetensors.index.json"), got)


@pytest.mark.parametrize("shards, weight_map, parts", [
    ({"one": "a"}, {"a": "one", "b": "one", "z": "one"}, ["names arrays that no shard holds (2): 'b', 'z'"]),
    ({"one": "abc"}, {"a": "one"}, ["does not name (2): 'b', 'c'"]),
    ({"one": "ab", "two": "bc"}, {"a": "one", "b": "one", "c": "two"}, ["in several shards (1): 'b'"]),
    ({"one": "a", "two": "b"}, {"a": "two", "b": "one"}, ["names the wrong shard (2): 'a', 'b'"]),
    ({"one": "a"}, {"a": "absent"}, ["shard is missing", "absent.safetensors"])])
def test_index_and_shards_must_agree(tmp_path, shards, weight_map, parts):
    index = sharded(tmp_path, {name: shard + ".safetensors" for name, shard in weight_map.items()}, **shards)
    with pytest.raises(FormatError) as refused:
        read_sharded(index)
    assert all(part in str(refused.value) for part in parts) and str(index) in str(refused.value)


@pytest.mark.parametrize("shard", [
    "../one.safetensors", "/etc/passwd", "/tmp/one.safetensors", "sub/one.safetensors",
    "sub\\one.safetensors", "..\\one.safetensors", "C:one.safetensors", "..", ".", "", "one.bin",
    "one\0.safetensors", "one\n.safetensors", "./one.safetensors", "model.safetensors.index.json"])
def test_shard_names_with_paths_are_refused(tmp_path, shard):
    index = sharded(tmp_path / "in", {"a": shard}, one="a")
    write_safetensors(tmp_path / "one.safetensors", {"a": np.float32([1])})
    with pytest.raises(FormatError, match="shard is not a plain file name"):
        read_sharded(index)


@pytest.mark.parametrize("content, message", [
    ("{}", "not an index of shards"), ("[]", "not an index of shards"),
    ('{"weight_map": {}}', "not an index of shards"),
    ('{"weight_map": ["a"]}', "not an index of shards"), ('{"model_type": "vit-hybrid"}', "not an index of shards"),
    ('{"weight_map": {"a": 1}}', "not a file name"), ('{"weight_map": {"a": "x", "a": "x"}}', "duplicate key"),
    ('{"weight_map": ', "not valid JSON"), ('{"a": "\udcff"}', "not valid UTF-8"), ("", "empty"),
    ("\ufeff{}", "not valid JSON")])
def test_broken_indexes_are_refused(tmp_path, content, message):
    (tmp_path / "i.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(FormatError, match=message):
        read_sharded(tmp_path / "i.json")


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_links_out_of_the_folder_are_refused_but_the_hub_cache_is_read(tmp_path):
    index = sharded(tmp_path / "in")
    write_safetensors(tmp_path / "other.safetensors", {"c": np.float32([0])})
    (tmp_path / "in" / "two.safetensors").unlink()
    (tmp_path / "in" / "two.safetensors").symlink_to(tmp_path / "other.safetensors")
    with pytest.raises(FormatError, match="link out of the folder"):
        read_sharded(index)

    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    sharded(blobs)
    for name in os.listdir(blobs):
        (blobs / name).rename(blobs / hashlib.sha256(name.encode()).hexdigest())
        (snapshot / name).symlink_to(f"../../blobs/{hashlib.sha256(name.encode()).hexdigest()}")
    assert len(read_sharded(snapshot / "model.safetensors.index.json")) == 3


def test_a_broken_shard_is_named(tmp_path):
    index = sharded(tmp_path)
    (tmp_path / "two.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(FormatError, match=r"two\.safetensors: the file is a Git LFS pointer"):
        read_sharded(index)


# ---------------------------------------------------------------- kinds

def zip_of(*members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member in members:
            archive.writestr(member, b"content")
    return stream.getvalue()


def npz():
    stream = io.BytesIO()
    np.savez(stream, w=np.zeros(2))
    return stream.getvalue()


class Canary:
    """Unpickling this would create a file."""

    def __reduce__(self):
        return os.mkdir, ("canary",)


TORCH_ZIP = zip_of("archive/data.pkl", "archive/version", "archive/data/0")
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
KINDS = [
    (blob(GOOD, F4), "safetensors"), (blob({}), "safetensors"),
    (b"\x89HDF\r\n\x1a\n" + bytes(100), "hdf5"),
    (TORCH_ZIP, "pickle-zip"), (zip_of("data.pkl"), "pickle-zip"), (TORCH_ZIP[:60], "pickle-zip"),
    (npz(), "npz"), (npz()[:60], "npz"), (zip_of("a.txt"), "zip"), (zip_of(), "zip"),
    (LEGACY, "pickle"), *[(pickle.dumps(Canary(), p), "pickle") for p in range(pickle.HIGHEST_PROTOCOL + 1)],
    *[(pickle.dumps({"w": [1.0]}, p), "pickle") for p in range(pickle.HIGHEST_PROTOCOL + 1)],
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "git-lfs pointer"),
    (b"<!DOCTYPE html><html>", "html"), (b"\n  <html lang=en>", "html"),
    (b"<html id{", "html"), (b"<?xml version='1.0'?><Error>", "html"),
    (b"\xef\xbb\xbf<!doctype HTML>", "html"),
    (b'{"a": 1}', "json"), (b"\n [1]", "json"), (b"\xef\xbb\xbf{}", "json"),
    (b"\xff\xd8\xff\xe0\0\x10JF", "picture"), (b"\x89PNG\r\n\x1a\n", "picture"), (b"GIF89a", "picture"),
    (b"RIFF\n\0\0\0WEBPVP8 ", "picture"), (b"RIFF\n\0\0\0WAVE", "unknown"),
    (b"", "empty"), (b"x", "unknown"), (b"config of mine\n", "unknown"), (b"cat\ndog\nbird\n", "unknown"),
    (bytes(100), "unknown"), (b"\x93NUMPY\x01\x00", "unknown"), (b"GGUF", "unknown"), (b"\x80", "unknown")]


@pytest.mark.parametrize("data, kind", KINDS, ids=[f"{i}-{kind}" for i, (_, kind) in enumerate(KINDS)])
def test_sniff(tmp_path, data, kind):
    path = tmp_path / "model.h5"     # the extension must not matter
    path.write_bytes(data)
    assert sniff(path) == sniff(str(path)) == sniff(os.fsencode(path)) == kind


@pytest.mark.parametrize("kind, parts", [
    ("empty", ["empty (0 bytes)"]), ("git-lfs pointer", ["Git LFS pointer", "git lfs pull"]),
    ("html", ["web page (HTML)", "download the weights again"]), ("pickle", ["is a pickle", "convert_checkpoint.py"]),
    ("pickle-zip", ["is a pickle", "folder examples of nphybrid's source"]), ("zip", ["of another kind", "'zip'"]),
    ("picture", ["the file is a picture, not a model"])])
@pytest.mark.parametrize("reader", [read, read_safetensors, read_h5, read_sharded])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "model.h5", "m.index.json"])
def test_what_is_refused_is_told_by_name(tmp_path, monkeypatch, kind, parts, reader, name):
    monkeypatch.chdir(tmp_path)
    for data in [data for data, known in KINDS if known == kind]:
        Path(name).write_bytes(data)
        with pytest.raises(FormatError) as refused:
            reader(name)
        assert all(part in str(refused.value) for part in [name, *parts])
    assert os.listdir() == [name], "a pickle was executed"


def test_formats_are_told_apart(tmp_path, model):
    write_safetensors(tmp_path / "s.h5", {"w": np.float32([1])})
    with pytest.raises(FormatError, match="found 'safetensors', expected hdf5"):
        read_h5(tmp_path / "s.h5")
    with pytest.raises(FormatError, match="found 'hdf5', expected safetensors"):
        read_safetensors(model[0])
    (tmp_path / "z.h5").write_bytes(npz())
    for reader, kind in (read_h5, "hdf5"), (read_safetensors, "safetensors"), (read_sharded, "json"):
        with pytest.raises(FormatError, match=f"found 'npz', expected {kind}"):
            reader(tmp_path / "z.h5")
    assert same(read(tmp_path / "z.h5"), {"w": np.zeros(2)})
    assert refuse_unreadable(model[0], "hdf5") is None
    assert same(read(tmp_path / "s.h5"), {"w": np.float32([1])}) and same(read(model[0]), model[1].arrays)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "it's.bin", 'a "b".bin', "a b$HOME`x`.bin"])
def test_the_way_out_of_a_pickle_works(tmp_path, monkeypatch, name):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors.torch")
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.arange(3.0)}, name)
    with pytest.raises(FormatError) as refused:
        read(name)
    command = shlex.split(str(refused.value).splitlines()[1])
    assert command == ["python", "examples/convert_checkpoint.py", name]
    import convert_checkpoint
    assert convert_checkpoint.main(command[2:]) == 0
    assert read("model.safetensors")["w"].tolist() == [0, 1, 2]


def test_no_file_and_no_regular_file(tmp_path):
    for reader in (read, read_safetensors, read_h5, read_sharded, sniff, safetensors_header, h5_documents):
        with pytest.raises(FileNotFoundError):
            reader(tmp_path / "absent")
        with pytest.raises(FormatError, match="is a folder"):
            reader(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FormatError, match="not a regular file"):
            sniff(tmp_path / "pipe")


# ---------------------------------------------------------------- writing all or nothing

class Interrupted(BaseException):
    """What a signal would raise: no Exception."""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, Interrupted])
def test_failure_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "m"
    path.write_text("old")
    with pytest.raises(error), write_atomically(path) as temporary:
        assert temporary.parent == tmp_path and temporary != path
        temporary.write_text("half of the new")
        assert path.read_text() == "old"
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("write", [
    lambda p: write_safetensors(p, {"a": np.zeros(4), "b": np.zeros(4)}),
    lambda p: write_h5(p, {"a": np.zeros(4), "b": np.zeros(4)}, {"c": 1}),
    lambda p: write_npz(p, {"a": np.zeros(4), "b": np.zeros(4)}), lambda p: write_json(p, {"a": 1})])
def test_writers_that_fail_in_the_middle_leave_the_old_file(tmp_path, monkeypatch, write):
    path = tmp_path / "m"
    path.write_text("old")

    def full(handle):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["m"]
    monkeypatch.undo()
    write(path)
    assert path.read_bytes() != b"old" and os.listdir(tmp_path) == ["m"]


def test_new_bytes_are_on_disk_before_the_name_changes(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    write_json(tmp_path / "m", {})
    assert done[:2] == ["fsync", "replace"]


@pytest.mark.parametrize("bad", [float("nan"), {1, 2}, np.zeros(1)])
def test_write_json_refuses_before_it_touches(tmp_path, bad):
    (tmp_path / "m").write_text("old")
    with pytest.raises((TypeError, ValueError)):
        write_json(tmp_path / "m", {"a": bad})
    assert (tmp_path / "m").read_text() == "old" and os.listdir(tmp_path) == ["m"]


@pytest.mark.skipif(os.name != "posix", reason="links and permissions")
def test_links_and_permissions_stay(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "m", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o440)
    link.symlink_to("real/m")
    write_json(link, 1)
    assert link.is_symlink() and target.read_text() == "1\n" and target.stat().st_mode & 0o777 == 0o440
    assert os.listdir(tmp_path / "real") == ["m"]
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "new", 1)
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    with pytest.raises(ValueError, match="not a regular file"):
        write_json(tmp_path, 1)


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_nobody_else_reads_what_replaces_a_private_target(tmp_path):
    """Also while it is written.  A folder keeps its permissions, too."""
    target, folder = tmp_path / "m", tmp_path / "folder"
    target.write_text("old")
    target.chmod(0o600)
    with write_atomically(target) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600
    with write_atomically(target, 0o400) as temporary:
        pass
    assert target.stat().st_mode & 0o777 == 0o400
    for mode in 0o700, 0o750, 0o500:
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        with write_folder_atomically(folder) as temporary:
            assert temporary.stat().st_mode & 0o777 == 0o700
        assert folder.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_to_an_empty_folder_is_followed_and_the_working_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    for name in ".", tmp_path / "link", tmp_path / "real", "../real":
        with pytest.raises(ValueError, match="is the working folder, which cannot be replaced; expected the name of"):
            with write_folder_atomically(name):
                pass
    monkeypatch.chdir(tmp_path)
    with write_folder_atomically("link") as temporary:
        (temporary / "a").write_text("1")
    assert os.listdir("real") == ["a"] and os.path.islink("link") and sorted(os.listdir(".")) == ["link", "real"]


@pytest.mark.skipif(os.name != "posix", reason="255 bytes are the limit of Linux")
@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127])
def test_the_longest_names(name, tmp_path):
    (tmp_path / f".{atomic._cut(name)}.{atomic._place()}-999999999-0123abcd.tmp").write_text("of a dead process")
    write_json(tmp_path / name, 1)
    assert os.listdir(tmp_path) == [name]


def test_files_of_a_process_in_another_container_stay(tmp_path, monkeypatch):
    """Its process id means nothing here."""
    monkeypatch.setattr(atomic, "process_namespace", lambda: "pid:[1]")
    name = f".m.{atomic._place()}-999999999-0123abcd.tmp"
    (tmp_path / name).write_text("1")
    monkeypatch.setattr(atomic, "process_namespace", lambda: "pid:[2]")
    write_json(tmp_path / "m", 1)
    assert sorted(os.listdir(tmp_path)) == [name, "m"]
    monkeypatch.setattr(atomic, "process_namespace", lambda: "pid:[1]")
    write_json(tmp_path / "m", 1)
    assert os.listdir(tmp_path) == ["m"]


def test_a_file_can_be_rewritten_from_itself(tmp_path):
    write_h5(tmp_path / "m", {"a": np.arange(5.0)}, {"c": 1})
    write_h5(tmp_path / "m", *read_h5(tmp_path / "m"))
    assert read_h5(tmp_path / "m").arrays["a"].tolist() == [0, 1, 2, 3, 4]


WRITER = """
import sys, numpy as np
from nphybrid.tensorfile import write_h5, write_safetensors
arrays = {str(i): np.full(200_000, 2, "f4") for i in range(5)}
print("ready", flush=True)
while True:
    write_safetensors(sys.argv[1] + "/m.safetensors", arrays)
    write_h5(sys.argv[1] + "/m.h5", arrays, {})
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_writers_leave_whole_files_and_nothing_else(tmp_path):
    old = {str(i): np.full(200_000, 1, "f4") for i in range(5)}
    rng, seen = random.Random(3), set()
    for _ in range(8):
        write_safetensors(tmp_path / "m.safetensors", old)
        write_h5(tmp_path / "m.h5", old, {})
        assert sorted(os.listdir(tmp_path)) == ["m.h5", "m.safetensors"]
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for path in (tmp_path / "m.safetensors", tmp_path / "m.h5"):
            values = {float(v) for array in read(path).values() for v in (array[0], array[-1])}
            assert values in ({1.0}, {2.0})
            seen |= values
    write_safetensors(tmp_path / "m.safetensors", old)
    write_h5(tmp_path / "m.h5", old, {})
    assert sorted(os.listdir(tmp_path)) == ["m.h5", "m.safetensors"] and 2.0 in seen


FULL = """
import resource, sys, numpy as np
from nphybrid.tensorfile import write_h5, write_npz, write_safetensors
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for write in (write_safetensors, write_npz, lambda p, a: write_h5(p, a, {})):
    try:
        write(sys.argv[1], {"w": np.zeros(10**6, "f4")})
    except OSError as error:
        print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE")
def test_full_disk_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "m", "old")
    result = child(FULL, tmp_path / "m")
    assert result.stdout.split() == ["refused"] * 3 and result.returncode == 0, result.stderr[-2000:]
    assert json.loads((tmp_path / "m").read_text()) == "old" and os.listdir(tmp_path) == ["m"]


# ---------------------------------------------------------------- the house

MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    name = "nphybrid.tensorfile" + ("" if module == "__init__" else f".{module}")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert result.failed == 0 and result.attempted > 0


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_few_and_nothing_can_run_a_file(module):
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(node.module.split(".")[0])
    assert imported <= set(sys.stdlib_module_names) | {"numpy"} | ({"h5py"} if module == "hdf5" else set())
    assert not imported & {"pickle", "marshal", "shelve", "ctypes", "subprocess"}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"eval", "exec", "compile", "__import__"}


def test_h5py_is_imported_late(tmp_path):
    result = child("import sys, nphybrid.tensorfile as t; t.write_safetensors(sys.argv[1], {});"
                   "t.read(sys.argv[1]); print('h5py' in sys.modules)", tmp_path / "m")
    assert result.stdout.strip() == "False", result.stderr


def test_format_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(FormatError("m: broken")))
    assert type(error) is FormatError and str(error) == "m: broken" and isinstance(error, ValueError)
