"""Updates of learned arrays in place, and the squared length of gradients, in float32, with one pass over memory.

training/optimizers.py defines the updates in NumPy. An element is updated independently of all other elements, and a
sum does not depend on the order of its parts. So the bits do not depend on the number of threads.
"""
import math

import numpy as np

from . import threads
from .chunks import CHUNK
from .emit import wide
from .jit import jit
from .reductions import moments


def update(kernel, calls):
    """Call a kernel of this file for each element of the list `calls`, chunk by chunk.

    An element is a pair (arrays, numbers): the arrays of a call, all of one size, and the array of its numbers. All
    calls are one job, because most learned arrays are small.
    """
    chunks = []
    for arrays, numbers in calls:
        numbers = np.asarray(numbers, np.float32)
        flat = [_flat(x) for x in arrays]
        if len({x.size for x in flat}) > 1:
            raise ValueError(f"expected arrays of one shape, found {', '.join(str(x.shape) for x in arrays)}")
        chunks += [(*(x[start:start + CHUNK] for x in flat), numbers) for start in range(0, flat[0].size, CHUNK)]
    work = threads.ELEMENT * sum(len(chunk[0]) for chunk in chunks)
    threads.run(len(chunks), lambda i: kernel(*chunks[i]), work)


def _flat(x):
    """A flat view of an array.  A copy would not be updated, so an array that is not contiguous is refused."""
    if not x.flags.c_contiguous:
        raise ValueError(f"expected a contiguous array, found the shape {x.shape} and the strides {x.strides}")
    return x.reshape(-1)


@jit
def adamw(w, m, v, g, numbers):
    """The update of `optimizers.AdamW`, with the numbers of `AdamW.numbers`."""
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


@jit
def sgd(w, velocity, g, numbers):
    """The update of `optimizers.SGD`.  The numbers are the learning rate, the momentum and the weight decay."""
    wide()
    rate = numbers[0]
    momentum = numbers[1]
    decay = numbers[2]
    for i in range(w.size):
        velocity[i] = velocity[i] * momentum + (g[i] + w[i] * decay)
        w[i] -= rate * velocity[i]


@jit
def average(mean, w, numbers):
    """mean += (w - mean) * share.  The only number is the share."""
    wide()
    share = numbers[0]
    for i in range(w.size):
        mean[i] += (w[i] - mean[i]) * share


def square_sum(arrays):
    """The sum of the squares of all elements of some arrays, in float64."""
    flat = [np.ascontiguousarray(x).reshape(-1) for x in arrays]
    chunks = [x[start:start + CHUNK] for x in flat for start in range(0, x.size, CHUNK)]
    sums = np.empty(len(chunks))

    def task(i):
        sums[i] = _square_sum(chunks[i])
    threads.run(len(chunks), task, threads.ELEMENT * sum(x.size for x in flat))
    return math.fsum(sums)


@jit
def _square_sum(x):
    return moments(x)[1]
