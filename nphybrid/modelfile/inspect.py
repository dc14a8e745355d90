"""What a file of a model, of features or of a classifier holds, according to its header.

No array is loaded; the bytes of the file are read only for its SHA-256. The file may be hostile: the readers check its
contents, and its texts are escaped before they are printed.
"""
import math
import os
from pathlib import Path

from .. import checkpoint, tensorfile
from ..checkpoint import heads, hub
from ..dialects.guess import guess, numbering
from ..features import contents
from ..text import dimensions, printable, shortened, table

# The keys of a config.json that name the network: Hugging Face's, and timm's.
NETWORK_KEYS = ("architectures", "model_type", "architecture")
NOT_MODELS = (heads.FORMAT, contents.FORMAT)


def inspect_file(path) -> dict:
    """What a file, a folder or a model on the hub holds.  -> dict that JSON can hold

    files: [{"path", "kind", "bytes", "sha256"}]. model: how its configuration names the network. dialect: whose names
    the tensors have; anchor: the name that shows it; numbering: of a JAX file. metadata: of a safetensors header or
    index. manifest: of an `.h5`, with the number of its golden logits and of its errors. totals: tensors, parameters,
    bytes. tensors: [{"name", "dtype", "shape", "bytes"}], as stored; with "sha256" from an `.h5`, "crc32" from an
    `.npz`. Raises FormatError for a file that breaks a rule of its format or has another format; OSError.

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
        "totals": {"tensors": len(tensors), "parameters": sum(math.prod(each["shape"]) for each in tensors),
                   "bytes": sum(each["bytes"] for each in tensors)},
        "tensors": tensors}


# ---------------------------------------------------------------- reading
# Each function returns [Path of each file], {name: Stored}, and a dict with "config", "metadata" and "manifest", each
# only if there is one.

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
    stored = tensorfile.stored(path)
    return [path], stored, {"metadata": tensorfile.safetensors_header(path)[1]} if kind == "safetensors" else {}


def _read_h5(path):
    """A model; or a classifier or features, which have no configuration."""
    arrays, documents = tensorfile.stored_h5(path)
    manifest = documents.get("head") or documents.get("manifest")
    if isinstance(manifest, dict) and manifest.get("format") in NOT_MODELS:
        errors = {"errors": len(documents["errors"])} if isinstance(documents.get("errors"), list) else {}
        return [path], arrays, {"manifest": {**manifest, **errors}}
    source = checkpoint.read(path)
    return [path], source.arrays, {"config": source.config, "manifest": _count_golden(source.manifest, path)}


def _read_json(path):
    """An index with its shards, or a configuration without weights."""
    document = checkpoint.read_json(path)
    if "weight_map" not in document:
        return [path], {}, {"config": document}
    stored = tensorfile.stored_sharded(path)
    shards = sorted({Path(array.path) for array in stored.values()})
    return [path, *shards], stored, {"metadata": document.get("metadata")}


# ---------------------------------------------------------------- the report

def _count_golden(manifest, path):
    """A manifest with the number of its golden values in place of the values."""
    golden = checkpoint.golden_state(manifest, path)
    return manifest if golden is None else {**manifest, "golden": {"state": golden[0], "count": len(golden[1])}}


def _describe_file(path):
    return {"path": str(path), "kind": tensorfile.sniff(path), "bytes": os.path.getsize(path),
            "sha256": checkpoint.sha256(path)}


def _describe_tensors(stored):
    """A dict per array."""
    headers = {path: _read_header(path) for path in {array.path for array in stored.values()}}
    rows = []
    for name, array in stored.items():
        row = {"name": name, "dtype": array.dtype.name, "shape": list(array.shape),
               "bytes": math.prod(array.shape) * array.dtype.itemsize, "sha256": array.sha256}
        row |= headers[array.path].get(name, {})
        rows.append({key: value for key, value in row.items() if value is not None})
    return rows


def _read_header(path):
    """What a header states beyond Stored: {name: dict}.

    The type and the bytes of a bfloat16, which Stored gives as the float32 that it is read as; and a CRC-32.
    """
    kind = tensorfile.sniff(path)
    if kind == "safetensors":
        return {name: {"dtype": "bfloat16", "bytes": entry.end - entry.begin}
                for name, entry in tensorfile.safetensors_header(path)[0].items() if entry.dtype == "BF16"}
    rows = {}
    if kind == "npz":
        for name, member in tensorfile.npz_header(path).items():
            rows[name] = {"crc32": f"{member.entry.crc:08x}"}
            if member.dtype.endswith("V2"):
                rows[name] |= {"dtype": "bfloat16", "bytes": 2 * math.prod(member.shape)}
    return rows


# ---------------------------------------------------------------- as text

def format_text(report: dict) -> str:
    """The report as text: what the file is, then a row per tensor."""
    lines = [line for file in report["files"] for line in _file_lines(file)]
    lines += [(key, _one_line(value)) for key, value in report["model"].items()]
    if report["tensors"] and report["manifest"].get("format") not in NOT_MODELS:
        lines.append(("dialect", _dialect(report)))
    for document in report["metadata"], report["manifest"]:
        lines += [(printable(key), _one_line(value)) for key, value in document.items()]
    parts = [table(lines, "<<")]
    if report["tensors"]:
        totals = report["totals"]
        parts += [table(_cells(report["tensors"]), "<<>><"),
                  f"{totals['tensors']:,} tensors, {totals['parameters']:,} parameters, {totals['bytes']:,} bytes"]
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
    """The rows of the table, with the first 16 digits of a SHA-256."""
    checksum = next((key for key in ("sha256", "crc32") if key in tensors[0]), "")
    rows = [(printable(each["name"]), each["dtype"], dimensions(each["shape"]), f"{each['bytes']:,}",
             each.get(checksum, "")[:16]) for each in tensors]
    return [("tensor", "dtype", "shape", "bytes", checksum), *rows]


def _one_line(value):
    """A JSON value on one line; for a list or an object, its items."""
    if isinstance(value, dict):
        return ", ".join(f"{_printed(key)} {_printed(each)}" for key, each in value.items())
    return ", ".join(map(_printed, value)) if isinstance(value, list) else _printed(value)


def _printed(value):
    return printable(value) if isinstance(value, str) else shortened(value)
