"""`ViTHybridConfig`, `ViTConfig` and `BitConfig`: the configurations with the keys and defaults of Hugging Face.

A configuration keeps every key, including unknown keys. `config.network_config()` checks the values and returns the
`Config` of the network. Some numerics differ between families of checkpoints and have no key in Hugging Face's
configurations. For these numerics, nphybrid has an additional key, `dialect`.
"""
from dataclasses import replace
from typing import Any

from ..config import Config, inner_width, nearest_multiple_of_8
from ..dialects.layout import MOST_BLOCKS
from ..ops.reference import ACTIVATIONS
from ..params import shapes, tree_map
from ..text import shortened
from .config_base import (ENCODER_DIALECT, HuggingFaceConfig, check_choice, check_number, check_positive, checked_list,
                          with_dialect)


class BitConfig(HuggingFaceConfig):
    """The configuration of a BiT network, with the keys, order and defaults of Hugging Face.

    The defaults of BitConfig describe BiT-R50x1.

    `num_channels`: the number of channels of the picture.
    `embedding_size`: the number of channels of the stem.
    `hidden_sizes`: the number of output channels of each stage. If `hidden_sizes` is longer than `depths`, the
    additional numbers are ignored.
    `depths`: the number of residual units in each stage.
    `layer_type`: "preactivation" or "bottleneck", the kind of residual unit.
    `hidden_act`: the activation of the network. The docstring of ViTHybridConfig lists the activations.
    `global_padding`: the padding of convolutions, None (symmetric), "same" or "valid". Only a network without stages
    can have "valid".
    `num_groups`: the number of groups of each group norm.
    `embedding_dynamic_padding`: whether the max pool of the stem has "same" padding.
    `output_stride`: the total stride after which the stages have stride 1. There, bottleneck units have a dilation.
    `width_factor`: a number that multiplies all hidden_sizes.
    `out_features`, `out_indices`: the names or the indices of the maps that a backbone returns, by default the map of
    the last stage.
    `drop_path_rate`: has no effect.

    Unknown keys are kept as attributes. Raises ValueError for a value that no network can have.

    >>> config = BitConfig(depths=[1, 1], out_features=["stem", "stage2"])
    >>> config.stage_names, config.out_indices
    (['stem', 'stage1', 'stage2'], [0, 2])
    """
    model_type = "bit"

    def __init__(self, /, num_channels: int = 3, embedding_size: int = 64,
                 hidden_sizes: list[int] | tuple[int, ...] = (256, 512, 1024, 2048),
                 depths: list[int] | tuple[int, ...] = (3, 4, 6, 3), layer_type: str = "preactivation",
                 hidden_act: str = "relu", global_padding: str | None = None, num_groups: int = 32,
                 drop_path_rate: float = 0.0, embedding_dynamic_padding: bool = False, output_stride: int = 32,
                 width_factor: float = 1, out_features: list[str] | None = None,
                 out_indices: list[int] | tuple[int, ...] | None = None, **kwargs: Any):
        self.num_channels = num_channels
        self.embedding_size = embedding_size
        self.hidden_sizes = checked_list("hidden_sizes", hidden_sizes)
        self.depths = checked_list("depths", depths)
        self.layer_type = layer_type
        self.hidden_act = hidden_act
        self.global_padding = global_padding.upper() if isinstance(global_padding, str) else global_padding
        self.num_groups = num_groups
        self.drop_path_rate = drop_path_rate
        self.embedding_dynamic_padding = embedding_dynamic_padding
        self.output_stride = output_stride
        self.width_factor = width_factor
        stage_names = ["stem"] + [f"stage{s + 1}" for s in range(len(self.depths))]
        self.out_features, self.out_indices = _aligned(out_features, out_indices, stage_names)
        kwargs.pop("stage_names", None)
        super().__init__(kwargs)
        self.stage_names = stage_names
        self.network_config()

    def network_config(self) -> Config:
        """Check the values and make the `Config` of the network.  Raises ValueError for a bad value of a key."""
        self._check()
        widths = tuple(nearest_multiple_of_8(width * self.width_factor)
                       for width in self.hidden_sizes[:len(self.depths)])
        network_config = Config(
            channels=self.num_channels, stem=self.embedding_size, depths=tuple(self.depths), widths=widths,
            groups=self.num_groups, unit=self.layer_type, output_stride=self.output_stride,
            padding={None: "symmetric", "SAME": "same", "VALID": "valid"}[self.global_padding],
            pool_padding="same" if self.embedding_dynamic_padding else "valid",
            backbone_activation=self.hidden_act, classes=self.num_labels,
            image=(224, 224), width=0, blocks=0, heads=0, hidden=0)
        if isinstance(self.dialect, dict) and (other := self.dialect.keys() & ENCODER_DIALECT):
            raise ValueError(f"dialect has {', '.join(sorted(other))}; expected only keys of a network without an "
                             "encoder")
        network_config = with_dialect(network_config, self.dialect)
        _check_groups(network_config)
        return network_config

    def _check(self):
        check_choice("layer_type", self.layer_type, ("preactivation", "bottleneck"))
        check_choice("global_padding", self.global_padding, (None, "SAME", "VALID"))
        check_choice("hidden_act", self.hidden_act, tuple(ACTIVATIONS))
        for key in ("num_channels", "embedding_size", "num_groups", "output_stride"):
            check_positive(key, getattr(self, key))
        for key in ("depths", "hidden_sizes"):
            for value in getattr(self, key):
                check_positive(f"an entry of {key}", value)
        if sum(self.depths) > MOST_BLOCKS:
            raise ValueError(f"depths is {shortened(self.depths)}, with {sum(self.depths)} units in all; "
                             f"expected at most {MOST_BLOCKS} units")
        if len(self.hidden_sizes) < len(self.depths):
            raise ValueError(f"depths has {len(self.depths)} entries, but hidden_sizes has only "
                             f"{len(self.hidden_sizes)}")
        check_choice("embedding_dynamic_padding", self.embedding_dynamic_padding, (True, False))
        check_number("width_factor", self.width_factor)
        if not 0 < self.width_factor <= 64:
            raise ValueError(f"width_factor is {shortened(self.width_factor)}; expected a number above 0 and up to 64")
        if self.global_padding == "VALID" and self.depths:
            raise ValueError('global_padding is "VALID"; expected None or "SAME" in a network with stages, whose '
                             "shortcuts need padded convolutions")


