"""The numbers and the colours that the steps of the page show, compared with Python."""
import re

import numpy as np
import pytest

from nphybrid.explain import colours, measures
from nphybrid.explain.page import page

from oracles import sights

browsers = pytest.importorskip("tools.browser")
from tools.explained import click, drawn, opened, opened_with, press, same_colours, says, shown  # noqa: E402
from tools.recomputed import waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]


def test_the_stem_is_computed(browser, cat_page, model, cat_trace):
    opened(browser, cat_page)
    click(browser, "stem-filters", 5, 3, 8, 8)
    for row, column in ((0, 0), (31, 31), (12, 20)):
        click(browser, "stem-response", row, column, 32, 32)
        value = float(says(browser, "stem-value"))
        assert abs(value - cat_trace["stem.conv"][0, row, column, 5 * 8 + 3]) < 6e-4
    found = cat_trace["stem.conv"][0, :, :, 43]
    most = np.abs(found).max()
    shown = drawn(browser, "stem-response", 32, 32, corner=0.5)
    away = np.ones((32, 32), bool)
    away[10:15, 18:23] = False                                    # the frame
    expected = colours.coloured(found, -most, most, colours.DIVERGING).astype(int)
    assert np.abs(shown - expected)[away].max() <= 2


def test_stages_tokens_and_positions_show_the_numbers(browser, cat_page, model, cat_trace):
    trace, p = cat_trace, model.learned()
    opened(browser, cat_page)
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


def test_one_weight_by_hand_is_the_weight(browser, cat_page, cat_weights):
    opened(browser, cat_page)
    click(browser, "attention-query", 5, 5, 8, 8)
    click(browser, "attention-heads", 2, 1, 4, 3)
    click(browser, "weight-key", 2, 3, 8, 8)
    value = float(says(browser, "weight-sum").split("exp / sum")[1].rstrip(" %")) / 100
    assert abs(value - cat_weights[2, 1, 1 + 45, 1 + 19]) < 6e-5
    assert f"gives the weight {100 * cat_weights[2, 1, 46, 20]:.2f} %" in says(browser, "attention-says")


def test_distance_rollout_and_logit_lens(browser, cat_page, model, cat_trace, cat_weights):
    trace, p = cat_trace, model.learned()
    opened(browser, cat_page)
    far = measures.attention_distance(cat_weights, (8, 8), (8, 8))
    shown(browser, "distance-chart")
    press(browser, "distance-chart", "arrow_left", "arrow_left", "arrow_left", "arrow_left")
    uniform = measures.distances((8, 8), (8, 8)).mean()
    share = f"{100 * far[2, 1] / uniform:.1f} % of the distance of uniform attention"
    assert says(browser, "distance-says") == f"Block 2, head 1: mean distance {far[2, 1]:.1f} pixels, {share}"
    dots = browser.execute_script("""return [...document.querySelectorAll("#distance-chart circle")].map((dot) =>
        [dot.dataset.head, Number(dot.getAttribute("cy"))])""")
    assert dots[-1][0] == "2 1"                                    # drawn over the others
    heights = np.array([y for _, y in sorted(dots)])
    assert sorted(name for name, _ in dots) == [f"{l} {h}" for l in range(4) for h in range(3)]
    assert np.corrcoef(heights, far.reshape(-1))[0, 1] < -0.99999

    assert np.ptp(heights) > 0.7 * browser.find_element("id", "distance-chart").size["height"] - 60   # the axis is used
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

    rolled = np.concatenate([np.eye(65)[:1], measures.rollout(cat_weights)[:, 0]])
    for depth in (4, 3, 2, 0):
        press(browser, "logit_lens-chart", *["arrow_left"] * (4 - depth and 1 + (depth == 0)))
        values, when = rolled[depth, 1:].reshape(8, 8), f"After {depth} blocks" if depth else "Before the first block"
        if depth:
            assert same_colours(drawn(browser, "rollout-map", 8, 8, corner=0.3), values, 0, values.max())
        click(browser, "rollout-map", 2, 7, 8, 8)
        assert says(browser, "rollout-says").startswith(f"{when}, {100 * rolled[depth, 24]:.2f} %")
        token, cells = 100 * rolled[depth, 0], 100 * rolled[depth, 1:].mean()
        equal = f". With equal shares, each cell would have (100 % - {token:.3g} %) / 64 = {cells:.2f} %"
        assert says(browser, "rollout-says").endswith(f", by this estimate{equal if depth else ''}")
        assert says(browser, "logit_lens-says") == (f"{when}, the best of 10 labels is "
                                              f"{model.config.id2label[int(scores[depth].argmax())]}, "
                                              f"with a score of {scores[depth].max():.4f}"
                                              + ("" if depth else ". Every picture has these scores here"))
        shown(browser, "logit_lens-bars")
        bars = browser.execute_script("""return [...document.querySelectorAll("#logit_lens-bars rect")].map((bar) =>
            Number(bar.getAttribute("width")))""")
        assert np.allclose(np.array(bars) / bars[0], scores[depth, best] / scores[depth, best[0]], atol=0.01)
    press(browser, "rollout-depth", "arrow_right")
    assert says(browser, "rollout-says").startswith("After 1 block, ")
    widths = browser.execute_script("""return [...document.querySelectorAll("#answer .answer i")].map((bar) =>
        bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width)""")
    assert np.allclose(widths, np.maximum(scores[-1, best], 0.004), atol=2e-3)


