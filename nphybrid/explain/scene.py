"""Run one forward pass, and collect the facts and arrays that the page shows.

Facts, such as shapes and labels, are written as JSON. Arrays are written in binary form, and most arrays are quantized.
"""
import math
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..api.scores import scores_of
from ..checkpoint import reread
from ..config import Config, inner_width, pads, plan, stem_border, window_count
from ..ops import reference
from ..params import Params
from . import inside, measures, unit as units
from .shapes import recorded

# If all attention weights take at most EXACT_BYTES with 16 bits each, the page stores all weights, queries and keys.
# Otherwise, the page stores the weights with 8 bits each, and only the queries and keys of the last block.
# If these weights take more than MAX_BYTES, the weights of 2 x 2, 4 x 4, ... keys are added up until the sums fit.
EXACT_BYTES = 2 ** 21
MAX_BYTES = 12.5e6
# The page shows at most MAPS maps of each stage: the maps that vary most over the picture.
MAPS = 16
LABELS = 5


class Scene(NamedTuple):
    """The data of all steps of the page."""
    facts: dict                           # written as JSON
    arrays: dict                          # {name: Quantized}
    shapes: dict                          # the shapes of the pass, as `shapes.recorded` returns them


class Quantized(NamedTuple):
    """A stored array of the page.

    A number of the array is code * scale / most. `scale` is the scale of the number's row, and `most` is the largest
    code that the type of `codes` can hold.
    """
    codes: np.ndarray
    scales: np.ndarray | None             # float32: one scale per row, or None if the codes are the numbers
    row: int                              # the number of codes that share a scale


def quantize(x: np.ndarray, axes: int, bits: int = 8) -> Quantized:
    """Store the numbers of an array with 8 or 16 bits per number.

    The numbers along the last `axes` axes share a scale, which is the largest |x| among these numbers. The error of a
    number is at most scale / 2 / (2^bits - 1) if x has no negative number, and at most scale / (2^bits - 2) if x has
    negative numbers.

    >>> quantize(np.array([[0., 0.5, 1], [0, 0, 8]]), axes=1)
    Quantized(codes=array([[  0, 128, 255],
           [  0,   0, 255]], dtype=uint8), scales=array([1., 8.], dtype=float32), row=3)
    """
    signed = x.size > 0 and x.min() < 0
    dtype = np.dtype(f"{'int' if signed else 'uint'}{bits}")
    last = tuple(range(x.ndim - axes, x.ndim))
    scales = np.abs(x).max(last, keepdims=True).astype(np.float32)
    codes = np.rint(x / np.where(scales, scales, 1) * np.iinfo(dtype).max).astype(dtype)
    return Quantized(codes, scales.reshape(-1), math.prod(x.shape[x.ndim - axes:]))


def exact(x: np.ndarray) -> Quantized:
    """Store an array without quantization.  A uint8 array keeps its type, and all other arrays become float32."""
    return Quantized(x if x.dtype == np.uint8 else x.astype(np.float32), None, 1)


class ForwardPass(NamedTuple):
    """The data of one forward pass.  All steps of the page use these data."""
    model: Any
    network_config: Config
    p: Params                             # the learned arrays, as the reference engine reads them
    trace: dict
    weights: np.ndarray | None            # (L, A, T, T): the attention weights


def scene(model, picture) -> Scene:
    """Run the network for one picture, and collect the data of the page.

    `model` is a hybrid, a plain ViT or a BiT network. `picture` is a Pillow picture in RGB. Raises ValueError for a
    model without an image processor.
    """
    processor, config = model.image_processor(), model.network_config
    with recorded() as shapes:
        trace = model.trace(processor(picture, return_tensors="np").pixel_values)
    weights = measures.attention(trace, config.blocks) if config.blocks else None
    forward = ForwardPass(model, config, model.learned(), trace, weights)
    facts, pixels = photograph(picture, processor)
    steps, arrays = {"photograph": facts}, {"pixels": pixels}
    for step in steps_of(forward):
        steps[step.__name__], more = step(forward)
        arrays |= more
    facts = {"version": __version__, "model": type(model).__name__, "parameters": model.num_parameters(),
             "steps": steps}
    if config.blocks:
        facts["inside"] = {"layer": config.blocks - 1, "token": read_token(forward)}
    return Scene(facts, arrays, shapes)


def steps_of(forward):
    """The functions that collect the data of the page's steps for this network.  The step `photograph` is left out."""
    config, has_head = forward.network_config, forward.p.head is not None
    steps = []
    if config.stem:
        steps.append(stem)
        if forward.p.stem.norm is not None:
            steps.append(norms)
        if used_stages(config):
            steps += [stages, unit]
    if config.blocks:
        steps += [tokens, positions, layer_norm, attention, weight, context, mlp, residual, distance, rollout]
    if has_head:
        steps.append(answer)
        if config.blocks:
            steps.append(logit_lens)
    return steps


