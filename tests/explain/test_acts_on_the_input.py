"""Acts on the input of the blocks, compared with Python doing the same: blanked channels, starts, orders."""
import numpy as np
import pytest
from PIL import Image

from nphybrid.explain import measures

from tools.acts import acted

browsers = pytest.importorskip("tools.browser")
wait = pytest.importorskip("selenium.webdriver.support.wait")
from tools.explained import click, drawn, no_messages, opened, opened_with, press, says, settled  # noqa: E402
from tools.recomputed import answer_is, computed, pressed, put_in, unchanged, waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]

ORDER = np.argsort(np.sin(np.arange(64)))             # of shuffled cells


def test_the_input_of_the_blocks(browser, folder, model, prepared):
    """Each act, one after the other; then each of them undone."""
    opened(browser, (folder / "page.html").as_uri())
    p, config = model.learned(), model.network_config

    pressed(browser, "stage 1", "inputs-states")
    press(browser, "inputs-stage", "arrow_right", "arrow_right", "arrow_down")
    name = says(browser, "inputs-blank")
    state = computed(model, prepared)["stages.1.1"][0]
    channel = int(np.argsort(-state.var((0, 1)), kind="stable")[10])
    assert name == f"Blank channel {channel} of stage 1"
    press(browser, "inputs-blank", "enter")
    answer_is(browser, model, acted("blanked", {"stages.1.1": [channel]}, prepared, p, config), "1 channel blanked")
    assert np.ptp(drawn(browser, "stages-map", 8, 8, corner=0.5)[:3], axis=(0, 1)).max() == 0      # away from the frame
    press(browser, "inputs-blank", "enter")
    unchanged(browser)

    assert says(browser, "inputs-says") == "The best label is cat, 0.7997 (without changes: cat, 0.7997)."
    pressed(browser, "zeros", "inputs-starts")
    zeros = acted("classToken", np.zeros(192), prepared, p, config)
    answer_is(browser, model, zeros, "the class token starts with zeros")
    assert says(browser, "changed-says").endswith(says(browser, "inputs-says"))
    pressed(browser, "the mean of the cells", "inputs-starts")
    mean = acted("classToken", "mean", prepared, p, config)
    answer_is(browser, model, mean, "the class token starts with the mean of the cells")
    press(browser, "changed-undo", "enter")
    answer_is(browser, model, zeros, "the class token starts with zeros")
    press(browser, "changed-back", "enter")
    unchanged(browser)

    pressed(browser, "Shuffle the positions", "inputs-orders")
    shuffled = acted("positions", ORDER, prepared, p, config)
    answer_is(browser, model, shuffled, "positions shuffled")
    click(browser, "tokens-grid", 1, 1, 8, 8)
    click(browser, "tokens-sum", 0, 100, 1, 192)
    _, position, total = map(float, says(browser, "tokens-says").split(": ")[1].replace("=", "+").split(" + "))
    assert abs(position - p.tokens.positions[1 + ORDER[9], 100]) < 1e-3
    assert abs(total - shuffled["tokens"][0, 10, 100]) < 3e-3
    click(browser, "positions-all", 1, 1, 8, 8)
    click(browser, "positions-one", 2, 5, 8, 8)
    cosines = [measures.position_similarity(positions, (8, 8))[9, 21]
               for positions in (p.tokens.positions[1 + ORDER], p.tokens.positions)]
    found = float(says(browser, "positions-says").split("the cosine ")[1].replace("\u2212", "-"))
    assert abs(found - cosines[0]) < 6e-3 < abs(cosines[0] - cosines[1])                # the page shows two decimals
    press(browser, "changed-undo", "enter")
    unchanged(browser)

    pressed(browser, "Shuffle the pieces of the picture", "inputs-orders")
    pieces = prepared.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, 8, 8, 3)[ORDER]
    x = pieces.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(prepared.shape)
    answer_is(browser, model, computed(model, x), "pieces of the picture shuffled")
    assert no_messages(browser)
    found = drawn(browser, "photograph-input", 64, 64, corner=0.5)
    away = np.ones((64, 64), bool)
    away[28:37, 28:37] = False                        # the frame
    assert np.abs(found / 127.5 - 1 - x[0])[away].max() < 1e-6


