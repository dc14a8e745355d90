"""The page of the server in a browser: dropped pictures get their labels, a broken one its error."""
import contextlib
import json
import threading

import pytest

from nphybrid.batch.pipeline import pipeline
from nphybrid.pictures.decode import formats
from nphybrid.serve.server import Server
from nphybrid.serve.service import Service

selenium = pytest.importorskip("selenium.webdriver")
browsers = pytest.importorskip("tools.browser")
wait = pytest.importorskip("selenium.webdriver.support.wait")
pytestmark = [pytest.mark.slow, browsers.NEEDED]


@pytest.fixture(scope="module")
def server(model):
    with Server(Service(model, "<b>a model</b>", top_k=3), port=0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def opened(browser, server, width=1280, scheme="light"):
    with contextlib.suppress(Exception):
        browser.get_log("browser"), browser.get_log("performance")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(f"{server.address}/")


def until(browser, condition):
    return wait.WebDriverWait(browser, 60).until(condition)


def progress(browser):
    return browser.find_element("id", "progress").text


def drop_files(browser, paths):
    """Drop files from outside the browser onto the middle of the page."""
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": {
            "items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}})


@pytest.fixture
def files(cat, tmp_path):
    """Two pictures with names that HTML could read, and a broken picture."""
    data = cat.read_bytes()
    explain = (cat.parent / "explain.png").read_bytes()
    paths = []
    for name, content in (("<img src=x onerror=alert(1)>.png", data), ("zwölf &amp; 二.png", explain),
                          ("broken.png", data[:5000])):
        path = tmp_path / name
        path.write_bytes(content)
        paths.append(path)
    return paths


def results(browser):
    """(name, [(label, score)], error) of each result on the page, from above."""
    return [(node.find_element("css selector", "h2").text,
             [tuple(row.text.split("\n")) for row in node.find_elements("css selector", ".answer")],
             " ".join(error.text for error in node.find_elements("css selector", ".error")))
            for node in browser.find_elements("css selector", ".result")]


def expected(model, path):
    labels = pipeline("image-classification", model)(str(path), top_k=3)
    return [(label["label"], f"{label['score']:.4f}") for label in labels]


def test_two_pictures_and_a_broken_one(browser, server, model, files):
    opened(browser, server)
    until(browser, lambda b: b.find_element("id", "model").text == "The model is <b>a model</b>. It has 10 classes.")
    assert browser.find_element("id", "formats").text == f"The formats are {', '.join(formats())}."
    drop_files(browser, files)
    until(browser, lambda b: progress(b) == "3 pictures done, 1 refused")
    first, second, broken = results(browser)
    assert first == (files[0].name, expected(model, files[0]), "")
    assert second == (files[1].name, expected(model, files[1]), "")
    assert broken[:2] == ("broken.png", []) and "damaged" in broken[2]
    widths = [bar.size["width"] for bar in browser.find_elements("css selector", ".result:first-child .answer i")]
    room = browser.find_element("css selector", ".result .answer div").size["width"]
    scores = [float(score) for _, score in first[1]]
    assert all(abs(width / room - score) < 0.01 for width, score in zip(widths, scores))
    pictures = browser.find_elements("css selector", ".result img")
    assert [picture.get_property("naturalWidth") for picture in pictures] == [451, 1262]
    assert len(browser.find_elements("css selector", ".result form")) == 2

    # The page loads nothing from elsewhere, and its policy blocks nothing that the page needs.
    assert all("422" in line["message"] for line in browser.get_log("browser"))
    events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    urls = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {url.partition("/page.")[0].removesuffix("/") for url in urls if not url.startswith(("blob:", "data:"))} <= {
        server.address, f"{server.address}/health", f"{server.address}/classify"}


def test_the_link_opens_the_explain_page(browser, server, files):
    opened(browser, server)
    drop_files(browser, files[:1])
    until(browser, lambda b: progress(b) == "1 picture done")
    browser.find_element("css selector", ".result button").click()
    page = browser.current_window_handle
    until(browser, lambda b: len(b.window_handles) == 2)
    browser.switch_to.window(next(handle for handle in browser.window_handles if handle != page))
    until(browser, lambda b: b.execute_script("return document.documentElement.dataset.ready === 'true'"))
    assert browser.title.startswith(f"{files[0].name}: a forward pass")
    assert browser.find_element("css selector", "#answer-labels .best b").text == "cat"
    assert browser.execute_script("return origin") == "null"
    # In its sandbox, the page can start its worker, and cannot use the server.
    browser.execute_script("document.querySelector('#changes-blocks button').click()")
    until(browser, lambda b: b.find_element("id", "changed-says").get_attribute("textContent").startswith("Changed: "))
    found = browser.execute_async_script("""const done = arguments[1];
        fetch(arguments[0]).then(() => done("answered"), () => done("refused"));""", f"{server.address}/health")
    assert found == "refused"
    browser.close()
    browser.switch_to.window(page)


def press_tab(browser):
    selenium.ActionChains(browser).send_keys(selenium.Keys.TAB).perform()


def test_the_keyboard_alone(browser, server, files):
    """Tab reaches the file input, which takes files, then each link; the focus can be seen."""
    opened(browser, server)
    press_tab(browser)
    focused = browser.switch_to.active_element
    assert focused.get_attribute("id") == "files"
    assert browser.find_element("id", "drop").value_of_css_property("outline-style") == "solid"
    focused.send_keys("\n".join(map(str, files)))
    until(browser, lambda b: progress(b) == "3 pictures done, 1 refused")
    names = []
    while len(names) < 2:
        press_tab(browser)
        focused = browser.switch_to.active_element
        assert focused.tag_name in ("input", "button")
        names += filter(None, [focused.get_attribute("aria-label")])
    assert names == [f"Explain {path.name}" for path in files[:2]]


def luminance(browser, node, name):
    """The relative luminance of a colour (WCAG 2.2)."""
    text = node.value_of_css_property(name)
    channels = [int(channel) / 255 for channel in text[text.index("(") + 1:-1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_every_width_in_light_and_dark(browser, server, files, width, scheme):
    """Nothing is wider than the window, and every text has a contrast of 4.5 : 1 (least observed 5.9)."""
    opened(browser, server, width, scheme)
    drop_files(browser, files)
    until(browser, lambda b: progress(b) == "3 pictures done, 1 refused")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    paper = luminance(browser, browser.find_element("css selector", "body"), "background-color")
    assert (paper < 0.05) == (scheme == "dark")
    least = 99
    for selector in ("h1", ".lead", ".kicker", "#drop b", "#drop span", "#progress", ".result h2", ".answer b",
                     ".answer span", ".error", ".result button"):
        node = browser.find_element("css selector", selector)
        behind = paper
        if selector.startswith("#drop"):
            behind = luminance(browser, browser.find_element("id", "drop"), "background-color")
        dark, light = sorted((luminance(browser, node, "color"), behind))
        least = min(least, (light + 0.05) / (dark + 0.05))
    print(width, scheme, round(least, 2))
    assert least >= 4.5
