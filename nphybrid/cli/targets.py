"""Checks of a file that will be written, made before anything is computed."""
import contextlib
import os


def check_target(args, path, suffix):
    """Raise what is wrong with the place of a file that is to be written, before anything is computed."""
    folder = os.path.dirname(os.path.realpath(path))
    if not path.endswith(suffix):
        raise ValueError(f"{path!r} is no name for what is written here; expected one that ends in {suffix}")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{path}: there is no folder {folder}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} cannot be replaced: it is no regular file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: nothing may be written in {folder}")
    images = getattr(args, "images", [getattr(args, "image", None)])
    refuse_what_is_read(path, [*images, args.model, getattr(args, "head", None), getattr(args, "labels", None),
                               "/dev/stdin" if "-" in images else None])


def refuse_what_is_read(path, names):
    """Raise ValueError for a file that is to be written and is one of those that are read.  names: what is no str is
    none of them"""
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
