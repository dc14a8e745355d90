"""The features of a picture: one state of the forward pass, which can be pooled to a vector.

The option `state` is the name of the state in `model.trace` and `nphybrid summary`. Examples are stem, stages.1.1,
tokens, blocks.3, norm and pooler. The name stages.1 means the last unit of stage 1. The default of `state` is the state
that the classifier reads.

The option `pool` has three values:

    `token`   The features are the class token, (B, T, D) -> (B, D).
    `mean`    The features are the mean of all patches, (B, T, D) -> (B, D), or the mean of all cells of a map,
              (B, H, W, C) -> (B, C).
    `none`    The features are the whole state.

If `state` and `pool` are not given, the features are pooled as in the classifier. If only `state` is given, the default
of `pool` is `token` for a state with a class token, `none` for a vector, and `mean` for all other states.
"""
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checkpoint import head_reads
from ..config import Config
from ..text import did_you_mean
from ..trace import Discard, Trace

if TYPE_CHECKING:
    from .base import Model

POOLS = ("token", "mean", "none")

# The possible pools of a state, by the number of axes of the state. The first possible pool is the default.
POOLS_OF_RANK = {2: ("none",), 3: ("token", "mean", "none"), 4: ("mean", "none")}


class Extractor(NamedTuple):
    """A function `compute` that computes features, with the state, the pool and the shape of the features."""
    state: str
    pool: str
    shape: tuple[int, ...]                # the shape of the features of one picture
    compute: Callable[[np.ndarray], np.ndarray]     # pixel_values (B, C, H, W) -> float32 (B, *shape)


def extractor(model: "Model", pixel_values: np.ndarray, state: str | None = None, pool: str | None = None) -> Extractor:
    """Make the Extractor of a model.

    `model`: a model of any class. `pixel_values`: a picture (1, C, H, W) with any pixels. A forward pass of the picture
    finds the names and shapes of the states. `state`, `pool`: the options in the docstring of this file. Raises
    ValueError for an unknown state, and for a pool that is not possible for the state.

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
    """The number of class tokens in a state with the given shape.  The state "tokens.proj" has no class token."""
    has_all_tokens = len(shape) == 3 and shape[1] == network_config.tokens
    return int(network_config.class_token) if has_all_tokens else 0


def _checked_pool(pool: str | None, state: str, shape: tuple[int, ...], class_tokens: int) -> str:
    """Returns `pool`, or the default pool of the state if `pool` is None.

    Raises ValueError for a pool that is not possible for the state.
    """
    pools = POOLS_OF_RANK[len(shape)]
    if not class_tokens:
        pools = tuple(name for name in pools if name != "token")
    if not pool:
        return pools[0]
    if pool not in POOLS:
        raise ValueError(f"pool is {pool!r}; expected one of {', '.join(POOLS)}")
    if pool not in pools:
        missing = "class token" if pool == "token" else "patches"
        raise ValueError(f"pool is {pool!r}, but the state {state} of shape {shape[1:]} has no {missing}; expected "
                         f"one of {', '.join(pools)}")
    return pool


def pooled(x: np.ndarray, pool: str, class_tokens: int, ops: Any) -> np.ndarray:
    """Pool a state to a new float32 array.  (B, T, D) -> (B, D), (B, H, W, C) -> (B, C)

    `class_tokens`: the number of tokens before the patches.
    """
    if pool == "token":
        x = x[:, 0]
    elif pool == "mean":
        # mean_pool expects a map, so the patches become a map of one row.
        x = ops.mean_pool(x[:, None, class_tokens:] if x.ndim == 3 else x)
    return np.array(x, np.float32, order="C")


def full_name(state: str, names: Iterable[str]) -> str:
    """Returns the full name of a state.  Raises ValueError for an unknown name.

    The short name "stages.1" means the last unit of stage 1.

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
    raise ValueError(f"state is {state!r}; expected the name of a state, such as {', '.join(main)}; "
                     f"`nphybrid summary` lists all names{did_you_mean(str(state), names)}")


class Shapes(Discard):
    """A Trace that keeps only the shape of each state."""

    def __init__(self):
        super().__init__()
        self.shapes: dict[str, tuple[int, ...]] = {}

    def __setitem__(self, name: str, state: np.ndarray) -> None:
        self.shapes[name] = state.shape
