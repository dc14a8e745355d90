"""HEIC pictures, if the package pillow-heif is installed."""
import numpy as np
import pytest
from PIL import Image

from nphybrid import PictureError, open_picture
from nphybrid.batch.inputs import find_pictures

from oracles.pictures import VIEW, corners, encode, on_white

pillow_heif = pytest.importorskip("pillow_heif")


@pytest.fixture(scope="module", autouse=True)
def encoder():
    """pillow-heif can write pictures only after it is registered in Pillow."""
    before = dict(Image.SAVE), dict(Image.OPEN), list(Image.ID), dict(Image.EXTENSION)
    pillow_heif.register_heif_opener()
    if "HEIF" not in Image.SAVE:
        pytest.skip("a pillow-heif without an encoder")
    save = Image.SAVE["HEIF"]
    Image.SAVE.clear(), Image.OPEN.clear(), Image.EXTENSION.clear()
    Image.SAVE.update(before[0]), Image.OPEN.update(before[1]), Image.EXTENSION.update(before[3])
    Image.ID[:] = before[2]
    Image.SAVE["HEIF"] = save
    yield
    del Image.SAVE["HEIF"]


def heic(x, **options):
    return encode(Image.fromarray(x), "HEIF", quality=-1, chroma=444, **options)


@pytest.mark.parametrize("orientation", VIEW)
def test_a_heic_is_upright(orientation):
    """The file stores the turn in its own way, and in EXIF, where it must not be applied a second time."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = np.asarray(open_picture(heic(corners(), exif=exif.tobytes())))
    expected = VIEW[orientation](corners())
    assert found.shape == expected.shape
    # 1 observed: YCbCr has whole numbers.
    assert np.abs(found - expected.astype(int)).max() <= 2


def test_exif_alone_turns_no_heic():
    """ISO/IEC 23008-12, 6.5.10: the property irot turns the picture. pillow-heif writes none for an Exif object."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = heic(corners(), exif=exif)
    assert b"irot" not in data and open_picture(data).size == (40, 24)
    assert b"irot" in heic(corners(), exif=exif.tobytes())


def test_alpha_of_a_heic():
    x = corners()
    alpha = np.full(x.shape[:2], 100, np.uint8)
    found = np.asarray(open_picture(heic(np.dstack([x, alpha]))))
    assert np.abs(found - on_white(x, alpha).astype(int)).max() <= 5


def test_a_large_or_cut_heic_is_refused():
    data = heic(corners())
    with pytest.raises(PictureError, match="has 24 x 40 pixels, expected at most 959"):
        open_picture(data, max_pixels=959)
    for eighths in (1, 4, 7):
        with pytest.raises(PictureError, match="damaged|cut off"):
            open_picture(data[:len(data) * eighths // 8])


def test_a_folder_with_heic_pictures(tmp_path):
    for name in ("a.HEIC", "b.heif", "c.hif", "d.jxl"):
        (tmp_path / name).write_bytes(heic(corners()))
    assert [path[-6:] for path in find_pictures([str(tmp_path)])] == ["a.HEIC", "b.heif", "/c.hif"]
