"""The JavaScript twins of the Python functions that the page shows: they have the same names and read alike."""
import ast
import importlib
import inspect
import re

import pytest

from nphybrid import backbone, encoder, image, model as network, open_picture, tokens
from nphybrid.explain import measures, scene, worker
from nphybrid.explain.page import HERE
from nphybrid.explain.sentences import UNITS
from nphybrid.ops import reference

from tools.twins import ONLY_PYTHON, functions

# Arguments that differ. The operations are functions of the script, so no twin has the argument `ops`. `acts` are the
# acts of the reader. They replace `head_mask` and `masked`, and have the temperature. The page shows all tokens, so no
# twin has `needed`.
OTHER_ARGUMENTS = {"encoder": (["head_mask", "needed"], ["acts"]), "tokens": (["masked"], ["acts"]),
                   "bit": ([], ["acts"]), "block": (["needed"], ["temperature"]),
                   "attention": (["needed"], ["temperature"]), "attention_with_weights": ([], ["temperature"])}
# Calls that only Python has.
OTHER_CALLS = {"attention": ["attention"]}           # ops.attention, which does not compute the weights of the heads
PLACEHOLDERS = {"{unit}": list(UNITS), "{network}": ["pooled", "bit"], "{activation}": worker.ACTIVATIONS}


def shown_functions():
    """{name: function} of all Python functions that pages of networks in JavaScript show."""
    paths = {path for file in (HERE / "steps").glob("*.html")
             for path in re.findall(r'data-function="([^"]+)"', file.read_text("utf-8"))}
    found = {}
    for module, _, last in (path.rpartition(".") for path in paths):
        for name in PLACEHOLDERS.get(last, [last]):
            found[name] = getattr(importlib.import_module(module), name)
    return found


SHOWN, TWINS = shown_functions(), functions()
PAIRS = sorted(SHOWN.keys() - ONLY_PYTHON)
MODULES = backbone, encoder, tokens, network, image, measures, reference
IN_BOTH = TWINS.keys() & {name for module in MODULES for name, value in vars(module).items()
                          if inspect.isfunction(value)}


def python_of(name):
    """The body of a Python function without its docstring."""
    return ast.unparse(ast.parse(inspect.getsource(SHOWN[name])).body[0].body[1:])


def calls(body):
    return [name for name in re.findall(r"\b(\w+)\(", body) if name in IN_BOTH]


def test_every_shown_function_has_a_twin():
    assert set(PAIRS) <= TWINS.keys() and not ONLY_PYTHON & TWINS.keys() and ONLY_PYTHON <= SHOWN.keys()
    assert len(PAIRS) == 22 and len(IN_BOTH) > 30


@pytest.mark.parametrize("name", PAIRS)
def test_twins_have_the_same_arguments(name):
    without, more = OTHER_ARGUMENTS.get(name, ([], []))
    expected = [argument for argument in inspect.signature(SHOWN[name]).parameters if argument not in ("ops", *without)]
    assert [part.partition(" = ")[0] for part in TWINS[name][1].split(", ")] == expected + more


@pytest.mark.parametrize("name", PAIRS)
def test_twins_record_the_same_states_and_call_the_same_functions_in_the_same_order(name):
    python, twin = python_of(name), TWINS[name][2]
    assert re.findall(r'out\.record\("(\w+)"', twin) == re.findall(r"out\['(\w+)'\]", python)
    expected = calls(python)
    for other in OTHER_CALLS.get(name, []):
        expected.remove(other)
    assert calls(twin) == expected


def shapes_of_twin(name):
    return re.findall(r" // \((.*)\)$", TWINS[name][2], re.MULTILINE)


@pytest.mark.parametrize("name", PAIRS)
def test_twins_state_the_shapes_of_the_same_statements(name):
    """The page takes the shapes of a twin from Python, in their order."""
    ours = re.findall(r" # \(([^()]+)\)$", inspect.getsource(SHOWN[name]), re.MULTILINE)
    theirs = shapes_of_twin(name)
    letters = [(python.rstrip(",").split(", "), twin.split(", ")) for python, twin in zip(ours, theirs, strict=True)]
    batched = SHOWN[name].__module__ != image.__name__
    for python, twin in letters:
        assert len(twin) == len(python) - (batched and python[0] == "B") or twin == ["192"]      # cls: (B, 1, 768)


def test_the_shapes_in_the_scripts_are_those_of_the_bundled_network(model, cat):
    """In `bit`, the shapes are those of BiT-R50x1, as in Python."""
    shapes, compared = scene.scene(model, open_picture(cat)).shapes, 0
    for name in set(PAIRS) - {"bit"}:
        lines, first = inspect.getsourcelines(SHOWN[name])
        shaped = [row for row, line in enumerate(lines) if re.search(r" # \([^()]+\)$", line)]
        for row, stated in zip(shaped, shapes_of_twin(name), strict=True):
            found = shapes.get((inspect.getsourcefile(SHOWN[name]), first + row), set())
            if len(found) == 1:
                axes = str(*found).strip("(),").split(", ")
                assert ", ".join(axes[-len(stated.split(", ")):]) == stated, (name, lines[row])
                compared += 1
    assert compared == 21