class EncoderConfig(HuggingFaceConfig):
    """The base class of ViTConfig and ViTHybridConfig, with the keys of the encoder and of the picture."""
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    initializer_range: float
    layer_norm_eps: float
    image_size: int | tuple[int, int]
    patch_size: int
    num_channels: int
    qkv_bias: bool

    def _with_encoder(self, backbone: Config, **changes: Any) -> Config:
        """Completes the `Config` of a backbone with the encoder, the classifier, the picture and the dialect."""
        network_config = replace(
            backbone, image=self._image(), patch=self.patch_size, width=self.hidden_size,
            blocks=self.num_hidden_layers, heads=self.num_attention_heads, hidden=self.intermediate_size,
            qkv_bias=self.qkv_bias, classes=self.num_labels, activation=self.hidden_act,
            ln_eps=float(self.layer_norm_eps), **changes)
        network_config = with_dialect(network_config, self.dialect)
        if min(network_config.grid) < 1:
            height, width, _ = network_config.feature_map
            raise ValueError(f"image_size is {self.image_size}, and the feature map has {height} x {width} cells; "
                             f"expected at least {self.patch_size} x {self.patch_size} cells, the size of a patch")
        return network_config

    def _check_encoder(self):
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size",
                    "num_channels"):
            check_positive(key, getattr(self, key))
        check_positive("num_hidden_layers", self.num_hidden_layers, MOST_BLOCKS)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size is {self.hidden_size}; expected a multiple of num_attention_heads, "
                             f"{self.num_attention_heads}")
        check_choice("hidden_act", self.hidden_act, tuple(ACTIVATIONS))
        check_choice("qkv_bias", self.qkv_bias, (True, False))
        check_number("layer_norm_eps", self.layer_norm_eps)
        check_number("initializer_range", self.initializer_range)

    def _image(self):
        size = self.image_size
        pair = (size, size) if isinstance(size, int) else size
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"image_size is {shortened(size)}; expected an int or a pair (height, width)")
        for value in pair:
            check_positive("image_size", value)
        return tuple(pair)


