"""What names and shapes tell of a network, and what is refused because they do not."""
import json

import numpy as np
import pytest

from nphybrid import FormatError, ViTForImageClassification, ViTModel
from nphybrid.api.load import load
from nphybrid.dialects.google import one_numbering
from nphybrid.dialects.shapes import hf_vit_config
from nphybrid.dialects.timm import timm_config
from nphybrid.tensorfile import Stored, write_npz, write_safetensors

from oracles import cases

# Of vit_huge_patch14_224: what the configuration is read from.
HUGE = {"cls_token": (1, 1, 1280), "pos_embed": (1, 257, 1280), "patch_embed.proj.weight": (1280, 3, 14, 14),
        "blocks.31.norm1.weight": (1280,), "blocks.0.mlp.fc1.weight": (5120, 1280), "blocks.0.attn.qkv.bias": (3840,),
        "norm.weight": (1280,), "head.weight": (1000, 1280)}


def test_heads_that_are_not_64_wide():
    """80 wide in the huge network, and whatever config.json says in another."""
    found = timm_config(HUGE, {})
    assert (found["num_attention_heads"], found["hidden_size"], found["num_hidden_layers"]) == (16, 1280, 32)
    assert (found["image_size"], found["patch_size"], found["num_labels"]) == (224, 14, 1000)
    assert timm_config(HUGE, {"model_args": {"num_heads": 20}})["num_attention_heads"] == 20
    odd = {name: tuple(100 if n == 1280 else n for n in shape) for name, shape in HUGE.items()}
    with pytest.raises(FormatError, match="the width of a token is 100, which is not a multiple of 64"):
        timm_config(odd, {})
    assert timm_config(odd, {"model_args": {"num_heads": 5}})["num_attention_heads"] == 5
    base = {name: tuple(768 if n == 1280 else n for n in shape) for name, shape in HUGE.items()}
    assert timm_config(base, {})["num_attention_heads"] == 12


@pytest.fixture
def folder(tmp_path):
    """A function that writes a small plain ViT with timm's names, and a config.json of its kind."""
    def write(card, **changes):
        D = 64
        arrays = {"cls_token": (1, 1, D), "pos_embed": (1, 5, D), "patch_embed.proj.weight": (D, 3, 4, 4),
                  "patch_embed.proj.bias": (D,), "norm.weight": (D,), "norm.bias": (D,), "head.weight": (3, D),
                  "head.bias": (3,)}
        for name, shape in {"norm1.weight": (D,), "norm1.bias": (D,), "attn.qkv.weight": (3 * D, D),
                            "attn.qkv.bias": (3 * D,), "attn.proj.weight": (D, D), "attn.proj.bias": (D,),
                            "norm2.weight": (D,), "norm2.bias": (D,), "mlp.fc1.weight": (96, D), "mlp.fc1.bias": (96,),
                            "mlp.fc2.weight": (D, 96), "mlp.fc2.bias": (D,)}.items():
            arrays[f"blocks.0.{name}"] = shape
        arrays = {name: shape for name, shape in {**arrays, **changes}.items() if shape is not None}
        write_safetensors(tmp_path / "model.safetensors",
                          {name: cases.normal(0, *shape) for name, shape in arrays.items()})
        if card is not None:
            (tmp_path / "config.json").write_text(json.dumps(card))
        return tmp_path
    return write


def test_a_rectangular_picture_is_known_by_its_patches():
    """The size of the picture is kept if it has as many patches as the position table, also incomplete patches."""
    def image_size(patches, size):
        return hf_vit_config(dict(num_labels=0), patches=patches, patch_size=16, stages=[], stem=None, channels=3,
                             image_size=size)["image_size"]
    assert image_size(6, (48, 32)) == [48, 32] and image_size(6, (33, 31)) == [33, 31]
    assert image_size(9, (48, 32)) == 48
    with pytest.raises(FormatError, match="the position table has 6 patches, which do not form a square grid"):
        image_size(6, (64, 64))


