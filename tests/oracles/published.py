"""The published files, written down from the documentation of the originals: names, shapes, and arrays to fill them.

timm's hybrids, plain ViTs and BiT; those of Google's vision_transformer and big_transfer. Nothing is taken from the
package. A file is a flat dict {published name: array in the published layout}.
"""
import json
import math
import re

import numpy as np
from safetensors.numpy import save_file

# Published name: depths, patch, D, L, F, pixels per cell of the grid, parameters (1,000 classes) at 224, 384 pixels.
PUBLISHED = {
    "vit_tiny_r_s16_p8": ((), 8, 192, 12, 768, 32, 6_337_704, 6_355_944),
    "vit_small_r26_s32": ((2, 2, 2, 2), 1, 384, 12, 1536, 32, 36_431_912, 36_468_392),
    "vit_base_r26_s32": ((2, 2, 2, 2), 1, 768, 12, 3072, 32, 101_383_976, None),
    "vit_base_r50_s16": ((3, 4, 9), 1, 768, 12, 3072, 16, 98_659_112, 98_950_952),
    "vit_large_r50_s32": ((3, 4, 6, 3), 1, 1024, 24, 4096, 32, 328_994_856, 329_092_136),
}


def norm_shapes(name, shape, first="weight", second="bias"):
    """The two arrays of a norm."""
    return {f"{name}{first}": shape, f"{name}{second}": shape}


def layer_shapes(name, shape):
    """The two arrays of a layer of PyTorch's, (out, in, ...)."""
    return {f"{name}weight": shape, f"{name}bias": shape[:1]}


def dense_shapes(name, shape):
    """The two arrays of a layer of Flax's, (..., in, out)."""
    return {f"{name}kernel": shape, f"{name}bias": shape[-1:]}


def units(depths, widths, stem):
    """For each unit (stage, unit, channels in, inside, out), counted from 0."""
    for s, (depth, O) in enumerate(zip(depths, widths)):
        for u in range(depth):
            C = O if u else (stem, *widths)[s]
            yield s, u, C, O // 4, O


def timm_backbone(root, depths, widths, stem=64, preactivation=False):
    """A `resnetv2`: root "patch_embed.backbone." in a hybrid, "" by itself."""
    shapes = {}
    if depths:
        shapes[f"{root}stem.conv.weight"] = (stem, 3, 7, 7)
        shapes |= {} if preactivation else norm_shapes(f"{root}stem.norm.", (stem,))
    else:
        shapes |= {f"{root}conv.weight": (stem, 3, 7, 7)} | norm_shapes(f"{root}norm.", (stem,))
    for s, u, C, M, O in units(depths, widths, stem):
        here = f"{root}stages.{s}.blocks.{u}."
        shapes |= {f"{here}conv1.weight": (M, C, 1, 1), f"{here}conv2.weight": (M, M, 3, 3),
                   f"{here}conv3.weight": (O, M, 1, 1)}
        for number, width in zip((1, 2, 3), (C, M, M) if preactivation else (M, M, O)):
            shapes |= norm_shapes(f"{here}norm{number}.", (width,))
        if u == 0:
            shapes[f"{here}downsample.conv.weight"] = (O, C, 1, 1)
            shapes |= {} if preactivation else norm_shapes(f"{here}downsample.norm.", (O,))
    return shapes


def timm_vit(D=128, L=2, F=160, classes=5, tokens=65, patch=1, depths=(1, 2), widths=(128, 256), last="norm."):
    """`vision_transformer_hybrid`, or, with depths None, `vision_transformer`.  last: "fc_norm." where it is pooled."""
    C, shapes = 3, {"cls_token": (1, 1, D), "pos_embed": (1, tokens, D)}
    if depths is not None:
        C = widths[-1] if depths else 64
        shapes |= timm_backbone("patch_embed.backbone.", depths, widths)
    shapes |= layer_shapes("patch_embed.proj.", (D, C, patch, patch))
    for l in range(L):
        here = f"blocks.{l}."
        shapes |= norm_shapes(f"{here}norm1.", (D,)) | layer_shapes(f"{here}attn.qkv.", (3 * D, D))
        shapes |= layer_shapes(f"{here}attn.proj.", (D, D)) | norm_shapes(f"{here}norm2.", (D,))
        shapes |= layer_shapes(f"{here}mlp.fc1.", (F, D)) | layer_shapes(f"{here}mlp.fc2.", (D, F))
    shapes |= norm_shapes(last, (D,))
    return shapes | (layer_shapes("head.", (classes, D)) if classes else {})


def timm_bit(depths=(1, 2), widths=(128, 256), stem=64, classes=5):
    """`resnetv2_*_bit`."""
    return (timm_backbone("", depths, widths, stem, preactivation=True) | norm_shapes("norm.", (widths[-1],))
            | layer_shapes("head.fc.", (classes, widths[-1], 1, 1)))


