"""What a file of a model, of features or of a head holds, told by its header.  No array is read; the file is, once, for
its SHA-256.

Everything shown comes from a file that may be hostile: it is checked by the readers, and printed escaped.
"""
import math
import os
from pathlib import Path

from .. import checkpoint, tensorfile
from ..checkpoint import heads, hub
from ..dialects.guess import guess, numbering
from ..features import contents
from ..text import shortened, dimensions, printable, table

# What a config.json says about the network as a whole: Hugging Face's keys, and timm's.
NAMING = ("architectures", "model_type", "architecture")
NO_MODELS = (heads.FORMAT, contents.FORMAT)


def inspected(path):
    """What a file, a folder or a model on the hub holds.  -> dict that JSON can hold

    files: [{"path", "kind", "bytes", "sha256"}]. model: what its configuration calls itself. dialect, anchor: whose
    names the tensors have, and the name that told it; numbering: of a JAX file. metadata: of a safetensors header or
    index. manifest: of an `.h5`, its golden logits and errors counted. totals: tensors, parameters, bytes. tensors:
    [{"name", "dtype", "shape", "bytes"}], as stored; with "sha256" from an `.h5`, "crc32" from an `.npz`.
    Raises FormatError for a file that breaks a rule of its format or is none of these; OSError.

    >>> from nphybrid import default_model
    >>> found = inspected(default_model())
    >>> found["dialect"], found["totals"]["parameters"], found["manifest"]["golden"]
    ('huggingface hybrid', 1469834, {'state': 'logits', 'count': 10})
    """
    files, stored, documents = _opened(hub.resolve(path))
    tensors = _tensors(stored)
    dialect, anchor = guess(stored)
    config, metadata = documents.get("config") or {}, documents.get("metadata")
    return {
        "files": [_file(each) for each in files],
        "model": {key: config[key] for key in NAMING if key in config},
        "dialect": dialect, "anchor": anchor,
        "numbering": numbering(stored) if dialect in ("jax hybrid", "jax vit") else None,
        "metadata": metadata if isinstance(metadata, dict) else {}, "manifest": documents.get("manifest") or {},
        "totals": {"tensors": len(tensors), "parameters": sum(math.prod(each["shape"]) for each in tensors),
                   "bytes": sum(each["bytes"] for each in tensors)},
        "tensors": tensors}


def _opened(path):
    """([Path of each file], {name: Stored}, {"config", "metadata", "manifest"}, each where there is one)"""
    if not path.is_dir():
        return _opened_file(path)
    files, stored, found = _opened_file(checkpoint.weights_file(path))
    if (path / "config.json").exists():
        found = {**found, "config": checkpoint.read_json(path / "config.json")}
    beside = [path / name for name in ("config.json", *checkpoint.PROCESSORS) if (path / name).exists()]
    return [*beside, *files], stored, found


def _opened_file(path):
    kind = tensorfile.sniff(path)
    if kind == "hdf5":
        return _opened_h5(path)
    if kind == "json":
        return _opened_json(path)
    stored = tensorfile.stored(path)
    return [path], stored, {"metadata": tensorfile.safetensors_header(path)[1]} if kind == "safetensors" else {}


def _opened_h5(path):
    """A model, or a head or features, which have no configuration."""
    arrays, documents = tensorfile.stored_h5(path)
    told = documents.get("head") or documents.get("manifest")
    if isinstance(told, dict) and told.get("format") in NO_MODELS:
        errors = {"errors": len(documents["errors"])} if isinstance(documents.get("errors"), list) else {}
        return [path], arrays, {"manifest": {**told, **errors}}
    source = checkpoint.read(path)
    return [path], source.arrays, {"config": source.config, "manifest": _counted(source.manifest, path)}


