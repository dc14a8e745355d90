"""Two runs that write the same output: the second ends at once; and rows of two runs are noticed at the end."""
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

from nphybrid import FormatError, cli
from nphybrid.batch import progress
from nphybrid.features import files, writer
from nphybrid.tensorfile import owned

from tools.process import nphybrid, python_environment

load = import_module("nphybrid.api.load")

# For processes whose subject is not the engine: the kernels need not be loaded.
FAST_START = ("--engine", "reference")

# A file system without a lock manager, as NFS, Lustre and mounted buckets may be.
NO_LOCKS = "#include <errno.h>\nint flock(int file, int operation) { errno = ENOLCK; return -1; }\n"


def everything(folder):
    """The bytes of each file below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb, name, options", [
    ("classify", "x.csv", ["--format", "csv"]), ("classify", "x.txt", []), ("embed", "x.npy", []),
    ("embed", "x.h5", ["--resume"])])
def test_the_second_run_ends_before_it_loads_the_model(verb, name, options, cat, tmp_path, monkeypatch, capsys):
    """The first run waits for its list of pictures on stdin."""
    lock, output = tmp_path / f".{name}.lock", tmp_path / name
    command = [verb, "-", "-o", str(output), "--quiet", *options, *FAST_START]
    with subprocess.Popen([sys.executable, "-m", "nphybrid", *command], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, text=True) as first:
        while not (lock.exists() and lock.read_text()):
            assert first.poll() is None, first.stderr.read()
        before = everything(tmp_path)
        monkeypatch.setattr(load, "load", None)
        command[1] = str(cat)
        assert cli.main(command) == 3
        assert capsys.readouterr().err.startswith(f"nphybrid: the output file {output} cannot be written, because "
                                                  f"process {first.pid} on the machine ")
        assert everything(tmp_path) == before
        first.stdin.write(f"{cat}\n")
        assert first.communicate(timeout=120) == (None, "") and first.returncode == 0
    assert output.exists() and not lock.exists()


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="LD_PRELOAD, a C compiler")
def test_a_file_system_without_locks(cat, tmp_path):
    """The bundled model is read, an output has one owner, and HDF5 is written."""
    library, out = tmp_path / "no_locks.so", tmp_path / "out"
    out.mkdir()
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=NO_LOCKS, text=True, check=True)
    done = nphybrid("embed", cat, "-o", out / "x.h5", *FAST_START, env=python_environment(LD_PRELOAD=library))
    assert done.returncode == 0, done.stderr
    assert os.listdir(out) == ["x.h5"] and files.read(out / "x.h5").paths == [str(cat)]


# ---------------------------------------------------------------- the last check

@pytest.mark.parametrize("format, more, told", [
    ("jsonl", '{"position": 1, "path": "x"}\n', "found the rows of 2 pictures; expected the rows of 1 pictures"),
    ("csv", '1,"x', "found the rows of 1 pictures and 4 more bytes; expected the rows of 1 pictures")])
def test_rows_of_another_program_in_the_file(format, more, told, cat, tmp_path, monkeypatch, capsys):
    path = tmp_path / "x"

    def and_more(rows, *args, **options):
        yield from rows
        with open(path, "a") as file:
            file.write(more)
    monkeypatch.setattr(progress, "with_progress", and_more)
    assert cli.main(["classify", str(cat), "-o", str(path), "--format", format, *FAST_START]) == 3
    assert capsys.readouterr().err == (
        f"nphybrid: {path}: {told}\n")


RUN = {"shape": [2], "pictures": 3}
ROW = b'{"position": %d, "path": "a.png"}\n'


@pytest.mark.parametrize("rows, feature_bytes, told", [
    ([0, 1, 2, 3], 32, "the folder {path}.part contains 4 rows and 32 bytes of features; expected 3 rows and 32 bytes. "
                       "Remove the folder to begin again."),
    ([0, 1], 16, "the folder {path}.part contains 2 rows and 16 bytes of features; expected 3 rows and 16 bytes. "
                 "Remove the folder to begin again."),
    ([0, 1, 2], 32, "the folder {path}.part contains 3 rows and 32 bytes of features; expected 3 rows and 24 bytes. "
                    "Remove the folder to begin again."),
    ([0, 1, 2], 20, "the folder {path}.part contains 3 rows and 20 bytes of features; expected 3 rows and 24 bytes. "
                    "Remove the folder to begin again."),
    ([0, 1, 1], 24, "{path}.part/rows.jsonl: found a row of picture 1; expected a row of picture 2"),
    ([0, 2, 1], 24, "{path}.part/rows.jsonl: found a row of picture 2; expected a row of picture 1"),
    ([0, 1, b'{"position": 2, "pa'], 24, "{path}.part/rows.jsonl: line 3 is not a row that nphybrid writes")])
def test_features_of_two_runs_are_not_written(rows, feature_bytes, told, tmp_path):
    """The old file is kept, and the folder too."""
    path = tmp_path / "x.h5"
    path.write_bytes(b"old")
    writer.begin_folder(str(path), RUN)
    part = tmp_path / "x.h5.part"
    (part / "rows.jsonl").write_bytes(b"".join(row if isinstance(row, bytes) else ROW % row for row in rows))
    (part / "features").write_bytes(bytes(feature_bytes))
    with pytest.raises(FormatError) as error:
        writer.finish(str(path), RUN, {"model": "a", "state": "norm", "pool": "token"})
    assert str(error.value) == told.format(path=path)
    assert path.read_bytes() == b"old" and (part / "rows.jsonl").exists()


def test_three_files_of_an_npy_have_one_writer(tmp_path):
    path = tmp_path / "x.npy"
    found = files.Contents(np.ones((1, 2), np.float32), np.array([0]), ["a"], {}, {})
    with owned(f"{path}.jsonl"), pytest.raises(BlockingIOError, match="x.npy.jsonl cannot be written, because process"):
        files.write(path, found)
    with owned(path):                     # as `nphybrid embed` does
        files.write(path, found)
    assert sorted(os.listdir(tmp_path)) == ["x.npy", "x.npy.jsonl", "x.npy.run.json"]
    assert json.loads((tmp_path / "x.npy.jsonl").read_text()) == {"position": 0, "path": "a"}
