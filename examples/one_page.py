"""The Hybrid Vision Transformer on one page of NumPy.

    python examples/one_page.py [PICTURE [MODEL.h5]]

This program computes the labels of a picture with the whole network in its smallest form. The program uses the array
names of the checkpoint. The weights are read by h5py, and the picture by Pillow. A test compares the logits with the
logits of the package.
"""
import json
import math
import sys
from pathlib import Path

import h5py
import numpy as np
from PIL import Image


def same(x, k, stride, fill=0.0):
    """Pad (B, H, W, C) so that n cells give ceil(n / stride) windows of k cells.  The end may get one cell more."""
    total = [max((-(-n // stride) - 1) * stride + k - n, 0) for n in x.shape[1:3]]
    return np.pad(x, [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)], constant_values=fill)


def windows(x, k, stride):
    """Returns every k x k window.  (B, H, W, C) -> (B, H', W', C, k, k)"""
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))[:, ::stride, ::stride]


def conv(x, w, stride=1):
    """A convolution with standardized weights w (O, C, k, k)."""
    w = (w - w.mean((1, 2, 3), keepdims=True)) / np.sqrt(w.var((1, 2, 3), keepdims=True) + 1e-8)
    return np.tensordot(windows(same(x, w.shape[-1], stride), w.shape[-1], stride), w, ([3, 4, 5], [1, 2, 3]))


def group_norm(x, p, name, groups):
    B, H, W, C = x.shape
    x = x.reshape(B, H, W, groups, C // groups)
    x = (x - x.mean((1, 2, 4), keepdims=True)) / np.sqrt(x.var((1, 2, 4), keepdims=True) + 1e-5)
    return x.reshape(B, H, W, C) * p[name + ".weight"] + p[name + ".bias"]


def layer_norm(x, p, name, eps):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return x * p[name + ".weight"] + p[name + ".bias"]


def linear(x, p, name):
    return x @ p[name + ".weight"].T + p[name + ".bias"]


def relu(x):
    return np.maximum(x, 0)


def gelu(x):
    return x * np.vectorize(math.erfc, otypes=[np.float64])(-x / math.sqrt(2)) / 2


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def bottleneck(x, p, name, stride, G):
    shortcut = x
    if name + ".downsample.conv.weight" in p:
        shortcut = conv(x, p[name + ".downsample.conv.weight"], stride)
        shortcut = group_norm(shortcut, p, name + ".downsample.norm", G)
    y = relu(group_norm(conv(x, p[name + ".conv1.weight"]), p, name + ".norm1", G))
    y = relu(group_norm(conv(y, p[name + ".conv2.weight"], stride), p, name + ".norm2", G))
    return relu(group_norm(conv(y, p[name + ".conv3.weight"]), p, name + ".norm3", G) + shortcut)


def backbone(x, p, c):
    name, G = "vit.embeddings.patch_embeddings.backbone.bit.", c["num_groups"]
    x = relu(group_norm(conv(x, p[name + "embedder.convolution.weight"], 2), p, name + "embedder.norm", G))
    x = windows(same(x, 3, 2), 3, 2).max((-1, -2))                          # (B, H/4, W/4, 64)
    for s, depth in enumerate(c["depths"]):
        for u in range(depth):
            x = bottleneck(x, p, f"{name}encoder.stages.{s}.layers.{u}", 2 if s > 0 and u == 0 else 1, G)
    return x


def attention(x, p, name, heads):
    B, T, D = x.shape
    q, k, v = (linear(x, p, f"{name}.attention.{part}").reshape(B, T, heads, -1).transpose(0, 2, 1, 3)
               for part in ("query", "key", "value"))                       # (B, A, T, K)
    weights = softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(D // heads))  # (B, A, T, T)
    return linear((weights @ v).transpose(0, 2, 1, 3).reshape(B, T, D), p, name + ".output.dense")


def hybrid(x, p, config):
    """Compute the logits.  pixel_values (B, H, W, 3) -> (B, classes)"""
    name, eps = "vit.embeddings.", config["layer_norm_eps"]
    x = backbone(x, p, config["backbone_config"])                           # (B, 8, 8, 256)
    w = p[name + "patch_embeddings.projection.weight"][:, :, 0, 0]          # A patch is one cell.
    x = x.reshape(len(x), -1, x.shape[-1]) @ w.T + p[name + "patch_embeddings.projection.bias"]
    cls = np.repeat(p[name + "cls_token"], len(x), 0)
    x = np.concatenate([cls, x], 1) + p[name + "position_embeddings"]       # (B, 65, 192)
    for l in range(config["num_hidden_layers"]):
        block = f"vit.encoder.layer.{l}."
        x = x + attention(layer_norm(x, p, block + "layernorm_before", eps), p, block + "attention",
                          config["num_attention_heads"])
        y = gelu(linear(layer_norm(x, p, block + "layernorm_after", eps), p, block + "intermediate.dense"))
        x = x + linear(y, p, block + "output.dense")
    return linear(layer_norm(x, p, "vit.layernorm", eps)[:, 0], p, "classifier")


def pixels(path, size):
    """Resize the shorter side, cut out the centre, and scale to [-1, 1].  -> (1, size, size, 3)"""
    picture = Image.open(path).convert("RGB")
    short, long = sorted(picture.size)
    w, h = (size if n == short else int(size * long / short) for n in picture.size)
    picture = picture.resize((w, h), Image.Resampling.BICUBIC)
    left, top = (w - size) // 2, (h - size) // 2
    picture = picture.crop((left, top, left + size, top + size))
    return (np.asarray(picture, np.float64)[None] / 255 - 0.5) / 0.5


def load(path):
    with h5py.File(path) as file:
        config = json.loads(file["nphybrid/config"][()].tobytes())
        return {name: np.float64(file[name]) for name in file if name != "nphybrid"}, config


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    path = sys.argv[1] if len(sys.argv) > 1 else here / "images/cat.png"
    model = sys.argv[2] if len(sys.argv) > 2 else here.parent / "weights/vit-hybrid-tiny-cifar10.h5"
    p, config = load(model)
    scores = softmax(hybrid(pixels(path, config["image_size"]), p, config)[0])
    for i in np.argsort(-scores)[:5]:
        print(f"{config['id2label'][str(i)]:12} {scores[i]:.4f}")
