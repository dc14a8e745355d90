"""Do in advance what a process otherwise does when it first uses a model: compile the kernels, and pack the weights.

The kernels are compiled by forward passes of two tiny networks, which together call every operation. Tiny networks are
enough, because the machine code of a kernel depends on the types of its arguments, but not on their sizes. Several
processes may compile kernels at the same time, because each file is written completely or not at all.

The packed weights of a float32 model have about as many bytes as its file. So they are stored only on demand.
"""
import contextlib
import itertools
import os
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import checkpoint, model, params
from ..api.load import load
from ..config import Config
from ..ops import PAIRS, cache, floats_of, gradient_rules, implementation, jit, plans_for, updates
from ..ops.chunks import EVEN
from ..ops.record import Record, Variable
from ..ops.recorder import record
from ..tensorfile import sweep
from ..trace import Discard, Trace

# In int8, the second unit of the second stage is the first unit with int8 kernels.
HYBRID = Config(image=(32, 32), stem=8, depths=(1, 2), widths=(16, 16), groups=4, width=16, blocks=1, heads=2,
                hidden=24, classes=3)
BIT = Config(image=(32, 32), stem=8, depths=(1, 2), widths=(16, 16), groups=4, unit="preactivation",
             padding="symmetric", pool_padding="valid", width=0, blocks=0, heads=0, hidden=0, classes=3)
FOLDER_NAME = re.compile(r"\w+-[0-9a-f]{16}")       # the pattern of the names of cache folders (ops/cache.py)
KERNEL_SUFFIXES = cache.SUFFIX, ".nbc"              # earlier versions kept the kernels in .nbc files


class Folder(NamedTuple):
    """A folder of compiled kernels."""
    path: Path | None
    kernels: int
    bytes: int


class Weights(NamedTuple):
    """A file of packed weights."""
    path: Path
    bytes: int
    model: str | None = None              # the path of the model; None if the file is damaged
    dtype: str | None = None              # the dtype of the model; None if the file is damaged


def run_tiny_networks(ops, dtype="float32"):
    """Run forward passes of each tiny network: the first records every state, and the others record none.

    In HYBRID, the first pass calls the operation `attention_with_weights`, and the others call `attention`. The last
    pass has EVEN images, because some operations have a kernel of their own for several images.
    `ops` is an implementation of the operations. `dtype` is a dtype that `ops.prepare` takes.
    """
    floats = floats_of(dtype)
    for config, network in (HYBRID, model.hybrid), (BIT, model.bit):
        shapes = params.shapes(config, pooler=bool(config.blocks))
        # Hugging Face's kernels of linear layers lie in memory column by column.
        tree = params.tree_map(lambda name, array: array.astype(floats, order="F"), params.random(shapes, seed=0))
        tree = ops.prepare(tree, config, dtype)
        for trace, images in (Trace(), 1), (Discard(), 1), (Discard(), EVEN):
            network(np.zeros((images, *config.image, 3), floats), tree, config, ops, trace)


def run_all_tiny_networks():
    """Run the tiny networks with each dtype of the engine numba, and a plan."""
    for engine, dtype in PAIRS:
        if engine == "numba":
            run_tiny_networks(implementation(engine, dtype), dtype)
    if plans_for("numba") is not None:
        run_tiny_plan()


def run_tiny_plan():
    """Record a forward pass, and repeat it.  All plans use one kernel, beside those of their networks."""
    ops = implementation("numba", "float32")
    tree = ops.prepare(params.random(params.shapes(BIT), seed=0), BIT)
    x = np.zeros((1, *BIT.image, 3), np.float32)
    plan = record(x, ops, Discard(), lambda x, ops, out: model.bit(x, tree, BIT, ops, out))
    plan.run(x, Discard())


def run_tiny_backward_passes():
    """Compute the gradients of the tiny networks, and one step of each optimizer."""
    rules = gradient_rules("numba", "float32")
    cases = itertools.product(((HYBRID, model.hybrid), (BIT, model.bit)), (1, EVEN))
    for (config, network), images in cases:
        tree = params.random(params.shapes(config), seed=0)
        record = Record(implementation("numba", "float32"), rules)
        leaves = params.tree_map(lambda name, array, record=record: Variable(array, record), tree)
        logits = network(np.zeros((images, *config.image, 3), np.float32), record.prepare(leaves, config), config,
                         record, Discard())
        record.backward(logits, np.ones((images, config.classes), np.float32))
    arrays = np.zeros((4, 8), np.float32)
    updates.update(updates.adamw, [(arrays, np.ones(7))])
    updates.update(updates.sgd, [(arrays[:3], np.zeros(3))])
    updates.update(updates.average, [(arrays[:2], np.zeros(1))])
    updates.square_sum(arrays)


