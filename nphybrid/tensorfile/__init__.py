"""Bytes <-> {name: array}.  Knows no model.

    file                           becomes                               is written by
    model.safetensors              {name: array}, metadata               write_safetensors
    model.safetensors.index.json   {name: array}, from several shards    -
    *.npz                          {name: array}                         write_npz
    weights/*.h5                   {name: array}, JSON documents         write_h5
    *.json                         -                                     write_json

Each reader is also the description of its format: the drawing stands on top of its file, the rules follow in
the order in which the bytes are met.  Weights are untrusted input, therefore

- what a file is, its first bytes say, never its extension (`sniff`);
- every size is checked against the bytes that exist before anything is allocated; the `stored` readers stop there,
  and leave each array in its file until it is asked for;
- what breaks a rule is a `FormatError`: file, tensor, rule, what was found, what was expected;
- pickles are never opened.  The message says how to convert one, once, where torch is installed.

Not promised: that values are finite, or that the names mean anything.  Those are the caller's questions.
"""

from .atomic import write_atomically, write_folder_atomically
from .documents import write_json
from .hdf5 import H5File, h5_documents, read_h5, stored_h5, write_h5
from .kinds import refuse_unreadable, sniff
from .npz import Member, npz_header, read_npz, stored_npz, write_npz
from .safetensors import Entry, read_safetensors, safetensors_header, stored_safetensors, write_safetensors
from .sharded import read_sharded, shard_names, stored_sharded
from .stored import FormatError, Stored, digest, read_all

__all__ = ["Entry", "FormatError", "H5File", "Member", "Stored", "digest", "h5_documents", "npz_header", "read",
           "read_h5", "read_npz", "read_safetensors", "read_sharded", "refuse_unreadable", "safetensors_header",
           "shard_names", "sniff", "stored", "stored_h5", "stored_npz", "stored_safetensors", "stored_sharded",
           "write_atomically", "write_folder_atomically", "write_h5", "write_json", "write_npz", "write_safetensors"]


def read(path):
    """Every array of a file of any readable kind, chosen by content: {name: array}.

    Reads a safetensors file, the index of a sharded one, an npz, or an HDF5 file (its documents: `read_h5`).
    Raises FormatError for everything else and for a file that breaks a rule of its format; OSError if it
    cannot be opened.

    >>> import os, tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "misleading.bin")
    ...     write_safetensors(path, {"head.bias": np.float32([1, 2])})
    ...     read(path)
    {'head.bias': array([1., 2.], dtype=float32)}
    """
    return read_all(stored(path))


def stored(path):
    """The same with no array read yet: {name: Stored}."""
    kind = sniff(path)
    if kind == "hdf5":
        return stored_h5(path).arrays
    if kind == "npz":
        return stored_npz(path)
    if kind == "json":
        return stored_sharded(path)
    return stored_safetensors(path)
