"""Pages of networks with one row or column of cells, with a single token, with unlike stages, and without stages."""
import re

import numpy as np
import pytest

from nphybrid import open_picture
from nphybrid.explain import measures
from nphybrid.explain.page import page

from oracles import sights
from tools.acts import acted

browsers = pytest.importorskip("tools.browser")
from tools.explained import check_layout, click, opened, press, says, settled  # noqa: E402
from tools.recomputed import (answer_is, answered, close, percentage, pressed, put_in, truth, unchanged,  # noqa: E402
                              waited)

pytestmark = [pytest.mark.slow, browsers.NEEDED]

CELLS = "row", "column", "single", "lone"
WEIGHT = 5e-4                             # observed 2.4e-4, a weight or a share with the weights of the page


@pytest.fixture(scope="module")
def pages(folder):
    """{kind: address} of the page of each network, about the ship."""
    picture, found = open_picture(folder / "ship <b>.png"), {}
    for kind in sights.UNUSUAL:
        path = folder / f"{kind}.html"
        path.write_text(page(sights.network(kind), picture, "ship"), "utf-8")
        found[kind] = path.as_uri()
    return found


# Choose the last and the first cell of each picture, and return the texts and labels that lack a number.
EVERY_END = """
    const done = arguments[0];
    const drawn = () => new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
    const texts = () => [
        ...[...document.querySelectorAll("output, dl, .label, .legend")].map((node) => node.textContent),
        ...[...document.querySelectorAll("[aria-label]")].map((node) => node.getAttribute("aria-label"))];
    (async () => {
        const [boards, wrong] = [[...document.querySelectorAll("main [role=application]")], []];
        for (const board of boards) {
            for (const [far, down] of [["End", "ArrowDown"], ["Home", "ArrowUp"]]) {
                board.scrollIntoView({ behavior: "instant" });
                for (const key of [far, ...new Array(9).fill(down)]) board.dispatchEvent(
                    new KeyboardEvent("keydown", { key }));
                await drawn();
                wrong.push(...texts().filter((text) => /undefined|NaN|Infinity/.test(text)).map((t) => [board.id, t]));
            }
        }
        return [boards.length, wrong];
    })().then(done);"""


@pytest.mark.parametrize("kind", sights.UNUSUAL)
def test_every_picture_can_be_chosen_to_its_end(browser, pages, kind):
    opened(browser, pages[kind])
    count, wrong = browser.execute_async_script(EVERY_END)
    assert count > 20 and wrong == []
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_a_column_of_cells_fits_into_the_window(browser, pages, width):
    opened(browser, pages["column"], width)
    heights = browser.execute_script(
        "return [...document.querySelectorAll('main canvas')].map((canvas) => canvas.getBoundingClientRect().height)")
    assert 400 < max(heights) <= 720
    check_layout(browser, width)


@pytest.mark.parametrize("kind", CELLS)
def test_one_row_or_one_column_shows_the_numbers(browser, pages, folder, kind):
    """Of another picture, for the last cell: its weights, its position, its share."""
    opened(browser, pages[kind])
    put_in(browser, folder / "frog.png")
    model = sights.network(kind)
    trace, scores = truth(model, folder / "frog.png")
    close(answered(browser, "answer-labels"), scores)
    rows, columns = model.network_config.grid
    blocks, first = model.network_config.blocks, int(model.network_config.class_token)
    weights, last = measures.attention(trace, blocks), rows * columns - 1
    click(browser, "attention-query", 0, 0, rows, columns)
    click(browser, "attention-keys", rows - 1, columns - 1, rows, columns)
    click(browser, "attention-heads", 1, 1, blocks, 2)
    assert f"token {first} (row 0, column 0) gives the weight" in says(browser, "attention-says")
    found = percentage(says(browser, "attention-says"), "gives the weight")
    assert abs(found - weights[1, 1, first, first + last]) < WEIGHT
    cosine = measures.position_similarity(model.learned().tokens.positions, (rows, columns))[0, last]
    assert abs(float(says(browser, "positions-says").split("the cosine ")[1]) - cosine) < 0.011
    assert f"row {rows - 1}, column {columns - 1}" in says(browser, "rollout-says")
    shares = measures.rollout(weights)[-1]
    expected = (shares[0] if model.network_config.pool == "token" else shares.mean(0))[first + last]
    assert abs(percentage(says(browser, "rollout-says"), "blocks, ") - expected) < WEIGHT
    pixels = measures.attention_distance(weights, (rows, columns), (8, 8))[1, 1]
    assert abs(float(re.search(r"distance ([\d.]+) pixels", says(browser, "distance-says"))[1]) - pixels) < 0.06
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("kind, text", [
    ("row", "The 1 × 5 = 5 cells and the class token make 6 tokens."),
    ("single", "The 1 × 1 = 1 cell and the class token make 2 tokens."),
    ("lone", "The 1 × 1 = 1 cell makes 1 token.")])
