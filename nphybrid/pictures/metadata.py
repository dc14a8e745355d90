"""Omits the metadata of a file that changes no pixel, and reads the EXIF orientation.

Pillow reads all metadata of a file. For some metadata, Pillow refuses the whole picture, for example for a text of more
than 1 MB in a PNG. So Pillow gets only the parts of a PNG or JPEG file that `open_picture` needs.
"""
import bisect
import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import IO

# PNG (Third Edition), 5.4: a chunk whose name begins with a small letter is ancillary. Most ancillary chunks change no
# pixel. These two are kept: tRNS makes pixels transparent, and eXIf has the orientation.
PNG_TRANSPARENCY, PNG_EXIF = b"tRNS", b"eXIf"
PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
PNG_PIXELS = (*PNG_CRITICAL, PNG_TRANSPARENCY)
# Pillow reads a chunk other than IDAT as a whole.
LARGEST_CHUNK = 1 << 24
# JPEG (ITU-T T.81), B.1.1.2 and table B.1. Bytes 0xFF may stand before a marker. Some markers have no segment.
JPEG_FILL, JPEG_START = 0xFF, 0xD8
JPEG_SEGMENTS = (*range(0xC0, 0xD0), *range(0xDB, 0xFF))
# APP0 is of JFIF, and the segment APP14 of Adobe names the colour space. libjpeg does not read shorter segments.
JPEG_METADATA = (*range(0xE1, 0xEE), 0xEF, 0xFE)
JPEG_SHORTEST = {0xE0: 14, 0xEE: 12}
ORIENTATION = 0x0112                      # EXIF 2.32, tag Orientation
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}  # TIFF 6.0, section 2: BYTE, SHORT and LONG
BLOCK = 1 << 20


class ChunkError(ValueError):
    """Raised for a PNG with a chunk that cannot be used, and that the picture needs."""


class Parts(io.RawIOBase):
    """A file that consists of parts of another file. The parts are read only when they are needed."""

    def __init__(self, file: IO[bytes], parts: list[tuple[int, int]]) -> None:
        """parts: (position of the first byte, number of bytes) of each part"""
        self._file, self._parts, self._position = file, parts, 0
        self._begins = [0, *itertools.accumulate(size for _, size in parts)]

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Change the position of the next read, and return it."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._begins[-1]}[whence]
        return self._position

    def readinto(self, buffer) -> int:
        """Read bytes of one part into a buffer, and return their number, which is 0 at the end."""
        number = bisect.bisect_right(self._begins, self._position) - 1
        if number == len(self._parts):
            return 0
        start, size = self._parts[number]
        inside = self._position - self._begins[number]
        self._file.seek(start + inside)
        data = self._file.read(min(len(buffer), size - inside))
        buffer[:len(data)] = data
        self._position += len(data)
        return len(data)


def png_without_metadata(file: IO[bytes]) -> IO[bytes]:
    """Return a PNG without the ancillary chunks that change no pixel.  The pixels are not read.

    A chunk eXIf with a wrong checksum is omitted, too, as libpng does. Raises ChunkError for an unknown chunk that
    changes pixels, or may be a damaged name of such a chunk, and for a chunk that is too large.
    """
    parts = [(0, 8)]
    for start, size, name in _chunks(file):
        ancillary, shown = name[:1].islower(), name.decode("ascii", "backslashreplace")
        if ancillary and name not in (PNG_TRANSPARENCY, PNG_EXIF):
            if not _has_right_checksum(file, start, size, name) and any(
                    _has_right_checksum(file, start, size, meant) for meant in PNG_PIXELS):
                raise ChunkError(f"truncated or damaged: wrong name {shown} of a chunk of pixels")
            continue
        if name != b"IDAT" and size > LARGEST_CHUNK:
            raise ChunkError(f"a chunk {shown} has {size:,} bytes, expected at most {LARGEST_CHUNK:,}")
        if name == PNG_EXIF and not _has_right_checksum(file, start, size, name):
            continue
        if not ancillary and name.isalpha() and name not in PNG_CRITICAL:
            raise ChunkError(f"has a chunk {shown}, which is not of the PNG standard and may change pixels")
        _add(parts, start, size + 12)
    return io.BufferedReader(Parts(file, parts))


def check_pixels_of_png(file: IO[bytes]) -> None:
    """Raise ChunkError for a wrong checksum in a chunk IDAT of a PNG.  Pillow checks the other chunks."""
    for start, size, name in _chunks(file):
        if name == b"IDAT" and not _has_right_checksum(file, start, size, name):
            raise ChunkError("truncated or damaged: wrong checksum in a chunk of pixels (IDAT)")


def jpeg_without_metadata(file: IO[bytes]) -> IO[bytes]:
    """Return a JPEG without its comments and application segments, except EXIF and the segments APP0 and APP14."""
    parts, at, end = [], 0, file.seek(0, io.SEEK_END)
    file.seek(0)
    while len(head := file.read(4)) == 4:
        mark, code, size = struct.unpack(">BBH", head)
        if mark == 0xFF and code == JPEG_FILL:
            at = _last_fill_byte(file, at)
            file.seek(at)
            continue
        length = size + 2
        if mark == 0xFF and code == JPEG_START:
            length = 2
        elif mark != 0xFF or code not in JPEG_SEGMENTS or size < 2:
            break                         # the scan with the pixels
        if (code == 0xE1 and file.read(6) == b"Exif\0\0"
                or code not in JPEG_METADATA and size - 2 >= JPEG_SHORTEST.get(code, 0)):
            _add(parts, at, length)
        at += length
        file.seek(at)
    _add(parts, at, max(end - at, 0))
    return io.BufferedReader(Parts(file, parts))


def _last_fill_byte(file: IO[bytes], at: int) -> int:
    """Return the position of the last byte 0xFF of a run that begins at `at`.  The last one belongs to a marker."""
    file.seek(at)
    while block := file.read(1 << 16):
        if rest := block.lstrip(b"\xff"):
            return at + len(block) - len(rest) - 1
        at += len(block)
    return at


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data, 1 to 8.  If the data has no orientation that can be read, return 1.

    >>> exif_orientation(b"Exif\\0\\0" b"MM\\0*\\0\\0\\0\\10" b"\\0\\1" b"\\1\\22\\0\\3\\0\\0\\0\\1\\0\\6\\0\\0")
    6
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        start, = struct.unpack_from(f"{order}I", tiff, 4)
        count, = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
            if tag == ORIENTATION and kind in WHOLE_NUMBERS:
                return struct.unpack_from(order + WHOLE_NUMBERS[kind], tiff, entry + 8)[0]
    except struct.error:                  # the data ends before the orientation
        pass
    return 1


def _chunks(file: IO[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the position, the number of bytes of data, and the name of each chunk of a PNG."""
    at, name = 8, b""
    while name != b"IEND":
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        size, name = struct.unpack(">I4s", head)
        yield at, size, name
        at += size + 12


def _has_right_checksum(file: IO[bytes], start: int, size: int, name: bytes) -> bool:
    """Return True if the checksum of a chunk of a PNG is that of a name and the data of the chunk."""
    file.seek(start + 8)
    checksum, left = zlib.crc32(name), size
    while left and (block := file.read(min(left, BLOCK))):
        checksum = zlib.crc32(block, checksum)
        left -= len(block)
    return file.read(4) == struct.pack(">I", checksum)


def _add(parts: list[tuple[int, int]], start: int, size: int) -> None:
    """Add a part to a list of parts. A part that continues the last part is joined with it."""
    if parts and sum(parts[-1]) == start:
        start, size = parts[-1][0], parts.pop()[1] + size
    parts.append((start, size))
