"""`pipeline(task, model)(path)`, with the answer of transformers' pipelines: labels and scores, or features.

Pictures are opened by `open_picture`, whose rules are safer than upstream's: EXIF is honoured, alpha is composited on
white, 16 bits are scaled.
"""
import os
from collections.abc import Iterator

from ..api.bit import BitBackbone
from ..api.load import CLASSIFIERS, load
from ..api.processor import ViTHybridImageProcessor
from ..api.scores import positive_int, ranked_labels
from ..checkpoint import default_model
from . import run


def pipeline(task, model=None, image_processor=None, **options):
    """A function from pictures to labels, or to features.

    task: "image-classification" or "image-feature-extraction". model: a model, or the path or hub's name of one
    (default: the model that comes with the package), which for features is loaded without its head. image_processor:
    one, or a path or name; default: the one that came with the model. options: revision, engine, dtype, precision,
    num_threads, head of `from_pretrained`, when model is a path or a name.

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
    if model is None or isinstance(model, (str, os.PathLike)):
        model = load(default_model() if model is None else model, bare=kind.bare, **options)
    elif options:
        raise TypeError(f"{', '.join(options)}: only for a model given as a path")
    kind.check(model)
    if image_processor is None and model.processor is None:
        raise ValueError("this model came without an image processor; give image_processor=")
    if image_processor is None:
        image_processor = ViTHybridImageProcessor.from_dict(model.processor)
    elif not callable(image_processor):
        image_processor = ViTHybridImageProcessor.from_pretrained(image_processor)
    return kind(model, image_processor)


class Pipeline:
    """What the pipelines share: pictures of every kind, one or many."""

    def __init__(self, model, image_processor):
        self.model, self.image_processor = model, image_processor

    def _answers(self, inputs, batch_size, compute, answer, **options):
        """One answer, or for a list a list, for a generator a generator of them.

        compute: pixel_values (B, C, H, W) -> B results. answer: what becomes of one. options: the image processor's.
        """
        prepare, batch = run.preparer(self.image_processor, **options), positive_int("batch_size", batch_size)
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
    """Pictures become [{"label": str, "score": float}, …], the best first."""
    task, bare = "image-classification", False

    @staticmethod
    def check(model):
        """Raise ValueError for a model without a classifier."""
        if not isinstance(model, tuple(CLASSIFIERS.values())):
            raise ValueError(f"a {type(model).__name__} has no classifier; expected one of "
                             + ", ".join(kind.__name__ for kind in CLASSIFIERS.values()))

    def __call__(self, inputs, top_k=5, function_to_apply=None, batch_size=1):
        """inputs: a picture (path, bytes, PIL image, or array as the image processor takes it); a list of them, which
        gives a list of answers; or a generator, which gives a generator.

        top_k: how many labels, at most as many as there are; None for all (upstream's None means 5).
        function_to_apply: "softmax", "sigmoid" or "none"; None is softmax, or sigmoid for a multi-label model or a
        single class. batch_size: how many pictures are computed at once; no answer depends on it. Raises PictureError
        for a picture that cannot be read, ValueError for one that cannot be resized.
        """
        return self._answers(inputs, batch_size, lambda x: self.model(x).logits,
                             lambda logits: ranked_labels(logits, self.model.config, top_k, function_to_apply))


class ImageFeatureExtractionPipeline(Pipeline):
    """Pictures become the first output of a model, as nested lists: of a bare ViT its tokens, [1][T][D]; of a bare BiT
    its map, [1][C][H][W]; of a classifier its logits."""
    task, bare = "image-feature-extraction", True

    @staticmethod
    def check(model):
        """Raise ValueError for a model whose output is no array."""
        if isinstance(model, BitBackbone):
            raise ValueError("a BitBackbone gives several maps; expected a BitModel")

    def __call__(self, inputs, pool=False, return_tensors=False, batch_size=1, image_processor_kwargs=None):
        """inputs, batch_size, errors: as in image classification.

        pool: the pooler's output instead, [1][D], of a BiT the mean, [1][C][1][1]; ValueError for a model without one.
        return_tensors: NumPy arrays instead of lists. image_processor_kwargs: options of the image processor's call.
        `apps.states.extractor` gives any other state of the walk.
        """
        def compute(pixel_values):
            output = self.model(pixel_values)
            if not pool:
                return output[0]
            if getattr(output, "pooler_output", None) is None:
                raise ValueError("No pooled output was returned. Make sure the model has a `pooler` layer when using "
                                 "the `pool` option.")
            return output.pooler_output
        return self._answers(inputs, batch_size, compute, lambda x: x[None] if return_tensors else [x.tolist()],
                             **(image_processor_kwargs or {}))


PIPELINES = {kind.task: kind for kind in (ImageClassificationPipeline, ImageFeatureExtractionPipeline)}

