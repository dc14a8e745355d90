"""nphybrid.testing: each promise of `assert_states_close`, the weights that show mistakes, the PyTorch network."""
import math
import re

import numpy as np
import pytest

from nphybrid import (BitBackbone, BitConfig, BitForImageClassification, BitModel, ViTConfig, ViTForImageClassification,
                      ViTHybridConfig, ViTHybridForImageClassification, ViTHybridModel, ViTModel)
from nphybrid.testing import assert_states_close, telling_weights, torch_states, torch_twin

from tools.process import run_python

BIT = dict(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], num_groups=2, num_labels=5)
ENCODER = dict(image_size=(33, 47), hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
               num_labels=5)
HYBRID = ViTHybridConfig(**ENCODER, backbone_config=dict(BIT, layer_type="bottleneck", global_padding="same",
                                                         embedding_dynamic_padding=True))
PLAIN = ViTConfig(**ENCODER, patch_size=5)
EXACT = dict(engine="reference", dtype="float64")


def pixels(seed=0, size=(33, 47)):
    return np.random.default_rng(seed).standard_normal((2, 3, *size))


def told(kind, config, seed=0, **parts):
    """A float64 model with telling weights."""
    model = kind(config, **EXACT, **parts)
    model.load_state_dict(telling_weights(model, seed))
    return model


@pytest.fixture(scope="module")
def trace():
    return told(ViTHybridForImageClassification, HYBRID).trace(pixels())


def message(*args, **options):
    """The text of the AssertionError that a comparison raises."""
    with pytest.raises(AssertionError) as raised:
        assert_states_close(*args, **options)
    return str(raised.value)


# ---------------------------------------------------------------- the first state that differs

def test_a_trace_is_close_to_its_copy(trace, tmp_path):
    assert assert_states_close(trace, dict(trace), rtol=0, common=False) is None
    np.savez(tmp_path / "a.npz", **trace)
    with np.load(tmp_path / "a.npz") as file:
        assert_states_close(trace, file, rtol=0, common=False)
        assert_states_close(file, trace, rtol=0, common=False)


@pytest.mark.parametrize("seed", range(3))
def test_every_planted_error_is_named_not_a_later_one(trace, seed):
    """The error is planted in one state and, 1e6 times as large, in some states after it."""
    rng, names = np.random.default_rng(seed), list(trace)
    for index, name in enumerate(names):
        states = dict(trace)
        for later in rng.permutation(names[index + 1:])[:3]:
            states[later] = states[later] + 1e6
        where = tuple(int(rng.integers(n)) for n in trace[name].shape)
        changed = trace[name].copy()
        changed[where] += 0.1 * np.abs(changed).max() + 1e-3
        states[name] = changed
        shuffled = {n: states[n] for n in rng.permutation(names)}
        text = message(trace, shuffled)
        figure = abs(changed[where] - trace[name][where]) / np.abs(changed).max()
        assert text.startswith(f"{name} is the first state that differs: max|a - b| / max|b| is {figure:.3g}\n")
        assert f"{trace[name][where]:.9g} in trace, {changed[where]:.9g} in states at {list(where)} of shape" in text
        assert f"equal before the first difference: {index} state{'' if index == 1 else 's'}\n" in text
        after = len(names) - index - 1
        assert f"equal after the first difference: {after - min(3, after)} of {after} state" in text


def test_the_states_before_are_shown_with_their_errors(trace):
    states = {**trace, "stem": trace["stem"] + 1, "stem.norm": trace["stem.norm"] * (1 + 2.0 ** -40)}
    assert message(trace, states).splitlines()[-5:] == [
        "equal before the first difference: 3 states",
        "  pixel_values  2x33x47x3        0  equal",
        "  stem.conv     2x17x24x8        0  equal",
        "  stem.norm     2x17x24x8  9.1e-13  within",
        f"equal after the first difference: {len(trace) - 4} of {len(trace) - 4} states"]
    many = message(trace, {**trace, "logits": trace["logits"] + 1})
    assert f"equal before the first difference: {len(trace) - 1} states\n  … the last 12 states are\n" in many
    assert len(re.findall("equal$", many, re.MULTILINE)) == 12


# ---------------------------------------------------------------- the measure

