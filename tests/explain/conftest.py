"""The page of the bundled model, and pictures for it."""
import numpy as np
import pytest
from PIL import Image

from nphybrid import default_model, open_picture
from nphybrid.api.load import load
from nphybrid.explain.page import page


@pytest.fixture(scope="session")
def model():
    return load(default_model(), engine="reference")


@pytest.fixture(scope="session")
def folder(root, model, tmp_path_factory):
    """The page of the cat, and pictures that Chromium and Python read."""
    folder = tmp_path_factory.mktemp("page")
    cat = open_picture(root / "examples" / "images" / "cat.png")
    (folder / "page.html").write_text(page(model, cat, "cat.png"), "utf-8")
    with np.load(root / "tests" / "data" / "cifar10_test_1000.npz") as data:
        frog, ship = (Image.fromarray(data["images"][i]) for i in (7, 8))
    frog.resize((151, 233), Image.Resampling.BICUBIC).save(folder / "frog.png")
    ship.resize((80, 71), Image.Resampling.BICUBIC).save(folder / "ship <b>.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    return folder
