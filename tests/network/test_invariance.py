"""An image's logits have the same bits whatever the batch, the place in it, the number of threads, and the plan."""
import functools

import numpy as np
import pytest

from nphybrid import (BitConfig, BitForImageClassification, ViTHybridConfig, ViTHybridForImageClassification,
                      default_model)

pytestmark = pytest.mark.slow

ODD = ViTHybridConfig(backbone_config=dict(layer_type="bottleneck", depths=[1, 2], hidden_sizes=[72, 136],
                                           embedding_size=24, num_groups=4, global_padding="SAME",
                                           embedding_dynamic_padding=True, out_features=["stage2"]),
                      image_size=[121, 99], hidden_size=104, num_hidden_layers=2, num_attention_heads=4,
                      intermediate_size=203, num_labels=7)
BIT = BitConfig(embedding_size=24, hidden_sizes=[72, 136], depths=[1, 2], num_groups=4, num_labels=7)


SIZES = {"bundled": (64, 64), "odd sizes": (121, 99), "BiT": (75, 64)}
DTYPES = "float32", "bfloat16", "int8"


def model_of(name, dtype, num_threads, planned):
    options = dict(dtype=dtype, num_threads=num_threads)
    if name == "bundled":
        model = ViTHybridForImageClassification.from_pretrained(default_model(), **options)
    else:
        model = (BitForImageClassification(BIT, seed=3, **options) if name == "BiT"
                 else ViTHybridForImageClassification(ODD, seed=3, **options))
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


def test_layout_of_the_input_does_not_matter():
    model, (x, expected) = model_of("odd sizes", "float32", 2, True), alone("odd sizes", "float32")
    for variant in np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], frozen(x):
        assert model(variant).logits.tobytes() == expected.tobytes()


def frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x
