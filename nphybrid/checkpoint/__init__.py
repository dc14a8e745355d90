"""Reads the parameters of a model from files, and writes parameters to files.

    `files` reads and writes model files: their arrays, configuration and image processor.
    `hub` downloads models of the Hugging Face hub.
    `fill` converts arrays with Hugging Face's names to parameters, and back.
    `golden` computes the built-in input of a network, and reads the results that a file stores for this input.
    `heads` reads and writes classifiers for your own classes.
    `kept` keeps packed weights in a file, so that a model loads faster.
    `narrow` reads and writes the weights of bfloat16 and int8 models.

The package `dialects` converts other names of arrays to Hugging Face's names.  The package `tensorfile` reads and
writes the bytes of files.  The file model.py does not import `checkpoint`, `dialects` or `tensorfile`.
"""

from .files import (PROCESSORS, Checkpoint, default_model, manifest_of, metadata_of, no_processor, opened, read,
                    read_config, read_json, read_processor, reread, sha256, weights_file, write_h5, write_processor)
from .fill import fill_parameters, to_state_dict
from .golden import golden_error, golden_input, golden_state
from .heads import Head, classifier_width, head_reads, read_head, with_head, write_head
from .hub import Access
from .kept import Kept, about_kept, key_of, read_kept, write_kept
from .narrow import SCALING, Narrow, narrow_state, paired, stored_dtype

__all__ = ["PROCESSORS", "SCALING", "Access", "Checkpoint", "Head", "Kept", "Narrow", "about_kept", "classifier_width",
           "default_model", "fill_parameters", "golden_error", "golden_input", "golden_state", "head_reads", "key_of",
           "manifest_of", "metadata_of", "narrow_state", "no_processor", "opened", "paired", "read", "read_config",
           "read_head", "read_json", "read_kept", "read_processor", "reread", "sha256", "stored_dtype", "to_state_dict",
           "weights_file", "with_head", "write_h5", "write_head", "write_kept", "write_processor"]
