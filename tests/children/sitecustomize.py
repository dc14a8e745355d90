"""Python processes that tests start have no SciPy, as in an environment with nphybrid alone.

Numba imports SciPy if it is installed, which takes a fifth of the CPU time of `nphybrid classify`. Python imports this
module at its start; tests/conftest.py puts this folder into PYTHONPATH.
"""
import sys

sys.modules["scipy"] = None
