"""The register tile, reductions and transposes: every shape runs; every instruction set's assembly is checked."""
import functools
import os
import re
from pathlib import Path

import numpy as np
import pytest
from llvmlite import ir

from nphybrid.ops import jit, memory, pack, reductions, target, tile
from nphybrid.ops.widths import Float32

from oracles import cases
from tools.assembly import ARM, FLOATS, INT, INTS, LINUX, SPILLS, assembly, emitted, on_this_machine
from tools.process import python_environment, run_python

SETS = target.available(target.TARGET)


@jit.jit
def scaled_tile_of(rows, panel, target, first, second, scaling, ahead):
    tile.tile_add(rows, panel, target, first, second, scaling, ahead)


def tile_add_of(rows, panel, target, first, second, ahead=tile.Ahead(0, 0)):
    floats, integers = np.zeros(0, np.float32), np.zeros(0, np.int32)
    scaled_tile_of(rows, panel, target, first, second, tile.Scaling(floats, integers, floats, integers, 0), ahead)


@jit.jit
def tile_of(rows, panel, target):
    tile.tile(rows, panel, target)


@jit.jit
def transposed_tile_add_of(columns, panel, target, first):
    tile.transposed_tile_add(columns, panel, target, first)


@jit.jit
def pack_of(x, starts, length, zeros, out):
    pack.pack(x, starts, length, zeros, out, 0)


