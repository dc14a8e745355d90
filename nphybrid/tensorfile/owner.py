"""Makes one process the only writer of an output file.

    NAME              is the output file
    .NAME.lock        is a file beside NAME that names the owner, which is the process that writes NAME
    .NAME.lock.new    will replace .NAME.lock, on a file system without locks

On most file systems, the owner has a lock on .NAME.lock (`flock`).  The operating system releases the lock when the
process ends, even if the process is killed.  The file .NAME.lock of a killed process remains, and the next owner uses
this file again.

Windows and some file systems do not have `flock`.  Without `flock`, NAME has an owner as long as .NAME.lock exists.  A
process becomes the next owner in three steps.

1. The process creates .NAME.lock.new.  Only one process can create this file (O_EXCL).  All other processes are
   refused.
2. The process reads .NAME.lock.  If the owner that .NAME.lock names may still run, the process removes .NAME.lock.new
   and is refused.
3. The process renames .NAME.lock.new to .NAME.lock.

A process that uses `flock` also notices an owner without a lock.  After this process has written .NAME.lock, it checks
that .NAME.lock was not replaced, and that no .NAME.lock.new exists.

On some network file systems, a lock is only known to one machine, for example with the option `local_lock` of NFS.
In this case, two processes on two machines can own one output file.
"""

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from .atomic import process_namespace
from .errors import FilePath

fcntl: Any
try:
    import fcntl
except ImportError:                       # Windows
    fcntl = None

# The errors of `flock` on a file system without locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}

_locked_files: set[int] = set()           # the open files on which this process has a lock


class _Owner(NamedTuple):
    """The contents of .NAME.lock.  If the file cannot be understood, each value is None."""

    machine: str | None = None
    process: int | None = None            # the process id
    boot: str | None = None               # changes when the machine is started; None if unknown
    namespace: str | None = None          # the namespace of the process id; differs between two containers
    start: str | None = None              # the time from the start of the machine to the start of the process
    since: str | None = None              # the time at which the process became the owner
    locked: bool | None = None            # True if the owner has a lock


@contextlib.contextmanager
def owned(path: FilePath) -> Iterator[None]:
    """Makes this process the only owner of an output file until the `with` block ends.

    Every other attempt to own the same file raises BlockingIOError. This is also true for an attempt of the same
    process, in any thread. The message names the process and the machine of the owner. If `path` is a symbolic link,
    the file to which the link points is owned. A child that was made by `fork` is not an owner. The child does not keep
    the lock, and does not remove the file .NAME.lock. Raises OSError if .NAME.lock cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, owned(folder + "/x.csv"):
    ...     with owned(folder + "/x.csv"):      # doctest: +ELLIPSIS
    ...         pass
    Traceback (most recent call last):
    ...
    BlockingIOError: the output file .../x.csv cannot be written, because process ... on the machine ... has been ...
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    me = _this_process()
    try:
        file = _take_with_lock(path, lock, me)
        if file is None:
            _take_without_lock(path, lock, me)
    except PermissionError as error:
        if lock.exists():
            raise PermissionError(f"the output file {os.fspath(path)} cannot be written, because {lock} belongs to "
                                  "another user. If no run writes the output file, delete this file.") from error
        raise
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise
    try:
        yield
    finally:
        if me.process == os.getpid():
            _release(lock, file, me)


# ---------------------------------------------------------------- taking and releasing

def _take_with_lock(path: FilePath, lock: Path, me: _Owner) -> int | None:
    """Makes this process the owner with a lock.  -> the open file .NAME.lock; None if the file system has no locks"""
    while fcntl is not None:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _flock(file):
                return None
            owner = _read(file)
            if owner and not owner.locked and not _has_ended(owner):
                _refuse(path, owner, lock)
            try:
                os.ftruncate(file, 0)
                os.pwrite(file, _record(me._replace(locked=True)), 0)
            except OSError:               # for example, the disk is full
                lock.unlink(missing_ok=True)
                raise
            if os.path.lexists(_new(lock)):
                _refuse(path, _read_at(_new(lock)) or _Owner(), _new(lock))
            # The previous owner may have removed .NAME.lock after this process opened it.
            if _is_at(file, lock):
                _locked_files.add(file)
                return file
        except BlockingIOError as error:
            if error.errno is None:
                raise
            _refuse(path, _read(file) or _Owner())
        finally:
            if file not in _locked_files:
                os.close(file)
    return None


def _take_without_lock(path: FilePath, lock: Path, me: _Owner) -> None:
    """Makes this process the owner without a lock, by creating .NAME.lock."""
    new = _new(lock)
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        _refuse(path, _read_at(new) or _Owner(), new)
    try:
        with open(file, "wb") as stream:
            stream.write(_record(me))
        owner = _read_at(lock)
        if owner and not _has_ended(owner):
            _refuse(path, owner, lock)
        os.replace(new, lock)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _release(lock: Path, file: int | None, me: _Owner) -> None:
    """Removes .NAME.lock if no other process has replaced it."""
    # The output file no longer needs an owner. So it is not an error if .NAME.lock cannot be removed.
    with contextlib.suppress(OSError):
        if _is_at(file, lock) if file is not None else _read_at(lock) == me:
            lock.unlink()
    if file is not None:
        _locked_files.remove(file)
        os.close(file)


def _flock(file: int) -> bool:
    """Locks an open file.  Returns False if the file system has no locks.

    Raises BlockingIOError if another owner has the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _close_in_child() -> None:
    """Closes the locked files of the parent.  Otherwise the child would keep the locks after the end of the parent."""
    for file in _locked_files:
        os.close(file)
    _locked_files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


