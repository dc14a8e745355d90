"""The figures of every kind of network: their texts are complete and do not overlap; what is refused; the verb."""
import itertools
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from nphybrid import Config
from nphybrid.cli import main
from nphybrid.cli.figures import NAMES
from nphybrid.explain import drawing, figures
from nphybrid.explain.figures import PICTURELESS, figure
from nphybrid.explain.reading import cells_to_pixels, find_token

from oracles.sights import KINDS, network

pytestmark = pytest.mark.slow


# ---------------------------------------------------------------- the texts of the sheet

@pytest.fixture
def words(monkeypatch):
    """What is written while a figure is drawn: [(words, box)]."""
    found, write, write_upwards = [], drawing.write, drawing.write_upwards

    def noted(page, x, y, text, size=drawing.TEXT, colour=drawing.INK, anchor="la"):
        write(page, x, y, text, size, colour, anchor)
        text = drawing.drawable(text)
        found.append((text, ImageDraw.Draw(page).textbbox((x, y), text, font=drawing.font(size), anchor=anchor)))

    def noted_upwards(page, x, y, text):
        write_upwards(page, x, y, text)
        width, height = drawing.length(text, drawing.TEXT), drawing.TEXT
        found.append((text, (x - height / 2, y - width / 2, x + height / 2, y + width / 2)))
    monkeypatch.setattr(drawing, "write", noted)
    monkeypatch.setattr(drawing, "write_upwards", noted_upwards)
    return found


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("kind", [*KINDS, "tall", "long label"])
def test_words_are_whole_and_apart(kind, cat, words):
    model = network({"tall": "bit", "long label": "mean"}.get(kind, kind))
    if kind == "tall":
        model.processor |= dict(size={"height": 400, "width": 24}, crop_size={"height": 400, "width": 24})
    if kind == "long label":
        model.config.id2label = dict.fromkeys(range(3), "W" * 300)
    made = 0
    for name in NAMES:
        words.clear()
        try:
            shown = figure(name, model, None if name in PICTURELESS else cat)
        except ValueError:
            continue
        made += 1
        paper = np.asarray(shown.image)
        assert 2000 <= shown.image.width <= 2400, name
        for edge in paper[:30], paper[-30:], paper[:, :30], paper[:, -30:]:
            assert (edge == 255).all(), f"{name}: something reaches the edge of the sheet"
        for (one, a), (other, b) in itertools.combinations(words, 2):
            assert not overlap(a, b), f"{name}: {one!r} lies on {other!r}"
        # A dot of attention-distance may lie anywhere inside its axes; words are outside.
        for (one, a), (what, b) in itertools.product(words, shown.boxes.items()):
            assert not overlap(a, b), f"{name}: {one!r} lies on {what}"
    assert made >= 3


def test_many_small_maps_number_some_of_them(words):
    page = Image.new("RGB", (3000, 2000), "white")
    boxes = drawing.grid(page, 0, 0, ("block", range(30)), ("head", range(100)), (9, 12), gap=2)
    assert len(boxes) == 3000 and boxes[3, 7][0] - boxes[3, 6][0] == 14
    assert not any(overlap(a, b) for (_, a), (_, b) in itertools.combinations(words, 2))
    assert {text for text, _ in words} >= {"0", "6", "12", "96", "block", "head"}


def test_letters_that_pillow_lacks_are_drawn_with_a_font_of_the_system():
    """The font is the font that draws the whole text, and a combined letter is one letter."""
    try:
        font = ImageFont.truetype("DejaVuSans.ttf", 40)
    except OSError:
        pytest.skip("no DejaVu Sans on this computer")
    for words in "Straßenkätzchen", "собака":
        page, expected = (Image.new("RGB", (500, 100), "white") for _ in range(2))
        drawing.write(page, 10, 10, unicodedata.normalize("NFD", words) if "ä" in words else words, 40)
        ImageDraw.Draw(expected).text((10, 10), words, drawing.INK, font)
        assert page.tobytes() == expected.tobytes() and drawing.is_drawable(words)
        assert drawing.length(words, 40) == font.getlength(words)


def test_letters_that_need_more_than_a_font_are_not_drawn():
    """From right to left, or placed by the letter before: DejaVu Sans has these letters, but Pillow misplaces them."""
    assert not any(map(drawing.is_drawable, ("חתול", "كلب", "हाथी", "c\u0331", "a\nb")))
    assert drawing.is_drawable("8 × 8 – 9")