def compile_kernels(training: bool = False) -> tuple[int, float]:
    """Compile the kernels that are not compiled yet.  -> number of newly compiled kernels, seconds

    With `training`, the kernels of the backward pass and of the optimizers are also compiled. If a file is damaged and
    its folder can be written, the file is replaced.

    >>> from nphybrid.machine.warmup import compile_kernels
    >>> compile_kernels()[0] >= 0, compile_kernels()[0]
    (True, 0)
    """
    before, start = len(jit.COMPILED), time.perf_counter()
    run_all_tiny_networks()
    if training:
        run_tiny_backward_passes()
    return len(jit.COMPILED) - before, time.perf_counter() - start


def is_warm() -> bool:
    """Return True if all kernels are already compiled, for this process and for later processes.  Compiles nothing."""
    token = jit.only_load.set(True)
    try:
        run_all_tiny_networks()
    except jit.NotCompiled:
        return False
    finally:
        jit.only_load.reset(token)
    return cache.good_names().issuperset(jit.USED)


def kept_kernels() -> Folder:
    """Count the compiled kernels of this version, without Numba's memory manager.  -> Folder

    If there is no kernel yet, the path of the Folder is the folder in which the first kernel will be stored. The path
    is None if no folder can be written.
    """
    files = cache.files()
    path = files[0].parent if files else next((path for path in cache.folders() if not cache.obstacle(path)), None)
    kernels = [file for file in files if file.stem != jit.MEMORY_MANAGER]
    return Folder(path, len(kernels), sum(map(_size, files)))


def keep_weights(path: str | os.PathLike[str] | None, dtype: str | None = None, precision: str = "highest"
                 ) -> tuple[Path, bool]:
    """Store the packed weights of a model beside the compiled kernels.  -> the path of the file, whether it is new

    Processes that later load this model with the same dtype and precision map the file into memory, instead of reading
    and packing the weights. They share the memory of the weights. `path`, `dtype` and `precision` are as in
    `from_pretrained`. Raises the errors of `from_pretrained`, and OSError if no file can be written.
    """
    found = load(path, dtype=dtype, precision=precision)
    assert found.kept is not None         # all arrays are in files
    if found.kept.path is not None:
        return found.kept.path, False
    about = {"model": os.path.abspath(found.name_or_path), "dtype": found.dtype}
    return checkpoint.write_kept(found.kept.key, found.params, found.originals, about, found.files), True


def kept_weights() -> list[Weights]:
    """Return the files of packed weights of this version."""
    return [Weights(path, _size(path), **checkpoint.about_kept(path)) for path in cache.files(cache.WEIGHTS)]


def stale_folders() -> list[Folder]:
    """Return the stale folders: their kernels were compiled for other versions, sources, CPUs or instruction sets."""
    found = []
    for folder in cache.folders():
        found += [Folder(path, *_measure(path)) for path in sorted(folder.parent.glob("*"))
                  if FOLDER_NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
                  and path.name != cache.NAME]
    return found


def prune(but: Path | None = None) -> dict[Path, int]:
    """Delete the stale folders, and all packed weights except the file `but`.  -> {path: bytes} of what was deleted

    What killed processes left in the folder is deleted too.
    """
    deleted = {}
    for folder in stale_folders():
        shutil.rmtree(folder.path, ignore_errors=True)      # another process may delete the same folder
        if folder.path.exists():
            shutil.rmtree(folder.path)    # raises the error that was ignored
        deleted[folder.path] = folder.bytes
    for path in cache.files(cache.WEIGHTS):
        if path != but:
            deleted[path] = _size(path)
            path.unlink(missing_ok=True)
    for path in cache.folders():
        if path.is_dir():
            sweep(path)
    return deleted


def _measure(folder):
    """Count the kernels and the bytes in a stale folder, which may have subfolders."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return sum(file.suffix in KERNEL_SUFFIXES for file in files), sum(map(_size, files))


def _size(file):
    with contextlib.suppress(FileNotFoundError):          # another process has just renamed the file
        return file.stat().st_size
    return 0
