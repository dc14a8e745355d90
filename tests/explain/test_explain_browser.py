"""The page in a browser: it loads nothing, and its pictures and texts show what is chosen."""
import re

import numpy as np
import pytest

from nphybrid import ViTConfig, ViTForImageClassification, ViTHybridImageProcessor, default_model, open_picture
from nphybrid.api.load import load
from nphybrid.explain import colours, measures, scene
from nphybrid.explain.page import page

from oracles import sights

selenium = pytest.importorskip("selenium.webdriver")
browsers = pytest.importorskip("tools.browser")
from tools.explained import (check_layout, click, drawn, hover, opened, press, requested, says,  # noqa: E402
                             settled, shown)

pytestmark = [pytest.mark.slow, browsers.NEEDED]


@pytest.fixture(scope="module")
def cat(root):
    return open_picture(root / "examples" / "images" / "cat.png")


@pytest.fixture(scope="module")
def tiny(cat):
    """The bundled model, its trace of the cat, and the learned arrays."""
    model = load(default_model(), engine="reference")
    x = ViTHybridImageProcessor.from_dict(model.processor)(cat, return_tensors="np").pixel_values
    return model, model.trace(x), model.learned()


@pytest.fixture(scope="module")
def weights(tiny):
    return measures.attention(tiny[1], 4)


@pytest.fixture(scope="module")
def files(tiny, cat, tmp_path_factory):
    """{kind: address} of a page for every kind of network."""
    folder, found = tmp_path_factory.mktemp("pages"), {}
    for kind in ("tiny", *sights.KINDS):
        model = tiny[0] if kind == "tiny" else sights.network(kind)
        name = '<img src="x" onerror="alert(1)">'
        if model.has_head and kind != "tiny":
            model.config.id2label = {i: f"{name} {i}" for i in model.config.id2label}
        (folder / f"{kind}.html").write_text(page(model, cat, "cat.png" if kind == "tiny" else name), "utf-8")
        found[kind] = (folder / f"{kind}.html").as_uri()
    return found


def same_colours(found, values, low, high, scale=colours.SEQUENTIAL):
    """Within two of 255, everywhere; and the picture is not of one colour, so that another row would differ."""
    expected = colours.coloured(values, low, high, scale).astype(int)
    return np.abs(found - expected).max() <= 2 and np.ptp(expected, axis=(0, 1)).max() > 60


# ------------------------------------------------------------------ the page as a whole

