"""Every learned array: Google's published counts, names that are paths, and fresh weights."""
import math
from dataclasses import replace

import numpy as np
import pytest

from nphybrid.config import PRESETS, Config
from nphybrid.params import Shape, count, named_leaves, random, shapes, tree_map

# Name, pixels, numbers and arrays, for 1,000 classes.  The tests of google-research/vision_transformer, and
# google-research/big_transfer; as many arrays as the published files hold (BiT: 9 per unit, and 9 more).
PUBLISHED = [
    ("R+ViT-Ti/16", 224, 6_337_704, 203),
    ("R+ViT-Ti/16", 384, 6_355_944, 203),
    ("R26+ViT-S/32", 224, 36_431_912, 287),
    ("R26+ViT-S/32", 384, 36_468_392, 287),
    ("R26+ViT-B/32", 224, 101_383_976, 287),
    ("R50+ViT-B/16", 224, 98_659_112, 356),
    ("R50+ViT-B/16", 384, 98_950_952, 356),
    ("R50+ViT-L/32", 224, 328_994_856, 551),
    ("R50+ViT-L/32", 384, 329_092_136, 551),
    ("BiT-R50x1", 224, 25_549_352, 153),
    ("BiT-R50x3", 224, 217_319_080, 153),
    ("BiT-R101x1", 224, 44_541_480, 306),
    ("BiT-R152x2", 224, 236_335_208, 459),
]

TOY = Config(image=(33, 40), stem=8, depths=(1, 2), widths=(16, 24), groups=2, width=12, blocks=2, heads=3,
             hidden=20, classes=5)
KINDS = {
    "hybrid": shapes(TOY),
    "everything": shapes(TOY, pooler=True, mask_token=True),
    "no head": shapes(replace(TOY, classes=0, qkv_bias=False)),
    "preactivation": shapes(replace(TOY, unit="preactivation")),
    "bit": shapes(replace(TOY, unit="preactivation", width=0, blocks=0)),
    "stem": shapes(replace(TOY, depths=(), widths=(), patch=4)),
}


@pytest.fixture(params=KINDS)
def tree(request):
    return KINDS[request.param]


# -- counts ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, pixels, numbers, arrays", PUBLISHED)
def test_the_published_counts(name, pixels, numbers, arrays):
    tree = shapes(replace(PRESETS[name], image=(pixels, pixels)))
    assert (count(tree), len(named_leaves(tree))) == (numbers, arrays)


def test_every_preset_is_in_the_table():
    assert {name for name, *_ in PUBLISHED} == set(PRESETS)


@pytest.mark.parametrize("change, numbers", [
    (dict(classes=0), -769 * 1000),                                       # the head
    (dict(qkv_bias=False), -12 * 3 * 768),
    (dict(image=(224, 224)), -(577 - 197) * 768),                         # rows of the position table
])
def test_what_a_change_costs(change, numbers):
    assert count(shapes(replace(Config(), **change))) - count(shapes(Config())) == numbers


def test_what_the_preactivation_unit_costs():
    """Norms of C, M, M instead of M, M, O; none for stem and projections, but one after the last stage."""
    channels, width = 1024 - 64, 64
    for depth, O in zip((3, 4, 9), (256, 512, 1024)):
        channels -= O
        for C in [width] + [O] * (depth - 1):
            channels += C - O
        width = O
    changed = replace(Config(), unit="preactivation")
    assert count(shapes(changed)) - count(shapes(Config())) == 2 * channels


def test_pooler_and_mask_token_are_extra():
    plain, more = shapes(TOY), shapes(TOY, pooler=True, mask_token=True)
    assert named_leaves(more).items() - named_leaves(plain).items() == {
        ("pooler.kernel", (12, 12)), ("pooler.bias", (12,)), ("tokens.mask", (12,))}


def test_a_projection_reads_a_whole_patch():
    assert shapes(replace(TOY, patch=2)).tokens.proj.kernel == (2 * 2 * 24, 12)


def test_the_first_unit_of_a_stage_is_wider_at_its_mouth():
    stage = shapes(TOY).stages[1]
    assert [unit.conv1 for unit in stage] == [(1, 1, 16, 8), (1, 1, 24, 8)]
    assert [unit.proj for unit in stage] == [(1, 1, 16, 24), None]


