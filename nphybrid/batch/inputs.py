"""What a command was given -> the list of its pictures.

    a file        itself, whatever its name
    a folder      the files in it whose names end as those of pictures do (SUFFIXES, in capitals too) and do not begin
                  with a dot, in the byte order of their paths; with `recursive`, its folders' too, unless their names
                  begin with a dot or they are symbolic links
    a glob        what it matches (`**` is any number of folders), in byte order, each as if it were given; a name that
                  exists is no glob
    -             what comes on stdin: one picture, or names of files and folders, separated by NUL or by line ends

The order is that of the inputs, and what is named twice is there twice. An input that gives no picture (a path where
nothing is, an empty folder, a glob without a match) stands in the list itself, so that it becomes a row with an error.
"""
import codecs
import glob
import os
from itertools import chain

from ..pictures.decode import PictureError, begins_as_picture, open_picture

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm",
            ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx")


def find_pictures(inputs, recursive=False, stdin=None):
    """The pictures of a command: paths, and the bytes of a picture that came on stdin.  -> list of str and bytes

    inputs: names, as above. stdin: an open binary file, read to its end where a name is "-".

    >>> listed(["examples/images", "nothing.png", "examples/images/c*"])
    ['examples/images/cat.png', 'examples/images/explain.png', 'nothing.png', 'examples/images/cat.png']
    >>> import io
    >>> listed(["-"], stdin=io.BytesIO(b"b.png\\na.png\\n"))
    ['b.png', 'a.png']
    """
    return list(chain.from_iterable(_pictures(name, recursive, stdin) for name in inputs))


def opened(source):
    """The picture of a source: a path, the bytes of a file, or whatever else `open_picture` takes.  -> RGB picture

    Raises PictureError and OSError.
    """
    try:
        return open_picture(source)
    except PictureError:
        if isinstance(source, str) and os.path.isdir(source):
            raise PictureError(f"{source}: a folder without a picture; expected names that end in {SUFFIXES[0]}, "
                               f"{SUFFIXES[4]}, … (its folders are read with -r)") from None
        raise


def source_name(source):
    """What a row calls a source: its path, or "-" for a picture that came on stdin."""
    return "-" if isinstance(source, bytes) else os.fspath(source)


def _pictures(name, recursive, stdin):
    if name == "-":
        return _of_stdin(stdin.read(), recursive)
    if glob.has_magic(name) and not os.path.lexists(name):
        matches = sorted(glob.glob(name, recursive=True), key=os.fsencode)
        return list(chain.from_iterable(_of_path(match, recursive) for match in matches)) or [name]
    return _of_path(name, recursive)


def _of_stdin(data, recursive):
    if not data or begins_as_picture(data):
        return [data]
    data = data.removeprefix(codecs.BOM_UTF8)
    names = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return list(chain.from_iterable(_of_path(os.fsdecode(name), recursive) for name in names if name))


def _of_path(path, recursive):
    if not os.path.isdir(path):
        return [path]
    found = []
    # A folder that may not be read stands in the list, as one without pictures does.
    for folder, folders, files in os.walk(path, onerror=lambda error: found.append(error.filename)):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [os.path.join(folder, name) for name in files
                  if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(found, key=os.fsencode) or [path]
