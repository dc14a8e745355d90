"""A file or a folder is written whole or not at all."""
import os
import platform
import secrets
import shutil
import stat
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_atomically(path):
    """The path of a new, empty file beside `path`; when the block ends well, it takes the place of `path`.

    A reader sees the old file or the whole new one, never a part.  If the block raises, the new file is
    removed and the old one untouched.  A symbolic link stays a link: the file it points to is replaced.
    What a killed process left behind is removed by the next write of the same name.
    Raises OSError (no such folder, no permission, disk full), ValueError if `path` is not a regular file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_atomically(folder + "/answer.txt") as temporary:
    ...         _ = temporary.write_text("42")
    ...     Path(folder, "answer.txt").read_text()
    '42'
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ValueError(f"{os.fspath(path)}: cannot be replaced: not a regular file")
    temporary = _beside(target)
    # os.open, not tempfile: a new file gets the user's usual permissions, not 0600.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
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
def write_folder_atomically(path):
    """The path of a new, empty folder beside `path`; when the block ends well, it becomes `path`.

    As in `write_atomically`, a reader sees nothing or the whole folder. Raises FileExistsError if `path` is there and
    not an empty folder: files of two models in one folder are neither.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_folder_atomically(folder + "/model") as temporary:
    ...         _ = (temporary / "config.json").write_text("{}")
    ...     os.listdir(folder + "/model")
    ['config.json']
    """
    target = Path(path)
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{os.fspath(path)} is there already; expected the name of a new folder, or an empty one")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    temporary.mkdir()
    try:
        yield temporary
        if os.name == "nt" and target.exists():           # there a folder takes no other's place
            target.rmdir()
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if os.name == "posix":
        _flush(target.parent, os.O_RDONLY)


def _beside(target):
    """A new name beside the target, for this process alone; what dead processes left there under such names goes."""
    prefix = f".{target.name}.{platform.node()}-"
    _sweep(target.parent, prefix)
    return target.parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _flush(path, flags):
    """Asks the system to have a file's bytes, or a folder's entries, on the disk before going on."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(folder, prefix):
    """Removes temporary files and folders of this machine's dead processes."""
    # On Windows os.kill(pid, 0) does not ask: it ends the process.
    if os.name != "posix":
        return
    for entry in os.listdir(folder):
        pid = entry[len(prefix):].partition("-")[0]
        if entry.startswith(prefix) and entry.endswith(".tmp") and pid.isdigit():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                if (folder / entry).is_dir():
                    shutil.rmtree(folder / entry, ignore_errors=True)
                else:
                    (folder / entry).unlink(missing_ok=True)
            except (PermissionError, OverflowError):
                pass