def test_an_array_with_the_right_number_of_values_and_a_wrong_shape(folder):
    with pytest.raises(FormatError, match=r"fc2\.weight has shape \[96, 64\], expected \[64, 96\]$"):
        load(folder({}, **{"blocks.0.mlp.fc2.weight": (96, 64)}), engine="reference")


def test_the_small_network_loads(folder):
    model = load(folder({"architecture": "vit_tiny_patch16_224", "label_names": ["a", "b", "c"]}), engine="reference")
    assert model(np.zeros((1, 3, 8, 8), np.float32)).logits.shape == (1, 3)
    assert list(model.config.id2label.values()) == ["a", "b", "c"] and model.processor["crop_size"]["height"] == 8


def test_what_a_card_of_arguments_says(folder):
    """The pooling may stand among the arguments; the picture is the table's, not that of an older network."""
    card = {"model_args": {"global_pool": "avg", "fc_norm": False}, "pretrained_cfg": {"input_size": [3, 224, 224]}}
    model = load(folder(card), engine="reference")
    assert (model.network_config.pool, model.network_config.image) == ("mean", (8, 8))
    assert model.processor["crop_size"] == {"height": 8, "width": 8}


def test_another_image_size_takes_the_processor_along(folder):
    model = ViTForImageClassification.from_pretrained(folder(None), engine="reference", image_size=16)
    assert model.processor["crop_size"] == {"height": 16, "width": 16} and model.network_config.image == (16, 16)
    assert model.processor["size"] == {"shortest_edge": 16}