class AttentionStorage(NamedTuple):
    """The format in which the page stores attention weights."""
    side: int                             # the weights of side x side keys are added up
    bits: int                             # the number of bits of each weight


def attention_storage(config: Config) -> AttentionStorage:
    """Choose how attention weights are stored, so that the page stays small."""
    L, A, T, (rows, columns) = config.blocks, config.heads, config.tokens, config.grid
    if 2 * L * A * T * T <= EXACT_BYTES:
        return AttentionStorage(1, 16)
    side = 1
    while L * A * T * math.ceil(rows / side) * math.ceil(columns / side) > MAX_BYTES:
        side *= 2
    return AttentionStorage(side, 8)


def photograph(picture, processor):
    """The facts and the pixels of the photograph, after resizing and cropping."""
    x = resized_and_cropped(picture, processor)
    before_crop = resized_and_cropped(picture, processor, do_center_crop=False)
    facts = {"shape": list(x.shape), "resized": list(before_crop.shape), "do_resize": bool(processor.do_resize)}
    return facts | normalization(processor, x.shape[2]), exact(x)


def resized_and_cropped(picture, processor, **options):
    """The resized and cropped picture, with colour values that are not scaled.  -> (H, W, C)"""
    x = processor(picture, do_rescale=False, do_normalize=False, return_tensors="np", **options).pixel_values[0]
    return x.transpose(1, 2, 0)


def normalization(processor, channels):
    """The factor, and the mean and std of each channel: pixel_values = (colour value * factor - mean) / std."""
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0, 1)
    return {"factor": processor.rescale_factor if processor.do_rescale else 1,
            "mean": np.broadcast_to(mean, channels).tolist(), "std": np.broadcast_to(std, channels).tolist()}


def stem(forward):
    """The filters of the stem, without quantization.  The page itself computes the responses of the filters."""
    H, W = forward.trace["pixel_values"].shape[1:3]
    facts = {"shape": list(forward.trace["stem"].shape[1:]), "map": list(forward.trace["stem.conv"].shape[1:]),
             "padding": [pads(forward.network_config.padding, n, 7, 2)[0] for n in (H, W)]}
    return facts, {"filters": exact(forward.p.stem.conv.transpose(3, 0, 1, 2))}


def norms(forward):
    """The filters of the stem before their standardization, and the scale and bias of the group norm of the stem."""
    config, norm = forward.network_config, forward.p.stem.norm
    name, layout = forward.model.table["stem.conv"]
    raw = layout.ours(np.asarray(reread({name: forward.model.originals[name]})[name]), forward.p.stem.conv.shape)
    facts = {"width": config.stem // config.groups, "border": stem_border(config), "eps": config.gn_eps,
             "ws_eps": config.ws_eps, "ws_form": config.ws_form}
    return facts, {"raw_filters": quantize(raw.transpose(3, 0, 1, 2), axes=3, bits=16), "stem_scale": exact(norm.scale),
                   "stem_bias": exact(norm.bias)}


def used_stages(config: Config) -> int:
    """The number of backbone stages before the tokens."""
    return config.feature_stage % (len(config.depths) + 1)


def stages(forward):
    """For each stage before the tokens, the output channels that vary most over the picture, at most MAPS."""
    config, facts, maps = forward.network_config, [], {}
    for s, depth in enumerate(config.depths[:used_stages(config)]):
        name = f"stages.{s}.{depth - 1}"
        x = forward.trace[name][0]                                              # (H, W, C)
        channels = np.argsort(-x.var((0, 1)), kind="stable")[:MAPS]
        maps[name] = quantize(x[:, :, channels].transpose(2, 0, 1), axes=2, bits=16)
        facts.append({"name": name, "shape": list(x.shape), "units": depth, "channels": channels.tolist(),
                      "cell": _stride(config, s + 1), "reach": reach(config, s + 1),
                      "reads_from": [reads_from(config, s + 1, n) for n in forward.trace["pixel_values"].shape[1:3]]})
    return facts, maps


def unit(forward):
    """The maps inside one residual unit."""
    config = forward.network_config
    (s, u), maps = units.shown_unit(config), units.maps(forward.trace, forward.p, config)
    channels = {name: x.tolist() for name, x in units.channels(maps).items()}
    shown = {name: quantize(x[:, :, channels.get(name, channels["sum"])].transpose(2, 0, 1), axes=2, bits=16)
             for name, x in maps.items()}
    facts = {"name": f"stages.{s}.{u}", "shape": list(maps["sum"].shape), "shapes": {"conv1": maps["conv1"].shape},
             "inner": inner_width(config.widths[s]), "channels": channels.pop("sum"),
             "activation": config.backbone_activation if config.unit == "bottleneck" else None}
    return facts | channels, {f"unit_{name}": array for name, array in shown.items()}


