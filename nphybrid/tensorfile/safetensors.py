"""safetensors: a JSON table of contents, then every array in a row.

    byte 0       8            8 + N                                 last byte of the file
    +------------+------------+-------------+-------------+--- ---+-------------+
    | N          | header     | array       | array       |  ...  | array       |
    | uint64 LE  | JSON, "{"  | begin = 0   | begin = end |       |         end |
    +------------+------------+-------------+-------------+--- ---+-------------+
                 |<--- N ---->|<------------------ the buffer ----------------->|

    header = {"__metadata__": {"format": "pt"},               optional, string -> string
              "head.bias": {"dtype": "F32",                   name of the item type
                            "shape": [1000],                  items along each axis, C order; [] is 0-d
                            "data_offsets": [0, 4000]}, ...}  bytes from the start of the buffer

The rules, in the order in which they are checked: N fits the file and 100 MB; the header begins with "{" and
is UTF-8 JSON, each key once; an entry has exactly its three fields; the span is as long as shape and type
say; sorted by begin, the arrays fill the buffer from its first byte to the file's last: no gap, no overlap,
nothing behind.
Source: the README of huggingface/safetensors, section "Format".
"""

import os
import struct
from functools import partial
from typing import NamedTuple

import numpy as np

from .atomic import write_atomically
from .documents import json_bytes, parse_json
from .kinds import refuse_unreadable
from .stored import (Stored, byte_count, identity, little_endian, name_trouble, raw, read_all, read_array, refusal,
                     refuse_no_bool, reopened, widened)

MAX_HEADER = 100_000_000

# In the order in which the writer puts them: the widest first, so that each array is aligned to its item.
_TYPES = {name: np.dtype(code) for name, code in {
    "U64": "<u8", "I64": "<i8", "F64": "<f8", "F32": "<f4", "U32": "<u4", "I32": "<i4", "BF16": "<u2",
    "F16": "<f2", "U16": "<u2", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "|b1"}.items()}
_NAMES = {dtype: name for name, dtype in _TYPES.items() if name != "BF16"}


class Entry(NamedTuple):
    """One line of the table of contents."""

    dtype: str      # the format's name of the item type, e.g. "BF16"
    shape: tuple    # items along each axis
    begin: int      # first byte, counted from the start of the file
    end: int        # the byte after the last


def read_safetensors(path):
    """Every array of a safetensors file, in file order: {name: array}.

    Arrays are native-endian and own their memory; BF16 is widened to float32, exactly.
    Raises FormatError for a file that breaks a rule, before any array is allocated; OSError if it cannot be
    opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/m.safetensors", {"scale": np.float32(2), "bias": np.arange(1., 3)})
    ...     read_safetensors(folder + "/m.safetensors")
    {'bias': array([1., 2.]), 'scale': array(2., dtype=float32)}
    """
    return read_all(stored_safetensors(path))


def stored_safetensors(path):
    """The same with no array read yet: {name: Stored}.  Every rule is checked, but for the bytes of a BOOL.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/m.safetensors", {"w": np.float32([[1, 2]])})
    ...     stored = stored_safetensors(folder + "/m.safetensors")
    ...     stored["w"].shape, stored["w"].read()
    ((1, 2), array([[1., 2.]], dtype=float32))
    """
    refuse_unreadable(path, "safetensors")
    with open(path, "rb") as file:
        entries, _ = _header(file, path)
        known = identity(file)
    return {name: Stored(path, name, entry.shape, _native(entry), partial(_read, path, name, entry, known), None)
            for name, entry in entries.items()}


def safetensors_header(path):
    """The table of contents, in file order, and the metadata: ({name: Entry}, {string: string}).

    Checks every rule of the format, as `read_safetensors` does, and reads no array.
    Raises FormatError for a file that breaks a rule; OSError if it cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/m.safetensors", {"w": np.zeros((3, 2), "f4")}, {"format": "pt"})
    ...     safetensors_header(folder + "/m.safetensors")
    ({'w': Entry(dtype='F32', shape=(3, 2), begin=96, end=120)}, {'format': 'pt'})
    """
    refuse_unreadable(path, "safetensors")
    with open(path, "rb") as file:
        return _header(file, path)


