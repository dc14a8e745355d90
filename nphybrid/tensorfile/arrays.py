"""Arrays from bytes and bytes from arrays, as every format needs them."""

import hashlib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import FilePath, refusal

# NumPy's own limits: more axes, or more bytes than a signed 64-bit address reaches, cannot be an array.
MAX_AXES = 64
MAX_BYTES = 2**63 - 1


# ---------------------------------------------------------------- bytes -> arrays

def byte_count(shape: Iterable[int], dtype: np.dtype, path: FilePath, tensor: str) -> int:
    """Bytes of an array of this shape, refused beyond NumPy's limits, even if one axis has length 0."""
    shape = list(shape)
    # The number of axes first: the product of very many long integers takes very long.
    nonzero = math.prod(n for n in shape if n) * dtype.itemsize if len(shape) <= MAX_AXES else MAX_BYTES + 1
    if nonzero > MAX_BYTES:
        limits = f"at most {MAX_AXES} axes and 2**63 - 1 bytes"
        raise refusal(path, "shape is too large for an array", shape, limits, tensor)
    return 0 if 0 in shape else nonzero


def bfloat16_to_float32(halves: np.ndarray) -> np.ndarray:
    """bfloat16, held as uint16 of any byte order, -> float32, exactly: a bfloat16 is the upper half of a float32.

    >>> bfloat16_to_float32(np.array([0x3F80, 0xC000], np.uint16))
    array([ 1., -2.], dtype=float32)
    """
    wide = halves.astype(np.uint32)
    # In place: an operator would make a scalar of a 0-d array.
    wide <<= 16
    return wide.view(np.float32)


def refuse_invalid_bool(array: np.ndarray, path: FilePath, tensor: str) -> None:
    """Refuses bytes other than 0 and 1 in a bool array: NumPy's results for them are undefined."""
    if array.dtype == bool and array.view(np.uint8).max(initial=0) > 1:
        raise refusal(path, "a BOOL is neither 0 nor 1", int(array.view(np.uint8).max()), "0 or 1", tensor)


# ---------------------------------------------------------------- arrays -> bytes

def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes as files hold them (little-endian, C order), in hex."""
    return hashlib.sha256(raw(np.asarray(array, array.dtype.newbyteorder("<"), order="C"))).hexdigest()


def little_endian(array: Any, path: FilePath, tensor: str) -> np.ndarray:
    """An array as files hold it: little-endian, C order, same shape."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise refusal(path, "cannot store this dtype", str(array.dtype), "a float, integer or bool", tensor)
    # np.ascontiguousarray would make a 0-d array 1-d.
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def raw(array: np.ndarray) -> memoryview:
    """The bytes of a C-contiguous array, without a copy.  (memoryview.cast refuses an array of size 0.)"""
    return array.reshape(-1).view(np.uint8).data
