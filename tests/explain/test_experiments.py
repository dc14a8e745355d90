"""The experiments of the page, compared with the lines of Python that stand beside their results."""
import re

import numpy as np
import pytest
from PIL import Image

from nphybrid.explain import measures
from nphybrid.explain.page import page

from oracles import sights
from tools.acts import acted

selenium = pytest.importorskip("selenium.webdriver")
browsers = pytest.importorskip("tools.browser")
wait = pytest.importorskip("selenium.webdriver.support.wait")
from tools.explained import check_contrast, check_layout, no_messages, opened, opened_with, says, shown  # noqa: E402
from tools.recomputed import MOVED, SCORE, answered, pressed, put_in, waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]

NAMES = ["convolutions", "positions", "pieces", "block", "square", "start", "equal"]


def numbers_of(browser, name):
    """The numbers of the result of an experiment: scores, or shares."""
    texts = browser.execute_script("""
        return [...document.querySelectorAll(`#experiment-${arguments[0]} .bars span`)].map((node) => node.textContent)
        """, name)
    return [float(text.split("\u202f%")[0]) / 100 if "%" in text else float(text.split(",")[0]) for text in texts]


def by_python(browser, name, picture, model=None):
    """Run the lines of Python that stand on the page."""
    names, lines = browser.execute_script("""
        return [document.getElementById("experiments-python").textContent,
                document.querySelector(`#experiment-${arguments[0]} code`).textContent]""", name)
    names = re.sub(r'prepared\(".*"\)', f"prepared({str(picture)!r})", names)
    assert ("default_model()" in names) == (model is None)
    if model is not None:
        names = re.sub("^model = .*$", "", names, flags=re.M)
    space = {"model": model}
    exec(names, space)
    *before, last = re.split(r"\n(?=\S)", lines)
    exec("\n".join(before), space)
    return np.ravel(eval(last, space))


def ask(browser, name, option):
    """Predict with the keyboard, and wait for the result.  -> the text of the result"""
    article = shown(browser, f"experiment-{name}")
    button = article.find_element("css selector", "button")
    assert not button.is_enabled() and article.find_elements("css selector", ".bars span") == []
    assert not article.find_element("css selector", ".source").is_displayed()
    inputs = article.find_elements("css selector", "input")
    browser.execute_script("arguments[0].focus({ preventScroll: true })", inputs[option])
    selenium.ActionChains(browser).send_keys(selenium.Keys.SPACE).perform()
    browser.execute_script("arguments[0].focus({ preventScroll: true })", button)
    selenium.ActionChains(browser).send_keys(selenium.Keys.ENTER).perform()
    wait.WebDriverWait(browser, 60).until(lambda b: article.find_element("css selector", ".source").is_displayed())
    return article.find_element("css selector", ".verdict").text


def rms(x):
    return np.sqrt(np.square(x, dtype=np.float64).mean())


