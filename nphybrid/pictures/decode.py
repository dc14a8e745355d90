"""A file, or its bytes, -> an RGB picture: upright, opaque, 8 bits per channel, and never silently wrong.

Pillow leaves these decisions to its caller:

    EXIF orientation   applied
    alpha              composited on white, whether a channel, a palette's or a transparent colour
    16-bit grey        scaled by 257; Pillow's own conversion cuts off at 255, which makes the picture white
    16-bit colour      the high byte, less than one level from scaled; refused with a transparent colour
    CMYK, YCbCr, HSV   Pillow's conversion; embedded colour profiles are not applied
    LAB                D50, converted by Little CMS
    F; I of a TIFF     refused: for 32-bit and signed numbers it is not known which one is white
    palettes           refused if a pixel has no colour in them
    several frames     the first; white where the first frame of a GIF does not cover its canvas
    truncated          refused
    damaged            refused where the format can show it: a PNG by its checksums, a TIFF by missing strips.
                       A JPEG without its middle but with its end looks like a picture with grey in it
    too many pixels    refused before they are decoded
"""

import contextlib
import io
import os
import stat
import struct
import zlib
from typing import IO, Any

import numpy as np
from PIL import Image

# Pillow reads more formats, among them PostScript, which it passes to Ghostscript to be executed.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
MAX_PIXELS = 64_000_000

# EXIF 2.32, tag 0x0112: the transposition that turns the stored picture upright.
TURN = Image.Transpose
UPRIGHT = {2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE,
           6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90}


class PictureError(ValueError):
    """A file that is not a picture, or cannot be read without guessing; the message names it and what was found."""


def open_picture(source: str | os.PathLike | bytes | IO[bytes] | Image.Image, *,
                 max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a picture by the rules above.

    Args:
        source: a path, the bytes of a file, an open binary file, which is read to its end, or a Pillow
            picture, which is not changed.
        max_pixels: the largest picture that is decoded, rows times columns.

    Returns:
        A Pillow picture of mode RGB that no longer needs the file; `numpy.asarray` makes it (H, W, 3) uint8.

    Raises:
        PictureError: the file is empty, truncated, damaged, too large, or not a picture.
        OSError: the file cannot be opened; FileNotFoundError if there is none.

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
            raise PictureError(f"{name}: opened as text; open it in mode 'rb'")
        return _read(io.BytesIO(data), name, max_pixels)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"a picture is a path, bytes, a file object or a Pillow picture; found {type(source).__name__}")
    if not stat.S_ISREG(os.stat(source).st_mode):
        raise PictureError(f"{os.fspath(source)}: is a folder or a device, not a file")
    with open(source, "rb") as file:
        return _read(file, os.fspath(source), max_pixels)


def begins_as_picture(data: bytes) -> bool:
    r"""Whether the bytes of a file are a picture, perhaps a damaged one, rather than a text such as a list of names.

    >>> begins_as_picture(b"\x89PNG\r\n\x1a\n"), begins_as_picture(b"BMW.jpg\nP6.png\n")
    (True, False)
    """
    with contextlib.suppress(Exception):
        return bool(_identify(io.BytesIO(data)))
    return data.startswith((b"\xff\xd8", b"\0")) or bool(set(data[:16]) & (set(range(32)) - set(b"\0\t\n\r")))


