"""Makes a list of pictures from the inputs of a command.

An input that is a file is one picture. The name of the file may have any suffix.

An input that is a folder is replaced by the pictures in it, sorted by the bytes of their paths. A file in a folder
counts as a picture if its name ends in one of SUFFIXES, in upper or lower case. A HEIC picture is in the list also if
the package pillow-heif is missing. Its row then contains an error. With `recursive`, the folders inside a folder are
searched too. Inside a folder, files and folders whose names begin with a dot are ignored, and symbolic links
to folders are not followed. What is left out is counted, for one line on stderr.

An input that is a glob is replaced by its matches, sorted by the bytes of their paths. In a glob, `**` matches any
number of folders. Each match is treated like an input file or folder. If a file has the text of the glob as its name,
the input is this file.

The input `-` means stdin. stdin contains one picture, or the names of files and folders. The names on stdin are
separated by NUL bytes or by line ends.

The list keeps the order of the inputs. If two inputs name the same picture, the list contains the picture twice.

If no picture is found for an input, the input itself is put into the list, and its row will contain an error. This
happens for a path at which no file exists, for a folder without pictures, and for a glob without a match.
"""
import codecs
import glob
import os
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import IO, Any

from ..pictures.decode import PictureError, begins_as_picture, open_picture
from ..text import printable

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm",
            ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".heic", ".heif", ".hif")
# What a folder may contain that is not put into the list, beside files with other suffixes.
HIDDEN, NO_SUFFIX, NOT_SEARCHED, LINK = "hidden", "without a suffix", "inner folder", "folder link"
MOST_KINDS = 12


def find_pictures(inputs: Iterable[str], recursive: bool = False, stdin: IO[bytes] | None = None,
                  left_out: Counter | None = None) -> list[str | bytes]:
    """Return the list of pictures of a command.

    Each item of the list is a path, or the bytes of a picture from stdin.
    `inputs` are names as described at the top of this file.
    `stdin` is an open binary file. If an input is "-", `stdin` is read to its end.
    `left_out` counts what the folders contain beside the pictures; see `left_out_text`.

    >>> find_pictures(["examples/images", "nothing.png", "examples/images/c*"])
    ['examples/images/cat.png', 'examples/images/explain.png', 'nothing.png', 'examples/images/cat.png']
    >>> import io
    >>> find_pictures(["-"], stdin=io.BytesIO(b"b.png\\na.png\\n"))
    ['b.png', 'a.png']
    """
    left_out = Counter() if left_out is None else left_out
    return list(chain.from_iterable(_pictures(name, recursive, stdin, left_out) for name in inputs))


def left_out_text(left_out: Counter) -> str:
    """Say what the folders contain beside the pictures that `find_pictures` found.

    >>> left_out_text(Counter({".jxl": 1, ".mp4": 2, "hidden": 1}))
    'left out in folders: 2 .mp4, 1 .jxl, 1 hidden'
    """
    counts = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f"{count:,} {printable(kind)}" + "s" * (count > 1 and kind in (NOT_SEARCHED, LINK))
             for kind, count in counts]
    if len(kinds) > MOST_KINDS:
        kinds[MOST_KINDS:] = [f"{sum(count for _, count in counts[MOST_KINDS:]):,} with other suffixes"]
    text = f"left out in folders: {', '.join(kinds)}"
    if NOT_SEARCHED in left_out:
        text += ". The option -r also searches inner folders"
    return text


def open_source(source: Any, max_pixels: int | None = None) -> Any:
    """Open a source, and return an RGB picture as a Pillow image.

    `source` is a path, the bytes of a file, or any other argument that `open_picture` accepts.
    `max_pixels` is the argument of `open_picture`.
    Raises PictureError or OSError if the source cannot be read.
    """
    try:
        return open_picture(source, max_pixels=max_pixels)
    except PictureError:
        if isinstance(source, str) and os.path.isdir(source):
            os.listdir(source)            # raises PermissionError for a folder that cannot be read
            raise PictureError(f"the folder {source} contains no picture; expected files whose names end in "
                               f"{SUFFIXES[0]}, {SUFFIXES[4]}, … The option -r also searches the folders inside a "
                               "folder.") from None
        raise


def source_name(source: Any) -> str:
    """Return the path that is written into the row of a source.  A picture that is not in a file has the path "-"."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "-"


def matches(name: str) -> list[str]:
    """Return the files and folders that an input names: the matches of a glob, otherwise the input itself."""
    if glob.has_magic(name) and not os.path.lexists(name):
        return sorted(glob.glob(name, recursive=True), key=os.fsencode)
    return [name]


def _pictures(name, recursive, stdin, left_out):
    if name == "-":
        return _pictures_on_stdin(stdin.read(), recursive, left_out)
    return list(chain.from_iterable(_pictures_at(match, recursive, left_out) for match in matches(name))) or [name]


def _pictures_on_stdin(data, recursive, left_out):
    if not data or begins_as_picture(data):
        return [data]
    data = data.removeprefix(codecs.BOM_UTF8)
    names = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return list(chain.from_iterable(_pictures_at(os.fsdecode(name), recursive, left_out) for name in names if name))


def _pictures_at(path, recursive, left_out):
    """Return the pictures at the path of a file or folder.  Count in `left_out` what is left out."""
    if not os.path.isdir(path):
        return [path]
    found = []
    # A folder without read permission is put into the list, so that its row contains an error.
    for folder, folders, files in os.walk(path, onerror=lambda error: found.append(error.filename)):
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found.append(os.path.join(folder, name))
            else:
                left_out[_kind_of_file(name)] += 1
        for name in folders:
            if name.startswith("."):
                left_out[HIDDEN] += 1
            elif not recursive:
                left_out[NOT_SEARCHED] += 1
            elif os.path.islink(os.path.join(folder, name)):
                left_out[LINK] += 1
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
    return sorted(found, key=os.fsencode) or [path]


def _kind_of_file(name):
    return HIDDEN if name.startswith(".") else os.path.splitext(name)[1].lower() or NO_SUFFIX
