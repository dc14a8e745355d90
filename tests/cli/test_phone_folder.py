"""A folder as a phone makes it, in one run of a new process: each file is labelled, told or counted."""
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from nphybrid import pipeline

from oracles.pictures import VIEW, oriented

pytestmark = pytest.mark.slow

HEIF = importlib.util.find_spec("pillow_heif") is not None
SIZE = 12000, 9000                        # 108 megapixels
# The transpositions of Pillow that store a picture, so that EXIF turns it back.
STORED = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def write_heic(picture, path):
    import pillow_heif
    pillow_heif.from_pillow(picture).save(path, quality=-1, chroma=444)
    return np.asarray(pillow_heif.open_heif(path))


@pytest.fixture(scope="module")
def phone(cat, tmp_path_factory):
    """The folder, and the upright RGB pixels of each picture, which are computed with Pillow and NumPy alone."""
    folder = tmp_path_factory.mktemp("phone")
    inner, picture, truth = folder / "DCIM" / "100APPLE", Image.open(cat).convert("RGB"), {}
    inner.mkdir(parents=True)
    for orientation, transposition in STORED.items():
        stored = picture if transposition is None else picture.transpose(transposition)
        path = inner / f"IMG_{orientation}.JPG"
        path.write_bytes(oriented(stored, "JPEG", orientation, quality=95))
        truth[path] = VIEW[orientation](np.asarray(Image.open(path)))
    alpha = np.tile(np.linspace(0, 255, picture.width).astype(np.uint8), (picture.height, 1))
    path = inner / "Screenshot.PNG"
    Image.fromarray(np.dstack([np.asarray(picture), alpha])).save(path)
    blended = np.asarray(picture) * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255)
    truth[path] = np.floor(blended + 0.5).astype(np.uint8)
    (inner / "IMG_9.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    if HEIF:
        truth[inner / "IMG_9.HEIC"] = write_heic(picture, inner / "IMG_9.HEIC")
    panorama = inner / "PANO.jpg"
    picture.resize(SIZE).save(panorama, quality=90)
    truth[panorama] = panorama
    for name in "IMG_1.MOV", "IMG_3.mp4":                           # the films of live photographs
        (inner / name).write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(1000))
    (inner / "broken.jpg").write_bytes((inner / "IMG_1.JPG").read_bytes()[:2000])
    (inner / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (inner / "._IMG_1.JPG").write_bytes(b"\0\5\x16\7")              # macOS writes these files to memory cards
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "1.jpg").write_bytes((inner / "IMG_1.JPG").read_bytes())
    return folder, truth


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("more", [[], ["--max-pixels", "108000000"]], ids=["", "max-pixels"])
def test_each_file_is_labelled_told_or_counted(phone, more, root, tmp_path):
    folder, truth = phone
    done = subprocess.run([sys.executable, "-m", "nphybrid", "classify", folder, "-r", "--engine", "reference",
                           "-o", tmp_path / "labels.jsonl", *more], cwd=root, capture_output=True, text=True)
    rows = {row["path"]: row for row in map(json.loads, (tmp_path / "labels.jsonl").read_text().splitlines())}
    broken = f"{folder}/DCIM/100APPLE/broken.jpg"
    refused = [path for path in truth if path.name == "PANO.jpg" and not more]
    heic = f"{folder}/DCIM/100APPLE/IMG_9.HEIC"
    assert done.returncode == 1 and rows.keys() == {broken, heic, *map(os.fspath, truth)}

    pipe = pipeline("image-classification", engine="reference")
    for path, pixels in truth.items():
        row = rows[os.fspath(path)]
        if path in refused:
            assert "has 9000 x 12000 pixels, expected at most 64,000,000 (--max-pixels N" in row["error"]
            continue
        expected = pipe(np.asarray(Image.open(pixels)) if pixels is path else pixels)
        assert [label["label"] for label in row["labels"]] == [label["label"] for label in expected], path
        differences = [abs(a["score"] - b["score"]) for a, b in zip(row["labels"], expected)]
        assert max(differences) < 5e-6, path         # observed 3e-7: BLAS rounds otherwise in a batch
        assert row["labels"][0]["label"] == "cat" or path.name == "Screenshot.PNG"
    assert "truncated or damaged" in rows[broken]["error"]

    assert HEIF or "needs the package pillow-heif: pip install pillow-heif" in rows[heic]["error"]

    lines = done.stderr.splitlines()
    unreadable = [broken, *refused, *([] if HEIF else [heic])]
    assert sorted(line.removeprefix("nphybrid: ") for line in lines) == sorted([
        "left out in folders: 3 hidden, 1 .mov, 1 .mp4", *(rows[os.fspath(path)]["error"] for path in unreadable),
        f"{len(unreadable)} of {len(rows)} pictures failed"])