def jax_backbone(depths, widths, stem=64):
    """The hybrids' ResNet, with the group norms of Flax before 0.3.6: (1, 1, 1, C)."""
    shapes = {"conv_root/kernel": (7, 7, 3, stem)} | norm_shapes("gn_root/", (1, 1, 1, stem), "scale")
    for s, u, C, M, O in units(depths, widths, stem):
        here = f"block{s + 1}/unit{u + 1}/"
        shapes |= {f"{here}conv1/kernel": (1, 1, C, M), f"{here}conv2/kernel": (3, 3, M, M),
                   f"{here}conv3/kernel": (1, 1, M, O)}
        for number, width in zip((1, 2, 3), (M, M, O)):
            shapes |= norm_shapes(f"{here}gn{number}/", (1, 1, 1, width), "scale")
        if u == 0:
            shapes |= {f"{here}conv_proj/kernel": (1, 1, C, O)} | norm_shapes(f"{here}gn_proj/", (1, 1, 1, O), "scale")
    return shapes


def jax_vit(D=48, L=2, A=3, F=80, classes=5, cells=64, patch=1, depths=(1, 2), widths=(128, 256), pre_logits=0,
            token=True):
    """`vit_jax`, hybrid or, with depths None, plain; names from before Linen.  pre_logits: a width, 0 for none."""
    C, K, shapes = 3, D // A, {}
    if depths is not None:
        C = widths[-1] if depths else 64
        shapes |= jax_backbone(depths, widths)
    shapes |= {"cls": (1, 1, D)} if token else {}
    shapes |= dense_shapes("embedding/", (patch, patch, C, D))
    shapes["Transformer/posembed_input/pos_embedding"] = (1, cells + token, D)
    for l in range(L):
        here = f"Transformer/encoderblock_{l}/"
        attention = f"{here}MultiHeadDotProductAttention_1/"
        shapes |= norm_shapes(f"{here}LayerNorm_0/", (D,), "scale") | norm_shapes(f"{here}LayerNorm_2/", (D,), "scale")
        for part in ("query", "key", "value"):
            shapes |= {f"{attention}{part}/kernel": (D, A, K), f"{attention}{part}/bias": (A, K)}
        shapes |= dense_shapes(f"{attention}out/", (A, K, D))
        shapes |= dense_shapes(f"{here}MlpBlock_3/Dense_0/", (D, F))
        shapes |= dense_shapes(f"{here}MlpBlock_3/Dense_1/", (F, D))
    shapes |= norm_shapes("Transformer/encoder_norm/", (D,), "scale")
    shapes |= dense_shapes("pre_logits/", (D, pre_logits)) if pre_logits else {}
    return shapes | (dense_shapes("head/", (pre_logits or D, classes)) if classes else {})


def google_bit(depths=(1, 2), widths=(128, 256), stem=64, classes=5):
    """`big_transfer`."""
    conv, root = "standardized_conv2d/kernel", "resnet/"
    shapes = {f"{root}root_block/{conv}": (7, 7, 3, stem)}
    for s, u, C, M, O in units(depths, widths, stem):
        here = f"{root}block{s + 1}/unit{u + 1:02}/"
        for part, taps, before, after in (("a", 1, C, M), ("b", 3, M, M), ("c", 1, M, O)):
            shapes[f"{here}{part}/{conv}"] = (taps, taps, before, after)
            shapes |= norm_shapes(f"{here}{part}/group_norm/", (before,), "gamma", "beta")
        if u == 0:
            shapes[f"{here}a/proj/{conv}"] = (1, 1, C, O)
    return (shapes | norm_shapes(f"{root}group_norm/", (widths[-1],), "gamma", "beta")
            | dense_shapes(f"{root}head/conv2d/", (1, 1, widths[-1], classes)))


# ------------------------------------------------------------------ arrays

def telling(shapes, seed=0):
    """Float32 arrays in which every number, every eps and every order matters: {name: array}

    Norms 1 +- 0.3, biases 0.3; kernels of the backbone with a mean, and 0.01 to 0.1 wide, each output channel its
    own, so that what is added to their variance shows; a faint class token, for layer norm's eps.
    """
    rng = np.random.default_rng(seed)
    return {name: _drawn(rng, name, shape).astype(np.float32) for name, shape in shapes.items()}


def _drawn(rng, name, shape):
    x, last = rng.standard_normal(shape), re.split("[./]", name)[-1]
    outputs_last = "/" in name
    if name in ("cls", "cls_token"):
        return 0.03 * x
    if last in ("scale", "gamma") or last == "weight" and len(shape) == 1:
        return 1 + 0.3 * x
    if last in ("bias", "beta") or "pos_embed" in name:
        return 0.3 * x
    if len(shape) == 4 and not re.match(r"patch_embed\.proj|embedding/|head|resnet/head", name):
        width = 10 ** rng.uniform(-2, -1, shape[-1] if outputs_last else (shape[0], 1, 1, 1))
        return width * (x + 0.5)
    inputs = shape[1:] if not outputs_last else shape[:1] if re.search("query|key|value", name) else shape[:-1]
    return x * math.sqrt((2.5 if re.search("qkv|query|key", name) else 1) / math.prod(inputs))


# ------------------------------------------------------------------ files

def timm_file(folder, arrays, card=None):
    """model.safetensors, and a config.json of timm's kind beside it where a card is given.  -> path of the weights"""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "model.safetensors")
    if card is not None:
        (folder / "config.json").write_text(json.dumps(card), "utf-8")
    return folder / "model.safetensors"


def npz_file(folder, arrays):
    """model.npz, as Google's files were written.  -> its path"""
    np.savez(folder / "model.npz", **arrays)
    return folder / "model.npz"
