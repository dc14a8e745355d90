"""The command line, as a process: what it prints where, its exit codes, and what it does not import."""
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from nphybrid import BitBackbone, BitConfig, ViTHybridConfig, ViTHybridForImageClassification, cli, default_model, ops
from nphybrid.__main__ import main
from nphybrid.cli import options, summary


def nphybrid(*args, cwd, **options):
    """Run `python -m nphybrid` in the checkout."""
    return subprocess.run([sys.executable, "-m", "nphybrid", *map(str, args)], cwd=cwd, text=True,
                          capture_output=True, timeout=120, **options)


def test_classify_prints_the_label_first(cat, root):
    nphybrid("warmup", cwd=root)
    done = nphybrid("classify", cat, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == "cat 0.7997 frog 0.0894 dog 0.0520 deer 0.0174 bird 0.0165".split()


def test_classify_json(cat, capsys):
    assert main(["classify", str(cat), *"--top-k 2 --format json --engine reference --dtype float64".split()]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["path"] == str(cat) and [label["label"] for label in row["labels"]] == ["cat", "frog"]
    assert row["labels"][0]["score"] == pytest.approx(0.79969, abs=1e-5)


def test_a_bad_picture_costs_its_own_row(cat, tmp_path, capsys):
    broken, strip = tmp_path / "broken.png", tmp_path / "strip.png"
    broken.write_bytes(cat.read_bytes()[:5000])
    Image.new("RGB", (65_500, 1)).save(strip)
    paths = [str(cat), str(broken), str(strip), str(cat)]
    assert main(["classify", *paths, "--format", "json"]) == 1
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert [row["path"] for row in rows] == paths
    assert ["labels" in row for row in rows] == [True, False, False, True] and rows[0]["labels"] == rows[3]["labels"]
    assert "broken.png" in rows[1]["error"] and "1 x 65500 pixels and would become" in rows[2]["error"]
    assert "broken.png" in printed.err and "1 x 65500 pixels and would become" in printed.err
    assert main(["classify", str(tmp_path / "missing.png")]) == 1
    assert "missing.png" in capsys.readouterr().err

    assert main(["classify", *paths]) == 1
    text = capsys.readouterr().out.splitlines()
    assert text[0] == str(cat) and text[6] == f"{broken}: error" and text[8] == str(cat)


def test_turned_photographs_get_one_answer(cat, tmp_path, capsys):
    """The command line honours EXIF: a picture stored on its side has the label of the upright one."""
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(cat) as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    assert main(["classify", str(cat), "--format", "json"]) == 0
    expected = json.loads(capsys.readouterr().out)[0]["labels"]
    assert main(["classify", str(turned), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["labels"] == expected


def test_convert_and_use(tmp_path, cat, capsys):
    model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    model.save_pretrained(tmp_path / "folder")
    assert main(["convert", str(tmp_path / "folder"), str(tmp_path / "m.h5")]) == 0
    assert "ViTHybridForImageClassification, 1,469,834 parameters" in capsys.readouterr().out
    assert main(["classify", str(cat), "--model", str(tmp_path / "m.h5")]) == 0
    assert capsys.readouterr().out.startswith("cat")
    again = (tmp_path / "m.h5").read_bytes()
    assert main(["convert", str(tmp_path / "folder"), str(tmp_path / "m.h5")]) == 0
    assert (tmp_path / "m.h5").read_bytes() == again, "the same source gives the same bytes"


def test_convert_any_class(tmp_path, capsys):
    """The class that wrote a folder is the class that reads it; a backbone has no classifier, and classify says so."""
    config = BitConfig(embedding_size=16, hidden_sizes=[32, 48], depths=[1, 2], num_groups=4)
    BitBackbone(config, engine="reference").save_pretrained(tmp_path / "folder")
    assert main(["convert", str(tmp_path / "folder"), str(tmp_path / "m.h5")]) == 0
    assert "BitBackbone, " in capsys.readouterr().out
    assert main(["summary", str(tmp_path / "m.h5"), "--format", "json"]) == 0
    assert "logits" not in [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert main(["classify", "x.png", "--model", str(tmp_path / "m.h5")]) == 3
    assert "found a BitBackbone, which has no classifier; expected one of " in capsys.readouterr().err


def test_summary_of_files_configs_and_presets(tmp_path, capsys):
    (tmp_path / "config.json").write_text(ViTHybridConfig().to_json_string())
    totals = {}
    for model in "R50+ViT-B/16", str(tmp_path), str(tmp_path / "config.json"), str(default_model()), "BiT-R50x1":
        assert main(["summary", model, "--format", "json"]) == 0
        totals[model] = sum(row["parameters"] for row in json.loads(capsys.readouterr().out))
    assert list(totals.values()) == [98_950_952, 97_891_650, 97_891_650, 1_469_834, 25_549_352]
    assert main(["summary"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["total", "1,469,834"]
    for depth in 1, 2, 3, 9:
        assert main(["summary", "--depth", str(depth), "--format", "json"]) == 0
        assert sum(row["parameters"] for row in json.loads(capsys.readouterr().out)) == 1_469_834


@pytest.mark.parametrize("args, told", [
    (["classify", "x.png", "--model", "nowhere"], "nowhere: no such file or folder on this computer"),
    (["summary", "R50+ViT-B/17"], "found R50+ViT-B/17; expected a file, a folder or one of the presets R+ViT-Ti/16, R"),
    (["classify", "x.png", "--model", "page.html"], "web page"),
    (["convert", "nowhere", "m.h5"], "nowhere: no such file or folder"),
    (["convert", ".", "m.safetensors"], "the target of format huggingface is a folder"),
    (["summary", "bad.json"], "hidden_size is -1"),
    (["classify", "x.png", "--dtype", "float64"], "float64': expected one of the dtypes float32, bfloat16"),
    (["classify", "x.png", "--dtype", "int8", "--precision", "high"], "expected 'highest' for the dtype int8"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_refusals_exit_with_3(args, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.html").write_text("<!DOCTYPE html><title>Sign in</title>")
    (tmp_path / "bad.json").write_text('{"model_type": "vit-hybrid", "hidden_size": -1}')
    assert main(args) == 3
    printed = capsys.readouterr()
    assert told in printed.err and printed.err.startswith("nphybrid: ") and printed.out == ""
    assert not (tmp_path / "m.h5").exists()


@pytest.mark.parametrize("line", ["classify", "classify x.png --top-k 0", "invent", "convert a", "doctor x",
                                  "warmup x"])
def test_wrong_usage_exits_with_2(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2 and ": error: " in capsys.readouterr().err


def test_every_verb_of_the_folder_is_offered(root, capsys):
    """A verb's file has its name, and stands in VERBS."""
    shared = {"__init__", "loading", "options", "parsers", "streams", "targets"}
    files = {path.stem for path in (root / "nphybrid" / "cli").glob("*.py")} - shared
    with pytest.raises(SystemExit):
        main(["--help"])
    offered = re.findall(r"^    (\w+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert offered == list(cli.VERBS) and set(offered) == files


def test_the_choices_are_those_of_the_engines():
    engines, dtypes = map(set, zip(*ops.PAIRS))
    assert (set(options.ENGINES), set(options.DTYPES), options.PRECISIONS) == (engines, dtypes, ops.PRECISIONS)


def test_a_reader_that_leaves_is_no_error(root, cat):
    """`nphybrid … | head -1`"""
    command = [sys.executable, "-m", "nphybrid", "summary", "R50+ViT-L/32"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) == 0


@pytest.mark.parametrize("stdout", ["a file", "a notebook's"])
def test_a_broken_pipe_that_is_not_stdout_is_an_error(stdout, monkeypatch, capfd):
    def broken(args):
        raise BrokenPipeError("a connection")
    monkeypatch.setattr(summary, "run", broken)
    if stdout == "a notebook's":
        monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["summary"]) == 3 and capfd.readouterr().err == "nphybrid: a connection\n"


def test_streams_that_are_closed_stay_closed(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["summary"]) == 3
    assert sys.stdin is sys.stdout is sys.stderr is None


@pytest.mark.parametrize("seconds", [0, 10])
def test_an_interrupt_in_a_destructor_counts(seconds, monkeypatch):
    """Python prints and forgets what is raised there; at the very end of a verb, too."""
    class Interrupted:
        def __del__(self):
            raise KeyboardInterrupt

    def run(args):
        Interrupted()
        for _ in range(100 * seconds):
            time.sleep(0.01)
    monkeypatch.setattr(summary, "run", run)
    hook, start = sys.unraisablehook, time.monotonic()
    assert main(["summary"]) == 130 and time.monotonic() - start < 5 and sys.unraisablehook is hook


@pytest.mark.parametrize("told, printed", [("", "nphybrid: stopped\n"), ("x goes on", "nphybrid: x goes on\n")])
def test_an_interrupt_prints_one_line(told, printed, monkeypatch, capsys):
    def run(args):
        raise KeyboardInterrupt(*[told][:len(told)])
    monkeypatch.setattr(summary, "run", run)
    assert main(["summary"]) == 130
    assert capsys.readouterr().err == printed


@pytest.mark.slow
def test_interrupt(root, tmp_path):
    """Ctrl-C ends a long run with 130."""
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "x.png")
    command = [sys.executable, "-m", "nphybrid", "classify", *[str(tmp_path / "x.png")] * 20000]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(rb"^nphybrid: stopped after [\d,]+ of 20,000 pictures\n\Z", err, re.MULTILINE)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("args, unwanted", [
    (["-c", "import nphybrid"], "numba h5py PIL nphybrid.api.base"),
    (["-c", "import nphybrid; nphybrid.ViTHybridConfig(); nphybrid.ViTHybridImageProcessor()"], "numba h5py"),
    (["-c", "import nphybrid; nphybrid.ViTHybridModel; from nphybrid.ops import reference"], "numba"),
], ids=["import", "faces", "reference"])
def test_light_imports(args, unwanted, root):
    done = subprocess.run([sys.executable, "-X", "importtime", *args], cwd=root, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "nphybrid" in imported and not imported & set(unwanted.split())


def test_default_model_in_a_bare_checkout(root, tmp_path):
    """PYTHONPATH=. and `python -m nphybrid` find it; where it is missing, the error says where it was looked for."""
    found = subprocess.run([sys.executable, "-c", "import nphybrid; print(nphybrid.default_model())"], cwd=tmp_path,
                           capture_output=True, text=True)
    assert found.stdout.strip().endswith("vit-hybrid-tiny-cifar10.h5")
    shutil.copytree(root / "nphybrid", tmp_path / "nphybrid", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    done = nphybrid("summary", cwd=tmp_path)
    assert done.returncode == 3 and str(tmp_path / "weights") in done.stderr and "--model" in done.stderr
