"""Functions that measure what happens inside a network, from the ViT paper and other publications.

The functions are plain NumPy, and most of them take states that a trace has recorded. `weights` are the attention
weights of one picture, (L, A, T, T), for L blocks, A heads and T tokens. Row t of a head holds the weights that query t
gives to the keys. The last N tokens represent the N cells of a grid. A network with a class token has T = 1 + N tokens.
A network without a class token has T = N tokens.
"""
import numpy as np

from ..api.gradients import loss_and_gradients, raw_parameters
from ..model import pooled
from ..trace import Discard


def attention(trace, blocks: int) -> np.ndarray:
    """The attention weights of the first picture in a trace, for all blocks.  -> (L, A, T, T)"""
    return np.stack([trace[f"blocks.{l}.weights"][0] for l in range(blocks)])


def rollout(weights: np.ndarray) -> np.ndarray:
    """Estimate the share that each input token contributes to each token after each block.  (L, A, T, T) -> (L, T, T)

    The heads are averaged, and the shortcut counts as much as the attention. Then the matrices of all blocks are
    multiplied: R_l = (mean over A of W_l + I) / 2 @ R_(l-1). R_l holds the shares after block l. W_l holds the
    attention weights of block l, and I is the identity matrix. Before the first block, R is I. Row t of R_l holds the
    shares for token t, and has the sum 1. If some heads are off, the rows of the mean have sums below 1, so each row of
    mean + I is divided by its sum instead of 2.  Abnar and Zuidema 2020, section 3; ViT, figure 6.

    In the example, each of two blocks has one head, which swaps two tokens:

    >>> swap = np.array([[[[0., 1], [1, 0]]]])
    >>> rollout(np.concatenate([swap, swap]))[-1]
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    T = weights.shape[-1]
    mixed = np.eye(T)
    steps = weights.mean(axis=1, dtype=np.float64) + np.eye(T)
    steps /= steps.sum(-1, keepdims=True)
    return np.stack([mixed := step @ mixed for step in steps])


def attention_distance(weights: np.ndarray, grid: tuple[int, int], cell: tuple[int, int]) -> np.ndarray:
    """The mean distance in pixels from a query cell to the key cells, weighted by attention.  (L, A, T, T) -> (L, A)

    `grid` is the (rows, columns) of the cells. `cell` is the (height, width) of a cell in pixels. The class token is
    left out, and the remaining weights of each query are divided by their sum.  ViT, figure 7, right; appendix D.7

    >>> attention_distance(np.full((1, 1, 2, 2), 0.5), grid=(1, 2), cell=(16, 16))
    array([[8.]])
    """
    N = grid[0] * grid[1]
    among = weights[:, :, -N:, -N:]
    weighted = np.einsum("laqk,qk->laq", among, distances(grid, cell))
    return (weighted / among.sum(-1, dtype=np.float64)).mean(-1)


def distances(grid: tuple[int, int], cell: tuple[int, int]) -> np.ndarray:
    """The distance in pixels between the centres of each pair of cells.  -> (N, N)"""
    places = np.indices(grid).reshape(2, -1).T * np.asarray(cell, np.float64)
    return np.sqrt(np.square(places[:, None] - places).sum(-1))


def position_similarity(positions: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The cosine between the position vectors of each pair of cells.  (T, D) -> (N, N)

    A cosine is 0 if one of its two vectors is a vector of zeros.  ViT, figure 7, centre.

    >>> position_similarity(np.array([[9., 9], [1, 0], [0, 2], [-3, 0]]), grid=(1, 3))
    array([[ 1.,  0., -1.],
           [ 0.,  1.,  0.],
           [-1.,  0.,  1.]])
    """
    cells = positions[-grid[0] * grid[1]:].astype(np.float64)
    lengths = np.linalg.norm(cells, axis=1, keepdims=True)
    cells = cells / np.where(lengths, lengths, 1)
    return cells @ cells.T


def logit_lens(states, p, config, ops) -> np.ndarray:
    """Compute logits from each state, as if the encoder ended at this state.  S times (B, T, D) -> (S, B, classes)

    The last norm, the pooling and the classifier of the network are applied to each state. The method is the logit lens
    of nostalgebraist (2020, "interpreting GPT: the logit lens").
    """
    logits = []
    for x in states:
        if p.norm is not None:
            x = ops.layer_norm(x, p.norm, config.ln_eps)
        logits.append(ops.linear(pooled(x, p, config, ops, Discard()), p.head))
    return np.stack(logits)


def occlusion(score, x: np.ndarray, window: int, step: int) -> np.ndarray:
    """Measure how much a score falls when a grey square hides a part of the picture.  -> (rows, columns)

    `score` is a function from pixel_values (B, C, H, W) to scores (B,). `x` is one picture, (1, C, H, W), in which 0 is
    grey. `window` is the side of the square in pixels. The centre of the square moves from edge to edge of the
    picture, in steps of `step` pixels.  Zeiler and Fergus 2014, section 4.2.

    >>> occlusion(lambda x: x.sum((1, 2, 3)), np.ones((1, 1, 4, 4)), window=2, step=2)
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    H, W = x.shape[2:]
    tops = range(-(window // 2), H - window // 2 + 1, step)
    lefts = range(-(window // 2), W - window // 2 + 1, step)
    whole = score(x)[0]
    fall = np.empty((len(tops), len(lefts)))
    for i, top in enumerate(tops):
        hidden = np.repeat(x, len(lefts), axis=0)
        for j, left in enumerate(lefts):
            hidden[j, :, max(top, 0):top + window, max(left, 0):left + window] = 0
        fall[i] = whole - score(hidden)
    return fall


def saliency(model, x: np.ndarray) -> tuple[np.ndarray, int]:
    """The absolute derivative of the largest logit with respect to each pixel.  (1, C, H, W) -> (H, W), class

    The largest of the absolute derivatives of the C channels is taken. The second result is the index of the class with
    the largest logit.  Simonyan et al. 2014, section 3.1.

    >>> from nphybrid import ViTHybridForImageClassification, default_model
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    >>> saliency(model, np.zeros((1, 3, 64, 64), np.float32))[0].shape
    (64, 64)
    """
    best = 0

    def largest_logit(logits):
        nonlocal best
        best = int(logits[0].argmax())
        return logits[0, best], np.eye(logits.shape[1], dtype=logits.dtype)[[best]]
    found = loss_and_gradients(model, raw_parameters(model), model.check_inputs(x), largest_logit,
                               trained=lambda name: False)
    return np.abs(found.pixels[0]).max(-1), best
