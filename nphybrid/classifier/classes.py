"""The class of each picture, from the name of a folder, from its path, or from a file of labels.

A folder of folders contains one folder per class. All pictures inside a class folder, at any depth, belong to the class
with the name of this folder.

A file of labels, such as labels.csv, has one row per picture. All rows are `path,label`, or all rows are `label`. Rows
`path,label` may be in any order. Rows `label` must be in the order of the pictures. The first row may be the header
`path,label` or `label`. Under the header `path;label`, the rows are `path;label`. A path is looked up in the current
folder first, then in the folder of the file of labels, and then in the folder of pictures if there is only one. The
path `-` means a picture on stdin. A file of labels is in UTF-8, but paths may also contain other bytes. White space
around a label is removed.

The name of a class must be UTF-8, because a head stores the name as JSON. Names that look alike, such as an "ö" of one
or of two characters (macOS), are equal: names are compared in the form NFC of Unicode.
"""
import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..batch.inputs import NOT_SEARCHED, find_pictures, source_name
from ..labels import classes_by_label, wordnet_classes
from ..tensorfile import FormatError
from ..text import name_list


WORDNET_NUMBER = re.compile(r"n\d{8}")


def of_folders(folders: Iterable[str | os.PathLike], left_out: Counter | None = None) -> tuple[list[str], list[str]]:
    """Find the pictures in folders of folders.  Returns the pictures, and the class of each picture.

    `left_out` has the same meaning as in `batch.inputs.find_pictures`.
    Raises ValueError for a folder that contains pictures beside its folders, and for a folder that contains no folder.
    Raises ValueError also for a class without a picture, and for a name that is not UTF-8. Raises OSError for a folder
    that cannot be read.
    """
    sources, classes, empty = [], [], []
    for root in folders:
        for folder in _class_folders(os.fspath(root), left_out):
            # Raise OSError if the folder cannot be read.
            # `find_pictures` would return an unreadable folder as a picture.
            os.scandir(folder).close()
            found = [path for path in find_pictures([folder], recursive=True, left_out=left_out) if path != folder]
            if not found:
                empty.append(folder)
            sources += found
            classes += [_nfc(os.path.basename(folder))] * len(found)
    if empty:
        raise ValueError(f"classes without a picture: {name_list(empty)}; expected at least one picture per class")
    return sources, classes


def of_paths(paths: Sequence[str]) -> list[str]:
    """The class of each path: its folder in the folder that contains all paths.  Files need not exist.

    Raises ValueError if the paths have no common folder that contains one folder per class.

    >>> of_paths(["photos/cat/1.png", "photos/dog/old/2.png"])
    ['cat', 'dog']
    """
    parts = []
    if paths and len({os.path.isabs(path) for path in paths}) == 1:
        common = os.path.commonpath(paths)
        parts = [os.path.relpath(path, common or os.curdir).split(os.sep) for path in paths]
    if not parts or min(map(len, parts)) < 2:
        raise ValueError("the paths of the pictures do not state their classes; expected one folder per class, or "
                         "--truth with the classes of the pictures")
    names = [_nfc(part[0]) for part in parts]
    _check_utf8(names, "the list of pictures")
    return names


