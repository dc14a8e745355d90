"""Features as Parquet, for tables: needs `pip install "nphybrid[parquet]"`."""
import json
import math
import os

import numpy as np

from ..tensorfile import FormatError, write_atomically
from .contents import Contents, good_positions

KEY = b"nphybrid"
ROWS = 4096                               # of a row group


def write(path, found):
    """Write Contents, in bounded memory; a state of several axes is flattened, its shape is in the manifest."""
    arrow, parquet = modules()
    size = math.prod(found.values.shape[1:])
    schema = arrow.schema(
        [("position", arrow.int64()), ("path", arrow.binary()), ("features", arrow.list_(arrow.float32(), size)),
         ("error", arrow.string())], {KEY: json.dumps({**found.manifest, "shape": found.values.shape[1:]})})
    with write_atomically(path) as temporary, parquet.ParquetWriter(temporary, schema) as file:
        row_start = 0
        for start in range(0, len(found.names), ROWS):
            some = range(start, min(start + ROWS, len(found.names)))
            bad = [i in found.errors for i in some]
            values = np.zeros((len(some), size), np.float32)
            end = row_start + len(some) - sum(bad)
            values[~np.array(bad)] = found.values[row_start:end].reshape(-1, size)
            row_start = end
            features = arrow.FixedSizeListArray.from_arrays(arrow.array(values.reshape(-1)), size,
                                                            mask=arrow.array(bad))
            messages = [found.errors[i].encode("utf-8", "backslashreplace").decode() if i in found.errors else None
                        for i in some]
            columns = [list(some), [os.fsencode(found.names[i]) for i in some], features, messages]
            file.write_table(arrow.table(columns, schema=schema))


def contents(path):
    """What `write` wrote.  -> Contents"""
    arrow, parquet = modules()
    table = parquet.read_table(path)
    if KEY not in (table.schema.metadata or {}):
        raise FormatError(f"{path}: its metadata has no key {KEY.decode()!r}: no file of features")
    manifest = json.loads(table.schema.metadata[KEY])
    names = [os.fsdecode(name) for name in table["path"].to_pylist()]
    errors = {i: text for i, text in enumerate(table["error"].to_pylist()) if text is not None}
    values = table["features"].drop_null().combine_chunks().flatten().to_numpy(zero_copy_only=False)
    positions = good_positions(names, errors)
    return Contents(values.reshape(len(positions), *manifest["shape"]), positions, names, errors, manifest)


def modules():
    """pyarrow and pyarrow.parquet.  Raises ImportError that says what to install."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Parquet files need pyarrow: pip install pyarrow") from error
    return pyarrow, pyarrow.parquet
