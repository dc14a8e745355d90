"""The page of each kind of network in a browser: it loads nothing, and it opens on what the classifier reads."""
import re

import numpy as np
import pytest

from nphybrid import ViTHybridImageProcessor
from nphybrid.explain.page import page

from oracles import sights

browsers = pytest.importorskip("tools.browser")
from tools.explained import check_layout, opened, requested, says, settled  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]


@pytest.fixture(scope="module")
def files(model, cat_picture, tmp_path_factory):
    """{kind: address} of a page for every kind of network."""
    folder, found = tmp_path_factory.mktemp("pages"), {}
    for kind in ("tiny", *sights.KINDS):
        network = model if kind == "tiny" else sights.network(kind)
        name = '<img src="x" onerror="alert(1)">'
        if network.has_head and kind != "tiny":
            network.config.id2label = {i: f"{name} {i}" for i in network.config.id2label}
        (folder / f"{kind}.html").write_text(page(network, cat_picture, "cat.png" if kind == "tiny" else name), "utf-8")
        found[kind] = (folder / f"{kind}.html").as_uri()
    return found


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


@pytest.mark.parametrize("kind", ["tiny", "wide", "mean"])
def test_the_page_opens_on_what_the_classifier_reads(browser, files, model, cat_picture, kind):
    """The token that the classifier reads, and the head that adds the longest vector to it."""
    opened(browser, files[kind])
    network = model if kind == "tiny" else sights.network(kind)
    x = ViTHybridImageProcessor.from_dict(network.processor)(cat_picture, return_tensors="np").pixel_values
    config, p = network.network_config, network.learned()
    last, lengths = config.blocks - 1, []
    context = network.trace(x)[f"blocks.{last}.context"][0].astype(np.float64)
    for head in range(config.heads):
        alone = np.where(np.arange(config.width) // config.head_width == head, context, 0)
        added = alone @ p.blocks[last].out.kernel
        lengths.append(np.linalg.norm(added.mean(0) if kind == "mean" else added[0]))
    token = r"token \d+ \(row \d, column \d\)" if kind == "mean" else "the class token"
    opening = f"Block {last}, head {np.argmax(lengths)}: {token} gives the weight"
    assert re.match(opening, says(browser, "attention-says"))
