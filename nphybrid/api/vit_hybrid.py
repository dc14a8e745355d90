"""`ViTHybridModel` and `ViTHybridForImageClassification`, and the plain `ViTModel` and `ViTForImageClassification`."""
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .. import model
from ..checkpoint import Checkpoint
from ..dialects.huggingface import hybrid_names
from ..dialects.positions import resize_positions
from ..trace import Trace
from . import checks
from .base import Inputs, Model, argument_or_default, as_requested, loss_of, record_trace, select_states
from .configs import ViTConfig, ViTHybridConfig
from .outputs import Arrays, BaseModelOutputWithPooling, ImageClassifierOutput
from .source import for_image_size, in_hugging_face_names, with_prefix

M = TypeVar("M", bound="ViTHybrid")


class ViTHybridStates(NamedTuple):
    """The states from which the outputs of the four classes are built."""
    trace: Trace                          # with norm, and pooler and logits, if the network has them
    hidden_states: Arrays | None          # None if not requested
    attentions: Arrays | None             # None if not requested


class ViTHybrid(Model):
    """What the two hybrid classes and the two plain ViT classes share."""
    config: ViTHybridConfig | ViTConfig
    config_class = ViTHybridConfig
    family = "vit."
    network = staticmethod(model.hybrid)
    table_of = staticmethod(hybrid_names)

    @classmethod
    def from_checkpoint(cls: type[M], source: Checkpoint, overrides: dict[str, Any] | None = None,
                        head: Any = None, **options: Any) -> M:
        """As `Model.from_checkpoint`; for another image_size than that of the file, the positions are resized."""
        source = for_image_size(in_hugging_face_names(source, cls), cls, overrides or {})
        return super().from_checkpoint(source, overrides, head, **options)

    def check_inputs(self, pixel_values: npt.ArrayLike | None, head_mask: npt.ArrayLike | None = None,
                     bool_masked_pos: npt.ArrayLike | None = None,
                     interpolate_pos_encoding: bool | None = None) -> Inputs:
        """What the network receives; for another picture size, with resized positions.

        Raises ValueError, TypeError, NonFiniteError for inputs that the network cannot take.
        """
        config = self.network_config
        params = self.params
        size = None if interpolate_pos_encoding else config.image
        x = checks.pixels(pixel_values, config.channels, self.float_dtype, size)
        if x.shape[1:3] != config.image:
            config = replace(config, image=x.shape[1:3])
            checks.check_patches_fill(config)
            positions = resize_positions(params.tokens.positions, self.network_config.grid, config.grid,
                                         config.resampling)
            params = params._replace(tokens=params.tokens._replace(positions=positions))
        patches = config.tokens - config.class_token
        masks = {"head_mask": checks.head_mask(head_mask, config.blocks, config.heads, self.float_dtype),
                 "masked": checks.masked_patches(bool_masked_pos, params.tokens.mask, len(x), patches)}
        return Inputs(x, params, config, masks)

    def trace(self, pixel_values: npt.ArrayLike, head_mask: npt.ArrayLike | None = None,
              bool_masked_pos: npt.ArrayLike | None = None, interpolate_pos_encoding: bool | None = None,
              runs: int = 0) -> Trace:
        """One forward pass with every state recorded, channels last.  (B, C, H, W) -> Trace, a dict {name: array}

        pixel_values, head_mask, bool_masked_pos, interpolate_pos_encoding: as in `forward`.
        runs: how many more forward passes measure `trace.seconds`, where each time is the median of these passes. They
        keep no states and do not compute the attention weights, so `trace.seconds` has no time for the weights. With
        runs=0 the times are those of the recorded pass. It allocates memory for each state and computes the attention
        weights. If it is the first pass of a process, it also compiles or loads the kernels. In R50+ViT-B/16, attention
        took 16 % of 0.84 s in a recorded pass and 10 % of 0.74 s in a forward pass.

        >>> import numpy as np
        >>> from nphybrid import ViTHybridModel, default_model
        >>> model = ViTHybridModel.from_pretrained(default_model())
        >>> trace = model.trace(np.zeros((1, 3, 64, 64), np.float32), runs=3)
        >>> trace["stages.1.1"].shape, trace["blocks.3.weights"].shape
        ((1, 8, 8, 256), (1, 3, 65, 65))
        >>> print(trace)
        state              shape       mean  rms  ms  of time
        pixel_values       1x64x64x3      0    0  ...
        stem.conv          1x32x32x64  ...
        blocks.3.weights   1x3x65x65   0.01538  ...   -      -
        ...
        """
        return record_trace(self, pixel_values, runs, head_mask=head_mask, bool_masked_pos=bool_masked_pos,
                            interpolate_pos_encoding=interpolate_pos_encoding)

    def run(self, pixel_values: npt.ArrayLike | None, output_attentions: bool | None,
            output_hidden_states: bool | None, **inputs: Any) -> ViTHybridStates:
        """One forward pass.

        output_attentions, output_hidden_states: None means the value in the configuration. inputs: as in `trace`.
        """
        blocks = [f"blocks.{i}" for i in range(self.network_config.blocks)]
        hidden_states = weights = None
        if argument_or_default(output_hidden_states, self.config.output_hidden_states):
            hidden_states = ["tokens", *blocks]
        if argument_or_default(output_attentions, self.config.output_attentions):
            weights = [f"{block}.weights" for block in blocks]
        out = Trace(keep={"norm", "pooler", "logits", *(hidden_states or ()), *(weights or ())})
        self.run_into(out, pixel_values, **inputs)
        return ViTHybridStates(out, select_states(out, hidden_states), select_states(out, weights))


