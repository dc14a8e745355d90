"""The sizes and numerics of one network, the published ones, and the plan of its backbone.

A `Config` states what cannot be derived. Whatever follows from it (feature map, grid, number of
tokens, width of a head) is a property, because copies of such facts contradict each other: those of upstream,
Hugging Face transformers, do. The letters (O, G, P, D, L, A, F, …) are explained in `help(nphybrid)`.
"""
from dataclasses import dataclass, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Config:
    """One network.  The defaults are R50+ViT-B/16 at 384 pixels, the published hybrid."""
    # the picture
    image: tuple = (384, 384)             # H, W in pixels
    channels: int = 3
    # the backbone
    stem: int = 64                        # channels after the 7x7 convolution; 0, with depths (): a plain ViT
    depths: tuple = (3, 4, 9)             # units per stage; () leaves the stem alone
    widths: tuple = (256, 512, 1024)      # O of each stage
    groups: int = 32                      # G of every group norm
    unit: str = "bottleneck"              # or "preactivation": the unit of the BiT paper
    padding: str = "same"                 # of convolutions: "same", "symmetric", or, for a lone stem, "valid"
    pool_padding: str = "same"            # of the stem's pool: "same" or "valid"
    output_stride: int = 32               # where it is reached, conv2 dilates and strides no further
    feature_stage: int = -1               # which output becomes tokens: 0 the stem, s stage s, -1 the last
    # the encoder; blocks = 0 and width = 0 leave the backbone alone
    patch: int = 1                        # P, in cells of the feature map
    width: int = 768                      # D
    blocks: int = 12                      # L
    heads: int = 12                       # A
    hidden: int = 3072                    # F
    qkv_bias: bool = True
    class_token: bool = True
    # the head; 0 classes leave it out
    pool: str = "token"                   # what it reads: the class "token", or the "mean" of the patches
    norm_pooled: bool = False             # the last norm follows the pooling
    pre_logits: int = 0                   # width of a layer with tanh in front of it; 0 leaves that out
    classes: int = 1000
    # numerics: each family of checkpoints brings its own. Every variance divides by n, none by n - 1.
    backbone_activation: str = "relu"
    activation: str = "gelu"              # the exact one, of erf
    ws_form: str = "variance"             # standardized by sqrt(variance + eps); "deviation": sqrt(variance) + eps
    ws_eps: float = 1e-8                  # in the weight standardization
    gn_eps: float = 1e-5                  # in group norms: sqrt(variance + eps)
    ln_eps: float = 1e-12                 # in layer norms, which are over D: sqrt(variance + eps)
    pool_fill: float = 0.0                # of the pool's padding: not -inf, which in BiT, before any norm, would differ
    resampling: str = "bicubic"           # how positions.py resizes a table; "antialiased", "linear"

    @property
    def head_width(self):
        """K, the width of one attention head."""
        return self.width // self.heads

    @property
    def feature_map(self):
        """(H, W, C) of the map that becomes tokens; without a backbone it is the picture."""
        if not self.stem:
            return (*self.image, self.channels)
        stages = plan(self)
        last = self.feature_stage % (len(stages) + 1)
        return (*(feature_size(self, n, stages[:last]) for n in self.image), (self.stem, *self.widths)[last])

    @property
    def grid(self):
        """(rows, columns) of patches; a rest smaller than a patch is dropped, as a VALID convolution does."""
        height, width, _ = self.feature_map
        return height // self.patch, width // self.patch

    @property
    def tokens(self):
        """T, the class token counted in."""
        return self.class_token + self.grid[0] * self.grid[1]


class UnitPlan(NamedTuple):
    """How one unit moves over its map."""
    stride: int                           # of conv2 and of the shortcut's projection
    dilation: int                         # of conv2
    project: bool                         # the first unit of a stage projects its shortcut


