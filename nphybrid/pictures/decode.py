"""Decode a picture file to an RGB picture: upright, opaque, and with 8 bits per channel.

A picture is refused if it cannot be decoded without guessing. Pillow leaves the following cases to its caller, and this
file has these rules for them:

    EXIF orientation   applied; an orientation that is only in XMP or in a text is ignored, as browsers do
    colour profiles    not applied, as in transformers and timm: the numbers in the file are used as sRGB
    gamma              not applied, as in transformers and timm, for example the chunk gAMA of a PNG
    other metadata     ignored, also if it is large or damaged; of a PNG, all ancillary chunks except tRNS and eXIf
    alpha              composited on white, for an alpha channel, a palette with alpha or a transparent colour
    16-bit grey        divided by 257; Pillow would cut off values at 255, so that the picture becomes white
    16-bit colour      only the high byte is kept, an error of less than one level; refused with a transparent colour
    CMYK, YCbCr, HSV   converted by Pillow
    LAB                converted by Little CMS, with the white point D50
    32-bit or signed   refused, because nothing defines which number is white; examples: mode F, mode I in a TIFF
    palettes           refused if a pixel has no colour in the palette
    several frames     the first frame; white where this frame does not cover the canvas of a GIF
    HEIC               decoded if the package pillow-heif is installed; not EXIF, but the property irot turns it
    truncated          refused
    damaged            refused if the file shows the damage: a PNG by wrong checksums, a TIFF by missing strips
    too many pixels    refused before the pixels are decoded

A JPEG is not refused if data is missing in its middle but not at its end. The RGB picture then has a grey area.
"""

import contextlib
import importlib.util
import io
import math
import os
import stat
import struct
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from . import MAX_PIXELS, being_read, max_pixels as largest
from .metadata import ChunkError, check_pixels_of_png, exif_orientation, jpeg_without_metadata, png_without_metadata
from ..shortage import memory_error, out_of_memory
from ..text import is_url, url_refusal

# Pillow can also read other formats, but some are dangerous.
# For example, Pillow would let Ghostscript execute a PostScript file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
# Estimate of the largest number of bytes that a decoder needs for one pixel. RGB needs 4 bytes. The coefficients of a
# progressive JPEG need 6 bytes. The four 32-bit planes of a JPEG 2000 need 16 bytes.
DECODER_BYTES = 24

# Pillow reads a file of these formats into memory before the number of pixels is known, and so does pillow-heif.
READ_AS_A_WHOLE = ("WEBP", "AVIF")
# The brands of videos in files of the MP4 family.
VIDEO_BRANDS = (b"qt  ", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"3gp4",
                b"3gp5")
# The end of a message about a picture that is too large.
LIMIT = "--max-pixels N or, in Python, nphybrid.pixel_limit(N) sets the limit"
# The major brands of HEIF files (ISO/IEC 23008-12, annex B). Pillow opens the pictures of these files that are AVIF.
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")

# For each EXIF orientation: the transposition that turns the stored picture upright (EXIF 2.32, tag 0x0112).
TURN = Image.Transpose
UPRIGHT = {2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE,
           6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90}


class PictureError(ValueError):
    """Raised for a file that is not a picture, is too large, or cannot be decoded without guessing.

    The message names the file and says what was found in the file.
    """


