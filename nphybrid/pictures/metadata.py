"""Copies a file without the metadata that changes no pixel, and reads the EXIF orientation.

Pillow reads all metadata of a file. For some metadata, Pillow refuses the whole picture, for example for a text of more
than 1 MB in a PNG. So Pillow gets only the parts of a PNG or JPEG file that `open_picture` needs.
"""
import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

# PNG (Third Edition), 11.3. acTL, fcTL and fdAT are an animation, whose first picture is in IDAT.
PNG_METADATA = (b"iCCP", b"cICP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI", b"sBIT", b"tEXt", b"zTXt", b"iTXt",
                b"bKGD", b"hIST", b"pHYs", b"sPLT", b"tIME", b"acTL", b"fcTL", b"fdAT")
# JPEG (ITU-T T.81), B.1.1.2 and table B.1. Bytes 0xFF may stand before a marker. Some markers have no segment.
JPEG_FILL, JPEG_START = 0xFF, 0xD8
JPEG_SEGMENTS = (*range(0xC0, 0xD0), *range(0xDB, 0xFF))
# APP0 is of JFIF, and the segment APP14 of Adobe names the colour space.
JPEG_METADATA = (*range(0xE1, 0xEE), 0xEF, 0xFE)
ORIENTATION = 0x0112                      # EXIF 2.32, tag Orientation
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}  # TIFF 6.0, section 2: BYTE, SHORT and LONG
BLOCK = 1 << 20


class ChecksumError(ValueError):
    """Raised for a PNG with a wrong checksum in a chunk of pixels."""


def png_without_metadata(file: IO[bytes]) -> IO[bytes]:
    """Copy a PNG without the chunks of PNG_METADATA.  Raises ChecksumError for a wrong checksum in a chunk IDAT.

    Pillow checks the other chunks.
    """
    kept, name = io.BytesIO(), b""
    kept.write(file.read(8))
    while name != b"IEND" and len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name in PNG_METADATA:
            file.seek(size + 4, io.SEEK_CUR)
            continue
        kept.write(head)
        found = zlib.crc32(name)
        for block in _blocks(file, size):
            kept.write(block)
            found = zlib.crc32(block, found)
        stored = file.read(4)
        kept.write(stored)
        if name == b"IDAT" and stored != struct.pack(">I", found):
            raise ChecksumError("truncated or damaged: wrong checksum in a chunk of pixels (IDAT)")
    kept.seek(0)
    return kept


def jpeg_without_metadata(file: IO[bytes]) -> IO[bytes]:
    """Copy a JPEG without its comments and application segments, except EXIF and the segments APP0 and APP14."""
    kept = io.BytesIO()
    while len(head := file.read(4)) == 4:
        mark, code, size = struct.unpack(">BBH", head)
        if mark == 0xFF and code in (JPEG_FILL, JPEG_START):
            length = 1 if code == JPEG_FILL else 2
            kept.write(head[:length])
            file.seek(length - 4, io.SEEK_CUR)
            continue
        if mark != 0xFF or code not in JPEG_SEGMENTS or size < 2:
            break                         # the scan with the pixels
        segment = file.read(size - 2)
        if code not in JPEG_METADATA or code == 0xE1 and segment.startswith(b"Exif\0\0"):
            kept.write(head + segment)
    kept.write(head + file.read())
    kept.seek(0)
    return kept


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


def _blocks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the next `size` bytes of a file in blocks of at most BLOCK bytes."""
    while size and (block := file.read(min(size, BLOCK))):
        size -= len(block)
        yield block
