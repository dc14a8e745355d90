"""The arguments of transformers' loading, saving and `pipeline` that have no meaning of their own here.

Each argument is accepted with the values that change no result.  For any other value, the error says what serves here.
"""
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..ops import dtype_name
from ..text import did_you_mean, shortened


class Argument(NamedTuple):
    """The accepted values of an argument, and the rest of the sentence about all other values."""
    accepted: tuple[Any, ...] | None      # None: all values
    serves: str = ""


NONE = (None, False)

ARGUMENTS = {
    "device_map": Argument((None, "cpu", "auto", {"": "cpu"}), "'cpu', because nphybrid computes on the CPU"),
    "device": Argument((None, "cpu", -1), "'cpu', because nphybrid computes on the CPU"),
    "low_cpu_mem_usage": Argument(None),
    "attn_implementation": Argument(None),
    "use_safetensors": Argument((None, True), "True, because pickles are never opened"),
    "trust_remote_code": Argument(NONE, "False, because nphybrid never runs code from a model"),
    "weights_only": Argument((None, True), "True, because pickles are never opened"),
    "subfolder": Argument((None, ""), "no subfolder; give the path of the folder itself"),
    "variant": Argument((None,), "no variant; give the path of the file itself"),
    "force_download": Argument(NONE, "False; to download again, delete the model in the cache"),
    "use_auth_token": Argument((None,), "the argument token"),
    "config": Argument((None,), "keys of the configuration, such as num_labels=7"),
    "state_dict": Argument((None,), "no state_dict; call model.load_state_dict(state_dict)"),
    "output_loading_info": Argument(NONE, "False; arrays that do not fit raise FormatError"),
    "quantization_config": Argument((None,), 'dtype="int8"'),
    "load_in_8bit": Argument(NONE, 'dtype="int8"'),
    "load_in_4bit": Argument(NONE, 'dtype="int8"'),
    "max_memory": Argument(None),
    "offload_folder": Argument(None),
    "offload_state_dict": Argument(None),
    "resume_download": Argument(None),
    "proxies": Argument((None, {}), "None; set the environment variable HTTPS_PROXY"),
    "mirror": Argument((None,), "None; set the environment variable HF_ENDPOINT"),
    "use_fast": Argument(NONE, "False, because Pillow resizes the pictures, as without use_fast"),
    "key_mapping": Argument((None,), "None; prefixes of wrappers, such as module., are removed without it"),
    "gguf_file": Argument((None,), "a file of safetensors"),
    "from_tf": Argument(NONE, "a file of safetensors, or a Google .npz file"),
    "from_flax": Argument(NONE, "a file of safetensors, or a Google .npz file"),
    # of `save_pretrained`
    "safe_serialization": Argument((None, True), "True, because pickles are never written"),
    "is_main_process": Argument((None, True), "True; call save_pretrained in one process only"),
    "push_to_hub": Argument(NONE, "False; to upload the folder, run `hf upload`"),
    "save_function": Argument((None,), "None, because the file is always a file of safetensors"),
    "max_shard_size": Argument(None),                 # one file has all arrays, and is read by the same call
    "save_peft_format": Argument(None),
    # of `pipeline`
    "framework": Argument((None, "pt", "np"), "None, because nphybrid computes with NumPy and Numba"),
    "feature_extractor": Argument((None,), "the argument image_processor"),
    "processor": Argument((None,), "the argument image_processor"),
    "tokenizer": Argument((None,), "None, because a picture needs no tokenizer"),
    "pipeline_class": Argument((None,), "None; the task decides the class"),
    **{name: Argument((None,), f"None; give {name} to each call, as in pipe(pictures, {name}={example})")
       for name, example in (("batch_size", 8), ("top_k", 3), ("function_to_apply", "'sigmoid'"), ("pool", True),
                             ("return_tensors", True))},
    "num_workers": Argument(None),
}


def without_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Removes the arguments of transformers from options.  Raises ValueError for a value that is not accepted.

    >>> without_arguments({"device_map": "cpu", "engine": "reference"})
    {'engine': 'reference'}
    """
    result = {}
    for name, value in options.items():
        if name not in ARGUMENTS:
            result[name] = value
            continue
        accepted, serves = ARGUMENTS[name]
        if accepted is not None and not any(value is each or str(value) == str(each) for each in accepted):
            raise ValueError(f"{name} is {shortened(str(value))}; expected {serves}")
    return result


def refuse_arguments(function: str, options: Mapping[str, Any]) -> None:
    """Raises TypeError for options that are no arguments of transformers.  Raises ValueError as `without_arguments`.

    >>> refuse_arguments("save_pretrained", {"safe_serialization": True})
    """
    for name in without_arguments(options).keys() - {"token"}:        # token is for uploads
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{did_you_mean(name, ARGUMENTS)}")


def path_argument(path: Any, options: dict[str, Any]) -> Any:
    """Returns the path of a model, which is called pretrained_model_name_or_path in transformers.

    Removes this name from options. Raises TypeError if there is no path, or if there are two paths.

    >>> path_argument(None, {"pretrained_model_name_or_path": "google/bit-50"})
    'google/bit-50'
    """
    other = options.pop("pretrained_model_name_or_path", None)
    if (path is None) == (other is None):
        raise TypeError(f"path is {path!r}, and pretrained_model_name_or_path is {other!r}; expected one path")
    return other if path is None else path


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Removes the arguments of transformers from the options of `from_pretrained`, and converts torch_dtype to dtype.

    Raises ValueError for a value that is not accepted.

    >>> own_options({"torch_dtype": "auto", "device_map": "cpu", "engine": "reference"})
    {'engine': 'reference', 'dtype': None}
    """
    result = without_arguments(options)
    if "torch_dtype" in result:
        torch_dtype = result.pop("torch_dtype")
        if result.get("dtype") is not None and _dtype(result["dtype"]) != _dtype(torch_dtype):
            raise ValueError(f"dtype is {result['dtype']}, and torch_dtype is {torch_dtype}; expected one of the two")
        result["dtype"] = torch_dtype
    if "dtype" in result:
        result["dtype"] = _dtype(result["dtype"])
    return result


def _dtype(dtype: Any) -> Any:
    """Returns the name of a dtype.  None and "auto" become None, the dtype of the file."""
    return None if dtype is None or str(dtype) == "auto" else dtype_name(dtype)
