"""The code examples in transformers' own documentation run on nphybrid.

They are read from the installed package's docstrings. Changed are only the imports, "pt" to "np", torch.no_grad, the
path of the checkpoint, and where the picture comes from (upstream downloads it).
"""
import contextlib
import doctest
import io
import re

import pytest

import nphybrid

from tools.on_demand import on_demand

pytestmark = pytest.mark.slow

transformers = on_demand("transformers")
configuration_vit_hybrid = on_demand("transformers.models.deprecated.vit_hybrid.configuration_vit_hybrid")
modeling_vit_hybrid = on_demand("transformers.models.deprecated.vit_hybrid.modeling_vit_hybrid")

BIT = dict(embedding_size=16, hidden_sizes=[32, 48], depths=[1, 1], num_groups=4, num_labels=3)


def adapted(text, checkpoint, photograph):
    """The statements of a docstring's examples, made to run on nphybrid."""
    code = "".join(example.source for example in doctest.DocTestParser().get_examples(text))
    code = re.sub(r"import torch\n|from datasets import .*\n|import requests\n", "", code)
    code = re.sub(r"from transformers import (.*)", r"from nphybrid import \1", code)
    code = code.replace("AutoImageProcessor", "ViTHybridImageProcessor").replace("AutoBackbone", "BitBackbone")
    code = code.replace("with torch.no_grad():", "if True:").replace('"pt"', '"np"')
    code = re.sub(r'"google/[\w-]+"', repr(str(checkpoint)), code)
    code = re.sub(r"dataset = .*\n|url = .*\n", "", code)
    code = re.sub(r'image = .*', f"from PIL import Image\nimage = Image.open({str(photograph)!r})", code)
    assert "transformers" not in code and "torch" not in code and "google/" not in code, code
    return code


def run(text, checkpoint, photograph):
    """Run a docstring's examples.  -> (their variables, what they printed)"""
    code, names, printed = adapted(text, checkpoint, photograph), {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docstring", "exec"), names)
    return names, printed.getvalue()


@pytest.fixture
def photograph(root):
    return root / "examples" / "images" / "cat.png"


@pytest.fixture
def bit_folder(tmp_path):
    """A BiT checkpoint as transformers itself writes it."""
    transformers.BitForImageClassification(transformers.BitConfig(**BIT)).save_pretrained(tmp_path)
    transformers.BitImageProcessor(size={"shortest_edge": 64}, crop_size=64).save_pretrained(tmp_path)
    return tmp_path


def test_configurations():
    """`ViTHybridModel(ViTHybridConfig())` and its BiT counterpart, at their full default sizes."""
    for text, parameters in ((configuration_vit_hybrid.ViTHybridConfig.__doc__, 98_659_112 - 769_000 + 590_592),
                             (transformers.BitConfig.__doc__, 25_549_352 - 2_049_000)):
        names, _ = run(text, "", "")
        assert names["model"].num_parameters() == parameters
        assert names["configuration"] is names["model"].config


def test_classifier(photograph):
    names, printed = run(modeling_vit_hybrid.ViTHybridForImageClassification.forward.__doc__, nphybrid.default_model(),
                         photograph)
    assert printed == "cat\n"
    assert names["logits"].argmax(-1).item() == 3


def test_model(photograph):
    names, _ = run(modeling_vit_hybrid.ViTHybridModel.forward.__doc__, nphybrid.default_model(), photograph)
    assert list(names["last_hidden_states"].shape) == [1, 65, 192]


def test_bit_classifier(bit_folder, photograph):
    names, printed = run(transformers.BitForImageClassification.forward.__doc__, bit_folder, photograph)
    assert names["logits"].shape == (1, 3) and printed.startswith("LABEL_")


def test_bit_backbone(bit_folder, photograph):
    names, _ = run(transformers.BitBackbone.forward.__doc__, bit_folder, photograph)
    assert [map.shape for map in names["outputs"].feature_maps] == [(1, 48, 8, 8)]
