"""Functions for programmers who write the network in another framework and compare its states with those of nphybrid.

    model = ViTHybridForImageClassification(config, engine="reference", dtype="float64")
    model.load_state_dict(telling_weights(model, seed=0))
    trace = model.trace(pixel_values)                       # a dict {name: array} of every intermediate state
    assert_states_close(trace, states_of_your_network)      # an error has the name of the first state that differs

`torch_twin` makes a PyTorch copy of a model, and `torch_states` computes the states of a PyTorch model. `torch_twin`
imports torch and transformers (version 4.57.6), and `torch_states` imports torch.
"""
import re
from collections.abc import Mapping

import numpy as np

from .api.load import CLASSIFIERS
from .modelfile.compare import compare_states, format_error, format_shapes, in_forward_order
from .modelfile.layout_hints import Labels
from .text import printable, table

LABELS = Labels("trace", "states", "rtol")

# An error message lists at most MOST_ROWS states before the first difference.
# It lists at most MOST_NAMES names that are only in `trace`, and at most MOST_NAMES that are only in `states`.
MOST_ROWS, MOST_NAMES = 12, 20


# ---------------------------------------------------------------- comparing states

def assert_states_close(trace, states, rtol=1e-9, common=False, atol=0.0):
    """Raise AssertionError if a state differs between two implementations.

    `trace`, `states`: mappings {name: array}, such as a `Trace`, a dict or the result of `numpy.load` for an `.npz`
    file. The arrays are NumPy arrays or torch tensors of any shape and any real dtype. All arrays are compared in
    float64. `rtol`: the largest permitted value of max|a - b| / max|b|. The array a is in `trace`, and the array b is
    in `states`. The limit `rtol` applies to a whole state, not to each element. `common`: False to expect equal names
    in `trace` and `states`, True to compare only states whose names are in both. `atol`: a state is also close if
    max|a - b| <= atol.

    Two dicts of gradients can be compared, too. The gradient of the bias of a key is 0 in exact arithmetic, so its
    values are only rounding errors, and need an atol, for example 1e-12 (float64) or 1e-5 (float32) times the largest
    gradient.

    NaN equals only NaN. The error message has the name of the first state that differs, in the order of the forward
    pass. The error message lists the states before the first difference, and the names that are only in `trace` or only
    in `states`. If the first state that differs has only another layout, the error message has the change of layout
    that makes the arrays equal: a transpose, a reshape, a cut along an axis or a permutation along an axis.

    Raises AssertionError if a state differs in shape or value, and if `trace` and `states` have no name in common. With
    common=False, also raises AssertionError if a name is only in `trace` or only in `states`. Raises TypeError for
    arguments that are not mappings, for arrays without real numbers, and for an rtol or atol that is not a number.
    Raises ValueError for an rtol or atol below 0.

    >>> x = np.arange(24.0).reshape(1, 2, 3, 4)
    >>> assert_states_close({"stem": x, "norm": x}, {"stem": x * (1 + 1e-12)}, common=True)
    >>> assert_states_close({"stem.conv": x, "stem": x}, {"stem.conv": x, "stem": x.transpose(0, 3, 1, 2)})
    Traceback (most recent call last):
    AssertionError: stem is the first state that differs: shape 1x2x3x4 in trace, 1x4x2x3 in states
    equal within rtol after transpose (0, 2, 3, 1) of states
    equal before the first difference: 1 state
      stem.conv  1x2x3x4  0  equal
    equal after the first difference: 0 of 0 states
    """
    __tracebackhide__ = True
    for label, mapping in zip(LABELS, (trace, states)):
        if not isinstance(mapping, Mapping):
            raise TypeError(f"{label}: expected a mapping {{name: array}}, found a {type(mapping).__name__}")
        if missing := [name for name, state in mapping.items() if state is None]:
            raise TypeError(f"{label}: expected an array for {missing[0]}, found None")
    for name, bound in ("rtol", rtol), ("atol", atol):
        if not isinstance(bound, (int, float, np.number)):
            raise TypeError(f"{name}: expected a number of at least 0, found a {type(bound).__name__}")
        if not bound >= 0:
            raise ValueError(f"{name}: expected a number of at least 0, found {bound}")
    rows = compare_states(trace, states, rtol, labels=LABELS, atol=atol)
    both = [row for row in rows if None not in row.shapes]
    if not both:
        raise AssertionError("\n".join(["trace and states have no name in common", *_one_sided(rows)]))
    if all(row.ok for row in both) and (common or len(both) == len(rows)):
        return
    raise AssertionError("\n".join([*_first_difference(both), *_one_sided(rows)]))


