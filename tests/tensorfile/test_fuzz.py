"""5,000 mutants of each format find nothing; and each fuzzer finds the bug that was planted for it."""
import json
import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    sys.platform != "linux", reason="needs fork, and Linux's limits and counts of memory")]

# A process that has imported the fuzzer and computes nothing itself. It forks a child for each line of JSON: arguments,
# a line of code that plants a bug, and the file that gets the child's output. The answer is the child's exit code.
PARENT = """
import json, os, signal, sys, traceback
from tools import fuzz
from nphybrid.api import config_base, configs
from nphybrid.tensorfile import hdf5, safetensors
for line in sys.stdin:
    arguments, planted, output = json.loads(line)
    pid = os.fork()
    if not pid:
        signal.alarm(600)
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        code = 1
        try:
            exec(planted)
            code = fuzz.main(arguments)
        except Exception:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def parent():
    pytest.importorskip("safetensors")
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def fuzz(parent, tmp_path_factory):
    """A function that runs tests/tools/fuzz.py after a line of code that plants a bug.  -> exit code, output"""
    output = tmp_path_factory.mktemp("fuzz") / "output"

    def run(*arguments, planted=""):
        parent.stdin.write(json.dumps([list(map(str, arguments)), planted, str(output)]) + "\n")
        parent.stdin.flush()
        return int(parent.stdout.readline()), output.read_text()
    return run


@pytest.mark.parametrize("format, least", [("safetensors", 600), ("h5", 1000), ("config", 1000), ("npz", 600)])
def test_nothing_is_found(format, least, fuzz):
    code, out = fuzz("--format", format, "--count", 5000)
    assert code == 0 and "0 findings" in out, out[-3000:]
    refused, accepted = (int(out.split(f" {word}")[0].split()[-1]) for word in ("refused", "accepted"))
    assert refused + accepted == 5000 and refused > 2000 and accepted > least
    print(out, end="")


IN_ORDER = "lambda entries, *_: dict(sorted(entries.items(), key=lambda item: item[1].begin))"
PLANTED = {  # what is taken away -> (format, mutants, the line that does it, what is found)
    "offsets without gaps": ("safetensors", 500, f"safetensors._in_file_order = {IN_ORDER}", "accepted only here"),
    "span against shape": ("safetensors", 1000, "safetensors.byte_count = lambda *_: Any()", "accepted only here"),
    "type of an offset": ("safetensors", 1000, "safetensors._counts = lambda value: True", "TypeError"),
    "BF16 is an upper half": ("safetensors", 500, "safetensors._native = lambda entry: None; "
                              "safetensors._TYPES['BF16'] = safetensors._TYPES['F16']", "AssertionError"),
    "checksums": ("h5", 800, "hdf5.refuse_wrong_digest = lambda *_: None", "AssertionError"),
    "the library's errors": ("h5", 100, "hdf5._BROKEN = ()", "Error"),
    "the documents' JSON": ("h5", 200, "hdf5.parse_json = lambda data, *_: fuzz.json.loads(data)", "Error"),
    "counts": ("config", 500, "configs.check_positive = lambda *_: None", "Error"),
    "how many names": ("config", 1500, "config_base.MOST_UNNAMED = 2**63", ""),
    "short messages": ("config", 500, "configs.shortened = config_base.shortened = repr", "characters"),
    "CRC-32": ("npz", 1000, "import zlib; from types import SimpleNamespace; from nphybrid.tensorfile import npz; "
               "npz.zlib = SimpleNamespace(**{**vars(zlib), 'crc32': lambda *_: Any()})", "AssertionError"),
    "safe messages": ("config", 1000, "configs.shortened = config_base.shortened = str", "upsets a terminal"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug, tmp_path, fuzz):
    format, count, line, found = PLANTED[bug]
    planted = "class Any(int):\n    __eq__ = __ne__ = lambda *_: False\n" + line
    code, out = fuzz("--format", format, "--count", count, "--until-found", found, "--keep", tmp_path, planted=planted)
    findings = re.findall(r"^FINDING (.*?)\n    again:", out, re.DOTALL | re.MULTILINE)
    assert code == 1 and any(found in finding for finding in findings), out
    assert len(list(tmp_path.iterdir())) == len(findings)


@pytest.mark.parametrize("line, found", [
    ("fuzz.os.kill(fuzz.os.getpid(), 11)", "killed by SIGSEGV"), ("while True: pass", "computes for more than 2 s"),
    ("bytearray(100 << 20)", r"takes (9\d|100) MB"),        # Linux counts resident pages with a delay: 99 was observed
    ("bytearray(1 << 40)", "MemoryError")])
def test_death_hang_and_memory_are_told(line, found, fuzz):
    """One mutant costs itself: those before and behind it are judged."""
    planted = f"""
def planted(path, data):
    if fuzz.zlib.crc32(data) % 50 == 0:
        {line}
    return "accepted"
fuzz.FORMATS["config"] = fuzz.FORMATS["config"]._replace(verdict=planted)"""
    _, out = fuzz("--format", "config", "--count", 150, planted="import zlib; fuzz.zlib = zlib" + planted)
    findings = out.count("FINDING")
    assert 1 <= findings < 15 and len(re.findall(found, out)) == findings, out
    assert f"0 refused, {150 - findings} accepted, {findings} findings" in out


def test_a_fault_of_the_fuzzer_itself_is_told(fuzz):
    code, out = fuzz("--format", "config", "--count", 10, planted="fuzz.judged = None")
    assert code == 1 and "the fuzzer itself failed" in out and "TypeError" in out


def test_a_run_goes_on_where_it_stopped_and_comes_out_the_same(tmp_path, fuzz):
    _, whole = fuzz("--format", "safetensors", "--count", 700, "--seed", 3)
    for count in 250, 700:
        _, parts = fuzz("--format", "safetensors", "--count", count, "--seed", 3, "--resume", tmp_path / "state")
        assert json.loads((tmp_path / "state").read_text())["next"] == count
    assert parts.split("findings")[0] == whole.split("findings")[0]
    code, out = fuzz("--format", "safetensors", "--count", 900, "--seed", 4, "--resume", tmp_path / "state")
    assert code == 1 and "seed 3, not safetensors and 4" in out


def test_the_checksum_of_hdf5():
    """Jenkins' own example; and every structure of the library in a file is found by it."""
    pytest.importorskip("safetensors")
    from tools import fuzz as module
    assert module.lookup3(b"Four score and seven years ago") == 0x17770551
    for data, places in module.h5_seeds():
        kinds = [data[block.start:block.start + 4] for block in places]
        assert kinds.count(b"\x89HDF") == 1 and kinds.count(b"OHDR") == data.count(b"OHDR") > 6
    assert {b"FRHP", b"FHDB", b"BTHD", b"BTLF"} <= set(kinds)
