"""Functions that change the array names, the classifier and the picture size of a Checkpoint to fit a model."""
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import checkpoint, params
from ..dialects import DIALECTS
from ..dialects.layout import Misfit
from ..dialects.positions import resize_positions
from ..dialects.preprocessing import for_image
from ..dialects.translate import to_hugging_face
from ..tensorfile import FormatError
from . import checks


def config_of(source: checkpoint.Checkpoint, kind: Any, overrides: Mapping[str, Any] | None = None) -> Any:
    """Make the configuration of a Checkpoint, with some other keys.

    `kind`: the class of the model. `overrides`: as in `from_dict`. Raises FormatError, which names the file, if the
    keys of the file are not valid. Raises ValueError if `overrides` are not valid.
    """
    try:
        return kind.config_class.from_dict(source.config, **(overrides or {}))
    except ValueError as error:
        if overrides:
            config_of(source, kind)       # raises an error that names the file, if the fault is in the file
            raise
        raise FormatError(f"{source.path}: {error}") from None


def in_hugging_face_names(source: checkpoint.Checkpoint, kind: Any) -> checkpoint.Checkpoint:
    """Convert a Checkpoint of any dialect to the names and layouts of a Hugging Face classifier.

    `kind`: the class of the model. Raises FormatError if the arrays do not fit the network.
    """
    if source.dialect is None:
        return source
    network_config = config_of(source, kind).network_config()
    theirs = DIALECTS[source.dialect].names(network_config)
    ours = kind.table_of(kind.family)
    try:
        arrays = to_hugging_face(source.arrays, params.shapes(network_config), theirs, ours, network_config)
    except Misfit as error:
        raise FormatError(f"{source.path}: {error}") from None
    return source._replace(arrays=arrays, dialect=None)


def with_head(source: checkpoint.Checkpoint, head: str | os.PathLike[str] | checkpoint.Head,
              kind: Any) -> checkpoint.Checkpoint:
    """Replace the classifier of a Checkpoint.

    `source`: a Checkpoint with the names of Hugging Face. `head`: a `checkpoint.Head`, or the path of a head file.
    `kind`: the class of the model. Raises ValueError if the class has no classifier, and if the head does not fit the
    model. Raises FormatError for a bad head file.
    """
    if not kind.has_head:
        raise ValueError(f"{kind.__name__} has no classifier that the head can replace; expected a class with a "
                         "classifier")
    if not isinstance(head, checkpoint.Head):
        head = checkpoint.read_head(head)
    network_config = config_of(source, kind).network_config()
    name = kind.table_of(kind.prefix)["head.kernel"][0].removesuffix(".weight")
    return checkpoint.with_head(source, head, network_config, name)


def with_config(source: checkpoint.Checkpoint, kind: Any, config: Any, overrides: Mapping[str, Any]
                ) -> tuple[checkpoint.Checkpoint, dict[str, Any]]:
    """Add the keys of a configuration to a Checkpoint and to `overrides`.  -> Checkpoint, overrides

    `kind`: the class of the model. `config`: a configuration of this package or of transformers. The keys whose values
    differ from the file's are added to `overrides`, which have priority. Raises TypeError for another object, and
    ValueError for the configuration of another network or dialect.
    """
    if not hasattr(config, "to_dict"):
        raise TypeError(f"config is a {type(config).__name__}; expected a {kind.config_class.__name__}")
    with warnings.catch_warnings():       # The warnings of misspelt keys come later, when the model is made.
        warnings.simplefilter("ignore")
        given, stated = (kind.config_class.from_dict(fields) for fields in (config.to_dict(), source.config))
    if given.dialect != stated.dialect:
        raise ValueError(f"config has the dialect {given.dialect}, but {source.path} has the dialect {stated.dialect}; "
                         f"expected a configuration from {kind.config_class.__name__}.from_pretrained")
    keys, before = given.to_dict(), stated.to_dict()
    added = {key: value for key, value in keys.items() if key not in before}
    changed = {key: value for key, value in keys.items() if key in before and value != before[key]}
    return source._replace(config={**added, **source.config}), {**changed, **overrides}


