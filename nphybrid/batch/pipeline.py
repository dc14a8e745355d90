"""Defines pipelines that return the same labels, scores and features as the pipelines of transformers.

`open_picture` opens the pictures. It applies the EXIF orientation, draws transparent pixels on white, and scales 16-bit
values. It refuses pictures that cannot be decoded without guessing. transformers accepts some of these pictures.
"""
import inspect
import os
from collections.abc import Iterator
from typing import Any

from ..api.arguments import without_arguments
from ..api.base import Model
from ..api.bit import BitBackbone
from ..api.load import CLASSIFIERS, load
from ..api.processor import ViTHybridImageProcessor
from ..api.scores import positive_int, ranked_labels
from ..checkpoint import default_model
from ..checkpoint.hub import is_name
from ..pictures.decode import PictureError
from ..text import did_you_mean
from . import run

# What is said of arguments of transformers that a call does not have.
CALLS = {"timeout": ". nphybrid opens no URL", "images": ". The pictures are the first argument",
         "num_workers": ". The threads are chosen with pipeline(…, num_threads=N)"}


def pipeline(task: str, model: Model | str | os.PathLike | None = None, image_processor: Any = None,
             **options: Any) -> "ImageClassificationPipeline | ImageFeatureExtractionPipeline":
    """Return a function that computes the labels or the features of pictures.

    `task` is "image-classification" or "image-feature-extraction".
    `model` is a model, a path, or owner/name on the Hugging Face hub (default: the bundled model). For features, a
    model that is given as a path or a name is loaded without its classifier.
    `image_processor` is an image processor, a path or a name (default: the image processor of the model).
    `options` are the options revision, engine, dtype, precision, num_threads and head of `from_pretrained`. The option
    `model_kwargs` is a dict of such options. A loaded model accepts no options. Other arguments of transformers are
    accepted if they change no result (api/arguments.py).

    The pipeline opens files with `open_picture`, which draws transparent pixels on white and scales 16-bit values. For
    such files, processor(Image.open(file)) gives other pixels, as in transformers.

    Raises ValueError if the task is unknown, or if the model does not fit the task. Raises ValueError if
    `image_processor` is None and the model has no image processor.

    >>> classify = pipeline("image-classification")
    >>> classify("examples/images/cat.png", top_k=1)[0]["label"]
    'cat'
    >>> features = pipeline("image-feature-extraction")
    >>> features("examples/images/cat.png", return_tensors=True).shape
    (1, 65, 192)
    """
    if task not in PIPELINES:
        expected = f"task is {task!r}; expected one of {', '.join(map(repr, PIPELINES))}"
        if isinstance(task, os.PathLike) or os.path.exists(str(task)) or is_name(task):
            raise ValueError(f"{expected}. A model is the second argument, as in pipeline({next(iter(PIPELINES))!r}, "
                             f"{os.fspath(task)!r})")
        raise ValueError(expected + did_you_mean(str(task), PIPELINES))
    kind = PIPELINES[task]
    more = options.pop("model_kwargs", None) or {}
    options = without_arguments({**options, **more})
    network = _loaded(model, kind.bare, options)
    kind.check(network)
    processor: Any = image_processor
    if processor is None:
        processor = network.image_processor()
    elif not callable(processor):
        processor = ViTHybridImageProcessor.from_pretrained(processor)
    return kind(network, processor)


def _loaded(model, bare, options) -> Model:
    """Return a given model, or load the model at a path.  If `model` is None, load the bundled model."""
    if model is None or isinstance(model, (str, os.PathLike)):
        return load(default_model() if model is None else model, bare=bare, **options)
    if options:
        raise TypeError(f"found a {type(model).__name__} and the options {', '.join(options)}; expected the path of a "
                        "model. A loaded model accepts no options.")
    return model


class Pipeline:
    """The base class of the pipelines.  A pipeline accepts a picture, a list of pictures or a generator of pictures."""
    task: str
    bare: bool                            # True if the model is loaded without its classifier

    def __init__(self, model: Model, image_processor: Any) -> None:
        self.model = model
        self.image_processor = image_processor

    @staticmethod
    def check(model: Model) -> None:
        """Raise ValueError for a model that does not fit the task."""
        raise NotImplementedError

    def __call__(self, inputs: Any) -> Any:
        """Return one answer for a picture, a list of answers for a list, or a generator of answers for a generator."""
        raise NotImplementedError

    def _answers(self, inputs, batch_size, compute, answer, other, **options):
        """Return one answer for a picture, a list of answers for a list, or a generator of answers for a generator.

        `compute` is a function: pixel_values (B, C, H, W) -> B results.
        `answer` is a function that converts a result to an answer.
        `other` are arguments that the pipeline does not have. `options` are given to each call of the image processor.
        """
        self._refuse_arguments(other)
        if isinstance(inputs, (str, os.PathLike)) and os.path.isdir(inputs):
            raise PictureError(f"found the folder {os.fspath(inputs)}; expected a picture, or a list of pictures, such "
                               f"as nphybrid.batch.inputs.find_pictures([{os.fspath(inputs)!r}])")
        prepare = run.preparer(self.image_processor, **options)
        batch = positive_int("batch_size", batch_size)
        if isinstance(inputs, (list, tuple)):
            return list(_each(inputs, prepare, compute, answer, batch))
        # An open file is an iterator, but it contains a single picture.
        if isinstance(inputs, Iterator) and not hasattr(inputs, "read"):
            return _each(inputs, prepare, compute, answer, batch)
        return answer(compute(prepare(inputs)[None])[0])

    def _refuse_arguments(self, other):
        """Raise TypeError for arguments of a call that the pipeline does not have."""
        known = [name for name in inspect.signature(self.__call__).parameters if name != "other"]
        for name in other:
            raise TypeError(f"found the argument {name}; expected some of {', '.join(known)}"
                            + (CALLS.get(name) or did_you_mean(name, known)))


