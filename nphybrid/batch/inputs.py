"""The inputs of a command -> the list of its pictures.

    a file        the file itself, whatever its name
    a folder      the files in it whose names end like those of pictures (SUFFIXES, in upper or lower case) and do not
                  begin with a dot, in the byte order of their paths; with `recursive`, also those in its folders,
                  except folders whose names begin with a dot and symbolic links
    a glob        its matches (`**` is any number of folders) in byte order, each treated as if it were given; a name
                  that exists is not a glob
    -             stdin: one picture, or names of files and folders, separated by NUL or by line ends

The list keeps the order of the inputs, and a picture that is named twice is in it twice. An input without a picture
(a path where no file is, an empty folder, a glob without a match) is itself put into the list, so that it becomes a row
with an error.
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
    """The pictures of a command: paths, and the bytes of a picture that came on stdin.

    inputs: names, as above. stdin: an open binary file, which is read to its end for the name "-".

    >>> find_pictures(["examples/images", "nothing.png", "examples/images/c*"])
    ['examples/images/cat.png', 'examples/images/explain.png', 'nothing.png', 'examples/images/cat.png']
    >>> import io
    >>> find_pictures(["-"], stdin=io.BytesIO(b"b.png\\na.png\\n"))
    ['b.png', 'a.png']
    """
    return list(chain.from_iterable(_pictures(name, recursive, stdin) for name in inputs))


def open_source(source: Any) -> Any:
    """The RGB picture (a Pillow image) of a source: a path, the bytes of a file, or whatever `open_picture` takes.

    Raises PictureError and OSError.
    """
    try:
        return open_picture(source)
    except PictureError:
        if isinstance(source, str) and os.path.isdir(source):
            raise PictureError(f"{source}: a folder without a picture; expected names that end in {SUFFIXES[0]}, "
                               f"{SUFFIXES[4]}, … (-r also reads the folders in it)") from None
        raise


def source_name(source: Any) -> str:
    """The path of a source as a row shows it, or "-" for a picture that came on stdin."""
    return "-" if isinstance(source, bytes) else os.fspath(source)


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
    """The pictures of a file or folder."""
    if not os.path.isdir(path):
        return [path]
    found = []
    # A folder that may not be read is put into the list, like a folder without pictures.
    for folder, folders, files in os.walk(path, onerror=lambda error: found.append(error.filename)):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found.extend(os.path.join(folder, name) for name in files
                     if name.lower().endswith(SUFFIXES) and not name.startswith("."))
    return sorted(found, key=os.fsencode) or [path]
