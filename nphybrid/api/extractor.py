"""Features of a picture: one state of the forward pass, pooled to a vector or not.

    state       its name in `model.trace` and `nphybrid summary`: stem, stages.1.1 (or stages.1 for its last unit),
                tokens, blocks.3, norm, pooler, …; default: the state that the classifier reads
    pool        token   the class token                            (B, T, D)     -> (B, D)
                mean    the mean of the patches, or of a map       (B, T, D)     -> (B, D)    (B, H, W, C) -> (B, C)
                none    the whole state
                default: as the classifier pools; for another state than the classifier's, token if there is a class
                token, else mean; for a vector none
"""
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checkpoint import head_reads
from ..config import Config
from ..trace import Discard, Trace

if TYPE_CHECKING:
    from .base import Model

POOLS = ("token", "mean", "none")

# The pools of a state by its number of axes; the first is the default.
POOLS_OF_RANK = {2: ("none",), 3: ("token", "mean", "none"), 4: ("mean", "none")}


class Extractor(NamedTuple):
    """How features are computed."""
    state: str
    pool: str
    shape: tuple[int, ...]                # of the features of one picture
    compute: Callable[[np.ndarray], np.ndarray]     # pixel_values (B, C, H, W) -> float32 (B, *shape)


def extractor(model: "Model", pixel_values: np.ndarray, state: str | None = None, pool: str | None = None) -> Extractor:
    """The Extractor of a model.

    model: of any class. pixel_values: a picture (1, C, H, W); one forward pass of it gives the names and shapes of the
    states, and the values of its pixels do not matter. state, pool: see the top of this file. Raises ValueError for an
    unknown state, and for a pool that the state does not have.

    >>> from nphybrid import ViTHybridModel, default_model
    >>> model, blank = ViTHybridModel.from_pretrained(default_model()), np.zeros((1, 3, 64, 64), np.float32)
    >>> extractor(model, blank)[:3], extractor(model, blank, "stages.0")[:3]
    (('norm', 'token', (192,)), ('stages.0.1', 'mean', (128,)))
    """
    shapes = Shapes()
    model.run_into(shapes, pixel_values)
    if state is None:
        state, head_pool = head_reads(model.network_config)
        pool = pool or head_pool
    state = full_name(state, shapes.shapes)
    shape = shapes.shapes[state]
    class_tokens = _class_tokens(shape, model.network_config)
    pool = _checked_pool(pool, state, shape, class_tokens)

    def compute(pixel_values):
        out = Trace(keep={state})
        model.run_into(out, pixel_values)
        return pooled(out[state], pool, class_tokens, model.ops)
    return Extractor(state, pool, shape[1:] if pool == "none" else shape[-1:], compute)


def _class_tokens(shape: tuple[int, ...], network_config: Config) -> int:
    """How many class tokens a state of this shape has: 0 or 1.  The state "tokens.proj" has only patches."""
    has_all_tokens = len(shape) == 3 and shape[1] == network_config.tokens
    return int(network_config.class_token) if has_all_tokens else 0


def _checked_pool(pool: str | None, state: str, shape: tuple[int, ...], class_tokens: int) -> str:
    """The pool of a state: the given one, or the default if that is None.  Raises ValueError."""
    pools = POOLS_OF_RANK[len(shape)]
    if not class_tokens:
        pools = tuple(name for name in pools if name != "token")
    if not pool:
        return pools[0]
    if pool not in POOLS:
        raise ValueError(f"pool is {pool!r}; expected one of {', '.join(POOLS)}")
    if pool not in pools:
        missing = "class token" if pool == "token" else "patches"
        raise ValueError(f"{state} has the shape {shape[1:]} and no {missing} (pool is {pool!r})")
    return pool


def pooled(x: np.ndarray, pool: str, class_tokens: int, ops: Any) -> np.ndarray:
    """A state, pooled, as a new float32 array.  (B, T, D) or (B, H, W, C) -> (B, D) or (B, C)

    class_tokens: how many tokens precede the patches.
    """
    if pool == "token":
        x = x[:, 0]
    elif pool == "mean":
        # As in `model.pooled`: the patches become a map of one row.
        x = ops.mean_pool(x[:, None, class_tokens:] if x.ndim == 3 else x)
    return np.array(x, np.float32, order="C")


def full_name(state: str, names: Iterable[str]) -> str:
    """The full name of a state: "stages.1" stands for the last unit of that stage.  Raises ValueError.

    >>> full_name("stages.1", ["stem", "stages.1.0", "stages.1.1", "stages.1.1.conv1"])
    'stages.1.1'
    """
    names = list(names)
    if state in names:
        return state
    units = [name for name in names if name.rpartition(".")[0] == state and name.rpartition(".")[2].isdecimal()]
    if units:
        return units[-1]
    main = [name for name in names if all(part.isdecimal() for part in name.split(".")[1:])]
    raise ValueError(f"no state is called {state!r}; there are {', '.join(main)}, and the states inside these, which "
                     "`nphybrid summary` lists")


class Shapes(Discard):
    """Keeps no state, only the shape of each."""

    def __init__(self):
        super().__init__()
        self.shapes: dict[str, tuple[int, ...]] = {}

    def __setitem__(self, name: str, state: np.ndarray) -> None:
        self.shapes[name] = state.shape