def _stride(config, stages):
    """The number of pixels between neighbouring cells after the first `stages` stages."""
    return 4 * math.prod(unit.stride for stage in plan(config)[:stages] for unit in stage)


def _windows(config, stages):
    """The (size, stride, dilation, padding rule) of the windows that a cell reads, from the stem to a stage."""
    inner = [(3, *unit[:2], config.padding) for stage in plan(config)[:stages] for unit in stage]
    return [(7, 2, 1, config.padding), (3, 2, 1, config.pool_padding), *inner]


def reach(config: Config, stages: int) -> int:
    """The side in pixels of the square that the convolutions of one cell read, after the first `stages` stages.

    Near the border of the picture, a part of the square lies outside the picture.
    """
    side, step = 1, 1
    for size, stride, dilation, _ in _windows(config, stages):
        side, step = side + (size - 1) * dilation * step, step * stride
    return side


def reads_from(config: Config, stages: int, n: int) -> int:
    """The first row that the convolutions of the cells in row 0 read, after the first `stages` stages.

    The picture has n rows. A negative row lies outside the picture. Columns have the same rule.
    """
    first, step, border = 0, 1, stem_border(config)                # the border follows the first convolution
    for size, stride, dilation, rule in _windows(config, stages):
        padding = pads(rule, n, size, stride, dilation)
        n, first, step = window_count(n, size, stride, dilation, padding), first - step * padding[0], step * stride
        n, first, border = n + 2 * border, first - step * border, 0
    return first


def cell_size(config: Config) -> list[int]:
    """The [height, width] in pixels of the cell that a token represents."""
    stride = _stride(config, used_stages(config)) if config.stem else 1
    return [config.patch * stride, config.patch * stride]


def tokens(forward):
    """The content (the projected cell or the class token) and the position vector of each token, as two arrays."""
    config, learned = forward.network_config, forward.p.tokens
    contents = forward.trace["tokens.proj"][0]
    if config.class_token:
        contents = np.concatenate([learned.cls.reshape(1, -1), contents])       # (T, D)
    facts = {"shape": list(contents.shape), "map": list(config.feature_map), "grid": list(config.grid),
             "cell": cell_size(config), "class": int(config.class_token)}
    return facts, {"contents": quantize(contents, axes=1, bits=16),
                   "positions": quantize(learned.positions, axes=1, bits=16)}


def positions(forward):
    """The cosines between the position vectors of all cells."""
    similarity = measures.position_similarity(forward.p.tokens.positions, forward.network_config.grid)
    return {}, {"similarity": quantize(similarity, axes=2)}


def attention(forward):
    """The attention weights of all heads.  The weights that queries give to the class token are a separate array."""
    config, (side, bits) = forward.network_config, attention_storage(forward.network_config)
    N = config.grid[0] * config.grid[1]
    facts = {"blocks": config.blocks, "heads": config.heads, "side": side, "bits": bits,
             "keys": [math.ceil(n / side) for n in config.grid], "head": longest_head(forward)}
    arrays = {"attention": quantize(pooled_keys(forward.weights, config.grid, side), axes=1, bits=bits)}
    if config.class_token:
        arrays["to_class"] = quantize(forward.weights[..., :-N], axes=2, bits=16)
    return facts, arrays


def longest_head(forward) -> int:
    """The head of the last block that adds the longest vector to the tokens that the classifier reads."""
    config, out = forward.network_config, forward.p.blocks[-1].out
    context = forward.trace[f"blocks.{config.blocks - 1}.context"][0]           # (T, D)
    read = context[0] if config.pool == "token" else context[int(config.class_token):].mean(0)
    added = np.einsum("ak,akd->ad", read.reshape(config.heads, -1), out.kernel.reshape(config.heads, -1, config.width))
    return int(np.linalg.norm(added, axis=1).argmax())


def pooled_keys(weights, grid, side):
    """Add up the weights in each square of side x side cells.  The class token is left out.  -> (L, A, T, sums)"""
    cells = weights[..., -grid[0] * grid[1]:].reshape(*weights.shape[:3], *grid)
    if side > 1:
        for axis in (3, 4):
            cells = np.add.reduceat(cells, np.arange(0, cells.shape[axis], side), axis)
    return cells.reshape(*weights.shape[:3], -1)


