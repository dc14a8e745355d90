"""What several verbs share: their options, the types of the values, and what is done with them."""
import argparse
import sys

# The values that ops accepts. They are repeated here because importing ops imports NumPy.
ENGINES = ("numba", "reference")
DTYPES = ("float32", "float64", "bfloat16")
PRECISIONS = ("highest", "high")

BUNDLED = "the CIFAR-10 model that comes with nphybrid"


# ---------------------------------------------------------------- types

def positive(text: str) -> int:
    """A type of argparse: a whole number from 1 to 2**31 - 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    if int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number below 2**31, found {text}")
    return int(text)


# ---------------------------------------------------------------- options

def add_pictures(verb):
    """The options of the verbs that process many pictures, for `find_pictures` and `loading.compute_rows`."""
    verb.add_argument("images", nargs="+", metavar="IMAGE",
                      help="a file, a folder, a glob, or - to read stdin, which holds one picture or a list of names")
    verb.add_argument("-r", "--recursive", action="store_true", help="also read the folders inside a folder")
    verb.add_argument("--batch", type=positive, default=8, metavar="N",
                      help="how many pictures are computed at once (default 8); the rows do not depend on it")
    verb.add_argument("--resume", action="store_true", help="continue what an interrupted run has written")
    verb.add_argument("--scheduler", metavar="ADDRESS", help="compute on the workers of this Dask cluster, which must "
                                                             "see the same files")
    verb.add_argument("--quiet", action="store_true", help="print neither progress nor errors on stderr")


def add_model(verb):
    """--model, for `loading.load_model`."""
    verb.add_argument("--model", help=f"a file, a folder, or owner/name on the Hugging Face hub (default: {BUNDLED})")


def add_head(verb):
    """--head, for `loading.load_model`."""
    verb.add_argument("--head", metavar="HEAD.h5",
                      help="a classifier that `nphybrid probe fit` wrote; it replaces the model's own")


def add_engine(verb):
    """--engine, --dtype, --precision and --threads, for `loading.load_model`."""
    verb.add_argument("--engine", choices=ENGINES, default="numba",
                      help="the implementation of the operations: numba is fast, reference is plain NumPy "
                           "(default numba)")
    verb.add_argument("--dtype", choices=DTYPES, default="float32",
                      help="the dtype of the weights and the states (default float32); float64 needs --engine "
                           "reference, bfloat16 needs --engine numba")
    verb.add_argument("--precision", choices=PRECISIONS, default="highest",
                      help="high allows products of 16 bits instead of 24 where they are faster, which is on AMX "
                           "only (default highest)")
    verb.add_argument("--threads", type=positive, metavar="N", help="how many threads (default: one per core)")


def add_labels(verb):
    """--labels, for `loading.relabel`."""
    verb.add_argument("--labels", metavar="FILE", help="names of the classes: one name a line, or a JSON list or "
                                                       "object (default: the model's own names)")


def add_format(verb, *more):
    """--format, for `show`.  more: the formats that a verb has beside text and JSON."""
    verb.add_argument("--format", choices=("text", "json", *more), default="text",
                      help="the format of the output (default text)")


# ---------------------------------------------------------------- what is done with their values

def find_pictures(args) -> list:
    """The pictures that the options of `add_pictures` name.  -> list of paths, or bytes for a picture on stdin"""
    from ..batch import inputs
    return inputs.find_pictures(args.images, args.recursive, sys.stdin.buffer if "-" in args.images else None)


def show(args, document, text: str):
    """Print a result in the format that --format names: `document` as JSON, or `text`."""
    import json
    print(json.dumps(document, indent=2) if args.format == "json" else text)
