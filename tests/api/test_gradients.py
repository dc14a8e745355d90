"""`Model.gradients`: names, shapes, errors, and the derivative of the loss of whole networks."""
import numpy as np
import pytest

from nphybrid import (BitConfig, BitForImageClassification, ViTHybridConfig, ViTHybridForImageClassification,
                      ViTHybridModel)
from nphybrid.config import Config
from nphybrid.model import hybrid
from nphybrid.ops import gradients, record, reference
from nphybrid.ops.record import Record, Variable
from nphybrid.params import named_leaves, shapes, tree_map
from nphybrid.testing import telling_weights
from nphybrid.trace import Discard, NonFiniteError

BIT = dict(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 1], num_groups=2)
HYBRID = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, num_labels=5,
              image_size=(33, 47), backbone_config=dict(BIT, layer_type="bottleneck", global_padding="same",
                                                        embedding_dynamic_padding=True))


def hybrid_model(**options):
    fresh = ViTHybridForImageClassification(ViTHybridConfig(**HYBRID), engine="reference")
    options = {"engine": "reference", "dtype": "float64", **options}
    return type(fresh)(fresh.config, state_dict=telling_weights(fresh, 3), **options)


@pytest.fixture(scope="module")
def model():
    return hybrid_model()


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((3, 3, 33, 47))


LABELS = np.array([4, 0, 2])


def test_names_shapes_and_dtypes_are_those_of_the_state_dict(model, x):
    found = model.gradients(x, LABELS)
    state = model.state_dict()
    assert found.loss == model(x, labels=LABELS).loss
    assert list(found.parameters) == list(state) and found.pixel_values.shape == x.shape
    for name, gradient in found.parameters.items():
        assert gradient.shape == state[name].shape and gradient.dtype == np.float64 and gradient.flags.c_contiguous


@pytest.mark.parametrize("name", ["vit.embeddings.cls_token", "vit.embeddings.patch_embeddings.projection.weight",
                                  "vit.embeddings.patch_embeddings.backbone.bit.embedder.convolution.weight",
                                  "vit.encoder.layer.1.intermediate.dense.weight", "classifier.bias"])
def test_a_step_along_the_gradient_changes_the_loss(model, x, name):
    """The loss of the changed weights, by the forward pass alone.  The layouts are those of Hugging Face."""
    gradient = model.gradients(x, LABELS).parameters[name]
    u = np.random.default_rng(2).standard_normal(gradient.shape)
    losses = []
    for step in (1e-5, -1e-5):
        state = model.state_dict()
        state[name] = state[name] + step * u
        moved = type(model)(model.config, state_dict=state, engine="reference", dtype="float64")
        losses.append(moved(x, labels=LABELS).loss)
    expected = (losses[0] - losses[1]) / 2e-5
    assert (gradient * u).sum() == pytest.approx(expected, rel=1e-6)                    # observed 4e-8


def test_a_label_of_minus_100_is_not_counted(model, x):
    whole = model.gradients(x, np.array([4, -100, 2]))
    part = model.gradients(x[[0, 2]], np.array([4, 2]))
    assert not whole.pixel_values[1].any()
    assert np.abs(whole.pixel_values[[0, 2]] - part.pixel_values).max() <= 1e-15
    for name, gradient in part.parameters.items():
        assert np.abs(whole.parameters[name] - gradient).max() <= 1e-13 * np.abs(gradient).max() + 1e-15, name


def test_a_head_mask_of_0_gives_a_head_no_gradient(model, x):
    mask = np.array([[1, 0, 1], [1, 1, 1]])
    name = "vit.encoder.layer.0.attention.attention.value.weight"
    gradient = model.gradients(x, LABELS, head_mask=mask).parameters[name]
    rows = gradient.reshape(3, 4, 12)
    assert not rows[1].any() and rows[0].any() and rows[2].any()


def test_float32_is_near_float64(model, x):
    exact, single = model.gradients(x, LABELS), hybrid_model(dtype="float32").gradients(x, LABELS)
    assert {gradient.dtype for gradient in single.parameters.values()} == {np.dtype("float32")}
    apart = max(np.abs(single.parameters[name] - gradient).max() / np.abs(gradient).max()
                for name, gradient in exact.parameters.items() if not name.endswith("key.bias"))
    assert apart <= 1e-4                                                                # observed 2e-5


def test_what_is_refused(model, x):
    with pytest.raises(ValueError, match="found bfloat16"):
        hybrid_model(engine="numba", dtype="bfloat16").gradients(x, LABELS)
    bare = ViTHybridModel(ViTHybridConfig(**HYBRID), engine="reference")
    with pytest.raises(ValueError, match="this ViTHybridModel has no classes"):
        bare.gradients(x, LABELS)
    with pytest.raises(ValueError, match="labels have shape"):
        model.gradients(x, LABELS[:2])
    with pytest.raises(ValueError, match="a label is 5; expected 0 to 4"):
        model.gradients(x, LABELS + 1)
    with pytest.raises(NonFiniteError, match="pixel_values holds nan"):
        model.gradients(x * np.nan, LABELS)
    with pytest.raises(ValueError, match="are 64 x 64 pixels; gradients expect 33 x 47 pixels, because"):
        model.gradients(np.zeros((4, 3, 64, 64)), LABELS, interpolate_pos_encoding=True)


