"""The figures: their colours are the numbers, and the file is complete."""
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from nphybrid import (ViTHybridForImageClassification, ViTHybridImageProcessor, __version__, default_model,
                      open_picture)
from nphybrid.cli.figures import NAMES
from nphybrid.explain import figures, measures
from nphybrid.explain.colours import DIVERGING, SEQUENTIAL
from nphybrid.explain.figures import PICTURELESS, figure, save
from nphybrid.explain.scene import resized_and_cropped

from oracles.sights import network

pytestmark = pytest.mark.slow


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


# ---------------------------------------------------------------- the file

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
