"""The published networks as models with random weights.

The speed and the memory use of a model do not depend on the weights of the model.
"""
from typing import Any

from ..config import PRESETS, Config
from .bit import BitForImageClassification
from .configs import BitConfig, ViTHybridConfig
from .vit_hybrid import ViTHybridForImageClassification


def fresh(name: str, **options: Any) -> ViTHybridForImageClassification | BitForImageClassification:
    """Make a published classifier of 1000 classes with random weights.

    `name`: a key of PRESETS. `options`: arguments of the class, such as seed, engine and dtype.

    >>> fresh("R+ViT-Ti/16", engine="reference")
    ViTHybridForImageClassification(6,355,944 parameters, engine='reference', dtype='float32')
    """
    config = configuration(PRESETS[name])
    if isinstance(config, ViTHybridConfig):
        return ViTHybridForImageClassification(config, **options)
    return BitForImageClassification(config, **options)


def configuration(network_config: Config) -> ViTHybridConfig | BitConfig:
    """Make the Hugging Face configuration of a preset.

    The configuration of a network without an encoder is a BitConfig.

    >>> configuration(PRESETS["R50+ViT-L/32"]).hidden_size
    1024
    """
    backbone: dict[str, Any] = dict(
        depths=list(network_config.depths), hidden_sizes=list(network_config.widths),
        embedding_size=network_config.stem, num_groups=network_config.groups, layer_type=network_config.unit,
        embedding_dynamic_padding=network_config.pool_padding == "same",
        global_padding={"same": "SAME", "symmetric": None}[network_config.padding])
    if not network_config.blocks:
        return BitConfig(**backbone, num_labels=network_config.classes)
    return ViTHybridConfig(
        backbone_config=backbone, image_size=network_config.image[0], patch_size=network_config.patch,
        hidden_size=network_config.width, num_hidden_layers=network_config.blocks,
        num_attention_heads=network_config.heads, intermediate_size=network_config.hidden,
        num_labels=network_config.classes)
