"""The page in a browser: it touches nothing but itself, and what is chosen is what is shown."""
import json
import shutil

import numpy as np
import pytest

import sights
from nphybrid import ViTHybridImageProcessor, default_model, open_picture
from nphybrid.api.pipeline import load
from nphybrid.explain import colours, measures
from nphybrid.explain.page import page

selenium = pytest.importorskip("selenium.webdriver")
wait = pytest.importorskip("selenium.webdriver.support.wait")
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: "
                                                                  "apt-get install chromium chromium-driver)")
SWITCHES = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
            "--disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb").split()


@pytest.fixture(scope="module")
def browser():
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def cat(root):
    return open_picture(root / "examples" / "images" / "cat.png")


@pytest.fixture(scope="module")
def tiny(cat):
    """The bundled model, its walk over the cat, and the learned tree."""
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


def opened(browser, address, width=1280):
    browser.get_log("browser"), browser.get_log("performance")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.get(address)
    wait.WebDriverWait(browser, 30).until(
        lambda b: b.execute_script("return document.documentElement.dataset.ready === 'true'"))
    settled(browser)


def settled(browser):
    """What was chosen has been drawn."""
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));")


def hover(browser, canvas, row, column, rows, columns):
    """Move the pointer into the middle of a cell."""
    element = browser.find_element("id", canvas)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    box = element.rect
    across, down = ((at + 0.5) / n - 0.5 for at, n in ((column, columns), (row, rows)))
    selenium.ActionChains(browser).move_to_element_with_offset(
        element, int(across * box["width"]), int(down * box["height"])).perform()
    settled(browser)


def press(browser, element, *keys):
    browser.execute_script("document.getElementById(arguments[0]).focus({preventScroll: true})", element)
    for key in keys:
        selenium.ActionChains(browser).send_keys(getattr(selenium.Keys, key.upper())).perform()
    settled(browser)


def says(browser, element):
    told = browser.find_element("id", element).get_attribute("textContent")
    return told.replace("\u2212", "-").replace("\u202f", " ")


def drawn(browser, canvas, rows, columns, corner=0.25):
    """The colours in the cells of a canvas, next to their upper left corners but inside frames.  (rows, columns, 3)"""
    return np.array(browser.execute_script("""
        const [id, rows, columns, corner] = arguments;
        const canvas = document.getElementById(id);
        const context = canvas.getContext("2d");
        const pick = (i) => context.getImageData(
            Math.floor(((i % columns) + corner) * canvas.width / columns),
            Math.floor((Math.floor(i / columns) + corner) * canvas.height / rows), 1, 1).data;
        return Array.from({ length: rows * columns }, (_, i) => Array.from(pick(i)).slice(0, 3));
    """, canvas, rows, columns, corner)).reshape(rows, columns, 3)


def same_colours(found, values, low, high, scale=colours.SEQUENTIAL):
    """Within two of 255, everywhere; and the picture is not of one colour, so that another row would differ."""
    expected = colours.coloured(values, low, high, scale).astype(int)
    return np.abs(found - expected).max() <= 2 and np.ptp(expected, axis=(0, 1)).max() > 60


# ------------------------------------------------------------------ the page as a whole

