"""Everything that the page shows, out of one walk: facts, which become JSON, and arrays, most of them as bytes."""
import math
from typing import NamedTuple

import numpy as np

from .. import __version__
from ..api.pipeline import ranked, scored
from ..api.processor import ViTHybridImageProcessor
from ..config import pads, plan
from ..ops import reference
from . import measures

# Above this many tokens the page would grow too large: the keys of 2 x 2 cells are then added up, and shown as one.
MOST_TOKENS = 300
# So many maps of each stage are shown: those that vary most over the picture.
MAPS = 16
LABELS = 5


class Scene(NamedTuple):
    """What is told, and the arrays behind it.  A step that the network does not have is in neither."""
    facts: dict                           # what JSON holds
    arrays: dict                          # {name: Packed}


class Packed(NamedTuple):
    """Numbers as the page keeps them: codes, times the scale of their row, divided by the largest code."""
    codes: np.ndarray
    scales: np.ndarray | None             # float32, one for each row of `row` codes; None: codes are the numbers
    row: int


def packed(x, axes, bits=8):
    """Numbers in few bits.  `axes` last axes share a scale, their largest |x|, so that the error is at most
    scale / 2 / (2^bits - 1), or scale / (2^bits - 2) where some are negative.

    >>> packed(np.array([[0., 0.5, 1], [0, 0, 8]]), axes=1)
    Packed(codes=array([[  0, 128, 255],
           [  0,   0, 255]], dtype=uint8), scales=array([1., 8.], dtype=float32), row=3)
    """
    signed = x.size > 0 and x.min() < 0
    dtype = np.dtype(f"{'int' if signed else 'uint'}{bits}")
    last = tuple(range(x.ndim - axes, x.ndim))
    scales = np.abs(x).max(last, keepdims=True).astype(np.float32)
    codes = np.rint(x / np.where(scales, scales, 1) * np.iinfo(dtype).max).astype(dtype)
    return Packed(codes, scales.reshape(-1), math.prod(x.shape[x.ndim - axes:]))


def exact(x):
    """Numbers as they are: bytes, or float32."""
    return Packed(x if x.dtype == np.uint8 else x.astype(np.float32), None, 1)


def scene(model, picture):
    """Walk once, and keep what can be shown.  model: a hybrid, a plain ViT or a BiT network; picture: Pillow's, RGB."""
    if model.processor is None:
        raise ValueError("this model came without an image processor")
    processor = ViTHybridImageProcessor.from_dict(model.processor)
    trace, p = model.trace(processor(picture, return_tensors="np").pixel_values), model.learned()
    facts = {"version": __version__, "model": type(model).__name__, "parameters": model.num_parameters()}
    steps = {"photograph": {"shape": list(trace["pixel_values"].shape[1:]),
                            **normalization(processor, model.sizes.channels)}}
    arrays = {"pixels": exact(seen(picture, processor))}
    for step in (stem, stages, tokens, positions, attention, weight, distance, rollout, road, answer):
        if found := step(model, trace, p):
            steps[step.__name__], more = found
            arrays |= more
    return Scene({**facts, "steps": steps}, arrays)


def seen(picture, processor):
    """The picture after resizing and cropping, before it is scaled.  -> (H, W, C)"""
    x = processor(picture, do_rescale=False, do_normalize=False, return_tensors="np").pixel_values[0]
    return x.transpose(1, 2, 0)


def normalization(processor, channels):
    """How a value of `seen` becomes one of pixel_values: (value * factor - mean) / std, channel by channel."""
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0, 1)
    return {"factor": processor.rescale_factor if processor.do_rescale else 1,
            "mean": np.broadcast_to(mean, channels).tolist(), "std": np.broadcast_to(std, channels).tolist()}


def stem(model, trace, p):
    """The filters, exactly: what they respond is not kept, for the page itself multiplies pixels and filters."""
    if p.stem is None:
        return None
    config, size = model.sizes, trace["pixel_values"].shape[1:3]
    return {"shape": list(trace["stem"].shape[1:]), "map": list(trace["stem.conv"].shape[1:]),
            "padding": [pads(config.padding, n, 7, 2)[0] for n in size]}, {
        "filters": exact(p.stem.conv.transpose(3, 0, 1, 2))}


def stages(model, trace, p):
    """Some maps after each stage."""
    shown, maps = [], {}
    for s, depth in enumerate(model.sizes.depths if p.stem else ()):
        name = f"stages.{s}.{depth - 1}"
        x = trace[name][0]                                                      # (H, W, C)
        most = np.argsort(-x.var((0, 1)), kind="stable")[:MAPS]
        maps[name] = packed(x[:, :, most].transpose(2, 0, 1), axes=2)
        shown.append({"name": name, "shape": list(x.shape), "units": depth, "channels": most.tolist()})
    return (shown, maps) if shown else None