def far_in_pieces(model, x):
    """How far the vectors of the cells are from those of the same pieces of 8 x 8 pixels in the picture itself."""
    columns, moved = x.shape[3] // 8, np.empty_like(x)
    order = np.argsort(np.sin(np.arange(x.shape[2] // 8 * columns)))
    for i, j in enumerate(order):
        (top, left), (row, column) = (divmod(n, columns) for n in (i, j))
        moved[..., 8 * top:8 * top + 8, 8 * left:8 * left + 8] = x[..., 8 * row:8 * row + 8, 8 * column:8 * column + 8]
    cells, after = (model.trace(pixels)["tokens.proj"][0] for pixels in (x, moved))
    return rms(after - cells[order]) / rms(cells)


EDGES = r"edges between the pieces: apart from their order, the vectors of the cells differ by ([\d.]+)\u202f%\.$"


def test_experiments_with_the_cat(browser, folder, cat, model, prepared, cat_trace):
    """A change of the reader does not change the experiments."""
    opened(browser, (folder / "page.html").as_uri())
    found = browser.execute_script("return [...document.querySelectorAll('#experiments article')].map(({ id }) => id)")
    assert found == [f"experiment-{name}" for name in NAMES]
    pressed(browser, "skip block 0")
    waited(browser, "changed-says", "block skipped")
    verdicts = {}
    for name in NAMES:
        verdicts[name] = ask(browser, name, 0)
        legend = browser.find_element("css selector", f"#experiment-{name} legend").text
        assert legend == "Your prediction, which stays because the result is known"
        numbers = numbers_of(browser, name)
        expected = by_python(browser, name, cat)
        assert len(numbers) == len(expected) > 1
        assert np.abs(numbers - expected).max() < (MOVED if name == "square" else SCORE)
    assert "Every picture gets the same scores. " in verdicts["convolutions"]
    assert "of a grey picture are equal. Only the heads bring numbers" in verdicts["convolutions"]
    assert verdicts["convolutions"].endswith("the biases of attention and the MLPs are the same for every picture.")
    pressed(browser, "Show this change in all steps", "experiment-equal")
    waited(browser, "changed-says", "^Changed: temperature ∞. The best label is frog, ")
    assert says(browser, "changes-tau") == "temperature ∞, beyond the end of the slider"
    assert abs(numbers_of(browser, "equal")[1] - answered(browser, "changes-labels")["cat"]) < 1e-9
    shown(browser, "weight-sum")
    assert says(browser, "weight-sum").endswith(f"weight: exp / sum{100 / 65:.2f} %")
    assert browser.switch_to.active_element.get_attribute("id") == "layer_norm-title"      # the first changed step
    cells, places = (rms(x) for x in (cat_trace["tokens.proj"][0], model.learned().tokens.positions[1:]))
    assert verdicts["positions"].endswith(
        "A likely reason for this picture: the position vectors are small compared with the vectors of the cells (root "
        f"mean square {places:.3f} against {cells:.3f}), and the convolutions have already mixed neighbouring pixels.")
    edges = float(re.search(EDGES, verdicts["pieces"])[1]) / 100
    assert abs(edges - far_in_pieces(model, model.prepared(cat))) < MOVED               # observed 3.1e-4
    assert "The tokens before block 0" in verdicts["pieces"] and "tokens before" not in verdicts["equal"]
    assert verdicts["positions"].startswith("As you predicted: The score of cat changes by less than 0.1, and it ")
    assert "Another label becomes the best label. " in verdicts["pieces"]
    assert verdicts["block"].startswith("As you predicted: Without block 0, the score of cat is lowest. ")
    assert "A head of block 3 changes most. In block 3, head 2, 47.6" in verdicts["square"]
    assert "Only the mean of the cells changes the best label. The root mean square of the learned start is 0.054" in \
        verdicts["start"]
    starts = cat_trace["tokens.proj"].mean(1, keepdims=True)
    before = cat_trace["blocks.0"][0, 0]
    numbers = re.search(r"differs by ([\d.]+)\u202f% with the zeros, and by ([\d.]+)", verdicts["start"]).groups()
    for found, start in zip(numbers, (0 * starts, starts)):
        after = acted("classToken", start, prepared, model.learned(), model.network_config)["blocks.0"][0, 0]
        assert abs(float(found) / 100 - rms(after - before) / rms(before)) < MOVED      # observed 4.1e-4
    assert "Another label becomes the best label. " in verdicts["equal"]
    assert verdicts["equal"].endswith(" to every token: every head reads all tokens with the same weight.")
    assert no_messages(browser)


def test_experiments_with_another_picture(browser, folder):
    """A new picture begins without results."""
    opened(browser, (folder / "page.html").as_uri())
    ask(browser, "positions", 2)
    put_in(browser, folder / "frog.png")
    for name in NAMES:
        ask(browser, name, 1)
        expected = by_python(browser, name, folder / "frog.png")
        assert np.abs(numbers_of(browser, name) - expected).max() < (MOVED if name == "square" else SCORE)


def test_the_square_belongs_to_the_picture_without_changes(browser, folder, cat, model):
    """A picture is opened and the network is changed before the experiment is seen for the first time."""
    opened(browser, (folder / "page.html").as_uri())
    put_in(browser, folder / "ship <b>.png")
    pressed(browser, "skip block 0")
    waited(browser, "changed-says", "block skipped")
    ask(browser, "square", 0)
    code = browser.execute_script("return document.querySelector('#experiment-square code').textContent")
    found = [int(n) // 8 for n in re.search(r"(\d+):\d+, (\d+):\d+\] = 0", code).groups()]
    places = []
    for path in (folder / "ship <b>.png", cat):
        trace = model.trace(model.prepared(path))
        shares = measures.rollout(measures.attention(trace, 4))[-1, 0, 1:].reshape(8, 8)
        sums = [(shares[r:r + 2, c:c + 2].sum(), [r, c]) for r in range(7) for c in range(7)]
        places.append(max(sums)[1])
    assert found == places[0] != places[1]
    assert max(places[0][0] % 2, places[0][1] % 2)      # a square between those of a grid of 4 x 4 squares
    label = shown(browser, "experiment-square").find_element("tag name", "canvas").get_attribute("aria-label")
    rows, columns = (f"{n} to {n + 1}" for n in found)
    assert label == f"the picture; a frame marks rows {rows}, columns {columns}"


@pytest.mark.parametrize("kind", ["wide", "vit", "mean"])
def test_experiments_of_other_networks(browser, folder, kind):
    model = sights.network(kind)
    with Image.open(folder / "frog.png") as picture:
        (folder / "other.html").write_text(page(model, picture.convert("RGB"), "frog.png"), "utf-8")
    opened(browser, (folder / "other.html").as_uri())
    names = NAMES if kind != "mean" else [name for name in NAMES if name not in ("square", "start")]
    for name in names:
        ask(browser, name, 1)
        expected = by_python(browser, name, folder / "frog.png", model)
        assert np.abs(numbers_of(browser, name) - expected).max() < (MOVED if name == "square" else SCORE)
    verdict = browser.find_element("css selector", "#experiment-convolutions .verdict").text
    assert ("Every picture gets the same scores" in verdict) == (kind != "mean")
    verdict = browser.find_element("css selector", "#experiment-pieces .verdict").text
    far = far_in_pieces(model, model.prepared(folder / "frog.png"))
    if kind == "wide":
        assert abs(float(re.search(EDGES, verdict)[1]) / 100 - far) < MOVED
    else:                                                                               # without convolutions
        assert verdict.endswith("The cells keep their vectors, in another order.") and far < 1e-6
    assert no_messages(browser)


@pytest.mark.parametrize("width, scheme", [(390, "dark"), (861, "light"), (1280, "light"), (1920, "dark")])
def test_a_page_with_results_is_as_tidy(browser, folder, width, scheme):
    opened_with(browser, folder, "#changes;painted=1000-40-3;skipped=1", width, scheme)
    waited(browser, "changed-says", "block skipped")
    for name in NAMES:
        ask(browser, name, 0)
    check_contrast(browser)
    browser.execute_script("document.getElementById('changed').style.position = 'static'")   # it covers text on purpose
    check_layout(browser, width)
