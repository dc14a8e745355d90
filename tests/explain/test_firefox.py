"""The page in Firefox: another picture, and a head that is switched off, compared with Python."""
import re

import numpy as np
import pytest

firefoxes = pytest.importorskip("tools.firefox")
tools = pytest.importorskip("tools.recomputed")

pytestmark = [pytest.mark.slow, firefoxes.NEEDED]
ROWS = """[...document.querySelectorAll('#answer-labels .answer')].map((row) =>
    [row.querySelector('b').textContent, ...[...row.querySelectorAll('span')].map((span) => span.textContent)])"""


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    browser = firefoxes.Firefox(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def check(firefox, expected):
    """The labels of the page are the best of {label: logit}, with their logits and scores."""
    scores = dict(zip(expected, tools.softmax(np.array(list(expected.values()), np.float64))))
    found = {label: (logit, score) for label, logit, score in firefox.evaluate(ROWS)}
    for label, (logit, score) in found.items():
        shown = float(logit.removeprefix("logit ").replace("\u2212", "-"))
        assert abs(shown - expected[label]) < 0.005 + 1e-3              # two digits, and LOGITS of javascript.py
        assert abs(float(score) - scores[label]) < tools.SCORE
    return list(found)


def test_the_page(firefox, site, pictures, model):
    firefox.open((site / "index.html").as_uri())
    firefox.until("document.documentElement.dataset.ready")
    names = list(model.config.id2label.values())
    logits = model(pixel_values=model.prepared(pictures[0])).logits[0]
    assert check(firefox, dict(zip(names, logits)))[0] == "cat"

    twin = "document.querySelector('#attention .twin')"                   # the JavaScript of `attention`
    assert not firefox.evaluate(f"{twin}.checkVisibility()")
    firefox.click("#attention .twin-button")
    shown, lines = firefox.evaluate(f"[{twin}.checkVisibility(), {twin}.innerText]")
    assert shown and "function attention(" in lines and "attention_with_weights(" in lines
    firefox.click("#attention .twin-button")
    assert not firefox.evaluate(f"{twin}.checkVisibility()")

    firefox.put_in("#picture-file", pictures[1])                          # a turned JPEG
    firefox.until("/computed the answer/.test(document.getElementById('picture-says').textContent)")
    logits = model(pixel_values=model.prepared(pictures[1])).logits[0]
    best = check(firefox, dict(zip(names, logits)))
    assert best == [names[i] for i in np.argsort(-logits)[:5]] and best[0] != "cat"
    assert firefox.evaluate("document.title").startswith("frog.jpg: a forward pass")

    firefox.click('[aria-label="switch off head 2 of block 2"]')
    firefox.until("/1 head off/.test(document.getElementById('changed-says').textContent)")
    mask = np.ones((4, 3), np.float32)
    mask[2, 2] = 0
    changed = model(pixel_values=model.prepared(pictures[1]), head_mask=mask).logits[0]
    now = [names[i] for i in np.argsort(-changed)[:5]]
    assert check(firefox, dict(zip(names, changed))) == best + [name for name in now if name not in best]
    assert np.abs(changed - logits).max() > 0.1

    for width in (390, 861, 1280, 1920):
        firefox.send("browsingContext.setViewport", context=firefox.page, viewport={"width": width, "height": 900})
        inner, client, scrolled = firefox.evaluate(
            "[innerWidth, document.documentElement.clientWidth, document.documentElement.scrollWidth]")
        assert inner == width and scrolled == client                     # the scroll bar is not part of `client`
    messages = [event["text"] for method, event in firefox.events if method == "log.entryAdded"]
    asked = [event["request"]["url"] for method, event in firefox.events if method == "network.beforeRequestSent"]
    assert messages == [] and [url for url in asked if not re.match("file:|data:|blob:", url)] == []
    firefox.evaluate("console.log('seen')")
    assert [event["text"] for method, event in firefox.events if method == "log.entryAdded"] == ["seen"]