class ViTHybridModel(ViTHybrid):
    """The ViT Hybrid without a classifier: pictures become encoded tokens.

    config: a ViTHybridConfig. add_pooling_layer: add the pooler, a linear layer and tanh on the class token.
    use_mask_token: add the token that replaces masked patches. options: state_dict, seed, engine, dtype, precision and
    num_threads, as in ViTHybridForImageClassification.

    >>> import numpy as np
    >>> from nphybrid import ViTHybridModel, default_model
    >>> model = ViTHybridModel.from_pretrained(default_model())
    >>> model(np.zeros((1, 3, 64, 64), np.float32)).last_hidden_state.shape
    (1, 65, 192)
    """
    ignored = ("classifier.",)

    def __init__(self, config: ViTHybridConfig | ViTConfig, add_pooling_layer: bool = True,
                 use_mask_token: bool = False, **options: Any):
        pooler = getattr(config, "pooler_output_size", True) if add_pooling_layer else False
        self.parts = {"pooler": pooler, "mask_token": bool(use_mask_token)}
        super().__init__(config, **options)

    @classmethod
    def from_checkpoint(cls: type[M], source: Checkpoint, overrides: dict[str, Any] | None = None,
                        head: Any = None, **options: Any) -> M:
        """As `Model.from_checkpoint`.  By default, the model has a pooler and a mask token if the file has them; the
        overrides add_pooling_layer and use_mask_token replace that."""
        source = in_hugging_face_names(source, cls)
        overrides = dict(overrides or {})
        names = with_prefix(source.arrays, cls)
        parts = {"add_pooling_layer": "pooler.dense.weight" in names,
                 "use_mask_token": "embeddings.mask_token" in names}
        for key in parts:
            if overrides.get(key) is not None:
                parts[key] = overrides.pop(key)
        return super().from_checkpoint(source, overrides, head, **parts, **options)

    def forward(self, pixel_values: npt.ArrayLike | None = None, bool_masked_pos: npt.ArrayLike | None = None,
                head_mask: npt.ArrayLike | None = None, output_attentions: bool | None = None,
                output_hidden_states: bool | None = None, interpolate_pos_encoding: bool | None = None,
                return_dict: bool | None = None) -> BaseModelOutputWithPooling:
        """Encode pictures.

        pixel_values: floats (B, C, H, W), as the image processor returns them. bool_masked_pos: bool (B, N); where it
        is True, the mask token replaces the patch. head_mask: numbers (A,) or (L, A), by which each head is multiplied.
        output_attentions: return the attention weights of each block, after the head mask. output_hidden_states:
        return the tokens and the output of each block. interpolate_pos_encoding: accept other picture sizes than that
        of the configuration, and resize the positions. return_dict: False returns a tuple. None is the default of the
        configuration.

        Returns BaseModelOutputWithPooling: last_hidden_state (B, T, D), pooler_output (B, D), hidden_states L + 1 of
        (B, T, D), attentions L of (B, A, T, T), in the dtype of the model, or in float32 if that is bfloat16.
        pooler_output is None without a pooler, except in networks of timm and JAX that pool the mean or have
        pre_logits: there it is what their classifier would read. Raises ValueError, TypeError, NonFiniteError.
        """
        out, hidden_states, attentions = self.run(
            pixel_values, output_attentions, output_hidden_states, head_mask=head_mask,
            bool_masked_pos=bool_masked_pos, interpolate_pos_encoding=interpolate_pos_encoding)
        output = BaseModelOutputWithPooling(last_hidden_state=out["norm"], pooler_output=out.get("pooler"),
                                            hidden_states=hidden_states, attentions=attentions)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike | None = None, bool_masked_pos: npt.ArrayLike | None = None,
                 head_mask: npt.ArrayLike | None = None, output_attentions: bool | None = None,
                 output_hidden_states: bool | None = None, interpolate_pos_encoding: bool | None = None,
                 return_dict: bool | None = None) -> BaseModelOutputWithPooling:
        """`forward`."""
        return self.forward(pixel_values, bool_masked_pos, head_mask, output_attentions, output_hidden_states,
                            interpolate_pos_encoding, return_dict)


