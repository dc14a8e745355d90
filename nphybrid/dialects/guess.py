"""Whose names these are: the dialect of a weight file, told by a few names that it alone uses.

A guess for the reader of a report, and for the choice of a table. Whether the arrays fill a network, that table finds
out, name by name.
"""
import re
from typing import NamedTuple

# What training loops and wrappers put in front of every name: PyTorch's DDP and torch.compile, Flax's optimizers,
# big_vision. "params/img/" is one prefix: it stands before "params/", which would leave half of it.
PREFIX = re.compile(r"(module\.|_orig_mod\.|opt/target/|params/img/|params/)*")


class Mark(NamedTuple):
    """What tells a dialect."""
    dialect: str
    needs: tuple                          # names that are all there; the first is the anchor
    lacks: str = ""                       # what no name begins with; "" asks nothing


# The first that applies counts: a hybrid also has most of what marks a ViT.
MARKS = (
    Mark("huggingface hybrid", ("vit.embeddings.patch_embeddings.backbone.bit.embedder.convolution.weight",)),
    Mark("huggingface hybrid", ("embeddings.patch_embeddings.backbone.bit.embedder.convolution.weight",)),
    Mark("huggingface vit", ("vit.embeddings.patch_embeddings.projection.weight",),
         lacks="vit.embeddings.patch_embeddings.backbone."),
    Mark("huggingface vit", ("embeddings.patch_embeddings.projection.weight",),
         lacks="embeddings.patch_embeddings.backbone."),
    Mark("huggingface bit", ("bit.embedder.convolution.weight",)),
    Mark("huggingface bit", ("embedder.convolution.weight",)),
    Mark("timm hybrid", ("patch_embed.backbone.stem.conv.weight", "blocks.0.attn.qkv.weight")),
    Mark("timm hybrid", ("patch_embed.backbone.conv.weight", "blocks.0.attn.qkv.weight")),    # no stage: R+ViT-Ti/16
    Mark("timm vit", ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), lacks="patch_embed.backbone."),
    # Its other ResNets of version 2 have batch norms.
    Mark("timm bit", ("stem.conv.weight", "stages.0.blocks.0.norm1.weight"),
         lacks="stages.0.blocks.0.norm1.running_mean"),
    Mark("jax hybrid", ("conv_root/kernel", "embedding/kernel")),
    Mark("jax vit", ("embedding/kernel", "Transformer/encoder_norm/scale")),
    Mark("google bit", ("resnet/root_block/standardized_conv2d/kernel",)),
)


def guess(names):
    """The dialect of a file's names and the name that told it.  -> (dialect, anchor); (None, None) where none fits

    The dialect is one of MARKS, whatever stands in front of every name; the anchor is spelled as the file has it.

    >>> guess(["module.patch_embed.proj.weight", "module.blocks.0.attn.qkv.weight", "module.head.bias"])
    ('timm vit', 'module.patch_embed.proj.weight')
    >>> guess(["features.0.weight"])
    (None, None)
    """
    names = list(names)
    spelled = dict(zip(without_prefix(names), names))
    for dialect, needs, lacks in MARKS:
        if all(name in spelled for name in needs) and not (lacks and any(name.startswith(lacks) for name in spelled)):
            return dialect, spelled[needs[0]]
    return None, None


def without_prefix(names):
    """The names without what training wrapped around them, in their order.  -> list of str

    >>> without_prefix(["module._orig_mod.norm.bias", "params/img/cls", "opt/target/cls", "opt/state/step"])
    ['norm.bias', 'cls', 'cls', 'opt/state/step']
    """
    return [name[PREFIX.match(name).end():] for name in names]


def numbering(names):
    """How a JAX file numbers the parts of an encoder block: "pre-Linen", in the order of calls (LayerNorm_0,
    MultiHeadDotProductAttention_1, LayerNorm_2, MlpBlock_3), or "Linen", each class by itself; None without a block.

    >>> numbering(["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/bias"])
    'pre-Linen'
    """
    parts = {part for name in names for part in name.split("/")}
    if "MultiHeadDotProductAttention_1" in parts:
        return "pre-Linen"
    return "Linen" if "MultiHeadDotProductAttention_0" in parts else None
