"""What every format needs: the error, strict JSON, little-endian bytes, and writing all or nothing."""

import hashlib
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable

import numpy as np

from ..text import shortened

# NumPy's own limits: more axes, or more bytes than a signed 64-bit address reaches, cannot be an array.
MAX_AXES = 64
MAX_BYTES = 2**63 - 1


class FormatError(ValueError):
    """A file that breaks a rule of its format, or that is no weight file at all.

    The message names the file, the tensor where there is one, the rule, what was found and what was expected.

    >>> print(refusal("model.safetensors", "does not fill its bytes", 12, 16, tensor="head.bias"))
    model.safetensors: tensor 'head.bias': does not fill its bytes: found 12, expected 16
    """


def refusal(path, rule, found=None, expected=None, tensor=None):
    """The FormatError for one broken rule, ready to raise; what was found is shortened and escaped."""
    where = f"{os.fspath(path)}: " + ("" if tensor is None else f"tensor {shortened(tensor)}: ")
    found = "" if found is None else f": found {shortened(found)}"
    expected = "" if expected is None else f", expected {expected}"
    return FormatError(where + rule + found + expected)


# ---------------------------------------------------------------- JSON

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
