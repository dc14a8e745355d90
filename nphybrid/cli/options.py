"""What several verbs share: options, the types of their values, and what is done with them."""
import argparse
import json
import sys

# Those of ops, which would import NumPy.
ENGINES, DTYPES, PRECISIONS = ("numba", "reference"), ("float32", "float64", "bfloat16"), ("highest", "high")


# ---------------------------------------------------------------- options

def add_model(verb):
    """--model, of the verbs that look at pictures, for `load_model`."""
    verb.add_argument("--model", help="a file or folder, or owner/name on the hub (default: the CIFAR-10 "
                                      "model that comes along)")


def add_head(verb):
    """--head, for `load_model`."""
    verb.add_argument("--head", metavar="HEAD.h5", help="a head of `nphybrid probe fit` in the place of the model's")


def add_arithmetic(verb):
    """How to compute, for `load_model`."""
    verb.add_argument("--engine", choices=ENGINES, default="numba")
    verb.add_argument("--dtype", choices=DTYPES, default="float32")
    verb.add_argument("--precision", choices=PRECISIONS, default="highest",
                      help="high: less of float32 where that is faster, on AMX (default highest)")
    verb.add_argument("--threads", type=positive, metavar="N", help="how many threads (default: every core)")


def add_labels(verb):
    """--labels, for `relabel`."""
    verb.add_argument("--labels", metavar="FILE", help="what to call the classes: one name a line, or a JSON list or "
                                                       "object (default: the model's own names)")


def add_format(verb, *more):
    """--format, for `show`; more: what a verb knows beyond text and JSON."""
    verb.add_argument("--format", choices=("text", "json", *more), default="text")


def positive(text):
    """A type of argparse: an int of 1 or more."""
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of 1 or more, below 2**31")
    return int(text)


def add_pictures(verb):
    """Which pictures, and how they are gone through, for `pictures` and `apps.run`."""
    verb.add_argument("images", nargs="+", metavar="IMAGE",
                      help="a file, a folder, a glob, or - for a picture or a list of names on stdin")
    verb.add_argument("-r", "--recursive", action="store_true", help="also the folders in a folder")
    verb.add_argument("--batch", type=positive, default=8, metavar="N",
                      help="how many pictures are computed at once (default 8); no row depends on it")
    verb.add_argument("--resume", action="store_true", help="go on with what an interrupted run has written")
    verb.add_argument("--scheduler", metavar="ADDRESS", help="let the workers of this Dask cluster compute; they must "
                                                             "see the same files")
    verb.add_argument("--quiet", action="store_true", help="no progress and no errors on stderr")


# ---------------------------------------------------------------- what is done with them

def pictures(args):
    """The list that `add_pictures` asks for.  -> list of paths, or bytes for a picture on stdin"""
    from ..batch.inputs import find_pictures
    return find_pictures(args.images, args.recursive, sys.stdin.buffer if "-" in args.images else None)


def show(args, document, text):
    """Print what was found in the format that was asked for: as JSON, or as a text."""
    print(json.dumps(document, indent=2) if args.format == "json" else text)