@pytest.mark.parametrize("kind", ["tiny", *sights.KINDS])
def test_the_page_opens_and_asks_for_nothing(browser, files, kind):
    opened(browser, files[kind])
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert files[kind] in asked and [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert asked.count(files[kind]) == len([url for url in asked if url.startswith("file:")]) == 1
    sections = browser.execute_script("return [...document.querySelectorAll('main > section')].map((s) => s.id)")
    assert sections[0] == "photograph" and ("attention" in sections) == (kind != "bit")


def test_a_request_would_be_seen(browser, files):
    """The test above can fail: the page's policy stops a picture from elsewhere, and the log tells."""
    opened(browser, files["tiny"])
    browser.execute_script("document.body.append(Object.assign(new Image(), {src: 'http://localhost:9/x.png'}))")
    settled(browser)
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("kind", ["tiny", "wide", "bit"])
@pytest.mark.parametrize("width", [390, 861, 1280, 1920])
def test_nothing_scrolls_sideways_and_nothing_overlaps(browser, files, kind, width):
    opened(browser, files[kind], width)
    wide, boxes = browser.execute_script("""
        const shown = (node) => node.checkVisibility() && node.getBoundingClientRect().width > 0;
        const boxes = [];
        const add = (name, box) => boxes.push([name, box.left, box.top, box.right, box.bottom]);
        for (const node of document.querySelectorAll("canvas, button, input")) {
            if (shown(node)) add(node.id || node.tagName, node.getBoundingClientRect());
        }
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) {
            const node = texts.currentNode;
            const parent = node.parentElement;
            if (!node.data.trim() || !parent.checkVisibility()
                || parent.closest("script, style, button, sub, sup, noscript")) continue;
            const range = document.createRange();
            range.selectNodeContents(node);
            for (const box of range.getClientRects()) if (box.width > 1) add(node.data.trim().slice(0, 30), box);
        }
        return [document.documentElement.scrollWidth, boxes];
    """)
    assert wide <= width and len(boxes) > 100
    names, places = [box[0] for box in boxes], np.array([box[1:] for box in boxes])
    assert [name for name, place in zip(names, places) if place[0] < 0 or place[2] > width + 0.5] == []
    # Lines of text may touch: a box is as high as its line, and letters are lower.
    left, top, right, bottom = (places + [1, 4, -1, -4]).T
    over = ((left[:, None] < right) & (left < right[:, None]) & (top[:, None] < bottom) & (top < bottom[:, None]))
    pairs = [(names[i], names[j]) for i, j in np.argwhere(np.triu(over, 1))]
    assert pairs == []


@pytest.mark.parametrize("width", [390, 1280])
def test_text_stands_out(browser, files, width):
    """A contrast of at least 4.5 between every text and what lies behind it.  WCAG 2, 1.4.3"""
    opened(browser, files["tiny"], width)
    found = browser.execute_script("""
        const colour = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
        const behind = (node) => {
            for (; node; node = node.parentElement) {
                const [r, g, b, a = 1] = colour(getComputedStyle(node).backgroundColor);
                if (a === 1 && r !== undefined) return [r, g, b];
            }
            return [255, 255, 255];
        };
        const found = [];
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) {
            const parent = texts.currentNode.parentElement;
            if (!texts.currentNode.data.trim() || !parent.checkVisibility()) continue;
            const style = getComputedStyle(parent);
            const ink = parent.closest("svg") ? style.fill : style.color;
            found.push([texts.currentNode.data.trim().slice(0, 30), colour(ink).slice(0, 3), behind(parent)]);
        }
        return found;
    """)
    assert len(found) > 300
    for text, ink, paper in found:
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ink, paper)


def luminance(rgb):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb) / 255]
    return np.dot(parts, (0.2126, 0.7152, 0.0722))


def test_every_picture_has_a_text(browser, files):
    opened(browser, files["tiny"])
    texts = browser.execute_script("""return [...document.querySelectorAll("main canvas, main svg")].map((node) =>
        [node.id, node.getAttribute("aria-label"), node.getAttribute("role")])""")
    assert len(texts) > 20
    assert all(label and len(label) > 7 and role in ("img", "application") for _, label, role in texts)
    reached = browser.execute_script("""return [...document.querySelectorAll("[role=application]")].every(
        (node) => node.tabIndex === 0)""")
    assert reached


# ------------------------------------------------------------------ touching

def test_hovering_a_token_shows_its_row(browser, files, weights):
    opened(browser, files["tiny"])
    for row, column in ((1, 6), (7, 0), (4, 4)):
        hover(browser, "attention-query", row, column, 8, 8)
        token, looks = 1 + row * 8 + column, weights[3, 0, 1 + row * 8 + column]
        assert f"Block 3, head 0: token {token} (row {row}, column {column}) takes" in says(browser, "attention-says")
        assert same_colours(drawn(browser, "attention-keys", 8, 8), looks[1:].reshape(8, 8), 0, looks[1:].max())
        assert f"{100 * looks[0]:.2f} % from the class token" in says(browser, "attention-says")