def test_a_model_from_a_narrow_file_has_no_gradients(x, tmp_path):
    hybrid_model().save(tmp_path / "int8.h5", dtype="int8")
    model = ViTHybridForImageClassification.from_pretrained(tmp_path / "int8.h5")
    with pytest.raises(ValueError, match="gradients: expected a model with dtype float32 or float64, found int8"):
        model.gradients(x, LABELS)


def test_arrays_that_the_loss_does_not_depend_on_have_gradient_0():
    """The last norm of a pre-activation backbone is not a part of the hybrid."""
    backbone = dict(HYBRID["backbone_config"], layer_type="preactivation")
    model = ViTHybridForImageClassification(ViTHybridConfig(**{**HYBRID, "backbone_config": backbone}),
                                            engine="reference", dtype="float64")
    found = model.gradients(np.random.default_rng(0).standard_normal((1, 3, 33, 47)), np.array([1])).parameters
    unused = [name for name, gradient in found.items() if not gradient.any()]
    assert unused == ["vit.embeddings.patch_embeddings.backbone.bit.norm.weight",
                      "vit.embeddings.patch_embeddings.backbone.bit.norm.bias"]


def test_the_gradient_of_a_picture_does_not_depend_on_the_batch(model, x):
    """The loss is a mean over the batch, so a gradient in a batch of 3 is a third of the gradient alone."""
    bit = BitForImageClassification(BitConfig(**BIT, num_labels=5), engine="reference", dtype="float64")
    for network in (model, bit):
        together = network.gradients(x, LABELS).pixel_values
        alone = np.concatenate([network.gradients(x[[i]], LABELS[[i]]).pixel_values for i in range(3)])
        assert np.abs(3 * together - alone).max() <= 1e-12 * np.abs(alone).max()        # observed 2e-15


# -- parts that only checkpoints of timm and JAX have: held against central differences

SIZES = dict(image=(32, 48), stem=8, depths=(1,), widths=(16,), groups=2, patch=2, width=12, blocks=1, heads=3,
             hidden=20, classes=5)


@pytest.mark.parametrize("engine", ["reference", "numba"])
def test_no_rule_changes_a_gradient(x, engine, monkeypatch):
    """Several arrays can have one array as their gradient.  A rule that changes it in place would raise an error.

    A kernel gets a copy of an array that is read-only. If it changed the copy in place, the bits would be different.
    """
    one = hybrid_model(dtype="float32", engine=engine)
    expected = one.gradients(x[:1], LABELS[:1])
    frozen = []

    def add(argument, gradient, later):
        plain(argument, gradient, later)
        if isinstance(argument, Variable) and argument.gradient is not None:
            argument.gradient.flags.writeable = False
            frozen.append(argument.gradient)
    plain = record._add
    monkeypatch.setattr(record, "_add", add)
    found = one.gradients(x[:1], LABELS[:1])
    assert len(frozen) > 100 and found.pixel_values.tobytes() == expected.pixel_values.tobytes()
    for name, gradient in found.parameters.items():
        assert gradient.tobytes() == expected.parameters[name].tobytes(), name


@pytest.mark.parametrize("fields", [
    {"pool": "mean", "norm_pooled": True}, {"pool": "mean", "class_token": False}, {"pre_logits": 7},
    {"pool": "mean", "pre_logits": 6}, {"stem": 0, "depths": (), "widths": (), "patch": 8},
    {"ws_form": "deviation", "ws_eps": 1e-5}], ids=str)
def test_networks_of_other_families(fields):
    config, rng = Config(**{**SIZES, **fields}), np.random.default_rng(5)
    learned = tree_map(lambda name, shape: rng.standard_normal(shape) * 0.4 + name.endswith("scale"), shapes(config))
    x, dy = rng.standard_normal((2, 32, 48, 3)), rng.standard_normal((2, 5))
    record = Record(reference, gradients.RULES)
    leaves = tree_map(lambda name, array: Variable(array, record), learned)
    logits = hybrid(x, record.prepare(leaves, config), config, record, Discard())
    record.backward(logits, dy)

    def loss(step, direction):
        moved = tree_map(lambda name, array: array + step * direction[name], learned)
        return (hybrid(x, reference.prepare(moved, config, np.float64), config, reference, Discard()) * dy).sum()
    for name, leaf in named_leaves(leaves).items():
        u = dict.fromkeys(named_leaves(learned), 0.0)
        u[name] = rng.standard_normal(leaf.shape)
        expected = (loss(1e-6, u) - loss(-1e-6, u)) / 2e-6
        assert (leaf.gradient * u[name]).sum() == pytest.approx(expected, rel=1e-6, abs=1e-7), name
