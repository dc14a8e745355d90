"""Attention that does not store the scores (A, T, T) of all A heads and T tokens.

K is the width of a head, and MR is the number of rows of the register tile. For MR queries of one head at a time, two
matrix products are computed:

    scores (MR, T) = queries (MR, K) @ keys' (K, T)        then exp of each element, and the sum of each row, in L1
    mixed (MR, K) = scores (MR, T) @ values (T, K)         then each row is divided by the sum of the same row of scores

The softmax needs a division by the sums of the rows of `scores`. The rows of `mixed` are divided instead, because a row
of `mixed` has only K numbers, but a row of `scores` has T numbers. Both products are computed with the register tile.
The queries are used in place. Each task packs the transposed keys and the values of its head into panels.
`attention_with_weights` of reference.py is the plain definition.

A head has K neighbours of each token, so it would read its states from memory in short pieces. If the states of an
image fit into L2, a task computes all heads of an image, and first reads the states in order. With 32 images of 65
tokens and 3 heads of 64 elements, whose states come from memory, this takes 3.2 instead of 4.8 ms (Zen 3, one thread).

With bfloat16 products, the panels, the queries and the exponentials are rounded before they are multiplied. The plain
definition is `attention_with_weights` of reference_narrow.py.
"""
import math
from typing import NamedTuple

import numpy as np

from . import threads
from .checks import floats
from .chunks import EVEN
from .elementwise import exp_negative
from .emit import wide
from .integers import ceil_div
from .jit import jit, jit_allocating
from .memory import aligned, empty, read_ahead
from .pack import pack
from .reductions import largest, total
from .target import L2, MR, NR
from .tile import Panel, Rows, Target, tile
from .words import panels_like, round_exponentials_again, rows_like

NO_WEIGHTS = np.zeros((0, 0, 0), np.float32)
# Arrays with the dtypes of the panels.
LIKE_FLOAT32 = np.zeros(0, np.float32)
LIKE_BFLOAT16 = np.zeros(0, np.uint16)


class Head(NamedTuple):
    """One head of one image.  In a flat query, key or value, its numbers of token t begin at index `at` + t * D."""
    at: int
    T: int
    D: int
    K: int


@jit
def head_of(shape, heads, number):
    """The Head of query, key and value (B, T, D) with a number in range(B * heads)."""
    _, T, D = shape
    b, head = divmod(number, heads)
    K = D // heads
    return Head(b * T * D + head * K, T, D, K)


def attention(query, key, value, heads):
    """Compute the context, `mixed` of all heads.  A thread holds the attention weights of only MR queries at a time."""
    return _attention(query, key, value, heads, False, LIKE_FLOAT32)[0]


def attention_with_weights(query, key, value, heads):
    """Compute the context and the attention weights.  The context is bit for bit the result of `attention`."""
    return _attention(query, key, value, heads, True, LIKE_FLOAT32)


def narrow_attention(query, key, value, heads):
    """Compute `attention` with products of bfloat16 numbers."""
    return _attention(query, key, value, heads, False, LIKE_BFLOAT16)[0]


def narrow_attention_with_weights(query, key, value, heads):
    """Compute `attention_with_weights` with products of bfloat16 numbers."""
    return _attention(query, key, value, heads, True, LIKE_BFLOAT16)


def _attention(query, key, value, heads, keep, kind):
    """Compute the context, and the weights if `keep` is True.  `kind` is an array with the dtype of the panels."""
    B, Q, D = np.shape(query)
    T = np.shape(key)[1] if np.ndim(key) == 3 else Q
    query = floats(query, "query", (B, Q, D))
    key = floats(key, "key", (B, T, D))
    value = floats(value, "value", (B, T, D))
    if D % heads:
        raise ValueError(f"expected a number of heads that divides the width {D}, found {heads} heads")
    context = empty(B, Q, D)
    weights = np.empty((B * heads, Q, T), np.float32) if keep else NO_WEIGHTS
    work = 2 * B * Q * T * D
    n = threads.threads_for(work)
    arguments = context.reshape(-1), weights, query, key, value, heads, kind
    if Q and reads_ahead(key.shape, 3, n):
        threads.run(B, _attend_image_into, work, arguments)
    else:
        parts = _parts(B * heads, ceil_div(Q, MR), n)
        threads.run(B * heads * parts, _attend_into, work, (*arguments, parts))
    return context, weights.reshape(B, heads, Q, T) if keep else weights


