"""What the ViT paper measures inside a network, and what others measure since: plain NumPy on the states of a trace.

`weights` is the attention of one picture, (L, A, T, T): row t of a head says how much token t takes from each token.
A grid of N cells stands behind the class token, where there is one: T = N or 1 + N.
"""
import numpy as np

from ..model import pooled
from ..trace import Discard


def attention(trace, blocks):
    """The weights of the first picture of a trace.  -> (L, A, T, T)"""
    return np.stack([trace[f"blocks.{l}.weights"][0] for l in range(blocks)])


def rollout(weights):
    """How much of each token's input is in each token after each block.  (L, A, T, T) -> (L, T, T), rows sum to 1

    Heads are averaged, the shortcut counts as much as attention, and block follows block:
    R_l = (mean over A of W_l + I) / 2 @ R_(l-1).  Abnar and Zuidema 2020, section 3; ViT, figure 6.
    Two blocks of one head, which swaps two tokens:

    >>> swap = np.array([[[[0., 1], [1, 0]]]])
    >>> rollout(np.concatenate([swap, swap]))[-1]
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    T = weights.shape[-1]
    mixed = np.eye(T)
    steps = (weights.mean(axis=1, dtype=np.float64) + np.eye(T)) / 2
    return np.stack([mixed := step @ mixed for step in steps])


def attention_distance(weights, grid, cell):
    """How far each head looks, in pixels: the mean over query cells of the distance to key cells, weighted by what
    they get.  (L, A, T, T) -> (L, A)   ViT, figure 7, right; appendix D.7

    grid: (rows, columns) of cells; cell: (height, width) of one, in pixels. The class token is left out, and the rest
    of each row counts as the whole.

    >>> attention_distance(np.full((1, 1, 2, 2), 0.5), grid=(1, 2), cell=(16, 16))
    array([[8.]])
    """
    N = grid[0] * grid[1]
    among = weights[:, :, -N:, -N:]
    weighted = np.einsum("laqk,qk->laq", among, distances(grid, cell))
    return (weighted / among.sum(-1, dtype=np.float64)).mean(-1)


def distances(grid, cell):
    """Between the centres of all cells, in pixels.  -> (N, N)"""
    places = np.indices(grid).reshape(2, -1).T * np.asarray(cell, np.float64)
    return np.sqrt(np.square(places[:, None] - places).sum(-1))


def position_similarity(positions, grid):
    """The cosine between the learned positions of all cells; 0 where one is 0.  (T, D) -> (N, N)

    ViT, figure 7, centre.

    >>> position_similarity(np.array([[9., 9], [1, 0], [0, 2], [-3, 0]]), grid=(1, 3))
    array([[ 1.,  0., -1.],
           [ 0.,  1.,  0.],
           [-1.,  0.,  1.]])
    """
    cells = positions[-grid[0] * grid[1]:].astype(np.float64)
    lengths = np.linalg.norm(cells, axis=1, keepdims=True)
    cells = cells / np.where(lengths, lengths, 1)
    return cells @ cells.T


def logit_lens(states, p, config, ops):
    """What the head would answer, were each state the last one.  S of (B, T, D) -> (S, B, classes)

    The last norm, the pooling and the head are those of the network.  nostalgebraist 2020, "interpreting GPT: the
    logit lens".
    """
    return np.stack([ops.linear(pooled(x if p.norm is None else ops.layer_norm(x, p.norm, config.ln_eps),
                                       p, config, ops, Discard()), p.head) for x in states])


def occlusion(score, x, window, step):
    """How much a score falls where a grey square hides the picture.  -> (rows, columns)

    score: a function from pixel_values (B, C, H, W) to (B,). x: one picture, (1, C, H, W), where 0 is grey. The square
    of `window` pixels moves by `step`, its centre from edge to edge.  Zeiler and Fergus 2014, section 4.2.

    >>> occlusion(lambda x: x.sum((1, 2, 3)), np.ones((1, 1, 4, 4)), window=2, step=2)
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    H, W = x.shape[2:]
    tops, lefts = (range(-(window // 2), n - window // 2 + 1, step) for n in (H, W))
    whole, fall = score(x)[0], np.empty((len(tops), len(lefts)))
    for i, top in enumerate(tops):
        hidden = np.repeat(x, len(lefts), axis=0)
        for j, left in enumerate(lefts):
            hidden[j, :, max(top, 0):top + window, max(left, 0):left + window] = 0
        fall[i] = whole - score(hidden)
    return fall
