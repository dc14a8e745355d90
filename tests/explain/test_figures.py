"""The figures: their colours are the numbers, their texts are complete and do not overlap, and what is refused."""
import itertools
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from nphybrid import (Config, ViTHybridForImageClassification, ViTHybridImageProcessor, __version__, default_model,
                      open_picture)
from nphybrid.cli import main
from nphybrid.cli.figures import NAMES
from nphybrid.explain import drawing, figures, measures
from nphybrid.explain.colours import DIVERGING, SEQUENTIAL
from nphybrid.explain.figures import PICTURELESS, figure, save
from nphybrid.explain.reading import cells_to_pixels, find_token
from nphybrid.explain.scene import resized_and_cropped

from oracles.sights import KINDS, network

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")


@pytest.fixture(scope="module")
def drawn(model, cat):
    """Figures of the bundled model, each drawn once."""
    kept = {}

    def draw(name, **options):
        key = name, *options.items()
        if key not in kept:
            kept[key] = figure(name, model, None if name in PICTURELESS else cat, **options)
        return kept[key]
    return draw


@pytest.fixture(scope="module")
def photograph(model, cat):
    return resized_and_cropped(open_picture(cat), ViTHybridImageProcessor.from_dict(model.processor))


@pytest.fixture(scope="module")
def trace(model, cat):
    processor = ViTHybridImageProcessor.from_dict(model.processor)
    return model.trace(processor(open_picture(cat), return_tensors="np").pixel_values)


@pytest.fixture(scope="module")
def weights(trace):
    return measures.attention(trace, 4)


# ---------------------------------------------------------------- colours back to numbers

def centres(drawn, what, rows, columns):
    """The colours in the middle of each cell of a map.  -> (rows, columns, 3)"""
    left, top, right, bottom = drawn.boxes[what]
    return np.array([[drawn.image.getpixel((int(left + (j + 0.5) * (right - left) / columns),
                                            int(top + (i + 0.5) * (bottom - top) / rows)))
                      for j in range(columns)] for i in range(rows)])


def shares(colours, scale):
    """The place of each colour on a scale, from 0 for its first to 1 for its last, to about 0.003."""
    stops = np.array([[int(stop[i:i + 2], 16) for i in (0, 2, 4)] for stop in scale], float)
    along = np.linspace(0, 1, 2001)
    table = np.stack([np.interp(along * (len(stops) - 1), np.arange(len(stops)), stops[:, i]) for i in range(3)], -1)
    away = np.abs(colours[..., None, :] - table).sum(-1)
    assert away.min(-1).max() <= 3, "a colour that is not of this scale"
    return along[away.argmin(-1)]


def numbers(drawn, what, rows, columns, low, high, scale=SEQUENTIAL, power=1):
    """The numbers that a map on a sheet shows."""
    return low + (high - low) * shares(centres(drawn, what, rows, columns), scale) ** (1 / power)


def ends(text):
    """The numbers at the ends of a colour bar, as the description gives them."""
    return tuple(float(end) for end in re.search(r"[Cc]olours from (-?[\d.]+) to (-?[\d.]*\d)", text).groups())


def test_filters_are_the_standardized_kernels(model, drawn):
    shown = drawn("filters")
    kernels = model.state_dict()["vit.embeddings.patch_embeddings.backbone.bit.embedder.convolution.weight"]
    assert kernels.shape == (64, 3, 7, 7) and len(shown.boxes) == 64
    for i, kernel in enumerate(kernels):
        centred = kernel - kernel.mean()
        bright = centres(shown, f"filter {i}", 7, 7) / 127.5 - 1
        np.testing.assert_allclose(bright, (centred / np.abs(centred).max()).transpose(1, 2, 0), atol=0.006)


