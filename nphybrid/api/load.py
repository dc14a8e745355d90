"""`load` reads a model from a file, a folder or the hub, whatever its class."""
import os
from typing import Any

from ..checkpoint import Checkpoint, Head, opened
from .base import Model
from .bit import BitBackbone, BitForImageClassification, BitModel
from .vit_hybrid import ViTForImageClassification, ViTHybridForImageClassification, ViTHybridModel, ViTModel

# By `model_type` of a configuration.
CLASSIFIERS: dict[str, type[Model]] = {
    "vit-hybrid": ViTHybridForImageClassification, "vit": ViTForImageClassification, "bit": BitForImageClassification}

BARE: dict[str, type[Model]] = {"vit-hybrid": ViTHybridModel, "vit": ViTModel, "bit": BitModel}

# By name, as `architectures` of a configuration has it.
CLASSES: dict[str, type[Model]] = {
    kind.__name__: kind for kind in (*CLASSIFIERS.values(), *BARE.values(), BitBackbone)}


def class_of(fields: dict[str, Any], where: Any) -> type[Model]:
    """The class that a configuration names under `architectures`, or else the classifier of its `model_type`.

    fields: the keys of a `config.json`. where: its path, for the message. Raises ValueError for another model_type.

    >>> class_of({"model_type": "bit", "architectures": ["BitBackbone"]}, "config.json").__name__
    'BitBackbone'
    """
    model_type = str(fields.get("model_type")).replace("_", "-")
    if model_type not in CLASSIFIERS:
        raise ValueError(f"{where}: model_type is {fields.get('model_type')!r}; "
                         f"expected one of {', '.join(CLASSIFIERS)}")
    architectures = fields.get("architectures")
    if isinstance(architectures, list) and architectures and isinstance(architectures[0], str):
        return CLASSES.get(architectures[0], CLASSIFIERS[model_type])
    return CLASSIFIERS[model_type]


def load(path: str | os.PathLike[str], revision: str | None = None, bare: bool = False,
         head: str | os.PathLike[str] | Head | None = None, **options: Any) -> Model:
    """The model in a file, in a folder or on the hub, of the class that its configuration names.

    bare: the class without a classifier instead. head: a head file, or a `checkpoint.Head`; the class is then the
    classifier, with this head. options: the other arguments of `from_pretrained`, whose docstring states the errors.

    >>> from nphybrid import default_model
    >>> load(default_model())
    ViTHybridForImageClassification(1,469,834 parameters, engine='numba', dtype='float32')
    """
    with opened(path, revision) as source:
        return build_model(source, bare, head, **options)


def build_model(source: Checkpoint, bare: bool = False, head: str | os.PathLike[str] | Head | None = None,
                **options: Any) -> Model:
    """`load` for a `checkpoint.Checkpoint` that is already read."""
    kind = class_of(source.config, source.path)
    if bare:
        kind = BARE[kind.config_class.model_type]
    elif head is not None:
        kind = CLASSIFIERS[kind.config_class.model_type]
    return kind.from_checkpoint(source, head=head, **options)