def test_keys_go_through_blocks_and_heads(browser, files, weights):
    opened(browser, files["tiny"])
    hover(browser, "attention-query", 2, 5, 8, 8)
    layer, head = 3, 0
    for keys, layer, head in ((["arrow_up"], 2, 0), (["arrow_right", "arrow_right"], 2, 2), (["arrow_up"] * 5, 0, 2),
                              (["arrow_left", "arrow_down"], 1, 1)):
        press(browser, "attention-heads", *keys)
        looks = weights[layer, head, 1 + 2 * 8 + 5]
        assert f"Block {layer}, head {head}: token 22" in says(browser, "attention-says")
        assert same_colours(drawn(browser, "attention-keys", 8, 8), looks[1:].reshape(8, 8), 0, looks[1:].max())
    # The picture's own keys move the token, and the class token has its button.
    press(browser, "attention-query", "arrow_down", "arrow_left")
    assert "Block 1, head 1: token 29 (row 3, column 4)" in says(browser, "attention-says")
    press(browser, "attention-class", "enter")
    looks = weights[1, 1, 0]
    assert "the class token takes" in says(browser, "attention-says")
    assert same_colours(drawn(browser, "attention-keys", 8, 8), looks[1:].reshape(8, 8), 0, looks[1:].max())


def test_the_table_of_heads_shows_every_head(browser, files, weights):
    opened(browser, files["tiny"])
    hover(browser, "attention-query", 0, 3, 8, 8)
    found = drawn(browser, "attention-heads", 32, 24, corner=0.5).reshape(4, 8, 3, 8, 3).transpose(0, 2, 1, 3, 4)
    for layer in range(4):
        for head in range(3):
            looks = weights[layer, head, 4, 1:].reshape(8, 8)
            assert same_colours(found[layer, head][1:-1, 1:-1], looks[1:-1, 1:-1], 0, looks.max()), (layer, head)


def test_a_chosen_cell_is_chosen_everywhere(browser, files):
    opened(browser, files["tiny"])
    hover(browser, "positions-all", 6, 2, 8, 8)
    for element in ("tokens-says", "positions-says", "attention-says"):
        assert "token 51 (row 6, column 2)" in says(browser, element)


def test_the_stem_is_computed(browser, files, tiny):
    opened(browser, files["tiny"])
    hover(browser, "stem-filters", 5, 3, 8, 8)
    for row, column in ((0, 0), (31, 31), (12, 20)):
        hover(browser, "stem-response", row, column, 32, 32)
        told = float(says(browser, "stem-value"))
        assert abs(told - tiny[1]["stem.conv"][0, row, column, 5 * 8 + 3]) < 6e-4
    found = tiny[1]["stem.conv"][0, :, :, 43]
    most = np.abs(found).max()
    shown = drawn(browser, "stem-response", 32, 32, corner=0.5)
    away = np.ones((32, 32), bool)
    away[10:15, 18:23] = False                                    # the frame
    expected = colours.coloured(found, -most, most, colours.DIVERGING).astype(int)
    assert np.abs(shown - expected)[away].max() <= 2


def test_stages_tokens_and_positions_tell_the_numbers(browser, files, tiny):
    _, trace, p = tiny
    opened(browser, files["tiny"])
    hover(browser, "stages-1", 1, 2, 2, 8)
    hover(browser, "stages-map", 3, 6, 8, 8)
    channel = np.argsort(-trace["stages.1.1"][0].var((0, 1)), kind="stable")[10]
    said = says(browser, "stages-says")
    assert said.startswith(f"Stage 1, channel {channel}, row 3, column 6: ")
    state = trace["stages.1.1"][0, :, :, channel]
    assert abs(float(said.split(": ")[1]) - state[3, 6]) < state.max() / 500 + 6e-4

    hover(browser, "tokens-grid", 1, 1, 8, 8)
    hover(browser, "tokens-sum", 0, 100, 1, 192)
    said = says(browser, "tokens-says")
    assert said.startswith("Number 100 of token 10 (row 1, column 1): ")
    a, b, c = map(float, said.split(": ")[1].replace("=", "+").split(" + "))
    assert abs(c - trace["tokens"][0, 10, 100]) < 2e-3 and abs(b - p.tokens.positions[10, 100]) < 2e-3
    assert abs(a + b - c) < 2e-3

    hover(browser, "positions-one", 7, 7, 8, 8)
    alike = measures.position_similarity(p.tokens.positions, (8, 8))
    assert abs(float(says(browser, "positions-says").split("cosine ")[1]) - alike[9, 63]) < 0.011


