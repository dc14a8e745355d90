"""The gradients of the operations in plain NumPy: one rule for each operation.

A network computes a loss, which is a single number. The gradient of an array x is called dx. It has the shape of x, and
each element of dx is the derivative of the loss with respect to the same element of x.

The forward pass computes y = operation(x, …). A rule gets dy, and returns dx. The chain rule says

    dx[i] = sum over j of dy[j] * (derivative of y[j] with respect to x[i])

A rule has the arguments (dy, y, …). y is the result of the operation, and the arguments after y are the arguments of
the operation. A rule returns the gradients of the first arguments, in their order. The gradient of a `Linear` is a
`Linear`, and the gradient of a `Norm` is a `Norm`. Other arguments, such as a stride, have no gradient.

Each docstring repeats the equation of the operation, and then states the equations of the gradients. The letters are
those of reference.py. `record.py` calls the rules in the reverse order of the forward pass. gradient_kernels.py has
fast versions of the rules.
"""
import math

import numpy as np

from ..params import Linear, Norm
from . import reference


# ------------------------------------------------------------------ linear layers and convolutions

def linear(dy, y, x, p):
    """y = x @ W + b, for each of the N rows of x.  W is p.kernel, and b is p.bias.

    dx = dy @ W.T                                 (N, O) @ (O, C) -> (N, C)
    dW = x.T @ dy                                 (C, N) @ (N, O) -> (C, O)
    db = the sum of dy over the N rows            (N, O) -> (O,)

    x can have more axes than two: (..., C). All axes except the last are then the axis of the rows.
    """
    rows = x.reshape(-1, x.shape[-1])                                                   # (N, C)
    d_rows = dy.reshape(-1, dy.shape[-1])                                               # (N, O)
    dW = rows.T @ d_rows                                                                # (C, O)
    return dy @ p.kernel.T, Linear(dW, None if p.bias is None else d_rows.sum(0))


def conv2d(dy, y, x, kernel, stride, dilation, padding):
    """y[b, h, w] = the sum over all taps (u, v) of x[b, h s + u d, w s + v d] @ kernel[u, v]

    s is the stride, d is the dilation, and x is padded with zeros. Each tap is a linear layer with the matrix
    kernel[u, v]. Its rows are every s-th cell of x. So the rule of `linear` holds for each tap, and the gradients dx of
    all taps are added up:

    dx[the cells of tap u, v] += dy @ kernel[u, v].T      (B, H', W', O) @ (O, C) -> (B, H', W', C)
    dkernel[u, v] = cells.T @ dy                          (C, N) @ (N, O) -> (C, O), where N = B H' W'

    The gradient of the zeros of the padding is dropped.
    """
    KH, KW, C, O = kernel.shape
    _, rows, columns, _ = dy.shape
    around = ((0, 0), *padding, (0, 0))
    x = np.pad(x, around)
    dx = np.zeros_like(x)
    dkernel = np.empty_like(kernel)
    for u in range(KH):
        for v in range(KW):
            i, j = u * dilation, v * dilation
            cells = (slice(None), slice(i, i + stride * rows, stride), slice(j, j + stride * columns, stride))
            dx[cells] += dy @ kernel[u, v].T
            dkernel[u, v] = x[cells].reshape(-1, C).T @ dy.reshape(-1, O)
    return _without_padding(dx, around), dkernel


def _without_padding(dx, widths):
    """Remove widths[axis] = (before, after) elements from both ends of each axis."""
    return dx[tuple(slice(before, n - after) for n, (before, after) in zip(dx.shape, widths))]


# ------------------------------------------------------------------ norms

def standardize(dy, y, kernel, eps, form="variance"):
    """y = (kernel - mean) / root, for each output channel.  (KH, KW, C, O) -> (KH, KW, C, O)

    If form is "variance", root = sqrt(variance + eps), and the rule is `_normalized`. If form is "deviation",
    root = s + eps, where s = sqrt(variance). The derivative of the root with respect to the variance is then 1 / (2 s)
    instead of 1 / (2 root), so the last term of `_normalized` is multiplied by root / s.
    """
    axes = (0, 1, 2)                      # all axes except O
    centred = kernel - kernel.mean(axes, keepdims=True)
    variance = np.square(centred).mean(axes, keepdims=True)
    if form == "variance":
        return _normalized(dy, y, np.sqrt(variance + eps), axes),
    deviation = np.sqrt(variance)
    return _normalized(dy, y, deviation + eps, axes, (deviation + eps) / deviation),


