"""The network of the page in JavaScript, for tests: run in Node, Chromium and Firefox."""
import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nphybrid.config import Config, plan
from nphybrid.explain import worker
from nphybrid.ops import reference
from nphybrid.params import random, shapes, tree_map

HARNESS = Path(__file__).with_name("javascript.js").read_text("utf-8")
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


ENGINES = [marked(Node, "node"), marked(Chromium, "chromium"), marked(Firefox, "firefox-esr")]


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


def inside_of(run, x, acts=None, **network):
    answer = run({"inside": True, "pictures": text(x.astype("<f4")), "shape": x.shape[1:], "acts": acts or {},
                  **network})
    return {name: numbers(data).reshape(shape) for name, (shape, data) in answer.items()}


def errors(states, truth, b=0):
    """{name: max|x - truth| / std(truth)} of the states of picture b."""
    found = {}
    for name, x in states.items():
        expected = truth[name][b]
        assert x.shape == expected.shape, name
        found[name] = float(np.abs(x - expected).max() / (expected.std() or 1))
    return found


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


def network_and_picture(name, model, cat):
    if name == "cat":
        return model.network_config, model.learned(), cat
    p, x = seeded(NETWORKS[name])
    return NETWORKS[name], p, x[:1]
