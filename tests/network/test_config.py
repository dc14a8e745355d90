"""Sizes: the plan and the paddings against brute force, the published networks against their tables."""
from dataclasses import FrozenInstanceError, replace
from itertools import product
from math import ceil

import pytest

from nphybrid.config import (PRESETS, Config, feature_size, inner_width, nearest_multiple_of_8, pads, plan, stem_border,
                             window_count)


def starts(n, kernel, stride, dilation):
    """Every place of an axis of n cells at which a window finds room."""
    return [i for i in range(0, n, stride) if i + dilation * (kernel - 1) < n]


def least_padding(n, kernel, stride, dilation):
    """The fewest cells that give every stride-th cell of the axis a window of its own."""
    return next(total for total in range(100)
                if len(starts(n + total, kernel, stride, dilation)) >= len(range(0, n, stride)))


AXES = list(product(range(1, 41), (1, 2, 3, 5, 7), (1, 2, 3, 4), (1, 2, 4)))


# -- one axis --------------------------------------------------------------------------------------

def test_same_padding_is_the_least_that_keeps_every_stride_th_cell():
    for n, kernel, stride, dilation in AXES:
        before, after = pads("same", n, kernel, stride, dilation)
        assert before + after == least_padding(n, kernel, stride, dilation)
        assert after - before in (0, 1)


def test_same_padding_gives_n_over_stride_rounded_up():
    for n, kernel, stride, dilation in AXES:
        around = pads("same", n, kernel, stride, dilation)
        if kernel >= stride:
            assert window_count(n, kernel, stride, dilation, around) == ceil(n / stride)


@pytest.mark.parametrize("kernel, stride, even, odd", [
    (7, 2, (2, 3), (3, 3)),               # the stem
    (3, 2, (0, 1), (1, 1)),               # the pool, and conv2 of stride 2
    (3, 1, (1, 1), (1, 1)),               # conv2 of stride 1
    (1, 2, (0, 0), (0, 0)),               # the projection of stride 2
    (1, 1, (0, 0), (0, 0)),
])
def test_tensorflows_table(kernel, stride, even, odd):
    for n in range(8, 60):
        assert pads("same", n, kernel, stride) == (odd if n % 2 else even)


def test_same_padding_is_not_pytorchs():
    assert pads("symmetric", 224, 7, 2) == (3, 3) != pads("same", 224, 7, 2)
    assert pads("symmetric", 56, 3, 2) == (1, 1) != pads("same", 56, 3, 2)