def test_how_far_the_heads_are_from_uniform_attention(browser, folder, cat_page, cat_weights):
    opened(browser, cat_page)
    share = measures.attention_distance(cat_weights, (8, 8), (8, 8)) / measures.distances((8, 8), (8, 8)).mean()
    says_of = "For this picture, the heads have {:.1f} % to {:.1f} % of its distance{}."
    near = ", so no head is far from the line"
    assert 0.75 < share.min() and share.max() < 1.25
    assert says(browser, "distance-far") == says_of.format(100 * share.min(), 100 * share.max(), near)
    shown(browser, "distance-chart")
    numbers = browser.execute_script("""return [...document.querySelectorAll("#distance-chart circle")].map((dot) =>
        [dot.dataset.head.split(" ")[1], dot.nextSibling.textContent])""")
    assert len(numbers) == 12 and all(head == number for head, number in numbers)
    opened_with(browser, folder, "#changes;off=1.0,1.1")                     # these have the smallest distances
    waited(browser, "changed-says", "2 heads off")
    least = float(re.search(r"have ([\d.]+) %", says(browser, "distance-far"))[1])
    assert set(map(tuple, np.argwhere(share < 0.91))) == {(1, 0), (1, 1)} and least > 91


def test_a_head_that_is_far_from_uniform_attention(browser, tmp_path, cat_picture):
    """In a network with a column of five cells, and with hardly any weight beyond one key."""
    (tmp_path / "page.html").write_text(page(sights.network("column"), cat_picture), "utf-8")
    opened_with(browser, tmp_path, "#changes;temperature=0.001")
    waited(browser, "changed-says", "temperature 0.001")
    text = says(browser, "distance-far")
    least, most = map(float, re.findall(r"([\d.]+) %", text))
    assert (least < 75 or most > 125) and text.endswith(" of its distance.")


def test_the_temperature_beside_the_slider(browser, folder):
    for value, text in (("0.125", "0.125"), ("8", "8"), ("0.01", "0.01, beyond the end of the slider")):
        opened_with(browser, folder, f"#changes;temperature={value}")
        waited(browser, "changed-says", f"temperature {value}. ")
        assert says(browser, "changes-tau") == f"temperature {text}"


def test_all_numbers_have_the_same_minus_sign(browser, cat_page):
    opened(browser, cat_page)
    found = browser.execute_script("""
        const script = document.querySelector("script[type=module]").textContent;
        const source = script.match(/^const formatted = [^]*?^};/m)[0];
        return new Function(`${source} return [-2.5e-8, 4.8e-9, -1.25].map((value) => formatted(value));`)();""")
    assert found == ["\u22122.5e\u22128", "4.8e\u22129", "\u22121.250"]


def test_a_pixel_shows_its_numbers(browser, cat_page, model, cat_trace):
    opened(browser, cat_page)
    click(browser, "photograph-input", 10, 50, 64, 64)
    text = says(browser, "photograph-says")
    sums = re.findall(r"\((\d+) / 255 - 0\.5\) / 0\.5 = (-?[\d.]+)", text)
    assert text.startswith("Row 10, column 50") and len(sums) == 3
    truth = cat_trace["pixel_values"][0, 10, 50]
    assert np.abs(np.array([float(value) for _, value in sums]) - truth).max() < 6e-4
    assert np.abs((np.array([int(byte) for byte, _ in sums]) / 255 - 0.5) / 0.5 - truth).max() < 1e-6


