"""Writes a model in another format, and lists the properties of the model that the format cannot hold.

    A file model.h5 holds the complete model, with Hugging Face's names.
    A folder of Hugging Face holds arrays, labels and the options of the image processor.
    A folder of Hugging Face with narrow weights holds the complete model, but other programs cannot read it.
    A folder of timm holds arrays (with timm's names), labels, and timm's options for the preparation of pictures.
    A file model.npz holds only arrays, with Google's names.

A reader of a folder uses the numerics (such as epsilons) of Hugging Face or timm.  A reader of a model.npz uses
Google's numerics, labels and preparation of pictures.  Lost properties are found by a comparison: the configuration
that a reader of the target gets is compared with the configuration of the model.
"""
import itertools
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import checkpoint, labels, params, tensorfile
from ..dialects import google, timm, translate
from ..dialects.processors import with_class
from ..ops import reference
from ..text import name_list
from ..trace import Trace

FORMATS = "h5", "huggingface", "timm", "google"
NARROW_FORMATS = "h5", "huggingface"      # they can hold weights that are rounded for a dtype
# The target of a folder never has one of these suffixes, in upper or lower case.
FILE_SUFFIXES = (".h5", ".hdf5", ".npz", ".npy", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json", ".onnx",
                 ".pb", ".tflite", ".keras", ".msgpack", ".gguf", ".zip", ".tar")


class Loss(NamedTuple):
    """One property of the model that the target cannot hold."""
    what: str
    had: str
    becomes: str


class Written(NamedTuple):
    """The contents of a target (a file or a folder), and the configuration that a reader of the target gets."""
    arrays: dict                          # {name in the target's format: array}
    documents: dict                       # {file name: JSON}
    config: dict                          # the configuration that a reader gets, with Hugging Face's keys
    processor: dict | None                # the options of the image processor that a reader gets
    left_out: list                        # the names of the parameters that the target's format cannot hold


def target_format(target, wanted=None) -> str:
    """Returns the format of a target, one of FORMATS, from the name of the target and the wanted format.

    Raises ValueError if the target cannot have the wanted format.
    """
    name = str(target)
    if name.endswith(".h5"):
        found = "h5"
    elif name.endswith(".npz"):
        found = "google"
    else:
        found = wanted or "huggingface"
    ending = {"h5": ".h5", "google": ".npz"}.get(found, "")
    if not name.endswith(ending):
        raise ValueError(f"{name}: expected a name that ends in {ending} for the format {found}")
    if wanted not in (None, found):
        raise ValueError(f"{name} is a target of format {found}, not {wanted}; the target of the formats "
                         "timm and huggingface is a folder")
    suffix = "" if name.endswith("/") else Path(name).suffix
    if found in ("huggingface", "timm") and suffix.lower() in FILE_SUFFIXES:
        raise ValueError(f"{name} is the name of a file; the target of format {found} is a folder. The names of files "
                         "that can be written end in .h5 or .npz")
    if wanted is None and found == "huggingface" and suffix:
        raise ValueError(f"{name} ends in {suffix}; expected .h5, .npz or the name of a folder. With --to huggingface, "
                         "a folder of this name is written")
    return found


def check_dtype(target, form, dtype):
    """Raises ValueError if a target of the format `form` cannot hold weights of the dtype."""
    if dtype is not None and form not in NARROW_FORMATS:
        raise ValueError(f"{target}: the dtype {dtype} needs one of the formats {' and '.join(NARROW_FORMATS)}, found "
                         f"the format {form}; expected the name of a folder, or a name that ends with .h5")


def check_place(target, form):
    """Raises an exception if a target of the format `form` could not be written to its place."""
    refuse = tensorfile.refuse_folder if form in ("huggingface", "timm") else tensorfile.refuse_file
    refuse(target)


