"""The summary against a real forward pass, against formulas per layer, and against the published cost."""
import json
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import model
from nphybrid.config import PRESETS, Config
from nphybrid.modelfile.summary import SUMMED, Row, format_text, summarize
from nphybrid.ops import reference
from nphybrid.params import count, random, shapes
from nphybrid.text import grouped, table, undivided
from nphybrid.trace import Trace, state_as_json, states, states_table

TOY = Config(image=(39, 50), stem=8, depths=(1, 2), widths=(16, 24), groups=2, width=12, blocks=2, heads=3,
             hidden=20, classes=5)
BIT = dict(padding="symmetric", pool_padding="valid", unit="preactivation",
           width=0, blocks=0, heads=0, hidden=0)
TOYS = {
    "hybrid": TOY,
    "patch": replace(TOY, patch=2, qkv_bias=False, output_stride=4),
    "no head": replace(TOY, classes=0),
    "stem": replace(TOY, depths=(), widths=(), patch=3),
    "bit": replace(TOY, **BIT),
    "bit without head": replace(TOY, **{**BIT, "classes": 0}),
    "bottleneck bit": replace(TOY, **{**BIT, "unit": "bottleneck"}),
}


@pytest.fixture(params=TOYS)
def config(request):
    return TOYS[request.param]


def compute_states(config):
    """Every state of a forward pass of one picture."""
    out = Trace()
    tree = reference.prepare(random(shapes(config), seed=1), config)
    x = np.random.default_rng(1).normal(size=(1, *config.image, config.channels)).astype(np.float32)
    (model.hybrid if config.blocks else model.bit)(x, tree, config, reference, out)
    return out


