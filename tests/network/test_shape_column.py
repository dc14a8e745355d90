"""The column at the right of the network's code: each line that changes a shape states the new shape, and it is true.

The functions run on arrays without content, with a trace function of Python that looks at every line.
"""
import ast
import re
import sys
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from nphybrid import PRESETS, backbone, encoder, image, model, tokens
from nphybrid.modelfile.summary import ShapeOperations
from nphybrid.params import shapes
from nphybrid.trace import Trace

COLUMN = 88                               # where the comments begin
FILES = {module.__file__: module for module in (model, image, backbone, tokens, encoder)}
FUNCTIONS = {(file, name) for file, module in FILES.items() for name, value in vars(module).items()
             if getattr(value, "__module__", None) == module.__name__ and module is not image} | {
                 (image.__file__, "prepare")}
SHAPE = re.compile(r"# \(([^()]+)\)$")


class Statement(NamedTuple):
    """A statement of a function, and the shape beside it."""
    file: str
    line: int
    shape: str | None
    records: bool                         # whether it is out["name"] = …
    bare: bool                            # `return x` and its like change nothing


def statements():
    """{(file, line): Statement} of every line of every simple statement in the functions."""
    found = {}
    for file in FILES:
        with open(file, encoding="utf-8") as opened:
            source = opened.read()
        lines = source.splitlines()
        for function in ast.parse(source).body:
            if not isinstance(function, ast.FunctionDef) or (file, function.name) not in FUNCTIONS:
                continue
            for node in ast.walk(function):
                if isinstance(node, (ast.Assign, ast.Return)):
                    beside = SHAPE.search(lines[node.end_lineno - 1])
                    records = isinstance(node, ast.Assign) and ast.unparse(node.targets[-1]).startswith("out[")
                    bare = isinstance(node, ast.Return) and isinstance(node.value, (ast.Name, ast.Subscript))
                    statement = Statement(file, node.lineno, beside and beside[1], records, bare)
                    found |= {(file, line): statement for line in range(node.lineno, node.end_lineno + 1)}
    return found


STATEMENTS = statements()


class Seen(NamedTuple):
    """The result of a statement in one run."""
    statement: Statement
    before: tuple                         # the shape of the array that was assigned last
    after: tuple
    letters: dict                         # {letter: number}, completed when the function returns


class LastState(Trace):
    """Keeps every state, and the shape of the last."""

    def __setitem__(self, name, state):
        super().__setitem__(name, state)
        self.last = state.shape


class Watch:
    """A trace function for `sys.settrace`.  seen: a list of Seen"""

    def __init__(self, only=None):
        self.only, self.seen = only, []

    def __call__(self, frame, event, arg):
        name = frame.f_code.co_name
        if (frame.f_code.co_filename, name) not in FUNCTIONS or self.only not in (None, name):
            return None
        return Lines(frame, self.seen)


class Lines:
    """The trace function of one call."""

    def __init__(self, frame, seen):
        self.seen, self.letters = seen, {}
        self.known = arrays(frame)
        first = next(iter(self.known.values()))
        self.current, self.statement = first.shape, None
        self.letters.update(zip("BHW", first.shape))
        unit = frame.f_locals.get("p")
        if hasattr(unit, "conv1"):
            self.letters["M"] = unit.conv1.shape[-1]

    def __call__(self, frame, event, arg):
        following = STATEMENTS.get((frame.f_code.co_filename, frame.f_lineno))
        if event == "return" or following != self.statement or following is None:
            self.look(frame)
        self.statement = following
        if event == "return" and isinstance(arg, np.ndarray):
            if arg.ndim == 4:
                self.letters.update(zip(("H'", "W'", "O"), arg.shape[1:]))
            if self.statement and not self.statement.bare:
                self.note(arg.shape)
        return self

    def look(self, frame):
        """Note what the last statement assigned, or, if it assigned no variable, the state that it recorded."""
        found = arrays(frame)
        new = [value for name, value in found.items() if value is not self.known.get(name)]
        self.known = found
        if new:
            self.note(new[-1].shape, frame)
        elif self.statement and self.statement.records:
            out = frame.f_locals["out"]
            self.note(getattr(out, "trace", out).last, frame)

    def note(self, shape, frame=None):
        letters = self.letters
        if frame and frame.f_code.co_name == "backbone" and "s" in frame.f_locals:
            s, config = frame.f_locals["s"], frame.f_locals["config"]
            letters = self.letters | {"H'": 96 >> s, "W'": 96 >> s, "O": config.widths[s]}
        if self.statement:
            self.seen.append(Seen(self.statement, self.current, shape, letters))
        self.current = shape


