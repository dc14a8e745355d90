"""Reads and writes npz files.  An npz file is a zip archive with one .npy file for each array.

The function np.savez writes npz files.  Google publishes weights as npz files.

    w.npz = a zip archive, see archive.py, of     a/b.npy  c.npy  ...     plain, or deflated (np.savez_compressed)

    byte 0      6         8           10                                               10 + N        last byte
    +-----------+---------+-----------+------------------------------------------------+--- ---+-------+
    | 93        | version | N         | {'descr': '<f4', 'fortran_order': False,       | item  | item  |
    | "NUMPY"   | 1, 0    | uint16 LE |  'shape': (3, 4), }    padded, ends in newline |  ...  |       |
    +-----------+---------+-----------+------------------------------------------------+--- ---+-------+
                  2 or 3    uint32      Python's notation: type of the items, order, items along each axis

The rules are checked in this order:

1. The file follows the rules of a zip archive (archive.py).
2. The name of a member is the name of an array, followed by .npy.
3. The header has N bytes, at most 10,000, and is completely inside the member.
4. The header is a dictionary with exactly the keys descr, fortran_order and shape.
5. The items are numbers or bools in either byte order.  The member holds exactly as many items as the shape needs.
6. The CRC-32 of a member is the CRC-32 that the archive states.  Every byte of a bool is 0 or 1.  Rule 6 is checked
   when the member is read.

An item of the type V2 is two bytes without a meaning.  NumPy writes bfloat16 as V2, so V2 is read as bfloat16.  Items
that are Python objects would be pickles inside a member.  Python objects and all other types are refused.

The arrays can be much larger than the file: zeros deflate to a thousandth of their length.  Before you read a
stranger's file, compare the shapes from `npz_header` with the shapes that you expect.  The source of the format is
NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays".
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .archive import MAX_MEMBERS, Entry, contents, entries, refuse_name
from .arrays import bfloat16_to_float32, byte_count, little_endian, raw, refuse_invalid_bool
from .atomic import write_atomically
from .errors import FilePath, refusal
from .kinds import refuse_unreadable, sniff
from .stored import Reader, SharedFile, Stored, read_all, shared

# NumPy's limit on the length of a header.
MAX_HEADER = 10_000
SUFFIX = ".npy"

_NUMBERS = [np.dtype(order + code) for order in "<>" for code in "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split()]
_BFLOAT16 = dict.fromkeys(("<V2", "|V2", "V2"), np.dtype("<u2"))
_TYPES = {dtype.str: dtype for dtype in _NUMBERS} | _BFLOAT16

# {first eight bytes of a member: number of bytes that hold N}
_LENGTH = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4, b"\x93NUMPY\3\0": 4}
_COUNT = "(?:0|[1-9][0-9]{0,18})"
_SHAPE = rf"\((?:{_COUNT}, *|{_COUNT}(?:, *{_COUNT})+(?:, *)?)?\)"
_PAIR = rf"'(descr|fortran_order|shape)' *: *('[^'\\]*'|True|False|{_SHAPE})"
_HEADER = re.compile(rf"\{{ *{_PAIR} *, *{_PAIR} *, *{_PAIR} *(?:, *)?\}} *\n")
_EXAMPLE = "a text such as {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, then spaces, then a newline"


class Member(NamedTuple):
    """One array of an npz file."""

    dtype: str                 # the type of the items as the header states it, such as "<f4"
    shape: tuple[int, ...]     # number of items along each axis
    fortran_order: bool        # True: the index of the first axis changes fastest; False: the index of the last axis
    header: int                # number of bytes before the first item
    entry: Entry               # the member in the archive; entry.size is the number of bytes of header and items


def read_npz(path: FilePath) -> dict[str, np.ndarray]:
    """Reads every array of an npz file, in file order.  -> {name: array}

    Arrays are in native byte order and in C order, and own their memory. Items of bfloat16 (V2) become float32 without
    rounding. Raises FormatError for a file that breaks a rule of its format, or that has a wrong checksum. Raises
    OSError if the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez_compressed(folder + "/m.npz", **{"head/bias": np.float32([1, 2])})
    ...     read_npz(folder + "/m.npz")
    {'head/bias': array([1., 2.], dtype=float32)}
    """
    return read_all(stored_npz(path))


def stored_npz(path: FilePath) -> dict[str, Stored]:
    """Finds every array of an npz file, in file order, but reads no array.  -> {name: Stored}

    The inflated length, the CRC-32 and the bytes of a bool are checked later, when the array is read. This function
    checks all other rules. Raises the exceptions of `read_npz`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(folder + "/m.npz", w=np.float32([[1, 2]]))
    ...     stored = stored_npz(folder + "/m.npz")
    ...     stored["w"].shape, stored["w"].read()
    ((1, 2), array([[1., 2.]], dtype=float32))
    """
    file = shared(path)
    return {name: Stored(file.path, name, member.shape, _native(member), partial(_read, file, name, member), None, file)
            for name, member in npz_header(file).items()}


def npz_header(path: FilePath) -> dict[str, Member]:
    """Returns the type, the shape and the place of every array, in file order.  -> {name: Member}

    Checks the rules that `stored_npz` checks. Raises FormatError for a file that breaks a rule of its format. Raises
    OSError if the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_npz(folder + "/m.npz", {"w": np.zeros((3, 2), "f4")})
    ...     member = npz_header(folder + "/m.npz")["w"]
    ...     member.dtype, member.shape, member.header, member.entry.size
    ('<f4', (3, 2), 128, 152)
    """
    file = shared(path)
    with file.opened() as reader:
        # An archive without arrays cannot be recognized as an npz file, and has the kind "zip".
        if sniff(file) != "zip":
            refuse_unreadable(file, "npz")
        members = {}
        for entry in entries(reader, file):
            if not entry.name.endswith(SUFFIX):
                expected = f"a name that ends in {SUFFIX}"
                raise refusal(path, "the member is not an array", expected=expected, tensor=entry.name)
            name = entry.name[:-len(SUFFIX)]
            refuse_name(path, name)
            members[name] = _member(reader, entry, file, name)
        return members


def write_npz(path: FilePath, arrays: Mapping[str, Any]) -> None:
    """Writes {name: array} as an npz file, completely or not at all.

    The function np.load can read the file. Equal input gives equal bytes. Arrays have the dtype float16/32/64,
    (u)int8..64 or bool, and any layout and byte order. In the file, the arrays are not compressed, are little-endian
    and in C order, and are sorted by name. A name may have slashes. A name must not lead out of the folder in which the
    archive is unpacked. Raises FormatError for a name or a dtype that the format cannot hold. Raises OSError if the
    file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_npz(folder + "/m.npz", {"norm/scale": np.ones(3), "norm/bias": np.zeros(3)})
    ...     with np.load(folder + "/m.npz") as held:
    ...         list(held)
    ['norm/bias', 'norm/scale']
    """
    if len(arrays) > MAX_MEMBERS:
        raise refusal(path, "the archive holds too many members", len(arrays), f"at most {MAX_MEMBERS}")
    for name in arrays:
        refuse_name(path, name)
        refuse_name(path, name + SUFFIX)
    stored = {name: little_endian(arrays[name], path, name) for name in sorted(arrays)}
    with write_atomically(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in stored.items():
            header = _header_bytes(array)
            # The date and the system (3 is Unix) are fixed, because the defaults depend on the time and the computer.
            member = zipfile.ZipInfo(name + SUFFIX, (1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            member.file_size = len(header) + array.nbytes
            with archive.open(member, "w") as file:
                file.write(header)
                file.write(raw(array))


def _member(reader: Reader, entry: Entry, path: FilePath, name: str) -> Member:
    """Reads and checks the header of a member, and returns the Member."""
    start = b""
    for piece in contents(reader, entry, path):
        start += piece
        if len(start) >= 12 + MAX_HEADER:
            break
    dtype, fortran_order, shape, header = _header(start, path, name)
    needed = header + byte_count(shape, _TYPES[dtype], path, name)
    if needed != entry.size:
        expected = f"{needed} bytes: a header of {header}, then {dtype} {list(shape)}"
        raise refusal(path, "the length of the member does not fit its shape", f"{entry.size} bytes", expected, name)
    return Member(dtype, shape, fortran_order, header, entry)


def _header(start: bytes, path: FilePath, name: str) -> tuple[str, bool, tuple[int, ...], int]:
    """Reads the header at the start of an .npy file.  -> item type, Fortran order, shape, bytes before the first item
    """
    if start[:8] not in _LENGTH:
        rule = "the member is not an .npy file of version 1.0, 2.0 or 3.0"
        raise refusal(path, rule, start[:8], "b'\\x93NUMPY' and the version", name)
    begin = 8 + _LENGTH[start[:8]]
    length = int.from_bytes(start[8:begin], "little")
    text = start[begin:begin + min(length, MAX_HEADER)]
    if len(text) < length:
        expected = f"at most {MAX_HEADER} bytes, and all of them in the member"
        raise refusal(path, "the npy header is too long", f"{length} bytes", expected, name)
    found = _HEADER.fullmatch(text.decode("latin-1"))
    pairs = dict(zip(found.groups()[::2], found.groups()[1::2])) if found else {}
    dtype, order, shape = (pairs.get(key, "") for key in ("descr", "fortran_order", "shape"))
    if not dtype.startswith("'") or order not in ("True", "False") or not shape.startswith("("):
        raise refusal(path, "the npy header does not have the form that NumPy writes", text, _EXAMPLE, name)
    if dtype[1:-1] not in _TYPES:
        raise refusal(path, "the dtype is not supported", dtype[1:-1], "one of " + ", ".join(_TYPES), name)
    return dtype[1:-1], order == "True", tuple(map(int, re.findall("[0-9]+", shape))), begin + length


def _native(member: Member) -> np.dtype:
    """Returns the NumPy type that a member's array has after reading."""
    return np.dtype(np.float32) if member.dtype in _BFLOAT16 else _TYPES[member.dtype].newbyteorder("=")


