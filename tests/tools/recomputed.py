"""Reads what the page of `nphybrid explain` computes, and the same numbers from Python."""
import re

import numpy as np
import selenium.webdriver as selenium
from selenium.webdriver.support import wait

from .acts import untouched
from .explained import says, settled, shown

SCORE = 2e-4                              # observed 1.4e-4, with the weights of the page and four decimals
MOVED = 1e-3                              # observed 6.0e-4, weights as shares: the page shows 20.1 %


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
    scores = scores_of(model, trace)
    return trace, {label: scores[label] for label in sorted(scores, key=scores.get, reverse=True)[:5]}


def close(found, expected, bound=SCORE):
    assert list(found) == list(expected)
    assert max(abs(found[label] - expected[label]) for label in expected) < bound


def computed(model, x):
    """The states of a prepared picture, channels last."""
    return untouched(x, model.learned(), model.network_config)


def scores_of(model, trace):
    """{label: score} of the states of a picture."""
    return dict(zip(model.config.id2label.values(), softmax(trace["logits"][0].astype(np.float64))))


def answer_is(browser, model, trace, text):
    """The page shows the answer of a trace, and says what is changed."""
    waited(browser, "changed-says", f"^Changed: {re.escape(text)}. ")
    scores = scores_of(model, trace)
    for name in ("answer-labels", "changes-labels"):
        found = answered(browser, name)
        close(found, {label: scores[label] for label in found})


def unchanged(browser):
    """Wait until the page shows the network without changes."""
    waited(browser, "changed-says", "^$")


def pressed(browser, label, within="changes-blocks"):
    """Press a button with the keyboard.  `label` is its label for a screen reader, or its text."""
    shown(browser, within)
    button = browser.execute_script("""
        return [...document.getElementById(arguments[0]).querySelectorAll("button")].find((button) =>
            (button.getAttribute("aria-label") ?? button.textContent) === arguments[1])""", within, label)
    browser.execute_script("arguments[0].focus({ preventScroll: true })", button)
    selenium.ActionChains(browser).send_keys(selenium.Keys.ENTER).perform()


def percentage(text, before):
    """The number of percent after a text, as a share."""
    return float(re.search(re.escape(before) + r"\s*([\d.]+)[ \u202f]%", text)[1]) / 100
