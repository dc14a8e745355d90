"""The definitions of the operations in plain NumPy, for float32 or float64.

`kernels.py` computes the operations fast. If `kernels.py` and `reference.py` disagree, `reference.py` is right. Every
function takes and returns arrays of one dtype, with the channels on the last axis. Scalars are Python floats, because a
NumPy float64 would turn float32 arrays into float64.
"""
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..params import tree_map


def ready(name, array, config, dtype=np.float32, precision="highest", array_of=None):
    """Return a copy of a learned array in `dtype`, in the form that the operations need.

    The kernel of a convolution is returned with its weights standardized. Only kernels.py uses the argument
    `precision`, and only the dtype int8 uses `array_of` (reference_narrow.py).
    """
    array = np.array(array, dtype, order="C")
    return standardize(array, config.ws_eps, config.ws_form) if array.ndim == 4 else array


def prepare(params, config, dtype=np.float32, precision="highest"):
    """Apply `ready` to every array of a parameter tree.  Params -> Params

    Only kernels.py uses the argument `precision`.
    """
    return tree_map(lambda name, array: ready(name, array, config, dtype), params)


def standardize(kernel, eps, form="variance"):
    """Give each output channel of a kernel mean 0 and variance 1.  (KH, KW, C, O) -> (KH, KW, C, O)

    The variance is a sum of squares divided by n = KH * KW * C. If form is "variance", eps is added to the variance,
    under the square root. If form is "deviation", eps is added to the square root of the variance. Qiao et al. 2019,
    eq. 6; vit_jax/models_resnet.py.
    """
    axes = tuple(range(kernel.ndim - 1))  # all axes except O
    kernel = kernel - kernel.mean(axes, keepdims=True)
    variance = np.square(kernel).mean(axes, keepdims=True)
    return kernel / (np.sqrt(variance) + eps if form == "deviation" else np.sqrt(variance + eps))