def test_one_weight_by_hand_is_the_weight(browser, files, weights):
    opened(browser, files["tiny"])
    hover(browser, "attention-query", 5, 5, 8, 8)
    press(browser, "attention-heads", "arrow_up", "arrow_right")
    hover(browser, "weight-key", 2, 3, 8, 8)
    told = float(says(browser, "weight-sum").split("ratio")[1].rstrip(" %")) / 100
    assert abs(told - weights[2, 1, 1 + 45, 1 + 19]) < 6e-5
    assert f"takes {100 * weights[2, 1, 46, 20]:.2f} %" in says(browser, "attention-says")


def test_distance_rollout_and_road(browser, files, tiny, weights):
    model, trace, p = tiny
    opened(browser, files["tiny"])
    far = measures.attention_distance(weights, (8, 8), (8, 8))
    press(browser, "distance-chart", "arrow_left", "arrow_down")
    assert says(browser, "distance-says") == f"Block 2, head 1 looks {far[2, 1]:.1f} pixels far on average"
    dots = browser.execute_script("""return [...document.querySelectorAll("#distance-chart circle")].map((dot) =>
        [dot.dataset.head, Number(dot.getAttribute("cy"))])""")
    assert dots[-1][0] == "2 1"                                    # on top of the others
    heights = np.array([y for _, y in sorted(dots)])
    assert sorted(name for name, _ in dots) == [f"{l} {h}" for l in range(4) for h in range(3)]
    assert np.corrcoef(heights, far.reshape(-1))[0, 1] < -0.99999

    rolled = measures.rollout(weights)[:, 0]
    for depth in (3, 2, 1):
        press(browser, "road-chart", *(["arrow_left"] if depth < 3 else []))
        values = rolled[depth, 1:].reshape(8, 8)
        assert same_colours(drawn(browser, "rollout-map", 8, 8, corner=0.3), values, 0, values.max())
        hover(browser, "rollout-map", 2, 7, 8, 8)
        assert says(browser, "rollout-says").startswith(f"After block {depth}, {100 * rolled[depth, 24]:.2f} %")
        states = [trace["tokens"]] + [trace[f"blocks.{l}"] for l in range(4)]
        lens = measures.logit_lens(states, p, model.sizes, model.ops)[depth + 1, 0]
        score = np.exp(lens.max()) / np.exp(lens).sum()
        assert says(browser, "road-says") == (f"After block {depth} the best of 10 labels is "
                                              f"{model.config.id2label[int(lens.argmax())]}, with {score:.4f}")
    press(browser, "rollout-depth", "arrow_left")
    assert says(browser, "rollout-says").startswith("After block 0, ")


def test_a_pixel_tells_its_numbers(browser, files, tiny):
    opened(browser, files["tiny"])
    hover(browser, "photograph-seen", 10, 50, 64, 64)
    said = says(browser, "photograph-says")
    values = [float(part.split("\u2192 ")[1]) for part in said.split(": ")[1].split(", ")]
    assert said.startswith("Row 10, column 50: red")
    assert np.abs(np.array(values) - tiny[1]["pixel_values"][0, 10, 50]).max() < 6e-4


def test_where_keys_were_added_up_a_cell_tells_their_sum(browser, cat, tmp_path, monkeypatch):
    from nphybrid.explain import scene
    monkeypatch.setattr(scene, "MOST_TOKENS", 10)
    model = sights.network("wide")                                # 3 x 5 cells: 2 x 3 sums, the last of them of fewer
    (tmp_path / "page.html").write_text(page(model, cat), "utf-8")
    x = ViTHybridImageProcessor.from_dict(model.processor)(cat, return_tensors="np").pixel_values
    looks = measures.attention(model.trace(x), 3)[2, 0, 1 + 7]
    cells = looks[1:].reshape(3, 5)
    sums = [[cells[i:i + 2, j:j + 2].sum() for j in (0, 2, 4)] for i in (0, 2)]
    opened(browser, (tmp_path / "page.html").as_uri())
    hover(browser, "attention-query", 1, 2, 3, 5)
    found = drawn(browser, "attention-keys", 3, 5, corner=0.3)
    expected = np.repeat(np.repeat(sums, 2, 0), 2, 1)[:3, :5]
    assert same_colours(found, expected, 0, np.max(sums))
    hover(browser, "attention-keys", 2, 4, 3, 5)
    told = float(says(browser, "attention-says").split("takes ")[1].split(" %")[0]) / 100
    assert abs(told - sums[1][2]) < np.max(sums) / 510 + 6e-4
