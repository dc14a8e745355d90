"""The bar of the changes and the controls of the changes: failures, the focus, a slider that is dragged."""
import pytest

selenium = pytest.importorskip("selenium.webdriver")
browsers = pytest.importorskip("tools.browser")
wait = pytest.importorskip("selenium.webdriver.support.wait")
from tools.explained import opened, press, settled, shown  # noqa: E402
from tools.recomputed import pressed, unchanged, waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]


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
    waited(browser, "changed-says", f"temperature {round(2 ** float(value), 3):g}")
