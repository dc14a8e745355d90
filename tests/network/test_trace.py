"""The trace: what it keeps, what it wants, and the first number that is not finite."""
import copy
import pickle
import re
import time

import numpy as np
import pytest

import nphybrid.trace
from nphybrid import BitConfig, BitForImageClassification, ViTHybridConfig, ViTHybridForImageClassification
from nphybrid.testing import telling_weights
from nphybrid.trace import Discard, FirstNonFinite, NonFiniteError, Trace


def forward(out):
    """Three states, one of them in a scope in a scope."""
    x = out["stem"] = np.ones(2)
    inner = out.at("stages.2")
    x = inner.at("8")["conv1"] = x + 1
    x = inner["8"] = x + 1
    return x


def test_a_trace_keeps_every_state_in_the_order_of_the_forward_pass():
    out = Trace()
    last = forward(out)
    assert list(out) == ["stem", "stages.2.8.conv1", "stages.2.8"]
    assert out["stages.2.8"] is last


@pytest.mark.parametrize("keep", [set(), {"stem"}, ["stages.2.8.conv1"], {"stem", "stages.2.8", "nothing"}])
def test_a_trace_keeps_the_states_that_keep_names(keep):
    out = Trace(keep)
    forward(out)
    assert set(out) == set(keep) - {"nothing"}
    assert set(out.seconds) == set(out)


# ---------------------------------------------------------------- the table of states in help(nphybrid.trace)

BACKBONE = dict(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], num_groups=2, num_labels=5)
HYBRID = ViTHybridConfig(image_size=(33, 47), hidden_size=12, num_hidden_layers=2, num_attention_heads=3, num_labels=5,
                         intermediate_size=20, backbone_config=dict(BACKBONE, layer_type="bottleneck",
                                                                    global_padding="same"))


def traced(kind, config):
    weights = telling_weights(config, 0)
    model = kind(config, engine="reference", dtype="float64", state_dict=weights)
    return model.trace(np.random.default_rng(0).standard_normal((2, 3, 33, 47))), weights


@pytest.mark.parametrize("kind, config", [(ViTHybridForImageClassification, HYBRID),
                                          (BitForImageClassification, BitConfig(**BACKBONE))], ids=["hybrid", "BiT"])
def test_the_table_has_every_state(kind, config):
    listed = set()
    for line in re.findall(r"^    (\S.*?)  ", nphybrid.trace.__doc__, re.MULTILINE):
        listed |= set(line.split(", "))
    for name in traced(kind, config)[0]:
        general = re.sub(r"^blocks\.\d", "blocks.N", re.sub(r"^stages\.\d\.\d", "stages.S.U", name))
        inside = re.sub(r"^(blocks\.N|stages\.S\.U)\.", "", general)
        assert {general, inside} & listed, name


