"""The JavaScript twins on the page: the text that the page runs, beside the Python source."""
import re

import pytest

from nphybrid import open_picture
from nphybrid.explain import worker
from nphybrid.explain.page import page

from oracles import sights
from tools.twins import ONLY_PYTHON, SCRIPT, functions

browsers = pytest.importorskip("tools.browser")
from tools.explained import check_contrast, check_layout, opened, settled  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]

selenium = browsers.selenium
TWINS = functions()
OPEN_ALL = """
    document.querySelectorAll("details").forEach((node) => { node.open = true; });
    document.querySelectorAll(".twin-button").forEach((node) => node.click());"""
TEXTS = """
    return [...document.querySelectorAll(".source[data-function]")].map((node) => {
        const lines = (part) => [...node.querySelectorAll(`${part} .line`)].map((line) =>
            [line.firstChild.textContent, line.querySelector(".shape")?.textContent ?? ""]);
        return [node.dataset.function, lines("pre:not(.twin *)"), lines(".twin"),
            [...node.querySelectorAll(".twin")].filter((twin) => twin.checkVisibility()).length];
    });"""


@pytest.fixture(scope="module")
def addresses(cat, model, tmp_path_factory):
    """{kind: address} of the page of the bundled model, of pages of other networks, and of a page that stores all."""
    folder, picture, found = tmp_path_factory.mktemp("twins"), open_picture(cat), {}
    pages = {"tiny": model, "vit": sights.network("vit"), "bit": sights.network("bit"), "stored": model}
    for kind, shown in pages.items():
        with pytest.MonkeyPatch.context() as patch:
            if kind == "stored":
                patch.setattr(worker, "MAX_PARAMETERS", 1_000_000)
            (folder / f"{kind}.html").write_text(page(shown, picture, "cat.png"), "utf-8")
        found[kind] = (folder / f"{kind}.html").as_uri()
    return found


def opened_twins(browser, address, *size):
    opened(browser, address, *size)
    browser.execute_script(OPEN_ALL)
    settled(browser)


def squeezed(text):
    """JavaScript without shapes, spaces and the signs of comments."""
    return re.sub(r"\s|//", "", re.sub(r" // \(.*\)$", "", text, flags=re.MULTILINE))


def without_pictures(shape):
    """A shape in Python without the axis of the pictures. The class token is one vector for all pictures and tokens."""
    return re.sub(r"^\((?:(?:1|B), )+", "(", shape)


@pytest.mark.parametrize("kind", ["tiny", "vit", "bit"])
def test_a_twin_is_the_function_that_the_page_runs(browser, addresses, kind):
    opened_twins(browser, addresses[kind])
    rows = browser.execute_script(TEXTS)
    assert len(rows) == {"tiny": 26, "vit": 20, "bit": 7}[kind]
    for name, python, twin, visible in rows:
        assert visible == (name not in ONLY_PYTHON), name
        if visible:
            comment, _, body = TWINS[name]
            shown = "".join(line for line, _ in twin)
            assert squeezed(shown) in squeezed(SCRIPT)
            assert squeezed(shown).startswith(squeezed(comment)) and squeezed(body) in squeezed(shown)
            expected = [without_pictures(shape) for _, shape in python if shape]
            assert [shape for _, shape in twin if shape] == expected, name
    assert browser.get_log("browser") == []


def test_a_page_that_stores_its_states_has_no_twins(browser, addresses):
    opened(browser, addresses["stored"])
    assert browser.execute_script("return document.querySelectorAll('.twin, .twin-button').length") == 0


@pytest.mark.parametrize("width", [390, 861, 1280, 1920])
def test_open_twins_scroll_nothing_sideways_and_cover_nothing(browser, addresses, width):
    opened_twins(browser, addresses["tiny"], width)
    check_layout(browser, width)


@pytest.mark.parametrize("width, scheme", [(390, "light"), (1280, "dark"), (1280, "light")])
def test_axe_finds_no_violation_in_open_twins(browser, addresses, width, scheme):
    axe = pytest.importorskip("selenium_axe_python").Axe(browser)
    opened_twins(browser, addresses["tiny"], width, scheme)
    check_contrast(browser)
    browser.set_script_timeout(120)
    axe.inject()
    found = axe.run()
    assert len(found["passes"]) > 30 and found["violations"] == [], axe.report(found["violations"])


@pytest.mark.parametrize("width", [390, 1280])
def test_twins_are_opened_by_the_keyboard(browser, addresses, width):
    """Below the Python source in one column, and at its right in two. The button stays at its place in the window."""
    opened(browser, addresses["tiny"], width)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]})
    height = "return document.documentElement.scrollHeight"
    source = browser.find_element("css selector", "#attention .source")
    browser.execute_script("arguments[0].open = true; arguments[0].querySelector('summary').focus()", source)
    selenium.ActionChains(browser).send_keys(selenium.Keys.TAB).perform()
    settled(browser)
    button = browser.switch_to.active_element
    assert (button.accessible_name, button.get_attribute("aria-expanded")) == ("attention in JavaScript", "false")
    twin = browser.find_element("id", button.get_attribute("aria-controls"))
    before, place = browser.execute_script(height), top(browser, button)
    assert not twin.is_displayed()
    selenium.ActionChains(browser).send_keys(selenium.Keys.ENTER).perform()
    settled(browser)
    assert twin.is_displayed() and button.get_attribute("aria-expanded") == "true"
    assert abs(top(browser, button) - place) < 1
    python, code = source.find_element("tag name", "pre").rect, twin.find_element("tag name", "pre").rect
    if width == 390:
        assert python["x"] == code["x"] and code["y"] > python["y"] + python["height"]
    else:
        assert abs(python["y"] - code["y"]) < 1 and code["x"] > python["x"] + python["width"]
        assert abs(python["width"] - code["width"]) < 1
    selenium.ActionChains(browser).send_keys(selenium.Keys.SPACE).perform()
    settled(browser)
    assert not twin.is_displayed() and button.get_attribute("aria-expanded") == "false"
    assert browser.execute_script(height) == before and abs(top(browser, button) - place) < 1


def top(browser, node):
    return browser.execute_script("return arguments[0].getBoundingClientRect().top", node)


@pytest.mark.parametrize("width", [390, 1280])
def test_closed_twins_do_not_make_the_page_longer(browser, addresses, width):
    opened(browser, addresses["tiny"], width)
    high, without = browser.execute_script("""
        const height = () => document.documentElement.scrollHeight;
        const before = height();
        document.querySelectorAll(".twin, .twin-button").forEach((node) => node.remove());
        return [before, height()];""")
    assert high == without > 10_000


def test_the_printed_page_has_the_open_twins(browser, addresses):
    opened(browser, addresses["tiny"], 1280, "dark")
    browser.execute_script("document.querySelector('#attention .twin-button').click()")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": 794, "height": 900, "deviceScaleFactor": 1, "mobile": False})        # A4
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    settled(browser)
    try:
        check_layout(browser, 794)
        twins, buttons, python, code = browser.execute_script("""
            const [twins, buttons] = [".twin", ".twin-button"].map((name) =>
                [...document.querySelectorAll(name)].filter((node) => node.checkVisibility()));
            const box = (node) => node.getBoundingClientRect();
            return [twins.length, buttons.length, box(twins[0].parentElement.firstChild).bottom, box(twins[0]).top];""")
        assert (twins, buttons) == (1, 0) and code >= python
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
