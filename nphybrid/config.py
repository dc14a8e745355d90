"""`Config`: the sizes and numerics of one network.

This file also has the published networks (`PRESETS`) and the plan of a backbone (`plan`).

No field of a `Config` can be computed from other fields. The feature map, the grid, the number of tokens and the width
of a head can be computed, so they are properties. A configuration of Hugging Face stores such values, and they can
contradict its other values. `help(nphybrid)` explains the letters O, G, P, D, L, A and F.
"""
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple


@dataclass(frozen=True)
class Config:
    """The sizes and numerics of one network.

    The defaults of `Config` describe R50+ViT-B/16 at 384 pixels, the published hybrid. `Config` does not check its
    values, but `ViTHybridConfig` does (api/configs.py).

    >>> config = Config(image=(224, 224))
    >>> config.feature_map, config.grid, config.tokens, config.head_width
    ((14, 14, 1024), (14, 14), 197, 64)
    """
    # the picture
    image: tuple[int, int] = (384, 384)   # height and width in pixels
    channels: int = 3
    # the backbone
    stem: int = 64                        # channels of the stem, or 0 in a plain ViT, which has no backbone
    depths: tuple[int, ...] = (3, 4, 9)   # number of units in each stage, or () if the backbone is only a stem
    widths: tuple[int, ...] = (256, 512, 1024)  # number of output channels (O) of each stage
    groups: int = 32                      # number of groups (G) of every group norm
    unit: str = "bottleneck"              # kind of residual unit: "bottleneck", or "preactivation" in BiT networks
    padding: str = "same"                 # padding of convolutions: "same", "symmetric", or "valid" if depths is ()
    pool_padding: str = "same"            # padding of the stem's max pool: "same" or "valid"
    output_stride: int = 32               # from this total stride on, the stages have stride 1 and a dilated conv2
    feature_stage: int = -1               # map that becomes tokens: 0 is the stem, s + 1 is stage s, -1 is the last map
    # the encoder (without an encoder, blocks and width are 0)
    patch: int = 1                        # side of a patch (P) in cells of the feature map
    width: int = 768                      # D
    blocks: int = 12                      # L
    heads: int = 12                       # A
    hidden: int = 3072                    # F
    qkv_bias: bool = True
    class_token: bool = True
    # the classifier
    pool: str = "token"                   # input of the classifier: the class "token", or the "mean" of the patches
    norm_pooled: bool = False             # whether the last layer norm follows the pooling
    pre_logits: int = 0                   # width of a linear layer with tanh before the classifier, or 0 for no layer
    classes: int = 1000                   # number of classes, or 0 for no classifier
    # the numerics, which differ between families of checkpoints (the variance of n values has the divisor n, not n - 1)
    backbone_activation: str = "relu"
    activation: str = "gelu"              # activation of the MLP; "gelu" is the exact form, with erf
    ws_form: str = "variance"             # divisor of a kernel: sqrt(variance + eps) if ws_form is "variance",
                                          # sqrt(variance) + eps if ws_form is "deviation"
    ws_eps: float = 1e-8                  # eps in the weight standardization
    gn_eps: float = 1e-5                  # eps in group norms: sqrt(variance + eps)
    ln_eps: float = 1e-12                 # eps in layer norms: sqrt(variance + eps)
    pool_fill: float = 0.0                # padding value of the stem's max pool if pool_padding is "same"
                                          # (after a relu, the padding values 0 and -inf give equal results)
    resampling: str = "bicubic"           # how a position table is resized: "bicubic", "antialiased" or "linear"

    @property
    def head_width(self) -> int:
        """K, the width of one attention head."""
        return self.width // self.heads

    @cached_property
    def feature_map(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of the map that becomes tokens.  In a plain ViT, the map is the picture."""
        if not self.stem:
            return (*self.image, self.channels)
        stages = plan(self)
        last = self.feature_stage % (len(stages) + 1)
        height, width = (feature_size(self, n, stages[:last]) for n in self.image)
        return height, width, (self.stem, *self.widths)[last]

    @property
    def grid(self) -> tuple[int, int]:
        """The number of patch rows and the number of patch columns.  Cells that do not fill a patch are dropped."""
        height, width, _ = self.feature_map
        return height // self.patch, width // self.patch

    @property
    def tokens(self) -> int:
        """T, the number of tokens, including the class token."""
        return self.class_token + self.grid[0] * self.grid[1]


class UnitPlan(NamedTuple):
    """Stride, dilation and projection of one residual unit."""
    stride: int                           # stride of conv2 and of the projected shortcut
    dilation: int                         # dilation of conv2
    project: bool                         # whether a 1x1 convolution projects the shortcut


def plan(config: Config) -> tuple[tuple[UnitPlan, ...], ...]:
    """The UnitPlan of every residual unit: plan(config)[stage][unit].

    The stem has stride 4. The first stage has stride 1. In each later stage, the first unit has stride 2 until the
    total stride is `output_stride`. In the remaining stages, every unit has stride 1, and its conv2 has a dilation.

    Two peculiarities are copied from modeling_bit.py of transformers. First, a pre-activation unit never has a
    dilation. Second, the first unit of a dilated stage has a smaller dilation than the other units: 1 in a stage with
    dilation 2, and 2 in a stage with dilation 4 or more.

    >>> [stage[0].stride for stage in plan(Config())], [stage[0].stride for stage in plan(Config(output_stride=8))]
    ([1, 2, 2], [1, 2, 1])
    """
    stages = []
    total_stride, dilation = 4, 1
    for s, depth in enumerate(config.depths):
        stride = 1 if s == 0 else 2
        if total_stride >= config.output_stride:
            dilation *= stride
            stride = 1
        total_stride *= stride
        first = 1 if dilation in (1, 2) else 2
        dilations = [first] + [dilation] * (depth - 1) if config.unit == "bottleneck" else [1] * depth
        stages.append(tuple(UnitPlan(stride if u == 0 else 1, dilations[u], u == 0) for u in range(depth)))
    return tuple(stages)


def pads(rule: str, n: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """The numbers of padding cells before and after an axis of n cells.

    With the TensorFlow rule "same", the result of a convolution has n / stride cells, rounded up. If the number of
    padding cells is odd, the end of the axis gets one cell more than the start. With the usual PyTorch rule
    "symmetric", the start and the end get equal numbers of cells. The rule "valid" adds no cells. With stride 2, an
    even n and a kernel of more than one cell, the rules "same" and "symmetric" give different numbers.

    >>> pads("same", 384, 7, 2), pads("symmetric", 384, 7, 2)
    ((2, 3), (3, 3))
    """
    if rule == "same":
        windows = -(-n // stride)         # n / stride, rounded up
        total = max((windows - 1) * stride + dilation * (kernel - 1) + 1 - n, 0)
        return total // 2, total - total // 2
    if rule == "symmetric":
        half = (stride - 1 + dilation * (kernel - 1)) // 2
        return half, half
    return 0, 0


def window_count(n: int, kernel: int, stride: int, dilation: int, pad: tuple[int, int]) -> int:
    """The number of windows of `kernel` cells on an axis of n cells with the padding `pad` (before, after)."""
    return (n + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1


def feature_size(config: Config, n: int, stages: tuple) -> int:
    """The length of an axis of n pixels after the stem and the given `stages`."""
    n = window_count(n, 7, 2, 1, pads(config.padding, n, 7, 2)) + 2 * stem_border(config)
    n = window_count(n, 3, 2, 1, pads(config.pool_padding, n, 3, 2))
    for stage in stages:
        for stride, dilation, _ in stage:
            n = window_count(n, 3, stride, dilation, pads(config.padding, n, 3, stride, dilation))
    return n


def stem_border(config: Config) -> int:
    """The number of rows and columns of zeros that are added on each side after the stem's convolution.

    If config.padding is "same", there is no border. With other paddings, transformers adds this border, instead of a
    padding in the max pool.
    """
    return 0 if config.padding == "same" else 1


def inner_width(width: int) -> int:
    """M, the inner width of a residual unit: a quarter of the output width, rounded to a multiple of 8."""
    return nearest_multiple_of_8(width * 0.25)


def nearest_multiple_of_8(value: float) -> int:
    """The multiple of 8 that is nearest to `value`, at least 8 and at least 0.9 * value."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


_WIDTHS = (256, 512, 1024, 2048)
_BIT = Config(image=(224, 224), unit="preactivation", padding="symmetric", pool_padding="valid",
              width=0, blocks=0, heads=0, hidden=0)


def _bit(depths, factor):
    return replace(_BIT, stem=64 * factor, depths=depths, widths=tuple(width * factor for width in _WIDTHS))


# The five published hybrids and four BiT networks, with the names that the papers use.
# Papers: Dosovitskiy et al. 2020, table 6; Steiner et al. 2021, table 3; Kolesnikov et al. 2019, section 3.1.
# In R+ViT-Ti/16, a patch of 8 x 8 cells has 32 x 32 pixels, because the stem has stride 4. The "/16" is misleading.
PRESETS: dict[str, Config] = {
    "R+ViT-Ti/16": Config(depths=(), widths=(), patch=8, width=192, heads=3, hidden=768),
    "R26+ViT-S/32": Config(depths=(2, 2, 2, 2), widths=_WIDTHS, width=384, heads=6, hidden=1536),
    "R26+ViT-B/32": Config(depths=(2, 2, 2, 2), widths=_WIDTHS),
    "R50+ViT-B/16": Config(),
    "R50+ViT-L/32": Config(depths=(3, 4, 6, 3), widths=_WIDTHS, width=1024, blocks=24, heads=16, hidden=4096),
    "BiT-R50x1": _bit((3, 4, 6, 3), 1),
    "BiT-R101x1": _bit((3, 4, 23, 3), 1),
    "BiT-R50x3": _bit((3, 4, 6, 3), 3),
    "BiT-R152x2": _bit((3, 8, 36, 3), 2),
}
