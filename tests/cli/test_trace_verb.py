"""`nphybrid trace`: one set of names in both engines, figures against sums by hand, files bit for bit."""
import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import (BitConfig, BitForImageClassification, ViTConfig, ViTForImageClassification, ViTHybridConfig,
                      ViTHybridForImageClassification, ViTHybridImageProcessor, open_picture)
from nphybrid.__main__ import main
from nphybrid.api import load as loading
from nphybrid.modelfile import summary
from nphybrid.modelfile.compare import compare_files
from nphybrid.trace import State, Stopwatch, Trace

BIT = dict(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], num_groups=2)
HYBRID_BIT = dict(BIT, layer_type="bottleneck", global_padding="same", embedding_dynamic_padding=True)
ENCODER = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, num_labels=5)
MODELS = {
    "hybrid": (ViTHybridForImageClassification, ViTHybridConfig(image_size=(33, 47), backbone_config=HYBRID_BIT,
                                                                **ENCODER)),
    "vit": (ViTForImageClassification, ViTConfig(image_size=(33, 47), patch_size=8, **ENCODER)),
    "bit": (BitForImageClassification, BitConfig(**BIT, num_labels=5)),
}
SIZE = {"height": 33, "width": 47}


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory):
    """A small network with the path of its file."""
    kind, config = MODELS[request.param]
    model = kind(config, engine="reference", seed=1)
    model.processor = ViTHybridImageProcessor(size=SIZE, do_center_crop=False)
    path = tmp_path_factory.mktemp("models") / f"{request.param}.h5"
    model.save(path)
    return model, str(path)


@pytest.fixture
def cat(root):
    return str(root / "examples" / "images" / "cat.png")


