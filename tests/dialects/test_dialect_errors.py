"""Every mistake a dialect invites, made on purpose: the comparison with the original's definition shows it.

A mistake in a table of names is made in the file, one in the numerics in the definition; both leave the two sides as
far apart as the same mistake in the package would. Bound of the right ones: 1e-9, observed 4e-15. Distances
max|a - b| / max|b| of the logits, as `pytest -rP tests/dialects/test_dialect_errors.py` prints them:

    mistake                                         timm     JAX    timm's BiT  Google's BiT
    query transposed                                 0.9       1             -             -
    key transposed                                     1       1             -             -
    value transposed                                   1       1             -             -
    output transposed                                  1       2             -             -
    query and key swapped                            0.6       1             -             -
    key and value swapped                              2       1             -             -
    rows of heads before query, key, value           0.8       -             -             -
    query's and key's biases swapped                 0.1       -             -             -
    MLP transposed                                   0.4     0.9             -             -
    taps of a convolution transposed                 0.6     0.8             -             -
    inputs and outputs of a convolution swapped      0.8     0.5             -             -
    the two layer norms swapped                        1       1             -             -
    first and second group norm swapped              0.3     0.5             -             -
    third norm and the shortcut's swapped            0.3     0.4             -             -
    positions off by one                             0.8       2             -             -
    positions column by column                       0.6     0.3             -             -
    position of the class token last                   1     0.9             -             -
    heads last                                         -       1             -             -
    layer norm's eps 1e-12                          3e-6    4e-6             -             -
    group norm's eps 1e-6                           3e-6       -          5e-6          2e-6
    kernel's eps 1e-5                               2e-2       -             -             -
    kernel's eps 1e-10                              3e-5       -          2e-5             -
    kernel's eps 1e-8 beside the deviation          3e-5       -             -             -
    kernel's eps 1e-5 beside the deviation          4e-4       -          3e-4          7e-5
    GELU by tanh                                    9e-5       -             -             -
    the odd pixel of the padding first               0.7     0.8             -             -
    padding as PyTorch's                             0.7     0.8             -             -
    group norm's eps 1e-5                              -    9e-6             -             -
    kernel's eps 1e-5 beside the variance              -    2e-2             -             -
    kernel's eps 1e-8 beside the variance              -    4e-4             -             -
    kernel's eps 1e-8                                  -    4e-4             -          4e-6
    GELU by erf                                        -    4e-4             -             -
    padding as TensorFlow's                            -       -           0.2           0.1
    the pool's border -inf                             -       -          7e-4          1e-4
    heads of 32                                      0.4       -             -             -
    the mean of the patches pooled                     1       -             -             -

and max|a - b| of pixel values, which go from -1 to 1 (bound of the right ones 1e-6, observed 6e-8):

    mistake                                         timm     JAX
    squashed, not cropped                              2       -
    cropped, not squashed                              -       2
    resized to the crop itself                         2       -
    the half pixel of the crop down                    2       -
    bilinear, not bicubic                            0.3       -
    antialiased                                        -     0.6
    corners in place                                   -     0.4
    CLIP's mean                                      0.2       -
    CLIP's deviation                                 0.9       -
    x / 128 - 1                                        -    8e-3
    values from 0 to 1                                 -       1
    blue first                                         2       2
"""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from nphybrid import ViTHybridImageProcessor

from oracles.originals import (GOOGLE_BIT, JAX, TIMM, TIMM_BIT, Numpy, google_bit_logits, jax_logits, opened, pixels,
                               timm_bit_logits, timm_logits)
from oracles.published import google_bit, jax_vit, npz_file, telling, timm_bit, timm_file, timm_vit

# Faint pictures: what is added to a variance shows where that is small.
X = 0.05 * pixels()


class Dialect(NamedTuple):
    """What makes a file of a dialect, and what defines its answer."""
    shapes: dict
    network: Callable                     # of originals.py
    layers: Numpy
    file: Callable
    rest: tuple = ()

    @property
    def arrays(self):
        return telling(self.shapes, 5)

    def defined(self, **constants):
        """The definition's answer, some of its constants changed."""
        wide = {name: array.astype(np.float64) for name, array in self.arrays.items()}
        return self.network(wide, X, self.layers._replace(**constants), *self.rest)

    def found(self, folder, change=lambda arrays: {}):
        """The package's answer for a file, some of its arrays changed."""
        path = self.file(folder, self.arrays | change(self.arrays))
        return opened(path)(X.transpose(0, 3, 1, 2)).logits


