"""What Python processes that tests start do first.  tests/conftest.py puts this folder into PYTHONPATH.

They have no SciPy, as in an environment with nphybrid alone. Numba imports SciPy if it is installed, which takes a
fifth of the CPU time of `nphybrid classify`. With AVX512_BY_AVX2, they run kernels for AVX-512 without AVX-512.
"""
import os
import sys

sys.modules["scipy"] = None
if os.environ.get("AVX512_BY_AVX2"):
    from tools.avx512_by_avx2 import pretend
    pretend()
