"""Functions that make text for people: aligned tables, shapes, and short lines that are safe on a terminal."""
import difflib
import math
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any


def table(cells: Sequence[Sequence[str]], align: str) -> str:
    """Converts rows of strings to a text with aligned columns.

    `align`: one character for each column, "<" for the left or ">" for the right.

    >>> print(table([("state", "ms"), ("stem", "1.2")], "<>"))
    state   ms
    stem   1.2
    """
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        padded = [f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def dimensions(shape: Iterable[int]) -> str:
    """Converts a shape to text.

    >>> dimensions((1, 64, 64, 3)), dimensions(())
    ('1x64x64x3', '()')
    """
    return "x".join(map(str, shape)) or "()"


def json_number(value: float | None) -> float | str | None:
    """Converts infinity and NaN to strings for JSON, and returns all other values unchanged.

    >>> json_number(0.5), json_number(math.inf)
    (0.5, 'inf')
    """
    return value if value is None or math.isfinite(value) else str(value)


def printable(text: str, limit: int = 200) -> str:
    """Converts a text from a file to one line that is safe on a terminal.

    A printable text of at most `limit` characters is returned unchanged. Any other text is escaped and shortened.
    """
    return text if len(text) <= limit and text.isprintable() else shortened(text)


def shortened(value: Any, limit: int = 120) -> str:
    """Converts any value to one short line of ASCII, which is safe on a terminal."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = limit
    shortener.maxlist = shortener.maxdict = 8
    # A long bytes object is cut first, because reprlib would make the repr of the whole object.
    text = shortener.repr(value[:limit] if isinstance(value, bytes) else value)
    return text.encode("ascii", "backslashreplace").decode()


def name_list(names: Iterable[str], limit: int = 8) -> str:
    """Sorts names and makes a list for a message.  If there are more than `limit` names, the list ends with a count.

    >>> name_list(["b", "a", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    ordered = sorted(names)
    text = ", ".join(shortened(name) for name in ordered[:limit])
    more = len(ordered) - limit
    return f"{text} and {more:,} more" if more > 0 else text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known name that is most similar to it, or an empty text.

    >>> did_you_mean("--topk", ["--top-k", "--threads"]), did_you_mean("Block.3", ["blocks.3"])
    ('. Did you mean --top-k?', '. Did you mean blocks.3?')
    >>> did_you_mean("zebra", ["--top-k", "--threads"])
    ''
    """
    # The dashes of options and the case of letters do not count.
    plain = {other.lower().lstrip("-"): other for other in known}
    similar = difflib.get_close_matches(name.lower().lstrip("-"), plain, n=1)
    return f". Did you mean {plain[similar[0]]}?" if similar else ""
