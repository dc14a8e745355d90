"""Opening files: every picture of pictures.PICTURES comes out as its verdict says, or is refused in its words."""

import doctest
import io
import json
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import PIL
import pytest
from PIL import Image, ImageFile

import nphybrid.pictures.decode
from nphybrid.pictures.decode import PictureError, open_picture, to_rgb

from oracles.pictures import (EIGHT, PICTURES, SIXTEEN, VIEW, Near, bombs, corners, encode, flipped, grey, on_white,
                              oriented)


@pytest.fixture
def rng():
    return np.random.default_rng(20260102)


def pixels(source, **kwargs):
    picture = open_picture(source, **kwargs)
    assert type(picture) is Image.Image and picture.mode == "RGB" and picture.info == {}
    return np.asarray(picture).astype(int)


def settings():
    """What a reader of pictures could be tempted to change for the whole process."""
    return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)


# -- the table -----------------------------------------------------------------------------------------------

@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File Read", "ignore:Metadata Warning")
@pytest.mark.parametrize("name", PICTURES)
def test_picture(name):
    source, verdict = PICTURES[name]
    before = settings()
    if isinstance(verdict, str):
        with pytest.raises(PictureError, match=verdict) as caught:
            open_picture(source)
        what = "Pillow picture" if isinstance(source, Image.Image) else "picture from bytes"
        assert str(caught.value).startswith(f"{what}: ") and len(str(caught.value)) < 250
    else:
        expected, tolerance = verdict if isinstance(verdict, Near) else (verdict, 0)
        found = pixels(source)
        assert found.shape == expected.shape and np.abs(found - expected).max() <= tolerance
    assert settings() == before


def test_the_table():
    refused = sum(isinstance(verdict, str) for _, verdict in PICTURES.values())
    assert (len(PICTURES), refused) == (210, 71)
    # Each view differs from all others, so a turn that is forgotten or wrong cannot pass.
    views = [view(corners()) for view in VIEW.values()]
    assert all(np.array_equal(a, b) == (a is b) for a in views for b in views)
    # Pillow's own conversion of 16 bits makes most of them white, so the rows of 16 bits can fail.
    with Image.open(io.BytesIO(encode(Image.fromarray(SIXTEEN), "PNG"))) as picture:
        assert (np.asarray(picture.convert("RGB")) >= 250).mean() > 0.6
    assert np.array_equal(np.rint(SIXTEEN / 257), EIGHT)


# -- all values, and what the table has no room for ----------------------------------------------------------

def test_a_second_turn_is_impossible():
    picture = open_picture(oriented(Image.new("RGB", (4, 3)), "PNG", 6))
    assert picture.size == (3, 4) and 0x0112 not in picture.getexif()


def test_every_colour_on_every_alpha():
    colour, alpha = (x.astype(np.uint8) for x in np.meshgrid(np.arange(256), np.arange(256)))
    x = np.stack([colour, colour, 255 - colour, alpha], axis=2)
    y = np.asarray(to_rgb(Image.fromarray(x)))
    assert np.array_equal(y, on_white(x[:, :, :3], alpha))
    # What Pillow's own conversion shows: the colour hidden under alpha 0.
    assert not np.array_equal(y, np.asarray(Image.fromarray(x).convert("RGB")))


def test_ycbcr_in_a_tiff():
    picture, (expected, tolerance) = PICTURES["YCbCr"]
    stored = encode(picture, "TIFF", compression=None)
    if int(PIL.__version__.split(".")[0]) < 13:
        # Pillow before 13 cannot read the YCbCr TIFF that it writes.
        with pytest.raises(PictureError, match="truncated"):
            pixels(stored)
    else:
        assert np.abs(pixels(stored) - expected).max() <= tolerance


def test_mode_lab():
    pytest.importorskip("PIL._imagingcms", reason="a Pillow without Little CMS")
    # L* = 100, 53.585 (middle grey 128 is 53.59), 0; and sRGB red, which is (54.29, 80.80, 69.89) under D50.
    lab = np.array([[[255, 0, 0], [137, 0, 0], [0, 0, 0], [138, 81, 70]]], np.uint8)
    expected = np.array([[[255] * 3, [128] * 3, [0] * 3, [255, 0, 0]]])
    x = pixels(encode(Image.frombytes("LAB", (4, 1), lab.tobytes()), "TIFF"))
    # 5 observed, at red, where one step of a byte of L*a*b* is that large.
    assert np.abs(x - expected).max() <= 6


@pytest.mark.skipif("AVIF" not in Image.registered_extensions().values(), reason="a Pillow without AVIF")
@pytest.mark.parametrize("orientation", VIEW)
def test_avif(orientation):
    x = corners()
    found = pixels(oriented(Image.fromarray(x), "AVIF", orientation, quality=100, subsampling="4:4:4"))
    assert np.abs(found - VIEW[orientation](x)).max() <= 8
    alpha = np.full(x.shape[:2], 128, np.uint8)
    found = pixels(encode(Image.fromarray(np.dstack([x, alpha])), "AVIF", quality=100, subsampling="4:4:4"))
    assert np.abs(found - on_white(x, alpha)).max() <= 8


def test_every_16_bit_value():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(pixels(encode(Image.fromarray(values), "PNG")), grey(np.rint(values / 257)))


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
    with pytest.raises(PictureError, match="expected a file opened in mode 'rb', found a file opened as text$"):
        open_picture(io.StringIO("text"))


