"""An image's logits have the same bits whatever the batch, the place in it, the number of threads, and the plan."""
import functools
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import (BitConfig, BitForImageClassification, ViTHybridConfig, ViTHybridForImageClassification,
                      Trace, ViTHybridModel, default_model, encoder)
from nphybrid.trace import Stopwatch

pytestmark = pytest.mark.slow

ODD = dict(backbone_config=dict(layer_type="bottleneck", depths=[1, 2], hidden_sizes=[72, 136], embedding_size=24,
                                num_groups=4, global_padding="SAME", embedding_dynamic_padding=True,
                                out_features=["stage2"]),
           image_size=[121, 99], hidden_size=104, num_hidden_layers=2, num_attention_heads=4, intermediate_size=203)
BIT = BitConfig(embedding_size=24, hidden_sizes=[72, 136], depths=[1, 2], num_groups=4, num_labels=7)


SIZES = {"bundled": (64, 64), "odd sizes": (121, 99), "BiT": (75, 64)}
DTYPES = "float32", "bfloat16", "int8"


def model_of(name, dtype, num_threads, planned):
    options = dict(dtype=dtype, num_threads=num_threads)
    if name == "bundled":
        model = ViTHybridForImageClassification.from_pretrained(default_model(), **options)
    else:
        model = (BitForImageClassification(BIT, seed=3, **options) if name == "BiT"
                 else ViTHybridForImageClassification(ViTHybridConfig(**ODD, num_labels=7), seed=3, **options))
    if not planned:
        model.plans = None
    return model


@functools.cache
def alone(name, dtype):
    """Five pictures, and the logits of each by itself, on one thread and without a plan."""
    model = model_of(name, dtype, 1, False)
    x = np.random.default_rng(0).standard_normal((5, 3, *SIZES[name]), np.float32)
    return x, np.concatenate([model(x[b:b + 1]).logits for b in range(5)])


@pytest.mark.parametrize("planned", [True, False], ids=["plan", "no plan"])
@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SIZES)
def test_same_bits(name, dtype, num_threads, planned):
    model, (x, expected) = model_of(name, dtype, num_threads, planned), alone(name, dtype)
    for size in 1, 2, 3, 5:
        for b in range(5):
            for place in range(size):
                order = np.roll(np.arange(5), place - b)[:size]
                assert order[place] == b
                assert model(x[order]).logits[place].tobytes() == expected[b].tobytes()
    if planned:
        assert [len(plans.free) for plans in model.plans.shapes.values()] == [1, 1, 1, 1]


@pytest.mark.parametrize("planned", [True, False], ids=["plan", "no plan"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["bundled", "odd sizes"])
def test_logits_do_not_depend_on_the_other_tokens_of_the_last_block(name, dtype, planned):
    """A call for logits computes only the class token of the last block, and other calls compute all tokens."""
    model, (x, expected) = model_of(name, dtype, 2, planned), alone(name, dtype)
    T, D = model.network_config.tokens, model.network_config.width
    assert model.tokens_needed() == 1
    for count in 1, 3:
        for _ in range(4):
            assert model(x[:count]).logits.tobytes() == expected[:count].tobytes()
        for keep in {"norm"}, {"norm", "logits"}, {"logits", "blocks.1.fc1"}:
            states = Trace(keep=keep)
            model.run_into(states, x[:count])
            assert states["blocks.1.fc1" if "norm" not in keep else "norm"].shape[:2] == (count, T)
        everything = model(x[:count], output_hidden_states=True, output_attentions=True)
        assert everything.logits.tobytes() == expected[:count].tobytes()
        assert everything.hidden_states[-1].shape == (count, T, D)
        assert everything.attentions[-1].shape[2:] == (T, T)
        trace = model.trace(x[:count])
        assert trace["logits"].tobytes() == expected[:count].tobytes() and trace["norm"].shape == (count, T, D)
        mask = np.linspace(0, 2, model.network_config.heads)
        masked = [model(x[:count], head_mask=mask, output_attentions=wanted).logits.tobytes() for wanted in (0, 1)]
        assert masked[0] == masked[1] != everything.logits.tobytes()


def test_the_last_block_computes_what_is_needed(monkeypatch):
    """The shapes of the result of the last block, in a call for logits."""
    found = []
    real = encoder.block

    def block(x, p, config, ops, out, head_mask=None, needed=None):
        found.append(real(x, p, config, ops, out, head_mask, needed))
        return found[-1]
    monkeypatch.setattr(encoder, "block", block)
    x = np.zeros((2, 3, 64, 64), np.float32)
    for options, rows in (({}, 1), ({"engine": "reference"}, 65)):
        model = ViTHybridForImageClassification.from_pretrained(default_model(), **options)
        model(x)
        assert [state.shape for state in found[-2:]] == [(2, 65, 192), (2, rows, 192)]
        model.run_into(Stopwatch(), x)    # the passes of a profile
        assert found[-1].shape == (2, 65, 192)
    base = ViTHybridModel.from_pretrained(default_model())
    assert base(x).last_hidden_state.shape == found[-1].shape == (2, 65, 192)
    no_classes = ViTHybridForImageClassification(ViTHybridConfig(**ODD, num_labels=0))
    assert no_classes.tokens_needed() is None
    odd = no_classes(np.zeros((2, 3, *SIZES["odd sizes"]), np.float32))
    assert odd.logits.shape == (2, 104) and found[-1].shape == (2, no_classes.network_config.tokens, 104)
    model = ViTHybridForImageClassification.from_pretrained(default_model())
    model.network_config = replace(model.network_config, pool="mean")
    assert model.tokens_needed() is None


def test_layout_of_the_input_does_not_matter():
    model, (x, expected) = model_of("odd sizes", "float32", 2, True), alone("odd sizes", "float32")
    for variant in np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], frozen(x):
        assert model(variant).logits.tobytes() == expected.tobytes()


def frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x
