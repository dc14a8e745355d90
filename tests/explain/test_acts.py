"""Acts of a reader on the page that computes: each is compared with Python doing the same."""
import re

import numpy as np
import pytest
from PIL import Image

from nphybrid.explain import measures
from nphybrid.explain.page import page

from oracles import sights
from tools.acts import acted, untouched

selenium = pytest.importorskip("selenium.webdriver")
browsers = pytest.importorskip("tools.browser")
wait = pytest.importorskip("selenium.webdriver.support.wait")
from tools.explained import (check_contrast, check_layout, click, drawn, opened, press, says, settled,  # noqa: E402
                             shown)
from tools.recomputed import SCORE, answered, close, percentage, pressed, put_in, softmax, waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]
ORDER = np.argsort(np.sin(np.arange(64)))             # of shuffled cells
FAR = 8e-4                                # observed 5.2e-4, differences as shares: the page shows 20.1 %
MOVED = 1e-3                              # observed 6.0e-4, weights as shares: the page shows 20.1 %


@pytest.fixture(scope="module")
def browser():
    driver = browsers.started("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def prepared(cat, model):
    """The prepared picture of the cat, channels last."""
    return model.prepared(cat).transpose(0, 2, 3, 1)


def scores_of(model, trace):
    """{label: score} of the states of a picture."""
    return dict(zip(model.config.id2label.values(), softmax(trace["logits"][0].astype(np.float64))))


def computed(model, x):
    """The states of a prepared picture."""
    return untouched(x, model.learned(), model.network_config)


def opened_with(browser, folder, link, *how):
    """Open the page with a link.  A page that is open already would only go to the link."""
    browser.get("about:blank")
    opened(browser, (folder / "page.html").as_uri() + link, *how)


def check(browser, model, trace, text):
    """The page shows the answer of a trace, and says what is changed."""
    waited(browser, "changed-says", f"^Changed: {re.escape(text)}. ")
    scores = scores_of(model, trace)
    for name in ("answer-labels", "changes-labels"):
        found = answered(browser, name)
        close(found, {label: scores[label] for label in found})


def unchanged(browser):
    wait.WebDriverWait(browser, 60).until(lambda b: not says(b, "changed-says"))
    settled(browser)


def no_messages(browser):
    """No message of the page.  Chromium says that `drawn` would be faster with another option."""
    return [entry for entry in browser.get_log("browser") if "willReadFrequently" not in str(entry)
            and "Multiple readback operations" not in str(entry)] == []


def far(state, before):
    """rms(state - before) / rms(before)"""
    return np.sqrt(np.square(state - before).mean() / np.square(before).mean())


# ------------------------------------------------------------------ the input of the blocks

def test_the_input_of_the_blocks(browser, folder, model, prepared):
    """Each act, one after the other; then each of them undone."""
    opened(browser, (folder / "page.html").as_uri())
    p, config = model.learned(), model.network_config

    pressed(browser, "stage 1", "inputs-states")
    press(browser, "inputs-stage", "arrow_right", "arrow_right", "arrow_down")
    name = says(browser, "inputs-blank")
    state = computed(model, prepared)["stages.1.1"][0]
    channel = int(np.argsort(-state.var((0, 1)), kind="stable")[10])
    assert name == f"Blank channel {channel} of stage 1"
    press(browser, "inputs-blank", "enter")
    check(browser, model, acted("blanked", {"stages.1.1": [channel]}, prepared, p, config), "1 channel blanked")
    assert np.ptp(drawn(browser, "stages-map", 8, 8, corner=0.5)[:3], axis=(0, 1)).max() == 0      # away from the frame
    press(browser, "inputs-blank", "enter")
    unchanged(browser)

    pressed(browser, "zeros", "inputs-starts")
    zeros = acted("classToken", np.zeros(192), prepared, p, config)
    check(browser, model, zeros, "the class token starts with zeros")
    pressed(browser, "the mean of the cells", "inputs-starts")
    mean = acted("classToken", "mean", prepared, p, config)
    check(browser, model, mean, "the class token starts with the mean of the cells")
    press(browser, "changed-undo", "enter")
    check(browser, model, zeros, "the class token starts with zeros")
    press(browser, "changed-back", "enter")
    unchanged(browser)

    pressed(browser, "Shuffle the positions", "inputs-orders")
    shuffled = acted("positions", ORDER, prepared, p, config)
    check(browser, model, shuffled, "positions shuffled")
    click(browser, "tokens-grid", 1, 1, 8, 8)
    click(browser, "tokens-sum", 0, 100, 1, 192)
    _, position, total = map(float, says(browser, "tokens-says").split(": ")[1].replace("=", "+").split(" + "))
    assert abs(position - p.tokens.positions[1 + ORDER[9], 100]) < 1e-3
    assert abs(total - shuffled["tokens"][0, 10, 100]) < 3e-3
    click(browser, "positions-all", 1, 1, 8, 8)
    click(browser, "positions-one", 2, 5, 8, 8)
    cosines = [measures.position_similarity(positions, (8, 8))[9, 21]
               for positions in (p.tokens.positions[1 + ORDER], p.tokens.positions)]
    found = float(says(browser, "positions-says").split("the cosine ")[1].replace("\u2212", "-"))
    assert abs(found - cosines[0]) < 6e-3 < abs(cosines[0] - cosines[1])                # the page shows two decimals
    press(browser, "changed-undo", "enter")
    unchanged(browser)

    pressed(browser, "Shuffle the pieces of the picture", "inputs-orders")
    pieces = prepared.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, 8, 8, 3)[ORDER]
    x = pieces.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(prepared.shape)
    check(browser, model, computed(model, x), "pieces of the picture shuffled")
    assert no_messages(browser)
    found = drawn(browser, "photograph-input", 64, 64, corner=0.5)
    away = np.ones((64, 64), bool)
    away[28:37, 28:37] = False                        # the frame
    assert np.abs(found / 127.5 - 1 - x[0])[away].max() < 1e-6


