"""Products of AMX tiles.  Without AMX, these tests run in a child process that emulates its instructions."""
import math
import re
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from nphybrid import ViTHybridForImageClassification, default_model
from nphybrid.ops import amx, jit, kernels, matmul, reference, reference_narrow, target, threads, windows
from nphybrid.ops.integers import ceil_div
from nphybrid.ops.packed import Packed
from nphybrid.ops.reference_narrow import BEYOND, Kernel, widened
from nphybrid.ops.target import NR
from nphybrid.ops.widths import NUMBERS
from nphybrid.ops.words import narrowed
from nphybrid.params import Linear

from oracles import cases
from tools.assembly import FLOATS, INT, emitted
from tools.process import run_python

pytestmark = pytest.mark.slow

on_amx = pytest.mark.skipif(target.ISA != "amx", reason="runs in the child process of test_all_of_it_on_amx")
LARGEST = np.finfo(np.float32).max


def test_all_of_it_on_amx(amx_environment):
    """This file, the accuracy of every operation, the narrow widths, and the files of packed weights."""
    if target.ISA == "amx":
        pytest.skip("this is such a process")
    here = Path(__file__).parent
    chosen = ("test_amx or test_widths or test_mapped or test_accuracy or infinity_pass or restores_the_kernel or "
              "goes_to_another")
    command = ["-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-p", "no:faulthandler",
               "--import-mode=importlib", here / "test_amx.py", here / "test_kernels.py", here / "test_widths.py",
               here / "test_mapped.py", "-k", f"({chosen}) and not traps"]
    done = run_python(*command, timeout=600, env=amx_environment, cwd=here)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed, skipped = (int((re.search(rf"(\d+) {what}", done.stdout) or [0, 0])[1]) for what in ("passed", "skipped"))
    assert passed > len(cases.ALL) + 300 and skipped == 2, done.stdout[-3000:]


@pytest.mark.skipif("amx" in target.available(target.TARGET), reason="nothing is trapped where there is AMX")
@pytest.mark.parametrize("code, reason", [
    ("one_of_eight()", "a tile before its configuration"), ("configured(palette=2)", "a palette"),
    ("configured(rows=8)", "a tile that is not 16 rows"), ("configured(palette=1); print('fine')", ""),
    # After a product the tiles are released.
    ("linear(cases.normal(0, 1, 5), cases.normal(1, 5, 5), 3); one_of_eight()", "a tile before its configuration")])
def test_the_traps_catch_what_a_processor_would(code, reason, amx_environment):
    done = run_python("-c", f"from ops.test_amx import *; {code}", env=amx_environment)
    assert (done.returncode, done.stdout) == ((70, "") if reason else (0, "fine\n")), done.stderr
    assert reason in done.stderr


@jit.jit
def _configured(config):
    amx.configure(config)
    amx.release()


@jit.jit
def _block(a, b, c):
    amx.multiply_bfloat16(a, b, 0, c, 1, 0)


def configured(palette=1, rows=16):
    config = amx.CONFIG.copy()
    config[0] = palette
    config[48:56] = rows
    _configured(config)


def one_of_eight():
    words = np.zeros(amx.DEEP * NR, np.uint32)
    _block(words, words, np.zeros(amx.SIDE ** 2, np.float32))


# ---------------------------------------------------------------- parts, on any machine

def parts_of(x, n=3):
    """The parts of x as float32 (n, size), and the rest of x without them."""
    out, rest = np.zeros((n, x.size), np.uint16), np.array(x, np.float32)
    amx.split_into(out.reshape(-1), 0, x.size, rest, n)
    return widened(out), rest


def everywhere(lowest, highest):
    """Random float32 of each exponent from 2**lowest to below 2**highest, and numbers close to ties of rounding."""
    rng, exponents = np.random.default_rng(0), np.arange(lowest + 127, highest + 127).repeat(200)
    bits = (exponents.astype(np.uint32) << 23) | rng.integers(0, 1 << 23, exponents.size, np.uint32)
    near = bits & np.uint32(0xFFFF0000) | rng.choice(np.uint32([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]), bits.size)
    return np.concatenate([bits, near]).view(np.float32) * rng.choice(np.float32([-1, 1]), 2 * bits.size)


def test_three_parts_are_the_number():
    x = np.concatenate([everywhere(-110, 128), np.float32([0, 1, LARGEST, -LARGEST, 3.3895e38, 3.39e38])])
    parts, rest = parts_of(x)
    assert np.array_equal((parts[2] + parts[1]) + parts[0], x) and not rest.any()
    first = np.abs(x.astype(np.float64) - parts[0])
    assert np.array_equal(parts[0][np.abs(x) < 3.389e38],
                          widened(narrowed(x[np.abs(x) < 3.389e38])))
    assert (first <= 2.0 ** -7 * np.abs(x)).all() and np.isfinite(parts).all()


