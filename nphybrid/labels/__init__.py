"""Names of classes, from the lists of this package (see labels/README.md) or from a user's file; WordNet numbers."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..tensorfile.documents import parse_json
from ..tensorfile.errors import FilePath, refusal

FILES = {1000: "ilsvrc.txt", 21843: "imagenet21k.txt"}
WORDNET_FILES = {1000: "ilsvrc_wordnet.txt", 21843: "imagenet21k_wordnet.txt"}
# A label file may have at most MOST_BYTES bytes. The longest list of this package has 0.5 MB.
MOST_BYTES = 2 ** 24


def names(count: int) -> list[str] | None:
    """Return the class names of published models with `count` classes, or None if the package has no list for `count`.

    The names are in the order of the classes. The list of 1,000 names is for ILSVRC 2012. The list of 21,843 names is
    for Google's ImageNet-21k. A name may occur more than once in a list.

    >>> names(1000)[281], names(21843)[0], names(10)
    ('tabby, tabby cat', 'organism, being', None)
    """
    return from_file(Path(__file__).with_name(FILES[count])) if count in FILES else None


def classes_by_label(labels: Sequence[str]) -> dict[str, list[int]]:
    """Return the classes that have each label.

    >>> classes_by_label(["crane", "cat", "crane"])
    {'crane': [0, 2], 'cat': [1]}
    """
    classes: dict[str, list[int]] = {}
    for k, label in enumerate(labels):
        classes.setdefault(label, []).append(k)
    return classes


def wordnet_classes(labels: Sequence[str]) -> dict[str, list[int]]:
    """Return the classes of a model that have the name of a WordNet number.  {"n01440764": [0], …}

    `labels` are the labels of the model, in order. ImageNet's folders of pictures have the WordNet numbers as names. If
    the model has the labels of a list of this package at their places, then a number has one class. This also holds for
    two classes with one name, and for labels that are only the first of several names. In all other models, a number
    has the classes with its whole name, so it may have no class or several classes.

    >>> wordnet_classes(["crane", "tench, Tinca tinca"])["n01440764"], wordnet_classes(names(1000))["n03126707"]
    ([1], [517])
    """
    places, classes = classes_by_label(labels), {}
    # The list with as many names as the model has classes comes last, and replaces entries of the other list.
    for count in sorted(FILES, key=lambda count: count == len(labels)):
        numbers = from_file(Path(__file__).with_name(WORDNET_FILES[count]))
        for k, (number, name) in enumerate(zip(numbers, names(count) or [])):
            at_its_place = count == len(labels) and labels[k] in (name, name.split(", ")[0])
            classes[number] = [k] if at_its_place else places.get(name, [])
    return classes


def from_file(path: FilePath) -> list[str]:
    """Read the class names in a file, in the order of the classes.

    The file is UTF-8 text with one name per line, or JSON. The JSON is a list of names, or an object {"0": name, "1":
    name, …} with one name for each class. A name may occur more than once. Raises FormatError if the file is empty or
    too long, or if a line or a class has no valid name. The message says which line or class is wrong, and what was
    found there. Raises OSError if the file cannot be read.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "labels.json")
    ...     _ = Path(path).write_text('{"1": "dog", "0": "cat"}')
    ...     from_file(path)
    ['cat', 'dog']
    """
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1).removeprefix(b"\xef\xbb\xbf")
    if len(data) > MOST_BYTES:
        raise refusal(path, "is too long for a list of labels", expected=f"at most {MOST_BYTES} bytes")
    if data.lstrip()[:1] in (b"[", b"{"):
        return _checked(path, _in_order(path, parse_json(data, path, "the file")), "class", 0)
    lines = _lines(path, data)
    _refuse_numbers(path, lines)
    return _checked(path, lines, "line", 1)


def _lines(path: FilePath, data: bytes) -> list[str]:
    """Split a text into its lines."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refusal(path, f"line {line} is not valid UTF-8", data[error.start:error.end], "UTF-8 text") from None
    # str.splitlines would also split at a form feed or U+2028.
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _refuse_numbers(path: FilePath, lines: list[str]) -> None:
    """Raise FormatError if each line begins with its number, as in a table, and not with a name."""
    for first in 0, 1:
        if len(lines) > 1 and all(re.match(rf"{i}\s*[,;\t]", line) for i, line in enumerate(lines, first)):
            raise refusal(path, "line 1 begins with the number of its class", lines[0], "a name alone on each line")


def _in_order(path: FilePath, document: Any) -> list:
    """Return the values of a JSON object in the order of the keys "0", "1", ….  A list is returned unchanged."""
    if isinstance(document, list):
        return document
    for i in range(len(document)):
        if str(i) not in document:
            raise refusal(path, f"has no label for class {i}", list(document), f'the keys "0" to "{len(document) - 1}"')
    return [document[str(i)] for i in range(len(document))]


def _checked(path: FilePath, labels: list, unit: str, first: int) -> list[str]:
    """Return the labels.  Raises FormatError if a label is not a name.

    In messages, `unit` is the word before the number of a label. `first` is the number of the first label.
    """
    if not labels:
        raise refusal(path, "holds no labels", expected="one label per line, or a JSON list or object")
    for number, label in enumerate(labels, first):
        if not isinstance(label, str) or not label.strip():
            raise refusal(path, f"{unit} {number} is not a label", label, "a name")
        if not label.isprintable():
            raise refusal(path, f"{unit} {number} holds characters that cannot be printed", label, "a name")
    return labels
