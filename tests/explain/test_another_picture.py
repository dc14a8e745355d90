"""The page computes: another picture and changes of the network, compared with Python doing the same."""
import base64
import re

import numpy as np
import pytest
from PIL import Image

from nphybrid import ViTHybridImageProcessor, open_picture
from nphybrid.explain import colours, measures
from nphybrid.explain.page import page
from nphybrid.model import hybrid
from nphybrid.ops import reference
from nphybrid.trace import Trace

from oracles import sights

browsers = pytest.importorskip("tools.browser")
wait = pytest.importorskip("selenium.webdriver.support.wait")
from tools.explained import (check_contrast, check_layout, click, drawn, opened, press, requested, says,  # noqa: E402
                             settled, shown)
from tools.recomputed import SCORE, answered, close, percentage, pressed, put_in, softmax, truth, waited  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]


def pictures_of(browser):
    """The texts of the page, and the pixels of the canvases that are drawn."""
    browser.execute_script("scrollTo({ top: 0, behavior: 'instant' })")
    settled(browser)
    return browser.execute_script("""return [document.querySelector("header").innerText,
        document.querySelector("main").innerText, document.title,
        ...[...document.querySelectorAll("#overview canvas")].map((canvas) => canvas.toDataURL())]""")


# ------------------------------------------------------------------ another picture

def sizes_of_prepare(browser):
    """The shapes beside the code of `prepare`, in Python and in JavaScript."""
    return browser.execute_script("""
        return [...document.querySelectorAll("#photograph [data-function=prepare] pre")].map((listing) =>
            [...listing.querySelectorAll(".shape")].map((node) => node.textContent).filter(Boolean))""")


def test_every_step_shows_another_picture(browser, folder, model):
    opened(browser, (folder / "page.html").as_uri())
    assert sizes_of_prepare(browser) == [["(300, 451, 3)", "(64, 96, 3)", "(64, 64, 3)"]] * 2
    put_in(browser, folder / "frog.png")
    trace, scores = truth(model, folder / "frog.png")
    weights = measures.attention(trace, 4)
    best = list(scores)[0]
    assert best != "cat"
    close(answered(browser, "answer-labels"), scores)
    close(answered(browser, "changes-labels"), scores)
    lead = browser.find_element("class name", "lead").text
    assert "follows frog.png through" in lead and f"“{best}”, with a score of {scores[best]:.3f}" in lead
    assert browser.title.startswith("frog.png: a forward pass")
    assert says(browser, "photograph-original") == "233 × 151 pixels"
    assert sizes_of_prepare(browser) == [["(233, 151, 3)", "(98, 64, 3)", "(64, 64, 3)"]] * 2
    assert browser.find_element("css selector", "#overview a:last-child b").text == best

    pixels = model.image_processor()(open_picture(folder / "frog.png"), do_rescale=False, do_normalize=False,
                                     return_tensors="np").pixel_values[0].transpose(1, 2, 0).astype(int)
    found = drawn(browser, "photograph-input", 64, 64, corner=0.5)
    away = np.ones((64, 64), bool)
    away[28:37, 28:37] = False                                           # the frame
    assert (found == pixels)[away].all()                                 # a PNG has the same pixels in every decoder

    click(browser, "stem-filters", 5, 3, 8, 8)
    click(browser, "stem-response", 12, 20, 32, 32)
    assert abs(float(says(browser, "stem-value")) - trace["stem.conv"][0, 12, 20, 43]) < 2e-3
    click(browser, "stages-1", 1, 2, 2, 8)
    click(browser, "stages-map", 3, 6, 8, 8)
    channel = np.argsort(-trace["stages.1.1"][0].var((0, 1)), kind="stable")[10]
    text = says(browser, "stages-says")
    assert text.startswith(f"Stage 1, channel {channel}, row 3, column 6: ")
    assert abs(float(text.split(": ")[1]) - trace["stages.1.1"][0, 3, 6, channel]) < 3e-3
    click(browser, "tokens-grid", 1, 1, 8, 8)
    click(browser, "tokens-sum", 0, 100, 1, 192)
    assert abs(float(says(browser, "tokens-says").split("= ")[1]) - trace["tokens"][0, 10, 100]) < 3e-3
    click(browser, "attention-query", 5, 5, 8, 8)
    click(browser, "attention-heads", 2, 1, 4, 3)
    click(browser, "weight-key", 2, 3, 8, 8)
    assert abs(percentage(says(browser, "attention-says"), "the weight ") - weights[2, 1, 46, 20]) < 2e-4
    assert abs(percentage(says(browser, "weight-sum"), "exp / sum") - weights[2, 1, 46, 20]) < 2e-4
    far = measures.attention_distance(weights, (8, 8), (8, 8))
    assert abs(float(re.search(r"([\d.]+) pixels", says(browser, "distance-says"))[1]) - far[2, 1]) < 0.06
    rolled = measures.rollout(weights)[-1, 0]
    assert abs(percentage(says(browser, "rollout-says"), "blocks, ") - rolled[20]) < 2e-4
    expected = colours.coloured(rolled[1:].reshape(8, 8), 0, rolled[1:].max()).astype(int)
    assert np.abs(drawn(browser, "rollout-map", 8, 8, corner=0.3) - expected).max() <= 3
    press(browser, "logit_lens-chart", "arrow_left", "arrow_left")
    states = [trace["tokens"]] + [trace[f"blocks.{l}"] for l in range(4)]
    lens = measures.logit_lens(states, model.learned(), model.network_config, reference)[2, 0]
    text = says(browser, "logit_lens-says")
    assert f"is {model.config.id2label[int(lens.argmax())]}, with" in text
    assert abs(float(text.split("score of ")[1]) - softmax(lens.astype(np.float64)).max()) < SCORE


