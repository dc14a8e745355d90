"""The benchmark runs to its end, times nobody whose logits are wrong, and says what is missing."""
import argparse
import json
import os
import sys

import benchmark_against
import benchmark_int8
import benchmark_report
import numpy as np
import pytest
from benchmark_against import check, in_turn, table
from PIL import Image

pytestmark = pytest.mark.slow

TRUTH = np.random.default_rng(0).standard_normal((2, 10))


@pytest.fixture
def run(root, monkeypatch, capsys, children_with_scipy):
    """A function that runs the benchmark of the bundled model.  -> exit code, stdout, stderr

    The benchmark runs in this process, its engines run in processes of their own. No round is left out.
    """
    def benchmark(*args):
        model = root / "weights" / "vit-hybrid-tiny-cifar10.h5"
        command = ["benchmark_against.py", "--runs", "2", "--format", "json", *args, "--model", model]
        monkeypatch.setattr(sys, "argv", [str(arg) for arg in command])
        monkeypatch.setattr(benchmark_against, "WARM", 0)
        code = benchmark_against.main()
        return (code, *capsys.readouterr())
    return benchmark


def test_against_torch(run, tmp_path, monkeypatch):
    """Figures as JSON, and the same as lines of a file, which become a table between the marks of another file."""
    lines = tmp_path / "benchmarks.jsonl"
    code, out, err = run("--peers", "torch", "--batch", "2", "--log", lines)
    assert code == 0, err
    report = json.loads(out)
    assert (report["height"], report["width"], report["batch"], report["runs"]) == (64, 64, 2, 2)
    ours, torchs = report["rows"]
    assert (ours["engine"], torchs["engine"], ours["ratio"]) == ("nphybrid", "torch", 1)
    for row in ours, torchs:
        assert (row["dtype"], row["threads"], len(row["seconds"])) == ("float32", 2, 2)
        assert 0 < row["error"] < 1e-5 and row["peak"] > 5e7 and row["load"] > 0 and row["first"] > 0
        assert 0 < row["spread"][0] <= row["median"] <= row["spread"][1]
    logged = list(map(json.loads, lines.read_text().splitlines()))
    assert [line["engine"] for line in logged] == ["nphybrid", "torch"]
    for line, row in zip(logged, report["rows"]):
        assert (line["median"], line["error"], line["threads"], line["batch"]) == (row["median"], row["error"], 2, 2)
        assert line["quartiles"][0] <= line["median"] <= line["quartiles"][2] and len(line["date"]) == 25
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    picture = tmp_path / "times.png"
    monkeypatch.setattr(sys, "argv", ["report", str(lines), "--readme", str(readme), "--plot", str(picture)])
    benchmark_report.main()
    before, *_, last, _, after, end = readme.read_text().split("\n")
    assert (before, after, end) == ("before", "after", "")
    slowest = max(report["rows"], key=lambda row: row["median"])
    assert last.startswith(f"| {benchmark_against.TITLES[slowest['engine']]} float32 | {slowest['version']} | ")
    assert Image.open(picture).height > 300


def test_other_size(run):
    """With --size, all engines get pictures of this size and a network with resized positions."""
    code, out, err = run("--peers", "torch", "--size", "96")
    assert code == 0, err
    report = json.loads(out)
    assert (report["height"], report["width"]) == (96, 96)
    assert all(0 < row["error"] < 1e-5 for row in report["rows"])                  # observed 8e-7


def test_a_report_has_the_last_run(tmp_path):
    line = {"date": "2026-01-02", "revision": "r", "cpu": "c", "network": "n", "height": 8, "width": 9, "batch": 1,
            "engine": "nphybrid", "dtype": "int8", "threads": 2, "median": 2.0, "ratio": 1.0, "peak": 5e7,
            "quartiles": [1.0, 2.0, 3.0]}
    later = {**line, "date": "2026-01-02T03:04:05+00:00"}
    lines = (line, later, {**later, "dtype": "float32", "median": 1.0, "ratio": None}, {**line, "cpu": "d"},
             {**line, "cpu": "d", "label": "cat"})
    path = tmp_path / "lines"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = benchmark_report.measurements(path)
    assert {about: [(row["dtype"], row["median"]) for row in rows] for about, rows in found.items()} == {
        "n, 8 x 9, batch 1, 2 threads; c": [("float32", 1.0), ("int8", 2.0)],
        "n, 8 x 9, batch 1, 2 threads; d": [("int8", 2.0)],
        "n, 8 x 9, batch 1, 2 threads; d; from the start of a process to the label": [("int8", 2.0)]}
    first, _, _, _, row, _ = benchmark_report.table("about", found["n, 8 x 9, batch 1, 2 threads; c"]).splitlines()
    assert first == "about; 2026-01-02, revision r" and row.endswith("| - |")
    loaded = {**later, "load": 1.26, "requested": "bfloat16"}
    first, *_, row = benchmark_report.table("about", [loaded]).splitlines()
    assert first.endswith(", load average 1.3 before the measurement")
    assert row.startswith("| nphybrid int8 (bfloat16 requested) | ")
    whole = "n, 8 x 9, batch 1, 2 threads; d"
    assert list(benchmark_report.measurements(path, only=whole)) == [whole]
    assert len(benchmark_report.measurements(path, only="; d")) == 2


