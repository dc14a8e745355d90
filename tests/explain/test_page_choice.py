"""A choice with the pointer or with keys: all pictures of the page show it."""
import pytest

selenium = pytest.importorskip("selenium.webdriver")
browsers = pytest.importorskip("tools.browser")
from tools.explained import click, drawn, hover, opened, press, same_colours, says, settled, shown  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]


def test_hovering_a_token_shows_its_row(browser, cat_page, cat_weights):
    opened(browser, cat_page)
    click(browser, "attention-heads", 3, 0, 4, 3)
    shown(browser, "attention-query")       # later, nothing scrolls under the pointer, although the pictures are sticky
    for row, column in ((1, 6), (7, 0), (4, 4)):
        hover(browser, "attention-query", row, column, 8, 8)
        token, given = 1 + row * 8 + column, cat_weights[3, 0, 1 + row * 8 + column]
        assert f"Block 3, head 0: token {token} (row {row}, column {column}) gives" in says(browser, "attention-says")
        assert same_colours(drawn(browser, "attention-keys", 8, 8), given[1:].reshape(8, 8), 0, given[1:].max())
        assert f"{100 * given[0]:.2f} % to the class token" in says(browser, "attention-says")


def test_the_pointer_previews_and_a_click_keeps(browser, cat_page):
    """On its way from a chosen token to a head, the pointer crosses other tokens."""
    opened(browser, cat_page)
    click(browser, "attention-query", 1, 2, 8, 8)
    assert "token 11 (row 1, column 2)" in says(browser, "attention-says")
    hover(browser, "attention-query", 5, 5, 8, 8)
    assert "token 46 (row 5, column 5)" in says(browser, "attention-says")
    for row in (6, 7):
        hover(browser, "attention-query", row, 2, 8, 8)
    click(browser, "attention-heads", 1, 2, 4, 3)
    assert "Block 1, head 2: token 11 (row 1, column 2)" in says(browser, "attention-says")
    shown(browser, "top")
    selenium.ActionChains(browser).move_to_element(browser.find_element("tag name", "h1")).perform()
    settled(browser)
    assert "Block 1, head 2: token 11 (row 1, column 2)" in says(browser, "attention-says")


def test_keys_go_through_blocks_and_heads(browser, cat_page, cat_weights):
    opened(browser, cat_page)
    click(browser, "attention-heads", 3, 0, 4, 3)
    click(browser, "attention-query", 2, 5, 8, 8)
    layer, head = 3, 0
    for keys, layer, head in ((["arrow_up"], 2, 0), (["arrow_right", "arrow_right"], 2, 2), (["arrow_up"] * 5, 0, 2),
                              (["arrow_left", "arrow_down"], 1, 1)):
        press(browser, "attention-heads", *keys)
        given = cat_weights[layer, head, 1 + 2 * 8 + 5]
        assert f"Block {layer}, head {head}: token 22" in says(browser, "attention-says")
        assert same_colours(drawn(browser, "attention-keys", 8, 8), given[1:].reshape(8, 8), 0, given[1:].max())
    # The picture's own keys move the token, and the class token has its button.
    press(browser, "attention-query", "arrow_down", "arrow_left")
    assert "Block 1, head 1: token 29 (row 3, column 4)" in says(browser, "attention-says")
    press(browser, "attention-class", "enter")
    given = cat_weights[1, 1, 0]
    assert "the class token gives the weight" in says(browser, "attention-says")
    assert same_colours(drawn(browser, "attention-keys", 8, 8), given[1:].reshape(8, 8), 0, given[1:].max())


def test_the_table_of_heads_shows_every_head(browser, cat_page, cat_weights):
    opened(browser, cat_page)
    click(browser, "attention-query", 0, 3, 8, 8)
    found = drawn(browser, "attention-heads", 32, 24, corner=0.5).reshape(4, 8, 3, 8, 3).transpose(0, 2, 1, 3, 4)
    for layer in range(4):
        for head in range(3):
            given = cat_weights[layer, head, 4, 1:].reshape(8, 8)
            assert same_colours(found[layer, head][1:-1, 1:-1], given[1:-1, 1:-1], 0, given.max()), (layer, head)


def test_a_chosen_cell_is_chosen_everywhere(browser, cat_page):
    opened(browser, cat_page)
    click(browser, "positions-all", 6, 2, 8, 8)
    for element in ("tokens-says", "positions-says", "attention-says"):
        assert "token 51 (row 6, column 2)" in says(browser, element)
