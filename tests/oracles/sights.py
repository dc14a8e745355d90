"""Small networks of every kind that can be looked into, with fresh weights that show something."""
import numpy as np

from nphybrid import (BitConfig, BitForImageClassification, ViTConfig, ViTForImageClassification, ViTHybridConfig,
                      ViTHybridForImageClassification, ViTHybridImageProcessor, ViTHybridModel)

_BIT = dict(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], num_groups=4, layer_type="bottleneck",
            global_padding="same", embedding_dynamic_padding=True)
_ENCODER = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)


def network(kind):
    """A model of the reference engine, with an image processor of its own.

    "hybrid" 5 x 5 tokens of a map of stride 8; "headless" the same without a classifier; "wide" a hybrid whose grid
    is 3 x 5; "vit" 6 x 6 patches; "mean" a plain ViT without a class token; "bit" a BiT network.
    "row" a hybrid whose grid is 1 x 5; "column" a plain ViT whose grid is 5 x 1; "single" a hybrid with one cell;
    "lone" a plain ViT whose only token is one cell; "unlike" a hybrid with stages of 40, 24 and 8
    channels; "stem" a hybrid without stages, whose grid is 3 x 5.
    """
    options = dict(engine="reference", seed=5)
    if kind == "bit":
        model = BitForImageClassification(BitConfig(**{**_BIT, "layer_type": "preactivation"}, num_labels=5), **options)
    elif kind in ("vit", "mean", "column", "lone"):
        size = {"column": [40, 8], "lone": 8}.get(kind, 48)
        without_class = {"dialect": {"pool": "mean", "class_token": False, "norm_pooled": True}}
        config = ViTConfig(image_size=size, patch_size=8, num_labels=3, **_ENCODER,
                           **(without_class if kind in ("mean", "lone") else {}))
        model = ViTForImageClassification(config, **options)
    else:
        size = {"wide": [24, 40], "stem": [24, 40], "row": [8, 40], "single": 8}.get(kind, 40)
        stages = {"unlike": {"hidden_sizes": [40, 24, 8], "depths": [2, 1, 2]},
                  "stem": {"hidden_sizes": [], "depths": []}}.get(kind, {})
        config = ViTHybridConfig(backbone_config={**_BIT, **stages}, image_size=size, num_labels=4, **_ENCODER,
                                 patch_size=2 if kind == "stem" else 1)
        model = (ViTHybridModel if kind == "headless" else ViTHybridForImageClassification)(config, **options)
    state = model.state_dict()
    rng = np.random.default_rng(7)
    for name, array in state.items():
        if array.ndim == 2 or name.endswith(("position_embeddings", "cls_token")):
            array += rng.standard_normal(array.shape, np.float32) * (0.4 if array.ndim == 2 else 1)
    model.load_state_dict(state)
    H, W = model.network_config.image if kind != "bit" else (64, 64)
    model.processor = ViTHybridImageProcessor(size={"height": H, "width": W}, crop_size={"height": H, "width": W},
                                              image_mean=[0.4, 0.5, 0.6], image_std=[0.5, 0.6, 0.4])
    return model


KINDS = "hybrid", "headless", "wide", "vit", "mean", "bit"
UNUSUAL = "row", "column", "single", "lone", "unlike", "stem"       # in their cells, channels or stages
