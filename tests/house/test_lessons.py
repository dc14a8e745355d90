"""The lessons run, and every number that they print is computed here again, in another way."""
import ast
import functools
import math
import os
import re
import statistics
from fractions import Fraction

import h5py
import numpy as np
import one_page
import pytest

from nphybrid import default_model
from nphybrid.ops import jit, target
from nphybrid.params import Norm

from oracles import loops
from tools.imports import imports
from tools.process import run_example as run

LESSONS = ("weight_standardization", "same_padding", "bottleneck", "grid_to_tokens", "attention_head",
           "register_tile", "float32_from_bfloat16", "chain_rule", "attention_gradient", "adamw_step",
           "product_in_int8")
NAMES = [f"lesson_{number}_{name}.py" for number, name in enumerate(LESSONS, 1)]
FIGURE = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?")


@functools.cache
def printed(root, number, isa=os.environ.get("NPHYBRID_ISA", "")):
    """The lines that a lesson prints."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONWARNINGS", "error::RuntimeWarning")
        environment.setenv("NPHYBRID_ISA", isa)
        return run(root, NAMES[number - 1]).splitlines()


def below(lines, heading, count):
    """The first `count` lines that are not empty, below the line with a heading."""
    at = next(i for i, line in enumerate(lines) if heading in line)
    return [line for line in lines[at + 1:] if line][:count]


def figures(line):
    return [float(figure) for figure in FIGURE.findall(line)]


def table(lines, heading, count):
    return [figures(line) for line in below(lines, heading, count)]


def agree(found, expected, digits):
    """Whether numbers printed with so many digits after the point are what is expected."""
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, rtol=0, atol=0.51 * 10.0 ** -digits)


def agrees(figure, expected):
    """Whether a number printed with two digits, like 1.2e-07, is what is expected."""
    return agree(float(figure), expected, 1 - math.floor(math.log10(expected)) if expected else 99)


# ------------------------------------------------------------------ all of them

def test_the_list_is_complete(root):
    assert {path.name for path in (root / "examples").glob("lesson*")} == set(NAMES)


@pytest.mark.parametrize("number", range(1, 1 + len(LESSONS)))
def test_a_lesson_is_short_and_says_what_it_is(root, number):
    text = (root / "examples" / NAMES[number - 1]).read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) < 100
    assert docstring.startswith(f"Lesson {number}: ") and f"\n    python examples/{NAMES[number - 1]}" in docstring
    sources = re.findall(r"nphybrid/[\w/]+\.py", docstring)
    assert "In the package: nphybrid/" in " ".join(docstring.split())
    assert all((root / source).exists() for source in sources)
    assert imports(text) <= {"collections", "fractions", "itertools", "math", "pathlib", "numpy", "nphybrid"}


@pytest.mark.parametrize("number", range(1, 1 + len(LESSONS)))
def test_a_lesson_prints_a_page_that_fits(root, number):
    lines = printed(root, number)
    assert 20 <= len(lines) <= 80 and max(map(len, lines)) <= 80 and not [x for x in lines if x != x.rstrip()]


# ------------------------------------------------------------------ 1: weight standardization

WEIGHTS = [1, 1, 5, 5], [3, 9, 11, 17], [0.4999, 0.4999, 0.5001, 0.5001]


def test_weights_are_centred_and_scaled(root):
    lines = printed(root, 1)
    mean, variance = ([f(weights) for weights in WEIGHTS] for f in (statistics.mean, statistics.pvariance))
    rows = [[o, *weights, m, v, v ** 0.5] for o, (weights, m, v) in enumerate(zip(WEIGHTS, mean, variance))]
    assert np.allclose(table(lines, "the four weights", 3), rows, rtol=1e-6)
    inside, outside = ([[o, *((w - m) / f(v) for w in weights)]
                        for o, (weights, m, v) in enumerate(zip(WEIGHTS, mean, variance))]
                       for f in (lambda v: math.sqrt(v + 1e-8), lambda v: math.sqrt(v) + 1e-5))
    assert agree(table(lines, "Standardized:", 3), inside, 4)
    heading = "sqrt(variance) + 1e-5. Then the standardized weights of output 2 are +-1 / 1.1:"
    assert agree(table(lines, heading, 3), outside, 4)
    assert abs(inside[2][4] - outside[2][4]) > 0.2
    ratio = statistics.pstdev(WEIGHTS[1]) / statistics.stdev(WEIGHTS[1])
    assert f" sqrt(3/4) = {ratio:.4f}." in "\n".join(lines)


def test_what_standardization_does_to_the_output(root):
    """A sum of independent numbers of variance 1, each times a weight, has the variance sum(weight ** 2)."""
    ones, signs, ones_after, signs_after = table(printed(root, 1), "output                 ", 4)
    assert agree(ones, [sum(w) for w in WEIGHTS], 3)
    assert agree(signs[1:], [math.hypot(*w) for w in WEIGHTS], 3)
    assert ones_after == [0, 0, 0]
    assert agree(signs_after[1:], [2, 2, math.sqrt(2)], 3)


# ------------------------------------------------------------------ 2: SAME padding

def same(n, kernel):
    """TensorFlow's rule at stride 2: what ceil(n / 2) windows need, the larger half of it at the end."""
    missing = max((math.ceil(n / 2) - 1) * 2 + kernel - n, 0)
    return missing // 2, math.ceil(missing / 2)


