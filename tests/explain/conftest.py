"""What the tests of the page share: pictures, and a site that shows them."""
import numpy as np
import pytest
from PIL import Image

from nphybrid.__main__ import main

# A PNG; a JPEG that a turned camera took, with a date of its GPS; a PNG with a name that HTML could read.
NAMES = "cat.png", "frog.jpg", "a long name of a ship <b>&amp;.png"


@pytest.fixture(scope="session")
def pictures(cat, root, tmp_path_factory):
    """The paths of three pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    with np.load(root / "tests" / "data" / "cifar10_test_1000.npz") as data:
        frog, ship = (Image.fromarray(data["images"][i]) for i in (7, 8))
    exif = Image.Exif()
    exif[0x0112] = 6                      # the picture must be turned by 90 degrees
    exif.get_ifd(0x8825)[0x001D] = "2026:07:01"
    frog.resize((150, 231), Image.Resampling.BICUBIC).save(folder / NAMES[1], quality=90, exif=exif)
    ship.resize((1200, 71), Image.Resampling.BICUBIC).save(folder / NAMES[2])
    (folder / NAMES[0]).write_bytes(cat.read_bytes())
    return [folder / name for name in NAMES]


@pytest.fixture(scope="session")
def site(pictures, tmp_path_factory):
    """The folder of a site with the three pictures."""
    folder = tmp_path_factory.mktemp("sites") / "site"
    assert main(["explain", *map(str, pictures), "--site", str(folder), "--engine", "reference"]) == 0
    return folder