def _class_folders(root, left_out):
    """The folders of the classes in `root`, in the byte order of their paths."""
    if root.endswith(".h5") and os.path.isfile(root):
        raise NotADirectoryError(f"{root} is a file of this package; expected a folder that contains one folder per "
                                 "class. A model is given with --model. `nphybrid probe fit` reads features")
    if not os.path.isdir(root):
        raise NotADirectoryError(f"{root} is not a folder; expected a folder that contains one folder per class. For "
                                 "single pictures, give --truth")
    folders = sorted((entry.path for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")),
                     key=os.fsencode)
    beside = Counter()
    loose = [path for path in find_pictures([root], left_out=beside) if path != root]
    del beside[NOT_SEARCHED]              # the folders of the classes
    if left_out is not None:
        left_out.update(beside)
    if loose or not folders:
        raise ValueError(f"{root} holds {len(folders):,} folders and {len(loose):,} pictures beside them; expected "
                         "one folder per class, and pictures only in these folders")
    _check_utf8(map(os.path.basename, folders), root)
    return folders


def of_file(path: str | os.PathLike, sources: Sequence[Any], inputs: Sequence[str] = ()) -> list[str]:
    """Read the class of each source from a file of labels.

    `inputs` are the files and folders in which the sources were found.
    Raises FormatError for a file in a wrong format. Raises ValueError for a wrong number of labels, and for pictures
    that have no label in the file. Raises OSError if the file cannot be read.
    """
    rows = _rows(path)
    if all(len(row) == 1 for row in rows):
        if len(rows) != len(sources):
            raise ValueError(f"{path} holds {len(rows):,} labels for {len(sources):,} pictures; expected one label "
                             "per picture, or rows path,label")
        return [row[0] for row in rows]
    folders = [os.curdir, os.path.dirname(path) or os.curdir]
    if len(inputs) == 1 and os.path.isdir(inputs[0]):
        folders.append(inputs[0])
    given, labels = {}, {}
    for name, label in rows:
        if given.setdefault(_place(name), label) != label:
            raise FormatError(f"{path}: {name!r} has two labels, {given[_place(name)]!r} and {label!r}; expected one "
                              "label per path")
    for folder in reversed(folders):      # the first folder has priority
        labels |= {_place(os.path.join(folder, name)): label for name, label in rows}
    places = [_place(source_name(source)) for source in sources]
    if missing := [source_name(source) for source, place in zip(sources, places) if place not in labels]:
        searched = name_list({os.path.abspath(folder) for folder in folders})
        raise ValueError(f"{path} has no label for {len(missing):,} of {len(sources):,} pictures: "
                         f"{name_list(missing)}. The paths in this file, such as {rows[0][0]!r}, were looked up in "
                         f"{searched}")
    return [labels[place] for place in places]


def _place(path):
    return _nfc(os.path.abspath(path))


def _nfc(name):
    return unicodedata.normalize("NFC", name)


def _rows(path):
    """Read the rows of a file of labels, without the header.  All rows have one field, or all rows have two fields."""
    with open(path, "rb") as file:
        data = file.read()
    if b"\0" in data:
        raise FormatError(f"{path} contains NUL bytes, which are typical of UTF-16; expected UTF-8")
    text = data.decode("utf-8-sig", "surrogateescape")
    comma = ";" if re.match(r"path; *label\r?\n", text) else ","
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=comma) if row]
    except csv.Error as error:
        raise FormatError(f"{path} is not valid CSV: {error}") from None
    if quoted := [row[-1] for row in rows if row[-1][:1].isspace() and row[-1].lstrip().startswith('"')]:
        raise FormatError(f"{path}: a quote follows white space in {quoted[0]!r}, so the quote is a part of the label; "
                          "expected the quote directly after the comma")
    rows = [[*row[:-1], _nfc(row[-1].strip())] for row in rows]
    if rows and rows[0] in (["path", "label"], ["label"]):
        rows = rows[1:]
    if not rows:
        raise FormatError(f"{path} holds no labels; expected one row per picture")
    for number, row in enumerate(rows, 1):
        if len(row) not in (1, 2) or len(row) != len(rows[0]) or not row[-1]:
            raise FormatError(f"{path}: row {number} is {row!r}; expected path,label in every row, or label "
                              "in every row")
    for mark in ";\t":
        if all(len(row) == 1 and mark in row[0] for row in rows):
            raise FormatError(f"{path}: each row is one field with {mark!r} in it, for example {rows[0][0]!r}; "
                              f"expected a comma between path and label, also if the labels contain {mark!r}")
    _check_utf8((row[-1] for row in rows), path)
    return rows


def _check_utf8(names, where):
    """Raise ValueError for names that contain surrogates.

    `os.fsdecode` returns a surrogate for each byte that is not UTF-8.
    """
    if bad := {name for name in names if any("\ud800" <= c <= "\udfff" for c in name)}:
        raise ValueError(f"{where}: expected names of classes in UTF-8, found {name_list(bad)}")


def in_order(names: Iterable[str]) -> list[str]:
    """Sort the names of classes, and remove repeated names.

    Names that are whole numbers come first, in the order of the numbers. Names that are not numbers follow in
    alphabetical order. Raises TypeError for a name that is not a str.

    >>> in_order(["10", "9", "cat", "9"])
    ['9', '10', 'cat']
    """
    names = list(names)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"names of classes: found {wrong[0]!r}; expected strings")
    return sorted({*names}, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def class_numbers(names: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Find the number that the model gives to each class.

    A name that is a label of the model has the number of this label. A name that is not a label must be the number of a
    class, or the WordNet number of an ImageNet class, such as n01440764 (see `labels.wordnet_classes`). `labels` are
    the labels of the model, in order. Raises ValueError for all other names. Raises ValueError also for a label that
    several classes share. The message lists the wrong names.

    >>> class_numbers(["cat", "0", "cat"], ["bird", "cat"])
    [1, 0, 1]
    """
    numbers, unknown, unclear = {}, [], []
    wordnet = wordnet_classes(labels) if any(map(WORDNET_NUMBER.fullmatch, names)) else {}
    places = {**wordnet, **classes_by_label([_nfc(label) for label in labels])}
    for name in {*names}:
        found = places.get(_nfc(name), [])
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
                         f"{name_list(unknown, 50)}; the labels are {name_list(labels)}. A class may also be given by "
                         f"its number, 0 to {len(labels) - 1}")
    if unclear:
        raise ValueError(f"several classes of the model share a label: {name_list(unclear)}; give the numbers of these "
                         "classes")
    return [numbers[name] for name in names]