def reads_ahead(shape, states, n):
    """Whether a task computes a whole image, and first reads its `states` states (T, D).  shape (B, T, D), n threads"""
    B, T, D = shape
    return B >= EVEN * n and 0 < states * T * D * 4 <= L2 // 2


@jit
def _attend_image_into(context, weights, query, key, value, heads, kind, image):
    """Compute the context of all heads of one image.  The arguments are those of `_attend_into`."""
    lines = np.float32(0)
    for x in (query, key, value):
        size = x.shape[1] * x.shape[2]
        lines += read_ahead(x.reshape(x.size), image * size, (image + 1) * size)
    # Without this line, LLVM would drop the loop. `_attend_into` overwrites the number.
    context[image * query.shape[1] * query.shape[2]] = lines
    for head in range(heads):
        _attend_into(context, weights, query, key, value, heads, kind, parts=1, task=image * heads + head)


def _parts(heads, tiles, n):
    """The number of tasks into which the queries of one head are divided, for n threads.

    `heads` is the number of heads of all images together. `tiles` is the number of tiles of MR queries in one head. The
    aim is 4 tasks per thread, so that no thread waits long for the last task. A task has at least 8 tiles, or all
    tiles of its head, because every task must pack all keys and values of its head.
    """
    if n == 1:
        return 1
    return max(1, min(tiles // 8, ceil_div(4 * n, max(heads, 1))))


class QueryBuffers(NamedTuple):
    """The memory of a task for MR queries."""
    scores: np.ndarray                    # MR rows of the scores, and then of their exponentials
    starts: np.ndarray                    # int64 (MR,), where each row of the scores begins
    mixed: np.ndarray                     # (MR * NR,)
    sums: np.ndarray                      # (MR,), for each row: its largest score, then the sum of its exponentials


@jit_allocating
def _attend_into(context, weights, query, key, value, heads, kind, parts, task):
    """Compute one task: the context for some queries of one head in one image.  `context` is flat.

    `kind` is an array with the dtype of the panels: float32 or uint16 (bfloat16). If `weights` is not empty, the
    attention weights are stored in it. The queries of each head are divided among `parts` tasks. The number of a task
    is part * images * heads + image * heads + head.
    """
    part, number = divmod(task, query.shape[0] * heads)
    key_head = head_of(key.shape, heads, number)
    query_head = head_of(query.shape, heads, number)
    T = key_head.T
    K = key_head.K
    tiles = ceil_div(query_head.T, MR)
    T_padded = ceil_div(T, NR) * NR
    K_padded = ceil_div(K, NR) * NR
    first_tile = tiles * part // parts
    end_tile = tiles * (part + 1) // parts
    keys = aligned(K * T_padded)
    values = aligned(T * K_padded)
    zeros = np.zeros(max(K, T), np.float32)
    buffers = QueryBuffers(aligned(MR * T_padded), np.arange(MR) * T_padded, aligned(MR * NR), np.empty(MR, np.float32))
    pack_transposed_into(keys, key.reshape(key.size), key_head, zeros)
    pack_tokens_into(values, value.reshape(value.size), key_head, 0, T)
    key_panels = panels_like(kind, keys, K)
    value_panels = panels_like(kind, values, T)
    starts = np.empty((end_tile - first_tile) * MR, np.int64)
    token_starts_into(starts, query_head, first_tile * MR)
    x, starts, run = rows_like(kind, query.reshape(query.size), starts, K)
    # With float32, these rows are the scores themselves, and `round_exponentials_again` does nothing.
    exponentials, exponential_starts, words = rows_like(kind, buffers.scores, buffers.starts, T)
    _queries_into(context, weights, kind, query_head, T, number, first_tile, buffers=buffers,
                  queries=Rows(x, starts, zeros, 1, run), keys=key_panels,
                  exponentials=Rows(exponentials, exponential_starts, zeros, 1, words), values=value_panels)


@jit
def _queries_into(context, weights, kind, query_head, T, number, first_tile, buffers, queries, keys, exponentials,
                  values):
    """Compute the context for all `queries`, the first of which is query first_tile * MR of the head.

    T is the number of keys. `queries` and `exponentials` are Rows, and `keys` and `values` are panels.
    """
    K = query_head.K
    scale = np.float32(1 / math.sqrt(K))
    scores, starts, mixed, sums = buffers
    T_padded = scores.size // MR
    for first in range(0, queries.starts.size, MR):
        first_query = first_tile * MR + first
        count = min(MR, query_head.T - first_query)
        rows = Rows(queries.x, queries.starts[first:], queries.zeros, 1, queries.run)
        for first_key in range(0, T_padded, NR):
            tile(rows, Panel(keys, first_key * rows.run), Target(scores, first_key, T_padded, count, T - first_key))
        # With one loop for each step, the processor can compute several rows at once. 12 heads of 577 tokens take 4.8
        # instead of 5.0 ms (float32, Zen 5, one thread).
        for i in range(count):
            sums[i] = largest(scores[i * T_padded:i * T_padded + T])
        for i in range(count):
            exp_in(scores[i * T_padded:i * T_padded + T], scale, sums[i])
        for i in range(count):
            sums[i] = total(scores[i * T_padded:i * T_padded + T])
        round_exponentials_again(kind, exponentials.x, scores, starts[:count], T)
        for column in range(0, K, NR):
            tile(exponentials, Panel(values, column * exponentials.run), Target(mixed, 0, NR, count, K - column))
            for i in range(count):
                token_at = query_head.at + (first_query + i) * query_head.D
                to = context[token_at + column:token_at + min(column + NR, K)]
                _scale_into(to, mixed[i * NR:(i + 1) * NR], np.float32(1) / sums[i])
        if weights.size:
            for i in range(count):
                row = scores[i * T_padded:(i + 1) * T_padded]
                _scale_into(weights[number, first_query + i], row, np.float32(1) / sums[i])


@jit
def token_starts_into(starts, head, first):
    """starts[i] = the flat index where token first + i of a head begins, or -1 after the last token."""
    for i in range(starts.size):
        starts[i] = head.at + (first + i) * head.D if first + i < head.T else -1


@jit_allocating
def pack_transposed_into(panels, x, head, zeros):
    """Pack the tokens of a head into panels (K, NR).  Each column is a token, and columns after the last are 0."""
    starts = np.empty(NR, np.int64)
    for first in range(0, head.T, NR):
        token_starts_into(starts, head, first)
        pack(x, starts, head.K, zeros, panels, first * head.K)


@jit
def pack_tokens_into(panels, x, head, first, count):
    """Pack `count` tokens of a head into panels (count, NR).  Each row is a token.

    The columns after the last column of the head are 0, and so are the rows after the last token.
    """
    tokens = min(count, head.T - first)
    for column in range(0, head.K, NR):
        width = min(NR, head.K - column)
        panel = panels[column * count:(column + NR) * count].reshape(count, NR)
        for t in range(tokens):
            start = head.at + (first + t) * head.D + column
            row = x[start:start + width]
            to = panel[t]
            for i in range(width):
                to[i] = row[i]
        panel[:, width:] = np.float32(0)
        panel[tokens:] = np.float32(0)


@jit
def softmax_in(row, scale):
    """row = exp(scale * (row - max(row))).  Returns the sum of the new row.

    A NaN or +infinity in the row makes the sum NaN.
    """
    exp_in(row, scale, largest(row))
    return total(row)


@jit
def exp_in(row, scale, shift):
    """row = exp(scale * (row - shift)), where no element is larger than shift."""
    wide()
    for j in range(row.size):
        row[j] = exp_negative(scale * (row[j] - shift))


@jit
def _scale_into(to, x, factor):
    """to = x[:to.size] * factor"""
    for i in range(to.size):
        to[i] = x[i] * factor
