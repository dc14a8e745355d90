"""The doctor: what it finds on a healthy machine, and that each ailment is named, with a remedy and exit code 1."""
import json
import os
import platform
import re
import shutil
import subprocess
import sys

import h5py
import llvmlite.binding
import numba
import numpy as np
import PIL
import pytest

import nphybrid
from nphybrid import default_model
from nphybrid.__main__ import main
from nphybrid.machine import computer, doctor
from nphybrid.ops import PAIRS, cache, jit, target, threads

from tools.process import python_environment, run_python

pytestmark = pytest.mark.slow

no_jit = pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="nothing is compiled, so nothing is kept")


def examined(root, *args, code=None, **environment):
    """(exit code, findings) of `nphybrid doctor --format json` in a fresh interpreter.  None removes a variable."""
    env = python_environment(**environment)
    command = [*(["-c", code] if code else ["-m", "nphybrid"]), "doctor", "--format", "json"]
    done = run_python(*command, env=env, cwd=root)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@no_jit
def test_a_healthy_machine(root, tmp_path):
    code, found = examined(root, NUMBA_CACHE_DIR=tmp_path, NPHYBRID_ISA=None)
    assert (code, found["problems"]) == (0, [])
    assert found["versions"] == {"nphybrid": nphybrid.__version__, "Python": sys.version.split()[0],
                                 "NumPy": np.__version__, "Numba": numba.__version__,
                                 "llvmlite": sys.modules["llvmlite"].__version__, "Pillow": PIL.__version__,
                                 "h5py": h5py.__version__}
    kernels, best = found["kernels"], target.available(target.TARGET)[0]
    assert kernels["available"] == target.available(target.TARGET) and kernels["isa"] == best
    assert kernels["tile"] == [target.TILES[best][0], target.TILES[best][1] * target.TILES[best][2]]
    assert kernels["compiles_for"] == target.TARGET[1] and kernels["rule"] == target.RULE
    assert kernels["NPHYBRID_ISA"] is None
    kept = found["cache"]
    assert kept["folder"].startswith(str(tmp_path)) and os.listdir(tmp_path) == []        # nothing was written
    assert (kept["warm"], kept["kernels"], kept["bytes"], kept["stale"]) == (False, 0, 0, {})
    assert found["threads"]["number"] == threads.number() and found["threads"]["cores"] == os.cpu_count()
    assert found["model"] == str(default_model()) and found["engines"] == [list(pair) for pair in PAIRS]


def test_as_text(capsys):
    healthy = not doctor.examine()["problems"]
    assert main(["doctor"]) == (0 if healthy else 1)
    out = capsys.readouterr().out
    assert out.split()[:2] == ["nphybrid", nphybrid.__version__]
    for told in (target.RULE, target.TARGET[1], str(default_model()), "reference float64, reference bfloat16"):
        assert told in out
    assert ("no problem was found" in out) == healthy == ("PROBLEM" not in out)


@pytest.mark.parametrize("wanted", ["nonsense", "neon" if target.TARGET[0].startswith("x86") else "avx2"])
def test_a_wrong_instruction_set(root, wanted):
    code, found = examined(root, NPHYBRID_ISA=wanted)
    (problem,) = [each for each in found["problems"] if "NPHYBRID_ISA" in each["problem"]]
    expected = f"NPHYBRID_ISA={wanted}: expected an instruction set of this machine ("
    assert code == 1 and problem["problem"].startswith(expected)
    assert problem["remedy"] == "unset NPHYBRID_ISA, or set it to an instruction set of this machine"
    assert found["kernels"]["isa"] is found["kernels"]["tile"] is None and found["kernels"]["NPHYBRID_ISA"] == wanted
    assert "plain" in found["kernels"]["available"] and found["engines"] and found["model"]
    text = doctor.format_text(found)
    assert "PROBLEM  NPHYBRID_ISA" in text and "no problem was found" not in text


