"""Attention without the (A, T, T) array: MR queries of one head at a time meet all keys.

    scores (MR, T) = queries (MR, K) @ keys' (K, T)        softmax along the rows, in L1
    context (MR, K) = scores (MR, T) @ values (T, K)       its rows are divided by their sums last, on K instead of T

Both products are the register tile's. It reads the queries where they lie; the keys, transposed, and the values
are packed into panels for each head, and again for each part of its queries that is a task.
"""
import math

import numpy as np

from . import threads
from .checks import floats
from .elementwise import exp_negative
from .emit import wide
from .folds import largest, total
from .jit import jit
from .memory import aligned, empty
from .pack import pack
from .target import MR, NR
from .tile import tile

NO_WEIGHTS = np.zeros((0, 0, 0, 0), np.float32)


def attention(query, key, value, heads):
    """Weights live in cache for MR queries at a time."""
    return _attention(query, key, value, heads, False)[0]


def attention_with_weights(query, key, value, heads):
    """The context has the same bits as attention's."""
    return _attention(query, key, value, heads, True)


def _attention(query, key, value, heads, keep):
    B, T, D = np.shape(query)
    query, key, value = (floats(x, name, (B, T, D))
                         for x, name in ((query, "query"), (key, "key"), (value, "value")))
    if D % heads:
        raise ValueError(f"{heads} heads do not divide a width of {D}")
    context = empty(B, T, D)
    weights = np.empty((B, heads, T, T), np.float32) if keep else NO_WEIGHTS
    scale = np.float32(1 / math.sqrt(D // heads))
    tiles = -(-T // MR)
    work = 2 * B * T * T * D
    n = threads.worth(work)
    # Parts enough that no thread waits long for the last, but of at least 8 tiles, for each packs its head anew.
    parts = max(1, min(tiles // 8, -(-16 * n // max(B * heads, 1)))) if n > 1 else 1

    def task(i):
        i, part = divmod(i, parts)
        b, h = divmod(i, heads)
        first, last = tiles * part // parts, tiles * (part + 1) // parts
        _attend_into(context, weights, query, key, value, b, h, heads, scale, first, last)
    threads.run(B * heads * parts, task, work)
    return context, weights


@jit
def _attend_into(context, weights, query, key, value, b, h, heads, scale, first, last):
    """One head of one image, tiles first..last of MR queries."""
    B, T, D = query.shape
    K = D // heads
    at, width, columns = b * T * D + h * K, (T + NR - 1) // NR * NR, (K + NR - 1) // NR * NR
    zeros, starts, rows = np.zeros(max(K, T), np.float32), np.empty(NR, np.int64), np.arange(MR) * width
    keys, values, scores = aligned(K * width), aligned(T * columns), aligned(MR * width)
    mixed, sums = aligned(MR * NR), np.empty(MR, np.float32)
    for p in range(0, T, NR):
        _tokens_into(starts, at, p, NR, T, D)
        pack(key.reshape(key.size), starts, K, zeros, keys, p * K)
    _pack_values_into(values, value, b, h, K)
    x = query.reshape(query.size)
    for t in range(first, last):
        m, n = t * MR, min(MR, T - t * MR)
        _tokens_into(starts, at, m, MR, T, D)
        for p in range(0, width, NR):
            tile(x, starts, zeros, 1, K, keys, p * K, scores, p, width, scores, 0, 0, 0, scores, 0, 0, 0)
        for i in range(n):
            sums[i] = _softmax_in(scores[i * width:i * width + T], scale)
        for p in range(0, columns, NR):
            tile(scores, rows, zeros, 1, T, values, p * T, mixed, 0, NR, mixed, 0, 0, 0, mixed, 0, 0, 0)
            for i in range(n):
                to = context[b, m + i, h * K + p:h * K + min(p + NR, K)]
                _scale_into(to, mixed[i * NR:(i + 1) * NR], np.float32(1) / sums[i])
        if weights.size:
            for i in range(n):
                _scale_into(weights[b, h, m + i], scores[i * width:(i + 1) * width], np.float32(1) / sums[i])


@jit
def _tokens_into(starts, at, first, count, T, D):
    """Where `count` tokens from `first` on begin; -1 beyond the last."""
    for i in range(count):
        starts[i] = at + (first + i) * D if first + i < T else -1


@jit
def _pack_values_into(values, value, b, h, K):
    """Panels (T, NR) of NR columns; what lies beyond the last column is mixed too, but goes nowhere."""
    T = value.shape[1]
    for p in range(0, K, NR):
        n = min(NR, K - p)
        for t in range(T):
            to, row = values[p * T + t * NR:p * T + t * NR + NR], value[b, t, h * K + p:h * K + p + n]
            for i in range(n):
                to[i] = row[i]
            to[n:] = np.float32(0)


@jit
def _softmax_in(row, scale):
    """row = exp(scale (row - largest)); returns their sum.  A NaN or +infinity makes the sum NaN."""
    wide()
    shift = largest(row)
    for j in range(row.size):
        row[j] = exp_negative(scale * (row[j] - shift))
    return total(row)


@jit
def _scale_into(to, x, factor):
    for i in range(to.size):
        to[i] = x[i] * factor
