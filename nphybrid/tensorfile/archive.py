"""A zip archive, read strictly: members in a row, then a directory of them, then the end record.

    byte 0                                                                             last byte of the file
    +--------+----------+--------+----------+--- ---+-----------+-----------+--- ---+------------+
    | local  | member   | local  | member   |  ...  | directory | directory |  ...  | end record |
    | header |          | header |          |       | entry     | entry     |       |            |
    | "PK"34 |          | "PK"34 |          |       | "PK" 1 2  | "PK" 1 2  |       | "PK" 5 6   |
    +--------+----------+--------+----------+--- ---+-----------+-----------+--- ---+------------+
    name, method, sizes,                            the same again, and where
    CRC-32                                          the local header stands

An archive says most things twice, and readers differ in which of the two they believe.  The rules, in the order in
which they are checked, leave nothing to believe: the file ends in the end record, without a comment, and in front of
it stands the directory; an entry has a name that is no path out of a folder, no password, one disk, and is plain
(method 0) or deflated (method 8); where an offset or a size needs 64 bits (zip64), the short field is all ones; a
plain member is as long as it is stored, a deflated one at most 1,100 times as long (deflate ends at 1,032); each name
is there once; the members fill the file from its first byte to the directory: no gap, no overlap; each local header
repeats its entry.  When a member is read, it is inflated to just the length that it claims.

Not promised: the CRC-32, which is the reader's to compare once all of a member went by; and that members are about as
large as the file.  Zeros deflate to a thousandth.
Source: PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

import os
import re
import struct
import zlib
from typing import NamedTuple

from ..text import shortened
from .stored import name_trouble, refusal

MAX_MEMBERS = 20_000
MAX_RATIO = 1100
PLAIN, DEFLATED = 0, 8

_STEP = 1 << 16
# Flags: sizes and CRC-32 stand behind the member, as where a pipe was written to; the name is UTF-8; and two bits in
# which deflate tells how hard it tried.
_STREAMED, _UTF8, _EFFORT = 1 << 3, 1 << 11, 0b110
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_VERSION = 45     # 4.5, the first to know zip64
_ONES = 0xFFFFFFFF
# Extra fields.
_ZIP64, _OTHER_NAME = 0x0001, 0x7075


class _Record(NamedTuple):
    """One kind of structure: its name in messages, its first four bytes, the fields behind them."""

    word: str
    magic: bytes
    layout: struct.Struct


# version needed, flags, method, time, date, CRC-32, stored size, size, lengths of name and extra fields
_LOCAL = _Record("local header", b"PK\x03\x04", struct.Struct("<4x5H3I2H"))
# CRC-32, stored size, size: behind a streamed member
_BEHIND = _Record("data descriptor", b"PK\x07\x08", struct.Struct("<4x3I"))
_BEHIND64 = _Record("data descriptor", b"PK\x07\x08", struct.Struct("<4xI2Q"))
# version made by, then as in the local header; length of comment, disk, attributes twice, offset
_ENTRY = _Record("directory entry", b"PK\x01\x02", struct.Struct("<4x6H3I5H2I"))
# disk, directory's disk, entries on this disk, entries, size and offset of the directory, length of comment
_END = _Record("end record", b"PK\x05\x06", struct.Struct("<4x4H2IH"))
# disk, offset of the next record, disks
_LOCATOR = _Record("zip64 locator", b"PK\x06\x07", struct.Struct("<4xIQI"))
# length of the rest, version made by, version needed, then as in the end record
_END64 = _Record("zip64 end record", b"PK\x06\x06", struct.Struct("<4xQ2H2I4Q"))


class Entry(NamedTuple):
    """One member: what the directory says of it, and where it lies."""

    name: str
    method: int      # PLAIN or DEFLATED
    crc: int         # CRC-32 of the contents
    stored: int      # bytes in the archive
    size: int        # bytes of the contents
    flags: int
    offset: int      # first byte of its local header, counted from the start of the file
    begin: int       # first byte of the member


def entries(file, path):
    """Every member of an open archive, in file order.  All of the rules above are checked but the last sentence's.

    Raises FormatError for an archive that breaks a rule; `path` is what its message calls the file.

    >>> import io, zipfile
    >>> file = io.BytesIO()
    >>> with zipfile.ZipFile(file, "w") as archive:
    ...     archive.writestr("a/b.npy", "twelve bytes")
    >>> [(entry.name, entry.size, entry.begin) for entry in entries(file, "m.npz")]
    [('a/b.npy', 12, 37)]
    """
    count, begin, end = _directory(file, path)
    file.seek(begin)
    return _placed(file, _listed(file.read(end - begin), count, path), begin, path)


def contents(file, entry, path):
    """The contents of a member, in pieces of at most 64 KiB: no byte more than its entry says, and no byte less.

    Side effect: moves the file's position.

    >>> import io, zipfile
    >>> file = io.BytesIO()
    >>> with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    ...     archive.writestr("w.npy", "twelve bytes")
    >>> b"".join(contents(file, entries(file, "m.npz")[0], "m.npz"))
    b'twelve bytes'
    """
    file.seek(entry.begin)
    left, blocks = entry.size, _blocks(file, entry.stored)
    for piece in _inflated(blocks, path, entry.name) if entry.method == DEFLATED else blocks:
        left -= len(piece)
        if left < 0:
            raise refusal(path, "inflates to more than it claims", expected=f"{entry.size} bytes", tensor=entry.name)
        yield piece
    if left:
        raise refusal(path, "holds less than it claims", f"{entry.size - left} bytes", entry.size, entry.name)


def refuse_name(path, name):
    """Refuses a name that is no text, or that leads out of the folder in which someone unpacks it.

    >>> refuse_name("m.npz", "../w.npy")
    Traceback (most recent call last):
    ...
    nphybrid.tensorfile.stored.FormatError: m.npz: tensor '../w.npy': name is a path out of its folder
    """
    trouble = name_trouble(name)
    if not trouble and (re.search(r"^/|^[A-Za-z]:|\\|\0", name) or ".." in name.split("/")):
        trouble = "name is a path out of its folder"
    if not trouble and len(name.encode()) > 0xFFFF:
        trouble = "name is longer than 65,535 bytes"
    if trouble:
        raise refusal(path, trouble, tensor=name)


# ---------------------------------------------------------------- the directory

def _directory(file, path):
    """What the end record says of the directory: entries, its first byte, the byte after its last."""
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


def _directory64(file, at, locator, short, path):
    """The six fields of the zip64 end record; in the other one each must be the same, or all ones."""
    rest, _, _, *full = _fields(_END64, _bytes(file, at, _END64), path)
    if locator != (0, at, 1) or rest != _END64.layout.size - 12:
        expected = f"{[0, at, 1, _END64.layout.size - 12]}"
        raise refusal(path, "zip64 end record has another place or length", [*locator, rest], expected)
    if any(a not in (b, ones) for a, b, ones in zip(short, full, [0xFFFF] * 4 + [_ONES] * 2)):
        raise refusal(path, "end record and zip64 end record disagree", short, f"{full}, or all ones")
    return full


def _bytes(file, at, record):
    """As many bytes as a record has; none where it would begin before the file does."""
    file.seek(max(at, 0))
    return file.read(record.layout.size) if at >= 0 else b""


def _fields(record, data, path, tensor=None):
    """The fields of a record at the beginning of some bytes."""
    if len(data) < record.layout.size or not data.startswith(record.magic):
        rule = f"has no {record.word} where one belongs: truncated?"
        raise refusal(path, rule, data[:4], repr(record.magic), tensor)
    return record.layout.unpack_from(data)


def _listed(data, count, path):
    """The entries of the directory, which are all of it, no name twice."""
    found, at = {}, 0
    for _ in range(count):
        fields = _fields(_ENTRY, data[at:at + _ENTRY.layout.size], path)
        at += _ENTRY.layout.size
        name, extra, comment = fields[9:12]
        entry = _entry(fields, data[at:at + name], data[at + name:at + name + extra], path)
        if entry.name in found:
            raise refusal(path, "has two members of one name", expected="each name once", tensor=entry.name)
        found[entry.name] = entry
        at += name + extra + comment
    if at != len(data):
        raise refusal(path, "entries are not all of the directory", f"{at} bytes", len(data))
    return list(found.values())


def _entry(fields, name, extra, path):
    """One checked entry; where its member begins is not known yet."""
    _, needed, flags, method, _, _, crc, stored, size, _, _, _, disk, _, _, offset = fields
    name = _name(name, flags, path)
    if flags & _ENCRYPTED:
        raise refusal(path, "is encrypted", f"flags {flags:#06x}", "no password", name)
    if method not in (PLAIN, DEFLATED):
        raise refusal(path, "is compressed by another method", method, "0 (stored) or 8 (deflated)", name)
    if flags & ~(_STREAMED | _UTF8 | (_EFFORT if method == DEFLATED else 0)) or needed > _VERSION or disk:
        found = f"flags {flags:#06x}, version {needed}, disk {disk}"
        raise refusal(path, "needs what is not read here", found, f"version at most {_VERSION}, disk 0", name)
    size, stored, offset = _full([size, stored, offset], extra, path, name)
    limit = MAX_RATIO * stored
    if size > limit if method == DEFLATED else size != stored:
        expected = f"at most {MAX_RATIO} x {stored}" if method == DEFLATED else stored
        raise refusal(path, "claims another size than its bytes can hold", size, expected, name)
    return Entry(name, method, crc, stored, size, flags, offset, -1)


def _name(data, flags, path):
    """The name of a member.  Without the flag it is in the code page of the first PC, or in no one knows which."""
    try:
        name = data.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        expected = "UTF-8" if flags & _UTF8 else "ASCII, or the flag for UTF-8"
        raise refusal(path, "a member's name cannot be read", data, expected) from None
    refuse_name(path, name)
    return name


def _full(fields, extra, path, name):
    """Fields of 32 bits, or for each that is all ones, the 64 bits that stand for it in the extra fields."""
    parts = _extra_fields(extra, path, name)
    # Readers that know this field use its name, others the usual one.
    if _OTHER_NAME in parts:
        raise refusal(path, "has a second name in its extra fields", parts[_OTHER_NAME], "one name", name)
    full, count = parts.get(_ZIP64, b""), fields.count(_ONES)
    if len(full) != 8 * count:
        rule = "zip64 has not one number for each field of all ones"
        raise refusal(path, rule, f"{len(full)} bytes", 8 * count, name)
    numbers = iter(struct.unpack(f"<{count}Q", full))
    return [next(numbers) if field == _ONES else field for field in fields]


def _extra_fields(data, path, name):
    """The extra fields: {id: bytes}."""
    parts, at = {}, 0
    while at < len(data):
        kind = data[at:at + 2]
        end = at + 4 + int.from_bytes(data[at + 2:at + 4], "little")
        if end > len(data) or kind in parts:
            raise refusal(path, "extra fields are broken", data, "id, length and as many bytes, each id once", name)
        parts[kind], at = data[at + 4:end], end
    return {int.from_bytes(kind, "little"): part for kind, part in parts.items()}


# ---------------------------------------------------------------- the members

def _placed(file, found, limit, path):
    """The entries in file order, each with the place of its member; with their headers they fill all up to `limit`."""
    placed, filled = [], 0
    for entry in sorted(found, key=lambda entry: entry.offset):
        if entry.offset != filled:
            rule = "leaves a gap" if entry.offset > filled else "overlaps the member before it"
            raise refusal(path, rule, f"local header at {entry.offset}", filled, entry.name)
        begin, behind = _local(file, entry, path)
        end = begin + entry.stored
        filled = end + (behind.layout.size if behind else 0)
        if filled > limit:
            raise refusal(path, "reaches into the directory", f"bytes up to {filled}", f"at most {limit}", entry.name)
        if behind:
            _refuse_other(entry, _fields(behind, _bytes(file, end, behind), path, entry.name), path)
        placed.append(entry._replace(begin=begin))
    if filled != limit:
        raise refusal(path, "has bytes between the last member and the directory", limit - filled, 0)
    return placed


def _local(file, entry, path):
    """Compares a local header with its entry: first byte of the member, and the record that must follow it, or None."""
    needed, flags, method, _, _, crc, stored, size, name, extra = _fields(
        _LOCAL, _bytes(file, entry.offset, _LOCAL), path, entry.name)
    found, expected = [file.read(name), flags, method], [entry.name.encode(), entry.flags, entry.method]
    if found != expected or needed > _VERSION:
        rule = "local header and directory disagree on name, flags or method"
        raise refusal(path, rule, [*found, needed], f"{shortened(expected)}, version at most {_VERSION}", entry.name)
    size_full, stored_full = _full([size, stored], file.read(extra), path, entry.name)
    behind = (_BEHIND64 if _ONES in (size, stored) else _BEHIND) if flags & _STREAMED else None
    _refuse_other(entry._replace(crc=0, stored=0, size=0) if behind else entry, (crc, stored_full, size_full), path)
    return entry.offset + _LOCAL.layout.size + name + extra, behind


def _refuse_other(entry, found, path):
    """Refuses a CRC-32, stored size and size other than the entry's."""
    expected = entry.crc, entry.stored, entry.size
    if found != expected:
        rule = "local header and directory disagree on CRC-32, stored size or size"
        raise refusal(path, rule, found, expected, entry.name)


def _blocks(file, count):
    """The next `count` bytes of a file, in pieces; fewer where it ends."""
    while block := file.read(min(count, _STEP)):
        count -= len(block)
        yield block


def _inflated(blocks, path, name):
    """What a deflate stream holds, in pieces; it must end with the last byte of the last block."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for block in blocks:
            while piece := stream.decompress(block, _STEP):
                yield piece
                block = stream.unconsumed_tail
            # zlib would gather all that follows, each block with a copy of those before.
            if stream.eof:
                break
    except zlib.error as error:
        raise refusal(path, f"deflate stream is broken ({error})", tensor=name) from None
    if not stream.eof or stream.unused_data or next(blocks, None):
        found = "bytes behind it" if stream.eof else "no end"
        raise refusal(path, "deflate stream does not end with its member", found, "its end there", name)