def test_feature_maps_are_those_that_vary_most(trace, drawn):
    shown = drawn("feature-maps")
    for stage, state in ("stem", "stem"), ("stage 0", "stages.0.1"), ("stage 1", "stages.1.1"):
        x = trace[state][0]
        channels = [int(what.split()[-1]) for what in shown.boxes if what.startswith(f"{stage} channel")]
        rest = np.delete(x.var((0, 1)), channels)
        assert len(channels) == 16 and x.var((0, 1))[channels].min() >= rest.max()
        low, high = ends(shown.description.split(f"{stage}: ")[1])
        assert low == 0 and high >= x[..., channels].max() >= 0.75 * high
        for c in channels:
            found = numbers(shown, f"{stage} channel {c}", *x.shape[:2], low, high)
            np.testing.assert_allclose(found, x[..., c], atol=0.005 * high)


def test_positions(model, drawn):
    shown = drawn("position-similarity")
    alike = measures.position_similarity(model.learned().tokens.positions, (8, 8))
    assert ends(shown.description) == (-1, 1) and len(shown.boxes) == 64
    for i, j in itertools.product(range(8), range(8)):
        found = numbers(shown, f"row {i} column {j}", 8, 8, -1, 1, DIVERGING)
        np.testing.assert_allclose(found, alike[8 * i + j].reshape(8, 8), atol=0.01)


@pytest.mark.parametrize("token, rows", [(None, [0]), ("class", [0]), ("3,5", [1 + 3 * 8 + 5]), ("mean", range(1, 65))])
def test_attention_shows_the_rows_of_the_token(weights, drawn, token, rows):
    shown = drawn("attention", **({"token": token} if token else {}))
    low, high = ends(shown.description)
    assert low == 0 and len(shown.boxes) == 4 * 3 + 1
    for l, a in itertools.product(range(4), range(3)):
        found = numbers(shown, f"block {l} head {a}", 8, 8, low, high, power=0.5)
        expected = weights[l, a][list(rows)].mean(0)[1:].reshape(8, 8)
        np.testing.assert_allclose(found, expected, atol=0.008 * high)


@pytest.mark.parametrize("options, maps", [
    ({"block": 2}, [(2, 0), (2, 1), (2, 2)]), ({"head": 1}, [(0, 1), (1, 1), (2, 1), (3, 1)]),
    ({"block": 3, "head": 2}, [(3, 2)])])
def test_attention_of_one_block_or_head_is_larger(weights, drawn, options, maps):
    shown, whole = drawn("attention", **options), drawn("attention")
    assert list(shown.boxes) == ["photograph"] + [f"block {l} head {a}" for l, a in maps]
    low, high = ends(shown.description)
    for l, a in maps:
        found = numbers(shown, f"block {l} head {a}", 8, 8, low, high, power=0.5)
        np.testing.assert_allclose(found, weights[l, a, 0, 1:].reshape(8, 8), atol=0.008 * high)
        left, top, right, bottom = shown.boxes[f"block {l} head {a}"]
        before = whole.boxes[f"block {l} head {a}"]
        assert right - left == bottom - top >= before[2] - before[0]


def test_attention_outlines_the_cell(drawn):
    left, top, right, bottom = drawn("attention", token="3,5").boxes["photograph"]
    x, y = left + 5 * (right - left) / 8, top + 3 * (bottom - top) / 8
    image = drawn("attention", token="3,5").image
    corners = [(x - 2, y - 2), (x + (right - left) / 8 + 1, y - 2), (x - 2, y + (bottom - top) / 8 + 1)]
    assert {image.getpixel((round(x), round(y))) for x, y in corners} == {(0xd5, 0x5e, 0)}


