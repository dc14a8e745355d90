"""`nphybrid compare`: the states in which two models or two traces differ, in the order of the forward pass."""
import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import (PRESETS, BitConfig, BitForImageClassification, ViTHybridConfig, ViTHybridForImageClassification,
                      ViTHybridModel, default_model)
from nphybrid.__main__ import main
from nphybrid.checkpoint import hub
from nphybrid.modelfile.compare import compare_files, difference, first_difference, in_forward_order, select_names
from nphybrid.modelfile.summary import summarize
from nphybrid.tensorfile import write_safetensors

pytestmark = pytest.mark.slow

BACKBONE = dict(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], num_groups=2, layer_type="bottleneck",
                global_padding="same", embedding_dynamic_padding=True)
CONFIG = ViTHybridConfig(image_size=(33, 47), hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
                         intermediate_size=20, num_labels=5, backbone_config=BACKBONE)
LAYER = "vit.encoder.layer.{}.attention.attention.{}.{}"


@pytest.fixture(scope="module")
def model():
    """A small network whose attention is not idle."""
    model = ViTHybridForImageClassification(CONFIG, engine="reference", seed=1)
    state, rng = model.state_dict(), np.random.default_rng(1)
    return rebuilt({name: array + rng.normal(size=array.shape, scale=0.3).astype(np.float32)
                    for name, array in state.items()})


def rebuilt(state, config=CONFIG):
    return ViTHybridForImageClassification(config, engine="reference", state_dict=state)


@pytest.fixture(scope="module")
def states(model):
    return dict(model.trace(np.random.default_rng(2).normal(size=(2, 3, 33, 47)).astype(np.float32)))


@pytest.fixture
def saved(model, tmp_path):
    """A function that saves a model as an .h5 of a name, and gives its path."""
    def save(name, changed=model):
        changed.save(tmp_path / name)
        return str(tmp_path / name)
    return save


@pytest.fixture
def trace(states, tmp_path):
    """A function that writes the states, some of them others or None, and gives the file's path."""
    def write(name, **changed):
        kept = {state: x for state, x in {**states, **changed}.items() if x is not None}
        write_safetensors(tmp_path / name, kept)
        return str(tmp_path / name)
    return write


def verdicts(rows):
    return {row.name: row.verdict for row in rows if not row.ok}


# ---------------------------------------------------------------- the measure

@pytest.mark.parametrize("a, b, error, where", [
    ([1.0, 2], [1.0, 2], 0, None), ([1.0, 2.5], [1, 2], 0.25, (1,)), ([[0, 0], [3, 0]], [[0, 0], [-1, 0]], 4, (1, 0)),
    ([math.nan, 1], [math.nan, 1], 0, None), ([math.nan, 1], [0, 1], math.inf, (0,)),
    ([0, 1], [math.nan, 1], math.inf, (0,)), ([math.inf, 1], [math.inf, 2], 0.5, (1,)),
    ([math.inf, 1], [-math.inf, 1], math.inf, (0,)), ([1.0, 1e9], [1.0, math.inf], math.inf, (1,)),
    ([0.0, 1], [0, 0], math.inf, (1,)), ([0.0, -0.0], [-0.0, 0.0], 0, None), (3.0, 4.0, 0.25, ()), ([], [], 0, None),
    ([1e308], [-1e308], math.inf, (0,))], ids=str)
def test_difference_by_hand(a, b, error, where):
    assert difference(np.array(a, np.float64), np.array(b, np.float64)) == (error, where)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.bool_])
def test_difference_by_loops(dtype):
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=(3, 5, 2)).round().astype(dtype) for _ in range(2))
    apart = {index: abs(float(a[index]) - float(b[index])) for index in np.ndindex(a.shape)}
    error, where = difference(a, b)
    assert apart[where] == max(apart.values())
    assert error == pytest.approx(max(apart.values()) / max(abs(float(y)) for y in b.ravel()), rel=1e-15)


# ---------------------------------------------------------------- the order

CONFIGS = {**PRESETS, "border": replace(PRESETS["R26+ViT-S/32"], padding="symmetric", pool_padding="valid"),
           "bottleneck BiT": replace(PRESETS["BiT-R50x1"], unit="bottleneck"),
           "mean": replace(PRESETS["R+ViT-Ti/16"], pool="mean", norm_pooled=True, pre_logits=7)}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_order_is_that_of_the_forward_pass(name):
    ordered = [row.name for row in summarize(CONFIGS[name])]
    shuffled = random.Random(4).sample(ordered, len(ordered))
    assert in_forward_order(shuffled) == ordered and shuffled != ordered


