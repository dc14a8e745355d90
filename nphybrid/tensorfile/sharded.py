"""Reads a sharded model: several safetensors files (shards), and an index that states the shard of each array.

    model.safetensors.index.json    {"metadata": {"total_size": 12345, ...},
                                     "weight_map": {"head.bias": "model-00002-of-00002.safetensors", ...}}
    model-00001-of-00002.safetensors
    model-00002-of-00002.safetensors

The index and the shards must agree exactly.  Every array in the index must be in the shard that the index states.  The
shards must hold no other array.  The key `metadata` is not used, because some writers put wrong or fractional sizes
there.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..text import name_list
from .documents import LONGEST_JSON, parse_json
from .errors import FilePath, refusal
from .kinds import refuse_unreadable
from .safetensors import stored_safetensors
from .stored import Stored, read_all, shared


def read_sharded(index_path: FilePath) -> dict[str, np.ndarray]:
    """Reads every array of a sharded model, shard by shard.  -> {name: array}

    All headers are compared with the index before the first array is read. Raises FormatError if the index or a shard
    is malformed, or if the index and a shard disagree. Raises FormatError if a shard is not beside the index. Raises
    OSError if the index cannot be opened.

    >>> import tempfile
    >>> from nphybrid.tensorfile import write_json, write_safetensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/one.safetensors", {"a": np.float32(1)})
    ...     write_safetensors(folder + "/two.safetensors", {"b": np.float32(2)})
    ...     write_json(folder + "/i.json", {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    ...     read_sharded(folder + "/i.json")
    {'a': array(1., dtype=float32), 'b': array(2., dtype=float32)}
    """
    return read_all(stored_sharded(index_path))


def stored_sharded(index_path: FilePath) -> dict[str, Stored]:
    """Finds every array of a sharded model, shard by shard, but reads no array.  -> {name: Stored}

    Raises the exceptions of `read_sharded`.
    """
    weight_map = _weight_map(index_path)
    shards = {shard: _beside(index_path, shard) for shard in sorted(set(weight_map.values()))}
    arrays_of = {shard: stored_safetensors(path) for shard, path in shards.items()}
    _refuse_disagreement(index_path, weight_map, arrays_of)
    return {name: array for arrays in arrays_of.values() for name, array in arrays.items()}


def shard_names(index_path: FilePath) -> list[str]:
    """Returns the sorted names of the shards in an index.

    Raises FormatError for a malformed index, and for a name that is a path or does not end in .safetensors.
    """
    return sorted(set(_weight_map(index_path).values()))


def _weight_map(path: FilePath) -> dict[str, str]:
    """Reads and checks the index.  -> {tensor name: shard name}"""
    file = shared(path)
    with file.opened() as reader:
        refuse_unreadable(file, "json")
        if reader.size() > LONGEST_JSON:
            expected = f"at most {LONGEST_JSON}"
            raise refusal(path, "the file is too long for an index", f"{reader.size()} bytes", expected)
        document = parse_json(reader.read(LONGEST_JSON), path, "index")
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise refusal(path, "the file is JSON, but not an index of shards", document, "an object with a weight_map")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str):
            raise refusal(path, "the shard is not a file name", shard, "a string", tensor)
        if set(shard) & set("/\\:") or not shard.isprintable() or not shard.endswith(".safetensors"):
            expected = "a name such as model-00001-of-00002.safetensors"
            raise refusal(path, "the shard is not a plain file name", shard, expected)
    return weight_map


def _beside(index: FilePath, shard: str) -> Path:
    """Returns the path of a shard, which must be beside the index.

    If the index is a link to a file F, a shard may be a link to another file in the folder of F. The cache of the
    Hugging Face hub uses links: an index and its shards are links to files in the folder `blobs` of the model. A file
    in `blobs` may also be a link to a file that several models share: blobs/ab/HASH in the folder of the cache.
    """
    index_path = Path(index)
    path, target = index_path.parent / shard, Path(os.path.realpath(index_path)).parent
    home = Path(os.path.realpath(path)).parent
    among_shared_blobs = target.name == "blobs" and home.parent == target.parent.parent / "blobs"
    if home not in (Path(os.path.realpath(index_path.parent)), target) and not among_shared_blobs:
        raise refusal(index_path, "the shard is a link out of the folder", shard, "a file beside the index")
    if not path.is_file():
        raise refusal(index_path, "the shard is missing", shard, "a file beside the index")
    return path


def _refuse_disagreement(index_path: FilePath, weight_map: dict[str, str],
                         arrays_of: Mapping[str, Mapping[str, Stored]]) -> None:
    """Raises FormatError if the index and the shards disagree about an array."""
    shards_of: dict[str, list[str]] = {}
    for shard, names in arrays_of.items():
        for name in names:
            shards_of.setdefault(name, []).append(shard)
    elsewhere = {name for name, among in shards_of.items() if weight_map.get(name) not in among}
    for rule, names in {
        "the index names arrays that no shard holds": weight_map.keys() - shards_of.keys(),
        "the shards hold arrays that the index does not name": shards_of.keys() - weight_map.keys(),
        "an array is in several shards": {name for name, among in shards_of.items() if len(among) > 1},
        "the index names the wrong shard": elsewhere,
    }.items():
        if names:
            raise refusal(index_path, f"{rule} ({len(names)}): {name_list(names)}")
