"""The config.json of timm, which describes the network, the labels and the preparation of pictures.

timm has changed this file several times:

    before 0.8                  one flat object; the names of the classes are in `labels`
    since 0.8                   the preparation of pictures is in the object `pretrained_cfg`; `labels` is `label_names`
    transformers, since 4.48    the keys of timm, and model_type "timm_wrapper"

The names of the classes are a list, or an object {"0": name}.  If the names are identifiers, such as those of WordNet,
the object `label_descriptions` holds {identifier: description}.  Older versions of timm have other names of some
architectures.  The facts are from timm 1.0.31 (models/_hub.py, models/_pretrained.py and data/config.py).
"""

import re
import warnings
from collections.abc import Mapping
from typing import Any

from ..tensorfile import FormatError
from ..text import name_list, shortened

WRAPPER = "timm_wrapper"                  # the model_type of a config.json that transformers wrote for a model of timm

# The architectures of timm that this package implements, with the names of older versions and with tags.
# Some other architectures of timm have arrays with the same names and shapes, but compute something else.
# Examples are residual post-norm (rpn) and the tanh form of GELU (siglip).
KNOWN = re.compile(r"((vit|deit|vit_deit)_(tiny|small|medium|base|large|huge|giant|gigantic)_"
                   r"(r\d*_s\d+(_p\d+)?|patch\d+|resnet50)(_\d+)?(_miil)?(_in21k|_sam|_dino)?"
                   r"|resnetv2_\d+x\d+_bitm?(_\w+)?)(\.\w+)?")

# The accepted keys of model_args.
# A key is accepted if this package uses it, if its value also follows from the shapes, or if it changes no result.
ARGUMENTS = {"num_heads", "embed_dim", "depth", "mlp_ratio", "patch_size", "img_size", "num_classes", "in_chans",
             "qkv_bias", "global_pool", "class_token", "fc_norm", "dynamic_img_size", "drop_rate", "drop_path_rate",
             "layers"}

# The keys that this package uses, and the keys that change no result: sources, sizes for training, and texts.
PICTURES = {"input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "num_classes", "label_names",
            "label_descriptions", "fixed_input_size", "test_input_size", "min_input_size", "test_crop_pct", "pool_size",
            "test_pool_size", "first_conv", "classifier", "label_offset", "url", "file", "hf_hub", "hf_hub_id",
            "hf_hub_filename", "source", "architecture", "tag", "custom_load", "license", "description", "origin_url",
            "paper_name", "paper_ids", "notes"}
KEYS = {"architecture", "num_classes", "num_features", "global_pool", "label_names", "label_descriptions",
        "pretrained_cfg", "model_args", "license", "description", "notes", "tags", "library_name", "id2label",
        "problem_type"}
WRAPPER_KEYS = {"model_type", "architectures", "dtype", "torch_dtype", "transformers_version", "initializer_range",
                "do_pooling", "label2id", "num_labels", "_name_or_path", "return_dict", "output_hidden_states",
                "output_attentions", "_attn_implementation_autoset"}

