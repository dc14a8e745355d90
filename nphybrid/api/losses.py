"""The three losses of the classifiers, as transformers defines them.  loss/loss_utils.py"""
import numpy as np

IGNORED = -100                            # a label that does not count

KINDS = ("regression", "single_label_classification", "multi_label_classification")


def loss(logits, labels, problem_type=None):
    """How far logits (B, K) are from labels, as one number of the logits' dtype.  K counts classes here.

    problem_type None decides by what is given: one class means regression, integer labels single label,
    float labels multi label. The decision is this call's own and is remembered nowhere.
    """
    labels = np.asarray(labels)
    kind = problem_type or _kind(logits, labels)
    if kind not in KINDS:
        raise ValueError(f"problem_type is {kind!r}; expected one of {', '.join(KINDS)}")
    return {"regression": mean_squared_error, "single_label_classification": cross_entropy,
            "multi_label_classification": binary_cross_entropy}[kind](logits, labels)


def _kind(logits, labels):
    if logits.shape[-1] == 1:
        return "regression"
    if np.issubdtype(labels.dtype, np.integer):
        return "single_label_classification"
    return "multi_label_classification"


def mean_squared_error(logits, labels):
    """mean((logits - labels)^2).  logits (B, K), labels (B, K), or (B,) where K is 1"""
    if logits.shape[-1] == 1:
        logits, labels = logits.reshape(-1), labels.reshape(-1)
    _same_shape("regression", labels, logits.shape)
    return np.square(logits - labels.astype(logits.dtype)).mean()


def cross_entropy(logits, labels):
    """Mean of -log(softmax(logits)[label]) over the labels that are not -100; NaN if all are.

    logits (B, K), labels integer (B,) in 0 .. K-1
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"single-label loss: labels are {labels.dtype}; expected integers, one per image")
    labels = labels.reshape(-1)
    B, K = logits.shape
    _same_shape("single-label loss", labels, (B,))
    counted = labels != IGNORED
    wrong = labels[counted & ((labels < 0) | (labels >= K))]
    if wrong.size:
        raise ValueError(f"single-label loss: label {wrong[0]} is outside 0..{K - 1} (and is not {IGNORED})")
    if not counted.any():
        return logits.dtype.type(np.nan)
    x = logits[counted]
    x = x - x.max(-1, keepdims=True)
    picked = x[np.arange(len(x)), labels[counted]]
    return (np.log(np.exp(x).sum(-1)) - picked).mean()


def binary_cross_entropy(logits, labels):
    """Mean of -(y log s + (1 - y) log(1 - s)), s = sigmoid(logits), in the form that cannot overflow.

    logits, labels (B, K)
    """
    _same_shape("multi-label loss", labels, logits.shape)
    y = labels.astype(logits.dtype)
    return (np.maximum(logits, 0) - logits * y + np.log1p(np.exp(-np.abs(logits)))).mean()


def _same_shape(what, labels, expected):
    if labels.shape != tuple(expected):
        raise ValueError(f"{what}: labels have shape {labels.shape}; expected {tuple(expected)}")
