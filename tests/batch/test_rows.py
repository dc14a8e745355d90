"""Rows: what is written is read, an interrupted file is continued, and a terminal shows progress."""
import contextlib
import csv
import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from nphybrid import FormatError
from nphybrid.batch import identity, progress, resume, rows
from nphybrid.batch.run import Row

# Names that a file may have: any bytes except NUL and the slash.
NAMES = st.binary(min_size=1, max_size=12).map(lambda name: os.fsdecode(name.replace(b"\0", b"\n")))
NASTY = ["a.png", 'q"uote.png', "com,ma.png", "new\nline.png", "car\rriage.png", "crlf\r\n.png", " space ", "'", "$'x'",
         "\\n", "\t", "\x1b[31m", "é", "日本", os.fsdecode(b"\xff\xfe.png"), os.fsdecode(b"\xc3"), '"', '""\n"']


def labels(*pairs):
    return [{"index": i, "label": f'la,"bel\n{i}', "score": score} for i, score in pairs]


def example(names):
    """A row for each name, every third with an error."""
    return [{"position": i, "path": name} | ({"error": f"{name}: is\nbad"} if i % 3 == 2 else
                                             {"labels": labels((i, 1 / 3), (7, 1e-30))})
            for i, name in enumerate(names)]


def written(path, format, some, start=0):
    with rows.writer(path, format, start=start) as write:
        for row in some:
            write(row)
    return path.read_bytes()


def read_back(data, format):
    """The rows in a file, read by the modules csv and json."""
    if format != "csv":
        return json.loads(data) if format == "json" else [json.loads(line) for line in data.splitlines()]
    with io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape", newline="") as file:
        found = {}
        for line in csv.DictReader(file):
            row = found.setdefault(int(line["position"]), {"position": int(line["position"]), "path": line["path"]})
            if line["error"]:
                row["error"] = line["error"]
            else:
                row.setdefault("labels", []).append(
                    {"index": int(line["index"]), "label": line["label"], "score": float(line["score"])})
        return list(found.values())


@pytest.mark.parametrize("format", ["json", "jsonl", "csv"])
def test_every_byte_of_a_name_comes_back(format, tmp_path):
    expected = example(NASTY)
    data = written(tmp_path / "f", format, expected)
    assert read_back(data, format) == expected
    assert [os.fsencode(row["path"]) for row in read_back(data, format)] == [os.fsencode(name) for name in NASTY]
    if format == "csv":
        assert all(os.fsencode(name).replace(b'"', b'""') in data for name in NASTY), "as they are on the disk"
    else:
        assert data.isascii()


@given(st.lists(NAMES, min_size=1, max_size=4), st.sampled_from(["json", "jsonl", "csv"]))
def test_any_name_comes_back(names, format):
    expected = example(names)
    between, ends = (b",", (b"[", b"]")) if format == "json" else (b"", (b"", b""))
    header = b"position,path,index,label,score,error\n" if format == "csv" else b""
    data = ends[0] + header + between.join(rows.encoded_row(row, format) for row in expected) + ends[1]
    assert read_back(data, format) == expected


@given(NAMES)
def test_a_shell_takes_a_shown_name_back(name):
    """Text: one printable line; a name that begins with $' is read as bash reads it."""
    shown = rows.one_line(name)
    assert shown.isprintable()
    if shown.startswith("$'"):
        body = shown[2:-1].encode("utf-8")
        plain = body.decode("unicode_escape").encode("latin-1")
        assert plain == os.fsencode(name)
    else:
        assert shown == name


def test_bash_takes_a_shown_name_back():
    name = os.fsdecode(b"a\n'\xff\t\\\x1b[31mb\xc3\xa9.png")
    done = subprocess.run(["bash", "-c", f"printf %s {rows.one_line(name)}"], capture_output=True)
    assert done.stdout == os.fsencode(name) and shlex.quote(name) != rows.one_line(name)


def test_scores_of_names_of_any_width_are_in_one_column():
    """On a terminal, a Chinese character takes two columns."""
    labels = [{"index": k, "label": name, "score": 0.5} for k, name in enumerate(["猫", "a cat", "Käse"])]
    row = {"position": 0, "path": "x.png", "labels": labels}
    assert rows.encoded_row(row, "text").decode() == "x.png\n  猫     0.5000\n  a cat  0.5000\n  Käse   0.5000\n"


def test_text(capsysbinary):
    with rows.writer(None, "text") as write:
        for row in example(["a.png", "b\n.png", "c.png"]):
            write(row)
    first, label, *_, last = capsysbinary.readouterr().out.decode().splitlines()
    assert (first, last) == ("a.png", "c.png: error") and label == "  $'la,\"bel\\n0'  0.3333"


def test_json_is_whole_when_nothing_came_and_when_it_is_interrupted(tmp_path):
    assert written(tmp_path / "none", "json", []) == b"[]\n"
    with pytest.raises(KeyboardInterrupt), rows.writer(tmp_path / "some", "json") as write:
        write(example(["a"])[0])
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "some").read_bytes()) == example(["a"])


