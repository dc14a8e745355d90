"""Logits become scores, and the best classes."""
import operator

import numpy as np

from ..ops.reference import sigmoid, softmax

SCORES = {"softmax": softmax, "sigmoid": sigmoid, "none": lambda logits: logits}


def ranked_labels(logits, config, top_k=5, function_to_apply=None):
    """The best labels of one picture.  logits (classes,) -> [{"label": str, "score": float}, …]"""
    chosen = best_classes(logits, config, top_k, function_to_apply)
    return [{"label": config.id2label[i], "score": score} for i, score in chosen]


def best_classes(logits, config, top_k=5, function_to_apply=None):
    """The best classes of one picture and their scores.  logits (classes,) -> [(int, float), …]"""
    scores = scores_of(logits, config, function_to_apply)
    order = np.argsort(-scores, kind="stable")[:None if top_k is None else positive_int("top_k", top_k)]
    return [(int(i), float(scores[i])) for i in order]


def scores_of(logits, config, function_to_apply=None):
    """What a pipeline makes of the logits of one picture.  (classes,) -> (classes,)"""
    name = str(scoring(config) if function_to_apply is None else function_to_apply).lower()
    if name not in SCORES:
        raise ValueError(f"function_to_apply is {function_to_apply!r}; expected one of {', '.join(SCORES)}")
    return SCORES[name](logits)


def scoring(config):
    """The function a pipeline applies by itself: "sigmoid" for several labels at once or a single class."""
    several = config.problem_type == "multi_label_classification" or config.num_labels == 1
    return "sigmoid" if several else "softmax"


def positive_int(name, value):
    """The value as an int; ValueError, with the argument's name, if it is not an integer of at least 1."""
    try:
        if operator.index(value) >= 1 and value is not True:
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"{name} is {value!r}; expected an int of 1 or more")
