"""The three losses of the classifiers and their gradients, as in loss/loss_utils.py of transformers."""
import numpy as np
import numpy.typing as npt

from ..ops.reference import sigmoid, softmax

IGNORED = -100                            # the loss does not count pictures with this label

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def loss(logits: np.ndarray, labels: np.ndarray, problem_type: str | None = None) -> np.floating:
    """The loss of the logits (B, K) of K classes.  The result has the dtype of the logits.

    `problem_type`: one of PROBLEM_TYPES, or None. If problem_type is None, K and the labels decide the loss. If K is 1,
    the loss is mean_squared_error. For K > 1 and integer labels, the loss is cross_entropy. For K > 1 and float labels,
    the loss is binary_cross_entropy. Raises ValueError for labels of a wrong shape or type.

    >>> logits = np.float32([[2, 0, 0], [0, 0, 3]])
    >>> round(float(loss(logits, np.array([0, 2]))), 4)
    0.1672
    """
    labels = np.asarray(labels)
    return _losses(logits, labels, problem_type)[0](logits, labels)


def loss_and_gradient(logits: np.ndarray, labels: np.ndarray, problem_type: str | None = None
                      ) -> tuple[np.floating, np.ndarray]:
    """The loss of the logits (B, K), and the gradient (B, K) of the loss with respect to the logits.

    The arguments and the errors are those of `loss`.

    >>> logits = np.float32([[2, 0, 0], [0, 0, 3]])
    >>> loss_and_gradient(logits, np.array([0, 2]))[1][0].round(4)
    array([-0.1065,  0.0533,  0.0533], dtype=float32)
    """
    labels = np.asarray(labels)
    function, gradient = _losses(logits, labels, problem_type)
    return function(logits, labels), gradient(logits, labels)


def _losses(logits, labels, problem_type):
    """The function that computes the loss, and the function that computes its gradient."""
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"labels have dtype {labels.dtype}; expected integers (B,), or numbers (B, K)")
    problem_type = problem_type or _problem_type(logits, labels)
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(f"problem_type is {problem_type!r}; expected one of {', '.join(PROBLEM_TYPES)}")
    if problem_type == "regression":
        return mean_squared_error, mean_squared_error_gradient
    if problem_type == "single_label_classification":
        return cross_entropy, cross_entropy_gradient
    return binary_cross_entropy, binary_cross_entropy_gradient


def _problem_type(logits, labels):
    if logits.shape[-1] == 1:
        return "regression"
    if np.issubdtype(labels.dtype, np.integer):
        return "single_label_classification"
    return "multi_label_classification"


def mean_squared_error(logits: np.ndarray, labels: np.ndarray) -> np.floating:
    """The mean of (logits - labels)^2.

    The logits have the shape (B, K). The labels have the shape (B, K), or (B,) if K is 1.
    """
    if logits.shape[-1] == 1:
        logits = logits.reshape(-1)
        labels = labels.reshape(-1)
    _check_shape("regression", labels, logits.shape)
    return np.square(logits - labels.astype(logits.dtype)).mean()


def mean_squared_error_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """2 (logits - labels) / n, where n is the number of logits.  -> (B, K)"""
    labels = labels.reshape(logits.shape).astype(logits.dtype)
    return 2 * (logits - labels) / logits.size


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.floating:
    """The mean of -log(softmax(logits)[label]) over all labels except -100.

    The logits have the shape (B, K). The labels are integers (B,) from 0 to K - 1, or -100. If every label is -100, the
    result is NaN.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"single-label loss: labels are {labels.dtype}; expected one integer for each image")
    labels = labels.reshape(-1)
    B, K = logits.shape
    _check_shape("single-label loss", labels, (B,))
    counted = labels != IGNORED
    wrong = labels[counted & ((labels < 0) | (labels >= K))]
    if wrong.size:
        raise ValueError(f"single-label loss: a label is {wrong[0]}; expected 0 to {K - 1}, or {IGNORED}")
    if not counted.any():
        return logits.dtype.type(np.nan)
    x = logits[counted]
    x = x - x.max(-1, keepdims=True)
    of_labels = x[np.arange(len(x)), labels[counted]]
    return (np.log(np.exp(x).sum(-1)) - of_labels).mean()


def cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(softmax(logits) - one_hot(labels)) / n, where n is the number of labels except -100.  -> (B, K)

    The gradient of a picture with the label -100 is 0. If every label is -100, the gradient is NaN, as the loss.
    """
    labels = labels.reshape(-1)
    counted = labels != IGNORED
    if not counted.any():
        return np.full_like(logits, np.nan)
    shares = softmax(logits)
    shares[np.arange(len(labels)), np.where(counted, labels, 0)] -= 1
    return shares * (counted[:, None] / logits.dtype.type(counted.sum()))


def smoothed(labels: np.ndarray, K: int, smoothing: float, dtype: npt.DTypeLike = np.float64) -> np.ndarray:
    """The target probabilities of labels with label smoothing.  (B,) -> (B, K)   Szegedy et al. 2015, section 7

    The class of the label has the probability 1 - smoothing + smoothing / K, and any other class smoothing / K.

    >>> smoothed(np.array([1]), 4, 0.2)
    array([[0.05, 0.85, 0.05, 0.05]])
    """
    targets = np.full((len(labels), K), smoothing / K, dtype)
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    return targets


def soft_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.floating, np.ndarray]:
    """The mean of -sum(targets * log(softmax(logits))) over the batch, and its gradient.

    `logits` and `targets` have the shape (B, K). A row of `targets` has the probability of each class. The gradient is
    (softmax(logits) * sum(targets) - targets) / B.

    >>> loss, gradient = soft_cross_entropy(np.zeros((1, 2)), np.array([[0.25, 0.75]]))
    >>> round(float(loss), 4), gradient
    (0.6931, array([[ 0.25, -0.25]]))
    """
    _check_shape("soft cross-entropy", targets, logits.shape)
    targets = targets.astype(logits.dtype)
    x = logits - logits.max(-1, keepdims=True)
    loss = -(targets * (x - np.log(np.exp(x).sum(-1, keepdims=True)))).sum(-1).mean()
    return loss, (softmax(logits) * targets.sum(-1, keepdims=True) - targets) / len(logits)


def binary_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.floating:
    """The mean of -(y log s + (1 - y) log(1 - s)), where s = sigmoid(logits) and y are the labels.

    The logits and the labels have the shape (B, K). The code computes an equal formula that cannot overflow.
    """
    _check_shape("multi-label loss", labels, logits.shape)
    y = labels.astype(logits.dtype)
    return (np.maximum(logits, 0) - logits * y + np.log1p(np.exp(-np.abs(logits)))).mean()


def binary_cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(sigmoid(logits) - labels) / n, where n is the number of logits.  -> (B, K)"""
    return (sigmoid(logits) - labels.astype(logits.dtype)) / logits.size


def _check_shape(what, labels, expected):
    if labels.shape != tuple(expected):
        raise ValueError(f"{what}: labels have shape {labels.shape} and dtype {labels.dtype}; expected shape "
                         f"{tuple(expected)}")
