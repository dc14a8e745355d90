"""The cache folder of compiled kernels: which folder is taken, what happens if it cannot be written; lazy imports."""
import os
import sys
from pathlib import Path

import pytest

from nphybrid.ops import cache, jit, target

from tools.process import python_environment, run_python

pytestmark = pytest.mark.slow

# A kernel that compiles in less than half a second.
TINY = """
import numpy as np
from nphybrid.ops import cache, elementwise
assert elementwise.relu(np.float32(-1)) == 0
"""
no_jit = pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="nothing is compiled, so nothing is kept")


def python(code, **environment):
    """Run code in a fresh interpreter; a variable set to None is removed."""
    return run_python("-W", "always", "-c", code, env=python_environment(**environment))


def test_the_reference_needs_no_numba():
    code = "import sys, nphybrid.ops.reference, nphybrid.ops; assert 'numba' not in sys.modules"
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_numbas_setting_is_left_as_found():
    code = f"import numba\nbefore = numba.config.CACHE_DIR\n{TINY}\nassert numba.config.CACHE_DIR == before\n"
    for chosen in ("", None):
        done = python(code, NUMBA_CACHE_DIR=chosen)
        assert done.returncode == 0, done.stderr


@no_jit
def test_the_users_folder_is_used(tmp_path):
    done = python(TINY + "print(cache.CACHE)", NUMBA_CACHE_DIR=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent.parent == tmp_path
    assert list(tmp_path.rglob("*.nbi"))


@no_jit
def test_the_home_folder_is_used_otherwise(tmp_path):
    places = dict(NUMBA_CACHE_DIR=None, XDG_CACHE_HOME=tmp_path, LOCALAPPDATA=tmp_path)
    done = python(TINY + "print(cache.CACHE)", **places)
    assert done.returncode == 0, done.stderr
    if sys.platform != "darwin":
        assert Path(done.stdout.strip()).parent == tmp_path / "nphybrid"


@no_jit
def test_a_home_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be: not even root can write into it")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    places = dict(NUMBA_CACHE_DIR=None, XDG_CACHE_HOME=blocked, HOME=blocked, LOCALAPPDATA=blocked)
    done = python(TINY + "print(cache.CACHE)", **places, TMPDIR=temporary)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(temporary)) and "Warning" not in done.stderr
    if os.name == "posix":
        private = next(temporary.iterdir())
        assert private.stat().st_mode & 0o077 == 0
        private.chmod(0o777)                              # another user could have put code there
        done = python(TINY + "print(cache.CACHE)", **places, TMPDIR=temporary)
        assert done.returncode == 0 and done.stdout == "None\n", done.stderr
        assert done.stderr.count("cannot be kept") == 1


@no_jit
@pytest.mark.skipif(os.name != "posix", reason="no limit on the size of files")
def test_a_full_disk(tmp_path):
    """An empty file can be made, a kernel cannot be kept: this is noticed before the first operation."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    done = python(limit + TINY + "print(cache.CACHE)", NUMBA_CACHE_DIR=tmp_path, TMPDIR=tmp_path)
    assert done.returncode == 0 and done.stdout == "None\n", done.stderr
    assert done.stderr.count("cannot be kept") == 1 and not list(tmp_path.rglob("*.nb?"))


@no_jit
def test_a_relative_folder_stays_where_it_was(tmp_path):
    code = f"import os; os.chdir({str(tmp_path)!r})\nfrom nphybrid.ops import cache\nos.chdir('/')\n"
    done = python(code + TINY + "print(cache.CACHE)", NUMBA_CACHE_DIR="here")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent.parent == tmp_path / "here" and list(tmp_path.rglob("*.nbi"))


@no_jit
def test_the_folders_name_depends_on_what_numbas_key_leaves_out(monkeypatch):
    name = cache._name("avx2", ("x", "y", "z"))
    assert name == cache._name("avx2", ("x", "y", "z")) != cache._name("plain", ("x", "y", "z"))
    names = {name, cache._name("avx2", ("x", "y", "+more"))}
    for setting, value in (("OPT", 1), ("BOUNDSCHECK", 1), ("LOOP_VECTORIZE", 0), ("SLP_VECTORIZE", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(jit.config, setting, value)
            names.add(cache._name("avx2", ("x", "y", "z")))
    monkeypatch.setattr(sys.modules["llvmlite"], "__version__", "0.0")
    names.add(cache._name("avx2", ("x", "y", "z")))
    assert len(names) == 7


@no_jit
def test_cold_is_a_folder_without_kernels(tmp_path):
    code = "from nphybrid.ops import cache\nprint(cache.is_cold())\n" + TINY + "print(cache.is_cold())"
    for expected in ("True\nFalse\n", "False\nFalse\n"):
        done = python(code, NUMBA_CACHE_DIR=tmp_path)
        assert done.stdout == expected, done.stderr


def test_nothing_is_cold_where_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(cache, "CACHE", None)
    assert cache.is_cold() is False


NAMES = """
import collections
import importlib
import pkgutil
from nphybrid import ops
from nphybrid.machine import limits
modules = [importlib.import_module(f"nphybrid.ops.{found.name}") for found in pkgutil.iter_modules(ops.__path__)]
modules.append(limits)
jitted = {id(value): value for module in modules
          for value in vars(module).values() if hasattr(value, "py_func")}