def convert(model, target, to=None, lossy=False, source=None, dtype=None) -> tuple[list[Loss], float]:
    """Writes a model in another format.  -> list of Loss, change of the golden logits

    The list holds a Loss for each property that the target cannot hold. The golden logits are the logits of a built-in
    picture. Their change is the largest difference between the model and the target, divided by the standard deviation
    of the model's golden logits. The change is 0.0 if nothing is lost and no weight is rounded.

    `to` is one of FORMATS. If `to` is None, the name of the target decides the format. `dtype` is as in `Model.save`.
    `source` is a dict that the manifest of the target stores, if the target has one. If a property would be lost and
    `lossy` is False, raises ValueError with a list of the losses. Raises FileExistsError for a folder that is not
    empty. If an error is raised, nothing is written, unless it is a MemoryError of the change by rounding: this change
    is computed after the target was written, and then the target is complete.
    """
    form = target_format(target, to)
    check_dtype(target, form, dtype)
    if form == "h5" or dtype is not None:
        _save(model, target, form, source, dtype)
        rounded = dtype is not None and model.stored_dtype is None
        return [], _change_by_rounding(model, target) if rounded else 0.0
    tree = _learned_arrays(model)
    try:
        written = WRITERS[form](model, tree)
        missing = _find_missing(model, tree, written)
    except ValueError as error:           # a setting that the format fixes does not fit the widths of the network
        raise ValueError(f"{target}: the format {form} cannot hold this network: in this format, {error}") from None
    if missing:
        raise ValueError(f"{target}: the format {form} cannot hold this network, because the arrays "
                         f"{name_list(missing)} would be missing")
    losses = _find_losses(model, written)
    change = _change_of_golden(model, tree, written) if losses else 0.0
    if losses and not lossy:
        raise ValueError(f"{target}: the format {form} cannot hold these properties of the model:\n"
                         f"{format_losses(losses)}\n--lossy writes the model without these properties. The logits of a "
                         f"built-in picture then change by {change:.2g} of their standard deviation")
    if form == "google":
        tensorfile.write_npz(target, written.arrays)
        return losses, change
    with tensorfile.write_folder_atomically(target) as folder:
        for name, document in written.documents.items():
            tensorfile.write_json(folder / name, document)
        tensorfile.write_safetensors(folder / "model.safetensors", written.arrays, {"format": "pt"})
    return losses, change


def _save(model, target, form, source, dtype):
    """Writes the complete model: an `.h5` file, or a folder with narrow weights."""
    if form == "h5":
        model.save(target, source=source, dtype=dtype)
    else:
        with tensorfile.write_folder_atomically(target) as folder:
            model.save_pretrained(folder, source=source, dtype=dtype)


def format_losses(losses: list[Loss]) -> str:
    """Formats each Loss as one line."""
    return "\n".join(f"  {loss.what}: {loss.had} becomes {loss.becomes}" for loss in losses)


# ---------------------------------------------------------------- contents of a target

def _learned_arrays(model):
    """Returns the tree of the learned arrays.  The convolution kernels in the tree are not standardized."""
    tree, _ = checkpoint.fill_parameters(model.shapes, model.state_dict(), model.table, model.network_config,
                                         lambda name, array, array_of: array, dtype=model.float_dtype)
    return tree


def _rename(tree, table, network_config):
    """Returns the arrays with the names and layouts of a table, and the names of parameters that the table lacks."""
    left_out = [name for name in params.named_leaves(tree) if not _is_in(table, name)]
    arrays = checkpoint.to_state_dict(_without(tree, left_out), table, network_config)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}, left_out


def _without(tree, left_out, name=""):
    """Returns the tree without the leaves in the list `left_out`.

    A norm or a linear layer that loses all of its leaves becomes None, like a layer that the network does not have.
    """
    if name in left_out or tree is None:
        return None
    if type(tree) is tuple:
        return tuple(_without(branch, left_out, f"{name}.{i}") for i, branch in enumerate(tree))
    if not hasattr(tree, "_fields"):
        return tree
    branches = {}
    for field, branch in tree._asdict().items():
        branches[field] = _without(branch, left_out, f"{name}.{field}" if name else field)
    if name and all(branch is None for branch in branches.values()):
        return None
    return type(tree)(**branches)


def _is_in(table, name):
    return ".".join("*" if part.isdigit() else part for part in name.split(".")) in table


