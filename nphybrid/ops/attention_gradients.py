"""The gradient of attention without an array (A, T, T) of the weights of all A heads and T tokens.

The equations are those of `gradients.attention`. The weights are not kept in the forward pass. They are computed again,
for BLOCK queries of one head at a time (Dao et al. 2022, algorithm 4). K is the width of a head, and Q is BLOCK:

    scores (Q, T)   = q (Q, K) @ k.T (K, T)                 weights = softmax(scores / sqrt(K))
    dweights (Q, T) = dy (Q, K) @ v.T (K, T)                dscores = weights * (dweights - D) / sqrt(K)
    dq (Q, K)       = dscores (Q, T) @ k (T, K)
    dk (T, K)      += dscores.T (T, Q) @ q (Q, K)
    dv (T, K)      += weights.T (T, Q) @ dy (Q, K)

D is the sum of weights * dweights over a row. It is also the sum of dy * y over the K columns of the same query, which
has fewer terms. A task is one head of one image, so the order of the additions to dk and dv is fixed.
"""
import math
from typing import NamedTuple

import numpy as np

from . import threads
from .attention import head_of, pack_tokens_into, pack_transposed_into, reads_ahead, softmax_in, token_starts_into
from .checks import floats
from .emit import wide
from .integers import ceil_div
from .jit import jit, jit_allocating
from .memory import aligned, empty, read_ahead
from .reductions import products
from .target import MR, NR
from .tile import Addend, Columns, Panel, Rows, Target, tile, transposed_tile_add

BLOCK = 8 * MR                            # the weights and dscores of a block stay in L2: 2 * 48 * 640 * 4 B = 246 KB


class States(NamedTuple):
    """The arrays of the forward pass and the gradient of the result.  Each array is flat."""
    dy: np.ndarray
    y: np.ndarray
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray


def attention(dy, y, query, key, value, heads):
    """The gradients of query, key and value."""
    B, T, D = shape = np.shape(query)
    named = {"dy": dy, "y": y, "query": query, "key": key, "value": value}
    states = States(*(floats(x, name, shape).reshape(-1) for name, x in named.items()))
    gradients = empty(3, B * T * D)
    work = 5 * B * T * T * D
    if reads_ahead(shape, len(states), threads.threads_for(work)):
        threads.run(B, _image_into, work, (gradients, states, shape, heads))
    else:
        threads.run(B * heads, _head_into, work, (gradients, states, shape, heads))
    return tuple(gradients.reshape(3, *shape))


@jit
def _image_into(gradients, states, shape, heads, image):
    """Compute the gradients of all heads of one image.  The states are read before, as attention.py explains."""
    size = shape[1] * shape[2]
    at = image * size
    lines = np.float32(0)
    for x in states:
        lines += read_ahead(x, at, at + size)
    gradients[0, at] = lines              # as in attention.py; `_head_into` then writes gradients[0, at]
    for head in range(heads):
        _head_into(gradients, states, shape, heads, image * heads + head)


class HeadBuffers(NamedTuple):
    """The memory of a task.  All arrays are flat."""
    keys: np.ndarray                      # panels (T, K)
    keys_turned: np.ndarray               # panels (K, T)
    values_turned: np.ndarray             # panels (K, T)
    block: np.ndarray                     # panels (BLOCK, K)
    weights: np.ndarray                   # (BLOCK, T)
    dscores: np.ndarray                   # (BLOCK, T)
    dkey: np.ndarray                      # (T, K)
    dvalue: np.ndarray                    # (T, K)
    starts: np.ndarray                    # int64 (MR,)
    mixed: np.ndarray                     # (MR * NR,)
    zeros: np.ndarray                     # zeros for a run: K or T elements


@jit_allocating
def _head_into(gradients, states, shape, heads, number):
    """Compute the gradients of the query, the key and the value of one head of one image."""
    head = head_of(shape, heads, number)
    T = head.T
    K = head.K
    T_padded = ceil_div(T, NR) * NR
    K_padded = ceil_div(K, NR) * NR
    scores_size = BLOCK * T_padded + MR   # the last tile of columns reads at most MR elements more
    sums_size = ceil_div(T, MR) * MR * K_padded
    buffers = HeadBuffers(
        keys=aligned(T * K_padded), keys_turned=aligned(K * T_padded), values_turned=aligned(K * T_padded),
        block=aligned(BLOCK * K_padded), weights=aligned(scores_size), dscores=aligned(scores_size),
        dkey=aligned(sums_size), dvalue=aligned(sums_size), starts=np.empty(MR, np.int64), mixed=aligned(MR * NR),
        zeros=np.zeros(max(K, T_padded), np.float32))
    pack_tokens_into(buffers.keys, states.key, head, 0, T)
    pack_transposed_into(buffers.keys_turned, states.key, head, buffers.zeros)
    pack_transposed_into(buffers.values_turned, states.value, head, buffers.zeros)
    _queries_into(gradients, states, head, buffers)