@pytest.mark.parametrize("kind", ["tiny", *sights.KINDS])
def test_the_page_opens_and_asks_for_nothing(browser, files, kind):
    opened(browser, files[kind])
    assert browser.get_log("browser") == []
    asked = requested(browser)
    assert files[kind] in asked and [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert asked.count(files[kind]) == len([url for url in asked if url.startswith("file:")]) == 1
    sections = browser.execute_script("return [...document.querySelectorAll('main > section')].map((s) => s.id)")
    assert sections[0] == "photograph" and ("attention" in sections) == (kind != "bit")


def test_a_request_would_be_seen(browser, files):
    """The test above can fail: the policy of the page refuses a picture from another address, and the log shows it."""
    opened(browser, files["tiny"])
    browser.execute_script("document.body.append(Object.assign(new Image(), {src: 'http://localhost:9/x.png'}))")
    settled(browser)
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("kind", ["wide", "bit"])                        # "tiny": see test_whole_page.py
@pytest.mark.parametrize("width", [390, 861, 1280, 1920])
def test_nothing_scrolls_sideways_and_nothing_overlaps(browser, files, kind, width):
    opened(browser, files[kind], width)
    check_layout(browser, width)


def test_every_picture_has_a_text(browser, files):
    opened(browser, files["tiny"])
    texts = browser.execute_script("""return [...document.querySelectorAll("main canvas, main svg")].map((node) =>
        [node.id, node.getAttribute("aria-label"), node.getAttribute("role")])""")
    assert len(texts) > 20
    assert all(label and len(label) > 7 and role in ("img", "application") for _, label, role in texts)
    reached = browser.execute_script("""return [...document.querySelectorAll("[role=application]")].every(
        (node) => node.tabIndex === 0)""")
    assert reached


# ------------------------------------------------------------------ what the page shows at first

@pytest.mark.parametrize("kind", ["tiny", "wide", "mean"])
def test_the_page_opens_on_what_the_classifier_reads(browser, files, tiny, cat, kind):
    """The token that the classifier reads, and the head that adds the longest vector to it."""
    opened(browser, files[kind])
    model = tiny[0] if kind == "tiny" else sights.network(kind)
    x = ViTHybridImageProcessor.from_dict(model.processor)(cat, return_tensors="np").pixel_values
    config, p = model.network_config, model.learned()
    last, lengths = config.blocks - 1, []
    context = model.trace(x)[f"blocks.{last}.context"][0].astype(np.float64)
    for head in range(config.heads):
        alone = np.where(np.arange(config.width) // config.head_width == head, context, 0)
        added = alone @ p.blocks[last].out.kernel
        lengths.append(np.linalg.norm(added.mean(0) if kind == "mean" else added[0]))
    token = r"token \d+ \(row \d, column \d\)" if kind == "mean" else "the class token"
    opening = f"Block {last}, head {np.argmax(lengths)}: {token} gives the weight"
    assert re.match(opening, says(browser, "attention-says"))


# ------------------------------------------------------------------ touching

def test_hovering_a_token_shows_its_row(browser, files, weights):
    opened(browser, files["tiny"])
    click(browser, "attention-heads", 3, 0, 4, 3)
    for row, column in ((1, 6), (7, 0), (4, 4)):
        hover(browser, "attention-query", row, column, 8, 8)
        token, given = 1 + row * 8 + column, weights[3, 0, 1 + row * 8 + column]
        assert f"Block 3, head 0: token {token} (row {row}, column {column}) gives" in says(browser, "attention-says")
        assert same_colours(drawn(browser, "attention-keys", 8, 8), given[1:].reshape(8, 8), 0, given[1:].max())
        assert f"{100 * given[0]:.2f} % to the class token" in says(browser, "attention-says")


def test_the_pointer_previews_and_a_click_keeps(browser, files):
    """On its way from a chosen token to a head, the pointer crosses other tokens."""
    opened(browser, files["tiny"])
    click(browser, "attention-query", 1, 2, 8, 8)
    assert "token 11 (row 1, column 2)" in says(browser, "attention-says")
    hover(browser, "attention-query", 5, 5, 8, 8)
    assert "token 46 (row 5, column 5)" in says(browser, "attention-says")
    for row in (6, 7):
        hover(browser, "attention-query", row, 2, 8, 8)
    click(browser, "attention-heads", 1, 2, 4, 3)
    assert "Block 1, head 2: token 11 (row 1, column 2)" in says(browser, "attention-says")
    shown(browser, "top")
    selenium.ActionChains(browser).move_to_element(browser.find_element("tag name", "h1")).perform()
    settled(browser)
    assert "Block 1, head 2: token 11 (row 1, column 2)" in says(browser, "attention-says")


def test_keys_go_through_blocks_and_heads(browser, files, weights):
    opened(browser, files["tiny"])
    click(browser, "attention-heads", 3, 0, 4, 3)
    click(browser, "attention-query", 2, 5, 8, 8)
    layer, head = 3, 0
    for keys, layer, head in ((["arrow_up"], 2, 0), (["arrow_right", "arrow_right"], 2, 2), (["arrow_up"] * 5, 0, 2),
                              (["arrow_left", "arrow_down"], 1, 1)):
        press(browser, "attention-heads", *keys)
        given = weights[layer, head, 1 + 2 * 8 + 5]
        assert f"Block {layer}, head {head}: token 22" in says(browser, "attention-says")
        assert same_colours(drawn(browser, "attention-keys", 8, 8), given[1:].reshape(8, 8), 0, given[1:].max())
    # The picture's own keys move the token, and the class token has its button.
    press(browser, "attention-query", "arrow_down", "arrow_left")
    assert "Block 1, head 1: token 29 (row 3, column 4)" in says(browser, "attention-says")
    press(browser, "attention-class", "enter")
    given = weights[1, 1, 0]
    assert "the class token gives the weight" in says(browser, "attention-says")
    assert same_colours(drawn(browser, "attention-keys", 8, 8), given[1:].reshape(8, 8), 0, given[1:].max())


def test_the_table_of_heads_shows_every_head(browser, files, weights):
    opened(browser, files["tiny"])
    click(browser, "attention-query", 0, 3, 8, 8)
    found = drawn(browser, "attention-heads", 32, 24, corner=0.5).reshape(4, 8, 3, 8, 3).transpose(0, 2, 1, 3, 4)
    for layer in range(4):
        for head in range(3):
            given = weights[layer, head, 4, 1:].reshape(8, 8)
            assert same_colours(found[layer, head][1:-1, 1:-1], given[1:-1, 1:-1], 0, given.max()), (layer, head)


def test_a_chosen_cell_is_chosen_everywhere(browser, files):
    opened(browser, files["tiny"])
    click(browser, "positions-all", 6, 2, 8, 8)
    for element in ("tokens-says", "positions-says", "attention-says"):
        assert "token 51 (row 6, column 2)" in says(browser, element)


def test_the_stem_is_computed(browser, files, tiny):
    opened(browser, files["tiny"])
    click(browser, "stem-filters", 5, 3, 8, 8)
    for row, column in ((0, 0), (31, 31), (12, 20)):
        click(browser, "stem-response", row, column, 32, 32)
        value = float(says(browser, "stem-value"))
        assert abs(value - tiny[1]["stem.conv"][0, row, column, 5 * 8 + 3]) < 6e-4
    found = tiny[1]["stem.conv"][0, :, :, 43]
    most = np.abs(found).max()
    shown = drawn(browser, "stem-response", 32, 32, corner=0.5)
    away = np.ones((32, 32), bool)
    away[10:15, 18:23] = False                                    # the frame
    expected = colours.coloured(found, -most, most, colours.DIVERGING).astype(int)
    assert np.abs(shown - expected)[away].max() <= 2


def test_stages_tokens_and_positions_show_the_numbers(browser, files, tiny):
    _, trace, p = tiny
    opened(browser, files["tiny"])
    click(browser, "stages-1", 1, 2, 2, 8)
    click(browser, "stages-map", 3, 6, 8, 8)
    channel = np.argsort(-trace["stages.1.1"][0].var((0, 1)), kind="stable")[10]
    text = says(browser, "stages-says")
    assert text.startswith(f"Stage 1, channel {channel}, row 3, column 6: ")
    state = trace["stages.1.1"][0, :, :, channel]
    assert abs(float(text.split(": ")[1]) - state[3, 6]) < state.max() / 500 + 6e-4

    click(browser, "tokens-grid", 1, 1, 8, 8)
    click(browser, "tokens-sum", 0, 100, 1, 192)
    text = says(browser, "tokens-says")
    assert text.startswith("Number 100 of token 10 (row 1, column 1): ")
    a, b, c = map(float, text.split(": ")[1].replace("=", "+").split(" + "))
    assert abs(c - trace["tokens"][0, 10, 100]) < 2e-3 and abs(b - p.tokens.positions[10, 100]) < 2e-3
    assert abs(a + b - c) < 2e-3

    click(browser, "positions-one", 7, 7, 8, 8)
    alike = measures.position_similarity(p.tokens.positions, (8, 8))
    assert abs(float(says(browser, "positions-says").split("cosine ")[1]) - alike[9, 63]) < 0.011


def test_one_weight_by_hand_is_the_weight(browser, files, weights):
    opened(browser, files["tiny"])
    click(browser, "attention-query", 5, 5, 8, 8)
    click(browser, "attention-heads", 2, 1, 4, 3)
    click(browser, "weight-key", 2, 3, 8, 8)
    value = float(says(browser, "weight-sum").split("exp / sum")[1].rstrip(" %")) / 100
    assert abs(value - weights[2, 1, 1 + 45, 1 + 19]) < 6e-5
    assert f"gives the weight {100 * weights[2, 1, 46, 20]:.2f} %" in says(browser, "attention-says")


def test_distance_rollout_and_logit_lens(browser, files, tiny, weights):
    model, trace, p = tiny
    opened(browser, files["tiny"])
    far = measures.attention_distance(weights, (8, 8), (8, 8))
    shown(browser, "distance-chart")
    press(browser, "distance-chart", "arrow_left", "arrow_left", "arrow_left", "arrow_left")
    assert says(browser, "distance-says") == f"Block 2, head 1: mean distance {far[2, 1]:.1f} pixels"
    dots = browser.execute_script("""return [...document.querySelectorAll("#distance-chart circle")].map((dot) =>
        [dot.dataset.head, Number(dot.getAttribute("cy"))])""")
    assert dots[-1][0] == "2 1"                                    # drawn over the others
    heights = np.array([y for _, y in sorted(dots)])
    assert sorted(name for name, _ in dots) == [f"{l} {h}" for l in range(4) for h in range(3)]
    assert np.corrcoef(heights, far.reshape(-1))[0, 1] < -0.99999

    uniform = measures.distances((8, 8), (8, 8)).mean()
    level = float(browser.find_element("css selector", "#distance-chart .uniform").get_attribute("y1"))
    slope = (heights[1] - heights[0]) / (far[0, 1] - far[0, 0])
    assert abs(heights[0] + slope * (uniform - far[0, 0]) - level) < 0.2

    states = [trace["tokens"]] + [trace[f"blocks.{l}"] for l in range(4)]
    lens = measures.logit_lens(states, p, model.network_config, model.ops)[:, 0].astype(np.float64)
    scores = np.exp(lens) / np.exp(lens).sum(1, keepdims=True)
    best = np.argsort(-scores[-1])[:5]
    shown(browser, "logit_lens-chart")
    lines = browser.execute_script("""return [...document.querySelectorAll("#logit_lens-chart polyline")].map((line) =>
        [...line.points].map(({ y }) => y))""")
    levels = browser.find_elements("css selector", "#logit_lens-chart line")
    bottom, top = (float(levels[i].get_attribute("y1")) for i in (0, 4))
    assert np.abs((bottom - np.array(lines)) / (bottom - top) - scores[:, best].T).max() < 1e-4

    rolled = np.concatenate([np.eye(65)[:1], measures.rollout(weights)[:, 0]])
    for depth in (4, 3, 2, 0):
        press(browser, "logit_lens-chart", *["arrow_left"] * (4 - depth and 1 + (depth == 0)))
        values, when = rolled[depth, 1:].reshape(8, 8), f"After {depth} blocks" if depth else "Before the first block"
        if depth:
            assert same_colours(drawn(browser, "rollout-map", 8, 8, corner=0.3), values, 0, values.max())
        click(browser, "rollout-map", 2, 7, 8, 8)
        assert says(browser, "rollout-says").startswith(f"{when}, {100 * rolled[depth, 24]:.2f} %")
        assert says(browser, "logit_lens-says") == (f"{when}, the best of 10 labels is "
                                              f"{model.config.id2label[int(scores[depth].argmax())]}, "
                                              f"with a score of {scores[depth].max():.4f}")
        shown(browser, "logit_lens-bars")
        bars = browser.execute_script("""return [...document.querySelectorAll("#logit_lens-bars rect")].map((bar) =>
            Number(bar.getAttribute("width")))""")
        assert np.allclose(np.array(bars) / bars[0], scores[depth, best] / scores[depth, best[0]], atol=0.01)
    press(browser, "rollout-depth", "arrow_right")
    assert says(browser, "rollout-says").startswith("After 1 block, ")
    widths = browser.execute_script("""return [...document.querySelectorAll("#answer .answer i")].map((bar) =>
        bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width)""")
    assert np.allclose(widths, np.maximum(scores[-1, best], 0.004), atol=2e-3)


def test_a_pixel_shows_its_numbers(browser, files, tiny):
    opened(browser, files["tiny"])
    click(browser, "photograph-input", 10, 50, 64, 64)
    text = says(browser, "photograph-says")
    sums = re.findall(r"\((\d+) / 255 - 0\.5\) / 0\.5 = (-?[\d.]+)", text)
    assert text.startswith("Row 10, column 50") and len(sums) == 3
    truth = tiny[1]["pixel_values"][0, 10, 50]
    assert np.abs(np.array([float(value) for _, value in sums]) - truth).max() < 6e-4
    assert np.abs((np.array([int(byte) for byte, _ in sums]) / 255 - 0.5) / 0.5 - truth).max() < 1e-6


def opened_wide(browser, cat, tmp_path):
    """A network whose grid is 3 x 5; its page.  -> trace of the cat, learned arrays"""
    model = sights.network("wide")
    (tmp_path / "page.html").write_text(page(model, cat), "utf-8")
    opened(browser, (tmp_path / "page.html").as_uri())
    x = ViTHybridImageProcessor.from_dict(model.processor)(cat, return_tensors="np").pixel_values
    return model.trace(x), model.learned()


def test_where_keys_are_added_up_a_cell_shows_their_sum(browser, cat, tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "EXACT_BYTES", 0)
    monkeypatch.setattr(scene, "MAX_BYTES", 3 * 2 * 16 * 6)            # 2 x 3 sums, the last of them of fewer
    trace, _ = opened_wide(browser, cat, tmp_path)
    click(browser, "attention-heads", 2, 0, 3, 2)
    cells = measures.attention(trace, 3)[2, 0, 1 + 7, 1:].reshape(3, 5)
    sums = [[cells[i:i + 2, j:j + 2].sum() for j in (0, 2, 4)] for i in (0, 2)]
    click(browser, "attention-query", 1, 2, 3, 5)
    found = drawn(browser, "attention-keys", 3, 5, corner=0.3)
    expected = np.repeat(np.repeat(sums, 2, 0), 2, 1)[:3, :5]
    assert same_colours(found, expected, 0, np.max(sums))
    click(browser, "attention-keys", 2, 4, 3, 5)
    value = float(says(browser, "attention-says").split("gives the weight ")[1].split(" %")[0]) / 100
    assert abs(value - sums[1][2]) < np.max(sums) / 510 + 6e-4


def test_the_pictures_of_a_wide_network(browser, cat, tmp_path):
    """Rows are not columns: what is drawn, read back where a grid is 3 x 5 and the picture 24 x 40."""
    trace, p = opened_wide(browser, cat, tmp_path)
    click(browser, "attention-heads", 2, 0, 3, 2)
    weights = measures.attention(trace, 3)
    picture = ViTHybridImageProcessor.from_dict(sights.network("wide").processor)(
        cat, do_rescale=False, do_normalize=False, return_tensors="np").pixel_values[0].transpose(1, 2, 0).astype(int)

    found = drawn(browser, "photograph-input", 24, 40, corner=0.5)
    away = np.ones((24, 40), bool)
    away[10:15, 18:23] = False                                    # the frame around the pixel in the middle
    assert np.abs(found - picture)[away].max() <= 1 and np.ptp(picture) > 150

    click(browser, "attention-query", 2, 1, 3, 5)
    given = weights[2, 0, 1 + 11, 1:].reshape(3, 5)
    assert same_colours(drawn(browser, "attention-keys", 3, 5, corner=0.3), given, 0, given.max())
    found = drawn(browser, "attention-query", 24, 40, corner=0.5)
    darkness = 0.9 * (1 - np.kron(given, np.ones((8, 8))) / given.max())[:, :, None]
    expected = picture * (1 - darkness) + np.array([12, 10, 8]) * darkness
    away = np.ones((24, 40), bool)
    away[15:, 7:17] = False
    assert np.abs(found - expected)[away].max() <= 3

    alike = measures.position_similarity(p.tokens.positions, (3, 5))
    most = np.abs(alike[~np.eye(15, dtype=bool)]).max()
    found = drawn(browser, "positions-one", 3, 5, corner=0.3)
    expected = colours.coloured(alike[11].reshape(3, 5), -most, most, colours.DIVERGING).astype(int)
    assert np.abs(found - expected).max() <= 6                    # cosines are kept in 8 bits
    small = drawn(browser, "positions-all", 9, 25, corner=0.5).reshape(3, 3, 5, 5, 3).transpose(0, 2, 1, 3, 4)
    middles = colours.coloured(alike[:, 7].reshape(3, 5), -most, most, colours.DIVERGING).astype(int)
    assert np.abs(small[:, :, 1, 2] - middles).max() <= 6         # of each small map the cell in the middle

    rolled = measures.rollout(weights)[-1, 0, 1:].reshape(3, 5)
    assert same_colours(drawn(browser, "rollout-map", 3, 5, corner=0.3), rolled, 0, rolled.max())

    click(browser, "stages-1", 0, 6, 2, 8)
    state = trace["stages.1.1"][0]
    channel = state[:, :, np.argsort(-state.var((0, 1)), kind="stable")[6]]
    assert same_colours(drawn(browser, "stages-map", *channel.shape, corner=0.3), channel, 0, channel.max())
    click(browser, "stages-photo", 2, 3, *channel.shape)
    assert says(browser, "stages-says").split(": ")[0].endswith("row 2, column 3")


def test_filters_and_small_responses(browser, files, tiny):
    """Every seventh of them: the filter's taps, and its responses."""
    opened(browser, files["tiny"])
    taps, found = tiny[2].stem.conv, drawn(browser, "stem-filters", 8, 8, corner=0.5)
    for i in range(1, 64, 7):                                     # the frame is around filter 0
        kernel = taps[3, 3, :, i] / np.abs(taps[..., i]).max()
        assert np.abs(found[i // 8, i % 8] - (127.5 + 127.5 * kernel)).max() <= 1.01, i
    responses = tiny[1]["stem.conv"][0]
    found = drawn(browser, "stem-responses", 8, 8, corner=0.5)
    for i in range(1, 64, 7):
        around = responses[15:17, 15:17, i].reshape(-1)           # the middle of a map lies between four cells
        most = np.abs(responses[..., i]).max()
        colour, here = colours.coloured(around, -most, most, colours.DIVERGING).astype(int), found[i // 8, i % 8]
        assert (colour.min(0) - 3 <= here).all() and (here <= colour.max(0) + 3).all(), i


def test_strips_and_legends(browser, files, tiny):
    _, trace, p = tiny
    opened(browser, files["tiny"])
    click(browser, "tokens-all", 40, 0, 65, 1)
    for name, values in (("sum", trace["tokens"][0, 40]), ("position", p.tokens.positions[40])):
        found = drawn(browser, f"tokens-{name}", 1, 192, corner=0.5)[0, 4:]
        most = np.abs(values).max()
        expected = colours.coloured(values, -most, most, colours.DIVERGING).astype(int)[4:]
        assert np.median(np.abs(found - expected)) <= 1 and np.abs(found - expected[::-1]).max() > 100
        assert says(browser, f"tokens-{name}-most") == f"\u00b1 {most:.2f}"
    weights = measures.attention(trace, 4)[3, 2, 40, 1:]
    low, high = (node.text.replace("\u202f", " ") for node in
                 browser.find_elements("css selector", "#attention-legend span"))
    assert (low, high) == ("0.00 %", f"{100 * weights.max():.2f} %")
    gradient = browser.find_element("css selector", "#attention-legend i").value_of_css_property("background-image")
    ends = [tuple(map(int, found)) for found in re.findall(r"rgb\((\d+), (\d+), (\d+)\)", gradient)]
    assert ends == [colours.rgb(colour) for colour in colours.SEQUENTIAL]


def test_pixels_that_no_patch_covers_are_not_drawn(browser, cat, tmp_path):
    """In 50 x 61 pixels lie 6 x 7 patches of 8: cells are 8 pixels wide on the page as well."""
    config = ViTConfig(image_size=[50, 61], patch_size=8, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
                       intermediate_size=32)
    model = ViTForImageClassification(config, engine="reference")
    model.processor = ViTHybridImageProcessor(size={"height": 50, "width": 61}, do_center_crop=False)
    (tmp_path / "page.html").write_text(page(model, cat), "utf-8")
    opened(browser, (tmp_path / "page.html").as_uri())
    click(browser, "attention-query", 44, 30, 50, 61)             # a pixel of row 44, column 30
    assert "row 5, column 3" in says(browser, "attention-says")
    found = drawn(browser, "attention-keys", 50, 61, corner=0.5)
    assert (found[:48, :56].sum(-1) > 0).all() and (found[49:] == 0).all() and (found[:, 57:] == 0).all()
