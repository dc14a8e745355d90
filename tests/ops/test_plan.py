"""A plan repeats a forward pass: the same bits as without a plan, whatever else happens."""
import copy
import multiprocessing
import pickle
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import ViTHybridConfig, ViTHybridForImageClassification, default_model, model
from nphybrid.config import Config
from nphybrid.ops import kernels, plan, threads
from nphybrid.ops.plan import Plans
from nphybrid.trace import Trace

from network.test_surprises import telling
from tools.process import run_python

HYBRID = Config(image=(64, 64), stem=24, depths=(1, 2), widths=(32, 48), groups=4, patch=1, width=40, blocks=2,
                heads=2, hidden=72, classes=7)
BIT = replace(HYBRID, unit="preactivation", padding="symmetric", pool_padding="valid", width=0, blocks=0, heads=0,
              hidden=0)
# Each value of each field that changes what the network computes with NumPy or with another operation.
NETWORKS = {
    "hybrid": HYBRID,
    "symmetric": replace(HYBRID, padding="symmetric", pool_padding="valid"),
    "dilated": replace(HYBRID, output_stride=4),
    "patch 2": replace(HYBRID, patch=2),
    "no class token": replace(HYBRID, class_token=False, pool="mean"),
    "mean": replace(HYBRID, pool="mean", norm_pooled=True),
    "pre_logits": replace(HYBRID, pre_logits=20),
    "no classes": replace(HYBRID, classes=0),
    "plain ViT": replace(HYBRID, stem=0, depths=(), widths=(), patch=16),
    "pre-activation hybrid": replace(HYBRID, unit="preactivation"),
    "BiT": BIT,
    "BiT, same": replace(BIT, padding="same", pool_padding="same"),
    "BiT without classes": replace(BIT, classes=0),
}
STATES = "norm", "features_norm", "pooler", "logits"


def pixels(B, config=HYBRID, seed=0):
    return np.random.default_rng(seed).standard_normal((B, *config.image, 3), np.float32)


class Network:
    """A random network and its plans."""

    def __init__(self, config, dtype="float32"):
        self.config = config
        p = telling(config)
        self.params = kernels.prepare(p, config, dtype)
        self.plans = Plans()

    def __call__(self, x, ops, out):
        network = model.hybrid if self.config.blocks else model.bit
        return network(x, self.params, self.config, ops, out)

    def plain(self, x):
        """The states of an unrecorded pass, and its result."""
        out = Trace(keep=STATES)
        return self(x, kernels, out), dict(out)

    def planned(self, x, ops=kernels):
        out = Trace(keep=STATES)
        return self.plans.run((self.params, self.config), x, ops, out, self), dict(out)

    def made(self):
        """The plans that no caller uses."""
        return [p for shape in self.plans.shapes.values() for p in shape.slots if p]


def same(a, b):
    """Whether two (result, states) have the same bits."""
    return a[0].tobytes() == b[0].tobytes() and a[1].keys() == b[1].keys() and all(
        a[1][name].tobytes() == b[1][name].tobytes() for name in a[1])


@pytest.fixture(autouse=True)
def a_plan_at_once(monkeypatch):
    monkeypatch.setattr(plan, "PASSES", 0)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits(name, n):
    config = NETWORKS[name]
    network = Network(config)
    for B in 1, 2, 3, 5:
        with threads.using(n):
            for seed in range(3):                         # the first is recorded
                x = pixels(B, config, seed)
                assert same(network.planned(x), network.plain(x)), (B, seed)
    assert len(network.made()) == 4
