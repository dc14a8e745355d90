"""{name: array} <-> parameters.

`names` speaks Hugging Face's dialect and `dialects` the others, a table each; `guess` tells which one a file speaks,
`infer` what network it holds, `files` what a model file is made of, `heads` classifiers of your own. Bytes are read and
written by `tensorfile`; the model mentions none of it.
"""
from .files import (PROCESSORS, Checkpoint, again, default_model, golden_input, golden_state, read, read_config,
                    read_json, read_processor, sha256, weights_file, write_h5, write_processor)
from .dialects import TABLES, translated
from .guess import guess, numbering, without_prefix
from .heads import Head, head_reads, read_head, with_head, write_head
from .names import Misfit, bit_names, filled, hybrid_names, spelled
from .preprocessing import for_image

__all__ = ["PROCESSORS", "TABLES", "Checkpoint", "Head", "Misfit", "again", "bit_names", "default_model", "filled",
           "for_image", "golden_input", "golden_state", "guess", "head_reads", "hybrid_names", "numbering", "read",
           "read_config", "read_head", "read_json", "read_processor", "sha256", "spelled", "translated", "weights_file",
           "with_head", "without_prefix", "write_h5", "write_head", "write_processor"]
