"""`BitModel`, `BitForImageClassification` and `BitBackbone`."""
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .. import model
from ..dialects.huggingface import bit_names
from ..trace import Trace
from . import checks
from .base import Inputs, Model, argument_or_default, as_requested, loss_of, record_trace
from .configs import BitConfig
from .outputs import (Arrays, BackboneOutput, BaseModelOutputWithPoolingAndNoAttention,
                      ImageClassifierOutputWithNoAttention)


class BitStates(NamedTuple):
    """The states that the three BiT classes need for their outputs."""
    trace: Trace                          # the states features_norm, pooler and logits, if the network computes them
    maps: Arrays                          # the maps (B, C, H, W) of the stem and of each stage; () if nobody needs them
    hidden_states: Arrays | None          # the maps, or None if hidden states were not requested


class Bit(Model):
    """The base class of the three BiT classes."""
    config: BitConfig
    config_class = BitConfig
    family = "bit."
    network = staticmethod(model.bit)
    table_of = staticmethod(bit_names)

    def check_inputs(self, pixel_values: npt.ArrayLike | None) -> Inputs:
        """Check the inputs of the network and convert the inputs to arrays.

        Raises ValueError or TypeError for inputs that do not fit the model, and NonFiniteError for NaN or infinity.
        """
        x = checks.pixels(pixel_values, self.network_config.channels, self.float_dtype)
        if min(replace(self.network_config, image=x.shape[1:3]).feature_map) < 1:
            raise ValueError(f"pixel_values are {x.shape[1]} x {x.shape[2]} pixels, and the feature map has no cell; "
                             "expected a larger picture")
        return Inputs(x, self.params, self.network_config, {})

    def trace(self, pixel_values: npt.ArrayLike, runs: int = 0) -> Trace:
        """Compute one forward pass and record every state.  (B, C, H, W) -> Trace, a dict {name: array}

        The arrays of the Trace have channels last. `runs`: the number of additional forward passes that are measured.
        Each time in `trace.seconds` is the median of the measured passes. The measured passes keep no states.

        If runs is 0, the times are those of the recorded pass. The recorded pass is slower, because it allocates memory
        for each state. The first pass of a process also compiles or loads the Numba functions.

        >>> from nphybrid import BitBackbone, BitConfig
        >>> backbone = BitBackbone(BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4))
        >>> list(backbone.trace(np.zeros((1, 3, 32, 32))))[:3]
        ['pixel_values', 'stem.conv', 'stem.border']
        """
        return record_trace(self, pixel_values, runs)

    def run(self, pixel_values: npt.ArrayLike | None, output_hidden_states: bool | None,
            needs_maps: bool = True) -> BitStates:
        """Compute one forward pass.  If output_hidden_states is None, the value in the configuration is used."""
        requested = argument_or_default(output_hidden_states, self.config.output_hidden_states)
        names = []
        if needs_maps or requested:
            names = ["stem", *(f"stages.{s}.{depth - 1}" for s, depth in enumerate(self.network_config.depths))]
        out = Trace(keep={"features_norm", "pooler", "logits", *names})
        self.run_into(out, pixel_values)
        maps = tuple(channels_first(out[name]) for name in names)
        return BitStates(out, maps, maps if requested else None)


class BitModel(Bit):
    """The BiT network without a classifier, which computes a feature map and the mean of the feature map.

    `config`: a BitConfig. The other arguments are those of ViTHybridForImageClassification.

    >>> from nphybrid import BitConfig, BitModel
    >>> model = BitModel(BitConfig(embedding_size=8, hidden_sizes=[32, 64], depths=[1, 1], num_groups=4))
    >>> out = model(np.zeros((1, 3, 64, 48), np.float32))
    >>> out.last_hidden_state.shape, out.pooler_output.shape
    ((1, 64, 8, 6), (1, 64, 1, 1))
    """
    ignored = ("classifier.",)

    def forward(self, pixel_values: npt.ArrayLike, output_hidden_states: bool | None = None,
                return_dict: bool | None = None) -> BaseModelOutputWithPoolingAndNoAttention:
        """Compute the feature map of pictures.

        `pixel_values`: floats (B, C, H, W), where H and W can be any size. `output_hidden_states`: whether to return
        the maps of the stem and of each stage. `return_dict`: False to return a tuple. If an option is None, its value
        in the configuration is used.

        Returns a BaseModelOutputWithPoolingAndNoAttention. `last_hidden_state` is the feature map (B, C, H', W'), and
        `pooler_output` is the mean (B, C, 1, 1) of the feature map. `hidden_states` has the maps of the stem and of
        each stage. Raises the errors of `check_inputs` and `run_into`.
        """
        out, maps, hidden_states = self.run(pixel_values, output_hidden_states)
        last = channels_first(out["features_norm"]) if "features_norm" in out else maps[-1]
        output = BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last, pooler_output=out["pooler"][:, :, None, None], hidden_states=hidden_states)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike, output_hidden_states: bool | None = None,
                 return_dict: bool | None = None) -> BaseModelOutputWithPoolingAndNoAttention:
        """`forward`."""
        return self.forward(pixel_values, output_hidden_states, return_dict)


