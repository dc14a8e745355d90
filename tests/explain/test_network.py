"""The network that the page computes in JavaScript, compared with Python: in Node, Chromium and Firefox."""
import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from nphybrid import ViTHybridImageProcessor
from nphybrid.config import Config, plan
from nphybrid.explain import inside, scene, unit as units, worker
from nphybrid.image import Steps, prepare
from nphybrid.model import bit, hybrid
from nphybrid.ops import reference
from nphybrid.params import named_leaves, random, shapes, tree_map
from nphybrid.trace import Trace

from oracles import sights
from tools.acts import acted

pytestmark = pytest.mark.slow

HARNESS = Path(__file__).with_name("network_harness.js").read_text("utf-8")
HEIGHT_FIRST = int(PIL.__version__.split(".")[0]) >= 13             # see `resize` in network/image.js
PICTURES = 100                            # in Chromium; 10 in the others
# The error of a state is max|x - truth| / std(truth).
EXACT = 1e-4                              # observed 4.4e-5, the weights of the last block, with float32 weights
STORED = 5e-3                             # observed 3.2e-3, with the weights of the page
LOGITS = 1e-3                             # observed 5.2e-4, the difference of a logit with the weights of the page


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def numbers(text, dtype="<f4"):
    return np.frombuffer(base64.b64decode(text), dtype)


