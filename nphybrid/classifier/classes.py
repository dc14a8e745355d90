"""The class of each picture: given by the folder that it is in, or by a file of labels.

    a folder of folders     the class is the name of the folder in it, however deep in that the picture is
    labels.csv              one row `path,label` per picture, in any order, with or without that header; a path is taken
                            as it is written, or else as relative to the folder of labels.csv; - is a picture on stdin.
                            Or one row `label` per picture, in the order of the pictures. UTF-8, except that paths may
                            have other bytes. White space around a label is not part of it

The name of a class is text, because a head keeps it in JSON: names with bytes that are not UTF-8 are refused.
"""
import csv
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

from ..batch.inputs import find_pictures, source_name
from ..tensorfile import FormatError
from ..text import name_list


def of_folders(folders: Iterable[str | os.PathLike]) -> tuple[list[str], list[str]]:
    """The pictures in folders of folders, and the class of each.

    Raises ValueError for a folder that has pictures beside its folders, or no folder, for classes without a picture
    and for names that are not UTF-8; OSError.
    """
    sources, classes, empty = [], [], []
    for root in folders:
        for folder in _class_folders(os.fspath(root)):
            # Raises for a folder that may not be read, which `find_pictures` would return as a picture.
            os.scandir(folder).close()
            found = [path for path in find_pictures([folder], recursive=True) if path != folder]
            if not found:
                empty.append(folder)
            sources += found
            classes += [os.path.basename(folder)] * len(found)
    if empty:
        raise ValueError(f"classes without a picture: {name_list(empty)}")
    return sources, classes


def _class_folders(root):
    """The folders in a folder of folders, in the byte order of their paths."""
    if not os.path.isdir(root):
        raise NotADirectoryError(f"{root}: expected a folder that holds a folder per class; for single pictures and "
                                 "features, give --labels")
    folders = sorted((entry.path for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")),
                     key=os.fsencode)
    loose = [path for path in find_pictures([root]) if path != root]
    if loose or not folders:
        raise ValueError(f"{root} holds {len(folders):,} folders and {len(loose):,} pictures beside them; expected "
                         "a folder per class, and pictures only in these")
    _check_utf8(map(os.path.basename, folders), root)
    return folders


def of_file(path: str | os.PathLike, sources: Sequence[Any]) -> list[str]:
    """The class of each of the sources, from a file of labels.

    Raises FormatError for a file that breaks a rule, ValueError for pictures without a label in it, OSError.
    """
    rows = _rows(path)
    if all(len(row) == 1 for row in rows):
        if len(rows) != len(sources):
            raise ValueError(f"{path} holds {len(rows):,} labels for {len(sources):,} pictures; expected one each, or "
                             "rows path,label")
        return [row[0] for row in rows]
    folder = os.path.dirname(os.path.abspath(path))
    labels = {}
    for name, label in rows:
        place = os.path.abspath(os.path.join(folder, name))
        if labels.setdefault(place, label) != label:
            raise FormatError(f"{path}: {name!r} has two labels, {labels[place]!r} and {label!r}")
    labels |= {os.path.abspath(name): label for name, label in rows}
    places = [os.path.abspath(source_name(source)) for source in sources]
    if missing := [source_name(source) for source, place in zip(sources, places) if place not in labels]:
        raise ValueError(f"{path} has no label for {len(missing):,} of {len(sources):,} pictures: {name_list(missing)}")
    return [labels[place] for place in places]


def _rows(path):
    """The rows of a file of labels without its header, all of one field or all of two."""
    with open(path, "rb") as file:
        data = file.read()
    if b"\0" in data:
        raise FormatError(f"{path} holds NUL bytes, as UTF-16 does; expected UTF-8")
    text = io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")
    try:
        rows = [row for row in csv.reader(text) if row]
    except csv.Error as error:
        raise FormatError(f"{path} is not valid CSV: {error}") from None
    if quoted := [row[-1] for row in rows if row[-1][:1].isspace() and row[-1].lstrip().startswith('"')]:
        raise FormatError(f"{path}: a quote follows white space in {quoted[0]!r}, where it is an ordinary character of "
                          "CSV; expected the quote directly after the comma")
    rows = [[*row[:-1], row[-1].strip()] for row in rows]
    if rows and rows[0] in (["path", "label"], ["label"]):
        rows = rows[1:]
    if not rows:
        raise FormatError(f"{path} holds no labels")
    for number, row in enumerate(rows, 1):
        if len(row) not in (1, 2) or len(row) != len(rows[0]) or not row[-1]:
            raise FormatError(f"{path}: row {number} is {row!r}; expected path,label or label, as in every other row")
    for mark in ";\t":
        if all(len(row) == 1 and mark in row[0] for row in rows):
            raise FormatError(f"{path}: each row is one field with {mark!r} in it, the first {rows[0][0]!r}; expected "
                              "a comma between path and label, also where labels hold such marks")
    _check_utf8((row[-1] for row in rows), path)
    return rows


def _check_utf8(names, where):
    """Raise ValueError for names with bytes that are not UTF-8, which `os.fsdecode` turns into surrogates."""
    if bad := {name for name in names if any("\ud800" <= c <= "\udfff" for c in name)}:
        raise ValueError(f"{where}: expected names of classes in UTF-8, found {name_list(bad)}")


def in_order(names: Iterable[str]) -> list[str]:
    """The names of the classes, each once: whole numbers by their value, then the others by the alphabet.

    >>> in_order(["10", "9", "cat", "9"])
    ['9', '10', 'cat']
    """
    return sorted({*names}, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def class_numbers(names: Sequence[str], labels: Sequence[str]) -> list[int]:
    """The model's number for each name of a class: that of the label of this name, or else the name as a number.

    labels: the model's, in order. Raises ValueError that lists every name that is neither a label nor a
    number of a class, or every name that is a label of several classes.

    >>> class_numbers(["cat", "0", "cat"], ["bird", "cat"])
    [1, 0, 1]
    """
    numbers, unknown, unclear = {}, [], []
    for name in {*names}:
        found = [k for k, label in enumerate(labels) if label == name]
        if len(found) > 1:
            unclear.append(name)
        elif found:
            numbers[name] = found[0]
        elif name.isdecimal() and int(name) < len(labels):
            numbers[name] = int(name)
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f"the model has no label for {len(unknown)} of {len({*names})} classes: "
                         f"{name_list(unknown, 50)}; it has {name_list(labels)}. A class may also be given by its "
                         f"number, 0 to {len(labels) - 1}")
    if unclear:
        raise ValueError(f"more than one label of the model is {name_list(unclear)}; give these classes by number")
    return [numbers[name] for name in names]
