"""The README tells the truth: its counts, its tests, its Python, its command line."""
import contextlib
import io
import re

import pytest

import nphybrid
from nphybrid.__main__ import main


@pytest.fixture
def readme(root):
    return (root / "README.md").read_text("utf-8")


def blocks(readme, language):
    """The fenced blocks of a language; "" has none."""
    return [text for found, text in re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
            if found == language]


def test_line_counts(readme, root):
    """The README and `help(nphybrid)` name the seven files in one order; the README counts their lines."""
    rows = re.findall(r"\| \[(\w+\.py)\]\((nphybrid/\w+\.py)\) \| (\d+) \|", readme)
    stated = re.search("Read the files in this order: (.*); then ops/reference", nphybrid.__doc__)
    assert [name for name, _, _ in rows] == [f"{name}.py" for name in stated[1].split(", ")]
    assert len(rows) == 7
    counted = {path: len((root / path).read_text("utf-8").splitlines()) for _, path, _ in rows}
    assert {path: int(lines) for _, path, lines in rows} == counted
    assert sum(counted.values()) < 900


def test_every_surprise_has_its_test(readme, root):
    told = set(re.findall(r"`(test_\w+)`", readme))
    files = root.glob("tests/network/test_*surprises.py")
    written = set(re.findall(r"def (test_\w+)", "\n".join(path.read_text("utf-8") for path in files)))
    assert len(told) >= 15 and told <= written


def test_links_lead_somewhere(readme, root):
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    assert len(links) > 10 and all((root / link).exists() for link in links)


def test_python_runs(readme, root, monkeypatch):
    monkeypatch.chdir(root)
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for code in blocks(readme, "python"):
            exec(code, names)
    assert printed.getvalue() == "cat\n(1, 16, 16, 64) (1, 8, 8, 256) (1, 3, 65, 65)\n"
    for line in printed.getvalue().splitlines():
        assert f"# {line}" in readme


def test_command_prints_what_is_shown(readme, root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    install, tests = blocks(readme, "sh")
    assert install == "pip install . && nphybrid classify examples/images/cat.png\n"
    assert tests == 'pip install ".[test,parity]" && pytest\n'
    main(install.split("nphybrid ")[1].split())
    assert capsys.readouterr().out in blocks(readme, "")


def test_continuous_integration_runs_the_test_command(readme, root):
    script = (root / ".ci" / "run").read_text()
    assert re.sub(" --quiet", "", script.splitlines()[-1]) == blocks(readme, "sh")[1].strip()