def test_a_channel_of_the_stem(browser, folder, model, prepared):
    opened(browser, (folder / "page.html").as_uri())
    pressed(browser, "stem", "inputs-states")
    settled(browser)
    click(browser, "inputs-stem", 2, 5, 8, 8)
    assert says(browser, "inputs-blank") == "Blank channel 21 of the stem"
    press(browser, "inputs-blank", "enter")
    trace = acted("blanked", {"stem": [21]}, prepared, model.learned(), model.network_config)
    check(browser, model, trace, "1 channel blanked")


# ------------------------------------------------------------------ the difference at each step

def test_the_difference_at_each_step(browser, folder, model, prepared):
    opened(browser, (folder / "page.html").as_uri())
    lines = """return [...document.querySelectorAll(".differs")].filter((line) => !line.hidden).map(
        (line) => line.textContent)"""
    assert browser.execute_script(lines) == [] and "Nothing is changed" in says(browser, "differences-says")
    pressed(browser, "switch off head 1 of block 2")
    waited(browser, "changed-says", "head off")
    mask = np.ones((4, 3), np.float32)
    mask[2, 1] = 0
    after = acted("headMask", mask, prepared, model.learned(), model.network_config)
    before = computed(model, prepared)
    bars = browser.execute_script("""
        return [...document.querySelectorAll("#differences-bars b")].map((name) =>
            [name.textContent, name.nextSibling.nextSibling.textContent, name.nextSibling.firstChild.style.width])""")
    names = [name for name, _, _ in bars]
    assert names == ["pixel_values", "stem", "stages.0.1", "stages.1.1", "tokens", *[f"blocks.{l}" for l in range(4)],
                     "norm", "logits"]
    expected = np.array([far(after[name], before[name]) for name in names])
    found = np.array([percentage(text, "") for _, text, _ in bars])
    assert np.abs(found - expected).max() < FAR
    assert (found[:7] == 0).all() and (expected[7:] > 0.05).all()
    widths = np.array([float(width.rstrip("%")) for _, _, width in bars])
    assert np.abs(widths / 100 - expected / expected.max()).max() < 5e-3
    assert "The first state that differs is blocks.2. The logits differ by " in says(browser, "differences-says")
    found = dict(line.split(": ") for line in browser.execute_script(lines))
    assert found["stem.conv"] == found["tokens"] == "the same as in the run without changes"
    for name in ("blocks.3.weights", "blocks.3.query", "blocks.3", "logits"):
        shown_far = percentage(found[name], "differs from the run without changes by")
        assert abs(shown_far - far(after[name], before[name])) < FAR
    pressed(browser, "skip block 3")
    waited(browser, "changed-says", "block skipped")
    assert "blocks.3.weights: not computed, because the block is skipped" in browser.execute_script(lines)
    press(browser, "rollout-depth", "home")            # before the first block
    found = browser.execute_script(lines)
    assert found.count("tokens: the same as in the run without changes") == 2          # of the tokens, the logit lens
    assert browser.execute_script("return document.querySelector('#rollout .differs').hidden")
    press(browser, "changed-back", "enter")
    unchanged(browser)
    assert browser.execute_script(lines) == [] and "Nothing is changed" in says(browser, "differences-says")


