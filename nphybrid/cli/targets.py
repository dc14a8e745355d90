"""Checks that a file can be written, before anything is computed."""
import contextlib
import os


def check_target(args, path: str, suffix: str):
    """Raise ValueError or OSError if the file at a path cannot be written.

    The name of the file must end in `suffix`. The folder of the file must exist and be writable. The output file must
    not be an input file.
    """
    from ..tensorfile import refuse_file
    if not path.endswith(suffix):
        raise ValueError(f"the output file {path!r} cannot be written; expected a name that ends in {suffix}")
    refuse_file(path)
    images = getattr(args, "images", [getattr(args, "image", None)])
    stdin = "/dev/stdin" if "-" in images else None
    others = [getattr(args, name, None) for name in ("head", "processor", "class_names", "truth")]
    refuse_what_is_read(path, [*images, args.model, *others, stdin])


def refuse_what_is_read(path: str, names):
    """Raise ValueError if the output file `path` is also one of the input files `names`.

    Items of `names` that are not strings are ignored.
    """
    if not os.path.exists(path):
        return
    target = os.stat(path)
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            if isinstance(name, str) and os.path.samestat(os.stat(name), target):
                break
    else:
        return
    raise ValueError(f"the output file {path} cannot be written, because it is also an input file")
