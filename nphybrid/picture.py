"""A file, or its bytes, -> an RGB picture: upright, opaque, 8 bits per channel, and never silently wrong.

What Pillow leaves to its caller is decided here, once:

    EXIF orientation   applied
    alpha              composited on white, whether a channel, a palette's or a transparent colour
    16-bit grey        scaled by 257; Pillow's own conversion cuts off at 255, which makes the picture white
    CMYK, YCbCr, HSV   Pillow's conversion; embedded colour profiles are not applied
    LAB                D50, by way of Little CMS
    F; I of a TIFF     refused: 32-bit numbers do not say which of them is white
    several frames     the first
    truncated          refused
    too many pixels    refused before they are decoded
"""

import io
import os
import stat
import struct
from typing import IO

import numpy as np
from PIL import Image

# Pillow knows more formats, among them PostScript, which it would have Ghostscript execute.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
MAX_PIXELS = 64_000_000

# EXIF 2.32, tag 0x0112: what turns the stored picture upright.
TURN = Image.Transpose
UPRIGHT = {2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE,
           6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90}


class PictureError(ValueError):
    """A file is no picture, or none that can be read without guessing; names it and what was found."""


def open_picture(source: str | os.PathLike | bytes | IO[bytes] | Image.Image, *,
                 max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a picture by the rules above.

    Args:
        source: a path, the bytes of a file, an open binary file, which is read to its end, or a Pillow
            picture, which is left as it is.
        max_pixels: the largest picture that is decoded, rows times columns.

    Returns:
        A Pillow picture of mode RGB that no longer needs the file; `numpy.asarray` makes it (H, W, 3) uint8.

    Raises:
        PictureError: the file is empty, truncated, damaged, too large, or no picture.
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
    if hasattr(source, "read"):
        data, name = source.read(), str(getattr(source, "name", "picture from a file object"))
        if isinstance(data, str):
            raise PictureError(f"{name}: opened as text; open it in mode 'rb'")
        return _read(io.BytesIO(data), name, max_pixels)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"a picture is a path, bytes, a file object or a Pillow picture; found {type(source).__name__}")
    if not stat.S_ISREG(os.stat(source).st_mode):
        raise PictureError(f"{os.fspath(source)}: is a folder or a device, not a file")
    with open(source, "rb") as file:
        return _read(file, os.fspath(source), max_pixels)


def to_rgb(picture: Image.Image) -> Image.Image:
    """A Pillow picture of any mode, by the rules above.  mode (W, H) -> RGB (W, H)

    Mode I, 32-bit integers, is read only from a PNG or PGM file, where it holds 16 bits. Raises PictureError.

    >>> to_rgb(Image.fromarray(np.array([[0, 257, 65535]], np.uint16))).getpixel((1, 0))
    (1, 1, 1)
    """
    mode = picture.mode
    if mode == "F" or mode == "I" and picture.format not in ("PNG", "PPM"):
        raise PictureError(f"pixels of 32 bits (mode {mode}) do not say which number is white; save the "
                           "picture with 8 or 16 bits")
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
    # So that nobody turns it a second time.
    rgb.info = {}
    return rgb


def _read(source, name, max_pixels):
    """An open, seekable file, or a Pillow picture -> an RGB picture."""
    try:
        picture = source if isinstance(source, Image.Image) else _identify(source)
        if picture is None:
            raise PictureError(_what_is(source))
        width, height = picture.size
        if width * height > max_pixels:
            raise PictureError(f"{height} x {width} pixels, more than the {max_pixels:,} of max_pixels")
        picture.load()
        upright = UPRIGHT.get(_orientation(picture))
        rgb = to_rgb(picture)
        return rgb if upright is None else rgb.transpose(upright)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from None
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError and more.
    except Exception as error:
        raise PictureError(f"{name}: truncated or damaged ({type(error).__name__}: {error})") from error


def _identify(file):
    """The picture a file begins with, its pixels not yet decoded; None if it is none of FORMATS.

    Image.open does the same, but warns above a limit of the whole process, and fails at twice that.
    """
    head = file.read(16)
    # The five commonest formats, then all: 10 and 80 ms for those who open their first picture.
    for learn_formats in Image.preinit, Image.init:
        learn_formats()
        for factory, accept in (Image.OPEN[name] for name in FORMATS if name in Image.OPEN):
            # A string says why a build of Pillow cannot read a format it knows.
            if accept is None or accept(head) is not True:
                continue
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    return None


def _orientation(picture):
    """The EXIF orientation, 1 to 8.  Unreadable EXIF leaves a picture as it is, as in a browser."""
    try:
        return picture.getexif().get(0x0112, 1)
    except Exception:
        return 1


def _eight_bits(picture):
    """16-bit grey, scaled and rounded.  I;16 (W, H) -> L (W, H)"""
    values = np.asarray(picture).astype(np.uint32)
    # TIFF 6.0, tags 258 and 262: 12 bits come as I;16 too, with white at 4095; and white may be 0.
    tags = picture.tag_v2 if picture.format == "TIFF" else {}
    white = 2 ** tags.get(258, (16,))[0] - 1
    grey = ((values * 255 + white // 2) // white).astype(np.uint8)
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
    return ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")


def _what_is(file):
    """What a file that is no picture seems to be, in words."""
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
