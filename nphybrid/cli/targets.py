"""Checks of a file that will be written, before anything is computed."""
import contextlib
import os


def check_target(args, path: str, suffix: str):
    """Raise ValueError or OSError for a path that cannot be written: its name, its folder, or a file that is read."""
    folder = os.path.dirname(os.path.realpath(path))
    if not path.endswith(suffix):
        raise ValueError(f"{path!r} cannot be written: expected a name that ends in {suffix}")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{path}: there is no folder {folder}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} cannot be replaced: it is not a regular file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: no permission to write in {folder}")
    images = getattr(args, "images", [getattr(args, "image", None)])
    stdin = "/dev/stdin" if "-" in images else None
    refuse_what_is_read(path, [*images, args.model, getattr(args, "head", None), getattr(args, "labels", None), stdin])


def refuse_what_is_read(path: str, names):
    """Raise ValueError for a file to write that is also one of the files to read.  names: other types than str are
    ignored"""
    if not os.path.exists(path):
        return
    target = os.stat(path)
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            if isinstance(name, str) and os.path.samestat(os.stat(name), target):
                break
    else:
        return
    raise ValueError(f"{path} cannot be replaced: it is what is read")
