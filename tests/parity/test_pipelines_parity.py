"""The pipelines beside those of transformers: kinds, nesting, shapes, numbers."""
import types

import numpy as np
import pytest
from PIL import Image

from nphybrid import (BitConfig, BitModel, ViTHybridForImageClassification, ViTHybridImageProcessor, ViTHybridModel,
                      default_model, pipeline)
from nphybrid.testing import torch_twin

from tools.on_demand import on_demand

pytestmark = pytest.mark.slow

torch, transformers = on_demand("torch"), on_demand("transformers")


@pytest.fixture(scope="module")
def processors():
    ours = ViTHybridImageProcessor.from_pretrained(default_model())
    options = {key: value for key, value in ours.to_dict().items() if key != "image_processor_type"}
    return ours, transformers.ViTHybridImageProcessor(**options)


@pytest.fixture(scope="module")
def classifiers():
    ours = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    return ViTHybridForImageClassification.from_pretrained(default_model()), torch_twin(ours)


@pytest.fixture(scope="module")
def bare(classifiers):
    """The two networks without their heads; theirs keeps its pooler."""
    classifier, peer = classifiers
    # Upstream's crashes without a mask token.
    body = transformers.ViTHybridModel(peer.config, add_pooling_layer=True, use_mask_token=True).eval()
    body.load_state_dict(peer.vit.state_dict(), strict=False)
    state = {name: array.numpy() for name, array in body.state_dict().items()}
    return ViTHybridModel(classifier.config, use_mask_token=True, state_dict=state), body


@pytest.fixture(scope="module")
def bits():
    sizes = dict(embedding_size=8, hidden_sizes=[32, 64], depths=[1, 2], num_groups=4)
    peer = transformers.BitModel(transformers.BitConfig(**sizes)).eval()
    state = {name: array.numpy() for name, array in peer.state_dict().items()}
    return BitModel(BitConfig(**sizes), state_dict=state), peer


@pytest.fixture(scope="module")
def inputs(root):
    """What both take: a path, a Pillow picture, lists of either."""
    path = str(root / "examples" / "images" / "cat.png")
    turned = Image.open(path).convert("RGB").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return [path, turned, [path], [turned, turned]]


def agree(ours, theirs):
    """The same nesting, kinds and keys, and the same numbers within float32's rounding."""
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, np.ndarray)
        assert ours.shape == tuple(theirs.shape) and ours.dtype == theirs.numpy().dtype
        assert np.allclose(ours, theirs.numpy(), rtol=0, atol=1e-4)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            agree(ours[key], theirs[key])
    elif isinstance(theirs, float):
        assert type(ours) is float and abs(ours - theirs) < 1e-4
    elif isinstance(theirs, list):
        assert type(ours) is list and len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            agree(a, b)
    else:
        assert ours == theirs


def both(task, models, processors):
    ours = pipeline(task, models[0], processors[0])
    return ours, transformers.pipeline(task, model=models[1], image_processor=processors[1], device="cpu")


@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"top_k": 99}, {"function_to_apply": "none"},
                                     {"function_to_apply": "sigmoid", "batch_size": 2}], ids=str)
def test_classification(options, classifiers, processors, inputs):
    ours, theirs = both("image-classification", classifiers, processors)
    for given in inputs:
        agree(ours(given, **options), theirs(given, **options))


@pytest.mark.parametrize("options", [{}, {"pool": True}, {"return_tensors": True, "pool": True},
                                     {"return_tensors": True, "batch_size": 2},
                                     {"return_tensors": True, "image_processor_kwargs": {"do_normalize": False}}],
                         ids=str)
@pytest.mark.parametrize("name", ["bare", "classifiers", "bits"])
def test_features(options, name, processors, inputs, request):
    models = request.getfixturevalue(name)
    ours, theirs = both("image-feature-extraction", models, processors)
    if options.get("pool") and name == "classifiers":
        for pipe in ours, theirs:
            with pytest.raises(ValueError, match="No pooled output was returned"):
                pipe(inputs[0], **options)
    else:
        for given in inputs:
            agree(ours(given, **options), theirs(given, **options))


@pytest.mark.parametrize("task", ["image-classification", "image-feature-extraction"])
def test_generators(task, classifiers, processors, inputs):
    ours, theirs = both(task, classifiers, processors)
    answers, expected = ours(x for x in inputs[3]), theirs(x for x in inputs[3])
    assert isinstance(answers, types.GeneratorType) and iter(expected) is not None and not isinstance(expected, list)
    agree(list(answers), list(expected))