def symmetric(n, kernel):
    """torch.nn.Conv2d(padding=kernel // 2)"""
    return kernel // 2, kernel // 2


RULES = {"same:": same, "symmetric, PyTorch's:": symmetric}


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize("rule", RULES)
def test_windows_read_what_is_drawn(root, n, rule):
    lines = printed(root, 2)
    at = next(i for i, line in enumerate(lines) if line.startswith(f"n = {n}: 4 windows "))
    before, after = RULES[rule](n, 3)
    assert figures(lines[at])[2:] == [4, 1, 2, 3, 9, sum(same(n, 3))]
    stated, cells, *windows = below(lines[at:], f"n = {n}", 13)[slice(6) if rule == "same:" else slice(6, 12)]
    assert stated == f"    {rule} {before} before, {after} after"
    assert cells.split() == ["."] * before + [*"12345678"[:n]] + ["."] * after
    for i, window in enumerate(windows):
        left, right = window.index("["), window.index("]")
        inside = cells[left:right + 1].replace(".", "0").split()
        assert inside == ["0" if c == "." else c for c in cells.split()[2 * i:2 * i + 3]]
        assert window.split()[-1] == "".join(inside)
    assert len(windows) == math.ceil(n / 2) == 4


def test_the_middle_of_each_window(root):
    lines = printed(root, 2)
    square = np.arange(1, 17).reshape(4, 4)
    rows = table(lines, "the map ", 4)
    assert np.array_equal([row[:4] for row in rows], square)
    assert np.array_equal([row[4:6] for row in rows[:2]], square[1::2, 1::2])
    assert np.array_equal([row[6:] for row in rows[:2]], square[::2, ::2])