def open_picture(source: str | os.PathLike | bytes | IO[bytes] | Image.Image, *,
                 max_pixels: int | None = None) -> Image.Image:
    """Read a picture according to the rules at the top of this file.

    The EXIF orientation is applied. Colour profiles and gamma are not applied, as in transformers and timm.

    Args:
        source: a path, the bytes of a file, an open binary file, or a Pillow picture. An open file is read to its end.
            A Pillow picture is not changed.
        max_pixels: the largest number of pixels (rows times columns) that is accepted. None means 64,000,000, or the
            limit of `nphybrid.pixel_limit`. With None, a Pillow picture that is not an open file may have any size.

    Returns:
        A Pillow picture of mode RGB that does not need the file any more. `numpy.asarray` returns its pixels as uint8
        (H, W, 3).

    Raises:
        PictureError: the file is empty, truncated, damaged, too large, not a picture, or refused by a rule.
        OSError: the file cannot be opened or read. If the file does not exist, the error is FileNotFoundError.
        MemoryError: there is not enough memory to decode the picture.

    >>> file = io.BytesIO()
    >>> Image.new("LA", (4, 2), (0, 0)).save(file, "PNG")
    >>> open_picture(file.getvalue()).size, open_picture(file.getvalue()).getpixel((0, 0))
    ((4, 2), (255, 255, 255))
    """
    if isinstance(source, Image.Image):
        return _read(source, getattr(source, "filename", "") or "Pillow picture", max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read(io.BytesIO(source), "picture from bytes", max_pixels)
    if not isinstance(source, (str, os.PathLike)) and hasattr(source, "read"):
        data: Any = source.read()
        name = str(getattr(source, "name", "picture from a file object"))
        if isinstance(data, str):
            raise PictureError(f"{name}: expected a file opened in mode 'rb', found a file opened as text")
        return _read(io.BytesIO(data), name, max_pixels)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError("picture: expected a path, bytes, a file object or a Pillow picture, "
                        f"found {type(source).__name__}")
    try:
        status = os.stat(source)
    except FileNotFoundError:
        if is_url(source):
            raise PictureError(url_refusal(os.fspath(source))) from None
        raise FileNotFoundError(f"{os.fspath(source)}: no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(f"{os.fspath(source)}: expected a picture file, found a folder or a device")
    with open(source, "rb") as file:
        return _read(file, os.fspath(source), max_pixels)


def begins_as_picture(data: bytes) -> bool:
    r"""Return True if `data` looks like a picture, which may be damaged, and False if it looks like a text.

    >>> begins_as_picture(b"\x89PNG\r\n\x1a\n"), begins_as_picture(b"BMW.jpg\nP6.png\n")
    (True, False)
    """
    with contextlib.suppress(Exception):
        return bool(_identify(io.BytesIO(data)))
    return data.startswith((b"\xff\xd8", b"\0")) or bool(set(data[:16]) & (set(range(32)) - set(b"\0\t\n\r")))


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a Pillow picture of any mode, by the rules at the top of this file.  mode (W, H) -> RGB (W, H)

    The pixels of mode I are 32-bit integers. Mode I is accepted only from PNG and PGM files, whose pixels have at most
    16 bits. Raises PictureError if the rules refuse the picture.

    >>> to_rgb(Image.fromarray(np.array([[0, 257, 65535]], np.uint16))).getpixel((1, 0))
    (1, 1, 1)
    """
    mode = picture.mode
    if mode == "F" or mode == "I" and picture.format not in ("PNG", "PPM"):
        raise PictureError(f"mode {mode} has 32-bit or signed pixels and does not define which number is white; save "
                           "the picture with 8 or 16 bits")
    if mode in ("P", "PA"):
        _check_palette(picture)
    if mode == "La":
        picture = picture.convert("LA")
    if mode.startswith("I"):
        picture = _eight_bits(picture)
    if picture.has_transparency_data:
        colour = picture.convert("RGBA")
        # `paste` computes round((alpha * colour + (255 - alpha) * 255) / 255) exactly.
        rgb = Image.new("RGB", picture.size, "white")
        rgb.paste(colour, mask=colour)
    elif mode == "LAB":
        rgb = _lab_to_rgb(picture)
    else:
        rgb = picture.convert("RGB")
    # The metadata is deleted, so that nobody applies the EXIF orientation a second time.
    rgb.info = {}
    return rgb


def _read(source, name, max_pixels):
    """Decode an open, seekable file or a Pillow picture to an RGB picture."""
    picture, token = None, being_read.set(str(name))
    try:
        if isinstance(source, Image.Image):
            picture = source
            _check_size(picture, max_pixels)
        else:
            picture = _identify(_without_metadata(source), max_pixels)
            _check_size(picture, max_pixels)
            if picture.format == "PNG":
                check_pixels_of_png(source)
        picture = _decoded(picture)
        upright = UPRIGHT.get(exif_orientation(picture.info.get("exif") or b""))
        rgb = to_rgb(picture)
        return rgb if upright is None else rgb.transpose(upright)
    except (PictureError, ChunkError) as error:
        raise PictureError(f"{name}: {error}") from None
    except MemoryError as error:
        raise memory_error(error, name) from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name}: has more pixels than Pillow decodes ({error}; {LIMIT})") from error
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError and more.
    except Exception as error:
        if out_of_memory(error) or not _fits_in_memory(picture, error):
            raise memory_error(error, name) from error
        # An error of the file system has a number. An error of a decoder has none.
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, name) from error
        raise PictureError(f"{name}: truncated or damaged ({type(error).__name__}: {error})") from error
    finally:
        being_read.reset(token)


def _without_metadata(file):
    """Return the file, or a view of a PNG or JPEG file that omits the metadata that changes no pixel."""
    head = file.read(8)
    file.seek(0)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return png_without_metadata(file)
    return jpeg_without_metadata(file) if head.startswith(b"\xff\xd8\xff") else file


def _identify(file, max_pixels=None):
    """Open the picture at the beginning of a file, without decoding its pixels.

    Unlike Image.open, `_identify` ignores Pillow's limit on the number of pixels, which holds for the whole process.
    `max_pixels` limits the size of a file that is read as a whole.
    """
    head, why = file.read(16), ""
    # In a new process, `preinit` loads the five most common formats in 10 ms.
    # In a new process, `init` loads all formats in 80 ms.
    for learn_formats in Image.preinit, Image.init:
        learn_formats()
        for name in filter(Image.OPEN.get, FORMATS):
            factory, accept = Image.OPEN[name]
            accepted = accept is None or accept(head)
            # If `accepted` is a string, it is the reason why this build of Pillow cannot read the format.
            if not accepted or isinstance(accepted, str):
                why = accepted or why
                continue
            if name in READ_AS_A_WHOLE:
                _check_bytes(file, max_pixels)
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                why = f"begins like {name}, but is damaged or of a kind that Pillow cannot read ({error})"
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        _check_bytes(file, max_pixels)
        return _heif(file)
    raise PictureError(why or _what_is(file))


def has_heif() -> bool:
    """Return True if pictures in HEIF files, such as HEIC, can be decoded: the package pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def formats() -> tuple[str, ...]:
    """The formats that can be decoded on this computer."""
    return *FORMATS, *(("HEIC",) if has_heif() else ())


def _heif(file):
    """Open a HEIF file with pillow-heif, which turns the picture upright and resets its EXIF orientation."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise PictureError(f"is a HEIC picture, which needs the package pillow-heif: pip install pillow-heif ({error})"
                           ) from None
    file.seek(0)
    try:
        return HeifImageFile(file, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:
        why = f"begins like HEIC, but is damaged or of a kind that libheif cannot read ({error})"
        raise PictureError(why) from None


def _check_bytes(file, max_pixels):
    """Refuse a file that would be read into memory as a whole and needs more memory than a decoder may need."""
    limit = DECODER_BYTES * max(MAX_PIXELS, largest() if max_pixels is None else max_pixels)
    size = file.seek(0, io.SEEK_END)
    if size > limit:
        raise PictureError(f"has {size:,} bytes, expected at most {limit:,} in a file of this format ({LIMIT})")


def _check_size(picture, max_pixels):
    """Refuse a picture that needs too much memory to decode."""
    sizes = {"": picture.size}
    if picture.format == "TIFF":
        # A whole tile is decoded, even if the picture shows only a part of the tile (TIFF 6.0, tags 322 and 323).
        sizes["tiles of "] = picture.tag_v2.get(322, 0), picture.tag_v2.get(323, 0)
    if max_pixels is not None:
        limit, name = max_pixels, "max_pixels"
    elif isinstance(picture, ImageFile.ImageFile):
        limit, name = largest(), LIMIT
    else:
        return                            # the caller has already decoded the picture
    for what, (width, height) in sizes.items():
        if width * height > limit:
            raise PictureError(f"has {what}{height} x {width} pixels, expected at most {limit:,} ({name})")


def _fits_in_memory(picture, error):
    """Return True if the memory that a decoder may need can be allocated.

    Some decoders report a lack of memory as damage, for example libjpeg as "broken data stream". If a WebP cannot be
    opened, its size is unknown. In this case, memory for MAX_PIXELS pixels must be free.
    """
    if picture is None and "decoder object" not in str(error):
        return True
    pixels = MAX_PIXELS if picture is None else math.prod(picture.size)
    try:
        np.empty(pixels * DECODER_BYTES, np.uint8)
    except MemoryError:
        return False
    return True


def _decoded(picture):
    """Decode the pixels of a picture.

    In some cases, Pillow decodes pixels wrongly. Then the pixels are corrected, or the picture is refused.
    """
    # `picture.tile` lists the decoder and its arguments for each box of the picture. `tiles` is a copy, because `load`
    # empties `picture.tile`.
    tiles: list[Any] = list(getattr(picture, "tile", ()))
    _load(picture)
    if not tiles:
        return picture
    _, box, _, arguments = tiles[0]
    if picture.format == "TIFF":
        _check_tiff(picture, tiles)
    if picture.format == "PNG" and "transparency" in picture.info:
        return _with_transparency_of_eight_bits(picture, arguments)
    if picture.format == "GIF" and box != (0, 0, *picture.size):
        # Pillow would fill the canvas outside the box of the frame with the first colour of the palette.
        canvas = Image.new("RGBA", picture.size)
        canvas.paste(picture.crop(box).convert("RGBA"), box)
        return canvas
    return picture


def _load(picture):
    """Let Pillow decode the pixels.

    Pillow turns a TIFF while it decodes the pixels. If there is no EXIF orientation, Pillow would use the XMP packet.
    """
    info = picture.info
    if picture.format == "TIFF":
        picture.info = {key: value for key, value in info.items() if key != "xmp"}
    try:
        picture.load()
    finally:
        picture.info = info


def _check_tiff(picture, tiles):
    """Refuse a TIFF with missing strips or tiles, or with signed samples (TIFF 6.0, tags 284 and 339).

    Pillow would show missing strips and tiles as black.
    """
    width, height = picture.size
    separate = tiles[0][0] == "raw" and picture.tag_v2.get(284) == 2
    expected = width * height * (len(picture.getbands()) if separate else 1)
    filled = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), _, _ in tiles)
    if filled < expected:
        raise PictureError(f"truncated or damaged: its strips or tiles fill only {filled:,} of {expected:,} pixels")
    if 2 in picture.tag_v2.get(339, ()) and picture.mode != "I":
        raise PictureError(f"mode {picture.mode} has signed samples and does not define which number is white; save "
                           "the picture with unsigned samples")


def _with_transparency_of_eight_bits(picture, rawmode):
    """Scale the transparent colour of a PNG to 8 bits, as Pillow scales the pixels.  PNG (Second Edition), 11.3.2.1"""
    if rawmode == "RGB;16B":
        raise PictureError("a transparent colour of 16 bits cannot be found among pixels of 8 bits; save the picture "
                           "with an alpha channel")
    if rawmode not in ("L;2", "L;4"):
        return picture
    # The picture is copied, because it may belong to the caller.
    picture = picture.copy()
    picture.info["transparency"] *= {"L;2": 85, "L;4": 17}[rawmode]
    return picture


def _check_palette(picture):
    """Refuse a picture with a colour index beyond its palette.  Pillow would show pixels with this index as black."""
    palette = picture.palette
    colours = len(palette.palette) // len(palette.mode) if palette else 0
    largest = picture.getextrema()[1] if picture.mode == "P" else picture.getextrema()[0][1]
    if largest >= colours:
        raise PictureError(f"found a pixel with colour number {largest} in a palette with {colours} colours")


def _eight_bits(picture):
    """Scale 16-bit grey to 8 bits and round.  I;16 (W, H) -> L (W, H)"""
    values = np.asarray(picture)
    # A TIFF with 12 bits also has mode I;16, with white at 4095 (TIFF 6.0, tag 258).
    # If tag 262 of a TIFF is 0, white is the number 0.
    tags = picture.tag_v2 if picture.format == "TIFF" else {}
    white = 2 ** tags.get(258, (16,))[0] - 1
    nearest = (np.arange(white + 1) * 255 + white // 2) // white
    # With the table `nearest`, 64 million pixels take 440 MB and 2.5 s, including decoding.
    # Without a table, 64 million pixels would take 880 MB and 7 s.
    grey = nearest.astype(np.uint8)[values]
    if tags.get(262) == 0:
        grey = 255 - grey
    if "transparency" in picture.info:
        grey[values == picture.info["transparency"]] = 255
    return Image.fromarray(grey)


def _lab_to_rgb(picture):
    """Convert CIE L*a*b* with white point D50 to sRGB with white point D65.  LAB (W, H) -> RGB (W, H)"""
    try:
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    except ImportError as error:
        raise PictureError(f"mode LAB needs a Pillow that was built with Little CMS ({error})") from error
    rgb = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    assert rgb is not None        # the result is None only with inPlace=True
    return rgb


def _what_is(file):
    """Describe a file that is not a picture, for an error message."""
    file.seek(0)
    head = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "is empty"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not a picture; run `git lfs pull` to get the picture"
    if text.startswith((b"<!doctype html", b"<html")):
        return "is an HTML page, not a picture; the download of the picture may have failed"
    if head.startswith(b"%PDF"):
        return "is a PDF file, not a picture"
    if head[4:8] == b"ftyp" and head[8:12] in VIDEO_BRANDS:
        return "is a video (MP4 or MOV), not a picture"
    if head[4:12] == b"ftypcrx ":
        return "is a raw photograph (Canon CR3), which cannot be decoded; convert it to JPEG or TIFF"
    found = repr(head[:24])[1:]
    return f"is none of {', '.join(formats())}, or its header is cut off; it begins with {found}"
