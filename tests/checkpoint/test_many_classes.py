"""As many classes as Google's ImageNet-21k, many of them of one name: saved, loaded, converted and ranked."""
import numpy as np
import pytest
from PIL import Image

from nphybrid import (BitConfig, BitForImageClassification, ViTHybridConfig, ViTHybridForImageClassification,
                      ViTHybridImageProcessor, checkpoint, labels, pipeline)
from nphybrid.__main__ import main

NAMES = labels.names(21843)
BACKBONE = dict(depths=[1, 1], hidden_sizes=[8, 12], embedding_size=8, num_groups=2)
X = np.linspace(-1, 1, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)


def hybrid(names):
    config = ViTHybridConfig(dict(BACKBONE, layer_type="bottleneck", global_padding="SAME", out_features=["stage2"],
                                  embedding_dynamic_padding=True),
                             image_size=32, hidden_size=6, num_hidden_layers=1, num_attention_heads=2,
                             intermediate_size=9, id2label=dict(enumerate(names)))
    return ViTHybridForImageClassification(config, engine="reference", seed=1)


def bit(names):
    return BitForImageClassification(BitConfig(**BACKBONE, id2label=dict(enumerate(names))), engine="reference", seed=1)


def saved(model, kind, folder):
    """The model as a file or a folder.  -> its path"""
    path = folder / ("m.h5" if kind == "h5" else "m")
    (model.save if kind == "h5" else model.save_pretrained)(path)
    return path


@pytest.mark.parametrize("kind", ["h5", "folder"])
@pytest.mark.parametrize("made", [hybrid, bit])
def test_round_trip(made, kind, tmp_path):
    model = made(NAMES)
    back = type(model).from_pretrained(saved(model, kind, tmp_path), engine="reference")
    assert back.config.num_labels == back.network_config.classes == 21843 and back.config == model.config
    assert list(back.config.id2label.values()) == NAMES
    assert back(X).logits.shape == (1, 21843) and back(X).logits.tobytes() == model(X).logits.tobytes()


def test_converted(tmp_path):
    folder = saved(hybrid(NAMES), "folder", tmp_path)
    assert main(["convert", str(folder), str(tmp_path / "c.h5")]) == 0
    assert checkpoint.read_config(tmp_path / "c.h5") == checkpoint.read_config(folder)


def test_the_last_of_a_name_is_its_class(tmp_path):
    """Two classes may bear one name; label2id leads from it to the later one, in a file too."""
    assert [i for i, name in enumerate(NAMES) if name == "crane"] == [1932, 6017]
    model = hybrid(NAMES)
    back = type(model).from_pretrained(saved(model, "folder", tmp_path), engine="reference")
    for config in model.config, back.config:
        assert len(config.label2id) == 21240 and config.label2id["crane"] == 6017


def test_equal_names_keep_their_own_scores():
    """Five answers, of which two bear one name: none is merged."""
    model = hybrid(["tench", "crane", "dog", "crane", "cat"])
    model.processor = ViTHybridImageProcessor(size=32, crop_size=32)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    answer = pipeline("image-classification", model)(picture)
    assert sorted(label["label"] for label in answer) == ["cat", "crane", "crane", "dog", "tench"]
    scores = [label["score"] for label in answer]
    assert len(set(scores)) == 5 and sum(scores) == pytest.approx(1)
