"""Picture files made by hand, each with its verdict: the pixels that must come out, or words of the refusal."""
import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image


class Near(NamedTuple):
    """Expected pixels (H, W, 3), and by how much a lossy format, or another rounding, may miss them."""

    pixels: np.ndarray
    tolerance: int


# -- how files are made --------------------------------------------------------------------------------------

def encode(picture, format, **kwargs):
    """A Pillow picture as the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, format, **kwargs)
    return file.getvalue()


def chunk(name, data):
    """One chunk of a PNG: length, name, data, checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, data=b"", depth=8, kind=2, extra=b"", interlace=0):
    """A PNG made by hand, so that its header may lie; `data` are its rows, each behind its filter's byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)
    chunks = chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def damaged(data, name, at=-1):
    """A PNG with one bit of the chunk `name` flipped; by default in the last byte of its checksum."""
    start = data.index(name) + 4
    length, = struct.unpack(">I", data[start - 8:start - 4])
    return flipped(data, start + length + 4 + at if at < 0 else start + at)


def flipped(data, at):
    """Bytes with the lowest bit of one flipped."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def tiff(width, height, data, bits=(8,), photometric=1, **tags):
    """A little-endian TIFF in one strip; tags are written t338=[2]."""
    entries = {256: [width], 257: [height], 258: bits, 259: [1], 262: [photometric], 273: [8], 277: [len(bits)],
               278: [height], 279: [len(data)]} | {int(name[1:]): values for name, values in tags.items()}
    data += b"\0" * (len(data) % 2)
    far, after = b"", 8 + len(data) + 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries))
    for tag, values in sorted(entries.items()):
        kind = "I" if max(values) > 65535 else "H"
        value = struct.pack(f"<{len(values)}{kind}", *values)
        if len(value) > 4:
            value, far = struct.pack("<I", after + len(far)), far + value
        directory += struct.pack("<HHI", tag, 4 if kind == "I" else 3, len(values)) + value.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + b"\0" * 4 + far


def gif(size, box, codes, palette=b"\xff\0\0\0\0\xff", extension=b""):
    """A GIF of one frame at (left, top, width, height) of a canvas, with two colours and ready LZW codes."""
    return (b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 1, 0) + palette + extension
            + b"," + struct.pack("<HHHHB", *box, 0) + codes + b";")


def bmp(width, height, bits, data, palette=b"", compression=0, masks=b""):
    """A BMP; a negative height runs from the top."""
    start = 54 + len(masks) + len(palette)
    header = [40, width, height, 1, bits, compression, len(data), 0, 0, len(palette) // 4, 0]
    return (b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start)
            + struct.pack("<IiiHHIIiiII", *header) + masks + palette + data)


