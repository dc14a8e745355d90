"""The one table of tolerances, and what several test files share."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

# What is compared                                    bound         largest observed
TOLERANCE = {
    # max|a - b| / max|b|, reference engine against PyTorch, both float64, every state of 83 networks
    "same network, float64":                            1e-9,       # 3.1e-14
    # error(nphybrid float32) / max(error(PyTorch float32), 2e-7), every state of the same networks
    "float32 state, ratio":                             3.0,        # 2.5
    # error(nphybrid float32) / error(PyTorch float32), logits of R50+ViT-B/16 at 384, median of 10
    "float32 base logits, ratio":                       1.5,        # 0.94
    # error(nphybrid bfloat16) / error(PyTorch bfloat16), the same
    "bfloat16 base logits, ratio":                      1.0,        # 0.36
}


@pytest.fixture(scope="session")
def tolerance():
    """Bounds by what is compared."""
    return TOLERANCE


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def amx_environment(tmp_path_factory):
    """Environment variables for a Python process with AMX: this machine's own, or amx_traps.c for one with AVX-512."""
    from nphybrid.ops import jit, target
    sets, (_, cpu, features) = target.available(target.TARGET), target.TARGET
    environment = {**os.environ, "NPHYBRID_ISA": "amx", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if "amx" in sets and not jit.config.DISABLE_JIT:
        return environment
    compiler = shutil.which("cc")
    if jit.config.DISABLE_JIT or "avx512" not in sets or sys.platform != "linux" or not compiler:
        pytest.skip("needs AMX, or Linux with AVX-512 and a C compiler")
    library = tmp_path_factory.mktemp("amx") / "amx_traps.so"
    subprocess.run([compiler, "-O3", "-mavx512f", "-shared", "-fPIC", "-o", library,
                    Path(__file__).with_name("ops") / "amx_traps.c", "-ldl"], check=True)
    features = re.sub(r",?[+-]amx-(tile|bf16)\b", "", features) + ",+amx-tile,+amx-bf16"
    return {**environment, "LD_PRELOAD": str(library), "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
