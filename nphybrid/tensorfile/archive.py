"""Reads a zip archive strictly.  An archive holds the members, then the directory of the members, then the end record.

    byte 0                                                                             last byte of the file
    +--------+----------+--------+----------+--- ---+-----------+-----------+--- ---+------------+
    | local  | member   | local  | member   |  ...  | directory | directory |  ...  | end record |
    | header |          | header |          |       | entry     | entry     |       |            |
    | "PK"34 |          | "PK"34 |          |       | "PK" 1 2  | "PK" 1 2  |       | "PK" 5 6   |
    +--------+----------+--------+----------+--- ---+-----------+-----------+--- ---+------------+
    name, method, sizes,                            name, method, sizes, CRC-32,
    CRC-32                                          place of the local header

An archive states most properties of a member twice: in the directory and in the local header.  Some readers use the
directory, and some readers use the local header.  This reader refuses an archive in which a local header and the
directory disagree.  The rules are checked in this order:

1. The file ends with the end record, which has no comment.  Between the directory and the end record, only the zip64
   end record and its locator are allowed.
2. The name of a member does not lead out of the folder in which the archive is unpacked.  A member has no password, is
   on one disk, and has compression method 0 (plain) or 8 (deflated).
3. If an offset or a size needs 64 bits (zip64), all bits of its 32-bit field are 1.  Python before 3.11.4 writes a
   small size into the 32-bit field and into the 64-bit field.  Then the two sizes must be equal.
4. A plain member is as long as its contents.  The contents of a deflated member are at most 1,100 times as long as the
   member.  (The largest ratio of deflate is 1,032.)
5. No two members have equal names.
6. The local headers and the members fill the file from its first byte to the directory, without a gap or an overlap.
7. Each local header agrees with its directory entry.
8. A member inflates to exactly the length that its entry states.  Rule 8 is checked when the member is read.

This module does not compute the CRC-32 of contents.  When npz.py reads a member, the CRC-32 of the contents is compared
with the CRC-32 in the directory entry.  The contents can be much larger than the archive: zeros deflate to a thousandth
of their length.  The source of the rules is PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from ..shortage import memory_error, out_of_memory
from ..text import shortened
from .errors import FilePath, name_trouble, refusal

MAX_MEMBERS = 20_000
MAX_RATIO = 1100
PLAIN, DEFLATED = 0, 8

_STEP = 1 << 16
# Flag _STREAMED: the sizes and the CRC-32 are after the member, as in an archive that was written to a pipe.
# Flag _UTF8: the name is UTF-8.
# The two bits of _EFFORT state the level of compression.
_STREAMED, _UTF8, _EFFORT = 1 << 3, 1 << 11, 0b110
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_VERSION = 45     # version 4.5 of the zip format is the first version with zip64
_ONES = 0xFFFFFFFF
# Ids of extra fields, which are after the name in a local header or a directory entry.
_ZIP64, _OTHER_NAME = 0x0001, 0x7075


class _Record(NamedTuple):
    """One kind of record: its name in messages, its first four bytes, and the fields after the first four bytes."""

    word: str
    magic: bytes
    layout: struct.Struct


# Fields: version needed, flags, method, time, date, CRC-32, stored size, size, lengths of name and extra fields.
_LOCAL = _Record("local header", b"PK\x03\x04", struct.Struct("<4x5H3I2H"))
# Fields of the record after a streamed member: CRC-32, stored size, size.
_DESCRIPTOR = _Record("data descriptor", b"PK\x07\x08", struct.Struct("<4x3I"))
_DESCRIPTOR64 = _Record("data descriptor", b"PK\x07\x08", struct.Struct("<4xI2Q"))
# Fields: version of the writer, the fields of the local header, length of comment, disk, two attributes, and the offset
# of the local header.
_ENTRY = _Record("directory entry", b"PK\x01\x02", struct.Struct("<4x6H3I5H2I"))
# Fields: disk, directory's disk, number of entries on this disk, number of all entries, size and offset of the
# directory, length of comment.
_END = _Record("end record", b"PK\x05\x06", struct.Struct("<4x4H2IH"))
# Fields: disk, offset of the zip64 end record, number of disks.
_LOCATOR = _Record("zip64 locator", b"PK\x06\x07", struct.Struct("<4xIQI"))
# Fields: length of the rest, version of the writer, version needed, and the first six fields of the end record.
_END64 = _Record("zip64 end record", b"PK\x06\x06", struct.Struct("<4xQ2H2I4Q"))


class Seekable(Protocol):
    """The file of an archive: an open binary file, or a `stored.Reader`."""

    def seek(self, offset: int, whence: int = ..., /) -> int:
        """Moves the position, and returns the new position."""
        ...

    def read(self, count: int, /) -> bytes:
        """Reads the next `count` bytes; fewer bytes if the file ends."""
        ...


class Entry(NamedTuple):
    """One member: the fields of its directory entry, and its place in the file."""

    name: str
    method: int      # PLAIN or DEFLATED
    crc: int         # CRC-32 of the contents
    stored: int      # number of bytes of the member
    size: int        # number of bytes of the contents
    flags: int
    offset: int      # position of the local header in the file
    begin: int       # position of the member in the file, after the local header


def entries(file: Seekable, path: FilePath) -> list[Entry]:
    """Returns an Entry for every member of an archive, in file order.  Rules 1 to 7 of this module are checked.

    Raises FormatError for an archive that breaks a rule. `path` is the name of the file in the error message.

    >>> import io, zipfile
    >>> file = io.BytesIO()
    >>> with zipfile.ZipFile(file, "w") as archive:
    ...     archive.writestr("a/b.npy", "twelve bytes")
    >>> [(entry.name, entry.size, entry.begin) for entry in entries(file, "m.npz")]
    [('a/b.npy', 12, 37)]
    """
    count, begin, end = _directory(file, path)
    file.seek(begin)
    return _in_file_order(file, _directory_entries(file.read(end - begin), count, path), begin, path)


def contents(file: Seekable, entry: Entry, path: FilePath) -> Iterator[bytes]:
    """Yields the contents of a member in pieces of at most 64 KiB.

    Together, the pieces have exactly as many bytes as the directory entry states. FormatError is raised for any other
    number of bytes. This function moves the position of the file.

    >>> import io, zipfile
    >>> file = io.BytesIO()
    >>> with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    ...     archive.writestr("w.npy", "twelve bytes")
    >>> b"".join(contents(file, entries(file, "m.npz")[0], "m.npz"))
    b'twelve bytes'
    """
    file.seek(entry.begin)
    left = entry.size
    blocks = _blocks(file, entry.stored)
    for piece in _inflated(blocks, path, entry.name) if entry.method == DEFLATED else blocks:
        left -= len(piece)
        if left < 0:
            rule = "the member inflates to more bytes than its entry states"
            raise refusal(path, rule, expected=f"{entry.size} bytes", tensor=entry.name)
        yield piece
    if left:
        rule = "the member holds fewer bytes than its entry states"
        raise refusal(path, rule, f"{entry.size - left} bytes", entry.size, entry.name)


def refuse_name(path: FilePath, name: str) -> None:
    """Raises FormatError for a name that is not text, is too long, or leads out of the folder of the unpacked archive.

    >>> refuse_name("m.npz", "../w.npy")
    Traceback (most recent call last):
    ...
    nphybrid.tensorfile.errors.FormatError: m.npz: tensor '../w.npy': the name leads out of the folder in which the
    archive is unpacked
    """
    trouble = name_trouble(name)
    if not trouble and (re.search(r"^/|^[A-Za-z]:|\\|\0", name) or ".." in name.split("/")):
        trouble = "the name leads out of the folder in which the archive is unpacked"
    if not trouble and len(name.encode()) > 0xFFFF:
        trouble = "the name is longer than 65,535 bytes"
    if trouble:
        raise refusal(path, trouble, tensor=name)


# ---------------------------------------------------------------- the directory

def _directory(file: Seekable, path: FilePath) -> tuple[int, int, int]:
    """Finds the directory.  -> its number of entries, position of its first byte, position after its last byte"""
    size = file.seek(0, os.SEEK_END)
    end = size - _END.layout.size
    *short, comment = _fields(_END, _bytes(file, end, _END), path)
    locator = _bytes(file, end - _LOCATOR.layout.size, _LOCATOR)
    if locator.startswith(_LOCATOR.magic):
        end -= _LOCATOR.layout.size + _END64.layout.size
        short = _directory64(file, end, _fields(_LOCATOR, locator, path), short, path)
    disk, first_disk, here, count, length, begin = short
    if (disk, first_disk, here, comment) != (0, 0, count, 0):
        found = f"disks {disk} and {first_disk}, {here} of {count} entries, a comment of {comment} bytes"
        rule = "the file is only a part of an archive, or has a comment"
        raise refusal(path, rule, found, "one disk, all entries, no comment")
    if count > MAX_MEMBERS:
        raise refusal(path, "the archive holds too many members", count, f"at most {MAX_MEMBERS}")
    if begin + length != end:
        raise refusal(path, "the directory does not end at the end record", begin + length, end)
    return count, begin, end


def _directory64(file: Seekable, at: int, locator: tuple, short: Sequence[int], path: FilePath) -> list[int]:
    """Returns the last six fields of the zip64 end record.

    In the end record, each of these fields must have the same value, or all bits of the field must be 1.
    """
    rest, _, _, *full = _fields(_END64, _bytes(file, at, _END64), path)
    if locator != (0, at, 1) or rest != _END64.layout.size - 12:
        expected = f"{[0, at, 1, _END64.layout.size - 12]}"
        raise refusal(path, "the zip64 end record has a wrong place or length", [*locator, rest], expected)
    if any(a not in (b, ones) for a, b, ones in zip(short, full, [0xFFFF] * 4 + [_ONES] * 2)):
        raise refusal(path, "the end record and the zip64 end record disagree", short, f"{full}, or all bits 1")
    return full


def _bytes(file: Seekable, at: int, record: _Record) -> bytes:
    """Reads the bytes of a record that begins at the byte `at`.  The result is empty if `at` is negative."""
    file.seek(max(at, 0))
    return file.read(record.layout.size) if at >= 0 else b""


def _fields(record: _Record, data: bytes, path: FilePath, tensor: str | None = None) -> tuple:
    """Unpacks the fields of a record at the beginning of `data`.  The bytes after the record are ignored."""
    if len(data) < record.layout.size or not data.startswith(record.magic):
        rule = f"the {record.word} is missing: is the file truncated?"
        raise refusal(path, rule, data[:4], repr(record.magic), tensor)
    return record.layout.unpack_from(data)


def _directory_entries(data: bytes, count: int, path: FilePath) -> list[Entry]:
    """Returns the entries of the directory.  The entries must fill the directory, and no two names may be equal."""
    found: dict[str, Entry] = {}
    at = 0
    for _ in range(count):
        fields = _fields(_ENTRY, data[at:at + _ENTRY.layout.size], path)
        at += _ENTRY.layout.size
        name_length, extra_length, comment_length = fields[9:12]
        extra_start = at + name_length
        entry = _entry(fields, data[at:extra_start], data[extra_start:extra_start + extra_length], path)
        if entry.name in found:
            raise refusal(path, "two members have this name", expected="different names", tensor=entry.name)
        found[entry.name] = entry
        at = extra_start + extra_length + comment_length
    if at != len(data):
        raise refusal(path, "the entries do not fill the directory", f"{at} bytes", len(data))
    return list(found.values())


def _entry(fields: tuple, name_bytes: bytes, extra: bytes, path: FilePath) -> Entry:
    """Checks a directory entry, and returns it as an Entry.  The field `begin` of the Entry is not known yet."""
    _, needed, flags, method, _, _, crc, stored, size, _, _, _, disk, _, _, offset = fields
    name = _name(name_bytes, flags, path)
    if flags & _ENCRYPTED:
        raise refusal(path, "the member is encrypted", f"flags {flags:#06x}", "no password", name)
    if method not in (PLAIN, DEFLATED):
        rule = "the compression method of the member is not supported"
        raise refusal(path, rule, method, "0 (stored) or 8 (deflated)", name)
    known = _STREAMED | _UTF8 | (_EFFORT if method == DEFLATED else 0)
    if flags & ~known or needed > _VERSION or disk:
        found = f"flags {flags:#06x}, version {needed}, disk {disk}"
        rule = "the member needs a feature that is not supported"
        raise refusal(path, rule, found, f"version at most {_VERSION}, disk 0", name)
    size, stored, offset = _full([size, stored, offset], extra, path, name)
    rule = "the entry states a size that the bytes of the member cannot hold"
    if method == DEFLATED:
        limit = MAX_RATIO * stored
        if size > limit:
            raise refusal(path, rule, size, f"at most {MAX_RATIO} x {stored}", name)
    elif size != stored:
        raise refusal(path, rule, size, stored, name)
    return Entry(name, method, crc, stored, size, flags, offset, begin=-1)


def _name(data: bytes, flags: int, path: FilePath) -> str:
    """Returns the name of a member.

    Without the flag for UTF-8, only ASCII is accepted, because the code page is unknown.
    """
    try:
        name = data.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        expected = "UTF-8" if flags & _UTF8 else "ASCII, or the flag for UTF-8"
        raise refusal(path, "the name of a member cannot be read", data, expected) from None
    refuse_name(path, name)
    return name


def _full(fields: list[int], extra: bytes, path: FilePath, name: str) -> list[int]:
    """Returns the values of 32-bit fields.  If all bits of a field are 1, its 64-bit value is in the extra fields."""
    parts = _extra_fields(extra, path, name)
    # Some readers use the name in the extra field _OTHER_NAME, and some readers use the name in the entry.
    if _OTHER_NAME in parts:
        raise refusal(path, "the member has a second name in its extra fields", parts[_OTHER_NAME], "one name", name)
    full = parts.get(_ZIP64, b"")
    count = fields.count(_ONES)
    if not count and full == struct.pack("<2Q", *fields[:2]):
        return fields
    if len(full) != 8 * count:
        rule = "the zip64 field does not have one number for each field whose bits are all 1"
        raise refusal(path, rule, f"{len(full)} bytes", 8 * count, name)
    numbers = iter(struct.unpack(f"<{count}Q", full))
    return [next(numbers) if field == _ONES else field for field in fields]


def _extra_fields(data: bytes, path: FilePath, name: str) -> dict[int, bytes]:
    """Returns the extra fields of a member.  -> {id: bytes}"""
    parts: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        kind = data[at:at + 2]
        end = at + 4 + int.from_bytes(data[at + 2:at + 4], "little")
        if end > len(data) or kind in parts:
            expected = "each field with an id, a length and its data, and different ids"
            raise refusal(path, "the extra fields are broken", data, expected, name)
        parts[kind] = data[at + 4:end]
        at = end
    return {int.from_bytes(kind, "little"): part for kind, part in parts.items()}


# ---------------------------------------------------------------- the members

def _in_file_order(file: Seekable, directory: list[Entry], limit: int, path: FilePath) -> list[Entry]:
    """Returns the entries in file order, with the places of the members.

    The members and their headers must fill the file from its first byte to the byte `limit`.
    """
    placed = []
    filled = 0
    for entry in sorted(directory, key=lambda entry: entry.offset):
        if entry.offset != filled:
            gap = entry.offset > filled
            rule = "there is a gap before the member" if gap else "the member overlaps the member before it"
            raise refusal(path, rule, f"local header at {entry.offset}", filled, entry.name)
        begin, descriptor = _local(file, entry, path)
        end = begin + entry.stored
        filled = end + (descriptor.layout.size if descriptor else 0)
        if filled > limit:
            rule = "the member reaches into the directory"
            raise refusal(path, rule, f"bytes up to {filled}", f"at most {limit}", entry.name)
        if descriptor:
            _refuse_other(entry, _fields(descriptor, _bytes(file, end, descriptor), path, entry.name), path)
        placed.append(entry._replace(begin=begin))
    if filled != limit:
        raise refusal(path, "there are bytes between the last member and the directory", limit - filled, 0)
    return placed


def _local(file: Seekable, entry: Entry, path: FilePath) -> tuple[int, _Record | None]:
    """Compares a local header with its directory entry.

    -> position of the member in the file, kind of the record that must follow the member or None
    """
    needed, flags, method, _, _, crc, stored, size, name_length, extra_length = _fields(
        _LOCAL, _bytes(file, entry.offset, _LOCAL), path, entry.name)
    found = [file.read(name_length), flags, method]
    expected = [entry.name.encode(), entry.flags, entry.method]
    if found != expected or needed > _VERSION:
        rule = "the local header and the directory disagree on name, flags or method"
        raise refusal(path, rule, [*found, needed], f"{shortened(expected)}, version at most {_VERSION}", entry.name)
    extra = file.read(extra_length)
    size_full, stored_full = _full([size, stored], extra, path, entry.name)
    begin = entry.offset + _LOCAL.layout.size + name_length + extra_length
    if not flags & _STREAMED:
        _refuse_other(entry, (crc, stored_full, size_full), path)
        return begin, None
    _refuse_other(entry._replace(crc=0, stored=0, size=0), (crc, stored_full, size_full), path)
    return begin, _DESCRIPTOR64 if _ZIP64 in _extra_fields(extra, path, entry.name) else _DESCRIPTOR


def _refuse_other(entry: Entry, found: Any, path: FilePath) -> None:
    """Raises FormatError if `found` differs from the CRC-32, the stored size and the size in the directory entry."""
    expected = entry.crc, entry.stored, entry.size
    if found != expected:
        rule = "the local header and the directory disagree on CRC-32, stored size or size"
        raise refusal(path, rule, found, expected, entry.name)


def _blocks(file: Seekable, count: int) -> Iterator[bytes]:
    """Yields the next `count` bytes of a file in pieces; fewer bytes if the file ends."""
    while block := file.read(min(count, _STEP)):
        count -= len(block)
        yield block


def _inflated(blocks: Iterator[bytes], path: FilePath, name: str) -> Iterator[bytes]:
    """Yields the contents of a deflate stream in pieces.  The stream must end with the last byte of the last block."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for block in blocks:
            while piece := stream.decompress(block, _STEP):
                yield piece
                block = stream.unconsumed_tail
            # After the end of the stream, `decompress` would store all later blocks, and copy them at each call.
            if stream.eof:
                break
    except zlib.error as error:
        if out_of_memory(error):
            raise memory_error(error, os.fspath(path)) from error
        raise refusal(path, f"the deflate stream is broken ({error})", tensor=name) from None
    if not stream.eof or stream.unused_data or next(blocks, None):
        found = "bytes after the stream" if stream.eof else "no end"
        rule = "the deflate stream does not end at the end of the member"
        raise refusal(path, rule, found, "the end of the stream", name)
