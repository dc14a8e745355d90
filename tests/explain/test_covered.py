"""The bar of the changes covers no control: each control of each step gets a real click of the pointer."""
import pytest

browsers = pytest.importorskip("tools.browser")
from tools.explained import no_messages, opened_with, settled  # noqa: E402
from tools.recomputed import waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]

# A long list of changes makes the bar high.
CHANGES = "#changes;off=2.1,0.0;hidden=34,5;blanked=stages.1.1:7;temperature=0.5;classToken=zeros;shuffled=positions"
SIZES = pytest.mark.parametrize("width, height", [(1280, 800), (390, 800)])


def opened_changed(browser, folder, width, height):
    """Open the page with changes.  Later changes are not computed, so that the bar stays as it is."""
    opened_with(browser, folder, CHANGES, width)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
    waited(browser, "changed-says", "2 heads off")
    browser.execute_script("Worker.prototype.postMessage = () => {}")


def scroll(browser, node, block):
    """Scroll to a node, and again after what became visible is drawn."""
    for _ in range(2):
        browser.execute_script("arguments[0].scrollIntoView({ block: arguments[1], behavior: 'instant' })", node, block)
        settled(browser)


@SIZES
def test_every_control_gets_a_real_click(browser, folder, width, height):
    """Selenium refuses a click that another element would get."""
    opened_changed(browser, folder, width, height)
    controls = browser.find_elements("css selector", "main button, main input, main summary")
    clicked = 0
    browser.execute_script("window.clicks = 0; addEventListener('click', () => { window.clicks += 1; }, true)")
    for control in controls:
        if not (control.is_displayed() and control.is_enabled()):
            continue
        scroll(browser, control, "nearest")
        control.click()
        clicked += 1
    assert clicked > 60 and browser.execute_script("return clicks") >= clicked
    assert no_messages(browser)


@SIZES
def test_the_bar_leaves_room_for_the_page(browser, folder, width, height):
    """The bar takes at most a quarter of the window, and the pictures of a step end above it."""
    opened_changed(browser, folder, width, height)
    bar = browser.find_element("id", "changed").rect["height"]
    assert 0 < bar <= height / 4
    covered = []
    for step in browser.find_elements("css selector", "main .step .shows"):
        scroll(browser, step, "end")
        bottom = browser.execute_script("return arguments[0].getBoundingClientRect().bottom", step)
        if bottom > height - bar + 1:
            covered.append((step.find_element("xpath", "..").get_attribute("id"), bottom))
    assert covered == []