def test_attention_distance_stands_at_its_height(weights, drawn):
    shown = drawn("attention-distance")
    far = measures.attention_distance(weights, (8, 8), (8, 8))
    heights = np.array([[(shown.boxes[f"block {l} head {a}"][1] + shown.boxes[f"block {l} head {a}"][3] - 1) / 2
                         for a in range(3)] for l in range(4)])
    per_pixel, ground = np.polyfit(far.ravel(), heights.ravel(), 1)
    np.testing.assert_allclose(heights, ground + per_pixel * far, atol=0.6)
    across = [shown.boxes[f"block {l} head {a}"][0] for l in range(4) for a in range(3)]
    assert per_pixel < 0 and across == sorted(across)
    for box in shown.boxes.values():
        assert box == shown.boxes["photograph"] or (np.asarray(shown.image.crop(box)) == [0, 0x72, 0xb2]).all(-1).any()
    # The axis is where 0 is, and the dashes where uniform attention would be.
    column = np.asarray(shown.image)[:, across[0] - 40]
    assert column[round(ground)].max() < 0x40
    dashes = np.asarray(shown.image)[round(ground + per_pixel * measures.distances((8, 8), (8, 8)).mean())]
    assert (dashes == 0x59).all(-1).sum() > 500


def test_rollout_of_the_last_block_and_of_another(weights, drawn):
    rolled = measures.rollout(weights)
    for options, expected in (({}, rolled[-1, 0]), ({"block": 1, "token": "7,0"}, rolled[1, 1 + 56]),
                              ({"token": "mean"}, rolled[-1, 1:].mean(0))):
        shown = drawn("rollout", **options)
        low, high = ends(shown.description)
        found = numbers(shown, "rollout", 8, 8, low, high)
        np.testing.assert_allclose(found, expected[1:].reshape(8, 8), atol=0.005 * high)


def test_the_rollout_dims_the_picture_between_cells(weights, drawn, photograph):
    cells = measures.rollout(weights)[-1, 0, 1:].reshape(8, 8)
    places = np.clip((np.arange(64) + 0.5) / 8 - 0.5, 0, 7)
    first = np.minimum(places.astype(int), 6)
    part = places - first
    rows = cells[first] * (1 - part[:, None]) + cells[first + 1] * part[:, None]
    smooth = rows[:, first] * (1 - part) + rows[:, first + 1] * part
    np.testing.assert_allclose(centres(drawn("rollout"), "veil", 64, 64),
                               photograph * smooth[..., None] / cells.max(), atol=0.6)
    assert (centres(drawn("rollout"), "photograph", 64, 64) == photograph).all()


@pytest.mark.slow
def test_occlusion_shows_what_is_lost(model, trace, drawn, photograph):
    shown = drawn("occlusion")
    low, high = ends(shown.description)
    assert low == -high and "“cat”" in shown.title and "16 x 16 pixels" in shown.description

    x = np.repeat(trace["pixel_values"], 82, axis=0)
    for place, (i, j) in enumerate(itertools.product(range(9), range(9))):
        x[place, max(8 * i - 8, 0):8 * i + 8, max(8 * j - 8, 0):8 * j + 8] = 0
    odds = np.exp(model(x.transpose(0, 3, 1, 2)).logits)
    probability = odds[:, 3] / odds.sum(-1)
    fall = dict(zip(itertools.product(range(9), range(9)), probability[81] - probability[:81]))
    found = shares(centres(shown, "fall", 64, 64), DIVERGING) * 2 * high - high
    for (i, j), expected in fall.items():
        # Of the places on the edge half is on the sheet.
        assert found[min(8 * i, 63), min(8 * j, 63)] == pytest.approx(expected, abs=0.01 * high)
    i, j = max(fall, key=fall.get)
    hidden, square = centres(shown, "hidden", 64, 64), np.zeros((64, 64), bool)
    square[max(8 * i - 8, 0):8 * i + 8, max(8 * j - 8, 0):8 * j + 8] = True
    assert (hidden[square] == 128).all() and (hidden[~square] == photograph[~square]).all()


