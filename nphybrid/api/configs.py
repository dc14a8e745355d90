"""`ViTHybridConfig`, `ViTConfig` and `BitConfig`: the configurations as Hugging Face spells them.

They keep every key they are given, known or not. `config.network_config()` turns one into the `Config` that model code
sees, and is where every value is checked. What Hugging Face has no key for, because its networks do not differ in it,
stands under one key of ours, `dialect`.
"""
import inspect
import json
import sys
from dataclasses import replace
from pathlib import Path

from ..checkpoint import read_config
from ..config import Config, divisible, inner_width
from ..dialects.layout import MOST_BLOCKS
from ..dialects.positions import RULES
from ..ops.reference import ACTIVATIONS
from ..params import tree_map, shapes
from ..tensorfile import write_json
from ..text import shortened
from .losses import KINDS

# Reading a configuration makes a name for each class where it holds none. Published: 21,843.
MOST_UNNAMED = 2 ** 15

# The keys of `dialect`: fields of `Config`, and what each may be. "name" says where a network comes from.
DIALECT = {"name": ("Hugging Face", "timm", "JAX", "BiT"), "ws_form": ("variance", "deviation"), "ws_eps": float,
           "gn_eps": float, "class_token": (True, False), "pool": ("token", "mean"), "norm_pooled": (True, False),
           "pre_logits": int, "resampling": tuple(RULES)}

ENCODER_DIALECT = DIALECT.keys() - {"name", "ws_form", "ws_eps", "gn_eps"}

COMMON = {"output_attentions": False, "output_hidden_states": False, "return_dict": True, "problem_type": None}


class _Face:
    """What both configurations share: labels, unknown keys, JSON in and out."""
    model_type = ""

    def __init__(self, fields, extra):
        own = {"self", "kwargs", "__class__"}
        self.__dict__.update({key: value for key, value in fields.items() if key not in own})
        extra = {**COMMON, **extra}
        found = extra.pop("model_type", self.model_type)
        if not isinstance(found, str) or found.replace("_", "-") != self.model_type:
            raise ValueError(f"model_type is {shortened(found)}; {type(self).__name__} describes {self.model_type!r}")
        for key in extra:
            if callable(getattr(type(self), key, None)):
                raise ValueError(f"{key} is {shortened(extra[key])}; a key of this name would hide a method of "
                                 f"{type(self).__name__}")
        self.dialect = extra.pop("dialect", None) or {}
        labels, number = extra.pop("id2label", None), extra.pop("num_labels", None)
        self.id2label = _labels(labels, number)
        self.label2id = extra.pop("label2id", None) or {name: i for i, name in self.id2label.items()}
        self.__dict__.update(extra)
        if self.problem_type not in (None, *KINDS):
            raise ValueError(f"problem_type is {shortened(self.problem_type)}; expected None or one of {', '.join(KINDS)}")

    @property
    def num_labels(self):
        """K, the number of classes: the length of id2label."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, number):
        self.id2label = _labels(None, number)
        self.label2id = {name: i for i, name in self.id2label.items()}

    @property
    def use_return_dict(self):
        """Upstream's other name for return_dict."""
        return self.return_dict

    def to_dict(self):
        """Every key as `config.json` holds it: JSON types only, class indices as strings."""
        fields = {key: value for key, value in self.__dict__.items() if key != "_stated"}
        fields["id2label"] = {str(i): name for i, name in self.id2label.items()}
        if not self.dialect:
            del fields["dialect"]
        return {**json.loads(json.dumps(fields, default=_plain)), "model_type": self.model_type}

    def sizes(self):
        """`network_config` under its earlier name."""
        return self.network_config()

    def to_json_string(self):
        """`to_dict` as the text of a `config.json`."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_dict(cls, fields, **overrides):
        """A configuration from the keys of a `config.json`.  overrides replace keys that are known or in it."""
        known = {*inspect.signature(cls).parameters, *COMMON, "dialect", "id2label", "label2id", "num_labels", *fields}
        if unknown := [key for key in overrides if key not in known]:
            raise TypeError(f"{cls.__name__} has no {', '.join(unknown)}; it has "
                            + ", ".join(sorted(known - {"kwargs"})))
        # Each of the two follows from the other.
        for key, other in ("out_features", "out_indices"), ("out_indices", "out_features"):
            if key in overrides:
                fields = {name: value for name, value in fields.items() if name != other}
        if isinstance(overrides.get("dialect"), dict) and isinstance(fields.get("dialect"), dict):
            overrides["dialect"] = {**fields["dialect"], **overrides["dialect"]}
        return cls(**{**fields, **overrides})

    @classmethod
    def from_pretrained(cls, path, *, revision=None, **overrides):
        """Read the configuration of a model: a folder with `config.json`, that file itself, an `.h5`, or the name of a
        model on the hub, there of a branch, tag or commit (revision)."""
        return cls.from_dict(read_config(path, revision), **overrides)

    def save_pretrained(self, folder):
        """Write `config.json` into a folder, which is made if it is not there."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "config.json", self.to_dict())

    def __eq__(self, other):
        return type(self) is type(other) and self.to_dict() == other.to_dict()

    __hash__ = None

    def __repr__(self):
        return f"{type(self).__name__} {self.to_json_string()}"


