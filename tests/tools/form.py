"""Checks the form of the source files: what a linter does not ask for.

    python tests/tools/form.py [FILE_OR_FOLDER …]

prints a line "file:line: what" for each finding: a line of more than 120 characters, spaces at the end of a line, two
statements on one line, a call with more than eight positional arguments. Exit code 1 if there is one.
"""
import ast
import sys
from pathlib import Path

LONGEST_LINE = 120
MOST_POSITIONAL = 8
FOLDERS = ("nphybrid", "tests", "examples")


def findings(source):
    """(line number, what is wrong) of each finding in a file's text, in the order of the lines.

    >>> findings("x = 1; y = 2\\nif x: y = 3 \\n")
    [(1, 'two statements on one line'), (2, 'spaces at the end'), (2, 'two statements on one line')]
    """
    found = []
    for number, line in enumerate(source.split("\n"), 1):
        if len(line) > LONGEST_LINE:
            found.append((number, f"{len(line)} characters"))
        if line != line.rstrip():
            found.append((number, "spaces at the end"))
    tree = ast.parse(source)
    found += [(number, "two statements on one line") for number in shared_lines(source, tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONAL:
            found.append((node.lineno, f"a call with {len(node.args)} positional arguments"))
    return sorted(found)


def shared_lines(source, tree):
    """The numbers of the lines on which a statement begins behind something else.

    An `elif` is an `if` in an `else`: what stands before it is white space, as before any other statement.
    """
    lines = source.encode().split(b"\n")                  # col_offset counts bytes
    return {node.lineno for node in ast.walk(tree)
            if isinstance(node, ast.stmt) and lines[node.lineno - 1][:node.col_offset].strip()}


def main(places):
    """Print the findings.  -> their number"""
    count = 0
    for place in map(Path, places or FOLDERS):
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            for number, what in findings(file.read_text("utf-8")):
                print(f"{file}:{number}: {what}")
                count += 1
    return count


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