def weight(forward):
    """The queries and the keys from which the page computes one attention weight."""
    arrays, L = {}, forward.network_config.blocks
    first = 0 if attention_storage(forward.network_config).bits == 16 else L - 1
    for name in ("query", "key"):
        states = [forward.trace[f"blocks.{l}.{name}"][0] for l in range(first, L)]
        arrays[name] = quantize(np.stack(states), axes=1, bits=16)
    return {"width": forward.network_config.head_width, "first": first}, arrays


def context(forward):
    """The values and the output projection of the last block."""
    arrays = inside.context(forward.trace, forward.p, [forward.network_config.blocks - 1])
    return {}, {name: quantize(x, axes=1) for name, x in arrays.items()}


def layer_norm(forward):
    """One token of the last block before its first norm, and the scale and bias of the norm."""
    config = forward.network_config
    arrays = inside.layer_norm(forward.trace, forward.p, [config.blocks - 1], [read_token(forward)])
    return {"eps": config.ln_eps}, {name: exact(x) for name, x in arrays.items()}


def mlp(forward):
    """The hidden units of one token in the last block, and the kernel rows of the units that add most to the token."""
    config, token = forward.network_config, read_token(forward)
    arrays = inside.mlp(forward.trace, forward.p, [config.blocks - 1], [token])
    units = inside.longest_units(forward.trace, forward.p, config.blocks - 1, token)
    arrays = {"hidden": exact(arrays["hidden"][..., units]), "activated": exact(arrays["activated"][..., units]),
              "fc2": quantize(arrays["fc2"][:, units], axes=1)}
    return {"width": config.hidden, "units": units.tolist(), "activation": config.activation,
            "curve": inside.curve(config.activation)}, arrays


def residual(forward):
    """The rms of each token before each block, and of what attention and the MLP of the block add to it."""
    return {}, {"rms": exact(inside.residual(forward.trace, forward.network_config.blocks))}


def distance(forward):
    """The mean attention distance of each head, and the mean distance of uniform attention."""
    grid, pixels = forward.network_config.grid, cell_size(forward.network_config)
    return {"distance": measures.attention_distance(forward.weights, grid, pixels).round(2).tolist(),
            "uniform": round(float(measures.distances(grid, pixels).mean()), 2)}, {}


def rollout(forward):
    """The share that each token contributes to the input of the classifier, before the first block and after each."""
    shares = read_shares(forward)
    return {"reads": forward.network_config.pool, "brightest": brightest(forward, shares)}, {"rollout": exact(shares)}


def read_shares(forward):
    """The share of each token in the input of the classifier, before the first block and after each.  -> (L + 1, T)"""
    config, N = forward.network_config, forward.network_config.grid[0] * forward.network_config.grid[1]
    shares = np.concatenate([np.eye(config.tokens)[None], measures.rollout(forward.weights)])   # (L + 1, T, T)
    return shares[:, 0] if config.pool == "token" else shares[:, -N:].mean(1)


def brightest(forward, shares) -> int:
    """The cell's token that has the largest share after the last block."""
    first = int(forward.network_config.class_token)
    return int(shares[-1, first:].argmax()) + first


def read_token(forward) -> int:
    """The token on which the page opens: the class token if the classifier reads it, and otherwise `brightest`."""
    return 0 if forward.network_config.pool == "token" else brightest(forward, read_shares(forward))


def _best_labels(forward):
    """The indices of the labels with the highest scores."""
    scores = scores_of(forward.trace["logits"][0], forward.model.config)
    return np.argsort(-scores, kind="stable")[:LABELS]


def logit_lens(forward):
    """The scores of the network's best labels, before the first block and after each block."""
    blocks, hf_config = forward.network_config.blocks, forward.model.config
    states = [forward.trace["tokens"]] + [forward.trace[f"blocks.{l}"] for l in range(blocks)]
    logits = measures.logit_lens(states, forward.p, forward.network_config, reference)[:, 0]    # (L + 1, classes)
    scores = np.stack([scores_of(row, hf_config) for row in logits])
    leaders = [{"label": hf_config.id2label[int(row.argmax())], "score": round(float(row.max()), 6)} for row in scores]
    return {"scores": scores[:, _best_labels(forward)].round(6).tolist(), "leaders": leaders}, {}


def answer(forward):
    """The best labels with their scores and logits."""
    logits, hf_config = forward.trace["logits"][0], forward.model.config
    scores = scores_of(logits, hf_config)
    labels = [{"label": hf_config.id2label[int(i)], "score": float(scores[i]), "logit": float(logits[i])}
              for i in _best_labels(forward)]
    return {"classes": len(logits), "labels": labels}, {}
