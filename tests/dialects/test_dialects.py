"""Every published dialect loads and equals its definition (originals.py), in each form of its names.

Files are written with the names and shapes of published.py and read by the package in float64. That the definitions
are the originals', tests/parity/test_dialects_parity.py shows with the originals' own layers.
"""
import json
import math
import struct

import numpy as np
import pytest

from nphybrid import (ViTConfig, ViTForImageClassification, ViTHybridConfig, ViTHybridForImageClassification,
                      checkpoint, params)
from nphybrid.api.load import load

from oracles.originals import (GOOGLE_BIT, JAX, TIMM, TIMM_BIT, google_bit_logits, jax_logits, opened, pixels,
                               timm_bit_logits, timm_logits)
from oracles.published import PUBLISHED, google_bit, jax_vit, npz_file, telling, timm_bit, timm_file, timm_vit


def widened(arrays):
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def timm_answer(arrays, x, pool="token"):
    """The definition's, with heads of 64."""
    return timm_logits(widened(arrays), x, TIMM, arrays["cls_token"].shape[-1] // 64, pool)


def jax_answer(arrays, x):
    return jax_logits(widened(arrays), x, JAX)


def same(path, x, theirs, tolerance, **options):
    """The package's answer for a file and channels-last pictures is this one."""
    ours = opened(path)(x.transpose(0, 3, 1, 2), **options).logits
    assert ours.shape == theirs.shape and np.ptp(theirs) > 0
    assert np.abs(ours - theirs).max() <= tolerance["same network, float64"] * np.abs(theirs).max()  # observed 5e-15


# ------------------------------------------------------------------ the published five

def write_zeros(path, shapes):
    """A safetensors file of zeros that takes no room on the disk."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with open(path, "r+b") as file:
        file.truncate(8 + len(header) + end)


@pytest.mark.parametrize("size", [224, 384])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_timm(tmp_path, name, size):
    """What a file's names and shapes say, without a look at its numbers, is the published network."""
    depths, patch, D, L, F, cell, *counts = PUBLISHED[name]
    widths, side = (256, 512, 1024, 2048)[:len(depths)], size // cell
    shapes = timm_vit(D, L, F, 1000, 1 + side ** 2, patch, depths, widths)
    count = counts[size == 384] or 101_456_936                                # the one that was never published at 384
    assert sum(map(math.prod, shapes.values())) == count
    write_zeros(tmp_path / "model.safetensors", shapes)
    config = ViTHybridConfig.from_pretrained(tmp_path / "model.safetensors")
    sizes = config.network_config()
    assert params.count(params.shapes(sizes)) == count
    assert (sizes.image, sizes.depths, sizes.widths, sizes.stem) == ((size, size), depths, widths, 64)
    assert (sizes.width, sizes.blocks, sizes.heads, sizes.hidden) == (D, L, D // 64, F)
    assert (sizes.grid, sizes.tokens, sizes.patch, sizes.classes) == ((side, side), 1 + side ** 2, patch, 1000)
    assert (sizes.ws_form, sizes.ws_eps, sizes.gn_eps, sizes.ln_eps) == ("variance", 1e-8, 1e-5, 1e-6)
    assert (sizes.activation, sizes.resampling, sizes.groups) == ("gelu", "antialiased", 32)
    assert config.id2label[281] == "tabby, tabby cat" and len(config.id2label) == 1000


def test_published_jax(tmp_path):
    """R_Ti_16 at 384 pixels, the smallest, as a whole file."""
    shapes = jax_vit(192, 12, 3, 768, 1000, 144, 8, depths=(), widths=())
    model = opened(npz_file(tmp_path, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}))
    sizes = model.network_config
    assert (model.num_parameters(), sizes.image, sizes.tokens, sizes.heads) == (6_355_944, (384, 384), 145, 3)
    assert (sizes.ws_form, sizes.ws_eps, sizes.gn_eps, sizes.ln_eps) == ("deviation", 1e-5, 1e-6, 1e-6)
    assert sizes.activation == "gelu_new" and sizes.resampling == "linear"
    assert model.config.id2label[281] == "tabby, tabby cat"


def test_the_lists_have_as_many_names_as_the_files():
    """Counted in the originals: tensors of timm's state dicts, arrays of Google's files."""
    counted = {name: (len(timm_vit(D, L, F, 1000, 50, patch, depths, widths)),
                      len(jax_vit(D, L, D // 64, F, 1000, 49, patch, depths=depths, widths=widths)))
               for name, (depths, patch, D, L, F, *_) in PUBLISHED.items()
               for widths in [(256, 512, 1024, 2048)[:len(depths)]]}
    assert counted == {"vit_tiny_r_s16_p8": (155, 203), "vit_small_r26_s32": (239, 287),
                       "vit_base_r26_s32": (239, 287), "vit_base_r50_s16": (308, 356), "vit_large_r50_s32": (455, 551)}
    r50x1 = (3, 4, 6, 3), (256, 512, 1024, 2048), 64, 1000
    assert len(google_bit(*r50x1)) == 153 and sum(map(math.prod, timm_bit(*r50x1).values())) == 25_549_352


# ------------------------------------------------------------------ timm

@pytest.mark.parametrize("options", [
    dict(), dict(depths=(1, 2, 1, 1), widths=(128, 256, 128, 256), tokens=5), dict(patch=2, tokens=17),
    dict(depths=(), widths=(), patch=8, tokens=5), dict(depths=(), widths=(), patch=2, tokens=65), dict(D=64),
    dict(classes=1), dict(depths=None, patch=16, tokens=17), dict(depths=None, patch=8, tokens=65)], ids=str)
def test_timm(tmp_path, tolerance, options):
    arrays, x = telling(timm_vit(**options)), pixels()
    same(timm_file(tmp_path, arrays), x, timm_answer(arrays, x), tolerance)


def test_attention_is_neither_uniform_nor_one_hot(tmp_path):
    """The arrays of these tests tell."""
    for path in timm_file(tmp_path, telling(timm_vit())), npz_file(tmp_path, telling(jax_vit())):
        weights = opened(path)(pixels().transpose(0, 3, 1, 2), output_attentions=True).attentions[0]
        entropy = -(weights * np.log(weights)).sum(-1).mean() / np.log(weights.shape[-1])
        assert 0.2 < entropy < 0.95


@pytest.mark.parametrize("wrapped", ["module.", "_orig_mod.", "module._orig_mod."])
def test_timm_wrapped(tmp_path, tolerance, wrapped):
    arrays, x = telling(timm_vit()), pixels()
    path = timm_file(tmp_path, {wrapped + name: array for name, array in arrays.items()})
    same(path, x, timm_answer(arrays, x), tolerance)


@pytest.mark.parametrize("options", [dict(), dict(patch=2, tokens=17), dict(depths=(), widths=(), patch=8, tokens=5),
                                     dict(depths=None, patch=16, tokens=17)], ids=str)
def test_timm_flat_projection(tmp_path, tolerance, options):
    """Old files: (D, C * P * P), channels before rows before columns."""
    arrays, x = telling(timm_vit(**options)), pixels()
    flat = arrays | {"patch_embed.proj.weight": arrays["patch_embed.proj.weight"].reshape(128, -1)}
    same(timm_file(tmp_path, flat), x, timm_answer(arrays, x), tolerance)


@pytest.mark.parametrize("card", [None, {"architecture": "vit_tiny_patch16_224", "num_classes": 5,
                                         "global_pool": "avg"}],
                         ids=["bare", "card"])
@pytest.mark.parametrize("options", [dict(), dict(depths=None, patch=16, tokens=17)], ids=["hybrid", "plain"])
def test_timm_mean_of_patches(tmp_path, tolerance, card, options):
    """`fc_norm` comes after the mean, which leaves the class token out."""
    arrays, x = telling(timm_vit(**options, last="fc_norm.")), pixels()
    same(timm_file(tmp_path, arrays, card), x, timm_answer(arrays, x, "avg"), tolerance)


def test_timm_mean_of_normed_patches(tmp_path, tolerance):
    """`global_pool` "avg" with the ordinary `norm`: first the norm, of every token, then the mean."""
    arrays, x = telling(timm_vit()), pixels()
    card = {"architecture": "vit_tiny_patch16_224", "num_classes": 5, "global_pool": "avg",
            "model_args": {"fc_norm": False}}
    same(timm_file(tmp_path, arrays, card), x, timm_answer(arrays, x, "avg"), tolerance)


def test_timm_pre_logits(tmp_path, tolerance):
    """Files of before 2022: a layer with tanh in front of the head."""
    arrays = telling(timm_vit()) | telling({"pre_logits.fc.weight": (40, 128), "pre_logits.fc.bias": (40,),
                                            "head.weight": (5, 40)}, 1)
    same(timm_file(tmp_path, arrays), pixels(), timm_answer(arrays, pixels()), tolerance)


HEADLESS = {
    "timm": (timm_vit(classes=0), False),
    "timm, a mean": (timm_vit(classes=0, last="fc_norm."), True),
    "timm, pre_logits": (timm_vit(classes=0) | {"pre_logits.fc.weight": (40, 128), "pre_logits.fc.bias": (40,)}, True),
    "JAX": (jax_vit(classes=0), False),
    "JAX, a mean": (jax_vit(classes=0, token=False), True),
    "JAX, pre_logits": (jax_vit(classes=0, pre_logits=20), True),
}


@pytest.mark.parametrize("name", HEADLESS)
def test_without_head(tmp_path, tolerance, name):
    """`vit_base_r50_s16_224.orig_in21k` was published so: the bare model.  What a head would read is the class token,
    or, where more is done to it, the pooled output."""
    (shapes, pooled), x = HEADLESS[name], pixels()
    arrays = telling(shapes)
    if name.startswith("timm"):
        pool = "avg" if "fc_norm.bias" in arrays else "token"
        model, theirs = opened(timm_file(tmp_path, arrays)), timm_answer(arrays, x, pool)
    else:
        model, theirs = opened(npz_file(tmp_path, arrays)), jax_answer(arrays, x)
    assert type(model).__name__ == "ViTHybridModel"
    out = model(x.transpose(0, 3, 1, 2))
    ours = out.pooler_output if pooled else out.last_hidden_state[:, 0]
    assert (out.pooler_output is not None) == pooled and ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance["same network, float64"] * np.abs(theirs).max()  # observed 3e-15


@pytest.mark.parametrize("size", [(64, 64), (61, 50)])
@pytest.mark.parametrize("depths, widths", [((1, 2), (128, 256)), ((2, 1, 1), (128, 128, 256))])
def test_bit(tmp_path, tolerance, depths, widths, size):
    x, ours, theirs = pixels(*size), telling(timm_bit(depths, widths)), telling(google_bit(depths, widths))
    same(timm_file(tmp_path, ours), x, timm_bit_logits(widened(ours), x, TIMM_BIT), tolerance)
    same(npz_file(tmp_path, theirs), x, google_bit_logits(widened(theirs), x, GOOGLE_BIT), tolerance)


# ------------------------------------------------------------------ Google's JAX

PLAIN = dict(depths=None, patch=16, cells=16)


@pytest.mark.parametrize("options", [
    dict(), dict(depths=(1, 2, 1, 1), widths=(128, 256, 128, 256), cells=4), dict(pre_logits=20), dict(token=False),
    dict(depths=(), widths=(), patch=8, cells=4), dict(A=1), dict(token=False, pre_logits=48), PLAIN,
    PLAIN | dict(token=False), PLAIN | dict(pre_logits=48)], ids=str)
def test_jax(tmp_path, tolerance, options):
    arrays, x = telling(jax_vit(**options)), pixels()
    same(npz_file(tmp_path, arrays), x, jax_answer(arrays, x), tolerance)


def linen(arrays):
    """As today's Flax names them: each class counts its own."""
    new = {"MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0", "LayerNorm_2": "LayerNorm_1",
           "MlpBlock_3": "MlpBlock_0"}
    return {"/".join(new.get(part, part) for part in name.split("/")): array for name, array in arrays.items()}


def squeezed(arrays):
    """Group norms as Flax keeps them since 0.3.6: (C,)."""
    return {name: array.reshape(-1) if "/gn" in f"/{name}" else array for name, array in arrays.items()}


def below(prefix, arrays):
    return {prefix + name: array for name, array in arrays.items()}


def big_vision(arrays):
    """Linen's names, with the table at the root."""
    table = "Transformer/posembed_input/pos_embedding"
    return {"pos_embedding" if name == table else name: array for name, array in linen(arrays).items()}


def stacked(arrays):
    """The blocks of big_vision's scan: along a first axis of each array."""
    arrays = dict(arrays)
    for name in [name for name in arrays if "encoderblock_0/" in name]:
        layers = [arrays.pop(name.replace("encoderblock_0", f"encoderblock_{l}")) for l in range(2)]
        arrays[name.replace("encoderblock_0", "encoderblock")] = np.stack(layers)
    return arrays


SPELLINGS = {
    "Linen": linen,
    "group norms (C,)": squeezed,
    "opt/target/, a step beside it": lambda p: below("opt/target/", p) | {"opt/state/step": np.int64(20000)},
    "params/": lambda p: below("params/", p),
    "params/, Linen, (C,)": lambda p: below("params/", linen(squeezed(p))),
    "big_vision": lambda p: below("params/", big_vision(p)),
    "big_vision, stacked": lambda p: below("params/", stacked(big_vision(p))),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("options", [{}, PLAIN], ids=["hybrid", "plain"])
def test_jax_spellings(tmp_path, tolerance, options, spelling):
    arrays, x = telling(jax_vit(**options)), pixels()
    same(npz_file(tmp_path, SPELLINGS[spelling](arrays)), x, jax_answer(arrays, x), tolerance)


def test_every_read_of_a_stacked_array_has_memory_of_its_own(tmp_path):
    path = npz_file(tmp_path, stacked(big_vision(telling(jax_vit(**PLAIN)))))
    with checkpoint.opened(path) as source:
        for array in source.arrays.values():
            first, second = array.read(), array.read()
            assert not np.shares_memory(first, second) and np.array_equal(first, second), array.name


def test_jax_bfloat16(tmp_path, tolerance):
    """NumPy has no such dtype: it writes two bytes of nothing known, the upper half of each float32."""
    arrays, x = telling(jax_vit()), pixels()
    halves = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in arrays.items()}
    wide = {name: (half.astype(np.uint32) << 16).view(np.float32) for name, half in halves.items()}
    path = npz_file(tmp_path, {name: half.view("V2") for name, half in halves.items()})
    same(path, x, jax_answer(wide, x), tolerance)


# ------------------------------------------------------------------ kept, and fast

FILES = {
    "timm, a mean": lambda folder: timm_file(folder, telling(timm_vit(last="fc_norm."))),
    "timm's BiT": lambda folder: timm_file(folder, telling(timm_bit())),
    "JAX, pre_logits": lambda folder: npz_file(folder, telling(jax_vit(pre_logits=20))),
    "JAX, a mean": lambda folder: npz_file(folder, telling(jax_vit(token=False))),
    "big_vision": lambda folder: npz_file(folder, stacked(big_vision(telling(jax_vit(**PLAIN))))),
    "Google's BiT": lambda folder: npz_file(folder, telling(google_bit())),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_saved_answers_the_same(tmp_path, name):
    """As one .h5 and as a folder with Hugging Face's names: the dialect's numerics travel in the configuration."""
    model, x = opened(FILES[name](tmp_path)), pixels().transpose(0, 3, 1, 2)
    model.save(tmp_path / "model.h5")
    model.save_pretrained(tmp_path / "folder")
    for path in tmp_path / "model.h5", tmp_path / "folder":
        again = opened(path)
        assert again.network_config == model.network_config and np.array_equal(again(x).logits, model(x).logits)


@pytest.mark.parametrize("name", FILES)
def test_fast(tmp_path, name):
    """The kernels in float32 compute the same network."""
    path, x = FILES[name](tmp_path), pixels().transpose(0, 3, 1, 2).astype(np.float32)
    ours, truth = load(path)(x).logits, opened(path)(x).logits
    assert ours.dtype == np.float32
    assert np.abs(ours - truth).max() < 1e-5 * np.abs(truth).max()                       # observed 9e-7


# ------------------------------------------------------------------ other sizes

def by_corners(grid, cells):
    """(h, w, D) -> (*cells, D): between the four neighbours, the corners where they were; cell by cell."""
    new = np.zeros((*cells, grid.shape[-1]))
    for i in range(cells[0]):
        for j in range(cells[1]):
            y, x = i * (grid.shape[0] - 1) / (cells[0] - 1), j * (grid.shape[1] - 1) / (cells[1] - 1)
            top, left = min(int(y), grid.shape[0] - 2), min(int(x), grid.shape[1] - 2)
            for row in (top, top + 1):
                for column in (left, left + 1):
                    new[i, j] += (1 - abs(y - row)) * (1 - abs(x - column)) * grid[row, column]
    return new


@pytest.mark.parametrize("size", [(96, 64), (48, 80), (30, 121)])
@pytest.mark.parametrize("token", [True, False])
def test_jax_other_sizes(tmp_path, tolerance, size, token):
    """The table is resized with its corners in place, without its class token's row."""
    arrays, x = telling(jax_vit(token=token)), pixels(*size)
    name, wide = "Transformer/posembed_input/pos_embedding", widened(arrays)
    grid = by_corners(wide[name][0, token:].reshape(8, 8, 48), [math.ceil(n / 8) for n in size])
    theirs = wide | {name: np.concatenate([wide[name][:, :token], grid.reshape(1, -1, 48)], 1)}
    same(npz_file(tmp_path, arrays), x, jax_logits(theirs, x, JAX), tolerance, interpolate_pos_encoding=True)


@pytest.mark.parametrize("size", [(61, 63), (62, 64)])
def test_odd_sizes_of_the_same_grid_keep_the_table(tmp_path, tolerance, size):
    arrays, x = telling(timm_vit()), pixels(*size)
    same(timm_file(tmp_path, arrays), x, timm_answer(arrays, x), tolerance, interpolate_pos_encoding=True)


@pytest.mark.parametrize("dialect", ["timm hybrid", "timm plain", "JAX hybrid"])
def test_image_size_at_load_resizes_the_table(tmp_path, dialect):
    """Then every picture has that size.  The table stays float32, as the file's, whatever the model computes in."""
    file, arrays, kind = {
        "timm hybrid": (timm_file, timm_vit(), ViTHybridForImageClassification),
        "timm plain": (timm_file, timm_vit(depths=None, patch=8), ViTForImageClassification),
        "JAX hybrid": (npz_file, jax_vit(), ViTHybridForImageClassification)}[dialect]
    path, x = file(tmp_path, telling(arrays)), pixels(48, 80).transpose(0, 3, 1, 2)
    model = kind.from_pretrained(path, engine="reference", dtype="float64", image_size=(48, 80))
    ours, theirs = model(x).logits, opened(path)(x, interpolate_pos_encoding=True).logits
    assert model.config.network_config().grid == (6, 10)
    assert np.abs(ours - theirs).max() < 1e-7 * np.abs(theirs).max()                     # observed 7e-9
    with pytest.raises(ValueError, match="expects 48 x 80"):
        model(pixels().transpose(0, 3, 1, 2))


def test_sizes_that_patches_do_not_fill_are_refused(tmp_path):
    """A map of ceil(n / 4) cells and patches of 8: 64 pixels make 16 cells, 93 the next multiple, 24."""
    path = timm_file(tmp_path, telling(timm_vit(depths=(), widths=(), patch=8, tokens=5)))
    possible = "the nearest possible sizes have a height of 64 or 93 pixels and a width of 64 pixels"
    with pytest.raises(ValueError, match=f"80 x 64 pixels .* 20 x 16 cells.*{possible}"):
        opened(path)(pixels(80, 64).transpose(0, 3, 1, 2), interpolate_pos_encoding=True)
    with pytest.raises(ValueError, match=possible):
        ViTHybridForImageClassification.from_pretrained(path, image_size=(80, 64))


def test_a_plain_vit_says_its_sizes(tmp_path):
    path = timm_file(tmp_path, telling(timm_vit(depths=None, patch=16, tokens=17)))
    assert ViTConfig.from_pretrained(path).network_config().image == (64, 64)
