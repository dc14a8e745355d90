"""Fast versions of weight standardization and of its gradient, with sums in float64.

`standardize` of reference.py and of gradients.py are the plain definitions. A kernel (KH, KW, C, O) is a matrix with n
rows, one for each tap and input channel, and O columns. A task computes WIDTH columns. The rows of a column are added
up one after the other, so the bits do not depend on the number of threads.

The loops that add up are in the functions that make the sums. There LLVM knows that the sums do not overlap with the
kernel, and vectorizes the loops. In functions of their own, these loops take 3 to 5 times as long (a kernel
(3, 3, 256, 256), Zen 5, one thread).
"""
import numpy as np

from . import threads
from .checks import floats
from .emit import wide
from .integers import ceil_div
from .jit import jit_allocating
from .memory import empty

WIDTH = 64


def standardize(kernel, eps, form="variance"):
    """Standardize a kernel.  Each weight is rounded once, to float32.  -> float32 (KH, KW, C, O)

    A float64 kernel is not rounded before.
    """
    O = kernel.shape[-1]
    kernel = np.ascontiguousarray(kernel, np.float64 if kernel.dtype == np.float64 else np.float32)
    y = empty(*kernel.shape)
    threads.run(ceil_div(O, WIDTH), _standardize_into, threads.ELEMENT * kernel.size,
                (y.reshape(-1, O), kernel.reshape(-1, O), eps, form == "deviation"))
    return y


@jit_allocating
def _standardize_into(y, kernel, eps, deviation, number):
    """y = (kernel - mean) / root, for the columns of one task"""
    wide()
    n, O = kernel.shape
    first = number * WIDTH
    mean, root, _ = _statistics(kernel, eps, deviation, first, min(WIDTH, O - first))
    for i in range(n):
        row = kernel[i, first:first + mean.size]
        to = y[i, first:first + mean.size]
        for j in range(mean.size):
            to[j] = (row[j] - mean[j]) / root[j]


@jit_allocating
def _statistics(kernel, eps, deviation, first, width):
    """The mean and the root of `width` columns, and the factor that `gradients.standardize` explains."""
    wide()
    n = kernel.shape[0]
    mean = np.zeros(width)
    root = np.zeros(width)
    factor = np.ones(width)
    for i in range(n):
        row = kernel[i, first:first + width]
        for j in range(width):
            mean[j] += row[j]
    for j in range(width):
        mean[j] /= n
    for i in range(n):
        row = kernel[i, first:first + width]
        for j in range(width):
            centred = row[j] - mean[j]
            root[j] += centred * centred
    for j in range(width):
        variance = root[j] / n
        if deviation:
            root[j] = np.sqrt(variance) + eps
            if variance > 0:
                factor[j] = root[j] / np.sqrt(variance)
        else:
            root[j] = np.sqrt(variance + eps)
    return mean, root, factor


def standardize_gradient(dy, y, kernel, eps, form="variance"):
    """The rule `gradients.standardize`."""
    O = kernel.shape[-1]
    dy = floats(dy, "dy", kernel.shape)
    dkernel = empty(*kernel.shape)
    threads.run(ceil_div(O, WIDTH), _gradient_into, threads.ELEMENT * kernel.size,
                (*(array.reshape(-1, O) for array in (dkernel, dy, floats(y), floats(kernel))), eps,
                 form == "deviation"))
    return dkernel,


@jit_allocating
def _gradient_into(dkernel, dy, y, kernel, eps, deviation, number):
    """dkernel = (dy - mean(dy) - factor * y * mean(dy * y)) / root, for the columns of one task"""
    wide()
    n, O = kernel.shape
    first = number * WIDTH
    width = min(WIDTH, O - first)
    _, root, factor = _statistics(kernel, eps, deviation, first, width)
    total = np.zeros(width)
    product = np.zeros(width)
    for i in range(n):
        d = dy[i, first:first + width]
        z = y[i, first:first + width]
        for j in range(width):
            total[j] += d[j]
            product[j] += np.float64(d[j]) * z[j]
    for i in range(n):
        d = dy[i, first:first + width]
        z = y[i, first:first + width]
        to = dkernel[i, first:first + width]
        for j in range(width):
            to[j] = (d[j] - total[j] / n - factor[j] * z[j] * (product[j] / n)) / root[j]