# The options of the preparation of pictures that a card does not state, as in timm's PretrainedCfg.
UNSTATED = {"interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center", "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225]}


def nested(card: Mapping[str, Any]) -> dict[str, Any]:
    """Converts any form of timm's config.json to the present form.  {} stays {}.

    Raises FormatError for values that this package does not implement. Warns of keys that are not known,
    and of a card that does not state how pictures are prepared.

    >>> card = nested({"architecture": "vit_tiny_patch16_224", "crop_pct": 0.9, "labels": ["a", "b"]})
    >>> card["pretrained_cfg"], card["label_names"]
    ({'crop_pct': 0.9}, ['a', 'b'])
    """
    if not card:
        return {}
    result = dict(card)
    if (old_name := result.pop("labels", None)) is not None and result.get("label_names") is None:
        result["label_names"] = old_name
    if "pretrained_cfg" not in result:
        result["pretrained_cfg"] = {key: result.pop(key) for key in list(result) if key in PICTURES - KEYS}
    pictures, arguments = result["pretrained_cfg"] or {}, result.get("model_args") or {}
    for key, value in ("pretrained_cfg", pictures), ("model_args", arguments):
        if not isinstance(value, Mapping):
            raise FormatError(f"{key} in config.json is {shortened(value)}; expected an object")
    for key in "label_names", "label_descriptions":
        if result.get(key) is None:
            result[key] = pictures.get(key)
    result |= {"pretrained_cfg": pictures, "model_args": arguments}
    _check_network(result)
    wrapper = WRAPPER_KEYS if result.get("model_type") == WRAPPER else set()
    if unknown := sorted((result.keys() - KEYS - wrapper) | (pictures.keys() - PICTURES)):
        warnings.warn(f"config.json has the keys {name_list(unknown)}, which nphybrid does not read", stacklevel=2)
    if all(pictures.get(key) is None for key in ("mean", "crop_pct")):
        warnings.warn(f"config.json states neither mean nor crop_pct. As in timm, pictures are prepared with the mean "
                      f"{UNSTATED['mean']} and the crop_pct {UNSTATED['crop_pct']}. Most ViTs and hybrids of timm were "
                      "trained with the mean [0.5, 0.5, 0.5] and the crop_pct 0.9 or 1.0. To choose, add mean, std and "
                      "crop_pct to pretrained_cfg in config.json", stacklevel=2)
    return result


def labels(card: Mapping[str, Any], classes: int) -> dict[int, str] | None:
    """Returns the names of the classes {class: name} in a card of the present form, or None if it states no names.

    An identifier with a description is replaced by the description. A class that an object of names leaves out gets the
    name LABEL_n. If the names belong to another number of classes, for example to those of the network before its
    fine-tuning, a warning is given, and all classes get such a name. Raises FormatError for names of another form.

    >>> labels({"label_names": ["n02123045", "dog"], "label_descriptions": {"n02123045": "tabby"}}, 2)
    {0: 'tabby', 1: 'dog'}
    """
    given = card.get("label_names") or card.get("id2label")
    if not given:
        return None
    names = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(names, Mapping) or not all(isinstance(name, str) for name in names.values()):
        raise FormatError(f"label_names in config.json is {shortened(given)}; it is not a list of strings, and not an "
                          "object {class: string}")
    try:
        numbered = {int(key): name for key, name in names.items()}
    except ValueError:
        raise FormatError(f"label_names in config.json has the keys {name_list(map(str, names))}; expected the numbers "
                          "of classes") from None
    unnamed = {i: f"LABEL_{i}" for i in range(classes)}
    if not numbered.keys() <= unnamed.keys() or isinstance(given, list) and len(given) != classes:
        warnings.warn(f"config.json has {len(numbered):,} label_names, up to class {max(numbered)}, but the network "
                      f"has {classes:,} classes; the names are not used, and the labels are LABEL_0 to "
                      f"LABEL_{classes - 1}", stacklevel=2)
        return unnamed
    descriptions = card.get("label_descriptions") or {}
    if not isinstance(descriptions, Mapping) or not all(isinstance(text, str) for text in descriptions.values()):
        raise FormatError(f"label_descriptions in config.json is {shortened(descriptions)}; expected an object "
                          "{name: description}")
    return {i: descriptions.get(name, name) for i, name in (unnamed | numbered).items()}


def check_classes(card: Mapping[str, Any], classes: int) -> None:
    """Raises FormatError if a card states another number of classes than the network has."""
    if card.get("num_classes") not in (None, classes):
        raise FormatError(f"config.json has num_classes {shortened(card['num_classes'])}, but the head in the file has "
                          f"{classes:,} classes")


def _check_network(card: Mapping[str, Any]) -> None:
    """Raises FormatError if a card describes a network that this package does not implement."""
    for architecture in card.get("architecture"), card["pretrained_cfg"].get("architecture"):
        if architecture is not None and not (isinstance(architecture, str) and KNOWN.fullmatch(architecture)):
            raise FormatError(f"config.json has the architecture {shortened(architecture)}; expected vit_SIZE_patchP "
                              "(a plain ViT), vit_SIZE_rN_sS (a hybrid) or resnetv2_NxW_bit (a BiT)")
    if unknown := sorted(card["model_args"].keys() - ARGUMENTS):
        raise FormatError(f"config.json has the model_args {name_list(unknown)}, which are not supported")
    for pool in card.get("global_pool"), card["model_args"].get("global_pool"):
        if pool not in (None, "token", "avg"):
            raise FormatError(f"config.json has the global_pool {pool!r}; expected 'token' or 'avg'")
