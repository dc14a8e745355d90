"""Every kernel of a model compiled ahead of its first use, and the folders of other versions cleared away.

Two tiny networks speak every word of the vocabulary. That is enough, for a kernel is compiled for the kinds of its
arguments, never for their sizes. Several processes may do it at once: Numba writes each file beside its place and
moves it there.
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
from ..ops import PAIRS, implementation, cache, floats_of, kernels
from ..tensorfile import write_json
from ..trace import Discard, Trace

HYBRID = Config(image=(32, 32), stem=8, depths=(1,), widths=(16,), groups=4, width=16, blocks=1, heads=2, hidden=24,
                classes=3)
BIT = Config(image=(32, 32), stem=8, depths=(1,), widths=(16,), groups=4, unit="preactivation", padding="symmetric",
             pool_padding="valid", width=0, blocks=0, heads=0, hidden=0, classes=3)
OURS = re.compile(r"\w+-[0-9a-f]{16}")    # how ops/jit.py names a folder
LIST = "warm.json"                        # the names of all kernels, written once all are there


class Folder(NamedTuple):
    """A folder of compiled kernels."""
    path: Path
    kernels: int
    bytes: int


def speak(ops, dtype=np.float32):
    """Walk both tiny networks, once with the attention weights and once without."""
    floats = floats_of(dtype)
    for config, walk in (HYBRID, model.hybrid), (BIT, model.bit):
        shapes = params.shapes(config, pooler=bool(config.blocks))
        tree = params.tree_map(lambda name, array: array.astype(floats), params.random(shapes, seed=0))
        tree = ops.prepare(tree, config, dtype)
        for out in Trace(), Discard():
            walk(np.zeros((1, *config.image, 3), floats), tree, config, ops, out)


def warm():
    """Compile what is not yet compiled.  -> (how many kernels that were, seconds)

    >>> from nphybrid.machine.warmup import warm
    >>> warm()[0] >= 0, warm()[0]
    (True, 0)
    """
    before, start = kept(), time.perf_counter()
    for engine, dtype in PAIRS:
        if engine == "numba":
            speak(implementation(engine, dtype), dtype)
    after = kept()
    if after.path and (not is_warm() or after.kernels > before.kernels):
        write_json(after.path / LIST, sorted(file.name for file in after.path.glob("*.nbc")))
    return after.kernels - before.kernels, time.perf_counter() - start


def is_warm():
    """Whether `warm` was here, and everything it compiled is still there."""
    path = kept().path
    if path is None:
        return False
    try:
        return all((path / name).exists() for name in json.loads((path / LIST).read_text()))
    except (OSError, ValueError, TypeError):
        return False


def kept():
    """The kernels that this copy of the package has compiled so far.  -> Folder; its path is None where none is kept

    Numba gives each copy a folder of its own, named after where the sources lie.
    """
    if cache.CACHE is None:
        return Folder(None, 0, 0)
    path = next(value.stats.cache_path for value in vars(kernels).values() if hasattr(value, "stats"))
    return _measured(Path(path))


def stale():
    """The cache folders of other versions, sources, CPUs and instruction sets, beside the one in use.  -> [Folder]"""
    if cache.CACHE is None:
        return []
    return [_measured(path) for path in sorted(cache.CACHE.parent.iterdir())
            if OURS.fullmatch(path.name) and path.is_dir() and not path.is_symlink() and path != cache.CACHE]


def prune():
    """Delete the stale folders.  -> [Folder], those that are gone"""
    gone = stale()
    for folder in gone:
        shutil.rmtree(folder.path)
    return gone


def _measured(path):
    kernels = size = 0
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):      # another process moved it into its place
            size += file.stat().st_size if file.is_file() else 0
            kernels += file.suffix == ".nbc"
    return Folder(path, kernels, size)
