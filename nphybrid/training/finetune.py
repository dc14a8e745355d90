"""Fine-tune a model for your own classes: from pictures and class names to a new model."""
import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..api.base import Model
from ..api.load import CLASSIFIERS
from ..checkpoint import Checkpoint, Head, classifier_width, head_reads
from ..classifier import teach
from ..ops import NARROW
from ..classifier.classes import in_order
from ..trace import NonFiniteError
from .folder import RunFolder
from .loop import Epoch, Step, Trainer, train
from .pictures import Labelled, split
from .settings import Settings, check_blocks

Watched = Callable[[Any], Any]


class Finetuned(NamedTuple):
    """The result of a run."""
    model: Model                          # a classifier for the new classes, with the weights of the best epoch
    best: Epoch
    errors: dict[int, str]                # {position of a picture that could not be read: error}
    stopped: NonFiniteError | None        # the error that ended the run early, or None


def finetune(model: Model, pictures: Sequence[Any], labels: Sequence[str], settings: Settings | None = None,
             validation: float | tuple[Sequence[Any], Sequence[str]] = 0.2, folder: str | Path | None = None,
             identity: dict[str, Any] | None = None, resume: bool = False,
             watch: Callable[[Step | Epoch], None] = lambda result: None, watched: Watched = lambda rows: rows
             ) -> Finetuned:
    """Fine-tune a model for the classes of some pictures.

    `model`: any model with an image processor, in float32 or float64. `pictures`: paths, or anything else that
    `open_picture` accepts. `labels`: the class name of each picture. `validation`: the share of the pictures that is
    held out, or other pictures with their class names. `folder`: the folder of the run, which a later call can continue
    with resume=True, or None. A run is continued only if its settings and class names are the same. `identity`: a JSON
    object that must be the same, too, for example with a digest of the model and of the pictures. `watch`: a function
    that gets the results of each step and of each epoch. `watched`: as in `classifier.teach.features_of`.

    Raises ValueError for settings that are not possible, for a bfloat16 or int8 model, for fewer than two classes, for
    a class with fewer than two pictures for training, and if the numbers of pictures and of class names differ. Raises
    BlockingIOError if another run writes to the folder, and FileExistsError if the folder holds a run and `resume` is
    False.

    If the loss, a gradient or a weight is not finite, the run ends early with a warning, and the result is the best
    epoch before. Raises NonFiniteError if this happens before the first step.

    >>> from PIL import Image
    >>> from nphybrid import ViTHybridForImageClassification, default_model
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    >>> pictures = [Image.new("RGB", (64, 64), (17 * i, 90, 90)) for i in range(15)]
    >>> names = ["dark"] * 7 + ["bright"] * 8
    >>> found = finetune(model, pictures, names, Settings(epochs=1, train="head", augment="none"))
    >>> list(found.model.config.id2label.values()), found.best.count
    (['bright', 'dark'], 3)
    """
    settings = (settings or Settings()).checked()
    check_blocks(settings.train, model.network_config.blocks)
    if model.dtype in NARROW:
        original = "" if model.stored_dtype is None else "; expected the model from which this one was converted"
        raise ValueError(f"found a model with dtype {model.dtype}; expected float32, or float64 with the engine "
                         f"reference{original}")
    teach.readable_names(labels)          # errors in the classes are raised before anything is computed
    others, other_labels = ([], []) if isinstance(validation, (int, float)) else validation
    for what, sources, names in ("pictures", pictures, labels), ("validation", others, other_labels):
        if len(sources) != len(names):
            raise ValueError(f"{what}: found {len(sources):,} pictures and {len(names):,} class names; expected one "
                             "class name for each picture")
    sources, names = [*pictures, *others], [*labels, *other_labels]
    classes = in_order(labels)
    if unknown := sorted({*other_labels} - {*classes}):
        raise ValueError(f"validation: found the classes {', '.join(unknown)}, which no training picture has; expected "
                         f"classes of the training pictures: {', '.join(classes)}")
    number_of = {name: k for k, name in enumerate(classes)}
    numbers = np.array([number_of[name] for name in names])
    if isinstance(validation, (int, float)) and validation and not len(split(numbers, validation, settings.seed)[1]):
        raise ValueError(f"validation: the share {validation} of {len(names)} pictures is no picture; expected more "
                         "pictures, a larger share, or 0 for no validation")
    run = None if folder is None else RunFolder(folder)
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()
    identity = {**settings._asdict(), "classes": digest, "held_out": len(others), **(identity or {})}
    with run.begun(identity, resume) if run else contextlib.nullcontext() as start:
        features, errors = _features(model, sources, settings, run, start, watched)
        readable = np.array([i for i in range(len(sources)) if i not in errors], int)
        own, other = readable[readable < len(pictures)], readable[readable >= len(pictures)]
        teach.readable_names(labels, errors)
        known, held_out = own, other
        if isinstance(validation, (int, float)):
            known, held_out = (own[part] for part in split(numbers[own], validation, settings.seed))
        head = _blank_head(model, classes)
        if features is not None:
            rows = np.searchsorted(readable, known)
            chosen = features._replace(values=features.values[rows], paths=[features.paths[i] for i in rows])
            head, _ = teach.fit_head(chosen, [names[i] for i in known], seed=settings.seed)
            _warn_of_copies(chosen.values, features.values[np.searchsorted(readable, held_out)])
        everything = Labelled(sources, numbers)
        trainer = Trainer(with_head(model, head), everything.part(known), everything.part(held_out), settings)
        best, stopped = train(trainer, run, start, watch)
    if stopped:
        warnings.warn(f"{stopped}. The run was stopped, and the result is epoch {best.epoch}. A smaller learning rate "
                      "may help.", RuntimeWarning, stacklevel=2)
    return Finetuned(trainer.model, best, errors, stopped)


def _warn_of_copies(known, held_out):
    """Warn of validation pictures that have the same features as a training picture."""
    learned = {row.tobytes() for row in known}
    if copies := sum(row.tobytes() in learned for row in held_out):
        warnings.warn(f"{copies:,} of {len(held_out):,} validation pictures are copies of training pictures, so the "
                      "accuracy is too high", UserWarning, stacklevel=3)


def with_head(model: Model, head: Head) -> Model:
    """Make a classifier from a model, with a head instead of the model's own classifier."""
    source = Checkpoint(arrays=model.state_dict(), config=model.config_document(), processor=model.processor,
                        manifest={}, path=Path(model.name_or_path or type(model).__name__))
    kind = CLASSIFIERS[model.config.model_type]
    return kind.from_checkpoint(source, head=head, engine=model.engine, dtype=model.dtype, precision=model.precision,
                                num_threads=model.num_threads)


def _features(model, sources, settings, run, start, watched):
    """The features of all pictures, and {position: error} of the unreadable ones.

    A continued run needs no features, because its head is in the last epoch. It reads the errors from its folder.
    """
    if start is not None:
        return None, run.errors()
    features, found = teach.features_of(model, "", sources, settings.batch, watched)
    errors = {i: str(error) for i, error in found.items()}
    if run:
        run.write_errors(errors)
    return features, errors


def _blank_head(model, classes):
    """A head of zeros.  A continued run replaces its numbers by those of the last epoch."""
    config = model.network_config
    kernel = np.zeros((classifier_width(config), len(classes)), np.float32)
    return Head(kernel, np.zeros(len(classes), np.float32), classes, None, *head_reads(config), {})
