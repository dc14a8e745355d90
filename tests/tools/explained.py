"""Drives the page of `nphybrid explain` in a browser: opens it, chooses cells, and reads what it shows."""
import json
import re

import numpy as np
import selenium.webdriver as selenium
from selenium.webdriver.support import wait

SCORE = 2e-4                              # observed 4e-5: a score of the page, and the same score of Python


def opened(browser, address, width=1280, scheme="light"):
    browser.get_log("browser"), browser.get_log("performance")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(address)
    wait.WebDriverWait(browser, 30).until(
        lambda b: b.execute_script("return document.documentElement.dataset.ready === 'true'"))
    settled(browser)


def settled(browser):
    """Wait until the choice and what became visible are drawn."""
    browser.execute_async_script("""const done = arguments[0];
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(done), 0)));""")


def hover(browser, canvas, row, column, rows, columns, click=False):
    """Move the pointer into the middle of a cell."""
    element = shown(browser, canvas)
    box = element.rect
    across, down = ((at + 0.5) / n - 0.5 for at, n in ((column, columns), (row, rows)))
    actions = selenium.ActionChains(browser).move_to_element_with_offset(
        element, int(across * box["width"]), int(down * box["height"]))
    (actions.click() if click else actions).perform()
    settled(browser)


def click(*place):
    """Choose a cell."""
    hover(*place, click=True)


def shown(browser, name):
    """Scroll to an element, so that it is drawn."""
    element = browser.find_element("id", name)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    settled(browser)
    return element


def press(browser, element, *keys):
    browser.execute_script("document.getElementById(arguments[0]).focus({preventScroll: true})", element)
    for key in keys:
        selenium.ActionChains(browser).send_keys(getattr(selenium.Keys, key.upper())).perform()
    settled(browser)


def says(browser, element):
    text = browser.find_element("id", element).get_attribute("textContent")
    return text.replace("\u2212", "-").replace("\u202f", " ")


def drawn(browser, canvas, rows, columns, corner=0.25):
    """The colours in the cells of a canvas, next to their upper left corners but inside frames.  (rows, columns, 3)"""
    shown(browser, canvas)
    return np.array(browser.execute_script("""
        const [id, rows, columns, corner] = arguments;
        const canvas = document.getElementById(id);
        const context = canvas.getContext("2d");
        const pick = (i) => context.getImageData(
            Math.floor(((i % columns) + corner) * canvas.width / columns),
            Math.floor((Math.floor(i / columns) + corner) * canvas.height / rows), 1, 1).data;
        return Array.from({ length: rows * columns }, (_, i) => Array.from(pick(i)).slice(0, 3));
    """, canvas, rows, columns, corner)).reshape(rows, columns, 3)


def pressed(browser, label):
    """Press a button with the keyboard."""
    shown(browser, "changes-blocks")
    button = browser.find_element("css selector", f'button[aria-label="{label}"]')
    browser.execute_script("arguments[0].focus({ preventScroll: true })", button)
    selenium.ActionChains(browser).send_keys(selenium.Keys.ENTER).perform()


def put_in(browser, path, name="picture-file"):
    """Choose a file, and wait until the page shows the result."""
    browser.find_element("id", name).send_keys(str(path))
    waited(browser, "picture-says", r"computed the answer|cannot be opened")


def waited(browser, name, pattern):
    """Wait until the text of an element contains a match of a pattern."""
    wait.WebDriverWait(browser, 60).until(lambda b: re.search(pattern, says(b, name)))
    settled(browser)


def answered(browser, name):
    """{label: score} in the order of the page."""
    return {row[0]: float(row[1]) for row in browser.execute_script("""
        return [...document.querySelectorAll(`#${arguments[0]} .answer`)].map((row) =>
            [row.querySelector("b").textContent, row.querySelectorAll("span")[1].textContent])""", name)}


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def truth(model, path):
    """The trace of a picture, and {label: score} of the five best labels."""
    trace = model.trace(model.prepared(path))
    scores = softmax(trace["logits"][0].astype(np.float64))
    best = np.argsort(-scores)[:5]
    return trace, {model.config.id2label[int(i)]: scores[i] for i in best}


def close(found, expected, bound=SCORE):
    """The same labels in the same order, with scores that differ by less than the bound."""
    assert list(found) == list(expected)
    assert max(abs(found[label] - expected[label]) for label in expected) < bound


def requested(browser):
    """The addresses that the browser asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def check_layout(browser, width):
    """Nothing scrolls sideways, and no text, picture or button covers another one."""
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


def check_contrast(browser):
    """A contrast of at least 4.5 between every text and what lies behind it.  WCAG 2, 1.4.3"""
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
