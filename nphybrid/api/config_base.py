"""`HuggingFaceConfig`, the base class of the three configurations, and functions that check values."""
import inspect
import json
import operator
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..checkpoint import Access, read_config
from ..config import Config
from ..dialects.positions import RULES
from ..tensorfile import write_json
from ..text import did_you_mean, shortened
from .arguments import path_argument, refuse_arguments, without_arguments
from .losses import PROBLEM_TYPES

# The largest num_labels of a configuration without id2label.
# A configuration without id2label makes a name for each class.
# The published models have at most 21,843 classes.
MOST_UNNAMED = 2 ** 15

# The permitted values of each key of `dialect`: a tuple of choices, or a type.
# The key "name" of `dialect` states the origin of the network. All other keys of `dialect` are fields of `Config`.
DIALECT: dict[str, Any] = {
    "name": ("Hugging Face", "timm", "JAX", "BiT"), "ws_form": ("variance", "deviation"), "ws_eps": float,
    "gn_eps": float, "class_token": (True, False), "pool": ("token", "mean"), "norm_pooled": (True, False),
    "pre_logits": int, "resampling": tuple(RULES)}

ENCODER_DIALECT = DIALECT.keys() - {"name", "ws_form", "ws_eps", "gn_eps"}

# Pairs of keys. If the first key is overridden, the second key of the file has no meaning.
FOLLOWS = (("out_features", "out_indices"), ("out_indices", "out_features"), ("image_size", "backbone_featmap_shape"),
           ("backbone_config", "backbone_featmap_shape"))

COMMON = {"output_attentions": False, "output_hidden_states": False, "return_dict": True, "problem_type": None}

# The arguments of `from_pretrained`, which are suggested for a misspelt key.
ARGUMENTS = "revision", "engine", "dtype", "precision", "num_threads", "head", "ignore_mismatched_sizes"

C = TypeVar("C", bound="HuggingFaceConfig")


