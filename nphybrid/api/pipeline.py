"""`pipeline("image-classification", model)(path)`, with transformers' answer: a list of labels and scores."""
import numpy as np

from ..checkpoint import default_model, read
from ..ops.reference import sigmoid, softmax
from ..picture import open_picture
from .models import BitForImageClassification, ViTHybridForImageClassification
from .processor import ViTHybridImageProcessor

CLASSIFIERS = {"vit-hybrid": ViTHybridForImageClassification, "bit": BitForImageClassification}
SCORES = {"softmax": softmax, "sigmoid": sigmoid, "none": lambda logits: logits}


def load_classifier(path, **options):
    """The classifier that a file or folder holds, of the class its configuration names.  -> model

    Raises FormatError, FileNotFoundError or ValueError, as `from_pretrained` does.
    """
    source = read(path)
    kind = str(source.config.get("model_type")).replace("_", "-")
    if kind not in CLASSIFIERS:
        raise ValueError(f"{path}: model_type is {source.config.get('model_type')!r}; "
                         f"expected one of {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[kind]._from_checkpoint(source, **options)


def pipeline(task, model=None, image_processor=None, **options):
    """A function from pictures to labels.

    task: "image-classification". model: a model, or a path for `load_classifier` (default: the model that comes with
    the package). image_processor: one, or a path; default: the one that came with the model. options: those of
    `from_pretrained`, when model is a path.

    >>> classify = pipeline("image-classification")
    >>> classify("examples/images/cat.png", top_k=1)[0]["label"]
    'cat'
    """
    if task != "image-classification":
        raise ValueError(f"task is {task!r}; expected 'image-classification'")
    if model is None or isinstance(model, (str, bytes)) or hasattr(model, "__fspath__"):
        model = load_classifier(default_model() if model is None else model, **options)
    elif options:
        raise TypeError(f"{', '.join(options)}: only for a model given as a path")
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

        top_k: how many labels, at most as many as there are; None for all. function_to_apply: "softmax", "sigmoid" or
        "none"; None is softmax, or sigmoid for a multi-label model or a single class. Raises PictureError for a picture
        that cannot be read.
        """
        if not isinstance(inputs, (list, tuple)):
            return self([inputs], top_k, function_to_apply)[0]
        answers = []
        for start in range(0, len(inputs), batch_size):
            pictures = [open_picture(picture) for picture in inputs[start:start + batch_size]]
            pixel_values = self.image_processor(pictures, return_tensors="np").pixel_values
            logits = self.model(pixel_values).logits
            answers += [ranked(row, self.model.config, top_k, function_to_apply) for row in logits]
        return answers


def ranked(logits, config, top_k=5, function_to_apply=None):
    """The best labels of one picture.  logits (K,) -> [{"label": str, "score": float}, …]"""
    if function_to_apply is None:
        several = config.problem_type == "multi_label_classification" or config.num_labels == 1
        function_to_apply = "sigmoid" if several else "softmax"
    if function_to_apply not in SCORES:
        raise ValueError(f"function_to_apply is {function_to_apply!r}; expected one of {', '.join(SCORES)}")
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise ValueError(f"top_k is {top_k!r}; expected an int of 1 or more, or None")
    scores = SCORES[function_to_apply](logits)
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": config.id2label[int(i)], "score": float(scores[i])} for i in best]