def test_rtol_is_a_bound_per_state_not_per_element():
    """A tiny element of a large array may be wrong by more than itself."""
    a = np.array([[1000.0, 1e-9, -3.0]])
    b = a.copy()
    b[0, 1] = -5e-7                                          # 501 times the element, 5.01e-10 of the largest
    assert_states_close({"norm": a}, {"norm": b})
    assert not np.allclose(a, b, rtol=1e-9, atol=0)
    assert "at [0, 1] of shape 1x3" in message({"norm": a}, {"norm": b}, rtol=5e-10)


@pytest.mark.parametrize("rtol", [2.0 ** -30, 2.0 ** -3])
def test_the_boundary_belongs_to_the_bound(rtol):
    """Powers of two: no operation rounds."""
    a, b = np.array([-8.0, 1 + 8 * rtol, 0]), np.array([-8.0, 1, 0])
    assert_states_close({"norm": a}, {"norm": b}, rtol=rtol)
    message({"norm": a}, {"norm": b}, rtol=math.nextafter(rtol, 0))
    a[1] = math.nextafter(a[1], math.inf)
    message({"norm": a}, {"norm": b}, rtol=rtol)


def test_the_figure_is_relative_to_the_second_argument():
    a, b = {"norm": np.array([3.0, 1])}, {"norm": np.array([4.0, 1])}
    assert_states_close(a, b, rtol=0.25)
    message(b, a, rtol=0.25)                                  # 1/3


def test_mixed_dtypes_are_compared_in_float64():
    x = np.random.default_rng(1).standard_normal((3, 5))
    assert_states_close({"norm": x.astype(np.float32)}, {"norm": x}, rtol=6e-8)         # observed 1.9e-8
    message({"norm": x.astype(np.float32)}, {"norm": x}, rtol=1e-9)
    half = {"norm": np.array([60000, -60000], np.float16)}
    assert_states_close(half, {"norm": np.array([60000, -60000])}, rtol=0)
    assert "is 2\n" in message(half, {"norm": np.array([-60000, 60000], np.int32)})     # 120000 overflows float16
    big = {"norm": np.array([3e38], np.float32)}
    assert "is 2\n" in message(big, {"norm": -big["norm"]})


def test_atol_is_a_bound_of_the_largest_difference():
    zero = {"bias": np.array([-5e-17, 1e-17])}
    message({"bias": np.array([-6e-17, 0])}, zero)
    assert_states_close({"bias": np.array([-6e-17, 0])}, zero, atol=2 ** -50)
    assert_states_close({"bias": np.array([3.0])}, {"bias": np.array([2.5])}, atol=0.5)
    message({"bias": np.array([3.0])}, {"bias": np.array([2.5])}, atol=math.nextafter(0.5, 0))
    for a, b in (math.nan, 1), (math.inf, 1), (math.inf, -math.inf):
        message({"bias": np.array([a])}, {"bias": np.array([b])}, atol=1e300)


