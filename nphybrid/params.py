"""`Params`: the tree of every learned array, with names and shapes.

Only `shapes(config)` defines the shapes of the arrays. Counting, random initialization, loading and `summary` use the
result of `shapes`. The leaves of a `Params` are shapes, NumPy arrays, or the results of `ops.prepare`. The
column at the right has the shape of each array. For a `Norm`, it has the shape of the scale and of the bias. For a
`Linear`, it has the shape of the kernel.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .config import Config, inner_width

Array = Any                               # a Shape, a NumPy array, or a result of `ops.prepare`


class Shape(tuple):
    """The shape of a learned array.  A Shape is a leaf of the tree, and a plain tuple is a branch."""


class Norm(NamedTuple):
    """Scale and bias of a group norm or of a layer norm with C channels."""
    scale: Array                          # (C,)
    bias: Array                           # (C,)


class Linear(NamedTuple):
    """A linear layer: x @ kernel + bias."""
    kernel: Array                         # (C, O)
    bias: Array                           # (O,) or None


class Stem(NamedTuple):
    """The first convolution and a norm.  In BiT, norm is None, because the first residual unit begins with a norm."""
    conv: Array                           # (7, 7, C, O), where C is config.channels and O is config.stem
    norm: Norm | None                     # (O,)


class Unit(NamedTuple):
    """One residual unit with C input channels, M inner channels and O output channels.

    In a unit without a projected shortcut, proj and norm_proj are None.
    """
    conv1: Array                          # (1, 1, C, M)
    norm1: Norm                           # (M,), or (C,) in the pre-activation unit
    conv2: Array                          # (3, 3, M, M)
    norm2: Norm                           # (M,)
    conv3: Array                          # (1, 1, M, O)
    norm3: Norm                           # (O,), or (M,) in the pre-activation unit
    proj: Array | None                    # (1, 1, C, O)
    norm_proj: Norm | None                # (O,), or None in the pre-activation unit


class Tokens(NamedTuple):
    """The learned arrays that turn a feature map into tokens."""
    proj: Linear                          # (P * P * C, D)
    cls: Array | None                     # (D,), the class token
    positions: Array                      # (T, D)
    mask: Array | None                    # (D,), the mask token


class Block(NamedTuple):
    """One encoder block."""
    norm1: Norm                           # (D,)
    query: Linear                         # (D, D)
    key: Linear                           # (D, D)
    value: Linear                         # (D, D)
    out: Linear                           # (D, D)
    norm2: Norm                           # (D,)
    fc1: Linear                           # (D, F)
    fc2: Linear                           # (F, D)


class Params(NamedTuple):
    """All learned arrays, in the order of the forward pass.

    The name of the array `stages[2][8].conv1` is "stages.2.8.conv1".
    """
    stem: Stem | None
    stages: tuple[tuple[Unit, ...], ...]
    features_norm: Norm | None            # (O,), after the last stage of pre-activation units, not used in `hybrid`
    tokens: Tokens | None
    blocks: tuple[Block, ...]
    norm: Norm | None                     # (D,), after the last block
    pooler: Linear | None                 # (D, D) or (D, width of the pooler)
    pool_norm: Norm | None                # (D,), after the pooling
    pre_logits: Linear | None             # (D, config.pre_logits)
    head: Linear | None                   # the classifier (C, classes), where C is D, pre_logits or O of the last stage


def shapes(config: Config, pooler: bool | int = False, mask_token: bool = False) -> Params:
    """The shapes of all learned arrays.  Config -> Params whose leaves are of class Shape

    `pooler`: True for a pooler of width D, an int for a pooler of another width, or False. `mask_token`: whether the
    network has a mask token. A Config does not state whether the network has a pooler or a mask token.

    >>> shapes(Config()).stages[2][8].conv1
    (1, 1, 1024, 256)
    """
    post = config.unit == "bottleneck"    # True if norms follow convolutions, False if norms precede convolutions
    stages = []
    width = config.stem
    for depth, O in zip(config.depths, config.widths):
        M = inner_width(O)
        stages.append(tuple(_unit(width if u == 0 else O, M, O, u == 0, post) for u in range(depth)))
        width = O
    D = config.width
    return Params(
        stem=_stem(config, post) if config.stem else None,
        stages=tuple(stages),
        features_norm=None if post else _norm(width),
        tokens=_tokens(config, config.feature_map[2], mask_token) if config.blocks else None,
        blocks=tuple(_block(D, config.hidden, config.qkv_bias) for _ in range(config.blocks)),
        norm=_norm(D) if config.blocks and not config.norm_pooled else None,
        pooler=_linear(D, D if pooler is True else pooler) if pooler else None,
        pool_norm=_norm(D) if config.norm_pooled else None,
        pre_logits=_linear(D, config.pre_logits) if config.pre_logits else None,
        head=_linear(config.pre_logits or D or width, config.classes) if config.classes else None)


def _stem(config, post):
    return Stem(Shape((7, 7, config.channels, config.stem)), _norm(config.stem) if post else None)


def _unit(C, M, O, first, post):
    norms = (M, M, O) if post else (C, M, M)
    return Unit(
        conv1=Shape((1, 1, C, M)), norm1=_norm(norms[0]),
        conv2=Shape((3, 3, M, M)), norm2=_norm(norms[1]),
        conv3=Shape((1, 1, M, O)), norm3=_norm(norms[2]),
        proj=Shape((1, 1, C, O)) if first else None, norm_proj=_norm(O) if first and post else None)


def _tokens(config, C, mask_token):
    D = config.width
    return Tokens(
        proj=_linear(config.patch ** 2 * C, D), cls=Shape((D,)) if config.class_token else None,
        positions=Shape((config.tokens, D)), mask=Shape((D,)) if mask_token else None)


def _block(D, F, qkv_bias):
    qkv = _linear(D, D, qkv_bias)
    return Block(norm1=_norm(D), query=qkv, key=qkv, value=qkv, out=_linear(D, D),
                 norm2=_norm(D), fc1=_linear(D, F), fc2=_linear(F, D))


def _norm(C):
    return Norm(Shape((C,)), Shape((C,)))


def _linear(C, O, bias=True):
    return Linear(Shape((C, O)), Shape((O,)) if bias else None)


def tree_map(function: Callable[[str, Any], Any], tree: Any, name: str = "") -> Any:
    """A copy of `tree` in which `function(name, leaf)` replaces each leaf.  None stays None."""
    if tree is None:
        return None
    if hasattr(tree, "_fields"):
        dot = f"{name}." if name else ""
        return type(tree)(*(tree_map(function, child, dot + field) for field, child in tree._asdict().items()))
    if type(tree) is tuple:
        return tuple(tree_map(function, child, f"{name}.{i}") for i, child in enumerate(tree))
    return function(name, tree)


def named_leaves(tree: Any) -> dict[str, Any]:
    """A dict {name: leaf} of every leaf, in the order of the forward pass."""
    leaves = {}
    tree_map(leaves.__setitem__, tree)
    return leaves


def count(tree: Params) -> int:
    """The number of parameters in a tree of shapes.

    >>> count(shapes(Config()))
    98950952
    """
    return sum(int(np.prod(shape)) for shape in named_leaves(tree).values())


def random(tree: Params, seed: int, std: float = 0.02) -> Params:
    """Random float32 arrays for a tree of shapes.

    The scales of norms are 1. Biases and the mask token are 0. Convolution kernels have a normal distribution with the
    standard deviation sqrt(2 / (KH KW O)) of He et al. 2015 (fan-out). All other arrays have a normal distribution with
    the standard deviation `std`.
    """
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        if name.endswith("scale"):
            return np.ones(shape, np.float32)
        if name.endswith(("bias", "mask")):
            return np.zeros(shape, np.float32)
        deviation = np.sqrt(2 / np.prod(shape[:2] + shape[3:])) if len(shape) == 4 else std
        return rng.standard_normal(shape, np.float32) * np.float32(deviation)
    return tree_map(draw, tree)
