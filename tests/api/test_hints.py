"""What code that was written for PyTorch finds: calls that change nothing, or an error that says what serves."""
import copy
import pickle

import numpy as np
import pytest

from nphybrid import BitConfig, BitModel, ViTConfig, ViTForImageClassification, ViTHybridImageProcessor, pipeline
from nphybrid.api.hints import HINTS

from tools.on_demand import on_demand

torch = on_demand("torch")
transformers = on_demand("transformers")

CONFIG = ViTConfig(image_size=16, patch_size=8, hidden_size=12, num_hidden_layers=1, num_attention_heads=3,
                   intermediate_size=8)


@pytest.fixture
def model():
    return ViTForImageClassification(CONFIG, engine="reference")


def test_calls_that_change_nothing(model):
    assert all(same is model for same in (model.to("cpu"), model.to(torch.device("cpu")), model.to(device="cpu"),
                                          model.cpu(), model.float(), model.eval(), model.to(model.device),
                                          model.to("cpu", torch.float32), model.to("cpu", model.dtype),
                                          model.to("cpu", non_blocking=True)))
    assert torch.zeros(2).to(model.device).device.type == "cpu"
    inputs = ViTHybridImageProcessor(size=16, crop_size=16)(np.zeros((20, 30, 3), np.uint8), return_tensors="np")
    assert inputs.to(model.device) is inputs and inputs.to(model.device, model.dtype) is inputs
    for moved in model, inputs:
        for device in "cuda", "cuda:0", 0, torch.device("cuda"), torch.float16:
            with pytest.raises(ValueError, match="expected 'cpu', because nphybrid computes on the CPU"):
                moved.to(device)
        with pytest.raises(ValueError, match="got torch.float16; expected 'cpu'"):
            moved.to("cpu", dtype=torch.float16)


@pytest.mark.parametrize("name", HINTS)
def test_what_is_missing_says_what_serves(model, name):
    for kind in model, BitModel(BitConfig(embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=2)):
        if name == "float":
            kind = type(kind)(kind.config, dtype="int8")
        assert not hasattr(kind, name)
        with pytest.raises(AttributeError, match=f"^{type(kind).__name__} has no {name}; use "):
            getattr(kind, name)


@pytest.mark.parametrize("name, value", [("dtype", "int8"), ("engine", "reference"), ("precision", "high")])
def test_the_numbers_of_a_model_cannot_be_changed(model, name, value):
    """Only a new model has other numbers."""
    before = repr(model), getattr(model, name)
    with pytest.raises(AttributeError, match=f"{name} is '{before[1]}', and cannot be changed; .* {name}='{value}'"):
        setattr(model, name, value)
    assert (repr(model), getattr(model, name)) == before


def test_other_names_and_copies(model):
    with pytest.raises(AttributeError, match="^ViTForImageClassification has no nothing$"):
        model.nothing
    x = np.zeros((1, 3, 16, 16), np.float32)
    for again in copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model)):
        assert np.array_equal(again(x).logits, model(x).logits)
    with pytest.raises(AttributeError, match="has no config"):
        ViTForImageClassification.__new__(ViTForImageClassification).config


def test_an_image_processor_can_be_assigned(model):
    """By both names; the options are stored, and a pipeline uses them."""
    for name in "processor", "image_processor":
        model.processor = None
        setattr(model, name, ViTHybridImageProcessor(size=16, crop_size=16, image_mean=0.25))
        assert model.processor["size"] == {"shortest_edge": 16} and model.image_processor().image_mean == 0.25
        assert len(pipeline("image-classification", model)(np.zeros((20, 30, 3), np.uint8))) == 2


def test_a_configuration_of_transformers():
    with pytest.raises(TypeError, match="^config is a ViTConfig; expected a ViTConfig of nphybrid, not of transformers"
                                        r". To convert it, call ViTConfig.from_dict\(config.to_dict\(\)\)$"):
        ViTForImageClassification(transformers.ViTConfig())
    config = transformers.ViTConfig(**{key: value for key, value in CONFIG.to_dict().items() if key != "model_type"})
    assert ViTForImageClassification(ViTConfig.from_dict(config.to_dict())).num_parameters() > 0
