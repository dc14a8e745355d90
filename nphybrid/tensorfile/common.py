"""What every format needs: the error, strict JSON, little-endian bytes, and writing all or nothing."""

import hashlib
import json
import math
import os
import platform
import reprlib
import secrets
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np

# NumPy's own limits: more axes, or more bytes than a signed 64-bit address reaches, cannot be an array.
MAX_AXES = 64
MAX_BYTES = 2**63 - 1
# Of a JSON document; Python's own limit depends on how deep the caller stands. Seen in model files: 5.
MAX_LEVELS = 64


class FormatError(ValueError):
    """A file that breaks a rule of its format, or that is no weight file at all.

    The message names the file, the tensor where there is one, the rule, what was found and what was expected.

    >>> print(refusal("model.safetensors", "does not fill its bytes", 12, 16, tensor="head.bias"))
    model.safetensors: tensor 'head.bias': does not fill its bytes: found 12, expected 16
    """


def refusal(path, rule, found=None, expected=None, tensor=None):
    """The FormatError for one broken rule, ready to raise; what was found is shortened and escaped."""
    where = f"{os.fspath(path)}: " + ("" if tensor is None else f"tensor {brief(tensor)}: ")
    found = "" if found is None else f": found {brief(found)}"
    expected = "" if expected is None else f", expected {expected}"
    return FormatError(where + rule + found + expected)


def brief(value, limit=120):
    """A value as one short line that is safe to print and cheap to make, whoever wrote it."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = limit
    shortener.maxlist = shortener.maxdict = 8
    # Any other value goes through its whole repr first.
    text = shortener.repr(value[:limit] if isinstance(value, bytes) else value)
    return text.encode("ascii", "backslashreplace").decode()


def listed(names, limit=8):
    """Names for a message: the first few, then how many more."""
    names = sorted(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(brief(name) for name in names[:limit]) + more


# ---------------------------------------------------------------- JSON

def parse_json(data, path, what):
    """UTF-8 bytes -> JSON value; refuses duplicate keys, lone surrogates, and numbers that are not JSON's.

    Surprise: `json` keeps the last of two equal keys, accepts NaN, reads 1e999 as infinity and -0 as 0, and
    takes quadratic time for an integer of many digits.  What it can just read, nested, it may be unable to write.
    """
    def unique(pairs):
        document = dict(pairs)
        if len(document) < len(pairs):
            seen = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))
            raise refusal(path, f"{what} has a duplicate key", twice, "each key once")
        return document

    def refused(word):
        raise ValueError(f"the number {brief(word)}")

    def integer(digits):
        return refused(digits) if digits == "-0" or len(digits) > 20 else int(digits)

    def real(digits):
        return refused(digits) if math.isinf(float(digits)) else float(digits)

    try:
        value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=refused, parse_int=integer,
                           parse_float=real)
        # Half of a surrogate pair can only be written as an escape; it would fail later, in another place.
        if b"\\u" in data:
            json_bytes(value)
        if _levels(value) > MAX_LEVELS:
            raise RecursionError
        return value
    except FormatError:
        raise
    except UnicodeError as error:
        raise refusal(path, f"{what} is not valid UTF-8 ({error.reason})", data, "UTF-8 text") from None
    except RecursionError:
        raise refusal(path, f"{what} is nested too deeply", data, f"at most {MAX_LEVELS} levels") from None
    except ValueError as error:
        raise refusal(path, f"{what} is not valid JSON ({error})", data, "one JSON value") from None


def _levels(value):
    """How deep a JSON value is nested; one more than MAX_LEVELS is deep enough to know."""
    level, count = [value], 0
    while count <= MAX_LEVELS and (level := [node for node in level if isinstance(node, (dict, list))]):
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node)]
        count += 1
    return count


def json_bytes(value):
    """A JSON value as compact UTF-8, keys in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def write_json(path, obj):
    """Writes one JSON value, indented and in UTF-8, all or nothing.

    Raises TypeError or ValueError for what JSON cannot hold, NaN included; the file is then untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(folder + "/config.json", {"labels": ["chat", "forêt"]})
    ...     print(Path(folder, "config.json").read_text(encoding="utf-8"), end="")
    {
      "labels": [
        "chat",
        "forêt"
      ]
    }
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with write_atomically(path) as temporary:
        temporary.write_bytes(text.encode())


# ---------------------------------------------------------------- arrays and bytes

def byte_count(shape, dtype, path, tensor):
    """Bytes of an array of this shape, refused beyond NumPy's limits; a zero does not excuse a huge axis."""
    # The axes first: a product of many long integers takes for ever.
    nonzero = math.prod(n for n in shape if n) * dtype.itemsize if len(shape) <= MAX_AXES else MAX_BYTES + 1
    if nonzero > MAX_BYTES:
        limits = f"at most {MAX_AXES} axes and 2**63 - 1 bytes"
        raise refusal(path, "shape is too large for an array", list(shape), limits, tensor)
    return 0 if 0 in shape else nonzero


