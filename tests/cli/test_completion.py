"""`nphybrid completion`: bash itself completes with the script; the scripts of all shells name every option."""
import os
import re
import shutil
import subprocess

import pytest

from nphybrid import cli
from nphybrid.__main__ import main
from nphybrid.cli.parsers import VerbParser

PATH = {"PATH": os.environ["PATH"]}


def script(shell, capsys):
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def completed(line, capsys):
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"{script('bash', capsys)}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _nphybrid\n"
    done = subprocess.run(["bash", "-c", f'{code}printf "%s\\n" "${{COMPREPLY[@]}}"'], capture_output=True, text=True,
                          check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("line, expected", [
    ("nphybrid cl", ["classify"]), ("nphybrid classify --top", ["--top-k"]), ("nphybrid classify -", None),
    ("nphybrid classify x.png --engine ", ["numba", "reference"]), ("nphybrid embed --pool t", ["token"]),
    ("nphybrid figures ro", ["rollout"]), ("nphybrid figures rollout ", []), ("nphybrid classify x", []),
    ("nphybrid classify --labels", []), ("nphybrid completion f", ["fish"])])
def test_bash_completes(line, expected, capsys):
    found = completed(line, capsys)
    if expected is None:
        expected = [name for argument in VerbParser("classify", prog="x").arguments() for name in argument.names]
        assert {"-o", "--output", "--debug", "--wide"} <= set(expected)
    assert found == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_option_is_in_the_script(shell, capsys):
    text = script(shell, capsys)
    for verb in cli.VERBS:
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        names = set(re.findall(r"^  (?:-\w(?: \S+)?, )?--([\w-]+)", capsys.readouterr().out, re.MULTILINE))
        if shell == "fish":
            found = {name for line in text.splitlines() if f"_from {verb}'" in line
                     for name in re.findall(r" -l ([\w-]+)", line.split(" -d ")[0])}
        else:
            (line,) = re.findall(rf'"{verb} -"\*\) words="(.*)"', text)
            found = set(re.findall(r"--([\w-]+)", line))
        assert found == names | {"help"}, verb


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_the_script(shell, tmp_path, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script(shell, capsys))
    done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("line, expected", [
    ("nphybrid cl", ["classify"]), ("nphybrid classify --top", ["--top-k"]), ("nphybrid figures ro", ["rollout"]),
    ("nphybrid classify x.png --engine ", ["numba", "reference"]), ("nphybrid completion f", ["fish"])])
def test_fish_completes(line, expected, tmp_path, capsys):
    (tmp_path / "script").write_text(script("fish", capsys))
    done = subprocess.run(["fish", "--no-config", "-c", f"source {tmp_path}/script; complete -C '{line}'"],
                          capture_output=True, text=True, check=True, cwd=tmp_path, env={"HOME": str(tmp_path), **PATH})
    assert [found.split("\t")[0] for found in done.stdout.splitlines()] == expected and done.stderr == ""


# A terminal of zsh in which a function shows the arguments that nphybrid would get.
ZPTY = """
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'autoload -U compinit; compinit -u -D; source SCRIPT; bindkey "^I" complete-word'
zpty -w z 'nphybrid() { print -r -- "GOT" "$@" "END"; print -r -- "DO""NE"; }'
zpty -w -n z $'nphybrid classif\\t x.png --engin\\t ref\\t --top\\t3\\n'
zpty -r z text '*DONE*'
print -r -- "$text"
zpty -d z
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes(tmp_path, capsys):
    """The Tab key is pressed four times in one command line."""
    (tmp_path / "script").write_text(script("zsh", capsys))
    (tmp_path / "try").write_text(ZPTY.replace("SCRIPT", str(tmp_path / "script")))
    done = subprocess.run(["zsh", "-f", str(tmp_path / "try")], capture_output=True, text=True, cwd=tmp_path,
                          timeout=120, env={"HOME": str(tmp_path), "TERM": "dumb", **PATH})
    assert "GOT classify x.png --engine reference --top-k 3 END" in done.stdout, done.stderr