@pytest.mark.parametrize("number", ["0", "abc", "-1"])
def test_a_wrong_number_of_numba_threads(root, number):
    code, found = examined(root, NUMBA_NUM_THREADS=number)
    told = f"NUMBA_NUM_THREADS={number}: expected a whole number of at least 1"
    assert code == 1 and [each["problem"] for each in found["problems"]] == [told]
    assert "unset NUMBA_NUM_THREADS" in found["problems"][0]["remedy"] and found["kernels"]["isa"] and found["threads"]
    env = python_environment(NUMBA_NUM_THREADS=number)
    done = run_python("-m", "nphybrid", "classify", "examples/images/cat.png", env=env, cwd=root)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"nphybrid: {told}\n")


@no_jit
def test_kernels_that_cannot_be_kept(tmp_path, monkeypatch):
    """A file where a folder should be stops even root."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(cache, "CHOSEN", blocked)
    monkeypatch.setattr(cache, "PRIVATE_TOO", False)
    found = doctor.examine()
    assert (found["cache"]["folder"], found["cache"]["kernels"], found["cache"]["warm"]) == (None, 0, False)
    assert found["problems"] == [{
        "problem": f"compiled kernels cannot be kept ({blocked} is not a folder that can be written): every process "
                   "compiles the kernels again",
        "remedy": "set NUMBA_CACHE_DIR to a folder that can be written and has 16 MB of free space"}]
    assert re.search("^cache +none$", doctor.format_text(found), re.MULTILINE)


@no_jit
def test_a_named_folder_that_is_not_used(tmp_path, monkeypatch):
    """Also if the private temporary folder has kernels."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(cache.config, "CACHE_DIR", str(blocked))
    monkeypatch.setattr(cache, "CHOSEN", blocked)
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    private = list(cache.folders(create=True))[1]
    assert doctor.examine()["problems"] == [{
        "problem": f"NUMBA_CACHE_DIR is not used ({blocked} is not a folder that can be written): compiled kernels are "
                   f"kept in {private}",
        "remedy": "set NUMBA_CACHE_DIR to a folder that can be written and has 16 MB of free space"}]
    private.parent.chmod(0o755)
    (found,) = doctor.examine()["problems"]
    told = f"({blocked} is not a folder that can be written; {private.parent}: expected a folder that only the user"
    assert told in found["problem"]