def to_rgb(picture: Image.Image) -> Image.Image:
    """A Pillow picture of any mode, converted by the rules above.  mode (W, H) -> RGB (W, H)

    Mode I, 32-bit integers, is read only from a PNG or PGM file, where it holds 16 bits. Raises PictureError.

    >>> to_rgb(Image.fromarray(np.array([[0, 257, 65535]], np.uint16))).getpixel((1, 0))
    (1, 1, 1)
    """
    mode = picture.mode
    if mode == "F" or mode == "I" and picture.format not in ("PNG", "PPM"):
        raise PictureError(f"pixels of 32 bits or with a sign (mode {mode}) do not say which number is white; save "
                           "the picture with 8 or 16 bits")
    if mode in ("P", "PA"):
        _check_palette(picture)
    if mode == "La":
        picture = picture.convert("LA")
    if mode.startswith("I"):
        picture = _eight_bits(picture)
    if picture.has_transparency_data:
        colour = picture.convert("RGBA")
        # paste computes round((alpha * colour + (255 - alpha) * 255) / 255), exactly.
        rgb = Image.new("RGB", picture.size, "white")
        rgb.paste(colour, mask=colour)
    elif mode == "LAB":
        rgb = _lab_to_rgb(picture)
    else:
        rgb = picture.convert("RGB")
    # The EXIF orientation is applied; without it nobody turns the picture a second time.
    rgb.info = {}
    return rgb


def _read(source, name, max_pixels):
    """An open, seekable file, or a Pillow picture -> an RGB picture."""
    try:
        ours = not isinstance(source, Image.Image)
        picture = _identify(source) if ours else source
        _check_size(picture, max_pixels)
        if ours and picture.format == "PNG":
            _check_sums(source)
        picture = _decoded(picture)
        upright = UPRIGHT.get(_orientation(picture))
        rgb = to_rgb(picture)
        return rgb if upright is None else rgb.transpose(upright)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from None
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name}: more pixels than Pillow decodes ({error})") from error
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError and more.
    except Exception as error:
        raise PictureError(f"{name}: truncated or damaged ({type(error).__name__}: {error})") from error


def _identify(file):
    """The picture at the beginning of a file, its pixels not yet decoded.

    Unlike Image.open it does not depend on the limit of pixels that is set for the whole process.
    """
    head, why = file.read(16), ""
    # The five commonest formats, then all: for the first picture of a process that takes 10 or 80 ms.
    for learn_formats in Image.preinit, Image.init:
        learn_formats()
        for name in filter(Image.OPEN.get, FORMATS):
            factory, accept = Image.OPEN[name]
            accepted = accept is None or accept(head)
            # A string is the reason why this build of Pillow cannot read the format.
            if not accepted or isinstance(accepted, str):
                why = accepted or why
                continue
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                why = f"begins like {name}, but is damaged, or of a kind that Pillow does not read ({error})"
    raise PictureError(why or _what_is(file))


def _check_size(picture, max_pixels):
    """Refuse a picture that needs too much memory to decode."""
    sizes = {"": picture.size}
    if picture.format == "TIFF":
        # TIFF 6.0, tags 322 and 323: a tile is decoded whole, even if the picture shows only a part of it.
        sizes["tiles of "] = picture.tag_v2.get(322, 0), picture.tag_v2.get(323, 0)
    for what, (width, height) in sizes.items():
        if width * height > max_pixels:
            raise PictureError(f"{what}{height} x {width} pixels, more than the {max_pixels:,} of max_pixels")


def _check_sums(file):
    """Refuse a PNG with a wrong checksum in a chunk of pixels (IDAT).  Pillow checks the other chunks."""
    position, name = file.tell(), b""
    file.seek(8)
    while name != b"IEND" and len(head := file.read(8)) == 8:
        left, name = struct.unpack(">I4s", head)
        found = zlib.crc32(name)
        while left and (block := file.read(min(left, 1 << 20))):
            found, left = zlib.crc32(block, found), left - len(block)
        stored = file.read(4)
        if name == b"IDAT" and stored != struct.pack(">I", found):
            raise PictureError("truncated or damaged: wrong checksum in a chunk of pixels (IDAT)")
    file.seek(position)


def _decoded(picture):
    """The picture with its pixels; corrected or refused where Pillow decodes them wrong."""
    # Pillow forgets this when the pixels are decoded: which decoder fills which box, and its arguments.
    tiles: list[Any] = list(getattr(picture, "tile", ()))
    picture.load()
    if not tiles:
        return picture
    _, box, _, arguments = tiles[0]
    if picture.format == "TIFF":
        _check_tiff(picture, tiles)
    if picture.format == "PNG" and "transparency" in picture.info:
        return _with_transparency_of_eight_bits(picture, arguments)
    if picture.format == "GIF" and box != (0, 0, *picture.size):
        # Pillow fills the rest of the canvas with the first colour of the palette.
        canvas = Image.new("RGBA", picture.size)
        canvas.paste(picture.crop(box).convert("RGBA"), box)
        return canvas
    return picture


