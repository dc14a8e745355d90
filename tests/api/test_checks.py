"""Wrong inputs: the message of each has what was found, what was expected, and where."""
import numpy as np
import pytest

from nphybrid import (BitConfig, BitModel, NonFiniteError, ViTConfig, ViTHybridConfig, ViTHybridForImageClassification,
                      ViTHybridModel, ViTModel)
from nphybrid.api import checks
from nphybrid.trace import Trace

TOY = dict(image_size=32, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
           initializer_range=0.5,
           backbone_config=dict(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], num_groups=2,
                                layer_type="bottleneck", global_padding="same",
                                embedding_dynamic_padding=True, out_features=["stage2"]))


@pytest.fixture
def rng():
    return np.random.default_rng(20260407)


def said_by(function, *args, kind=ValueError, **kwargs):
    """The message with which a call is refused."""
    with pytest.raises(kind) as refused:
        function(*args, **kwargs)
    return str(refused.value)


# -- pixels ----------------------------------------------------------------------------------------

def test_pixels_come_out_channels_last_contiguous_and_in_the_models_dtype(rng):
    x = rng.normal(size=(2, 3, 5, 7))
    for given in (x, x.astype(np.float32), x.astype(np.float16), x[:, :, ::-1], x.tolist(), np.asfortranarray(x),
                  x.swapaxes(2, 3).copy().swapaxes(2, 3), np.broadcast_to(x[:1], x.shape)):
        y = checks.pixels(given, 3, np.float32, (5, 7))
        assert (y.shape, y.dtype, y.flags.c_contiguous) == ((2, 5, 7, 3), np.float32, True)
        assert np.array_equal(y[1, 2, 4], np.asarray(given)[1, :, 2, 4].astype(np.float32))


@pytest.mark.parametrize("pixels, kind, said", [
    (None, ValueError, ["pixel_values is missing", "(B, C, H, W)"]),
    (np.zeros((2, 3, 5, 7), np.uint8), TypeError, ["uint8", "floats (B, 3, H, W)", "image processor"]),
    (np.zeros((2, 3, 5, 7), int), TypeError, ["int64", "floats"]),
    (np.zeros((2, 3, 5, 7), bool), TypeError, ["bool", "floats"]),
    (np.zeros((2, 3, 5, 7), complex), TypeError, ["complex128", "floats"]),
    (np.full((2, 3, 5, 7), None), TypeError, ["object", "floats"]),
    ("cat.png", TypeError, ["<U7", "image processor"]),
    (np.zeros((3, 5, 7)), ValueError, ["(3, 5, 7)", "(B, 3, H, W)", "pixel_values[None]"]),
    (np.zeros((5, 7)), ValueError, ["(5, 7)", "(B, 3, H, W)"]),
    (np.zeros((1, 2, 3, 5, 7)), ValueError, ["(1, 2, 3, 5, 7)", "(B, 3, H, W)"]),
    (0.5, ValueError, ["()", "(B, 3, H, W)"]),
    (np.zeros((2, 1, 5, 7)), ValueError, ["1 channels", "(2, 1, 5, 7)", "expected 3"]),
    (np.zeros((2, 5, 7, 3)), ValueError,
     ["5 channels", "if the channels are last, pass pixel_values.transpose(0, 3, 1, 2)"]),
    (np.zeros((2, 3, 7, 5)), ValueError, ["7 x 5", "expects 5 x 7", "interpolate_pos_encoding=True"]),
    (np.zeros((0, 3, 5, 7)), ValueError, ["empty", "(0, 3, 5, 7)"]),
])
def test_pixels_that_do_not_fit_are_refused(pixels, kind, said):
    message = said_by(checks.pixels, pixels, 3, np.float32, (5, 7), kind=kind)
    assert all(words in message for words in said)


def test_the_hint_about_channels_last_is_given_only_where_it_helps():
    assert "channels are last" not in said_by(checks.pixels, np.zeros((2, 4, 5, 7)), 3, np.float32)
    assert "[None]" not in said_by(checks.pixels, np.zeros((5, 7)), 3, np.float32)


def test_a_size_is_demanded_only_where_it_is_given():
    assert checks.pixels(np.zeros((1, 3, 9, 2)), 3, np.float32).shape == (1, 9, 2, 3)
    assert "empty" in said_by(checks.pixels, np.zeros((1, 3, 0, 2)), 3, np.float32)


@pytest.mark.parametrize("bad, found", [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e300, "inf")])
def test_a_pixel_that_is_not_finite_is_named_with_its_place(bad, found):
    x = np.zeros((2, 3, 5, 7))
    x[1, 2, 3, 4] = x[1, 2, 4, 0] = bad
    message = said_by(checks.pixels, x, 3, np.float32, kind=NonFiniteError)
    assert message.startswith(f"pixel_values holds {found} at [1, 2, 3, 4] of shape [2, 3, 5, 7]; expected")


