"""Every published dialect against its original's own layers: transformers, timm in PyTorch, Google's in Flax.

transformers itself runs. For the others the forward passes are those of originals.py, which reads the published names.
Their layers are PyTorch's functions as timm calls them, and Flax's modules at their defaults. Both sides compute in
float64 on the same float32 file; `pytest -rP tests/parity/test_dialects_parity.py` prints the largest distance. Files
that write the same names differently are in tests/dialects/test_dialects.py.
"""
import math

import numpy as np
import pytest

from nphybrid.testing import telling_weights

from oracles.originals import google_bit_logits, jax_logits, opened, pixels, timm_bit_logits, timm_logits
from oracles.published import google_bit, jax_vit, npz_file, telling, timm_bit, timm_file, timm_vit
from tools.on_demand import on_demand

pytestmark = pytest.mark.slow

transformers = on_demand("transformers")
torch, functional = on_demand("torch"), on_demand("torch.nn.functional")

WORST = {}


def assert_same(ours, theirs, tolerance, kind):
    assert ours.dtype == np.float64 and ours.shape == theirs.shape and np.ptp(theirs) > 0
    apart = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    WORST[kind] = max(WORST.get(kind, 0), apart)
    assert apart <= tolerance["same network, float64"]


# ------------------------------------------------------------------ Hugging Face's plain ViT

VIT = dict(image_size=32, patch_size=8, hidden_size=48, num_hidden_layers=2, num_attention_heads=3,
           intermediate_size=80, num_labels=5)


def vit(folder, kind, attention="sdpa", **options):
    """A small random network, saved by transformers itself, then widened to float64."""
    network = kind(transformers.ViTConfig(**VIT, **options, attn_implementation=attention)).eval()
    network.load_state_dict({name: torch.from_numpy(x) for name, x in telling_weights(network, 3).items()})
    network.save_pretrained(folder)
    return network.double()


def asked(network, x, **options):
    with torch.inference_mode():
        return network(torch.from_numpy(x.transpose(0, 3, 1, 2)), **options)


@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}, {"hidden_act": "gelu_pytorch_tanh"},
                                     {"layer_norm_eps": 1e-3}], ids=str)
def test_transformers_classifier(tmp_path, tolerance, options):
    network, x = vit(tmp_path, transformers.ViTForImageClassification, **options), pixels(32, 32)
    theirs, ours = asked(network, x, output_hidden_states=True), opened(tmp_path)
    assert type(ours).__name__ == "ViTForImageClassification"
    out = ours(x.transpose(0, 3, 1, 2), output_hidden_states=True)
    assert_same(out.logits, theirs.logits.numpy(), tolerance, "transformers")
    for a, b in zip(out.hidden_states, theirs.hidden_states, strict=True):
        assert_same(a, b.numpy(), tolerance, "transformers")


@pytest.mark.parametrize("width", [20, None])
def test_transformers_pooler(tmp_path, tolerance, width):
    network, x = vit(tmp_path, transformers.ViTModel, pooler_output_size=width), pixels(32, 32)
    theirs, ours = asked(network, x), opened(tmp_path)(x.transpose(0, 3, 1, 2))
    assert ours.pooler_output.shape == (2, width or 48)
    assert_same(ours.pooler_output, theirs.pooler_output.numpy(), tolerance, "transformers")
    assert_same(ours.last_hidden_state, theirs.last_hidden_state.numpy(), tolerance, "transformers")


def test_transformers_attention_weights(tmp_path, tolerance):
    """Upstream's eager softmax is in float32 whatever the model's dtype: float64 has to be computed beside it."""
    network, x = vit(tmp_path, transformers.ViTForImageClassification, "eager"), pixels(32, 32)
    heard = {}
    for name, module in network.named_modules():
        if name.endswith((".query", ".key")):
            module.register_forward_hook(lambda module, _, y, name=name: heard.update({name: y.numpy()}))
    theirs = asked(network, x, output_attentions=True).attentions
    ours = opened(tmp_path)(x.transpose(0, 3, 1, 2), output_attentions=True).attentions
    assert np.abs(ours[0] - theirs[0].numpy()).max() < 1e-6                              # observed 1.5e-7
    query, key = (heard[f"vit.encoder.layer.0.attention.attention.{part}"].reshape(2, 17, 3, 16)
                  for part in ("query", "key"))
    exact = np.exp(np.einsum("btak,bsak->bats", query, key) / 4)
    assert_same(ours[0], exact / exact.sum(-1, keepdims=True), tolerance, "transformers")