@pytest.fixture
def traced(capsys):
    """A function that runs the verb, and gives its rows."""
    def run(*args):
        assert main(["trace", *args, "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    return run


def pixels(model, picture):
    return ViTHybridImageProcessor.from_dict(model.processor)(open_picture(picture), return_tensors="np").pixel_values


# ---------------------------------------------------------------- rows

def test_both_engines_give_the_same_names_and_shapes(model, cat, traced):
    network, path = model
    slow, fast = (traced(cat, "--model", path, "--engine", engine) for engine in ("reference", "numba"))
    shapes = [(row["name"], row["shape"], row["dtype"]) for row in slow]
    assert shapes == [(row["name"], row["shape"], row["dtype"]) for row in fast]
    # The sizes of a BiT hold no size of pictures, for it takes any.
    rows = summary.summarize(replace(network.network_config, image=(33, 47)))
    sizes = [(row.name, list(row.shape), "float32") for row in rows]
    assert [row for row in shapes if not row[0].endswith(".weights")] == sizes
    assert [name for name, _, _ in shapes if name.endswith(".weights")] == [
        f"blocks.{l}.weights" for l in range(network.network_config.blocks)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_figures_by_hand(model, cat, dtype, traced, tmp_path):
    options = ["--model", model[1], "--engine", "reference", "--dtype", dtype, "--save", f"{tmp_path}/t.npz"]
    rows = traced(cat, *options)
    with np.load(tmp_path / "t.npz") as states:
        assert {row["name"] for row in rows} == set(states) and len(rows) == len(states) > 20
        for row in rows:
            x = states[row["name"]]
            numbers = x.astype(np.float64).ravel().tolist()
            size = math.fsum(map(abs, numbers)) / len(numbers)
            assert (row["shape"], row["dtype"]) == (list(x.shape), x.dtype.name) and x.dtype == dtype
            assert row["mean"] == pytest.approx(math.fsum(numbers) / len(numbers), rel=0, abs=1e-12 * size)
            assert row["rms"] == pytest.approx(math.sqrt(math.fsum(n * n for n in numbers) / len(numbers)), rel=1e-12)


def test_shares_of_the_time_sum_to_one_and_the_weights_have_none(model, cat, traced):
    rows = traced(cat, "--model", model[1])
    timed = [row for row in rows if row["share"] is not None]
    whole = math.fsum(row["seconds"] for row in timed)
    assert all(row["seconds"] > 0 and row["share"] == pytest.approx(row["seconds"] / whole) for row in timed)
    assert math.fsum(row["share"] for row in timed) == pytest.approx(1)
    untimed = [row["name"] for row in rows if row["seconds"] is None and row["share"] is None]
    assert len(untimed) + len(timed) == len(rows)
    assert untimed == [f"blocks.{l}.weights" for l in range(model[0].network_config.blocks)]


def test_the_text_has_the_same_rows(model, cat, traced, capsys):
    rows = traced(cat, "--model", model[1], "--engine", "reference")
    assert main(["trace", cat, "--model", model[1], "--engine", "reference"]) == 0
    head, *lines, total = [line.replace("rest of ", "").split() for line in capsys.readouterr().out.splitlines()]
    # A group comes before its rows, and its name is the beginning of the next name.
    lines = [line for line, after in zip(lines, [*lines[1:], total]) if not after[0].startswith(f"{line[0]}.")]
    assert head == ["state", "shape", "mean", "rms", "ms", "of", "time"]
    assert [line[:4] for line in lines] == [
        [row["name"], "x".join(map(str, row["shape"])), f"{row['mean']:.4g}", f"{row['rms']:.4g}"] for row in rows]
    assert all((line[4:] == ["-", "-"]) == (row["share"] is None) for line, row in zip(lines, rows))
    shares = [float(line[5].removesuffix("%")) for line in lines if line[5] != "-"]
    assert abs(sum(shares) - 100) <= 0.05 * len(shares)
    assert total[0] == "total" and total[2] == "100.0%"
    assert float(total[1]) == pytest.approx(sum(float(line[4]) for line in lines if line[4] != "-"), rel=0.02, abs=0.1)


@pytest.mark.parametrize("more", [[], ["--backward"]])
def test_depth_adds_the_numbers_of_a_group(model, cat, traced, capsys, more):
    options = ["--model", model[1], "--engine", "reference", *more]
    field = "bytes" if more else "seconds"
    rows, states = traced(cat, *options, "--depth", "1"), traced(cat, *options)
    assert [row["name"] for row in rows] == list(dict.fromkeys(row["name"].split(".")[0] for row in states))
    assert all(row[field] is not None for row in rows)
    assert main(["trace", cat, *options, "--depth", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:-1]
    assert [line.partition("  ")[0] for line in lines] == [row["name"] for row in rows]


def test_the_bundled_model_is_the_default_and_is_computed_as_asked(cat, monkeypatch, capsys):
    asked, load = [], loading.load
    monkeypatch.setattr(loading, "load", lambda path, **options: (asked.append(options), load(path, **options))[1])
    assert main(["trace", cat, "--threads", "1", "--dtype", "bfloat16", "--precision", "highest"]) == 0
    assert asked == [dict(engine="numba", dtype="bfloat16", precision="highest", num_threads=1, head=None)]
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["stages.1.1"][0] == "1x8x8x256" and lines["blocks.3.weights"][:2] == ["1x3x65x65", "0.01538"]


def test_json_has_no_infinity(cat, traced, monkeypatch):
    monkeypatch.setattr("nphybrid.trace.states", lambda trace: [State("x", (1,), "float32", math.nan, math.inf, 1, 1)])
    assert [(row["mean"], row["rms"]) for row in traced(cat)] == [("nan", "inf")]


# ---------------------------------------------------------------- times

def test_times_are_of_forward_passes_that_keep_nothing(model, cat, monkeypatch):
    network, traces = model[0], []
    run = network.run_into
    monkeypatch.setattr(network, "run_into", lambda out, x, **inputs: (traces.append(out), run(out, x, **inputs)))
    x = pixels(network, cat)
    kept = network.trace(x)
    assert [type(out) for out in traces] == [Trace] and set(kept.seconds) == set(kept)
    trace = network.trace(x, runs=3)
    timed = traces[2:]
    assert [type(out) for out in traces[1:]] == [Trace, *[Stopwatch] * 3] and not any(timed)
    assert list(trace) == list(kept) and list(trace.seconds) == [n for n in kept if not n.endswith(".weights")]
    for name, seconds in trace.seconds.items():
        assert seconds == sorted(stopwatch.seconds[name] for stopwatch in timed)[1]


# ---------------------------------------------------------------- files

def test_a_saved_trace_comes_back_bit_for_bit(model, cat, traced, tmp_path):
    network, path = model
    target = tmp_path / "t.npz"
    traced(cat, "--model", path, "--engine", "reference", "--save", str(target))
    expected = network.trace(pixels(network, cat))
    with np.load(target) as states:
        assert set(states) == set(expected)
        for name, x in expected.items():
            assert states[name].dtype == x.dtype and states[name].shape == x.shape
            assert states[name].tobytes() == x.tobytes()
    assert os.listdir(tmp_path) == ["t.npz"]


def test_compare_reads_what_was_saved(model, cat, root, traced, tmp_path, capsys):
    path, files = model[1], [str(tmp_path / f"{name}.npz") for name in "abc"]
    rows = traced(cat, "--model", path, "--engine", "reference", "--save", files[0])
    traced(cat, "--model", path, "--engine", "numba", "--save", files[1])
    other = tmp_path / "turned.png"
    open_picture(cat).transpose(0).save(other)
    traced(str(other), "--model", path, "--engine", "reference", "--save", files[2])
    assert main(["compare", *files[:2]]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(
        f"0 of {len(rows)} states differ; tolerance 0.0003 (")
    assert [row.name for row in compare_files(*files[:2])] == [row["name"] for row in rows]
    assert {row.verdict for row in compare_files(files[0], files[0])} == {"equal"}
    assert main(["compare", files[0], files[2]]) == 1
    assert "differ, the first is pixel_values: " in capsys.readouterr().out.splitlines()[-1]


# ---------------------------------------------------------------- refusals

@pytest.mark.parametrize("target, told", [
    ("folder.npz", "the output file folder.npz cannot be written, because it exists and is not a regular file\n"),
    ("dangling.npz", "the output file dangling.npz cannot be written, because the folder {}/nothing does not exist\n"),
    ("nowhere/t.npz",
     "the output file nowhere/t.npz cannot be written, because the folder {}/nowhere does not exist\n"),
    ("old.npz/t.npz",
     "the output file old.npz/t.npz cannot be written, because the folder {}/old.npz does not exist\n"),
    ("t.safetensors", "the output file 't.safetensors' cannot be written; expected a name that ends in .npz\n"),
    ("locked/t.npz", "the output file locked/t.npz cannot be written, because the folder {}/locked is not writable\n"),
], ids=["folder", "link", "no folder", "file as folder", "name", "locked"])
def test_a_place_that_cannot_be_written_is_refused_first(target, told, tmp_path, monkeypatch, capsys):
    """Before the model is looked for, which is not there either."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.npz").write_bytes(b"old")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "locked").mkdir()
    (tmp_path / "dangling.npz").symlink_to("nothing/t.npz")
    # The superuser may write in any folder, whatever its mode.
    monkeypatch.setattr(os, "access", lambda path, mode: os.path.basename(path) != "locked")
    before = sorted(os.listdir(tmp_path))
    assert main(["trace", "x.png", "--model", "nowhere.h5", "--save", target]) == 3
    printed = capsys.readouterr()
    assert printed.err == "nphybrid: " + told.format(os.path.realpath(tmp_path)) and printed.out == ""
    assert sorted(os.listdir(tmp_path)) == before and (tmp_path / "old.npz").read_bytes() == b"old"
    assert os.listdir("locked") == []


def test_pictures_and_models_that_are_refused(model, cat, tmp_path, capsys):
    network, path = model
    broken, bare, target = tmp_path / "broken.png", tmp_path / "bare.h5", tmp_path / "t.npz"
    broken.write_bytes(b"\x89PNG")
    kind, config = type(network), network.config
    kind(config, engine="reference").save(bare)
    for args, told in (([str(broken), "--model", path], "broken.png"),
                       ([cat, "--model", str(bare)], f"{bare} came without an image processor"),
                       ([cat, "--model", str(tmp_path / "nowhere")], "nowhere: no such file or folder"),
                       ([cat, "--model", path, "--dtype", "float64"], "float64': expected one of the dtypes")):
        assert main(["trace", *args, "--save", str(target)]) == 3
        printed = capsys.readouterr()
        assert told in printed.err and printed.out == "" and not target.exists()


@pytest.mark.parametrize("line", ["trace", "trace a.png b.png", "trace a.png --threads 0", "trace a.png --format csv"])
def test_wrong_usage_exits_with_2(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2 and ": error: " in capsys.readouterr().err


# ---------------------------------------------------------------- the backward pass

@pytest.mark.parametrize("options, label", [([], None), (["--label", "4"], 4)])
def test_a_row_for_the_gradient_of_each_state(model, cat, traced, options, label):
    model, path = model
    rows = traced(cat, "--model", path, "--engine", "reference", "--backward", *options)
    forward = [name for name in model.trace(pixels(model, cat)) if not name.endswith(".weights")]
    assert [row["name"] for row in rows] == ["standardized kernels", *forward, "after the last state"]
    logits = model(pixels(model, cat)).logits[0].astype(float)
    shares = np.exp(logits) / np.exp(logits).sum()
    shares[logits.argmax() if label is None else label] -= 1
    rms = {row["name"]: row["gradient_rms"] for row in rows}
    assert rms["logits"] == pytest.approx(math.sqrt(np.square(shares).mean()), rel=1e-5)
    assert all(rms[name] > 0 for name in forward)


def test_recomputing_keeps_only_the_results_of_units_and_blocks(model, cat, traced):
    model, path = model
    common = cat, "--model", path, "--engine", "reference", "--backward"
    kept, less = traced(*common), traced(*common, "--recompute")
    assert [row["gradient_rms"] for row in less] == [row["gradient_rms"] for row in kept]
    borders = {"stem", "tokens", *(f"blocks.{l}" for l in range(2)), "stages.0.0", "stages.1.0", "stages.1.1"}
    inside = {row["name"] for row in kept if row["name"].rpartition(".")[0] in borders}
    for row in less:
        if row["name"] in inside:
            assert row["bytes"] == 0, row["name"]
        elif row["name"] in borders - {"stem"}:
            assert row["bytes"] == 4 * math.prod(row["shape"]), row["name"]
    assert sum(row["bytes"] for row in less) < 0.6 * sum(row["bytes"] for row in kept)


def test_the_table_of_the_backward_pass(model, cat, capsys):
    _, path = model
    assert main(["trace", cat, "--model", path, "--engine", "reference", "--backward"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["state", "shape", "gradient", "rms", "KB", "kept"]
    assert lines[1].startswith("standardized kernels")
    assert lines[-1].split()[0] == "total"


@pytest.mark.parametrize("options, message", [
    (["--label", "2"], "--label and --recompute need --backward"),
    (["--recompute"], "--label and --recompute need --backward"),
    (["--backward", "--save", "x.npz"], "--save writes the states of a forward pass; expected no --backward"),
])
def test_options_of_the_backward_pass_that_do_not_fit(cat, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        main(["trace", cat, *options])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options, message", [
    (["--dtype", "bfloat16"], "found bfloat16"), (["--dtype", "int8"], "found int8")])
def test_a_backward_pass_that_is_not_possible(cat, capsys, options, message):
    assert main(["trace", cat, "--backward", *options]) == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("label", ["10", "-1", "-100"])
def test_a_label_that_is_not_of_a_class(cat, capsys, label):
    with pytest.raises(SystemExit, match="2"):
        main(["trace", cat, "--backward", "--engine", "reference", "--label", label])
    assert f"argument --label: found {label}; expected the index of a class, 0 to 9" in capsys.readouterr().err
