"""The parsers: what is imported for a page of help or a usage error, what the pages say, how values are refused."""
import argparse
import re
import subprocess
import sys

import pytest

from nphybrid import cli
from nphybrid.cli import options

pytestmark = pytest.mark.slow

HEAVY = {"numpy", "numba", "h5py", "PIL"}
ERRORS = [["invent"], ["classify"], ["classify", "x.png", "--invent"], ["classify", "x.png", "--top-k", "0"]]
PAGES = [[], ["help"], ["help", "classify"], ["-V"], ["--help"], ["--version"],
         *([verb, "--help"] for verb in cli.VERBS)]

EXIT_CODES = ["0", "1", "2", "3", "130", "143"]

CODE = """
import sys
from nphybrid.cli import main
try:
    main(sys.argv[1:])
finally:
    print("imported", *sys.modules)
"""


def modules_after(root, args):
    """(exit code, the modules that are imported by then) of the command line in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CODE, *args], cwd=root, capture_output=True, text=True, timeout=60)
    return done.returncode, set(done.stdout.rpartition("imported ")[2].split())


def page(capsys, *args):
    """A page of help."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*args, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("args", PAGES + ERRORS, ids=" ".join)
def test_only_the_module_of_the_verb_is_imported(args, root):
    code, modules = modules_after(root, args)
    assert code == (0 if args in PAGES else 2)
    assert "nphybrid.cli" in modules and not modules & HEAVY
    args = args[1:] if args[:1] == ["help"] else args
    verbs = {verb for verb in cli.VERBS if f"nphybrid.cli.{verb}" in modules}
    # probe shares the options of its pictures with evaluate.
    assert verbs <= {*args[:1], *(["evaluate"] if args[:1] in (["probe"], ["finetune"]) else [])}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_page_explains_every_option(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = page(capsys, verb)
    assert re.findall(r"^  (\d+) +[a-z]", text.split("exit codes:\n")[1], re.MULTILINE) == EXIT_CODES
    assert text.startswith(f"usage: nphybrid {verb} ") and "--debug" in text
    description = text.split("\n\n")[1]
    assert re.match("[A-Z].*[.]$", description, re.DOTALL) and max(map(len, description.splitlines())) <= 98
    lines = text.splitlines()
    bare = [line for line, after in zip(lines, [*lines[1:], ""])
            if re.match("  [-A-Z]", line) and "  " not in line.strip() and not after.startswith(" " * 10)]
    assert bare == []


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
@pytest.mark.parametrize("verb", cli.VERBS)
def test_names_are_not_broken(verb, columns, capsys, monkeypatch):
    """A name such as --save-drawn can be copied.  No paragraph of a description is joined to the next one."""
    monkeypatch.setenv("COLUMNS", str(columns))
    text = page(capsys, verb)
    assert [line for line in text.splitlines() if line.endswith("-") and not line.endswith(" -")] == []
    assert not re.search(r"[.]  [A-Z]", text)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_examples_can_be_parsed(verb, capsys):
    lines = re.findall(r"^  nphybrid (.*)$", page(capsys, verb), re.MULTILINE)
    assert any(line.startswith(verb) for line in lines)
    for line in lines:
        assert cli.make_parser().parse_args(line.split()).verb == line.split()[0]


def test_the_first_page_lists_the_verbs_and_the_exit_codes(capsys):
    text = page(capsys)
    for verb, line in cli.VERBS.items():
        assert re.search(rf"^    {verb}\s+{re.escape(line[:40])}", text, re.MULTILINE)
    assert re.findall(r"^  (\d+) +[a-z]", text.split("exit codes:\n")[1], re.MULTILINE) == EXIT_CODES


def test_an_unknown_verb_is_refused_with_the_list_of_verbs(capsys):
    with pytest.raises(SystemExit):
        cli.main(["invent"])
    printed = capsys.readouterr().err
    assert "invalid choice: 'invent'" in printed and all(verb in printed for verb in cli.VERBS)


@pytest.mark.parametrize("line, told", [
    ("clasify x.png", "Did you mean classify?"),
    ("--verison", "unrecognized option --verison. Did you mean --version?"),
    # The value of the misspelt option would be taken for an IMAGE, and a required option would be called missing.
    ("classify --topk 3", "unrecognized option --topk. Did you mean --top-k?"),
    ("embed x.png --ouptut=x.h5", "unrecognized option --ouptut. Did you mean --output?"),
    ("classify x.png --zebra", "unrecognized option --zebra\n"),
    ("figures Atention x.png -o x.png", "Did you mean attention?"),
    ("probe fti x -o x.h5", "Did you mean fit?"),
    ("summary --format jsno", "Did you mean json?"), ("predict x.png", "Did you mean classify?"),
    ("probe photos -o x.h5", ". Expected: nphybrid probe fit photos\n"),
    ("classify x.png --truth x.csv", "unrecognized option --truth; nphybrid evaluate has --truth\n")])
def test_a_misspelt_name_gets_a_suggestion(line, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(line.split())
    assert stopped.value.code == 2 and told in capsys.readouterr().err


def test_an_error_has_two_lines(capsys):
    with pytest.raises(SystemExit):
        cli.main(["classify", "x.png", "--top-k", "0"])
    assert capsys.readouterr().err == (
        "nphybrid classify: error: argument --top-k: found 0; expected a whole number that is 1 or larger\n"
        "See nphybrid classify --help\n")


def test_without_a_verb_the_page_of_help_is_printed(capsys):
    pages = []
    for line in [], ["help"], ["--help"], ["help", "embed"], ["embed", "--help"]:
        with pytest.raises(SystemExit) as stopped:
            cli.main(line)
        assert stopped.value.code == 0
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1] == pages[2] != pages[3] == pages[4] and "embed" in pages[3]


@pytest.mark.parametrize("name", ["-dash.jpg", "--zebra.png"])
def test_a_file_whose_name_begins_like_an_option(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(SystemExit):
        cli.main(["classify", name])
    assert f"found {name}, which begins like an option; expected ./{name}, or -- before" in capsys.readouterr().err
    assert cli.make_parser().parse_args(["classify", "-r", "--", name]).images == [name]


def test_abbreviations_and_names_after_two_dashes_are_accepted():
    found = cli.make_parser().parse_args(["classify", "--recurs", "--top=3", "--", "--zebra.png"])
    assert (found.recursive, found.top_k, found.images) == (True, 3, ["--zebra.png"])


@pytest.mark.parametrize("line, told", [
    ("classify a.png HTTP://x.org/b.png", "argument IMAGE: found the URL HTTP://x.org/b.png; expected a file on this"),
    ("explain https://x.org/b.png -o x.html", "Run curl -L -o FILE 'https://x.org/b.png', and give the name of"),
    ("classify a.png --model https://huggingface.co/google/bit-50", "; expected the name google/bit-50"),
    ("convert https://x.org/m.npz m.h5", "argument SOURCE: found the URL https://x.org/m.npz; expected a file")])
def test_a_url_is_refused_with_the_way_to_use_it(line, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(line.split())
    assert stopped.value.code == 2 and told in capsys.readouterr().err


def test_a_file_whose_path_looks_like_a_url_is_no_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    (tmp_path / "http:" / "a.png").touch()
    assert cli.make_parser().parse_args(["classify", "http://a.png"]).images == ["http://a.png"]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", "", "1_0"])
def test_positive_refuses_what_is_not_a_whole_number_of_at_least_1(text):
    with pytest.raises(argparse.ArgumentTypeError) as refusal:
        options.positive(text)
    assert str(refusal.value) == f"found {text}; expected a whole number that is 1 or larger"


def test_positive_refuses_more_than_31_bits():
    assert options.positive(str(2**31 - 1)) == 2**31 - 1
    with pytest.raises(argparse.ArgumentTypeError, match=r"found 2147483648; expected a whole number below 2\*\*31$"):
        options.positive(str(2**31))