def test_a_row_is_on_the_disk_when_it_was_written(tmp_path):
    with rows.writer(tmp_path / "f", "jsonl") as write:
        for count, row in enumerate(example("abc"), 1):
            write(row)
            assert len((tmp_path / "f").read_bytes().splitlines()) == count


# ---------------------------------------------------------------- resuming

@pytest.mark.parametrize("format", resume.FORMATS)
def test_cut_at_every_byte_it_goes_on_to_the_same_file(format, tmp_path):
    expected = example(NASTY[:7] + NASTY[-3:])
    data, cut = written(tmp_path / "whole", format, expected), tmp_path / "cut"
    for length in range(len(data) + 1):
        cut.write_bytes(data[:length])
        done, start, failed = resume.complete_rows(cut, format)
        assert start <= length and failed == sum("error" in row for row in expected[:done])
        assert written(cut, format, expected[done:], start) == data, length
    assert done == len(expected) - 1, "of a whole file one picture is computed again"


@pytest.mark.parametrize("format, foreign", [
    ("jsonl", b"hello\n"), ("jsonl", b'{"path": "a"}\n'), ("jsonl", b"[1]\n"),
    ("jsonl", b'{"position": 1, "path": "a"}\n'), ("jsonl", b'{"position": 0}\n{"position": 2}\n'),
    ("csv", b"a,b\n"), ("csv", b"position,path,index,label,score,error\n1,a,2\n"),
    ("csv", b"position,path,index,label,score,error\nx,a,,,,bad\n"),
    ("csv", b"position,path,index,label,score,error\n0,a,,,,bad\n0,a,,,,bad\n2,a,,,,bad\n"),
    ("csv", b"0,a,,,,bad\n"),
])
def test_rows_of_others_are_refused(format, foreign, tmp_path):
    (tmp_path / "f").write_bytes(foreign)
    with pytest.raises(FormatError, match="byte"):
        resume.complete_rows(tmp_path / "f", format)


@pytest.mark.parametrize("format", resume.FORMATS)
def test_a_finished_file_has_the_rows_of_all_pictures(format, tmp_path):
    for names in [], NASTY[:1], NASTY[:2], NASTY:
        written(tmp_path / "f", format, example(names))
        resume.check_rows(tmp_path / "f", format, len(names))


@pytest.mark.parametrize("format, more, told", [
    ("jsonl", b'{"position": 1}\n', "found a row of picture 1 at byte {size}; expected a row of picture 2"),
    ("jsonl", b'{"position": 2, "path": "x"}\n', "found the rows of 3 pictures; expected the rows of 2 pictures"),
    ("jsonl", b'{"posi', "found the rows of 2 pictures and 6 more bytes; expected the rows of 2 pictures"),
    ("jsonl", bytes(9) + b"\n", "the row at byte {size} is not a row that nphybrid writes"),
    ("csv", b"0,x,,,,\n", "found a row of picture 0 at byte {size}; expected a row of picture 2"),
    ("csv", b'2,"x\n', "found the rows of 2 pictures and 5 more bytes; expected the rows of 2 pictures"),
    ("csv", b"2,x,,,,\n", "found the rows of 3 pictures; expected the rows of 2 pictures")])
def test_rows_of_another_run_are_noticed_at_the_end(format, more, told, tmp_path):
    path = tmp_path / "f"
    data = written(path, format, example("ab"))
    path.write_bytes(data + more)
    with pytest.raises(FormatError, match=re.escape(f"{path}: {told.format(size=len(data))}")):
        resume.check_rows(path, format, 2)
    path.write_bytes(data.splitlines(keepends=True)[0])
    with pytest.raises(FormatError, match=f"the rows of {int(format == 'jsonl')} pictures; expected the rows of 2 "):
        resume.check_rows(path, format, 2)


def test_the_identity_tells_lists_apart():
    lists = [["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab", "c", "c"], [b"ab", "c"], ["ab"], [], [os.fsdecode(b"\xff")]]
    digests = {identity.run_identity(sources, model="m")["list"] for sources in lists}
    assert len(digests) == len(lists)


def test_another_list_model_or_option_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    run = identity.run_identity(["a", "b"], model="m", top_k=5)
    assert resume.start_rows(path, run, "csv") == (0, 0, 0)
    assert resume.start_rows(path, run, "csv", resume=True) == (0, 0, 0), "killed before the first row"
    written(path, "csv", example("ab"))
    assert resume.start_rows(path, run, "csv", resume=True)[0] == 1
    for other, named in ((identity.run_identity(["a", "c"], model="m", top_k=5), "list"),
                         (identity.run_identity(["a", "b"], model="n", top_k=5), "model"),
                         (identity.run_identity(["a", "b"], model="m", top_k=6), "top-k"),
                         (identity.run_identity(["a", "b"], model="m"), "top-k")):
        with pytest.raises(ValueError, match=f"another.*{named}"):
            resume.start_rows(path, other, "csv", resume=True)
    os.remove(f"{path}.run.json")
    with pytest.raises(FileNotFoundError, match="run.json"):
        resume.start_rows(path, run, "csv", resume=True)


