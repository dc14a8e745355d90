"""Folders of small random networks as other tools write them, and the answers that follow from a definition."""
import json

import numpy as np
from safetensors.numpy import save_file

D, L, A, F, P, SIDE = 48, 2, 3, 80, 8, 32
NAMES = ("ant", "bee", "cow", "dog", "eel")


def drawer(seed):
    rng = np.random.default_rng(seed)
    return lambda *shape, std=0.2: rng.normal(0, std, shape).astype(np.float32)


def write(folder, arrays, **documents):
    """A folder with model.safetensors and JSON documents.  documents: {name without the suffix: object}"""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document), "utf-8")
    return folder


def hf_vit(folder, seed=0, classes=3, channels=3, processor=None, **config):
    """A folder of a ViTForImageClassification: D 48, 2 blocks, 32 x 32 pixels in patches of 8."""
    draw, T = drawer(seed), (SIDE // P) ** 2 + 1
    a = {"vit.embeddings.cls_token": draw(1, 1, D), "vit.embeddings.position_embeddings": draw(1, T, D),
         "vit.embeddings.patch_embeddings.projection.weight": draw(D, channels, P, P),
         "vit.embeddings.patch_embeddings.projection.bias": draw(D)}
    for i in range(L):
        b = f"vit.encoder.layer.{i}."
        for n in ("layernorm_before", "layernorm_after"):
            a[f"{b}{n}.weight"], a[f"{b}{n}.bias"] = 1 + draw(D), draw(D)
        for n in ("attention.attention.query", "attention.attention.key", "attention.attention.value",
                  "attention.output.dense"):
            a[f"{b}{n}.weight"], a[f"{b}{n}.bias"] = draw(D, D), draw(D)
        a[f"{b}intermediate.dense.weight"], a[f"{b}intermediate.dense.bias"] = draw(F, D), draw(F)
        a[f"{b}output.dense.weight"], a[f"{b}output.dense.bias"] = draw(D, F), draw(D)
    a["vit.layernorm.weight"], a["vit.layernorm.bias"] = 1 + draw(D), draw(D)
    a["classifier.weight"], a["classifier.bias"] = draw(classes, D), draw(classes)
    card = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": D,
            "num_hidden_layers": L, "num_attention_heads": A, "intermediate_size": F, "hidden_act": "gelu",
            "image_size": SIDE, "patch_size": P, "num_channels": channels, "qkv_bias": True, "layer_norm_eps": 1e-12,
            "id2label": {str(i): n for i, n in enumerate(NAMES[:classes])},
            "label2id": {n: i for i, n in enumerate(NAMES[:classes])}, **config}
    documents = {} if processor is None else {"preprocessor_config": processor}
    return write(folder, a, config=card, **documents)


def timm_vit(folder, card, seed=0, classes=4, channels=3, side=64, patch=16, width=192, blocks=2):
    """A folder of timm: the names of vit_tiny_patch16, 2 blocks."""
    draw, T = drawer(seed), (side // patch) ** 2 + 1
    a = {"cls_token": draw(1, 1, width), "pos_embed": draw(1, T, width),
         "patch_embed.proj.weight": draw(width, channels, patch, patch, std=.05),
         "patch_embed.proj.bias": draw(width), "norm.weight": 1 + draw(width), "norm.bias": draw(width),
         "head.weight": draw(classes, width, std=.1), "head.bias": draw(classes)}
    for i in range(blocks):
        b = f"blocks.{i}."
        for n in ("norm1", "norm2"):
            a[f"{b}{n}.weight"], a[f"{b}{n}.bias"] = 1 + draw(width), draw(width)
        for n, shape in (("attn.qkv", (3 * width, width)), ("attn.proj", (width, width)),
                         ("mlp.fc1", (4 * width, width)), ("mlp.fc2", (width, 4 * width))):
            a[f"{b}{n}.weight"], a[f"{b}{n}.bias"] = draw(*shape, std=.08), draw(shape[0])
    return write(folder, a, config=card)


def timm_pixels(picture, side, edge, resample, mean, std):
    """timm's preparation by hand: the short side becomes `edge`, the middle is cut out.  Pillow picture -> (C, H, W)"""
    W, H = picture.size
    W, H = (edge, int(edge * H / W)) if W < H else (int(edge * W / H), edge)
    left, top = round((W - side) / 2), round((H - side) / 2)
    x = np.asarray(picture.resize((W, H), resample).crop((left, top, left + side, top + side))).astype(np.float32) / 255
    x = x.reshape(side, side, -1)
    return ((x - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)


def probabilities(logits):
    e = np.exp(np.float64(logits) - logits.max())
    return (e / e.sum()).round(4).tolist()