def test_letters_that_the_font_lacks(monkeypatch):
    monkeypatch.setattr(drawing, "SYSTEM_FONTS", ("no such font.ttf",))
    assert not drawing.is_drawable("Größe")
    assert drawing.drawable("Größe, œuvre, 10 × 12, 猫\n") == "Grosse, ?uvre, 10 x 12, ??"
    page = Image.new("RGB", (400, 100), "white")
    drawing.write(page, 10, 10, "Größe 猫")
    assert np.asarray(page).min() < 100


def test_a_label_that_the_font_lacks_is_a_number(cat, words, monkeypatch):
    monkeypatch.setattr(drawing, "SYSTEM_FONTS", ())
    model = network("mean")
    model.config.id2label = {0: "猫", 1: "собака", 2: "γάτα"}
    shown = figure("saliency", model, cat)
    best = next(k for k, name in model.config.id2label.items() if f"“{name}”" in shown.title)
    assert f"“{model.config.id2label[best]}”" in shown.description
    assert words[0][0] == f"Saliency: the logit of “class {best}”" and not any("?" in text for text, _ in words)


# ---------------------------------------------------------------- which networks, and what is refused

NEEDS = {"filters": "convolution", "feature-maps": "convolutional backbone", "position-similarity": "tokens",
         "attention": "tokens", "attention-distance": "tokens", "rollout": "tokens", "occlusion": "a classifier",
         "saliency": "a classifier"}


@pytest.mark.parametrize("kind, refused", [
    ("hybrid", []), ("wide", []), ("headless", ["occlusion", "saliency"]), ("vit", ["filters", "feature-maps"]),
    ("mean", ["filters", "feature-maps"]),
    ("bit", ["position-similarity", "attention", "attention-distance", "rollout"])])
def test_each_kind_of_network(kind, refused, cat):
    model = network(kind)
    for name in NAMES:
        image = None if name in PICTURELESS else cat
        if name not in refused:
            assert figure(name, model, image).boxes
            continue
        message = f"the figure {name} needs .*{NEEDS[name]}.*; this {type(model).__name__} has none"
        with pytest.raises(ValueError, match=message):
            figure(name, model, image)


def test_a_head_that_reads_the_mean_reads_no_class_token():
    config = Config(image=(64, 96), pool="mean")
    assert config.class_token and config.tokens == 25
    row, words, place = find_token(config)
    assert (row == [0] + [1 / 24] * 24).all() and words == "all cells, on average" and place is None
    assert find_token(config, "class").row[0] == 1 and find_token(config, "3,2").row[1 + 3 * 6 + 2] == 1


def test_filters_beyond_sixty_four_are_left_out(monkeypatch):
    monkeypatch.setattr(figures, "FILTERS", 5)
    shown = figure("filters", network("hybrid"))
    assert list(shown.boxes) == [f"filter {i}" for i in range(5)] and "The first 5 of 8 filters" in shown.description


def test_rest_of_a_picture_without_cells_is_black():
    """A plain ViT drops what is left of the picture beyond its last whole patch."""
    spread = cells_to_pixels(np.arange(1.0, 7).reshape(2, 3), 4, (11, 13), smooth=True)
    assert spread.shape == (11, 13) and (spread[8:] == 0).all() and (spread[:, 12:] == 0).all()
    assert (spread[:8, :12] >= 1).all()
    assert (cells_to_pixels(np.arange(1.0, 7).reshape(2, 3), 4, (7, 10))[[0, 6], [0, 9]] == [1, 6]).all()


@pytest.mark.parametrize("name, options, message", [
    ("attention", {"token": "8,0"}, "no token '8,0'; expected class, mean, or row,column in a grid of 8 rows and 8 c"),
    ("attention", {"token": "-1,0"}, "no token '-1,0'"), ("rollout", {"token": "12"}, "no token '12'"),
    ("attention", {"block": 4}, "no block 4; this network has blocks 0 to 3"),
    ("attention", {"head": -1}, "no head -1; this network has heads 0 to 2"),
    ("rollout", {"block": 9}, "no block 9"),
    ("rollout", {"head": 1}, "rollout has no option head; figures with this option: attention$"),
    ("occlusion", {"token": "class"}, "has no option token; figures with this option: attention, rollout$"),
    ("attention", {"colour": 1}, "the figure attention has no option colour$"),
    ("veil", {}, "unknown figure 'veil'; expected one of filters, ")])
def test_what_does_not_fit(model, cat, name, options, message):
    with pytest.raises(ValueError, match=message):
        figure(name, model, cat, **options)


def test_a_network_without_class_token_has_no_row_for_it(cat):
    with pytest.raises(ValueError, match="no token 'class'; expected mean, or row,column in a grid of 6 rows and 6"):
        figure("attention", network("mean"), cat, token="class")


