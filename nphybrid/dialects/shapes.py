"""Computes the configuration of a network, with Hugging Face's keys, from the arrays' names and shapes.

Two values do not follow from shapes: the number of heads in timm's files, and the size of a picture that is not square.
The file config.json may state them.  If it does not state the number of heads, the token width decides this number.

The key `dialect` of the configuration holds the settings that differ between dialects.  Examples are epsilons, the form
of the weight standardization, the pooling of the tokens, and the rule that resizes positions.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..tensorfile import FormatError
from .layout import Shape


class Stage(NamedTuple):
    """A stage of a backbone."""

    depth: int         # number of units
    width: int         # number of output channels


def hf_bit_config(stages: list[Stage], stem: Shape, classes: int, dialect: dict[str, Any]) -> dict[str, Any]:
    """Returns the configuration of a BiT.

    `stem` is the shape of the first kernel. Its first two numbers are the output channels and the input channels.
    """
    return dict(model_type="bit", architectures=["BitForImageClassification" if classes else "BitModel"],
                embedding_size=stem[0], num_channels=stem[1], depths=[stage.depth for stage in stages],
                hidden_sizes=[stage.width for stage in stages], layer_type="preactivation", num_labels=classes,
                dialect=dialect)


def hf_vit_config(fields: dict[str, Any], *, patches: int, patch_size: int, stages: list[Stage], stem: int | None,
                  channels: int, image_size: tuple[int, ...] = ()) -> dict[str, Any]:
    """Returns the configuration of a ViT or a hybrid: the given `fields`, and the keys that are computed from shapes.

    `patches` is the number of patches in the position table. `patch_size` is the number of rows of a patch, in pixels
    of a picture or cells of a feature map. `stem` is the number of output channels of the first convolution; None for a
    plain ViT. `image_size` is (height, width), or () if the size is unknown.
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
    """Returns the stages of a backbone, computed from the kernel of the last convolution in each unit.

    `pattern` matches the name of the last kernel in a unit. The two groups of `pattern` match the number of the stage
    and the number of the unit. `width_axis` is the axis of the output channels. `first_unit` is the number of the first
    unit in the names, 0 or 1.
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
    """Returns the number of encoder blocks.

    `pattern` matches the beginning of the name of an array in a block. The group of `pattern` matches the number of the
    block. The first block has the number 0.
    """
    return 1 + max((int(match[1]) for name in shapes if (match := re.match(pattern, name))), default=-1)


def _square_image(patches: int, stride: int) -> list[int]:
    """Returns [height, width] of a square picture that has this number of patches."""
    grid = math.isqrt(max(patches, 0))
    if patches < 1 or grid * grid != patches:
        raise FormatError(f"the position table has {patches} patches, which do not form a square grid; expected a "
                          "square grid, or a config.json with input_size beside the file. If the network has a class "
                          "token, the position table must have a row for this token")
    return [grid * stride] * 2