# ------------------------------------------------------------------ a head or a block that is off

def test_one_weight_of_a_head_that_is_off(browser, folder):
    opened(browser, (folder / "page.html").as_uri())
    click(browser, "attention-heads", 2, 1, 4, 3)
    shown(browser, "weight-sum")
    weight = percentage(says(browser, "weight-sum"), "weight: exp / sum")
    assert 0 < weight < 1
    pressed(browser, "switch off head 1 of block 2")
    waited(browser, "changed-says", "head off")
    shown(browser, "weight-sum")
    assert says(browser, "weight-sum").endswith("weight: 0 · exp / sum, because the head is off0.00 %")
    softmax_itself = re.search(r"keys[\d.]+exp / sum([\d.]+) %", says(browser, "weight-sum"))[1]
    assert abs(float(softmax_itself) / 100 - weight) < 2e-4
    pressed(browser, "skip block 2")
    waited(browser, "changed-says", "block skipped")
    shown(browser, "weight-sum")
    assert says(browser, "weight-sum") == "block 2 is skippedno weights"
    assert says(browser, "weight-says") == "Block 2 is skipped, so it has no queries and no keys"
    assert says(browser, "attention-says") == "Block 2 is skipped, so it has no weights"
    for name, missing in ("context", "values"), ("layer_norm", "layer norm"), ("mlp", "hidden units"):
        assert says(browser, f"{name}-says") == f"Block 2 is skipped, so it has no {missing}"
    for name in "context-numbers", "layer_norm-numbers":
        shown(browser, name)
        assert says(browser, name) == "block 2 is skippedno numbers"
    shown(browser, "layer_norm-after")
    assert says(browser, "layer_norm-after-most").endswith(" 0.0000")


def test_a_blanked_channel_of_the_last_unit(browser, folder):
    opened(browser, (folder / "page.html").as_uri())
    name, channel = browser.execute_script("""
        const { unit } = JSON.parse(document.getElementById("facts").textContent).steps;
        return [unit.name, unit.channels[0]]""")
    assert "the channel is blanked" not in says(browser, "unit-says")
    opened_with(browser, folder, f"#changes;blanked={name}:{channel}")
    waited(browser, "changed-says", "1 channel blanked")
    assert says(browser, "unit-says").endswith(": the channel is blanked, so the sum is replaced by 0")
    click(browser, "unit-sum-tiles", 0, 1, 1, 8)
    assert "the channel is blanked" not in says(browser, "unit-says")


def fail_once(browser):
    """The worker of the page answers its next request with an error."""
    browser.execute_script("""
        const send = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function () {
            Worker.prototype.postMessage = send;
            this.onmessage({ data: { error: "out of memory" } });
        };""")