# ---------------------------------------------------------------- refusals

def _refuse(path: FilePath, owner: _Owner, file: Path | None = None) -> NoReturn:
    """Raises BlockingIOError.  `file` is the file to delete if the owner has ended."""
    who = "another process is writing it"
    if owner.machine:
        who = f"process {owner.process} on the machine {owner.machine} has been writing it since {owner.since}"
    way_out = "" if file is None else f" If this process no longer runs, delete the file {file}."
    raise BlockingIOError(f"the output file {os.fspath(path)} cannot be written, because {who}. Wait until this "
                          f"process has ended, or name another output file.{way_out}")


def _has_ended(owner: _Owner) -> bool:
    """Returns True if the owner has certainly ended.  The end of a process on another machine cannot be known."""
    me = _this_process()
    if owner.machine != me.machine or os.name != "posix":
        return False                      # on Windows, os.kill(process, 0) can end the process
    if owner.boot and me.boot and owner.boot != me.boot:
        return True
    if (owner.boot, owner.namespace) != (me.boot, me.namespace) or owner.process is None:
        return False
    try:
        os.kill(owner.process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:               # the process of another user
        pass
    start = _start(owner.process)
    return bool(owner.start and start and owner.start != start)


# ---------------------------------------------------------------- the contents of .NAME.lock

def _new(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.new")


def _this_process() -> _Owner:
    """Returns an _Owner that describes this process, which has no lock yet."""
    boot = None
    with contextlib.suppress(OSError):    # only Linux has this file
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return _Owner(platform.node(), os.getpid(), boot, process_namespace(), _start(os.getpid()),
                  time.strftime("%Y-%m-%d %H:%M:%S %z"), False)


def _start(process: int) -> str | None:
    """Returns the start of a process as a text; None if the start is unknown, for example on macOS.

    Two processes with the same id have different starts. The text is the number of clock ticks from the start of the
    machine to the start of the process. It is field 22 of /proc/PID/stat, see proc(5). If the process has ended, but
    its parent has not yet read the exit code, the text is "ended".
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # Field 2 is the name of the program in parentheses. The name may contain spaces and parentheses.
    state, *fields = stat[stat.rindex(")") + 1:].split()
    return "ended" if state in "ZX" else fields[18]


def _record(owner: _Owner) -> bytes:
    return json.dumps(owner._asdict()).encode()


def _read(file: int) -> _Owner | None:
    """Reads the _Owner in an open file.  -> _Owner; None if the file is empty"""
    return _parse(os.pread(file, 1 << 16, 0))


def _read_at(path: Path) -> _Owner | None:
    """Reads the _Owner in the file at a path.  -> _Owner; None if the file is empty or does not exist"""
    try:
        return _parse(path.read_bytes())
    except FileNotFoundError:
        return None


def _parse(text: bytes) -> _Owner | None:
    text = text.strip(b"\0")              # a power failure can leave zeros
    try:
        return _Owner(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return _Owner()


def _is_at(file: int, path: Path) -> bool:
    """Returns True if an open file is the file at a path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