def test_killed_before_it_said_what_it_is(tmp_path, monkeypatch):
    path = str(tmp_path / "x.csv")
    with monkeypatch.context() as patch:
        patch.setattr(resume, "write_json", None)
        with pytest.raises(TypeError):
            resume.start_rows(path, {"list": 1}, "csv")
    assert resume.start_rows(path, {"list": 1}, "csv", resume=True) == (0, 0, 0)


# ---------------------------------------------------------------- progress

def watched(stderr, monkeypatch, **options):
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(progress, "INTERVAL", 0)
    bad = ValueError("b\n.png: is empty")
    found = [Row(0, "a", 1, None), Row(1, "b\n.png", None, bad), Row(2, "c", 1, None)]
    assert list(progress.with_progress(iter(found), 10, 7, **options)) == found


def terminal():
    """A terminal, and a function that closes it and returns what was printed on it."""
    controller, worker = pty.openpty()
    file = open(worker, "w")

    def seen():
        file.close()
        text = b""
        with contextlib.suppress(OSError):            # EIO at the end
            while data := os.read(controller, 10_000):
                text += data
        return text.decode()
    return file, seen


def test_a_bar_on_a_terminal(monkeypatch):
    stderr, seen = terminal()
    watched(stderr, monkeypatch, failed=2)
    text = seen()
    assert "7 of 10   70 % [##############......]   2 failed\r" in text, "drawn before the first picture"
    assert "9 of 10   90 % [##################..]   3 failed\r" in text, "no estimate in the first second"
    assert text.count("\r\x1b[K") >= 5 and "$'b\\n.png: is empty'" in text
    assert text.rsplit("\r\x1b[K")[-1].strip() == "nphybrid: 3 of 10 pictures failed"


def test_the_rate_is_of_this_run_and_a_line_does_not_wrap(monkeypatch):
    stderr, seen = terminal()
    monkeypatch.setenv("COLUMNS", "55")
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=iter(range(0, 100, 2)).__next__))
    watched(stderr, monkeypatch)
    text = seen()
    assert "9 of 10   90 % [##################..]   0.5/s   0:02 l\r" in text, "a picture in 2 s, and 54 columns"


@pytest.mark.parametrize("quiet", [False, True])
def test_an_interrupt_says_how_far_the_run_came(quiet, capsys):
    def rows():
        yield from (Row(i, "a", 1, None) for i in range(3))
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match="^stopped after 1,003 of 2,000 pictures; go on$"):
        list(progress.with_progress(rows(), 2000, 1000, quiet=quiet, go_on="; go on"))
    assert capsys.readouterr().err == ""


def test_a_status_is_drawn_on_a_terminal_and_erased(monkeypatch):
    stderr, seen = terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress.status("loading m.h5 …"):
        pass
    with progress.status("never seen", quiet=True):
        pass
    assert seen() == "\r\x1b[Kloading m.h5 …\r\x1b[K"


def test_no_status_without_a_terminal(capsys):
    with progress.status("loading m.h5 …"):
        pass
    assert capsys.readouterr().err == ""

@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is full")
def test_a_full_disk_is_named():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        with rows.writer("/dev/full", "jsonl") as write:
            write({"position": 0, "path": "a.png", "error": "is empty"})


@pytest.mark.parametrize("stderr", [None, "/dev/full"])
def test_who_does_not_read_errors_stops_no_rows(stderr, monkeypatch):
    watched(stderr and open(stderr, "w"), monkeypatch)


def test_no_bar_elsewhere(monkeypatch):
    stderr = io.StringIO()
    watched(stderr, monkeypatch)
    assert stderr.getvalue() == "nphybrid: $'b\\n.png: is empty'\nnphybrid: 1 of 10 pictures failed\n"


@pytest.mark.parametrize("options, told", [({"quiet": True}, ""), ({"line": False}, "nphybrid: ")])
def test_no_bar_where_it_would_disturb(options, told, monkeypatch):
    stderr, seen = terminal()
    watched(stderr, monkeypatch, **options)
    print("end", file=stderr, flush=True)
    text = seen()
    assert text.startswith(told + ("$" if told else "end")) and "\x1b[K" not in text


def test_best_labels_by_index():
    """Two classes of one name are two labels, with different indices."""
    config = SimpleNamespace(id2label={0: "crane", 1: "dog", 2: "crane"}, problem_type=None, num_labels=3)
    row = rows.labelled_fields(Row(4, "x", np.float32([1, 0, 2]), None), config, top_k=2)
    assert [label["index"] for label in row["labels"]] == [2, 0] and row["labels"][0]["label"] == "crane"
    assert row["position"] == 4 and row["labels"][0]["score"] == pytest.approx(np.exp(2) / (np.exp([0, 1, 2]).sum()))