def _write_hugging_face(model, tree):
    table = {ours: entry for ours, entry in model.table.items() if not ours.startswith(("pool_norm", "pre_logits"))}
    arrays, left_out = _rename(tree, table, model.network_config)
    config = {key: value for key, value in model.config_document().items() if key != "dialect"}
    processor = model.processor
    if processor:
        # Hugging Face's processor has no option crop_rounding, and accepts only a number for resample.
        processor = {key: value for key, value in processor.items()
                     if key != "crop_rounding" and (key, type(value)) != ("resample", str)}
    documents = {"config.json": config}
    if processor:
        documents["preprocessor_config.json"] = with_class(processor, model.config.model_type)
    return Written(arrays, documents, config, processor, left_out)


def _write_timm(model, tree):
    network_config, names = model.network_config, _label_names(model)
    arrays, left_out = _rename(tree, timm.timm_names(network_config), network_config)
    mean = network_config.pool == "mean"
    card = {**_architecture(network_config), "num_classes": network_config.classes, "label_names": names,
            "global_pool": "avg" if mean or not network_config.blocks else "token",
            "pretrained_cfg": {"input_size": [network_config.channels, *_picture_size(model)],
                               "num_classes": network_config.classes,
                               **timm.to_timm(_processor_options(model.processor) or None)}}
    if network_config.blocks:             # arguments that the name of the architecture does not state
        arguments = {"num_heads": network_config.heads}
        if mean:
            arguments["fc_norm"] = network_config.norm_pooled
        if not network_config.class_token:
            arguments["class_token"] = False
        card["model_args"] = arguments
    config = timm.timm_config(_shapes(arrays), card)
    return Written(arrays, {"config.json": card}, _with_labels(config, names), translate.processor_of(config, card),
                   left_out)


def _write_google(model, tree):
    network_config = model.network_config
    arrays, left_out = _rename(tree, google.jax_names(network_config), network_config)
    config = (google.jax_config if network_config.blocks else google.bit_config)(_shapes(arrays))
    return Written(arrays, {}, _with_labels(config, labels.names(network_config.classes)),
                   translate.processor_of(config, {}), left_out)


WRITERS = {"huggingface": _write_hugging_face, "timm": _write_timm, "google": _write_google}


def _label_names(model):
    return list(model.config.id2label.values()) if model.network_config.classes else []


def _shapes(arrays):
    return {name: array.shape for name, array in arrays.items()}


def _with_labels(config, names):
    return {**config, "id2label": dict(enumerate(names))} if names else config


# {(units of each stage, channels of the stem): timm's name of the published BiT}
_TIMM_BITS = {((3, 4, 6, 3), 64): "resnetv2_50x1_bit", ((3, 4, 6, 3), 192): "resnetv2_50x3_bit",
              ((3, 4, 23, 3), 64): "resnetv2_101x1_bit", ((3, 4, 23, 3), 192): "resnetv2_101x3_bit",
              ((3, 8, 36, 3), 128): "resnetv2_152x2_bit", ((3, 8, 36, 3), 256): "resnetv2_152x4_bit"}
# {(units of each stage, token width, number of blocks): timm's name of the published hybrid}
_TIMM_HYBRIDS = {((), 192, 12): "vit_tiny_r_s16_p8", ((2, 2, 2, 2), 384, 12): "vit_small_r26_s32",
                 ((2, 2, 2, 2), 768, 12): "vit_base_r26_s32", ((3, 4, 9), 768, 12): "vit_base_r50_s16",
                 ((3, 4, 6, 3), 1024, 24): "vit_large_r50_s32"}
# {(token width, number of blocks): size in timm's name of the published plain ViT}
_TIMM_PLAIN = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large"}


def _architecture(network_config):
    """Returns {"architecture": timm's name of the network}; {} if timm has no name for the network."""
    if not network_config.blocks:
        name = _TIMM_BITS.get((network_config.depths, network_config.stem))
        return {"architecture": name} if name else {}
    if network_config.hidden != 4 * network_config.width:
        return {}
    if network_config.stem:
        name = _TIMM_HYBRIDS.get((network_config.depths, network_config.width, network_config.blocks))
    else:
        size = _TIMM_PLAIN.get((network_config.width, network_config.blocks))
        name = size and f"vit_{size}_patch{network_config.patch}"
    return {"architecture": f"{name}_{network_config.image[0]}"} if name else {}


