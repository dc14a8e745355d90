"""What network a file of another dialect holds: its configuration, spelled as Hugging Face does, from names and shapes.

Whatever a shape tells is not asked for. Not told are the number of heads in timm's files, for which there is a rule,
and a picture that is not square: config.json may tell both. What dialects compute differently comes along: epsilons,
the form of the weight standardization, GELU, the rule that resizes positions.
"""
import math
import re

from ..tensorfile import FormatError
from . import preprocessing

# How many heads there are in timm's networks whose heads are not 64 wide, by D: so400m, huge, giant, gigantic.
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
# timm's networks of this kind. Others have the same names and shapes, and compute otherwise: residual post-norm (rpn),
# the tanh form of GELU (siglip).
KNOWN = re.compile(r"(vit|deit)_(tiny|small|medium|base|large|huge|giant|gigantic)_(r\d*_s\d+(_p\d+)?|patch\d+)(_\d+)?"
                   r"|resnetv2_\d+x\d+_bit(_\w+)?")
# What timm's config.json may say of a network that shapes tell as well, or that does not matter here.
TOLD = {"num_heads", "embed_dim", "depth", "mlp_ratio", "patch_size", "img_size", "num_classes", "in_chans", "qkv_bias",
        "global_pool", "class_token", "fc_norm", "dynamic_img_size", "drop_rate", "drop_path_rate", "layers"}
TIMM = {"name": "timm", "resampling": "antialiased"}
JAX = {"name": "JAX", "resampling": "linear", "gn_eps": 1e-6, "ws_form": "deviation", "ws_eps": 1e-5}


