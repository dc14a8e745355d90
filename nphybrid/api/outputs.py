"""What the models return: arrays by attribute, by key and by index, as the outputs of transformers."""
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

Arrays = tuple[np.ndarray, ...]


class ModelOutput(dict[str, Any]):
    """Named arrays in a fixed order.  A field that was not requested is None as an attribute, and is not a key.

    A subclass annotates its fields, in the order of the index.

    >>> out = ImageClassifierOutput(logits="L", hidden_states=("a", "b"))
    >>> out.logits, out["logits"], out[0], out[:2], out.loss
    ('L', 'L', 'L', ('L', ('a', 'b')), None)
    """
    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.fields = tuple(cls.__annotations__)

    def __init__(self, **values: Any):
        if unknown := values.keys() - set(self.fields):
            raise TypeError(f"{type(self).__name__} has {', '.join(self.fields)}; not {', '.join(sorted(unknown))}")
        super().__init__((name, values[name]) for name in self.fields if values.get(name) is not None)

    if not TYPE_CHECKING:                 # else a type checker would accept every attribute

        def __getattr__(self, name):
            if name in type(self).fields:
                return self.get(name)
            raise AttributeError(f"{type(self).__name__} has {', '.join(self.fields)}; not {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values of the keys, in order."""
        return tuple(self.values())


class BaseModelOutputWithPooling(ModelOutput):
    """The output of ViTHybridModel and ViTModel."""
    last_hidden_state: np.ndarray         # (B, T, D)
    pooler_output: np.ndarray | None      # (B, D)
    hidden_states: Arrays | None          # L + 1 of (B, T, D): the tokens, then the output of each block
    attentions: Arrays | None             # L of (B, A, T, T)


class ImageClassifierOutput(ModelOutput):
    """The output of ViTHybridForImageClassification and ViTForImageClassification."""
    loss: np.floating | None              # ()
    logits: np.ndarray                    # (B, classes)
    hidden_states: Arrays | None          # L + 1 of (B, T, D): the tokens, then the output of each block
    attentions: Arrays | None             # L of (B, A, T, T)


class BaseModelOutputWithPoolingAndNoAttention(ModelOutput):
    """The output of BitModel."""
    last_hidden_state: np.ndarray         # (B, C, H, W)
    pooler_output: np.ndarray             # (B, C, 1, 1)
    hidden_states: Arrays | None          # the stem, then each stage: (B, C, H, W)


class ImageClassifierOutputWithNoAttention(ModelOutput):
    """The output of BitForImageClassification."""
    loss: np.floating | None              # ()
    logits: np.ndarray                    # (B, classes)
    hidden_states: Arrays | None          # the stem, then each stage: (B, C, H, W)


class BackboneOutput(ModelOutput):
    """The output of BitBackbone."""
    feature_maps: Arrays                  # (B, C, H, W) for each of config.out_features
    hidden_states: Arrays | None          # the stem, then each stage: (B, C, H, W)
    attentions: Arrays | None             # always None
