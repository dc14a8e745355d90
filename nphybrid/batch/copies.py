"""Copies pictures into folders that are named after their labels."""
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from ..tensorfile import write_atomically
from .inputs import matches

UNSORTED = "no label"                     # the folder of pictures that have no label above the threshold
LONGEST = 200                             # the largest number of bytes in the name of a folder; file systems allow 255
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


def sorted_copies(folder: str, sources: Sequence[Any], labels: Iterable[str]) -> Callable[[Any, list], str]:
    """Return a function that copies a picture to FOLDER/LABEL/NAME, and returns this path.

    FOLDER is created if it is missing.

    `sources` are the pictures, as `find_pictures` returns them. `labels` are the labels of the model, in order.
    The arguments of the function are the `run.Row` of a picture and its labels, as `rows.labelled_fields` returns them.
    The function raises OSError if a picture cannot be copied.
    """
    names = file_names(sources)
    folders = folder_names([UNSORTED, *labels])
    folder = os.path.realpath(folder)
    os.makedirs(folder, exist_ok=True)

    def copy(row, found):
        target = os.path.join(folder, folders[found[0]["index"] + 1 if found else 0])
        os.makedirs(target, exist_ok=True)
        path = os.path.join(target, names[row.position])
        refuse_links(path, folder)
        with write_atomically(path) as temporary:
            if isinstance(row.source, bytes):
                temporary.write_bytes(row.source)
            else:
                shutil.copyfile(row.source, temporary)
        if not isinstance(row.source, bytes):
            shutil.copystat(row.source, path)
        return path
    return copy


def refuse_links(path: str, folder: str) -> None:
    """Raise OSError if a path in a folder leads through a symbolic link.  A file elsewhere could be replaced.

    `folder` is a path without symbolic links.
    """
    if os.path.islink(path) or os.path.realpath(os.path.dirname(path)) != os.path.dirname(path):
        raise OSError(f"{path} leads through a symbolic link to {os.path.realpath(path)}; expected a path that stays "
                      f"in the folder {folder} of the copies")


def check_folder(path: str) -> None:
    """Raise OSError if a folder for copies is neither missing nor empty."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise NotADirectoryError(f"{path} is not a folder; expected a new or an empty folder for the copies")
    if os.path.isdir(path) and os.listdir(path):
        raise FileExistsError(f"the folder {path} is not empty; expected a new or an empty folder for the copies")


def refuse_inputs(folder: str, inputs: Iterable[str], sources: Iterable[Any], recursive: bool = False) -> None:
    """Raise ValueError if the folder for copies contains a source, or if it is a part of an input.

    A copy could replace a source in the folder. In a folder that is searched, the copies would be found as new sources.
    `inputs` and `recursive` are the arguments of `find_pictures`, and `sources` is its result.
    """
    for name in chain.from_iterable(map(matches, inputs)):
        if os.path.isdir(name) and _is_inside(folder, name) and (recursive or _is_inside(name, folder)):
            raise ValueError(f"the folder {folder} for the copies lies in the input folder {name}; expected a folder "
                             "outside of it")
    for source in sources:
        # If a source is a symbolic link, neither the link nor its target can be in the folder.
        if isinstance(source, str) and (_is_inside(os.path.dirname(source), folder) or _is_inside(source, folder)):
            raise ValueError(f"the folder {folder} for the copies contains the input {source}; expected a folder "
                             "without inputs")


def _is_inside(path, folder):
    """Return True if a path is a folder or lies in it.  Symbolic links are followed."""
    folder = os.path.realpath(folder)
    return os.path.join(os.path.realpath(path), "").startswith(os.path.join(folder, ""))


def refuse_pipes(sources: Iterable[Any]) -> None:
    """Raise ValueError for a source that can be read only once, such as a pipe."""
    for source in sources:
        if isinstance(source, str) and os.path.exists(source) and not (os.path.isfile(source) or os.path.isdir(source)):
            raise ValueError(f"{source} is not a regular file; expected a file that can be read a second time, because "
                             "it is copied")


def file_names(sources: Iterable[Any], suffix: Callable[[str], str] = str) -> list[str]:
    """Return a name for the copy of each picture.  No two names are equal, also if the case of letters does not count.

    `suffix` is a function that converts the suffix of a picture to the suffix of its copy.

    >>> file_names(["a/1.png", "b/1.PNG", "c/1-2.png", b"..."])
    ['1.png', '1-2.PNG', '1-2-2.png', 'stdin']
    """
    names, taken, numbers = [], set(), {}
    for source in sources:
        stem, end = ("stdin", "") if isinstance(source, bytes) else os.path.splitext(os.path.basename(source))
        end = suffix(end)
        key = name = f"{stem}{end}"
        while name.casefold() in taken:
            numbers[key.casefold()] = numbers.get(key.casefold(), 1) + 1
            name = f"{stem}-{numbers[key.casefold()]}{end}"
        taken.add(name.casefold())
        names.append(name)
    return names


def folder_names(labels: Iterable[str]) -> list[str]:
    """Return the name of a folder for each label.  Different labels get different names.

    Characters that a file system may refuse are replaced by "_". A name never leads to another folder.

    >>> folder_names(["tabby, tabby cat", "../up", "a/b", "a:b", "", "nul"])
    ['tabby, tabby cat', '_up', 'a_b', 'a_b (3)', '_', '_nul']
    """
    labels, names, taken = list(labels), {}, set()
    for i, label in enumerate(labels):
        if label not in names:
            name = plain = _without_special_characters(label)
            while name.casefold() in taken:
                name, i = f"{plain} ({i})", i + 1
            taken.add(name.casefold())
            names[label] = name
    return [names[label] for label in labels]


def _without_special_characters(label):
    text = "".join("_" if c in '<>:"/\\|?*' or not c.isprintable() else c for c in label)
    text = text.encode()[:LONGEST].decode(errors="ignore").strip(". ") or "_"
    return f"_{text}" if text.partition(".")[0].casefold() in RESERVED else text
