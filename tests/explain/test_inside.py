"""The steps about the inside of a block in a browser: every number that they show, compared with Python."""
import re

import numpy as np
import pytest

from nphybrid import ViTHybridConfig, ViTHybridForImageClassification, ViTHybridImageProcessor, open_picture
from nphybrid.api.gradients import raw_parameters
from nphybrid.explain import colours, scene, worker
from nphybrid.explain.page import page

from oracles import sights

browsers = pytest.importorskip("tools.browser")
from tools.explained import click, drawn, opened, press, says, settled, shown  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]

STATE = 1e-3                              # the page shows three digits, so 5e-4 of it are rounding


@pytest.fixture(scope="module")
def files(model, cat, tmp_path_factory):
    """{"computes": a page that computes its network, "stored": the page of the same network if it did not}"""
    folder, picture = tmp_path_factory.mktemp("inside"), open_picture(cat)
    (folder / "computes.html").write_text(page(model, picture, "cat.png"), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "MAX_PARAMETERS", 1_000_000)
        (folder / "stored.html").write_text(page(model, picture, "cat.png"), "utf-8")
        patch.setattr(scene, "EXACT_BYTES", 0)
        (folder / "sums.html").write_text(page(model, picture, "cat.png"), "utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in ("computes", "stored", "sums")}


def values(browser, name):
    """The numbers of a list, in order.  "12 %" is 0.12."""
    shown(browser, name)
    texts = browser.execute_script("return [...document.querySelectorAll(`#${arguments[0]} dd`)].map((n) => "
                                   "n.textContent)", name)
    return np.array([number(part) for text in texts for part in text.split(", ")])


def number(text):
    text = text.replace("\u2212", "-").replace("\u202f", "").strip()
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def chosen(browser, kind, layer, token):
    """Choose a block and a token, on a page that has the inside of all."""
    if kind != "computes":
        return 3, 0
    click(browser, "attention-heads", layer, 2, 4, 3)
    click(browser, "attention-query", (token - 1) // 8, (token - 1) % 8, 8, 8)
    return layer, token


EVERY = pytest.mark.parametrize("kind, layer, token", [
    ("computes", 3, 28), ("computes", 0, 1), ("computes", 2, 64), ("stored", 3, 0), ("sums", 3, 0)])


@EVERY
def test_layer_norm(browser, files, model, cat_trace, kind, layer, token):
    opened(browser, files[kind])
    layer, token = chosen(browser, kind, layer, token)
    click(browser, "layer_norm-normal", 0, 101, 1, 192)
    x = cat_trace[f"blocks.{layer - 1}" if layer else "tokens"][0, token].astype(np.float64)
    norm = model.learned().blocks[layer].norm1
    deviation = np.sqrt(x.var() + model.network_config.ln_eps)
    normal, after = (x[101] - x.mean()) / deviation, cat_trace[f"blocks.{layer}.norm1"][0, token, 101]
    expected = [x.mean(), deviation, x[101], normal, norm.scale[101], norm.bias[101], after]
    assert np.abs(values(browser, "layer_norm-numbers") - expected).max() < STATE
    assert says(browser, "layer_norm-says").startswith("Number 101 of ")
    assert abs(number(says(browser, "layer_norm-says").split("= ")[1]) - after) < STATE
    for name, most in (("before", x), ("normal", (x - x.mean()) / deviation),
                       ("after", cat_trace[f"blocks.{layer}.norm1"][0, token])):
        assert abs(number(says(browser, f"layer_norm-{name}-most")[2:]) - np.abs(most).max()) < 0.011


@EVERY
def test_context(browser, files, model, cat_trace, kind, layer, token):
    opened(browser, files[kind])
    layer, token = chosen(browser, kind, layer, token)
    click(browser, "context-key", 2, 5, 8, 8)
    click(browser, "context-sum", 0, 40, 1, 64)
    click(browser, "context-added", 0, 77, 1, 192)
    config, p = model.network_config, model.learned()
    given = cat_trace[f"blocks.{layer}.weights"][0, 2, token].astype(np.float64)
    of_value = cat_trace[f"blocks.{layer}.value"][0, :, 2 * 64:].astype(np.float64)
    context = given @ of_value
    assert np.abs(context - cat_trace[f"blocks.{layer}.context"][0, token, 128:]).max() < 1e-5
    expected = [given[22], of_value[22, 40], given[22] * of_value[22, 40], context[40]]
    bound = STATE if kind == "computes" else 0.02                        # values are stored with 8 bits
    assert np.abs(values(browser, "context-numbers") - expected).max() < bound
    added = context @ p.blocks[layer].out.kernel[2 * config.head_width:]
    text = says(browser, "context-says")
    assert text.startswith(f"Block {layer}, head 2 adds ")
    assert abs(number(re.search(r"adds (\S+) to number 77", text)[1]) - added[77]) < bound
    assert abs(number(says(browser, "context-weights-most")) - given.max()) < STATE
    for name, most in (("value", of_value[22]), ("part", given[22] * of_value[22]), ("sum", context), ("added", added)):
        assert abs(number(says(browser, f"context-{name}-most")[2:]) - np.abs(most).max()) < 0.011 + bound


def test_the_keys_of_the_context_are_all_tokens(browser, files, cat_trace):
    """The strip of the weights has the class token first."""
    opened(browser, files["computes"])
    click(browser, "context-weights", 0, 0, 1, 65)
    given = cat_trace["blocks.3.weights"][0, 2, 0]
    assert abs(values(browser, "context-numbers")[0] - given[0]) < STATE
    click(browser, "context-weights", 0, 64, 1, 65)
    assert abs(values(browser, "context-numbers")[0] - given[64]) < STATE
    assert "the key is token 64" in browser.find_element("id", "context-key").get_attribute("aria-label")
    assert says(browser, "weight-q-name") == "the class token"
    assert says(browser, "weight-k-name") == "token 64 (row 7, column 7)"
    press(browser, "context-class", "enter")
    assert abs(values(browser, "context-numbers")[0] - given[0]) < STATE
    assert says(browser, "weight-k-name") == "the class token"


@EVERY
def test_mlp(browser, files, model, cat_trace, kind, layer, token):
    opened(browser, files[kind])
    layer, token = chosen(browser, kind, layer, token)
    block = model.learned().blocks[layer]
    before = cat_trace[f"blocks.{layer}.norm2"][0, token].astype(np.float64) @ block.fc1.kernel + block.fc1.bias
    after = cat_trace[f"blocks.{layer}.fc1"][0, token].astype(np.float64)
    lengths = np.abs(after) * np.linalg.norm(block.fc2.kernel, axis=1)
    units = np.arange(384) if kind == "computes" else np.sort(np.argsort(-lengths, kind="stable")[:64])
    across = 24 if kind == "computes" else 8
    if kind != "computes":                                               # the page opens on the longest vector
        assert f"unit {lengths.argmax()}: " in says(browser, "mlp-says")
    click(browser, "mlp-hidden", 2, 5, len(units) // across, across)
    unit = units[2 * across + 5]
    click(browser, "mlp-added", 0, 100, 1, 192)
    text = says(browser, "mlp-says")
    found = re.match(r"Block (\d), unit (\d+): (\S+) becomes (\S+)\. It adds (\S+) · (\S+) = (\S+) to number 100 of ",
                     text)
    assert (int(found[1]), int(found[2])) == (layer, unit)
    row = block.fc2.kernel[unit]
    expected = [before[unit], after[unit], after[unit], row[100], after[unit] * row[100]]
    assert np.abs([number(found[i]) for i in range(3, 8)] - np.array(expected)).max() < STATE
    assert abs(number(says(browser, "mlp-added-most")[2:]) - np.abs(after[unit] * row).max()) < 0.011
    curve = browser.find_element("id", "mlp-curve").get_attribute("aria-label").replace("\u2212", "-")
    found = re.search(r"turns (\S+) into (\S+)", curve)
    assert np.abs([number(found[i]) for i in (1, 2)] - np.array(expected[:2])).max() < STATE
    assert number(says(browser, "mlp-curve-most")[2:]) == round(max(4, 1.1 * np.abs(expected[:2]).max()), 2)


@pytest.mark.parametrize("kind", ["computes", "sums"])
def test_residual(browser, files, cat_trace, kind):
    opened(browser, files[kind])
    click(browser, "residual-token", 4, 4, 8, 8)
    press(browser, "residual-chart", "home", "arrow_right")
    token, states = 1 + 4 * 8 + 4, {name: x[0].astype(np.float64) for name, x in cat_trace.items()}
    before, between, after = (states[name][token] for name in ("blocks.0", "blocks.1.out", "blocks.1"))
    expected = [np.sqrt((x ** 2).mean()) for x in (before, between - before, after - between, after)]
    assert np.abs(values(browser, "residual-numbers") - expected).max() < STATE
    found = re.findall(r"rms (\d+\.\d+)", says(browser, "residual-says"))
    assert np.abs(np.array(found, float) - expected[:3]).max() < 0.006
    # The points of the chart, on one scale.
    lines = browser.execute_script("""return [...document.querySelectorAll("#residual-chart polyline")].map((line) =>
        [...line.points].map(({ y }) => y))""")
    streams = [states["tokens"], *(states[f"blocks.{l}"] for l in range(4))]
    sizes = [[np.sqrt((x[token] ** 2).mean()) for x in streams]]
    sizes.append([np.sqrt(((states[f"blocks.{l}.out"] - streams[l])[token] ** 2).mean()) for l in range(4)])
    sizes.append([np.sqrt(((streams[l + 1] - states[f"blocks.{l}.out"])[token] ** 2).mean()) for l in range(4)])
    assert [len(line) for line in lines] == [5, 4, 4]
    assert np.corrcoef(np.concatenate(lines), np.concatenate(sizes))[0, 1] < -0.99999


def test_a_page_of_sums_computes_one_weight(browser, files, cat_trace):
    """The page stores the queries and keys of the last block only, whatever block is chosen."""
    opened(browser, files["sums"])
    click(browser, "attention-heads", 1, 1, 4, 3)
    click(browser, "weight-key", 2, 3, 8, 8)
    given = cat_trace["blocks.3.weights"][0, 1, 0]
    assert abs(values(browser, "weight-sum")[-1] - given[1 + 19]) < 1e-4
    assert "in block 3, head 1" in says(browser, "weight-says")


@pytest.mark.parametrize("kind", ["computes", "stored"])
def test_norms(browser, files, model, cat_trace, kind):
    opened(browser, files[kind])
    click(browser, "stem-filters", 5, 3, 8, 8)
    click(browser, "norms-raw", 0, 100, 1, 147)
    click(browser, "norms-after", 20, 7, 32, 32)
    p, config = model.learned(), model.network_config
    raw = raw_parameters(model).stem.conv[..., 43].astype(np.float64).reshape(-1)
    standard = (raw - raw.mean()) / np.sqrt(raw.var() + config.ws_eps)
    assert np.abs(standard - p.stem.conv[..., 43].reshape(-1)).max() < 1e-4
    pattern = r"Weight 100 of filter 43: \((\S+) - \(?(-?[\d.]+)\)*\) / (\S+) = (\S+)$"
    shown_numbers = np.array([number(part) for part in re.match(pattern, says(browser, "norms-weight")).groups()])
    assert np.abs(shown_numbers - [raw[100], raw.mean(), raw.std(), standard[100]]).max() < STATE
    weight, mean, spread, result = shown_numbers
    assert abs((weight - mean) / spread - result) < 6e-4                 # the reader finds the same three digits
    assert abs(number(says(browser, "norms-standard-most")[2:]) - np.abs(standard).max()) < 0.006

    maps = cat_trace["stem.conv"][0].astype(np.float64)
    group = maps[:, :, 40:44]                                            # 64 maps in 16 groups
    assert config.groups == 16
    deviation, value, norm = np.sqrt(group.var() + config.gn_eps), maps[20, 7, 43], p.stem.norm
    normal = (value - group.mean()) / deviation
    after = normal * norm.scale[43] + norm.bias[43]
    assert abs(max(after, 0) - cat_trace["stem.norm"][0, 20, 7, 43]) < 1e-5
    found = values(browser, "norms-numbers")
    expected = [group.mean(), deviation, value, normal, norm.scale[43], norm.bias[43], after]
    assert np.abs(found - expected).max() < STATE
    for name, values_of_map in (("before", maps[..., 43]), ("after", (maps[..., 43] - group.mean()) / deviation
                                                            * norm.scale[43] + norm.bias[43])):
        low, high = browser.execute_script("""return [...document.querySelectorAll(arguments[0])].map((node) =>
            node.textContent)""", f"#norms-{name}-legend span")
        assert number(low) == -number(high) and abs(number(high) - np.abs(values_of_map).max()) < STATE
    found = re.match(r"Channel 43, row 20, column 7: (\S+) becomes (\S+)", says(browser, "norms-says"))
    assert np.abs([number(found[1]) - value, number(found[2]) - after]).max() < STATE


def test_zeros_around_the_maps_count_in_the_norm(browser, cat, tmp_path):
    """Without TensorFlow's padding, the maps of the stem have a border of zeros before their norm."""
    config = ViTHybridConfig(image_size=40, patch_size=1, num_labels=4, hidden_size=24, num_hidden_layers=1,
                             num_attention_heads=2, intermediate_size=32, backbone_config=dict(
                                 embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], num_groups=4,
                                 layer_type="bottleneck", global_padding=None))
    model = ViTHybridForImageClassification(config, engine="reference", seed=3)
    model.processor = sights.network("hybrid").processor
    (tmp_path / "page.html").write_text(page(model, open_picture(cat)), "utf-8")
    opened(browser, (tmp_path / "page.html").as_uri())
    trace = truth_of(model, cat)
    maps = trace["stem.border"][0].astype(np.float64)
    group = maps[:, :, :2]
    click(browser, "norms-after", 3, 5, *trace["stem.conv"].shape[1:3])
    found = values(browser, "norms-numbers")[[0, 1, 2, 3, 6]]
    deviation, value = np.sqrt(group.var() + model.network_config.gn_eps), maps[4, 6, 0]
    after = (value - group.mean()) / deviation
    assert np.abs(found - [group.mean(), deviation, value, after, after]).max() < STATE
    assert abs(max(after, 0) - trace["stem.norm"][0, 4, 6, 0]) < 1e-5


@pytest.mark.parametrize("kind", ["computes", "stored"])
def test_unit(browser, files, model, cat_trace, kind):
    opened(browser, files[kind])
    click(browser, "unit-sum-tiles", 0, 5, 1, 8)
    click(browser, "unit-sum", 2, 6, 8, 8)
    total, shortcut = cat_trace["stages.1.1"][0].astype(np.float64), cat_trace["stages.1.0"][0].astype(np.float64)
    channel = np.argsort(-total.var((0, 1)), kind="stable")[5]
    pattern = r"Channel (\d+), row 2, column 6: (\S+) \+ (\S+) = (\S+), and after relu (\S+)"
    found = re.match(pattern, says(browser, "unit-says"))
    branch, carried, added, after = (number(found[i]) for i in range(2, 6))
    assert int(found[1]) == channel
    assert abs(carried - shortcut[2, 6, channel]) < STATE and abs(after - total[2, 6, channel]) < STATE
    assert round(branch + carried, 3) == added and max(added, 0) == after
    norm = model.learned().stages[1][1].norm3
    raw, groups = cat_trace["stages.1.1.conv3"][0].astype(np.float64), model.network_config.groups
    group = raw.reshape(8, 8, groups, -1)[:, :, channel // (256 // groups)]
    normal = (raw[2, 6, channel] - group.mean()) / np.sqrt(group.var() + model.network_config.gn_eps)
    assert abs(branch - (normal * norm.scale[channel] + norm.bias[channel])) < STATE
    label = browser.find_element("id", "unit-conv2-tiles").get_attribute("aria-label")
    inner = np.argsort(-cat_trace["stages.1.1.conv2"][0].var((0, 1)), kind="stable")[:8]
    assert label.endswith(f"; channels {', '.join(map(str, inner))}")
    state = cat_trace["stages.1.1.conv1"][0]
    shown_map = state[:, :, np.argsort(-state.var((0, 1)), kind="stable")[1]]
    found = drawn(browser, "unit-conv1-tiles", 8, 64, corner=0.5)[:, 8:16]
    most = np.abs(shown_map).max()
    expected = colours.coloured(shown_map, -most, most, colours.DIVERGING).astype(int)
    assert np.median(np.abs(found - expected)) <= 3 and np.abs(found - expected[::-1]).max() > 100


def test_the_sums_that_the_page_shows_are_right(browser, files):
    """In every column of a row, the shown numbers add up in their last digit."""
    opened(browser, files["stored"])
    for column in range(8):
        click(browser, "unit-sum", 4, column, 8, 8)
        a, b, total, after = map(number, re.search(r": (\S+) \+ (\S+) = (\S+), and after relu (\S+)",
                                                   says(browser, "unit-says")).groups())
        assert (round(a + b, 3), max(total, 0)) == (total, after)
        click(browser, "tokens-grid", 4, column, 8, 8)
        click(browser, "tokens-sum", 0, 20 * column, 1, 192)
        a, b, total = map(number, re.search(r": (\S+) \+ (\S+) = (\S+)$", says(browser, "tokens-says")).groups())
        assert round(a + b, 3) == total
        click(browser, "layer_norm-after", 0, 20 * column, 1, 192)
        z, scale, bias, result = map(number, re.search(r": (\S+) · (\S+) \+ (\S+) = (\S+)$",
                                                       says(browser, "layer_norm-says")).groups())
        assert abs(z * scale + bias - result) < 5.2e-4


@pytest.mark.parametrize("kind", ["mean", "wide"])
def test_other_networks(browser, cat, tmp_path, kind):
    """Without a class token, and on a grid of 3 x 5: the norm of the token on which the page opens."""
    model = sights.network(kind)
    (tmp_path / "page.html").write_text(page(model, open_picture(cat)), "utf-8")
    opened(browser, (tmp_path / "page.html").as_uri())
    settled(browser)
    trace = truth_of(model, cat)
    token = 0 if kind == "wide" else int(re.search(r"of token (\d+) ", says(browser, "layer_norm-says"))[1])
    x = trace["blocks.1"][0, token].astype(np.float64)
    assert np.abs(values(browser, "layer_norm-numbers")[:3] - [x.mean(), x.std(), x[0]]).max() < STATE
    rms = np.sqrt((trace["blocks.2"][0, token].astype(np.float64) ** 2).mean())
    assert abs(values(browser, "residual-numbers")[3] - rms) < STATE
    assert browser.get_log("browser") == []


def truth_of(model, path):
    processor = ViTHybridImageProcessor.from_dict(model.processor)
    return model.trace(processor(open_picture(path), return_tensors="np").pixel_values)