def test_from_the_start(run):
    """Whole processes that agree about the cat."""
    code, out, err = run("--start", "--runs", "1")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [(row["engine"], row["reads"], row["label"]) for row in rows] == [
        ("nphybrid", ".h5", "cat"), ("nphybrid", "folder", "cat"), ("nphybrid", ".h5, packed", "cat"),
        ("nphybrid", "folder, packed", "cat"), ("torch", "folder", "cat")]
    assert all(row["peak"] > 5e7 and row["median"] > 0.1 for row in rows)


@pytest.mark.parametrize("library", ["openvino", "onnx"])
def test_a_missing_library_costs_its_own_row(run, tmp_path, library, monkeypatch):
    if library == "openvino":
        pytest.importorskip("onnx")
    (tmp_path / f"{library}.py").write_text(f"raise ModuleNotFoundError('gone', name='{library}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    code, out, err = run("--peers", "openvino")
    ours, peer = json.loads(out)["rows"]
    assert code == 1 and ours["median"] > 0 and "median" not in peer
    assert f'OpenVINO float32: {library} is not installed: pip install ".[bench]"' in err


def test_an_unknown_engine_is_named(run, capsys):
    with pytest.raises(SystemExit, match="abacus"):
        run("--peers", "abacus")
    assert capsys.readouterr().out == ""


def test_the_kinds_of_int8(tmp_path):
    """They are options of a peer; an unknown kind is refused before anything is quantized."""
    peers = argparse.Namespace(ours="int8,float32:high", peers="onnxruntime-int8:static,openvino-int8,torch")
    rows = [tuple(row.values()) for row in benchmark_against.requested_rows(peers)]
    assert rows == [("nphybrid", "int8", ""), ("nphybrid", "float32", "high"), ("onnxruntime", "int8", "static"),
                    ("openvino", "int8", ""), ("torch", "float32", "")]
    with pytest.raises(ValueError, match="one of the kinds 'dynamic', 'static', found 'quick'"):
        benchmark_int8.quantize(tmp_path, "onnxruntime", "quick")
    for spec in "torch-int8:static", "openvino-float32:bfloat16":
        with pytest.raises(SystemExit, match=f"{spec}: expected no kind"):
            benchmark_against.requested_rows(argparse.Namespace(ours="float32", peers=spec))


@pytest.mark.parametrize("peer", ["onnxruntime-int8:dynamic", "openvino-int8"])
def test_int8_of_engines_that_read_onnx(run, peer):
    for library in "onnx", peer.partition("-")[0], "nncf" if "openvino" in peer else "onnxruntime":
        pytest.importorskip(library)
    code, out, err = run("--peers", peer)
    assert code == 0, err
    row = json.loads(out)["rows"][1]
    assert row["dtype"] == "int8" and 1e-3 < row["rms"] < row["error"] < 0.2


def test_int8_against_torch(run):
    """The error shows that PyTorch computes in int8."""
    code, out, err = run("--peers", "torch-int8")
    assert code == 0, err
    row = json.loads(out)["rows"][1]
    assert row["dtype"] == "int8" and 1e-3 < row["rms"] < row["error"] < 0.1


@pytest.mark.parametrize("dtype, amount, passes", [
    ("float32", 1e-5, True), ("float32", 1e-2, False), ("bfloat16", 1e-2, True), ("bfloat16", 0.5, False),
    ("float32", np.nan, False)])
def test_wrong_logits_are_refused(dtype, amount, passes):
    logits = TRUTH.copy()
    logits[1, 3] += amount * TRUTH.std()
    row = check(logits.tolist(), TRUTH, dtype)
    assert row["error"] == pytest.approx(amount, nan_ok=True)
    assert row["rms"] == pytest.approx(amount / TRUTH.size ** 0.5, nan_ok=True)
    assert ("problem" not in row) == passes


def test_logits_of_another_shape_are_refused():
    assert "shape" in check(TRUTH[:1].tolist(), TRUTH, "float32")["problem"]


def test_who_is_refused_is_not_timed():
    """Nor does it stand in the table; who fails in the middle leaves."""
    calls = []

    def call(row):
        calls.append(row["engine"])
        gone = row["engine"] == "openvino" and calls.count("openvino") == 2
        return {"problem": "gone"} if gone else {"seconds": len(row["engine"])}
    rows = [dict(engine="nphybrid"), dict(engine="torch", problem="refused"), dict(engine="openvino"),
            dict(engine="onnxruntime")]
    report = dict(model="m", height=1, width=1, batch=1, cpu="c", date="2000-01", runs=3, rows=in_turn(rows, 3, call))
    assert [calls.count(row["engine"]) for row in rows] == [7, 0, 2, 7]                 # 3 rounds after 4 others
    lines = table(report, "text").splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["nphybrid", "ONNX"] and lines[-1].endswith(f"{11 / 8:.2f}")
