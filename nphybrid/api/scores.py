"""Scores and ranked labels from logits, as in the image-classification pipeline of transformers."""
import operator
from typing import Any

import numpy as np

from ..ops.reference import sigmoid, softmax

SCORES = {"softmax": softmax, "sigmoid": sigmoid, "none": lambda logits: logits}


def ranked_labels(logits: np.ndarray, config: Any, top_k: int | None = 5,
                  function_to_apply: str | None = None) -> list[dict[str, Any]]:
    """The labels with the highest scores for one picture.  logits (classes,) -> [{"label": str, "score": float}, …]

    The arguments and errors are those of `best_classes`.

    >>> from nphybrid import BitConfig
    >>> ranked_labels(np.array([0.0, 0.0, 9.0]), BitConfig(num_labels=3), top_k=1, function_to_apply="none")
    [{'label': 'LABEL_2', 'score': 9.0}]
    """
    best = best_classes(logits, config, top_k, function_to_apply)
    return [{"label": config.id2label[i], "score": score} for i, score in best]


def best_classes(logits: np.ndarray, config: Any, top_k: int | None = 5,
                 function_to_apply: str | None = None) -> list[tuple[int, float]]:
    """The classes with the highest scores for one picture.  logits (classes,) -> [(class, score), …]

    The highest score is first. Classes with equal scores are in the order of their indices. `config`: the Hugging Face
    configuration of the classifier. `top_k`: the largest number of classes in the result, or None for all classes.
    `function_to_apply`: "softmax", "sigmoid", "none", or None for the result of `scoring`. Raises ValueError for a bad
    top_k or function_to_apply.
    """
    scores = scores_of(logits, config, function_to_apply)
    order = np.argsort(-scores, kind="stable")
    if top_k is not None:
        order = order[:positive_int("top_k", top_k)]
    return [(int(i), float(scores[i])) for i in order]


def scores_of(logits: np.ndarray, config: Any, function_to_apply: str | None = None) -> np.ndarray:
    """The scores of all classes for one picture.  logits (classes,) -> scores (classes,)

    The arguments are those of `best_classes`.
    """
    name = str(scoring(config) if function_to_apply is None else function_to_apply).lower()
    if name not in SCORES:
        raise ValueError(f"function_to_apply is {function_to_apply!r}; expected one of {', '.join(SCORES)}")
    return SCORES[name](logits)


def scoring(config: Any) -> str:
    """The default function for the scores of a classifier: "none", "sigmoid" or "softmax".

    The function is "none" for a regression, "sigmoid" if a picture can have several labels or if the classifier has
    only one class, and "softmax" for all other classifiers. (For a regression, transformers applies the sigmoid.)
    """
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"


def positive_int(name: str, value: Any) -> int:
    """Converts an integer of at least 1 to an int.  For other values, raises ValueError with `name` in the message.

    >>> positive_int("top_k", np.int64(3))
    3
    """
    try:
        if operator.index(value) >= 1 and value is not True:
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"{name} is {value!r}; expected an int of 1 or more")
