"""Every operation defined a second time: loops over single float64 numbers."""
import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np


def mean_by_loop(numbers):
    return math.fsum(numbers) / len(numbers)


def normalized(numbers, eps):
    """(x - mean) / sqrt(variance + eps), the variance divided by n."""
    mean = mean_by_loop(numbers)
    variance = mean_by_loop([(x - mean) ** 2 for x in numbers])
    return [(x - mean) / math.sqrt(variance + eps) for x in numbers]


def standardize(kernel, eps):
    y = np.empty_like(kernel)
    for o in range(kernel.shape[3]):
        y[..., o] = np.reshape(normalized(kernel[..., o].ravel().tolist(), eps), kernel.shape[:3])
    return y


def window(x, b, i, j, c, fill):
    """The cell (i, j) of a map, or fill beyond its border."""
    return float(x[b, i, j, c]) if 0 <= i < x.shape[1] and 0 <= j < x.shape[2] else fill


def places(n, taps, stride, dilation, pad):
    """Where a window of taps may start on a padded axis of n cells, in cells of the unpadded axis."""
    return [i for i in range(-pad[0], n + pad[1], stride) if i + dilation * (taps - 1) < n + pad[1]]


def conv2d(x, kernel, stride, dilation, padding):
    KH, KW, C, O = kernel.shape
    rows, columns = (places(n, k, stride, dilation, pad)
                     for n, k, pad in zip(x.shape[1:3], (KH, KW), padding))
    y = np.empty((len(x), len(rows), len(columns), O))
    for b, (h, i), (w, j), o in product(range(len(x)), enumerate(rows), enumerate(columns), range(O)):
        y[b, h, w, o] = math.fsum(float(kernel[u, v, c, o])
                                  * window(x, b, i + u * dilation, j + v * dilation, c, 0.0)
                                  for u in range(KH) for v in range(KW) for c in range(C))
    return y


def max_pool(x, padding, fill):
    rows, columns = (places(n, 3, 2, 1, pad) for n, pad in zip(x.shape[1:3], padding))
    y = np.empty((len(x), len(rows), len(columns), x.shape[3]))
    B, _, _, C = x.shape
    for b, (h, i), (w, j), c in product(range(B), enumerate(rows), enumerate(columns), range(C)):
        y[b, h, w, c] = max(window(x, b, i + u, j + v, c, fill) for u in range(3) for v in range(3))
    return y


def mean_pool(x):
    B, _, _, C = x.shape
    return np.array([[mean_by_loop(x[b, :, :, c].ravel().tolist()) for c in range(C)] for b in range(B)])


def group_norm(x, norm, groups, eps):
    B, _, _, C = x.shape
    y = np.empty(x.shape)
    for b, g in product(range(B), range(groups)):
        channels = slice(g * C // groups, (g + 1) * C // groups)
        part = x[b, :, :, channels]
        y[b, :, :, channels] = np.reshape(normalized(part.ravel().tolist(), eps), part.shape)
    for c in range(C):
        y[..., c] = y[..., c] * float(norm.scale[c]) + float(norm.bias[c])
    return y


def layer_norm(x, norm, eps):
    y = np.empty(x.shape)
    for b, t in product(*map(range, x.shape[:2])):
        for d, number in enumerate(normalized(x[b, t].tolist(), eps)):
            y[b, t, d] = number * float(norm.scale[d]) + float(norm.bias[d])
    return y


def linear(x, p):
    y = np.empty((*x.shape[:-1], p.kernel.shape[1]))
    for place in np.ndindex(y.shape):
        row, column = x[place[:-1]], p.kernel[:, place[-1]]
        y[place] = math.fsum(float(a) * float(w) for a, w in zip(row, column))
        y[place] += 0 if p.bias is None else float(p.bias[place[-1]])
    return y


def attention_with_weights(query, key, value, heads):
    B, T, D = query.shape
    K = D // heads
    context, weights = np.empty((B, T, D)), np.empty((B, heads, T, T))
    for b, a, t in product(range(B), range(heads), range(T)):
        head = range(a * K, (a + 1) * K)
        scores = [math.fsum(query[b, t, k] * key[b, s, k] for k in head) / math.sqrt(K) for s in range(T)]
        total = math.fsum(map(math.exp, scores))
        weights[b, a, t] = [math.exp(score) / total for score in scores]
        for k in head:
            context[b, t, k] = math.fsum(weights[b, a, t, s] * value[b, s, k] for s in range(T))
    return context, weights


def logistic(x):
    """1 / (1 + exp(-x)), also where Python's exp would raise an error."""
    if x < -700:
        return 0.0
    return 1 / (1 + math.exp(-x))


def cubic(x):
    """x + 0.044715 x^3, also where Python's power would raise an error."""
    if abs(x) > 1e100:
        return math.copysign(math.inf, x)
    return x + 0.044715 * x ** 3


def gelu(x):
    return x * 0.5 * math.erfc(-x / math.sqrt(2))


def quick_gelu(x):
    return x * logistic(1.702 * x)


def relu(x):
    return x if x > 0 or math.isnan(x) else 0.0


def selu(x):
    return 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x))


