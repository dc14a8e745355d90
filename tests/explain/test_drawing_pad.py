"""The drawing pad, compared with Python doing the same."""
import re

import numpy as np
import pytest

selenium = pytest.importorskip("selenium.webdriver")
browsers = pytest.importorskip("tools.browser")
from tools.explained import drawn, no_messages, opened, press, says, shown  # noqa: E402
from tools.recomputed import answer_is, answered, close, computed, pressed, scores_of, unchanged, waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]


def test_the_drawing_pad(browser, folder, model, prepared):
    """A line with the pointer, and a square with the keyboard."""
    opened(browser, (folder / "page.html").as_uri())
    pad = shown(browser, "paint-pad")
    pixel = pad.rect["width"] / 64
    actions = selenium.ActionChains(browser, duration=50)
    left, top = (int(n * pixel + pixel / 2) for n in (-22, -10))         # from the middle of the pad
    actions.move_to_element_with_offset(pad, left, top).click_and_hold()
    actions.move_by_offset(int(12 * pixel), 0).release().perform()
    x = prepared.copy()
    x[0, 21:25, 9:25] = 0                              # grey; the brush has 4 pixels: one above, two below
    answer_is(browser, model, computed(model, x), "64 pixels painted")
    assert "64 pixels painted, 1.56 %" in says(browser, "paint-says")

    pressed(browser, "red", "paint-colours")
    press(browser, "paint-pad", "arrow_down", "arrow_down", "arrow_down", "space")
    row, column = map(int, re.search(r"at row (\d+), column (\d+)", says(browser, "paint-says")).groups())
    y = x.copy()
    y[0, row - 1:row + 3, column - 1:column + 3] = np.array([0xC6, 0x20, 0x20]) / 127.5 - 1
    trace = computed(model, y)
    answer_is(browser, model, trace, f"{(y != prepared).any(-1).sum()} pixels painted")
    found = drawn(browser, "photograph-input", 64, 64, corner=0.5)[row, column + 2]
    assert found.tolist() == [0xC6, 0x20, 0x20]

    press(browser, "changed-undo", "enter")
    answer_is(browser, model, computed(model, x), "64 pixels painted")
    press(browser, "paint-clear", "enter")
    unchanged(browser)
    shown(browser, "paint-pad")
    browser.execute_script("document.getElementById('paint-pad').focus({ preventScroll: true })")
    selenium.ActionChains(browser).key_down(selenium.Keys.SPACE).perform()             # and the focus leaves the pad
    browser.execute_script("document.getElementById('paint-size').focus({ preventScroll: true })")
    waited(browser, "changed-says", "16 pixels painted")
    selenium.ActionChains(browser).key_up(selenium.Keys.SPACE).perform()
    press(browser, "changed-back", "enter")
    unchanged(browser)
    scores = scores_of(model, computed(model, prepared))
    found = answered(browser, "answer-labels")
    close(found, {label: scores[label] for label in found})
    assert no_messages(browser)