def group_norm(dy, y, x, norm, groups, eps):
    """y = z * scale + bias, where z = (x - mean) / sqrt(variance + eps) for each group of each image.

    dscale = the sum of dy * z                    over images, rows and columns, -> (C,)
    dbias  = the sum of dy                        over images, rows and columns, -> (C,)
    dz     = dy * scale                           (B, H, W, C)
    dx     = `_normalized` of dz                  (B, H, W, C)
    """
    B, H, W, C = x.shape
    in_groups = (B, H, W, groups, C // groups)
    z, root = _normalize(x.reshape(in_groups), (1, 2, 4), eps)
    dx = _normalized((dy * norm.scale).reshape(in_groups), z, root, (1, 2, 4)).reshape(x.shape)
    dscale = (dy * z.reshape(x.shape)).sum((0, 1, 2))
    return dx, Norm(dscale, dy.sum((0, 1, 2)))


def layer_norm(dy, y, x, norm, eps):
    """y = z * scale + bias, where z = (x - mean) / sqrt(variance + eps) for each token.

    dscale = the sum of dy * z                    over all tokens, -> (D,)
    dbias  = the sum of dy                        over all tokens, -> (D,)
    dz     = dy * scale                           (..., D)
    dx     = `_normalized` of dz                  (..., D)
    """
    tokens = tuple(range(x.ndim - 1))     # all axes except D
    z, root = _normalize(x, (-1,), eps)
    dx = _normalized(dy * norm.scale, z, root, (-1,))
    return dx, Norm((dy * z).sum(tokens), dy.sum(tokens))


def _normalize(x, axes, eps):
    """z = (x - mean) / root, and root = sqrt(variance + eps).  The mean and the variance are taken over `axes`."""
    centred = x - x.mean(axes, keepdims=True)
    root = np.sqrt(np.square(centred).mean(axes, keepdims=True) + eps)
    return centred / root, root


def _normalized(dz, z, root, axes, factor=1):
    """The gradient dx of z = (x - mean) / root.

    dx = (dz - mean(dz) - z * mean(dz * z)) / root

    Each element of x changes z in three ways: directly, through the mean, and through the root. These are the three
    terms. The means are taken over the n elements that share one mean and one root. The second term follows from
    mean' = 1 / n, and the third term from root' = (x - mean) / (n root) = z / n. `factor` multiplies the third term
    (`standardize` explains when).
    """
    through_mean = dz.mean(axes, keepdims=True)
    through_root = factor * z * (dz * z).mean(axes, keepdims=True)
    return (dz - through_mean - through_root) / root


# ------------------------------------------------------------------ pooling

def max_pool(dy, y, x, padding, fill):
    """y = the largest of the 9 cells of each window.

    dx = dy at the cell with the largest value, and 0 at the other cells. If several cells of a window have the largest
    value, the first of them gets dy. The order of the cells is row by row, as in PyTorch. If the first of them is a
    cell of the padding, dy is dropped. A cell that is in several windows gets the sum.
    """
    _, rows, columns, _ = y.shape
    around = ((0, 0), *padding, (0, 0))
    x = np.pad(x, around, constant_values=fill)
    dx = np.zeros_like(x)
    open_windows = np.ones(y.shape, bool)                 # the windows whose largest value was not found yet
    for u in range(3):
        for v in range(3):
            cells = (slice(None), slice(u, u + 2 * rows, 2), slice(v, v + 2 * columns, 2))
            found = open_windows & (x[cells] == y)
            dx[cells] += np.where(found, dy, 0)
            open_windows &= ~found
    return _without_padding(dx, around),


def mean_pool(dy, y, x):
    """y = the sum over the H W cells, divided by H W.  So each cell gets dy / (H W).  (B, C) -> (B, H, W, C)"""
    _, H, W, _ = x.shape
    return np.broadcast_to(dy[:, None, None] / (H * W), x.shape),


# ------------------------------------------------------------------ attention and activations

def attention(dy, y, query, key, value, heads):
    """In each head: scores = q @ k.T / sqrt(K), weights = softmax(scores), y = weights @ v.

    The forward pass computes three steps. The gradients follow in reverse order:

    dv       = weights.T @ dy                     (T, T) @ (T, K) -> (T, K)
    dweights = dy @ v.T                           (T, K) @ (K, T) -> (T, T)
    dscores  = `softmax` of dweights              (T, T)
    dq       = dscores @ k / sqrt(K)              (T, T) @ (T, K) -> (T, K)
    dk       = dscores.T @ q / sqrt(K)            (T, T) @ (T, K) -> (T, K)
    """
    B, T, D = query.shape
    K = D // heads

    def split(x):
        return x.reshape(B, T, heads, K).transpose(0, 2, 1, 3)                          # (B, A, T, K)

    def joined(x):
        return x.transpose(0, 2, 1, 3).reshape(B, T, D)                                 # (B, T, D)

    def transposed(x):
        return x.transpose(0, 1, 3, 2)

    q, k, v, dy = split(query), split(key), split(value), split(dy)
    weights = reference.softmax(q @ transposed(k) / math.sqrt(K))                       # (B, A, T, T)
    dv = transposed(weights) @ dy                                                       # (B, A, T, K)
    dscores = softmax(dy @ transposed(v), weights) / math.sqrt(K)                       # (B, A, T, T)
    return joined(dscores @ k), joined(transposed(dscores) @ q), joined(dv)


def softmax(dy, y):
    """y = exp(x) / sum(exp(x)) along the last axis.

    dx = y * (dy - sum(dy * y))

    Each element of x changes y through the numerator, which gives y * dy, and through the sum in the denominator, which
    gives -y * sum(dy * y). `attention` uses this rule.
    """
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def activate(dy, y, x, activation):
    """y = f(x), and dx = dy * f'(x), for each element.  f and f' are in reference.ACTIVATIONS."""
    return dy * reference.ACTIVATIONS[activation].derivative(x),


# ------------------------------------------------------------------ operations of NumPy

def add(dy, y, a, b):
    """y = a + b, so da = dy and db = dy.  If an argument was broadcast, its gradient is summed."""
    return _summed(dy, a), _summed(dy, b)


def multiply(dy, y, a, b):
    """y = a * b, so da = dy * b and db = dy * a.  If an argument was broadcast, its gradient is summed."""
    return _summed(dy * b, a), _summed(dy * a, b)


def where(dy, y, condition, a, b):
    """y = a where the condition is True, else b.  The condition has no gradient."""
    return None, _summed(np.where(condition, dy, 0), a), _summed(np.where(condition, 0, dy), b)


def broadcast_to(dy, y, x, shape):
    """y has copies of x, so dx is the sum of dy over all copies."""
    return _summed(dy, x),


def pad(dy, y, x, widths):
    """y = x with zeros around it.  The gradient of the zeros is dropped."""
    return _without_padding(dy, widths),


def concatenate(dy, y, arrays, axis):
    """y = the arrays one after the other along an axis.  Each array gets its part of dy."""
    ends = np.cumsum([x.shape[axis] for x in arrays])
    return np.split(dy, ends[:-1], axis),


def getitem(dy, y, x, index):
    """y = x[index], so dx[index] = dy, and dx is 0 at all other places.  No place is in the index twice."""
    dx = np.zeros(x.shape, dy.dtype)
    dx[index] = dy
    return dx,


def reshape(dy, y, x, shape):
    """y has the elements of x in the same order, and another shape."""
    return dy.reshape(x.shape),


def transpose(dy, y, x, axes):
    """y has the axes of x in the order `axes`.  `argsort` computes the order that restores x."""
    return dy.transpose(np.argsort(axes)),


def _summed(dy, x):
    """Sum dy over the axes along which x was broadcast.  The result has the shape of x."""
    shape = np.shape(x)
    dy = dy.sum(tuple(range(dy.ndim - len(shape))))
    repeated = tuple(axis for axis, n in enumerate(shape) if n == 1 and dy.shape[axis] != 1)
    return dy.sum(repeated, keepdims=True)


# The rules of the operations. A fused operation has no rule: record.py divides it into operations that have rules.
RULES = {
    "standardize": standardize, "conv2d": conv2d, "max_pool": max_pool, "mean_pool": mean_pool,
    "group_norm": group_norm, "layer_norm": layer_norm, "linear": linear, "attention": attention,
    "activate": activate,
}

# The rules of what the network computes with NumPy itself.
NUMPY_RULES = {
    np.add: add, np.multiply: multiply, np.where: where, np.broadcast_to: broadcast_to, np.pad: pad,
    np.concatenate: concatenate, np.ndarray.__getitem__: getitem, np.reshape: reshape, np.transpose: transpose,
}
