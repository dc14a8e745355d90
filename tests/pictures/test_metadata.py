"""Metadata that changes no pixel costs no picture, EXIF alone decides the orientation, and warnings have names."""
import doctest
import errno
import io
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

import nphybrid.pictures
import nphybrid.pictures.metadata
from nphybrid.cli import main
from nphybrid.pictures.decode import PictureError, open_picture
from nphybrid.pictures.metadata import jpeg_without_metadata

from oracles.pictures import VIEW, chunk, corners, encode, oriented

XMP = ('<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
       '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF>'
       '</x:xmpmeta>')
LOG = b"one line of a long log\n" * 60_000
# The rest of a PNG begins after its signature and IHDR.
BEGIN = 33
TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0"
WRONG_COUNT = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\3\0\0\0\1\0\1\0\0" * 3


def segment(code, body):
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def large_profile():
    """A profile like that of a printer, of 1.8 MB."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile += np.random.default_rng(0).integers(0, 4, 1_800_000).astype(np.uint8).tobytes()
    profile[:4] = struct.pack(">I", len(profile))
    return bytes(profile)


def photoshop(name_size):
    """A block of Photoshop that is cut off where the size of a name should stand."""
    return b"Photoshop 3.0\0" + b"8BIM\x03\xed"[:name_size]


PNG = {
    "a text of 1.4 MB": chunk(b"tEXt", b"log\0" + LOG),
    "a folded text of 1.4 MB": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LOG)),
    "an XMP packet of 1.4 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LOG)),
    "70 texts of 1 MB": chunk(b"zTXt", b"part\0\0" + zlib.compress(bytes(1 << 20))) * 70,
    "a text of 256 MB": chunk(b"zTXt", b"name\0\0" + zlib.compress(bytes(1 << 28), 9)),
    "a profile of 256 MB": chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(1 << 28), 9)),
    "half a pixel density": chunk(b"pHYs", b"\0\0\x0b"),
    "half a gamma": chunk(b"gAMA", b"\0\1"),
    "a text with a wrong checksum": chunk(b"tEXt", b"a\0b")[:-1] + b"!",
    "a private chunk with a wrong checksum": chunk(b"npTc", b"nine patches")[:-1] + b"!",
    "a private chunk of a wrong form": chunk(b"caNv", b"\0"),
    "a name of no standard": chunk(b"a\0\1\2", b"x"),
    "a private chunk of 20 MB": chunk(b"prVt", bytes(20 << 20)),
    "an EXIF with a wrong checksum": chunk(b"eXIf", TURNED[6:])[:-1] + b"!",
    "half an EXIF": chunk(b"eXIf", TURNED[6:16]),
    "an animation without frames": chunk(b"acTL", struct.pack(">II", 0, 0)),
    "a frame outside the picture": chunk(b"fcTL", struct.pack(">IIIII6x", 0, 9, 9, 99, 99)),
}


@pytest.mark.parametrize("where", ["before the pixels", "after the pixels"])
@pytest.mark.parametrize("name", PNG)
def test_metadata_of_a_png(name, where):
    x = corners()
    whole = encode(Image.fromarray(x), "PNG")
    at = BEGIN if where == "before the pixels" else len(whole) - 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(np.asarray(open_picture(whole[:at] + PNG[name] + whole[at:])), x)


def test_pillow_refuses_these_texts():
    """So the test above can fail."""
    whole = encode(Image.fromarray(corners()), "PNG")
    with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"):
        Image.open(io.BytesIO(whole[:BEGIN] + PNG["a folded text of 1.4 MB"] + whole[BEGIN:]))
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1 << 20


def test_the_exif_of_a_png_turns_if_its_checksum_is_right():
    """So the row "an EXIF with a wrong checksum" above can fail."""
    whole = encode(Image.fromarray(corners()), "PNG")
    found = open_picture(whole[:BEGIN] + chunk(b"eXIf", TURNED[6:]) + whole[BEGIN:])
    assert np.array_equal(np.asarray(found), np.rot90(corners(), -1))


@pytest.mark.parametrize("inserted, told", [
    (chunk(b"CgBI", b"\x50\0\x20\6"), "has a chunk CgBI, which is not of the PNG standard and may change pixels"),
    (chunk(b"PLTE", bytes((1 << 24) + 3)), "a chunk PLTE has 16,777,219 bytes, expected at most 16,777,216"),
    (chunk(b"eXIf", bytes((1 << 24) + 3)), "a chunk eXIf has 16,777,219 bytes, expected at most 16,777,216"),
    (chunk(b"tRNS", bytes(6))[:4] + b"tRnS" + chunk(b"tRNS", bytes(6))[8:], "wrong name tRnS of a chunk of pixels"),
    (chunk(b"IDAT", b"x")[:4] + b"iDAT" + chunk(b"IDAT", b"x")[8:], "wrong name iDAT of a chunk of pixels"),
    (chunk(b"tRNS", bytes(6))[:-1] + b"!", "tRNS")])
def test_a_chunk_that_may_change_pixels_is_refused(inserted, told):
    whole = encode(Image.fromarray(corners()), "PNG")
    with pytest.raises(PictureError, match=told):
        open_picture(whole[:BEGIN] + inserted + whole[BEGIN:])


def large_file(path, head, size):
    """A file that occupies almost no space on a disk: after its first bytes, all bytes are 0."""
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)


SIDE = struct.pack(">II", 60_000, 60_000)
LARGE = {
    "PNG": (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", SIDE + b"\x08\2\0\0\0") + struct.pack(">I4s", 2 ** 31 - 1, b"IDAT"),
            2 ** 31 + 100, "has 60000 x 60000 pixels, expected at most 64,000,000"),
    "JPEG": (b"\xff\xd8" + segment(0xC0, b"\x08" + SIDE[2:4] + SIDE[6:8] + b"\1\1\x11\0")
             + segment(0xDA, b"\1\1\0\0\0\0"), 2 ** 31, "has 60000 x 60000 pixels, expected at most 64,000,000"),
    "WebP": (b"RIFF\xff\xff\xff\xffWEBPVP8 ", 2 ** 31, "has 2,147,483,648 bytes, expected at most 1,536,000,000"),
    "AVIF": (b"\0\0\0\x1cftypavif\0\0\0\0mif1miafavif", 2 ** 31, "has 2,147,483,648 bytes, expected at most 1,5"),
    "HEIC": (b"\0\0\0\x1cftypheic\0\0\0\0mif1heicheic", 2 ** 31, "has 2,147,483,648 bytes, expected at most 1,5"),
}


@pytest.mark.parametrize("format", LARGE)
def test_a_large_file_is_refused_before_it_is_read(format, tmp_path):
    """Files of 2 GiB. Reading them would need as much memory. Observed: at most 0.03 MB."""
    head, size, told = LARGE[format]
    large_file(tmp_path / "large", head, size)
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match=told):
            open_picture(tmp_path / "large")
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_a_small_picture_in_a_large_file_needs_little_memory(tmp_path):
    """Phones append a film of any length to a JPEG. Observed: 0.14 MB for 1 GiB."""
    large_file(tmp_path / "a.jpg", encode(Image.fromarray(corners()), "JPEG"), 2 ** 30)
    tracemalloc.start()
    try:
        assert open_picture(tmp_path / "a.jpg").size == (40, 24)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_large_colour_profile(format):
    picture = Image.fromarray(corners())
    with_profile = open_picture(encode(picture, format, icc_profile=large_profile()))
    assert np.array_equal(np.asarray(with_profile), np.asarray(open_picture(encode(picture, format))))


@pytest.mark.parametrize("body", [
    segment(0xED, photoshop(4)), segment(0xED, photoshop(5)), segment(0xED, photoshop(6)),
    segment(0xE2, b"MPF\0junk"), segment(0xE2, b"ICC_PROFILE\0"), segment(0xE1, b"Exif"), segment(0xFE, bytes(60_000)),
    segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + LOG[:60_000]) * 40, segment(0xEF, b""), segment(0xE0, b"JFIF\0"),
    segment(0xE0, b"JFIF\0\1\1\1\0"), segment(0xEE, b"Adobe"), segment(0xEE, b"Adobe\0\x64\0\0\0")], ids=str)
def test_metadata_of_a_jpeg(body):
    whole = encode(Image.fromarray(corners()), "JPEG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_picture(whole[:2] + body + whole[2:])
    assert np.array_equal(np.asarray(found), np.asarray(Image.open(io.BytesIO(whole))))


def test_fill_bytes_of_a_jpeg():
    """Any number of bytes 0xFF may stand before a marker. They are removed, and the segment after them is found."""
    whole = encode(Image.fromarray(corners()), "JPEG")
    at = whole.index(b"\xff\xdb")
    filled = whole[:at] + b"\xff" * 7 + segment(0xED, photoshop(4)) + b"\xff" + whole[at:]
    assert np.array_equal(np.asarray(open_picture(filled)), np.asarray(Image.open(io.BytesIO(whole))))
    for count in 0, 1, (1 << 16) - 1, 1 << 16, 200_000:
        file = io.BytesIO(filled[:at] + b"\xff" * count + filled[at:])
        assert jpeg_without_metadata(file).read() == whole
    assert jpeg_without_metadata(io.BytesIO(whole[:at] + b"\xff" * 70_000)).read() == whole[:at]


@pytest.mark.parametrize("mode", ["L", "CMYK", "YCbCr"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_segments_that_decide_the_colours_of_a_jpeg_are_kept(mode, progressive):
    picture = Image.fromarray(corners()).convert(mode)
    data = encode(picture, "JPEG", progressive=progressive, comment="a comment", xmp=XMP.encode())
    assert np.array_equal(np.asarray(open_picture(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


# ---------------------------------------------------------------- orientation

def with_xmp(format, picture, **options):
    if format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP)
        return encode(picture, format, pnginfo=info, **options)
    if format == "TIFF":
        return encode(picture, format, tiffinfo={700: XMP.encode()}, **options)
    return encode(picture, format, xmp=XMP.encode(), **options)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_orientation_in_xmp_turns_nothing(format):
    if format == "AVIF" and "AVIF" not in Image.registered_extensions().values():
        pytest.skip("a Pillow without AVIF")
    picture = Image.fromarray(corners())
    height, width = corners().shape[:2]
    assert height != width
    assert open_picture(with_xmp(format, picture)).size == (width, height)
    if format != "TIFF":
        exif = Image.Exif()
        exif[0x0112] = 3
        found = np.asarray(open_picture(with_xmp(format, picture, exif=exif)))
        assert found.shape == corners().shape, "EXIF says half a turn"
        assert np.array_equal(found, np.asarray(open_picture(oriented(picture, format, 3))))


def test_a_picture_that_pillow_has_opened_is_not_turned_by_xmp():
    picture = Image.open(io.BytesIO(with_xmp("JPEG", Image.fromarray(corners()))))
    assert picture.getexif()[0x0112] == 6, "Pillow itself reads XMP"
    assert open_picture(picture).size == picture.size
    picture = Image.open(io.BytesIO(with_xmp("TIFF", Image.fromarray(corners()))))
    before = dict(picture.info)
    assert open_picture(picture).size == picture.size == (40, 24) and picture.info == before and "xmp" in before


@pytest.mark.parametrize("kind, form", [(1, "B3x"), (3, "H2x"), (4, "I")])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", VIEW)
def test_the_orientation_is_found_among_other_entries(orientation, order, kind, form):
    """Before and after the orientation are entries of other kinds. The count may be too large."""
    entries = [(0x010F, 2, 4, b"abc\0"), (0x0112, kind, 1, struct.pack(order + form, orientation)),
               (0x8769, 4, 1, b"abcd")]
    table = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    for count, gap in ((3, b""), (3, bytes(7)), (65535, b"")):
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(gap)) + gap
        exif = head + struct.pack(f"{order}H", count) + table
        for data in (exif, b"Exif\0\0" + exif):
            assert nphybrid.pictures.metadata.exif_orientation(data) == orientation
        assert nphybrid.pictures.metadata.exif_orientation(exif[:len(head) + 2 + 12]) == 1, "the data ends before it"


# ---------------------------------------------------------------- errors and warnings

@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_an_error_of_the_file_system_is_not_damage(number, format, tmp_path, monkeypatch):
    """A disk, a network or a mounted bucket can fail in the middle of a file."""
    data = encode(Image.effect_noise((300, 200), 90), format)

    (tmp_path / "far.img").write_bytes(data)

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if size is None or size < 0 or self.tell() + size > 4000:
                raise OSError(number, "the network is gone")
            return super().read(size)
    assert open_picture(tmp_path / "far.img").size == (300, 200)
    monkeypatch.setattr("builtins.open", lambda path, mode: Failing(data))
    with pytest.raises(OSError) as caught:
        open_picture(tmp_path / "far.img")
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "far.img"))


def test_each_warning_has_the_name_of_its_picture(tmp_path, capsys):
    """Two whole JPEGs whose EXIF has the same wrong count, and a TIFF with a tag outside of the file."""
    picture, names = Image.fromarray(corners()), ("a.jpg", "b.jpg", "c.tif")
    for name in names[:2]:
        picture.save(tmp_path / name, exif=WRONG_COUNT)
    picture.save(tmp_path / names[2], tiffinfo={305: "x" * 40})
    data = (tmp_path / names[2]).read_bytes()
    entry = data.index(struct.pack("<HHI", 305, 2, 41)) + 8
    (tmp_path / names[2]).write_bytes(data[:entry] + struct.pack("<I", 10 ** 6) + data[entry + 4:])
    command = ["classify", str(tmp_path), "--engine", "reference", "-o", str(tmp_path / "labels")]
    assert main(command) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if str(tmp_path) in line]
    starts = sorted(line.removeprefix(f"nphybrid: {tmp_path}/").split(": ")[0] for line in lines)
    assert starts == sorted(names), lines
    assert main([*command, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_doctests():
    for module in (nphybrid.pictures, nphybrid.pictures.metadata):
        found = doctest.testmod(module)
        assert found.attempted and not found.failed