class BitConfig(_Face):
    """The configuration of a BiT network, with upstream's names, order and defaults (R50x1).

    num_channels, embedding_size (stem), hidden_sizes and depths (a pair per stage; the longer list is cut),
    layer_type "preactivation" or "bottleneck", hidden_act, global_padding None, "same" or "valid" (only a
    stem alone can be "valid"), num_groups, embedding_dynamic_padding (the pool pads as "same"), output_stride,
    width_factor, out_features or out_indices (what a backbone returns; default the last stage). Every other
    key is kept. Raises ValueError for a value no network can have.

    >>> config = BitConfig(depths=[1, 1], out_features=["stem", "stage2"])
    >>> config.stage_names, config.out_indices
    (['stem', 'stage1', 'stage2'], [0, 2])
    """
    model_type = "bit"

    def __init__(self, /, num_channels=3, embedding_size=64, hidden_sizes=(256, 512, 1024, 2048),
                 depths=(3, 4, 6, 3), layer_type="preactivation", hidden_act="relu", global_padding=None,
                 num_groups=32, drop_path_rate=0.0, embedding_dynamic_padding=False, output_stride=32, width_factor=1,
                 out_features=None, out_indices=None, **kwargs):
        if isinstance(global_padding, str):
            global_padding = global_padding.upper()
        hidden_sizes, depths = _list("hidden_sizes", hidden_sizes), _list("depths", depths)
        kwargs.pop("stage_names", None)
        super().__init__(dict(locals()), kwargs)
        self.stage_names = ["stem"] + [f"stage{s + 1}" for s in range(len(depths))]
        self.out_features, self.out_indices = _aligned(out_features, out_indices, self.stage_names)
        self.network_config()

    def network_config(self):
        """The `Config` of this network.  Raises ValueError that names the key, the value and what is expected."""
        _choice("layer_type", self.layer_type, ("preactivation", "bottleneck"))
        _choice("global_padding", self.global_padding, (None, "SAME", "VALID"))
        _choice("hidden_act", self.hidden_act, tuple(ACTIVATIONS))
        for key in ("num_channels", "embedding_size", "num_groups", "output_stride"):
            _positive(key, getattr(self, key))
        for key in ("depths", "hidden_sizes"):
            for value in getattr(self, key):
                _positive(f"an entry of {key}", value)
        if sum(self.depths) > MOST_BLOCKS:
            raise ValueError(f"depths {shortened(self.depths)} are {sum(self.depths)} units; "
                             f"expected at most {MOST_BLOCKS}")
        if len(self.hidden_sizes) < len(self.depths):
            raise ValueError(f"{len(self.depths)} depths, but only {len(self.hidden_sizes)} hidden_sizes")
        _choice("embedding_dynamic_padding", self.embedding_dynamic_padding, (True, False))
        _number("width_factor", self.width_factor)
        if not 0 < self.width_factor <= 64:
            raise ValueError(f"width_factor is {shortened(self.width_factor)}; expected a number above 0, at most 64")
        if self.global_padding == "VALID" and self.depths:
            raise ValueError('global_padding "VALID" shrinks a 3x3 convolution below its shortcut: '
                             "only a stem alone (depths = []) can have it")
        sizes = Config(
            channels=self.num_channels, stem=self.embedding_size, depths=tuple(self.depths),
            widths=tuple(divisible(w * self.width_factor) for w in self.hidden_sizes[:len(self.depths)]),
            groups=self.num_groups, unit=self.layer_type, output_stride=self.output_stride,
            padding={None: "symmetric", "SAME": "same", "VALID": "valid"}[self.global_padding],
            pool_padding="same" if self.embedding_dynamic_padding else "valid",
            backbone_activation=self.hidden_act, classes=self.num_labels,
            image=(224, 224), width=0, blocks=0, heads=0, hidden=0)
        if isinstance(self.dialect, dict) and (other := self.dialect.keys() & ENCODER_DIALECT):
            raise ValueError(f"dialect has {', '.join(sorted(other))}, which a network without an encoder has not")
        sizes = _in_dialect(sizes, self.dialect)
        _check_groups(sizes)
        return sizes