def test_a_card_belongs_to_model_safetensors_alone(folder):
    """Another file in the same folder is not described by it."""
    path = folder({"label_names": ["a", "b", "c"]})
    (path / "other.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    assert load(path / "model.safetensors", engine="reference").config.id2label[0] == "a"
    assert load(path / "other.safetensors", engine="reference").config.id2label[0] == "LABEL_0"
    (path / "config.json").write_text("[]")
    assert load(path / "other.safetensors", engine="reference").config.num_labels == 3


def test_a_dialect_is_overridden_key_by_key(folder):
    model = ViTForImageClassification.from_pretrained(folder(None), engine="reference", dialect={"pool": "mean"})
    assert (model.network_config.pool, model.network_config.resampling) == ("mean", "antialiased")


@pytest.mark.parametrize("changes, pooled", [
    ({"norm.weight": None, "norm.bias": None, "fc_norm.weight": (64,), "fc_norm.bias": (64,)}, 64),
    ({"pre_logits.fc.weight": (40, 64), "pre_logits.fc.bias": (40,)}, 40)])
def test_without_a_head_the_answer_is_what_it_would_read(folder, changes, pooled):
    path = folder(None, **changes, **{"head.weight": None, "head.bias": None})
    x = cases.normal(0, 2, 3, 8, 8)
    features = ViTModel.from_pretrained(path, engine="reference")(x)
    logits = ViTForImageClassification.from_pretrained(path, engine="reference")(x).logits
    assert logits.shape == (2, pooled) and np.array_equal(logits, features.pooler_output)
    assert not np.array_equal(logits, features.last_hidden_state[:, 0, :pooled])


@pytest.mark.parametrize("shape", [(), (0, 4), (3_000_000, 0)])
def test_a_stack_of_no_number_of_blocks(shape, tmp_path):
    write_npz(tmp_path / "x.npz", {"embedding/kernel": np.zeros((1, 1, 3, 4), np.float32),
                                   "Transformer/encoder_norm/scale": np.zeros(4, np.float32),
                                   "Transformer/encoderblock/x": np.zeros(shape, np.float32)})
    with pytest.raises(FormatError, match="expected 1 to 1024 blocks"):
        load(tmp_path / "x.npz")


def test_an_array_with_and_without_a_prefix(tmp_path):
    write_npz(tmp_path / "x.npz", {name: np.zeros((1, 1, 3, 4), np.float32) for name in (
        "embedding/kernel", "Transformer/encoder_norm/scale", "opt/target/embedding/kernel")})
    with pytest.raises(FormatError, match="the array embedding/kernel is in the file twice, also with the name "
                                          "opt/target/embedding/kernel"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("card, told", [
    ({"architecture": "vit_base_patch16_rpn_224"},
     r"architecture 'vit_base_patch16_rpn_224'; expected vit_SIZE_patchP \(a plain ViT\)"),
    ({"architecture": "vit_base_patch32_siglip_gap_256"}, r"expected vit_SIZE_patchP \(a plain ViT\)"),
    ({"architecture": "test_vit"}, r"expected vit_SIZE_patchP \(a plain ViT\)"),
    ({"model_args": {"global_pool": "max"}}, "global_pool 'max'"),
    ({"model_args": {"class_token": False}}, "which have a cls_token"),
    ({"label_names": "abc"}, "label_names in config.json is 'abc'; it is not a list of strings"),
    ({"global_pool": "map"}, "global_pool 'map'; expected 'token' or 'avg'"),
    ({"global_pool": ""}, "global_pool ''"),
    ({"model_args": {"qk_norm": True, "num_heads": 1}}, "has the model_args 'qk_norm', which are not supported"),
    ({"model_args": [1]}, "looks like timm vit"), ({"pretrained_cfg": "x"}, "looks like timm vit"),
    ({"pretrained_cfg": {"crop_pct": 7}}, "crop_pct must be a number above 0"),
    ({"pretrained_cfg": {"interpolation": "random"}}, "interpolation must be one of"),
    ({"label_names": 3}, "not a list of strings")])
def test_a_card_that_cannot_be_right(folder, card, told):
    with pytest.raises(ValueError, match=told):
        load(folder(card), engine="reference")


@pytest.mark.parametrize("changes, told", [
    ({"pos_embed": (1, 4, 64)}, "3 patches, which do not form a square grid"),        # a table without the class token
    ({"pos_embed": (1, 1, 64)}, "0 patches, which do not form a square grid"),
    ({"pos_embed": (1, 0, 64)}, "-1 patches, which do not form a square grid"),
    ({"blocks.0.ls1.gamma": (64,)}, "unexpected: blocks.0.ls1.gamma"),           # layer scale
    ({"dist_token": (1, 1, 64)}, "unexpected: dist_token"), ({"norm_pre.weight": (64,)}, "unexpected: norm_pre.weight"),
    ({"blocks.0.mlp.fc2.bias": None}, r"missing: blocks.0.mlp.fc2.bias \[64\]"),
    ({"blocks.0.mlp.fc1.weight": None}, "'blocks.0.mlp.fc1.weight' is missing"),
    ({"head.weight": (3, 32)}, r"head.weight has shape \[3, 32\], expected \[3, 64\]"),
    ({"blocks.0.attn.qkv.weight": (128, 64)}, r"blocks.0.attn.qkv.weight has shape \[128, 64\], expected \[192, 64\]")])
def test_arrays_that_are_of_another_network(folder, changes, told):
    with pytest.raises(FormatError, match=told):
        load(folder(None, **changes), engine="reference")


def test_a_stack_of_blocks_is_read_once():
    """Each block is a slice of one array."""
    reads, whole = [], cases.normal(0, 3, 4)
    stack = Stored("x.npz", "Transformer/encoderblock/LayerNorm_0/scale", (3, 4), whole.dtype,
                   lambda: reads.append(1) or whole, None)
    blocks = one_numbering({stack.name: stack})
    assert list(blocks) == [f"Transformer/encoderblock_{i}/LayerNorm_0/scale" for i in range(3)]
    assert all(np.array_equal(block.read(), row) for block, row in zip(blocks.values(), whole)) and len(reads) == 1


def test_a_batch_norm_is_named(tmp_path):
    """As in timm's vit_small_resnet26d_224."""
    name = "patch_embed.backbone.bn1.running_mean"
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"cls_token": np.zeros((1, 1, 8), np.float32), name: np.zeros(8, np.float32)})
    with pytest.raises(FormatError, match=f"holds a batch norm, for example {name}; expected a network whose"):
        load(path)