def with_fresh_head(source: checkpoint.Checkpoint, kind: Any, overrides: Mapping[str, Any],
                    allowed: bool) -> checkpoint.Checkpoint:
    """Replace the classifier of a Checkpoint by a random classifier, if `overrides` state another number of classes.

    `source`: a Checkpoint with the names of Hugging Face. `overrides`: keys of the configuration. `allowed`: whether a
    classifier in the file may be replaced. A file without a classifier gets one if `overrides` state the classes. A
    warning names the new arrays.
    Raises ValueError if a classifier in the file would have to be replaced and `allowed` is False.
    """
    if not allowed and not {"num_labels", "id2label"} & overrides.keys():
        return source
    config = config_of(source, kind, overrides)
    network_config = config.network_config()
    tree: Any = params.shapes(network_config).head
    name = kind.table_of(kind.prefix)["head.kernel"][0].removesuffix(".weight")
    found = source.arrays.get(f"{name}.weight")
    if tree is None or (found is not None and tuple(found.shape) == tree.kernel[::-1]):
        return source
    if found is not None and not allowed:
        raise ValueError(f"{source.path} has a classifier for {found.shape[0]:,} classes, but num_labels is "
                         f"{config.num_labels:,}. To replace the classifier by a classifier with random weights, pass "
                         "ignore_mismatched_sizes=True")
    fresh: Any = params.random(tree, 0, getattr(config, "initializer_range", 0.02))
    state, pool = checkpoint.head_reads(network_config)
    found_classes = "no classifier" if found is None else f"a classifier for {found.shape[0]:,} classes"
    warnings.warn(f"{source.path} has {found_classes}. The new arrays {name}.weight {[*tree.kernel[::-1]]}, which are "
                  f"random, and {name}.bias {[*tree.bias]}, which are 0, must be trained before the model is used",
                  stacklevel=2)
    head = checkpoint.Head(fresh.kernel, fresh.bias, list(config.id2label.values()), None, state, pool, {})
    return checkpoint.with_head(source, head, network_config, name)


def with_prefix(arrays: Mapping[str, Any], kind: Any) -> Mapping[str, Any]:
    """Add or remove the prefix of the array names, so that the names fit the class `kind`.  -> {name: array}

    In a classifier, all names except those of the last linear layer have the prefix "vit." or "bit.". In
    ViTHybridModel, ViTModel and BitModel, the names have no prefix.
    """
    has_prefix = any(name.startswith(kind.family) for name in arrays)
    if has_prefix == bool(kind.prefix):
        return arrays
    if kind.prefix:
        return {name if name.startswith("classifier.") else kind.prefix + name: array
                for name, array in arrays.items()}
    return {name.removeprefix(kind.family): array for name, array in arrays.items()}


def for_image_size(source: checkpoint.Checkpoint, kind: Any, overrides: Mapping[str, Any]) -> checkpoint.Checkpoint:
    """Convert a Checkpoint to another picture size.

    The positions are resized, and the options of the image processor are changed. `overrides`: keys of the
    configuration. Without the key `image_size`, the Checkpoint is returned unchanged. Raises ValueError for a size at
    which patches do not fill the feature map.
    """
    if overrides.get("image_size") is None:
        return source
    old = config_of(source, kind).network_config()
    new = config_of(source, kind, overrides).network_config()
    if old.image != new.image:
        checks.check_patches_fill(new)
        source = source._replace(processor=for_image(source.processor, old.image, new.image))
    name = next((name for name in source.arrays if name.endswith("embeddings.position_embeddings")), None)
    # `for_image_size` does not resize a position table that has a wrong shape.
    # For a missing array or a wrong shape, `from_checkpoint` raises an error that lists all arrays that do not fit.
    if name and old.grid != new.grid and source.arrays[name].shape == (1, old.tokens, old.width):
        positions = np.asarray(source.arrays[name])[0]
        positions = resize_positions(positions, old.grid, new.grid, new.resampling)
        source = source._replace(arrays={**source.arrays, name: positions[None]})
    return source