class ViTConfig(EncoderConfig):
    """The configuration of a plain Vision Transformer, with the keys, order and defaults of Hugging Face.

    The defaults of ViTConfig describe ViT-B/16.

    `patch_size`: an int, the side of a patch in pixels.
    `pooler_output_size`: the width of the pooler of ViTModel, by default hidden_size.
    `pooler_act`: the activation of the pooler, which must be "tanh".
    `encoder_stride`: has no effect.

    All other keys are as in ViTHybridConfig. Raises ValueError for a value that no network can have.

    >>> ViTConfig(image_size=32, patch_size=8).network_config().tokens
    17
    """
    model_type = "vit"

    def __init__(self, hidden_size: int = 768, num_hidden_layers: int = 12, num_attention_heads: int = 12,
                 intermediate_size: int = 3072, hidden_act: str = "gelu", hidden_dropout_prob: float = 0.0,
                 attention_probs_dropout_prob: float = 0.0, initializer_range: float = 0.02,
                 layer_norm_eps: float = 1e-12, image_size: int | tuple[int, int] = 224, patch_size: int = 16,
                 num_channels: int = 3, qkv_bias: bool = True, encoder_stride: int = 16,
                 pooler_output_size: int | None = None, pooler_act: str = "tanh", **kwargs: Any):
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.image_size = image_size
        self.patch_size = patch_size
        self.num_channels = num_channels
        self.qkv_bias = qkv_bias
        self.encoder_stride = encoder_stride
        self.pooler_output_size = hidden_size if pooler_output_size is None else pooler_output_size
        self.pooler_act = pooler_act
        super().__init__(kwargs)
        self.network_config()

    def network_config(self) -> Config:
        """Check the values and make the `Config` of the network.  Raises ValueError for a bad value of a key."""
        self._check_encoder()
        check_positive("pooler_output_size", self.pooler_output_size)
        check_choice("pooler_act", self.pooler_act, ("tanh",))
        return self._with_encoder(Config(stem=0, depths=(), widths=()), channels=self.num_channels)


class ViTHybridConfig(EncoderConfig):
    """The configuration of a ViT Hybrid, with the keys and the order of the keys of Hugging Face.

    The defaults of ViTHybridConfig describe the published base model, but with 224 pixels, as in Hugging Face.

    `backbone_config`: a BitConfig, or a dict with the keys of a BitConfig.
    `hidden_size`: D, the width of a token.
    `num_hidden_layers`: L, the number of encoder blocks.
    `num_attention_heads`: A, the number of attention heads, a divisor of hidden_size.
    `intermediate_size`: F, the hidden width of the MLP.
    `hidden_act`: the activation of the MLP. The activations are gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu,
    selu, silu, tanh and sigmoid.
    `layer_norm_eps`: eps of the layer norms.
    `qkv_bias`: whether queries, keys and values have a bias.
    `image_size`: the size of the picture in pixels, an int or (height, width).
    `patch_size`: an int, the side of a patch in cells of the feature map.
    `initializer_range`: the standard deviation of random weights.
    `hidden_dropout_prob`, `attention_probs_dropout_prob`: numbers without an effect. nphybrid has no dropout.
    `backbone`, `use_pretrained_backbone`, `use_timm_backbone`, `backbone_kwargs`: not supported. Only the default
    values of these four keys are accepted.
    `backbone_featmap_shape`: None, or the shape [1, C, H, W] of the feature map. The shape must fit image_size and
    backbone_config. In transformers, the default backbone_featmap_shape has 24 x 24 cells, but a picture of the default
    size has a feature map of 14 x 14 cells. So the default model of transformers crashes.

    Unknown keys are kept as attributes. Raises ValueError for a value that no network can have.

    >>> config = ViTHybridConfig(image_size=384)
    >>> config.backbone_featmap_shape, config.backbone_config.depths, config.num_labels
    ([1, 1024, 24, 24], [3, 4, 9], 2)
    """
    model_type = "vit-hybrid"

    def __init__(self, /, backbone_config: BitConfig | dict[str, Any] | None = None, backbone: str | None = None,
                 use_pretrained_backbone: bool = False, use_timm_backbone: bool = False,
                 backbone_kwargs: dict[str, Any] | None = None, hidden_size: int = 768, num_hidden_layers: int = 12,
                 num_attention_heads: int = 12, intermediate_size: int = 3072, hidden_act: str = "gelu",
                 hidden_dropout_prob: float = 0.0, attention_probs_dropout_prob: float = 0.0,
                 initializer_range: float = 0.02, layer_norm_eps: float = 1e-12,
                 image_size: int | tuple[int, int] = 224, patch_size: int = 1, num_channels: int = 3,
                 backbone_featmap_shape: list[int] | None = None, qkv_bias: bool = True, **kwargs: Any):
        self.backbone_config = _backbone_config(backbone_config)
        self.backbone = backbone
        self.use_pretrained_backbone = use_pretrained_backbone
        self.use_timm_backbone = use_timm_backbone
        self.backbone_kwargs = backbone_kwargs
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.image_size = image_size
        self.patch_size = patch_size
        self.num_channels = num_channels
        self.qkv_bias = qkv_bias
        for key in ("backbone", "use_pretrained_backbone", "use_timm_backbone", "backbone_kwargs"):
            if getattr(self, key):
                raise ValueError(f"{key} is {shortened(getattr(self, key))}; expected no {key}, because nphybrid reads "
                                 "only backbone_config")
        super().__init__(kwargs)
        self._stated_shape = backbone_featmap_shape
        if backbone_featmap_shape is not None:
            self._stated_shape = checked_list("backbone_featmap_shape", backbone_featmap_shape)
        self.network_config()

    @property
    def backbone_featmap_shape(self) -> list[int]:
        """The shape [1, C, H, W] of the map that becomes tokens."""
        height, width, channels = self.network_config().feature_map
        return [1, channels, height, width]

    def to_dict(self) -> dict[str, Any]:
        """Returns the contents of `config.json`.  transformers needs the key backbone_featmap_shape."""
        return {**super().to_dict(), "backbone_featmap_shape": self.backbone_featmap_shape}

    def network_config(self) -> Config:
        """Check the values and make the `Config` of the network.  Raises ValueError for a bad value of a key."""
        self._check_encoder()
        bit = self.backbone_config
        if bit.num_channels != self.num_channels:
            raise ValueError(f"num_channels is {self.num_channels}, but num_channels of backbone_config is "
                             f"{bit.num_channels}")
        if bit.dialect:
            raise ValueError(f"dialect of backbone_config is {shortened(bit.dialect)}; expected the key dialect in the "
                             "ViTHybridConfig, not in backbone_config")
        network_config = self._with_encoder(bit.network_config(), feature_stage=bit.out_indices[-1])
        self._check_map(network_config)
        return network_config

    def _check_map(self, network_config):
        height, width, channels = network_config.feature_map
        stated, derived = self._stated_shape, [1, channels, height, width]
        if stated is None:
            return
        if len(stated) != 4 or any(type(n) is not int for n in stated):
            raise ValueError(f"backbone_featmap_shape is {shortened(stated)}; expected [1, C, H, W] = {derived}")
        if stated[1:] != derived[1:]:
            raise ValueError(
                f"backbone_featmap_shape is {shortened(stated)}, a map of {stated[2]}x{stated[3]} cells; expected "
                f"{derived}, {height}x{width} cells, which follows from image_size {self.image_size} and "
                "backbone_config")