def test_as_it_was(browser, folder):
    opened(browser, (folder / "page.html").as_uri())
    before = pictures_of(browser)
    put_in(browser, folder / "ship <b>.png")
    after = pictures_of(browser)
    assert all(a != b for a, b in zip(before, after, strict=True)) and "follows ship <b>.png through" in after[0]
    press(browser, "picture-back", "enter")
    wait.WebDriverWait(browser, 60).until(lambda b: not says(b, "picture-says"))
    assert pictures_of(browser) == before
    assert browser.switch_to.active_element.get_attribute("id") == "picture-choose"


@pytest.mark.parametrize("event, sent", [
    ("drop", "new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })"),
    ("paste", "new ClipboardEvent('paste', { clipboardData: data, bubbles: true })")])
def test_a_picture_is_dropped_and_pasted(browser, folder, model, event, sent):
    opened(browser, (folder / "page.html").as_uri())
    browser.execute_script(f"""
        const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "frog.png", {{ type: "image/png" }}));
        document.body.dispatchEvent({sent});""", base64.b64encode((folder / "frog.png").read_bytes()).decode())
    waited(browser, "picture-says", "computed the answer")
    close(answered(browser, "answer-labels"), truth(model, folder / "frog.png")[1])


def test_the_last_of_several_pictures_is_shown(browser, folder, model):
    opened(browser, (folder / "page.html").as_uri())
    for name in ("frog.png", "ship <b>.png", "frog.png", "ship <b>.png"):
        browser.find_element("id", "picture-file").send_keys(str(folder / name))
    waited(browser, "picture-says", "^ship.*computed the answer")
    wait.WebDriverWait(browser, 60).until(lambda b: "follows ship" in b.find_element("class name", "lead").text)
    close(answered(browser, "answer-labels"), truth(model, folder / "ship <b>.png")[1])


def test_a_file_that_is_no_picture_changes_nothing(browser, folder):
    opened(browser, (folder / "page.html").as_uri())
    before = pictures_of(browser)
    put_in(browser, folder / "broken.png")
    assert says(browser, "picture-says").startswith("broken.png cannot be opened: ")
    browser.execute_script("document.getElementById('picture-says').textContent = ''")
    assert pictures_of(browser) == before and browser.get_log("browser") == []