def timm_config(shapes, card):
    """The configuration of a timm file.  shapes: {name: shape}; card: its config.json, or {}.  -> dict

    Raises FormatError for what its config.json says and this package cannot do.
    """
    arguments = _arguments(card)
    pool = card.get("global_pool") or arguments.get("global_pool")
    if "pos_embed" not in shapes:
        return _bit(_stages(shapes, r"stages\.(\d+)\.blocks\.(\d+)\.conv3\.weight"), shapes["stem.conv.weight"],
                    shapes.get("head.fc.weight", (0,))[0], {"name": "timm"})
    D, token = shapes["pos_embed"][-1], "cls_token" in shapes
    if (pool == "token" and not token) or arguments.get("class_token", token) != token:
        raise FormatError(f"its config.json contradicts its arrays, which have {'a' if token else 'no'} cls_token")
    dialect = {**TIMM, **({} if token else {"class_token": False, "pool": "mean"})}
    if (pool or ("avg" if "fc_norm.weight" in shapes else "token")) == "avg":
        dialect["pool"] = "mean"
    if "fc_norm.weight" in shapes:
        dialect["norm_pooled"] = True
    if "pre_logits.fc.weight" in shapes:
        dialect["pre_logits"] = shapes["pre_logits.fc.weight"][0]
    heads = arguments.get("num_heads") or HEADS.get(D) or D // 64
    if not arguments.get("num_heads") and D not in HEADS and D % 64:
        raise FormatError(f"tokens are {D} wide, no multiple of 64: a config.json has to say {{\"model_args\": "
                          "{\"num_heads\": …}}")
    fields = dict(hidden_size=D, num_hidden_layers=_count(shapes, r"blocks\.(\d+)\."), num_attention_heads=heads,
                  intermediate_size=shapes["blocks.0.mlp.fc1.weight"][0], hidden_act="gelu", layer_norm_eps=1e-6,
                  qkv_bias="blocks.0.attn.qkv.bias" in shapes, num_labels=shapes.get("head.weight", (0,))[0],
                  dialect=dialect)
    patches = shapes["pos_embed"][-2] - token
    size = ((card.get("pretrained_cfg") or {}).get("input_size") or (None,))[1:]
    stem = shapes.get("patch_embed.backbone.stem.conv.weight", shapes.get("patch_embed.backbone.conv.weight"))
    stages = _stages(shapes, r"patch_embed\.backbone\.stages\.(\d+)\.blocks\.(\d+)\.conv3\.weight")
    patch = shapes["patch_embed.proj.weight"]
    if len(patch) == 2:                   # an old file holds the kernel flat, (D, C * P * P)
        C = stages[-1][1] if stages else stem[0] if stem else 3
        patch = patch[0], C, math.isqrt(patch[1] // C), 0
    channels, side = (stem or patch)[1], patch[2]
    return _vit(fields, patches, side, stages, stem and stem[0], channels, size)


def _arguments(card):
    """The model_args of timm's config.json, if all that it says of the network is supported."""
    arguments, architecture = card.get("model_args") or {}, card.get("architecture")
    if architecture is not None and not KNOWN.fullmatch(architecture):
        raise FormatError(f"its config.json says architecture {architecture!r}; expected a plain ViT, vit_SIZE_patchP, "
                          "a hybrid, vit_SIZE_rN_sS, or a BiT, resnetv2_NxW_bit")
    if unknown := sorted(arguments.keys() - TOLD):
        raise FormatError(f"its config.json builds the network with {', '.join(unknown)}, which is not supported")
    for pool in card.get("global_pool"), arguments.get("global_pool"):
        if pool not in (None, "token", "avg"):
            raise FormatError(f"its config.json says global_pool {pool!r}; expected 'token' or 'avg'")
    return arguments


def jax_config(shapes):
    """The configuration of a vision_transformer file.  shapes: {name as before Linen: shape}  -> dict"""
    token, block = "cls" in shapes, "Transformer/encoderblock_"
    D, heads, _ = shapes[f"{block}0/MultiHeadDotProductAttention_1/query/kernel"]
    dialect = {**JAX, **({} if token else {"class_token": False, "pool": "mean"})}
    if "pre_logits/kernel" in shapes:
        dialect["pre_logits"] = shapes["pre_logits/kernel"][1]
    fields = dict(hidden_size=D, num_hidden_layers=_count(shapes, block + r"(\d+)/"), num_attention_heads=heads,
                  intermediate_size=shapes[f"{block}0/MlpBlock_3/Dense_0/kernel"][1], hidden_act="gelu_new",
                  layer_norm_eps=1e-6, num_labels=shapes.get("head/kernel", (0, 0))[1], dialect=dialect)
    stem, patch = shapes.get("conv_root/kernel"), shapes["embedding/kernel"]
    stages = _stages(shapes, r"block(\d+)/unit(\d+)/conv3/kernel", -1)
    patches = shapes["Transformer/posembed_input/pos_embedding"][-2] - token
    if not stem:                          # without convolutions nothing is standardized
        fields["dialect"] = {key: value for key, value in dialect.items() if key not in ("gn_eps", "ws_form", "ws_eps")}
    return _vit(fields, patches, patch[0], stages, stem and stem[3], (stem or patch)[2], ())


def bit_config(shapes):
    """The configuration of a big_transfer file.  shapes: {name: shape}  -> dict"""
    stages = _stages(shapes, r"resnet/block(\d+)/unit(\d+)/c/standardized_conv2d/kernel", -1)
    stem = shapes["resnet/root_block/standardized_conv2d/kernel"]
    return _bit(stages, stem[::-1], shapes.get("resnet/head/conv2d/kernel", (0,))[-1], {"name": "BiT", "ws_eps": 1e-10})


def _bit(stages, stem, classes, dialect):
    """stem: the shape of its kernel, output and input channels first."""
    return dict(model_type="bit", architectures=["BitForImageClassification" if classes else "BitModel"],
                embedding_size=stem[0], num_channels=stem[1], depths=[depth for depth, _ in stages],
                hidden_sizes=[width for _, width in stages], layer_type="preactivation", num_labels=classes,
                dialect=dialect)


def _vit(fields, patches, side, stages, stem, channels, size):
    """The rest of a ViT's configuration.  side: of a patch, in cells; stem: its channels, None for a plain ViT; size:
    (height, width) where it is known."""
    hybrid = stem is not None
    stride = side * (4 * 2 ** max(len(stages) - 1, 0) if hybrid else 1)
    size = list(size) if size and math.prod(-(-n // stride) for n in size) == patches else _square(patches, stride)
    kind = ("ViTHybrid" if hybrid else "ViT") + ("ForImageClassification" if fields["num_labels"] else "Model")
    fields |= dict(model_type="vit-hybrid" if hybrid else "vit", architectures=[kind], num_channels=channels,
                   image_size=size if size[0] != size[1] else size[0], patch_size=side)
    if hybrid:
        fields["backbone_config"] = dict(
            model_type="bit", layer_type="bottleneck", global_padding="SAME", embedding_dynamic_padding=True,
            embedding_size=stem, num_channels=channels, depths=[depth for depth, _ in stages],
            hidden_sizes=[width for _, width in stages], out_features=[f"stage{len(stages)}" if stages else "stem"])
    return fields


def _square(patches, stride):
    grid = math.isqrt(patches)
    if grid * grid != patches:
        raise FormatError(f"a position table for {patches} patches is no square grid, and no config.json beside it has "
                          "the input_size that says which it is (a table that lacks the class token is not supported)")
    return [grid * stride] * 2


def _stages(shapes, pattern, axis=0):
    """[(units, output channels)] of the stages, by the kernels of the units' last convolutions."""
    found = {}
    for name, shape in shapes.items():
        if match := re.fullmatch(pattern, name):
            depth, _ = found.get(int(match[1]), (0, 0))
            found[int(match[1])] = max(depth, int(match[2]) + (axis == 0)), shape[axis]
    return [found[stage] for stage in sorted(found)]


def _count(shapes, pattern):
    return 1 + max((int(match[1]) for name in shapes if (match := re.match(pattern, name))), default=-1)


def processor_of(fields, card):
    """How pictures are prepared for a network of another dialect.  -> dict of the image processor's options

    fields: its configuration; card: timm's config.json, or {}. Raises ValueError for one that cannot be used.
    """
    dialect, bit = fields["dialect"]["name"], fields["model_type"] == "bit"
    if dialect == "BiT":
        return preprocessing.for_bit()
    size = fields.get("image_size", 448)
    if dialect == "JAX":
        return preprocessing.for_jax(size)
    height, width = (size, size) if isinstance(size, int) else size
    # What timm's own list of networks says of most, where no config.json does.
    usual = {"input_size": [3, height, width], "interpolation": "bilinear" if bit else "bicubic",
             "crop_pct": 0.9 if height == 224 else 1.0, "crop_mode": "center" if height == width else "squash",
             "mean": [0.5] * 3, "std": [0.5] * 3}
    own = {} if bit else {"input_size": [3, height, width]}       # not that of the network it was fine-tuned from
    return preprocessing.for_timm({**usual, **(card.get("pretrained_cfg") or {}), **own})