# Every matrix is square, so that its shape hides what is done to it.
SIZES = dict(depths=(1, 1), widths=(128, 128), D=128, L=1, classes=7)
DIALECTS = {
    "timm": Dialect(timm_vit(**SIZES, F=128), timm_logits, TIMM, timm_file, (2,)),
    "JAX": Dialect(jax_vit(**SIZES, F=128, A=2), jax_logits, JAX, npz_file),
    "timm's BiT": Dialect(timm_bit((1, 1), (128, 128)), timm_bit_logits, TIMM_BIT, timm_file),
    "Google's BiT": Dialect(google_bit((1, 1), (128, 128)), google_bit_logits, GOOGLE_BIT, npz_file),
}


def distance(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


def shows(mistake, dialect, a, b, tolerance):
    """A mistake is at least 100 bounds away."""
    print(f"{mistake:45} {dialect:12} {distance(a, b):.0e}")
    assert distance(a, b) > 100 * tolerance["same network, float64"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_right_ones_agree(tmp_path, tolerance, dialect):
    right = DIALECTS[dialect]
    assert distance(right.found(tmp_path), right.defined()) <= tolerance["same network, float64"]      # observed 4e-15


# ------------------------------------------------------------------ tables of names

def rows(part):
    return slice(128 * part, 128 * (part + 1))


def timm_attention(edit):
    """A change of the three square matrices in one array.  edit: function of [query, key, value]"""
    def change(p):
        name = "blocks.0.attn.qkv."
        weight = np.concatenate(edit([p[f"{name}weight"][rows(i)] for i in range(3)]))
        return {f"{name}weight": weight}
    return change


def timm_transposed(i):
    return timm_attention(lambda parts: [w.T if n == i else w for n, w in enumerate(parts)])


def swapped(*names):
    """Two arrays under each other's name."""
    return lambda p: {a: p[b] for a, b in (names, names[::-1])}


def both(*changes):
    return lambda p: {name: array for change in changes for name, array in change(p).items()}


def edited(name, edit):
    return lambda p: {name: edit(p[name])}


HEADS = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/"
BLOCK = "Transformer/encoderblock_0/"
UNIT = "patch_embed.backbone.stages.0.blocks.0."
TABLE = "Transformer/posembed_input/pos_embedding"


def flat(edit):
    """A (D, A, K) or (A, K, D) kernel edited as the square matrix it is."""
    return lambda kernel: edit(kernel.reshape(128, 128)).reshape(kernel.shape)


NAMES = {
    "timm": {
        "query transposed": timm_transposed(0),
        "key transposed": timm_transposed(1),
        "value transposed": timm_transposed(2),
        "output transposed": edited("blocks.0.attn.proj.weight", np.transpose),
        "query and key swapped": timm_attention(lambda parts: [parts[1], parts[0], parts[2]]),
        "key and value swapped": timm_attention(lambda parts: [parts[0], parts[2], parts[1]]),
        "rows of heads before query, key, value": edited(
            "blocks.0.attn.qkv.weight",
            lambda w: w.reshape(3, 2, 64, 128).transpose(1, 0, 2, 3).reshape(384, 128)),
        "query's and key's biases swapped": edited(
            "blocks.0.attn.qkv.bias", lambda b: np.concatenate([b[rows(1)], b[rows(0)], b[rows(2)]])),
        "MLP transposed": edited("blocks.0.mlp.fc1.weight", np.transpose),
        "taps of a convolution transposed": edited(f"{UNIT}conv2.weight", lambda w: w.transpose(0, 1, 3, 2)),
        "inputs and outputs of a convolution swapped": edited(f"{UNIT}conv2.weight", lambda w: w.transpose(1, 0, 2, 3)),
        "the two layer norms swapped": both(swapped("blocks.0.norm1.weight", "blocks.0.norm2.weight"),
                                            swapped("blocks.0.norm1.bias", "blocks.0.norm2.bias")),
        "first and second group norm swapped": swapped(f"{UNIT}norm1.weight", f"{UNIT}norm2.weight"),
        "third norm and the shortcut's swapped": swapped(f"{UNIT}norm3.weight", f"{UNIT}downsample.norm.weight"),
        "positions off by one": edited("pos_embed", lambda t: np.roll(t, 1, 1)),
        "positions column by column": edited("pos_embed", lambda t: np.concatenate(
            [t[:, :1], t[:, 1:].reshape(1, 8, 8, -1).transpose(0, 2, 1, 3).reshape(1, 64, -1)], 1)),
        "position of the class token last": edited("pos_embed", lambda t: np.roll(t, -1, 1)),
    },
    "JAX": {
        "query transposed": edited(f"{HEADS}query/kernel", flat(np.transpose)),
        "key transposed": edited(f"{HEADS}key/kernel", flat(np.transpose)),
        "value transposed": edited(f"{HEADS}value/kernel", flat(np.transpose)),
        "output transposed": edited(f"{HEADS}out/kernel", flat(np.transpose)),
        "query and key swapped": both(swapped(f"{HEADS}query/kernel", f"{HEADS}key/kernel"),
                                      swapped(f"{HEADS}query/bias", f"{HEADS}key/bias")),
        "key and value swapped": swapped(f"{HEADS}key/kernel", f"{HEADS}value/kernel"),
        "heads last": edited(f"{HEADS}query/kernel", lambda w: w.reshape(128, 64, 2).transpose(0, 2, 1)),
        "MLP transposed": edited(f"{BLOCK}MlpBlock_3/Dense_0/kernel", np.transpose),
        "taps of a convolution transposed": edited("block1/unit1/conv2/kernel", lambda w: w.transpose(1, 0, 2, 3)),
        "inputs and outputs of a convolution swapped": edited("block1/unit1/conv2/kernel",
                                                              lambda w: w.transpose(0, 1, 3, 2)),
        "the two layer norms swapped": both(swapped(f"{BLOCK}LayerNorm_0/scale", f"{BLOCK}LayerNorm_2/scale"),
                                            swapped(f"{BLOCK}LayerNorm_0/bias", f"{BLOCK}LayerNorm_2/bias")),
        "first and second group norm swapped": swapped("block1/unit1/gn1/scale", "block1/unit1/gn2/scale"),
        "third norm and the shortcut's swapped": swapped("block1/unit1/gn3/scale", "block1/unit1/gn_proj/scale"),
        "positions off by one": edited(TABLE, lambda t: np.roll(t, 1, 1)),
        "positions column by column": edited(TABLE, lambda t: np.concatenate(
            [t[:, :1], t[:, 1:].reshape(1, 8, 8, -1).transpose(0, 2, 1, 3).reshape(1, 64, -1)], 1)),
        "position of the class token last": edited(TABLE, lambda t: np.roll(t, -1, 1)),
    },
}


@pytest.mark.parametrize("dialect, mistake", [(dialect, name) for dialect, table in NAMES.items() for name in table])
def test_a_wrong_table(tmp_path, tolerance, dialect, mistake):
    wrong = DIALECTS[dialect].found(tmp_path, NAMES[dialect][mistake])
    shows(mistake, dialect, wrong, DIALECTS[dialect].defined(), tolerance)


# ------------------------------------------------------------------ numerics

NUMERICS = {
    "timm": {
        "layer norm's eps 1e-12": dict(ln_eps=1e-12),
        "group norm's eps 1e-6": dict(gn_eps=1e-6),
        "kernel's eps 1e-5": dict(ws_eps=1e-5),
        "kernel's eps 1e-10": dict(ws_eps=1e-10),
        "kernel's eps 1e-8 beside the deviation": dict(ws_form="deviation"),
        "kernel's eps 1e-5 beside the deviation": dict(ws_form="deviation", ws_eps=1e-5),
        "GELU by tanh": dict(gelu_form="tanh"),
        "the odd pixel of the padding first": dict(padding="low"),
        "padding as PyTorch's": dict(padding="symmetric"),
    },
    "JAX": {
        "layer norm's eps 1e-12": dict(ln_eps=1e-12),
        "group norm's eps 1e-5": dict(gn_eps=1e-5),
        "kernel's eps 1e-5 beside the variance": dict(ws_form="variance"),
        "kernel's eps 1e-8 beside the variance": dict(ws_form="variance", ws_eps=1e-8),
        "kernel's eps 1e-8": dict(ws_eps=1e-8),
        "GELU by erf": dict(gelu_form="erf"),
        "the odd pixel of the padding first": dict(padding="low"),
        "padding as PyTorch's": dict(padding="symmetric"),
    },
    "timm's BiT": {
        "group norm's eps 1e-6": dict(gn_eps=1e-6),
        "kernel's eps 1e-10": dict(ws_eps=1e-10),
        "kernel's eps 1e-5 beside the deviation": dict(ws_form="deviation", ws_eps=1e-5),
        "padding as TensorFlow's": dict(padding="same"),
        "the pool's border -inf": dict(pool_fill=-np.inf),
    },
    "Google's BiT": {
        "group norm's eps 1e-6": dict(gn_eps=1e-6),
        "kernel's eps 1e-8": dict(ws_eps=1e-8),
        "kernel's eps 1e-5 beside the deviation": dict(ws_form="deviation", ws_eps=1e-5),
        "padding as TensorFlow's": dict(padding="same"),
        "the pool's border -inf": dict(pool_fill=-np.inf),
    },
}


@pytest.mark.parametrize("dialect, mistake", [(dialect, name) for dialect, table in NUMERICS.items() for name in table])
def test_wrong_numerics(tmp_path, tolerance, dialect, mistake):
    wrong = DIALECTS[dialect].defined(**NUMERICS[dialect][mistake])
    shows(mistake, dialect, wrong, DIALECTS[dialect].found(tmp_path), tolerance)


STRUCTURE = {"heads of 32": (4,), "the mean of the patches pooled": (2, "avg")}


@pytest.mark.parametrize("mistake", STRUCTURE)
def test_wrong_structure(tmp_path, tolerance, mistake):
    """What a timm file does not tell: its heads are 64 wide, and the class token answers."""
    wrong = DIALECTS["timm"]._replace(rest=STRUCTURE[mistake]).defined()
    shows(mistake, "timm", wrong, DIALECTS["timm"].found(tmp_path), tolerance)


def test_the_pools_border_is_no_mistake_in_a_hybrid(tmp_path, tolerance):
    """What is pooled there has been through a ReLU: zeros and -inf are the same network."""
    for dialect in "timm", "JAX":
        other = DIALECTS[dialect].defined(pool_fill=0.0)
        assert distance(DIALECTS[dialect].found(tmp_path), other) <= tolerance["same network, float64"]


# ------------------------------------------------------------------ pictures

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (61, 90, 3), np.uint8))
CARD = {"architecture": "vit_tiny_patch16_224", "num_classes": 7,
        "pretrained_cfg": {"input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.9,
                           "crop_mode": "center", "mean": [0.5] * 3, "std": [0.5] * 3}}