def test_a_pillow_picture_is_read_by_the_same_rules_and_left_alone():
    picture = Image.open(io.BytesIO(oriented(Image.fromarray(SIXTEEN), "PNG", 6)))
    for _ in range(2):
        assert np.array_equal(pixels(picture), grey(EIGHT.T))
    assert picture.mode == "I;16" and picture.size == (8, 1) and picture.getexif()[0x0112] == 6
    data, expected = PICTURES["PNG grey of 2 bits, 1 transparent"]
    picture = Image.open(io.BytesIO(data))
    assert np.array_equal(pixels(picture), expected) and picture.info["transparency"] == 1
    plain = Image.new("RGB", (3, 2))
    plain.info["kept"] = 1
    assert open_picture(plain) is not plain and plain.info == {"kept": 1}
    with pytest.raises(PictureError, match="Pillow picture: .*mode F"):
        open_picture(Image.new("F", (3, 2)))
    with pytest.raises(PictureError, match=r"has 2 x 3 pixels, expected at most 5 \(max_pixels\)$"):
        open_picture(Image.new("L", (3, 2)), max_pixels=5)
    cut = Image.open(io.BytesIO(encode(Image.effect_noise((50, 50), 90), "PNG")[:900]))
    with pytest.raises(PictureError, match="Pillow picture: truncated"):
        open_picture(cut)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PictureError, match="pipe: expected a picture file, found a folder or a device$"):
        open_picture(tmp_path / "pipe")


def test_a_format_that_this_pillow_lacks(monkeypatch):
    Image.init()
    why = "WEBP support is not installed"
    monkeypatch.setitem(Image.OPEN, "WEBP", (Image.OPEN["WEBP"][0], lambda head: head[8:12] == b"WEBP" and why))
    with pytest.raises(PictureError, match=f"picture from bytes: {why}"):
        open_picture(PICTURES["WEBP RGB"][0])
    assert np.array_equal(pixels(PICTURES["PNG RGB"][0]), PICTURES["PNG RGB"][1])


def test_doctests():
    assert doctest.testmod(nphybrid.pictures.decode).failed == 0


# -- damage --------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("name", ["PNG RGB", "PNG P, an alpha per colour", "PNG grey of 2 bits, 1 transparent"])
def test_no_flipped_bit_of_a_png_changes_a_pixel(name):
    data, expected = PICTURES[name]
    refused = 0
    for at in range(len(data)):
        try:
            assert np.array_equal(pixels(flipped(data, at)), expected), at
        except PictureError:
            refused += 1
    # The 12 bytes of IEND come after the last pixel.
    assert refused >= len(data) - 12


# -- bombs ---------------------------------------------------------------------------------------------------

CHILD = """
import json, sys, time, warnings
from nphybrid.api.processor import ViTHybridImageProcessor
from nphybrid.pictures.decode import open_picture

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

warnings.simplefilter("error")           # Not even a warning: a limit of Pillow's has no say here.
processor = ViTHybridImageProcessor(size=384, crop_size=384)
for path in sys.argv[1:]:
    before, start, refusal = peak(), time.monotonic(), None
    try:
        processor(open_picture(path))
    except ValueError as error:
        refusal = str(error)
    print(json.dumps([refusal, time.monotonic() - start, peak() - before]))
"""


@pytest.mark.slow
def test_bombs(tmp_path):
    """In a process of its own, in which nothing else has needed memory before."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    strips = [(name, data, "would become") for name, (data, _) in PICTURES.items() if "65500" in name]
    made = list(bombs()) + strips
    paths = [tmp_path / f"{b}" for b in range(len(made))]
    for path, (_, data, _) in zip(paths, made):
        path.write_bytes(data)
        assert len(data) < 300_000
    # The first finds the formats and the decoders.
    small = tmp_path / "small"
    small.write_bytes(encode(Image.new("L", (3, 2)), "TIFF", compression="tiff_lzw"))
    done = subprocess.run([sys.executable, "-c", CHILD, small, *paths], capture_output=True, text=True, check=True)
    (warm, _, _), *rows = map(json.loads, done.stdout.splitlines())
    assert warm is None and len(rows) == len(made) == 33
    for (name, _, words), (refusal, seconds, kilobytes) in zip(made, rows):
        assert refusal and re.search(words, refusal), (name, refusal)
        assert seconds < 1, (name, seconds)
    # All of them together, where each may take 150 MB.
    print(f"{len(rows)} bombs: at most {max(seconds for _, seconds, _ in rows):.3f} s, "
          f"together {sum(kilobytes for _, _, kilobytes in rows) / 1000:.1f} MB")
    assert sum(kilobytes for _, _, kilobytes in rows) < 150_000


def test_max_pixels_is_the_last_that_passes():
    data = encode(Image.new("L", (30, 20)), "PNG")
    assert open_picture(data, max_pixels=600).size == (30, 20)
    with pytest.raises(PictureError, match=r"has 20 x 30 pixels, expected at most 599 \(max_pixels\)$"):
        open_picture(data, max_pixels=599)


def test_more_than_pillows_limit_if_asked(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_picture(encode(Image.new("L", (30, 20)), "PNG")).size == (30, 20)


# ---------------------------------------------------------------- too little memory

@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading image file")])
def test_too_little_memory_is_not_damage(error, cat, monkeypatch):
    def load(self):
        raise error
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(MemoryError, match="cat.png: not enough memory"):
        open_picture(cat)


def test_a_decoder_that_gets_no_memory_and_says_damaged(cat, monkeypatch):
    """libjpeg says "broken data stream" for a progressive JPEG whose coefficients do not fit."""
    def load(self):
        raise OSError("broken data stream when reading image file")

    def empty(count, dtype):
        raise MemoryError
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(PictureError, match="cat.png: truncated or damaged"):
        open_picture(cat)
    monkeypatch.setattr(nphybrid.pictures.decode.np, "empty", empty)
    with pytest.raises(MemoryError, match=r"cat.png: not enough memory \(broken data stream when reading image file\)"):
        open_picture(cat)
