"""Reads and writes features as an .npy file and two companion files."""
import json
import os

import numpy as np

from ..checkpoint import read_json
from ..tensorfile import owned, write_atomically, write_json
from ..tensorfile.arrays import raw
from .contents import Contents, good_positions, names_and_errors


def write(path: str | os.PathLike, found: Contents) -> None:
    """Write Contents to an .npy file and its two companion files."""
    # Two processes must not write these three files at the same time. The caller may already own `path`, so
    # `path`.jsonl is owned here.
    with owned(f"{path}.jsonl"), write_atomically(path) as values:
        _write_array(values, np.ascontiguousarray(found.values, np.float32))
        with write_atomically(f"{path}.jsonl") as names, open(names, "w", encoding="ascii") as file:
            for i, name in enumerate(found.names):
                error = {"error": found.errors[i]} if i in found.errors else {}
                file.write(json.dumps({"position": i, "path": name, **error}) + "\n")
            if os.path.exists(path):
                os.remove(os.path.realpath(path))
            write_json(f"{path}.run.json", found.manifest)


def _write_array(path, array):
    """Write a C-contiguous array in the format of np.save.  The errors of np.save itself do not state the cause."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(raw(array))


def contents(path: str | os.PathLike) -> Contents:
    """Read the Contents of an .npy file and its two companion files."""
    manifest = read_json(f"{path}.run.json")
    names, errors = names_and_errors(f"{path}.jsonl")
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    return Contents(values, good_positions(names, errors), names, errors, manifest)
