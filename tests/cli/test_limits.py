"""What the command line does without memory, threads or disk space, with empty texts, and with narrow encodings."""
import importlib
import io
import os
import re
import subprocess
import sys

import pytest

from nphybrid import cli, default_model
from nphybrid.cli import streams, summary

from tools.process import run_python

def parser_of(verb):
    """The parser of a verb with its options."""
    parser = cli.parsers.VerbParser(verb, prog=verb)
    importlib.import_module(f"nphybrid.cli.{verb}").add(parser)
    return parser


def commands(verb):
    """A command line with an empty text, for each argument of a verb that takes a text."""
    parser = parser_of(verb)
    actions = parser._actions
    # Groups of which exactly one option is given.
    groups = [group._group_actions for group in parser._mutually_exclusive_groups if group.required]
    places = [action for action in actions if not action.option_strings]
    given = [action.choices[0] if action.choices else "x" for action in places if action.nargs != "?"]
    required = [part for action in actions if action.required and action.option_strings
                for part in (action.option_strings[0], "x")]
    for action in actions:
        if action.option_strings and action.nargs != 0:
            others = [part for group in groups if action not in group for part in (group[0].option_strings[0], "x")]
            yield [*given, *required, *others, action.option_strings[0], ""]
    required += [part for group in groups for part in (group[0].option_strings[0], "x")]
    for i, action in enumerate(places):
        before = [place.choices[0] if place.choices else "x" for place in places[:i]]
        after = given[i + 1:] if action.nargs != "?" else []
        yield [*required, *before, "", *after]


@pytest.mark.parametrize("verb", [verb for verb in cli.VERBS if verb not in ("doctor", "warmup")])
def test_an_empty_text_is_a_usage_error(verb, monkeypatch, capsys):
    """An unset variable of the shell is not the default."""
    module, count = importlib.import_module(f"nphybrid.cli.{verb}"), 0
    for command in commands(verb):
        monkeypatch.setattr(module, "run", lambda args: pytest.fail(f"{args} was run"))
        with pytest.raises(SystemExit) as stopped:
            cli.main([verb, *command])
        assert stopped.value.code == 2 and re.search(
            r": error: argument .*(found an empty text|invalid choice: ''|found '?'?;|invalid int value: '')",
            capsys.readouterr().err)
        count += 1
    assert count >= 1


def test_the_message_names_the_empty_argument(capsys):
    with pytest.raises(SystemExit):
        cli.main(["classify", "x.png", "--model", ""])
    assert capsys.readouterr().err.endswith("argument --model: found an empty text; expected at least one character\n"
                                            "See nphybrid classify --help\n")


# ---------------------------------------------------------------- one line and exit code 3

@pytest.mark.parametrize("error, told", [
    (MemoryError(), "not enough memory"),
    (MemoryError("Unable to allocate 1 GiB"), "not enough memory (Unable to allocate 1 GiB)"),
    (MemoryError("a.png: not enough memory"), "a.png: not enough memory"),
    (ImportError("long advice\n\nx.so: failed to map segment from shared object"),
     "not enough memory (x.so: failed to map segment from shared object)"),
    (RuntimeError("can't start new thread"), "can't start new thread")])
def test_a_shortage_is_one_line(error, told, monkeypatch, capsys):
    def run(args):
        raise error
    monkeypatch.setattr(summary, "run", run)
    assert cli.main(["summary"]) == 3 and capsys.readouterr().err == f"nphybrid: {told}\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def run(args):
        raise RuntimeError("a bug")
    monkeypatch.setattr(summary, "run", run)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["summary"])


def test_a_lost_interrupt_counts_where_no_thread_can_be_started(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    class Interrupted:
        def __del__(self):
            raise KeyboardInterrupt
    monkeypatch.setattr("threading.Thread.start", refuse)
    monkeypatch.setattr(summary, "run", lambda args: Interrupted() and 0)
    assert cli.main(["summary"]) == 130


# ---------------------------------------------------------------- streams

@pytest.mark.parametrize("encoding, printed", [("utf-8", b"\\udcff \xe2\x82\xac"), ("ascii", b"\\udcff \\u20ac")])
def test_a_text_that_stdout_cannot_hold_is_escaped(encoding, printed, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(summary, "run", lambda args: print("\udcff \u20ac", end=""))
    assert not cli.main(["summary"])
    assert stdout.buffer.getvalue() == printed and stdout.errors == "strict"


def test_the_way_that_the_user_chose_is_kept(monkeypatch):
    """PYTHONIOENCODING=utf-8:surrogateescape prints the bytes of a file name."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(summary, "run", lambda args: print("\udcff", end=""))
    assert not cli.main(["summary"]) and stdout.buffer.getvalue() == b"\xff"


def test_a_stdout_of_a_notebook_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with streams.escape_characters():
        print("\udcff")
    assert sys.stdout.getvalue() == "\udcff\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is full")
@pytest.mark.parametrize("line", ["summary", "classify {cat}", "classify {cat} --format jsonl", "inspect {model}",
                                  "completion bash", "--help", "classify --help", "--version",
                                  "convert {model} {place}/{i}.h5", "explain {cat} -o {place}/x.html",
                                  "classify {cat} --debug", "bench --runs 1 --threads 1",
                                  "serve --port 0 --engine reference"])
def test_a_full_stdout_is_named(line, root, tmp_path):
    """Python must not end with the code 120, because it writes what is left in the buffer once more."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for i, more in enumerate(({}, {"PYTHONUNBUFFERED": "1"})):
        parts = line.format(cat=root / "examples" / "images" / "cat.png", model=default_model(), place=tmp_path, i=i)
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-m", "nphybrid", *parts.split()], stdout=full, text=True,
                                  stderr=subprocess.PIPE, env=environment | more, timeout=120)
        code = 1 if "--debug" in line else 3
        assert done.returncode == code and "Exception ignored" not in done.stderr, done.stderr
        assert done.stderr.splitlines()[-1].endswith(": [Errno 28] No space left on device: 'stdout'")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_children_of_the_tests_do_not_ignore_interrupts(root):
    """`trap '' INT; pytest` and nohup."""
    code = ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import conftest; "
            "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)")
    assert run_python("-c", code, cwd=root / "tests").stdout == "True\n"


# ---------------------------------------------------------------- full disks

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from nphybrid.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for command in sys.argv[1:]:
    print(main(command.split()), file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE")
def test_a_full_disk_is_named(cat, root, tmp_path, monkeypatch):
    """Each verb that writes says which file could not be written."""
    monkeypatch.chdir(root)
    names = ["x.html", "x.png", "x.npz", "m.h5", "m.npz"]
    html, png, npz, h5, google = (tmp_path / name for name in names)
    done = run_python("-c", LIMITED, f"explain {cat} -o {html} --engine reference",
                      f"figures filters -o {png} --engine reference",
                      f"trace {cat} --save {npz} --engine reference",
                      f"convert weights/vit-hybrid-tiny-cifar10.h5 {h5}",
                      f"convert weights/vit-hybrid-tiny-cifar10.h5 {google} --lossy")
    assert done.returncode == 0 and os.listdir(tmp_path) == []
    told = [f"nphybrid: [Errno 27] File too large: '{path}'" for path in (html, png, npz, h5, google)]
    assert done.stderr.splitlines() == [line for text in told for line in (text, "3")]
