"""Reads and writes files of arrays: bytes <-> {name: array}.  The package contains no code about models.

    file                           becomes                               is written by
    model.safetensors              {name: array}, metadata               write_safetensors
    model.safetensors.index.json   {name: array}, from several shards    -
    *.npz                          {name: array}                         write_npz
    weights/*.h5                   {name: array}, JSON documents         write_h5
    *.json                         -                                     write_json

The docstring of each format's module describes the format with a drawing and with rules.  Weights are untrusted input,
so the readers work as follows.

1. The kind of a file follows from its content, never from its extension (`sniff`).
2. Every size is compared with the number of bytes in the file before memory is allocated.  The functions `stored`
   and `stored_...` read no array.  An array stays in the file until the method `read` of its `Stored` is called.
3. A file that breaks a rule is refused with a `FormatError`.  The message states the file, the tensor, the rule, the
   value that was found and the value that was expected.
4. A file that is replaced or changed while it is read is also refused (`SharedFile`).
5. Pickles are never opened.  The error message contains a command that converts the pickle with torch.

The readers do not check that values are finite, or that names belong to a model.  `checkpoint.fill_parameters` checks
values and names.
"""

import numpy as np

from .arrays import digest
from .atomic import refuse_file, refuse_folder, sweep, write_atomically, write_folder_atomically
from .documents import write_json
from .errors import FilePath, FormatError
from .hdf5 import H5File, h5_documents, read_h5, stored_h5, write_h5
from .kinds import refuse_unreadable, sniff, way_out_of_pickles
from .npz import Member, npz_header, read_npz, stored_npz, write_npz
from .owner import owned
from .safetensors import (CHECKSUMS, Entry, read_safetensors, safetensors_contents, safetensors_header,
                          stored_safetensors, write_safetensors)
from .sharded import read_sharded, shard_names, stored_sharded
from .stored import SharedFile, Stored, file_state, kept_open, read_all, shared

__all__ = ["CHECKSUMS", "Entry", "FilePath", "FormatError", "H5File", "Member", "SharedFile", "Stored", "digest",
           "file_state", "h5_documents", "kept_open", "npz_header", "owned", "read", "read_h5", "read_npz",
           "read_safetensors", "read_sharded", "refuse_file", "refuse_folder", "refuse_unreadable",
           "safetensors_contents", "safetensors_header", "shard_names", "shared", "sniff", "stored", "stored_h5",
           "stored_npz", "stored_safetensors", "stored_sharded", "sweep", "way_out_of_pickles", "write_atomically",
           "write_folder_atomically", "write_h5", "write_json", "write_npz", "write_safetensors"]


def read(path: FilePath) -> dict[str, np.ndarray]:
    """Reads every array of a file.  The content of the file decides its format.  -> {name: array}

    Reads a safetensors file, a sharded model (`path` is the index), an npz file or an HDF5 file. `read_h5` also reads
    the documents of an HDF5 file. Raises FormatError for a file of another format, and for a file that breaks a rule of
    its format. Raises ImportError for an HDF5 file if h5py is not installed. Raises OSError if a file cannot be opened.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "misleading.bin")
    ...     write_safetensors(path, {"head.bias": np.float32([1, 2])})
    ...     read(path)
    {'head.bias': array([1., 2.], dtype=float32)}
    """
    return read_all(stored(path))


def stored(path: FilePath) -> dict[str, Stored]:
    """Finds every array of a file, but reads no array.  Raises the exceptions of `read`.  -> {name: Stored}"""
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
