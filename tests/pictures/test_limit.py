"""One limit of the number of pixels holds for every function and command that reads pictures."""
import pytest
from PIL import Image

import nphybrid.pictures
from nphybrid import PictureError, open_picture, pipeline, pixel_limit
from nphybrid.batch import cluster
from nphybrid.cli import main

from oracles.pictures import encode


@pytest.fixture
def small_limit(monkeypatch):
    """A limit of 500 pixels instead of 64 million, so that the tests need no large pictures."""
    monkeypatch.setattr(nphybrid.pictures, "_limit", 500)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_the_limit_of_the_process(format, small_limit, monkeypatch):
    """Pillow's own limit is raised, too."""
    data = encode(Image.new("RGB", (30, 20)), format)
    told = r"has 20 x 30 pixels, expected at most 500 \(--max-pixels N or, in Python, nphybrid.pixel_limit\(N\)"
    with pytest.raises(PictureError, match=told):
        open_picture(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pixel_limit(600):
        assert open_picture(data).size == (30, 20)
    assert Image.MAX_IMAGE_PIXELS == 200
    with pytest.raises(PictureError):
        open_picture(data)
    with pixel_limit(599), pytest.raises(PictureError, match="expected at most 599"):
        open_picture(data)


def test_a_pipeline_accepts_what_open_picture_gave(small_limit, cat):
    pipe = pipeline("image-classification", engine="reference")
    picture = open_picture(cat, max_pixels=10 ** 6)
    assert pipe(picture, top_k=1)[0]["label"] == "cat"
    with pytest.raises(PictureError, match="expected at most 500"):
        pipe(str(cat))
    with pytest.raises(PictureError, match="expected at most 500"), Image.open(cat) as not_decoded:
        pipe(not_decoded)
    with pixel_limit(10 ** 6):
        assert pipe([str(cat)], top_k=1)[0][0]["label"] == "cat"


@pytest.mark.parametrize("verb", [
    "classify CAT", "embed CAT -o OUT/x.npy", "evaluate FOLDER", "probe fit FOLDER -o OUT/head.h5",
    "finetune FOLDER -o OUT/model.h5 --validation 0", "explain CAT -o OUT/page.html",
    "figures attention CAT -o OUT/x.png", "trace CAT", "compare MODEL MODEL --image CAT"])
def test_every_verb_that_reads_pictures_has_the_option(verb, cat, root, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(cat.read_bytes())
    for name, path in (("CAT", cat), ("FOLDER", tmp_path / "photos"), ("OUT", tmp_path),
                       ("MODEL", root / "weights" / "vit-hybrid-tiny-cifar10.h5")):
        verb = verb.replace(name, str(path))
    assert main([*verb.split(), "--max-pixels", "500"]) in (1, 3)
    captured = capsys.readouterr()
    assert "has 300 x 451 pixels, expected at most 500" in captured.err + captured.out
    assert nphybrid.pictures.max_pixels() == nphybrid.pictures.MAX_PIXELS


def test_the_workers_of_a_cluster_have_the_limit_of_the_client(cat):
    with pixel_limit(500):
        job = cluster.job()
    assert job.largest == 500
    row, = cluster.compute_part([str(cat)], job)
    assert "expected at most 500" in str(row.error)
