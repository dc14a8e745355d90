"""Drives the page of `nphybrid explain` in a browser: opens it, chooses cells, and reads what it shows."""
import json

import numpy as np
import selenium.webdriver as selenium
from selenium.webdriver.support import wait

from nphybrid.explain import colours


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


def opened_with(browser, folder, link, *how):
    """Open the page of a folder with a link.  A page that is open already would only go to the link."""
    browser.get("about:blank")
    opened(browser, (folder / "page.html").as_uri() + link, *how)


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


def same_colours(found, values, low, high, scale=colours.SEQUENTIAL):
    """Within two of 255, everywhere; and the picture is not of one colour, so that another row would differ."""
    expected = colours.coloured(values, low, high, scale).astype(int)
    return np.abs(found - expected).max() <= 2 and np.ptp(expected, axis=(0, 1)).max() > 60


def no_messages(browser):
    """No message of the page.  Chromium says that `drawn` would be faster with another option."""
    return [entry for entry in browser.get_log("browser") if "willReadFrequently" not in str(entry)
            and "Multiple readback operations" not in str(entry)] == []


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
    assert pairs == [], pairs


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
