"""Reads and writes features as a table in the .parquet format.  Needs `pip install pyarrow`."""
import json
import math
import os
from typing import Any

import numpy as np

from ..tensorfile import FormatError, write_atomically
from .contents import Contents, good_positions

KEY = b"nphybrid"                         # the key of the manifest in the metadata of the table
ROWS = 4096                               # the number of rows in a row group


def write(path: str | os.PathLike, found: Contents) -> None:
    """Write Contents to a .parquet file.  The memory use does not depend on the number of pictures.

    The features of each picture are flattened to one axis. Their original shape is stored in the manifest.
    """
    arrow, parquet = import_pyarrow()
    size = math.prod(found.values.shape[1:])
    schema = arrow.schema(
        [("position", arrow.int64()), ("path", arrow.binary()), ("features", arrow.list_(arrow.float32(), size)),
         ("error", arrow.string())], {KEY: json.dumps({**found.manifest, "shape": found.values.shape[1:]})})
    with write_atomically(path) as temporary, parquet.ParquetWriter(temporary, schema) as file:
        row_start = 0
        for start in range(0, len(found.names), ROWS):
            positions = range(start, min(start + ROWS, len(found.names)))
            failed = [i in found.errors for i in positions]
            row_end = row_start + len(positions) - sum(failed)
            values = np.zeros((len(positions), size), np.float32)
            values[~np.array(failed)] = found.values[row_start:row_end].reshape(-1, size)
            row_start = row_end
            features = arrow.FixedSizeListArray.from_arrays(arrow.array(values.reshape(-1)), size,
                                                            mask=arrow.array(failed))
            messages = [_message(found.errors[i]) if i in found.errors else None for i in positions]
            columns = [list(positions), [os.fsencode(found.names[i]) for i in positions], features, messages]
            file.write_table(arrow.table(columns, schema=schema))


def contents(path: str | os.PathLike) -> Contents:
    """Read the Contents of a .parquet file."""
    _, parquet = import_pyarrow()
    table = parquet.read_table(path)
    if KEY not in (table.schema.metadata or {}):
        raise FormatError(f"{path} is not a feature file; expected the key {KEY.decode()!r} in the metadata, which is "
                          "missing")
    manifest = json.loads(table.schema.metadata[KEY])
    names = [os.fsdecode(name) for name in table["path"].to_pylist()]
    errors = {i: text for i, text in enumerate(table["error"].to_pylist()) if text is not None}
    values = table["features"].drop_null().combine_chunks().flatten().to_numpy(zero_copy_only=False)
    positions = good_positions(names, errors)
    return Contents(values.reshape(len(positions), *manifest["shape"]), positions, names, errors, manifest)


def _message(text):
    """Return a message that can be encoded as UTF-8.  A message may contain a path with bytes that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def import_pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and pyarrow.parquet.  If pyarrow is missing, the ImportError states how to install pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ImportError(".parquet files need the package pyarrow: pip install pyarrow") from error
    return pyarrow, pyarrow.parquet