def _check_tiff(picture, tiles):
    """TIFF 6.0, tags 284 and 339: refuse missing strips or tiles, which would be black, and signed samples."""
    width, height = picture.size
    separate = tiles[0][0] == "raw" and picture.tag_v2.get(284) == 2
    expected = width * height * (len(picture.getbands()) if separate else 1)
    filled = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), _, _ in tiles)
    if filled < expected:
        raise PictureError(f"truncated or damaged: its strips or tiles fill {filled:,} of {expected:,} pixels")
    if 2 in picture.tag_v2.get(339, ()) and picture.mode != "I":
        raise PictureError(f"samples with a sign (mode {picture.mode}) do not say which number is white; save the "
                           "picture without")


def _with_transparency_of_eight_bits(picture, rawmode):
    """A PNG's transparent colour in the scale of its decoded pixels.  PNG (Second Edition), 11.3.2.1"""
    if rawmode == "RGB;16B":
        raise PictureError("a transparent colour of 16 bits cannot be found among pixels of 8; save the picture with "
                           "an alpha channel")
    if rawmode not in ("L;2", "L;4"):
        return picture
    # A copy, because the picture may be the caller's own.
    picture = picture.copy()
    picture.info["transparency"] *= {"L;2": 85, "L;4": 17}[rawmode]
    return picture


def _check_palette(picture):
    """Refuse a picture with an index beyond its palette, which Pillow shows black."""
    palette = picture.palette
    colours = len(palette.palette) // len(palette.mode) if palette else 0
    largest = picture.getextrema()[1] if picture.mode == "P" else picture.getextrema()[0][1]
    if largest >= colours:
        raise PictureError(f"a pixel of colour {largest}, of a palette with {colours} colours")


def _orientation(picture):
    """The EXIF orientation, 1 to 8.  Unreadable EXIF leaves a picture as it is, as in a browser."""
    try:
        return picture.getexif().get(0x0112, 1)
    except Exception:
        return 1


def _eight_bits(picture):
    """16-bit grey, scaled and rounded.  I;16 (W, H) -> L (W, H)"""
    values = np.asarray(picture)
    # TIFF 6.0, tags 258 and 262: 12 bits come as I;16 too, with white at 4095; and white may be 0.
    tags = picture.tag_v2 if picture.format == "TIFF" else {}
    white = 2 ** tags.get(258, (16,))[0] - 1
    nearest = (np.arange(white + 1) * 255 + white // 2) // white
    # With this table 64 million pixels take 440 MB and 2.5 s, decoding included; computed one by one, 880 MB and 7 s.
    grey = nearest.astype(np.uint8)[values]
    if tags.get(262) == 0:
        grey = 255 - grey
    if "transparency" in picture.info:
        grey[values == picture.info["transparency"]] = 255
    return Image.fromarray(grey)


def _lab_to_rgb(picture):
    """CIE L*a*b* -> sRGB, D50 adapted to D65.  LAB (W, H) -> RGB (W, H)"""
    try:
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    except ImportError as error:
        raise PictureError(f"mode LAB needs a Pillow with Little CMS ({error})") from error
    rgb = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    assert rgb is not None        # it is None only with inPlace=True
    return rgb


def _what_is(file):
    """What a file that is not a picture seems to be, for a message."""
    file.seek(0)
    head = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "is empty"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the picture it points to; run `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html")):
        return "is an HTML page, not a picture; perhaps a download that failed"
    found = repr(head[:24].decode("ascii", "backslashreplace"))
    return f"begins with {found}, which is none of {', '.join(FORMATS)}, or is cut off in its header"