class _Encoder(_Face):
    """What the configurations of a ViT and of a hybrid share: the encoder and the picture."""

    def _encoder(self):
        """The fields of `Config` that describe the encoder, the head and the picture."""
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size",
                    "num_channels"):
            _positive(key, getattr(self, key))
        _positive("num_hidden_layers", self.num_hidden_layers, MOST_BLOCKS)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of num_attention_heads "
                             f"{self.num_attention_heads}")
        _choice("hidden_act", self.hidden_act, tuple(ACTIVATIONS))
        _choice("qkv_bias", self.qkv_bias, (True, False))
        _number("layer_norm_eps", self.layer_norm_eps)
        _number("initializer_range", self.initializer_range)
        return dict(image=self._image(), patch=self.patch_size, width=self.hidden_size,
                    blocks=self.num_hidden_layers, heads=self.num_attention_heads, hidden=self.intermediate_size,
                    qkv_bias=self.qkv_bias, classes=self.num_labels, activation=self.hidden_act,
                    ln_eps=float(self.layer_norm_eps))

    def _image(self):
        size = self.image_size
        pair = (size, size) if isinstance(size, int) else size
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"image_size is {shortened(size)}; expected an int or a pair (height, width)")
        for value in pair:
            _positive("image_size", value)
        return tuple(pair)

    def _check_grid(self, sizes):
        height, width, _ = sizes.feature_map
        if min(sizes.grid) < 1:
            raise ValueError(f"image_size {self.image_size} leaves a feature map of {height} x {width} cells, "
                             f"in which no patch of {self.patch_size} x {self.patch_size} finds room")


class ViTConfig(_Encoder):
    """The configuration of a plain Vision Transformer, with upstream's names, order and defaults (ViT-B/16 at 224).

    patch_size: pixels, an int. pooler_output_size: the width of ViTModel's pooler, by default hidden_size; its
    activation is tanh. encoder_stride is kept and has no effect. The other keys are ViTHybridConfig's. Raises
    ValueError for a value no network can have.

    >>> ViTConfig(image_size=32, patch_size=8).network_config().tokens
    17
    """
    model_type = "vit"

    def __init__(self, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
                 hidden_act="gelu", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.02,
                 layer_norm_eps=1e-12, image_size=224, patch_size=16, num_channels=3, qkv_bias=True, encoder_stride=16,
                 pooler_output_size=None, pooler_act="tanh", **kwargs):
        fields = dict(locals())
        fields["pooler_output_size"] = hidden_size if pooler_output_size is None else pooler_output_size
        super().__init__(fields, kwargs)
        self.network_config()

    def network_config(self):
        """The `Config` of this network.  Raises ValueError that names the key, the value and what is expected."""
        _positive("pooler_output_size", self.pooler_output_size)
        _choice("pooler_act", self.pooler_act, ("tanh",))
        sizes = _in_dialect(Config(**self._encoder(), stem=0, depths=(), widths=(), channels=self.num_channels),
                            self.dialect)
        self._check_grid(sizes)
        return sizes


