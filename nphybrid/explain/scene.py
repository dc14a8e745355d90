"""Everything that the page shows, out of one walk: facts, which become JSON, and arrays, most of them as bytes."""
import math
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..api.processor import ViTHybridImageProcessor
from ..api.scores import scores_of
from ..config import pads, plan
from ..ops import reference
from . import measures

# Bytes of attention up to which every weight is kept, in 16 bits; and up to which 8 bits hold the keys of 1 x 1 cells,
# or of 2 x 2, 4 x 4 ... added up. Queries and keys are kept in the first case alone.
EXACT, MOST = 2 ** 21, 12.5e6
# So many maps of each stage are shown: those that vary most over the picture.
MAPS = 16
LABELS = 5


class Scene(NamedTuple):
    """What is told, and the arrays behind it.  A step that the network does not have is in neither."""
    facts: dict                           # what JSON holds
    arrays: dict                          # {name: Packed}


class Quantized(NamedTuple):
    """Numbers as the page keeps them: codes, times the scale of their row, divided by the largest code."""
    codes: np.ndarray
    scales: np.ndarray | None             # float32, one for each row of `row` codes; None: codes are the numbers
    row: int


def quantized(x, axes, bits=8):
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
    return Quantized(codes, scales.reshape(-1), math.prod(x.shape[x.ndim - axes:]))


def exact(x):
    """Numbers as they are: bytes, or float32."""
    return Quantized(x if x.dtype == np.uint8 else x.astype(np.float32), None, 1)


class Walk(NamedTuple):
    """What the steps are made from."""
    model: Any
    config: Any                           # the sizes of the network
    p: Any                                # what was learned, as the reference reads it
    trace: dict
    weights: np.ndarray | None            # (L, A, T, T) of the picture


def scene(model, picture):
    """Walk once, and keep what can be shown.  model: a hybrid, a plain ViT or a BiT network; picture: Pillow's, RGB."""
    if model.processor is None:
        raise ValueError("this model came without an image processor")
    processor = ViTHybridImageProcessor.from_dict(model.processor)
    trace = model.trace(processor(picture, return_tensors="np").pixel_values)
    walk = Walk(model, model.network_config, model.learned(), trace,
                measures.attention(trace, model.network_config.blocks) if model.network_config.blocks else None)
    told, pixels = photograph(picture, processor)
    steps, arrays = {"photograph": told}, {"pixels": pixels}
    for step in steps_of(walk):
        steps[step.__name__], more = step(walk)
        arrays |= more
    facts = {"version": __version__, "model": type(model).__name__, "parameters": model.num_parameters()}
    return Scene({**facts, "steps": steps}, arrays)


def steps_of(walk):
    """The steps behind the photograph that this network has."""
    config, head = walk.config, walk.p.head is not None
    found = [stem] * bool(config.stem) + [stages] * bool(config.stem and used_stages(config))
    if config.blocks:
        _, bits = kept(config)
        found += [tokens, positions, attention] + [weight] * (bits == 16) + [distance, rollout] + [road] * head
    return found + [answer] * head


def kept(config):
    """How attention is kept: the side of the square of keys that is added up, and the bits of what comes out."""
    L, A, T, (rows, columns) = config.blocks, config.heads, config.tokens, config.grid
    if 2 * L * A * T * T <= EXACT:
        return 1, 16
    side = 1
    while L * A * T * -(-rows // side) * -(-columns // side) > MOST:
        side *= 2
    return side, 8


def photograph(picture, processor):
    """The picture after resizing and cropping, and how its values become those of pixel_values.

    That is (value * factor - mean) / std, channel by channel.
    """
    x, whole = seen(picture, processor), seen(picture, processor, do_center_crop=False)
    return {"shape": list(x.shape), "resized": list(whole.shape), **normalization(processor, x.shape[2])}, exact(x)


def seen(picture, processor, **options):
    """The picture after resizing and cropping, before it is scaled.  -> (H, W, C)"""
    x = processor(picture, do_rescale=False, do_normalize=False, return_tensors="np", **options).pixel_values[0]
    return x.transpose(1, 2, 0)


def normalization(processor, channels):
    """How a value of `seen` becomes one of pixel_values: (value * factor - mean) / std, channel by channel."""
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0, 1)
    return {"factor": processor.rescale_factor if processor.do_rescale else 1,
            "mean": np.broadcast_to(mean, channels).tolist(), "std": np.broadcast_to(std, channels).tolist()}


def stem(walk):
    """The filters, exactly: what they respond is not kept, for the page itself multiplies pixels and filters."""
    H, W = walk.trace["pixel_values"].shape[1:3]
    return {"shape": list(walk.trace["stem"].shape[1:]), "map": list(walk.trace["stem.conv"].shape[1:]),
            "padding": [pads(walk.config.padding, n, 7, 2)[0] for n in (H, W)]}, {
        "filters": exact(walk.p.stem.conv.transpose(3, 0, 1, 2))}


def used_stages(config):
    """How many stages lie before the tokens."""
    return config.feature_stage % (len(config.depths) + 1)


