"""Opening files: a corpus made on the fly, each picture with its expected pixels or its expected refusal."""

import doctest
import io
import os
import struct
import time
import warnings
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, ImageFile

import nphybrid.picture
from nphybrid.picture import PictureError, open_picture, to_rgb


@pytest.fixture
def rng():
    return np.random.default_rng(20260102)


def encode(picture, format, **kwargs):
    file = io.BytesIO()
    picture.save(file, format, **kwargs)
    return file.getvalue()


def pixels(source, **kwargs):
    picture = open_picture(source, **kwargs)
    assert type(picture) is Image.Image and picture.mode == "RGB" and picture.info == {}
    return np.asarray(picture).astype(int)


def grey(values):
    """(H, W) -> (H, W, 3)"""
    return np.repeat(np.asarray(values)[:, :, None], 3, 2).astype(int)


def on_white(colour, alpha):
    """colour (H, W, 3), alpha (H, W) -> (H, W, 3): the nearest integer to a c + (1 - a) 255"""
    colour, alpha = colour.astype(int), alpha.astype(int)[:, :, None]
    return (2 * (colour * alpha + 255 * (255 - alpha)) + 255) // 510


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, data=b"", depth=8, kind=2):
    """A PNG made by hand, so that its header may lie."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# -- orientation ---------------------------------------------------------------------------------------------

# What a viewer does to the stored array. EXIF 2.32, tag Orientation: where its row 0 and column 0 are seen.
VIEW = {1: lambda x: x,                                    # top, left
        2: lambda x: x[:, ::-1],                           # top, right
        3: lambda x: x[::-1, ::-1],                        # bottom, right
        4: lambda x: x[::-1],                              # bottom, left
        5: lambda x: x.transpose(1, 0, 2),                 # left, top
        6: lambda x: x.transpose(1, 0, 2)[:, ::-1],        # right, top
        7: lambda x: x.transpose(1, 0, 2)[::-1, ::-1],     # right, bottom
        8: lambda x: x.transpose(1, 0, 2)[::-1]}           # left, bottom


@pytest.mark.parametrize("orientation", VIEW)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation, format):
    stored = np.zeros((24, 40, 3), np.uint8)
    stored[:8, :8], stored[:8, 32:], stored[16:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    extra = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format, {})
    x = pixels(encode(Image.fromarray(stored), format, exif=exif, **extra))
    expected = VIEW[orientation](stored).astype(int)
    assert x.shape == expected.shape and np.abs(x - expected).max() <= (4 if format == "JPEG" else 0)
    # The eight differ from each other, so this can fail.
    assert sum(np.array_equal(expected, VIEW[o](stored)) for o in VIEW) == 1


def test_a_second_turn_is_impossible():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = open_picture(encode(Image.new("RGB", (4, 3)), "PNG", exif=exif))
    assert picture.size == (3, 4) and 0x0112 not in picture.getexif()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_impossible_orientation_is_upright(rng, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    x = rng.integers(0, 256, (3, 5, 3)).astype(np.uint8)
    assert np.array_equal(pixels(encode(Image.fromarray(x), "PNG", exif=exif)), x)


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_is_upright(rng):
    x = rng.integers(0, 256, (3, 5, 3)).astype(np.uint8)
    for exif in (b"Exif\0\0junk", b"MM\0\x2a\xff\xff\xff\xff", b"", b"\0" * 20):
        assert np.array_equal(pixels(encode(Image.fromarray(x), "PNG", exif=exif)), x)


# -- modes ---------------------------------------------------------------------------------------------------

def test_mode_1():
    bits = np.array([[True, False, True]])
    assert np.array_equal(pixels(encode(Image.fromarray(bits), "PNG")), grey(bits * 255))


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_mode_l(rng, format):
    x = rng.integers(0, 256, (6, 7)).astype(np.uint8)
    assert np.array_equal(pixels(encode(Image.fromarray(x), format)), grey(x))


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_mode_rgb(rng, format):
    x = rng.integers(0, 256, (6, 7, 3)).astype(np.uint8)
    assert np.array_equal(pixels(encode(Image.fromarray(x), format)), x)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_mode_rgba(rng, format):
    x = rng.integers(0, 256, (16, 17, 4)).astype(np.uint8)
    x[:, 0, 3], x[:, 1, 3] = 0, 255
    extra = {"lossless": True, "exact": True} if format == "WEBP" else {}
    y = pixels(encode(Image.fromarray(x), format, **extra))
    assert np.array_equal(y, on_white(x[:, :, :3], x[:, :, 3]))


def test_every_colour_on_every_alpha():
    colour, alpha = (x.astype(np.uint8) for x in np.meshgrid(np.arange(256), np.arange(256)))
    x = np.stack([colour, colour, 255 - colour, alpha], axis=2)
    y = np.asarray(to_rgb(Image.fromarray(x)))
    assert np.array_equal(y, on_white(x[:, :, :3], alpha))
    # What Pillow's own conversion shows: the colour hidden under alpha 0.
    assert not np.array_equal(y, np.asarray(Image.fromarray(x).convert("RGB")))


def test_mode_la(rng):
    x = rng.integers(0, 256, (6, 7, 2)).astype(np.uint8)
    assert np.array_equal(pixels(encode(Image.fromarray(x), "PNG")), on_white(grey(x[:, :, 0]), x[:, :, 1]))


def palette_picture():
    picture = Image.fromarray(np.array([[0, 1, 2, 1]], np.uint8)).copy()
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert picture.mode == "P"
    return picture, np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90], [40, 50, 60]]])


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF"])
def test_mode_p(format):
    picture, colours = palette_picture()
    assert np.array_equal(pixels(encode(picture, format)), colours)


def test_mode_p_with_transparency():
    picture, colours = palette_picture()
    alpha = np.array([[255, 0, 100, 0]])
    y = pixels(encode(picture, "PNG", transparency=bytes([255, 0, 100])))
    assert np.array_equal(y, on_white(colours, alpha))
    one = np.array([[255, 0, 255, 0]])
    for format in ("PNG", "GIF"):
        assert np.array_equal(pixels(encode(picture, format, transparency=1)), on_white(colours, one))


def test_mode_pa():
    picture, colours = palette_picture()
    picture = picture.convert("PA")
    alpha = np.array([[0, 9, 255, 77]], np.uint8)
    picture.putalpha(Image.fromarray(alpha))
    assert picture.mode == "PA"
    assert np.array_equal(np.asarray(to_rgb(picture)), on_white(colours, alpha))


def test_transparent_colour(rng):
    x = np.array([[[1, 2, 3], [1, 2, 4], [9, 9, 9]]], np.uint8)
    y = pixels(encode(Image.fromarray(x), "PNG", transparency=(1, 2, 3)))
    assert y.tolist() == [[[255] * 3, [1, 2, 4], [9, 9, 9]]]
    y = pixels(encode(Image.fromarray(x[:, :, 0]), "PNG", transparency=9))
    assert y.tolist() == [[[1] * 3, [1] * 3, [255] * 3]]


def test_mode_cmyk():
    c, m, y, k = np.meshgrid(*[np.array([0, 3, 100, 254, 255])] * 4, indexing="ij")
    ink = np.stack([c, m, y, k], axis=-1).reshape(25, 25, 4)
    expected = np.rint((255 - ink[:, :, :3]) * (255 - ink[:, :, 3:]) / 255)
    picture = Image.fromarray(ink.astype(np.uint8), mode="CMYK")
    assert np.abs(pixels(encode(picture, "TIFF")) - expected).max() <= 1
    # Flat areas survive JPEG; Adobe stores them inverted.
    flat = Image.new("CMYK", (16, 16), (200, 30, 90, 50))
    expected = np.rint((255 - np.array([200, 30, 90])) * (205 / 255))
    assert np.abs(pixels(encode(flat, "JPEG", quality=100)) - expected).max() <= 3


def test_mode_ycbcr():
    values = np.array([[[100, 128, 128], [150, 90, 170], [60, 140, 100]]], np.uint8)
    Y, Cb, Cr = (values[:, :, c].astype(float) - (0, 128, 128)[c] for c in range(3))
    expected = np.stack([Y + 1.402 * Cr, Y - 0.344136 * Cb - 0.714136 * Cr, Y + 1.772 * Cb], axis=2)
    picture = Image.fromarray(values, mode="YCbCr")
    assert np.abs(np.asarray(to_rgb(picture)) - expected).max() <= 1.01
    stored = encode(picture, "TIFF", compression=None)
    if int(PIL.__version__.split(".")[0]) < 13:
        # Pillow before 13 cannot read the YCbCr TIFF that it writes.
        with pytest.raises(PictureError, match="truncated"):
            pixels(stored)
    else:
        assert np.abs(pixels(stored) - expected).max() <= 1.01


def test_mode_hsv():
    values = np.array([[[0, 255, 200], [85, 255, 100], [170, 255, 50], [7, 0, 99]]], np.uint8)
    picture = Image.fromarray(values, mode="HSV")
    expected = [[[200, 0, 0], [0, 100, 0], [0, 0, 50], [99, 99, 99]]]
    assert np.abs(np.asarray(to_rgb(picture)).astype(int) - expected).max() <= 1


def test_mode_lab():
    pytest.importorskip("PIL._imagingcms", reason="a Pillow without Little CMS")
    # L* = 100, 53.585 (middle grey 128 is 53.59), 0; and sRGB red, which is (54.29, 80.80, 69.89) under D50.
    lab = np.array([[[255, 0, 0], [137, 0, 0], [0, 0, 0], [138, 81, 70]]], np.uint8)
    expected = np.array([[[255] * 3, [128] * 3, [0] * 3, [255, 0, 0]]])
    x = pixels(encode(Image.frombytes("LAB", (4, 1), lab.tobytes()), "TIFF"))
    # 5 observed, at red, where one step of a byte of L*a*b* is that large.
    assert np.abs(x - expected).max() <= 6


SIXTEEN = np.array([[0, 128, 129, 257, 1000, 32768, 65278, 65535]], np.uint16)
EIGHT = np.array([[0, 0, 1, 1, 4, 128, 254, 255]])


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_mode_i16(format):
    extra = {"irreversible": False} if format == "JPEG2000" else {}
    # Written by hand, because Pillow before 11 reads a PGM of 16 bits, but writes none.
    data = (b"P5 8 1 65535 " + SIXTEEN.astype(">u2").tobytes() if format == "PPM"
            else encode(Image.fromarray(SIXTEEN), format, **extra))
    # Nearest to v / 257, so that 8-bit grey v * 257 comes back exactly; not white, as Pillow makes it.
    assert np.array_equal(np.rint(SIXTEEN / 257), EIGHT)
    assert np.array_equal(pixels(data), grey(EIGHT))
    with Image.open(io.BytesIO(data)) as picture:
        assert (np.asarray(picture.convert("RGB")) >= 250).mean() > 0.6


def test_every_16_bit_value():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(pixels(encode(Image.fromarray(values), "PNG")), grey(np.rint(values / 257)))


def test_mode_i16b():
    picture = Image.new("I;16B", (8, 1))
    picture.frombytes(SIXTEEN.astype(">u2").tobytes())
    assert np.array_equal(np.asarray(to_rgb(picture)), grey(EIGHT))
    assert np.array_equal(pixels(encode(picture, "TIFF")), grey(EIGHT))


def test_16_bit_grey_that_is_transparent_or_inverted():
    assert pixels(encode(Image.fromarray(SIXTEEN), "PNG", transparency=1000))[0, :, 0].tolist() == [
        0, 0, 1, 1, 255, 128, 254, 255]
    inverted = encode(Image.fromarray(SIXTEEN), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(pixels(inverted), grey(255 - EIGHT))


def test_pgm_of_12_bits():
    data = b"P5 3 1 4095\n" + np.array([0, 2048, 4095], ">u2").tobytes()
    assert pixels(data)[0, :, 0].tolist() == [0, 128, 255]


def test_tiff_of_12_bits():
    # 0x000, 0x800, 0xfff, 0x010 in six bytes; tag 258 says 12 bits, 262 that 0 is black.
    strip = bytes.fromhex("000800fff010")
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(strip)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<I", 14) + strip + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    assert pixels(data)[0, :, 0].tolist() == [0, 128, 255, 1]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused(mode):
    with pytest.raises(PictureError, match=f"mode {mode}.*which number is white"):
        open_picture(encode(Image.new(mode, (3, 2), 7), "TIFF"))
    with pytest.raises(PictureError, match=f"mode {mode}"):
        to_rgb(Image.new(mode, (3, 2), 7))


def test_first_frame():
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0))]
    for format, extra in [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]:
        data = encode(frames[0], format, save_all=True, append_images=frames[1:], **extra)
        assert Image.open(io.BytesIO(data)).n_frames == 3
        assert np.array_equal(pixels(data), np.broadcast_to([255, 0, 0], (3, 4, 3)))


# -- sources -------------------------------------------------------------------------------------------------

def test_sources(tmp_path, rng):
    x = rng.integers(0, 256, (6, 7, 3)).astype(np.uint8)
    data = encode(Image.fromarray(x), "PNG")
    # The name says JPEG; what counts is inside.
    path = tmp_path / "cat.jpg"
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        assert np.array_equal(pixels(source), x)
    with open(path, "rb") as file:
        assert np.array_equal(pixels(file), x)
    with Image.open(path) as picture:
        assert np.array_equal(pixels(picture), x)
    picture = open_picture(path)
    path.unlink()
    assert np.array_equal(np.asarray(picture), x)
    with pytest.raises(FileNotFoundError, match="cat.jpg"):
        open_picture(path)
    with pytest.raises(PictureError, match="folder"):
        open_picture(tmp_path)
    with pytest.raises(PictureError, match="'rb'"):
        open_picture(io.StringIO("text"))


def test_a_pillow_picture_is_read_by_the_same_rules_and_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.open(io.BytesIO(encode(Image.fromarray(SIXTEEN), "PNG", exif=exif)))
    for _ in range(2):
        assert np.array_equal(pixels(picture), grey(EIGHT.T))
    assert picture.mode == "I;16" and picture.size == (8, 1) and picture.getexif()[0x0112] == 6
    plain = Image.new("RGB", (3, 2))
    plain.info["kept"] = 1
    assert open_picture(plain) is not plain and plain.info == {"kept": 1}
    with pytest.raises(PictureError, match="Pillow picture: .*mode F"):
        open_picture(Image.new("F", (3, 2)))
    with pytest.raises(PictureError, match="more than the 5 of"):
        open_picture(Image.new("L", (3, 2)), max_pixels=5)
    cut = Image.open(io.BytesIO(encode(Image.effect_noise((50, 50), 90), "PNG")[:900]))
    with pytest.raises(PictureError, match="Pillow picture: truncated"):
        open_picture(cut)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PictureError, match="pipe: is a folder or a device"):
        open_picture(tmp_path / "pipe")


def test_doctests():
    assert doctest.testmod(nphybrid.picture).failed == 0


# -- what is no picture --------------------------------------------------------------------------------------

@pytest.mark.parametrize("data, message", [
    (b"", "is empty"), (b"hello, world", "hello, world"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    (b"<!DOCTYPE html><html></html>", "HTML page"), (b"\xef\xbb\xbf\n <HTML>", "HTML page"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "%!PS-Adobe"), (b"<svg xmlns='x'/>", "<svg"),
    (b"%PDF-1.7", "%PDF"), (b"\0" * 999, r"x00"), (b"PK\x03\x04", "PK"), (b"\x80\x02}q\x00.", "JPEG, PNG"),
    (b"\xff\xd8\xff", "damaged|cut off"), (b"\x89PNG\r\n\x1a\n", "damaged|cut off"),
    (b"BM", "damaged|cut off"), (b"P5 9", "damaged|cut off"), (b"II*\0\xff\xff\xff\xff", "damaged|cut off"),
    (b"P6 2 2 255\n12", "truncated"), (png(5, 5, b"\0"), "truncated or damaged"),
    (png(0, 5), "damaged|cut off"),
])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_no_picture(tmp_path, data, message):
    path = tmp_path / "thing.png"
    path.write_bytes(data)
    with pytest.raises(PictureError, match=message) as caught:
        open_picture(path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < len(str(path)) + 250
    with pytest.raises(PictureError, match="picture from bytes: "):
        open_picture(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_truncated(rng, format):
    data = encode(Image.fromarray(rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)), format)
    whole = pixels(data)
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 60)):
        try:
            # Complete or nothing: a few formats end in bytes that no pixel needs.
            assert np.array_equal(pixels(data[:length]), whole), (length, len(data))
        except PictureError:
            refused += 1
    assert refused >= 55


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_random_damage_gives_a_picture_or_a_refusal(rng, format):
    picture = Image.fromarray(rng.integers(0, 256, (12, 9, 3)).astype(np.uint8))
    data = np.frombuffer(encode(picture, format), np.uint8)
    for _ in range(150):
        broken = data.copy()
        broken[rng.integers(0, min(len(data), 120), 3)] = rng.integers(0, 256, 3)
        try:
            assert open_picture(broken.tobytes(), max_pixels=10**6).mode == "RGB"
        except PictureError:
            pass


# -- bombs ---------------------------------------------------------------------------------------------------

SIDES = [(8001, 8000), (10000, 10000), (13000, 13000), (20000, 20000), (65000, 65000),
         (1, 2**31 - 1), (2**31 - 1, 1)]


def bombs():
    """Small files that claim to be large."""
    for width, height in SIDES:
        yield f"png {width}x{height}", png(width, height)
        yield f"ppm {width}x{height}", b"P6 %d %d 255\n" % (width, height)
        if max(width, height) < 65536:
            yield f"gif {width}x{height}", b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0" + (
                b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\2\2\x44\1\0;")
    real = io.BytesIO()
    Image.new("1", (12000, 12000)).save(real, "PNG")
    yield "png of zeros", real.getvalue()
    real = io.BytesIO()
    Image.new("RGB", (16, 16)).save(real, "JPEG")
    jpeg = real.getvalue()
    at = jpeg.index(b"\xff\xc0") + 5
    yield "jpeg", jpeg[:at] + struct.pack(">HH", 60000, 60000) + jpeg[at + 4:]


BOMBS = dict(bombs())


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name):
    assert len(BOMBS[name]) < 60_000
    resource = pytest.importorskip("resource")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with warnings.catch_warnings():
        # Not even a warning: a limit of Pillow's has no say here.
        warnings.simplefilter("error")
        with pytest.raises(PictureError, match="more than the 64,000,000 of max_pixels|damaged") as caught:
            open_picture(BOMBS[name])
    assert "DecompressionBomb" not in str(caught.value)
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_max_pixels_is_the_last_that_passes():
    data = encode(Image.new("L", (30, 20)), "PNG")
    assert open_picture(data, max_pixels=600).size == (30, 20)
    with pytest.raises(PictureError, match="20 x 30 pixels, more than the 599 of max_pixels"):
        open_picture(data, max_pixels=599)


def test_more_than_pillows_limit_if_asked(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_picture(encode(Image.new("L", (30, 20)), "PNG")).size == (30, 20)


def test_nothing_global_changes():
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters), ImageFile.LOAD_TRUNCATED_IMAGES
    for data in (encode(Image.new("L", (3, 2)), "PNG"), b"no", BOMBS["png 20000x20000"], BOMBS["jpeg"]):
        try:
            open_picture(data)
        except PictureError:
            pass
    assert before == (Image.MAX_IMAGE_PIXELS, list(warnings.filters), ImageFile.LOAD_TRUNCATED_IMAGES)
