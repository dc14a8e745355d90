"""Rounding to bfloat16 with vectors.  test_widths.py compares the numbers with float64."""
import re

import numpy as np
import pytest
from llvmlite import ir

from nphybrid.ops import jit, reference_narrow, rounding
from nphybrid.ops.reference_narrow import widened
from nphybrid.ops.rounding import emit_rounding

from tools.assembly import FLOATS, INT, LINUX, assembly

HALVES = ir.IntType(16).as_pointer()


def rounded(x):
    """The result of `round_into`, as float32."""
    out = np.full(len(x), 7, np.uint16)
    rounding.round_into(out, x)
    return widened(out)


@pytest.mark.parametrize("n", range(40))
def test_every_length(n):
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    assert np.array_equal(rounded(x), reference_narrow.rounded(x))


def test_every_edge_fills_a_vector():
    largest = 3.4028235e38
    edges = np.float32([0, -0.0, 1e-40, -1e-40, 2 ** -126, largest, -largest, 3.3895e38, np.inf, -np.inf, np.nan])
    for edge in edges:
        x = np.full(32, edge)
        found = rounded(x)
        assert np.array_equal(found, reference_narrow.rounded(x), equal_nan=True), edge
        assert np.isnan(edge) or np.array_equal(np.signbit(found), np.signbit(x)), edge


def test_other_arrays():
    """Numbers that are not neighbours, and float32 results."""
    x = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    assert np.array_equal(rounded(x[::2]), reference_narrow.rounded(x[::2]))
    out = np.zeros(200, np.uint16)
    rounding.round_into(out[::2], x)
    assert np.array_equal(widened(out[::2]), reference_narrow.rounded(x)) and not out[1::2].any()
    floats = np.zeros(100, np.float32)
    rounding.round_into(floats, x)
    assert np.array_equal(floats, reference_narrow.rounded(x))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_exponentials(dtype):
    """All bits of 20,000 numbers from 2**-126 to 1, and the edges. A NaN stays a NaN."""
    bits = np.random.default_rng(0).integers(0x00800000, 0x3F800001, 20_001, np.uint32)
    x = np.concatenate([np.float32([0, 1, 2 ** -126, np.nan]), bits.view(np.float32)])   # the edges are in a vector
    out = np.zeros(len(x), dtype)
    rounding.round_exponentials_into(out, x)
    found = widened(out) if dtype == np.uint16 else out
    assert np.array_equal(found, reference_narrow.rounded(x), equal_nan=True)


@pytest.mark.parametrize("exponentials", [False, True])
@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="LLVM is not used")
@pytest.mark.parametrize("cpu", ["znver4", "cooperlake"])
def test_assembly(cpu, exponentials):
    text = assembly(LINUX, cpu, [FLOATS, FLOATS, INT],
                    lambda build, out, x, n: emit_rounding(build, build.bitcast(out, HALVES), x, n, 16, exponentials))
    assert len(re.findall(r"vcvtneps2bf16\s.*%ymm", text)) == 1
    assert ("vpminud" in text) != exponentials  # only other numbers are replaced