def test_the_order_of_weights_masks_and_poolers():
    model = ViTHybridModel(replace_config(num_hidden_layers=11), use_mask_token=True, engine="reference")
    ordered = list(model.trace(np.zeros((1, 3, 33, 47), np.float32), bool_masked_pos=np.ones((1, 5 * 6), bool)))
    assert {"tokens.masked", "blocks.10.weights", "pooler"} <= set(ordered)
    assert in_forward_order(sorted(ordered)) == ordered


def replace_config(**changes):
    return ViTHybridConfig.from_dict(CONFIG.to_dict(), backbone_featmap_shape=None, **changes)


def test_unknown_states_come_last_of_their_part():
    assert in_forward_order(["zeta", "blocks.1", "blocks.0.mine", "logits", "blocks.0", "alpha", "blocks.0.fc1"]) == [
        "blocks.0.fc1", "blocks.0.mine", "blocks.0", "blocks.1", "logits", "zeta", "alpha"]


# ---------------------------------------------------------------- models

def test_a_model_equals_its_copy_in_another_format(saved, model, tmp_path, capsys):
    model.save_pretrained(tmp_path / "folder")
    assert main(["compare", saved("a.h5"), str(tmp_path / "folder"), "--tolerance", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "0 of 50 states differ; tolerance 0" and len(lines) == 1 + 50 + 2
    assert lines[1].split() == ["pixel_values", "1x33x47x3", "0", "equal"]
    assert lines[-3].split() == ["logits", "1x5", "0", "equal"]


def test_a_swapped_query_and_key(saved, model, capsys):
    state = model.state_dict()
    for leaf in "weight", "bias":
        a, b = LAYER.format(1, "query", leaf), LAYER.format(1, "key", leaf)
        state[a], state[b] = state[b], state[a]
    rows = compare_files(saved("a.h5"), saved("b.h5", rebuilt(state)))
    assert first_difference(rows).name == "blocks.1.query"
    names = [row.name for row in rows]
    assert list(verdicts(rows)) == [name for name in names[names.index("blocks.1.query"):] if name != "blocks.1.value"]
    assert main(["compare", saved("a.h5"), saved("b.h5", rebuilt(state)), "--format", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["equal"], told["first"]) == (False, "blocks.1.query") and len(told["states"]) == len(rows)


def test_a_changed_bias_is_found_where_it_is(saved, model):
    state = model.state_dict()
    state["classifier.bias"][3] += 0.5
    (row,) = [row for row in compare_files(saved("a.h5"), saved("b.h5", rebuilt(state))) if not row.ok]
    a, b = row.values
    assert (row.name, row.where, row.verdict) == ("logits", (0, 3), "DIFFERS") and b - a == pytest.approx(0.5)


@pytest.mark.parametrize("change, tolerance, ok", [
    (0, 0, True), (1e-5, None, False), (1e-5, 1e-3, True), (1e-5, 0, False)])
def test_tolerance(change, tolerance, ok, saved, model):
    state = model.state_dict()
    state["classifier.bias"][3] += change
    row = compare_files(saved("a.h5"), saved("b.h5", rebuilt(state)), tolerance)[-1]
    assert row.ok == ok and row.verdict == ("equal" if not change else "within" if ok else "DIFFERS")


def test_networks_of_other_shapes(saved, capsys):
    other = rebuilt(None, replace_config(num_hidden_layers=3, intermediate_size=21))
    rows = compare_files(saved("a.h5"), saved("b.h5", other))
    told = verdicts(rows)
    assert told["blocks.0.fc1"] == told["blocks.1.fc1"] == "other shape"
    assert {name for name, verdict in told.items() if verdict == "only in B"} == {
        row.name for row in rows if row.name.startswith("blocks.2")} != set()
    fc1 = next(row for row in rows if row.name == "blocks.0.fc1")
    assert fc1.shapes == ((1, 31, 20), (1, 31, 21)) and fc1.error is None
    narrow = rebuilt(None, replace_config(image_size=(33, 63)))
    assert main(["compare", saved("a.h5"), saved("b.h5", narrow)]) == 1
    assert "the first is pixel_values: shapes 1x33x47x3 / 1x33x63x3" in capsys.readouterr().out


def test_networks_of_two_kinds(saved, tmp_path):
    bit = BitForImageClassification(BitConfig(**BACKBONE), engine="reference")
    bit.save(tmp_path / "bit.h5")
    told = verdicts(compare_files(saved("a.h5"), tmp_path / "bit.h5"))
    assert told["tokens"] == "only in A" and told["stem"] == "other shape"


def test_a_model_equals_its_copy_in_another_dialect(saved, tmp_path):
    """timm's names, its query, key and value in one array: the same states to the last bit."""
    config = ViTHybridConfig(image_size=64, hidden_size=64, num_hidden_layers=1, num_attention_heads=1, num_labels=3,
                             layer_norm_eps=1e-6, backbone_config=dict(
                                 BACKBONE, embedding_size=32, hidden_sizes=[128], depths=[1], num_groups=32))
    path = saved("m.h5", ViTHybridForImageClassification(config, engine="reference", seed=5))
    assert main(["convert", path, str(tmp_path / "timm"), "--to", "timm", "--lossy"]) == 0
    assert verdicts(compare_files(path, tmp_path / "timm", tolerance=0)) == {}


def test_a_model_on_the_hub_is_the_folder_that_was_fetched(saved, model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "folder")
    monkeypatch.setattr(hub, "fetched", lambda *_: tmp_path / "folder")
    assert verdicts(compare_files("owner/name", saved("m.h5"))) == {}


@pytest.mark.slow
def test_a_picture_through_each_models_own_processor(root, tmp_path):
    cat = root / "examples" / "images" / "cat.png"
    assert verdicts(compare_files(default_model(), default_model(), image=cat)) == {}
    other = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    other.processor = {**other.processor, "image_mean": [0.5, 0.5, 0.6]}
    other.save(tmp_path / "m.h5")
    rows = compare_files(default_model(), tmp_path / "m.h5", image=cat)
    assert first_difference(rows).name == "pixel_values" and first_difference(rows).where[3] == 2
    assert verdicts(compare_files(default_model(), tmp_path / "m.h5")) == {}, "the built-in input needs no processor"


# ---------------------------------------------------------------- traces

def test_text_of_two_traces(states, trace, capsys):
    changed = states["blocks.0.key"].copy()
    changed[1, 4, 7] = np.float32(100)
    kept = dict.fromkeys([name for name in states if not name.startswith("blocks.0")])
    a = trace("a.safetensors", **{**kept, "blocks.0.fc1": None, "norm": np.ones((1, 2))})
    b = trace("b.safetensors", **{**kept, "blocks.0.key": changed, "blocks.0.out": None, "norm": np.ones((2, 1))})
    assert main(["compare", a, b]) == 1
    was = states["blocks.0.key"][1, 4, 7]
    error, tolerances = f"{(100 - float(was)) / 100:.1e}", "tolerance 1e-09 or 0.0003"
    assert capsys.readouterr().out == f"""\
state             shape      max|a - b| / max|b|
blocks.0.key      2x31x12                {error}  DIFFERS
blocks.0.out      2x31x12                         only in A
blocks.0.fc1      2x31x20                         only in B
norm              1x2 / 2x1                       other shape
blocks.0.norm1    2x31x12                      0  equal
blocks.0.query    2x31x12                      0  equal
blocks.0.value    2x31x12                      0  equal
blocks.0.weights  2x3x31x31                    0  equal
blocks.0.context  2x31x12                      0  equal
blocks.0.norm2    2x31x12                      0  equal
blocks.0          2x31x12                      0  equal

4 of 11 states differ, the first is blocks.0.key: {was:.9g} in A, 100 in B at [1, 4, 7], error {error}; {tolerances}
"""


def test_the_first_difference_is_in_the_order_of_the_forward_pass_not_of_the_file(states, trace):
    """A safetensors file sorts its names, in which blocks come before the stem."""
    changed = {name: states[name] + np.float32(1) for name in ("blocks.0.norm1", "stem.conv", "tokens.proj")}
    rows = compare_files(trace("a.safetensors"), trace("b.safetensors", **changed))
    assert list(verdicts(rows)) == ["stem.conv", "tokens.proj", "blocks.0.norm1"]
    assert [row.name for row in rows] == list(states)


@pytest.mark.parametrize("dtype, ok", [(np.float32, True), (np.float64, False)])
def test_float64_is_held_closer(dtype, ok, trace):
    near = [trace(f"{i}.safetensors", norm=np.array([1, 1 + i * 1e-6], dtype)) for i in range(2)]
    row = next(row for row in compare_files(*near) if row.name == "norm")
    assert row.ok == ok and row.verdict == ("within" if ok else "DIFFERS")


def test_a_tolerance_is_printed_as_it_was_given(saved, capsys):
    assert main(["compare", saved("a.h5"), saved("a.h5"), "--tolerance", "0.00025"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 50 states differ; tolerance 0.00025"


@pytest.mark.parametrize("tolerance, verdict", [(0.25, "within"), (np.nextafter(0.25, 0), "DIFFERS")])
def test_a_tolerance_includes_itself(tolerance, verdict, trace):
    a, b = (trace(f"{x}.safetensors", norm=np.array([1.0, x])) for x in (2.5, 2))
    assert next(row for row in compare_files(a, b, tolerance) if row.name == "norm").verdict == verdict


def test_nan_is_equal_to_nan_alone(states, trace, capsys):
    bad = states["norm"].copy()
    bad[0, 2, 3] = np.nan
    a, b = trace("a.safetensors", norm=bad), trace("b.safetensors")
    assert verdicts(compare_files(a, a)) == {}
    for one, other, told in ((a, b, ["nan", float(states["norm"][0, 2, 3])]),
                             (b, a, [float(states["norm"][0, 2, 3]), "nan"])):
        assert main(["compare", one, other, "--format", "json"]) == 1
        row = next(row for row in json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["states"]
                   if row["name"] == "norm")
        assert (row["error"], row["where"], row["values"]) == ("inf", [0, 2, 3], told)


def test_a_trace_as_numpy_saves_it(states, trace, tmp_path):
    np.savez(tmp_path / "a.npz", **states)
    assert verdicts(compare_files(tmp_path / "a.npz", trace("b.safetensors"), tolerance=0)) == {}


def test_the_last_line_says_what_float32_does_not_show(model, tmp_path, capsys):
    """A layer norm with an eps of 1e-5 in place of 1e-12: within the tolerance of float32, and told in float64."""
    wrong = rebuilt(model.state_dict(), replace_config(layer_norm_eps=1e-5))
    x = np.random.default_rng(2).normal(size=(2, 3, 33, 47))
    for dtype, code in (np.float32, 0), (np.float64, 1):
        for name, network in ("a", model), ("b", wrong):
            exact = ViTHybridForImageClassification(network.config, engine="reference", dtype=np.dtype(dtype).name,
                                                    state_dict=network.state_dict())
            np.savez(tmp_path / f"{name}.npz", **exact.trace(x.astype(dtype)))
        assert main(["compare", str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]) == code
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.endswith("; tolerance 0.0003 (a wrong eps or another form of GELU can change a state by less; two "
                             "float64 traces show it)" if code == 0 else "; tolerance 1e-09")


def test_the_examples_of_the_help_work(trace, tmp_path, monkeypatch, saved, model, capsys):
    import shlex

    from nphybrid.cli.compare import EXAMPLES
    saved("model.h5"), model.save_pretrained(tmp_path / "folder")
    states = {name: np.asarray(x) for name, x in model.trace(np.zeros((1, 3, 33, 47), np.float32)).items()}
    for name in "a.npz", "b.npz":
        np.savez(tmp_path / name, **states)
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line) for line in EXAMPLES.splitlines()[1:]]
    assert len(lines) == 2
    for line in lines:
        assert line[0] == "nphybrid" and main(line[1:]) == 0, capsys.readouterr().err


def test_two_files_of_gradients_are_told_how_they_are_compared(model, tmp_path, capsys):
    for name in "a.npz", "b.npz":
        np.savez(tmp_path / name, **model.state_dict())
    assert main(["compare", str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]) == 3
    told = capsys.readouterr().err
    assert "have the names of weights; expected the names of states" in told and "assert_states_close" in told


def test_names_from_a_stranger_cannot_command_the_terminal(trace, capsys):
    path = trace("a.safetensors", **{"\x1b[31m": np.ones(2)})
    assert main(["compare", path, trace("b.safetensors")]) == 1 and "\x1b" not in capsys.readouterr().out


# ---------------------------------------------------------------- some of the states

def test_common_compares_what_both_have(states, trace, capsys):
    a, b = trace("a.safetensors", **{"blocks.0.fc1": None}), trace("b.safetensors", norm=None, mine=np.ones(2))
    assert main(["compare", a, b]) == 1
    assert "3 of 51 states differ, the first is blocks.0.fc1: only in B" in capsys.readouterr().out
    assert main(["compare", a, b, "--common"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"0 of {len(states) - 2} states differ; tolerance 0.0003"
    changed = trace("c.safetensors", norm=None, logits=states["logits"] + np.float32(1))
    assert main(["compare", a, changed, "--common"]) == 1


def test_common_without_a_common_state_fails(trace, states, capsys):
    a = trace("a.safetensors", **dict.fromkeys([name for name in states if name != "norm"]))
    b = trace("b.safetensors", norm=None)
    assert main(["compare", a, b, "--common"]) == 3
    assert ("expected a state that A and B have in common; A has the states 'norm', B has the states 'blocks.0'"
            in capsys.readouterr().err)


def test_only_compares_states_by_pattern(states, trace, capsys):
    a, b = trace("a.safetensors"), trace("b.safetensors", norm=states["norm"] + np.float32(1))
    assert main(["compare", a, b, "--only", "blocks.*.query", "--only", "st?m"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["stem", "blocks.0.query", "blocks.1.query"] and len(lines) == 6
    assert main(["compare", a, b, "--only", "norm"]) == main(["compare", a, b, "--only", "*"]) == 1
    for pattern in "blokcs.*", "NORM":
        capsys.readouterr()
        assert main(["compare", a, b, "--only", "norm", "--only", pattern]) == 3
        assert f"expected a pattern that matches a state, found '{pattern}'" in capsys.readouterr().err


def test_only_and_common_of_models(saved, model, tmp_path, capsys):
    state = model.state_dict()
    state["classifier.bias"][3] += 0.5
    a, b = saved("a.h5"), saved("b.h5", rebuilt(state))
    assert [row.name for row in compare_files(a, b, only=["*.norm1", "logits"])] == [
        "stages.0.0.norm1", "stages.1.0.norm1", "stages.1.1.norm1", "blocks.0.norm1", "blocks.1.norm1", "logits"]
    assert main(["compare", a, b, "--only", "norm"]) == 0 and main(["compare", a, b, "--only", "logits"]) == 1
    bit = BitForImageClassification(BitConfig(**BACKBONE), engine="reference")
    bit.save(tmp_path / "bit.h5")
    assert {row.verdict for row in compare_files(a, tmp_path / "bit.h5", common=True)} == {"other shape"}


@pytest.mark.parametrize("unit, other", [("norm3", "proj"), ("norm_proj", "norm3")])
def test_the_order_of_a_few_states_is_that_of_all(unit, other):
    """In a pre-activation unit norm1 comes before the shortcut's proj; that needs the names that are not compared."""
    names = ["stages.0.0.proj", "stages.0.0.norm1"]
    expected = names[::-1] if unit == "norm3" else names
    assert select_names(names, [*names, f"stages.0.0.{unit}", f"stages.0.0.{other}"], common=True) == expected


def test_a_hint_follows_the_first_difference(trace, capsys):
    x = np.random.default_rng(5).normal(size=(2, 5, 7, 3))
    a, b = trace("a.safetensors", norm=x), trace("b.safetensors", norm=x.transpose(0, 3, 1, 2))
    assert main(["compare", a, b]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "1 of 50 states differ, the first is norm: shapes 2x5x7x3 / 2x3x5x7; "
        "equal within the tolerance after transpose (0, 2, 3, 1) of B; tolerance 1e-09 or 0.0003")
    assert main(["compare", a, b, "--format", "json"]) == 1
    row = next(row for row in json.loads(capsys.readouterr().out)["states"] if row["name"] == "norm")
    assert list(row) == ["name", "shapes", "error", "where", "values", "verdict", "tolerance"]


# ---------------------------------------------------------------- refusals

def test_what_cannot_be_compared(saved, trace, model, tmp_path, capsys):
    h5, states = saved("a.h5"), trace("t.safetensors")
    model.save_pretrained(tmp_path / "folder")
    (tmp_path / "x.bin").write_bytes(b"\x80\x02}q\x00.")
    for args, told in (([h5, states], f"{h5} is a model and {states} is a trace; expected two models or two traces"),
                       ([states, states, "--image", "x.png"], "expected two models, which read pictures"),
                       ([h5, h5, "--image", "x.png"], "came without an image processor"),
                       ([h5, str(tmp_path / "folder" / "model.safetensors")], "is only a part of a model"),
                       ([states, str(tmp_path / "x.bin")], "never opened here"), ([h5, "nowhere"], "nowhere")):
        assert main(["compare", *args]) == 3
        printed = capsys.readouterr()
        assert told in printed.err and printed.out == ""


@pytest.mark.parametrize("line", ["compare a", "compare a b --tolerance -1", "compare a b --tolerance nan",
                                  "compare a b --tolerance some", "inspect", "verify a b"])
def test_wrong_usage_exits_with_2(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2 and ": error: " in capsys.readouterr().err