class Node:
    """Runs requests in one process of Node."""

    def __init__(self, folder):
        lines = ('require("readline").createInterface({ input: process.stdin })'
                 '.on("line", (line) => process.stdout.write(`${JSON.stringify(handled(JSON.parse(line)))}\\n`));')
        first = '"use strict"; globalThis.onmessage = null;'
        (folder / "worker.js").write_text("\n".join((first, worker.script(), HARNESS, lines)), "utf-8")
        self.process = subprocess.Popen(["node", folder / "worker.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, request):
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def worker_page(folder):
    """A page with a function that runs a request in a worker, which is started as the page starts its worker.

    -> the address of the page
    """
    (folder / "page.html").write_text(f"""<!doctype html>
        <script type="text/plain" id="worker">{worker.script()}\n{HARNESS}
            onmessage = ({{ data }}) => postMessage(JSON.stringify(handled(JSON.parse(data))));</script>
        <script>
            const script = document.getElementById("worker").textContent;
            const worker = new Worker(URL.createObjectURL(new Blob([script], {{ type: "text/javascript" }})));
            const run = (request) => new Promise((done) => {{
                worker.onmessage = ({{ data }}) => done(data);
                worker.onerror = ({{ message }}) => done(JSON.stringify(message));
                worker.postMessage(request);
            }});
        </script>""", "utf-8")
    return (folder / "page.html").as_uri()


class Chromium:
    """Runs requests in the worker of a page in Chromium."""

    def __init__(self, folder):
        self.driver = pytest.importorskip("tools.browser").started()
        self.driver.set_script_timeout(600)
        self.driver.get(worker_page(folder))

    def __call__(self, request):
        return json.loads(self.driver.execute_async_script(
            "const [request, done] = arguments; run(request).then(done);", json.dumps(request)))

    def close(self):
        self.driver.quit()


class Firefox:
    """Runs requests in the worker of a page in Firefox."""

    def __init__(self, folder):
        self.browser = pytest.importorskip("tools.firefox").Firefox(folder)
        self.browser.open(worker_page(folder))

    def __call__(self, request):
        return json.loads(self.browser.evaluate(f"run({json.dumps(json.dumps(request))})"))

    def close(self):
        self.browser.close()


def marked(engine, name):
    return pytest.param(engine, id=name.lower(), marks=pytest.mark.skipif(
        not shutil.which(name), reason=f"needs {name} (Debian: apt-get install nodejs chromium chromium-driver)"))


@pytest.fixture(scope="module", params=[
    marked(Node, "node"), marked(Chromium, "chromium"), marked(Firefox, "firefox-esr")])
def run(request, tmp_path_factory):
    engine = request.param(tmp_path_factory.mktemp("worker"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def cat(root, model):
    return model.prepared(root / "examples" / "images" / "cat.png").transpose(0, 2, 3, 1)


def described(config, p, exact):
    """The part of a request that describes a network and its weights."""
    derived = {"head_width": config.head_width, "grid": config.grid, "tokens": config.tokens} if config.blocks else {}
    stages = [[unit._asdict() for unit in stage] for stage in plan(config)]
    leaves = worker.outputs_first(p)
    stored = ({"exact": text(np.concatenate([leaf.reshape(-1) for leaf in leaves.values()]))} if exact else
              {"weights": {part: text(array) for part, array in worker.weights(p).items()}})
    return {"config": {**vars(config), **derived, "plan": stages, "feature_map": None},
            "leaves": [(name, leaf.shape) for name, leaf in leaves.items()], **stored}


def states_of(run, x, acts=None, most=None, **network):
    """Compute pictures in JavaScript.  (B, H, W, C) -> for each picture {name: array}"""
    pictures = {"pictures": text(x.astype("<f4")), "shape": x.shape[1:]}
    answers = run({**pictures, "acts": acts or {}, "most": most, **network})
    return [{name: numbers(data) if most else numbers(data).reshape(shape) for name, (shape, data) in answer.items()}
            for answer in answers]


def errors(states, truth, b=0):
    """{name: max|x - truth| / std(truth)} of the states of picture b."""
    found = {}
    for name, x in states.items():
        expected = truth[name][b]
        assert x.shape == expected.shape, name
        found[name] = float(np.abs(x - expected).max() / (expected.std() or 1))
    return found


# ------------------------------------------------------------------ the bundled network

def test_every_state_of_the_cat(run, model, cat):
    truth = Trace()
    p, config = model.learned(), model.network_config
    hybrid(cat, p, config, reference, truth)
    for exact, bound in ((True, EXACT), (False, STORED)):
        states, = states_of(run, cat, **described(config, p, exact))
        assert list(states) == list(truth)
        found = errors(states, truth)
        assert max(found.values()) < bound
        logits = np.abs(states["logits"] - truth["logits"][0]).max()
        assert logits < (1e-5 if exact else LOGITS)                      # observed 2.3e-6, 3.1e-4


def test_a_hundred_pictures(run, model, root):
    """About 64 numbers of each state, and all logits."""
    count = PICTURES if isinstance(run, Chromium) else 10
    with np.load(root / "tests" / "data" / "cifar10_test_1000.npz") as data:
        pictures = [Image.fromarray(image) for image in data["images"][:count]]
    x = model.image_processor()(pictures, return_tensors="np").pixel_values.transpose(0, 2, 3, 1)
    p, config, network = model.learned(), model.network_config, described(model.network_config, model.learned(), False)
    worst = logits = 0
    for start in range(0, count, 10):
        truth = Trace()
        hybrid(x[start:start + 10], p, config, reference, truth)
        for b, states in enumerate(states_of(run, x[start:start + 10], most=64, **network)):
            network = {}                                                 # the network is sent only once
            for name, found in states.items():
                state = truth[name][b]
                expected = state.reshape(-1)[::-(-state.size // 64)]
                worst = max(worst, np.abs(found - expected).max() / state.std())
            assert states["logits"].argmax() == truth["logits"][b].argmax()
            logits = max(logits, np.abs(states["logits"] - truth["logits"][b]).max())
    assert worst < STORED and logits < LOGITS


# ------------------------------------------------------------------ other networks

_ENCODER = dict(width=12, blocks=2, heads=3, hidden=20, classes=5)
NETWORKS = {
    "same": Config(image=(37, 50), stem=8, depths=(1, 2), widths=(16, 24), groups=4, **_ENCODER),
    "symmetric": Config(image=(38, 45), stem=8, depths=(2, 1), widths=(16, 24), groups=4, padding="symmetric",
                        pool_padding="valid", patch=2, **_ENCODER),
    "dilated": Config(image=(40, 33), stem=8, depths=(1, 2, 2), widths=(16, 24, 32), groups=8, output_stride=4,
                      ln_eps=1e-6, feature_stage=2, **_ENCODER),
    "preactivation": Config(image=(41, 32), stem=8, depths=(2, 1), widths=(16, 24), groups=4, unit="preactivation",
                            pool="mean", norm_pooled=True, pre_logits=7, **_ENCODER),
    "patches": Config(image=(26, 33), stem=0, depths=(), widths=(), patch=8, class_token=False, pool="mean",
                      qkv_bias=False, **_ENCODER),
    "bit": Config(image=(39, 50), stem=8, depths=(1, 2), widths=(16, 24), groups=4, unit="preactivation",
                  padding="symmetric", pool_padding="valid", width=0, blocks=0, heads=0, hidden=0, classes=6),
}


def seeded(config, seed=3):
    """Random arrays with norms around 1 and biases around 0, standardized, and two pictures."""
    rng = np.random.default_rng(seed)

    def moved(name, leaf):
        if name.endswith(("scale", "bias")):
            return leaf + rng.uniform(-0.3, 0.3, leaf.shape).astype(np.float32)
        return leaf * np.float32(10) if leaf.ndim == 2 else leaf
    p = reference.prepare(tree_map(moved, random(shapes(config), seed)), config)
    return p, rng.standard_normal((2, *config.image, 3)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks(run, name):
    config = NETWORKS[name]
    p, x = seeded(config)
    truth = Trace()
    (hybrid if config.blocks else bit)(x, p, config, reference, truth)
    found = states_of(run, x, **described(config, p, exact=True))
    for b, states in enumerate(found):
        assert list(states) == list(truth)
        worst = max((error, name) for name, error in errors(states, truth, b).items())
        assert worst[0] < 5e-5, worst                                    # observed 3.0e-5


# ------------------------------------------------------------------ the inside of the blocks

def inside_truth(x, p, config):
    """The arrays of the inside of the blocks for one picture, in float64, from their definitions."""
    trace, blocks = Trace(), range(config.blocks)
    hybrid(x, p, config, reference, trace)
    states = {name: state[0].astype(np.float64) for name, state in trace.items()}
    streams = [states["tokens"], *(states[f"blocks.{l}"] for l in blocks)]
    rms = np.zeros((config.blocks + 1, config.tokens, 3))
    for l, stream in enumerate(streams):
        rms[l, :, 0] = np.sqrt((stream ** 2).mean(1))
    for l in blocks:
        rms[l, :, 1] = np.sqrt(((states[f"blocks.{l}.out"] - streams[l]) ** 2).mean(1))
        rms[l, :, 2] = np.sqrt(((streams[l + 1] - states[f"blocks.{l}.out"]) ** 2).mean(1))
    stacked = {
        "value": [states[f"blocks.{l}.value"] for l in blocks], "before": streams[:-1],
        "hidden": [states[f"blocks.{l}.norm2"] @ p.blocks[l].fc1.kernel + p.blocks[l].fc1.bias for l in blocks],
        "activated": [states[f"blocks.{l}.fc1"] for l in blocks], "out": [block.out.kernel for block in p.blocks],
        "fc2": [block.fc2.kernel for block in p.blocks], "norm_scale": [block.norm1.scale for block in p.blocks],
        "norm_bias": [block.norm1.bias for block in p.blocks]}
    return {**{name: np.stack(parts) for name, parts in stacked.items()}, "rms": rms}


def network_and_picture(name, model, cat):
    if name == "cat":
        return model.network_config, model.learned(), cat
    p, x = seeded(NETWORKS[name])
    return NETWORKS[name], p, x[:1]


def inside_of(run, x, acts=None, **network):
    answer = run({"inside": True, "pictures": text(x.astype("<f4")), "shape": x.shape[1:], "acts": acts or {},
                  **network})
    return {name: numbers(data).reshape(shape) for name, (shape, data) in answer.items()}


@pytest.mark.parametrize("name", ["cat", *(name for name, config in NETWORKS.items() if config.blocks)])
def test_the_inside_of_the_blocks(run, model, cat, name):
    config, p, x = network_and_picture(name, model, cat)
    truth = inside_truth(x, p, config)
    for exact, bound in ((True, EXACT), (False, STORED)):
        found = inside_of(run, x, **described(config, p, exact))
        assert found.keys() == truth.keys()
        for part, expected in truth.items():
            assert found[part].shape == expected.shape, part
            error = np.abs(found[part] - expected).max() / (expected.std() or 1)
            assert error < bound, part                                   # observed 1.6e-5, 1.6e-3


@pytest.mark.parametrize("name", ["cat", *(name for name, config in NETWORKS.items() if config.blocks)])
def test_python_has_the_same_inside(model, cat, name):
    config, p, x = network_and_picture(name, model, cat)
    truth, trace = inside_truth(x, p, config), Trace()
    hybrid(x, p, config, reference, trace)
    blocks, tokens = range(config.blocks), range(config.tokens)
    found = {**inside.context(trace, p, blocks), **inside.layer_norm(trace, p, blocks, tokens),
             **inside.mlp(trace, p, blocks, tokens), "rms": inside.residual(trace, config.blocks)}
    assert found.keys() == truth.keys()
    for part, expected in truth.items():
        error = np.abs(found[part] - expected).max() / (expected.std() or 1)
        assert error < 1e-5, part                                        # observed 3.1e-6


def test_the_inside_of_a_skipped_block_is_zero(run, model, cat):
    found = inside_of(run, cat, {"skipped": [1]}, **described(model.network_config, model.learned(), True))
    for name in ("value", "before", "hidden", "activated"):
        assert not found[name][1].any() and found[name][0].any() and found[name][2].any(), name
    assert (found["rms"][1, :, 1:] == 0).all() and (found["rms"][2, :, 1:] > 0).all()
    assert (found["rms"][1, :, 0] == found["rms"][2, :, 0]).all()


# ------------------------------------------------------------------ the inside of a residual unit

@pytest.mark.parametrize("name", ["cat", *(name for name, config in NETWORKS.items() if config.depths)])
def test_the_inside_of_a_unit(run, model, cat, name):
    """The last unit before the tokens: its shortcut is its input, or the projected input if the stage has one unit."""
    config, p, x = network_and_picture(name, model, cat)
    trace = Trace()
    (hybrid if config.blocks else bit)(x, p, config, reference, trace)
    used = scene.used_stages(config)
    s, u = used - 1, config.depths[used - 1] - 1
    unit, before = f"stages.{s}.{u}", f"stages.{s}.{u - 1}" if u else f"stages.{s - 1}.{config.depths[s - 1] - 1}"
    bottleneck = config.unit == "bottleneck"
    shortcut = trace[before] if u else trace[f"{unit}.{'norm_proj' if bottleneck else 'proj'}"]
    total = trace[unit][0]
    description = described(config, p, exact=True)
    description["config"]["used"] = used
    facts, arrays = run({"unit": True, "pictures": text(x.astype("<f4")), "shape": x.shape[1:], **description})
    ours = units.maps(trace, p, config)
    for part, channels in (("conv1", facts["conv1"]), ("conv2", facts["conv2"]), ("sum", facts["channels"])):
        spread = trace[f"{unit}.{part}" if part != "sum" else unit][0].var((0, 1))
        assert len(channels) == min(8, len(spread))
        assert spread[channels].min() > np.delete(spread, channels).max(initial=0) * (1 - 1e-5)
        assert channels == units.channels(ours)[part].tolist()
    of_sum = facts["channels"]
    expected = {"conv1": trace[f"{unit}.conv1"][0][:, :, facts["conv1"]], "sum": total[:, :, of_sum],
                "conv2": trace[f"{unit}.conv2"][0][:, :, facts["conv2"]], "shortcut": shortcut[0][:, :, of_sum]}
    found = {part: numbers(data).reshape(-1, *total.shape[:2]).transpose(1, 2, 0) for part, data in arrays.items()
             if part != "unit_conv1"}
    found["unit_conv1"] = numbers(arrays["unit_conv1"]).reshape(-1, *trace[f"{unit}.conv1"].shape[1:3]
                                                                ).transpose(1, 2, 0)
    for part, truth in expected.items():
        assert np.abs(found[f"unit_{part}"] - truth).max() < 1e-4 * truth.std(), part        # observed 1.1e-5
        channels = facts[part] if part in facts else of_sum
        assert (ours[part][:, :, channels] == truth).all(), part
    # The branch has no state. It and the shortcut give the sum.
    for branch, bound in ((found["unit_branch"], 1e-4), (ours["branch"][:, :, of_sum], 1e-6)):
        added = branch + expected["shortcut"]
        added = np.maximum(added, 0) if bottleneck else added
        assert np.abs(added - expected["sum"]).max() < bound * expected["sum"].std() + 1e-6
        assert branch.min() < 0 < branch.max()


# ------------------------------------------------------------------ acts

@pytest.mark.parametrize("act, value", [
    ("headMask", [[1, 0, 1], [1, 1, 1], [0.5, 1, 0], [1, 1, 1]]), ("masked", [0, 27, 63]),
    ("blanked", {"stem": [5], "stages.0.1": [0, 127], "stages.1.1": [200]}), ("temperature", 0.4), ("skipped", [1]),
    ("skipped", [0, 3]), ("classToken", np.linspace(-1, 1, 192).tolist()), ("classToken", "mean"),
    ("positions", np.roll(np.arange(64), 9)[::-1].tolist())])
def test_an_act_is_the_act_of_python(run, model, cat, act, value):
    p, config = model.learned(), model.network_config
    truth = acted(act, value, cat, p, config)
    states, = states_of(run, cat, {act: value}, **described(config, p, exact=True))
    if act == "skipped":
        kept = [l for l in range(4) if l not in value]
        names = {name: name for name in ("tokens", "norm", "logits")}
        for k, l in enumerate(kept):
            names |= {f"blocks.{l}{rest}": f"blocks.{k}{rest}" for rest in ("", ".weights", ".fc1")}
        states = {theirs: states[ours] for ours, theirs in names.items()}
    if act == "temperature":
        states = {name: state for name, state in states.items() if not name.endswith("query")}
    found = errors(states, truth)
    assert max(found.values()) < EXACT                                   # observed 6.9e-5, with a temperature
    untouched = Trace(keep={"logits"})
    hybrid(cat, p, config, reference, untouched)
    assert np.abs(untouched["logits"] - truth["logits"]).max() > 0.1     # the act changes something


# ------------------------------------------------------------------ pictures

@pytest.mark.parametrize("filter", [2, 3])
@pytest.mark.parametrize("shape, steps", [
    ((33, 47), Steps(size=64, crop=(64, 64))), ((300, 451), Steps(size=64, crop=(64, 64))),
    ((1, 17), Steps(size=5, crop=(8, 8))), ((64, 64), Steps(size=64, crop=(64, 64))),
    ((211, 97), Steps(size=(40, 63), crop=None)), ((20, 300), Steps(size=(31, 7), crop=(30, 11))),
    ((70, 90), Steps(size=None, crop=(63, 97), crop_rounding="half_even")),
    ((90, 73), Steps(size=None, crop=(63, 70), crop_rounding="half_even")),
    ((500, 60), Steps(size=(20, 40), crop=None))])
def test_a_picture_is_prepared_as_pillow_does(run, shape, steps, filter):
    """All bytes are equal, and so are all bits of the input of the network."""
    if shape == (500, 60) and not HEIGHT_FIRST:
        pytest.skip("Pillow 12 and earlier always resize the width first")
    image = np.random.default_rng(shape[0]).integers(0, 256, (*shape, 3), np.uint8)
    image[:, ::3] = [0, 255, 128]                                        # steep edges, where bicubic overshoots
    steps = steps._replace(resample=filter, mean=(0.485, 0.456, 0.5), std=(0.229, 0.5, 0.3))
    photograph = {"factor": steps.factor, "mean": steps.mean, "std": steps.std}
    found, pixels, values = run({"image": text(image), "shape": image.shape, "steps": steps._asdict(),
                                 "photograph": photograph})
    expected = prepare(image, steps._replace(factor=None, mean=None))
    assert (numbers(pixels, np.uint8).reshape(found) == expected).all()
    assert (numbers(values).reshape(found) == prepare(image, steps)).all()


# ------------------------------------------------------------------ what the page stores

def test_weights_are_stored_within_half_a_step(model):
    p = model.learned()
    stored = worker.weights(p)
    exact, codes = stored["exact"], stored["codes"].astype(np.float64)
    for leaf in worker.outputs_first(p).values():
        if leaf.ndim == 1:
            assert (exact[:leaf.size] == leaf).all()
            exact = exact[leaf.size:]
            continue
        rows = leaf.reshape(len(leaf), -1)
        found = codes[:leaf.size].reshape(rows.shape) * exact[:len(leaf), None].astype(np.float64) / 32767
        assert (np.abs(found - rows).max(1) <= np.abs(rows).max(1) * (0.5 / 32767 + 1e-7)).all()
        exact, codes = exact[len(leaf):], codes[leaf.size:]
    assert exact.size == codes.size == 0


def test_outputs_come_first(model):
    p = model.learned()
    leaves = worker.outputs_first(p)
    assert list(leaves) == list(named_leaves(p))
    assert (leaves["stem.conv"][5] == p.stem.conv[..., 5]).all()
    assert (leaves["head.kernel"][3] == p.head.kernel[:, 3]).all()
    assert leaves["tokens.positions"] is p.tokens.positions


@pytest.mark.parametrize("kind", sights.KINDS)
def test_pages_of_small_networks_compute(kind):
    assert worker.obstacle(sights.network(kind)) is None


def test_other_pages_do_not_compute(model, monkeypatch):
    small = sights.network("vit")
    for processor in (dict(resample=1), dict(resample="tf-bilinear", do_rescale=False)):
        small.processor = ViTHybridImageProcessor(**processor)
        assert worker.obstacle(small)
    monkeypatch.setattr(worker, "MAX_PARAMETERS", 1_469_833)
    assert worker.obstacle(model)
    monkeypatch.undo()
    assert worker.obstacle(model) is None
    monkeypatch.setattr(scene, "EXACT_BYTES", 0)                         # the page adds attention weights up
    assert worker.obstacle(model)


