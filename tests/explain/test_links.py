"""A link that holds the changes."""
import pytest

browsers = pytest.importorskip("tools.browser")
from tools.explained import no_messages, opened, opened_with, press, says  # noqa: E402
from tools.recomputed import answered, close, pressed, put_in, unchanged, waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]

LINK = ("#changes;off=2.1,0.0;skipped=3;hidden=34,5;blanked=stages.1.1:7,stem:21;temperature=0.5;classToken=zeros;"
        "shuffled=positions,pieces;painted=0-130-2,4000-5-8")
SAYS = ("2 heads off, 1 block skipped, 2 cells hidden, 2 channels blanked, temperature 0.5, the class token starts "
        "with zeros, positions shuffled, pieces of the picture shuffled, 135 pixels painted")


def test_a_link_holds_the_changes(browser, folder):
    opened_with(browser, folder, LINK)
    waited(browser, "changed-says", f"^Changed: {SAYS}. ")
    scores = answered(browser, "changes-labels")
    link = browser.find_element("id", "changed-link").get_attribute("href")
    assert link == (folder / "page.html").as_uri() + LINK
    assert says(browser, "changed-link") == "Link to these changes"
    assert says(browser, "picture-says") == ""
    press(browser, "changed-undo", "enter")
    unchanged(browser)
    close(answered(browser, "changes-labels"), answered(browser, "answer-labels"))

    pressed(browser, "skip block 0")                   # changes of the buttons, and their link on a fresh page
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    press(browser, "changed-link", "enter")
    assert browser.current_url.endswith("#changes;skipped=0")
    found = answered(browser, "changes-labels")
    opened_with(browser, folder, "#changes;skipped=0")
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    assert answered(browser, "changes-labels") == found != scores
    browser.execute_script("location.hash = arguments[0]", LINK)
    waited(browser, "changed-says", f"^Changed: {SAYS}. ")
    assert answered(browser, "changes-labels") == scores
    assert no_messages(browser)


def test_a_link_does_not_hold_a_picture(browser, folder):
    opened_with(browser, folder, "")
    put_in(browser, folder / "frog.png")
    pressed(browser, "skip block 0")
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    assert says(browser, "changed-link") == "Link to these changes, without the picture"
    press(browser, "picture-back", "enter")
    unchanged(browser)
    assert says(browser, "answer-labels").startswith("cat")


@pytest.mark.parametrize("part", [
    "skipped=9", "skipped=", "off=2.3", "off=2", "off=1.1.1", "hidden=64", "hidden=-1", "blanked=stages.1.1:256",
    "blanked=norm:1", "temperature=0", "temperature=1e-4", "temperature=hot", "skipped=01", "classToken=ones",
    "shuffled=blocks", "painted=0-4097-1", "painted=5-1-9", "painted=a", "toString=1", "x", "skipped=1=2", "<b>=1",
    "%E0%A4%A"])
def test_a_part_without_meaning_is_ignored(browser, folder, part):
    if browser.current_url.split("#")[0] != (folder / "page.html").as_uri():
        opened(browser, (folder / "page.html").as_uri())
    if part == "%E0%A4%A":                             # this text cannot be decoded, so it is shown as it is
        rest = ""
    else:
        rest = ";skipped=1"
    browser.execute_script("document.getElementById('picture-says').textContent = ''; location.hash = arguments[0]",
                           f"#changes;{part}{rest}")
    waited(browser, "picture-says", "ignores this part: ")
    assert says(browser, "picture-says") == ("This page does not understand a part of its link, and ignores this part: "
                                             f"{part}")
    if rest:
        waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    assert no_messages(browser)
