"""{name: array} <-> parameters.

`names` speaks Hugging Face's dialect and `dialects` the others, a table each; `guess` tells which one a file speaks,
`infer` what network it holds, `files` what a model file is made of, `heads` classifiers of your own. Bytes are read and
written by `tensorfile`; the model mentions none of it.
"""
from .files import (PROCESSORS, Checkpoint, default_model, read, read_config, read_json, read_processor, reread, sha256,
                    weights_file, write_h5, write_processor)
from .fill import fill_parameters, to_state_dict
from .golden import golden_input, golden_state
from .heads import Head, head_reads, read_head, with_head, write_head

__all__ = ["PROCESSORS", "Checkpoint", "Head", "reread", "default_model", "fill_parameters", "golden_input", "golden_state",
           "head_reads", "read", "read_config", "read_head", "read_json", "read_processor", "sha256", "to_state_dict",
           "weights_file", "with_head", "write_h5", "write_head", "write_processor"]