def _backbone_config(given):
    if isinstance(given, BitConfig):
        return given
    if given is None:
        return BitConfig.from_dict(_HYBRID_BACKBONE)
    if not isinstance(given, dict):
        raise ValueError(f"backbone_config is {shortened(given)}; expected a BitConfig, or a dict with the keys of a "
                         "BitConfig")
    return BitConfig.from_dict(given)


_HYBRID_BACKBONE = {"layer_type": "bottleneck", "depths": [3, 4, 9], "global_padding": "same",
                    "embedding_dynamic_padding": True, "out_features": ["stage3"]}


def _aligned(features, indices, names):
    """Check `features` and `indices`, and return out_features and out_indices.

    If only `features` is None, out_features is computed from `indices`. If only `indices` is None, out_indices is
    computed from `features`. If both are None, the results are the name and the index of the last stage.
    """
    if features is None and indices is None:
        return [names[-1]], [len(names) - 1]
    if indices is not None:
        indices = checked_list("out_indices", indices)
        if any(type(i) is not int or not -len(names) <= i < len(names) for i in indices):
            raise ValueError(f"out_indices is {shortened(indices)}; expected indices of the list {shortened(names)}")
        if features is None:
            features = [names[i] for i in indices]
    features = checked_list("out_features", features)
    ordered = [name for name in names if name in features]
    if not features or features != ordered:
        raise ValueError(f"out_features is {shortened(features)}; expected one or more different names in the order of "
                         f"{shortened(names)}")
    numbers = [names.index(name) for name in features]
    if indices is not None and [i % len(names) for i in indices] != numbers:
        raise ValueError(f"out_indices is {shortened(indices)} and out_features is {shortened(features)}; expected "
                         f"the indices of out_features in the list {shortened(names)}")
    return features, numbers


def _check_groups(network_config):
    groups = network_config.groups
    # `channels` has the numbers of channels of all norms.
    # If `groups` does not divide a number of channels, `check` finds the name of the norm for the error message.
    channels = (network_config.stem, *network_config.widths, *map(inner_width, network_config.widths))
    if all(number % groups == 0 for number in channels):
        return

    def check(name, shape):
        if name.endswith("scale") and shape[0] % groups:
            raise ValueError(f"num_groups is {groups}; expected a divisor of {shape[0]}, the number of channels of "
                             f"{name.removesuffix('.scale')}")
    tree_map(check, shapes(network_config))
