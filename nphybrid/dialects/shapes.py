"""What network a file of another dialect holds: its configuration, spelled as Hugging Face does, from names and shapes.

Whatever a shape tells is not asked for. Not told are the number of heads in timm's files, for which there is a rule,
and a picture that is not square: config.json may tell both. What dialects compute differently comes along: epsilons,
the form of the weight standardization, GELU, the rule that resizes positions.
"""
import math
import re

from ..tensorfile import FormatError


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