class HuggingFaceConfig:
    """The base class of the three configurations, with methods for labels, unknown keys and JSON files.

    A subclass sets the attributes of its own keys and passes all other keys to this class.
    """
    model_type = ""
    id2label: dict[int, str]
    label2id: dict[str, int]
    dialect: dict[str, Any]
    output_attentions: bool
    output_hidden_states: bool
    return_dict: bool
    problem_type: str | None
    architectures: list[str]

    def __init__(self, keys: dict[str, Any]):
        keys = {**COMMON, **keys}
        model_type = keys.pop("model_type", self.model_type)
        if not isinstance(model_type, str) or model_type.replace("_", "-") != self.model_type:
            raise ValueError(f"model_type is {shortened(model_type)}; a {type(self).__name__} expects "
                             f"{self.model_type!r}")
        for key, value in keys.items():
            if callable(getattr(type(self), key, None)):
                raise ValueError(f"the key {key} is {shortened(value)}; expected another name for the key, because "
                                 f"{type(self).__name__} has a method {key}")
            # Files have keys of many tools, so an unknown key is kept. A misspelt key would change nothing.
            if key not in self._known() and (similar := did_you_mean(key, self._known(), 0.85)):
                warnings.warn(f"{type(self).__name__} has no key {key}, and does not read it{similar}", stacklevel=3)
        self.dialect = keys.pop("dialect", None) or {}
        self.id2label = checked_labels(keys.pop("id2label", None), keys.pop("num_labels", None))
        self.label2id = keys.pop("label2id", None) or {name: i for i, name in self.id2label.items()}
        self.__dict__.update(keys)
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise ValueError(f"problem_type is {shortened(self.problem_type)}; expected None or one of "
                             f"{', '.join(PROBLEM_TYPES)}")

    @classmethod
    def _known(cls) -> set[str]:
        """The keys that the class reads."""
        own = inspect.signature(cls).parameters.keys() - {"kwargs"}
        return {*own, *COMMON, "dialect", "id2label", "label2id", "num_labels"}

    @property
    def num_labels(self) -> int:
        """The number of classes.  Assigning num_labels replaces the labels by "LABEL_0", "LABEL_1" and so on."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, number: int) -> None:
        self.id2label = checked_labels(None, number)
        self.label2id = {name: i for i, name in self.id2label.items()}

    @property
    def use_return_dict(self) -> bool:
        """Returns return_dict.  (In transformers, use_return_dict is a second name of return_dict.)"""
        return self.return_dict

    def network_config(self) -> Config:
        """Check the values and make the `Config` of the network.  Raises ValueError for a bad value of a key."""
        raise NotImplementedError

    def sizes(self) -> Config:
        """`sizes` is the earlier name of `network_config`."""
        return self.network_config()

    def to_dict(self) -> dict[str, Any]:
        """Returns the contents of `config.json`.  All values have JSON types, and class indices are strings."""
        keys = {key: value for key, value in self.__dict__.items() if key != "_stated_shape"}
        keys["id2label"] = {str(i): name for i, name in self.id2label.items()}
        if not self.dialect:
            del keys["dialect"]
        return {**json.loads(json.dumps(keys, default=_json_value)), "model_type": self.model_type}

    def to_json_string(self) -> str:
        """Returns the result of `to_dict` as the text of a `config.json`."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_dict(cls: type[C], fields: Mapping[str, Any], **overrides: Any) -> C:
        """Make a configuration from the keys of a `config.json`.

        `overrides`: keys that replace keys of `fields`. A `label2id` without an `id2label` also replaces the labels of
        `fields`, if they contradict it. Raises TypeError for an override that is neither a known key nor in `fields`.
        Raises ValueError for a value that no network can have, and for a `label2id` that contradicts `id2label`.

        >>> from nphybrid import BitConfig
        >>> BitConfig.from_dict({"depths": [1, 1]}, num_labels=7).num_labels
        7
        """
        known = {*cls._known(), *fields}
        if unknown := [key for key in overrides if key not in known]:
            raise TypeError(f"{cls.__name__} has no {', '.join(unknown)}; its keys are "
                            + ", ".join(sorted(known)) + did_you_mean(unknown[0], {*known, *ARGUMENTS}))
        # A key of the file that follows from an overridden key is computed again.
        for key, other in FOLLOWS:
            if key in overrides:
                fields = {name: value for name, value in fields.items() if name != other}
        if isinstance(overrides.get("label2id"), dict):
            overrides |= _consistent_labels(overrides["label2id"], overrides.get("id2label"), fields.get("id2label"))
        # Other labels replace all keys of the file that describe the labels.
        if "id2label" in overrides or overrides.get("num_labels") not in (None, _label_count(fields)):
            fields = {name: value for name, value in fields.items()
                      if name not in ("id2label", "label2id", "num_labels")}
        if isinstance(overrides.get("dialect"), dict) and isinstance(fields.get("dialect"), dict):
            overrides["dialect"] = {**fields["dialect"], **overrides["dialect"]}
        return cls(**{**fields, **overrides})

    @classmethod
    def from_pretrained(cls: type[C], path: str | os.PathLike[str] | None = None, *, revision: str | None = None,
                        token: str | bool | None = None, cache_dir: str | os.PathLike[str] | None = None,
                        local_files_only: bool = False, **overrides: Any) -> C:
        """Read the configuration of a model.

        `path`: a `config.json`, a folder that has a `config.json`, or an `.h5` file. The name "owner/name" of a model
        on the Hugging Face hub is also accepted. `revision`: a branch, tag or commit on the hub. `token`, `cache_dir`,
        `local_files_only`: as in huggingface_hub. `overrides`: as in `from_dict`. Other arguments of transformers are
        accepted if they change no result (arguments.py).
        """
        place = path_argument(path, overrides)
        overrides = without_arguments(overrides)
        return cls.from_dict(read_config(place, revision, Access(token, cache_dir, local_files_only)), **overrides)

    def save_pretrained(self, folder: str | os.PathLike[str], **arguments: Any) -> None:
        """Write `config.json` into a folder.  A missing folder is created.

        `arguments`: arguments of transformers that change no result (arguments.py).
        """
        refuse_arguments("save_pretrained", arguments)
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "config.json", self.to_dict())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HuggingFaceConfig) and type(self) is type(other) and self.to_dict() == other.to_dict()

    __hash__ = None                       # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


def _consistent_labels(numbers: dict[Any, Any], given: Any, stated: Any) -> dict[str, Any]:
    """Returns the keys label2id and id2label that follow from a label2id.

    `numbers`: the label2id. The values may be texts of numbers, as in examples of transformers. `given`: the id2label
    beside it, or None. `stated`: the id2label of the file, which is kept if it does not contradict the label2id.
    """
    try:
        numbers = {name: int(k) if isinstance(k, str) else operator.index(k) for name, k in numbers.items()}
    except (TypeError, ValueError):
        raise ValueError(f"label2id is {shortened(numbers)}; expected {{name: index}}") from None
    labels = checked_labels(stated if given is None and isinstance(stated, dict) else given, None)
    wrong = [name for name, k in numbers.items() if labels.get(k) != name]
    if given is None and (wrong or {*labels.values()} != {*numbers}):
        labels = {k: name for name, k in numbers.items()}
    elif wrong:
        raise ValueError(f"label2id: found {numbers[wrong[0]]} for {shortened(wrong[0])}; expected an index that has "
                         f"this name in id2label, which is {shortened(labels)}")
    return {"label2id": numbers, "id2label": labels}