def test_saliency_is_the_slope_of_the_logit(model, trace, drawn):
    """Central differences of the logit of "cat" for some pixels, in float64."""
    shown = drawn("saliency")
    low, high = ends(shown.description)
    assert low == 0 and "“cat”" in shown.title
    found = numbers(shown, "saliency", 64, 64, low, high, power=0.5)
    exact = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference", dtype="float64")
    x = trace["pixel_values"].transpose(0, 3, 1, 2).astype(np.float64)
    largest = np.unravel_index(found.argmax(), found.shape)
    for i, j in (largest, (0, 0), (31, 17), (40, 63)):
        moved = np.repeat(x, 6, axis=0)
        for c in range(3):
            moved[2 * c, c, i, j] += 1e-4
            moved[2 * c + 1, c, i, j] -= 1e-4
        logits = exact(moved).logits[:, 3]
        slope = np.abs((logits[::2] - logits[1::2]) / 2e-4).max()
        assert found[i, j] == pytest.approx(slope, abs=0.01 * high)


# ---------------------------------------------------------------- the sheet

@pytest.mark.parametrize("name", NAMES)
def test_the_file(name, drawn, tmp_path):
    save(drawn(name), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as written:
        assert written.format == "PNG" and written.mode == "RGB" and 2000 <= written.width <= 2400
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        title, description = written.text["Title"], written.text["Description"]
        assert written.text["Software"] == f"nphybrid {__version__}"
        assert (np.asarray(written) == np.asarray(drawn(name).image)).all()
    assert title == drawn(name).title and description.startswith(f"{title}. ") and len(description) > 150
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


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


@pytest.mark.parametrize("kind, first", [("wide", 1), ("mean", 0)])
def test_what_the_head_reads_by_default(kind, first, cat):
    """A grid that is not square, and a network whose head reads the mean of its cells."""
    model = network(kind)
    processor = ViTHybridImageProcessor.from_dict(model.processor)
    trace = model.trace(processor(open_picture(cat), return_tensors="np").pixel_values)
    weights, grid = measures.attention(trace, 3), model.network_config.grid
    assert grid == {"wide": (3, 5), "mean": (6, 6)}[kind]
    for name, found in ("attention", weights[2, 1]), ("rollout", measures.rollout(weights)[-1]):
        shown = figure(name, model, cat)
        low, high = ends(shown.description)
        row = found[0] if kind == "wide" else found.mean(0)
        seen_numbers = numbers(shown, {"attention": "block 2 head 1"}.get(name, name), *grid, low, high,
                               power={"attention": 0.5}.get(name, 1))
        np.testing.assert_allclose(seen_numbers, row[first:].reshape(grid), atol=0.008 * high)


def test_a_head_that_reads_the_mean_reads_no_class_token():
    config = Config(image=(64, 96), pool="mean")
    assert config.class_token and config.tokens == 25
    row, words, place = find_token(config)
    assert (row == [0] + [1 / 24] * 24).all() and words == "all cells, on average" and place is None
    assert find_token(config, "class").row[0] == 1 and find_token(config, "3,2").row[1 + 3 * 6 + 2] == 1


def test_filters_beyond_sixty_four_are_left_out(monkeypatch):
    monkeypatch.setattr(figures, "FILTERS", 5)
    shown = figure("filters", network("hybrid"))
    assert list(shown.boxes) == [f"filter {i}" for i in range(5)] and "The first 5 of 8 kernels" in shown.description


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
    with pytest.raises(ValueError, match="one position of this ViTHybridForImageClassification is a vector of zeros, "
                                         "which has no cosine"):
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


def test_a_disk_that_is_full_leaves_the_old_file(drawn, tmp_path, monkeypatch):
    def half(image, path, *args, **options):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("no space left on device")
    (tmp_path / "x.png").write_text("old")
    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="no space"):
        save(drawn("filters"), tmp_path / "x.png")
    with pytest.raises(ValueError, match="x.jpg: a figure is written as a PNG; expected a name that ends in .png"):
        save(drawn("filters"), tmp_path / "x.jpg")
    assert (tmp_path / "x.png").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_the_names_are_those_of_the_table():
    assert NAMES == tuple(figures.FIGURES)