class ViTHybridConfig(_Encoder):
    """The configuration of a ViT Hybrid, with upstream's names and order.

    Defaults are the published base model, at 224 pixels as upstream's. backbone_config: a BitConfig, or its keys as a
    dict. hidden_size D, num_hidden_layers L, num_attention_heads A (divides D), intermediate_size F. hidden_act: one of
    gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, selu, silu, tanh, sigmoid. layer_norm_eps; qkv_bias: whether
    queries, keys and values have one. image_size: pixels, an int or (height, width); patch_size: cells of the feature
    map, an int. initializer_range: the spread of fresh weights. The dropout keys are kept and have no effect, as there
    is no training; backbone and the three keys after it have to stay unset. backbone_featmap_shape [1, C, H, W]
    follows from image_size and the backbone, and if it is stated all the same it has to agree; upstream's default
    states 24 x 24 cells beside an image of 14 x 14 and crashes. Every other key is kept. Raises ValueError for a value
    no network can have.

    >>> config = ViTHybridConfig(image_size=384)
    >>> config.backbone_featmap_shape, config.backbone_config.depths, config.num_labels
    ([1, 1024, 24, 24], [3, 4, 9], 2)
    """
    model_type = "vit-hybrid"

    def __init__(self, /, backbone_config=None, backbone=None, use_pretrained_backbone=False,
                 use_timm_backbone=False, backbone_kwargs=None, hidden_size=768, num_hidden_layers=12,
                 num_attention_heads=12, intermediate_size=3072, hidden_act="gelu", hidden_dropout_prob=0.0,
                 attention_probs_dropout_prob=0.0, initializer_range=0.02, layer_norm_eps=1e-12, image_size=224,
                 patch_size=1, num_channels=3, backbone_featmap_shape=None, qkv_bias=True, **kwargs):
        fields = dict(locals())
        for key in ("backbone", "use_pretrained_backbone", "use_timm_backbone", "backbone_kwargs"):
            if fields[key]:
                raise ValueError(f"{key} is {shortened(fields[key])}: a backbone is described by backbone_config "
                                 "alone here")
        stated = fields.pop("backbone_featmap_shape")
        super().__init__(fields, kwargs)
        if not isinstance(backbone_config, (BitConfig, dict, type(None))):
            raise ValueError(f"backbone_config is {shortened(backbone_config)}; expected a BitConfig or its keys as a dict")
        if not isinstance(backbone_config, BitConfig):
            fields = _HYBRID_BACKBONE if backbone_config is None else backbone_config
            self.backbone_config = BitConfig.from_dict(fields)
        self._stated = None if stated is None else _list("backbone_featmap_shape", stated)
        self.network_config()

    @property
    def backbone_featmap_shape(self):
        """[1, C, H, W] of the map that becomes tokens."""
        height, width, channels = self.network_config().feature_map
        return [1, channels, height, width]

    def to_dict(self):
        """Every key as `config.json` holds it, the feature map's derived shape too, which upstream needs stated."""
        return {**super().to_dict(), "backbone_featmap_shape": self.backbone_featmap_shape}

    def network_config(self):
        """The `Config` of this network.  Raises ValueError that names the key, the value and what is expected."""
        encoder, bit = self._encoder(), self.backbone_config
        if bit.num_channels != self.num_channels:
            raise ValueError(f"num_channels is {self.num_channels}, but backbone_config says {bit.num_channels}")
        if bit.dialect:
            raise ValueError(f"backbone_config has a dialect, {shortened(bit.dialect)}; expected it beside backbone_config")
        sizes = replace(bit.network_config(), **encoder, feature_stage=bit.out_indices[-1])
        sizes = _in_dialect(sizes, self.dialect)
        self._check_grid(sizes)
        self._check_map(sizes)
        return sizes

    def _check_map(self, sizes):
        height, width, channels = sizes.feature_map
        stated, derived = self._stated, [1, channels, height, width]
        if stated is not None and (len(stated) != 4 or any(type(n) is not int for n in stated)):
            raise ValueError(f"backbone_featmap_shape is {shortened(stated)}; expected [1, C, H, W], here {derived}")
        if stated is not None and stated[1:] != derived[1:]:
            tokens = ["x".join(map(str, shape[2:])) for shape in (stated, derived)]
            raise ValueError(
                f"backbone_featmap_shape says {shortened(stated)}, a position table of {tokens[0]} cells, but image_size "
                f"{self.image_size} and this backbone make {derived}, {tokens[1]} cells")


_HYBRID_BACKBONE = {"layer_type": "bottleneck", "depths": [3, 4, 9], "global_padding": "same",
                    "embedding_dynamic_padding": True, "out_features": ["stage3"]}


