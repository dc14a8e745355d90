"""`nphybrid explain --site`: a folder with a page that holds the network and several pictures."""
import os

import pytest

from nphybrid import ViTConfig, ViTForImageClassification, ViTHybridImageProcessor, open_picture
from nphybrid.__main__ import main
from nphybrid.explain import scene, worker
from nphybrid.explain.page import page


def written(target, pictures):
    return main(["explain", "--site", str(target), *map(str, pictures), "--engine", "reference"])


# ------------------------------------------------------------------ the folder

def test_the_folder_is_complete(pictures, tmp_path, capsys):
    target = tmp_path / "a" / "site"
    assert written(target, pictures) == 0
    assert [path.name for path in target.iterdir()] == ["index.html"] and os.listdir(target.parent) == ["site"]
    content = (target / "index.html").read_bytes()
    assert capsys.readouterr().out == f"{target / 'index.html'}: {len(content):,} bytes\n"
    assert len(content) < 5e6                                            # observed 4.82 MB, with 3 pictures
    assert b"2026:07:01" in pictures[1].read_bytes() and b"2026:07:01" not in content
    one = tmp_path / "one.html"
    assert main(["explain", str(pictures[0]), "-o", str(one), "--engine", "reference"]) == 0
    alone = one.read_bytes()
    assert len(content) - len(alone) < 1e5                               # the network is in the page only once
    assert b'id="gallery"' in content and b'id="gallery"' not in alone


@pytest.mark.parametrize("existing, message", [
    ("file", "already exists; expected the name of a new folder, or an empty folder"),
    ("full", "already exists; expected the name of a new folder, or an empty folder"),
    ("empty", None)])
def test_a_folder_with_files_is_refused(pictures, tmp_path, capsys, existing, message):
    target = tmp_path / "site"
    if existing == "file":
        target.write_text("old")
    else:
        target.mkdir()
    if existing == "full":
        (target / "old.txt").write_text("old")
    assert written(target, pictures[:1]) == (3 if message else 0)
    if message:
        assert f"nphybrid: {target} {message}\n" == capsys.readouterr().err
    kept = {"file": [], "full": ["old.txt"], "empty": ["index.html"]}[existing]
    assert os.listdir(tmp_path) == ["site"] and (existing == "file" or os.listdir(target) == kept)


@pytest.mark.parametrize("name, message", [("broken.png", "broken.png"), ("missing.png", "missing.png")])
def test_a_picture_that_cannot_be_read_leaves_no_folder(pictures, tmp_path, capsys, name, message):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert written(tmp_path / "site", [*pictures, tmp_path / name]) == 3
    assert message in capsys.readouterr().err and os.listdir(tmp_path) == ["broken.png"]


def test_the_page_of_a_large_network_has_one_picture(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(worker, "MAX_PARAMETERS", 1_469_833)
    assert written(tmp_path / "site", pictures) == 3
    assert capsys.readouterr().err == (
        "nphybrid: expected one picture, found 3: the page can show only one, because the network has 1,469,834 "
        "parameters, and a page can compute a network of at most 1,469,833 parameters\n")
    assert os.listdir(tmp_path) == []
    assert written(tmp_path / "site", pictures[:1]) == 0


@pytest.mark.parametrize("line, message", [
    (["cat.png"], "one of the arguments -o/--output --site is required"),
    (["cat.png", "--site", "site", "-o", "page.html"], "not allowed with argument"),
    (["--site", "site"], "the following arguments are required: IMAGE")])
def test_the_verb_needs_pictures_and_one_target(line, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["explain", *line])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_the_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["explain", "--help"])
    assert "  nphybrid explain --site site cat.png frog.png ship.png\n" in capsys.readouterr().out


# ------------------------------------------------------------------ why a page does not compute

@pytest.mark.parametrize("reason, change", [
    ("the network has 1,469,834 parameters, and a page can compute a network of at most 1,000,000 parameters",
     (worker, "MAX_PARAMETERS", 1_000_000)),
    ("the network has too many attention weights to show them one by one", (scene, "EXACT_BYTES", 0)),
    ("the page does not have the activation gelu", (worker, "ACTIVATIONS", ("relu",))),
    ("the page can resize pictures only with the bilinear and the bicubic filter", (worker, "FILTERS", (2,)))])
def test_a_page_that_does_not_compute_says_why(model, cat, monkeypatch, reason, change):
    picture = open_picture(cat)
    assert "This page cannot compute" not in page(model, picture)
    monkeypatch.setattr(*change)
    text = page(model, picture)
    assert f">This page cannot compute the network for another picture, because {reason}.</p>" in text
    assert 'id="another"' not in text and 'id="worker"' not in text and 'id="changes"' not in text


def test_a_page_does_not_compute_grey_pictures():
    config = ViTConfig(image_size=16, patch_size=8, num_channels=1, hidden_size=24, num_hidden_layers=1,
                       num_attention_heads=2, intermediate_size=32)
    model = ViTForImageClassification(config, engine="reference")
    model.processor = ViTHybridImageProcessor(size={"height": 16, "width": 16}, image_mean=0.5, image_std=0.5)
    assert worker.obstacle(model) == "the page prepares pictures with 3 channels, and the input of the network has 1"
