"""Makes a list of pictures from the inputs of a command.

An input that is a file is one picture. The name of the file may have any suffix.

An input that is a folder is replaced by the pictures in it, sorted by the bytes of their paths. A file in a folder
counts as a picture if its name ends in one of SUFFIXES, in upper or lower case. With `recursive`, the folders inside a
folder are searched too. Inside a folder, files and folders whose names begin with a dot are ignored, and symbolic links
to folders are not followed.

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
from collections.abc import Iterable
from itertools import chain
from typing import IO, Any

from ..pictures.decode import PictureError, begins_as_picture, open_picture

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm",
            ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx")


def find_pictures(inputs: Iterable[str], recursive: bool = False, stdin: IO[bytes] | None = None) -> list[str | bytes]:
    """Return the list of pictures of a command.

    Each item of the list is a path, or the bytes of a picture from stdin.
    `inputs` are names as described at the top of this file.
    `stdin` is an open binary file. If an input is "-", `stdin` is read to its end.

    >>> find_pictures(["examples/images", "nothing.png", "examples/images/c*"])
    ['examples/images/cat.png', 'examples/images/explain.png', 'nothing.png', 'examples/images/cat.png']
    >>> import io
    >>> find_pictures(["-"], stdin=io.BytesIO(b"b.png\\na.png\\n"))
    ['b.png', 'a.png']
    """
    return list(chain.from_iterable(_pictures(name, recursive, stdin) for name in inputs))


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
            raise PictureError(f"the folder {source} contains no picture; expected files whose names end in "
                               f"{SUFFIXES[0]}, {SUFFIXES[4]}, … The option -r also searches the folders inside a "
                               "folder.") from None
        raise


def source_name(source: Any) -> str:
    """Return the path that is written into the row of a source.  A picture that is not in a file has the path "-"."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "-"


def _pictures(name, recursive, stdin):
    if name == "-":
        return _pictures_on_stdin(stdin.read(), recursive)
    if glob.has_magic(name) and not os.path.lexists(name):
        matches = sorted(glob.glob(name, recursive=True), key=os.fsencode)
        return list(chain.from_iterable(_pictures_at(match, recursive) for match in matches)) or [name]
    return _pictures_at(name, recursive)


def _pictures_on_stdin(data, recursive):
    if not data or begins_as_picture(data):
        return [data]
    data = data.removeprefix(codecs.BOM_UTF8)
    names = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return list(chain.from_iterable(_pictures_at(os.fsdecode(name), recursive) for name in names if name))


def _pictures_at(path, recursive):
    """Return the pictures at the path of a file or folder."""
    if not os.path.isdir(path):
        return [path]
    found = []
    # A folder without read permission is put into the list, so that its row contains an error.
    for folder, folders, files in os.walk(path, onerror=lambda error: found.append(error.filename)):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found.extend(os.path.join(folder, name) for name in files
                     if name.lower().endswith(SUFFIXES) and not name.startswith("."))
    return sorted(found, key=os.fsencode) or [path]
