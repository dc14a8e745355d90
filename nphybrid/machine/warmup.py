"""Compile all kernels before a model is first used, and delete the kernels of other versions.

The kernels are compiled by forward passes of two tiny networks, which together call every operation. Tiny networks are
enough, because the machine code of a kernel depends on the types of its arguments, but not on their sizes. Several
processes may compile kernels at the same time, because Numba writes each file under a temporary name and then renames
the file.
"""
import contextlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import model, params
from ..config import Config
from ..ops import PAIRS, cache, floats_of, implementation, kernels
from ..tensorfile import write_json
from ..trace import Discard, Trace

HYBRID = Config(image=(32, 32), stem=8, depths=(1,), widths=(16,), groups=4, width=16, blocks=1, heads=2, hidden=24,
                classes=3)
BIT = Config(image=(32, 32), stem=8, depths=(1,), widths=(16,), groups=4, unit="preactivation", padding="symmetric",
             pool_padding="valid", width=0, blocks=0, heads=0, hidden=0, classes=3)
FOLDER_NAME = re.compile(r"\w+-[0-9a-f]{16}")       # the pattern of the names of cache folders (ops/cache.py)
LIST = "warm.json"                                  # the file that lists all kernels; it is written last


class Folder(NamedTuple):
    """A folder of compiled kernels."""
    path: Path | None
    kernels: int
    bytes: int


def run_tiny_networks(ops, dtype="float32"):
    """Run two forward passes of each tiny network: the first records every state, and the second records none.

    In HYBRID, the first pass calls the operation `attention_with_weights`, and the second pass calls `attention`.
    `ops` is an implementation of the operations. `dtype` is a dtype that `ops.prepare` takes.
    """
    floats = floats_of(dtype)
    for config, network in (HYBRID, model.hybrid), (BIT, model.bit):
        shapes = params.shapes(config, pooler=bool(config.blocks))
        tree = params.tree_map(lambda name, array: array.astype(floats), params.random(shapes, seed=0))
        tree = ops.prepare(tree, config, dtype)
        for trace in Trace(), Discard():
            network(np.zeros((1, *config.image, 3), floats), tree, config, ops, trace)


def compile_kernels() -> tuple[int, float]:
    """Compile the kernels that are not compiled yet.  -> number of newly compiled kernels, seconds

    >>> from nphybrid.machine.warmup import compile_kernels
    >>> compile_kernels()[0] >= 0, compile_kernels()[0]
    (True, 0)
    """
    before, start = kept_kernels(), time.perf_counter()
    for engine, dtype in PAIRS:
        if engine == "numba":
            run_tiny_networks(implementation(engine, dtype), dtype)
    after = kept_kernels()
    if after.path and (not is_warm() or after.kernels > before.kernels):
        write_json(after.path / LIST, sorted(file.name for file in after.path.glob("*.nbc")))
    return after.kernels - before.kernels, time.perf_counter() - start


def is_warm() -> bool:
    """Return True if `compile_kernels` has written the file LIST and all kernels in LIST still exist."""
    path = kept_kernels().path
    if path is None:
        return False
    try:
        return all((path / name).exists() for name in json.loads((path / LIST).read_text()))
    except (OSError, ValueError, TypeError):
        return False


def kept_kernels() -> Folder:
    """Count the kernels that this copy of the package has compiled so far.  -> Folder

    The path of the Folder is None if compiled kernels cannot be kept. Numba gives each copy of the package a folder of
    its own. The name of this folder contains a hash of the location of the sources.
    """
    if cache.CACHE is None:
        return Folder(None, 0, 0)
    path = next(value.stats.cache_path for value in vars(kernels).values() if hasattr(value, "stats"))
    return _measure(Path(path))


def stale_folders() -> list[Folder]:
    """Return the stale folders: their kernels were compiled for other versions, sources, CPUs or instruction sets."""
    if cache.CACHE is None:
        return []
    return [_measure(path) for path in sorted(cache.CACHE.parent.iterdir())
            if FOLDER_NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink() and path != cache.CACHE]


def prune() -> list[Folder]:
    """Delete the stale folders.  -> the folders that were deleted"""
    folders = stale_folders()
    for folder in folders:
        shutil.rmtree(str(folder.path))
    return folders


def _measure(path):
    """Count the kernels and the bytes in a folder.  -> Folder"""
    kernels = size = 0
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):      # another process has just renamed the file
            size += file.stat().st_size if file.is_file() else 0
            kernels += file.suffix == ".nbc"
    return Folder(path, kernels, size)