def test_how_far_the_layers_shift(root):
    """The numbers of pixels go through the layers: each window passes on its middle one."""
    lines = printed(root, 2)
    middles, expected = {rule: list(range(384)) for rule in (same, symmetric)}, []
    for kernel in 7, 3, 3, 3:
        n, row = len(middles[same]), []
        for rule in same, symmetric:
            before, after = rule(n, kernel)
            padded = [None] * before + middles[rule] + [None] * after
            middles[rule] = padded[kernel // 2::2][:n // 2]
            row += [before, after, middles[rule][0]]
        expected.append([n, kernel, *row])
    assert [row[-8:] for row in table(lines, "kernel    same", 4)] == expected
    assert expected[-1][4] == middles[same][0] - middles[symmetric][0] == 15
    stride = middles[same][1] - middles[same][0]
    assert f"covers {stride} x {stride} pixels" in lines[-4] and "read 15 pixels too far" in lines[-3]


# ------------------------------------------------------------------ 3: the bottleneck

def maps(rows, channels):
    """Rows of maps side by side -> (1, H, W, C)"""
    return np.array(rows).reshape(len(rows), channels, -1).transpose(0, 2, 1)[None]


def grouped(lines, heading, x, scale, *bias):
    """The group norm of x by loops; its statistics are checked against those printed below a heading."""
    halves = np.split(x, 2, axis=3)
    expected = [[g, statistics.mean(half.ravel()), statistics.pvariance(half.ravel())] for g, half in enumerate(halves)]
    assert agree(table(lines, heading, 2), expected, 3)
    return loops.group_norm(x, Norm(np.full(len(bias), scale), np.array(bias)), 2, 1e-5)


def signs(text):
    return [{"+": 1.0, "-": -1.0}[sign] for sign in text.split()]


def test_the_bottleneck_step_by_step(root):
    lines = printed(root, 3)
    around, odd = ((0, 0), (0, 0)), ((0, 1), (0, 1))
    x = maps(table(lines, "x: 4 channels", 4), 4)

    conv1 = np.array([[1, 1, -1, -1], [1, -1, 1, -1]]).T.reshape(1, 1, 4, 2)
    y = loops.conv2d(x, conv1, 1, 1, around)
    assert agree(maps(table(lines, "conv1, 1x1: the outputs are channels 0 + 1 - 2 - 3, and 0 - 1 + 2 - 3", 4), 2),
                 y, 3)
    y = np.maximum(grouped(lines, "norm1, ReLU", y, 1, 0, 0), 0)
    assert agree(maps(table(lines, "norm1, ReLU", 6)[2:], 2), y, 3)

    drawn = [re.split(" {6}", line.strip()) for line in below(lines, "input 0 input 1    input 0 input 1", 3)]  # taps
    conv2 = np.array([[[signs(taps) for taps in output.split("   ")] for output in row] for row in drawn])
    conv2 = conv2.transpose(0, 3, 2, 1)                                                         # (KH, KW, C, O)
    assert conv2.shape == (3, 3, 2, 2) and np.allclose(loops.standardize(conv2, 1e-8), conv2, atol=1e-8)
    y = loops.conv2d(y, conv2, 2, 1, odd)
    assert agree(maps(table(lines, "The outputs of conv2 are", 2), 2), y, 3)
    y = np.maximum(grouped(lines, "norm2, ReLU", y, 5, 0, 0), 0)
    assert agree(maps(table(lines, "norm2, ReLU: the learned scale is 5", 4)[2:], 2), y, 3)

    difference = y[..., :1] - y[..., 1:]
    y = np.concatenate([difference, -difference] * 2, axis=3)
    assert agree(maps(table(lines, "conv3, 1x1: the outputs are channels 0 - 1, 1 - 0, 0 - 1 and 1 - 0", 2), 4), y, 3)
    y = grouped(lines, "norm3, scale 5", y, 5, 0, 0, 1, 1)
    assert agree(maps(table(lines, "norm3, scale 5, bias 0 0 1 1, no ReLU.", 4)[2:], 4), y, 3)

    proj = next(line for line in lines if "shortcut, 1x1, stride 2. The weights: " in line).split(": ")[1].split(",")
    shortcut = loops.conv2d(x, np.array([signs(of_output) for of_output in proj]).T.reshape(1, 1, 4, 4), 2, 1, around)
    assert agree(maps(table(lines, "The shortcut", 2), 4), shortcut, 3)
    alone = ", ".join(f"{statistics.pvariance(channel.ravel()):g}" for channel in shortcut[0].T)
    assert f"The variances of these channels are {alone}. So a norm per channel would" in lines
    shortcut = grouped(lines, "The norm of the shortcut", shortcut, 5, 0, 0, 0, 0)
    assert agree(maps(table(lines, "The norm of the shortcut, scale 5", 4)[2:], 4), shortcut, 3)
    assert agree(maps(table(lines, "The sum with the shortcut", 2), 4), np.maximum(y + shortcut, 0), 3)
    assert table(lines, "The sum with the shortcut", 2) == [[0, 15, 0, 0, 0, 10, 10, 0], [0, 0, 9, 3, 0, 0, 4, 4]]


# ------------------------------------------------------------------ 4: from grid to tokens, beside examples/one_page.py

@functools.cache
def cat(root):
    """pixels (1, 64, 64, 3), feature map (1, 8, 8, 256) and the arrays of the bundled file."""
    arrays, config = one_page.load(default_model())
    pixels = one_page.pixels(root / "examples" / "images" / "cat.png", config["image_size"])
    return pixels, one_page.backbone(pixels, arrays, config["backbone_config"]), arrays


def test_patches_run_row_by_row(root):
    rows = table(printed(root, 4), "A map of 4 x 4", 4)
    square = np.arange(16).reshape(4, 4)
    corners = [square[i:i + 2, j:j + 2].ravel() for i in (0, 2) for j in (0, 2)]
    assert np.array_equal([row[:4] for row in rows], square) and np.array_equal([row[4:] for row in rows], corners)


def test_shades_are_the_photograph(root):
    pixels, _, _ = cat(root)
    mean = [[pixels[0, 8 * i:8 * i + 8, 8 * j:8 * j + 8].mean() for j in range(8)] for i in range(8)]
    lines = below(printed(root, 4), "The table shows the token number of each cell:", 8)
    shades = [[" .:-=+*#%@".index(line[4 + 2 * j]) for j in range(8)] for line in lines]
    expected = 9 * (np.array(mean) - np.min(mean)) / (np.max(mean) - np.min(mean))
    assert np.abs(np.array(shades) - expected).max() <= 0.501
    assert [figure for line in lines for figure in figures(line[20:])] == [*range(1, 65)]


def test_a_token_is_its_cell_projected_and_its_position(root):
    _, features, arrays = cat(root)
    name = "vit.embeddings."
    weight, bias = (arrays[f"{name}patch_embeddings.projection.{part}"] for part in ("weight", "bias"))
    projected = np.array([math.fsum(weight[d, :, 0, 0] * features[0, 3, 2]) + bias[d] for d in range(5)])
    position = arrays[name + "position_embeddings"][0, 27, :5]
    width, channels = weight.shape[:2]
    assert f"the {channels} numbers of the cell into {width} numbers." in "\n".join(printed(root, 4))
    cell, where, token = table(printed(root, 4), f"first five of the {width} numbers:", 3)
    assert where[0] == token[0] == 1 + 8 * 3 + 2
    assert agree([cell, where[1:], token[1:]], [projected, position, projected + position], 4)
    assert "row 3, column 2: token 1 + 8 x 3 + 2 = 27." in "\n".join(printed(root, 4))


def test_how_alike_positions_are(root):
    lines = printed(root, 4)
    with h5py.File(default_model()) as file:
        positions = file["vit.embeddings.position_embeddings"][0, 1:].astype(np.float64)
    cosines = {((i, j), (k, l)): 100 * positions[8 * i + j] @ positions[8 * k + l]
               / math.sqrt(sum(positions[8 * i + j] ** 2) * sum(positions[8 * k + l] ** 2))
               for i in range(8) for j in range(8) for k in range(8) for l in range(8)}
    of_27 = [[cosines[(3, 2), (k, l)] for l in range(8)] for k in range(8)]
    assert agree(table(lines, "is 100 times the cosine of two position vectors:", 8), of_27, 0)
    kinds = {"neighbours in a row": lambda i, j, k, l: i == k and abs(j - l) == 1,
             "neighbours in a column": lambda i, j, k, l: j == l and abs(i - k) == 1,
             "columns c and 7 - c": lambda i, j, k, l: i == k and j + l == 7,
             "any two cells": lambda i, j, k, l: (i, j) != (k, l)}
    for kind, chosen in kinds.items():
        mean = statistics.mean(cosine for (a, b), cosine in cosines.items() if chosen(*a, *b))
        line = next(line for line in lines if kind in line)
        assert agree(figures(line.split(kind)[1])[0], mean, 0), kind


# ------------------------------------------------------------------ 5: one attention head

QUERIES, KEYS, VALUES = ((1, 0), (0, 1), (1, 1)), ((1, 0), (0, 1), (0, 0)), ((4, 0), (0, 4), (8, 8))


def head_of(keys):
    """In fractions: scores in units of ln 2, weights, and the context of each token."""
    dots = [[sum(a * b for a, b in zip(query, key)) for key in keys] for query in QUERIES]
    weights = [[Fraction(2 ** dot, sum(2 ** other for other in row)) for dot in row] for row in dots]
    context = [[sum(weight * value[k] for weight, value in zip(row, VALUES)) for k in (0, 1)] for row in weights]
    return dots, weights, context


def test_the_head_in_fractions(root):
    lines = printed(root, 5)
    dots, weights, context = head_of(KEYS)
    unit = f"{math.sqrt(2) * math.log(2):.3f}"
    assert lines[0].split() == f"token query / {unit} key value {unit} = sqrt(2) ln 2".split()
    rows = [[t, *query, *key, *value] for t, (query, key, value) in enumerate(zip(QUERIES, KEYS, VALUES))]
    assert table(lines, "sqrt(2) ln 2", 3) == rows
    for t, line in enumerate(below(lines, "token    query . key", 3)):
        words = line.split()
        assert words[0] == str(t)
        assert agree([float(word) for word in words[1:4]], np.array(dots[t]) * math.sqrt(2) * math.log(2), 3)
        assert agree([float(word) for word in words[4:7]], np.array(dots[t]) * math.log(2), 3)
        assert [int(word) for word in words[7:10]] == [2 ** dot for dot in dots[t]]
        assert [Fraction(word) for word in words[10:13]] == weights[t]
        assert [Fraction(word) for word in words[13:]] == context[t]


def test_what_else_is_printed_about_the_head(root):
    lines = printed(root, 5)
    ratio = 2 ** math.sqrt(2)
    line = next(line for line in lines if line.startswith("Without the division, token 0 has the weights"))
    assert agree(figures(line)[1:4], [ratio / (ratio + 2), 1 / (ratio + 2), 1 / (ratio + 2)], 3)
    assert agree(figures(lines[lines.index(line) + 1])[2], ratio, 3)
    largest = float(re.search(r"exp\((.*?)\)", "\n".join(lines))[1])
    assert math.exp(largest - 0.05) < float(np.finfo(np.float32).max) < math.exp(largest + 0.05)
    swapped = head_of((KEYS[1], KEYS[0], KEYS[2]))[2]
    expected = [[t, *map(float, head_of(KEYS)[2][t]), *map(float, swapped[t])] for t in range(3)]
    assert table(lines, "context of head 0", 3) == expected


# ------------------------------------------------------------------ 6: the register tile

REGISTERS = {"avx512": 32, "avx2": 16, "neon": 32, "plain": 16}


@pytest.mark.parametrize("isa", target.available(target.TARGET) if not jit.config.DISABLE_JIT else ["plain"])
def test_the_tile_as_drawn_and_counted(root, isa):
    lines = printed(root, 6, isa)
    MR, NV, LANES = target.TILES[isa]
    name = "avx512" if isa == "amx" else isa
    assert lines[0].startswith(f"{name}: {MR} rows x {NV} vectors of {LANES} float32 = MR x NR = {MR} x {NV * LANES} ")
    assert re.findall(r"x\[(\d),k\]", "\n".join(lines)) == [*map(str, range(MR))]
    assert re.findall(r"sum (\d,\d)", "\n".join(lines)) == [f"{i},{j}" for i in range(MR) for j in range(NV)]
    assert re.findall(r"b\[k,(\d+):(\d+)\]", lines[2]) == [(str(LANES * j), str(LANES * j + LANES)) for j in range(NV)]
    steps = 3 * 2 * 10
    assert f"{2 * MR + 1} x 10 times 10 x {2 * NV * LANES - 3} takes 3 x 2 tiles of 10 steps" in "\n".join(lines)
    assert [figures(line) for line in lines[-3:]] == [[steps * each, 3, 2, 10, each] for each in (NV, MR, MR * NV)]


def test_the_budget_of_every_instruction_set(root):
    lines = printed(root, 6)
    for isa, registers in REGISTERS.items():
        MR, NV, LANES = target.TILES[isa]
        line = next(line for line in lines if re.match(rf"{isa} +\d", line))
        *budget, ratio = figures(line.removeprefix(isa))
        used = MR * NV + NV + 1
        assert budget == [MR, NV, LANES, MR * NV, NV, 1, used, registers, MR + NV, MR * NV] and used <= registers
        assert agree(ratio, MR * NV / (MR + NV), 2)


def test_the_shapes_that_fit_32_registers(root):
    rows = table(printed(root, 6), "vectors of b:", 6)
    for NV, (MR, vectors, loads, adds, ratio) in enumerate(rows, 1):
        assert vectors == NV and MR == max(m for m in range(40) if m * NV + NV + 1 <= 32)
        assert (loads, adds) == (MR + NV, MR * NV) and agree(ratio, adds / loads, 2)


# ------------------------------------------------------------------ 7: float32 from bfloat16

def rounded(x):
    """The number of 8 significant bits nearest to each float64: ties to even, exponents without bounds."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(fraction, 8)), exponent - 8)


def cut(x):
    """Three such numbers whose sum is a float32."""
    first = rounded(np.float64(x))
    second = rounded(x - first)
    return first, second, x - first - second


PI, LN2 = np.float64(np.float32(math.pi)), np.float64(np.float32(math.log(2)))
CHOSEN = {1: ["00"], 3: ["00", "01", "10"], 6: ["00", "01", "02", "10", "11", "20"],
          9: [f"{i}{j}" for i in range(3) for j in range(3)]}


def test_pi_in_parts(root):
    lines = below(printed(root, 7), "sign, exponent, significand", 5)
    for line, value in zip(lines, (PI, *cut(PI), PI)):
        assert line[12:27].strip() == f"{value:.9g}"
    for line, value in zip(lines, (PI, *cut(PI))):
        sign, exponent, upper, lower = line[31:].split()
        assert upper.startswith("1.")
        significand = int("1" + upper[2:] + lower, 2)
        assert (-1) ** int(sign) * math.ldexp(significand, int(exponent, 2) - 127 - 23) == value
        assert value == PI or not int(lower)


def test_the_nine_products(root):
    lines = printed(root, 7)
    products = {f"{i}{j}": Fraction(float(p)) * Fraction(float(q))
                for i, p in enumerate(cut(PI)) for j, q in enumerate(cut(LN2))}
    whole = Fraction(float(PI)) * Fraction(float(LN2))
    assert sum(products.values()) == whole
    for i, line in enumerate(below(lines, "ln 2, 0", 3)):
        powers = [math.log2(abs(products[f"{i}{j}"] / whole)) for j in range(3)]
        assert agree(figures(line)[1:], powers, 1)
        assert [mark == "*" for mark in re.findall(r"\.\d(\*?)", line)] == [power < -24 for power in powers]
    for line, (count, chosen) in zip(below(lines, "products of parts  ", 4), CHOSEN.items()):
        words = line.split()
        total = sum(products[pair] for pair in chosen)
        assert int(words[0]) == count and (words[1:-2] == chosen or words[1:-2] == ["all"] and count == 9)
        assert agree(float(words[-2]), float(total), 12)
        assert agrees(words[-1], float(abs(total / whole - 1)))
    *_, product, off = below(lines, "products of parts  ", 5)[-1].split()
    assert agree(float(product), float(np.float32(PI * LN2)), 12)
    assert agrees(off, abs(float(np.float32(PI * LN2)) / (PI * LN2) - 1)) and float(off) < 2 ** -24


def test_errors_of_a_matrix_product(root):
    _, *lines = below(printed(root, 7), "rows show only the error of the products that are left out.", 5)
    narrow = np.random.default_rng(0).standard_normal((2, 64, 768), np.float32)
    a, b = narrow.astype(np.float64)
    truth = np.einsum("mk,nk->mn", a, b)

    def error(product):
        return math.sqrt(np.mean((product - truth) ** 2)) / np.std(truth)
    found = {count: error(sum(np.einsum("mk,nk->mn", cut(a)[int(i)], cut(b)[int(j)]) for i, j in chosen))
             for count, chosen in CHOSEN.items()}
    for line, count in zip(lines, (1, 3, 6)):
        assert int(line.split()[0]) == count and agrees(line.split()[-1], found[count])
    assert agrees(lines[3].split()[3], error(np.einsum("mk,nk->mn", *narrow)))
    assert found[9] < 1e-14 and found[6] < 1e-8 < 1e-7 < float(lines[3].split()[3]) < found[3] < 1e-5 < found[1]


# ------------------------------------------------------------------ 8: the chain rule

class Bottleneck:
    """The unit of lesson 8 by loops, with arrays read from the page of the lesson."""

    def __init__(self, lines):
        no_padding, ring = ((0, 0), (0, 0)), ((1, 1), (1, 1))
        self.x = maps(table(lines, "The input x", 2), 4)
        taps = [signs(" ".join(line.replace(" ", ""))) for line in below(lines, "conv2, 3x3, weights", 3)]
        self.conv2 = np.array(taps).reshape(3, 2, 2, 3).transpose(0, 3, 2, 1)            # (KH, KW, C, O)
        self.conv1 = np.array([[1, 1, -1, -1], [1, -1, 1, -1]], float).T.reshape(1, 1, 4, 2)
        self.factors = maps(table(lines, "So the gradient of y is a", 2), 4)
        conv3 = np.array([[1, -1], [-1, 1]] * 2, float).T.reshape(1, 1, 2, 4)
        self.steps = {"conv1": lambda x, kernel: loops.conv2d(x, kernel, 1, 1, no_padding),
                      "norm1": lambda x: loops.group_norm(x, Norm(np.full(2, 2.), np.array([1., 0])), 2, 0),
                      "conv2": lambda x, kernel: loops.conv2d(np.maximum(x, 0), kernel, 1, 1, ring),
                      "norm2": lambda x: loops.group_norm(x, Norm(np.full(2, 3.), np.array([3., -1])), 2, 0),
                      "conv3": lambda x: loops.conv2d(np.maximum(x, 0), conv3, 1, 1, no_padding),
                      "norm3": lambda x: loops.group_norm(x, Norm(np.full(4, 3.), np.zeros(4)), 2, 0)}

    def states(self, **moves):
        """The states and the loss.  `moves`: for some names, an array that is added to a state or a kernel."""
        def moved(name, array):
            return array + moves.get(name, 0)
        found = {"x": moved("x", self.x)}
        learned = moved("learned kernel1", self.conv1)
        kernels = {"conv1": moved("kernel1", loops.standardize(learned, 0)), "conv2": moved("kernel2", self.conv2)}
        y = found["x"]
        for name, step in self.steps.items():
            y = found[name] = moved(name, step(y, kernels[name]) if name in kernels else step(y))
        found["y"] = moved("y", np.maximum(y + found["x"], 0))
        return found, (self.factors * found["y"]).sum()

    def gradient(self, name, shape):
        """The gradient of the loss by central differences."""
        gradient, step = np.zeros(shape), np.zeros(shape)
        for place in np.ndindex(*shape):
            step[place] = 1e-4
            gradient[place] = (self.states(**{name: step})[1] - self.states(**{name: -step})[1]) / 2e-4
            step[place] = 0
        return gradient


FORWARD = {"x": "The input x", "conv1": "conv1: channels 0 + 1 - 2 - 3", "conv2": "The result of conv2",
           "conv3": "conv3: channels 0 - 1, 1 - 0, 0 - 1, 1 - 0", "y": "y is the sum with x, after ReLU"}
BACKWARD = {"y": ("So the gradient of y is a", 0), "norm3": ("ReLU: 0 where y is 0.", 0), "conv3": ("norm3: dx", 4),
            "norm2": ("conv3: dx = dy @ W.T.", 0), "conv2": ("norm2: z =", 3),
            "norm1": ("conv2: dx is the sum of weight * dy", 0), "conv1": ("norm1: z =", 3),
            "x": ("The gradient of the input x", 0)}
NEAR = 1e-5                               # observed 4.5e-7: central differences against whole numbers


def test_the_states_of_the_unit(root):
    lines = printed(root, 8)
    states, _ = Bottleneck(lines).states()
    for name, heading in FORWARD.items():
        found = maps(table(lines, heading, 2), states[name].shape[-1])
        assert np.allclose(found, states[name], rtol=0, atol=1e-12), name
    for name, heading in ("norm1", "norm1, scale 2, bias 1 0, and ReLU"), ("norm2", "norm2, scale 3, bias 3 -1, and"):
        assert np.allclose(maps(table(lines, heading, 2), 2), np.maximum(states[name], 0), rtol=0, atol=1e-12), name
    assert np.allclose(states["norm3"], states["conv3"], rtol=0, atol=1e-12)             # "changes nothing"


def test_the_gradients_of_the_states(root):
    lines = printed(root, 8)
    unit = Bottleneck(lines)
    states, _ = unit.states()
    for name, (heading, above) in BACKWARD.items():
        found = maps(table(lines, heading, above + 2)[above:], states[name].shape[-1])
        expected = unit.factors if name == "y" else unit.gradient(name, states[name].shape)
        assert np.abs(found - expected).max() <= NEAR, name
        if above:                         # the means of a norm
            means = [figures(line) for line in below(lines, heading, above)[-3:-1]]
            norm, size = heading[:5], states[name].shape[-1] // 2
            dy = unit.gradient(norm, states[norm].shape)
            x = states[name]
            for g, row in enumerate(means):
                group = slice(g * size, (g + 1) * size)
                z = (x[..., group] - x[..., group].mean()) / x[..., group].std()
                expected = [g, dy[..., group].mean(), (dy[..., group] * z).mean()]
                assert np.abs(np.array(row) - expected).max() <= NEAR


def test_the_gradients_of_the_weights(root):
    lines = printed(root, 8)
    unit = Bottleneck(lines)
    found = np.array(table(lines, "conv2: dW is the sum", 3)).reshape(3, 2, 2, 3).transpose(0, 3, 2, 1)
    assert np.abs(found - unit.gradient("kernel2", (3, 3, 2, 2))).max() <= NEAR
    rows = np.array(table(lines, "learned weights follows", 2))                          # output, 4 numbers, 4 numbers
    for name, found in ("kernel1", rows[:, 1:5]), ("learned kernel1", rows[:, 5:]):
        assert np.abs(found - unit.gradient(name, (1, 1, 4, 2))[0, 0].T).max() <= NEAR, name


# ------------------------------------------------------------------ 9: the gradient of attention

def fractions(lines, heading, count):
    return [[Fraction(word) for word in line.split()] for line in below(lines, heading, count)]


def dot(a, b):
    return sum(p * q for p, q in zip(a, b))


def test_the_gradients_of_the_head_in_fractions(root):
    """The derivative of weight i with respect to score j is weights[i] * ((i == j) - weights[j])."""
    lines = printed(root, 9)
    _, weights, context = head_of(KEYS)
    rows = fractions(lines, "token                  weights", 3)
    dy = [row[6:] for row in rows]
    assert [row[:6] for row in rows] == [[t, *weights[t], *VALUES[t]] for t in range(3)]
    dweights = [[dot(dy[t], value) for value in VALUES] for t in range(3)]
    dv = [[dot([row[s] for row in weights], [row[k] for row in dy]) for k in (0, 1)] for s in range(3)]
    assert fractions(lines, "dv                   dweights", 3) == [[t, *dv[t], *dweights[t]] for t in range(3)]
    dscores = [[sum(dweights[t][i] * weights[t][i] * ((i == j) - weights[t][j]) for i in range(3)) for j in range(3)]
               for t in range(3)]
    expected = [[t, *context[t], dot(weights[t], dweights[t]), *dscores[t]] for t in range(3)]
    assert fractions(lines, "context              mean", 3) == expected
    assert [dot(dy[t], context[t]) for t in range(3)] == [row[3] for row in expected]
    dq = [[dot(dscores[t], [key[k] for key in KEYS]) for k in (0, 1)] for t in range(3)]
    dk = [[dot([row[s] for row in dscores], [query[k] for query in QUERIES]) for k in (0, 1)] for s in range(3)]
    assert fractions(lines, "sqrt(2) * dq          dk / ln 2", 3) == [[t, *dq[t], *dk[t]] for t in range(3)]
    assert [sum(column) for column in zip(*dk)] == [0, 0]
    of_bias = " and ".join(str(sum(column)) for column in zip(*dq))
    assert f"sqrt(2) times the sum is {of_bias}." in "\n".join(lines)


def test_the_difference_of_two_losses(root):
    """The loss along key[1, 0], by Python floats."""
    lines = printed(root, 9)
    dy = [row[6:] for row in fractions(lines, "token                  weights", 3)]

    def loss(moved):
        keys = [list(map(float, key)) for key in KEYS]
        keys[1][0] += moved
        total = 0.0
        for t, query in enumerate(QUERIES):
            powers = [2 ** dot(query, key) for key in keys]
            total += sum(power * float(dot(dy[t], value)) for power, value in zip(powers, VALUES)) / sum(powers)
        return total
    rule = re.search(r"dk\[1, 0\] = (\S+) \* ln 2 = (\S+)\.$", lines[-1])
    assert Fraction(rule[1]) == fractions(lines, "sqrt(2) * dq          dk / ln 2", 3)[1][3]
    assert agree(float(rule[2]), float(Fraction(rule[1])) * math.log(2), 6)
    difference = float(re.search(r"divided by 0\.002, is (\S+)\. The", "\n".join(lines))[1])
    assert agree(difference, (loss(0.001) - loss(-0.001)) / 0.002, 6)


# ------------------------------------------------------------------ 10: AdamW

STEPS = (100, 1, 1e-8, 0), (100, -1, 1e-8, 1)


def test_two_steps_of_adamw(root):
    """m and v as weighted sums of all gradients since the start."""
    lines = printed(root, 10)
    assert figures(lines[0].replace("beta1", "").replace("beta2", "")) == [0.1, 0.2, 0.9, 0.999, 1e-8]
    weights = [10.0] * 4
    for t in (1, 2):
        rows = table(lines[next(i for i, line in enumerate(lines) if line.startswith(f"Step t = {t}")):], "new w", 4)
        for n, row in enumerate(rows):
            g = [step[n] for step in STEPS[:t]]
            m = sum(0.1 * 0.9 ** (t - 1 - i) * g[i] for i in range(t))
            v = sum(0.001 * 0.999 ** (t - 1 - i) * g[i] ** 2 for i in range(t))
            mean, root_v = m / (1 - 0.9 ** t), math.sqrt(v / (1 - 0.999 ** t))
            move = 0.1 * mean / (root_v + 1e-8)
            decayed = 0.02 * weights[n]
            assert np.allclose(row[:6], [weights[n], g[-1], m, v, mean, root_v], rtol=6e-4, atol=0)
            assert agree(row[6:7] + row[8:], [move, weights[n] - decayed - move], 4) and agree(row[7], decayed, 3)
            weights[n] -= decayed + move


def test_what_else_is_printed_about_adamw(root):
    text = " ".join(" ".join(printed(root, 10)).split())
    assert "m' = m / 0.1 and v' = v / 0.001:" in text and "m' = m / 0.19 and v' = v / 0.001999:" in text
    assert f"back by only 0.1 / 19 = {0.1 / 19:.4f}" in text
    assert f"0.1 / sqrt(0.001) = {math.sqrt(10):.3f} times the learning rate" in text
    penalized = [10 - 0.1 * (g + 2) / (g + 2 + 1e-8) for g in STEPS[0]]
    assert f"would give {' '.join(f'{w:.3f}' for w in penalized)}." in text


# ------------------------------------------------------------------ 11: a product in int8

INT8_X, INT8_W = (-1, 0.505, 2.006, 4.1), (0.504, -0.25, 1.27, -0.896)


def test_a_product_in_int8(root):
    """Fractions: a step is 5.1 / 255 = 1/50 for x and 1.27 / 127 = 1/100 for w."""
    lines = printed(root, 11)
    q = [round(Fraction(str(x)) * 50) + 50 for x in INT8_X]
    v = [round(Fraction(str(w)) * 100) for w in INT8_W]
    rows = table(lines, "(q - zero) * scale", 4)
    for row, x, n, w, m in zip(rows, INT8_X, q, INT8_W, v, strict=True):
        assert row[1:2] + row[4:5] + row[6:] == [n, m, n * m]
        assert agree([row[0], *row[2:4], row[5]], [x, (n - 50) / 50, w, m / 100], 3)
    text = "\n".join(lines)
    assert "scale = 0.0200, and 0 becomes zero = 50" in text and "channel scale = 0.0100" in text
    exact = sum((n - 50) * m for n, m in zip(q, v))
    assert f"sum of q * v             {dot(q, v)}\n" in text and f"zero * sum of v          50 * {sum(v)} = " in text
    assert f"{dot(q, v)} - {50 * sum(v)} = {exact}\n" in text
    assert f"(0.0200 * 0.0100) = {exact / 5000:.4f}\n" in text
    assert f"without rounding         {dot(INT8_X, INT8_W):.4f}" in text


def test_the_words_and_the_bfloat16_product(root):
    lines = printed(root, 11)
    for name, values in (("x", [0, 75, 150, 255]), ("w", [50, -25, 127, -90])):
        word = next(line for line in lines if line.startswith(f"word of {name}"))
        assert [int(byte, 16) for byte in word.split()[3:7]][::-1] == [value % 256 for value in values]
    halves = [[float(rounded(np.float64(np.float32(number)))) for number in numbers] for numbers in (INT8_X, INT8_W)]
    for name, numbers in zip("xw", halves):
        line = next(line for line in lines if line.startswith(f"bfloat16 {name}"))
        assert [float(number) for number in line.split()[2:]] == [float(f"{number:.7g}") for number in numbers]
    assert agree(figures(lines[-3]), [dot(*halves)], 4)
    errors = [abs(number - dot(INT8_X, INT8_W)) for number in (-8875 / 5000, dot(*halves))]
    assert agree([float(error) for error in re.findall(r"0\.\d+", lines[-1])], errors, 4)
