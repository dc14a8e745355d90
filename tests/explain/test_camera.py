"""A picture of the camera: a camera that shows a test picture takes the place of a real one."""
import numpy as np
import pytest

selenium = pytest.importorskip("selenium.webdriver")
browsers = pytest.importorskip("tools.browser")
wait = pytest.importorskip("selenium.webdriver.support.wait")
from tools.explained import (click, drawn, no_messages, opened, opened_with, press, says, settled,  # noqa: E402
                             shown)
from tools.recomputed import answered, close, computed, scores_of, waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]


@pytest.fixture(scope="module")
def browser():
    driver = browsers.started("--use-fake-device-for-media-stream")
    yield driver
    driver.quit()


def permit(browser, setting):
    """Answer the question whether the page may use the camera: "granted" or "denied"."""
    browser.execute_cdp_cmd("Browser.setPermission", {"permission": {"name": "camera"}, "setting": setting})


def opened_page(browser, folder):
    """Open the page, with a permission to use the camera.  `window.asked` counts how often the page asks for it."""
    permit(browser, "granted")
    opened(browser, (folder / "page.html").as_uri())
    browser.execute_script("""
        const [devices, ask] = [navigator.mediaDevices, navigator.mediaDevices.getUserMedia];
        window.asked = 0;
        devices.getUserMedia = (...what) => {
            window.asked += 1;
            return ask.apply(devices, what);
        };""")


def started(browser):
    """Wait until the camera runs.  `window.track` is the picture of the camera."""
    wait.WebDriverWait(browser, 30).until(lambda b: b.find_element("id", "camera-take").is_displayed())
    browser.execute_script("window.track = document.getElementById('camera-video').srcObject.getTracks()[0]")
    assert browser.execute_script("return track.readyState") == "live"


def focused(browser):
    return browser.switch_to.active_element.get_attribute("id")


def test_a_picture_of_the_camera(browser, folder, model):
    opened_page(browser, folder)
    press(browser, "camera-start", "enter")
    started(browser)
    assert focused(browser) == "camera-take"
    press(browser, "camera-take", "enter")
    waited(browser, "picture-says", "a picture of the camera: .*computed the answer")
    assert browser.execute_script("return [track.readyState, document.getElementById('camera-video').srcObject]") == [
        "ended", None]
    assert not browser.find_element("id", "camera-preview").is_displayed()
    assert no_messages(browser)
    assert "follows a picture of the camera through" in browser.find_element("class name", "lead").text
    pixels = drawn(browser, "photograph-input", 64, 64, corner=0.2)
    assert np.ptp(pixels, axis=(0, 1)).max() > 60      # the fake camera shows a circle on green
    click(browser, "photograph-input", 63, 63, 64, 64)
    pixels[20:45, 20:45] = drawn(browser, "photograph-input", 64, 64, corner=0.2)[20:45, 20:45]   # without the frame
    scores = scores_of(model, computed(model, (pixels[None] / np.float32(127.5) - 1).astype(np.float32)))
    found = answered(browser, "answer-labels")
    close(found, {label: scores[label] for label in found})


def test_a_button_of_the_camera_that_is_pressed_twice(browser, folder):
    """The page asks for the camera once, takes one picture, and does not start the camera again."""
    opened_page(browser, folder)
    selenium.ActionChains(browser).double_click(shown(browser, "camera-start")).perform()
    started(browser)
    assert browser.execute_script("return asked") == 1
    press(browser, "camera-take", "enter", "enter")
    waited(browser, "picture-says", "a picture of the camera: .*computed the answer")
    browser.execute_script("document.getElementById('camera-take').click()")           # as a screen reader can
    settled(browser)
    assert "computed the answer" in says(browser, "picture-says")
    assert browser.execute_script("return [asked, track.readyState]") == [1, "ended"]
    assert not browser.find_element("id", "camera-preview").is_displayed()
    assert no_messages(browser)


def test_a_camera_that_is_closed_or_refused_changes_nothing(browser, folder):
    """Closed, then refused, then permitted: each time the button can be pressed again."""
    opened_page(browser, folder)
    lead = browser.find_element("class name", "lead").text
    press(browser, "camera-start", "enter")
    started(browser)
    press(browser, "camera-stop", "enter")
    assert browser.execute_script("return track.readyState") == "ended" and focused(browser) == "camera-start"
    for _ in range(2):
        permit(browser, "denied")
        press(browser, "camera-start", "enter")
        waited(browser, "picture-says", "^The camera cannot be used: Permission denied$")
        assert focused(browser) == "camera-start" and not browser.find_element("id", "camera-preview").is_displayed()
        assert browser.find_element("class name", "lead").text == lead
        permit(browser, "granted")
        press(browser, "camera-start", "enter")
        started(browser)
        assert says(browser, "picture-says") == ""
        press(browser, "camera-stop", "enter")
    assert browser.execute_script("return asked") == 5


def test_a_camera_that_stops_by_itself(browser, folder):
    """The permission is taken back while the camera runs."""
    opened_page(browser, folder)
    press(browser, "camera-start", "enter")
    started(browser)
    permit(browser, "denied")
    waited(browser, "picture-says", "^The camera has stopped.$")
    assert focused(browser) == "camera-start" and not browser.find_element("id", "camera-preview").is_displayed()
    permit(browser, "granted")
    press(browser, "camera-start", "enter")
    started(browser)
    press(browser, "camera-take", "enter")
    waited(browser, "picture-says", "a picture of the camera: .*computed the answer")


def test_a_browser_without_a_camera(browser, folder):
    hide = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {
        "source": "Object.defineProperty(navigator, 'mediaDevices', { value: undefined })"})
    opened_with(browser, folder, "")
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", hide)
    assert not browser.find_element("id", "camera-start").is_displayed()
    assert "This browser gives this page no camera." in browser.find_element("id", "another").text
    opened_with(browser, folder, "")
    assert browser.find_element("id", "camera-start").is_displayed()
    assert "no camera" not in browser.find_element("id", "another").text
