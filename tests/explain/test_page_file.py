"""The file of the page: its size, its texts, and the command that writes it."""
import html
import json
import os
import re

import numpy as np
import pytest

from nphybrid import default_model
from nphybrid.__main__ import main
from nphybrid.api.load import load
from nphybrid.explain import page as pages
from nphybrid.explain.sentences import EXPLAINED
from nphybrid.ops import reference

from oracles import sights


def test_the_bundled_model_takes_less_than_five_megabytes(cat_picture):
    text = pages.page(load(default_model()), cat_picture, "cat.png")
    assert 1e5 < len(text.encode()) < 5e6                                    # observed 4.87 MB
    assert "This page follows cat.png through a network of 1,469,834 parameters" in text
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.DOTALL)[1])
    assert facts["steps"]["answer"]["labels"][0]["label"] == "cat"


def test_nothing_leads_out_of_the_file(case, cat_picture):
    text = pages.page(case[0], cat_picture)
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}                       # a name, which is never fetched
    assert "default-src 'none'" in text
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=\"(?!data:)", text)
    assert "{" not in re.sub(r"<(script|style).*?</\1>|<pre.*?</pre>", "", text, flags=re.DOTALL)


def test_words_are_explained_where_they_are_first_used(case, cat_picture):
    """Learned numbers, the activation relu and the number in a divisor, in the texts of the steps."""
    main = re.search("<main>(.*)</main>", pages.page(case[0], cat_picture), re.DOTALL)[1]
    text = html.unescape(re.sub("<[^>]*>", "", re.sub("<details.*?</details>", "", main, flags=re.DOTALL)))
    text = re.sub(r"\s+", " ", text)
    assert text.count("are learned: training on pictures with known labels found them.") == 1
    assert re.search("learned.{8}", text)[0] == "learned: traini"
    assert "relu" not in text or re.search("relu.{8}", text)[0] == "relu, which "
    divisor = re.search("ε.{8}", text)
    assert divisor is None or divisor[0] == "ε keeps t"


@pytest.mark.parametrize("kind, has_stem", [("hybrid", True), ("vit", False), ("mean", False)])
def test_hidden_cells_and_painted_pixels(kind, has_stem, cat_picture):
    """Without convolutions, no other cell reads the pixels of a hidden cell."""
    text = re.sub(r"\s+", " ", pages.page(sights.network(kind), cat_picture))
    number = {name: re.search(f'<section class="step" id="{name}".*?class="kicker">(\\d+)', text)[1]
              for name in ("changes", "paint")}
    assert f": hide the cell (step {number['changes']}) or paint it (step {number['paint']}), and compare" in text
    assert (f"still depend on its pixels: to remove these, paint them (step {number['paint']})." in text) == has_stem


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_the_words_about_an_activation_are_true(activation):
    """The ends that the page states, and large numbers that stay."""
    x = np.linspace(-30, 30, 60_001)
    y, text = reference.activate(x, activation), EXPLAINED[activation].replace("\u2212", "-")
    assert text.startswith(f"{activation}, which ")
    if between := re.search(r"between (\S+) and (\S+)$", text):
        low, high = float(between[1]), float(between[2])
        y = y[x < 0] if "a negative number" in text else y
        assert low <= y.min() < low + 2e-3 and high - 2e-3 < y.max() <= high           # observed 1.1e-3
    if "keeps large" in text:
        assert np.abs(reference.activate(x, activation) - x)[x > 8].max() < 3e-3       # observed 2.7e-3, silu


def test_the_words_about_selu_are_true():
    y = reference.activate(np.array([2.0, -30]), "selu")
    assert EXPLAINED["selu"].endswith(f"by {y[0] / 2:.2f}, and keeps negative numbers above \u2212{-y[1]:.2f}")


def test_names_and_labels_are_text(cat_picture):
    model = sights.network("hybrid")
    evil = "</script><script>alert(1)</script>{{facts}}{number}&lt;"
    model.config.id2label = {i: f"{evil} {i}" for i in range(4)}
    text = pages.page(model, cat_picture, evil)
    assert "<script>alert" not in text and "</script><script>" not in text
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.DOTALL)[1])
    assert facts["name"] == evil and facts["steps"]["answer"]["labels"][0]["label"].startswith(evil)
    assert html.unescape(re.search("<title>(.*?): a forward pass", text)[1]) == evil


def test_a_model_without_an_image_processor_is_refused(cat_picture):
    model = sights.network("vit")
    model.processor = None
    with pytest.raises(ValueError, match="without an image processor"):
        pages.page(model, cat_picture)


def test_the_verb_writes_the_page(cat_picture, tmp_path, capsys):
    picture, target = tmp_path / os.fsdecode(b"a \xff<b>.png"), tmp_path / "page.html"
    cat_picture.save(picture)
    target.write_text("old")
    line = ["explain", str(picture), "-o", str(target), "--engine", "reference"]
    assert main(line) == 0
    assert capsys.readouterr().out == f"{target}: {target.stat().st_size:,} bytes\n"
    assert "<title>a ?&lt;b&gt;.png: a forward pass" in target.read_text("utf-8")
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"label {i}" for i in range(10)))
    assert main([*line, "--labels", str(labels)]) == 0
    assert "The answer is “label 3”" in target.read_text("utf-8")


@pytest.mark.parametrize("picture, target, message", [
    ("cat.png", "page.png", "ends in .html"), ("cat.png", "nowhere/page.html", "nowhere does not exist"),
    ("broken.png", "page.html", "broken.png"), ("missing.png", "page.html", "missing.png")])
def test_the_verb_refuses_and_leaves_what_is_there(picture, target, message, cat_picture, tmp_path, monkeypatch,
                                                       capsys):
    monkeypatch.chdir(tmp_path)
    cat_picture.save("cat.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "page.html").write_text("old")
    assert main(["explain", picture, "-o", target, "--engine", "reference"]) == 3
    assert message in capsys.readouterr().err and (tmp_path / "page.html").read_text() == "old"
    assert sorted(os.listdir()) == ["broken.png", "cat.png", "page.html"]