def _opened_json(path):
    """An index with its shards, or a configuration by itself."""
    document = checkpoint.read_json(path)
    if "weight_map" not in document:
        return [path], {}, {"config": document}
    stored = tensorfile.stored_sharded(path)
    shards = sorted({Path(array.path) for array in stored.values()})
    return [path, *shards], stored, {"metadata": document.get("metadata")}


def _counted(manifest, path):
    """A manifest with the number of its golden values in their place."""
    golden = checkpoint.golden_state(manifest, path)
    return manifest if golden is None else {**manifest, "golden": {"state": golden[0], "count": len(golden[1])}}


def _file(path):
    return {"path": str(path), "kind": tensorfile.sniff(path), "bytes": os.path.getsize(path),
            "sha256": checkpoint.sha256(path)}


def _tensors(stored):
    """A dict per array."""
    told = {path: _told(path) for path in {array.path for array in stored.values()}}
    rows = []
    for name, array in stored.items():
        row = {"name": name, "dtype": array.dtype.name, "shape": list(array.shape),
               "bytes": math.prod(array.shape) * array.dtype.itemsize, "sha256": array.sha256}
        row |= told[array.path].get(name, {})
        rows.append({key: value for key, value in row.items() if value is not None})
    return rows


def _told(path):
    """What a header tells beyond Stored, which has the type that is read: a bfloat16 is widened; and a CRC-32."""
    kind = tensorfile.sniff(path)
    if kind == "safetensors":
        return {name: {"dtype": "bfloat16", "bytes": entry.end - entry.begin}
                for name, entry in tensorfile.safetensors_header(path)[0].items() if entry.dtype == "BF16"}
    if kind == "npz":
        return {name: {"crc32": f"{member.entry.crc:08x}"} | (
            {"dtype": "bfloat16", "bytes": 2 * math.prod(member.shape)} if member.dtype.endswith("V2") else {})
            for name, member in tensorfile.npz_header(path).items()}
    return {}


# ---------------------------------------------------------------- what is shown

def shown(found):
    """The same as a text: what the file is, then a row per tensor."""
    lines = [line for file in found["files"] for line in _tell_file(file)]
    lines += [(key, _plain(value)) for key, value in found["model"].items()]
    if found["tensors"] and found["manifest"].get("format") not in NO_MODELS:
        lines.append(("dialect", _dialect(found)))
    lines += [(printable(key), _plain(value)) for told in (found["metadata"], found["manifest"])
              for key, value in told.items()]
    parts = [table(lines, "<<")]
    if found["tensors"]:
        totals = found["totals"]
        parts += [table(_cells(found["tensors"]), "<<>><"),
                  f"{totals['tensors']:,} tensors, {totals['parameters']:,} parameters, {totals['bytes']:,} bytes"]
    return "\n\n".join(parts)


def _tell_file(file):
    return [("file", printable(file["path"])), ("", f"{file['kind']}, {file['bytes']:,} bytes"),
            ("", f"sha256 {file['sha256']}")]


def _dialect(found):
    if found["dialect"] is None:
        return "unknown"
    numbering = f", {found['numbering']} numbering" if found["numbering"] else ""
    return f"{found['dialect']}{numbering}, by {printable(found['anchor'])}"


def _cells(tensors):
    """Rows of the table; of a SHA-256 the first digits."""
    checksum = next((key for key in ("sha256", "crc32") if key in tensors[0]), "")
    rows = [(printable(each["name"]), each["dtype"], dimensions(each["shape"]), f"{each['bytes']:,}",
             each.get(checksum, "")[:16]) for each in tensors]
    return [("tensor", "dtype", "shape", "bytes", checksum), *rows]


def _plain(value):
    """A JSON value as one line, of a list or an object what is inside."""
    if isinstance(value, dict):
        return ", ".join(f"{_word(key)} {_word(each)}" for key, each in value.items())
    return ", ".join(map(_word, value)) if isinstance(value, list) else _word(value)


def _word(value):
    return printable(value) if isinstance(value, str) else shortened(value)