def timm_picture(edge=71, top=4, left=20, resample=Image.Resampling.BICUBIC, mean=0.5, std=0.5):
    """Shortest edge floor(64 / 0.9), so 71 x 104, then the middle: 3.5 and 20 pixels in, the half to the even one."""
    resized = PICTURE.resize((edge * 90 // 61, edge), resample)
    return (np.asarray(resized)[top:top + 64, left:left + 64] / 255 - mean) / std


def between(n, m, corners=False):
    """The m rows that are read between n: (before, after, share of after).  Cells are areas, or, by corners, points."""
    place = np.linspace(0, n - 1, m) if corners else np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    before = np.minimum(place.astype(int), n - 2)
    return before, before + 1, place - before


def jax_picture(corners=False, shift=127.5, scale=127.5):
    """Squashed to 64 x 64 without antialiasing or rounding, to -1 and 1."""
    x = np.asarray(PICTURE, np.float64)
    top, bottom, y = between(61, 64, corners)
    left, right, z = between(90, 64, corners)
    x = x[top] * (1 - y)[:, None, None] + x[bottom] * y[:, None, None]
    return (x[:, left] * (1 - z)[:, None] + x[:, right] * z[:, None] - shift) / scale


def squashed(resample):
    return np.asarray(PICTURE.resize((64, 64), resample)) / 127.5 - 1


PICTURES = {
    "timm": (timm_picture, {
        "squashed, not cropped": lambda: squashed(Image.Resampling.BICUBIC),
        "resized to the crop itself": lambda: timm_picture(64, 0, 15),
        "the half pixel of the crop down": lambda: timm_picture(top=3),
        "bilinear, not bicubic": lambda: timm_picture(resample=Image.Resampling.BILINEAR),
        "CLIP's mean": lambda: timm_picture(mean=np.array([0.48145466, 0.4578275, 0.40821073])),
        "CLIP's deviation": lambda: timm_picture(std=np.array([0.26862954, 0.26130258, 0.27577711])),
        "blue first": lambda: timm_picture()[..., ::-1],
    }),
    "JAX": (jax_picture, {
        "cropped, not squashed": timm_picture,
        "antialiased": lambda: squashed(Image.Resampling.BILINEAR),
        "corners in place": lambda: jax_picture(corners=True),
        "x / 128 - 1": lambda: jax_picture(shift=128, scale=128),
        "values from 0 to 1": lambda: jax_picture(shift=0, scale=255),
        "blue first": lambda: jax_picture()[..., ::-1],
    }),
}


@pytest.fixture
def prepared(tmp_path):
    """A function from a dialect to the pixel values of the picture by its file's own processor, channels last."""
    def prepare(dialect):
        if dialect == "timm":
            path = timm_file(tmp_path, DIALECTS["timm"].arrays, CARD)
        else:
            path = npz_file(tmp_path, DIALECTS["JAX"].arrays)
        processor = ViTHybridImageProcessor.from_pretrained(path)
        return processor(PICTURE, return_tensors="np").pixel_values[0].transpose(1, 2, 0)
    return prepare


@pytest.mark.parametrize("dialect", PICTURES)
def test_the_right_pictures_agree(prepared, dialect):
    assert np.abs(prepared(dialect) - PICTURES[dialect][0]()).max() < 1e-6               # observed 6e-8


@pytest.mark.parametrize("dialect, mistake", [(d, mistake) for d, (_, table) in PICTURES.items() for mistake in table])
def test_wrong_pictures(prepared, dialect, mistake):
    apart = np.abs(PICTURES[dialect][1][mistake]() - prepared(dialect)).max()
    print(f"{mistake:45} {dialect + ', pixels':12} {apart:.0e}")
    assert apart > 100 * 1e-6
