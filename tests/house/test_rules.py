"""Rules of the source: which files import which packages, one decorator, documented names."""
import ast
import configparser
import re
from pathlib import Path

import pytest

from tools.imports import SOURCES, imports, nodes, users

ROOT = Path(__file__).resolve().parents[2]
FORWARD_PASS = ("backbone.py", "tokens.py", "encoder.py", "model.py")


def test_who_imports_what():
    assert all(name.startswith(("ops/", "machine/limits")) for name in users("numba"))
    assert users("llvmlite") == {"ops/amx.py", "ops/emit.py", "ops/jit.py", "ops/plan.py", "ops/recorder.py",
                                 "ops/reductions.py", "ops/rounding.py", "ops/widths.py", "machine/computer.py",
                                 "machine/limits.py"}
    assert users("h5py") == {"tensorfile/hdf5.py"}
    assert users("huggingface_hub") == {"checkpoint/hub.py"}
    assert users("pyarrow") == {"features/parquet.py"}
    assert users("distributed") == {"batch/cluster.py"} and users("dask") == set()
    assert users("pillow_heif") == {"pictures/decode.py"}
    assert users("PIL") == {"image.py", "pictures/__init__.py", "pictures/decode.py", "api/processor.py",
                            "batch/run.py", "explain/drawing.py", "explain/figures.py", "explain/labelled.py",
                            "explain/reading.py", "serve/decoder.py", "training/augmentation.py", "training/curves.py",
                            "training/pictures.py"}
    # The PyTorch network for programmers who compare with it, imported inside the two functions that need it.
    assert users("torch") == users("transformers") == {"testing.py"}
    assert not re.search(r"^(from|import) (torch|transformers)", SOURCES["testing.py"], re.MULTILINE)
    # The cache of compiled kernels, which SECURITY.md calls trusted. No file of a user is unpickled.
    assert users("pickle") == {"ops/jit.py"}
    for foreign in "timm safetensors scipy jax tensorflow requests".split():
        assert users(foreign) == set(), foreign


def test_the_package_imports_itself_relatively():
    """`imported_modules`, which test_rooms.py reads, sees relative imports alone."""
    assert users("nphybrid") == set()


def test_the_forward_pass_imports_only_its_own_files():
    """It imports NumPy, the Config and itself: no implementation of the operations, no dialect, no file format."""
    allowed = {"numpy", ".config", ".backbone", ".encoder", ".tokens"}
    assert all(imports(SOURCES[name]) <= allowed for name in FORWARD_PASS)


def test_the_reference_needs_no_numba():
    """Neither do the gradients."""
    standard = {"ctypes", "math", "operator", "collections", "functools", "typing", "contextlib", "contextvars",
                "itertools", "os", "queue", "threading"}
    for name, own in (("reference", {"..params"}), ("reference_narrow", {"..params", ".", ".checks", ".reference"}),
                      ("gradients", {"..params", ".", ".reference"}),
                      ("record", {"..params", ".", ".gradients"}), ("threads", set())):
        assert imports(SOURCES[f"ops/{name}.py"]) - standard <= {"numpy", *own}, name


def test_one_decorator():
    """Only ops/jit.py contains njit; all other files use @jit and @jit_allocating, without arguments."""
    assert {name for name, source in SOURCES.items() if "njit" in source} == {"ops/jit.py"}
    for name, source in SOURCES.items():
        assert "@jit(" not in source and "@jit_allocating(" not in source and "prange" not in source, name
    assert {name for name, source in SOURCES.items() if "_nrt" in source} == {"ops/jit.py"}


@pytest.mark.parametrize("word", ["eval", "exec", "compile", "__import__"])
def test_no_code_from_data(word):
    calls = {name for name, source in SOURCES.items() for node in nodes(source)
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == word}
    assert calls == set()


def test_no_pickles():
    assert not [name for name, source in SOURCES.items() if "allow_pickle=True" in source]


def test_every_package_is_installed():
    """setup.cfg lists them; the weights are a folder of the checkout."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    packages = {".".join(("nphybrid", *Path(name).parent.parts)) for name in SOURCES}
    assert set(setup["options"]["packages"].split()) == packages | {"nphybrid.weights"}


def test_public_names_are_documented():
    missing = [f"{name}: {node.name}" for name, source in SOURCES.items() for node in ast.parse(source).body
               if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
               and not ast.get_docstring(node)]
    assert missing == []