class BitForImageClassification(Bit):
    """The BiT network with a classifier, which reads the mean of the feature map.

    `config`: a BitConfig. The other arguments are those of ViTHybridForImageClassification.

    >>> from nphybrid import BitConfig, BitForImageClassification
    >>> config = BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4, num_labels=5)
    >>> BitForImageClassification(config)(np.zeros((2, 3, 64, 64), np.float32)).logits.shape
    (2, 5)
    """
    prefix = "bit."
    has_head = True

    def forward(self, pixel_values: npt.ArrayLike | None = None, labels: npt.ArrayLike | None = None,
                output_hidden_states: bool | None = None,
                return_dict: bool | None = None) -> ImageClassifierOutputWithNoAttention:
        """Classify pictures.

        `pixel_values`: floats (B, C, H, W), where H and W can be any size. `labels`: as in
        ViTHybridForImageClassification.forward. `output_hidden_states`: whether to return the maps of the stem and of
        each stage. `return_dict`: False to return a tuple. If an option is None, its value in the configuration is
        used.

        Returns an ImageClassifierOutputWithNoAttention with loss (), logits (B, classes) and hidden_states. If the
        model has no classes, its logits are the mean of the feature map. Raises the errors of `check_inputs` and
        `run_into`, and ValueError for labels of a wrong shape or type.
        """
        out, _, hidden_states = self.run(pixel_values, output_hidden_states, needs_maps=False)
        logits = out["logits"] if "logits" in out else out["pooler"]
        output = ImageClassifierOutputWithNoAttention(
            loss=loss_of(self, logits, labels), logits=logits, hidden_states=hidden_states)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike | None = None, labels: npt.ArrayLike | None = None,
                 output_hidden_states: bool | None = None,
                 return_dict: bool | None = None) -> ImageClassifierOutputWithNoAttention:
        """`forward`."""
        return self.forward(pixel_values, labels, output_hidden_states, return_dict)


class BitBackbone(Bit):
    """The BiT network as a backbone, which returns feature maps of the stem and the stages, without the last norm.

    `config`: a BitConfig, whose `out_features` are the names of the returned feature maps. The other arguments are
    those of ViTHybridForImageClassification.

    >>> from nphybrid import BitBackbone, BitConfig
    >>> config = BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4,
    ...                    out_features=["stem", "stage1"])
    >>> [map.shape for map in BitBackbone(config)(np.zeros((1, 3, 64, 64), np.float32)).feature_maps]
    [(1, 8, 16, 16), (1, 32, 16, 16)]
    """
    prefix = "bit."
    ignored = ("classifier.",)

    @property
    def stage_names(self) -> list[str]:
        """The names of all feature maps: ["stem", "stage1", …]."""
        return self.config.stage_names

    @property
    def out_features(self) -> list[str]:
        """The names of the feature maps that the model returns."""
        return self.config.out_features

    @property
    def channels(self) -> list[int]:
        """The number of channels of each feature map that the model returns."""
        widths = (self.network_config.stem, *self.network_config.widths)
        return [widths[i] for i in self.config.out_indices]

    def forward(self, pixel_values: npt.ArrayLike, output_hidden_states: bool | None = None,
                return_dict: bool | None = None) -> BackboneOutput:
        """Compute feature maps of pictures.

        `pixel_values`: floats (B, C, H, W), where H and W can be any size. `output_hidden_states`: whether to return
        the maps of the stem and of each stage. `return_dict`: False to return a tuple. If an option is None, its value
        in the configuration is used.

        Returns a BackboneOutput with feature_maps and hidden_states. There is one feature map (B, C', H', W') for each
        name in config.out_features. Raises the errors of `check_inputs` and `run_into`.
        """
        _, maps, hidden_states = self.run(pixel_values, output_hidden_states)
        feature_maps = tuple(maps[i] for i in self.config.out_indices)
        output = BackboneOutput(feature_maps=feature_maps, hidden_states=hidden_states)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike, output_hidden_states: bool | None = None,
                 return_dict: bool | None = None) -> BackboneOutput:
        """`forward`."""
        return self.forward(pixel_values, output_hidden_states, return_dict)


def channels_first(x: np.ndarray) -> np.ndarray:
    """A contiguous copy with channels first.  (B, H, W, C) -> (B, C, H, W)"""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
