"""Reports the contents of a file that holds a model, features or a classifier.

The report comes from the header of the file.  No array is loaded.  The bytes of the arrays are read only for the
SHA-256 of the file.  The file may be hostile: the readers check its contents, and its texts are escaped before they are
printed.
"""
import math
import os
from pathlib import Path

import numpy as np

from .. import checkpoint, tensorfile
from ..checkpoint import heads, hub
from ..dialects.guess import guess, numbering
from ..features import contents
from ..text import dimensions, printable, shortened, table

# The keys by which config.json names the network, in files of Hugging Face and timm.
NETWORK_KEYS = ("architectures", "model_type", "architecture")
NOT_MODELS = (heads.FORMAT, contents.FORMAT)


def inspect_file(path) -> dict:
    """Reports the contents of a file, a folder or a model on the hub.  -> dict that JSON can hold

    `files` is a list of {"path", "kind", "bytes", "sha256"}. `model` holds the keys of the configuration that name the
    network. `dialect` states the dialect of the tensor names. `anchor` is the name by which the dialect was recognized.
    `numbering` states how a JAX file numbers the layers of a block. `metadata` is from the header or the index of
    safetensors files. `manifest` is from an `.h5` file, or from a safetensors file with narrow weights. In `manifest`,
    the number of golden values replaces the list of golden values. In a file of features, `manifest` also has the
    number of errors. `totals` counts tensors, parameters and bytes. `tensors` is a list of {"name", "dtype", "shape",
    "bytes"}; the dtype is the dtype in the file, and bfloat16 for a kernel that a file stores as the bits of bfloat16.
    A tensor from a file that states its checksum also has the key "sha256", or "crc32" in an `.npz` file.

    Raises FormatError for a file that breaks a rule of its format, or that has no known format. Raises OSError if a
    file cannot be opened.

    >>> from nphybrid import default_model
    >>> report = inspect_file(default_model())
    >>> report["dialect"], report["totals"]["parameters"], report["manifest"]["golden"]
    ('huggingface hybrid', 1469834, {'state': 'logits', 'count': 10})
    """
    files, stored, documents = _read(hub.resolve(path))
    tensors = _describe_tensors(stored)
    dialect, anchor = guess(stored)
    config, metadata = documents.get("config") or {}, documents.get("metadata")
    return {
        "files": [_describe_file(file) for file in files],
        "model": {key: config[key] for key in NETWORK_KEYS if key in config},
        "dialect": dialect, "anchor": anchor,
        "numbering": numbering(stored) if dialect in ("jax hybrid", "jax vit") else None,
        "metadata": metadata if isinstance(metadata, dict) else {}, "manifest": documents.get("manifest") or {},
        "totals": {"tensors": len(tensors), "parameters": sum(math.prod(each["shape"]) for each in tensors
                                                                  if not each["name"].endswith(checkpoint.SCALING)),
                   "bytes": sum(each["bytes"] for each in tensors)},
        "tensors": tensors}


# ---------------------------------------------------------------- reading
# Each function returns [Path of each file], {name: Stored} and a dict of documents.
# The possible keys of the dict of documents are "config", "metadata" and "manifest".

def _read(path):
    if not path.is_dir():
        return _read_file(path)
    files, stored, documents = _read_file(checkpoint.weights_file(path))
    if (path / "config.json").exists():
        documents = {**documents, "config": checkpoint.read_json(path / "config.json")}
    others = [path / name for name in ("config.json", *checkpoint.PROCESSORS) if (path / name).exists()]
    return [*others, *files], stored, documents


def _read_file(path):
    kind = tensorfile.sniff(path)
    if kind == "hdf5":
        return _read_h5(path)
    if kind == "json":
        return _read_json(path)
    if kind != "safetensors":
        return [path], tensorfile.stored(path), {}
    stored, metadata = tensorfile.safetensors_contents(path)
    manifest = checkpoint.manifest_of(metadata, path)
    if manifest:                          # what the report has in a readable form
        own = "format", "manifest", tensorfile.CHECKSUMS
        metadata = {key: text for key, text in metadata.items() if key not in own}
    return [path], stored, {"metadata": metadata, "manifest": _count_golden(manifest, path)}


def _read_h5(path):
    """Reads the header of an HDF5 file.  A file of a classifier or of features has no configuration."""
    arrays, documents = tensorfile.stored_h5(path)
    manifest = documents.get("head") or documents.get("manifest")
    if isinstance(manifest, dict) and manifest.get("format") in NOT_MODELS:
        errors = {"errors": len(documents["errors"])} if isinstance(documents.get("errors"), list) else {}
        return [path], arrays, {"manifest": {**manifest, **errors}}
    source = checkpoint.read(path)
    return [path], source.arrays, {"config": source.config, "manifest": _count_golden(source.manifest, path)}


