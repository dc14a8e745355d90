"""Too little memory is not damage, an empty path is refused, and a full disk is named."""
import errno
import io
import os
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from nphybrid import ViTHybridImageProcessor, checkpoint, default_model, pipeline, shortage
from nphybrid.api import load
from nphybrid.batch import cluster
from nphybrid.batch.identity import ModelFile
from nphybrid.features import npy
from nphybrid.features.contents import Contents
from nphybrid.labels import from_file
from nphybrid.pictures.decode import open_picture
from nphybrid.tensorfile import archive, hdf5, read, write_atomically, write_folder_atomically, write_h5, write_npz

from tools.process import run_python


@pytest.mark.parametrize("text", ["Unable to synchronously open file (memory allocation failed for chunk)",
                                  "Can't read data (out of memory)"])
@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_h5py_without_memory(kind, text, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise kind(text)
    write_h5(tmp_path / "m.h5", {"a": np.zeros(3)}, {})
    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(MemoryError, match=r"m\.h5: not enough memory \("):
        read(tmp_path / "m.h5")


def test_zlib_without_memory(monkeypatch):
    class Stream:
        def decompress(self, block, size):
            raise zlib.error("Error -4 while decompressing data")
    monkeypatch.setattr(archive.zlib, "decompressobj", lambda bits: Stream())
    with pytest.raises(MemoryError, match=r"m.npz: not enough memory \(Error -4 while decompressing data\)"):
        list(archive._inflated(iter([b"x"]), "m.npz", "a"))


def test_a_name_of_a_file_is_no_lack_of_memory():
    assert not shortage.out_of_memory(ValueError("out of memory.png: truncated"))
    assert not shortage.out_of_memory(FileNotFoundError("out of memory.png does not exist"))
    assert shortage.out_of_memory(OSError(errno.ENOMEM, "x"))


def test_a_cause_counts():
    error = OSError("could not load x.so")
    error.__cause__ = OSError("x.so: failed to map segment from shared object")
    assert shortage.out_of_memory(error)


# ---------------------------------------------------------------- empty paths

@pytest.mark.parametrize("call", [
    load.load, checkpoint.read, checkpoint.read_config, ViTHybridImageProcessor.from_pretrained, ModelFile, read,
    lambda path: pipeline("image-classification", path),
    lambda path: pipeline("image-classification", image_processor=path),
    lambda path: load.load(default_model(), head=path, engine="reference"),
    lambda path: write_atomically(path).__enter__(), lambda path: write_folder_atomically(path).__enter__(),
    cluster.job, lambda path: cluster.job(head=path)])
def test_an_empty_path_is_refused(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="found an empty path; expected the path of a file or folder"):
        call("")
    assert os.listdir() == []


@pytest.mark.parametrize("call", [open_picture, from_file])
def test_an_empty_path_is_no_file(call):
    with pytest.raises(FileNotFoundError):
        call("")


def test_an_empty_address_starts_no_cluster():
    with pytest.raises(ValueError, match="found an empty address"), cluster.connect(""):
        pass


# ---------------------------------------------------------------- messages with many names

def test_a_folder_of_pictures_as_a_model(tmp_path):
    for i in range(3000):
        (tmp_path / f"{i:04}.png").touch()
    with pytest.raises(FileNotFoundError) as refused:
        checkpoint.read(tmp_path)
    assert str(refused.value) == (f"{tmp_path} holds '0000.png', '0001.png', '0002.png', '0003.png', '0004.png', "
                                  "'0005.png', '0006.png', '0007.png' and 2,992 more; expected model.safetensors or "
                                  "model.safetensors.index.json")


def test_a_model_in_a_zip_file(tmp_path, monkeypatch):
    monkeypatch.setattr("nphybrid.checkpoint.files.__file__", str(tmp_path / "z.pyz/nphybrid/checkpoint/files.py"))
    (tmp_path / "z.pyz").touch()
    with pytest.raises(FileNotFoundError, match="because nphybrid is in the zip file .*z.pyz; expected an installed"):
        checkpoint.default_model()


# ---------------------------------------------------------------- full disks

@pytest.mark.parametrize("write", [write_atomically, write_folder_atomically])
def test_an_error_without_a_name_gets_the_name_of_the_target(write, tmp_path):
    with pytest.raises(OSError) as refused, write(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert refused.value.filename == str(tmp_path / "x") and os.listdir(tmp_path) == []


def test_each_of_the_files_of_npy_is_named(tmp_path, monkeypatch):
    found = Contents(np.ones((1, 2), np.float32), np.array([0]), ["a"], {}, {})
    npy.write(tmp_path / "x.npy", found)
    saved = io.BytesIO()
    np.save(saved, found.values)
    assert (tmp_path / "x.npy").read_bytes() == saved.getvalue()

    def full(path, array):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(npy, "_write_array", full)
    with pytest.raises(OSError) as refused:
        npy.write(tmp_path / "x.npy", found)
    assert refused.value.filename == str(tmp_path / "x.npy")


FULL = """
import resource, signal, sys, numpy as np
from nphybrid.tensorfile import write_h5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    write_h5(sys.argv[1], {f"w{i}": np.zeros(1000, "f4") for i in range(40)}, {"a": {}})
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE")
def test_libhdf5_does_not_crash_on_a_full_disk(tmp_path):
    done = run_python("-c", FULL, tmp_path / "m.h5")
    assert (done.returncode, done.stderr) == (0, "") and os.listdir(tmp_path) == []
    assert done.stdout == f"[Errno 27] File too large: '{tmp_path / 'm.h5'}'\n"


@pytest.mark.parametrize("count", [0, 1, 9, 100])
def test_the_room_that_is_checked_is_enough(count, tmp_path, monkeypatch):
    checked, check = [], hdf5._refuse_full_disk

    def recorded(path, size):
        checked.append(size)
        check(path, size)
    monkeypatch.setattr(hdf5, "_refuse_full_disk", recorded)
    write_h5(tmp_path / "m.h5", {f"array {i}": np.zeros(1) for i in range(count)}, {"a": {}})
    assert checked[0] >= os.path.getsize(tmp_path / "m.h5")


def test_npz_names_its_file(tmp_path, monkeypatch):
    def full(path, flags):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("nphybrid.tensorfile.atomic._flush", full)
    with pytest.raises(OSError) as refused:
        write_npz(Path(tmp_path, "x.npz"), {"a": np.zeros(3)})
    assert refused.value.filename == str(tmp_path / "x.npz")
