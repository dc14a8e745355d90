"""{name: array} <-> parameters.

`names` speaks Hugging Face's dialect and `dialects` the others, a table each; `guess` tells which one a file speaks,
`infer` what network it holds, `files` what a model file is made of, `heads` classifiers of your own. Bytes are read and
written by `tensorfile`; the model mentions none of it.
"""
from .files import (PROCESSORS, Checkpoint, again, default_model, read, read_config, read_json, read_processor, sha256,
                    weights_file, write_h5, write_processor)
from .fill import filled, spelled
from .golden import golden_input, golden_state
from .heads import Head, head_reads, read_head, with_head, write_head

__all__ = ["PROCESSORS", "Checkpoint", "Head", "again", "default_model", "filled", "golden_input", "golden_state",
           "head_reads", "read", "read_config", "read_head", "read_json", "read_processor", "sha256", "spelled",
           "weights_file", "with_head", "write_h5", "write_head", "write_processor"]