@no_jit
@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_cache_folder_that_everybody_can_write(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CHOSEN", tmp_path / "cache")
    monkeypatch.setattr(cache, "PRIVATE_TOO", False)
    (tmp_path / "cache").mkdir()
    assert doctor.examine()["problems"] == []
    (tmp_path / "cache").chmod(0o777)
    assert doctor.examine()["problems"] == [{
        "problem": f"every user of this computer can write {tmp_path / 'cache'}, and so can run code with your rights",
        "remedy": f"chmod o-w {tmp_path / 'cache'}"}]


def test_plain_python(root):
    code, found = examined(root, NUMBA_DISABLE_JIT=1, NPHYBRID_ISA=None)
    assert code == 1 and [each["remedy"] for each in found["problems"]] == ["unset NUMBA_DISABLE_JIT"]
    assert found["kernels"]["isa"] == "plain"


def test_a_missing_model(root, tmp_path):
    shutil.copytree(root / "nphybrid", tmp_path / "nphybrid", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    code, found = examined(tmp_path)
    assert code == 1 and found["model"] is None
    assert any(str(tmp_path / "weights") in each["problem"] for each in found["problems"])


@no_jit
def test_what_lies_beside_the_cache(root, tmp_path):
    stale = tmp_path / "nphybrid" / "avx2-0123456789abcdef" / "ops_x"
    stale.mkdir(parents=True)
    (stale / "a.nbc").write_bytes(bytes(1000))
    for name in "avx2-0123", "mine", "avx2-0123456789abcdef.old":
        (tmp_path / "nphybrid" / name).mkdir()
    code, found = examined(root, NUMBA_CACHE_DIR=tmp_path)
    assert code == 0 and found["cache"]["stale"] == {str(stale.parent): 1000}
    assert "1, 0.0 MB; `nphybrid warmup --prune` deletes these folders" in doctor.format_text(found)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity")
def test_threads_follow_the_affinity(root):
    one = min(os.sched_getaffinity(0))
    code = f"import os, sys; os.sched_setaffinity(0, {{{one}}})\nfrom nphybrid.__main__ import main; sys.exit(main())"
    found = examined(root, code=code)[1]["threads"]
    assert (found["number"], found["allowed"], found["cores"]) == (1, 1, os.cpu_count())


# -- single looks ----------------------------------------------------------------------------------

@pytest.mark.parametrize("found, problem", [
    ({"h5py": "3.15.1"}, "h5py 3.15.1 is older than 3.16, the oldest supported version"),
    ({"Pillow": None}, "Pillow is not installed"),
    ({"NumPy": "10.0", "h5py": "3.100.0rc1"}, None)])
def test_old_and_missing_packages(found, problem, monkeypatch):
    versions = {**computer.versions(), **found}
    monkeypatch.setattr(computer, "versions", lambda: versions)
    assert [each["problem"] for each in problems(doctor._versions)] == ([problem] if problem else [])


def problems(look):
    told = []
    look(told)
    return told


def test_the_oldest_packages_are_those_of_setup_cfg(root):
    wanted = dict(re.findall(r"^    (\w+)>=([\d.]+)$", (root / "setup.cfg").read_text(), re.MULTILINE))
    assert doctor.OLDEST == {name: wanted[name.lower()] for name in doctor.OLDEST}


def test_a_look_that_fails_is_a_finding(monkeypatch, capsys):
    def fail(problems):
        raise RuntimeError("lost")
    for name in doctor.CHECKS:
        monkeypatch.setitem(doctor.CHECKS, name, fail)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert out.count("PROBLEM") == len(doctor.CHECKS) and "PROBLEM  threads: RuntimeError: lost" in out


@pytest.mark.parametrize("files, cores", [
    ({"cpu.max": "150000 100000"}, 1.5), ({"cpu.max": "max 100000"}, None), ({}, None), ({"cpu.max": "?"}, None),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4)])
def test_quota(files, cores, tmp_path):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert computer.quota(tmp_path) == cores


def test_cpu_name(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 1: 2\nflags\t: avx\n")
    assert computer.cpu_name(tmp_path / "cpuinfo") == "Some CPU @ 1: 2"
    assert computer.cpu_name(tmp_path / "nothing") and computer.cpu_name()


# /proc/cpuinfo of an Arm processor under Linux: one core, and what a board adds.
ARM = """processor\t: 0
BogoMIPS\t: {bogomips}
Features\t: fp asimd evtstrm {features}
CPU implementer\t: {implementer}
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""
RASPBERRY_PI_4 = ARM.format(bogomips="108.00", features="crc32 cpuid", implementer="0x41", variant="0x0", part="0xd08",
                            revision=3) + "Revision\t: c03111\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n"
GRAVITON_3 = ARM.format(bogomips="2100.00", features="aes sha2 crc32 atomics asimddp sve bf16", implementer="0x41",
                        variant="0x1", part="0xd40", revision=1)
AMPERE_ONE = ARM.format(bogomips="2000.00", features="aes sha2 crc32 atomics asimddp bf16", implementer="0xc0",
                        variant="0x0", part="0xac3", revision=0)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS gives the name")
@pytest.mark.parametrize("cpuinfo, llvm, name", [
    (RASPBERRY_PI_4, "cortex-a72", "cortex-a72"), (GRAVITON_3, "neoverse-v1", "neoverse-v1"),
    (AMPERE_ONE, "ampere1", "ampere1"), (AMPERE_ONE, "generic", platform.processor() or platform.machine())])
def test_the_name_of_an_arm_cpu_is_that_of_llvm(cpuinfo, llvm, name, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_name", lambda: llvm)
    assert computer.cpu_name(tmp_path / "cpuinfo") == name


def test_the_name_of_a_cpu_on_macos(tmp_path, monkeypatch):
    def run(command, **options):
        assert command == ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.CompletedProcess(command, 0, stdout="Apple M1\n")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", run)
    assert computer.cpu_name(tmp_path / "nothing") == "Apple M1"


def test_amx_multiplies_layers_with_an_instruction_of_its_own():
    """Attention uses the register tile also on AMX."""
    assert doctor._product_line("amx", "bfloat16", "vdpbf16ps") == (
        "bfloat16 products", "tdpbf16ps in layers; in attention: vdpbf16ps")
    assert doctor._product_line("amx", "int8", "vpdpbusd") == ("int8 products", "tdpbusd")