@pytest.mark.parametrize("narrow, atol", [(False, 1e-12), (True, 1e-5)], ids=["float64", "float32"])
def test_gradients_are_compared_with_an_atol(narrow, atol):
    """With the gradients of PyTorch.  The gradient of a key's bias is 0 in exact arithmetic."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model, x, labels = told(ViTHybridForImageClassification, HYBRID, 1), pixels(1), np.array([1, 4])
    twin = torch_twin(model)
    torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)).logits, torch.from_numpy(labels)).backward()
    truth = {name: parameter.grad.numpy() for name, parameter in twin.named_parameters()}
    if narrow:
        model = ViTHybridForImageClassification(HYBRID, engine="reference", state_dict=model.state_dict())
        x = x.astype(np.float32)
    found = model.gradients(x, labels).parameters
    assert ".key.bias is the first state that differs" in message(found, truth, rtol=1e-4 if narrow else 1e-9)
    largest = max(np.abs(gradient).max() for gradient in truth.values())
    assert_states_close(found, truth, rtol=1e-4 if narrow else 1e-9, atol=atol * largest)


# ---------------------------------------------------------------- layouts

@pytest.mark.parametrize("theirs, back", [((0, 3, 1, 2), (0, 2, 3, 1)), ((0, 2, 1, 3), (0, 2, 1, 3)),
                                          ((1, 2, 3, 0), (3, 0, 1, 2))])
def test_transposed(trace, theirs, back):
    states = {**trace, "stem": trace["stem"].transpose(theirs) * (1 + 1e-12)}
    text = message(trace, states)
    assert f"\n  equal within rtol after transpose {back} of states\n" in text
    assert text.startswith("stem is the first state that differs: shape 2x9x12x8 in trace, ")


def test_a_transposed_square_has_the_same_shape():
    x = np.random.default_rng(2).standard_normal((7, 7))
    assert "\n  equal within rtol after transpose (1, 0) of states" in message({"norm": x}, {"norm": x.T})
    weights = np.random.default_rng(2).standard_normal((2, 3, 5, 5))
    text = message({"blocks.0.weights": weights}, {"blocks.0.weights": weights.swapaxes(2, 3)})
    assert "max|a - b| / max|b| is" in text and "equal within rtol after transpose (0, 1, 3, 2) of states" in text


def test_transposed_and_wrong(trace):
    """Then the figure is that of the transposed array; one of the same shape gets no hint."""
    changed = trace["stem"].transpose(0, 3, 1, 2).copy()
    changed[1, 2, 3, 4] += 1
    error = 1 / np.abs(changed).max()
    assert message(trace, {**trace, "stem": changed}).splitlines()[1] == (
        f"  the shapes are equal after transpose (0, 2, 3, 1) of states; max|a - b| / max|b| is then {error:.3g}")
    square = np.random.default_rng(2).standard_normal((7, 7))
    assert "transpose" not in message({"norm": square}, {"norm": square.T + np.eye(7)})


@pytest.mark.parametrize("change, hint", [
    (lambda x: x.reshape(2, 5, 4, 3), "equal within rtol after reshape (2, 5, 12) of states"),
    (lambda x: x[:, 1:], "equal within rtol after cutting axis 1 of trace to [1:5]"),
    (lambda x: np.pad(x, ((0, 0), (0, 0), (2, 1))), "equal within rtol after cutting axis 2 of states to [2:14]"),
    (lambda x: x[:, :, ::-1],
     "equal within rtol after taking [11, 10, 9, 8, 7, 6, 5, 4, …] of axis 2 of states"),
    (lambda x: x[:, [2, 0, 1, 4, 3]], "equal within rtol after taking [1, 2, 0, 4, 3] of axis 1 of states"),
    (lambda x: np.random.default_rng(4).permutation(x.ravel()).reshape(x.shape),
     "states has the numbers of trace in another order, equal within rtol"),
    (lambda x: x.reshape(2, 5, 3, 4).transpose(0, 2, 1, 3),
     "states has the numbers of trace in another order, equal within rtol"),
], ids=["reshaped", "cut", "padded", "reversed", "permuted", "shuffled", "heads in front"])
def test_other_layouts(change, hint):
    x = np.random.default_rng(3).standard_normal((2, 5, 12))
    assert message({"norm": x}, {"norm": change(x) * (1 + 1e-13)}).splitlines()[1 + (change(x).shape == x.shape)] == (
        f"  {hint}")


def test_the_permutation_that_a_hint_names_is_the_one_to_take():
    rng = np.random.default_rng(5)
    for _ in range(20):
        x, order = rng.standard_normal((3, 8, 2)), rng.permutation(8)
        theirs = x[:, order]
        found = re.search(r"taking \[([\d, ]+)\] of axis 1", message({"norm": x}, {"norm": theirs}))
        if found is None:
            assert (order == np.arange(8)).all()
        else:
            assert (theirs.take([int(i) for i in found[1].split(",")], 1) == x).all()


# ---------------------------------------------------------------- names and shapes

def test_common_compares_the_names_of_both(trace):
    some = {name: trace[name] for name in ("norm", "stem", "blocks.1")}
    assert_states_close(trace, {**some, "mine": np.ones(3)}, common=True)
    assert_states_close({**some, "mine": np.ones(3)}, trace, common=True)
    text = message(trace, {**some, "mine": np.ones(3)})
    assert text == message(trace, {**some, "mine": np.ones(3)}, common=False)
    assert text.startswith("trace and states have different names; the 3 states in common are equal\n"
                           "common=True compares only the states in common\n")
    assert "only in trace: pixel_values, stem.conv, stem.norm, stages.0.0.proj, " in text
    assert text.endswith(f", … and {len(trace) - 3 - 20} more\nonly in states: mine")


def test_names_of_one_side_are_listed_beside_a_difference(trace):
    states = {**trace, "norm": trace["norm"] + 1, "mine": np.ones(3)}
    del states["blocks.0.fc1"]
    for common in (True, False):
        assert message(trace, states, common=common).endswith("\nonly in trace: blocks.0.fc1\nonly in states: mine")


@pytest.mark.parametrize("common", [True, False])
def test_no_common_name_fails(common):
    assert message({"stem": np.ones(2)}, {"norm": np.ones(2)}, common=common) == (
        "trace and states have no name in common\nonly in trace: stem\nonly in states: norm")
    message({}, {}, common=common)
    message({"stem": np.ones(2)}, {}, common=common)


def test_shapes_that_differ_are_reported_as_such(trace):
    rng = np.random.default_rng(6)
    text = message(trace, {**trace, "blocks.0.fc1": rng.standard_normal((2, 31, 21)), "norm": trace["norm"] + 1})
    assert text.startswith("blocks.0.fc1 is the first state that differs: shape 2x31x20 in trace, 2x31x21 in states\n"
                           "equal before the first difference")
    # Shapes that NumPy would broadcast.
    assert "shape 1x3 in trace, 3 in states" in message({"norm": np.ones((1, 3))}, {"norm": np.ones(3)})
    assert "shape () in trace, 1 in states" in message({"norm": np.float64(1)}, {"norm": np.ones(1)})
    assert "shape 0x3 in trace, 2x3 in states" in message({"norm": np.ones((0, 3))}, {"norm": np.ones((2, 3))})


# ---------------------------------------------------------------- NaN and infinity

def test_nan_on_one_side_only_differs(trace):
    bad = trace["norm"].copy()
    bad[1, 3, 2:5] = np.nan
    assert_states_close({"norm": bad}, {"norm": bad.copy()})
    text = message(trace, {**trace, "norm": bad})
    assert text.splitlines()[0] == "norm is the first state that differs: max|a - b| / max|b| is inf"
    assert f"{trace['norm'][1, 3, 2]:.9g} in trace, nan in states at [1, 3, 2] of shape 2x31x12" in text
    assert f"NaN only in states: 3 of {bad.size} elements, the first at [1, 3, 2]" in text
    assert "NaN only in trace: 3 of" in message({"norm": bad}, trace)
    other = trace["norm"].copy()
    other[0, 0, 0] = np.nan
    assert ("NaN only in trace: 1 of 744 elements, the first at [0, 0, 0]; "
            "NaN only in states: 3 of 744 elements, the first at [1, 3, 2]") in message({"norm": other}, {"norm": bad})


def test_infinity_equals_itself_only():
    inf = {"norm": np.array([np.inf, 1])}
    assert_states_close(inf, {"norm": np.array([np.inf, 1])})
    for x in ([-np.inf, 1], [1e300, 1], [np.nan, 1]):
        assert "is inf\n" in message(inf, {"norm": np.array(x)})


# ---------------------------------------------------------------- wrong arguments

@pytest.mark.parametrize("args, options, error, text", [
    (([1, 2], {}), {}, TypeError, "trace: expected a mapping {name: array}, found a list"),
    (({}, np.ones(3)), {}, TypeError, "states: expected a mapping {name: array}, found a ndarray"),
    (({}, {}), {"rtol": -1}, ValueError, "rtol: expected a number of at least 0, found -1"),
    (({}, {}), {"atol": -1}, ValueError, "atol: expected a number of at least 0, found -1"),
    (({}, {}), {"rtol": "1e-5"}, TypeError, "rtol: expected a number of at least 0, found a str"),
    (({}, {}), {"rtol": math.nan}, ValueError, "rtol: expected a number of at least 0, found nan"),
    (({"norm": np.ones(2)}, {"norm": np.ones(2) * 1j}), {}, TypeError,
     "norm: expected an array of real numbers, found dtype complex128"),
    (({"a": None}, {"a": None}), {}, TypeError, "trace: expected an array for a, found None"),
    (({"norm": np.ones(2)}, {"norm": ["a", "b"]}), {}, TypeError, "norm: expected an array of real numbers, found"),
], ids=str)
def test_wrong_arguments(args, options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        assert_states_close(*args, **options)


def test_names_of_states_cannot_command_the_terminal():
    text = message({"\x1b[31m": np.ones(2), "a": np.ones(2)}, {"a": np.zeros(2), "\x1b]": np.ones(1)})
    assert "\x1b" not in text and r"\x1b[31m" in text


# ---------------------------------------------------------------- weights

def test_telling_weights_of_a_model_and_of_its_configuration():
    for kind, config in ((ViTHybridForImageClassification, HYBRID), (ViTForImageClassification, PLAIN),
                         (BitForImageClassification, BitConfig(**BIT))):
        weights, again = telling_weights(config, 3), telling_weights(kind(config, engine="reference"), 3)
        assert list(weights) == list(again) and all((weights[name] == again[name]).all() for name in weights)
        assert all(x.dtype == np.float32 for x in weights.values())
        assert any((telling_weights(config, 4)[name] != weights[name]).any() for name in weights)
    with pytest.raises(TypeError, match="model_or_config has type int; expected a model, a ViTHybridConfig, a "
                                        "ViTConfig or a BitConfig"):
        telling_weights(3, 0)


def test_telling_weights_are_as_stated():
    config = ViTHybridConfig(image_size=96, hidden_size=96, num_hidden_layers=1, num_attention_heads=3,
                             intermediate_size=200, backbone_config=dict(BIT, hidden_sizes=[64, 96], num_groups=4))
    for name, x in telling_weights(config, 5).items():
        if x.size >= 64 and name.endswith("bias"):
            assert 0.2 < x.std() < 0.4 and abs(x.mean()) < 0.15, name            # observed 0.28 to 0.32, 0.07
        elif x.size >= 64 and "norm" in name:
            assert 0.2 < x.std() < 0.4 and abs(x.mean() - 1) < 0.15, name        # observed 0.24 to 0.32, 0.04
        elif x.ndim == 4 and x.size >= 2000 and "projection" not in name:
            assert 0.4 < x.mean() < 0.6, name                                    # observed 0.47 to 0.51


@pytest.mark.parametrize("wrong", [{"layer_norm_eps": 1e-6}, {"dialect": {"name": "timm", "gn_eps": 1e-6}},
                                   {"dialect": {"name": "timm", "ws_eps": 1e-10}}, {}], ids=str)
def test_small_weights_reveal_an_eps_in_float32(wrong):
    """Each eps is wrong once.  A correct float32 network is close to float64."""
    x = 1e-3 * pixels(1)
    weights = telling_weights(HYBRID, 1, scale=1e-3)
    truth = ViTHybridForImageClassification(HYBRID, **EXACT, state_dict=weights).trace(x)
    config = ViTHybridConfig.from_dict({**HYBRID.to_dict(), **wrong})
    states = ViTHybridForImageClassification(config, engine="reference", state_dict=weights).trace(x.astype(np.float32))
    if wrong:
        assert "is the first state that differs" in message(states, truth, rtol=1e-3)
        usual = telling_weights(HYBRID, 1)
        truth = ViTHybridForImageClassification(HYBRID, **EXACT, state_dict=usual).trace(1e3 * x)
        states = ViTHybridForImageClassification(config, engine="reference", state_dict=usual).trace(
            (1e3 * x).astype(np.float32))
    assert_states_close(states, truth, rtol=1e-3)


@pytest.mark.parametrize("config", [HYBRID, PLAIN], ids=["hybrid", "plain ViT"])
def test_attention_is_neither_uniform_nor_one_hot(config):
    """The entropy of a row as a share of the uniform row's: 1 is uniform, 0 one-hot.  Observed: 0.48 to 0.78"""
    kind = ViTHybridForImageClassification if config is HYBRID else ViTForImageClassification
    for seed in range(3):
        trace = told(kind, config, seed).trace(pixels(seed))
        for block in range(2):
            weights = trace[f"blocks.{block}.weights"]
            entropy = -(weights * np.log(weights)).sum(-1).mean() / np.log(weights.shape[-1])
            assert 0.2 < entropy < 0.95


