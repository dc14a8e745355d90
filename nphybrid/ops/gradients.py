"""The gradients of the operations in plain NumPy: one rule for each operation that is not fused.

A network computes a loss, which is a single number. The gradient of an array x is called dx. It has the shape of x, and
each element of dx is the derivative of the loss with respect to the same element of x.

The forward pass computes y = operation(x, …). A rule gets dy, and computes dx. The chain rule says

    dx[i] = sum over j of dy[j] * (derivative of y[j] with respect to x[i])

A rule has the arguments (dy, y, …). y is the result of the operation, and the arguments after y are the arguments of
the operation. A rule returns a tuple: the gradients of the first arguments, in their order. If there is one gradient,
the tuple has one element. None means that an argument has no gradient. The gradient of a `Linear` is a `Linear`, and
the gradient of a `Norm` is a `Norm`. Arguments after the last gradient, such as a stride, have no gradient.

Each docstring repeats the equation of the operation, and then states the equations of the gradients. The letters are:
B images, H rows, W columns, C input channels, O output channels, N rows of a linear layer, T tokens, D the width of a
token, A heads, K = D / A the width of a head. H' and W' are the rows and columns of a result, and KH and KW those of a
kernel. A prime after the name of a function or of a statistic means the derivative.

A rule can return dy itself, or a view of dy. So several arrays can have one array as their gradient, and no function
changes a gradient in place.

record.py calls the rules in the reverse order of the forward pass. gradient_kernels.py has fast versions of the rules.
"""
import math

import numpy as np

from ..params import Linear, Norm
from . import reference


# ------------------------------------------------------------------ linear layers and convolutions

def linear(dy, y, x, p):
    """y[n, o] = the sum over c of x[n, c] W[c, o], plus b[o].  W is p.kernel, and b is p.bias.

    dx = dy @ W.T                                 (N, O) @ (O, C) -> (N, C)
    dW = x.T @ dy                                 (C, N) @ (N, O) -> (C, O)
    db = the sum of dy over the N rows            (N, O) -> (O,)

    x can have more axes than two: (..., C). The axes before the last are then joined into one axis of N rows.
    """
    rows = x.reshape(-1, x.shape[-1])                                                   # (N, C)
    d_rows = dy.reshape(-1, dy.shape[-1])                                               # (N, O)
    dW = rows.T @ d_rows                                                                # (C, O)
    return dy @ p.kernel.T, Linear(dW, None if p.bias is None else d_rows.sum(0))


def conv2d(dy, y, x, kernel, stride, dilation, padding):
    """y[b, h, w] = the sum over all taps (u, v) of x[b, h s + u d, w s + v d] @ kernel[u, v]

    s is the stride, d is the dilation, and x is padded with zeros. A tap is one position (u, v) of the kernel. For one
    tap, y is a linear layer: its N = B H' W' rows are the cells x[b, h s + u d, w s + v d], and its matrix is
    kernel[u, v]. So the rule of `linear` holds for each tap:

    dx at the cells of tap (u, v) += dy @ kernel[u, v].T  (N, O) @ (O, C) -> (N, C)
    dkernel[u, v] = cells.T @ dy                          (C, N) @ (N, O) -> (C, O)

    A tap meets each cell at most once. The cells of different taps overlap, so dx is a sum over the taps. The gradient
    of the zeros of the padding is dropped.
    """
    KH, KW, C, O = kernel.shape
    _, rows, columns, _ = dy.shape                        # H', W'
    around = ((0, 0), *padding, (0, 0))
    padded = np.pad(x, around)
    d_padded = np.zeros_like(padded)
    dkernel = np.empty_like(kernel)
    for u in range(KH):
        for v in range(KW):
            i, j = u * dilation, v * dilation
            cells = (slice(None), slice(i, i + stride * rows, stride), slice(j, j + stride * columns, stride))
            d_padded[cells] += dy @ kernel[u, v].T
            dkernel[u, v] = padded[cells].reshape(-1, C).T @ dy.reshape(-1, O)
    return _without_padding(d_padded, around), dkernel


def _without_padding(dx, widths):
    """Remove widths[axis] = (before, after) elements from both ends of each axis."""
    return dx[tuple(slice(before, n - after) for n, (before, after) in zip(dx.shape, widths))]


# ------------------------------------------------------------------ norms

def _normalize(x, axes, eps):
    """z = (x - mean) / root, and root = sqrt(variance + eps).  The mean and the variance are taken over `axes`."""
    centred = x - x.mean(axes, keepdims=True)
    root = np.sqrt(np.square(centred).mean(axes, keepdims=True) + eps)
    return centred / root, root


