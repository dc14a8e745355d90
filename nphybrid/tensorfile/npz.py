"""npz: a zip archive with one .npy file for each array, as np.savez writes it; Google publishes weights so.

    w.npz = a zip archive, see archive.py, of     a/b.npy  c.npy  ...     plain, or deflated (np.savez_compressed)

    byte 0      6         8           10                                               10 + N        last byte
    +-----------+---------+-----------+------------------------------------------------+--- ---+-------+
    | 93        | version | N         | {'descr': '<f4', 'fortran_order': False,       | item  | item  |
    | "NUMPY"   | 1, 0    | uint16 LE |  'shape': (3, 4), }    padded, ends in newline |  ...  |       |
    +-----------+---------+-----------+------------------------------------------------+--- ---+-------+
                  2 or 3    uint32      Python's notation: type of the items, order, items along each axis

The rules, in the order in which they are checked:

1. Those of the archive (archive.py).
2. The name of a member ends in .npy; what stands before it is the name of the array.
3. N is at most 10,000 bytes, and the member holds N bytes of header.
4. The header is a dictionary of exactly these three keys.
5. The items are numbers or bools, of either byte order; as many as the shape needs fill the rest of the member.
6. When a member is read, its CRC-32 is that of the archive, and every byte of a bool is 0 or 1.

Items of two bytes without a type, V2, are read as bfloat16: NumPy does not know bfloat16 and writes it so.  Items that
are Python objects are pickles inside a member; they are refused like all other types.

Not promised: that the arrays are about as large as the file: zeros deflate to a thousandth.  Before you read a
stranger's file, compare its shapes (`npz_header`) with those that you expect.
Source: NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays".
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

# NumPy's own limit on the text of a header.
MAX_HEADER = 10_000
SUFFIX = ".npy"

_NUMBERS = [np.dtype(order + code) for order in "<>" for code in "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split()]
_BFLOAT16 = dict.fromkeys(("<V2", "|V2", "V2"), np.dtype("<u2"))
_TYPES = {dtype.str: dtype for dtype in _NUMBERS} | _BFLOAT16

_LENGTH = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4, b"\x93NUMPY\3\0": 4}     # bytes of N, by the first eight
_COUNT = "(?:0|[1-9][0-9]{0,18})"
_SHAPE = rf"\((?:{_COUNT}, *|{_COUNT}(?:, *{_COUNT})+(?:, *)?)?\)"
_PAIR = rf"'(descr|fortran_order|shape)' *: *('[^'\\]*'|True|False|{_SHAPE})"
_HEADER = re.compile(rf"\{{ *{_PAIR} *, *{_PAIR} *, *{_PAIR} *(?:, *)?\}} *\n")
_EXAMPLE = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } and so on, spaces, a newline"


class Member(NamedTuple):
    """One array of an npz file."""

    dtype: str                 # the header's name of the item type, e.g. "<f4"
    shape: tuple[int, ...]     # items along each axis
    fortran_order: bool        # whether the first axis runs fastest, not the last
    header: int                # bytes before the first item
    entry: Entry               # its place in the archive; entry.size counts header and items


def read_npz(path: FilePath) -> dict[str, np.ndarray]:
    """Every array of an npz file, in file order: {name: array}.

    Arrays are in native byte order, in C order, and own their memory; bfloat16 (V2) becomes float32, exactly.
    Raises FormatError for a file that breaks a rule or a checksum; OSError if it cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez_compressed(folder + "/m.npz", **{"head/bias": np.float32([1, 2])})
    ...     read_npz(folder + "/m.npz")
    {'head/bias': array([1., 2.], dtype=float32)}
    """
    return read_all(stored_npz(path))


def stored_npz(path: FilePath) -> dict[str, Stored]:
    """Every array of an npz file, none read yet, in file order: {name: Stored}.

    Every rule is checked, except three that are checked when an array is read: the inflated length, its CRC-32, and
    that every byte of a bool is 0 or 1.
    Raises what `read_npz` raises.

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
    """The type, shape and place of every array, in file order: {name: Member}.  Checks what `stored_npz` checks.

    Raises FormatError for a file that breaks a rule; OSError if it cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_npz(folder + "/m.npz", {"w": np.zeros((3, 2), "f4")})
    ...     member = npz_header(folder + "/m.npz")["w"]
    ...     member.dtype, member.shape, member.header, member.entry.size
    ('<f4', (3, 2), 128, 152)
    """
    file = shared(path)
    with file.opened() as reader:
        # An archive without arrays has no member by which it could be recognized as an npz.
        if sniff(file) != "zip":
            refuse_unreadable(file, "npz")
        members = {}
        for entry in entries(reader, file):
            if not entry.name.endswith(SUFFIX):
                expected = f"a name that ends in {SUFFIX}"
                raise refusal(path, "member is not an array", expected=expected, tensor=entry.name)
            name = entry.name[:-len(SUFFIX)]
            refuse_name(path, name)
            members[name] = _member(reader, entry, file, name)
        return members