# How far the input of the network is from that of Python, in levels of 255: largest, mean. Observed with Chromium 156
# and Pillow 13: 0, because both decode JPEG with libjpeg-turbo and round the blended colours in the same way.
@pytest.mark.parametrize("name, largest, mean", [("turned.jpg", 2, 0.1), ("alpha.png", 1, 0.1), ("palette.png", 0, 0)])
def test_decoders_agree(browser, folder, model, name, largest, mean):
    picture = open_picture(folder / "frog.png").resize((260, 190))
    if name == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6                                                 # the camera was turned by 90 degrees
        picture.save(folder / name, quality=90, exif=exif)
    elif name == "alpha.png":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.save(folder / name)
    else:
        picture.quantize(50).save(folder / name)
    opened(browser, (folder / "page.html").as_uri())
    put_in(browser, folder / name)
    pixels = model.image_processor()(open_picture(folder / name), do_rescale=False, do_normalize=False,
                                     return_tensors="np").pixel_values[0].transpose(1, 2, 0).astype(int)
    off = np.abs(drawn(browser, "photograph-input", 64, 64, corner=0.5) - pixels)
    off[28:37, 28:37] = 0                                                # the frame
    assert off.max() <= largest and off.mean() <= mean


# ------------------------------------------------------------------ changes

def changed_scores(model, x, skipped=(), **options):
    """The scores of all labels after a change, computed by Python."""
    p, config, out = model.learned(), model.network_config, Trace(keep={"logits"})
    p = p._replace(blocks=tuple(block for l, block in enumerate(p.blocks) if l not in skipped),
                   tokens=p.tokens._replace(mask=np.zeros(config.width, np.float32)))
    config = type(config)(**{**{k: v for k, v in vars(config).items() if k != "feature_map"}, "blocks": len(p.blocks)})
    hybrid(x, p, config, reference, out, **options)
    return dict(zip(model.config.id2label.values(), softmax(out["logits"][0].astype(np.float64))))


def test_changes_are_those_of_python(browser, folder, model, root):
    opened(browser, (folder / "page.html").as_uri())
    x = model.prepared(root / "examples" / "images" / "cat.png").transpose(0, 2, 3, 1)
    first = answered(browser, "changes-labels")

    def check(scores, text):
        waited(browser, "changed-says", text)
        close(answered(browser, "changes-labels"), {label: scores[label] for label in first})
        close(answered(browser, "answer-labels"), {label: scores[label] for label in first})
        best = max(scores, key=scores.get)
        value = re.search(rf"The best label is {best}, ([\d.]+) ", says(browser, "changed-says"))[1]
        assert abs(float(value) - scores[best]) < SCORE
        assert "(without changes: cat, 0.7997)" in says(browser, "changed-says")
    mask = np.ones((4, 3), np.float32)
    mask[2, 1] = 0
    pressed(browser, "switch off head 1 of block 2")
    check(changed_scores(model, x, head_mask=mask), "^Changed: 1 head off. ")
    assert "is off: its weights are multiplied by 0" in says_of_head(browser, 2, 1)
    click(browser, "changes-cells", 4, 2, 8, 8)
    press(browser, "changes-hide", "enter")
    masked = (np.arange(64) == 34)[None]
    check(changed_scores(model, x, head_mask=mask, masked=masked), "1 head off, 1 cell hidden. ")
    pressed(browser, "switch off head 1 of block 2")
    check(changed_scores(model, x, masked=masked), "^Changed: 1 cell hidden. ")
    press(browser, "changed-undo", "enter")
    check(changed_scores(model, x, head_mask=mask, masked=masked), "1 head off, 1 cell hidden. ")
    press(browser, "changed-back", "enter")
    wait.WebDriverWait(browser, 60).until(lambda b: not says(b, "changed-says"))
    close(answered(browser, "changes-labels"), first)
    pressed(browser, "skip block 3")
    check(changed_scores(model, x, skipped=[3]), "^Changed: 1 block skipped. ")
    assert browser.get_log("browser") == []