def test_models_that_cannot_be_shown(cat):
    model = network("hybrid")
    model.processor = None
    with pytest.raises(ValueError, match="ViTHybridForImageClassification came without an image processor"):
        figure("rollout", model, cat)
    state = model.state_dict()
    state["vit.embeddings.position_embeddings"][0, 3] = 0
    model.load_state_dict(state)
    with pytest.raises(ValueError, match="one position vector of this ViTHybridForImageClassification is a vector "
                                         "of zeros, which has no cosine"):
        figure("position-similarity", model)


# ---------------------------------------------------------------- the command line

def test_the_command_line_writes_a_figure(cat, tmp_path, capsys):
    target = tmp_path / "x.png"
    target.write_text("old")
    options = "--token 3,5 --block 3 --engine reference".split()
    assert main(["figures", "attention", str(cat), "-o", str(target), *options]) == 0
    printed = capsys.readouterr()
    with Image.open(target) as written:
        assert printed.out == (f"{target}: Attention of the cell in row 3, column 5, {written.width} pixels wide, "
                               f"{written.height} high\n") and printed.err == ""
    assert main(["figures", "filters", "-o", str(target), "--engine", "reference"]) == 0
    with Image.open(target) as written:
        assert written.text["Title"] == "Filters of the stem"


def test_a_figure_of_weights_does_not_read_the_picture(tmp_path):
    assert figure("filters", network("hybrid"), tmp_path / "nothing.png").boxes


def test_all_figures_are_those_that_are_drawn_one_by_one(cat, tmp_path, capsys):
    """A BiT has no transformer, which is said once for each figure of tokens."""
    network("bit").save_pretrained(tmp_path / "bit")
    options = ["--model", str(tmp_path / "bit"), "--engine", "reference"]
    assert main(["figures", "all", str(cat), "-o", str(tmp_path / "all"), "--layer", "0", *options]) == 0
    printed = capsys.readouterr()
    names = ["filters", "feature-maps", "occlusion", "saliency"]
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(f"{name}.png" for name in names)
    assert [line.partition(":")[0] for line in printed.out.splitlines()] == [f"{tmp_path}/all/{name}.png"
                                                                            for name in names]
    assert [line.split()[3] for line in printed.err.splitlines()] == [name for name in NAMES if name not in names]
    for name in names:
        assert main(["figures", name, str(cat), "-o", str(tmp_path / "x.png"), *options]) == 0
        assert (tmp_path / "x.png").read_bytes() == (tmp_path / "all" / f"{name}.png").read_bytes()


def test_all_figures_are_not_written_over_a_file(cat, tmp_path, capsys):
    (tmp_path / "file").write_text("old")
    assert main(["figures", "all", str(cat), "-o", str(tmp_path / "file")]) == 3
    assert "file cannot be written, because it exists and is not a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "old"


def test_all_figures_need_a_picture_before_the_first_is_written(tmp_path, capsys):
    assert main(["figures", "all", str(tmp_path / "no.png"), "-o", str(tmp_path / "all"), "--engine", "reference"]) == 3
    assert "no.png" in capsys.readouterr().err and not list((tmp_path / "all").iterdir())


@pytest.mark.parametrize("arguments, message", [
    (["rollout", "-o", "x.png"], "the figure rollout shows a picture: expected an IMAGE, found none"),
    (["all", "-o", "x"], "most figures show a picture: expected an IMAGE, found none"),
    (["all", "cat.png", "-o", "x.PNG"], "expected the name of a folder, found x.PNG"),
    (["filters", "-o", "x.png", "--block", "1"],
     "the figure filters has no option block; figures with this option: attention, rollout"),
    (["filters"], "required: -o/--output"), (["veil", "-o", "x.png"], "invalid choice: 'veil'")])
def test_usage(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["figures", *arguments])
    assert ended.value.code == 2 and message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_is_refused_leaves_the_old_file(cat, tmp_path, capsys):
    target = tmp_path / "x.png"
    target.write_text("old")
    network("bit").save_pretrained(tmp_path / "bit")
    for arguments, message in ((f"rollout {cat} -o {target} --model {tmp_path}/bit", "needs the tokens"),
                            (f"rollout {tmp_path}/no.png -o {target}", "no.png"),
                            (f"filters -o {tmp_path}/no/x.png",
                             f"no/x.png cannot be written, because the folder {tmp_path}/no does not exist\n"),
                            (f"filters -o {tmp_path}/x.jpg", "expected a name that ends in .png")):
        assert main(["figures", *arguments.split(), "--engine", "reference"]) == 3
        assert message in capsys.readouterr().err
    assert target.read_text() == "old" and sorted(path.name for path in tmp_path.iterdir()) == ["bit", "x.png"]