def write_npz(path: FilePath, arrays: Mapping[str, Any]) -> None:
    """Writes {name: array} as an npz file that np.load reads, whole or not at all; the same input gives the same bytes.

    Arrays: float16/32/64, (u)int8..64, bool, any layout and byte order; they are stored plain, little-endian, in C
    order, sorted by name.  A name may have slashes, but must not lead out of the folder in which
    the archive is unpacked.
    Raises FormatError for a name or dtype that the format cannot hold; OSError if it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_npz(folder + "/m.npz", {"norm/scale": np.ones(3), "norm/bias": np.zeros(3)})
    ...     with np.load(folder + "/m.npz") as held:
    ...         list(held)
    ['norm/bias', 'norm/scale']
    """
    if len(arrays) > MAX_MEMBERS:
        raise refusal(path, "holds too many members", len(arrays), f"at most {MAX_MEMBERS}")
    for name in arrays:
        refuse_name(path, name)
        refuse_name(path, name + SUFFIX)
    stored = {name: little_endian(arrays[name], path, name) for name in sorted(arrays)}
    with write_atomically(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in stored.items():
            header = _header_bytes(array)
            # A fixed date, and Unix: the defaults depend on the time and on the system.
            member = zipfile.ZipInfo(name + SUFFIX, (1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            member.file_size = len(header) + array.nbytes
            with archive.open(member, "w") as file:
                file.write(header)
                file.write(raw(array))


def _member(reader: Reader, entry: Entry, path: FilePath, name: str) -> Member:
    """A member, after every check that its header allows."""
    start = b""
    for piece in contents(reader, entry, path):
        start += piece
        if len(start) >= 12 + MAX_HEADER:
            break
    dtype, fortran_order, shape, header = _header(start, path, name)
    needed = header + byte_count(shape, _TYPES[dtype], path, name)
    if needed != entry.size:
        expected = f"{needed} bytes: a header of {header}, then {dtype} {list(shape)}"
        raise refusal(path, "member and shape disagree", f"{entry.size} bytes", expected, name)
    return Member(dtype, shape, fortran_order, header, entry)


def _header(start: bytes, path: FilePath, name: str) -> tuple[str, bool, tuple[int, ...], int]:
    """The header at the start of an .npy file.  -> item type, Fortran order, shape, bytes before the first item"""
    if start[:8] not in _LENGTH:
        rule = "is not an .npy file of version 1.0, 2.0 or 3.0"
        raise refusal(path, rule, start[:8], "b'\\x93NUMPY' and the version", name)
    begin = 8 + _LENGTH[start[:8]]
    length = int.from_bytes(start[8:begin], "little")
    text = start[begin:begin + min(length, MAX_HEADER)]
    if len(text) < length:
        expected = f"at most {MAX_HEADER}, all in the member"
        raise refusal(path, "npy header is too long", f"{length} bytes", expected, name)
    found = _HEADER.fullmatch(text.decode("latin-1"))
    pairs = dict(zip(found.groups()[::2], found.groups()[1::2])) if found else {}
    dtype, order, shape = (pairs.get(key, "") for key in ("descr", "fortran_order", "shape"))
    if not dtype.startswith("'") or order not in ("True", "False") or not shape.startswith("("):
        raise refusal(path, "npy header is not as NumPy writes it", text, _EXAMPLE, name)
    if dtype[1:-1] not in _TYPES:
        raise refusal(path, "dtype is not supported", dtype[1:-1], "one of " + ", ".join(_TYPES), name)
    return dtype[1:-1], order == "True", tuple(map(int, re.findall("[0-9]+", shape))), begin + length


def _native(member: Member) -> np.dtype:
    """The NumPy type of a member's array after it was read."""
    return np.dtype(np.float32) if member.dtype in _BFLOAT16 else _TYPES[member.dtype].newbyteorder("=")


def _read(file: SharedFile, name: str, member: Member) -> np.ndarray:
    """The array in a member, refused unless its CRC-32 is that of the archive."""
    # An array in Fortran order lies in the file as its transpose does in C order.
    stored = np.empty(member.shape[::-1] if member.fortran_order else member.shape, _TYPES[member.dtype])
    crc = 0
    header = member.header                     # bytes of the header that are still to be skipped
    filled = 0                                 # bytes of the array that are read
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
        raise refusal(file, "checksum does not match: damaged bytes", found, expected, name)
    if member.dtype in _BFLOAT16:
        stored = bfloat16_to_float32(stored)
    refuse_invalid_bool(stored, file, name)
    return np.asarray(stored.T if member.fortran_order else stored, _native(member), order="C")


def _header_bytes(array: np.ndarray) -> bytes:
    """The header of an array, padded so that its items begin at a multiple of 64 bytes."""
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