def _each(inputs, prepare, compute, answer, batch):
    for row in run.compute_rows(inputs, prepare, compute, batch, workers=0):
        if row.error is not None:
            raise row.error
        yield answer(row.result)


class ImageClassificationPipeline(Pipeline):
    """Returns [{"label": str, "score": float}, …] for each picture.  The label with the highest score is the first."""
    task = "image-classification"
    bare = False

    @staticmethod
    def check(model: Model) -> None:
        """Raise ValueError for a model without a classifier."""
        if not isinstance(model, tuple(CLASSIFIERS.values())):
            raise ValueError(f"found a {type(model).__name__}, which has no classifier; expected one of "
                             + ", ".join(kind.__name__ for kind in CLASSIFIERS.values()))

    def __call__(self, inputs: Any, top_k: int | None = 5, function_to_apply: str | None = None,
                 batch_size: int = 1, **other: Any) -> Any:
        """Return the labels of pictures.

        `inputs` is a picture, a list of pictures or a generator of pictures. A picture is a path, the bytes of a file,
        a PIL image, or an array that the image processor accepts. For a list, a list of answers is returned. For a
        generator, a generator of answers is returned.
        `top_k` is the largest number of labels in an answer. If `top_k` is None, all labels are returned. In
        transformers, `top_k=None` returns 5 labels.
        `function_to_apply` is "softmax", "sigmoid", "none" or None. None means "none" for a regression, the sigmoid for
        multi-label models and for models with a single class, and the softmax for all other models.
        `batch_size` is the number of pictures that are computed together. The answers do not depend on `batch_size`.

        Raises PictureError if a picture cannot be read. Raises ValueError if a picture cannot be resized.
        """
        return self._answers(inputs, batch_size, lambda x: self.model(x).logits,
                             lambda logits: ranked_labels(logits, self.model.config, top_k, function_to_apply), other)


class ImageFeatureExtractionPipeline(Pipeline):
    """Returns the first output of the model for each picture, as nested lists.

    The first output of a ViT without a classifier is its tokens, [1][T][D]. The first output of a BiT without a
    classifier is its feature map, [1][C][H][W]. The first output of a model with a classifier is its logits.
    """
    task = "image-feature-extraction"
    bare = True

    @staticmethod
    def check(model: Model) -> None:
        """Raise ValueError for a model whose first output is not an array."""
        if isinstance(model, BitBackbone):
            raise ValueError("found a BitBackbone, which returns several feature maps; expected a BitModel")

    def __call__(self, inputs: Any, pool: bool = False, return_tensors: bool = False, batch_size: int = 1,
                 image_processor_kwargs: dict | None = None, **other: Any) -> Any:
        """Return the features of pictures.

        `inputs`, `batch_size` and the errors are the same as in ImageClassificationPipeline.
        If `pool` is True, the output of the pooler is returned. The pooler output of a ViT is [1][D]. The pooler output
        of a BiT is the mean over the feature map, [1][C][1][1]. If `pool` is True and the model has no pooler,
        ValueError is raised.
        If `return_tensors` is True, NumPy arrays are returned instead of lists.
        `image_processor_kwargs` are options for each call of the image processor.

        `nphybrid.api.extractor` can compute features from any state of the forward pass.
        """
        def compute(pixel_values):
            output = self.model(pixel_values)
            if not pool:
                return output[0]
            if getattr(output, "pooler_output", None) is None:
                raise ValueError("No pooled output was returned. Make sure the model has a `pooler` layer when using "
                                 "the `pool` option.")
            return output.pooler_output

        def answer(x):
            return x[None] if return_tensors else [x.tolist()]
        return self._answers(inputs, batch_size, compute, answer, other, **(image_processor_kwargs or {}))


PIPELINES: dict[str, type[ImageClassificationPipeline] | type[ImageFeatureExtractionPipeline]] = {
    kind.task: kind for kind in (ImageClassificationPipeline, ImageFeatureExtractionPipeline)}
