"""What happens inside one block of the encoder: the arrays of the steps context, layer_norm, mlp and residual.

A page that computes its network has these arrays for every block and every token, because its worker makes them
(network/inside.js). The page of another network stores the arrays of the last block. Arrays with one row for each token
have only the row of the token that the classifier reads.
"""
import numpy as np

from ..ops import reference

# The page stores the rows of fc2 for the UNITS hidden units that add the longest vectors to the token.
UNITS = 64
# The names of the arrays that the worker makes. `rms` is stored in every page.
COMPUTED = "similarity", "value", "out", "before", "norm_scale", "norm_bias", "hidden", "activated", "fc2"


def context(trace, p, blocks) -> dict:
    """The values of all tokens, and the kernel of the output projection.  -> value (L, T, D), out (L, D, D)"""
    return {"value": np.stack([trace[f"blocks.{l}.value"][0] for l in blocks]),
            "out": np.stack([p.blocks[l].out.kernel for l in blocks])}


def layer_norm(trace, p, blocks, tokens) -> dict:
    """The input of the first norm of each block, and the scale and bias of the norm.  -> (L, T, D), and (L, D) twice"""
    norms = [p.blocks[l].norm1 for l in blocks]
    return {"before": np.stack([stream(trace, l)[tokens] for l in blocks]),
            "norm_scale": np.stack([norm.scale for norm in norms]),
            "norm_bias": np.stack([norm.bias for norm in norms])}


def mlp(trace, p, blocks, tokens) -> dict:
    """The hidden units before and after the activation, and the kernel of fc2.

    -> hidden (L, T, F), activated (L, T, F), fc2 (L, F, D)
    """
    hidden = [reference.linear(trace[f"blocks.{l}.norm2"][0][tokens], p.blocks[l].fc1) for l in blocks]
    return {"hidden": np.stack(hidden), "activated": np.stack([trace[f"blocks.{l}.fc1"][0][tokens] for l in blocks]),
            "fc2": np.stack([p.blocks[l].fc2.kernel for l in blocks])}


def curve(activation) -> list[list[float]]:
    """Points of the curve of an activation, near each other where it bends.  -> [[x, activation(x)], ...]"""
    far = np.append(np.linspace(4.5, 16, 24), 1000)
    x = np.concatenate([-far[::-1], np.linspace(-4, 4, 161), far])
    return np.stack([x, reference.activate(x, activation)], axis=1).round(4).tolist()


def longest_units(trace, p, l, token) -> np.ndarray:
    """The hidden units that add the longest vectors to a token, at most UNITS, in ascending order."""
    lengths = np.abs(trace[f"blocks.{l}.fc1"][0][token]) * np.linalg.norm(p.blocks[l].fc2.kernel, axis=1)
    return np.sort(np.argsort(-lengths, kind="stable")[:UNITS])


def residual(trace, L) -> np.ndarray:
    """The rms of each token before a block, of what attention adds, and of what the MLP adds.  -> (L + 1, T, 3)

    The last row has only the rms of the output of the last block.
    """
    rows = []
    for l in range(L):
        before, between, after = stream(trace, l), trace[f"blocks.{l}.out"][0], trace[f"blocks.{l}"][0]
        rows.append([before, between - before, after - between])
    last = stream(trace, L)
    rows.append([last, np.zeros_like(last), np.zeros_like(last)])
    return np.sqrt(np.square(rows, dtype=np.float64).mean(-1)).transpose(0, 2, 1)


def stream(trace, l):
    """The tokens before block l, or after the last block.  -> (T, D)"""
    return trace[f"blocks.{l - 1}" if l else "tokens"][0]