def tokens(model, trace, p):
    """What each token holds before its position joins, and the position."""
    config = model.sizes
    if not config.blocks:
        return None
    return {"shape": list(trace["tokens"].shape[1:]), "map": list(config.feature_map), "grid": list(config.grid),
            "cell": cell(config), "class": int(config.class_token)}, {
        "contents": packed(trace["tokens"][0] - p.tokens.positions, axes=1, bits=16),
        "positions": packed(p.tokens.positions, axes=1, bits=16)}


def cell(config):
    """(height, width) in pixels of what a token stands for."""
    units = [unit for stage in plan(config)[:config.feature_stage % (len(config.depths) + 1)] for unit in stage]
    return [config.patch * (4 * math.prod(unit.stride for unit in units) if config.stem else 1)] * 2


def positions(model, trace, p):
    """How alike the learned positions are."""
    if not model.sizes.blocks:
        return None
    alike = measures.position_similarity(p.tokens.positions, model.sizes.grid)
    return {}, {"similarity": packed(alike, axes=2)}


def attention(model, trace, p):
    """Every row of every head, in 16 bits, or with fewer keys in 8."""
    config = model.sizes
    if not config.blocks:
        return None
    weights, side = measures.attention(trace, config.blocks), 2 if config.tokens > MOST_TOKENS else 1
    told = {"blocks": config.blocks, "heads": config.heads, "side": side, "keys": [-(-n // side) for n in config.grid]}
    return told, {"attention": packed(pooled_keys(weights, config.grid, side), axes=1, bits=16 // side)}


def weight(model, trace, p):
    """Queries and keys, from which one weight can be worked out; left out where the page would grow too large."""
    config = model.sizes
    if not config.blocks or config.tokens > MOST_TOKENS:
        return None
    kept = {name: np.stack([trace[f"blocks.{l}.{name}"][0] for l in range(config.blocks)]) for name in ("query", "key")}
    return {"width": config.head_width}, {name: packed(x, axes=1, bits=16) for name, x in kept.items()}


def pooled_keys(weights, grid, side):
    """The weights of side x side keys added up, the class token's kept.  (L, A, T, T) -> (L, A, T, 1 + fewer)"""
    L, A, T, _ = weights.shape
    N = grid[0] * grid[1]
    cells = weights[..., -N:].reshape(L, A, T, *grid)
    for axis in (3, 4):
        cells = np.add.reduceat(cells, np.arange(0, cells.shape[axis], side), axis)
    return np.concatenate([weights[..., :-N], cells.reshape(L, A, T, -1)], axis=-1)


def distance(model, trace, p):
    """How far each head looks, and how far one would that looks everywhere alike."""
    config = model.sizes
    if not config.blocks:
        return None
    weights = measures.attention(trace, config.blocks)
    return {"distance": measures.attention_distance(weights, config.grid, cell(config)).round(2).tolist(),
            "uniform": round(float(measures.distances(config.grid, cell(config)).mean()), 2)}, {}


def rollout(model, trace, p):
    """Out of which tokens that is made which the head reads, after each block; and the cell that gives most."""
    config = model.sizes
    if not config.blocks:
        return None
    rolled, N = measures.rollout(measures.attention(trace, config.blocks)), config.grid[0] * config.grid[1]
    read = rolled[:, 0] if config.pool == "token" else rolled[:, -N:].mean(1)   # (L, T)
    brightest = int(read[-1, -N:].argmax()) + config.tokens - N
    return {"reads": config.pool, "brightest": brightest}, {"rollout": exact(read)}


def road(model, trace, p):
    """The head's answer after each block, for the labels that win in the end."""
    config = model.sizes
    if not config.blocks or p.head is None:
        return None
    states = [trace["tokens"]] + [trace[f"blocks.{l}"] for l in range(config.blocks)]
    lens = measures.logit_lens(states, p, config, reference)[:, 0]              # (L + 1, classes)
    scores = np.stack([scored(row, model.config) for row in lens])
    best, leaders = np.argsort(-scores[-1], kind="stable")[:LABELS], scores.argmax(-1)
    return {"scores": scores[:, best].round(6).tolist(),
            "leaders": [{"label": model.config.id2label[int(i)], "score": round(float(row[i]), 6)}
                        for i, row in zip(leaders, scores)]}, {}


def answer(model, trace, p):
    """The best labels, with their logits."""
    if p.head is None:
        return None
    logits = trace["logits"][0]
    best = np.argsort(-scored(logits, model.config), kind="stable")[:LABELS]
    labels = [{**row, "logit": float(logits[i])} for i, row in zip(best, ranked(logits, model.config, LABELS))]
    return {"classes": len(logits), "labels": labels}, {}