def test_zeros_have_the_colour_of_zero(browser, folder):
    """A class token of zeros is white, as 0 is beside other numbers."""
    opened_with(browser, folder, "#changes;classToken=zeros")
    waited(browser, "changed-says", "starts with zeros")
    click(browser, "tokens-grid", 1, 1, 8, 8)
    press(browser, "tokens-class", "enter")
    assert "of the class token: 0.000 + " in says(browser, "tokens-says")
    found = drawn(browser, "tokens-content", 1, 192, corner=0.5)[0, 4:]  # away from the frame
    assert found.min() >= 254
    assert np.ptp(drawn(browser, "tokens-position", 1, 192, corner=0.5)[0, 4:], axis=0).max() > 100


def test_a_hidden_cell_is_grey_in_the_pictures_of_the_tokens(browser, folder):
    opened(browser, (folder / "page.html").as_uri())
    boards = "tokens-grid", "layer_norm-token", "weight-key", "mlp-token", "residual-token"
    before = {name: drawn(browser, name, 8, 8)[4, 2] for name in boards}
    opened_with(browser, folder, "#changes;hidden=34")
    waited(browser, "changed-says", "1 cell hidden")
    for name in boards:
        found = drawn(browser, name, 8, 8)
        assert (found[4, 2] == 128).all() and (before[name] != 128).any()
        assert (found[4, 3] != 128).any()


def test_a_channel_of_the_stem(browser, folder, model, prepared):
    opened(browser, (folder / "page.html").as_uri())
    pressed(browser, "stem", "inputs-states")
    settled(browser)
    click(browser, "inputs-stem", 2, 5, 8, 8)
    assert says(browser, "inputs-blank") == "Blank channel 21 of the stem"
    press(browser, "inputs-blank", "enter")
    trace = acted("blanked", {"stem": [21]}, prepared, model.learned(), model.network_config)
    answer_is(browser, model, trace, "1 channel blanked")


def test_a_blanked_channel_of_the_last_unit(browser, folder):
    opened(browser, (folder / "page.html").as_uri())
    name, channel = browser.execute_script("""
        const { unit } = JSON.parse(document.getElementById("facts").textContent).steps;
        return [unit.name, unit.channels[0]]""")
    assert "the channel is blanked" not in says(browser, "unit-says")
    opened_with(browser, folder, f"#changes;blanked={name}:{channel}")
    waited(browser, "changed-says", "1 channel blanked")
    assert says(browser, "unit-says").endswith(": the channel is blanked, so the sum is replaced by 0")
    click(browser, "unit-sum-tiles", 0, 1, 1, 8)
    assert "the channel is blanked" not in says(browser, "unit-says")


def test_the_photograph_step_describes_the_picture(browser, folder, model):
    opened(browser, (folder / "page.html").as_uri())
    first = says(browser, "photograph-prepared"), says(browser, "photograph-framed")
    Image.new("RGB", (90, 90), "#a06040").save(folder / "square.png")
    put_in(browser, folder / "square.png")
    assert (says(browser, "photograph-prepared"), says(browser, "photograph-framed")) == ("resized", "")
    put_in(browser, folder / "frog.png")
    found = says(browser, "photograph-prepared"), says(browser, "photograph-framed")
    assert found == ("resized and cropped to its centre", ". The frame marks the input of the network")
    press(browser, "picture-back", "enter")
    wait.WebDriverWait(browser, 60).until(lambda b: not says(b, "picture-says"))
    settled(browser)
    assert (says(browser, "photograph-prepared"), says(browser, "photograph-framed")) == first
