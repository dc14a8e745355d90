"""The dialect of names: each one's own, wrapped or bare, and its look-alikes, which are none of them."""
import pytest

from nphybrid import (BitBackbone, BitConfig, BitForImageClassification, BitModel, ViTHybridConfig,
                      ViTHybridForImageClassification, ViTHybridModel)
from nphybrid.dialects.guess import guess, numbering, unwrapped

BIT = dict(embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=2)
HYBRID = dict(image_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
              backbone_config=dict(**BIT, layer_type="bottleneck", global_padding="SAME", out_features=["stage1"],
                                   embedding_dynamic_padding=True))
BLOCK = ["norm1.weight", "attn.qkv.weight", "attn.proj.weight", "norm2.weight", "mlp.fc1.weight", "mlp.fc2.weight"]
TIMM = ["cls_token", "pos_embed", "patch_embed.proj.weight", *(f"blocks.0.{part}" for part in BLOCK), "norm.weight"]
JAX = ["cls", "embedding/kernel", "embedding/bias", "Transformer/posembed_input/pos_embedding",
       "Transformer/encoder_norm/scale", "head/kernel"]

# As the files of each origin have them, in part.
NAMES = {
    "huggingface vit": [["vit.embeddings.cls_token", "vit.embeddings.patch_embeddings.projection.weight"],
                        ["embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"]],
    "timm hybrid": [[*TIMM, "patch_embed.backbone.stem.conv.weight",
                     "patch_embed.backbone.stages.0.blocks.0.conv1.weight"],
                    [*TIMM, "patch_embed.backbone.conv.weight", "patch_embed.backbone.norm.weight"]],
    "timm vit": [TIMM],
    "timm bit": [["stem.conv.weight", "stages.0.blocks.0.norm1.weight", "norm.weight", "head.fc.weight"]],
    "jax hybrid": [[*JAX, "conv_root/kernel", "gn_root/scale"]],
    "jax vit": [JAX],
    "google bit": [["resnet/root_block/standardized_conv2d/kernel", "resnet/head/conv2d/kernel"]],
}
NEIGHBOURS = {
    "nothing": [],
    "torchvision": ["conv1.weight", "layer1.0.conv1.weight", "fc.bias"],
    "a DPT with a hybrid inside": ["dpt.embeddings.backbone.bit.embedder.convolution.weight"],
    "a ResNet of Hugging Face": ["resnet.embedder.embedder.convolution.weight"],
    "a hybrid of Hugging Face on a timm backbone": [
        "vit.embeddings.patch_embeddings.backbone._backbone.conv1.weight",
        "vit.embeddings.patch_embeddings.projection.weight"],
    "a timm hybrid on a ResNet of version 1": [*TIMM, "patch_embed.backbone.conv1.weight"],
    "a timm ResNet with batch norms": ["stem.conv.weight", "stages.0.blocks.0.norm1.weight",
                                       "stages.0.blocks.0.norm1.running_mean"],
    "a Swin": ["patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight"],
    "an MLP-Mixer": ["stem/kernel", "MixerBlock_0/LayerNorm_0/scale", "head/kernel"],
}


@pytest.mark.parametrize("kind, config, dialect", [
    (ViTHybridForImageClassification, ViTHybridConfig(**HYBRID), "huggingface hybrid"),
    (ViTHybridModel, ViTHybridConfig(**HYBRID), "huggingface hybrid"),
    (BitForImageClassification, BitConfig(**BIT), "huggingface bit"),
    (BitModel, BitConfig(**BIT), "huggingface bit"), (BitBackbone, BitConfig(**BIT), "huggingface bit"),
], ids=lambda value: getattr(value, "__name__", ""))
def test_our_own_models(kind, config, dialect):
    state = kind(config, engine="reference").state_dict()
    found, anchor = guess(state)
    assert found == dialect and anchor in state


@pytest.mark.parametrize("dialect, names", [(dialect, names) for dialect, lists in NAMES.items() for names in lists],
                         ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.",
                                    "opt/target/", "params/", "params/img/", "model.net.", "base_model.model.",
                                    "timm_model.",
                                    "optimizer/target/params/", "state_dict.module.", "my_network.", "my_network/"])
def test_every_dialect_wrapped_or_bare(dialect, names, prefix):
    wrapped = [prefix + name for name in names]
    beside = [] if prefix.startswith("my") else ["opt/state/step", "module.n_averaged", "optimizer.state.0.exp_avg"]
    found, anchor = guess(iter(wrapped + beside))
    assert found == dialect and anchor in wrapped
    assert unwrapped(wrapped + beside) == (dict(zip(names, wrapped)), [], [])
    assert guess(reversed(wrapped + beside)) == (found, anchor)


def test_wrappers_inside_a_name():
    """torch.compile, FSDP and activation checkpoints of single blocks."""
    names = ["blocks.0._orig_mod.norm1.weight", "module.blocks.0._checkpoint_wrapped_module.mlp.fc1.weight",
             "_fsdp_wrapped_module.blocks.1._fsdp_wrapped_module._orig_mod.norm1.bias"]
    assert list(unwrapped(names).names) == ["blocks.0.norm1.weight", "blocks.0.mlp.fc1.weight", "blocks.1.norm1.bias"]


def test_averages_are_used_only_if_there_is_nothing_else():
    average = [f"ema.module.{name}" for name in TIMM]
    assert unwrapped(average) == (dict(zip(TIMM, average)), [], [])
    assert unwrapped([*average, "module.n_averaged"]) == (dict(zip(TIMM, average)), [], [])
    assert unwrapped([*TIMM, *average]) == (dict(zip(TIMM, TIMM)), [], average)


@pytest.mark.parametrize("kind", NEIGHBOURS)
def test_neighbours_are_not_taken_for_one_of_them(kind):
    assert guess(NEIGHBOURS[kind]) == (None, None)


def test_a_prefix_is_no_part_of_a_word():
    names = ["modules.0.weight", "x.module.weight", "emails.weight", "lossless.weight", "steps_embedding"]
    assert list(unwrapped(names).names) == names


@pytest.mark.parametrize("names, found", [
    (["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel",
      "Transformer/encoderblock_0/LayerNorm_2/scale"], "pre-Linen"),
    (["opt/target/Transformer/encoderblock_11/MultiHeadDotProductAttention_0/query/kernel",
      "Transformer/encoderblock_11/LayerNorm_1/scale"], "Linen"),
    (["cls", "Transformer/encoder_norm/scale"], None)])
def test_numbering(names, found):
    assert numbering(names) == found