def test_the_formulas_of_the_table():
    """Of the states whose contents are not clear from their names.  Observed: 4.1e-16"""
    trace, weights = traced(ViTHybridForImageClassification, HYBRID)

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T.astype(np.float64) + weights[f"{name}.bias"]

    def close(name, expected):
        assert np.abs(trace[name] - expected).max() <= 1e-13 * np.abs(expected).max(), name
    from math import erf
    layer, x = "vit.encoder.layer.1", trace["blocks.0"]
    close("blocks.1.out", x + linear(trace["blocks.1.context"], f"{layer}.attention.output.dense"))
    hidden = linear(trace["blocks.1.norm2"], f"{layer}.intermediate.dense")
    close("blocks.1.fc1", hidden * (1 + np.vectorize(erf)(hidden / np.sqrt(2))) / 2)
    close("blocks.1", trace["blocks.1.out"] + linear(trace["blocks.1.fc1"], f"{layer}.output.dense"))
    q, k, v = (trace[f"blocks.1.{name}"].reshape(2, -1, 3, 4) for name in ("query", "key", "value"))
    scores = np.exp(np.einsum("bqad,bkad->baqk", q, k) / 2)
    close("blocks.1.weights", scores / scores.sum(-1, keepdims=True))
    close("blocks.1.context", np.einsum("baqk,bkad->bqad", trace["blocks.1.weights"], v).reshape(x.shape))
    close("logits", linear(trace["norm"][:, 0], "classifier"))
    bit = "vit.embeddings.patch_embeddings.backbone.bit"

    def group_norm(x, name):
        groups = x.reshape(2, -1, 2, x.shape[-1] // 2)
        groups = (groups - groups.mean((1, 3), keepdims=True)) / np.sqrt(groups.var((1, 3), keepdims=True) + 1e-5)
        return groups.reshape(x.shape) * weights[f"{bit}.{name}.weight"] + weights[f"{bit}.{name}.bias"]
    close("stem.norm", group_norm(trace["stem.conv"], "embedder.norm").clip(0))
    unit = "encoder.stages.0.layers.0"
    close("stages.0.0.norm1", group_norm(trace["stages.0.0.conv1"], f"{unit}.norm1").clip(0))
    close("stages.0.0.norm_proj", group_norm(trace["stages.0.0.proj"], f"{unit}.downsample.norm"))
    last = group_norm(trace["stages.0.0.conv3"], f"{unit}.norm3")
    close("stages.0.0", (last + trace["stages.0.0.norm_proj"]).clip(0))


def test_discard_keeps_nothing_and_wants_nothing():
    out = Discard()
    assert forward(out).tolist() == [3, 3]
    assert dict(out) == {}
    assert not out.wants("stem")


@pytest.mark.parametrize("keep, wanted", [
    (None, True), ({"blocks.0.weights"}, True), ({"weights"}, False), ((), False)])
def test_a_scope_asks_by_the_full_name(keep, wanted):
    out = Trace(keep)
    assert out.wants("blocks.0.weights") is wanted
    assert out.at("blocks").at("0").wants("weights") is wanted


def test_seconds_count_from_the_state_before_kept_or_not():
    out = Trace(keep={"first", "third"})
    time.sleep(0.02)
    out["first"] = 1
    time.sleep(0.02)
    out["second"] = 2
    out["third"] = 3
    assert out.seconds["first"] >= 0.02
    assert out.seconds["third"] < out.seconds["first"]


def test_a_trace_is_one_line_and_prints_a_table():
    out = Trace()
    forward(out)
    out.seconds = {"stem": 0.001, "stages.2.8.conv1": 0.0125, "stages.2.8": 0.0365}
    assert repr(out) == "Trace(3 states, 0.05 s)" and repr(Discard()) == "Discard(0 states, 0 s)"
    assert str(out).splitlines() == [
        "state                     shape  mean  rms      ms  of time",
        "stem                      2         1    1   1.000     2.0%",
        "stages                    2         3    3  49.000    98.0%",
        "  stages.2                2         3    3  49.000    98.0%",
        "    stages.2.8            2         3    3  49.000    98.0%",
        "      stages.2.8.conv1    2         2    2  12.500    25.0%",
        "      rest of stages.2.8  2         3    3  36.500    73.0%",
        "total                                       50.000   100.0%"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_bad_names_the_state_the_number_and_its_place(bad):
    state = np.zeros((2, 3, 4))
    state[1, 2, 0] = state[1, 2, 3] = bad
    out = FirstNonFinite()
    forward(out)
    with pytest.raises(NonFiniteError) as error:
        out.at("blocks.3")["fc1"] = state
    assert str(error.value).startswith("blocks.3.fc1 is the first state")
    assert f"{bad} at [1, 2, 0] of shape [2, 3, 4]" in str(error.value)


def test_first_bad_keeps_nothing_and_lets_large_numbers_pass():
    out = FirstNonFinite()
    out["stem"] = np.full(3, np.finfo(np.float32).max)
    assert dict(out) == {}
    assert not out.wants("weights")


def test_a_number_that_is_not_finite_is_a_bad_value():
    assert issubclass(NonFiniteError, ValueError)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda out: pickle.loads(pickle.dumps(out))])
@pytest.mark.parametrize("kind", [Trace, Discard, FirstNonFinite])
def test_a_trace_can_be_copied_and_pickled(kind, copied):
    out = kind()
    forward(out)
    again = copied(out)
    assert type(again) is kind and list(again) == list(out) and again.seconds == out.seconds
    assert str(again) == str(out)
    again["more"] = np.zeros(2)
    assert "more" not in out


def test_a_missing_state_gets_a_suggestion():
    trace = Trace()
    trace["stem"] = trace["blocks.0"] = np.zeros((1, 2))
    with pytest.raises(KeyError, match=r"the trace has no state 'block.0'. Did you mean blocks.0\?"):
        trace["block.0"]
    with pytest.raises(KeyError, match="the trace has no state 'zebra'\"$"):
        trace["zebra"]
    assert trace.get("block.0") is None and "block.0" not in trace
