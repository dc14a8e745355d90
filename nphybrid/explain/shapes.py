"""The shapes that stand beside the source on the page: the shapes of the forward pass that the page shows.

In the source, the column at the right has the shapes of R50+ViT-B/16. `recorded` observes a forward pass with a trace
function of Python, and finds the shapes of the network of the page.
"""
import ast
import contextlib
import re
import sys
from typing import NamedTuple

import numpy as np

from .. import backbone, encoder, image, model, tokens

MODULES = backbone, encoder, image, model, tokens
SHAPE = re.compile(r"# (\([^()]+\))$")


class Statement(NamedTuple):
    """A statement with a shape at its right."""
    file: str
    line: int                             # the last line, which has the comment
    name: str | None                      # the variable that has the shape, or None for `return …`


def statements() -> dict:
    """The statements of the network that have a shape at their right.  -> {(file, line): Statement}, for every line"""
    found = {}
    for module in MODULES:
        with open(module.__file__, encoding="utf-8") as file:
            source = file.read()
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Assign, ast.Return)) and SHAPE.search(lines[node.end_lineno - 1]):
                statement = Statement(module.__file__, node.end_lineno, _variable(node))
                found |= {(module.__file__, line): statement for line in range(node.lineno, node.end_lineno + 1)}
    return found


def _variable(node):
    """The last variable that a statement assigns: x in `x = out["stem"] = …`, and weights in `x, weights = …`.

    For a statement such as `out["norm1"] = x`, x.
    """
    if isinstance(node, ast.Return):
        return None
    names = [part.id for target in node.targets for part in ast.walk(target)
             if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
    return names[-1] if names else getattr(node.value, "id", "")


@contextlib.contextmanager
def recorded():
    """Record the shapes of the arrays that the functions of the network compute in a `with` block.

    -> {(file, line): a set of shapes}, by the last line of each statement

    >>> from nphybrid.tokens import patches
    >>> with recorded() as shapes:
    ...     x = patches(np.zeros((1, 4, 6, 8)), 2)
    >>> sorted(shapes.values())
    [{(1, 2, 2, 3, 2, 8)}, {(1, 6, 32)}]
    """
    shapes, known, before = {}, statements(), sys.gettrace()
    files = {module.__file__ for module in MODULES}

    def calls(frame, event, arg):
        return _lines(frame, known, shapes) if frame.f_code.co_filename in files else None
    sys.settrace(calls)
    try:
        yield shapes
    finally:
        sys.settrace(before)


def _lines(frame, known, shapes):
    """The trace function of one call."""
    last = None

    def lines(frame, event, arg):
        nonlocal last
        following = known.get((frame.f_code.co_filename, frame.f_lineno))
        if last and (event == "return" or following != last):
            found = arg if last.name is None else frame.f_locals.get(last.name)
            if isinstance(found, np.ndarray):
                shapes.setdefault((last.file, last.line), set()).add(found.shape)
        last = following
        return lines
    return lines


def beside(comment: str, found) -> str:
    """The text beside a line whose comment is `comment`.  `found` is the set of its shapes in the pass, or None.

    Where the shapes differ between calls, the text is the comment, which has letters. A line that the pass did not run
    has an empty text.

    >>> beside("# (B, 577, 768)", {(1, 65, 192)}), beside("# (B, H', W', O)", {(1, 8, 8, 4), (1, 4, 4, 8)})
    ('(1, 65, 192)', "(B, H', W', O)")
    >>> beside("# (12,)", None), beside("# all axes except O", None)
    ('', 'all axes except O')
    """
    if not SHAPE.search(comment) or found and len(found) > 1:
        return comment.lstrip("# ")
    return str(*found) if found else ""