def _picture_size(model):
    """Returns the size (H, W) of the network's pictures.

    A BiT accepts pictures of any size. For a BiT, the result is the size of the pictures that its processor makes.
    """
    crop = (model.processor or {}).get("crop_size")
    if model.network_config.blocks or not isinstance(crop, dict):
        return model.network_config.image
    return crop["height"], crop["width"]


# ---------------------------------------------------------------- properties that the target cannot hold

def _find_missing(model, tree, written):
    """Returns the names of the parameters that a reader of the target expects and does not find."""
    back = replace(_read_back(model, written).network_config(), classes=model.network_config.classes)
    expected = params.named_leaves(params.shapes(back))
    return sorted(expected.keys() - params.named_leaves(_without(tree, written.left_out)).keys())


def _find_losses(model, written):
    """Compares the model with the model that a reader of the target gets.  -> list of Loss"""
    config, mine = _read_back(model, written), model.network_config
    losses = [Loss(f"the array {name}", "present", "missing") for name in written.left_out]
    losses += _lost_fields(mine, config.network_config())
    if mine.classes:
        losses += _lost_labels(_label_names(model), list(config.id2label.values()))
        problem_type = written.config.get("problem_type")
        if model.config.problem_type != problem_type:
            losses.append(Loss("the problem_type", repr(model.config.problem_type), repr(problem_type)))
    return losses + _lost_options(_processor_options(model.processor), _processor_options(written.processor))


def _lost_fields(mine, back):
    """Compares the Config of the model with the Config that a reader of the target gets.  -> list of Loss"""
    losses = []
    for field, value in vars(mine).items():
        other = getattr(back, field)
        if field == "feature_stage":      # -1 is the last stage
            stages = len(mine.depths) + 1
            value, other = value % stages, other % stages
        any_size = field == "image" and not mine.blocks
        if value != other and not any_size:
            losses.append(Loss(f"the network's {field}", repr(value), repr(other)))
    return losses


def _lost_labels(mine, back):
    """Compares two lists of labels.  -> a list with one Loss for the first label that differs, or []"""
    for had, becomes in itertools.zip_longest(mine, back):
        if had != becomes:
            return [Loss("the labels", repr(had), repr(becomes))]
    return []


def _lost_options(mine, back):
    """Compares the options of two image processors.  -> list of Loss; [] if the model has no image processor"""
    if not mine:
        return []
    return [Loss(f"the processor's {key}", repr(mine.get(key)), repr(back.get(key)))
            for key in sorted({*mine, *back}) if mine.get(key) != back.get(key)]


def _processor_options(processor):
    """Returns the options of an image processor, with the defaults of all options that are not given."""
    from ..api.processor import ViTHybridImageProcessor
    return ViTHybridImageProcessor.from_dict(processor).to_dict() if processor else {}


def _read_back(model, written):
    """Returns the configuration that a reader of the target gets."""
    return type(model.config).from_dict({**written.config, "architectures": None})


def _change_of_golden(model, tree, written):
    """Returns max|a - b| / std(b) in float64, where b is the golden output of the model.

    The array a is the golden output of the network that a reader of the target gets.
    """
    back = _read_back(model, written).network_config()
    read = _golden_output(model, back, _without(tree, written.left_out))
    return checkpoint.golden_error(read, _golden_output(model, model.network_config, tree))


def _change_by_rounding(model, path):
    """Returns the change of the golden logits in the written file, whose weights were rounded."""
    state, rounded = checkpoint.golden_state(checkpoint.read(path).manifest, path)
    golden = _golden_output(model, model.network_config, _learned_arrays(model), state)
    return checkpoint.golden_error(rounded, golden.reshape(-1)[:len(rounded)])


def _golden_output(model, network_config, tree, state=None):
    """Returns a state for the golden input in float64.

    By default, the state is the logits, or the last state if there are no logits.
    """
    trace = Trace(keep={"logits", "norm", "features_norm", "pooler"})
    prepared = reference.prepare(tree, network_config, np.float64)
    model.network(checkpoint.golden_input(model.network_config), prepared, network_config, reference, trace)
    return trace[state or ("logits" if "logits" in trace else next(reversed(trace)))]
