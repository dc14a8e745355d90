"""Bytes <-> {name: array}.  Knows no model.

    file                           becomes                               is written by
    model.safetensors              {name: array}, metadata               write_safetensors
    model.safetensors.index.json   {name: array}, from several shards    -
    *.npz                          {name: array}                         write_npz
    weights/*.h5                   {name: array}, JSON documents         write_h5
    *.json                         -                                     write_json

The docstring of each file describes its format: first a drawing, then the rules in the order in which they are checked.
Weights are untrusted input, therefore:

- The first bytes of a file decide what it is, never its extension (`sniff`).
- Every size is checked against the bytes that exist before memory is allocated.  The `stored` readers stop there: each
  array stays in its file until it is read.
- A file that breaks a rule is refused with a `FormatError`: file, tensor, rule, what was found, what was expected.
- A file that is replaced or written to while it is read is refused too (`SharedFile`).
- Pickles are never opened.  The message contains the command that converts one, where torch is installed.

Not promised: that values are finite, or that the names mean anything.  `checkpoint.fill_parameters` checks both.
"""

import numpy as np

from .arrays import digest
from .atomic import write_atomically, write_folder_atomically
from .documents import write_json
from .errors import FilePath, FormatError
from .hdf5 import H5File, h5_documents, read_h5, stored_h5, write_h5
from .kinds import refuse_unreadable, sniff
from .npz import Member, npz_header, read_npz, stored_npz, write_npz
from .safetensors import Entry, read_safetensors, safetensors_header, stored_safetensors, write_safetensors
from .sharded import read_sharded, shard_names, stored_sharded
from .stored import SharedFile, Stored, kept_open, read_all, shared

__all__ = ["Entry", "FilePath", "FormatError", "H5File", "Member", "SharedFile", "Stored", "digest", "h5_documents",
           "kept_open", "npz_header", "read", "read_h5", "read_npz", "read_safetensors", "read_sharded",
           "refuse_unreadable", "safetensors_header", "shard_names", "shared", "sniff", "stored", "stored_h5",
           "stored_npz", "stored_safetensors", "stored_sharded", "write_atomically", "write_folder_atomically",
           "write_h5", "write_json", "write_npz", "write_safetensors"]


def read(path: FilePath) -> dict[str, np.ndarray]:
    """Every array of a file of any readable kind, chosen by content: {name: array}.

    Reads a safetensors file, the index of a sharded one, an npz, or an HDF5 file (its documents: `read_h5`).
    Raises FormatError for everything else and for a file that breaks a rule of its format; OSError if it
    cannot be opened.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "misleading.bin")
    ...     write_safetensors(path, {"head.bias": np.float32([1, 2])})
    ...     read(path)
    {'head.bias': array([1., 2.], dtype=float32)}
    """
    return read_all(stored(path))


def stored(path: FilePath) -> dict[str, Stored]:
    """Every array of a file of any readable kind, none read yet: {name: Stored}.  Raises what `read` raises."""
    file = shared(path)
    with file.opened():
        kind = sniff(file)
        if kind == "hdf5":
            return stored_h5(file).arrays
        if kind == "npz":
            return stored_npz(file)
        if kind == "json":
            return stored_sharded(file)
        return stored_safetensors(file)
