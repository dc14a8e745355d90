"""Writes packed weights to a file, and maps such a file into memory.

    byte 0     8                       40              40 + N
    +----------+-----------------------+---------------+-------+---------+-------+---------+---
    | N        | SHA-256 of the header | header        | zeros | array 0 | zeros | array 1 | ...
    | uint64   | 32 bytes              | N bytes, JSON |       |         |       |         |
    +----------+-----------------------+---------------+-------+---------+-------+---------+---

    header = {"leaves": {name of a leaf: {attribute: value}}, "note": {key: value}}

An array is a value {"dtype": "<f4", "shape": [3, 4], "begin": 128, "checksum": "9f86d0..."}. `begin` counts from the
cache line after the header. Each array begins at the start of a cache line.

`_checksum` finds a flipped bit, and pages that were lost or exchanged. It does not find changes that keep the sum of
the words of a page, for example two exchanged words. The checksums of 400 MB take 0.016 s, and SHA-256 of all bytes
would take 0.13 s (Zen 3, 2 threads). No checksum in the file protects against deliberate changes.

All processes that map a file share its memory. If a process writes into an array, the process gets its own copy of the
page, and the file does not change. A mapped file needs a file descriptor. The file must not be made shorter while it is
mapped: reading the lost part ends the process (SIGBUS).
"""
import hashlib
import json
import math
import mmap

import numpy as np

from . import threads
from .cache import written
from .integers import ceil_div
from .packed import Packed
from .target import CACHE_LINE

START = 40                                # the first byte of the header
PAGE = 4096                               # bytes


def write(path, leaves, note, mode=0o755):
    """Write leaves {name: Packed or array}, and a dict of JSON values, completely or not at all.

    The file gets no permission that is not in `mode`. Raises OSError if the file cannot be written.
    """
    arrays, end = [], 0

    def placed(value):
        """Give an array a place in the file, and return its description.  Another value is returned unchanged."""
        nonlocal end
        if not isinstance(value, np.ndarray):
            return value
        array = np.ascontiguousarray(value)
        begin = _aligned(end)
        end = begin + array.nbytes
        arrays.append((begin, array))
        return {"dtype": array.dtype.str, "shape": array.shape, "begin": begin, "checksum": _checksum(_bytes(array))}
    table = {name: {key: placed(value) for key, value in _attributes(leaf).items()} for name, leaf in leaves.items()}
    header = json.dumps({"leaves": table, "note": note}).encode()
    start = _aligned(START + len(header))
    with written(path, mode) as temporary, open(temporary, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + hashlib.sha256(header).digest() + header)
        for begin, array in arrays:
            file.seek(start + begin)
            file.write(_bytes(array))
        file.truncate(start + _aligned(end))              # also if the last array is empty


def read(path):
    """Map a file of `write`.  -> leaves {name: Packed or array}, note

    Raises OSError if the file cannot be opened, and ValueError if it is damaged.
    """
    with open(path, "rb") as file:
        memory = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    header_end = START + int.from_bytes(memory[:8].tobytes(), "little")
    header = memory[START:header_end].tobytes()
    if hashlib.sha256(header).digest() != memory[8:START].tobytes():
        raise ValueError("the header is damaged")
    document = json.loads(header)
    data, checksums = memory[_aligned(header_end):], []

    def value_of(value):
        """The array that a description stands for.  Another value is returned unchanged."""
        if not isinstance(value, dict):
            return value
        dtype, begin = np.dtype(value["dtype"]), value["begin"]
        end = begin + math.prod(value["shape"]) * dtype.itemsize
        if end > len(data):
            raise ValueError("the file is truncated")
        checksums.append((data[begin:end], value["checksum"]))
        return data[begin:end].view(dtype).reshape(value["shape"])
    leaves = {name: _leaf({key: value_of(value) for key, value in attributes.items()})
              for name, attributes in document["leaves"].items()}
    good = [False] * len(checksums)

    def check(i):
        """Compare the checksum of array i."""
        part, expected = checksums[i]
        good[i] = _checksum(part) == expected
    threads.run(len(checksums), check)
    if not all(good):
        raise ValueError(f"{good.count(False)} of {len(good)} arrays are damaged")
    return leaves, document["note"]


def _attributes(leaf):
    """The attributes of a Packed, or those that stand for an array."""
    return leaf.attributes() if isinstance(leaf, Packed) else {"array": leaf}


def _leaf(attributes):
    """The leaf with these attributes."""
    return attributes["array"] if "array" in attributes else Packed.of(**attributes)


def _aligned(n):
    """`n` rounded up to the start of a cache line."""
    return ceil_div(n, CACHE_LINE) * CACHE_LINE


def _bytes(array):
    """The bytes of a C-contiguous array, as an array of uint8."""
    return array.reshape(-1).view(np.uint8)


def _checksum(data):
    """SHA-256 of the sum of the 64-bit words of each page of `data`, and of the bytes after the last page."""
    whole = len(data) // PAGE * PAGE
    sums = data[:whole].view(np.uint64).reshape(-1, PAGE // 8).sum(1)
    return hashlib.sha256(sums.tobytes() + data[whole:].tobytes()).hexdigest()
