"""Conversions between arrays and bytes, for all formats."""

import hashlib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import FilePath, refusal

# NumPy's limits for the number of axes and for the number of bytes of an array.
MAX_AXES = 64
MAX_BYTES = 2**63 - 1


# ---------------------------------------------------------------- bytes -> arrays

def byte_count(shape: Iterable[int], dtype: np.dtype, path: FilePath, tensor: str) -> int:
    """Returns the number of bytes of an array of this shape and dtype.

    Raises FormatError for a shape beyond NumPy's limits. In this check, an axis of length 0 counts as length 1.
    """
    shape = list(shape)
    # The number of axes is checked first, because the product of very many long integers takes very long.
    nonzero = math.prod(n for n in shape if n) * dtype.itemsize if len(shape) <= MAX_AXES else MAX_BYTES + 1
    if nonzero > MAX_BYTES:
        limits = f"at most {MAX_AXES} axes and 2**63 - 1 bytes"
        raise refusal(path, "the shape is too large for an array", shape, limits, tensor)
    return 0 if 0 in shape else nonzero


def bfloat16_to_float32(halves: np.ndarray) -> np.ndarray:
    """Converts bfloat16 to float32 without rounding.  A bfloat16 is the upper half of a float32.

    `halves` holds the bits of the bfloat16 numbers as uint16, in any byte order.

    >>> bfloat16_to_float32(np.array([0x3F80, 0xC000], np.uint16))
    array([ 1., -2.], dtype=float32)
    """
    wide = halves.astype(np.uint32)
    # The shift is in place, because the operator << would convert a 0-d array to a scalar.
    wide <<= 16
    return wide.view(np.float32)


def refuse_invalid_bool(array: np.ndarray, path: FilePath, tensor: str) -> None:
    """Raises FormatError if a byte of a bool array is neither 0 nor 1.

    NumPy's results for other bytes are undefined.
    """
    if array.dtype == bool and array.view(np.uint8).max(initial=0) > 1:
        raise refusal(path, "a BOOL is neither 0 nor 1", int(array.view(np.uint8).max()), "0 or 1", tensor)


# ---------------------------------------------------------------- arrays -> bytes

def digest(array: np.ndarray) -> str:
    """Returns the SHA-256 of an array's bytes, as hex digits.  The bytes are little-endian and in C order."""
    return hashlib.sha256(raw(np.asarray(array, array.dtype.newbyteorder("<"), order="C"))).hexdigest()


def refuse_wrong_digest(array: np.ndarray, sha256: str | None, path: FilePath, tensor: str) -> None:
    """Raises FormatError if the file states another SHA-256 of the array's bytes.  `sha256`: None if it states none"""
    if sha256 is not None and (found := digest(array)) != sha256:
        raise refusal(path, "the checksum does not match: the bytes are damaged", found, sha256, tensor)


def little_endian(array: Any, path: FilePath, tensor: str) -> np.ndarray:
    """Converts an array to the form in a file: little-endian, C order, unchanged shape."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise refusal(path, "the format cannot store this dtype", str(array.dtype), "a float, integer or bool", tensor)
    # np.ascontiguousarray would convert a 0-d array to a 1-d array.
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def raw(array: np.ndarray) -> memoryview:
    """Returns the bytes of a C-contiguous array without a copy.

    The function memoryview.cast is not used, because it refuses an array of size 0.
    """
    return array.reshape(-1).view(np.uint8).data
