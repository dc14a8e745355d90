"""Writes a file or a folder completely or not at all.

    .NAME.HOST-NAMESPACE-PID-RANDOM.tmp   is written beside the target, and then flushed to the disk
    NAME                                  is the target, which a rename replaces in one step

HOST, NAMESPACE and PID name the process that writes. Two containers with the same host name have different namespaces
of process ids.
"""

import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..shortage import path_in_errors
from .errors import FilePath, refuse_empty

LONGEST = 150                             # bytes of NAME in the name of a temporary file; file systems allow 255 in all


@contextmanager
def write_atomically(path: FilePath, most: int = 0o7777) -> Iterator[Path]:
    """Gives the path of a new, empty file.  When the `with` block ends, this file replaces the file at `path`.

    A reader sees the old file or the complete new file, never a part of a file. If the block raises an exception, the
    new file is removed and the old file does not change. The new file gets the permissions of the old file, and never a
    permission that is not in `most`. If `path` is a symbolic link, the file to which the link points is replaced. If
    the process is killed, the next write to `path` removes the new file, but not from another container. Raises OSError
    if the folder does not exist, if there is no permission, or if the disk is full. If an OSError names no file, `path`
    is added to the error. Raises ValueError if `path` is empty, or exists and is not a regular file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_atomically(folder + "/answer.txt") as temporary:
    ...         _ = temporary.write_text("42")
    ...     Path(folder, "answer.txt").read_text()
    '42'
    """
    refuse_empty(path)
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ValueError(f"{os.fspath(path)} cannot be replaced, because it is not a regular file")
    mode = _permissions(target)
    temporary = _beside(target)
    # With os.open a new file gets the user's usual permissions. With tempfile a new file would get 0600.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 & most if mode is None else 0o600))
    try:
        with path_in_errors(path):
            yield temporary
            _flush(temporary, os.O_RDWR)
        if mode is not None:
            os.chmod(temporary, mode & most)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _flush(target.parent, os.O_RDONLY)


@contextmanager
def write_folder_atomically(path: FilePath) -> Iterator[Path]:
    """Gives the path of a new, empty folder.  When the `with` block ends, this folder is renamed to `path`.

    A reader sees no folder or the complete folder. If the block raises an exception, the new folder is removed. The new
    folder gets the permissions of an empty folder at `path`. If `path` is a symbolic link, the folder to which the link
    points is written. Missing parent folders are created. Raises the exceptions of `refuse_folder`. If an OSError names
    no file, `path` is added to the error.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_folder_atomically(folder + "/model") as temporary:
    ...         _ = (temporary / "config.json").write_text("{}")
    ...     os.listdir(folder + "/model")
    ['config.json']
    """
    refuse_folder(path)
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = _permissions(target)
    temporary = _beside(target)
    temporary.mkdir(0o777 if mode is None else 0o700)
    try:
        with path_in_errors(path):
            yield temporary
        if mode is not None:
            os.chmod(temporary, mode)
        if os.name == "nt" and target.exists():           # Windows cannot replace a folder, even if it is empty
            target.rmdir()
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if os.name == "posix":
        _flush(target.parent, os.O_RDONLY)


def refuse_file(path: FilePath) -> None:
    """Raises an exception if `write_atomically` could not write the file.

    Raises ValueError if `path` is empty, or exists and is not a regular file. Raises FileNotFoundError if the folder of
    the file does not exist, and PermissionError if nothing can be written in it.
    """
    refuse_empty(path)
    folder = Path(os.path.realpath(path)).parent
    failed = f"the output file {os.fspath(path)} cannot be written, because"
    if not folder.is_dir():
        raise FileNotFoundError(f"{failed} the folder {folder} does not exist")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{failed} it exists and is not a regular file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{failed} the folder {folder} is not writable")


def refuse_folder(path: FilePath) -> None:
    """Raises an exception if `write_folder_atomically` could not write the folder.

    Raises FileExistsError if `path` exists and is not an empty folder, so that the files of two models do not mix.
    Raises ValueError if `path` is empty, or is the working folder, which must not be replaced. Raises
    NotADirectoryError if a parent of `path` is not a folder, and PermissionError if nothing can be written in it.
    """
    refuse_empty(path)
    if os.path.isdir(path) and os.path.samefile(path, os.curdir):
        raise ValueError(f"{os.fspath(path)} is the working folder, which cannot be replaced; expected the name of a "
                         "new folder, or another empty folder")
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise FileExistsError(f"{os.fspath(path)} already exists; expected the name of a new folder, or an empty "
                              "folder")
    parent = Path(os.path.realpath(path)).parent
    while not parent.exists():
        parent = parent.parent
    failed = f"the output folder {os.fspath(path)} cannot be written, because"
    if not parent.is_dir():
        raise NotADirectoryError(f"{failed} {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{failed} the folder {parent} is not writable")


def _permissions(target: Path) -> int | None:
    """Returns the permissions of a file or folder; None if it does not exist."""
    return stat.S_IMODE(target.stat().st_mode) if target.exists() else None


def _beside(target: Path) -> Path:
    """Returns a new name for a temporary file beside the target.  Removes the temporary files of dead processes."""
    sweep(target.parent, target.name)
    return target.parent / f".{_cut(target.name)}.{_place()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _cut(name: str) -> str:
    """Returns the beginning of a name, at most LONGEST bytes."""
    while len(os.fsencode(name)) > LONGEST:
        name = name[:-1]
    return name


def process_namespace() -> str | None:
    """Returns the namespace of process ids, for example "pid:[4026531836]"; None if it is unknown (not Linux)."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _place() -> str:
    """Returns the host name and the number of the namespace of process ids, or 0."""
    return f"{platform.node()}-{re.sub('[^0-9]', '', process_namespace() or '0')}"


def _flush(path: Path, flags: int) -> None:
    """Waits until the bytes of a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path, name: str | None = None) -> None:
    """Removes temporary files and folders of dead processes on this computer: those of the target `name`, or all.

    A process in another container is not known to be dead, so its files stay.
    """
    # On Windows os.kill(pid, 0) can end the process.
    if os.name != "posix":
        return
    temporary = re.compile(rf"\.(.+)\.{re.escape(_place())}-([0-9]+)-[0-9a-f]+\.tmp")
    for entry in os.listdir(folder):
        found = temporary.fullmatch(entry)
        if found and (name is None or _cut(name) == found[1]):
            try:
                os.kill(int(found[2]), 0)
            except ProcessLookupError:
                if (folder / entry).is_dir():
                    shutil.rmtree(folder / entry, ignore_errors=True)
                else:
                    (folder / entry).unlink(missing_ok=True)
            except (PermissionError, OverflowError):
                pass
