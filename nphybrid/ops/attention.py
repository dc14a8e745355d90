"""Attention without the (A, T, T) array: NR queries of one head at a time meet all keys.

Scores lie transposed, (T, NR): a query is a lane. So the softmax runs down the rows in whole vectors, and its
result is already the panel of B that the tile reads for the second product:

    scores (T, NR) = keys (T, K) @ queries (K, NR)      context (K, NR) = values' (K, T) @ exp(scores) (T, NR)

The sum of exp(scores) comes out of the same product, from a value that is 1 for every token; the division
by it comes last, on K rows instead of T.
"""
import math

import numpy as np

from . import threads
from .elementwise import exp_negative
from .jit import LANES, MR, NR, jit
from .matmul import floats
from .tile import aligned, pack, tile, wide

TC = 256                                  # tokens per panel of exp(scores): (TC, NR) fills two thirds of L1
STEP = 8                                  # rows of scores that one vector loop takes
NO_WEIGHTS = np.zeros((0, 0, 0, 0), np.float32)


def attention(query, key, value, heads):
    """Weights live in cache for NR queries at a time."""
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
    context = np.empty((B, T, D), np.float32)
    weights = np.empty((B, heads, T, T), np.float32) if keep else NO_WEIGHTS
    scale = np.float32(1 / math.sqrt(D // heads))
    blocks = -(-T // NR)
    work = 2 * B * T * T * D
    parts = min(blocks, -(-2 * threads.worth(work) // max(B * heads, 1)))

    def task(i):
        i, part = divmod(i, parts)
        b, h = divmod(i, heads)
        first, last = blocks * part // parts, blocks * (part + 1) // parts
        _attend_into(context, weights, query, key, value, b, h, heads, scale, first, last)
    threads.run(B * heads * parts, task, work)
    return context, weights


@jit
def _attend_into(context, weights, query, key, value, b, h, heads, scale, first, last):
    """One head of one image, blocks first..last of NR queries."""
    B, T, D = query.shape
    K = D // heads
    at = b * T * D + h * K
    tiles = (T + MR - 1) // MR
    zeros, starts = np.zeros(max(K, NR), np.float32), np.empty(NR, np.int64)
    keys, queries = aligned((tiles + 1) * MR * K), aligned((max(K, NR) + LANES) * NR)
    scores, mixed = aligned((tiles * MR + STEP) * NR), aligned((K // MR + 1) * MR * NR)
    for t in range(tiles):
        _starts_into(starts, at, t * MR, MR, T, D)
        pack(key.reshape(key.size), starts, K, zeros, keys, t * MR * K, MR)
    values = _pack_values(value, b, h, K)
    for p in range(first, last):
        _starts_into(starts, at, p * NR, NR, T, D)
        pack(query.reshape(query.size), starts, K, zeros, queries, 0, NR)
        for t in range(tiles):
            tile(keys, t * MR * K, queries, 0, scores, t * MR * NR, NR, K, scores, 0, 0, 0, scores, 0, 0, 0)
        _exp_in(scores, T, scale)
        for t in range(0, T, TC):
            for k in range(0, K + 1, MR):
                tile(values, k * T + t * MR, scores, t * NR, mixed, k * NR, NR, min(TC, T - t),
                     mixed, k * NR, NR, t, mixed, 0, 0, 0)
        _context_into(context, mixed, starts, zeros, queries, b, h * K, K, p * NR)
        if weights.size:
            _weights_into(weights, scores, mixed, b, h, K, p * NR)


@jit
def _starts_into(starts, at, first, count, T, D):
    """Where `count` tokens from `first` on begin; -1 beyond the last."""
    for i in range(count):
        starts[i] = at + (first + i) * D if first + i < T else -1


@jit
def _pack_values(value, b, h, K):
    """Blocks of MR columns, token-major.  Column K is 1: its product with exp(scores) is their sum."""
    T = value.shape[1]
    tiles = K // MR + 1
    packed = np.zeros((tiles + 1) * T * MR, np.float32)
    for k in range(tiles):
        n = min(MR, K - k * MR)
        for t in range(T):
            at = (k * T + t) * MR
            to, row = packed[at:at + n], value[b, t, h * K + k * MR:h * K + k * MR + n]
            for i in range(n):
                to[i] = row[i]
    for t in range(T):
        packed[(K // MR * T + t) * MR + K % MR] = np.float32(1)
    return packed


@jit
def _exp_in(scores, T, scale):
    """scores = exp(scale (scores - largest)), each query in its lane; a NaN or infinity makes its query NaN.

    STEP rows at a time: of a loop over 32 lanes LLVM makes 32 scalar instructions, of one over 256 vectors.
    0.7 ns per score (Ice Lake, 2 virtual cores; middle of five runs of examples/time_kernels.py).
    """
    wide()
    size = STEP * NR
    blocks = (T + STEP - 1) // STEP
    scores[T * NR:blocks * size] = np.float32(-np.inf)
    largest = aligned(size)
    largest[:] = np.float32(-np.inf)
    for t in range(blocks):
        part = scores[t * size:(t + 1) * size]
        for j in range(size):
            largest[j] = part[j] if part[j] > largest[j] else largest[j]
    for j in range(NR):
        for s in range(1, STEP):
            largest[j] = largest[s * NR + j] if largest[s * NR + j] > largest[j] else largest[j]
    for s in range(1, STEP):
        for j in range(NR):
            largest[s * NR + j] = largest[j]
    for t in range(blocks):
        part = scores[t * size:(t + 1) * size]
        for j in range(size):
            part[j] = exp_negative(scale * (part[j] - largest[j]))


@jit
def _context_into(context, mixed, starts, zeros, turned, b, d, K, first):
    """Each query's K sums, divided by the sum of its weights, to where they belong."""
    T = context.shape[1]
    for k in range(0, K, NR):
        n = min(NR, K - k)
        for i in range(NR):
            starts[i] = (k + i) * NR if i < n else -1
        pack(mixed, starts, NR, zeros, turned, 0, NR)
        for j in range(min(NR, T - first)):
            share = np.float32(1) / mixed[K * NR + j]
            row, to = turned[j * NR:j * NR + n], context[b, first + j, d + k:d + k + n]
            for i in range(n):
                to[i] = row[i] * share


@jit
def _weights_into(weights, scores, mixed, b, h, K, first):
    T = weights.shape[2]
    for j in range(min(NR, T - first)):
        share = np.float32(1) / mixed[K * NR + j]
        row = weights[b, h, first + j]
        for t in range(T):
            row[t] = scores[t * NR + j] * share