def test_a_large_number_is_finite_in_float64():
    assert checks.pixels(np.full((1, 1, 1, 1), 1e300), 1, np.float64).item() == 1e300


# -- masks and threads -----------------------------------------------------------------------------

@pytest.mark.parametrize("mask", [[1, 0, 0.5], [[1, 0, 0.5], [1, 0, 0.5]], np.float16([1, 0, 0.5])])
def test_a_head_mask_is_spread_over_the_blocks(mask):
    y = checks.head_mask(mask, 2, 3, np.float32)
    assert y.dtype == np.float32
    assert y.tolist() == [[1, 0, 0.5]] * 2


def test_booleans_are_a_head_mask():
    assert checks.head_mask([True, False, True], 1, 3, np.float64).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("mask, found", [
    ([1, 0], "(2,)"), ([[1, 0, 1]], "(1, 3)"), (np.ones((3, 2)), "(3, 2)"), (1, "()"),
    (np.ones((2, 3, 1)), "(2, 3, 1)"),
    (["a", "b", "c"], "<U1"), ([1j, 0, 1], "complex128"), ([None, 1, 1], "object"),
])
def test_a_head_mask_of_another_shape_is_refused(mask, found):
    message = said_by(checks.head_mask, mask, 2, 3, np.float32)
    assert found in message
    assert "(3,) or (2, 3)" in message


def test_a_head_mask_has_to_be_finite():
    assert "nan at [0, 1]" in said_by(checks.head_mask, [1, np.nan, 1], 2, 3, np.float32, kind=NonFiniteError)


@pytest.mark.parametrize("mask", [[[1, 0, 0, 1]], [[True, False, False, True]], np.float32([[1, 0, 0, 1]])])
def test_masked_patches_are_booleans(mask):
    y = checks.masked_patches(mask, np.zeros(5), 1, 4)
    assert y.dtype == bool
    assert y.tolist() == [[True, False, False, True]]


@pytest.mark.parametrize("mask, found", [
    ([1, 0, 0, 1], "(4,)"), ([[1, 0, 0]], "(1, 3)"), ([[1, 0, 0, 1]] * 2, "(2, 4)"),
    ([[1, 0, 0, 2]], "int64"),
    ([[0.5, 0, 0, 1]], "float64"), ([[np.nan, 0, 0, 1]], "float64"), ([["a", "b", "c", "d"]], "<U1"),
])
def test_masked_patches_of_another_shape_or_kind_are_refused(mask, found):
    message = said_by(checks.masked_patches, mask, np.zeros(5), 1, 4)
    assert found in message
    assert "expected bools (1, 4)" in message


def test_masked_patches_need_a_mask_token():
    assert "use_mask_token=True" in said_by(checks.masked_patches, [[1, 0]], None, 1, 2)


def test_no_mask_is_no_mask():
    assert checks.head_mask(None, 2, 3, np.float32) is None
    assert checks.masked_patches(None, None, 1, 4) is None


@pytest.mark.parametrize("number", [0, -1, 1.0, "2", True, np.int64(2), [2]])
def test_threads_that_are_no_number_are_refused(number):
    assert repr(number) in said_by(checks.threads, number)


@pytest.mark.parametrize("number", [None, 1, 64])
def test_threads(number):
    assert checks.threads(number) == number


# -- the forward pass, and its repetition ----------------------------------------------------------

def model(kind=ViTHybridModel, config=None, **options):
    return kind(config or ViTHybridConfig(**TOY), engine="reference", **options)


def pictures(rng, *size):
    return rng.normal(size=(2, 3, *size)).astype(np.float32)


# An array whose numbers become 3e38 of their sign, and the first state that this takes beyond float32.
HUGE = [
    ("vit.embeddings.patch_embeddings.projection.weight", "tokens.proj"),
    ("vit.embeddings.patch_embeddings.backbone.bit.encoder.stages.0.layers.0.norm2.weight",
     "stages.0.0.norm2"),
    ("vit.embeddings.patch_embeddings.backbone.bit.encoder.stages.1.layers.1.norm1.weight",
     "stages.1.1.norm1"),
    ("vit.encoder.layer.0.layernorm_before.weight", "blocks.0.norm1"),
    ("vit.encoder.layer.0.attention.attention.query.weight", "blocks.0.query"),
    ("vit.encoder.layer.0.attention.attention.value.weight", "blocks.0.value"),
    ("vit.encoder.layer.1.attention.output.dense.weight", "blocks.1.out"),
    ("vit.encoder.layer.1.intermediate.dense.weight", "blocks.1.fc1"),
    ("vit.encoder.layer.1.output.dense.weight", "blocks.1"),
    ("vit.layernorm.weight", "norm"),
    ("classifier.weight", "logits"),
]