def test_norms_of_the_two_units():
    post, pre = (shapes(replace(TOY, unit=unit)).stages[1][0] for unit in ("bottleneck", "preactivation"))
    assert [norm.scale for norm in post[1:6:2]] == [(8,), (8,), (24,)]
    assert [norm.scale for norm in pre[1:6:2]] == [(16,), (8,), (8,)]
    assert (post.norm_proj.scale, pre.norm_proj) == ((24,), None)


# -- names -----------------------------------------------------------------------------------------

def leaf_at(tree, name):
    """The leaf at a name, by attributes and indices."""
    for step in name.split("."):
        tree = tree[int(step)] if step.isdigit() else getattr(tree, step)
    return tree


def test_a_name_is_the_path_to_its_array(tree):
    arrays = random(tree, seed=1)
    for name, leaf in named_leaves(arrays).items():
        assert leaf_at(arrays, name) is leaf


def test_names_of_the_published_hybrid():
    tree = shapes(PRESETS["R50+ViT-B/16"])
    assert named_leaves(tree)["stages.2.8.conv1"] is tree.stages[2][8].conv1
    assert list(named_leaves(tree))[:4] == ["stem.conv", "stem.norm.scale", "stem.norm.bias", "stages.0.0.conv1"]
    assert list(named_leaves(tree))[-4:] == ["norm.scale", "norm.bias", "head.kernel", "head.bias"]


def leaves(branch):
    """Every leaf below a branch; a leaf is what is neither a tuple nor None."""
    if branch is None:
        return []
    if isinstance(branch, tuple) and not isinstance(branch, Shape):
        return [leaf for child in branch for leaf in leaves(child)]
    return [branch]


def test_no_leaf_is_lost_and_no_name_used_twice(tree):
    assert list(named_leaves(tree).values()) == leaves(tree)


def test_mapped_keeps_the_tree_and_sees_names_in_order(tree):
    seen = []
    doubled = tree_map(lambda name, shape: seen.append(name) or Shape(2 * n for n in shape), tree)
    assert type(doubled) is type(tree)
    assert seen == list(named_leaves(tree)) == list(named_leaves(doubled))
    assert tree_map(lambda name, shape: Shape(n // 2 for n in shape), doubled) == tree


def test_what_is_not_there_stays_none():
    tree = tree_map(lambda name, shape: 1, shapes(replace(TOY, classes=0, qkv_bias=False)))
    assert (tree.head, tree.pooler, tree.blocks[0].query.bias, tree.tokens.mask) == (None,) * 4


# -- fresh weights ---------------------------------------------------------------------------------

def test_fresh_weights_have_their_shapes_and_are_float32(tree):
    for name, array in named_leaves(random(tree, seed=1)).items():
        assert (array.shape, array.dtype) == (named_leaves(tree)[name], np.float32)


def test_one_seed_one_network(tree):
    first, same, other = (named_leaves(random(tree, seed)) for seed in (7, 7, 8))
    drawn = [name for name in first if not name.endswith(("scale", "bias", "mask"))]
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in drawn)


def test_norms_begin_at_identity_and_biases_at_zero(tree):
    for name, array in named_leaves(random(tree, seed=1)).items():
        if name.endswith(("scale", "bias", "mask")):
            assert (array == (1 if name.endswith("scale") else 0)).all()


def test_convolutions_spread_as_he_et_al():
    """sqrt(2 / (KH KW O)): the fan out, as upstream's kaiming_normal_(mode="fan_out")."""
    tree = shapes(replace(TOY, stem=64, depths=(1,), widths=(256,)))
    for name, array in named_leaves(random(tree, seed=5)).items():
        if array.ndim == 4:
            KH, KW, _, O = array.shape
            # 4 standard errors of a standard deviation; observed 1.9
            assert abs(array.std() / math.sqrt(2 / (KH * KW * O)) - 1) < 4 / math.sqrt(2 * array.size)


@pytest.mark.parametrize("options, std", [({}, 0.02), ({"std": 0.5}, 0.5)])
def test_everything_else_spreads_by_std(options, std):
    arrays = named_leaves(random(shapes(replace(TOY, width=60, hidden=80)), seed=5, **options))
    for name in ("tokens.proj.kernel", "tokens.positions", "blocks.0.query.kernel", "blocks.1.fc2.kernel"):
        array = arrays[name]
        # 4 standard errors; observed 1.9
        assert abs(array.std() / std - 1) < 4 / math.sqrt(2 * array.size)
        assert abs(array.mean()) < 4 * std / math.sqrt(array.size)
