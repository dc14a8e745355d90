"""`load` reads a model of any class from a file, a folder or the Hugging Face hub."""
import os
from typing import Any

from ..checkpoint import Access, Checkpoint, Head, opened
from .arguments import own_options
from .base import Model
from .bit import BitBackbone, BitForImageClassification, BitModel
from .vit_hybrid import ViTForImageClassification, ViTHybridForImageClassification, ViTHybridModel, ViTModel

# A dict {model_type of a configuration: class of the classifier}.
CLASSIFIERS: dict[str, type[Model]] = {
    "vit-hybrid": ViTHybridForImageClassification, "vit": ViTForImageClassification, "bit": BitForImageClassification}

BARE: dict[str, type[Model]] = {"vit-hybrid": ViTHybridModel, "vit": ViTModel, "bit": BitModel}

# A dict {name: class} of all classes. In a configuration, the key `architectures` has the name of the class.
CLASSES: dict[str, type[Model]] = {
    kind.__name__: kind for kind in (*CLASSIFIERS.values(), *BARE.values(), BitBackbone)}

# The arguments of `Model.from_checkpoint`. Other options are keys of the configuration.
OPTIONS = {"overrides", "ignore_mismatched_sizes", "engine", "dtype", "precision", "num_threads"}


def class_of(fields: dict[str, Any], where: Any) -> type[Model]:
    """Returns the class that the key `architectures` of a configuration names.

    If `architectures` has no known class, the result is the classifier for `model_type`. `fields`: the keys of a
    `config.json`. `where`: the path of the model, for the error message. Raises ValueError for an unknown model_type.

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
         head: str | os.PathLike[str] | Head | None = None, token: str | bool | None = None,
         cache_dir: str | os.PathLike[str] | None = None, local_files_only: bool = False, **options: Any) -> Model:
    """Load a model from a file, a folder or the Hugging Face hub.  The configuration decides the class of the model.

    `bare`: whether to load the class without a classifier. `head`: the path of a head file, or a `checkpoint.Head`.
    With a head, the model is a classifier. `token`, `cache_dir`, `local_files_only`: as in huggingface_hub. `options`:
    other arguments of `Model.from_checkpoint`, such as `engine`, `dtype` and `overrides`, and keys of the
    configuration. Raises the errors of `from_pretrained`.

    >>> from nphybrid import default_model
    >>> load(default_model())
    ViTHybridForImageClassification(1,469,834 parameters, engine='numba', dtype='float32')
    """
    with opened(path, revision, Access(token, cache_dir, local_files_only)) as source:
        options = own_options(options)
        keys = {name: options.pop(name) for name in options.keys() - OPTIONS}
        if keys:
            options["overrides"] = {**(options.get("overrides") or {}), **keys}
        return build_model(source, bare, head, **options)


def build_model(source: Checkpoint, bare: bool = False, head: str | os.PathLike[str] | Head | None = None,
                **options: Any) -> Model:
    """Make a model as `load` does, but from a `checkpoint.Checkpoint`."""
    kind = class_of(source.config, source.path)
    if bare:
        kind = BARE[kind.config_class.model_type]
    elif head is not None:
        kind = CLASSIFIERS[kind.config_class.model_type]
    return kind.from_checkpoint(source, head=head, **options)
