"""The network in a file of another dialect: its configuration in Hugging Face's keys, from names and shapes.

Two sizes do not follow from shapes, and config.json may state both: the number of heads in timm's files, for which
there is a rule, and a picture that is not square.  What the dialects compute differently is a part of the configuration
(`dialect`): epsilons, the form of the weight standardization, GELU, the rule that resizes positions.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..tensorfile import FormatError
from .layout import Shape


class Stage(NamedTuple):
    """A stage of a backbone."""

    depth: int         # units
    width: int         # output channels


def hf_bit_config(stages: list[Stage], stem: Shape, classes: int, dialect: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a BiT.  stem: the shape of the first kernel, output and input channels first."""
    return dict(model_type="bit", architectures=["BitForImageClassification" if classes else "BitModel"],
                embedding_size=stem[0], num_channels=stem[1], depths=[stage.depth for stage in stages],
                hidden_sizes=[stage.width for stage in stages], layer_type="preactivation", num_labels=classes,
                dialect=dialect)


def hf_vit_config(fields: dict[str, Any], *, patches: int, patch_size: int, stages: list[Stage], stem: int | None,
                  channels: int, image_size: tuple[int, ...] = ()) -> dict[str, Any]:
    """The configuration of a ViT or a hybrid: `fields` and what follows from these shapes.

    patches: how many the position table has; patch_size: rows of a patch, in cells of what is cut into patches; stem:
    output channels of the first convolution, None for a plain ViT; image_size: (height, width) where it is known.
    """
    hybrid = stem is not None
    stride = patch_size
    if hybrid:
        stride *= 4 * 2 ** max(len(stages) - 1, 0)
    size = list(image_size)
    if not size or math.prod(math.ceil(n / stride) for n in size) != patches:
        size = _square_image(patches, stride)
    kind = ("ViTHybrid" if hybrid else "ViT") + ("ForImageClassification" if fields["num_labels"] else "Model")
    fields |= dict(model_type="vit-hybrid" if hybrid else "vit", architectures=[kind], num_channels=channels,
                   image_size=size if size[0] != size[1] else size[0], patch_size=patch_size)
    if hybrid:
        fields["backbone_config"] = dict(
            model_type="bit", layer_type="bottleneck", global_padding="SAME", embedding_dynamic_padding=True,
            embedding_size=stem, num_channels=channels, depths=[stage.depth for stage in stages],
            hidden_sizes=[stage.width for stage in stages],
            out_features=[f"stage{len(stages)}" if stages else "stem"])
    return fields


def stages_in(shapes: Mapping[str, Shape], pattern: str, width_axis: int, first_unit: int) -> list[Stage]:
    """The stages of a backbone, from the kernels of the last convolutions of its units.

    pattern: matches the names of those kernels, with the numbers of stage and unit as groups; width_axis: the axis of
    the output channels; first_unit: the number of the first unit.
    """
    stages: dict[int, Stage] = {}
    for name, shape in shapes.items():
        if match := re.fullmatch(pattern, name):
            number, depth = int(match[1]), int(match[2]) + 1 - first_unit
            if number in stages:
                depth = max(depth, stages[number].depth)
            stages[number] = Stage(depth, shape[width_axis])
    return [stages[number] for number in sorted(stages)]


def block_count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """The number of encoder blocks.  pattern: matches the beginning of their names, with the number from 0 as group"""
    return 1 + max((int(match[1]) for name in shapes if (match := re.match(pattern, name))), default=-1)


def _square_image(patches: int, stride: int) -> list[int]:
    """[height, width] of a square picture with so many patches."""
    grid = math.isqrt(patches)
    if grid * grid != patches:
        raise FormatError(f"the position table has {patches} patches, which is not a square grid; expected a square "
                          "one, or a config.json with input_size beside it (a table without a row for the class token, "
                          "in a network that has one, is not supported)")
    return [grid * stride] * 2