def test_a_change_that_cannot_be_computed(browser, folder):
    """The page says why, and the next change is computed."""
    opened(browser, (folder / "page.html").as_uri())
    fail_once(browser)
    pressed(browser, "skip block 1")
    waited(browser, "changed-says", "^The change cannot be computed: out of memory.$")
    assert browser.find_elements("css selector", "#changes-blocks [aria-pressed=true]") == []
    pressed(browser, "skip block 1")
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    article = shown(browser, "experiment-equal")
    article.find_element("css selector", "input").click()
    fail_once(browser)
    article.find_element("css selector", "button").click()
    wait.WebDriverWait(browser, 60).until(lambda b: article.find_element("css selector", "button").is_enabled())
    verdict = article.find_element("css selector", ".verdict")
    assert verdict.text == "The result cannot be computed: out of memory"
    article.find_element("css selector", "button").click()
    wait.WebDriverWait(browser, 60).until(lambda b: "The result: " in verdict.text)


def test_the_bar_of_changes_leaves_the_focus_on_the_page(browser, folder):
    """The focus goes to the title of the step, and the bar does not cover what gets the focus."""
    opened(browser, (folder / "page.html").as_uri())
    padding = "return parseFloat(getComputedStyle(document.documentElement).scrollPaddingBottom)"
    pressed(browser, "skip block 1")
    waited(browser, "changed-says", "block skipped")
    height = browser.find_element("id", "changed").rect["height"]
    assert abs(browser.execute_script(padding) - height) < 1 < height
    press(browser, "changed-undo", "enter")
    unchanged(browser)
    assert browser.switch_to.active_element.get_attribute("id") == "changes-title"
    assert browser.execute_script(padding) == 0


def test_a_redraw_does_not_move_a_slider_that_is_dragged(browser, folder):
    opened(browser, (folder / "page.html").as_uri())
    slider = shown(browser, "changes-temperature")
    selenium.ActionChains(browser, duration=50).move_to_element(slider).click_and_hold().move_by_offset(
        int(slider.rect["width"] / 4), 0).perform()
    value = slider.get_property("value")
    assert float(value) > 0.5
    browser.execute_script("document.getElementById('rollout-map').click()")           # redraws the page
    settled(browser)
    assert slider.get_property("value") == value
    selenium.ActionChains(browser).release().perform()
    waited(browser, "changed-says", f"temperature {2 ** float(value):.2f}")


def test_rollout_of_heads_that_are_off(browser, folder, model, prepared):
    """All heads, then one head."""
    opened_with(browser, folder, "#changes;off=" + ",".join(f"{l}.{a}" for l in range(4) for a in range(3)))
    waited(browser, "changed-says", "12 heads off")
    shown(browser, "rollout-says")
    text = says(browser, "rollout-says")
    assert re.search("^After 4 blocks, 0.00.% of .*, and 100.0.% from the initial class token$", text)
    pressed(browser, "No changes", "changed")
    unchanged(browser)
    pressed(browser, "switch off head 1 of block 2")
    waited(browser, "changed-says", "1 head off")
    mask = np.ones((4, 3), np.float32)
    mask[2, 1] = 0
    trace = acted("headMask", mask, prepared, model.learned(), model.network_config)
    expected = measures.rollout(measures.attention(trace, 4))[-1, 0]
    click(browser, "rollout-map", 2, 3, 8, 8)
    text = says(browser, "rollout-says")
    assert abs(percentage(text, "blocks, ") - expected[20]) < 2e-4
    assert abs(percentage(text, "and ") - expected[0]) < MOVED


def test_the_best_label_of_the_changed_network(browser, folder):
    opened_with(browser, folder, "#changes;temperature=Infinity")
    waited(browser, "changed-says", "The best label is frog, ")
    for name in ("answer-labels", "changes-labels"):
        best = browser.find_elements("css selector", f"#{name} .answer.best b")
        assert [label.get_attribute("textContent") for label in best] == ["frog"]


