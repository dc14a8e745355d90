"""What the tests of the page share: pictures, pages and sites that show them, networks and their states."""
import numpy as np
import pytest
from PIL import Image

from nphybrid import open_picture
from nphybrid.__main__ import main
from nphybrid.explain import measures, scene
from nphybrid.explain.page import page

from oracles import sights
from tools.javascript import ENGINES

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


@pytest.fixture(scope="module")
def folder(cat, root, model, tmp_path_factory):
    """The page of the cat, and pictures that Chromium and Python read."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(page(model, open_picture(cat), "cat.png"), "utf-8")
    with np.load(root / "tests" / "data" / "cifar10_test_1000.npz") as data:
        frog, ship = (Image.fromarray(data["images"][i]) for i in (7, 8))
    frog.resize((151, 233), Image.Resampling.BICUBIC).save(folder / "frog.png")
    ship.resize((80, 71), Image.Resampling.BICUBIC).save(folder / "ship <b>.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    return folder


@pytest.fixture(scope="module")
def cat_page(folder):
    """The address of the page of the cat."""
    return (folder / "page.html").as_uri()


@pytest.fixture(scope="session")
def cat_picture(cat):
    """The photograph of a cat as a Pillow picture."""
    return open_picture(cat)


@pytest.fixture(scope="module")
def prepared(cat, model):
    """The input of the bundled model for the cat, channels last."""
    return model.prepared(cat).transpose(0, 2, 3, 1)


@pytest.fixture(scope="module")
def cat_trace(cat, model):
    """The states of the bundled model for the cat."""
    return model.trace(model.prepared(cat))


@pytest.fixture(scope="module")
def cat_weights(cat_trace):
    """The attention weights of the bundled model for the cat."""
    return measures.attention(cat_trace, 4)


@pytest.fixture(scope="module", params=sights.KINDS)
def case(request, cat_picture):
    """A network, its trace of the cat, and the data of its page."""
    model = sights.network(request.param)
    x = model.image_processor()(cat_picture, return_tensors="np").pixel_values
    return model, model.trace(x), scene.scene(model, cat_picture)


@pytest.fixture(scope="module", params=ENGINES)
def run(request, tmp_path_factory):
    """Runs requests of tools.javascript: in Node, Chromium or Firefox."""
    engine = request.param(tmp_path_factory.mktemp("worker"))
    yield engine
    engine.close()
