"""The one table of tolerances, and what several test files share."""
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