def _read_json(path):
    """Reads an index and the headers of its shards, or a configuration without weights."""
    document = checkpoint.read_json(path)
    if "weight_map" not in document:
        return [path], {}, {"config": document}
    stored = tensorfile.stored_sharded(path)
    shards = sorted({Path(array.path) for array in stored.values()})
    return [path, *shards], stored, {"metadata": document.get("metadata")}


# ---------------------------------------------------------------- the report

def _count_golden(manifest, path):
    """Returns a manifest in which the number of golden values replaces the values."""
    golden = checkpoint.golden_state(manifest, path)
    return manifest if golden is None else {**manifest, "golden": {"state": golden[0], "count": len(golden[1])}}


def _describe_file(path):
    return {"path": str(path), "kind": tensorfile.sniff(path), "bytes": os.path.getsize(path),
            "sha256": checkpoint.sha256(path)}


def _describe_tensors(stored):
    """Returns a list of dicts, one for each array."""
    headers = {path: _read_header(path, stored) for path in {array.path for array in stored.values()}}
    rows = []
    for name, array in stored.items():
        row = {"name": name, "dtype": array.dtype.name, "shape": list(array.shape),
               "bytes": math.prod(array.shape) * array.dtype.itemsize, "sha256": array.sha256}
        row |= headers[array.path].get(name, {})
        rows.append({key: value for key, value in row.items() if value is not None})
    return rows


def _read_header(path, stored):
    """Returns the facts in a file's header that its Stored arrays do not hold: {name of the array: dict}.

    For a bfloat16 array the dict holds the type and the number of bytes, because Stored holds float32, the type after
    reading. In a file with a manifest, Stored holds uint16, the type of the bits. For an `.npz` file the dict holds the
    CRC-32.
    """
    kind = tensorfile.sniff(path)
    if kind == "hdf5":
        return {name: {"dtype": "bfloat16"} for name, array in stored.items() if array.dtype == np.uint16}
    if kind == "safetensors":
        entries, metadata = tensorfile.safetensors_header(path)
        bfloat16 = ("BF16", "U16") if checkpoint.manifest_of(metadata, path) else ("BF16",)
        return {name: {"dtype": "bfloat16", "bytes": entry.end - entry.begin}
                for name, entry in entries.items() if entry.dtype in bfloat16}
    rows = {}
    if kind == "npz":
        for name, member in tensorfile.npz_header(path).items():
            rows[name] = {"crc32": f"{member.entry.crc:08x}"}
            if member.dtype.endswith("V2"):
                rows[name] |= {"dtype": "bfloat16", "bytes": 2 * math.prod(member.shape)}
    return rows


# ---------------------------------------------------------------- as text

def format_text(report: dict) -> str:
    """Formats the report as text: first the properties of the file, then one row for each tensor."""
    lines = [line for file in report["files"] for line in _file_lines(file)]
    lines += [(key, _one_line(value)) for key, value in report["model"].items()]
    if report["tensors"] and report["manifest"].get("format") not in NOT_MODELS:
        lines.append(("dialect", _dialect(report)))
    for document in report["metadata"], report["manifest"]:
        lines += [(printable(key), _one_line(value)) for key, value in document.items()]
    parts = [table(lines, "<<")]
    if report["tensors"]:
        totals = report["totals"]
        what = "numbers" if report["manifest"].get("format") == contents.FORMAT else "parameters"
        parts += [table(_cells(report["tensors"]), "<<>><"),
                  f"{totals['tensors']:,} tensors, {totals['parameters']:,} {what}, {totals['bytes']:,} bytes"]
    return "\n\n".join(parts)


def _file_lines(file):
    return [("file", printable(file["path"])), ("", f"{file['kind']}, {file['bytes']:,} bytes"),
            ("", f"sha256 {file['sha256']}")]


def _dialect(report):
    if report["dialect"] is None:
        return "unknown"
    numbering = f", {report['numbering']} numbering" if report["numbering"] else ""
    return f"{report['dialect']}{numbering}, by {printable(report['anchor'])}"


def _cells(tensors):
    """Returns the rows of the table of tensors, with the first 16 digits of each SHA-256."""
    checksum = next((key for key in ("sha256", "crc32") if key in tensors[0]), "")
    rows = [(printable(each["name"]), each["dtype"], dimensions(each["shape"]), f"{each['bytes']:,}",
             each.get(checksum, "")[:16]) for each in tensors]
    return [("tensor", "dtype", "shape", "bytes", checksum), *rows]


def _one_line(value):
    """Formats a JSON value on one line.  For a list or an object, the line holds the items."""
    if isinstance(value, dict):
        return ", ".join(f"{_printed(key)} {_printed(each)}" for key, each in value.items())
    return ", ".join(map(_printed, value)) if isinstance(value, list) else _printed(value)


def _printed(value):
    return printable(value) if isinstance(value, str) else shortened(value)
