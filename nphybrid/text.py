"""Functions that make text for people: aligned tables, shapes, and short lines that are safe on a terminal."""
import difflib
import itertools
import math
import os
import re
import reprlib
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

URL = re.compile(r"https?://", re.IGNORECASE)
# The page of a model on the Hugging Face hub, or a file of the model. A picture on the hub is no model.
MODEL_PAGE = re.compile(r"https?://(?:huggingface\.co|hf\.co)/(?!datasets/|spaces/)(?P<name>[\w.-]+/[\w.-]+)"
                        r"(/tree/.*|/(blob|resolve)/.*\.(safetensors|json))?/?", re.IGNORECASE)


def table(cells: Sequence[Sequence[str]], align: str) -> str:
    """Converts rows of strings to a text with aligned columns.

    `align`: one character for each column, "<" for the left or ">" for the right.

    >>> print(table([("state", "ms"), ("stem", "1.2")], "<>"))
    state   ms
    stem   1.2
    """
    widths = [max(map(_columns, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        padded = [_padded(cell, side, width) for cell, side, width in zip(row, align, widths)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _columns(text):
    """The number of columns that a text takes on a terminal.  Chinese characters, for example, take two columns."""
    marks = sum(unicodedata.category(c) in ("Mn", "Me", "Cf") for c in text)      # they take no column of their own
    return len(text) - marks + sum(unicodedata.east_asian_width(c) in "WF" for c in text)


def _padded(cell, side, width):
    blanks = " " * (width - _columns(cell))
    return cell + blanks if side == "<" else blanks + cell


class Line(NamedTuple):
    """A line of a table in which rows are grouped by their names."""
    name: str
    level: int                            # 1 for the outermost groups
    row: Any                              # a row, or the sum of the rows of a group
    divided: bool                         # whether the next lines divide this group

    @property
    def label(self) -> str:
        """The name, indented by two spaces for each level below the first."""
        return "  " * (self.level - 1) + self.name


def grouped(rows: Iterable[Any], summed: Collection[str], depth: int | None = None, level: int = 1) -> Iterator[Line]:
    """Groups rows by the parts of their names, and yields a line for each group before the lines of its rows.

    `rows`: named tuples with a field `name` such as "blocks.0.fc1". The rows of a group must follow each other.
    `summed`: the fields that are added in a group. A group has all other fields of its last row. `depth`: the level of
    the lines that are not divided, or None to divide all groups. `level`: the level of the first line.

    The row "blocks.0" counts only what no other row of the group blocks.0 counts. It is called "rest of blocks.0".

    >>> Row = NamedTuple("Row", name=str, n=int)
    >>> for line in grouped([Row("stem", 1), Row("blocks.0.fc1", 2), Row("blocks.0", 3)], ["n"]):
    ...     print(line.label, line.row.n)
    stem 1
    blocks 5
      blocks.0 5
        blocks.0.fc1 2
        rest of blocks.0 3
    """
    for name, group in itertools.groupby(rows, lambda row: ".".join(row.name.split(".")[:level])):
        members = list(group)
        divided = len(members) > 1 and level != depth
        if len(members) == 1:
            name = members[0].name if name.count(".") == level - 1 else f"rest of {name}"
        yield Line(name, level, _total(members, summed), divided)
        if divided:
            yield from grouped(members, summed, depth, level + 1)


def undivided(rows: Iterable[Any], summed: Collection[str], depth: int | None) -> list[Any]:
    """The rows of the lines that `grouped` does not divide.  If `depth` is None, the rows are returned unchanged."""
    if depth is None:
        return list(rows)
    return [line.row._replace(name=line.name) for line in grouped(rows, summed, depth) if not line.divided]


def _total(rows, summed):
    """The last row, with the sums of the fields `summed`.  None counts as 0, but a single row is left unchanged."""
    if len(rows) == 1:
        return rows[0]
    return rows[-1]._replace(**{field: sum(getattr(row, field) or 0 for row in rows) for field in summed})


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


def ellipsis(text: str, limit: int) -> str:
    """Shortens a text to one line of at most `limit` characters.  The last character of a shortened text is "…".

    >>> ellipsis("Käse", 4), ellipsis("Kartoffel", 4)
    ('Käse', 'Kar…')
    """
    line = printable(text, limit=len(text))
    return line if len(line) <= limit else line[:limit - 1] + "…"


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


def did_you_mean(name: str, known: Iterable[str], least: float = 0.6) -> str:
    """The end of a message about an unknown name: the known name that is most similar to it, or an empty text.

    `least`: the smallest similarity, from 0 to 1.

    >>> did_you_mean("--topk", ["--top-k", "--threads"]), did_you_mean("Block.3", ["blocks.3"])
    ('. Did you mean --top-k?', '. Did you mean blocks.3?')
    >>> did_you_mean("zebra", ["--top-k", "--threads"])
    ''
    """
    # The dashes of options and the case of letters do not count.
    plain = {other.lower().lstrip("-"): other for other in known}
    similar = difflib.get_close_matches(name.lower().lstrip("-"), plain, 1, least)
    return f". Did you mean {plain[similar[0]]}?" if similar else ""


def is_url(name: object) -> bool:
    """Return True if a name is an http or https URL and not the path of a file."""
    return isinstance(name, str) and bool(URL.match(name)) and not os.path.lexists(name)


def url_refusal(url: str) -> str:
    """Return the text of an error about a URL, which says how to use the file at the URL.

    >>> print(url_refusal("https://huggingface.co/google/bit-50/tree/main"))
    found the URL https://huggingface.co/google/bit-50/tree/main; expected the name google/bit-50
    """
    if page := MODEL_PAGE.fullmatch(url):
        return f"found the URL {url}; expected the name {page['name']}"
    return (f"found the URL {url}; expected a file on this computer. nphybrid downloads only models of the Hugging "
            f"Face hub. Run curl -L -o FILE '{url}', and give the name of the FILE")
