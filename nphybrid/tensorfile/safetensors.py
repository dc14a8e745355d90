"""Reads and writes safetensors files.  Such a file holds a JSON table of contents, and then the arrays.

    byte 0       8            8 + N                                 last byte of the file
    +------------+------------+-------------+-------------+--- ---+-------------+
    | N          | header     | array       | array       |  ...  | array       |
    | uint64 LE  | JSON, "{"  | begin = 0   | begin = end |       |         end |
    +------------+------------+-------------+-------------+--- ---+-------------+
                 |<--- N ---->|<------------------ the buffer ----------------->|

    header = {"__metadata__": {"format": "pt",                optional, string -> string
                               "nphybrid.sha256": "{…}"},     optional, JSON: {name: SHA-256 of the array}
              "head.bias": {"dtype": "F32",                   name of the item type
                            "shape": [1000],                  items along each axis, C order; [] is 0-d
                            "data_offsets": [0, 4000]}, ...}  bytes from the start of the buffer

The rules are checked in this order:

1. The header has N bytes, at most 100 MB, and is completely inside the file.
2. The header begins with "{" and is JSON in UTF-8.  No two keys of an object are equal.
3. An entry has exactly the fields dtype, shape and data_offsets.
4. The number of bytes between the two data_offsets is the number that shape and dtype need.
5. The arrays fill the buffer from its first byte to the last byte of the file, without a gap and without an overlap.
6. If the metadata have the key CHECKSUMS, it states the SHA-256 of exactly the arrays of the file.

The format is described in the section "Format" of the README of huggingface/safetensors.
"""

import struct
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from .arrays import (bfloat16_to_float32, byte_count, digest, little_endian, raw, refuse_invalid_bool,
                     refuse_wrong_digest)
from .atomic import write_atomically
from .documents import json_bytes, parse_json
from .errors import FilePath, name_trouble, refusal
from .kinds import refuse_unreadable
from .stored import Reader, SharedFile, Stored, read_all, read_array, shared

MAX_HEADER = 100_000_000
CHECKSUMS = "nphybrid.sha256"              # a key of the metadata

# The writer sorts the arrays in this order of types. The widest types come first, so that each array is aligned.
_TYPES = {name: np.dtype(code) for name, code in {
    "U64": "<u8", "I64": "<i8", "F64": "<f8", "F32": "<f4", "U32": "<u4", "I32": "<i4", "BF16": "<u2",
    "F16": "<f2", "U16": "<u2", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "|b1"}.items()}
_NAMES = {dtype: name for name, dtype in _TYPES.items() if name != "BF16"}


class Entry(NamedTuple):
    """One line of the table of contents."""

    dtype: str                 # the type of the items as the header states it, such as "BF16"
    shape: tuple[int, ...]     # number of items along each axis
    begin: int                 # position of the first byte of the array in the file
    end: int                   # position after the last byte of the array in the file


def read_safetensors(path: FilePath) -> dict[str, np.ndarray]:
    """Reads every array of a safetensors file, in file order.  -> {name: array}

    Arrays are in native byte order and own their memory. Items of BF16 become float32 without rounding. Raises
    FormatError for a file that breaks a rule of its format, before memory for any array is allocated. Raises OSError if
    the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/m.safetensors", {"scale": np.float32(2), "bias": np.arange(1., 3)})
    ...     read_safetensors(folder + "/m.safetensors")
    {'bias': array([1., 2.]), 'scale': array(2., dtype=float32)}
    """
    return read_all(stored_safetensors(path))


def stored_safetensors(path: FilePath) -> dict[str, Stored]:
    """Finds every array of a safetensors file, in file order, but reads no array.  -> {name: Stored}

    The bytes of a BOOL and the checksum of an array are checked later, when the array is read. This function checks all
    other rules. Raises the exceptions of `read_safetensors`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/m.safetensors", {"w": np.float32([[1, 2]])})
    ...     stored = stored_safetensors(folder + "/m.safetensors")
    ...     stored["w"].shape, stored["w"].read()
    ((1, 2), array([[1., 2.]], dtype=float32))
    """
    return safetensors_contents(path)[0]


