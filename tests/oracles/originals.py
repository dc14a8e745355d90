"""The published networks, defined a second time: the layers of each original, and its forward pass.

A forward pass reads the arrays of a file (published.py) under their published names. It receives the layers as an
argument: `Numpy` here, with the constants in which the originals differ, or PyTorch's and Flax's own layers in
tests/parity/test_dialects_parity.py. No definition uses the package. All maps and tokens are channels last.
"""
import math
import re
from typing import NamedTuple

import numpy as np

from nphybrid.api.load import load


def pixels(height=64, width=64):
    """Two pictures, channels last, float64."""
    return np.random.default_rng(height + width).standard_normal((2, height, width, 3))


def opened(path):
    """The package's model of a file, in float64."""
    return load(path, engine="reference", dtype="float64")


# ------------------------------------------------------------------ layers

class Numpy(NamedTuple):
    """The layers in NumPy, and the constants in which the originals differ."""
    layout: str                           # of kernels: "HWIO", and matrices (in, out); or "OIHW" and (out, in)
    ws_form: str                          # eps beside the "variance", in the root, or the "deviation", outside
    ws_eps: float
    gn_eps: float = 1e-5
    ln_eps: float = 1e-6
    gelu_form: str = "erf"                # or "tanh"
    padding: str = "same"                 # the odd pixel last; "low": first; "symmetric": PyTorch's habit
    pool_fill: float = -np.inf
    groups: int = 32
    concatenate = staticmethod(np.concatenate)
    tanh = staticmethod(np.tanh)

    def relu(self, x):
        return np.where(x > 0, x, 0)

    def gelu(self, x):
        if self.gelu_form == "erf":
            return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
        return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))) / 2

    def _hwio(self, kernel):
        return kernel if self.layout == "HWIO" else kernel.transpose(2, 3, 1, 0)

    def conv(self, x, kernel, stride):
        """The convolution of a standardized kernel."""
        kernel = self._hwio(kernel)
        kernel = kernel - kernel.mean((0, 1, 2))
        variance = (kernel ** 2).mean((0, 1, 2))
        deviation = np.sqrt(variance) + self.ws_eps if self.ws_form == "deviation" else np.sqrt(variance + self.ws_eps)
        return np.tensordot(self._windows(x, len(kernel), stride, 0), kernel / deviation, ((4, 5, 3), (0, 1, 2)))

    def _windows(self, x, taps, stride, fill):
        """What a kernel sees at each of its places on the padded map.  -> (B, H', W', C, KH, KW)"""
        sides = [(0, 0)]
        for n in x.shape[1:3]:
            total = max((math.ceil(n / stride) - 1) * stride + taps - n, 0)
            low, high = total // 2, total - total // 2
            sides.append({"same": (low, high), "low": (high, low), "symmetric": ((taps - 1) // 2,) * 2}[self.padding])
        x = np.pad(x, (*sides, (0, 0)), constant_values=fill)
        return np.lib.stride_tricks.sliding_window_view(x, (taps, taps), (1, 2))[:, ::stride, ::stride]

    def max_pool(self, x):
        return self._windows(x, 3, 2, self.pool_fill).max((4, 5))

    def patches(self, x, kernel, bias):
        """A convolution whose stride is its size: each cell of the grid reads its own patch."""
        kernel = self._hwio(kernel)
        P = len(kernel)
        x = np.lib.stride_tricks.sliding_window_view(x, (P, P), (1, 2))[:, ::P, ::P]
        return np.tensordot(x, kernel, ((4, 5, 3), (0, 1, 2))) + bias

    def group_norm(self, x, scale, bias):
        B, H, W, C = x.shape
        groups = x.reshape(B, H * W, self.groups, C // self.groups)
        groups = groups - groups.mean((1, 3), keepdims=True)
        groups = groups / np.sqrt((groups ** 2).mean((1, 3), keepdims=True) + self.gn_eps)
        return groups.reshape(x.shape) * scale.reshape(-1) + bias.reshape(-1)

    def layer_norm(self, x, scale, bias):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x ** 2).mean(-1, keepdims=True) + self.ln_eps) * scale + bias

    def dense(self, x, kernel, bias):
        return x @ (kernel if self.layout == "HWIO" else kernel.T) + bias

    def attention(self, query, key, value):
        """Three of (B, T, A, K) -> (B, T, A, K)"""
        scores = np.einsum("btak,bsak->bats", query, key) / math.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("bats,bsak->btak", weights / weights.sum(-1, keepdims=True), value)

    def self_attention(self, x, p):
        """Flax's layer, of kernels (D, A, K) and (A, K, D)."""
        parts = [np.einsum("btd,dak->btak", x, p[f"{part}/kernel"]) + p[f"{part}/bias"]
                 for part in ("query", "key", "value")]
        return np.einsum("btak,akd->btd", self.attention(*parts), p["out/kernel"]) + p["out/bias"]


TIMM = Numpy("OIHW", "variance", 1e-8)
JAX = Numpy("HWIO", "deviation", 1e-5, gn_eps=1e-6, gelu_form="tanh")
TIMM_BIT = Numpy("OIHW", "variance", 1e-8, padding="symmetric", pool_fill=0.0)
GOOGLE_BIT = Numpy("HWIO", "variance", 1e-10, padding="symmetric", pool_fill=0.0)


# ------------------------------------------------------------------ forward passes

def part(p, prefix):
    """The arrays whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): array for name, array in p.items() if name.startswith(prefix)}


def numbered(p, pattern):
    """The numbers that stand in names for the one group of a pattern, each once, in order."""
    return sorted({int(found.group(1)) for name in p if (found := re.match(pattern, name))})


def unit(x, layers, norms, convs, proj, stride):
    """A bottleneck of the hybrids.  norms: functions of x; convs: kernels; proj: (kernel, norm) or None."""
    y = layers.relu(norms[0](layers.conv(x, convs[0], 1)))
    y = layers.relu(norms[1](layers.conv(y, convs[1], stride)))
    y = norms[2](layers.conv(y, convs[2], 1))
    return layers.relu(y + (x if proj is None else proj[1](layers.conv(x, proj[0], stride))))


def preactivation_unit(x, layers, norms, convs, proj, stride):
    """A bottleneck of BiT.  proj: a kernel or None"""
    active = layers.relu(norms[0](x))
    y = layers.relu(norms[1](layers.conv(active, convs[0], 1)))
    y = layers.relu(norms[2](layers.conv(y, convs[1], stride)))
    return layers.conv(y, convs[2], 1) + (x if proj is None else layers.conv(active, proj, stride))


def norm_of(p, name, layers, kind="group_norm", first="weight", second="bias"):
    """A norm as a function of x alone."""
    return lambda x: getattr(layers, kind)(x, p[name + first], p[name + second])


def timm_units(p, x, layers, unit_of, projected):
    """All units of a `resnetv2` whose names are `p`'s."""
    for s in numbered(p, r"stages\.(\d+)\."):
        stage = part(p, f"stages.{s}.blocks.")
        for u in numbered(stage, r"(\d+)\."):
            q = part(stage, f"{u}.")
            x = unit_of(x, layers, [norm_of(q, f"norm{i}.", layers) for i in (1, 2, 3)],
                        [q[f"conv{i}.weight"] for i in (1, 2, 3)], projected(q), 2 if s and u == 0 else 1)
    return x


def timm_features(p, x, layers):
    """The backbone of timm's hybrids.  (B, H, W, 3) -> (B, H', W', C)"""
    stem = "stem." if "stem.conv.weight" in p else ""
    x = layers.conv(x, p[f"{stem}conv.weight"], 2)
    x = layers.max_pool(layers.relu(norm_of(p, f"{stem}norm.", layers)(x)))

    def projected(q):
        kernel = q.get("downsample.conv.weight")
        return None if kernel is None else (kernel, norm_of(q, "downsample.norm.", layers))
    return timm_units(p, x, layers, unit, projected)


def timm_logits(p, x, layers, heads, pool="token"):
    """timm's hybrids and plain ViTs.  x (B, H, W, 3) -> (B, classes), or what a head would read

    pool: the class "token", or "avg", the mean of the patches.
    """
    backbone = part(p, "patch_embed.backbone.")
    x = timm_features(backbone, x, layers) if backbone else x
    x = layers.patches(x, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"])
    x = x.reshape(len(x), -1, x.shape[-1])
    B, N, D = x.shape
    if "cls_token" in p:
        x = layers.concatenate([0 * x[:, :1] + p["cls_token"], x], 1)
    x = x + p["pos_embed"]
    for l in numbered(p, r"blocks\.(\d+)\."):
        q = part(p, f"blocks.{l}.")
        qkv = layers.dense(norm_of(q, "norm1.", layers, "layer_norm")(x), q["attn.qkv.weight"], q["attn.qkv.bias"])
        qkv = qkv.reshape(B, -1, 3, heads, D // heads)
        y = layers.attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(B, -1, D)
        x = x + layers.dense(y, q["attn.proj.weight"], q["attn.proj.bias"])
        y = layers.dense(norm_of(q, "norm2.", layers, "layer_norm")(x), q["mlp.fc1.weight"], q["mlp.fc1.bias"])
        x = x + layers.dense(layers.gelu(y), q["mlp.fc2.weight"], q["mlp.fc2.bias"])
    if "norm.weight" in p:
        x = norm_of(p, "norm.", layers, "layer_norm")(x)
    x = x[:, 0] if pool == "token" else x[:, -N:].mean(1)
    if "fc_norm.weight" in p:
        x = norm_of(p, "fc_norm.", layers, "layer_norm")(x)
    if "pre_logits.fc.weight" in p:
        x = layers.tanh(layers.dense(x, p["pre_logits.fc.weight"], p["pre_logits.fc.bias"]))
    return layers.dense(x, p["head.weight"], p["head.bias"]) if "head.weight" in p else x


def timm_bit_logits(p, x, layers):
    """timm's BiT.  x (B, H, W, 3) -> (B, classes)"""
    x = layers.max_pool(layers.conv(x, p["stem.conv.weight"], 2))
    x = timm_units(p, x, layers, preactivation_unit, lambda q: q.get("downsample.conv.weight"))
    x = layers.relu(norm_of(p, "norm.", layers)(x)).mean((1, 2))
    return layers.dense(x, p["head.fc.weight"][:, :, 0, 0], p["head.fc.bias"])


def jax_features(p, x, layers):
    """The backbone of Google's hybrids.  (B, H, W, 3) -> (B, H', W', C)"""
    def norm(q, name):
        return norm_of(q, f"{name}/", layers, first="scale")
    x = layers.max_pool(layers.relu(norm(p, "gn_root")(layers.conv(x, p["conv_root/kernel"], 2))))
    for s in numbered(p, r"block(\d+)/"):
        stage = part(p, f"block{s}/")
        for u in numbered(stage, r"unit(\d+)/"):
            q = part(stage, f"unit{u}/")
            proj = (q["conv_proj/kernel"], norm(q, "gn_proj")) if "conv_proj/kernel" in q else None
            x = unit(x, layers, [norm(q, f"gn{i}") for i in (1, 2, 3)], [q[f"conv{i}/kernel"] for i in (1, 2, 3)],
                     proj, 2 if s > 1 and u == 1 else 1)
    return x


def jax_logits(p, x, layers):
    """Google's hybrids and plain ViTs.  x (B, H, W, 3) -> (B, classes), or what a head would read

    Without a class token the head reads the mean of the tokens.
    """
    def dense(x, name, p=p):
        return layers.dense(x, p[f"{name}/kernel"], p[f"{name}/bias"])

    def norm(x, name, p=p):
        return layers.layer_norm(x, p[f"{name}/scale"], p[f"{name}/bias"])
    x = jax_features(p, x, layers) if "conv_root/kernel" in p else x
    x = layers.patches(x, p["embedding/kernel"], p["embedding/bias"])
    x = x.reshape(len(x), -1, x.shape[-1])
    if "cls" in p:
        x = layers.concatenate([0 * x[:, :1] + p["cls"], x], 1)
    x = x + p["Transformer/posembed_input/pos_embedding"]
    for l in numbered(p, r"Transformer/encoderblock_(\d+)/"):
        q = part(p, f"Transformer/encoderblock_{l}/")
        x = x + layers.self_attention(norm(x, "LayerNorm_0", q), part(q, "MultiHeadDotProductAttention_1/"))
        y = layers.gelu(dense(norm(x, "LayerNorm_2", q), "MlpBlock_3/Dense_0", q))
        x = x + dense(y, "MlpBlock_3/Dense_1", q)
    x = norm(x, "Transformer/encoder_norm")
    x = x[:, 0] if "cls" in p else x.mean(1)
    x = layers.tanh(dense(x, "pre_logits")) if "pre_logits/kernel" in p else x
    return dense(x, "head") if "head/kernel" in p else x


def google_bit_logits(p, x, layers):
    """big_transfer's networks.  x (B, H, W, 3) -> (B, classes)"""
    p, conv = part(p, "resnet/"), "standardized_conv2d/kernel"

    def norm(q, name):
        return norm_of(q, f"{name}group_norm/", layers, first="gamma", second="beta")
    x = layers.max_pool(layers.conv(x, p[f"root_block/{conv}"], 2))
    for s in numbered(p, r"block(\d+)/"):
        stage = part(p, f"block{s}/")
        for u in numbered(stage, r"unit(\d+)/"):
            q = part(stage, f"unit{u:02}/")
            x = preactivation_unit(x, layers, [norm(q, f"{i}/") for i in "abc"], [q[f"{i}/{conv}"] for i in "abc"],
                                   q.get(f"a/proj/{conv}"), 2 if s > 1 and u == 1 else 1)
    x = layers.relu(norm(p, "")(x)).mean((1, 2))
    return layers.dense(x, p["head/conv2d/kernel"][0, 0], p["head/conv2d/bias"])
