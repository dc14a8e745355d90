"""The register tile against a.T @ b: every shape runs here, every instruction set's assembly is looked at."""
import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import cases
import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

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
    """These tests and those of accuracy, in a process that is told to use another instruction set."""
    if os.environ.get("NPHYBRID_ISA"):
        pytest.skip("this is such a process")
    here = Path(__file__).parent
    environment = {**os.environ, "NPHYBRID_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib",
               *(here / f"test_{name}.py" for name in ("tile", "kernels", "elementwise")),
               "-k", "(test_tile or test_elementwise or test_accuracy) and not other_sets and not assembly"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=here)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed > len(cases.ALL) + 70, done.stdout[-3000:]


FLOATS, INT, INTS = ir.FloatType().as_pointer(), ir.IntType(64), ir.IntType(64).as_pointer()


def emitted(module, name, kinds, body):
    """Add a function whose body is body(builder, *arguments)."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    build = ir.IRBuilder(function.append_basic_block())
    body(build, *function.args)
    build.ret_void()


def on_this_machine(module):
    """An engine, and a way to its functions.  Vectors that this CPU lacks, LLVM splits into those it has."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module.triple = llvm.get_default_triple()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()

    def function(name, kinds):
        types = [ctypes.c_int64 if kind == INT else ctypes.c_void_p for kind in kinds]
        entry = ctypes.CFUNCTYPE(None, *types)(engine.get_function_address(name))
        return lambda *args: entry(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in args))
    return engine, function


@pytest.mark.parametrize("isa", jit.TILES)
def test_every_shape_computes(isa):
    """The tile that NEON gets, and every other one, run here."""
    (MR, NV, L), module = jit.TILES[isa], ir.Module()
    NR, rng = NV * L, np.random.default_rng(0)
    kinds = [FLOATS, FLOATS, FLOATS, INT, INT, FLOATS, INT, INT, FLOATS, INT, INT]
    emitted(module, "tile", kinds, lambda build, a, b, c, ldc, k, d, ldd, adds, e, lde, adds_e:
            tile.emit_tile(build, a, b, c, ldc, k, [(d, ldd, adds), (e, lde, adds_e)], (MR, NV, L)))
    engine, function = on_this_machine(module)
    for K in (0, 1, 3, 4, 9, 50):
        for adds, adds_e in ((0, 0), (1, 0), (0, 1), (1, 1)):
            a, b, (c, d, e) = draw(rng, K + 1, MR), draw(rng, K + 1, NR), draw(rng, 3, MR, NR + 3)
            beyond = c[:, NR:].copy()
            function("tile", kinds)(a, b, c, NR + 3, K, d, NR + 3, adds, e, NR + 3, adds_e)
            truth = a[:K].T.astype(np.float64) @ b[:K] + adds * d[:, :NR] + adds_e * e[:, :NR]
            assert np.abs(c[:, :NR] - truth).max() <= 1e-6 * (K + 2) ** 0.5 * 4
            assert np.array_equal(c[:, NR:], beyond)


@pytest.mark.parametrize("isa", jit.TILES)
def test_every_shape_transposes(isa):
    (MR, NV, L), module = jit.TILES[isa], ir.Module()
    widths, rng, kinds = (MR, NV * L), np.random.default_rng(0), [FLOATS, INTS, INT, FLOATS, FLOATS]
    for width in widths:
        emitted(module, f"transpose{width}", kinds,
                lambda build, *args, width=width: tile.emit_transpose(build, *args, width, L))
    engine, function = on_this_machine(module)
    for width in widths:
        x, starts = draw(rng, width, L + 4), np.arange(width) * (L + 4) + 1
        starts[1] = -1
        out = np.full(width * L + L, np.float32(np.nan))
        function(f"transpose{width}", kinds)(x, starts, 2, np.zeros(L + 2, np.float32), out)
        truth = x[:, 3:3 + L].T.copy()
        truth[:, 1] = 0
        assert np.array_equal(out[:width * L].reshape(L, width), truth)


LINUX = "x86_64-unknown-linux-gnu"
SPILL = r"%[xyz]mm\d+.*\(%rsp|\(%rsp.*%[xyz]mm\d+"                  # a vector to or from the stack
TARGETS = {"avx512": (LINUX, "skylake-avx512", r"vfmadd\d+ps\s.*%zmm", SPILL),
           "avx2": (LINUX, "haswell", r"vfmadd\d+ps\s.*%ymm", SPILL),
           "neon": ("aarch64-unknown-linux-gnu", "generic", r"fmla\s+v\d+\.4s", r"\b[qv]\d+.*\[sp")}
# LLVM 22 spills nothing. 15 and 20 store and load one sum of AVX-512 every fourth k, and 15 many of NEON's.
SPILLS = {"avx512": lambda version: 2 if version < 22 else 0, "avx2": lambda version: 0,
          "neon": lambda version: 40 if version < 20 else 0}


@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="LLVM is not used")
@pytest.mark.parametrize("isa", TARGETS)
def test_assembly(isa):
    """MR x NV multiply-adds per k, in whole vectors, and no sum leaves its register."""
    triple, cpu, fma, spill = TARGETS[isa]
    MR, NV, _ = shape = jit.TILES[isa]
    text = assembly(triple, cpu, shape)
    assert len(re.findall(fma, text)) == MR * NV * (tile.UNROLL + 1)
    assert len(re.findall(spill, text)) <= SPILLS[isa](llvm.llvm_version_info[0])


def assembly(triple, cpu, shape):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    except RuntimeError as error:
        pytest.skip(f"this llvmlite does not know {triple}: {error}")
    module = ir.Module()
    module.triple = triple
    emitted(module, "tile", [FLOATS, FLOATS, FLOATS, INT, INT, FLOATS, INT, INT],
            lambda build, a, b, c, ldc, k, d, ldd, adds: tile.emit_tile(
                build, a, b, c, ldc, k, [(d, ldd, adds)], shape))
    return machine.emit_assembly(llvm.parse_assembly(str(module)))
