"""What all tests share: workers, tiers, fixtures, and the tolerances of the parity with PyTorch.

A tolerance that one file alone needs stands beside its assertion, with the largest value observed.
"""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Before NumPy and PyTorch are imported: with a worker per core, threads of BLAS and OpenMP only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

# Many bounds are multiples of NumPy's own error in float32. With OpenBLAS's kernels for AVX-512, the sums have another
# order, and some of these errors are half as large. The bounds are for the kernels for AVX2.
with contextlib.suppress(OSError):
    if " avx2 " in Path("/proc/cpuinfo").read_text("utf-8", "replace"):
        os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")

# Where SIGINT is ignored, for example under nohup, the processes that tests start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

collect_ignore = ["children"]             # for processes that tests start; it would change this one

ROOT = Path(__file__).resolve().parent.parent
PYTHONPATH = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]      # of processes
sys.path.insert(0, str(ROOT / "examples"))

# What is compared                                    bound         largest observed
TOLERANCE = {
    # max|a - b| / max|b|, reference engine against PyTorch, both float64, every state of 83 networks
    "same network, float64":                            1e-9,       # 3.5e-14
    # error(nphybrid float32) / max(error(PyTorch float32), 2e-7), every state of the same networks, 8 inputs each
    "float32 state, ratio":                             3.0,        # 2.4
    # error(nphybrid float32) / error(PyTorch float32), logits of R50+ViT-B/16 at 384, median of 5 seeds x 2 pictures
    "float32 base logits, ratio":                       1.5,        # 0.94
    # error(nphybrid bfloat16) / error(PyTorch bfloat16), the same
    "bfloat16 base logits, ratio":                      1.0,        # 0.44
}


def pytest_collection_modifyitems(config, items):
    """Leave out the exhaustive tests, and choose the order of the files.

    Files with slow tests come first, so that no worker is left with one at the end. The first of them need no
    kernels, because the first worker compiles the kernels meanwhile.
    """
    if "exhaustive" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, item.path.parent.name != "tensorfile"))


@pytest.fixture(scope="session", autouse=True)
def python_path():
    """Python processes that tests start find the checkout and the tests; see also children/sitecustomize.py."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "children"), *PYTHONPATH])


@pytest.fixture
def children_with_scipy(monkeypatch):
    """For processes that import transformers, which needs SciPy where scikit-learn is installed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(PYTHONPATH))


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels():
    """The first worker compiles every kernel before its first test, which takes 20 s where none is kept.

    The others do not wait: a process that needs a kernel meanwhile compiles it too.
    """
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        from nphybrid.machine import warmup
        if not warmup.is_warm():
            warmup.compile_kernels()


@pytest.fixture(scope="session")
def tolerance():
    """Bounds by what is compared."""
    return TOLERANCE


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def cat(root):
    """The path of a photograph of a cat."""
    return root / "examples" / "images" / "cat.png"


@pytest.fixture(scope="module")
def model():
    """The bundled model on the reference engine."""
    from nphybrid import default_model
    from nphybrid.api.load import load
    return load(default_model(), engine="reference")


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    driver = pytest.importorskip("tools.browser").started()
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def amx_environment(tmp_path_factory):
    """Environment variables for a Python process with AMX: this machine's own, or emulated by amx_traps.c."""
    from nphybrid.ops import jit, target

    from tools.process import python_environment
    sets, (_, cpu, features) = target.available(target.TARGET), target.TARGET
    variables = python_environment(NPHYBRID_ISA="amx")
    if "amx" in sets and not jit.config.DISABLE_JIT:
        return variables
    compiler = shutil.which("cc")
    if jit.config.DISABLE_JIT or "avx2" not in sets or sys.platform != "linux" or not compiler:
        pytest.skip("needs AMX, or Linux with AVX2 and a C compiler")
    library = tmp_path_factory.mktemp("amx") / "amx_traps.so"
    subprocess.run([compiler, "-O3", "-march=native", "-shared", "-fPIC", "-o", library,
                    Path(__file__).with_name("ops") / "amx_traps.c", "-ldl", "-lm"], check=True)
    amx = {feature for feature in target.FEATURES_OF_AMX if feature.startswith("+amx")}
    if not target.FEATURES_OF_AMX - amx <= set(features.split(",")):
        variables["AVX512_BY_AVX2"] = "1"                     # read by children/sitecustomize.py
    features = ",".join([feature for feature in features.split(",") if "amx-" not in feature] + sorted(amx))
    return {**variables, "LD_PRELOAD": str(library), "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