@pytest.mark.parametrize("name, state", HUGE)
def test_the_repeated_forward_pass_names_the_first_bad_state(rng, name, state):
    x = pictures(rng, 32, 32)
    classifier = model(ViTHybridForImageClassification, seed=3)
    weights = classifier.state_dict()
    weights[name] = np.where(weights[name] < 0, np.float32(-3e38), np.float32(3e38))
    classifier.load_state_dict(weights)
    with np.errstate(all="ignore"):
        message = said_by(classifier, x, kind=NonFiniteError)
        states = every_state(classifier, x)
    assert message.startswith(f"{state} is the first state")
    assert state == next(name for name, x in states.items() if not np.isfinite(x).all())


def every_state(classifier, pixel_values):
    """What a trace would hold if it did not stop at a bad number."""
    out = Trace()
    x, tree, config, masks = classifier.check_inputs(pixel_values)
    classifier.network(x, tree, config, classifier.ops, out, **masks)
    return out


def test_a_network_in_order_is_not_stopped(rng):
    assert model(ViTHybridForImageClassification)(pictures(rng, 32, 32)).logits.shape == (2, 2)


@pytest.mark.parametrize("call, kind, said", [
    (dict(pixel_values=None), ValueError, ["missing"]),
    (dict(pixel_values=np.zeros((1, 3, 31, 32))), ValueError, ["31 x 32", "32 x 32"]),
    (dict(pixel_values=np.zeros((1, 4, 32, 32))), ValueError, ["4 channels", "expected 3"]),
    (dict(pixel_values=np.zeros((1, 3, 32, 32)), head_mask=[1, 1]), ValueError,
     ["head_mask", "(2,)", "(3,) or (2, 3)"]),
    (dict(pixel_values=np.zeros((1, 3, 32, 32)), bool_masked_pos=[[1]]), ValueError, ["use_mask_token=True"]),
])
def test_a_model_checks_its_inputs(call, kind, said):
    message = said_by(model(), kind=kind, **call)
    assert all(words in message for words in said)


def test_a_picture_in_which_no_patch_finds_room():
    config = ViTHybridConfig(**{**TOY, "patch_size": 3, "image_size": 64})
    message = said_by(model(config=config), np.zeros((1, 3, 64, 16)), interpolate_pos_encoding=True)
    assert message == ("a picture of 64 x 16 pixels has a feature map of 8 x 2 cells, which patches of 3 x 3 cells do "
                       "not fill; the nearest possible sizes have a height of 48 or 65 pixels and a width of 17 pixels")


def test_a_picture_that_patches_do_not_fill():
    plain = model(ViTModel, ViTConfig(image_size=32, patch_size=8, hidden_size=8, num_hidden_layers=1,
                                      num_attention_heads=2, intermediate_size=8))
    message = said_by(plain, np.zeros((1, 3, 41, 24)), interpolate_pos_encoding=True)
    assert message.endswith("the nearest possible sizes have a height of 40 or 48 pixels and a width of 24 pixels")
    assert plain(np.zeros((1, 3, 48, 24)), interpolate_pos_encoding=True).last_hidden_state.shape == (1, 19, 8)


def test_a_picture_that_leaves_no_feature_map():
    config = BitConfig(embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=2, global_padding="same")
    assert said_by(model(BitModel, config), np.zeros((1, 3, 2, 40))) == (
        "pixel_values are 2 x 40 pixels, and the feature map has no cell; expected a larger picture")
    assert model(BitModel, config)(np.zeros((1, 3, 5, 40))).last_hidden_state.shape == (1, 16, 1, 9)


@pytest.mark.parametrize("options, said", [
    (dict(engine="torch"), ["'torch'", "one of the engines reference, numba"]),
    (dict(engine="numba", dtype="float64"), ["'float64'", "one of the dtypes float32, bfloat16, int8"]),
    (dict(engine="reference", dtype="float16"), ["'float16'"]),
    (dict(engine="numba", dtype="int8", precision="high"), ["'highest'", "int8", "'high'"]),
    (dict(engine="reference", precision="low"), ["'low'", "'highest'"]),
    (dict(engine="reference", num_threads=0), ["num_threads is 0"]),
])
def test_a_model_checks_its_options(options, said):
    message = said_by(ViTHybridModel, ViTHybridConfig(**TOY), **options)
    assert all(words in message for words in said)


def test_a_model_wants_its_own_configuration():
    message = said_by(ViTHybridModel, BitConfig(), kind=TypeError)
    assert message == "config is a BitConfig; expected a ViTHybridConfig"