@jit
def _queries_into(gradients, states, head, buffers):
    """Compute the gradients of one head, for BLOCK queries at a time.  The keys and the values are already packed."""
    block, weights, dscores = buffers.block, buffers.weights, buffers.dscores
    buffers.dkey[:] = np.float32(0)
    buffers.dvalue[:] = np.float32(0)
    for first in range(0, head.T, BLOCK):
        _scores_into(weights, states.query, buffers.keys_turned, head, first, buffers)
        _scores_into(dscores, states.dy, buffers.values_turned, head, first, buffers)
        _softmax_gradient_in(weights, dscores, states, head, first)
        _mix_into(gradients[0], dscores, buffers.keys, head, first, buffers)
        pack_tokens_into(block, states.query, head, first, BLOCK)
        _add_transposed_into(buffers.dkey, dscores, block, head, first)
        pack_tokens_into(block, states.dy, head, first, BLOCK)
        _add_transposed_into(buffers.dvalue, weights, block, head, first)
    _unpack_into(gradients[1], buffers.dkey, head)
    _unpack_into(gradients[2], buffers.dvalue, head)


@jit
def _scores_into(scores, x, panels, head, first, buffers):
    """scores (Q, T) = tokens of x (Q, K) @ panels (K, T), where the first token has the number `first`."""
    T_padded = ceil_div(head.T, NR) * NR
    starts = buffers.starts
    for row in range(0, min(BLOCK, head.T - first), MR):
        token_starts_into(starts, head, first + row)
        for column in range(0, T_padded, NR):
            tile(Rows(x, starts, buffers.zeros, 1, head.K), Panel(panels, column * head.K),
                 Target(scores, row * T_padded + column, T_padded, head.T - first - row, head.T - column))


@jit
def _softmax_gradient_in(weights, dscores, states, head, first):
    """Turn scores into weights, and dweights into dscores, in place.

    Before the call, `weights` holds the scores before the division by sqrt(K), and `dscores` holds dweights.
    """
    wide()
    T = head.T
    T_padded = ceil_div(T, NR) * NR
    scale = np.float32(1 / math.sqrt(head.K))
    for i in range(min(BLOCK, T - first)):
        token_at = head.at + (first + i) * head.D
        _, D = products(states.dy[token_at:token_at + head.K], states.y[token_at:token_at + head.K])
        shift = np.float32(D)
        row = weights[i * T_padded:(i + 1) * T_padded]
        d_row = dscores[i * T_padded:(i + 1) * T_padded]
        row[T:] = np.float32(-np.inf)     # the weight is 0. All loops go over whole vectors
        factor = np.float32(1) / softmax_in(row, scale)
        for j in range(T_padded):
            row[j] *= factor
            d_row[j] = row[j] * (d_row[j] - shift) * scale


@jit
def _mix_into(out, scores, panels, head, first, buffers):
    """out[tokens] = scores (Q, T) @ panels (T, K)"""
    T = head.T
    T_padded = ceil_div(T, NR) * NR
    starts = buffers.starts
    mixed = buffers.mixed
    for row in range(0, min(BLOCK, T - first), MR):
        for i in range(MR):
            starts[i] = (row + i) * T_padded
        rows = Rows(scores, starts, buffers.zeros, 1, T)
        queries = min(MR, T - first - row)
        for column in range(0, head.K, NR):
            width = min(NR, head.K - column)
            at = head.at + (first + row) * head.D + column
            inside = queries == MR and width == NR
            target = Target(out, at, head.D, queries, width) if inside else Target(mixed, 0, NR, queries, width)
            tile(rows, Panel(panels, column * T), target)
            if not inside:
                for i in range(queries):
                    _copy_into(out[at + i * head.D:], mixed[i * NR:i * NR + width])


@jit
def _add_transposed_into(sums, scores, panels, head, first):
    """sums (T, K) += scores.T (T, Q) @ panels (Q, K)"""
    T_padded = ceil_div(head.T, NR) * NR
    K_padded = ceil_div(head.K, NR) * NR
    queries = min(BLOCK, head.T - first)
    for row in range(0, head.T, MR):
        for column in range(0, head.K, NR):
            at = row * K_padded + column
            transposed_tile_add(Columns(scores, row, T_padded, queries), Panel(panels, column * BLOCK),
                                Target(sums, at, K_padded, MR, NR), Addend(sums, at, K_padded, 1))


@jit
def _unpack_into(out, sums, head):
    """Copy the sums (T, K) of a head to its columns of `out`."""
    K_padded = ceil_div(head.K, NR) * NR
    for t in range(head.T):
        _copy_into(out[head.at + t * head.D:], sums[t * K_padded:t * K_padded + head.K])


@jit
def _copy_into(out, x):
    """The first elements of `out` = x.  LLVM vectorizes this loop, but not an assignment to a slice."""
    for i in range(x.size):
        out[i] = x[i]
