"""Which class a picture is of: told by the folder that it lies in, or by a file of labels.

    a folder of folders     the class is the name of the folder in it, at whatever depth the picture lies there
    labels.csv              a row `path,label` per picture, in any order, with or without that header; a path is taken
                            as it stands, else from the folder of labels.csv; - is a picture on stdin. Or a row `label`
                            per picture, in their order. UTF-8; bytes of a path that are none are kept. White space
                            around a label is none of it

The name of a class is text, since a head keeps it in JSON: bytes that are no UTF-8 are refused.
"""
import csv
import io
import os

from ..batch.inputs import find_pictures, source_name
from ..tensorfile import FormatError
from ..text import name_list as several


def of_folders(folders):
    """The pictures in folders of folders, and their classes.  -> list of path, list of str

    Raises ValueError for a folder that holds pictures beside its folders, or no folder, for classes without a picture
    and for names that are no UTF-8; OSError.
    """
    sources, classes, empty = [], [], []
    for root in map(os.fspath, folders):
        if not os.path.isdir(root):
            raise NotADirectoryError(f"{root} is no folder of folders, a folder per class; for single pictures and "
                                     "features, give --labels")
        inside = sorted((entry.path for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")),
                        key=os.fsencode)
        loose = [path for path in find_pictures([root]) if path != root]
        if loose or not inside:
            raise ValueError(f"{root} holds {len(inside):,} folders and {len(loose):,} pictures beside them; expected "
                             "a folder per class, and pictures only there")
        _check_text(map(os.path.basename, inside), root)
        for folder in inside:
            # Raises for one that may not be read; `listed` gives its own path then.
            os.scandir(folder).close()
            found = [path for path in find_pictures([folder], recursive=True) if path != folder]
            empty += [] if found else [folder]
            sources += found
            classes += [os.path.basename(folder)] * len(found)
    if empty:
        raise ValueError(f"classes without a picture: {several(empty)}")
    return sources, classes


def of_file(path, sources):
    """The classes of pictures by a file of labels.  -> list of str, one for each of the sources

    Raises FormatError for a file that breaks a rule, ValueError for pictures that it has no label for, OSError.
    """
    rows = _rows(path)
    if all(len(row) == 1 for row in rows):
        if len(rows) != len(sources):
            raise ValueError(f"{path} holds {len(rows):,} labels for {len(sources):,} pictures; expected one each, or "
                             "rows path,label")
        return [row[0] for row in rows]
    folder, labels = os.path.dirname(os.path.abspath(path)), {}
    for name, label in rows:
        place = os.path.abspath(os.path.join(folder, name))
        if labels.setdefault(place, label) != label:
            raise FormatError(f"{path}: {name!r} is both {labels[place]!r} and {label!r}")
    labels |= {os.path.abspath(name): label for name, label in rows}
    places = [os.path.abspath(source_name(source)) for source in sources]
    if missing := [source_name(source) for source, place in zip(sources, places) if place not in labels]:
        raise ValueError(f"{path} has no label for {len(missing):,} of {len(sources):,} pictures: {several(missing)}")
    return [labels[place] for place in places]


def _rows(path):
    """The rows of a file of labels, without its header, all of one or of two fields."""
    with open(path, "rb") as file:
        data = file.read()
    if b"\0" in data:
        raise FormatError(f"{path} holds NUL bytes, as UTF-16 does; expected UTF-8")
    text = io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")
    try:
        rows = [row for row in csv.reader(text) if row]
    except csv.Error as error:
        raise FormatError(f"{path} is no CSV: {error}") from None
    if quoted := [row[-1] for row in rows if row[-1][:1].isspace() and row[-1].lstrip().startswith('"')]:
        raise FormatError(f"{path}: a quote stands behind white space in {quoted[0]!r}, where CSV takes it for a "
                          "letter; expected the quote behind the comma")
    rows = [[*row[:-1], row[-1].strip()] for row in rows]
    rows = rows[1:] if rows and rows[0] in (["path", "label"], ["label"]) else rows
    wide = len(rows[0]) if rows else 0
    for number, row in enumerate(rows, 1):
        if len(row) not in (1, 2) or len(row) != wide or not row[-1]:
            raise FormatError(f"{path}: row {number} is {row!r}; expected path,label or label, as in every other row")
    if not rows:
        raise FormatError(f"{path} holds no labels")
    for mark in ";\t":
        if all(len(row) == 1 and mark in row[0] for row in rows):
            raise FormatError(f"{path}: each row is one field with {mark!r} in it, the first {rows[0][0]!r}; expected "
                              "a comma between path and label, also where labels hold such marks")
    _check_text((row[-1] for row in rows), path)
    return rows


def _check_text(names, where):
    """Raise ValueError for names that are no text: `os.fsdecode` makes surrogates of bytes that are no UTF-8."""
    if bad := {name for name in names if any("\ud800" <= c <= "\udfff" for c in name)}:
        raise ValueError(f"{where}: names of classes that are no UTF-8: {several(bad)}")


def in_order(names):
    """The names of the classes: whole numbers by their value, then the others by the alphabet.  -> list of str

    >>> in_order(["10", "9", "cat", "9"])
    ['9', '10', 'cat']
    """
    return sorted({*names}, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def class_numbers(names, labels):
    """The model's number for each name of a class: that of the label of this name, else the name as a number.

    names: list of str; labels: the model's, in order. -> list of int. Raises ValueError that lists every name which no
    label has, or more than one.

    >>> numbered(["cat", "0", "cat"], ["bird", "cat"])
    [1, 0, 1]
    """
    numbers, unknown, unclear = {}, [], []
    for name in {*names}:
        found = [k for k, label in enumerate(labels) if label == name]
        if len(found) > 1:
            unclear.append(name)
        elif found or name.isdecimal() and int(name) < len(labels):
            numbers[name] = found[0] if found else int(name)
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f"the model has no label for {len(unknown)} of {len({*names})} classes: "
                         f"{several(unknown, 50)}; it has {several(labels)}. A class may also be "
                         f"called by its number, 0 to {len(labels) - 1}")
    if unclear:
        raise ValueError(f"more than one label of the model is {several(unclear)}; call these by number")
    return [numbers[name] for name in names]
