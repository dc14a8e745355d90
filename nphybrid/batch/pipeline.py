"""`pipeline(task, model)(path)`, which returns what pipelines of transformers return: labels and scores, or features.

Pictures are opened by `open_picture`, whose rules are safer than upstream's: EXIF orientation is applied, alpha is
composited on white, 16 bits are scaled.
"""
import os
from collections.abc import Iterator
from typing import Any

from ..api.base import Model
from ..api.bit import BitBackbone
from ..api.load import CLASSIFIERS, load
from ..api.processor import ViTHybridImageProcessor
from ..api.scores import positive_int, ranked_labels
from ..checkpoint import default_model
from . import run


def pipeline(task: str, model: Model | str | os.PathLike | None = None, image_processor: Any = None,
             **options: Any) -> "ImageClassificationPipeline | ImageFeatureExtractionPipeline":
    """A function from pictures to labels, or to features.

    task: "image-classification" or "image-feature-extraction". model: a model, or its path or name on the hub (default:
    the bundled model); for features it is loaded without its classifier. image_processor: an image processor, or its
    path or name (default: the one that came with the model). options: revision, engine, dtype, precision, num_threads,
    head of `from_pretrained`, if model is a path or a name.

    Raises ValueError for an unknown task, for a model that does not fit it, and for one without an image processor.

    >>> classify = pipeline("image-classification")
    >>> classify("examples/images/cat.png", top_k=1)[0]["label"]
    'cat'
    >>> features = pipeline("image-feature-extraction")
    >>> features("examples/images/cat.png", return_tensors=True).shape
    (1, 65, 192)
    """
    if task not in PIPELINES:
        raise ValueError(f"task is {task!r}; expected one of {', '.join(map(repr, PIPELINES))}")
    kind = PIPELINES[task]
    network = _loaded(model, kind.bare, options)
    kind.check(network)
    processor: Any = image_processor
    if processor is None:
        processor = network.image_processor()
    elif not callable(processor):
        processor = ViTHybridImageProcessor.from_pretrained(processor)
    return kind(network, processor)


def _loaded(model, bare, options) -> Model:
    """The model itself, or that of a path or name; None is the bundled one."""
    if model is None or isinstance(model, (str, os.PathLike)):
        return load(default_model() if model is None else model, bare=bare, **options)
    if options:
        raise TypeError(f"{', '.join(options)}: expected a model given as a path, found a {type(model).__name__}")
    return model


class Pipeline:
    """What the pipelines share: pictures of every kind, one or many."""
    task: str
    bare: bool                            # whether the model is loaded without its classifier

    def __init__(self, model: Model, image_processor: Any) -> None:
        self.model = model
        self.image_processor = image_processor

    @staticmethod
    def check(model: Model) -> None:
        """Raise ValueError for a model that does not fit the task."""
        raise NotImplementedError

    def __call__(self, inputs: Any) -> Any:
        """The answer for a picture, a list of answers for a list, a generator of answers for a generator."""
        raise NotImplementedError

    def _answers(self, inputs, batch_size, compute, answer, **options):
        """The answer for a picture, a list of answers for a list, a generator of answers for a generator.

        compute: pixel_values (B, C, H, W) -> B results. answer: a result -> the answer. options: those of the image
        processor's call.
        """
        prepare = run.preparer(self.image_processor, **options)
        batch = positive_int("batch_size", batch_size)
        if isinstance(inputs, (list, tuple)):
            return list(_each(inputs, prepare, compute, answer, batch))
        # An open file is an iterator too.
        if isinstance(inputs, Iterator) and not hasattr(inputs, "read"):
            return _each(inputs, prepare, compute, answer, batch)
        return answer(compute(prepare(inputs)[None])[0])


def _each(inputs, prepare, compute, answer, batch):
    for row in run.compute_rows(inputs, prepare, compute, batch, workers=0):
        if row.error is not None:
            raise row.error
        yield answer(row.result)


class ImageClassificationPipeline(Pipeline):
    """A picture becomes [{"label": str, "score": float}, …], the best first."""
    task = "image-classification"
    bare = False

    @staticmethod
    def check(model: Model) -> None:
        """Raise ValueError for a model without a classifier."""
        if not isinstance(model, tuple(CLASSIFIERS.values())):
            raise ValueError(f"a {type(model).__name__} has no classifier; expected one of "
                             + ", ".join(kind.__name__ for kind in CLASSIFIERS.values()))

    def __call__(self, inputs: Any, top_k: int | None = 5, function_to_apply: str | None = None,
                 batch_size: int = 1) -> Any:
        """The labels of pictures.

        inputs: a picture (path, bytes, PIL image, or an array as the image processor takes it); a list of them, which
        returns a list of answers; or a generator, which returns a generator.

        top_k: the number of labels in an answer; None for all (in transformers, None means 5). A larger number than the
        model has means all.
        function_to_apply: "softmax", "sigmoid" or "none"; None is softmax, or sigmoid for a multi-label model or a
        single class. batch_size: how many pictures are computed at once; no answer depends on it. Raises PictureError
        for a picture that cannot be read, ValueError for one that cannot be resized.
        """
        return self._answers(inputs, batch_size, lambda x: self.model(x).logits,
                             lambda logits: ranked_labels(logits, self.model.config, top_k, function_to_apply))


class ImageFeatureExtractionPipeline(Pipeline):
    """A picture becomes the first output of the model, as nested lists: the tokens of a bare ViT, [1][T][D]; the
    feature map of a bare BiT, [1][C][H][W]; the logits of a classifier."""
    task = "image-feature-extraction"
    bare = True

    @staticmethod
    def check(model: Model) -> None:
        """Raise ValueError for a model whose first output is not an array."""
        if isinstance(model, BitBackbone):
            raise ValueError("a BitBackbone returns several feature maps; expected a BitModel")

    def __call__(self, inputs: Any, pool: bool = False, return_tensors: bool = False, batch_size: int = 1,
                 image_processor_kwargs: dict | None = None) -> Any:
        """The features of pictures.  inputs, batch_size, errors: as in image classification.

        pool: True for the output of the pooler, [1][D], or of a BiT the mean, [1][C][1][1]; ValueError for a model
        without a pooler. return_tensors: NumPy arrays instead of lists. image_processor_kwargs: options of the image
        processor's call. For any other state of the forward pass, see `nphybrid.api.extractor`.
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
        return self._answers(inputs, batch_size, compute, answer, **(image_processor_kwargs or {}))


PIPELINES: dict[str, type[ImageClassificationPipeline] | type[ImageFeatureExtractionPipeline]] = {
    kind.task: kind for kind in (ImageClassificationPipeline, ImageFeatureExtractionPipeline)}
