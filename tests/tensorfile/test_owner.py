"""One process owns an output file: with the locks of the file system, without them, and both kinds at once."""
import contextlib
import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nphybrid.tensorfile import owned, owner

OWNER = """
import sys
from nphybrid.tensorfile import owned, owner
if sys.argv[2] == "without":
    owner.fcntl = None
with owned(sys.argv[1]):
    print("owned", flush=True)
    sys.stdin.read()
"""
NAMES = {"machine", "process", "boot", "namespace", "start", "since", "locked"}

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="/proc")
needs_flock = pytest.mark.skipif(owner.fcntl is None, reason="flock")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals, fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.csv"


@pytest.fixture
def lock(path):
    """The file that names the owner of `path`."""
    return path.with_name(".x.csv.lock")


@pytest.fixture
def no_locks(monkeypatch):
    """A function after which this process finds no locks."""
    return lambda: monkeypatch.setattr(owner, "fcntl", None)


@pytest.fixture(params=[pytest.param("with", marks=needs_flock), "without"])
def locks(request, no_locks):
    """A file system with locks, and one without."""
    if request.param == "without":
        no_locks()
    return request.param


@contextlib.contextmanager
def another_owner(path, locks):
    """Another process that owns a path.  -> subprocess.Popen"""
    process = subprocess.Popen([sys.executable, "-c", OWNER, path, locks], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "owned\n"
        yield process
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()


def refused(path, match=None):
    """The message of the refusal."""
    with pytest.raises(BlockingIOError, match=match) as error, owned(path):
        pass
    return str(error.value)


def record(**values):
    """The contents of a lock file: this process, with other values."""
    return json.dumps({**owner._this_process()._asdict(), **values})


# ---------------------------------------------------------------- one at a time

def test_a_second_process_is_refused_and_told_who_writes(locks, path, lock):
    with another_owner(path, locks) as process:
        told = refused(path)
        since = json.loads(lock.read_text())["since"]
        expected = (f"the output file {path} cannot be written, because process {process.pid} on the machine "
                    f"{platform.node()} has been writing it since {since}. Wait until this process has ended, or name "
                    "another output file.")
        if locks == "without":
            expected += f" If this process no longer runs, delete the file {lock}."
        assert told == expected
    assert os.listdir(path.parent) == []
    with owned(path):
        assert set(json.loads(lock.read_text())) == NAMES
    assert os.listdir(path.parent) == []


@needs_posix
def test_the_file_of_a_killed_process_is_taken(locks, path, lock):
    with another_owner(path, locks) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert json.loads(lock.read_text())["process"] == process.pid
        with owned(path):
            assert json.loads(lock.read_text())["process"] == os.getpid()
    assert os.listdir(path.parent) == []


@needs_proc
def test_a_killed_process_without_a_parent_that_waits_has_ended(no_locks, path):
    no_locks()
    with another_owner(path, "without") as process:
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)         # it stays a zombie
        with owned(path):
            pass


def test_a_process_owns_a_file_once_in_all_its_threads(locks, path):
    told = []
    with owned(path):
        thread = threading.Thread(target=lambda: told.append(refused(path)))
        thread.start()
        thread.join(60)
        told.append(refused(path))
        with owned(path.with_name("y.csv")):
            pass
    assert len(told) == 2 and all(f"process {os.getpid()} on" in text for text in told)


def test_the_file_is_removed_after_an_error(locks, path):
    with pytest.raises(KeyboardInterrupt), owned(path):
        raise KeyboardInterrupt
    assert os.listdir(path.parent) == []


def test_two_links_to_a_file_have_one_owner(locks, path):
    (path.parent / "folder").symlink_to(path.parent)
    (path.parent / "link").symlink_to("folder/x.csv")
    with owned(path):
        refused(path.parent / "link")
    with owned(path.parent / "link"):
        refused(path)


