"""The outputs of the models.

As in transformers, an array of an output can be read by attribute, by key and by index.
"""
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

Arrays = tuple[np.ndarray, ...]


class ModelOutput(dict[str, Any]):
    """Named arrays in a fixed order.

    If a field was not requested, the attribute is None, and the key is missing. A subclass defines its fields with
    annotations. The order of the annotations is the order of the indices.

    >>> out = ImageClassifierOutput(logits="L", hidden_states=("a", "b"))
    >>> out.logits, out["logits"], out[0], out[:2], out.loss
    ('L', 'L', 'L', ('L', ('a', 'b')), None)
    """
    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.fields = tuple(cls.__annotations__)

    def __init__(self, **values: Any):
        if unknown := values.keys() - set(self.fields):
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}; its fields are "
                            f"{', '.join(self.fields)}")
        super().__init__((name, values[name]) for name in self.fields if values.get(name) is not None)

    if not TYPE_CHECKING:                 # with __getattr__, a type checker would accept every attribute

        def __getattr__(self, name):
            if name in type(self).fields:
                return self.get(name)
            raise AttributeError(f"{type(self).__name__} has no {name!r}; its fields are {', '.join(self.fields)}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """Returns the values of all keys, in the order of the fields."""
        return tuple(self.values())


class BaseModelOutputWithPooling(ModelOutput):
    """The output of ViTHybridModel and ViTModel."""
    last_hidden_state: np.ndarray         # (B, T, D)
    pooler_output: np.ndarray | None      # (B, D)
    hidden_states: Arrays | None          # L + 1 arrays (B, T, D): the tokens, then the output of each block
    attentions: Arrays | None             # L arrays (B, A, T, T)


class ImageClassifierOutput(ModelOutput):
    """The output of ViTHybridForImageClassification and ViTForImageClassification."""
    loss: np.floating | None              # ()
    logits: np.ndarray                    # (B, classes)
    hidden_states: Arrays | None          # L + 1 arrays (B, T, D): the tokens, then the output of each block
    attentions: Arrays | None             # L arrays (B, A, T, T)


class BaseModelOutputWithPoolingAndNoAttention(ModelOutput):
    """The output of BitModel."""
    last_hidden_state: np.ndarray         # (B, C, H, W)
    pooler_output: np.ndarray             # (B, C, 1, 1)
    hidden_states: Arrays | None          # the map (B, C, H, W) of the stem, then the map of each stage


class ImageClassifierOutputWithNoAttention(ModelOutput):
    """The output of BitForImageClassification."""
    loss: np.floating | None              # ()
    logits: np.ndarray                    # (B, classes)
    hidden_states: Arrays | None          # the map (B, C, H, W) of the stem, then the map of each stage


class BackboneOutput(ModelOutput):
    """The output of BitBackbone."""
    feature_maps: Arrays                  # one map (B, C, H, W) for each name in config.out_features
    hidden_states: Arrays | None          # the map (B, C, H, W) of the stem, then the map of each stage
    attentions: Arrays | None             # always None
