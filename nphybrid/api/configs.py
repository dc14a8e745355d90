"""`ViTHybridConfig`, `ViTConfig` and `BitConfig`: the configurations with the names and defaults of Hugging Face.

A configuration keeps every key that it is given, known or unknown. `config.network_config()` checks the values and
returns the `Config` of the network. What differs between families of checkpoints and has no key in Hugging Face's
configurations is stated under one additional key, `dialect`.
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
    """The configuration of a BiT network, with the names, order and defaults of Hugging Face (R50x1).

    num_channels: of the picture. embedding_size: channels of the stem. hidden_sizes, depths: the channels and the
    number of units of each stage; the longer list is cut. layer_type: "preactivation" or "bottleneck". hidden_act: as
    in ViTHybridConfig. global_padding: None (symmetric), "same", or "valid", which only a stem without stages can
    have. num_groups: of the group norms. embedding_dynamic_padding: whether the pool of the stem pads as "same".
    output_stride: later stages dilate. width_factor: multiplies hidden_sizes. out_features or out_indices: the maps
    that a backbone returns, by default that of the last stage. drop_path_rate has no effect. Every other key is kept.
    Raises ValueError for a value that no network can have.

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
        """The `Config` of this network.  Raises ValueError with the key, the value found and what is expected."""
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
            raise ValueError(f"dialect has {', '.join(sorted(other))}, which a network without an encoder has not")
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
            raise ValueError(f"depths {shortened(self.depths)} are {sum(self.depths)} units; "
                             f"expected at most {MOST_BLOCKS}")
        if len(self.hidden_sizes) < len(self.depths):
            raise ValueError(f"{len(self.depths)} depths, but only {len(self.hidden_sizes)} hidden_sizes")
        check_choice("embedding_dynamic_padding", self.embedding_dynamic_padding, (True, False))
        check_number("width_factor", self.width_factor)
        if not 0 < self.width_factor <= 64:
            raise ValueError(f"width_factor is {shortened(self.width_factor)}; expected a number above 0, at most 64")
        if self.global_padding == "VALID" and self.depths:
            raise ValueError('global_padding "VALID" shrinks a 3x3 convolution below its shortcut: '
                             "only a stem alone (depths = []) can have it")


