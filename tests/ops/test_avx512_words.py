"""The register tile with two bfloat16 or four int8 in a word, on a processor without AVX-512, BF16 or VNNI."""
import re
from pathlib import Path

import pytest

from nphybrid.ops import jit, target

from tools.process import python_environment, run_python

WORDS = {"bfloat16": "vdpbf16ps", "int8": "vpdpbusd"}


@pytest.mark.slow
@pytest.mark.skipif(target.INSTRUCTIONS == WORDS, reason="the tests of this process use these instructions")
@pytest.mark.skipif(bool(jit.config.DISABLE_JIT) or "avx2" not in target.available(target.TARGET), reason="needs AVX2")
def test_words_without_their_instructions():
    """The tests of the widths and of the loops around the tile, in a process of tools/avx512_by_avx2.py."""
    here = Path(__file__).parent
    environment = python_environment(NPHYBRID_ISA="avx512", AVX512_BY_AVX2=1)
    done = run_python("-c", "from nphybrid.ops import target; print(target.ISA, target.INSTRUCTIONS == "
                      f"{WORDS})", env=environment)
    assert done.stdout == "avx512 True\n", done.stderr
    files = (here / f"test_{name}.py" for name in ("widths", "rounding", "matmul"))
    done = run_python("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *files, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 300 and "skipped" not in done.stdout, done.stdout[-3000:]
