"""What is done to a Checkpoint before a model takes its arrays: names, prefix, another head, another picture size."""
import numpy as np

from .. import checkpoint, params
from ..dialects import DIALECTS
from ..dialects.layout import Misfit
from ..dialects.positions import resize_positions
from ..dialects.preprocessing import for_image
from ..dialects.translate import to_hugging_face
from ..tensorfile import FormatError
from . import checks


def in_hugging_face_names(source, kind):
    """The Checkpoint with Hugging Face's names and layouts, prefixed as those of a classifier.

    source: a Checkpoint of any dialect; kind: the class of the model. Raises FormatError where arrays do not fit.
    """
    if source.dialect is None:
        return source
    config = kind.config_class.from_dict(source.config).network_config()
    theirs, ours = DIALECTS[source.dialect].names(config), kind.table_of(kind.family)
    try:
        arrays = to_hugging_face(source.arrays, params.shapes(config), theirs, ours, config)
    except Misfit as error:
        raise FormatError(f"{source.path}: {error}") from None
    return source._replace(arrays=arrays, dialect=None)


def with_head(source, head, kind):
    """The Checkpoint with another classifier.  head: a `checkpoint.Head`, or the path of its file."""
    if not kind.has_head:
        raise ValueError(f"{kind.__name__} has no classifier that a head could replace")
    head = head if isinstance(head, checkpoint.Head) else checkpoint.read_head(head)
    name = kind.table_of(kind.prefix)["head.kernel"][0].removesuffix(".weight")
    return checkpoint.with_head(source, head, kind.config_class.from_dict(source.config).network_config(), name)


def with_prefix(arrays, kind):
    """{name: array} as the class names them.  A classifier puts a prefix before the names of the bare model, so that
    the file of one serves the other."""
    if any(name.startswith(kind.family) for name in arrays) == bool(kind.prefix):
        return arrays
    if kind.prefix:
        return {name if name.startswith("classifier.") else kind.prefix + name: a for name, a in arrays.items()}
    return {name.removeprefix(kind.family): array for name, array in arrays.items()}


def for_image_size(source, kind, overrides):
    """The Checkpoint for another `image_size` than its own: positions and image processor are resized."""
    if overrides.get("image_size") is None:
        return source
    old = kind.config_class.from_dict(source.config).network_config()
    new = kind.config_class.from_dict(source.config, **overrides).network_config()
    if old.image != new.image:
        checks.fits(new)
        source = source._replace(processor=for_image(source.processor, old.image, new.image))
    # A missing position table, or one of another shape, is refused later, with all other arrays that do not fit.
    name = next((name for name in source.arrays if name.endswith("embeddings.position_embeddings")), None)
    if name and old.grid != new.grid and source.arrays[name].shape == (1, old.tokens, old.width):
        table = resize_positions(np.asarray(source.arrays[name])[0], old.grid, new.grid, new.resampling)[None]
        source = source._replace(arrays={**source.arrays, name: table})
    return source