def _normalize_gradient(dz, z, root, axes, factor=1):
    """The gradient of z = (x - mean) / root, for n elements that share one mean and one root.

    dx = (dz - mean(dz) - z * mean(dz * z)) / root

    An element x[i] changes each z[j] in three ways, which give the three terms:

    directly, if i = j:           1 / root
    through the mean:             -mean' / root           with mean' = 1 / n
    through the root:             -z[j] * root' / root    with root' = variance' / (2 root) = z[i] / n,
                                                          because variance' = 2 (x[i] - mean) / n

    The product with dz[j], summed over j, is dx[i]. `factor` multiplies the third term (`standardize` explains when).
    """
    through_mean = dz.mean(axes, keepdims=True)
    through_root = factor * z * (dz * z).mean(axes, keepdims=True)
    return (dz - through_mean - through_root) / root


def standardize(dy, y, kernel, eps, form="variance"):
    """y = (kernel - mean) / root, for each output channel.  (KH, KW, C, O) -> (KH, KW, C, O)

    dkernel = `_normalize_gradient` of dy

    The mean is taken over KH, KW and C. If form is "variance", root = sqrt(variance + eps). If form is "deviation",
    root = s + eps, where s = sqrt(variance). Then root' = variance' / (2 s) instead of variance' / (2 root), so the
    third term is multiplied by root / s. If s is 0, y is 0, and so is the third term.
    """
    axes = (0, 1, 2)                      # all axes except O
    centred = kernel - kernel.mean(axes, keepdims=True)
    variance = np.square(centred).mean(axes, keepdims=True)
    if form == "variance":
        return _normalize_gradient(dy, y, np.sqrt(variance + eps), axes),
    deviation = np.sqrt(variance)
    root = deviation + eps
    factor = root / np.where(deviation > 0, deviation, 1)
    return _normalize_gradient(dy, y, root, axes, factor),