def _in_dialect(sizes, dialect):
    """The Config with what the key `dialect` states.  Raises ValueError."""
    if not isinstance(dialect, dict) or not dialect.keys() <= DIALECT.keys():
        raise ValueError(f"dialect is {shortened(dialect)}; expected a dict with keys of {', '.join(DIALECT)}")
    for key, value in dialect.items():
        if DIALECT[key] is float:
            _number(f"{key} of dialect", value)
        elif DIALECT[key] is int:
            _positive(f"{key} of dialect", value)
        else:
            _choice(f"{key} of dialect", value, DIALECT[key])
            if type(value) is not type(DIALECT[key][0]):          # 1 is no True
                raise ValueError(f"{key} of dialect is {shortened(value)}; expected a {type(DIALECT[key][0]).__name__}")
    if (dialect.get("pool", "token"), dialect.get("class_token", True)) == ("token", False):
        raise ValueError("dialect has no class_token, so pool has to be 'mean'")
    return replace(sizes, **{key: value for key, value in dialect.items() if key != "name"})


def _labels(labels, number):
    if labels is None:
        number = 2 if number is None else number
        if type(number) is not int or not 0 <= number <= MOST_UNNAMED:
            raise ValueError(f"num_labels is {shortened(number)}; expected an int from 0 to {MOST_UNNAMED}, "
                             "or an id2label that names them")
        return {i: f"LABEL_{i}" for i in range(number)}
    if not isinstance(labels, dict) or any(not isinstance(i, (int, str)) for i in labels):
        raise ValueError(f"id2label is {shortened(labels)}; expected {{index: name}}")
    try:
        given, labels = labels, {int(i): name for i, name in labels.items()}
    except ValueError:
        raise ValueError(f"id2label is {shortened(labels)}; expected {{index: name}}") from None
    if len(labels) < len(given):
        raise ValueError(f"id2label is {shortened(given)}; a class is named twice")
    missing = sorted(set(range(len(labels))) - set(labels))
    if missing:
        raise ValueError(f"id2label has {len(labels)} names, but none for class {missing[0]}")
    if number not in (None, len(labels)):
        raise ValueError(f"num_labels is {shortened(number)}, but id2label has {len(labels)} names")
    for i, name in labels.items():
        if not isinstance(name, str):
            raise ValueError(f"id2label names class {i} {shortened(name)}; expected a string")
    return dict(sorted(labels.items()))


def _aligned(features, indices, names):
    """out_features and out_indices, each from the other; the last stage where neither is given."""
    if features is None and indices is None:
        return [names[-1]], [len(names) - 1]
    if indices is not None:
        indices = _list("out_indices", indices)
        if any(type(i) is not int or not -len(names) <= i < len(names) for i in indices):
            raise ValueError(f"out_indices is {shortened(indices)}; expected indices of {shortened(names)}")
    if features is None:
        features = [names[i] for i in indices]
    features = _list("out_features", features)
    ordered = [name for name in names if name in features]
    if not features or features != ordered:
        raise ValueError(f"out_features is {shortened(features)}; expected one or more of {shortened(names)}, "
                         "in this order, none twice")
    numbers = [names.index(name) for name in features]
    if indices is not None and [i % len(names) for i in indices] != numbers:
        raise ValueError(f"out_indices {shortened(indices)} and out_features {shortened(features)} name different "
                         f"stages of {shortened(names)}")
    return features, numbers


def _check_groups(sizes):
    # The tree of shapes is built only where a norm may not divide; every norm has one of these numbers of channels.
    channels = (sizes.stem, *sizes.widths, *map(inner_width, sizes.widths))
    if all(number % sizes.groups == 0 for number in channels):
        return

    def check(name, shape):
        if name.endswith("scale") and shape[0] % sizes.groups:
            raise ValueError(f"num_groups is {sizes.groups}, which does not divide the {shape[0]} channels of "
                             f"{name.removesuffix('.scale')}")
    tree_map(check, shapes(sizes))


def _list(key, value):
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{key} is {shortened(value)}; expected a list")
    return list(value)


def _positive(key, value, most=2 ** 24 - 1):
    if type(value) is not int or not 0 < value <= most:
        raise ValueError(f"{key} is {shortened(value)}; expected an int from 1 to {most}")


def _number(key, value):
    if type(value) not in (int, float) or not 0 <= value <= sys.float_info.max:
        raise ValueError(f"{key} is {shortened(value)}; expected a finite number that is not negative")


def _choice(key, value, choices):
    if value not in choices:
        raise ValueError(f"{key} is {shortened(value)}; expected one of {', '.join(map(repr, choices))}")


def _plain(value):
    """What json does not know: a nested configuration, or a NumPy number or array."""
    return value.to_dict() if hasattr(value, "to_dict") else value.tolist()