def _header(file, path):
    """Reads and checks an open file from its first byte to its first array."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise refusal(path, "is too short for a safetensors file", f"{size} bytes", "at least 8")
    (length,) = struct.unpack("<Q", file.read(8))
    if length > MAX_HEADER:
        rule = "header length is over the format's limit: not a safetensors file?"
        raise refusal(path, rule, length, f"at most {MAX_HEADER} bytes")
    if 8 + length > size:
        raise refusal(path, "ends inside its header: truncated?", f"{size} bytes", f"at least {8 + length}")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise refusal(path, "header does not begin with '{': not a safetensors file?", text[:16], "b'{'")
    document = parse_json(text, path, "header")
    metadata = _metadata(document.pop("__metadata__", {}), path)
    entries = {name: _entry(value, path, name, 8 + length) for name, value in document.items()}
    return _in_file_order(entries, path, 8 + length, size), metadata


def _metadata(value, path):
    """The optional free-form notes, a flat map of strings."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise refusal(path, "__metadata__ is no map of strings", value, "string -> string")
    return value


def _entry(value, path, name, start):
    """One checked entry; `start` is the buffer's first byte."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        found = list(value) if isinstance(value, dict) else value
        raise refusal(path, "entry has other fields", found, "exactly dtype, shape, data_offsets", name)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise refusal(path, "dtype is not supported", dtype, "one of " + ", ".join(_TYPES), name)
    if not _counts(shape):
        raise refusal(path, "shape is no list of counts", shape, "non-negative integers", name)
    if not _counts(offsets) or len(offsets) != 2:
        raise refusal(path, "data_offsets is no pair of counts", offsets, "[begin, end]", name)
    begin, end = offsets
    needed = byte_count(shape, _TYPES[dtype], path, name)
    if end - begin != needed:
        found, expected = f"{offsets}, {end - begin} bytes", f"{needed} bytes for {dtype} {shape}"
        raise refusal(path, "data_offsets and shape disagree", found, expected, name)
    return Entry(dtype, tuple(shape), start + begin, start + end)


def _counts(value):
    """Whether this is a list of non-negative integers; Python counts True among them, the format does not."""
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _in_file_order(entries, path, start, size):
    """The entries sorted by place, refused unless they fill the file from `start` to `size`."""
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    filled = start
    for name, entry in entries.items():
        if entry.begin != filled:
            rule = "leaves a gap" if entry.begin > filled else "overlaps the array before it"
            raise refusal(path, rule, f"begin {entry.begin - start}", f"begin {filled - start}", name)
        filled = entry.end
    if filled != size:
        rule = "ends inside its arrays: truncated?" if filled > size else "has bytes behind the last array"
        raise refusal(path, rule, f"{size} bytes", f"{filled}")
    return entries


def _native(entry):
    """The type that an entry's items are read as."""
    return np.dtype(np.float32) if entry.dtype == "BF16" else _TYPES[entry.dtype].newbyteorder("=")


def _read(path, name, entry, known):
    """The array that an entry describes, from the file of a known identity."""
    with reopened(path, known) as file:
        stored = read_array(file, entry.begin, entry.shape, _TYPES[entry.dtype], path, name)
    refuse_no_bool(stored, path, name)
    return widened(stored) if entry.dtype == "BF16" else stored


def write_safetensors(path, arrays, metadata=None):
    """Writes {name: array} as a safetensors file, all or nothing; the same input gives the same bytes.

    `metadata` maps strings to strings.  Arrays: float16/32/64, (u)int8..64, bool, any layout and byte order.
    Raises FormatError for a name, dtype or metadata that the format cannot hold; OSError if it cannot be
    written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/m.safetensors", {"x": np.arange(3)}, {"source": "me"})
    ...     safetensors_header(folder + "/m.safetensors")[1]
    {'source': 'me'}
    """
    for name in arrays:
        trouble = name_trouble(name) or ("is the metadata's name" if name == "__metadata__" else None)
        if trouble:
            raise refusal(path, trouble, tensor=name)
    stored = {name: little_endian(array, path, name) for name, array in arrays.items()}
    ranks = list(_TYPES)
    order = sorted(stored, key=lambda name: (ranks.index(_NAMES[stored[name].dtype]), name))
    header = _header_bytes({name: stored[name] for name in order}, dict(metadata or {}), path)
    with write_atomically(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for name in order:
            file.write(raw(stored[name]))


def _header_bytes(arrays, metadata, path):
    """The header of arrays in this order, padded with spaces so that the buffer begins at a multiple of 8."""
    if any(name_trouble(text) for pair in metadata.items() for text in pair):
        raise refusal(path, "__metadata__ is no map of strings", metadata, "string -> string")
    document = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    begin = 0
    for name, array in arrays.items():
        offsets = [begin, begin + array.nbytes]
        document[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        begin += array.nbytes
    text = json_bytes(document)
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        rule = "header length is over the format's limit"
        raise refusal(path, rule, len(text), f"at most {MAX_HEADER} bytes")
    return text