class EncoderConfig(HuggingFaceConfig):
    """What the configurations of a plain ViT and of a hybrid share: the encoder and the picture."""
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
        """The `Config` of a backbone, completed by the encoder, the classifier, the picture and the dialect."""
        network_config = replace(
            backbone, image=self._image(), patch=self.patch_size, width=self.hidden_size,
            blocks=self.num_hidden_layers, heads=self.num_attention_heads, hidden=self.intermediate_size,
            qkv_bias=self.qkv_bias, classes=self.num_labels, activation=self.hidden_act,
            ln_eps=float(self.layer_norm_eps), **changes)
        network_config = with_dialect(network_config, self.dialect)
        if min(network_config.grid) < 1:
            height, width, _ = network_config.feature_map
            raise ValueError(f"image_size {self.image_size} leaves a feature map of {height} x {width} cells, "
                             f"in which no patch of {self.patch_size} x {self.patch_size} finds room")
        return network_config

    def _check_encoder(self):
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size",
                    "num_channels"):
            check_positive(key, getattr(self, key))
        check_positive("num_hidden_layers", self.num_hidden_layers, MOST_BLOCKS)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of num_attention_heads "
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
    """The configuration of a plain Vision Transformer, with the names, order and defaults of Hugging Face (ViT-B/16).

    patch_size: pixels, an int. pooler_output_size: the width of the pooler of ViTModel, by default hidden_size.
    pooler_act: "tanh". encoder_stride is kept and has no effect. The other keys are those of ViTHybridConfig. Raises
    ValueError for a value that no network can have.

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
        """The `Config` of this network.  Raises ValueError with the key, the value found and what is expected."""
        self._check_encoder()
        check_positive("pooler_output_size", self.pooler_output_size)
        check_choice("pooler_act", self.pooler_act, ("tanh",))
        return self._with_encoder(Config(stem=0, depths=(), widths=()), channels=self.num_channels)


class ViTHybridConfig(EncoderConfig):
    """The configuration of a ViT Hybrid, with the names and order of Hugging Face.

    The defaults are those of the published base model, at 224 pixels as in Hugging Face.
    backbone_config: a BitConfig, or its keys as a dict. hidden_size: D. num_hidden_layers: L. num_attention_heads: A,
    which divides D. intermediate_size: F. hidden_act: gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, selu, silu,
    tanh or sigmoid. layer_norm_eps: eps of the layer norms. qkv_bias: whether queries, keys and values have a bias.
    image_size: pixels, an int or (height, width). patch_size: cells of the feature map, an int. initializer_range: the
    standard deviation of random weights. The dropout keys are kept and have no effect, because there is no training.
    backbone, use_pretrained_backbone, use_timm_backbone and backbone_kwargs have to stay unset.
    backbone_featmap_shape: [1, C, H, W], which follows from image_size and the backbone; if it is given, H and W have
    to agree. (The default of Hugging Face has 24 x 24 cells and a picture of 14 x 14 cells, and crashes.) Every other
    key is kept. Raises ValueError for a value that no network can have.

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
                raise ValueError(f"{key} is {shortened(getattr(self, key))}: a backbone is described by "
                                 "backbone_config alone here")
        super().__init__(kwargs)
        self._stated_shape = backbone_featmap_shape
        if backbone_featmap_shape is not None:
            self._stated_shape = checked_list("backbone_featmap_shape", backbone_featmap_shape)
        self.network_config()

    @property
    def backbone_featmap_shape(self) -> list[int]:
        """[1, C, H, W] of the map that becomes tokens."""
        height, width, channels = self.network_config().feature_map
        return [1, channels, height, width]

    def to_dict(self) -> dict[str, Any]:
        """Every key as `config.json` holds it.  backbone_featmap_shape is among them, because transformers reads it."""
        return {**super().to_dict(), "backbone_featmap_shape": self.backbone_featmap_shape}

    def network_config(self) -> Config:
        """The `Config` of this network.  Raises ValueError with the key, the value found and what is expected."""
        self._check_encoder()
        bit = self.backbone_config
        if bit.num_channels != self.num_channels:
            raise ValueError(f"num_channels is {self.num_channels}, but backbone_config says {bit.num_channels}")
        if bit.dialect:
            raise ValueError(f"backbone_config has a dialect, {shortened(bit.dialect)}; "
                             "expected it beside backbone_config")
        network_config = self._with_encoder(bit.network_config(), feature_stage=bit.out_indices[-1])
        self._check_map(network_config)
        return network_config

    def _check_map(self, network_config):
        height, width, channels = network_config.feature_map
        stated, derived = self._stated_shape, [1, channels, height, width]
        if stated is None:
            return
        if len(stated) != 4 or any(type(n) is not int for n in stated):
            raise ValueError(f"backbone_featmap_shape is {shortened(stated)}; expected [1, C, H, W], here {derived}")
        if stated[1:] != derived[1:]:
            raise ValueError(
                f"backbone_featmap_shape says {shortened(stated)}, a position table of {stated[2]}x{stated[3]} cells, "
                f"but image_size {self.image_size} and this backbone make {derived}, {height}x{width} cells")


def _backbone_config(given):
    if isinstance(given, BitConfig):
        return given
    if given is None:
        return BitConfig.from_dict(_HYBRID_BACKBONE)
    if not isinstance(given, dict):
        raise ValueError(f"backbone_config is {shortened(given)}; expected a BitConfig or its keys as a dict")
    return BitConfig.from_dict(given)


_HYBRID_BACKBONE = {"layer_type": "bottleneck", "depths": [3, 4, 9], "global_padding": "same",
                    "embedding_dynamic_padding": True, "out_features": ["stage3"]}


def _aligned(features, indices, names):
    """out_features and out_indices, each from the other; without both, the last stage."""
    if features is None and indices is None:
        return [names[-1]], [len(names) - 1]
    if indices is not None:
        indices = checked_list("out_indices", indices)
        if any(type(i) is not int or not -len(names) <= i < len(names) for i in indices):
            raise ValueError(f"out_indices is {shortened(indices)}; expected indices of {shortened(names)}")
        if features is None:
            features = [names[i] for i in indices]
    features = checked_list("out_features", features)
    ordered = [name for name in names if name in features]
    if not features or features != ordered:
        raise ValueError(f"out_features is {shortened(features)}; expected one or more of {shortened(names)}, "
                         "in this order, none twice")
    numbers = [names.index(name) for name in features]
    if indices is not None and [i % len(names) for i in indices] != numbers:
        raise ValueError(f"out_indices {shortened(indices)} and out_features {shortened(features)} name different "
                         f"stages of {shortened(names)}")
    return features, numbers


def _check_groups(network_config):
    groups = network_config.groups
    # The tree of shapes is built only where a norm may not divide; every norm has one of these numbers of channels.
    channels = (network_config.stem, *network_config.widths, *map(inner_width, network_config.widths))
    if all(number % groups == 0 for number in channels):
        return

    def check(name, shape):
        if name.endswith("scale") and shape[0] % groups:
            raise ValueError(f"num_groups is {groups}, which does not divide the {shape[0]} channels of "
                             f"{name.removesuffix('.scale')}")
    tree_map(check, shapes(network_config))