def group_norm(dy, y, x, norm, groups, eps):
    """y = z * scale + bias, where z = (x - mean) / sqrt(variance + eps) for each group of each image.

    dscale = the sum of dy * z                    over images, rows and columns, -> (C,)
    dbias  = the sum of dy                        over images, rows and columns, -> (C,)
    dz     = dy * scale                           (B, H, W, C)
    dx     = `_normalize_gradient` of dz          (B, H, W, C)

    A group is C / groups neighbouring channels. scale and bias have the shape (C,). z is computed again from x.
    """
    B, H, W, C = x.shape
    grouped = (B, H, W, groups, C // groups)
    z, root = _normalize(x.reshape(grouped), (1, 2, 4), eps)
    dx = _normalize_gradient((dy * norm.scale).reshape(grouped), z, root, (1, 2, 4)).reshape(x.shape)
    dscale = (dy * z.reshape(x.shape)).sum((0, 1, 2))
    return dx, Norm(dscale, dy.sum((0, 1, 2)))


def layer_norm(dy, y, x, norm, eps):
    """y = z * scale + bias, where z = (x - mean) / sqrt(variance + eps) for each token.

    dscale = the sum of dy * z                    over all tokens, -> (D,)
    dbias  = the sum of dy                        over all tokens, -> (D,)
    dz     = dy * scale                           (..., D)
    dx     = `_normalize_gradient` of dz          (..., D)

    A token is one vector of x, of length D. scale and bias have the shape (D,).
    """
    tokens = tuple(range(x.ndim - 1))     # all axes except D
    z, root = _normalize(x, (-1,), eps)
    dx = _normalize_gradient(dy * norm.scale, z, root, (-1,))
    return dx, Norm((dy * z).sum(tokens), dy.sum(tokens))


# ------------------------------------------------------------------ pooling

def max_pool(dy, y, x, padding, fill):
    """y = the largest of the 3 x 3 cells of each window.  The stride is 2, and the padding has the value `fill`.

    dx = dy at the cell with the largest value, and 0 at the other cells. If several cells of a window have the largest
    value, only the first of them gets dy. The first cell is found row by row; PyTorch uses the same order. If the first
    is a cell of the padding, or if y is NaN, dy is dropped. A cell that is in several windows gets the sum.
    """
    _, rows, columns, _ = y.shape                         # H', W'
    around = ((0, 0), *padding, (0, 0))
    padded = np.pad(x, around, constant_values=fill)
    d_padded = np.zeros_like(padded)
    not_found = np.ones(y.shape, bool)                    # the windows whose largest value was not found yet
    for u in range(3):
        for v in range(3):
            cells = (slice(None), slice(u, u + 2 * rows, 2), slice(v, v + 2 * columns, 2))
            found = not_found & (padded[cells] == y)
            d_padded[cells] += np.where(found, dy, 0)
            not_found &= ~found
    return _without_padding(d_padded, around),


def mean_pool(dy, y, x):
    """y = the mean of the H W cells, so dx = dy / (H W) at each cell.  dy (B, C) -> dx (B, H, W, C)"""
    _, H, W, _ = x.shape
    return np.broadcast_to(dy[:, None, None] / (H * W), x.shape),


# ------------------------------------------------------------------ attention and activations

def attention(dy, y, query, key, value, heads):
    """In each head: scores = q @ k.T / sqrt(K), weights = softmax(scores), y = weights @ v.

    In each head, y and dy are the (T, K) parts of the arguments. The forward pass has three steps, and the gradients
    follow in reverse order:

    dv       = weights.T @ dy                     (T, T) @ (T, K) -> (T, K)
    dweights = dy @ v.T                           (T, K) @ (K, T) -> (T, T)
    dscores  = `softmax_gradient` of dweights     (T, T)
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
    dscores = softmax_gradient(dy @ transposed(v), weights)                             # (B, A, T, T)
    dq = dscores @ k / math.sqrt(K)                                                     # (B, A, T, K)
    dk = transposed(dscores) @ q / math.sqrt(K)                                         # (B, A, T, K)
    return joined(dq), joined(dk), joined(dv)


def softmax_gradient(dy, y):
    """The gradient of y = exp(x) / sum(exp(x)) along the last axis, as one array.

    dx = y * (dy - sum(dy * y))

    The derivative of y[j] with respect to x[i] is y[i] (if i = j) - y[j] y[i]. The first part comes from the numerator,
    and the second part from the sum in the denominator. The product with dy[j], summed over j, is dx[i].
    """
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def activate(dy, y, x, activation):
    """y = f(x), and dx = dy * f'(x), for each element.  f and f' are in reference.ACTIVATIONS."""
    return dy * reference.ACTIVATIONS[activation].derivative(x),


# ------------------------------------------------------------------ operations of NumPy

def add(dy, y, a, b):
    """y = a + b, so da = dy and db = dy.  A gradient is summed over the axes along which its argument was copied."""
    return _summed(dy, a), _summed(dy, b)


def multiply(dy, y, a, b):
    """y = a * b, so da = dy * b and db = dy * a.  A gradient is summed as in `add`."""
    return _summed(dy * b, a), _summed(dy * a, b)


def where(dy, y, condition, a, b):
    """y = a where the condition is True, else b.  So da is dy where it is True, and db is dy where it is False."""
    return None, _summed(np.where(condition, dy, 0), a), _summed(np.where(condition, 0, dy), b)


def broadcast_to(dy, y, x, shape):
    """y has copies of x, so dx is the sum of dy over all copies."""
    return _summed(dy, x),


def pad(dy, y, x, widths):
    """y = x with zeros around it.  The gradient of the zeros is dropped.  widths = (before, after) of each axis"""
    return _without_padding(dy, widths),


def concatenate(dy, y, arrays, axis):
    """y = the arrays one after the other along an axis.  Each array gets its part of dy.  -> a tuple with one list"""
    ends = np.cumsum([x.shape[axis] for x in arrays])
    return np.split(dy, ends[:-1], axis),


def getitem(dy, y, x, index):
    """y = x[index], so dx[index] = dy, and dx is 0 at all other places.  The index must not select a place twice."""
    dx = np.zeros(x.shape, dy.dtype)
    dx[index] = dy
    return dx,


def reshape(dy, y, x, shape):
    """y has the elements of x in the same order, so dx is dy in the shape of x."""
    return dy.reshape(x.shape),


def transpose(dy, y, x, axes):
    """Axis k of y is axis axes[k] of x.  `argsort` computes the inverse order.  No axis is negative."""
    return dy.transpose(np.argsort(axes)),


def _summed(dy, x):
    """Sum dy over the axes along which x was copied (broadcast).  The result has the shape of x."""
    shape = np.shape(x)
    if shape == dy.shape:                 # a sum over no axis would copy dy
        return dy
    dy = dy.sum(tuple(range(dy.ndim - len(shape))))       # the axes that x does not have
    repeated = tuple(axis for axis, n in enumerate(shape) if n == 1 and dy.shape[axis] != 1)
    return dy.sum(repeated, keepdims=True)


# The rules of the operations. A fused operation computes several operations in one function. It has no rule here,
# because record.py replaces it by operations that have rules.
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
