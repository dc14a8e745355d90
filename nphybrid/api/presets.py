"""The published networks as models with fresh weights: their speed and memory are those of the real ones."""
from ..config import PRESETS
from .bit import BitForImageClassification
from .configs import BitConfig, ViTHybridConfig
from .vit_hybrid import ViTHybridForImageClassification


def fresh(name, **options):
    """The classifier of 1000 classes that a preset describes.  options: seed, engine, dtype, … of its class.

    >>> fresh("R+ViT-Ti/16", engine="reference")
    ViTHybridForImageClassification(6,355,944 parameters, engine='reference', dtype='float32')
    """
    config = configuration(PRESETS[name])
    kind = ViTHybridForImageClassification if isinstance(config, ViTHybridConfig) else BitForImageClassification
    return kind(config, **options)


def configuration(sizes):
    """A published `Config` as Hugging Face spells it.  -> ViTHybridConfig or BitConfig"""
    bit = dict(depths=list(sizes.depths), hidden_sizes=list(sizes.widths), embedding_size=sizes.stem,
               num_groups=sizes.groups, layer_type=sizes.unit, embedding_dynamic_padding=sizes.pool_padding == "same",
               global_padding={"same": "SAME", "symmetric": None}[sizes.padding])
    if not sizes.blocks:
        return BitConfig(**bit, num_labels=sizes.classes)
    return ViTHybridConfig(
        backbone_config=bit, image_size=sizes.image[0], patch_size=sizes.patch, hidden_size=sizes.width,
        num_hidden_layers=sizes.blocks, num_attention_heads=sizes.heads, intermediate_size=sizes.hidden,
        num_labels=sizes.classes)
