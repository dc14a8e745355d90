"""Attributes of PyTorch's modules and tensors that the models do not have, and what serves here instead."""
from ..ops import dtype_name

DTYPE = 'the argument dtype of from_pretrained, for example dtype="int8"'
GRADIENTS = "model.gradients(pixel_values, labels), which returns the loss and all gradients"
TRAINING = "nphybrid.training.finetune or the command nphybrid finetune, because the model has no training mode"
ARRAYS = "model.state_dict(), a dict {name: array}, or model.params"
STATES = "model.trace(pixel_values), a dict {name: state}"

# A dict {attribute: what serves instead}.
HINTS = {
    "cuda": 'model.to("cpu"), which changes nothing, because nphybrid computes on the CPU',
    "half": DTYPE, "bfloat16": DTYPE, "double": DTYPE,
    "float": 'the argument dtype="float32" of from_pretrained, which is the default', "quantize": DTYPE,
    "train": TRAINING, "training": TRAINING, "requires_grad_": GRADIENTS, "zero_grad": GRADIENTS,
    "gradient_checkpointing_enable": "model.gradients(pixel_values, labels, recompute=True)",
    "parameters": ARRAYS, "named_parameters": ARRAYS, "buffers": ARRAYS, "named_buffers": ARRAYS,
    "vit": ARRAYS, "bit": ARRAYS, "classifier": ARRAYS, "embeddings": ARRAYS, "encoder": ARRAYS, "layernorm": ARRAYS,
    "pooler": ARRAYS, "modules": ARRAYS, "named_modules": ARRAYS, "children": ARRAYS,
    "register_forward_hook": STATES, "push_to_hub": "save_pretrained and `hf upload`",
    "generate": "a call of the model, as in model(pixel_values)",
}


def missing_attribute(owner: object, name: str) -> AttributeError:
    """Returns the error for an attribute that an object does not have.

    >>> missing_attribute(3, "cuda").args[0]
    'int has no cuda; use model.to("cpu"), which changes nothing, because nphybrid computes on the CPU'
    """
    hint = f"; use {HINTS[name]}" if name in HINTS else ""
    return AttributeError(f"{type(owner).__name__} has no {name}{hint}", name=name, obj=owner)


def check_cpu(device: object, dtype: object, own: object) -> None:
    """Raise ValueError for a device that is not the CPU, and for a dtype that is not `own`, the dtype in use.

    >>> check_cpu("cpu", "float32", "float32")
    """
    wrong = [given for given in (device, dtype) if given is not None and dtype_name(given) not in ("cpu", str(own))]
    if wrong:
        given = wrong[-1]
        raise ValueError(f"to() got {given}; expected 'cpu', because nphybrid computes on the CPU. The dtype is "
                         f"{DTYPE}")
