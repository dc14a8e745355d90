"""What the models return: answers by attribute, by key and by index, as transformers' outputs do."""


class ModelOutput(dict):
    """Named arrays in a fixed order; what was not asked for is None as an attribute and absent otherwise.

    >>> out = ImageClassifierOutput(logits="L", hidden_states=("a", "b"))
    >>> out.logits, out["logits"], out[0], out[:2], out.loss
    ('L', 'L', 'L', ('L', ('a', 'b')), None)
    """
    fields = ()

    def __init__(self, **values):
        if unknown := values.keys() - set(self.fields):
            raise TypeError(f"{type(self).__name__} has {', '.join(self.fields)}; not {', '.join(sorted(unknown))}")
        super().__init__((name, values[name]) for name in self.fields if values.get(name) is not None)

    def __getattr__(self, name):
        if name in type(self).fields:
            return self.get(name)
        raise AttributeError(f"{type(self).__name__} has {', '.join(self.fields)}; not {name!r}")

    def __setattr__(self, name, value):
        self[name] = value

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self):
        """The values that are there, in order."""
        return tuple(self.values())


class BaseModelOutputWithPooling(ModelOutput):
    """last_hidden_state (B, T, D), pooler_output (B, D), hidden_states L + 1 of (B, T, D),
    attentions L of (B, A, T, T)"""
    fields = ("last_hidden_state", "pooler_output", "hidden_states", "attentions")


class ImageClassifierOutput(ModelOutput):
    """loss (), logits (B, classes), hidden_states L + 1 of (B, T, D), attentions L of (B, A, T, T)"""
    fields = ("loss", "logits", "hidden_states", "attentions")


class BaseModelOutputWithPoolingAndNoAttention(ModelOutput):
    """last_hidden_state (B, C, H, W), pooler_output (B, C, 1, 1), hidden_states: stem and stages, each (B, C, H, W)"""
    fields = ("last_hidden_state", "pooler_output", "hidden_states")


class ImageClassifierOutputWithNoAttention(ModelOutput):
    """loss (), logits (B, classes), hidden_states: stem and stages, each (B, C, H, W)"""
    fields = ("loss", "logits", "hidden_states")


class BackboneOutput(ModelOutput):
    """feature_maps: one (B, C, H, W) per out_features; hidden_states: stem and stages; attentions: always None"""
    fields = ("feature_maps", "hidden_states", "attentions")