def test_the_photograph_step_describes_the_picture(browser, folder, model):
    opened(browser, (folder / "page.html").as_uri())
    first = says(browser, "photograph-prepared"), says(browser, "photograph-framed")
    Image.new("RGB", (90, 90), "#a06040").save(folder / "square.png")
    put_in(browser, folder / "square.png")
    assert (says(browser, "photograph-prepared"), says(browser, "photograph-framed")) == ("resized", "")
    put_in(browser, folder / "frog.png")
    found = says(browser, "photograph-prepared"), says(browser, "photograph-framed")
    assert found == ("resized and cropped to its centre", ". The frame marks the input of the model")
    press(browser, "picture-back", "enter")
    wait.WebDriverWait(browser, 60).until(lambda b: not says(b, "picture-says"))
    settled(browser)
    assert (says(browser, "photograph-prepared"), says(browser, "photograph-framed")) == first


# ------------------------------------------------------------------ the drawing pad

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
    check(browser, model, computed(model, x), "64 pixels painted")
    assert "64 pixels painted, 1.56 %" in says(browser, "paint-says")

    pressed(browser, "red", "paint-colours")
    press(browser, "paint-pad", "arrow_down", "arrow_down", "arrow_down", "space")
    row, column = map(int, re.search(r"at row (\d+), column (\d+)", says(browser, "paint-says")).groups())
    y = x.copy()
    y[0, row - 1:row + 3, column - 1:column + 3] = np.array([0xC6, 0x20, 0x20]) / 127.5 - 1
    trace = computed(model, y)
    check(browser, model, trace, f"{(y != prepared).any(-1).sum()} pixels painted")
    found = drawn(browser, "photograph-input", 64, 64, corner=0.5)[row, column + 2]
    assert found.tolist() == [0xC6, 0x20, 0x20]

    press(browser, "changed-undo", "enter")
    check(browser, model, computed(model, x), "64 pixels painted")
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


# ------------------------------------------------------------------ the camera

def test_a_picture_of_the_camera(browser, folder, model):
    opened(browser, (folder / "page.html").as_uri())
    press(browser, "camera-start", "enter")
    wait.WebDriverWait(browser, 30).until(lambda b: b.find_element("id", "camera-take").is_displayed())
    assert browser.switch_to.active_element.get_attribute("id") == "camera-take"
    browser.execute_script("window.track = document.getElementById('camera-video').srcObject.getTracks()[0]")
    assert browser.execute_script("return track.readyState") == "live"
    press(browser, "camera-take", "enter")
    waited(browser, "picture-says", "a picture of the camera: .*computed the answer")
    assert browser.execute_script("return [track.readyState, document.getElementById('camera-video').srcObject]") == [
        "ended", None]
    assert not browser.find_element("id", "camera-preview").is_displayed()
    assert no_messages(browser)
    assert "follows a picture of the camera through" in browser.find_element("class name", "lead").text
    pixels = drawn(browser, "photograph-input", 64, 64, corner=0.2)
    assert np.ptp(pixels, axis=(0, 1)).max() > 60      # the fake camera shows a circle on green
    click(browser, "photograph-input", 63, 63, 64, 64)
    pixels[20:45, 20:45] = drawn(browser, "photograph-input", 64, 64, corner=0.2)[20:45, 20:45]   # without the frame
    scores = scores_of(model, computed(model, (pixels[None] / np.float32(127.5) - 1).astype(np.float32)))
    found = answered(browser, "answer-labels")
    close(found, {label: scores[label] for label in found})


