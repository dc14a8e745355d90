"""Features: one state of the walk, pooled.

    state       its name in `model.trace` and `nphybrid summary`: stem, stages.1.1 (stages.1 is its last unit),
                tokens, blocks.3, norm, pooler, …; default: what a head reads
    pool        token   the class token                         (B, T, D)     -> (B, D)
                mean    the mean of the patches, or of a map    (B, T, D)     -> (B, D)    (B, H, W, C) -> (B, C)
                none    the state as it is
                default: what a head reads; of another state the class token, else the mean, of a vector none
"""
from typing import Callable, NamedTuple

import numpy as np

from ..checkpoint import head_reads
from ..trace import Discard, Trace

POOLS = ("token", "mean", "none")


class Extractor(NamedTuple):
    """How features are computed."""
    state: str
    pool: str
    shape: tuple                          # of a picture's features
    compute: Callable                     # pixel_values (B, C, H, W) -> float32 (B, *shape)


def extractor(model, pixel_values, state=None, pool=None):
    """A model's Extractor.

    model: of any class. pixel_values: a picture (1, C, H, W), whose walk shows the names and shapes of all states; its
    pixels do not matter. state, pool: see above. Raises ValueError for a name that no state has, and for a pool that
    does not go with the state.

    >>> from nphybrid import ViTHybridModel, default_model
    >>> model, blank = ViTHybridModel.from_pretrained(default_model()), np.zeros((1, 3, 64, 64), np.float32)
    >>> extractor(model, blank)[:3], extractor(model, blank, "stages.0")[:3]
    (('norm', 'token', (192,)), ('stages.0.1', 'mean', (128,)))
    """
    walk = Shapes()
    model.run_into(walk, pixel_values)
    if state is None:
        state, read = head_reads(model.network_config)
        pool = pool or read
    state = named(state, walk.shapes)
    shape, sizes = walk.shapes[state], model.network_config
    # Tokens of the walk; those of the projection alone have no class token yet.
    token = sizes.class_token if len(shape) == 3 and shape[1] == sizes.tokens else 0
    pool = pool or ("none" if len(shape) == 2 else "token" if token else "mean")
    if pool not in POOLS:
        raise ValueError(f"pool is {pool!r}; expected one of {', '.join(POOLS)}")
    if pool == "token" and not token or pool == "mean" and len(shape) == 2:
        raise ValueError(f"{state} has the shape {shape[1:]} and no {'class token' if pool == 'token' else 'patches'} "
                         f"(pool is {pool!r})")

    def compute(pixel_values):
        out = Trace(keep={state})
        model.run_into(out, pixel_values)
        return pooled(out[state], pool, token, model.ops)
    return Extractor(state, pool, shape[1:] if pool == "none" else shape[-1:], compute)


def pooled(x, pool, token, ops):
    """(B, T, D) or (B, H, W, C) -> (B, D) or (B, C), in memory of its own; float32.  token: how many stand in front"""
    if pool == "token":
        x = x[:, 0]
    elif pool == "mean":
        # As in `model.pooled`: the patches lie in one row.
        x = ops.mean_pool(x[:, None, token:] if x.ndim == 3 else x)
    return np.array(x, np.float32, order="C")


def named(state, shapes):
    """The name of a state in the walk: "stages.1" is the last unit of that stage."""
    units = [name for name in shapes if name.rpartition(".")[0] == state and name.rpartition(".")[2].isdecimal()]
    found = state if state in shapes else units[-1] if units else None
    if found is None:
        main = [name for name in shapes if all(part.isdecimal() for part in name.split(".")[1:])]
        raise ValueError(f"no state is called {state!r}; there are {', '.join(main)}, and those within them, which "
                         "`nphybrid summary` lists")
    return found


class Shapes(Discard):
    """Forgets every state, and keeps its shape."""

    def __init__(self):
        super().__init__()
        self.shapes = {}

    def __setitem__(self, name, state):
        self.shapes[name] = state.shape
