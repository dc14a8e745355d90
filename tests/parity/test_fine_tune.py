"""Out to PyTorch, through an epoch, and back: examples/fine_tune_with_torch.py."""
import numpy as np
import pytest
import teach_your_own_classes as shapes

from nphybrid import ViTHybridForImageClassification, default_model
from nphybrid.classifier import classes
from nphybrid.testing import torch_twin

from tools.on_demand import on_demand

pytestmark = pytest.mark.slow

torch, example = on_demand("torch"), on_demand("fine_tune_with_torch")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Six of each shape: three known, three new."""
    folder, each = tmp_path_factory.mktemp("fine") / "shapes", shapes.EACH
    shapes.EACH = 6
    shapes.draw_into(folder)
    shapes.EACH = each
    return shapes.halves(*classes.of_folders([folder]))


def numbers(network):
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def test_there_and_back_changes_no_bit():
    model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    before = model.state_dict()
    network = torch_twin(model)
    example.load_from_torch(model, network)
    after = model.state_dict()
    assert list(after) == list(before) and set(after) == set(numbers(network))
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)


def test_an_epoch_comes_back_whole(pictures, tmp_path):
    """Every trained number comes back, bit for bit, changes what is answered, and is what a saved file holds."""
    known, _ = pictures
    model = example.with_fitted_head(known)
    pixel_values, labels = example.prepared(model, known)
    before, logits, network = model.state_dict(), model(pixel_values).logits, torch_twin(model)
    losses = example.epoch(network, pixel_values, labels)
    assert len(losses) == 1 and np.isfinite(losses).all()
    example.load_from_torch(model, network)
    learned, state = numbers(network), model.state_dict()
    assert all(state[name].tobytes() == learned[name].tobytes() for name in state)
    # A convolution's mean is taken off before it is used, and keys' biases cancel in the softmax.
    still = [name for name in state if (state[name] == before[name]).all()]
    assert still == [], "AdamW moves every array"
    with torch.inference_mode():
        theirs = network(torch.from_numpy(pixel_values)).logits.numpy()
    assert np.abs(model(pixel_values).logits - theirs).max() < 1e-4      # observed 5e-6
    assert np.abs(model(pixel_values).logits - logits).max() > 1e-2
    model.save(tmp_path / "m.h5")
    again = ViTHybridForImageClassification.from_pretrained(tmp_path / "m.h5")
    assert (again(pixel_values).logits == model(pixel_values).logits).all()
    assert again.config.id2label == dict(enumerate(sorted(shapes.SHAPES)))


def test_the_example_prints_what_it_promises(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shapes, "EACH", 6)
    shapes.draw_into(tmp_path / "shapes")
    example.main([str(tmp_path / "shapes"), "--output", str(tmp_path / "shapes.h5")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("   ")[0] for line in lines[:2]] == ["fitted classifier", "one epoch, PyTorch"]
    assert float(lines[3].split()[9]) < 1e-4
    assert (tmp_path / "shapes.h5").exists()
