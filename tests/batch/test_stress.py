"""tests/tools/stress.py: commands that overlap and are killed lose nothing; and it finds each fault of its table."""
import sys

import pytest

from tools.overlap import copy_package
from tools.process import run_python
from tools.stress import FAULTS, NO_LOCKS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stress.py needs Linux")


def stress(root, *arguments):
    """-> exit code, output"""
    done = run_python(root / "tests" / "tools" / "stress.py", *arguments, timeout=1200)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_can_be_put_into_the_source(fault, tmp_path):
    copy_package(tmp_path / "nphybrid", FAULTS[fault].changes)
    for file, _, new in FAULTS[fault].changes:
        source = (tmp_path / "nphybrid" / file).read_text("utf-8")
        compile(source, file, "exec")
        assert new in source


def test_a_text_that_is_not_there_once_ends_the_program(tmp_path):
    copy_package(tmp_path / "no locks", [NO_LOCKS])
    with pytest.raises(SystemExit, match="owner.py contains the text of the fault 0 times"):
        copy_package(tmp_path / "a", [("tensorfile/owner.py", "no such text", "")])
    with pytest.raises(SystemExit, match="times; expected once: import "):
        copy_package(tmp_path / "b", [("tensorfile/owner.py", "import ", "")])


@pytest.mark.exhaustive
@pytest.mark.parametrize("arguments", [("300",), ("60", "--no-locks"), ("1", "--only", "first-runs")])
def test_nothing_is_found(arguments, root):
    code, output = stress(root, *arguments)
    print(output)
    assert code == 0 and " 0 findings" in output, output


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault, root):
    code, output = stress(root, "120", "--plant", fault)
    assert code == 1 and "the fault was found after" in output, output