def draw(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def rows_in(x, starts, run):
    """The left factor that the tile reads: (runs, MR) starts in flat x -> (MR, runs * run); below 0 are zeros."""
    rows = [np.concatenate([x[s:s + run] if s >= 0 else np.zeros(run, x.dtype) for s in r]) for r in starts.T]
    return np.array(rows, np.float64)


def starts_of(rng, runs, rows, size, run):
    """Random starts, some of them neighbours or overlapping, and one row of zeros."""
    starts = rng.integers(0, size - run + 1, (runs, rows))
    starts[:1, 1] = -1
    return starts


RUNS = [(0, 5), (1, 0), (1, 1), (1, 3), (1, 4), (1, 257), (2, 8), (3, 7), (9, 16), (7, 21)]


@pytest.mark.parametrize("runs, run", RUNS)
@pytest.mark.parametrize("first_used, second_used", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_tile(runs, run, first_used, second_used):
    """Against NumPy in float64; what lies beside the target stays; without addends the bits are the same.

    Words ahead, also outside the array, change nothing.
    """
    rng = np.random.default_rng(run)
    MR, NR, K = target.MR, target.NR, runs * run
    stride = NR + 3
    x = draw(rng, 900)
    b = draw(rng, max(K, 1), NR)
    starts = starts_of(rng, runs, MR, x.size, run)
    first = draw(rng, MR, stride)
    second = draw(rng, MR, stride)
    c = np.full((MR, stride), np.float32(7))
    rows = tile.Rows(x, starts.ravel(), np.zeros(run + 1, np.float32), runs, run)
    panel = tile.Panel(b.ravel(), 0)
    whole = tile.Target(c.ravel(), 0, stride, MR, NR)
    tile_add_of(rows, panel, whole, tile.Addend(first.ravel(), 0, stride, first_used),
                tile.Addend(second.ravel(), 0, stride, second_used), tile.Ahead(run, 3 * NR * tile.STEPS))
    expected = first_used * first[:, :NR] + second_used * second[:, :NR]
    if K:
        expected = expected + rows_in(x, starts, run) @ b
    assert np.abs(c[:, :NR] - expected).max() <= 1e-6 * (K + 2) ** 0.5 * 4
    assert (c[:, NR:] == 7).all()
    if not first_used and not second_used:
        alone = np.full((MR, stride), np.float32(7))
        tile_of(rows, panel, tile.Target(alone.ravel(), 0, stride, MR, NR))
        assert alone.tobytes() == c.tobytes()


@pytest.mark.parametrize("adds", [0, 1])
def test_a_part_of_a_tile(adds):
    """The needed rows and columns have the bits of a whole tile, and only whole vectors beside them are written."""
    rng = np.random.default_rng(adds)
    MR, NR, run, stride = target.MR, target.NR, 21, target.NR + 3
    x, b, first = draw(rng, 900), draw(rng, 2 * run, NR), draw(rng, MR, stride)
    rows = tile.Rows(x, starts_of(rng, 2, MR, x.size, run).ravel(), np.zeros(run, np.float32), 2, run)
    addend, none = tile.Addend(first.ravel(), 0, stride, adds), tile.Addend(first.ravel(), 0, stride, 0)

    def computed(height, width):
        added, alone = np.full((2, MR, stride), np.float32(7))
        tile_add_of(rows, tile.Panel(b.ravel(), 0), tile.Target(added.ravel(), 0, stride, height, width), addend, none)
        tile_of(rows, tile.Panel(b.ravel(), 0), tile.Target(alone.ravel(), 0, stride, height, width))
        return added, alone
    whole = computed(MR + 1, NR + 1)
    for height in range(1, MR + 1):
        for width in (1, target.LANES, target.LANES + 1, NR):
            written = target.SHORT if height <= target.SHORT else MR
            for part, full, vector in zip(computed(height, width), whole, (NR, target.LANES)):
                across = vector if width <= vector and written == MR else NR
                if target.ISA == "plain":
                    written, across = MR, NR
                assert part[:written, :across].tobytes() == full[:written, :across].tobytes()
                assert (part[written:] == 7).all() and (part[:, across:] == 7).all()


@pytest.mark.parametrize("run", [0, 1, 3, 4, 50, 257])
@pytest.mark.parametrize("used", [0, 1])
def test_transposed_tile(run, used):
    """Against NumPy in float64; the matrix, the panel, the target and the addend begin where `at` says."""
    rng = np.random.default_rng(run)
    MR, NR = target.MR, target.NR
    stride = MR + 2
    x = draw(rng, 5 + run * stride + MR)
    b = draw(rng, 3 + run * NR)
    first = draw(rng, 4 + MR * NR)
    c = np.full((MR, NR + 3), np.float32(7))
    transposed_tile_add_of(tile.Columns(x, 5, stride, run), tile.Panel(b, 3), tile.Target(c.ravel(), 2, NR + 3, MR, NR),
                           tile.Addend(first, 4, NR, used))
    columns = x[5:5 + run * stride].reshape(run, stride)[:, :MR].astype(np.float64)
    expected = columns.T @ b[3:].reshape(run, NR) + used * first[4:].reshape(MR, NR)
    assert np.abs(c[:, 2:2 + NR] - expected).max() <= 1e-6 * (run + 2) ** 0.5 * 4
    assert (c[:, :2] == 7).all() and (c[:, 2 + NR:] == 7).all()


def test_a_tile_begins_where_at_says():
    rng = np.random.default_rng(0)
    MR, NR = target.MR, target.NR
    x = draw(rng, MR, 5)
    b, first, second, c = (np.concatenate([np.full(at, np.float32(np.nan)), draw(rng, size)])
                           for at, size in ((3, 5 * NR), (4, MR * NR), (5, MR * NR), (6, MR * NR)))
    rows = tile.Rows(x.ravel(), np.arange(MR) * 5, np.zeros(5, np.float32), 1, 5)
    tile_add_of(rows, tile.Panel(b, 3), tile.Target(c, 6, NR, MR, NR), tile.Addend(first, 4, NR, 1),
                tile.Addend(second, 5, NR, 1))
    expected = x @ b[3:].reshape(5, NR) + first[4:].reshape(MR, NR) + second[5:].reshape(MR, NR)
    assert np.isnan(c[:6]).all() and np.allclose(c[6:].reshape(MR, NR), expected, atol=1e-5)


def test_an_addend_of_one_row_is_added_to_every_row():
    rng = np.random.default_rng(0)
    MR, NR = target.MR, target.NR
    x = draw(rng, MR, 5)
    b = draw(rng, 5, NR)
    bias = draw(rng, NR)
    c = np.empty((MR, NR), np.float32)
    rows = tile.Rows(x.ravel(), np.arange(MR) * 5, np.zeros(5, np.float32), 1, 5)
    tile_add_of(rows, tile.Panel(b.ravel(), 0), tile.Target(c.ravel(), 0, NR, MR, NR), tile.Addend(bias, 0, 0, 1),
                tile.Addend(bias, 0, 0, 0))
    assert np.allclose(c, x @ b + bias, atol=1e-5)


@pytest.mark.parametrize("length", [1, 3, 16, 17, 40, 64])
def test_pack(length):
    rng = np.random.default_rng(length)
    x, zeros = draw(rng, target.NR, length + 5), np.zeros(length, np.float32)
    starts = np.arange(target.NR) * (length + 5) + 2
    starts[1] = -1
    out = np.full(length * target.NR, np.float32(np.nan))
    pack_of(x.ravel(), starts, length, zeros, out)
    expected = x[:, 2:2 + length].T.copy()
    expected[:, 1] = 0
    assert np.array_equal(out.reshape(length, target.NR), expected)


@pytest.mark.parametrize("panels", [(0, 1), (0, 3), (1, 3), (2, 3)])
def test_pack_panels(panels):
    """The last of three panels has 5 columns, and then zeros."""
    NR = target.NR
    x = draw(np.random.default_rng(0), 9, 2 * NR + 5)
    out = np.full((panels[1] - panels[0], 4, NR), np.float32(np.nan))
    pack.pack_panels(x.ravel(), x.shape[1], 3, 4, *panels, out.reshape(-1))
    columns = np.pad(x[3:7], ((0, 0), (0, NR - 5)))
    assert np.array_equal(out, columns.reshape(4, 3, NR).transpose(1, 0, 2)[slice(*panels)])


@pytest.mark.parametrize("rest", [0, 1, target.MR - 1])
def test_pack_channels(rest):
    """Two whole tile rows and `rest` channels, with zeros for a negative start; memory after the channels stays."""
    MR = target.MR
    width = 2 * MR + rest
    x = draw(np.random.default_rng(rest), 5, width + 3)
    starts = np.array([3, 0, -1, 1, 4]) * (width + 3) + 2
    starts[2] = -1
    out = np.full((3, 5, MR), np.float32(7))
    pack.pack_channels(x.ravel(), starts, 5, width, out.reshape(-1))
    cells = x[[3, 0, 0, 1, 4], 2:2 + width]
    cells[2] = 0
    found = out.transpose(1, 0, 2).reshape(5, 3 * MR)
    assert np.array_equal(found[:, :width], cells)
    kept = np.delete(found, 2, axis=0)
    assert (kept[:, width:] == 7).all()


@pytest.mark.parametrize("n", [0, 1, 7, 15, 16, 17, 48, 64, 65, 127, 577, 1000])
def test_reductions(n):
    x = draw(np.random.default_rng(n), n)
    first, second = reductions.moments(x)
    assert abs(first - x.astype(np.float64).sum()) <= 1e-13 * (n + 1)
    assert abs(second - np.square(x.astype(np.float64)).sum()) <= 1e-13 * (n + 1)
    assert abs(reductions.total(x) - x.astype(np.float64).sum()) <= 1e-6 * (n + 1) ** 0.5 * 4
    assert reductions.largest(x) == x.max(initial=-np.inf)
    y = draw(np.random.default_rng(n + 1), n)
    total, product = reductions.products(x, y)
    assert abs(total - x.astype(np.float64).sum()) <= 1e-13 * (n + 1)
    assert abs(product - (x.astype(np.float64) * y).sum()) <= 1e-13 * (n + 1)


@pytest.mark.parametrize("place", [0, 13, 17, 63, 64, 99])
def test_reductions_see_every_element(place):
    x = np.zeros(100, np.float32)
    x[place] = 3
    assert (reductions.largest(x), reductions.total(x), reductions.moments(x)) == (3, 3, (3, 9))
    x[place] = np.nan
    assert np.isnan(reductions.total(x)) and np.isnan(reductions.moments(x)).all()


def test_aligned():
    for n in (1, 5, 1000):
        buffer = memory.aligned(n)
        assert buffer.size == n and buffer.ctypes.data % 64 == 0 and buffer.dtype == np.float32


@pytest.mark.slow
@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="the intrinsic tiles exist only compiled")
@pytest.mark.parametrize("isa", [isa for isa in SETS if isa != target.ISA])
def test_the_other_sets_of_this_machine(isa):
    """These tests and the tests of accuracy, in a process with another instruction set."""
    if os.environ.get("NPHYBRID_ISA"):
        pytest.skip("this is such a process")
    here = Path(__file__).parent
    command = ["-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--import-mode=importlib",
               *(here / f"test_{name}.py" for name in ("tile", "kernels", "elementwise", "gradient_kernels", "widths")),
               "-k", "(test_tile or test_elementwise or test_accuracy or definition or as_accurate) and not other_sets "
                     "and not assembly"]
    done = run_python(*command, env=python_environment(NPHYBRID_ISA=isa), cwd=here)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed > len(cases.ALL) + 70, done.stdout[-3000:]


PRODUCT = [FLOATS, INTS, FLOATS, INT, INT, FLOATS, FLOATS, INT]       # x, starts, zeros, runs, run; b; values, stride
ADDEND = [FLOATS, INT, INT]                                             # values, stride, used
TRANSPOSED = [FLOATS, INT, INT, FLOATS, FLOATS, INT, *ADDEND]         # x, stride, run; b; values, stride; addend


def emit_tile(build, arguments, shape, size=None, ahead=False):
    """A tile with as many addends as there are arguments for; every `at` is 0.  The words ahead are those of `b`."""
    x, starts, zeros, runs, run, b, c, stride, *rest = arguments
    addends = [tile.Addend(values, 0, addend_stride, used)
               for values, addend_stride, used in zip(rest[::3], rest[1::3], rest[2::3])]
    tile.emit_tile(build, tile.Rows(x, starts, zeros, runs, run), tile.Panel(b, 0),
                   tile.Target(c, 0, stride, None, None), addends, shape, ahead=tile.Ahead(b, run) if ahead else None,
                   size=size)


def emit_transposed_tile(build, arguments, shape):
    x, stride, run, b, c, c_stride, d, d_stride, used = arguments
    tile.emit_transposed_tile(build, tile.Columns(x, 0, stride, run), tile.Panel(b, 0),
                              tile.Target(c, 0, c_stride, None, None), [tile.Addend(d, 0, d_stride, used)], shape)


@pytest.mark.parametrize("isa", target.TILES)
def test_every_shape_computes(isa):
    """The tile shapes of all instruction sets, also of NEON, run on this machine."""
    (MR, NV, L), module = target.TILES[isa], ir.Module()
    NR, rng = NV * L, np.random.default_rng(0)
    kinds = [*PRODUCT, *ADDEND, *ADDEND]
    emitted(module, "tile", kinds, lambda build, *args: emit_tile(build, args, (MR, NV, L)))
    engine, function = on_this_machine(module)
    for runs, run in ((0, 1), (1, 0), (1, 1), (1, 4), (3, 3), (2, 9), (1, 50)):
        for adds, adds_e in ((0, 0), (1, 0), (0, 1), (1, 1)):
            x, b, (c, d, e) = draw(rng, 200), draw(rng, runs * run + 1, NR), draw(rng, 3, MR, NR + 3)
            starts, zeros = starts_of(rng, runs, MR, x.size, run), np.zeros(run + 1, np.float32)
            beyond = c[:, NR:].copy()
            arguments = [x, starts, zeros, runs, run, b, c, NR + 3, d, NR + 3, adds, e, NR + 3, adds_e]
            function("tile", kinds)(*arguments)
            truth = adds * d[:, :NR] + adds_e * e[:, :NR]
            if runs * run:
                truth = truth + rows_in(x, starts, run) @ b[:runs * run]
            assert np.abs(c[:, :NR] - truth).max() <= 1e-6 * (runs * run + 2) ** 0.5 * 4
            assert np.array_equal(c[:, NR:], beyond)


@pytest.mark.parametrize("isa", target.TILES)
def test_every_shape_computes_with_a_transposed_factor(isa):
    (MR, NV, L), module = target.TILES[isa], ir.Module()
    NR, rng = NV * L, np.random.default_rng(0)
    emitted(module, "tile", TRANSPOSED, lambda build, *args: emit_transposed_tile(build, args, (MR, NV, L)))
    engine, function = on_this_machine(module)
    for run in (0, 1, 4, 9, 50):
        x, b, (c, d) = draw(rng, run, MR + 3), draw(rng, run + 1, NR), draw(rng, 2, MR, NR + 3)
        arguments = [x, MR + 3, run, b, c, NR + 3, d, NR + 3, 1]
        function("tile", TRANSPOSED)(*arguments)
        truth = x[:, :MR].T.astype(np.float64) @ b[:run] + d[:, :NR]
        assert np.abs(c[:, :NR] - truth).max() <= 1e-6 * (run + 2) ** 0.5 * 4


@pytest.mark.parametrize("isa", target.TILES)
def test_every_shape_transposes(isa):
    (_, NV, L), module = target.TILES[isa], ir.Module()
    width, rng, kinds = NV * L, np.random.default_rng(0), [FLOATS, INTS, INT, FLOATS, FLOATS]
    emitted(module, "transpose", kinds, lambda build, *args: pack.emit_transpose(build, *args, width, L))
    engine, function = on_this_machine(module)
    x, starts = draw(rng, width, L + 4), np.arange(width) * (L + 4) + 1
    starts[1] = -1
    out = np.full(width * L, np.float32(np.nan))
    function("transpose", kinds)(x, starts, 2, np.zeros(L + 2, np.float32), out)
    truth = x[:, 3:3 + L].T.copy()
    truth[:, 1] = 0
    assert np.array_equal(out.reshape(L, width), truth)


TARGETS = {"avx512": (LINUX, "skylake-avx512", r"vfmadd\d+ps\s.*%zmm"),
           "avx2": (LINUX, "haswell", r"vfmadd\d+ps\s.*%ymm"),
           "neon": (ARM, "generic", r"fmla\s+v\d+\.4s")}


@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="LLVM is not used")
@pytest.mark.parametrize("isa", TARGETS)
def test_assembly(isa):
    """MR x NV multiply-adds per k, in whole vectors, and no sum leaves its register."""
    triple, cpu, fma = TARGETS[isa]
    MR, NV, _ = shape = target.TILES[isa]
    with_ahead = functools.partial(emit_tile, ahead=True)
    for kinds, emit, prefetches in (([*PRODUCT, *ADDEND], with_ahead, 1), ([*PRODUCT, *ADDEND], emit_tile, 0),
                                    (TRANSPOSED, emit_transposed_tile, 0)):
        text = assembly(triple, cpu, kinds, lambda build, *args: emit(build, args, shape))
        assert len(re.findall(fma, text)) == MR * NV * (Float32.UNROLL + 1)
        unrolled = max(re.split(r"(?m)^\.LBB", text), key=lambda block: len(re.findall(fma, block)))
        assert len(re.findall(fma, unrolled)) == MR * NV * Float32.UNROLL
        prefetch = r"prefetcht1|prfm\s+pldl2keep"
        assert len(re.findall(prefetch, unrolled)) == len(re.findall(prefetch, text)) == prefetches
        assert not re.findall(SPILLS[triple], text)
