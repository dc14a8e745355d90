"""What keeps the house in order: who imports what, one decorator, and shapes in comments that are true."""
import ast
import configparser
import math
import re
from pathlib import Path

import pytest

from nphybrid import PRESETS
from nphybrid.config import inner_width
from nphybrid.modelfile import summary

from tools.imports import SOURCES, imports, nodes, users

ROOT = Path(__file__).resolve().parents[2]
WALK = ("backbone.py", "tokens.py", "encoder.py", "model.py")


def test_who_imports_what():
    assert all(name.startswith(("ops/", "machine/limits")) for name in users("numba") | users("llvmlite"))
    assert users("llvmlite") == {"ops/amx.py", "ops/emit.py", "ops/folds.py", "machine/limits.py"}
    assert users("h5py") == {"tensorfile/hdf5.py"}
    assert users("huggingface_hub") == {"checkpoint/hub.py"}
    assert users("pyarrow") == {"features/parquet.py"}
    assert users("distributed") == {"batch/cluster.py"} and users("dask") == set()
    assert users("PIL") == {"image.py", "pictures/decode.py", "api/processor.py", "explain/drawing.py",
                            "explain/figures.py", "explain/reading.py"}
    for foreign in "torch transformers timm safetensors scipy jax tensorflow requests pickle".split():
        assert users(foreign) == set(), foreign


def test_the_walk_knows_only_its_own():
    """Model code sees sizes, arrays and NumPy: no engine, no dialect, no file."""
    allowed = {"numpy", ".config", ".backbone", ".encoder", ".tokens"}
    assert all(imports(SOURCES[name]) <= allowed for name in WALK)


def test_the_reference_needs_no_numba():
    assert imports(SOURCES["ops/reference.py"]) == {"math", "numpy", "..params"}


def test_one_decorator():
    """Only ops/jit.py says njit; everyone else says @jit, bare."""
    assert {name for name, source in SOURCES.items() if "njit" in source} == {"ops/jit.py"}
    for name, source in SOURCES.items():
        assert "@jit(" not in source and "prange" not in source, name


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


# ------------------------------------------------------------------ the aligned column at the right

STATE = re.compile(r'out\["(\w+)"\] = .*#\s+\(([^)]*)\)')
HYBRID, BIT = SOURCES["model.py"].split("def bit(")


@pytest.mark.parametrize("source, preset, states, at_least", [
    (SOURCES["backbone.py"], "R50+ViT-B/16", r"(stem|stages\.\d\.\d)\.{}|{}", 10),
    (SOURCES["tokens.py"], "R50+ViT-B/16", r"tokens\.{}", 1),
    (SOURCES["encoder.py"], "R50+ViT-B/16", r"blocks\.\d+\.{}", 3),
    (HYBRID, "R50+ViT-B/16", "{}", 4), (BIT, "BiT-R50x1", "{}", 3),
], ids=["backbone", "tokens", "encoder", "hybrid", "bit"])
def test_shape_column_is_true(source, preset, states, at_least):
    """Every shape beside a state is the shape which that state has in the published network."""
    rows = {row.name: row.shape for row in summary.summary(PRESETS[preset])}
    stated = [found.groups() for line in source.splitlines() if (found := STATE.search(line))]
    checked = 0
    for state, comment in stated:
        for name, shape in rows.items():
            if re.fullmatch(states.replace("{}", state), name):
                assert symbolic(comment, name) == shape, f"{state}: ({comment}) is {shape} at {name}"
                checked += 1
    assert len(stated) >= at_least and checked >= len(stated) - 1      # the attention weights are not in a summary


def symbolic(comment, name):
    """The numbers that a comment's letters stand for, in a stage of R50+ViT-B/16 at 384 pixels."""
    letters = {"B": 1}
    if name.startswith("stages"):
        s, u = map(int, name.split(".")[1:3])
        after = 96 >> s
        before = after * 2 if s and u == 0 else after
        letters |= {"H": before, "W": before, "Hp": after, "Wp": after, "O": 256 << s, "M": inner_width(256 << s)}
    return tuple(value_of(part.replace("'", "p"), letters) for part in comment.split(","))


def value_of(expression, letters):
    """The number that an expression of letters, whole numbers, + and * stands for.

    >>> value_of("1 + 2*H*W", {"H": 3, "W": 4})
    25
    """
    total = 0
    for term in expression.split("+"):
        factors = [factor.strip() for factor in term.split("*")]
        total += math.prod(int(factor) if factor.isdigit() else letters[factor] for factor in factors)
    return total
