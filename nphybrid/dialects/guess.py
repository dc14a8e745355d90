"""The dialect of a weight file, recognized by a few names that only this dialect has.

The result chooses a table and is printed in reports.  Whether the arrays fill a network is checked later, name by name.
"""

import re
from collections.abc import Iterable

from . import DIALECTS, huggingface

# What training loops and wrappers put in front of every name: PyTorch's DDP and torch.compile, Flax's optimizers,
# big_vision. "params/img/" is one prefix: it stands before "params/", which would remove only half of it.
PREFIX = re.compile(r"(module\.|_orig_mod\.|opt/target/|params/img/|params/)*")

# The first that applies counts: a hybrid also has most of the names by which a ViT is recognized.
MARKS = (*huggingface.MARKS, *(mark for dialect in DIALECTS.values() for mark in dialect.marks))


def guess(names: Iterable[str]) -> tuple[str, str] | tuple[None, None]:
    """The dialect and kind of network of a file, and the name that shows it.  -> (kind, anchor)

    The kind is that of one of MARKS; prefixes before every name are ignored. The anchor is written as in the file. Both
    are None if no mark applies.

    >>> guess(["module.patch_embed.proj.weight", "module.blocks.0.attn.qkv.weight", "module.head.bias"])
    ('timm vit', 'module.patch_embed.proj.weight')
    >>> guess(["features.0.weight"])
    (None, None)
    """
    names = list(names)
    full_names = dict(zip(without_prefix(names), names))
    for mark in MARKS:
        lacks = not mark.lacks or not any(name.startswith(mark.lacks) for name in full_names)
        if lacks and all(name in full_names for name in mark.needs):
            return mark.kind, full_names[mark.needs[0]]
    return None, None


def dialect_of(kind: str) -> str | None:
    """The key of DIALECTS for a kind that `guess` returned; None for Hugging Face's.

    >>> dialect_of("google bit"), dialect_of("huggingface vit")
    ('BiT', None)
    """
    for name, dialect in DIALECTS.items():
        if any(mark.kind == kind for mark in dialect.marks):
            return name
    return None


def without_prefix(names: Iterable[str]) -> list[str]:
    """The names without the prefixes of training loops and wrappers, in their order.

    >>> without_prefix(["module._orig_mod.norm.bias", "params/img/cls", "opt/target/cls", "opt/state/step"])
    ['norm.bias', 'cls', 'cls', 'opt/state/step']
    """
    return [PREFIX.sub("", name, count=1) for name in names]


def numbering(names: Iterable[str]) -> str | None:
    """How a JAX file numbers the parts of an encoder block: "pre-Linen", in the order of calls (LayerNorm_0,
    MultiHeadDotProductAttention_1, LayerNorm_2, MlpBlock_3), or "Linen", each class from 0; None without a block.

    >>> numbering(["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/bias"])
    'pre-Linen'
    """
    parts = {part for name in names for part in name.split("/")}
    if "MultiHeadDotProductAttention_1" in parts:
        return "pre-Linen"
    return "Linen" if "MultiHeadDotProductAttention_0" in parts else None