def test_a_camera_that_is_closed_or_refused_changes_nothing(browser, folder):
    opened(browser, (folder / "page.html").as_uri())
    lead = browser.find_element("class name", "lead").text
    press(browser, "camera-start", "enter")
    wait.WebDriverWait(browser, 30).until(lambda b: b.find_element("id", "camera-stop").is_displayed())
    browser.execute_script("window.track = document.getElementById('camera-video').srcObject.getTracks()[0]")
    press(browser, "camera-stop", "enter")
    assert browser.execute_script("return track.readyState") == "ended"
    assert browser.switch_to.active_element.get_attribute("id") == "camera-start"
    browser.execute_script("navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('no permission'))")
    press(browser, "camera-start", "enter")
    waited(browser, "picture-says", "^The camera cannot be used: no permission$")
    assert browser.find_element("class name", "lead").text == lead


def test_a_browser_without_a_camera(browser, folder):
    hide = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {
        "source": "Object.defineProperty(navigator, 'mediaDevices', { value: undefined })"})
    opened_with(browser, folder, "")
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", hide)
    assert not browser.find_element("id", "camera-start").is_displayed()
    assert "This browser gives this page no camera." in browser.find_element("id", "another").text
    opened_with(browser, folder, "")
    assert browser.find_element("id", "camera-start").is_displayed()
    assert "no camera" not in browser.find_element("id", "another").text


# ------------------------------------------------------------------ the link

LINK = ("#changes;off=2.1,0.0;skipped=3;hidden=34,5;blanked=stages.1.1:7,stem:21;temperature=0.5;classToken=zeros;"
        "shuffled=positions,pieces;painted=0-130-2,4000-5-8")
SAYS = ("2 heads off, 1 block skipped, 2 cells hidden, 2 channels blanked, temperature 0.50, the class token starts "
        "with zeros, positions shuffled, pieces of the picture shuffled, 135 pixels painted")


def test_a_link_holds_the_changes(browser, folder):
    opened_with(browser, folder, LINK)
    waited(browser, "changed-says", f"^Changed: {SAYS}. ")
    scores = answered(browser, "changes-labels")
    link = browser.find_element("id", "changed-link").get_attribute("href")
    assert link == (folder / "page.html").as_uri() + LINK
    assert says(browser, "changed-link") == "Link to these changes"
    assert says(browser, "picture-says") == ""
    press(browser, "changed-undo", "enter")
    unchanged(browser)
    close(answered(browser, "changes-labels"), answered(browser, "answer-labels"))

    pressed(browser, "skip block 0")                   # changes of the buttons, and their link on a fresh page
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    press(browser, "changed-link", "enter")
    assert browser.current_url.endswith("#changes;skipped=0")
    found = answered(browser, "changes-labels")
    opened_with(browser, folder, "#changes;skipped=0")
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    assert answered(browser, "changes-labels") == found != scores
    browser.execute_script("location.hash = arguments[0]", LINK)
    waited(browser, "changed-says", f"^Changed: {SAYS}. ")
    assert answered(browser, "changes-labels") == scores
    assert no_messages(browser)


def test_a_link_does_not_hold_a_picture(browser, folder):
    opened_with(browser, folder, "")
    put_in(browser, folder / "frog.png")
    pressed(browser, "skip block 0")
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    assert says(browser, "changed-link") == "Link to these changes, without the picture"
    press(browser, "picture-back", "enter")
    unchanged(browser)
    assert says(browser, "answer-labels").startswith("cat")


@pytest.mark.parametrize("part", [
    "skipped=9", "skipped=", "off=2.3", "off=2", "off=1.1.1", "hidden=64", "hidden=-1", "blanked=stages.1.1:256",
    "blanked=norm:1", "temperature=0", "temperature=1e-4", "temperature=hot", "skipped=01", "classToken=ones",
    "shuffled=blocks", "painted=0-4097-1", "painted=5-1-9", "painted=a", "toString=1", "x", "skipped=1=2", "<b>=1",
    "%E0%A4%A"])
