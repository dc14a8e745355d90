"""A model in another format, and what that loses.

    target            names of      holds
    model.h5          Hugging Face  everything
    a folder          Hugging Face  arrays, labels, Hugging Face's numerics and processor
    a folder, timm    timm          arrays, labels, timm's numerics, timm's preprocessing
    model.npz         Google        arrays; numerics, labels and preprocessing are Google's own

Nobody keeps a list of what a format cannot hold: what is about to be written is read back, as any reader would, and
compared with the model.
"""
import itertools
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import checkpoint, labels, params, tensorfile
from ..dialects import google, timm, translate
from ..ops import reference
from ..trace import Trace

FORMATS = "h5", "huggingface", "timm", "google"


class Loss(NamedTuple):
    """What the target cannot hold."""
    what: str
    had: str
    becomes: str


class Written(NamedTuple):
    """What a target is made of, and how it is read back."""
    arrays: dict                          # {their name: array}
    documents: dict                       # {file name: JSON}
    config: dict                          # as a reader has it, Hugging Face's spelling
    processor: dict | None
    left_out: list                        # our names of arrays that have none in the target


def format_of(target, wanted=None):
    """The format of a target: the wanted one, or by its name.  -> one of FORMATS.  Raises ValueError."""
    name = str(target)
    found = "h5" if name.endswith(".h5") else "google" if name.endswith(".npz") else wanted or "huggingface"
    if wanted not in (None, found):
        raise ValueError(f"{name} is a target of format {found}, not {wanted}; timm and huggingface write a folder")
    if found in ("huggingface", "timm") and Path(name).suffix in (".safetensors", ".bin", ".pth", ".json"):
        raise ValueError(f"{name}: the target of format {found} is a folder")
    return found


def convert(model, target, to=None, lossy=False, source=None):
    """Write a model.  -> list of Loss, empty where nothing is lost, and how far that moves the golden logits

    to: one of FORMATS, by default told by the target's name. source: a dict that an `.h5` keeps. Raises ValueError that
    lists what the target cannot hold, unless `lossy`; FileExistsError for a folder that holds something; nothing is
    written then. The second result is the largest difference of the golden logits over their standard deviation, 0.0
    where nothing is lost.
    """
    form = format_of(target, to)
    if form == "h5":
        model.save(target, source=source)
        return [], 0.0
    tree = _learned(model)
    written = {"huggingface": _hugging_face, "timm": _timm, "google": _google}[form](model, tree)
    if missing := _missing(model, tree, written):
        raise ValueError(f"{target}: the format {form} cannot hold this network: it would lack {', '.join(missing)}")
    lost = _losses(model, tree, written)
    moved = _moved(model, tree, written) if lost else 0.0
    if lost and not lossy:
        raise ValueError(f"{target}: the format {form} cannot hold\n{listed(lost)}\n--lossy writes it all the same; "
                         f"the golden logits then move by {moved:.2g} of their standard deviation")
    if form == "google":
        tensorfile.write_npz(target, written.arrays)
        return lost, moved
    with tensorfile.write_folder_atomically(target) as folder:
        for name, document in written.documents.items():
            tensorfile.write_json(folder / name, document)
        tensorfile.write_safetensors(folder / "model.safetensors", written.arrays, {"format": "pt"})
    return lost, moved


def listed(lost):
    """A line per loss."""
    return "\n".join(f"  {loss.what}: {loss.had} becomes {loss.becomes}" for loss in lost)


# ---------------------------------------------------------------- what is written

def _learned(model):
    """The tree as it was learned, kernels not standardized."""
    tree, _ = checkpoint.fill_parameters(model.shapes, model.state_dict(), model.table, model.network_config,
                                lambda name, array: array)
    return tree


def _spelled(tree, table, config):
    """{their name: array}, and our names for which the table has none."""
    left_out = [name for name in params.named_leaves(tree) if not _known(name, table)]
    kept = _pruned(tree, left_out)
    arrays = checkpoint.to_state_dict(kept, table, config)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}, left_out


def _pruned(tree, names):
    """The same tree without the branches that hold these leaves: a norm or a linear layer goes as a whole."""
    def kept(name, branch):
        if hasattr(branch, "_fields") and all(f"{name}.{field}" in names for field, leaf in branch._asdict().items()
                                              if leaf is not None):
            return None
        if hasattr(branch, "_fields"):
            dot = f"{name}." if name else ""
            return type(branch)(*(kept(dot + field, child) for field, child in branch._asdict().items()))
        if type(branch) is tuple:
            return tuple(kept(f"{name}.{i}", child) for i, child in enumerate(branch))
        return None if name in names else branch
    return kept("", tree)


def _known(name, table):
    return ".".join("*" if part.isdigit() else part for part in name.split(".")) in table


def _hugging_face(model, tree):
    table = {ours: row for ours, row in model.table.items()
             if not ours.startswith(("pool_norm", "pre_logits"))}
    arrays, left_out = _spelled(tree, table, model.network_config)
    config = {key: value for key, value in model._config_document().items() if key != "dialect"}
    # Of these two options upstream's processor knows one value each, or a number.
    processor = model.processor and {key: value for key, value in model.processor.items()
                                     if key != "crop_rounding" and (key, type(value)) != ("resample", str)}
    documents = {"config.json": config} | ({"preprocessor_config.json": processor} if processor else {})
    return Written(arrays, documents, config, processor, left_out)