def test_weights_tell_a_mistake_in_any_array(trace):
    """Each array of another seed moves some state by more than the bound.  Observed: 0.078 at least, a key's bias"""
    weights, others = telling_weights(HYBRID, 0), telling_weights(HYBRID, 1)
    for name in weights:
        wrong = ViTHybridForImageClassification(HYBRID, **EXACT, state_dict={**weights, name: others[name]})
        assert "is the first state that differs" in message(trace, wrong.trace(pixels()), rtol=1e-2), name


# ---------------------------------------------------------------- PyTorch

def test_importing_needs_no_torch():
    code = ("import sys; sys.modules.update(torch=None, transformers=None); import nphybrid.testing as t; "
            "t.assert_states_close({'a': [1.0]}, {'a': [1.0]})")
    assert run_python("-c", code).stderr == ""


CASES = {
    "hybrid": (ViTHybridForImageClassification, HYBRID, {}),
    "hybrid, bare": (ViTHybridModel, HYBRID, {"use_mask_token": True}),
    "hybrid, pre-activation": (ViTHybridModel, ViTHybridConfig(**ENCODER, backbone_config=BIT),
                               {"add_pooling_layer": False}),
    "BiT": (BitForImageClassification, BitConfig(**BIT), {}),
    "BiT, no classes": (BitForImageClassification, BitConfig(**{**BIT, "num_labels": 0}), {}),
    "BiT, bare": (BitModel, BitConfig(**BIT, layer_type="bottleneck"), {}),
    "BiT, backbone": (BitBackbone, BitConfig(**BIT, global_padding="same"), {}),
    "plain ViT": (ViTForImageClassification, PLAIN, {}),
    "plain ViT, bare": (ViTModel, PLAIN, {"use_mask_token": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_torch_states_are_the_traces(case):
    """Observed: 2.9e-14 in float64, 1.9e-5 in float32."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    kind, config, parts = CASES[case]
    model, x = told(kind, config, 1, **parts), pixels(1)
    states, trace = torch_states(torch_twin(model), x), model.trace(x)
    plain = case.startswith("plain")
    assert list(states) == [name for name in trace if not (plain and name.endswith(".weights"))]
    assert all(states[name].dtype == np.float64 for name in states)
    assert_states_close(trace, states, rtol=1e-9, common=plain)
    narrow = kind(config, engine="reference", state_dict=telling_weights(model, 1), **parts)
    states = torch_states(torch_twin(narrow), x.astype(np.float32))
    assert all(states[name].dtype == np.float32 for name in states)
    assert_states_close(narrow.trace(x.astype(np.float32)), states, rtol=1e-4, common=False)


def test_inputs_of_a_twin_are_those_of_a_trace():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model, x = told(ViTHybridModel, HYBRID, 2, use_mask_token=True), pixels(2)
    rng = np.random.default_rng(2)
    inputs = {"head_mask": rng.random((2, 3)), "bool_masked_pos": rng.random((2, 30)) < 0.4}
    twin = torch_twin(model)
    states = torch_states(twin, x, **inputs)
    assert_states_close(model.trace(x, **inputs), states, rtol=1e-9, common=True)       # observed 8e-15
    assert "blocks.0.weights" in states and not any(module._forward_hooks for module in twin.modules())
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    assert_states_close(torch_states(twin, torch.from_numpy(x), **tensors), states, rtol=0, common=False)
    masked = torch_states(twin, x, head_mask=inputs["head_mask"])
    assert message(model.trace(x), masked).startswith("blocks.0.weights is the first state that differs")
    with pytest.raises(ValueError):
        torch_states(twin, x[:, :, :-1])
    assert not any(module._forward_hooks for module in twin.modules())


def test_a_porters_mistake_is_found_in_the_twin():
    """Queries and keys of the second block exchanged; a layer norm's eps of 1e-6 for 1e-12."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model, x = told(ViTHybridForImageClassification, HYBRID, 3), pixels(3)
    trace, twin = model.trace(x), torch_twin(model)
    attention = twin.vit.encoder.layer[1].attention.attention
    attention.query, attention.key = attention.key, attention.query
    assert message(trace, torch_states(twin, x)).startswith("blocks.1.query is the first state that differs")
    twin = torch_twin(model)
    twin.vit.encoder.layer[0].layernorm_after.eps = 1e-6
    assert message(trace, torch_states(twin, x)).startswith("blocks.0.norm2 is the first state that differs")


def test_what_transformers_cannot_compute_is_refused():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    config = ViTHybridConfig.from_dict(HYBRID.to_dict(), dialect={"name": "timm", "pool": "mean", "gn_eps": 1e-3})
    with pytest.raises(ValueError, match="config.dialect of the model has gn_eps, pool; expected a model without these "
                                         "keys, which transformers cannot compute"):
        torch_twin(ViTHybridForImageClassification(config, **EXACT))
    named = ViTHybridConfig.from_dict(HYBRID.to_dict(), dialect={"name": "timm"})
    model = told(ViTHybridForImageClassification, named)
    assert_states_close(model.trace(pixels()), torch_states(torch_twin(model), pixels()))
