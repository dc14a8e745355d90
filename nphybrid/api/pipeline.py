"""`pipeline("image-classification", model)(path)`, with the answer of transformers' pipeline: labels and scores.

Pictures are opened by `open_picture`, whose rules are safer than upstream's: EXIF is honoured, alpha is composited on
white, 16 bits are scaled.
"""
import operator
import os

import numpy as np

from ..checkpoint import default_model, read
from ..ops.reference import sigmoid, softmax
from ..picture import open_picture
from .bit import BitBackbone, BitForImageClassification, BitModel
from .processor import ViTHybridImageProcessor
from .vit_hybrid import ViTForImageClassification, ViTHybridForImageClassification, ViTHybridModel, ViTModel

CLASSIFIERS = {"vit-hybrid": ViTHybridForImageClassification, "vit": ViTForImageClassification,
               "bit": BitForImageClassification}
CLASSES = {kind.__name__: kind for kind in (*CLASSIFIERS.values(), ViTHybridModel, ViTModel, BitModel, BitBackbone)}
SCORES = {"softmax": softmax, "sigmoid": sigmoid, "none": lambda logits: logits}


def class_of(fields, where):
    """The class that a `config.json` names under `architectures`; else the classifier of its model_type."""
    named = fields.get("architectures") or [None]
    kind = str(fields.get("model_type")).replace("_", "-")
    if kind not in CLASSIFIERS:
        raise ValueError(f"{where}: model_type is {fields.get('model_type')!r}; "
                         f"expected one of {', '.join(CLASSIFIERS)}")
    first = named[0] if isinstance(named, list) else None
    return CLASSES.get(first, CLASSIFIERS[kind]) if isinstance(first, str) else CLASSIFIERS[kind]


def load(path, revision=None, **options):
    """The model that a file, a folder or the hub holds, of the class its configuration names.  options: those of
    `from_pretrained`, which says what is raised."""
    source = read(path, revision)
    return class_of(source.config, path)._from_checkpoint(source, **options)


def prepared(model, picture, where):
    """A picture as a model sees it, through the image processor that came with it.  -> pixel_values (1, C, H, W)

    picture: as `open_picture` takes it. where: what the model is from, for the message of the ValueError if it has
    none. Raises PictureError for a picture that cannot be read.
    """
    if model.processor is None:
        raise ValueError(f"{where} came without an image processor; image: cannot be prepared for it")
    processor = ViTHybridImageProcessor.from_dict(model.processor)
    return processor(open_picture(picture), return_tensors="np").pixel_values


def pipeline(task, model=None, image_processor=None, **options):
    """A function from pictures to labels.

    task: "image-classification". model: a classifier, or the path or hub's name of one (default: the model that comes
    with the package). image_processor: one, or a path or name; default: the one that came with the model. options:
    revision, engine, dtype, precision, num_threads of `from_pretrained`, when model is a path or a name.

    >>> classify = pipeline("image-classification")
    >>> classify("examples/images/cat.png", top_k=1)[0]["label"]
    'cat'
    """
    if task != "image-classification":
        raise ValueError(f"task is {task!r}; expected 'image-classification'")
    if model is None or isinstance(model, (str, os.PathLike)):
        model = load(default_model() if model is None else model, **options)
    elif options:
        raise TypeError(f"{', '.join(options)}: only for a model given as a path")
    if not isinstance(model, tuple(CLASSIFIERS.values())):
        raise ValueError(f"a {type(model).__name__} has no classifier; expected one of "
                         + ", ".join(kind.__name__ for kind in CLASSIFIERS.values()))
    if image_processor is None and model.processor is None:
        raise ValueError("this model came without an image processor; give image_processor=")
    if image_processor is None:
        image_processor = ViTHybridImageProcessor.from_dict(model.processor)
    elif not callable(image_processor):
        image_processor = ViTHybridImageProcessor.from_pretrained(image_processor)
    return ImageClassificationPipeline(model, image_processor)


class ImageClassificationPipeline:
    """Pictures become [{"label": str, "score": float}, …], the best first."""
    task = "image-classification"

    def __init__(self, model, image_processor):
        self.model, self.image_processor = model, image_processor

    def __call__(self, inputs, top_k=5, function_to_apply=None, batch_size=1):
        """inputs: a picture (path, bytes, or PIL image), or a list of them, which gives a list of answers.

        top_k: how many labels, at most as many as there are; None for all (upstream's None means 5).
        function_to_apply: "softmax", "sigmoid" or "none"; None is softmax, or sigmoid for a multi-label model or a
        single class. batch_size: how many pictures are computed at once. Raises PictureError for a picture that
        cannot be read, ValueError for one that cannot be resized.
        """
        if not isinstance(inputs, (list, tuple)):
            return self([inputs], top_k, function_to_apply)[0]
        answers = []
        for start in range(0, len(inputs), _count("batch_size", batch_size)):
            pictures = [open_picture(picture) for picture in inputs[start:start + batch_size]]
            pixel_values = self.image_processor(pictures, return_tensors="np").pixel_values
            logits = self.model(pixel_values).logits
            answers += [ranked(row, self.model.config, top_k, function_to_apply) for row in logits]
        return answers


def ranked(logits, config, top_k=5, function_to_apply=None):
    """The best labels of one picture.  logits (classes,) -> [{"label": str, "score": float}, …]"""
    chosen = best(logits, config, top_k, function_to_apply)
    return [{"label": config.id2label[i], "score": score} for i, score in chosen]


def best(logits, config, top_k=5, function_to_apply=None):
    """The best classes of one picture and their scores.  logits (classes,) -> [(int, float), …]"""
    scores = scored(logits, config, function_to_apply)
    order = np.argsort(-scores, kind="stable")[:None if top_k is None else _count("top_k", top_k)]
    return [(int(i), float(scores[i])) for i in order]


def scored(logits, config, function_to_apply=None):
    """What a pipeline makes of the logits of one picture.  (classes,) -> (classes,)"""
    name = str(scoring(config) if function_to_apply is None else function_to_apply).lower()
    if name not in SCORES:
        raise ValueError(f"function_to_apply is {function_to_apply!r}; expected one of {', '.join(SCORES)}")
    return SCORES[name](logits)


def scoring(config):
    """The function a pipeline applies by itself: "sigmoid" for several labels at once or a single class."""
    several = config.problem_type == "multi_label_classification" or config.num_labels == 1
    return "sigmoid" if several else "softmax"


def _count(name, value):
    try:
        if operator.index(value) >= 1 and value is not True:
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"{name} is {value!r}; expected an int of 1 or more")