def halved(n, times):
    for _ in range(times):
        n = -(-n // 2)
    return n


def hybrid_multiply_adds(pixels, stem, depths, widths, P, D, L, F, K):
    """Layer by layer, for a square picture and SAME padding: outputs times inputs per output."""
    cells, C = halved(pixels, 1) ** 2, stem
    total, cells = cells * 7 * 7 * 3 * stem, halved(pixels, 2) ** 2
    for s, (depth, O) in enumerate(zip(depths, widths)):
        M = O // 4
        for u in range(depth):
            before, cells = cells, halved(pixels, 2 + s) ** 2
            total += before * C * M + cells * 9 * M * M + cells * M * O + (cells * C * O if u == 0 else 0)
            C = O
    side = halved(pixels, 2 + max(0, len(depths) - 1)) // P
    N = side * side
    T = N + 1
    return total + N * P * P * C * D + L * (4 * T * D * D + 2 * T * T * D + 2 * T * D * F) + D * K


ARCHITECTURES = {                         # depths, widths, P, D, L, F
    "R+ViT-Ti/16": ((), (), 8, 192, 12, 768),
    "R26+ViT-S/32": ((2, 2, 2, 2), (256, 512, 1024, 2048), 1, 384, 12, 1536),
    "R26+ViT-B/32": ((2, 2, 2, 2), (256, 512, 1024, 2048), 1, 768, 12, 3072),
    "R50+ViT-B/16": ((3, 4, 9), (256, 512, 1024), 1, 768, 12, 3072),
    "R50+ViT-L/32": ((3, 4, 6, 3), (256, 512, 1024, 2048), 1, 1024, 24, 4096),
}


# -- rows ------------------------------------------------------------------------------------------

def test_rows_are_the_states_of_a_real_walk(config):
    states = {name: x.shape for name, x in compute_states(config).items() if not name.endswith(".weights")}
    assert {row.name: row.shape for row in summarize(config)} == states
    assert [row.name for row in summarize(config)] == list(states)


def test_the_last_block_can_compute_one_token():
    """All other rows stay the same, and so do the keys and values of the last block."""
    T, D, F = TOY.tokens, TOY.width, TOY.hidden
    work = {name: (all_tokens, one) for name, all_tokens, one in (
        ("query", T * D * D, D * D), ("context", 2 * T * T * D, 2 * T * D), ("out", T * D * D, D * D),
        ("fc1", T * D * F, D * F), ("", T * D * F, D * F))}
    changed = {f"blocks.{TOY.blocks - 1}.{name}".rstrip("."): counts for name, counts in work.items()}
    for full, short in zip(summarize(TOY), summarize(TOY, needed=1), strict=True):
        assert (full.multiply_adds, short.multiply_adds) == changed.get(full.name, (full.multiply_adds,) * 2)


def test_parameters_add_up(config):
    assert sum(row.parameters for row in summarize(config)) == count(shapes(config))


def test_who_owns_what():
    owned = {row.name: row.parameters for row in summarize(TOY)}
    assert owned["stem.conv"] == 7 * 7 * 3 * 8
    assert owned["stem.norm"] == 2 * 8
    assert owned["stages.0.0"] == 2 * 16  # norm3 ends the unit
    assert owned["tokens.proj"] == 24 * 12 + 12
    assert owned["tokens"] == 12 + 12 * TOY.tokens  # class token and positions
    assert owned["blocks.1.query"] == 12 * 12 + 12
    assert owned["blocks.1"] == 20 * 12 + 12  # fc2 ends the block
    assert owned["logits"] == 12 * 5 + 5
    assert owned["pixel_values"] == owned["blocks.1.context"] == 0


def test_who_costs_what():
    cost = {row.name: row.multiply_adds for row in summarize(TOY)}
    T, (rows, columns) = TOY.tokens, TOY.grid
    assert (rows, columns) == (5, 7)
    assert cost["stem.conv"] == 20 * 25 * 7 * 7 * 3 * 8
    assert cost["stages.1.0.conv2"] == 5 * 7 * 3 * 3 * 8 * 8
    assert cost["stages.1.0.proj"] == 5 * 7 * 16 * 24
    assert cost["tokens.proj"] == 35 * 24 * 12
    assert cost["blocks.0.context"] == 2 * T * T * 12
    assert cost["blocks.0.fc1"] == cost["blocks.0"] == T * 12 * 20
    assert cost["logits"] == 12 * 5
    assert cost["stem.norm"] == cost["blocks.0.norm1"] == cost["pixel_values"] == 0


# -- the published networks ------------------------------------------------------------------------

def test_the_published_hybrid_costs_67_billion():
    rows = summarize(PRESETS["R50+ViT-B/16"])
    assert sum(row.multiply_adds for row in rows) == 67_155_787_776
    assert sum(row.parameters for row in rows) == 98_950_952


@pytest.mark.parametrize("pixels", [224, 384, 95])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_multiply_adds_by_formula(name, pixels):
    rows = summarize(replace(PRESETS[name], image=(pixels, pixels)))
    expected = hybrid_multiply_adds(pixels, 64, *ARCHITECTURES[name], 1000)
    assert sum(row.multiply_adds for row in rows) == expected


def test_the_formula_knows_every_hybrid():
    assert set(ARCHITECTURES) == {name for name, config in PRESETS.items() if config.blocks}


# timm's benchmark tables, in 10^9; they leave attention's two products out and count the norms in.
@pytest.mark.parametrize("name, pixels, billions", [
    ("R+ViT-Ti/16", 224, 0.43), ("R+ViT-Ti/16", 384, 1.25), ("R26+ViT-S/32", 224, 3.54),
    ("R26+ViT-S/32", 384, 10.24),
    ("R26+ViT-B/32", 224, 6.76), ("R50+ViT-B/16", 224, 20.94), ("R50+ViT-B/16", 384, 61.29),
    ("R50+ViT-L/32", 224, 19.45), ("R50+ViT-L/32", 384, 56.4)])
def test_multiply_adds_of_the_benchmarks(name, pixels, billions):
    rows = summarize(replace(PRESETS[name], image=(pixels, pixels)))
    total = sum(row.multiply_adds for row in rows if not row.name.endswith(".context"))
    assert 0.97 < total / 1e9 / billions < 1  # observed 0.972 to 0.996


# -- text ------------------------------------------------------------------------------------------

def test_a_table_aligns_its_columns():
    assert table([("ab", "c"), ("d", "1,000")], "<>") == "ab      c\nd   1,000"


def test_a_table_has_no_blanks_at_its_end():
    assert table([("ab", "cdef"), ("d", "e")], "<<") == "ab  cdef\nd   e"


def test_a_table_counts_the_columns_of_a_terminal():
    """A Chinese character takes two columns, and an accent that follows its letter takes none."""
    assert table([("猫", "1"), ("cafe\u0301s", "22")], "<>") == "猫      1\ncafe\u0301s  22"


def test_the_summary_as_text_ends_with_the_sums():
    rows = [Row("stem", (1, 2, 30, 4), 1000, 2_000_000, 2048), Row("logits", (1, 5), 7, 1, 20)]
    assert format_text(rows).splitlines() == [
        "state   shape   parameters  of all  multiply-adds  of all  states KB",
        "stem    2x30x4       1,000   99.3%      2,000,000  100.0%          2",
        "logits  5                7    0.7%              1    0.0%          0",
        "total                1,007  100.0%      2,000,001  100.0%          2",
    ]


def test_bytes_are_those_of_the_states(config):
    assert {row.name: row.bytes for row in summarize(config)} == {
        name: x.nbytes for name, x in compute_states(config).items() if not name.endswith(".weights")}


# -- groups ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("depth", [1, 2, 3, 4, None])
def test_each_group_is_the_sum_of_the_states_in_it(config, depth):
    """A state is in a group if its name is the name of the group, or begins with this name and a dot."""
    rows = summarize(config)
    lines = list(grouped(rows, SUMMED, depth))
    assert max(line.level for line in lines) == min(depth or 4, 4 if config.depths else 3)
    for line in lines:
        whole = line.name.removeprefix("rest of ")
        inside = [row for row in rows if row.name == whole or row.name.startswith(f"{whole}.")]
        if line.name != whole:
            inside = [row for row in rows if row.name == whole]
        for field in SUMMED:
            assert getattr(line.row, field) == sum(getattr(row, field) for row in inside)
        assert line.row.shape == inside[-1].shape


@pytest.mark.parametrize("depth", [1, 2, 3, 4, None])
def test_rows_that_are_not_divided_add_up_to_the_total(config, depth):
    rows = summarize(config)
    cut = undivided(rows, SUMMED, depth)
    for field in SUMMED:
        assert sum(getattr(row, field) for row in cut) == sum(getattr(row, field) for row in rows)
    assert len({row.name for row in cut}) == len(cut)
    assert (cut == rows) == (depth is None)


def test_depth_1_has_the_parts_of_the_network():
    assert [row.name for row in undivided(summarize(TOY), SUMMED, 1)] == [
        "pixel_values", "stem", "stages", "tokens", "blocks", "norm", "logits"]


def test_no_state_looks_like_the_total_of_its_group():
    """The parameters of the row blocks.0 are all parameters of the block, by the formula of a block."""
    D, F = TOY.width, TOY.hidden
    lines = {line.label.strip(): line.row.parameters for line in grouped(summarize(TOY), SUMMED)}
    assert lines["blocks.0"] == 4 * (D * D + D) + 4 * D + D * F + F + F * D + D
    assert lines["rest of blocks.0"] == F * D + D
    assert lines["blocks"] == 2 * lines["blocks.0"]


def test_lines_are_indented_by_level():
    rows = [Row("stem.conv", (1, 3), 1, 10, 12), Row("stem", (1, 2), 2, 20, 8), Row("norm", (1, 2), 4, 40, 8)]
    text = [line.split("  ")[:2] for line in format_text(rows).splitlines()]
    assert [line.label for line in grouped(rows, SUMMED)] == ["stem", "  stem.conv", "  rest of stem", "norm"]
    assert text[1][0] == "stem" and text[2] == ["", "stem.conv"] and text[3] == ["", "rest of stem"]
    assert [line.label for line in grouped(rows, SUMMED, 1)] == ["stem", "norm"]


# -- states that were computed ---------------------------------------------------------------------

def noted(seconds=None, **arrays):
    """A Trace that holds these states, and took so long."""
    out = Trace()
    for name, array in arrays.items():
        out[name] = array
    out.seconds = dict.fromkeys(arrays, 0.25) if seconds is None else seconds
    return out


def test_mean_and_rms_are_summed_in_float64():
    """In float32 the sum of 2^24 + 3 ones stops at 2^24."""
    ones = np.broadcast_to(np.float32(1), (2**24 + 3, 1))
    large = np.float32([1e30, -1e30, 1e30])
    x, y = states(noted(x=ones, y=large))
    assert (x.mean, x.rms) == (1, 1)
    assert y.mean == pytest.approx(float(large[0]) / 3, rel=1e-12)
    assert y.rms == pytest.approx(float(large[0]), rel=1e-12)


def test_a_state_that_was_not_timed_has_no_share():
    rows = states(noted({"a": 0.75, "c": 0.25}, a=np.ones((1, 2)), b=np.zeros((1, 3, 1)), c=np.float32(-2)))
    assert [(row.seconds, row.share) for row in rows] == [(0.75, 0.75), (None, None), (0.25, 0.25)]
    assert states_table(rows).splitlines() == [
        "state  shape  mean  rms        ms  of time",
        "a      1x2       1    1   750.000    75.0%",
        "b      1x3x1     0    0         -        -",
        "c      ()       -2    2   250.000    25.0%",
        "total                    1000.000   100.0%"]


def test_a_group_has_the_time_of_all_its_states_and_the_numbers_of_the_last():
    trace = noted({"b.x": 0.5, "b": 0.25, "c": 0.25}, **{"b.x": np.ones(2), "b.w": np.ones(1), "b": np.full(3, 2.0),
                                                         "c": np.zeros(1)})
    assert states_table(states(trace), 1).splitlines() == [
        "state  shape  mean  rms        ms  of time",
        "b      3         2    2   750.000    75.0%",
        "c      1         0    0   250.000    25.0%",
        "total                    1000.000   100.0%"]
    labels = [line.split()[0:3] for line in states_table(states(trace)).splitlines()]
    assert labels[1][:1] == ["b"] and labels[2][:1] == ["b.x"] and labels[3][:1] == ["b.w"]
    assert labels[4] == ["rest", "of", "b"] and labels[5][:1] == ["c"]


@pytest.mark.parametrize("numbers, mean, rms", [([np.inf, 1], "inf", "inf"), ([np.inf, -np.inf], "nan", "inf"),
                                                ([np.nan, 1], "nan", "nan"), ([3, -3], 0, 3)])
def test_what_is_not_finite_is_a_string_in_json(numbers, mean, rms):
    row, = states(noted(x=np.float32(numbers)))
    told = json.loads(json.dumps(state_as_json(row)), parse_constant=pytest.fail)
    assert told == {"name": "x", "shape": [2], "dtype": "float32", "mean": mean, "rms": rms, "seconds": 0.25,
                    "share": 1}
