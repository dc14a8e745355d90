"""`nphybrid classify` and `embed` over folders: no row is lost, none is there twice.

tests/tools/folders.py runs the same at full size: 5,000 pictures, 500 of them broken.
"""
import csv
import glob
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from nphybrid import default_model, pipeline
from nphybrid.__main__ import main
from nphybrid.batch import run
from nphybrid.features import files
from nphybrid.ops import threads

from tools.folders import KILL_AND_RESUME, PEAK_MEMORY, write_pictures

pytestmark = pytest.mark.slow

COUNT, BROKEN = 150, 15
# For processes whose subject is not the engine: loading the compiled kernels takes half of the time of a short run.
FAST_START = ("--engine", "reference")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of pictures of which some are broken: its path, theirs, and the broken positions."""
    path = tmp_path_factory.mktemp("pictures")
    return path, *write_pictures(path, COUNT, BROKEN)


@pytest.fixture(scope="module")
def alone(folder):
    """The answer for each picture that is not broken, computed alone: (label, score) of every class."""
    classify = pipeline("image-classification")
    return {i: [(label["label"], label["score"]) for label in classify(path, top_k=None)]
            for i, path in enumerate(folder[1]) if i not in folder[2]}


def command(root, *args, **options):
    """`python -m nphybrid` in another process, with pipes."""
    return subprocess.Popen([sys.executable, "-m", "nphybrid", *map(str, args)], cwd=root, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **options)


# ---------------------------------------------------------------- rows

@pytest.mark.parametrize("batch", [1, 3, 8])
def test_every_picture_has_its_row_and_bad_ones_cost_their_own(batch, folder, alone, capsys):
    path, paths, bad = folder
    assert main(["classify", str(path), "--format", "jsonl", "--top-k", "10", "--batch", str(batch)]) == 1
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [row["position"] for row in rows] == list(range(COUNT))
    assert [row["path"] for row in rows] == paths
    assert {row["position"] for row in rows if "error" in row} == bad and len(bad) == BROKEN
    for row in rows:
        if "labels" in row:
            assert [(label["label"], label["score"]) for label in row["labels"]] == alone[row["position"]]
    assert printed.err.count("\n") == BROKEN + 1 and f"{BROKEN} of {COUNT} pictures failed" in printed.err


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_pictures_of_other_shapes_share_no_batch(batch, workers):
    """Rows come in order; only pictures of one shape are computed together, and an error changes no other row."""
    sides = [1, 1, 2, 2, 1, 3, 3, 3, 3, 0, 3, 2] * 3
    computed = []

    def prepare(side):
        if side == 0:
            raise OSError("no picture")
        return np.full((1, side, side), side, np.float32)

    def compute(x):
        computed.append(len(x))
        if x.shape[2] == 2:
            raise ValueError("two")
        return x.sum((1, 2, 3))

    found = list(run.compute_rows(sides, prepare, compute, batch, start=5, workers=workers))
    assert [row.position for row in found] == list(range(5, 5 + len(sides))) and [row.source for row in found] == sides
    for row in found:
        told = None if row.source not in (0, 2) else {0: "no picture", 2: "two"}[row.source]
        assert (str(row.error) if row.error else None) == told and (told or row.result == row.source ** 3)
    assert max(computed) <= batch and (batch < 8 or max(computed) >= (2 if workers == 3 else 4))


@pytest.mark.parametrize("count, workers, computed", [
    (16, 2, [(4, 1)] * 4), (5, 2, [(2, 1), (2, 1), (1, 1)]), (1, 4, [(1, 4)]), (2, 4, [(1, 2)] * 2),
    (3, 4, [(1, 1)] * 3), (11, 3, [(2, 1)] * 5 + [(1, 1)]), (11, 16, [(1, 2)] * 11), (0, 2, []),
    (11, 0, [(8, threads.number()), (3, threads.number())])])
def test_a_core_computes_a_share_of_a_batch_alone_and_several_a_lone_picture(count, workers, computed):
    seen = []

    def compute(x):
        seen.append((len(x), threads.number()))
        return x.sum((1, 2, 3))
    found = list(run.compute_rows(range(count), lambda i: np.full((1, 1, 1), i), compute, workers=workers))
    assert [row.result for row in found] == list(range(count)) and sorted(seen) == sorted(computed)


@pytest.mark.parametrize("batch, workers", [(1, 4), (3, 2), (8, 3), (4, 16)])
def test_a_batch_is_the_most_that_is_computed_at_a_time(batch, workers):
    lock, now, most = threading.Lock(), 0, 0

    def compute(x):
        nonlocal now, most
        with lock:
            now += len(x)
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= len(x)
        return x
    assert len(list(run.compute_rows(range(50), lambda i: np.zeros((1, 1, 1)), compute, batch, workers=workers))) == 50
    assert most <= batch


def test_what_compute_gives_before_it_fails_is_not_taken():
    def compute(x):
        for number in x.sum((1, 2, 3)):
            if number == 2 and len(x) > 1:
                raise ValueError
            yield number
    found = run.compute_rows([1, 2, 3, 4], lambda i: np.full((1, 1, 1), i), compute, workers=0)
    assert [row.result for row in found] == [1, 2, 3, 4]
    with pytest.raises(TypeError, match="1 results for 2 pictures"):
        list(run.compute_rows([1, 2], lambda i: np.full((1, 1, 1), i), lambda x: x[:1], workers=0))


def test_what_is_no_picture_s_fault_ends_the_run():
    def broken(_):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        list(run.compute_rows([1, 2], broken, None))
    with pytest.raises(ZeroDivisionError):
        list(run.compute_rows([1, 2], lambda _: np.zeros((1, 1, 1)), broken))


@pytest.mark.parametrize("workers, most", [(0, 4), (1, 17), (3, 17)])
def test_no_more_is_taken_than_is_on_its_way(workers, most):
    taken = 0

    def sources():
        nonlocal taken
        for taken in range(1, 1000):
            yield taken
    found = run.compute_rows(sources(), lambda i: np.full((1, 1, 1), i), lambda x: x.sum((1, 2, 3)), 4, workers=workers)
    for given, row in enumerate(found):
        assert row.result == row.source and taken <= given + most, given


def test_names_from_a_list_on_stdin(root, folder, tmp_path):
    """File names that break other tools, given to a process on stdin, separated by NUL."""
    names = [b"new\nline.png", b'q"uo,te.png', b"car\r.png", b"\xff\xfe.png", b" $'x'.png"]
    for name in names:
        os.symlink(folder[1][0], os.fsencode(tmp_path) + b"/" + name)
    names = [os.fsencode(tmp_path) + b"/" + name for name in names]
    for format in "csv", "jsonl":
        done = command(root, "classify", "-", "--format", format, "--top-k", 1, *FAST_START, stdin=subprocess.PIPE)
        out, err = done.communicate(b"\0".join(names), 120)
        assert done.returncode == 0, err
        if format == "csv":
            text = io.StringIO(out.decode("utf-8", "surrogateescape"), newline="")
            assert [os.fsencode(row["path"]) for row in csv.DictReader(text)] == names
        else:
            assert [os.fsencode(json.loads(line)["path"]) for line in out.splitlines()] == names


def test_a_picture_on_stdin_has_no_path(root, cat):
    done = command(root, "classify", "-", "--top-k", 1, *FAST_START, stdin=subprocess.PIPE)
    assert done.communicate(cat.read_bytes(), 120)[0].split() == [b"cat", b"0.7997"]


@pytest.mark.parametrize("line", ["classify x.png --resume", "classify x.png --resume --format csv",
                                  "classify x.png --resume --output x"])
def test_wrong_usage(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2 and "--resume needs --output FILE" in capsys.readouterr().err


def test_another_list_or_model_is_not_continued(cat, tmp_path, capsys):
    out = str(tmp_path / "x.jsonl")
    begin = ["classify", "--format", "jsonl", "-o", out, "--resume"]
    assert main([*begin, str(cat), str(cat)]) == 0
    first = (tmp_path / "x.jsonl").read_bytes()
    for other in ([str(cat)], [str(cat), str(cat), "--top-k", "2"], [str(cat), str(cat), "--dtype", "bfloat16"]):
        assert main([*begin, *other]) == 3
        assert "cannot be continued" in capsys.readouterr().err and (tmp_path / "x.jsonl").read_bytes() == first
    assert main([*begin, str(cat), str(cat), "--batch", "1", "--threads", "1"]) == 0
    assert (tmp_path / "x.jsonl").read_bytes() == first
    assert main([word for word in begin if word != "--resume"] + [str(cat)]) == 0
    assert first.startswith((tmp_path / "x.jsonl").read_bytes())


# ---------------------------------------------------------------- signals, pipes and streams

@pytest.mark.skipif(sys.platform != "linux", reason="SIGKILL, fork and waitpid")
@pytest.mark.parametrize("verb, name, kills", [("classify", "x.jsonl", 20), ("classify", "x.csv", 10),
                                               ("embed", "x.h5", 10)])
def test_killed_and_resumed(verb, name, kills, tmp_path):
    """The file has the bytes of an uninterrupted run."""
    pictures = tmp_path / "pictures"                      # enough pictures for many kills on a fast processor
    pictures.mkdir()
    write_pictures(pictures, 4 * COUNT, BROKEN)
    done = subprocess.run([sys.executable, KILL_AND_RESUME, verb, pictures, tmp_path / name, str(kills)], text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(f"{name}: {found}")
    assert found["same"] and found["exit"] == 1
    # A run may end before it is killed, if the last rows come faster than the file is checked.
    assert kills // 2 <= found["kills"] <= kills and len(set(found["rows"])) > kills // 4
    assert not os.path.exists(tmp_path / f"{name}.part")


@pytest.mark.parametrize("format", ["jsonl", "csv", "text"])
def test_a_reader_that_leaves_is_no_error(format, root, folder):
    """`nphybrid classify FOLDER | head -1`"""
    process = command(root, "classify", folder[0], "--format", format, "--quiet", *FAST_START)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) == 0


def test_a_reader_of_errors_that_leaves_costs_no_row(root, folder, tmp_path):
    """`nphybrid classify FOLDER -o rows.jsonl 2>&1 | head -1`"""
    out = tmp_path / "rows.jsonl"
    process = command(root, "classify", folder[0], "--format", "jsonl", "-o", out)
    assert process.stderr.readline()
    process.stderr.close()
    assert process.stdout.read() == b"" and process.wait(120) == 1
    assert out.read_bytes().count(b"\n") == COUNT


@pytest.mark.skipif(os.name != "posix", reason="a shell")
@pytest.mark.parametrize("closed, code", [("<&-", 0), ("2>&-", 0), (">&-", 3)])
def test_streams_that_the_caller_closed(closed, code, root, cat, tmp_path):
    """Without stdout rows cannot be printed, which is an error; a file can still be written."""
    classify = f"{sys.executable} -m nphybrid classify {cat} {' '.join(FAST_START)}"
    done = subprocess.run(f"{classify} {closed}", shell=True, capture_output=True, cwd=tmp_path, text=True)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.startswith("cat") if code == 0 else done.stderr == "nphybrid: stdout is closed\n"
    done = subprocess.run(f"{classify} -o x.txt {closed}", shell=True, cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "x.txt").read_text().startswith("cat ")


# ---------------------------------------------------------------- where the rows go

def test_a_link_stays_one(cat, tmp_path):
    link, target = tmp_path / "link.jsonl", tmp_path / "target.jsonl"
    target.write_text("old")
    link.symlink_to(target)
    for resumed in ([], ["--resume"]):
        assert main(["classify", str(cat), "--format", "jsonl", "-o", str(link), *resumed]) == 0
        assert link.is_symlink() and json.loads(target.read_text())["labels"][0]["label"] == "cat"


@pytest.mark.parametrize("target", ["a.png", "hard.png", "list"])
def test_what_is_read_is_not_written_over_by_rows(target, cat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(cat, "a.png")
    os.link("a.png", "hard.png")
    with open("list", "w") as file:
        file.write("a.png\n")
    before = {name: open(name, "rb").read() for name in os.listdir()}
    command = ["list", "a.png"] if target == "list" else ["a.png"]
    for format in "text", "jsonl":
        assert main(["classify", *command, "--format", format, "-o", target]) == 3
        assert capsys.readouterr().err == (
            f"nphybrid: the output file {target} cannot be written, because it is also an input file\n")
    assert {name: open(name, "rb").read() for name in os.listdir()} == before


@pytest.mark.parametrize("command", [
    "embed a.png --model m.h5 -o m.h5", "probe fit mine --model m.h5 -o m.h5", "trace a.png --model m.npz --save m.npz",
    "classify a.png --labels names.txt -o names.txt", "classify a.png --head head.h5 -o head.h5 --format text",
    "classify mine -r -o mine/cat/1.png --format text", "classify mine/*/?.png -o mine/cat/1.png --format csv",
    "evaluate mine --confusion mine/cat/1.png", "evaluate a.png --labels l.csv --confusion a.png",
    "evaluate mine --head head.png --confusion head.png", "figures attention a.png -o a.png",
    "embed x.h5 -o x.h5", "embed mine/*/?.h5 -o mine/cat/1.h5"])
def test_what_is_read_is_not_written_over(command, cat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        os.makedirs(f"mine/{name}")
        for number in range(2):
            shutil.copy(cat, f"mine/{name}/{number}.png")
        shutil.copy(cat, f"mine/{name}/1.h5")
    for name in ("a.png", "head.png", "x.h5"):
        shutil.copy(cat, name)
    for name in ("m.h5", "m.npz", "head.h5"):
        shutil.copy(default_model(), name)
    for name, text in (("names.txt", "x\n" * 10), ("l.csv", "a.png,cat\n"), ("list", "a.png\n")):
        with open(name, "w") as file:
            file.write(text)
    before = {path: open(path, "rb").read() for path in glob.glob("**", recursive=True) if os.path.isfile(path)}
    assert main(command.split()) == 3
    assert "cannot be written, because it is also an input file" in capsys.readouterr().err
    assert {path: open(path, "rb").read() for path in glob.glob("**", recursive=True) if os.path.isfile(path)} == before


def test_a_list_on_stdin_is_not_written_over(root, cat, tmp_path):
    path = tmp_path / "list"
    path.write_text(f"{cat}\n")
    with open(path) as stdin:
        done = command(root, "classify", "-", "-o", path, *FAST_START, stdin=stdin)
        assert b"cannot be written, because it is also an input file" in done.communicate(timeout=60)[1]
    assert done.returncode == 3 and path.read_text() == f"{cat}\n"


def test_a_cluster_that_is_not_there_costs_no_rows(cat, tmp_path, capsys):
    pytest.importorskip("distributed")
    out = tmp_path / "rows.jsonl"
    out.write_text("old")
    assert main(["classify", str(cat), "--format", "jsonl", "-o", str(out), "--scheduler", "nonsense"]) == 3
    assert out.read_text() == "old" and capsys.readouterr().err


# ---------------------------------------------------------------- interrupted

@pytest.mark.parametrize("format", ["jsonl", "csv", "json"])
def test_interrupt(format, root, folder, tmp_path):
    """Ctrl-C: exit code 130 within 2 seconds, and complete rows."""
    out = tmp_path / "rows"
    process = command(root, "classify", *folder[1] * 50, "--format", format, "--output", out)
    while not (out.exists() and out.stat().st_size > 5000):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    time.sleep(random.random() / 5)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in err and time.monotonic() - start < 2
    data = out.read_bytes()
    if format == "csv":
        rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
        assert data.endswith(b"\n") and {len(row) for row in rows} == {6}
        positions = [int(row[0]) for row in rows[1:]]
    else:
        rows = json.loads(data) if format == "json" else [json.loads(line) for line in data.splitlines()]
        assert data.endswith(b"\n")
        positions = [row["position"] for row in rows]
    assert sorted(set(positions)) == list(range(positions[-1] + 1)) and len(positions) > 10


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM")
def test_memory_does_not_grow_with_the_list(root, folder):
    done = subprocess.run([sys.executable, PEAK_MEMORY, folder[0], "4"], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["pictures"] == COUNT * 4 and found["last"] < 1.05 * found["first"]


def test_embed_counts_what_failed(folder, tmp_path, capsys):
    path, paths, bad = folder
    assert main(["embed", str(path), "-o", str(tmp_path / "x.h5"), "--quiet", "--batch", "3"]) == 1
    printed = capsys.readouterr()
    assert printed.err == "" and f"{BROKEN} of {COUNT} pictures failed" in printed.out
    found = files.contents(tmp_path / "x.h5")
    assert found.names == paths and set(found.errors) == bad and found.values.shape == (COUNT - BROKEN, 192)


def test_embedded_alone_and_in_company(folder, tmp_path):
    """A picture's features have the same bits in any batch."""
    some = [path for i, path in enumerate(folder[1][:40]) if i not in folder[2]]
    values = []
    for batch in 1, 3, 8:
        assert main(["embed", *some, "-o", str(tmp_path / "x.npy"), "--batch", str(batch)]) == 0
        values.append(np.load(tmp_path / "x.npy").tobytes())
    assert len(set(values)) == 1 and len(values[0]) == len(some) * 192 * 4


def test_pictures_of_every_size(tmp_path, capsys):
    """Pictures that the processor resizes to one size share a batch, and have the rows that they have alone."""
    rng, paths = np.random.default_rng(3), []
    for i, size in enumerate([(64, 64), (200, 90), (31, 57), (64, 65), (500, 333)]):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(paths[-1])
    assert main(["classify", *paths, "--format", "jsonl"]) == 0
    together = [json.loads(line)["labels"] for line in capsys.readouterr().out.splitlines()]
    for path, expected in zip(paths, together):
        assert main(["classify", path, "--format", "jsonl"]) == 0
        assert json.loads(capsys.readouterr().out)["labels"] == expected
