"""An image's logits have the same bits whatever the batch, the place in it, and the number of threads."""
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


def models(num_threads):
    return {"bundled": ViTHybridForImageClassification.from_pretrained(default_model(), num_threads=num_threads),
            "odd sizes": ViTHybridForImageClassification(ODD, seed=3, num_threads=num_threads),
            "BiT": BitForImageClassification(BIT, seed=3, num_threads=num_threads)}


@pytest.fixture(scope="module")
def alone():
    """Per model: five pictures, and the logits of each by itself on one thread."""
    rng = np.random.default_rng(0)
    found = {}
    for name, model in models(1).items():
        size = {"bundled": (64, 64), "odd sizes": (121, 99), "BiT": (75, 64)}[name]
        x = rng.standard_normal((5, 3, *size), np.float32)
        found[name] = x, np.concatenate([model(x[b:b + 1]).logits for b in range(5)])
    return found


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["bundled", "odd sizes", "BiT"])
def test_same_bits(name, size, num_threads, alone):
    model, (x, expected) = models(num_threads)[name], alone[name]
    for b in range(5):
        for place in range(size):
            order = np.roll(np.arange(5), place - b)[:size]
            assert order[place] == b
            assert model(x[order]).logits[place].tobytes() == expected[b].tobytes()


def test_layout_of_the_input_does_not_matter(alone):
    model, (x, expected) = models(2)["odd sizes"], alone["odd sizes"]
    for variant in np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], frozen(x):
        assert model(variant).logits.tobytes() == expected.tobytes()


def frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x
