"""Features in an .h5 file."""
import os

import numpy as np

from ..tensorfile import FormatError, stored_h5, write_h5
from .contents import Contents


def write(path, found):
    """Write Contents."""
    names = b"".join(os.fsencode(name) + b"\0" for name in found.names)
    arrays = {"features": np.asarray(found.values, np.float32), "positions": np.asarray(found.positions, np.int64),
              "paths": np.frombuffer(names, np.uint8)}
    # A name in a message may hold bytes that are no UTF-8, and JSON here is strict.
    errors = [[int(i), text.encode("utf-8", "backslashreplace").decode()] for i, text in found.errors.items()]
    write_h5(path, arrays, {"manifest": found.manifest, "errors": errors})


def contents(path):
    """What `write` wrote.  -> Contents"""
    arrays, documents = stored_h5(path)
    for kind, has in (("array", arrays), ("document", documents)):
        for name in {"array": ("features", "positions", "paths"), "document": ("manifest", "errors")}[kind]:
            if name not in has:
                raise FormatError(f"{path} has no {kind} {name!r}: no file of features")
    names = arrays["paths"].read().tobytes().split(b"\0")[:-1]
    return Contents(arrays["features"].read(), arrays["positions"].read(), [os.fsdecode(name) for name in names],
                    dict(documents["errors"]), documents["manifest"])