def _label_count(fields: Mapping[str, Any]) -> Any:
    """Returns the number of labels that the keys of a `config.json` state."""
    labels = fields.get("id2label")
    return len(labels) if isinstance(labels, Mapping) else fields.get("num_labels", 2)


def with_dialect(network_config: Config, dialect: Any) -> Config:
    """Returns a copy of `network_config` with the values of `dialect`.  Raises ValueError for a bad `dialect`."""
    if not isinstance(dialect, dict) or not dialect.keys() <= DIALECT.keys():
        raise ValueError(f"dialect is {shortened(dialect)}; expected a dict with some of the keys {', '.join(DIALECT)}")
    for key, value in dialect.items():
        if DIALECT[key] is float:
            check_number(f"{key} of dialect", value)
        elif DIALECT[key] is int:
            check_positive(f"{key} of dialect", value)
        else:
            check_choice(f"{key} of dialect", value, DIALECT[key])
            kind = type(DIALECT[key][0])
            if type(value) is not kind:                           # `in` does not distinguish 1 and True
                raise ValueError(f"{key} of dialect is {shortened(value)}; expected a {kind.__name__}")
    if (dialect.get("pool", "token"), dialect.get("class_token", True)) == ("token", False):
        raise ValueError("class_token of dialect is False and pool is 'token'; expected the pool 'mean'")
    return replace(network_config, **{key: value for key, value in dialect.items() if key != "name"})


def checked_labels(labels: Any, number: Any) -> dict[int, str]:
    """Check id2label and return a dict with int keys in ascending order.

    `labels`: the dict id2label, or None for the labels "LABEL_0", "LABEL_1" and so on. `number`: num_labels, or None.
    If `labels` and `number` are None, there are two labels. Raises ValueError if the keys of id2label are not 0, 1, 2
    and so on. Raises ValueError if num_labels is not the length of id2label.
    """
    if labels is None:
        number = 2 if number is None else number
        if type(number) is not int or not 0 <= number <= MOST_UNNAMED:
            raise ValueError(f"num_labels is {shortened(number)}; expected an int from 0 to {MOST_UNNAMED}, or an "
                             "id2label with a name for each class")
        return {i: f"LABEL_{i}" for i in range(number)}
    if not isinstance(labels, dict) or any(not isinstance(i, (int, str)) for i in labels):
        raise ValueError(f"id2label is {shortened(labels)}; expected {{index: name}}")
    try:
        given, labels = labels, {int(i): name for i, name in labels.items()}
    except ValueError:
        raise ValueError(f"id2label is {shortened(labels)}; expected {{index: name}}") from None
    if len(labels) < len(given):
        raise ValueError(f"id2label is {shortened(given)}; expected one key for each class, found two keys for a class")
    missing = sorted(set(range(len(labels))) - set(labels))
    if missing:
        raise ValueError(f"id2label has {len(labels)} names, but no name for class {missing[0]}")
    if number not in (None, len(labels)):
        raise ValueError(f"num_labels is {shortened(number)}, but id2label has {len(labels)} names")
    for i, name in labels.items():
        if not isinstance(name, str):
            raise ValueError(f"id2label has the name {shortened(name)} for class {i}; expected a string")
    return dict(sorted(labels.items()))


def checked_list(key: str, value: Any) -> list[Any]:
    """Converts a list or tuple to a list.  Raises ValueError for other values."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{key} is {shortened(value)}; expected a list")
    return list(value)


def check_positive(key: str, value: Any, most: int = 2 ** 24 - 1) -> None:
    """Raise ValueError for a value that is not an int from 1 to `most`."""
    if type(value) is not int or not 0 < value <= most:
        raise ValueError(f"{key} is {shortened(value)}; expected an int from 1 to {most}")


def check_number(key: str, value: Any) -> None:
    """Raise ValueError for a value that is not a finite number of at least 0."""
    if type(value) not in (int, float) or not 0 <= value <= sys.float_info.max:
        raise ValueError(f"{key} is {shortened(value)}; expected a finite number of at least 0")


def check_choice(key: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise ValueError for a value that is not in `choices`."""
    if value not in choices:
        raise ValueError(f"{key} is {shortened(value)}; expected one of {', '.join(map(repr, choices))}")


def _json_value(value):
    """Converts a nested configuration, a NumPy number or a NumPy array to a value that the module `json` can write."""
    return value.to_dict() if hasattr(value, "to_dict") else value.tolist()
