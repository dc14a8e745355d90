"""HDF5 files that others have open, and errors of the system: neither is damage of the file."""
import subprocess
import sys

import h5py
import numpy as np
import pytest

from nphybrid import FormatError
from nphybrid.tensorfile import owner, read_h5, write_h5


@pytest.mark.skipif(owner.fcntl is None, reason="flock")
def test_a_file_that_another_program_has_locked_is_read(tmp_path):
    """For example a notebook that writes to it. It has the lock that HDF5 sets."""
    path = tmp_path / "x.h5"
    write_h5(path, {"a": np.float32([1, 2])}, {})
    with open(path) as file:
        owner.fcntl.flock(file, owner.fcntl.LOCK_EX)
        assert read_h5(path).arrays["a"].tolist() == [1, 2]


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_file_that_this_process_has_open_is_read(mode, tmp_path):
    path = tmp_path / "x.h5"
    write_h5(path, {"a": np.float32([1, 2])}, {})
    with h5py.File(path, mode):
        assert read_h5(path).arrays["a"].tolist() == [1, 2]


HOLD = """
import sys, h5py
file = h5py.File(sys.argv[1], "r+", libver="latest")
if sys.argv[2] == "swmr":
    file.swmr_mode = True
print("open", flush=True)
sys.stdin.read()
if sys.argv[2] == "killed":
    import os
    os._exit(9)
"""


@pytest.mark.parametrize("how", ["open", "swmr", "killed"])
def test_a_file_that_another_process_writes_is_not_damaged(how, tmp_path):
    """HDF5 marks the file as open. The mark stays if the process is killed."""
    path = tmp_path / "x.h5"
    write_h5(path, {"a": np.float32([1, 2])}, {})
    command = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"open\n"
        if how == "killed":
            child.communicate()
        with pytest.raises(OSError, match=r"x.h5 is marked as open for writing: .* `h5clear -s .*x.h5` removes"):
            read_h5(path)
        if how != "killed":
            child.communicate()
            assert read_h5(path).arrays["a"].tolist() == [1, 2]


@pytest.mark.parametrize("error, kind, told", [
    (OSError(24, "Unable to synchronously open file (unable to open file: name = 'x', errno = 24, error message = "
                 "'Too many open files', flags = 0, o_flags = 0)"), OSError,
     r"^\[Errno 24\] Too many open files: '.*x.h5'$"),
    (KeyError("Unable to synchronously open object (file read failed: time = Fri\n, filename = 'x', errno = 5, error "
              "message = 'Input/output error', buf = 0x0)"), OSError, r"^\[Errno 5\] Input/output error: '.*x.h5'$"),
    (KeyError("Unable to synchronously open object (memory allocation failed)"), MemoryError,
     r"x.h5: not enough memory \(memory allocation failed\)$"),
    (OSError("Unable to synchronously open file (file locking 'ignore disabled locks' flag values don't match)"),
     OSError, "x.h5: this process has the file already open, with another kind of lock$"),
    (OSError("Unable to synchronously open file (truncated file: eof = 9)"), FormatError, "broken or truncated")])
def test_an_error_of_the_system_is_not_damage(error, kind, told, tmp_path, monkeypatch):
    """The messages are those of h5py 3.16."""
    def fail(*args, **options):
        raise error
    write_h5(tmp_path / "x.h5", {"a": np.float32([1, 2])}, {})
    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(kind, match=told):
        read_h5(tmp_path / "x.h5")
