"""The register tile against a.T @ b, for every instruction set of this machine; the others must compile."""
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from nphybrid.ops import jit, tile

SETS = jit.available(jit.TARGET)


@jit.jit
def tile_of(a, b, c, ldc, k_len, d, ldd, adds, e, lde, adds_e):
    tile.tile(a, 0, b, 0, c, 0, ldc, k_len, d, 0, ldd, adds, e, 0, lde, adds_e)


@jit.jit
def pack_of(x, rows, length, zeros, out, width):
    tile.pack(x, rows, length, zeros, out, 0, width)


def draw(rng, *shape):
    return rng.standard_normal(shape, np.float32)


@pytest.mark.parametrize("k_len", [0, 1, 2, 3, 4, 5, 7, 8, 31, 64, 257])
@pytest.mark.parametrize("adds, adds_e", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_tile(k_len, adds, adds_e):
    rng, ldc = np.random.default_rng(k_len), jit.NR + 3
    a, b = draw(rng, max(k_len, 1), jit.MR), draw(rng, max(k_len, 1), jit.NR)
    d, e, c = draw(rng, jit.MR, ldc), draw(rng, jit.MR, ldc), np.full((jit.MR, ldc), np.float32(7))
    tile_of(a.ravel(), b.ravel(), c.ravel(), ldc, k_len, d.ravel(), ldc, adds, e.ravel(), ldc, adds_e)
    expected = a[:k_len].astype(np.float64).T @ b[:k_len] + adds * d[:, :jit.NR] + adds_e * e[:, :jit.NR]
    assert np.abs(c[:, :jit.NR] - expected).max() <= 1e-6 * (k_len + 2) ** 0.5 * 4
    assert (c[:, jit.NR:] == 7).all()


def test_a_row_of_d_for_all():
    rng = np.random.default_rng(0)
    a, b, bias = draw(rng, 5, jit.MR), draw(rng, 5, jit.NR), draw(rng, jit.NR)
    c = np.empty((jit.MR, jit.NR), np.float32)
    tile_of(a.ravel(), b.ravel(), c.ravel(), jit.NR, 5, bias, 0, 1, bias, 0, 0)
    assert np.allclose(c, a.T @ b + bias, atol=1e-5)


@pytest.mark.parametrize("width", [jit.MR, jit.NR])
@pytest.mark.parametrize("length", [1, 3, 16, 17, 40, 64])
def test_pack(width, length):
    rng = np.random.default_rng(length)
    x, zeros = draw(rng, width, length + 5), np.zeros(length, np.float32)
    rows = np.arange(width) * (length + 5) + 2
    rows[1] = -1
    out = np.full(length * width + jit.LANES, np.float32(np.nan))
    pack_of(x.ravel(), rows, length, zeros, out, width)
    expected = x[:, 2:2 + length].T.copy()
    expected[:, 1] = 0
    assert np.array_equal(out[:length * width].reshape(length, width), expected)


def test_aligned():
    for n in (1, 5, 1000):
        buffer = tile.aligned(n)
        assert buffer.size == n and buffer.ctypes.data % 64 == 0 and buffer.dtype == np.float32


@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="the intrinsic tiles exist only compiled")
@pytest.mark.parametrize("isa", [isa for isa in SETS if isa != jit.ISA])
def test_the_other_sets_of_this_machine(isa):
    """The same tests again, in a process that is told to use another instruction set."""
    if os.environ.get("NPHYBRID_ISA"):
        pytest.skip("this is such a process")
    environment = {**os.environ, "NPHYBRID_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib",
               __file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, env=environment,
                          cwd=os.path.dirname(__file__))
    assert done.returncode == 0, done.stdout[-3000:]


LINUX = "x86_64-unknown-linux-gnu"
TARGETS = {"avx512": (LINUX, "skylake-avx512", r"vfmadd\d+ps\s.*%zmm", r"%zmm\d+, \d*\(%rsp\)"),
           "avx2": (LINUX, "haswell", r"vfmadd\d+ps\s.*%ymm", r"%ymm\d+, \d*\(%rsp\)"),
           "neon": ("aarch64-unknown-linux-gnu", "generic", r"fmla\s+v\d+\.4s", r"str\s+q\d+, \[sp")}


@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="LLVM is not used")
@pytest.mark.parametrize("isa", TARGETS)
def test_assembly(isa):
    """MR x NV multiply-adds per k, in whole vectors, and no sum leaves its register inside the loops."""
    triple, cpu, fma, spill = TARGETS[isa]
    MR, NV, _ = shape = jit.TILES[isa]
    text = assembly(triple, cpu, shape)
    assert len(re.findall(fma, text)) == MR * NV * (tile.UNROLL + 1)
    assert not re.findall(spill, text)


def assembly(triple, cpu, shape):
    import llvmlite.binding as llvm
    from llvmlite import ir
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    except RuntimeError as error:
        pytest.skip(f"this llvmlite does not know {triple}: {error}")
    module = ir.Module()
    module.triple = triple
    pointer, i8 = ir.FloatType().as_pointer(), ir.IntType(64)
    kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, pointer, i8, i8, pointer, i8, i8])
    function = ir.Function(module, kind, "tile")
    build = ir.IRBuilder(function.append_basic_block())
    a, b, c, ldc, k_len, d, ldd, adds = function.args
    tile.emit_tile(build, a, b, c, ldc, k_len, [(d, ldd, adds)], shape)
    build.ret_void()
    return machine.emit_assembly(llvm.parse_assembly(str(module)))
