"""The trace: what it keeps, what it wants, and the first number that is not finite."""
import time

import numpy as np
import pytest

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


def test_a_missing_state_gets_a_suggestion():
    trace = Trace()
    trace["stem"] = trace["blocks.0"] = np.zeros((1, 2))
    with pytest.raises(KeyError, match=r"the trace has no state 'block.0'. Did you mean blocks.0\?"):
        trace["block.0"]
    with pytest.raises(KeyError, match="the trace has no state 'zebra'\"$"):
        trace["zebra"]
    assert trace.get("block.0") is None and "block.0" not in trace