def _first_difference(rows):
    """Returns the lines of an error message about the first state that differs."""
    index = next((i for i, row in enumerate(rows) if not row.ok), None)
    if index is None:
        return [f"trace and states have different names; the {_count(rows)} in common are equal",
                "common=True compares only the states in common"]
    first, before, after = rows[index], rows[:index], rows[index + 1:]
    lines = [f"{printable(first.name)} is the first state that differs: {_figure(first)}"]
    if first.hint is not None:
        lines.append(f"  {first.hint}")
    lines.append(f"equal before the first difference: {_count(before)}")
    if len(before) > MOST_ROWS:
        lines.append(f"  … the last {MOST_ROWS} states are")
    shown = [(f"  {printable(row.name)}", format_shapes(row.shapes), format_error(row.error), row.verdict)
             for row in before[-MOST_ROWS:]]
    if shown:
        lines.append(table(shown, "<<><"))
    lines.append(f"equal after the first difference: {sum(row.ok for row in after)} of {_count(after)}")
    return lines


def _figure(row):
    if row.error is None:
        a, b = (format_shapes([shape]) for shape in row.shapes)
        return f"shape {a} in trace, {b} in states"
    a, b = row.values
    return (f"max|a - b| / max|b| is {row.error:.3g}\n  {a:.9g} in trace, {b:.9g} in states at {list(row.where)} "
            f"of shape {format_shapes(row.shapes)}")


def _one_sided(rows):
    lines = []
    for label, side in ("trace", 0), ("states", 1):
        names = [printable(row.name) for row in rows if row.shapes[1 - side] is None]
        if names:
            more = f", … and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            lines.append(f"only in {label}: {', '.join(names[:MOST_NAMES])}{more}")
    return lines


def _count(rows):
    return f"{len(rows)} state{'' if len(rows) == 1 else 's'}"


# ---------------------------------------------------------------- weights

def telling_weights(model_or_config, seed, scale=1.0):
    """Makes random weights that reveal a mistake in any layer.  -> {Hugging Face name: float32 array}

    The random weights of a new model hide some mistakes. In a new model, all scales of norms are 1 and all biases are
    0, so two exchanged norms or a missing bias do not change any state.

    In the result, the scales of norms have mean 1 and standard deviation 0.3. Biases, positions, the class token and
    the mask token have mean 0 and standard deviation 0.3. The convolution kernels of the backbone have a mean that is
    not 0. The weights of queries and keys are scaled so that the attention is not uniform and not one-hot.

    In float32, these weights do not reveal a wrong eps, because eps is far smaller than the variances. With scale=1e-3
    and `pixel_values` that are also multiplied by 1e-3, the variances are so small that a wrong eps changes a state by
    more than the rounding errors of float32, and a comparison with rtol=1e-3 finds it.

    `model_or_config`: a model, a network of transformers, or a ViTHybridConfig, ViTConfig or BitConfig. If
    model_or_config is a configuration, the weights are those of a classifier. Any object with a `state_dict()` of
    Hugging Face names is accepted. `seed`: an int of at least 0. Equal seeds give equal weights. `scale`: a factor of
    all arrays except those of norms. Raises TypeError for other types of model_or_config.

    >>> from nphybrid import BitConfig, BitForImageClassification
    >>> config = BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4)
    >>> weights = telling_weights(config, seed=0)
    >>> weights["bit.embedder.convolution.weight"].shape, weights["bit.norm.weight"].dtype
    ((8, 3, 7, 7), dtype('float32'))
    >>> model = BitForImageClassification(config, state_dict=weights)
    """
    rng = np.random.default_rng(seed)
    weights = {name: _telling_array(name, array.shape, rng) for name, array in _state_dict_of(model_or_config).items()}
    return {name: x if "norm" in name else x * np.float32(scale) for name, x in weights.items()}


def _state_dict_of(model_or_config):
    if hasattr(model_or_config, "state_dict"):
        return model_or_config.state_dict()
    for kind in CLASSIFIERS.values():
        if isinstance(model_or_config, kind.config_class):
            return kind(model_or_config, engine="reference").state_dict()
    raise TypeError(f"model_or_config has type {type(model_or_config).__name__}; expected a model, a ViTHybridConfig, "
                    "a ViTConfig or a BitConfig")


