"""Every learned array: its name and its shape.

`shapes(config)` is the one truth. Counting, random initialization, strict loading and the summary are
loops over it. The same tree holds shapes, arrays, or what an engine made of the arrays.
"""
from typing import Any, NamedTuple

import numpy as np

from .config import inner_width

Array = Any                               # a Shape, a NumPy array, or an engine's packed form


class Shape(tuple):
    """The shape of a learned array: a leaf of the tree, where a plain tuple is a branch."""


class Norm(NamedTuple):
    """Scale and bias of a group norm or layer norm over C channels."""
    scale: Array                          # (C,)
    bias: Array                           # (C,)


class Linear(NamedTuple):
    """x @ kernel + bias."""
    kernel: Array                         # (C, O)
    bias: Array                           # (O,) or None


class Stem(NamedTuple):
    """The first convolution.  BiT's own stem has no norm: its first unit begins with one."""
    conv: Array                           # (7, 7, 3, 64)
    norm: Norm | None                     # 64


class Unit(NamedTuple):
    """One bottleneck.  C channels in, M inside, O out; proj is None where the shortcut is the identity."""
    conv1: Array                          # (1, 1, C, M)
    norm1: Norm                           # M; C in the pre-activation unit
    conv2: Array                          # (3, 3, M, M)
    norm2: Norm                           # M
    conv3: Array                          # (1, 1, M, O)
    norm3: Norm                           # O; M in the pre-activation unit
    proj: Array | None                    # (1, 1, C, O)
    norm_proj: Norm | None                # O; None in the pre-activation unit


class Tokens(NamedTuple):
    """From feature map to tokens."""
    proj: Linear                          # (P * P * C, D)
    cls: Array | None                     # (D,)
    positions: Array                      # (T, D)
    mask: Array | None                    # (D,), for masked image modelling


class Block(NamedTuple):
    """One encoder block."""
    norm1: Norm                           # D
    query: Linear                         # (D, D)
    key: Linear                           # (D, D)
    value: Linear                         # (D, D)
    out: Linear                           # (D, D)
    norm2: Norm                           # D
    fc1: Linear                           # (D, F)
    fc2: Linear                           # (F, D)


class Params(NamedTuple):
    """The whole network, in the order of the walk.  `stages[2][8].conv1` is named "stages.2.8.conv1"."""
    stem: Stem | None
    stages: tuple                         # of tuples of Unit
    features_norm: Norm | None            # of a pre-activation backbone; `bit` reads it, a hybrid only has it
    tokens: Tokens | None
    blocks: tuple                         # of Block
    norm: Norm | None                     # after the last block
    pooler: Linear | None                 # (D, D)
    pool_norm: Norm | None                # D
    pre_logits: Linear | None             # (D, config.pre_logits)
    head: Linear | None                   # (D, classes), or from what pre_logits or a lone backbone gives


def shapes(config, pooler=False, mask_token=False):
    """The tree of every learned array's shape.  Config -> Params of Shape

    pooler and mask_token are no part of a Config, since the same network is built with and without them.
    pooler: True, or its width where that is not D.
    """
    post = config.unit == "bottleneck"
    stages, width = [], config.stem
    for depth, out in zip(config.depths, config.widths):
        stages.append(tuple(_unit(width if u == 0 else out, inner_width(out), out, u == 0, post)
                            for u in range(depth)))
        width = out
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
    return Unit(Shape((1, 1, C, M)), _norm(norms[0]), Shape((3, 3, M, M)), _norm(norms[1]),
                Shape((1, 1, M, O)), _norm(norms[2]),
                Shape((1, 1, C, O)) if first else None, _norm(O) if first and post else None)


def _tokens(config, C, mask_token):
    D = config.width
    return Tokens(_linear(config.patch ** 2 * C, D), Shape((D,)) if config.class_token else None,
                  Shape((config.tokens, D)), Shape((D,)) if mask_token else None)


def _block(D, F, qkv_bias):
    qkv = _linear(D, D, qkv_bias)
    return Block(_norm(D), qkv, qkv, qkv, _linear(D, D), _norm(D), _linear(D, F), _linear(F, D))


def _norm(C):
    return Norm(Shape((C,)), Shape((C,)))


def _linear(C, O, bias=True):
    return Linear(Shape((C, O)), Shape((O,)) if bias else None)


def tree_map(function, tree, name=""):
    """The same tree with `function(name, leaf)` in the place of each leaf; None stays None."""
    if tree is None:
        return None
    if hasattr(tree, "_fields"):
        dot = f"{name}." if name else ""
        return type(tree)(*(tree_map(function, child, dot + field) for field, child in tree._asdict().items()))
    if type(tree) is tuple:
        return tuple(tree_map(function, child, f"{name}.{i}") for i, child in enumerate(tree))
    return function(name, tree)


def named_leaves(tree):
    """{name: leaf} of every leaf, in the order of the walk."""
    leaves = {}
    tree_map(leaves.__setitem__, tree)
    return leaves


def count(tree):
    """How many numbers the network learned, from its tree of shapes."""
    return sum(int(np.prod(shape)) for shape in named_leaves(tree).values())


def random(tree, seed, std=0.02):
    """Fresh float32 arrays for a tree of shapes: norms at identity, convolutions by He initialization (fan-out),
    the rest normal with the given standard deviation; biases and the mask token are 0."""
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        if name.endswith("scale"):
            return np.ones(shape, np.float32)
        if name.endswith(("bias", "mask")):
            return np.zeros(shape, np.float32)
        spread = np.sqrt(2 / np.prod(shape[:2] + shape[3:])) if len(shape) == 4 else std
        return (rng.standard_normal(shape, np.float32) * np.float32(spread))
    return tree_map(draw, tree)
