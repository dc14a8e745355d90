"""A zip archive, read strictly: members in a row, then a directory of them, then the end record.

    byte 0                                                                             last byte of the file
    +--------+----------+--------+----------+--- ---+-----------+-----------+--- ---+------------+
    | local  | member   | local  | member   |  ...  | directory | directory |  ...  | end record |
    | header |          | header |          |       | entry     | entry     |       |            |
    | "PK"34 |          | "PK"34 |          |       | "PK" 1 2  | "PK" 1 2  |       | "PK" 5 6   |
    +--------+----------+--------+----------+--- ---+-----------+-----------+--- ---+------------+
    name, method, sizes,                            the same again, and where
    CRC-32                                          the local header stands

An archive states most things twice, in the directory and in the local headers, and readers differ in which of the two
they use.  Here both must agree.  The rules, in the order in which they are checked:

1. The file ends in the end record, without a comment, and the directory stands right before it.
2. An entry has a name that does not lead out of the folder in which the archive is unpacked, no password, one disk, and
   method 0 (plain) or 8 (deflated).
3. Where an offset or a size needs 64 bits (zip64), its field of 32 bits is all ones.
4. A plain member is as long as its contents; the contents of a deflated one are at most 1,100 times as long (deflate
   reaches 1,032).
5. Each name is there once.
6. The members fill the file from its first byte to the directory: no gap, no overlap.
7. Each local header repeats its entry.
8. When a member is read, it inflates to exactly the length that its entry states.

Not checked here: the CRC-32 of a member. The reader of the member compares it after the last byte.
Not promised: that the contents are about as large as the file. Zeros deflate to a thousandth.
Source: PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from ..text import shortened
from .errors import FilePath, name_trouble, refusal

MAX_MEMBERS = 20_000
MAX_RATIO = 1100
PLAIN, DEFLATED = 0, 8

_STEP = 1 << 16
# Flags: sizes and CRC-32 stand after the member, as in an archive that was written to a pipe; the name is UTF-8; two
# bits for the level of compression.
_STREAMED, _UTF8, _EFFORT = 1 << 3, 1 << 11, 0b110
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_VERSION = 45     # 4.5, the first with zip64
_ONES = 0xFFFFFFFF
# Extra fields.
_ZIP64, _OTHER_NAME = 0x0001, 0x7075


class _Record(NamedTuple):
    """One kind of structure: its name in messages, its first four bytes, the fields after them."""

    word: str
    magic: bytes
    layout: struct.Struct


# version needed, flags, method, time, date, CRC-32, stored size, size, lengths of name and extra fields
_LOCAL = _Record("local header", b"PK\x03\x04", struct.Struct("<4x5H3I2H"))
# CRC-32, stored size, size: after a streamed member
_DESCRIPTOR = _Record("data descriptor", b"PK\x07\x08", struct.Struct("<4x3I"))
_DESCRIPTOR64 = _Record("data descriptor", b"PK\x07\x08", struct.Struct("<4xI2Q"))
# version made by, then as in the local header; length of comment, disk, attributes twice, offset
_ENTRY = _Record("directory entry", b"PK\x01\x02", struct.Struct("<4x6H3I5H2I"))
# disk, directory's disk, entries on this disk, entries, size and offset of the directory, length of comment
_END = _Record("end record", b"PK\x05\x06", struct.Struct("<4x4H2IH"))
# disk, offset of the next record, disks
_LOCATOR = _Record("zip64 locator", b"PK\x06\x07", struct.Struct("<4xIQI"))
# length of the rest, version made by, version needed, then as in the end record
_END64 = _Record("zip64 end record", b"PK\x06\x06", struct.Struct("<4xQ2H2I4Q"))


class Seekable(Protocol):
    """What is read: an open binary file, or a `stored.Reader`."""

    def seek(self, offset: int, whence: int = ..., /) -> int:
        """Moves the position; returns it."""
        ...

    def read(self, count: int, /) -> bytes:
        """The next bytes."""
        ...


class Entry(NamedTuple):
    """One member: its entry in the directory, and where it lies."""

    name: str
    method: int      # PLAIN or DEFLATED
    crc: int         # CRC-32 of the contents
    stored: int      # bytes in the archive
    size: int        # bytes of the contents
    flags: int
    offset: int      # first byte of its local header, counted from the start of the file
    begin: int       # first byte of the member


def entries(file: Seekable, path: FilePath) -> list[Entry]:
    """Every member of an open archive, in file order.  All of the rules above are checked except the last.

    Raises FormatError for an archive that breaks a rule; `path` is the name of the file in its message.

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
    """The contents of a member, in pieces of at most 64 KiB: exactly as many bytes as its entry states.

    Side effect: moves the file's position.

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
            rule = "inflates to more than its entry states"
            raise refusal(path, rule, expected=f"{entry.size} bytes", tensor=entry.name)
        yield piece
    if left:
        raise refusal(path, "holds less than its entry states", f"{entry.size - left} bytes", entry.size, entry.name)


def refuse_name(path: FilePath, name: str) -> None:
    """Refuses a name that is not text, or that leads out of the folder in which the archive is unpacked.

    >>> refuse_name("m.npz", "../w.npy")
    Traceback (most recent call last):
    ...
    nphybrid.tensorfile.errors.FormatError: m.npz: tensor '../w.npy': name leads out of the folder in which the archive
    is unpacked
    """
    trouble = name_trouble(name)
    if not trouble and (re.search(r"^/|^[A-Za-z]:|\\|\0", name) or ".." in name.split("/")):
        trouble = "name leads out of the folder in which the archive is unpacked"
    if not trouble and len(name.encode()) > 0xFFFF:
        trouble = "name is longer than 65,535 bytes"
    if trouble:
        raise refusal(path, trouble, tensor=name)


# ---------------------------------------------------------------- the directory

def _directory(file: Seekable, path: FilePath) -> tuple[int, int, int]:
    """Where the directory lies: number of entries, its first byte, the byte after its last."""
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
        raise refusal(path, "is a part of an archive, or has a comment", found, "one disk, all entries, no comment")
    if count > MAX_MEMBERS:
        raise refusal(path, "holds too many members", count, f"at most {MAX_MEMBERS}")
    if begin + length != end:
        raise refusal(path, "directory does not end at the end record", begin + length, end)
    return count, begin, end


def _directory64(file: Seekable, at: int, locator: tuple, short: Sequence[int], path: FilePath) -> list[int]:
    """The six fields of the zip64 end record; each field of the end record must be equal, or all ones."""
    rest, _, _, *full = _fields(_END64, _bytes(file, at, _END64), path)
    if locator != (0, at, 1) or rest != _END64.layout.size - 12:
        expected = f"{[0, at, 1, _END64.layout.size - 12]}"
        raise refusal(path, "zip64 end record has another place or length", [*locator, rest], expected)
    if any(a not in (b, ones) for a, b, ones in zip(short, full, [0xFFFF] * 4 + [_ONES] * 2)):
        raise refusal(path, "end record and zip64 end record disagree", short, f"{full}, or all ones")
    return full


def _bytes(file: Seekable, at: int, record: _Record) -> bytes:
    """As many bytes as a record has; none where it would begin before the file does."""
    file.seek(max(at, 0))
    return file.read(record.layout.size) if at >= 0 else b""


def _fields(record: _Record, data: bytes, path: FilePath, tensor: str | None = None) -> tuple:
    """The fields of a record at the beginning of some bytes."""
    if len(data) < record.layout.size or not data.startswith(record.magic):
        rule = f"has no {record.word} where one is needed: truncated?"
        raise refusal(path, rule, data[:4], repr(record.magic), tensor)
    return record.layout.unpack_from(data)


def _directory_entries(data: bytes, count: int, path: FilePath) -> list[Entry]:
    """The entries of the directory; they must fill it, and no name may be there twice."""
    found: dict[str, Entry] = {}
    at = 0
    for _ in range(count):
        fields = _fields(_ENTRY, data[at:at + _ENTRY.layout.size], path)
        at += _ENTRY.layout.size
        name_length, extra_length, comment_length = fields[9:12]
        extra_start = at + name_length
        entry = _entry(fields, data[at:extra_start], data[extra_start:extra_start + extra_length], path)
        if entry.name in found:
            raise refusal(path, "has two members of one name", expected="each name once", tensor=entry.name)
        found[entry.name] = entry
        at = extra_start + extra_length + comment_length
    if at != len(data):
        raise refusal(path, "entries do not fill the directory", f"{at} bytes", len(data))
    return list(found.values())


def _entry(fields: tuple, name_bytes: bytes, extra: bytes, path: FilePath) -> Entry:
    """One checked entry; where its member begins is not known yet."""
    _, needed, flags, method, _, _, crc, stored, size, _, _, _, disk, _, _, offset = fields
    name = _name(name_bytes, flags, path)
    if flags & _ENCRYPTED:
        raise refusal(path, "is encrypted", f"flags {flags:#06x}", "no password", name)
    if method not in (PLAIN, DEFLATED):
        raise refusal(path, "is compressed by another method", method, "0 (stored) or 8 (deflated)", name)
    known = _STREAMED | _UTF8 | (_EFFORT if method == DEFLATED else 0)
    if flags & ~known or needed > _VERSION or disk:
        found = f"flags {flags:#06x}, version {needed}, disk {disk}"
        raise refusal(path, "needs a feature that is not supported", found, f"version at most {_VERSION}, disk 0", name)
    size, stored, offset = _full([size, stored, offset], extra, path, name)
    rule = "states a size that its bytes cannot hold"
    if method == DEFLATED:
        limit = MAX_RATIO * stored
        if size > limit:
            raise refusal(path, rule, size, f"at most {MAX_RATIO} x {stored}", name)
    elif size != stored:
        raise refusal(path, rule, size, stored, name)
    return Entry(name, method, crc, stored, size, flags, offset, begin=-1)


def _name(data: bytes, flags: int, path: FilePath) -> str:
    """The name of a member.  Without the flag for UTF-8 its code page is unknown, so only ASCII is read."""
    try:
        name = data.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        expected = "UTF-8" if flags & _UTF8 else "ASCII, or the flag for UTF-8"
        raise refusal(path, "a member's name cannot be read", data, expected) from None
    refuse_name(path, name)
    return name


def _full(fields: list[int], extra: bytes, path: FilePath, name: str) -> list[int]:
    """Fields of 32 bits; one that is all ones is replaced by its 64 bits in the extra fields."""
    parts = _extra_fields(extra, path, name)
    # Readers that support this field use the name in it, others the name in the entry.
    if _OTHER_NAME in parts:
        raise refusal(path, "has a second name in its extra fields", parts[_OTHER_NAME], "one name", name)
    full = parts.get(_ZIP64, b"")
    count = fields.count(_ONES)
    if len(full) != 8 * count:
        rule = "zip64 does not have one number for each field of all ones"
        raise refusal(path, rule, f"{len(full)} bytes", 8 * count, name)
    numbers = iter(struct.unpack(f"<{count}Q", full))
    return [next(numbers) if field == _ONES else field for field in fields]


def _extra_fields(data: bytes, path: FilePath, name: str) -> dict[int, bytes]:
    """The extra fields: {id: bytes}."""
    parts: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        kind = data[at:at + 2]
        end = at + 4 + int.from_bytes(data[at + 2:at + 4], "little")
        if end > len(data) or kind in parts:
            raise refusal(path, "extra fields are broken", data, "id, length and as many bytes, each id once", name)
        parts[kind] = data[at + 4:end]
        at = end
    return {int.from_bytes(kind, "little"): part for kind, part in parts.items()}


# ---------------------------------------------------------------- the members

def _in_file_order(file: Seekable, directory: list[Entry], limit: int, path: FilePath) -> list[Entry]:
    """The entries in file order, each with the place of its member; members and headers must fill all up to `limit`."""
    placed = []
    filled = 0
    for entry in sorted(directory, key=lambda entry: entry.offset):
        if entry.offset != filled:
            rule = "leaves a gap" if entry.offset > filled else "overlaps the member before it"
            raise refusal(path, rule, f"local header at {entry.offset}", filled, entry.name)
        begin, descriptor = _local(file, entry, path)
        end = begin + entry.stored
        filled = end + (descriptor.layout.size if descriptor else 0)
        if filled > limit:
            raise refusal(path, "reaches into the directory", f"bytes up to {filled}", f"at most {limit}", entry.name)
        if descriptor:
            _refuse_other(entry, _fields(descriptor, _bytes(file, end, descriptor), path, entry.name), path)
        placed.append(entry._replace(begin=begin))
    if filled != limit:
        raise refusal(path, "has bytes between the last member and the directory", limit - filled, 0)
    return placed


def _local(file: Seekable, entry: Entry, path: FilePath) -> tuple[int, _Record | None]:
    """Compares a local header with its entry.  -> first byte of the member; the record that must follow it, or None"""
    needed, flags, method, _, _, crc, stored, size, name_length, extra_length = _fields(
        _LOCAL, _bytes(file, entry.offset, _LOCAL), path, entry.name)
    found = [file.read(name_length), flags, method]
    expected = [entry.name.encode(), entry.flags, entry.method]
    if found != expected or needed > _VERSION:
        rule = "local header and directory disagree on name, flags or method"
        raise refusal(path, rule, [*found, needed], f"{shortened(expected)}, version at most {_VERSION}", entry.name)
    size_full, stored_full = _full([size, stored], file.read(extra_length), path, entry.name)
    begin = entry.offset + _LOCAL.layout.size + name_length + extra_length
    if not flags & _STREAMED:
        _refuse_other(entry, (crc, stored_full, size_full), path)
        return begin, None
    _refuse_other(entry._replace(crc=0, stored=0, size=0), (crc, stored_full, size_full), path)
    return begin, _DESCRIPTOR64 if _ONES in (size, stored) else _DESCRIPTOR


def _refuse_other(entry: Entry, found: Any, path: FilePath) -> None:
    """Refuses a CRC-32, stored size and size that are not those of the entry."""
    expected = entry.crc, entry.stored, entry.size
    if found != expected:
        rule = "local header and directory disagree on CRC-32, stored size or size"
        raise refusal(path, rule, found, expected, entry.name)


def _blocks(file: Seekable, count: int) -> Iterator[bytes]:
    """The next `count` bytes of a file, in pieces; fewer where it ends."""
    while block := file.read(min(count, _STEP)):
        count -= len(block)
        yield block


def _inflated(blocks: Iterator[bytes], path: FilePath, name: str) -> Iterator[bytes]:
    """The contents of a deflate stream, in pieces; it must end with the last byte of the last block."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for block in blocks:
            while piece := stream.decompress(block, _STEP):
                yield piece
                block = stream.unconsumed_tail
            # zlib would collect every later block, copying all earlier ones each time.
            if stream.eof:
                break
    except zlib.error as error:
        raise refusal(path, f"deflate stream is broken ({error})", tensor=name) from None
    if not stream.eof or stream.unused_data or next(blocks, None):
        found = "bytes after its end" if stream.eof else "no end"
        raise refusal(path, "deflate stream does not end with its member", found, "its end there", name)
