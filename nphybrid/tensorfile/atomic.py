"""Writes a file or a folder completely or not at all.

    .NAME.HOST-PID-RANDOM.tmp     is written beside the target, and then flushed to the disk
    NAME                          is the target, which a rename replaces in one step
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


@contextmanager
def write_atomically(path: FilePath) -> Iterator[Path]:
    """Gives the path of a new, empty file.  When the `with` block ends, this file replaces the file at `path`.

    A reader sees the old file or the complete new file, never a part of a file. If the block raises an exception, the
    new file is removed and the old file does not change. If `path` is a symbolic link, the file to which the link
    points is replaced. If the process is killed, the next write to `path` removes the new file. Raises OSError
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
    temporary = _beside(target)
    # With os.open a new file gets the user's usual permissions. With tempfile a new file would get 0600.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with path_in_errors(path):
            yield temporary
            _flush(temporary, os.O_RDWR)
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _flush(target.parent, os.O_RDONLY)


@contextmanager
def write_folder_atomically(path: FilePath) -> Iterator[Path]:
    """Gives the path of a new, empty folder.  When the `with` block ends, this folder is renamed to `path`.

    A reader sees no folder or the complete folder. If the block raises an exception, the new folder is removed. Raises
    FileExistsError if `path` exists and is not an empty folder, so that the files of two models do not mix. If an
    OSError names no file, `path` is added to the error.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_folder_atomically(folder + "/model") as temporary:
    ...         _ = (temporary / "config.json").write_text("{}")
    ...     os.listdir(folder + "/model")
    ['config.json']
    """
    refuse_empty(path)
    target = Path(path)
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{os.fspath(path)} already exists; expected the name of a new folder, or an empty "
                              "folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    temporary.mkdir()
    try:
        with path_in_errors(path):
            yield temporary
        if os.name == "nt" and target.exists():           # Windows cannot replace a folder, even if it is empty
            target.rmdir()
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if os.name == "posix":
        _flush(target.parent, os.O_RDONLY)


def _beside(target: Path) -> Path:
    """Returns a new name for a temporary file beside the target.  Removes the temporary files of dead processes."""
    sweep(target.parent, target.name)
    return target.parent / f".{target.name}.{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _flush(path: Path, flags: int) -> None:
    """Waits until the bytes of a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path, name: str | None = None) -> None:
    """Removes temporary files and folders of dead processes on this computer: those of the target `name`, or all."""
    # On Windows os.kill(pid, 0) can end the process.
    if os.name != "posix":
        return
    temporary = re.compile(rf"\.(.+)\.{re.escape(platform.node())}-([0-9]+)-[0-9a-f]+\.tmp")
    for entry in os.listdir(folder):
        found = temporary.fullmatch(entry)
        if found and name in (None, found[1]):
            try:
                os.kill(int(found[2]), 0)
            except ProcessLookupError:
                if (folder / entry).is_dir():
                    shutil.rmtree(folder / entry, ignore_errors=True)
                else:
                    (folder / entry).unlink(missing_ok=True)
            except (PermissionError, OverflowError):
                pass