@pytest.mark.parametrize("size", [(40, 24), (24, 24), (72, 16), (32, 32)])
def test_transformers_other_sizes(tmp_path, tolerance, size):
    network, x = vit(tmp_path, transformers.ViTForImageClassification), pixels(*size)
    theirs = asked(network, x, interpolate_pos_encoding=True).logits.numpy()
    ours = opened(tmp_path)(x.transpose(0, 3, 1, 2), interpolate_pos_encoding=True).logits
    assert_same(ours, theirs, tolerance, "transformers")


# ------------------------------------------------------------------ timm

class Torch:
    """The layers that timm calls.  same: TensorFlow's padding; else BiT's, 3 and 1 on each side, of zeros."""
    def __init__(self, same=True):
        self.same = same
        self.concatenate, self.tanh, self.relu, self.gelu = torch.cat, torch.tanh, functional.relu, functional.gelu

    def _padded(self, x, taps, stride, value):
        """(B, H, W, C) -> (B, C, H + ..., W + ...)"""
        sides = []
        for n in (x.shape[2], x.shape[1]):                         # functional.pad wants the last axis first
            if self.same:
                total = max((math.ceil(n / stride) - 1) * stride + taps - n, 0)
                sides += [total // 2, total - total // 2]
            else:
                sides += [(taps - 1) // 2] * 2
        return functional.pad(x.permute(0, 3, 1, 2), sides, value=value)

    def conv(self, x, kernel, stride):
        flat = kernel.reshape(1, len(kernel), -1)
        kernel = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-8).reshape(kernel.shape)
        x = self._padded(x, kernel.shape[-1], stride, 0.0)
        return functional.conv2d(x, kernel, stride=stride).permute(0, 2, 3, 1)

    def max_pool(self, x):
        x = self._padded(x, 3, 2, -math.inf if self.same else 0.0)
        return functional.max_pool2d(x, 3, 2).permute(0, 2, 3, 1)

    def patches(self, x, kernel, bias):
        return functional.conv2d(x.permute(0, 3, 1, 2), kernel, bias, stride=kernel.shape[-1]).permute(0, 2, 3, 1)

    def group_norm(self, x, scale, bias):
        return functional.group_norm(x.permute(0, 3, 1, 2), 32, scale, bias, 1e-5).permute(0, 2, 3, 1)

    def layer_norm(self, x, scale, bias):
        return functional.layer_norm(x, x.shape[-1:], scale, bias, 1e-6)

    def dense(self, x, kernel, bias):
        return functional.linear(x, kernel, bias)

    def attention(self, query, key, value):
        heads = (x.transpose(1, 2) for x in (query, key, value))
        return functional.scaled_dot_product_attention(*heads).transpose(1, 2)


def in_torch(network, arrays, x, layers, *rest):
    """The logits of one of the networks in originals.py, as float64 NumPy."""
    tensors = {name: torch.from_numpy(array.astype(np.float64)) for name, array in arrays.items()}
    with torch.inference_mode():
        return network(tensors, torch.from_numpy(x), layers, *rest).numpy()


TIMM = {
    "two stages": dict(),
    "stem alone": dict(depths=(), widths=(), patch=8, tokens=5),
    "plain": dict(depths=None, patch=16, tokens=17),
}


@pytest.mark.parametrize("name", TIMM)
def test_timm(tmp_path, tolerance, name):
    arrays, x = telling(timm_vit(**TIMM[name])), pixels(64, 64)
    theirs = in_torch(timm_logits, arrays, x, Torch(), 2)
    ours = opened(timm_file(tmp_path, arrays))(x.transpose(0, 3, 1, 2))
    assert_same(ours.logits, theirs, tolerance, "timm")


@pytest.mark.parametrize("size", [(64, 64), (61, 50)])
def test_timm_bit(tmp_path, tolerance, size):
    arrays, x = telling(timm_bit()), pixels(*size)
    theirs = in_torch(timm_bit_logits, arrays, x, Torch(same=False))
    ours = opened(timm_file(tmp_path, arrays))(x.transpose(0, 3, 1, 2))
    assert_same(ours.logits, theirs, tolerance, "timm's BiT")


class BigTransfer(Torch):
    """The layers that big_transfer's PyTorch code calls, on the kernels of its files: (KH, KW, C, O) and (C, K)."""

    def conv(self, x, kernel, stride):
        kernel = kernel.permute(3, 2, 0, 1)
        variance, mean = torch.var_mean(kernel, (1, 2, 3), keepdim=True, correction=0)
        x = self._padded(x, kernel.shape[-1], stride, 0.0)
        return functional.conv2d(x, (kernel - mean) / torch.sqrt(variance + 1e-10), stride=stride).permute(0, 2, 3, 1)

    def dense(self, x, kernel, bias):
        return functional.linear(x, kernel.T, bias)


@pytest.mark.parametrize("size", [(64, 64), (61, 50)])
def test_google_bit(tmp_path, tolerance, size):
    arrays, x = telling(google_bit()), pixels(*size)
    theirs = in_torch(google_bit_logits, arrays, x, BigTransfer(same=False))
    ours = opened(npz_file(tmp_path, arrays))(x.transpose(0, 3, 1, 2))
    assert_same(ours.logits, theirs, tolerance, "Google's BiT")


@pytest.mark.parametrize("size", [(96, 64), (48, 80), (30, 121)])
def test_timm_other_sizes(tmp_path, tolerance, size):
    """The table is resized as Pillow would, antialiased."""
    arrays, x = telling(timm_vit()), pixels(*size)
    cells, table = tuple(math.ceil(n / 8) for n in size), arrays["pos_embed"].astype(np.float64)
    grid = torch.from_numpy(table[:, 1:].reshape(1, 8, 8, 128)).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, cells, mode="bicubic", antialias=True).permute(0, 2, 3, 1).reshape(1, -1, 128)
    table = np.concatenate([table[:, :1], grid.numpy()], 1)
    theirs = in_torch(timm_logits, arrays | {"pos_embed": table}, x, Torch(), 2)
    ours = opened(timm_file(tmp_path, arrays))(x.transpose(0, 3, 1, 2), interpolate_pos_encoding=True)
    assert_same(ours.logits, theirs, tolerance, "timm, resized")