def _timm(model, tree):
    sizes, names = model.network_config, _labels(model)
    arrays, left_out = _spelled(tree, timm.timm_names(sizes), sizes)
    card = {**_architecture(sizes), "num_classes": sizes.classes, "label_names": names,
            "global_pool": "avg" if sizes.pool == "mean" or not sizes.blocks else "token",
            "pretrained_cfg": {"input_size": [sizes.channels, *_input(model)], "num_classes": sizes.classes,
                               **timm.to_timm(_options(model.processor) or None)}}
    if sizes.blocks:                      # what timm would not build by itself
        card["model_args"] = ({"num_heads": sizes.heads}
                              | ({"fc_norm": sizes.norm_pooled} if sizes.pool == "mean" else {})
                              | ({} if sizes.class_token else {"class_token": False}))
    config = timm.timm_config(_shapes(arrays), card)
    return Written(arrays, {"config.json": card}, _named(config, names), translate.processor_of(config, card), left_out)


def _google(model, tree):
    sizes = model.network_config
    arrays, left_out = _spelled(tree, google.jax_names(sizes), sizes)
    config = (google.jax_config if sizes.blocks else google.bit_config)(_shapes(arrays))
    return Written(arrays, {}, _named(config, labels.names(sizes.classes)), translate.processor_of(config, {}), left_out)


def _labels(model):
    return list(model.config.id2label.values()) if model.network_config.classes else []


def _shapes(arrays):
    return {name: array.shape for name, array in arrays.items()}


def _named(config, names):
    return {**config, "id2label": dict(enumerate(names))} if names else config


# timm's names of the published networks, by what tells them apart.
_TIMM = {((), 192): "vit_tiny_r_s16_p8", ((2, 2, 2, 2), 384): "vit_small_r26_s32",
         ((2, 2, 2, 2), 768): "vit_base_r26_s32", ((3, 4, 9), 768): "vit_base_r50_s16",
         ((3, 4, 6, 3), 1024): "vit_large_r50_s32"}
_PLAIN = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large"}


def _architecture(sizes):
    """{"architecture": timm's name}; a network of which timm has no name gets none, and timm cannot build it."""
    if not sizes.blocks:
        return {"architecture": f"resnetv2_{3 * sum(sizes.depths) + 2}x{sizes.stem // 64}_bit"}
    name = _TIMM.get((sizes.depths, sizes.width)) if sizes.stem else _PLAIN.get((sizes.width, sizes.blocks))
    if name is None:
        return {}
    return {"architecture": f"{name if sizes.stem else f'vit_{name}_patch{sizes.patch}'}_{sizes.image[0]}"}


def _input(model):
    """The picture of a network, (H, W); a BiT takes any, and its processor says which it is used to."""
    crop = (model.processor or {}).get("crop_size")
    if model.network_config.blocks or not isinstance(crop, dict):
        return model.network_config.image
    return crop["height"], crop["width"]


# ---------------------------------------------------------------- what is lost

def _missing(model, tree, written):
    """Our names of arrays that a reader of the target would want and not find."""
    back = replace(_config(model, written).network_config(), classes=model.network_config.classes)
    return sorted(params.named_leaves(params.shapes(back)).keys() - params.named_leaves(_pruned(tree, written.left_out)).keys())


def _losses(model, tree, written):
    back = _config(model, written).network_config()
    lost = [Loss(f"the array {name}", "kept", "nothing") for name in written.left_out]
    for field, value in vars(model.network_config).items():
        other = getattr(back, field)
        if field == "feature_stage":      # -1 is the last
            stages = len(model.network_config.depths) + 1
            value, other = value % stages, other % stages
        if value != other and (field, model.network_config.blocks) != ("image", 0):
            lost.append(Loss(f"the network's {field}", repr(value), repr(other)))
    mine, theirs = _labels(model), list(_config(model, written).id2label.values())
    if model.network_config.classes and mine != theirs:
        had, becomes = next(pair for pair in itertools.zip_longest(mine, theirs) if pair[0] != pair[1])
        lost.append(Loss("the labels", repr(had), repr(becomes)))
    kind = written.config.get("problem_type")
    if model.network_config.classes and model.config.problem_type != kind:
        lost.append(Loss("the problem_type", repr(model.config.problem_type), repr(kind)))
    mine, theirs = _options(model.processor), _options(written.processor)
    if mine:
        lost += [Loss(f"the processor's {key}", repr(mine.get(key)), repr(theirs.get(key)))
                 for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    return lost


def _options(processor):
    """A processor's options with every default stated."""
    from ..api.processor import ViTHybridImageProcessor
    return ViTHybridImageProcessor.from_dict(processor).to_dict() if processor else {}


def _config(model, written):
    return type(model.config).from_dict({**written.config, "architectures": None})


def _moved(model, tree, written):
    """max|a - b| / std(b) of the golden outputs in float64: as the target is read, and as the model is."""
    back, kept = _config(model, written).network_config(), _pruned(tree, written.left_out)
    outputs = []
    for sizes, learned in (back, kept), (model.network_config, tree):
        out = Trace(keep={"logits", "norm", "features_norm", "pooler"})
        prepared = reference.prepare(learned, sizes, np.float64)
        model.network(checkpoint.golden_input(model.network_config), prepared, sizes, reference, out)
        outputs.append(out["logits"] if "logits" in out else next(reversed(out.values())))
    a, b = outputs
    return float(np.abs(a - b).max() / b.std())