def conv2d(x, kernel, stride, dilation, padding):
    """Slide a kernel over maps that are padded with zeros.  x (B, H, W, C), kernel (KH, KW, C, O) -> (B, H', W', O)

    `padding` is ((top, bottom), (left, right)).
    """
    KH, KW, C, O = kernel.shape
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    B, H, W, _ = x.shape
    rows, columns = ((n - dilation * (k - 1) - 1) // stride + 1 for n, k in ((H, KH), (W, KW)))
    y = np.zeros((B, rows, columns, O), x.dtype)
    for u in range(KH):
        for v in range(KW):
            i, j = u * dilation, v * dilation
            y += x[:, i:i + stride * rows:stride, j:j + stride * columns:stride] @ kernel[u, v]
    return y


def max_pool(x, padding, fill):
    """The largest value of each 3x3 window, with stride 2.  (B, H, W, C) -> (B, H', W', C)

    Each cell of the padding has the value `fill`.
    """
    x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    rows, columns = ((n - 3) // 2 + 1 for n in x.shape[1:3])
    windows = [x[:, u:u + 2 * rows:2, v:v + 2 * columns:2] for u in range(3) for v in range(3)]
    return np.maximum.reduce(windows)


def mean_pool(x):
    """The mean over the cells of each map.  (B, H, W, C) -> (B, C)"""
    return x.mean((1, 2))


def group_norm(x, norm, groups, eps):
    """Normalize each image over each group of neighbouring channels.  (B, H, W, C) -> (B, H, W, C)

    A group of an image has H * W * C / groups values. The variance of a group is a sum of squares divided by the number
    of values. Wu & He 2018, section 3.1.
    """
    B, H, W, C = x.shape
    x = x.reshape(B, H, W, groups, C // groups)
    mean = x.mean((1, 2, 4), keepdims=True)
    variance = np.square(x - mean).mean((1, 2, 4), keepdims=True)
    return ((x - mean) / np.sqrt(variance + eps)).reshape(B, H, W, C) * norm.scale + norm.bias


def group_norm_activate(x, norm, groups, eps, activation):
    """activation(group_norm(x)).  (B, H, W, C) -> (B, H, W, C)"""
    return activate(group_norm(x, norm, groups, eps), activation)


def group_norm_add_activate(x, norm, groups, eps, shortcut, activation):
    """activation(group_norm(x) + shortcut).  x, shortcut (B, H, W, C) -> (B, H, W, C)"""
    return activate(group_norm(x, norm, groups, eps) + shortcut, activation)


def layer_norm(x, norm, eps):
    """Normalize each token over its width.  (B, T, D) -> (B, T, D)   Ba et al. 2016, eq. 4"""
    mean = x.mean(-1, keepdims=True)
    variance = np.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * norm.scale + norm.bias


def linear(x, p):
    """x @ kernel + bias.  x (..., C), kernel (C, O) -> (..., O)"""
    y = x @ p.kernel
    return y if p.bias is None else y + p.bias


def linear_activate(x, p, activation):
    """activation(linear(x)).  (..., C) -> (..., O)"""
    return activate(linear(x, p), activation)


def linear_add(x, p, residual):
    """linear(x) + residual.  x (..., C), residual (..., O) -> (..., O)"""
    return linear(x, p) + residual


def attention(query, key, value, heads):
    """Compute softmax(query @ key.T / sqrt(K)) @ value in each head.  three (B, T, D) -> (B, T, D)   ViT eq. 6-8

    K = D / heads is the width of a head. The results of all heads are joined, as in equation 8. The projection in
    equation 8 is not computed. The number Q of queries can differ from the number T of keys and values: `query` and the
    result are (B, Q, D), and the weights are (B, A, Q, T). Gradients need as many queries as keys.
    """
    return attention_with_weights(query, key, value, heads)[0]


def attention_with_weights(query, key, value, heads):
    """Compute `attention` and the attention weights.  three (B, T, D) -> context (B, T, D), weights (B, A, T, T)"""
    B, _, D = query.shape
    q, k, v = (x.reshape(B, x.shape[1], heads, D // heads).transpose(0, 2, 1, 3) for x in (query, key, value))
    weights = softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(D // heads))
    return (weights @ v).transpose(0, 2, 1, 3).reshape(query.shape), weights


def softmax(x):
    """exp(x) / sum(exp(x)) along the last axis, without overflow in exp.  (..., T) -> (..., T)"""
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def activate(x, activation):
    """Apply an activation of ACTIVATIONS, given by its name, to each element of x.  (...) -> (...)"""
    return ACTIVATIONS[activation].function(x)


def relu(x):
    """max(0, x)"""
    return np.maximum(x, 0)


def relu_derivative(x):
    """1 for x > 0, else 0.  The derivative at 0 is not defined, and PyTorch also chooses 0."""
    return (x > 0).astype(x.dtype)


def gelu(x):
    """x * Phi(x), where Phi is the distribution function of N(0, 1).  Hendrycks & Gimpel 2016, eq. 1"""
    return _erfc(-x / math.sqrt(2)) * x / 2


def gelu_derivative(x):
    """Phi(x) + x * phi(x), where phi = Phi' is the density of N(0, 1)."""
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return _erfc(-x / math.sqrt(2)) / 2 + x * density


def gelu_tanh(x):
    """The tanh approximation of GELU, x / 2 * (1 + tanh(u)).  Hendrycks & Gimpel 2016, section 2"""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def gelu_tanh_derivative(x):
    """(1 + tanh(u)) / 2 + x / 2 * (1 - tanh(u)^2) * u', where u = sqrt(2 / pi) * (x + 0.044715 x^3)."""
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x ** 2)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t) * (1 + t) * slope


def quick_gelu(x):
    """x * sigmoid(1.702 x).  Hendrycks & Gimpel 2016, section 2"""
    return x * sigmoid(1.702 * x)


def quick_gelu_derivative(x):
    """s + 1.702 x * s * (1 - s), where s = sigmoid(1.702 x)."""
    s = sigmoid(1.702 * x)
    return s + 1.702 * x * s * (1 - s)


def selu(x):
    """scale * x if x > 0, else scale * alpha * (exp(x) - 1).  Klambauer et al. 2017, eq. 2"""
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))


def selu_derivative(x):
    """scale if x > 0, else scale * alpha * exp(x)."""
    return SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(np.minimum(x, 0)))


def silu(x):
    """x * sigmoid(x)"""
    return x * sigmoid(x)


def silu_derivative(x):
    """s + x * s * (1 - s), where s = sigmoid(x)."""
    s = sigmoid(x)
    return s + x * s * (1 - s)


def tanh_derivative(x):
    """1 - tanh(x)^2"""
    t = np.tanh(x)
    return (1 - t) * (1 + t)


def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow for large |x|"""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def sigmoid_derivative(x):
    """s * (1 - s), where s = sigmoid(x)."""
    s = sigmoid(x)
    return s * (1 - s)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848

# NumPy has no erfc. Python's math.erfc is correct to the last bits of float64.
_erfc_float64 = np.frompyfunc(math.erfc, 1, 1)


def _erfc(x):
    return _erfc_float64(x.astype(np.float64)).astype(np.float64).astype(x.dtype)


class Activation(NamedTuple):
    """A function of one number, and its derivative.  Both are computed for each element of an array."""
    function: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]


ACTIVATIONS = {
    "gelu": Activation(gelu, gelu_derivative),
    "gelu_new": Activation(gelu_tanh, gelu_tanh_derivative),
    "gelu_pytorch_tanh": Activation(gelu_tanh, gelu_tanh_derivative),
    "quick_gelu": Activation(quick_gelu, quick_gelu_derivative),
    "relu": Activation(relu, relu_derivative),
    "selu": Activation(selu, selu_derivative),
    "silu": Activation(silu, silu_derivative),
    "tanh": Activation(np.tanh, tanh_derivative),
    "sigmoid": Activation(sigmoid, sigmoid_derivative),
}