def safetensors_contents(path: FilePath) -> tuple[dict[str, Stored], dict[str, str]]:
    """Returns the result of `stored_safetensors`, and the metadata.  -> {name: Stored}, {string: string}

    The header is read one time. Raises the exceptions of `read_safetensors`.
    """
    file = shared(path)
    entries, metadata = safetensors_header(file)
    checksums = _checksums(metadata, entries, file)
    return {name: Stored(file.path, name, entry.shape, _native(entry),
                         partial(_read, file, name, entry, checksums.get(name)), checksums.get(name), file)
            for name, entry in entries.items()}, metadata


def safetensors_header(path: FilePath) -> tuple[dict[str, Entry], dict[str, str]]:
    """Returns the table of contents, in file order, and the metadata.  -> {name: Entry}, {string: string}

    Checks rules 1 to 5 of this module, and reads no array. Raises FormatError for a file that breaks a rule. Raises
    OSError if the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/m.safetensors", {"w": np.zeros((3, 2), "f4")}, {"format": "pt"})
    ...     safetensors_header(folder + "/m.safetensors")
    ({'w': Entry(dtype='F32', shape=(3, 2), begin=96, end=120)}, {'format': 'pt'})
    """
    file = shared(path)
    with file.opened() as reader:
        refuse_unreadable(file, "safetensors")
        return _header(reader, file)