def oriented(picture, format, orientation, **kwargs):
    """A file whose EXIF says how its picture is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(picture, format, exif=exif, **kwargs)


def adam7(x):
    """(H, W, 3) uint8 -> the rows of an interlaced PNG.  PNG (Second Edition), 8.2"""
    passes = (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)
    parts = [x[top::down, left::right] for top, left, down, right in passes]
    return b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)


def noise(seed, *shape):
    """shape -> uint8"""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


# -- what is expected ----------------------------------------------------------------------------------------

def grey(values):
    """(H, W) -> (H, W, 3)"""
    return np.repeat(np.asarray(values)[:, :, None], 3, 2).astype(int)


def on_white(colour, alpha):
    """colour (H, W, 3), alpha (H, W) -> (H, W, 3): the nearest integer to a c + (1 - a) 255"""
    colour, alpha = np.asarray(colour).astype(int), np.asarray(alpha).astype(int)[:, :, None]
    return (2 * (colour * alpha + 255 * (255 - alpha)) + 255) // 510


# What a viewer does to the stored array. EXIF 2.32, tag Orientation: where its row 0 and column 0 are seen.
VIEW = {1: lambda x: x,                                    # top, left
        2: lambda x: x[:, ::-1],                           # top, right
        3: lambda x: x[::-1, ::-1],                        # bottom, right
        4: lambda x: x[::-1],                              # bottom, left
        5: lambda x: x.transpose(1, 0, 2),                 # left, top
        6: lambda x: x.transpose(1, 0, 2)[:, ::-1],        # right, top
        7: lambda x: x.transpose(1, 0, 2)[::-1, ::-1],     # right, bottom
        8: lambda x: x.transpose(1, 0, 2)[::-1]}           # left, bottom

NOISE = noise(20261122, 9, 11, 4)
SIXTEEN = np.array([[0, 128, 129, 257, 1000, 32768, 65278, 65535]], np.uint16)
EIGHT = np.array([[0, 0, 1, 1, 4, 128, 254, 255]])                  # nearest to SIXTEEN / 257
PALETTE = bytes([10, 20, 30, 40, 50, 60, 70, 80, 90])
COLOURS = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90], [40, 50, 60]]])
RED, BLUE, WHITE = [255, 0, 0], [0, 0, 255], [255] * 3


def corners():
    """(24, 40, 3): three corners of different colours, so that no two of its eight views are the same."""
    x = np.zeros((24, 40, 3), np.uint8)
    x[:8, :8], x[:8, 32:], x[16:, :8] = RED, (0, 255, 0), BLUE
    return x


def inked(cmyk):
    """Ink in 0..255, (..., 4) -> (..., 3): paper shows through colour and black alike."""
    ink = np.asarray(cmyk, float)
    return np.rint((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255)


def indexed():
    """Four pixels of three colours."""
    picture = Image.fromarray(np.array([[0, 1, 2, 1]], np.uint8)).copy()
    picture.putpalette(PALETTE)
    return picture


# -- the table -----------------------------------------------------------------------------------------------

def turned():
    """EXIF orientation, whole, impossible and damaged."""
    x = corners()
    exact = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
    for o, view in VIEW.items():
        yield f"JPEG turned {o}", oriented(Image.fromarray(x), "JPEG", o, quality=100, subsampling=0), Near(view(x), 4)
        for format, extra in exact.items():
            yield f"{format} turned {o}", oriented(Image.fromarray(x), format, o, **extra), view(x)
    for o in (0, 9, 65535):
        yield f"PNG turned {o}, which is no turn", oriented(Image.fromarray(x), "PNG", o), x
    for i, exif in enumerate((b"Exif\0\0junk", b"MM\0\x2a\xff\xff\xff\xff", b"", b"\0" * 20)):
        yield f"PNG with broken EXIF {i}", encode(Image.fromarray(x), "PNG", exif=exif), x
        yield f"JPEG with broken EXIF {i}", encode(Image.fromarray(x), "JPEG", quality=100, subsampling=0,
                                                   exif=exif), Near(x, 4)
    for format, extra in {"JPEG": {"quality": 100, "subsampling": 0}, **exact}.items():
        profiled = encode(Image.fromarray(x), format, icc_profile=b"no profile", **extra)
        yield f"{format} with a broken ICC profile", profiled, Near(x, 4 if format == "JPEG" else 0)


def pngs():
    """Every kind and depth of PNG, with and without transparency."""
    rgb, alpha = NOISE[:, :, :3], NOISE[:, :, 3]
    bits, plain = np.array([[True, False, True]]), np.array([[[1, 2, 3], [1, 2, 4], [9, 9, 9]]], np.uint8)
    two, four = b"\0" + bytes([0b00011011]), b"\0" + bytes([0x0f, 0x1e])
    key = lambda *values: chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))
    yield "PNG 1", encode(Image.fromarray(bits), "PNG"), grey(bits * 255)
    yield "PNG 1, black transparent", png(4, 1, b"\0\x60", 1, 0, key(0)), grey([[255] * 4])
    yield "PNG 1, white transparent", png(4, 1, b"\0\x60", 1, 0, key(1)), grey([[0, 255, 255, 0]])
    yield "PNG grey of 2 bits", png(4, 1, two, 2, 0), grey([[0, 85, 170, 255]])
    yield "PNG grey of 2 bits, 1 transparent", png(4, 1, two, 2, 0, key(1)), grey([[0, 255, 170, 255]])
    yield "PNG grey of 4 bits", png(4, 1, four, 4, 0), grey([[0, 255, 17, 238]])
    yield "PNG grey of 4 bits, 14 transparent", png(4, 1, four, 4, 0, key(14)), grey([[0, 255, 17, 255]])
    yield "PNG L", encode(Image.fromarray(alpha), "PNG"), grey(alpha)
    yield "PNG L, 9 transparent", encode(Image.fromarray(plain[:, :, 0]), "PNG", transparency=9), grey([[1, 1, 255]])
    yield "PNG LA", encode(Image.fromarray(NOISE[:, :, 2:]), "PNG"), on_white(grey(NOISE[:, :, 2]), alpha)
    yield "PNG P", encode(indexed(), "PNG"), COLOURS
    yield "PNG P, one colour transparent", encode(indexed(), "PNG", transparency=1), on_white(
        COLOURS, [[255, 0, 255, 0]])
    yield "PNG P, an alpha per colour", encode(indexed(), "PNG", transparency=bytes([255, 0, 100])), on_white(
        COLOURS, [[255, 0, 100, 0]])
    yield "PNG P, more alphas than colours", png(2, 1, b"\0\0\1", 8, 3, chunk(b"PLTE", PALETTE) + chunk(
        b"tRNS", bytes(range(200)))), on_white(COLOURS[:, :2], [[0, 1]])
    yield "PNG RGB", encode(Image.fromarray(rgb), "PNG"), rgb
    yield "PNG RGB, interlaced", png(11, 9, adam7(rgb), interlace=1), rgb
    yield "PNG RGB, one colour transparent", encode(Image.fromarray(plain), "PNG", transparency=(1, 2, 3)), np.array(
        [[WHITE, [1, 2, 4], [9, 9, 9]]])
    yield "PNG RGBA", encode(Image.fromarray(NOISE), "PNG"), on_white(rgb, alpha)
    yield "PNG grey of 16 bits", encode(Image.fromarray(SIXTEEN), "PNG"), grey(EIGHT)
    yield "PNG grey of 16 bits, 1000 transparent", encode(Image.fromarray(SIXTEEN), "PNG", transparency=1000), grey(
        [[0, 0, 1, 1, 255, 128, 254, 255]])
    wide = np.array([[0, 255, 1000], [32768, 65279, 65535]])
    yield "PNG LA of 16 bits", png(1, 1, b"\0" + struct.pack(">2H", 257 * 100, 257 * 200), 16, 4), on_white(
        [[[100] * 3]], [[200]])
    yield "PNG RGB of 16 bits", png(2, 1, b"\0" + wide.astype(">u2").tobytes(), 16), Near(np.rint(wide / 257)[None], 1)
    yield "PNG RGBA of 16 bits", png(1, 1, b"\0" + struct.pack(">4H", 2570, 5140, 7710, 257 * 128), 16, 6), on_white(
        [[[10, 20, 30]]], [[128]])
    yield "PNG RGB of 16 bits, one colour transparent", png(2, 1, b"\0" + wide.astype(">u2").tobytes(), 16, 2, key(
        0, 255, 1000)), "transparent colour of 16 bits"


def more_files():
    """Every mode of the other formats."""
    rgb, alpha = NOISE[:, :, :3], NOISE[:, :, 3]
    flat = lambda mode, colour: Image.new(mode, (16, 16), colour)
    even = lambda colour, tolerance: Near(np.broadcast_to(colour, (16, 16, 3)), tolerance)
    yield "JPEG L", encode(flat("L", 77), "JPEG"), even(77, 1)
    yield "JPEG YCbCr", encode(flat("RGB", (200, 30, 90)), "JPEG", quality=100), even((200, 30, 90), 2)
    yield "JPEG RGB", encode(flat("RGB", (200, 30, 90)), "JPEG", quality=100, keep_rgb=True), even((200, 30, 90), 1)
    cmyk = encode(flat("CMYK", (200, 30, 90, 50)), "JPEG", quality=100)
    yield "JPEG CMYK, inverted as Adobe does", cmyk, even(inked((200, 30, 90, 50)), 3)
    at = cmyk.index(b"\xff\xee")
    plain = cmyk[:at] + cmyk[at + 2 + int.from_bytes(cmyk[at + 2:at + 4], "big"):]
    yield "JPEG CMYK without Adobe's marker, inverted all the same", plain, even(inked((200, 30, 90, 50)), 3)
    yield "WEBP RGB", encode(Image.fromarray(rgb), "WEBP", lossless=True), rgb
    yield "WEBP RGBA", encode(Image.fromarray(NOISE), "WEBP", lossless=True, exact=True), on_white(rgb, alpha)
    yield "GIF L", encode(Image.fromarray(alpha), "GIF"), grey(alpha)
    yield "GIF P", encode(indexed(), "GIF"), COLOURS
    yield "GIF P, one colour transparent", encode(indexed(), "GIF", transparency=1), on_white(
        COLOURS, [[255, 0, 255, 0]])
    yield "BMP L", encode(Image.fromarray(alpha), "BMP"), grey(alpha)
    yield "BMP P", encode(indexed(), "BMP"), COLOURS
    yield "BMP RGB", encode(Image.fromarray(rgb), "BMP"), rgb
    yield "BMP RGB from the top", bmp(1, -2, 24, bytes([3, 2, 1, 0, 6, 5, 4, 0])), np.array([[[1, 2, 3]], [[4, 5, 6]]])
    yield "BMP RGB of 32 bits", bmp(1, 1, 32, bytes([3, 2, 1, 77])), np.array([[[1, 2, 3]]])
    yield "BMP RGB of 15 bits", bmp(2, 1, 16, struct.pack("<HH", 0x7c00, 0x001f)), np.array([[RED, BLUE]])
    yield "BMP RGB of 16 bits", bmp(2, 1, 16, struct.pack("<HH", 0xf800, 0x001f), b"", 3, struct.pack(
        "<3I", 0xf800, 0x07e0, 0x001f)), np.array([[RED, BLUE]])
    yield "BMP P in runs", bmp(3, 1, 8, bytes([3, 1, 0, 1]), bytes([9, 8, 7, 0, 3, 2, 1, 0]), 1), np.array(
        [[[1, 2, 3]] * 3])
    yield "PPM P1", b"P1 3 1\n0 1 0", grey([[255, 0, 255]])
    yield "PPM P2", b"P2 3 1 100\n0 50 100", grey([[0, 128, 255]])
    yield "PPM P4", b"P4 3 1\n\x40", grey([[255, 0, 255]])
    yield "PPM L", encode(Image.fromarray(alpha), "PPM"), grey(alpha)
    yield "PPM grey of 12 bits", b"P5 3 1 4095\n" + struct.pack(">3H", 0, 2048, 4095), grey([[0, 128, 255]])
    yield "PPM grey of 16 bits", b"P5 8 1 65535 " + SIXTEEN.astype(">u2").tobytes(), grey(EIGHT)
    yield "PPM RGB", encode(Image.fromarray(rgb), "PPM"), rgb
    yield "PPM RGB of 10 bits", b"P6 1 1 1023\n" + struct.pack(">3H", 0, 512, 1023), np.array([[[0, 128, 255]]])
    yield "JPEG2000 RGB", encode(Image.fromarray(rgb), "JPEG2000", irreversible=False), rgb
    yield "JPEG2000 RGBA", encode(Image.fromarray(NOISE), "JPEG2000", irreversible=False), on_white(rgb, alpha)
    yield "JPEG2000 grey of 16 bits", encode(Image.fromarray(SIXTEEN), "JPEG2000", irreversible=False), grey(EIGHT)


def tiffs():
    """What a TIFF can say, and where it does not say enough."""
    rgb, alpha = NOISE[:, :, :3], NOISE[:, :, 3]
    yield "TIFF L", encode(Image.fromarray(alpha), "TIFF"), grey(alpha)
    yield "TIFF RGB, compressed", encode(Image.fromarray(rgb), "TIFF", compression="tiff_lzw"), rgb
    yield "TIFF P", encode(indexed(), "TIFF"), COLOURS
    yield "TIFF CMYK", encode(Image.fromarray(NOISE, mode="CMYK"), "TIFF"), Near(inked(NOISE), 1)
    yield "TIFF 1", tiff(4, 1, b"\x60", (1,)), grey([[0, 255, 255, 0]])
    yield "TIFF 1, least bit first", tiff(4, 1, b"\x06", (1,), t266=[2]), grey([[0, 255, 255, 0]])
    yield "TIFF of 2 bits", tiff(4, 1, bytes([0b00011011]), (2,)), grey([[0, 85, 170, 255]])
    yield "TIFF of 4 bits", tiff(4, 1, bytes([0x0f, 0x1e]), (4,)), grey([[0, 255, 17, 238]])
    yield "TIFF of 12 bits", tiff(4, 1, bytes.fromhex("000800fff010"), (12,)), grey([[0, 128, 255, 1]])
    yield "TIFF of 16 bits", encode(Image.fromarray(SIXTEEN), "TIFF"), grey(EIGHT)
    yield "TIFF of 16 bits, white is 0", encode(Image.fromarray(SIXTEEN), "TIFF", tiffinfo={262: 0}), grey(255 - EIGHT)
    yield "TIFF L, white is 0", tiff(3, 1, bytes([0, 127, 255]), photometric=0), grey([[255, 128, 0]])
    yield "TIFF RGB of 16 bits", tiff(1, 1, struct.pack("<3H", 0, 32768, 65535), (16,) * 3, 2), np.array(
        [[[0, 128, 255]]])
    yield "TIFF RGB in planes", tiff(2, 1, bytes([1, 2, 3, 4, 5, 6]), (8,) * 3, 2, t284=[2], t273=[8, 10, 12], t279=[
        2, 2, 2]), np.array([[[1, 3, 5], [2, 4, 6]]])
    four = bytes([50, 25, 0, 128])
    yield "TIFF RGBA", tiff(1, 1, four, (8,) * 4, 2, t338=[2]), on_white([[[50, 25, 0]]], [[128]])
    yield "TIFF RGBA, multiplied", tiff(1, 1, four, (8,) * 4, 2, t338=[1]), Near(np.array([[[177, 152, 127]]]), 1)
    yield "TIFF RGB and something", tiff(1, 1, four, (8,) * 4, 2, t338=[0]), np.array([[[50, 25, 0]]])
    yield "TIFF LA", tiff(1, 1, bytes([50, 128]), (8, 8), t338=[2]), on_white([[[50] * 3]], [[128]])
    yield "TIFF LA that does not say so", tiff(1, 1, bytes([50, 128]), (8, 8)), "unknown pixel mode"
    for mode in "IF":
        yield f"TIFF {mode}", encode(Image.new(mode, (3, 2), 7), "TIFF"), f"mode {mode}.*which number is white"
    yield "TIFF of 32 bits", tiff(2, 1, struct.pack("<2I", 0, 2**32 - 1), (32,)), "mode I.*which number is white"
    yield "TIFF of 16 floating-point bits", tiff(2, 1, bytes(4), (16,), t339=[3]), "unknown pixel mode"
    yield "TIFF of 64 floating-point bits", tiff(2, 1, bytes(16), (64,), t339=[3]), "unknown pixel mode"
    yield "TIFF RGB of 32 bits", tiff(1, 1, bytes(12), (32,) * 3, 2, t339=[3] * 3), "unknown pixel mode"
    white = "does not define which number is white"
    yield "TIFF of 8 bits with a sign", tiff(3, 1, bytes(3), t339=[2]), f"mode L has signed samples and {white}"
    yield "TIFF of 16 bits with a sign", tiff(2, 1, bytes(4), (16,), t339=[2]), f"mode .* signed .* and {white}"
    yield "TIFF that lacks a strip", tiff(2, 2, bytes(2), t278=[1]), "fill only 2 of 4 pixels"
    yield "TIFF that lacks two planes", tiff(2, 1, bytes(2), (8,) * 3, 2, t284=[2]), "fill only 2 of 6 pixels"


def pictures_of_pillow():
    """Modes that no file here has, and pictures that come without a file."""
    ycbcr = np.array([[[100, 128, 128], [150, 90, 170], [60, 140, 100]]], np.uint8)
    Y, Cb, Cr = (ycbcr[:, :, c].astype(float) - (0, 128, 128)[c] for c in range(3))
    yield "YCbCr", Image.fromarray(ycbcr, mode="YCbCr"), Near(
        np.stack([Y + 1.402 * Cr, Y - 0.344136 * Cb - 0.714136 * Cr, Y + 1.772 * Cb], axis=2), 1.01)
    hsv = np.array([[[0, 255, 200], [85, 255, 100], [170, 255, 50], [7, 0, 99]]], np.uint8)
    yield "HSV", Image.fromarray(hsv, mode="HSV"), Near(
        np.array([[[200, 0, 0], [0, 100, 0], [0, 0, 50], [99, 99, 99]]]), 1)
    pa = indexed().convert("PA")
    pa.putalpha(Image.fromarray(np.array([[0, 9, 255, 77]], np.uint8)))
    yield "PA", pa, on_white(COLOURS, [[0, 9, 255, 77]])
    yield "RGBA", Image.fromarray(NOISE), on_white(NOISE[:, :, :3], NOISE[:, :, 3])
    yield "RGBX", Image.fromarray(NOISE, mode="RGBX"), NOISE[:, :, :3]
    yield "CMYK", Image.fromarray(NOISE, mode="CMYK"), Near(inked(NOISE), 1)
    yield "La", Image.frombytes("La", (1, 1), bytes([50, 128])), Near(grey([[177]]), 1)
    yield "RGBa", Image.frombytes("RGBa", (1, 1), bytes([50, 25, 0, 128])), Near(np.array([[[177, 152, 127]]]), 1)
    yield "I;16", Image.fromarray(SIXTEEN), grey(EIGHT)
    yield "I;16B", Image.frombytes("I;16B", (8, 1), SIXTEEN.astype(">u2").tobytes()), grey(EIGHT)
    yield "I", Image.new("I", (3, 2), 7), "mode I.*which number is white"
    yield "F", Image.new("F", (3, 2), 7), "mode F.*which number is white"
    yield "P without a palette", Image.new("P", (3, 2)), "colour number 0 in a palette with 0 colours"


def frames():
    """Several frames, of which the first counts."""
    moving = [Image.new("RGB", (4, 3), tuple(colour)) for colour in (RED, BLUE, (0, 255, 0))]
    for format, extra in {"GIF": {}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}.items():
        data = encode(moving[0], format, save_all=True, append_images=moving[1:], **extra)
        yield f"{format} of three frames", data, np.broadcast_to(RED, (3, 4, 3))
    still = encode(moving[0], "PNG", save_all=True, append_images=moving[1:], default_image=True)
    yield "PNG of two frames and a still", still, np.broadcast_to(RED, (3, 4, 3))
    red, clear = b"\x02\x02\x44\x01\0", b"!\xf9\x04\x01\0\0\0\0"
    yield "GIF that fills its canvas", gif((1, 1), (0, 0, 1, 1), red), np.array([[RED]])
    yield "GIF that leaves canvas empty", gif((3, 1), (1, 0, 1, 1), red), np.array([[WHITE, RED, WHITE]])
    yield "GIF of nothing visible", gif((3, 1), (1, 0, 1, 1), red, extension=clear), np.array([[WHITE] * 3])


def no_pictures():
    """What is no picture, and what was one."""
    rows = b"\0" + bytes(range(9))
    good = png(3, 1, rows)
    coloured = lambda palette, extra=b"": png(4, 1, b"\0\0\1\2\3", 8, 3, palette + extra)
    short = chunk(b"PLTE", PALETTE)
    yield "nothing", b"", "is empty"
    yield "text", b"hello, world", "hello, world"
    yield "zeros", b"\0" * 999, r"x00"
    yield "Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"
    yield "HTML", b"<!DOCTYPE html><html></html>", "HTML page"
    yield "HTML behind a byte-order mark", b"\xef\xbb\xbf\n <HTML>", "HTML page"
    yield "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "%!PS-Adobe"
    yield "SVG", b"<svg xmlns='x'/>", "<svg"
    yield "PDF", b"%PDF-1.7", "PDF"
    yield "zip", b"PK\x03\x04", "PK"
    yield "pickle", b"\x80\x02}q\x00.", "JPEG, PNG"
    yield "PAM", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\nabc", "is none of JPEG, PNG"
    yield "PFM", b"Pf 1 1 -1.0\n\0\0\x80\x3f", "mode F"
    for name, head in {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "BMP": b"BM", "PPM": b"P5 9",
                       "TIFF": b"II*\0\xff\xff\xff\xff", "GIF": b"GIF89a", "WEBP": b"RIFF\x04\0\0\0WEBP"}.items():
        yield f"{name}, its first bytes", head, "damaged|cut off"
    yield "PPM, cut off", b"P6 2 2 255\n12", "truncated"
    yield "PNG with too few rows", png(5, 5, b"\0"), "truncated or damaged"
    for format in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000"):
        whole = encode(Image.fromarray(np.tile(NOISE[:, :, :3], (5, 5, 1))), format)
        for eighths in (1, 4, 7):
            yield f"{format}, {eighths}/8 of it", whole[:len(whole) * eighths // 8], "damaged|cut off"
    yield "PNG 0 wide", png(0, 5), "damaged"
    yield "BMP 0 wide", bmp(0, 1, 24, b""), "damaged"
    yield "PPM 0 wide", b"P6 0 1 255\n", "damaged"
    for name in (b"IHDR", b"IDAT"):
        yield f"PNG, checksum of its {name.decode()}", damaged(good, name), "checksum"
    yield "PNG, one bit of a pixel", damaged(good, b"IDAT", 5), "wrong checksum in a chunk of pixels"
    clear = chunk(b"tRNS", bytes(3))
    yield "PNG, checksum of its PLTE", damaged(coloured(short, clear), b"PLTE"), "checksum"
    yield "PNG, checksum of its tRNS", damaged(coloured(short, clear), b"tRNS"), "checksum"
    yield "PNG P, a colour too few", coloured(short), "colour number 3 in a palette with 3 colours"
    yield "PNG P, half a colour", coloured(chunk(b"PLTE", PALETTE + b"\1\2")), "number 3 in a palette with 3 colours"
    yield "PNG P without a palette", coloured(b""), "damaged|palette with 0 colours"
    yield "BMP P, a colour too few", bmp(4, 1, 8, bytes(range(4)), bytes(12)), "number 3 in a palette with 3 colours"
    yield "GIF P, a colour too few", gif((1, 1), (0, 0, 1, 1), b"\x02\x02\x5c\x01\0"), "in a palette with 2 colours"


def strips():
    """As long as a JPEG can be: 65,500 pixels are few, in whatever direction."""
    for width, height in ((1, 65500), (65500, 1)):
        strip = Image.new("RGB", (width, height), (60, 60, 60))
        for format in ("PNG", "JPEG"):
            yield f"{format}, {width} x {height}", encode(strip, format), Near(np.full((height, width, 3), 60), 1)


PICTURES = {name: row for section in (turned, pngs, more_files, tiffs, pictures_of_pillow, frames, no_pictures, strips)
            for name, *row in section()}


# -- bombs ---------------------------------------------------------------------------------------------------

SIDES = [(8001, 8000), (20000, 20000), (65000, 65000), (1, 2**31 - 1), (2**31 - 1, 1)]


def bombs():
    """Small files that claim to be large, or that unfold: what they are, their bytes, words of the refusal."""
    too_many = "pixels, expected at most 64,000,000 .--max-pixels N"
    for width, height in SIDES:
        yield f"png {width}x{height}", png(width, height), too_many
        yield f"ppm {width}x{height}", b"P6 %d %d 255\n" % (width, height), too_many
        yield f"bmp {width}x{height}", bmp(width, height, 24, b""), too_many
        yield f"tiff {width}x{height}", tiff(width, height, b"\0"), too_many
        if max(width, height) < 65536:
            yield f"gif {width}x{height}", gif((width, height), (0, 0, width, height), b"\2\2\x44\1\0"), too_many
    yield "png of zeros", png(12000, 12000, bytes(1501 * 12000), 1, 0), too_many
    jpeg = encode(Image.new("RGB", (16, 16)), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    yield "jpeg", jpeg[:at] + struct.pack(">HH", 60000, 60000) + jpeg[at + 4:], too_many
    jpeg2000 = encode(Image.new("RGB", (16, 16)), "JPEG2000", no_jp2=True)
    at = jpeg2000.index(b"\xff\x51") + 6
    yield "jpeg2000", jpeg2000[:at] + struct.pack(">II", 60000, 60000) + jpeg2000[at + 8:], too_many
    webp = encode(Image.new("RGB", (16, 16)), "WEBP", lossless=True)
    at = webp.index(b"VP8L") + 9
    yield "webp", webp[:at] + b"\xff\xff\xff\x0f" + webp[at + 4:], (
        "more pixels than Pillow decodes|64,000,000|damaged")
    for compression in (1, 5):
        yield f"tiff of one huge tile, {compression}", tiff(
            1, 1, b"\0", t259=[compression], t322=[40000], t323=[40000], t324=[8], t325=[1]), "tiles of 40000 x 40000"