names = collections.Counter((each.py_func.__module__, each.py_func.__qualname__) for each in jitted.values())
print(len(names) > 20, [name for name, times in names.items() if times > 1])
"""


@no_jit
@pytest.mark.parametrize("isa", target.available(target.TARGET))
def test_no_two_kernels_have_one_name(isa):
    """Two processes that compile two kernels of one name at once could mix up their machine code in the cache."""
    done = python(NAMES, NPHYBRID_ISA=isa)
    assert done.stdout == "True []\n", done.stderr


def test_linux_is_asked_for_amx(monkeypatch):
    asked, features = [], ("x86_64-unknown-linux-gnu", "some", "+avx512f,+avx512vl,+amx-tile,+amx-bf16")
    for allowed in True, False:
        monkeypatch.setattr(target, "_amx_allowed", lambda: asked.append(1) or allowed)
        assert target.available(features) == ["avx512", *(["amx"] if allowed else []), "plain"]
    assert len(asked) == 2 and target._choose(None, features) == "avx512" and len(asked) == 2
    refusal = r"NPHYBRID_ISA=amx: expected an instruction set of this machine \(avx512, plain\)"
    with pytest.raises(ValueError, match=refusal):
        target._choose("amx", features)


def test_instruction_sets_come_from_the_target():
    x86 = "x86_64-unknown-linux-gnu", "some"
    assert target.available((*x86, "+avx512f,+avx512vl,+avx2,+fma")) == ["avx512", "avx2", "plain"]
    assert target.available((*x86, "+avx2,+fma,-avx512f")) == ["avx2", "plain"]
    assert target.available((*x86, "")) == ["plain"]
    assert target.available(("aarch64-unknown-linux-gnu", "generic", "")) == ["neon", "plain"]
    assert target.available(("arm64-apple-darwin", "apple-m1", "")) == ["neon", "plain"]


@pytest.mark.parametrize("wanted", ["neon" if target.TARGET[0].startswith("x86") else "avx2", "nonsense"])
def test_forcing_a_lacking_instruction_set_is_an_error(wanted):
    done = python("import nphybrid.ops.kernels", NPHYBRID_ISA=wanted)
    assert done.returncode == 1
    refusal = f"ValueError: NPHYBRID_ISA={wanted}: expected an instruction set of this machine ("
    assert refusal in done.stderr and "plain" in done.stderr


def test_plain_without_jit():
    code = TINY + "from nphybrid.ops import target; print(target.ISA, cache.CACHE)"
    done = python(code, NUMBA_DISABLE_JIT=1, NPHYBRID_ISA=None)
    assert done.stdout == "plain None\n", done.stderr


@no_jit
def test_numbas_own_settings_choose_too():
    """The CPU that is named to Numba has no AVX-512, even if the machine has."""
    if "avx2" not in target.available(target.TARGET):
        pytest.skip("this machine has no AVX2")
    done = python("from nphybrid.ops import target; print(target.ISA)", NPHYBRID_ISA=None, NUMBA_CPU_NAME="haswell",
                  NUMBA_CPU_FEATURES="+avx,+avx2,+fma,+sse4.2,+popcnt")
    assert done.stdout == "avx2\n", done.stderr