@pytest.mark.parametrize("kernel, stride, dilation, each", [
    (7, 2, 1, 3), (3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (3, 1, 4, 4), (1, 1, 1, 0), (1, 2, 1, 0),
    (3, 2, 2, 2),
])
def test_symmetric_padding_does_not_ask_how_long_the_axis_is(kernel, stride, dilation, each):
    assert {pads("symmetric", n, kernel, stride, dilation) for n in range(1, 40)} == {(each, each)}


def test_valid_padding_is_none():
    assert {pads("valid", *axis) for axis in AXES} == {(0, 0)}


def test_steps_counts_the_windows_that_find_room():
    for (n, kernel, stride, dilation), pad in product(AXES, [(0, 0), (1, 1), (2, 3)]):
        found = len(starts(n + sum(pad), kernel, stride, dilation))
        assert max(0, window_count(n, kernel, stride, dilation, pad)) == found


# -- the plan --------------------------------------------------------------------------------------

DEEP = Config(depths=(2, 1, 3, 2), widths=(8, 16, 24, 32))


def moves(config):
    """(stride, dilation) of each unit, by stage."""
    return [[(unit.stride, unit.dilation) for unit in stage] for stage in plan(config)]


@pytest.mark.parametrize("output_stride, expected", [
    (64, [[(1, 1), (1, 1)], [(2, 1)], [(2, 1), (1, 1), (1, 1)], [(2, 1), (1, 1)]]),
    (32, [[(1, 1), (1, 1)], [(2, 1)], [(2, 1), (1, 1), (1, 1)], [(2, 1), (1, 1)]]),
    (16, [[(1, 1), (1, 1)], [(2, 1)], [(2, 1), (1, 1), (1, 1)], [(1, 1), (1, 2)]]),
    (8, [[(1, 1), (1, 1)], [(2, 1)], [(1, 1), (1, 2), (1, 2)], [(1, 2), (1, 4)]]),
    (4, [[(1, 1), (1, 1)], [(1, 1)], [(1, 2), (1, 4), (1, 4)], [(1, 2), (1, 8)]]),
])
def test_beyond_the_output_stride_strides_become_dilations(output_stride, expected):
    """The first unit of a dilated stage spreads less: by 1 where the stage's dilation is 2, else by 2."""
    assert moves(replace(DEEP, output_stride=output_stride)) == expected


def test_the_first_unit_of_a_stage_alone_moves_and_projects():
    for config in PRESETS.values():
        for s, stage in enumerate(plan(config)):
            assert [unit.project for unit in stage] == [True] + [False] * (len(stage) - 1)
            assert [unit.stride for unit in stage] == [1 if s == 0 else 2] + [1] * (len(stage) - 1)


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
def test_upstreams_preactivation_unit_forgets_to_spread(output_stride):
    post, pre = (moves(replace(DEEP, output_stride=output_stride, unit=unit))
                 for unit in ("bottleneck", "preactivation"))
    assert pre == [[(stride, 1) for stride, _ in stage] for stage in post]


@pytest.mark.parametrize("output_stride, side", [(32, 7), (16, 14), (8, 28), (4, 56)])
@pytest.mark.parametrize("unit", ["bottleneck", "preactivation"])
def test_the_map_of_224_pixels_keeps_the_output_stride(output_stride, side, unit):
    config = replace(DEEP, image=(224, 224), output_stride=output_stride, unit=unit)
    assert config.feature_map == (side, side, 32)


def test_a_stem_alone_has_no_plan():
    assert plan(Config(depths=(), widths=())) == ()


# -- derived sizes ---------------------------------------------------------------------------------

@pytest.mark.parametrize("name, pixels, feature_map, grid, tokens", [
    ("R+ViT-Ti/16", 224, (56, 56, 64), (7, 7), 50), ("R+ViT-Ti/16", 384, (96, 96, 64), (12, 12), 145),
    ("R26+ViT-S/32", 224, (7, 7, 2048), (7, 7), 50), ("R26+ViT-S/32", 384, (12, 12, 2048), (12, 12), 145),
    ("R26+ViT-B/32", 224, (7, 7, 2048), (7, 7), 50), ("R26+ViT-B/32", 384, (12, 12, 2048), (12, 12), 145),
    ("R50+ViT-B/16", 224, (14, 14, 1024), (14, 14), 197),
    ("R50+ViT-B/16", 384, (24, 24, 1024), (24, 24), 577),
    ("R50+ViT-L/32", 224, (7, 7, 2048), (7, 7), 50), ("R50+ViT-L/32", 384, (12, 12, 2048), (12, 12), 145),
])
def test_sizes_of_the_published_hybrids(name, pixels, feature_map, grid, tokens):
    config = replace(PRESETS[name], image=(pixels, pixels))
    assert (config.feature_map, config.grid, config.tokens) == (feature_map, grid, tokens)
    assert config.head_width == 64


@pytest.mark.parametrize("name, width", [("BiT-R50x1", 2048), ("BiT-R101x1", 2048), ("BiT-R50x3", 6144),
                                         ("BiT-R152x2", 4096)])
def test_sizes_of_the_published_bits(name, width):
    assert PRESETS[name].feature_map == (7, 7, width)


def test_odd_pictures_round_up_at_every_stride():
    for n in range(1, 130):
        sides = [n]
        for _ in range(4):
            sides.append(ceil(sides[-1] / 2))
        assert Config(image=(n, 2 * n)).feature_map[0] == sides[4]
        assert [feature_size(DEEP, n, plan(DEEP)[:s]) for s in (0, 1, 2)] == [sides[2], sides[2], sides[3]]
    assert Config(image=(95, 97)).feature_map == (6, 7, 1024)


def test_symmetric_padding_counts_its_windows():
    """A padding of 3 and a window of 7; a border of 1 and a window of 3; then a padding of 1 per stage."""
    config = Config(depths=(1, 1), widths=(8, 8), padding="symmetric", pool_padding="valid")
    for n in range(1, 130):
        n1 = len(starts(n + 6, 7, 2, 1))
        n2 = len(starts(n1 + 2, 3, 2, 1))
        n3 = len(starts(n2 + 2, 3, 2, 1))
        assert replace(config, image=(n, n)).feature_map == (n3, n3, 8)


@pytest.mark.parametrize("padding, pool_padding, side", [
    ("same", "same", 56), ("same", "valid", 55), ("symmetric", "valid", 56), ("symmetric", "same", 57)])
def test_upstreams_four_stems_at_224_pixels(padding, pool_padding, side):
    config = Config(image=(224, 224), depths=(), widths=(), padding=padding, pool_padding=pool_padding)
    assert config.feature_map == (side, side, 64)


@pytest.mark.parametrize("padding, border", [("same", 0), ("symmetric", 1), ("valid", 1)])
def test_the_stem_has_a_border_where_its_convolution_does_not_pad_itself(padding, border):
    assert stem_border(Config(padding=padding)) == border


def test_a_rest_smaller_than_a_patch_is_dropped():
    config = Config(image=(95, 130), patch=4)  # a map of 6 x 9 cells
    assert (config.grid, config.tokens) == ((1, 2), 3)


@pytest.mark.parametrize("stage, expected", [(0, (96, 96, 64)), (1, (96, 96, 256)), (2, (48, 48, 512)),
                                             (3, (24, 24, 1024)), (-1, (24, 24, 1024)), (-4, (96, 96, 64))])
def test_any_stage_can_become_tokens(stage, expected):
    assert Config(feature_stage=stage).feature_map == expected


# -- widths ----------------------------------------------------------------------------------------

def test_nearest_multiple_of_8_is_the_nearest_that_does_not_lose_a_tenth():
    for value in range(1, 3000):
        nearest = min((m for m in range(8, 3016, 8)), key=lambda m: (abs(m - value), -m))
        assert nearest_multiple_of_8(value) == (nearest if nearest >= 0.9 * value else nearest + 8)


@pytest.mark.parametrize("value, expected", [
    (2.5, 8), (4, 8), (8, 8), (11, 16), (12, 16), (16, 16), (19, 24), (20, 24), (32, 32), (35, 32), (36, 40),
    (59.9, 56), (83, 80), (91, 88)])
def test_nearest_multiple_of_8(value, expected):
    assert nearest_multiple_of_8(value) == expected


def test_nearest_multiple_of_8_would_lose_a_tenth_without_its_last_step():
    assert (11 + 4) // 8 * 8 == 8 < 0.9 * 11
    assert nearest_multiple_of_8(11) == 16


def test_the_tiny_test_model_is_not_as_narrow_as_it_says():
    assert [nearest_multiple_of_8(width) for width in (4, 8, 16, 32)] == [8, 8, 16, 32]


@pytest.mark.parametrize("width, inner", [
    (256, 64), (512, 128), (1024, 256), (2048, 512), (6144, 1536), (8, 8), (16, 8), (48, 16)])
def test_inside_a_bottleneck_is_a_quarter(width, inner):
    assert inner_width(width) == inner


# -- the type --------------------------------------------------------------------------------------

def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Config().width = 5


def test_the_defaults_are_the_published_hybrid():
    assert PRESETS["R50+ViT-B/16"] == Config()
    assert Config().tokens == 577