def _read(file: SharedFile, name: str, member: Member) -> np.ndarray:
    """Reads the array in a member.  Raises FormatError if the member's CRC-32 differs from the CRC-32 in the entry."""
    # The bytes of an array in Fortran order are the bytes of its transpose in C order.
    stored = np.empty(member.shape[::-1] if member.fortran_order else member.shape, _TYPES[member.dtype])
    crc = 0
    header = member.header                     # number of header bytes that are still to be skipped
    filled = 0                                 # number of array bytes that are in memory
    memory = raw(stored)
    with file.opened() as reader:
        for piece in contents(reader, member.entry, file):
            crc = zlib.crc32(piece, crc)
            items = piece[header:]
            header -= len(piece) - len(items)
            memory[filled:filled + len(items)] = items
            filled += len(items)
    if crc != member.entry.crc:
        found, expected = f"{crc:08x}", f"{member.entry.crc:08x}"
        raise refusal(file, "the checksum does not match: the bytes are damaged", found, expected, name)
    if member.dtype in _BFLOAT16:
        stored = bfloat16_to_float32(stored)
    refuse_invalid_bool(stored, file, name)
    return np.asarray(stored.T if member.fortran_order else stored, _native(member), order="C")


def _header_bytes(array: np.ndarray) -> bytes:
    """Returns the header of an array.  Spaces at the header's end make the items begin at a multiple of 64 bytes."""
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