def test_a_part_without_meaning_is_ignored(browser, folder, part):
    if browser.current_url.split("#")[0] != (folder / "page.html").as_uri():
        opened(browser, (folder / "page.html").as_uri())
    if part == "%E0%A4%A":                             # this text cannot be decoded, so it is shown as it is
        rest = ""
    else:
        rest = ";skipped=1"
    browser.execute_script("document.getElementById('picture-says').textContent = ''; location.hash = arguments[0]",
                           f"#changes;{part}{rest}")
    waited(browser, "picture-says", "ignores this part: ")
    assert says(browser, "picture-says") == ("This page does not understand a part of its link, and ignores this part: "
                                             f"{part}")
    if rest:
        waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    assert no_messages(browser)


# ------------------------------------------------------------------ experiments

NAMES = ["convolutions", "positions", "pieces", "block", "square", "start", "equal"]


def numbers_of(browser, name):
    """The numbers of the result of an experiment: scores, or shares."""
    texts = browser.execute_script("""
        return [...document.querySelectorAll(`#experiment-${arguments[0]} .bars span`)].map((node) => node.textContent)
        """, name)
    return [float(text.split("\u202f%")[0]) / 100 if "%" in text else float(text.split(",")[0]) for text in texts]


def by_python(browser, name, picture, model=None):
    """Run the lines of Python that stand on the page."""
    names, lines = browser.execute_script("""
        return [document.getElementById("experiments-python").textContent,
                document.querySelector(`#experiment-${arguments[0]} code`).textContent]""", name)
    names = re.sub(r'prepared\(".*"\)', f"prepared({str(picture)!r})", names)
    assert ("default_model()" in names) == (model is None)
    if model is not None:
        names = re.sub("^model = .*$", "", names, flags=re.M)
    space = {"model": model}
    exec(names, space)
    *before, last = re.split(r"\n(?=\S)", lines)
    exec("\n".join(before), space)
    return np.ravel(eval(last, space))


def ask(browser, name, option):
    """Predict with the keyboard, and wait for the result.  -> the text of the result"""
    article = shown(browser, f"experiment-{name}")
    button = article.find_element("css selector", "button")
    assert not button.is_enabled() and article.find_elements("css selector", ".bars span") == []
    assert not article.find_element("css selector", ".source").is_displayed()
    inputs = article.find_elements("css selector", "input")
    browser.execute_script("arguments[0].focus({ preventScroll: true })", inputs[option])
    selenium.ActionChains(browser).send_keys(selenium.Keys.SPACE).perform()
    browser.execute_script("arguments[0].focus({ preventScroll: true })", button)
    selenium.ActionChains(browser).send_keys(selenium.Keys.ENTER).perform()
    wait.WebDriverWait(browser, 60).until(lambda b: article.find_element("css selector", ".source").is_displayed())
    return article.find_element("css selector", ".verdict").text


def test_experiments_with_the_cat(browser, folder, cat):
    """A change of the reader does not change the experiments."""
    opened(browser, (folder / "page.html").as_uri())
    found = browser.execute_script("return [...document.querySelectorAll('#experiments article')].map(({ id }) => id)")
    assert found == [f"experiment-{name}" for name in NAMES]
    pressed(browser, "skip block 0")
    waited(browser, "changed-says", "block skipped")
    verdicts = {}
    for name in NAMES:
        verdicts[name] = ask(browser, name, 0)
        numbers = numbers_of(browser, name)
        expected = by_python(browser, name, cat)
        assert len(numbers) == len(expected) > 1
        assert np.abs(numbers - expected).max() < (MOVED if name == "square" else SCORE)
    assert "Every picture gets the same scores. " in verdicts["convolutions"]
    assert "of a grey picture differ by at most 0. Only the heads bring numbers" in verdicts["convolutions"]
    pressed(browser, "Show this change in all steps", "experiment-equal")
    waited(browser, "changed-says", "^Changed: temperature ∞. The best label is frog, ")
    assert abs(numbers_of(browser, "equal")[1] - answered(browser, "changes-labels")["cat"]) < 1e-9
    shown(browser, "weight-sum")
    assert says(browser, "weight-sum").endswith(f"weight: exp / sum{100 / 65:.2f} %")
    assert verdicts["positions"].startswith("As you predicted: The score of cat changes by less than 0.1, and it ")
    assert "Another label becomes the best label. " in verdicts["pieces"]
    assert verdicts["block"].startswith("As you predicted: Without block 0, the score of cat is lowest. ")
    assert "A head of block 3 changes most. In block 3, head 2, 47.6" in verdicts["square"]
    assert "Only the mean of the cells changes the best label. The root mean square of the learned start is 0.054" in \
        verdicts["start"]
    assert "Another label becomes the best label. " in verdicts["equal"]
    assert no_messages(browser)