def write_safetensors(path: FilePath, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None,
                      checksums: bool = False) -> None:
    """Writes {name: array} as a safetensors file, completely or not at all.

    Equal input gives equal bytes. `metadata` maps strings to strings. `checksums`: if True, the metadata also hold the
    SHA-256 of each array, which the functions of this module compare when they read the array. Arrays have the dtype
    float16/32/64, (u)int8..64 or bool, and any layout and byte order. Raises FormatError for a name, a dtype or
    metadata that the format cannot hold. Raises OSError if the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/m.safetensors", {"x": np.arange(3)}, {"source": "me"})
    ...     safetensors_header(folder + "/m.safetensors")[1]
    {'source': 'me'}
    """
    for name in arrays:
        trouble = name_trouble(name) or ("this name belongs to the metadata" if name == "__metadata__" else None)
        if trouble:
            raise refusal(path, trouble, tensor=name)
    stored = {name: little_endian(array, path, name) for name, array in arrays.items()}
    if checksums:
        states = json_bytes({name: digest(array) for name, array in stored.items()})
        metadata = {**(metadata or {}), CHECKSUMS: states.decode()}
    ranks = list(_TYPES)
    order = sorted(stored, key=lambda name: (ranks.index(_NAMES[stored[name].dtype]), name))
    header = _header_bytes({name: stored[name] for name in order}, dict(metadata or {}), path)
    with write_atomically(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for name in order:
            file.write(raw(stored[name]))


def _header(reader: Reader, path: FilePath) -> tuple[dict[str, Entry], dict[str, str]]:
    """Reads and checks a file from its first byte to the end of its header."""
    size = reader.size()
    if size < 8:
        raise refusal(path, "the file is too short for a safetensors file", f"{size} bytes", "at least 8")
    (length,) = struct.unpack("<Q", reader.read(8))
    if length > MAX_HEADER:
        rule = "the header length is over the format's limit, so this is no safetensors, npz or HDF5 file"
        raise refusal(path, rule, length, f"at most {MAX_HEADER} bytes")
    if 8 + length > size:
        rule = "the file ends inside its header: is the file truncated?"
        raise refusal(path, rule, f"{size} bytes", f"at least {8 + length}")
    text = reader.read(length)
    if not text.startswith(b"{"):
        raise refusal(path, "the header does not begin with '{': is it a safetensors file?", text[:16], "b'{'")
    document = parse_json(text, path, "header")
    metadata = _metadata(document.pop("__metadata__", {}), path)
    entries = {name: _entry(value, path, name, 8 + length) for name, value in document.items()}
    return _in_file_order(entries, path, 8 + length, size), metadata


def _metadata(value: Any, path: FilePath) -> dict[str, str]:
    """Returns the metadata, which must be an object of strings."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise refusal(path, "__metadata__ is not an object of strings", value, "string -> string")
    return value


def _entry(value: Any, path: FilePath, name: str, start: int) -> Entry:
    """Checks an item of the header, and returns it as an Entry.  `start` is the position of the buffer in the file."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        found = list(value) if isinstance(value, dict) else value
        raise refusal(path, "the entry has wrong fields", found, "exactly dtype, shape, data_offsets", name)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise refusal(path, "the dtype is not supported", dtype, "one of " + ", ".join(_TYPES), name)
    if not _counts(shape):
        raise refusal(path, "the shape is not a list of non-negative integers", shape, "a list such as [3, 4]", name)
    if not _counts(offsets) or len(offsets) != 2:
        raise refusal(path, "data_offsets is not a pair of non-negative integers", offsets, "[begin, end]", name)
    begin, end = offsets
    needed = byte_count(shape, _TYPES[dtype], path, name)
    if end - begin != needed:
        found, expected = f"{offsets}, {end - begin} bytes", f"{needed} bytes for {dtype} {shape}"
        raise refusal(path, "data_offsets and shape disagree", found, expected, name)
    return Entry(dtype, tuple(shape), start + begin, start + end)


def _counts(value: Any) -> TypeGuard[list[int]]:
    """Whether a value is a list of non-negative integers.  The value True is not accepted as an integer."""
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _in_file_order(entries: dict[str, Entry], path: FilePath, start: int, size: int) -> dict[str, Entry]:
    """Sorts the entries by place.  Raises FormatError if the arrays do not fill the bytes from `start` to `size`."""
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    filled = start
    for name, entry in entries.items():
        if entry.begin != filled:
            gap = entry.begin > filled
            rule = "there is a gap before the array" if gap else "the array overlaps the array before it"
            raise refusal(path, rule, f"begin {entry.begin - start}", f"begin {filled - start}", name)
        filled = entry.end
    if filled != size:
        rule = "the file has bytes after the last array"
        if filled > size:
            rule = "the file ends inside its arrays: is the file truncated?"
        raise refusal(path, rule, f"{size} bytes", f"{filled}")
    return entries


def _native(entry: Entry) -> np.dtype:
    """Returns the NumPy type that an entry's array has after reading."""
    return np.dtype(np.float32) if entry.dtype == "BF16" else _TYPES[entry.dtype].newbyteorder("=")


def _checksums(metadata: Mapping[str, str], entries: Mapping[str, Entry], path: FilePath) -> dict[str, str]:
    """Returns the SHA-256 of each array; {} if the metadata do not state it."""
    if CHECKSUMS not in metadata:
        return {}
    checksums = parse_json(metadata[CHECKSUMS].encode(), path, CHECKSUMS)
    if (not isinstance(checksums, dict) or checksums.keys() != entries.keys()
            or not all(isinstance(checksum, str) for checksum in checksums.values())):
        raise refusal(path, f"{CHECKSUMS} does not belong to the arrays", checksums, "a string for each array")
    return checksums


def _read(file: SharedFile, name: str, entry: Entry, sha256: str | None) -> np.ndarray:
    """Reads the array that an entry describes.  `sha256`: its SHA-256 if the file states it, else None"""
    with file.opened() as reader:
        array = read_array(reader, entry.begin, entry.shape, _TYPES[entry.dtype], file, name)
    refuse_invalid_bool(array, file, name)
    array = bfloat16_to_float32(array) if entry.dtype == "BF16" else array
    refuse_wrong_digest(array, sha256, file, name)
    return array


def _header_bytes(arrays: dict[str, np.ndarray], metadata: dict[str, str], path: FilePath) -> bytes:
    """Returns the header for arrays, in the given order.

    Spaces at the end of the header make the buffer begin at a multiple of 8 bytes.
    """
    if any(name_trouble(text) for pair in metadata.items() for text in pair):
        raise refusal(path, "__metadata__ is not an object of strings", metadata, "string -> string")
    document: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    begin = 0
    for name, array in arrays.items():
        offsets = [begin, begin + array.nbytes]
        document[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        begin += array.nbytes
    text = json_bytes(document)
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        rule = "the header length is over the format's limit"
        raise refusal(path, rule, len(text), f"at most {MAX_HEADER} bytes")
    return text
