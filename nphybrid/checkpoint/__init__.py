"""{name: array} <-> parameters.

`names` speaks the dialect (one table), `files` knows what a model file is made of. Bytes are read and written
by `tensorfile`; the model mentions neither.
"""
from .files import (Checkpoint, again, default_model, golden_input, read, read_config, read_processor, sha256, write_h5,
                    write_processor)
from .names import Misfit, bit_names, filled, hybrid_names, spelled

__all__ = ["Checkpoint", "Misfit", "again", "bit_names", "default_model", "filled", "golden_input", "hybrid_names",
           "read", "read_config", "read_processor", "sha256", "spelled", "write_h5", "write_processor"]
