"""Reads and writes feature files in the .h5 format."""
import os

import numpy as np

from ..tensorfile import FormatError, stored_h5, write_h5
from .contents import Contents

ARRAYS = ("features", "positions", "paths")
DOCUMENTS = ("manifest", "errors")


def write(path: str | os.PathLike, found: Contents) -> None:
    """Write Contents to an .h5 file."""
    names = b"".join(os.fsencode(name) + b"\0" for name in found.names)
    arrays = {"features": np.asarray(found.values, np.float32), "positions": np.asarray(found.positions, np.int64),
              "paths": np.frombuffer(names, np.uint8)}
    # A message may contain a path with bytes that are not UTF-8. The JSON of an .h5 file must be UTF-8.
    errors = [[int(i), text.encode("utf-8", "backslashreplace").decode()] for i, text in found.errors.items()]
    write_h5(path, arrays, {"manifest": found.manifest, "errors": errors})


def contents(path: str | os.PathLike) -> Contents:
    """Read the Contents of an .h5 file."""
    arrays, documents = stored_h5(path)
    for kind, expected, present in (("array", ARRAYS, arrays), ("document", DOCUMENTS, documents)):
        for name in expected:
            if name not in present:
                raise FormatError(f"{path} is not a feature file; expected the {kind} {name!r}, which is missing")
    names = arrays["paths"].read().tobytes().split(b"\0")[:-1]
    return Contents(arrays["features"].read(), arrays["positions"].read(), [os.fsdecode(name) for name in names],
                    dict(documents["errors"]), documents["manifest"])
