"""Recognizes the dialect of a weight file by the names of a few arrays that only this dialect has.

The dialect decides which table of names is used, and is printed in reports.  Later, `layout.refuse_misfits` compares
every name in the file with the table.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from . import DIALECTS, huggingface
from .layout import Mark

# Training loops and wrappers put prefixes in front of every name, in any order. The known prefixes are from PyTorch's
# DDP, from Lightning, PEFT and transformers' wrapper of timm, from Flax's optimizers, and from big_vision.
# The pattern tries "params/img/" before "params/", because "params/" would remove only a part of "params/img/".
PREFIX = re.compile(r"((module|model|net|network|base_model|timm_model|state_dict|model_state_dict)\."
                    r"|(opt|optimizer)/target/|params/img/|(params|target|model|state|train_state)/)*")
# Wrappers of PyTorch that can be at any place in a name: torch.compile, FSDP, activation checkpoints, Fabric.
INNER = re.compile(r"(?<![^.])_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module|forward_module)\.")
# What a training loop keeps beside the weights: optimizers, schedules, clocks, generators of random numbers, losses,
# and measures such as val_acc.tp of torchmetrics.
BESIDE = re.compile(r"(opt|opt_state|optimizer|optimizers|optim|optimizer_state\w*|lr_schedulers?|schedulers?"
                    r"|(grad_|amp_|loss_)?scaler|chrono|rngs?|(\w+_)?rng_state|callbacks|loops|hyper_parameters"
                    r"|criterion|loss|loss_fn|metrics?|(train|val|valid|test)_(acc|accuracy|loss|metrics?))[./]")
# Numbers that a training loop counts or measures, and that are not arrays of a network.
COUNTERS = {"step", "steps", "global_step", "epoch", "iteration", "num_updates", "n_averaged", "best_metric", "metric",
            "best_acc", "best_loss", "loss", "train_loss", "val_loss", "val_acc", "lr", "seed", "rng", "rng_state",
            "torch_rng_state", "cuda_rng_state", "numpy_rng_state"}
# Averages of the weights over the steps of a training run.
AVERAGE = re.compile(r"(ema|ema_model|model_ema|module_ema|state_dict_ema|swa_model)\.|(ema|ema_params|params_ema)/")

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
    full_names = unwrapped(names).names
    kind = _kind_of(full_names)
    return (None, None) if kind is None else (kind.kind, full_names[kind.needs[0]])


def _kind_of(names: Collection[str]) -> Mark | None:
    """Returns the mark that matches names without prefixes, or None."""
    for mark in MARKS:
        lacks = not mark.lacks or not any(name.startswith(mark.lacks) for name in names)
        if lacks and all(name in names for name in mark.needs):
            return mark
    return None


def dialect_of(kind: str) -> str | None:
    """Returns the key of DIALECTS for a kind that `guess` returned; None for Hugging Face's dialect.

    >>> dialect_of("google bit"), dialect_of("huggingface vit")
    ('BiT', None)
    """
    for name, dialect in DIALECTS.items():
        if any(mark.kind == kind for mark in dialect.marks):
            return name
    return None


class Unwrapped(NamedTuple):
    """The names of a file, without what training loops put around names and keep beside weights."""

    names: dict[str, str]                 # {name without prefixes: name in the file}
    twice: list[tuple[str, str]]          # (name without prefixes, name in the file) of every name that occurs again
    averages: list[str]                   # the names in the file of averages that are not used


def unwrapped(names: Iterable[str]) -> Unwrapped:
    """Removes the prefixes of training loops and wrappers, and leaves out what is kept beside the weights.

    The averages of the weights are used only if the file has no other weights.

    >>> unwrapped(["module._orig_mod.norm.bias", "opt/state/step", "epoch"]).names
    {'norm.bias': 'module._orig_mod.norm.bias'}
    >>> unwrapped(["params/img/cls", "opt/target/head/kernel"]).names
    {'cls': 'params/img/cls', 'head/kernel': 'opt/target/head/kernel'}
    """
    weights, averages = Unwrapped({}, [], []), Unwrapped({}, [], [])
    for full_name in names:
        name = PREFIX.sub("", INNER.sub("", full_name), count=1)
        average = AVERAGE.match(name)
        if average:
            name = PREFIX.sub("", name[average.end():], count=1)
        if BESIDE.match(name) or name in COUNTERS:
            continue
        found = averages if average else weights
        if name in found.names:
            found.twice.append((name, full_name))
        else:
            found.names[name] = full_name
    if averages.names and _kind_of(weights.names) is None:
        return averages._replace(names={**weights.names, **averages.names})
    return weights._replace(names=_without_attribute(weights.names), averages=list(averages.names.values()))


def _without_attribute(names: dict[str, str]) -> dict[str, str]:
    """Removes the first part of all names if all names have the same first part, and a mark matches the rest.

    The first part is, for example, the attribute of a program's own module that holds the network.
    """
    first_parts = {re.split(r"(?<=[./])", name, maxsplit=1)[0] for name in names}
    if len(first_parts) != 1 or _kind_of(names) is not None:
        return names
    part = first_parts.pop()
    rest = {name.removeprefix(part): full_name for name, full_name in names.items()}
    return names if _kind_of(rest) is None else rest


def networks(names: Iterable[str]) -> list[str]:
    """Returns the first parts of the names of several networks in one file, such as student. and teacher.

    The list is empty if the names are those of one network, or of none.

    >>> names = "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"
    >>> networks([*(f"student.{name}" for name in names), *(f"teacher.{name}" for name in names), "epoch"])
    ['student.', 'teacher.']
    """
    found = unwrapped(names).names
    if _kind_of(found) is not None:
        return []
    rests: dict[str, set[str]] = {}
    for name in found:
        part = re.split(r"(?<=[./])", name, maxsplit=1)[0]
        rests.setdefault(part, set()).add(PREFIX.sub("", name.removeprefix(part), count=1))
    parts = [part for part, rest in rests.items() if _kind_of(rest) is not None]
    return parts if len(parts) > 1 else []


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