def _telling_array(name, shape, rng):
    x = rng.standard_normal(shape, np.float32)
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1
    if "norm" in name and name.endswith("weight"):
        x = 1 + 0.3 * x
    elif name.endswith("bias") or "_token" in name or "position" in name:
        x = 0.3 * x
    elif ".query." in name or ".key." in name:
        x *= np.sqrt(2.5 / fan_in)
    elif len(shape) == 4 and "projection" not in name:
        x = x + 0.5
    else:
        x *= 1 / np.sqrt(fan_in)
    return x.astype(np.float32)


# ---------------------------------------------------------------- PyTorch

def torch_twin(model, dtype=None, attention=None):
    """Makes a network of transformers with the weights of a model.  -> torch.nn.Module in eval mode

    `model`: a model of nphybrid. The class of the network and the class of the model have equal names. `dtype`: a torch
    dtype or the name of a torch dtype. The default dtype is float64 for a float64 model, and float32 for all other
    models. `attention`: "eager" or "sdpa", the attention function of transformers. Only the "eager" attention gives the
    states `blocks.N.weights` and uses a head mask. The default attention is "sdpa" for a plain ViT in float64, and
    "eager" for all other networks. The "eager" attention of a plain ViT rounds the softmax to float32.

        model = ViTHybridForImageClassification(config, engine="reference", dtype="float64")
        assert_states_close(model.trace(x), torch_states(torch_twin(model), x))

    Raises ValueError if `config.dialect` has numerics that transformers cannot compute. Raises ImportError if torch or
    transformers is not installed.
    """
    import torch
    from transformers.modeling_utils import no_init_weights
    differing = sorted(model.config.dialect.keys() - {"name"})
    if differing:
        raise ValueError(f"config.dialect of the model has {', '.join(differing)}; expected a model without these "
                         "keys, which transformers cannot compute")
    dtype = dtype or ("float64" if model.dtype == "float64" else "float32")
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    kind, config = _torch_class_and_config(model)
    if config.model_type != "bit":
        rounds_softmax = config.model_type == "vit" and dtype == torch.float64
        # The key "" sets the attention of the encoder only. The backbone of a hybrid does not accept "sdpa".
        config._attn_implementation = {"": attention or ("sdpa" if rounds_softmax else "eager")}
    parts = {}
    if model.parts:
        parts = {"add_pooling_layer": bool(model.parts["pooler"]), "use_mask_token": model.parts["mask_token"]}
    # In transformers 4.51 to 4.57, the random initialization of a classifier crashes if there is no mask token.
    with no_init_weights():
        twin = kind(config, **parts)
    twin = twin.to(dtype)
    twin.load_state_dict({name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    return twin.eval()


def _torch_class_and_config(model):
    """Returns a class of transformers and a configuration of transformers, for a model of nphybrid."""
    import transformers
    from transformers.models.deprecated.vit_hybrid import configuration_vit_hybrid, modeling_vit_hybrid
    fields, name = model.config.to_dict(), type(model).__name__
    if model.config.model_type == "vit-hybrid":
        return getattr(modeling_vit_hybrid, name), configuration_vit_hybrid.ViTHybridConfig(**fields)
    if model.config.model_type == "vit":
        return getattr(transformers, name), transformers.ViTConfig(**fields)
    del fields["stage_names"]
    return getattr(transformers, name), transformers.BitConfig(**fields)


def torch_states(twin, pixel_values, **inputs):
    """Computes a forward pass in PyTorch and returns the states with the names of nphybrid.  -> {name: array}

    `twin`: a PyTorch network from `torch_twin`, or a network of transformers. `pixel_values`: floats (B, C, H, W), an
    array or a tensor. `inputs`: other arguments of `twin.forward`, such as head_mask or bool_masked_pos. Arrays are
    converted to tensors, and floats are converted to the dtype of `twin`.

    The states have the dtype of `twin`, but for a bfloat16 network the states are float32. Feature maps have the shape
    (B, H, W, C), tokens (B, T, D), and attention weights (B, A, T, T). The names of the states and the order of the
    names are as in `model.trace`. The state `tokens.masked` is missing. The states `blocks.N.weights` are missing if
    the attention of `twin` is not "eager". With missing states, `assert_states_close` needs common=True.
    """
    import torch
    like = next(twin.parameters())
    x = _as_tensor(pixel_values, like)
    inputs = {name: _as_tensor(value, like) if hasattr(value, "dtype") else value for name, value in inputs.items()}
    if twin.config.model_type == "vit-hybrid" and twin.config._attn_implementation == "eager":
        inputs["output_attentions"] = True
    states = {"pixel_values": _as_state("pixel_values", x)}
    hooks = [module.register_forward_hook(_hook_that_keeps(name, states))
             for name, module in _modules_by_state(twin).items()]
    try:
        with torch.inference_mode():
            twin(x, **inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: states[name] for name in in_forward_order(states)}


def _as_tensor(x, like):
    """Converts x to a tensor on the device of `like`.  A tensor of floats also gets the dtype of `like`."""
    import torch
    x = x if torch.is_tensor(x) else torch.from_numpy(np.array(x))
    return x.to(like) if x.is_floating_point() else x.to(like.device)


def _hook_that_keeps(name, states):
    """Makes a forward hook that stores the output of a module in `states`.

    The module for the state `blocks.N.out` is the layer norm that reads this state. So the hook stores the input of the
    module.
    """
    def keep(module, arguments, result):
        if name.endswith(".out"):
            result = arguments
        several = result if isinstance(result, tuple) else (result,)
        states[name] = _as_state(name, several[0])
        if name.endswith(".context") and len(several) > 1 and several[1] is not None:
            states[name.removesuffix("context") + "weights"] = _as_array(several[1])
    return keep


def _as_state(name, tensor):
    x = _as_array(tensor)
    if name == "pooler":
        return x.reshape(len(x), -1)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def _as_array(tensor):
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy().copy()


# The three dicts of states: {path of a module in transformers 4.57.6: name of the state in nphybrid}.
# A * in a path means the index of a stage, unit or block.
# In a hybrid, the paths of modules in the backbone begin with _HYBRID_BACKBONE.
_HYBRID_BACKBONE = "embeddings.patch_embeddings.backbone.bit."
_UNIT = "encoder.stages.*.layers.*"
_BACKBONE_STATES = {
    "embedder.convolution": "stem.conv", "embedder.pad": "stem.border", "embedder.norm": "stem.norm",
    "embedder": "stem",
    f"{_UNIT}.downsample.conv": "stages.*.*.proj", f"{_UNIT}.downsample.norm": "stages.*.*.norm_proj",
    **{f"{_UNIT}.{part}": f"stages.*.*.{part}" for part in ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3")},
    _UNIT: "stages.*.*",
}
_BIT_STATES = {**_BACKBONE_STATES, "norm": "features_norm", "pooler": "pooler", "classifier": "logits"}
_BLOCK = "encoder.layer.*"
_VIT_STATES = {
    **{f"{_HYBRID_BACKBONE}{path}": name for path, name in _BACKBONE_STATES.items()},
    "embeddings.patch_embeddings": "tokens.proj", "embeddings": "tokens",
    f"{_BLOCK}.layernorm_before": "blocks.*.norm1",
    **{f"{_BLOCK}.attention.attention.{part}": f"blocks.*.{part}" for part in ("query", "key", "value")},
    f"{_BLOCK}.attention.attention": "blocks.*.context", f"{_BLOCK}.layernorm_after": "blocks.*.norm2",
    f"{_BLOCK}.intermediate": "blocks.*.fc1", _BLOCK: "blocks.*",
    "layernorm": "norm", "pooler": "pooler", "classifier": "logits",
}


def _modules_by_state(twin):
    """Returns a dict {name of a state: module}.  Modules of type Identity are omitted."""
    names = _BIT_STATES if twin.config.model_type == "bit" else _VIT_STATES
    bit = getattr(twin.config, "backbone_config", twin.config)
    absent = [] if twin.config.num_labels else ["logits"]
    if getattr(bit, "layer_type", None) == "bottleneck":
        # In nphybrid, "norm3" is not a state, because one operation computes norm3, the sum and the activation.
        absent.append("stages.*.*.norm3")
    modules = {}
    for path, module in twin.named_modules():
        path = re.sub(r"^(vit|bit)\.", "", path)
        name = names.get(re.sub(r"\.\d+(?=\.|$)", ".*", path))
        if name is None or name in absent or type(module).__name__ == "Identity":
            continue
        for index in re.findall(r"\.(\d+)(?=\.|$)", path):
            name = name.replace("*", index, 1)
        modules[name] = module
        if name.endswith(".norm2") and name.startswith("blocks."):
            modules[name.removesuffix("norm2") + "out"] = module
    return modules