def test_a_folder_that_does_not_exist_is_named(locks, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/.x.csv.lock"), owned(tmp_path / "nowhere" / "x.csv"):
        pass


@needs_flock
def test_a_full_disk_is_named(path, lock, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"), owned(path):
        pass
    assert not lock.exists()


# ---------------------------------------------------------------- what is in the file

def test_an_empty_file_without_an_owner_is_taken(locks, path, lock):
    for text in "", "\0" * 100:
        lock.write_text(text)
        with owned(path):
            assert json.loads(lock.read_text())["process"] == os.getpid()


@needs_flock
def test_an_owner_that_has_not_yet_written_its_name(path, lock):
    for text in "", '{"machine": ':
        lock.write_text(text)
        with open(lock) as file:
            owner.fcntl.flock(file, owner.fcntl.LOCK_EX)
            assert refused(path) == (f"the output file {path} cannot be written, because another process is writing "
                                     "it. Wait until this process has ended, or name another output file.")


def test_the_file_of_another_program_is_kept(locks, path, lock):
    for text in "mine", "[1, 2]", '{"process": 1, "name": "x"}':
        lock.write_text(text)
        refused(path, f"another process is writing it.* If this process no longer runs, delete the file {lock}.$")
        assert lock.read_text() == text and os.listdir(path.parent) == [lock.name]


@needs_flock
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_recognized(number, path, lock, monkeypatch):
    def flock(*args):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(owner.fcntl, "flock", flock)
    with owned(path):
        assert json.loads(lock.read_text())["locked"] is False
        refused(path, "delete the file")
    assert os.listdir(path.parent) == []


@needs_flock
def test_another_error_of_a_lock_is_an_error(path, lock, monkeypatch):
    def flock(*args):
        raise OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(owner.fcntl, "flock", flock)
    with pytest.raises(OSError, match=f"Input/output error: '{path}'"), owned(path):
        pass


NEVER = 2**22 + 1                         # no process of Linux or macOS has this id


@needs_posix
@pytest.mark.parametrize("values", [{"process": NEVER}, {"process": 2**80}, {"process": NEVER, "start": None},
                                    {"process": NEVER, "since": "a long text" * 99}])
def test_a_process_that_no_longer_runs(values, locks, path, lock):
    lock.write_text(record(**values))
    with owned(path):
        assert json.loads(lock.read_text())["process"] == os.getpid()


@needs_proc
@pytest.mark.parametrize("values", [{"start": "1"}, {"boot": "another"}, {"boot": "another", "namespace": "x"}])
def test_another_process_has_the_id_now(values, locks, path, lock):
    lock.write_text(record(**values))
    with owned(path):
        pass


@pytest.mark.parametrize("values", [
    {"machine": "elsewhere"}, {"machine": "elsewhere", "process": NEVER}, {"machine": "elsewhere", "boot": "another"},
    pytest.param({"namespace": "another container", "process": NEVER}, marks=needs_proc),
    {"start": None}, pytest.param({"boot": None, "process": NEVER}, marks=needs_proc)])
def test_a_process_that_may_run(values, locks, path, lock):
    lock.write_text(record(**values))
    before = lock.read_bytes()
    refused(path, f" If this process no longer runs, delete the file {lock}.$")
    assert lock.read_bytes() == before


@needs_flock
def test_a_lock_that_was_released_is_no_owner_on_any_machine(path, lock):
    lock.write_text(record(machine="elsewhere", locked=True))
    with owned(path):
        pass


@needs_proc
def test_two_processes_have_different_starts(path):
    with another_owner(path, "without") as process:
        assert len({owner._start(number) for number in (1, os.getpid(), process.pid)}) == 3
        assert owner._start(NEVER) is None


@needs_proc
def test_a_name_of_a_program_does_not_change_its_start():
    comm, before = Path("/proc/self/comm"), owner._start(os.getpid())
    name = comm.read_text()
    comm.write_text(") R 1 (x) Z")
    try:
        assert owner._start(os.getpid()) == before and before.isdecimal()
    finally:
        comm.write_text(name)


# ---------------------------------------------------------------- two that begin at once

def meanwhile(monkeypatch, module, name, act):
    """Call `act` once, before the next call of a function."""
    function, calls = getattr(module, name), []

    def changed(*args):
        calls.append(args)
        if len(calls) == 1:
            act()
        return function(*args)
    monkeypatch.setattr(module, name, changed)
    return calls


@needs_posix
def test_one_of_two_takes_the_file_of_a_process_that_ended(locks, no_locks, path, lock, monkeypatch):
    """The second begins while the first, which has no lock, finds out that the old owner has ended."""
    lock.write_text(record(process=NEVER))
    new = lock.with_name(".x.csv.lock.new")
    fcntl = owner.fcntl

    def second():
        monkeypatch.setattr(owner, "fcntl", fcntl)
        told = refused(path)
        assert f"process {os.getpid()} on" in told and told.endswith(f"delete the file {new}.")
    no_locks()
    calls = meanwhile(monkeypatch, owner, "_has_ended", second)
    with owned(path):
        monkeypatch.setattr(owner, "fcntl", fcntl)
        refused(path)
    assert calls and os.listdir(path.parent) == []


@needs_flock
@pytest.mark.parametrize("left", ["", record(process=NEVER), record(process=NEVER, locked=True)])
def test_one_with_a_lock_gives_way_to_one_without(left, path, lock, monkeypatch):
    """The second, which has no lock, takes the file before the first has written its name."""
    lock.write_text(left)
    stack = contextlib.ExitStack()

    def second():
        with monkeypatch.context() as patch:
            patch.setattr(owner, "fcntl", None)
            stack.enter_context(owned(path))
    calls = meanwhile(monkeypatch, os, "ftruncate", second)
    with stack:
        refused(path, f"process {os.getpid()} on")
        assert len(calls) == 1 and json.loads(lock.read_text())["locked"] is False
    with owned(path):
        pass


@needs_flock
def test_one_that_waits_for_the_file_of_an_owner_that_ends(path, lock, monkeypatch):
    """The file was opened, and then removed by its owner: its lock means nothing."""
    stack = contextlib.ExitStack()
    stack.enter_context(owned(path))
    meanwhile(monkeypatch, owner, "_flock", stack.close)
    with owned(path):
        assert json.loads(lock.read_text())["process"] == os.getpid()
        refused(path)
    assert os.listdir(path.parent) == []


def test_a_replacement_that_was_left_behind_is_named(locks, path, lock):
    new = lock.with_name(".x.csv.lock.new")
    for text, who in (record(machine="elsewhere"), "on the machine elsewhere"), ("", "another process is writing it"):
        new.write_text(text)
        refused(path, f"{who}.* delete the file {new}.$")
        assert new.read_text() == text
    new.unlink()
    with owned(path):
        pass


def test_the_file_of_the_next_owner_is_not_removed(locks, path, lock):
    """Someone deleted the file of an owner that still ran."""
    with contextlib.ExitStack() as stack:
        with owned(path):
            lock.unlink()
            if locks == "with":
                stack.enter_context(owned(path))
            else:
                lock.write_text(record(since="later"))
        assert lock.exists()


# ---------------------------------------------------------------- children

def forked(act):
    """A child that calls a function and ends.  -> pid"""
    pid = os.fork()
    if not pid:
        try:
            act()
        finally:
            os._exit(0)
    return pid


@needs_posix
def test_a_forked_child_neither_removes_the_file_nor_keeps_the_lock(locks, path, lock):
    read_end, write_end = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.enter_context(owned(path))
        os.waitpid(forked(stack.close), 0)                  # this child leaves the block, as the parent does
        assert lock.exists()
        refused(path)
        staying = forked(lambda: (os.close(write_end), os.read(read_end, 1)))
    with owned(path):
        pass
    os.close(write_end)                   # this child has waited for the end of the pipe
    os.close(read_end)
    assert os.waitpid(staying, 0) == (staying, 0)


@needs_flock
def test_a_forked_child_does_not_keep_the_lock_of_a_killed_parent(path):
    parent = """
import os, sys
from nphybrid.tensorfile import owned
with owned(sys.argv[1]):
    if not os.fork():
        print("forked", flush=True)
        sys.stdin.read()
        os._exit(0)
    os.wait()
"""
    with subprocess.Popen([sys.executable, "-c", parent, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout.readline() == "forked\n"
        refused(path)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with owned(path):
            pass