def silu(x):
    return x * logistic(x)


def gelu_tanh(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * cubic(x)))


def gelu_derivative(x):
    return 0.5 * math.erfc(-x / math.sqrt(2)) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def gelu_tanh_derivative(x):
    slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return of_product(x, 2 * math.sqrt(2 / math.pi) * cubic(x), slope)


def quick_gelu_derivative(x):
    return of_product(x, 1.702 * x, 1.702)


def silu_derivative(x):
    return of_product(x, x, 1)


def of_product(x, v, slope):
    """The derivative of x * logistic(v), where slope is the derivative of v."""
    return logistic(v) + x * logistic_derivative(v) * slope


def relu_derivative(x):
    return 1.0 if x > 0 else 0.0


def selu_derivative(x):
    return 1.0507009873554805 * (1 if x > 0 else 1.6732632423543772 * math.exp(x))


def tanh_derivative(x):
    return 4 * logistic_derivative(2 * x)


def logistic_derivative(x):
    return logistic(x) * logistic(-x)


class Activation(NamedTuple):
    """An activation's definition for one float64 number, its limits, and the bounds of its float32 kernel's error.

    The error is bounded twice over [-12, 12] (tests/ops/test_elementwise.py): by `ulp` units in the last place for
    x >= `near`, where the function is not close to 0, and by `below` max(1, |x|) for x < near. `steep` bounds the
    error of the derivative's float32 kernel.
    """
    definition: Callable
    derivative: Callable
    at_minus_infinity: float              # x * 0 is NaN there, as in PyTorch
    at_infinity: float
    ulp: float
    near: float
    below: float
    steep: float


NAN, INF = math.nan, math.inf
SELU_LIMIT = -1.0507009873554805 * 1.6732632423543772

TAIL = 2.0 ** -22                         # observed: gelu 1.3e-7, the others at most 4e-8

# One row per activation of reference.ACTIVATIONS; without its row a new activation fails.
# Observed:             ulp   steep
# gelu                  2.6   1.6e-7
# gelu_new              2.8   2.0e-7
# quick_gelu            2.3   1.8e-7
# relu                  0     0
# selu                  1.9   2.0e-7
# silu                  2.3   1.9e-7
# tanh                  4.7   2.2e-7
# sigmoid               2.0   5.3e-8
ACTIVATIONS = {
    "gelu": Activation(gelu, gelu_derivative, NAN, INF, ulp=4, near=-1, below=TAIL, steep=3e-7),
    "gelu_new": Activation(gelu_tanh, gelu_tanh_derivative, NAN, INF, ulp=8, near=-1, below=TAIL, steep=3e-7),
    "gelu_pytorch_tanh": Activation(gelu_tanh, gelu_tanh_derivative, NAN, INF, ulp=8, near=-1, below=TAIL, steep=3e-7),
    "quick_gelu": Activation(quick_gelu, quick_gelu_derivative, NAN, INF, ulp=8, near=-1, below=TAIL, steep=3e-7),
    "relu": Activation(relu, relu_derivative, 0, INF, ulp=0, near=-INF, below=0, steep=0),
    "selu": Activation(selu, selu_derivative, SELU_LIMIT, INF, ulp=4, near=-INF, below=0, steep=3e-7),
    "silu": Activation(silu, silu_derivative, NAN, INF, ulp=4, near=-1, below=TAIL, steep=3e-7),
    "tanh": Activation(math.tanh, tanh_derivative, -1, 1, ulp=6, near=-INF, below=0, steep=3e-7),
    "sigmoid": Activation(logistic, logistic_derivative, 0, 1, ulp=4, near=-1, below=TAIL, steep=1e-7),
}


def activate(x, activation):
    definition = ACTIVATIONS[activation].definition
    return np.reshape([definition(number) for number in x.ravel().tolist()], x.shape)


DEFINITIONS = {
    "conv2d": conv2d, "max_pool": max_pool, "mean_pool": mean_pool, "group_norm": group_norm,
    "layer_norm": layer_norm, "linear": linear, "attention_with_weights": attention_with_weights,
    "activate": activate,
    "group_norm_activate": lambda x, norm, groups, eps, name:
        activate(group_norm(x, norm, groups, eps), name),
    "group_norm_add_activate": lambda x, norm, groups, eps, shortcut, name:
        activate(group_norm(x, norm, groups, eps) + shortcut, name),
    "linear_activate": lambda x, p, name: activate(linear(x, p), name),
    "linear_add": lambda x, p, residual: linear(x, p) + residual,
    "attention": lambda *args: attention_with_weights(*args)[0],
}
