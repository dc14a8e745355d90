"""Recognizes the dialect of a weight file by the names of a few arrays that only this dialect has.

The dialect decides which table of names is used, and is printed in reports.  Later, `layout.refuse_misfits` compares
every name in the file with the table.
"""

import re
from collections.abc import Iterable

from . import DIALECTS, huggingface

# Training loops and wrappers put a prefix in front of every name.
# The known prefixes are from PyTorch's DDP, from torch.compile, from Flax's optimizers and from big_vision.
# The pattern tries "params/img/" before "params/", because "params/" would remove only a part of "params/img/".
PREFIX = re.compile(r"(module\.|_orig_mod\.|opt/target/|params/img/|params/)*")

# The first mark that matches is used. In each dialect, the marks of hybrids come before the marks of plain ViTs,
# because a hybrid also has most of the names by which a plain ViT is recognized.
MARKS = (*huggingface.MARKS, *(mark for dialect in DIALECTS.values() for mark in dialect.marks))


def guess(names: Iterable[str]) -> tuple[str, str] | tuple[None, None]:
    """Recognizes the dialect and the kind of network from the names in a file.  -> (kind, anchor)

    The kind is the `kind` of a mark in MARKS. The anchor is the name in the file by which the kind was recognized.
    Prefixes of training loops and wrappers are ignored. The kind and the anchor are None if no mark matches.

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
    """Returns the key of DIALECTS for a kind that `guess` returned; None for Hugging Face's dialect.

    >>> dialect_of("google bit"), dialect_of("huggingface vit")
    ('BiT', None)
    """
    for name, dialect in DIALECTS.items():
        if any(mark.kind == kind for mark in dialect.marks):
            return name
    return None


def without_prefix(names: Iterable[str]) -> list[str]:
    """Returns the names without the prefixes of training loops and wrappers.  The order does not change.

    >>> without_prefix(["module._orig_mod.norm.bias", "params/img/cls", "opt/target/cls", "opt/state/step"])
    ['norm.bias', 'cls', 'cls', 'opt/state/step']
    """
    return [PREFIX.sub("", name, count=1) for name in names]


def numbering(names: Iterable[str]) -> str | None:
    """Returns how a JAX file numbers the layers of an encoder block; None if the file holds no encoder block.

    "pre-Linen" numbers the layers in the order in which they are called: LayerNorm_0, MultiHeadDotProductAttention_1,
    LayerNorm_2, MlpBlock_3. "Linen" numbers each class of layers from 0.

    >>> numbering(["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/bias"])
    'pre-Linen'
    """
    parts = {part for name in names for part in name.split("/")}
    if "MultiHeadDotProductAttention_1" in parts:
        return "pre-Linen"
    return "Linen" if "MultiHeadDotProductAttention_0" in parts else None