def arrays(frame):
    return {name: value for name, value in frame.f_locals.items() if isinstance(value, np.ndarray)}


def seen_in(function, config, only=None, parts=(), **inputs):
    """What the statements did in one run of `hybrid` or `bit`.  -> list of Seen"""
    ops, watch = ShapeOperations(), Watch(only)
    p = ops.prepare(shapes(config, **dict.fromkeys(parts, True)), config)
    x = np.broadcast_to(np.float32(0), (1, *config.image, 3))
    traced(watch, function, x, p, config, ops, LastState(), **inputs)
    return watch.seen


def traced(watch, function, *arguments, **inputs):
    before = sys.gettrace()
    sys.settrace(watch)
    try:
        function(*arguments, **inputs)
    finally:
        sys.settrace(before)


@pytest.fixture(scope="module")
def seen():
    """Every line of the column runs at least once."""
    r50 = PRESETS["R50+ViT-B/16"]
    mean = replace(r50, pool="mean", norm_pooled=True, pre_logits=768)
    masks = dict(head_mask=np.ones((12, 12), np.float32), masked=np.zeros((1, 576), bool))
    watch = Watch()
    traced(watch, image.prepare, np.zeros((480, 640, 3), np.uint8), image.Steps())

    class Forgetful(LastState):
        """Does not want the attention weights."""

        def wants(self, name):
            return False
    ops = ShapeOperations()
    x = np.broadcast_to(np.float32(0), (1, 384, 384, 3))
    traced(watch, model.hybrid, x, ops.prepare(shapes(r50), r50), r50, ops, Forgetful())
    return [*watch.seen,
            *seen_in(model.hybrid, r50, parts=["pooler", "mask_token"], **masks),
            *seen_in(model.hybrid, mean), *seen_in(model.hybrid, replace(mean, classes=0)),
            *seen_in(model.hybrid, replace(r50, padding="symmetric", pool_padding="valid")),
            *seen_in(model.hybrid, replace(r50, unit="preactivation")),
            *seen_in(model.bit, PRESETS["BiT-R50x1"], only="bit")]


def place(statement):
    return f"{FILES[statement.file].__name__}:{statement.line}"


def test_every_shape_in_the_column_is_true(seen):
    for statement, _, after, letters in seen:
        if statement.shape:
            parts = [part.strip() for part in statement.shape.split(",")]
            stated = tuple(int(part) if part.isdecimal() else letters[part] for part in parts if part)
            assert stated == after, f"{place(statement)} states ({statement.shape}), computed {after}"


def test_every_line_that_changes_a_shape_states_it(seen):
    silent = {place(s.statement) for s in seen if s.after != s.before and not s.statement.shape}
    assert silent == set()


def test_every_line_of_the_column_was_run(seen):
    stated = {s for s in STATEMENTS.values() if s.shape}
    assert len(stated) > 40
    assert {place(s) for s in stated - {s.statement for s in seen}} == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: FILES[file].__name__)
def test_the_column_is_straight(file):
    with open(file, encoding="utf-8") as opened:
        comments = [line for line in opened.read().splitlines() if SHAPE.search(line)]
    assert comments and {line.index("# (") for line in comments} == {COLUMN}


def test_a_wrong_shape_is_noticed(seen):
    wrong = [s._replace(statement=s.statement._replace(shape="B, 1")) for s in seen if s.statement.shape]
    with pytest.raises(AssertionError, match="states"):
        test_every_shape_in_the_column_is_true(wrong)
    with pytest.raises(AssertionError):
        test_every_line_that_changes_a_shape_states_it([s._replace(statement=s.statement._replace(shape=None))
                                                        for s in seen])