def test_the_count_of_the_tokens(browser, pages, kind, text):
    opened(browser, pages[kind])
    assert text in says(browser, "tokens")


@pytest.mark.parametrize("kind", CELLS)
def test_acts_on_one_row_or_one_column(browser, pages, folder, kind):
    opened(browser, pages[kind])
    model = sights.network(kind)
    p, config = model.learned(), model.network_config
    x = model.prepared(folder / "ship <b>.png").transpose(0, 2, 3, 1)
    (rows, columns), count = config.grid, config.grid[0] * config.grid[1]
    click(browser, "changes-cells", rows - 1, columns - 1, rows, columns)
    press(browser, "changes-hide", "enter")
    assert says(browser, "changes-hide") == "Show this cell again"
    answer_is(browser, model, acted("masked", [count - 1], x, p, config), "1 cell hidden")
    press(browser, "changed-undo", "enter")
    unchanged(browser)
    pressed(browser, "Shuffle the positions", "inputs-orders")
    shuffled = acted("positions", np.argsort(np.sin(np.arange(count))), x, p, config)
    answer_is(browser, model, shuffled, "positions shuffled")
    pressed(browser, "skip block 1")
    waited(browser, "changed-says", "block skipped")
    settled(browser)
    assert "Block 1 is skipped" not in says(browser, "attention-says")               # the last block is chosen
    assert browser.get_log("browser") == []


def test_a_channel_of_a_network_without_stages(browser, pages, folder):
    opened(browser, pages["stem"])
    assert browser.find_elements("css selector", "#inputs-states button") == []
    click(browser, "inputs-stem", 1, 2, 3, 3)
    assert says(browser, "inputs-blank") == "Blank channel 5 of the stem"
    press(browser, "inputs-blank", "enter")
    assert says(browser, "inputs-blank") == "Use channel 5 of the stem again"
    model = sights.network("stem")
    x = model.prepared(folder / "ship <b>.png").transpose(0, 2, 3, 1)
    blanked = acted("blanked", {"stem": [5]}, x, model.learned(), model.network_config)
    answer_is(browser, model, blanked, "1 channel blanked")
    assert browser.get_log("browser") == []


def test_stages_of_unlike_widths(browser, pages, folder):
    """The last channel that each stage shows: 16 of 40, 16 of 24, 8 of 8."""
    opened(browser, pages["unlike"])
    model = sights.network("unlike")
    trace = model.trace(model.prepared(folder / "ship <b>.png"))
    for s, (name, shown) in enumerate((("stages.0.1", 16), ("stages.1.0", 16), ("stages.2.1", 8))):
        state = trace[name][0].astype(np.float64)
        channel = np.argsort(-state.var((0, 1)), kind="stable")[:16][-1]
        rows, columns, _ = state.shape
        click(browser, f"stages-{s}", (shown - 1) // 8, (shown - 1) % 8, -(-shown // 8), 8)
        click(browser, "stages-map", rows - 1, columns - 1, rows, columns)
        text = says(browser, "stages-says")
        assert text.startswith(f"Stage {s}, channel {channel}, row {rows - 1}, column {columns - 1}: ")
        assert abs(float(text.split(": ")[1]) - state[-1, -1, channel]) < np.abs(state[..., channel]).max() / 500 + 6e-4
    pressed(browser, "stage 0", "inputs-states")          # the choice of the eighth map stays
    settled(browser)
    eighth = np.argsort(-trace["stages.0.1"][0].var((0, 1)), kind="stable")[7]
    assert says(browser, "inputs-blank") == f"Blank channel {eighth} of stage 0"
    press(browser, "inputs-blank", "enter")
    x = model.prepared(folder / "ship <b>.png").transpose(0, 2, 3, 1)
    blanked = acted("blanked", {"stages.0.1": [eighth]}, x, model.learned(), model.network_config)
    answer_is(browser, model, blanked, "1 channel blanked")


def test_the_sum_of_a_unit_has_other_channels_than_its_first_convolutions(browser, pages, folder):
    """So only the channels of the sum can be chosen."""
    opened(browser, pages["unlike"])
    model = sights.network("unlike")
    trace = model.trace(model.prepared(folder / "ship <b>.png"))
    total, shortcut = (trace[f"stages.2.{u}"][0].astype(np.float64) for u in (1, 0))
    channel = np.argsort(-total.var((0, 1)), kind="stable")[3]
    click(browser, "unit-sum-tiles", 0, 3, 1, 8)
    click(browser, "unit-conv1-tiles", 0, 6, 1, 8)
    click(browser, "unit-sum", 2, 2, 3, 3)
    pattern = r"Channel (\d+), row 2, column 2: \S+ \+ (\S+) = \S+, and after relu (\S+)"
    found = re.match(pattern, says(browser, "unit-says"))
    assert int(found[1]) == channel
    assert abs(float(found[2]) - shortcut[2, 2, channel]) < 2e-3                       # the page shows three digits
    assert abs(float(found[3]) - total[2, 2, channel]) < 2e-3                          # the page shows three digits