def test_tiny_numbers_lose_their_last_parts_only():
    x = everywhere(-126, -110)
    parts, rest = parts_of(x)
    assert rest.any() and np.array_equal(parts.astype(np.float64).sum(0) + rest, x.astype(np.float64))
    assert np.abs(rest).max() < 2.0 ** -133


def test_parts_of_what_is_not_finite():
    with np.errstate(invalid="ignore"):                   # NumPy warns with NUMBA_DISABLE_JIT=1
        parts, _ = parts_of(np.uint32([0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF]).view(np.float32))
    assert np.isnan(parts).all()


@pytest.fixture
def packed_for_amx(monkeypatch):
    """Kernels are packed for AMX, with any instruction set."""
    monkeypatch.setattr("nphybrid.ops.packed.AMX", True)
    monkeypatch.setattr("nphybrid.ops.packed.ROWS", amx.DEEP)


@pytest.mark.parametrize("K, N", [(1, 1), (31, 33), (32, 32), (33, 31), (100, 70)])
def test_a_float32_kernel_is_three_bfloat16_kernels(K, N, packed_for_amx):
    kernel = cases.normal(K, K, N)
    panels = Packed(kernel).panels
    expected = parts_of(kernel.reshape(-1))[0].reshape(3, K, N)
    for k in range(K):
        for n in range(N):
            assert np.array_equal(widened(panels[:, n // NR, k // 2, n % NR, k % 2]), expected[:, k, n])
    assert np.count_nonzero(panels) == np.count_nonzero(expected) and panels.ctypes.data % 64 == 0
    assert panels.shape == (3, ceil_div(N, NR), ceil_div(K, 32) * 16, NR, 2)


@pytest.mark.parametrize("width", ["bfloat16", "int8"])
def test_zeros_follow_the_last_word_of_a_narrow_panel(width, packed_for_amx):
    """The words of a step are multiplied, also those after the last."""
    for shape in ((30, 33), (3, 3, 5, NR + 1)):
        kernel = Kernel.of(cases.normal(0, *shape), width)
        found = Packed(kernel)
        words = math.prod(shape[:-2]) * ceil_div(shape[-2], NUMBERS[width])
        assert found.panels.shape[1] == ceil_div(words, 16) * 16 > words and not found.panels[:, words:].any()
        assert np.array_equal(found.unpacked().values, kernel.values)


def test_a_kernel_comes_back_bit_for_bit(packed_for_amx):
    """Zeros of both signs, and numbers that three parts cannot represent."""
    for x in (np.float32([[0.0, -0.0, 1]]), everywhere(-120, -100)[None], cases.normal(0, 3, 3, 7, 40)):
        packed = Packed(x)
        assert packed.unpacked().tobytes() == x.tobytes() and (packed.kept is None) == (np.abs(x[x != 0]).min() > 1e-33)
        assert Packed(*packed.__reduce__()[1]).unpacked().tobytes() == x.tobytes()


@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="LLVM is not used")
@pytest.mark.parametrize("parts, product", [(1, "tdpbusd"), (1, "tdpbf16ps"), (2, "tdpbf16ps"), (3, "tdpbf16ps")])
def test_assembly(parts, product):
    """For a processor with AMX: four products per pair of parts, no tile loaded twice in a row, no use of the stack."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module, words = ir.Module(), ir.IntType(32).as_pointer()
    module.triple, products = "x86_64-unknown-linux-gnu", amx.PAIRS_OF_PARTS[parts]
    emitted(module, "block", [words, words, FLOATS, INT, INT],
            lambda build, *args: amx.emit_block(build, *args, parts, product))
    machine = llvm.Target.from_triple(module.triple).create_target_machine(cpu="sapphirerapids", opt=3)
    text = machine.emit_assembly(llvm.parse_assembly(str(module)))
    loads = sum((i != a) + (j != b) for (a, b), (i, j) in zip([(None, None), *products], products))
    assert sorted(products) == sorted((i, j) for i in range(parts) for j in range(parts) if i + j < parts)
    for instruction, times in ((product, 4 * len(products)), ("tdp", 4 * len(products)), ("tilestored", 4),
                               ("tilezero", 4), ("tileload", 2 * loads)):
        assert len(re.findall(instruction, text)) == times
    assert "(%rsp" not in text


# ---------------------------------------------------------------- products, on AMX

def packed(kernel, parts):
    """A kernel that AMX multiplies in a number of parts."""
    if parts == 1:
        return Packed(Kernel.of(kernel, "bfloat16"))
    return Packed(kernel, "high" if parts == 2 else "highest")


def linear(x, kernel, parts, bias=None):
    return kernels.linear(x, Linear(packed(kernel, parts), bias))


@on_amx
@pytest.mark.parametrize("M, K, N", [(1, 1, 1), (31, 33, 70), (33, 31, 1), (70, 577, 65), (5, 1300, 33)])
def test_int8_is_its_definition_bit_for_bit(M, K, N):
    """With activation outliers, a residual, a row of zeros and a row that is not finite."""
    x, bias, residual = cases.normal(0, M, K), cases.normal(2, N), cases.normal(3, M, N)
    x[:, K // 2] *= 100
    x[M // 2] = 0
    x[M - 1, K - 1] = np.inf
    kernel = Kernel.of(cases.normal(1, K, N), "int8")
    packed = Packed(kernel)
    assert packed.parts == 1 and np.array_equal(packed.unpacked().values, kernel.values)
    found = kernels.linear_add(x, Linear(packed, bias), residual)
    expected = reference_narrow.linear_add(x, Linear(kernel, bias), residual)
    assert np.isnan(expected[M - 1]).all() and np.isfinite(expected[:M - 1]).all()
    assert np.array_equal(found, expected, equal_nan=True)


@on_amx
@pytest.mark.parametrize("M, K, N", [(1, 1, 1), (31, 33, 70), (33, 31, 1), (70, 577, 65), (5, 1300, 33)])
def test_products_are_those_of_parts(M, K, N):
    """Against the definition in float64.  The difference is the rounding of the sums."""
    x, kernel = cases.normal(0, M, K), cases.normal(1, K, N)
    for parts in (1, 2, 3):
        a, b = (parts_of(array.reshape(-1), parts)[0].reshape(parts, *array.shape).astype(np.float64)
                for array in (x, kernel))
        truth = sum(a[i] @ b[j] for i in range(parts) for j in range(parts) if i + j < parts)
        assert np.abs(linear(x, kernel, parts) - truth).max() <= 1e-6 * K ** 0.5


# parts: rms error / std over K = 768; bound, observed
ERRORS = {1: (3e-3, 2.37e-3), 2: (6e-6, 4.46e-6), 3: (2e-7, 1.18e-7)}


@on_amx
@pytest.mark.parametrize("parts", ERRORS)
def test_errors(parts):
    x, kernel = cases.normal(0, 100, 768), cases.normal(1, 768, 200)
    truth = x.astype(np.float64) @ kernel
    found = np.sqrt(np.square(linear(x, kernel, parts) - truth).mean()) / truth.std()
    print(f"{parts} parts: {found:.2e}")
    assert ERRORS[parts][0] / 3 < found <= ERRORS[parts][0]


@on_amx
def test_three_parts_are_closer_than_float32():
    x, kernel = cases.normal(0, 100, 768), cases.normal(1, 768, 200)
    truth = x.astype(np.float64) @ kernel
    assert np.abs(linear(x, kernel, 3) - truth).max() < np.abs(x @ kernel - truth).max()


@on_amx
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_infinite_row_is_nan(value):
    x, kernel = cases.normal(0, 40, 50), cases.normal(1, 50, 40)
    x[33, 7] = value
    for parts in (1, 2, 3):
        y = linear(x, kernel, parts)
        assert np.isnan(y[33]).all() and np.isfinite(np.delete(y, 33, 0)).all()


@on_amx
@pytest.mark.parametrize("x", [LARGEST, -LARGEST, 3.3895e38, BEYOND, np.nextafter(BEYOND, 0),
                               2.0 ** -102])
def test_the_largest_numbers_times_1_are_exact(x):
    x = np.float32(x)
    assert linear(np.array([[x]]), np.float32([[1]]), 3).item() == x


@on_amx
def test_denormals_are_0():
    assert linear(np.float32([[1e-38, 1.5e-39]]), np.float32([[0], [1]]), 3).item() == 0


# Factors 2**first and 2**second: rms error / std; bound, observed. The smaller parts vanish below 2**-126.
SCALES = {(0, 0): (2e-7, 1.14e-7), (-100, 0): (2e-7, 1.14e-7), (-50, -50): (2e-7, 1.14e-7), (-60, -60): (4e-3, 2.5e-3)}


@on_amx
@pytest.mark.parametrize("scale", SCALES)
def test_errors_of_small_numbers(scale):
    shapes = (50, 768), (768, 70)
    x, kernel = (cases.normal(i, *shape) * np.float32(2.0 ** scale[i]) for i, shape in enumerate(shapes))
    truth = x.astype(np.float64) @ kernel
    found = np.sqrt(np.square(linear(x, kernel, 3) - truth).mean()) / truth.std()
    print(scale, found)
    assert SCALES[scale][0] / 3 < found <= SCALES[scale][0]


@on_amx
def test_high_restores_the_whole_kernel():
    kernel = cases.normal(0, 50, 40)
    assert packed(kernel, 2).unpacked().tobytes() == kernel.tobytes()


@pytest.mark.parametrize("parts", [1, 2])
def test_rows_are_set_to_their_end(parts):
    """The elements behind the last run become 0. They are multiplied with zeros, and NaN times 0 would be NaN."""
    x = cases.normal(0, 40 * 5)
    rows = windows.windows_of((40, 1, 5), (1, 1), 5, 1, 1, windows.NO_PADDING)
    a = np.full(parts * amx.STEP, 0x7FC07FC0, np.uint32)
    one_row = np.full(amx.SIDE, 0x7FC00000, np.uint32)
    starts = np.empty(2 * amx.SIDE, np.int64)
    amx.rows_into(a, one_row, starts, x.view(np.uint32), rows, amx.RowBlock(32, 40, 0, 5), parts)
    if parts == 1:
        words = a.reshape(amx.SIDE, amx.DEEP)
        assert not words[:, 5:].any() and not words[8:].any()
        assert np.array_equal(words[:8, :5].view(np.float32), x.reshape(40, 5)[32:])
        return
    halves = a.view(np.uint16).reshape(2, amx.SIDE, 2 * amx.DEEP)
    assert not halves[:, :, 5:].any() and not halves[:, 8:].any() and halves[0, :8, :5].all()
    assert np.abs(widened(halves[:, :8, :5]).sum(0) - x.reshape(40, 5)[32:]).max() < 1e-4


@on_amx
@pytest.mark.parametrize("width, parts", [("int8", 1), ("bfloat16", 1), ("float32", 3)])
def test_bits_do_not_depend_on_rows_and_threads(width, parts, monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 0)
    x, bias, kernel = cases.normal(0, 70, 600), cases.normal(2, 100), cases.normal(1, 600, 100)
    p = Linear(Packed(kernel if width == "float32" else Kernel.of(kernel, width)), bias)
    assert p.kernel.parts == parts
    results = []
    for n, cache in ((1, 0), (2, 1 << 20), (3, 1 << 30)):
        monkeypatch.setattr(matmul, "L2", cache)
        with threads.using(n):
            results.append(kernels.linear(x, p))
    assert all(np.array_equal(results[0], result) for result in results[1:])
    assert np.array_equal(results[0][37:41], kernels.linear(x[37:41].copy(), p))


@on_amx
@pytest.mark.parametrize("C, O, taps, stride, dilation", [(3, 40, 7, 2, 1), (40, 33, 3, 1, 2), (600, 35, 1, 2, 1),
                                                          (200, 5, 3, 1, 1)])
def test_convolutions_at_every_edge(C, O, taps, stride, dilation):
    x, kernel = cases.normal(0, 2, 9, 8, C), cases.normal(1, taps, taps, C, O)
    around = (dilation * taps // 2,) * 2, (dilation * taps // 2,) * 2
    truth = reference.conv2d(x.astype(np.float64), kernel.astype(np.float64), stride, dilation, around)
    for parts, bound in ((3, 2e-6), (2, 1e-4), (1, 0.05)):
        found = kernels.conv2d(x, packed(kernel, parts), stride, dilation, around)
        assert np.abs(found - truth).max() / truth.std() <= bound
    narrow = Kernel.of(kernel, "int8")
    found = kernels.conv2d(x, Packed(narrow), stride, dilation, around)
    assert np.array_equal(found, reference_narrow.conv2d(x, narrow, stride, dilation, around))


@on_amx
@pytest.mark.parametrize("options, bound", [({}, 1e-5), ({"precision": "high"}, 1e-4), ({"dtype": "bfloat16"}, 0.1),
                                            ({"dtype": "int8"}, 0.1)])
def test_the_bundled_network(options, bound):
    """Observed: at most 1.7e-06, 2.2e-05, 0.06, 0.026 of the logits' standard deviation."""
    x = cases.normal(0, 1, 3, 64, 64)
    exact = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference", dtype="float64")
    truth = exact(x.astype(np.float64)).logits
    model = ViTHybridForImageClassification.from_pretrained(default_model(), **options)
    logits = [model(x).logits for _ in range(4)]          # a plan is recorded in the third call
    assert all(np.array_equal(logits[0], again) for again in logits)
    found = np.abs(logits[0] - truth).max() / truth.std()
    print(options, found)
    assert found <= bound
    if not options:
        assert all(np.array_equal(array, exact.state_dict()[name]) for name, array in model.state_dict().items())