def says_of_head(browser, layer, head):
    click(browser, "attention-heads", layer, head, 4, 3)
    return says(browser, "attention-says")


def test_the_temperature(browser, folder, model, root):
    """One step of the slider divides the scores by 2^0.25, as dividing the queries does."""
    opened(browser, (folder / "page.html").as_uri())
    x = model.prepared(root / "examples" / "images" / "cat.png").transpose(0, 2, 3, 1)
    press(browser, "changes-temperature", "arrow_right")
    waited(browser, "changed-says", "^Changed: temperature 1.189. ")
    p = model.learned()
    factor = np.float32(2 ** -0.25)
    queries = [type(block.query)(block.query.kernel * factor, block.query.bias * factor) for block in p.blocks]
    blocks = tuple(block._replace(query=query) for block, query in zip(p.blocks, queries))
    out = Trace(keep={"logits"})
    hybrid(x, p._replace(blocks=blocks), model.network_config, reference, out)
    scores = dict(zip(model.config.id2label.values(), softmax(out["logits"][0].astype(np.float64))))
    found = answered(browser, "changes-labels")
    close(found, {label: scores[label] for label in found})
    shown(browser, "weight-sum")                                         # this step computes the same weight by hand
    by_hand = percentage(says(browser, "weight-sum"), "exp / sum")
    assert abs(by_hand - percentage(says(browser, "attention-says"), "the weight ")) < 2e-5


def test_changes_hold_for_the_picture_of_the_page(browser, folder, model):
    """A change of another picture is computed for this picture, and a new picture begins without changes."""
    opened(browser, (folder / "page.html").as_uri())
    pressed(browser, "skip block 3")
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    put_in(browser, folder / "frog.png")
    assert says(browser, "changed-says") == ""
    close(answered(browser, "answer-labels"), truth(model, folder / "frog.png")[1])
    pressed(browser, "skip block 0")
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    x = model.prepared(folder / "frog.png").transpose(0, 2, 3, 1)
    scores = changed_scores(model, x, skipped=[0])
    found = answered(browser, "changes-labels")
    close(found, {label: scores[label] for label in found})


# ------------------------------------------------------------------ the page as a whole

@pytest.mark.parametrize("width, scheme", [(390, "light"), (861, "dark"), (1280, "dark"), (1920, "light")])
def test_a_changed_page_is_as_tidy(browser, folder, width, scheme):
    opened(browser, (folder / "page.html").as_uri(), width, scheme)
    put_in(browser, folder / "frog.png")
    pressed(browser, "skip block 3")
    waited(browser, "changed-says", "^Changed: 1 block skipped. ")
    check_contrast(browser)
    browser.execute_script("document.getElementById('changed').style.position = 'static'")   # it covers text on purpose
    check_layout(browser, width)
    assert browser.get_log("browser") == []
    assert [url for url in requested(browser) if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("kind", [kind for kind in sights.KINDS if kind != "headless"])
def test_pages_of_other_networks_compute(browser, folder, kind):
    model = sights.network(kind)
    (folder / "other.html").write_text(page(model, open_picture(folder / "ship <b>.png"), "ship"), "utf-8")
    opened(browser, (folder / "other.html").as_uri())
    put_in(browser, folder / "frog.png")
    x = ViTHybridImageProcessor.from_dict(model.processor)(open_picture(folder / "frog.png"), return_tensors="np")
    scores = softmax(model.trace(x.pixel_values)["logits"][0].astype(np.float64))
    found = answered(browser, "answer-labels")
    assert len(found) == min(5, len(scores))
    assert np.abs(np.array(list(found.values())) - np.sort(scores)[::-1][:5]).max() < 2e-3