def test_experiments_with_another_picture(browser, folder):
    """A new picture begins without results."""
    opened(browser, (folder / "page.html").as_uri())
    ask(browser, "positions", 2)
    put_in(browser, folder / "frog.png")
    for name in NAMES:
        ask(browser, name, 1)
        expected = by_python(browser, name, folder / "frog.png")
        assert np.abs(numbers_of(browser, name) - expected).max() < (MOVED if name == "square" else SCORE)


def test_the_square_belongs_to_the_picture_without_changes(browser, folder, cat, model):
    """A picture is opened and the network is changed before the experiment is seen for the first time."""
    opened(browser, (folder / "page.html").as_uri())
    put_in(browser, folder / "ship <b>.png")
    pressed(browser, "skip block 0")
    waited(browser, "changed-says", "block skipped")
    ask(browser, "square", 0)
    code = browser.execute_script("return document.querySelector('#experiment-square code').textContent")
    found = [int(n) // 8 for n in re.search(r"(\d+):\d+, (\d+):\d+\] = 0", code).groups()]
    places = []
    for path in (folder / "ship <b>.png", cat):
        trace = model.trace(model.prepared(path))
        shares = measures.rollout(measures.attention(trace, 4))[-1, 0, 1:].reshape(8, 8)
        sums = [(shares[r:r + 2, c:c + 2].sum(), [r, c]) for r in range(7) for c in range(7)]
        places.append(max(sums)[1])
    assert found == places[0] != places[1]
    assert max(places[0][0] % 2, places[0][1] % 2)      # a square between those of a grid of 4 x 4 squares
    label = shown(browser, "experiment-square").find_element("tag name", "canvas").get_attribute("aria-label")
    rows, columns = (f"{n} to {n + 1}" for n in found)
    assert label == f"the picture; a frame marks rows {rows}, columns {columns}"


@pytest.mark.parametrize("kind", ["wide", "vit", "mean"])
def test_experiments_of_other_networks(browser, folder, kind):
    model = sights.network(kind)
    with Image.open(folder / "frog.png") as picture:
        (folder / "other.html").write_text(page(model, picture.convert("RGB"), "frog.png"), "utf-8")
    opened(browser, (folder / "other.html").as_uri())
    names = NAMES if kind != "mean" else [name for name in NAMES if name not in ("square", "start")]
    for name in names:
        ask(browser, name, 1)
        expected = by_python(browser, name, folder / "frog.png", model)
        assert np.abs(numbers_of(browser, name) - expected).max() < (MOVED if name == "square" else SCORE)
    verdict = browser.find_element("css selector", "#experiment-convolutions .verdict").text
    assert ("Every picture gets the same scores" in verdict) == (kind != "mean")
    assert no_messages(browser)


@pytest.mark.parametrize("width, scheme", [(390, "dark"), (861, "light"), (1280, "light"), (1920, "dark")])
def test_a_page_with_results_is_as_tidy(browser, folder, width, scheme):
    opened_with(browser, folder, "#changes;painted=1000-40-3;skipped=1", width, scheme)
    waited(browser, "changed-says", "block skipped")
    for name in NAMES:
        ask(browser, name, 0)
    check_contrast(browser)
    browser.execute_script("document.getElementById('changed').style.position = 'static'")   # it covers text on purpose
    check_layout(browser, width)
