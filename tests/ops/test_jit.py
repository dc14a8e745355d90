"""The decorator of the kernels: names, instruction sets, Numba's settings; lazy imports."""
import pytest

from nphybrid.ops import jit, target

from tools.process import python_environment, run_python

pytestmark = pytest.mark.slow

no_jit = pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="nothing is compiled, so nothing is kept")


def python(code, **environment):
    """Run code in a fresh interpreter; a variable set to None is removed."""
    return run_python("-W", "always", "-c", code, env=python_environment(**environment))


def test_the_reference_needs_no_numba():
    code = "import sys, nphybrid.ops.reference, nphybrid.ops; assert 'numba' not in sys.modules"
    done = python(code)
    assert done.returncode == 0, done.stderr


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
    monkeypatch.setattr(target.config, "DISABLE_JIT", 0)
    asked = []
    features = "x86_64-unknown-linux-gnu", "some", ",".join(["+avx512f,+avx512vl", *target.FEATURES_OF_AMX])
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
    code = "from nphybrid.ops import elementwise, jit, target; print(target.ISA, elementwise.relu(-1), jit.USED)"
    done = python(code, NUMBA_DISABLE_JIT=1, NPHYBRID_ISA=None)
    assert done.stdout == "plain 0.0 []\n", done.stderr


@no_jit
def test_numbas_own_settings_choose_too():
    """The CPU that is named to Numba has no AVX-512, even if the machine has."""
    if "avx2" not in target.available(target.TARGET):
        pytest.skip("this machine has no AVX2")
    done = python("from nphybrid.ops import target; print(target.ISA)", NPHYBRID_ISA=None, NUMBA_CPU_NAME="haswell",
                  NUMBA_CPU_FEATURES="+avx,+avx2,+fma,+sse4.2,+popcnt")
    assert done.stdout == "avx2\n", done.stderr