def plan(config):
    """Per stage, per unit: stride, dilation, projection.  `backbone` has no rule of its own about them.

    The first stage keeps the stem's stride of 4, each later one doubles it, until `output_stride` is reached:
    from there conv2 dilates instead. Two oddities of the original, modeling_bit.py of transformers, are kept:
    its pre-activation unit never dilates, and the first unit of a dilated stage dilates less than the others.
    """
    stages, stride, dilation = [], 4, 1
    for s, depth in enumerate(config.depths):
        step = 1 if s == 0 else 2
        if stride >= config.output_stride:
            dilation, step = dilation * step, 1
        stride *= step
        first = 1 if dilation in (1, 2) else 2
        dilations = ([first] + [dilation] * (depth - 1)) if config.unit == "bottleneck" else [1] * depth
        stages.append(tuple(UnitPlan(step if u == 0 else 1, dilations[u], u == 0) for u in range(depth)))
    return tuple(stages)


def pads(rule, n, kernel, stride, dilation=1):
    """Cells added before and after an axis of n cells.

    "same" is TensorFlow's rule: n / stride cells come out, rounded up, and of an odd padding the larger half
    goes to the end. "symmetric" is PyTorch's habit. They differ where a stride of 2 meets an even axis:

    >>> pads("same", 384, 7, 2), pads("symmetric", 384, 7, 2)
    ((2, 3), (3, 3))
    """
    if rule == "same":
        total = max((-(-n // stride) - 1) * stride + dilation * (kernel - 1) + 1 - n, 0)
        return total // 2, total - total // 2
    if rule == "symmetric":
        return ((stride - 1 + dilation * (kernel - 1)) // 2,) * 2
    return 0, 0


def window_count(n, kernel, stride, dilation, pad):
    """How many cells a window of `kernel` taps finds on a padded axis of n cells."""
    return (n + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1


def feature_size(config, n, stages):
    """Length of an axis of n pixels after the stem and the given stages."""
    n = window_count(n, 7, 2, 1, pads(config.padding, n, 7, 2)) + 2 * stem_border(config)
    n = window_count(n, 3, 2, 1, pads(config.pool_padding, n, 3, 2))
    for stride, dilation, _ in (unit for stage in stages for unit in stage):
        n = window_count(n, 3, stride, dilation, pads(config.padding, n, 3, stride, dilation))
    return n


def stem_border(config):
    """Rings of zeros that the stem puts around its convolution's output: upstream pads there, not in the pool."""
    return 0 if config.padding == "same" else 1


def inner_width(width):
    """M, the width inside a bottleneck: a quarter of its output's, rounded to a multiple of 8."""
    return divisible(width * 0.25)


def divisible(value):
    """The multiple of 8 nearest to value, at least 8, and never under nine tenths of value."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


_BIT = Config(image=(224, 224), unit="preactivation", padding="symmetric", pool_padding="valid",
              width=0, blocks=0, heads=0, hidden=0)


def _bit(depths, factor):
    widths = tuple(width * factor for width in (256, 512, 1024, 2048))
    return replace(_BIT, stem=64 * factor, depths=depths, widths=widths)


_FOUR = dict(widths=(256, 512, 1024, 2048))

# The five published hybrids and the BiT networks, by the names of the papers. Dosovitskiy et al. 2020,
# table 6; Steiner et al. 2021, table 3; Kolesnikov et al. 2019, section 3.1. The "/16" of R+ViT-Ti/16
# is what its authors call it: the stem's 4 times the patch's 8 make it a /32.
PRESETS = {
    "R+ViT-Ti/16": Config(depths=(), widths=(), patch=8, width=192, heads=3, hidden=768),
    "R26+ViT-S/32": Config(depths=(2, 2, 2, 2), **_FOUR, width=384, heads=6, hidden=1536),
    "R26+ViT-B/32": Config(depths=(2, 2, 2, 2), **_FOUR),
    "R50+ViT-B/16": Config(),
    "R50+ViT-L/32": Config(depths=(3, 4, 6, 3), **_FOUR, width=1024, blocks=24, heads=16, hidden=4096),
    "BiT-R50x1": _bit((3, 4, 6, 3), 1),
    "BiT-R101x1": _bit((3, 4, 23, 3), 1),
    "BiT-R50x3": _bit((3, 4, 6, 3), 3),
    "BiT-R152x2": _bit((3, 8, 36, 3), 2),
}