def stages(walk):
    """Some maps after each stage."""
    shown, maps = [], {}
    for s, depth in enumerate(walk.config.depths[:used_stages(walk.config)]):
        name = f"stages.{s}.{depth - 1}"
        x = walk.trace[name][0]                                                 # (H, W, C)
        most = np.argsort(-x.var((0, 1)), kind="stable")[:MAPS]
        maps[name] = quantized(x[:, :, most].transpose(2, 0, 1), axes=2, bits=16)
        shown.append({"name": name, "shape": list(x.shape), "units": depth, "channels": most.tolist(),
                      "cell": _stride(walk.config, s + 1)})
    return shown, maps


def _stride(config, stages):
    """Pixels from cell to cell after so many stages."""
    return 4 * math.prod(unit.stride for stage in plan(config)[:stages] for unit in stage)


def cell(config):
    """(height, width) in pixels of what a token stands for."""
    return [config.patch * (_stride(config, used_stages(config)) if config.stem else 1)] * 2


def tokens(walk):
    """What each token holds before its position joins, and the position."""
    config, learned = walk.config, walk.p.tokens
    contents = walk.trace["tokens.proj"][0]
    if config.class_token:
        contents = np.concatenate([learned.cls.reshape(1, -1), contents])       # (T, D)
    return {"shape": list(contents.shape), "map": list(config.feature_map), "grid": list(config.grid),
            "cell": cell(config), "class": int(config.class_token)}, {
        "contents": quantized(contents, axes=1, bits=16), "positions": quantized(learned.positions, axes=1, bits=16)}


def positions(walk):
    """How alike the learned positions are."""
    alike = measures.position_similarity(walk.p.tokens.positions, walk.config.grid)
    return {}, {"similarity": quantized(alike, axes=2)}


def attention(walk):
    """Every row of every head; what goes to the class token stands apart."""
    config, (side, bits) = walk.config, kept(walk.config)
    N = config.grid[0] * config.grid[1]
    told = {"blocks": config.blocks, "heads": config.heads, "side": side, "bits": bits,
            "keys": [-(-n // side) for n in config.grid]}
    arrays = {"attention": quantized(pooled_keys(walk.weights, config.grid, side), axes=1, bits=bits)}
    if config.class_token:
        arrays["to_class"] = quantized(walk.weights[..., :-N], axes=2, bits=16)
    return told, arrays


def pooled_keys(weights, grid, side):
    """The weights of side x side cells added up; the class token is left out.  (L, A, T, T) -> (L, A, T, fewer)"""
    cells = weights[..., -grid[0] * grid[1]:].reshape(*weights.shape[:3], *grid)
    for axis in (3, 4) if side > 1 else ():
        cells = np.add.reduceat(cells, np.arange(0, cells.shape[axis], side), axis)
    return cells.reshape(*weights.shape[:3], -1)


def weight(walk):
    """Queries and keys, from which one weight can be worked out."""
    kept = {name: np.stack([walk.trace[f"blocks.{l}.{name}"][0] for l in range(walk.config.blocks)])
            for name in ("query", "key")}
    return {"width": walk.config.head_width}, {name: quantized(x, axes=1, bits=16) for name, x in kept.items()}


def distance(walk):
    """How far each head looks, and how far one would that looks everywhere alike."""
    grid, pixels = walk.config.grid, cell(walk.config)
    return {"distance": measures.attention_distance(walk.weights, grid, pixels).round(2).tolist(),
            "uniform": round(float(measures.distances(grid, pixels).mean()), 2)}, {}


def rollout(walk):
    """Out of which tokens that is made which the head reads, before the first block and after each."""
    config, N = walk.config, walk.config.grid[0] * walk.config.grid[1]
    rolled = np.concatenate([np.eye(config.tokens)[None], measures.rollout(walk.weights)])      # (L + 1, T, T)
    read = rolled[:, 0] if config.pool == "token" else rolled[:, -N:].mean(1)   # (L + 1, T)
    brightest = int(read[-1, -N:].argmax()) + config.tokens - N
    return {"reads": config.pool, "brightest": brightest}, {"rollout": exact(read)}


def _best(walk):
    """The labels that win.  -> indices"""
    return np.argsort(-scores_of(walk.trace["logits"][0], walk.model.config), kind="stable")[:LABELS]


def road(walk):
    """The head's answer before the first block and after each, for the labels that win in the end."""
    states = [walk.trace["tokens"]] + [walk.trace[f"blocks.{l}"] for l in range(walk.config.blocks)]
    lens = measures.logit_lens(states, walk.p, walk.config, reference)[:, 0]    # (L + 1, classes)
    scores = np.stack([scores_of(row, walk.model.config) for row in lens])
    names = walk.model.config.id2label
    return {"scores": scores[:, _best(walk)].round(6).tolist(),
            "leaders": [{"label": names[int(row.argmax())], "score": round(float(row.max()), 6)} for row in scores]}, {}


def answer(walk):
    """The best labels, with their logits."""
    logits, names = walk.trace["logits"][0], walk.model.config.id2label
    scores = scores_of(logits, walk.model.config)
    return {"classes": len(logits), "labels": [
        {"label": names[int(i)], "score": float(scores[i]), "logit": float(logits[i])} for i in _best(walk)]}, {}
