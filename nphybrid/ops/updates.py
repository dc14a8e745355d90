"""Updates of learned arrays in place, and the squared length of a gradient, in float32, with one pass over memory.

training/optimizers.py defines the updates in NumPy. An element is updated independently of all other elements. Sums are
added up in the order of the chunks. So the bits do not depend on the number of threads.
"""
import numpy as np

from . import threads
from .chunks import CHUNK
from .emit import wide
from .integers import ceil_div
from .jit import jit
from .reductions import moments


def _flat(x, name):
    """A flat view of an array that is changed in place."""
    if not x.flags.c_contiguous:
        raise ValueError(f"{name} has shape {x.shape} and strides {x.strides}; expected a contiguous array")
    return x.reshape(-1)


def adamw(w, m, v, g, numbers):
    """Update an array w and its two moments m and v.  `numbers`: as in `optimizers.AdamW.numbers`"""
    w, m, v, g = _flat(w, "w"), _flat(m, "m"), _flat(v, "v"), np.ascontiguousarray(g).reshape(-1)
    numbers = numbers.astype(np.float32)

    def task(i):
        part = slice(i * CHUNK, (i + 1) * CHUNK)
        _adamw_in(w[part], m[part], v[part], g[part], numbers)
    threads.run(ceil_div(w.size, CHUNK), task, threads.ELEMENT * w.size)


@jit
def _adamw_in(w, m, v, g, numbers):
    wide()
    keep = numbers[0]
    new_m = numbers[1]
    old_v = numbers[2]
    new_v = numbers[3]
    step = numbers[4]
    root = numbers[5]
    eps = numbers[6]
    for i in range(w.size):
        m[i] += (g[i] - m[i]) * new_m
        v[i] = v[i] * old_v + g[i] * g[i] * new_v
        w[i] = w[i] * keep - step * m[i] / (np.sqrt(v[i]) * root + eps)


def sgd(w, velocity, g, rate, momentum, decay):
    """Update an array w and its velocity.  `rate`, `momentum` and `decay`: as in `optimizers.SGD`"""
    w, velocity, g = _flat(w, "w"), _flat(velocity, "velocity"), np.ascontiguousarray(g).reshape(-1)
    numbers = np.array([rate, momentum, decay], np.float32)

    def task(i):
        part = slice(i * CHUNK, (i + 1) * CHUNK)
        _sgd_in(w[part], velocity[part], g[part], numbers)
    threads.run(ceil_div(w.size, CHUNK), task, threads.ELEMENT * w.size)


@jit
def _sgd_in(w, velocity, g, numbers):
    wide()
    rate = numbers[0]
    momentum = numbers[1]
    decay = numbers[2]
    for i in range(w.size):
        velocity[i] = velocity[i] * momentum + (g[i] + w[i] * decay)
        w[i] -= rate * velocity[i]


def average(mean, w, share):
    """mean += (w - mean) * share"""
    mean = _flat(mean, "mean")
    w = np.ascontiguousarray(w).reshape(-1)
    share = np.float32(share)

    def task(i):
        part = slice(i * CHUNK, (i + 1) * CHUNK)
        _average_in(mean[part], w[part], share)
    threads.run(ceil_div(w.size, CHUNK), task, threads.ELEMENT * w.size)


@jit
def _average_in(mean, w, share):
    wide()
    for i in range(w.size):
        mean[i] += (w[i] - mean[i]) * share


def square_sum(g):
    """The sum of the squares of all elements, in float64."""
    g = np.ascontiguousarray(g).reshape(-1)
    sums = np.empty(ceil_div(g.size, CHUNK))

    def task(i):
        sums[i] = _square_sum(g[i * CHUNK:(i + 1) * CHUNK])
    threads.run(sums.size, task, threads.ELEMENT * g.size)
    return float(sums.sum())


@jit
def _square_sum(g):
    return moments(g)[1]