class ViTHybridForImageClassification(ViTHybrid):
    """The ViT Hybrid with a classifier: pictures become logits.

    config: a ViTHybridConfig. state_dict: {Hugging Face name: array}, the weights; None draws random ones from `seed`.
    engine, dtype, precision, num_threads: as in `from_pretrained`.

    >>> import numpy as np
    >>> from nphybrid import ViTHybridForImageClassification, default_model
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model())
    >>> logits = model(np.zeros((1, 3, 64, 64), np.float32)).logits
    >>> logits.shape, logits.dtype
    ((1, 10), dtype('float32'))
    """
    prefix = "vit."
    has_head = True

    def forward(self, pixel_values: npt.ArrayLike | None = None, head_mask: npt.ArrayLike | None = None,
                labels: npt.ArrayLike | None = None, output_attentions: bool | None = None,
                output_hidden_states: bool | None = None, interpolate_pos_encoding: bool | None = None,
                return_dict: bool | None = None) -> ImageClassifierOutput:
        """Classify pictures.

        labels: if given, the loss is computed. Integers (B,) mean cross-entropy, where -100 is not counted; floats
        (B, K) mean several labels per picture; floats (B,) mean a regression, if the model has one class.
        `config.problem_type` replaces this rule. The other arguments are those of ViTHybridModel.forward.

        Returns ImageClassifierOutput: loss (), logits (B, classes), hidden_states, attentions. Without classes, logits
        is what the classifier would read. Raises ValueError, TypeError, NonFiniteError.
        """
        out, hidden_states, attentions = self.run(
            pixel_values, output_attentions, output_hidden_states, head_mask=head_mask,
            interpolate_pos_encoding=interpolate_pos_encoding)
        logits = _logits(out)
        output = ImageClassifierOutput(loss=loss_of(self, logits, labels), logits=logits,
                                       hidden_states=hidden_states, attentions=attentions)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike | None = None, head_mask: npt.ArrayLike | None = None,
                 labels: npt.ArrayLike | None = None, output_attentions: bool | None = None,
                 output_hidden_states: bool | None = None, interpolate_pos_encoding: bool | None = None,
                 return_dict: bool | None = None) -> ImageClassifierOutput:
        """`forward`."""
        return self.forward(pixel_values, head_mask, labels, output_attentions, output_hidden_states,
                            interpolate_pos_encoding, return_dict)


def _logits(trace: Trace) -> np.ndarray:
    """The logits (B, classes).  Without a classifier: the pooler's output, else the first token after the last norm."""
    if "logits" in trace:
        return trace["logits"]
    return trace["pooler"] if "pooler" in trace else trace["norm"][:, 0]


class ViTModel(ViTHybridModel):
    """The plain ViT without a classifier: it has no backbone, and cuts patches from the picture.

    config: a ViTConfig. Everything else is as in ViTHybridModel.

    >>> import numpy as np
    >>> from nphybrid import ViTConfig, ViTModel
    >>> sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=96)
    >>> ViTModel(ViTConfig(image_size=32, **sizes))(np.zeros((1, 3, 32, 32), np.float32)).pooler_output.shape
    (1, 48)
    """
    config: ViTConfig
    config_class = ViTConfig


class ViTForImageClassification(ViTHybridForImageClassification):
    """The plain ViT with a classifier.

    config: a ViTConfig. Everything else is as in ViTHybridForImageClassification.

    >>> import numpy as np
    >>> from nphybrid import ViTConfig, ViTForImageClassification
    >>> sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=96)
    >>> model = ViTForImageClassification(ViTConfig(image_size=32, num_labels=5, **sizes))
    >>> model(np.zeros((2, 3, 32, 32), np.float32)).logits.shape
    (2, 5)
    """
    config: ViTConfig
    config_class = ViTConfig
