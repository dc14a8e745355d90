"""Outputs give their values by attribute, key and index, as those of transformers do."""
import copy
import pickle

import pytest

from nphybrid.api.outputs import ImageClassifierOutput, ModelOutput

CLASSES = ModelOutput.__subclasses__()


@pytest.fixture
def out():
    return ImageClassifierOutput(attentions=("w",), logits="L")


def test_the_fields_of_upstream_in_their_order():
    assert {c.__name__: c.fields for c in CLASSES} == {
        "BaseModelOutputWithPooling": ("last_hidden_state", "pooler_output", "hidden_states", "attentions"),
        "ImageClassifierOutput": ("loss", "logits", "hidden_states", "attentions"),
        "BaseModelOutputWithPoolingAndNoAttention": ("last_hidden_state", "pooler_output", "hidden_states"),
        "ImageClassifierOutputWithNoAttention": ("loss", "logits", "hidden_states"),
        "BackboneOutput": ("feature_maps", "hidden_states", "attentions"),
    }


def test_order_is_the_fields_not_the_callers(out):
    assert list(out) == list(out.keys()) == ["logits", "attentions"]
    assert list(out.items()) == [("logits", "L"), ("attentions", ("w",))]


def test_attribute_key_and_index_agree(out):
    assert out.logits == out["logits"] == out[0] == out[-2] == "L"
    assert out.attentions == out["attentions"] == out[1] == out[-1] == ("w",)


def test_slices_are_those_of_the_tuple(out):
    assert out.to_tuple() == out[:] == tuple(out.values()) == ("L", ("w",))
    assert out[:1] == ("L",)
    assert out[1:] == (("w",),)
    assert out[::-1] == (("w",), "L")


def test_what_was_not_asked_for_is_none_as_an_attribute_and_absent_otherwise(out):
    assert out.loss is None
    assert out.hidden_states is None
    assert "loss" not in out
    assert len(out) == 2
    with pytest.raises(KeyError):
        out["loss"]
    with pytest.raises(IndexError):
        out[2]


def test_a_loss_shifts_the_indices():
    out = ImageClassifierOutput(loss=0.0, logits="L")
    assert (out[0], out[1]) == (0.0, "L")


@pytest.mark.parametrize("c", CLASSES)
def test_an_unknown_name_is_an_error_that_lists_the_known(c):
    with pytest.raises(AttributeError, match=f"{c.__name__} has no 'logit'; its fields are {', '.join(c.fields)}"):
        c().logit
    with pytest.raises(TypeError, match=f"{c.__name__} has no logit; its fields are {', '.join(c.fields)}"):
        c(logit=3)


def test_setting_an_attribute_sets_the_key(out):
    out.logits = "M"
    assert out.logits == out["logits"] == out[0] == "M"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda out: pickle.loads(pickle.dumps(out))])
def test_an_output_can_be_copied_and_pickled(out, copied):
    again = copied(out)
    assert type(again) is ImageClassifierOutput
    assert again == out
    assert again.to_tuple() == out.to_tuple()


@pytest.fixture(params=CLASSES)
def pair(request):
    """One of ours and transformers' class of the same name."""
    pytest.importorskip("torch")
    module = pytest.importorskip("transformers.modeling_outputs")
    return request.param, getattr(module, request.param.__name__)


def answer(question, out):
    try:
        return question(out)
    except Exception as error:
        return type(error)


QUESTIONS = [
    len, list, dict, bool, lambda out: out.to_tuple(), lambda out: out[0], lambda out: out[1],
    lambda out: out[-1], lambda out: out[3], lambda out: out[:2], lambda out: out[::2],
    lambda out: list(out.items()), lambda out: out["attention"], lambda out: out.attention,
    lambda out: out.get("loss", 5), lambda out: "loss" in out, lambda out: out["hidden_states"],
    lambda out: out.hidden_states, lambda out: list(out.values()),
    lambda out: pickle.loads(pickle.dumps(out)).to_tuple(), lambda out: isinstance(out, dict),
]


def test_every_question_has_upstreams_answer(pair):
    ours, theirs = pair
    assert list(theirs.__dataclass_fields__) == list(ours.fields)
    for present in range(2 ** len(ours.fields)):
        values = {name: 10 + i for i, name in enumerate(ours.fields) if present >> i & 1}
        for question in QUESTIONS:
            assert answer(question, ours(**values)) == answer(question, theirs(**values))
