"""Reads parameters from the files at a path, and writes parameters to files.

    files     what a model file contains: arrays, configuration, image processor
    hub       models by their name on the Hugging Face hub
    fill      arrays under Hugging Face's names <-> parameters
    golden    the built-in input, and the state of it that a file keeps
    heads     classifiers of your own classes, in files of their own

`dialects` converts the names of the arrays, `tensorfile` reads and writes the bytes.  model.py imports none of them.
"""

from .files import (PROCESSORS, Checkpoint, default_model, opened, read, read_config, read_json, read_processor, reread,
                    sha256, weights_file, write_h5, write_processor)
from .fill import fill_parameters, to_state_dict
from .golden import golden_input, golden_state
from .heads import Head, head_reads, read_head, with_head, write_head

__all__ = ["PROCESSORS", "Checkpoint", "Head", "default_model", "fill_parameters", "golden_input", "golden_state",
           "head_reads", "opened", "read", "read_config", "read_head", "read_json", "read_processor", "reread",
           "sha256", "to_state_dict", "weights_file", "with_head", "write_h5", "write_head", "write_processor"]