def read_array(file, offset, shape, dtype, path, tensor):
    """The array stored at `offset` of an open file, in native byte order and memory of its own.

    Side effect: moves the file's position.  The caller has checked that the bytes exist; a file that was cut
    since then is still noticed here.
    """
    array = np.empty(shape, dtype)
    memory = array.reshape(-1).view(np.uint8)
    file.seek(offset)
    count = file.readinto(memory.data) if memory.size else 0
    if count < memory.size:
        raise refusal(path, "the file ends inside the array", count, f"{memory.size} bytes", tensor)
    return array.astype(dtype.newbyteorder("="), copy=False)


def widened(halves):
    """bfloat16, as uint16 of any byte order, -> float32, exactly: it is the upper half of one."""
    wide = halves.astype(np.uint32)
    # In place: an operator would make a scalar of a 0-d array.
    wide <<= 16
    return wide.view(np.float32)


def refuse_no_bool(array, path, tensor):
    """Refuses bytes other than 0 and 1 in a bool array: undefined behaviour, NumPy counts them as themselves here and
    there.
    """
    if array.dtype == bool and array.view(np.uint8).max(initial=0) > 1:
        raise refusal(path, "a BOOL is neither 0 nor 1", int(array.view(np.uint8).max()), "0 or 1", tensor)


@dataclass(frozen=True)
class Stored:
    """An array that lies in a file: its place is checked, its bytes are not read yet.

    `read` and np.asarray read them, each time anew, into memory of their own; any thread may. Both raise
    FormatError for bytes that break a rule, or if the file was replaced or written to in the meantime.
    """

    path: str
    name: str
    shape: tuple
    dtype: np.dtype           # of what is read: native, BF16 widened
    read: Callable            # () -> array
    sha256: str | None        # of the bytes, where the file tells

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.read(), dtype)


def read_all(stored):
    """{name: Stored} -> {name: array}"""
    return {name: array.read() for name, array in stored.items()}


def identity(file):
    """What tells an open file from the one that stood at its path before, or from itself before it was written to."""
    state = os.fstat(file.fileno())
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


@contextmanager
def reopened(path, known):
    """The file at a path, open, refused unless it is still the one of this identity."""
    with open(path, "rb") as file:
        if identity(file) != known:
            raise refusal(path, "was replaced or written to while it was read")
        yield file
        if identity(file) != known:
            raise refusal(path, "was written to while it was read")


def digest(array):
    """SHA-256 of an array's bytes as files hold them, in hex."""
    return hashlib.sha256(raw(np.asarray(array, array.dtype.newbyteorder("<"), order="C"))).hexdigest()


def little_endian(array, path, tensor):
    """An array as files hold it: little-endian, C order, same shape."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise refusal(path, "cannot store this dtype", str(array.dtype), "a float, integer or bool", tensor)
    # np.ascontiguousarray would make a 0-d array 1-d.
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def raw(array):
    """The bytes of a C-contiguous array, without a copy (a memoryview cannot cast a zero-size array)."""
    return array.reshape(-1).view(np.uint8).data


def name_trouble(name):
    """Why a string cannot name an array in any format, or None."""
    if not isinstance(name, str):
        return "a name must be a string"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "a name must be valid Unicode"
    return None


# ---------------------------------------------------------------- all or nothing

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