# ------------------------------------------------------------------ Google's JAX

@pytest.fixture(scope="module")
def flax():
    """Flax's layers at their own defaults, in float64, and its standardized convolution."""
    jax = pytest.importorskip("jax")
    nn = pytest.importorskip("flax.linen")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def applied(module, x, **arrays):
        return module.apply({"params": arrays}, x)

    class Flax:
        concatenate, tanh, relu, gelu = map(staticmethod, (jnp.concatenate, jnp.tanh, nn.relu, nn.gelu))

        def conv(self, x, kernel, stride):
            kernel = kernel - kernel.mean((0, 1, 2))
            kernel = kernel / (kernel.std((0, 1, 2)) + 1e-5)
            return applied(nn.Conv(kernel.shape[-1], kernel.shape[:2], stride, use_bias=False), x, kernel=kernel)

        def max_pool(self, x):
            return nn.max_pool(x, (3, 3), (2, 2), "SAME")

        def patches(self, x, kernel, bias):
            module = nn.Conv(kernel.shape[-1], kernel.shape[:2], kernel.shape[:2], "VALID")
            return applied(module, x, kernel=kernel, bias=bias)

        def group_norm(self, x, scale, bias):
            return applied(nn.GroupNorm(), x, scale=scale.reshape(-1), bias=bias.reshape(-1))

        def layer_norm(self, x, scale, bias):
            return applied(nn.LayerNorm(), x, scale=scale, bias=bias)

        def dense(self, x, kernel, bias):
            return applied(nn.Dense(len(bias)), x, kernel=kernel, bias=bias)

        def self_attention(self, x, p):
            layers = {layer: {"kernel": p[f"{layer}/kernel"], "bias": p[f"{layer}/bias"]}
                      for layer in ("query", "key", "value", "out")}
            return applied(nn.MultiHeadDotProductAttention(len(p["query/bias"])), x, **layers)

    def logits(arrays, x):
        wide = {name: jnp.asarray(array, jnp.float64) for name, array in arrays.items()}
        return np.asarray(jax.jit(lambda arrays, x: jax_logits(arrays, x, Flax()))(wide, jnp.asarray(x)))
    return logits


@pytest.mark.parametrize("options", [dict(pre_logits=20), dict(depths=None, patch=16, cells=16, token=False)],
                         ids=["hybrid, pre_logits", "plain, mean"])
def test_jax(tmp_path, tolerance, flax, options):
    arrays, x = telling(jax_vit(**options)), pixels(64, 64)
    ours = opened(npz_file(tmp_path, arrays))(x.transpose(0, 3, 1, 2))
    assert_same(ours.logits, flax(arrays, x), tolerance, "JAX")


def test_worst():
    print("largest distance:", ", ".join(f"{kind} {apart:.1e}" for kind, apart in WORST.items()))
    assert all(apart > 0 for apart in WORST.values()), "two networks that are one"