def test_filters_and_small_responses(browser, cat_page, model, cat_trace):
    """Every seventh of them: the filter's taps, and its responses."""
    opened(browser, cat_page)
    taps, found = model.learned().stem.conv, drawn(browser, "stem-filters", 8, 8, corner=0.5)
    for i in range(1, 64, 7):                                     # the frame is around filter 0
        kernel = taps[3, 3, :, i] / np.abs(taps[..., i]).max()
        assert np.abs(found[i // 8, i % 8] - (127.5 + 127.5 * kernel)).max() <= 1.01, i
    responses = cat_trace["stem.conv"][0]
    found = drawn(browser, "stem-responses", 8, 8, corner=0.5)
    for i in range(1, 64, 7):
        around = responses[15:17, 15:17, i].reshape(-1)           # the middle of a map lies between four cells
        most = np.abs(responses[..., i]).max()
        colour, here = colours.coloured(around, -most, most, colours.DIVERGING).astype(int), found[i // 8, i % 8]
        assert (colour.min(0) - 3 <= here).all() and (here <= colour.max(0) + 3).all(), i


def test_the_products_of_one_pixel(browser, cat_page, model, prepared):
    """Those under a filter in the middle and in a corner, where some pixels lie outside the picture."""
    opened(browser, cat_page)
    click(browser, "stem-filters", 5, 3, 8, 8)
    taps = model.learned().stem.conv[..., 43]
    for row, column, tap in ((12, 20, (1, 4)), (0, 0, (5, 6)), (0, 0, (0, 3))):
        click(browser, "stem-response", row, column, 32, 32)
        click(browser, "stem-patch", *tap, 7, 7)
        y, x = 2 * row - 2 + tap[0], 2 * column - 2 + tap[1]             # two pixels of padding at the start
        pixels = prepared[0, y, x] if y >= 0 else np.zeros(3)
        text = says(browser, "stem-says")
        found = np.array(re.findall(r"(-?[\d.]+) · (-?[\d.]+)", text), float)
        assert np.abs(found - np.stack([pixels, taps[tap]], 1)).max() < 6e-4
        assert ("lie outside the picture" in text) == (row == 0)
    click(browser, "stem-filter", 2, 2, 7, 7)
    assert f"· {taps[2, 2, 0]:.3f}" in says(browser, "stem-says")


def test_the_positions_are_measured(browser, folder, cat_page, model, cat_trace):
    opened(browser, cat_page)
    positions = model.learned().tokens.positions[1:]
    sizes = [np.sqrt((x.astype(np.float64) ** 2).mean()) for x in (cat_trace["tokens.proj"][0], positions)]
    text = says(browser, "positions-sizes")
    assert np.abs(np.array(re.findall(r"\d+\.\d+", text), float) - sizes).max() < 6e-3
    alike = measures.position_similarity(model.learned().tokens.positions, (8, 8)) - 2 * np.eye(64)
    best, cells = alike.argmax(1), np.arange(64)
    near = np.maximum(np.abs(best // 8 - cells // 8), np.abs(best % 8 - cells % 8)) == 1
    found = int(re.search(r"for (\d+) of 64 cells", says(browser, "positions-near"))[1])
    assert abs(found - near.sum()) <= 2 and near.sum() > 10              # cosines are kept in 8 bits
    apart = np.maximum(np.abs(cells[:, None] // 8 - cells // 8), np.abs(cells[:, None] % 8 - cells % 8))
    text = says(browser, "positions-near")
    assert f"for about {(apart == 1).sum() / 63:.0f}. So the position vectors of neighbours are often the" in text
    opened_with(browser, folder, "#changes;shuffled=positions")
    waited(browser, "changed-says", "positions shuffled")
    assert says(browser, "positions-near").endswith("position vectors are mostly not those of neighbours.")


def test_strips_and_legends(browser, cat_page, model, cat_trace):
    trace, p = cat_trace, model.learned()
    opened(browser, cat_page)
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
