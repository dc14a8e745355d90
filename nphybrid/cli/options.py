"""Defines the options that several verbs share, and the functions that use these options."""
import argparse
import sys

# The values that the package nphybrid.ops accepts. The values are repeated here, so that --help does not import NumPy.
ENGINES = ("numba", "reference")
DTYPES = ("float32", "float64", "bfloat16", "int8")
PRECISIONS = ("highest", "high")

BUNDLED = "the CIFAR-10 model that comes with nphybrid"


# ---------------------------------------------------------------- types

def positive(text: str) -> int:
    """Convert a text to a whole number from 1 to 2**31 - 1.  argparse uses `positive` as a type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}; expected a whole number that is 1 or larger")
    if int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"found {text}; expected a whole number below 2**31")
    return int(text)


# ---------------------------------------------------------------- options

def add_pictures(verb):
    """Add the options of verbs that process many pictures.

    `find_pictures` and `loading.compute_rows` read these options.
    """
    verb.add_argument("images", nargs="+", metavar="IMAGE",
                      help="a file, a folder, a glob, or - for stdin. stdin contains one picture or a list of names.")
    verb.add_argument("-r", "--recursive", action="store_true", help="also search the folders inside a folder")
    verb.add_argument("--batch", type=positive, default=8, metavar="N",
                      help="the number of pictures that are computed together (default 8). The rows do not depend on "
                           "--batch.")
    verb.add_argument("--resume", action="store_true", help="continue the output file of an interrupted run")
    verb.add_argument("--scheduler", metavar="ADDRESS",
                      help="the address of a Dask scheduler. The workers of the scheduler compute the pictures. Each "
                           "worker must be able to read the picture files and the model.")
    verb.add_argument("--quiet", action="store_true", help="print neither progress nor errors on stderr")


def add_model(verb):
    """Add the option --model, which `loading.load_model` reads."""
    verb.add_argument("--model", help=f"a file, a folder, or owner/name on the Hugging Face hub (default: {BUNDLED})")


def add_head(verb):
    """Add the option --head, which `loading.load_model` reads."""
    verb.add_argument("--head", metavar="HEAD.h5",
                      help="a file that `nphybrid probe fit` wrote. The classifier in HEAD.h5 replaces the classifier "
                           "of the model.")


def add_engine(verb):
    """Add the options --engine, --dtype, --precision and --threads, which `loading.load_model` reads."""
    verb.add_argument("--engine", choices=ENGINES, default="numba",
                      help="the implementation of the operations (default numba). The engine numba is fast. The engine "
                           "reference is written in plain NumPy.")
    verb.add_argument("--dtype", choices=DTYPES,
                      help="the dtype of the computation (default: the dtype of a file that `nphybrid convert --dtype` "
                           "wrote, else float32). With bfloat16 and int8, the factors of "
                           "matrix products have 16 and 8 bits. The dtype float64 needs --engine reference.")
    verb.add_argument("--precision", choices=PRECISIONS, default="highest",
                      help="the precision of float32 matrix products (default highest). With the precision highest, "
                           "numbers with 24 significant bits are multiplied. With the precision high, processors with "
                           "AMX multiply numbers with 16 significant bits, which is faster.")
    verb.add_argument("--threads", type=positive, metavar="N",
                      help="the number of threads (default: the number of cores)")


def add_labels(verb):
    """Add the option --labels, which `loading.relabel` reads."""
    verb.add_argument("--labels", metavar="FILE",
                      help="a file with the names of the classes (default: the names that the model contains). The "
                           "file contains one name on each line, or a JSON list or object.")


def add_format(verb, *more):
    """Add the option --format, which `show` reads.  `more` lists further formats beside text and JSON."""
    verb.add_argument("--format", choices=("text", "json", *more), default="text",
                      help="the format of the output (default text)")


def add_depth(verb):
    """Add the option --depth, which groups the rows of a table."""
    verb.add_argument("--depth", type=positive, metavar="N",
                      help="the number of levels of the table (default: all levels). With --depth 1, a hybrid has one "
                           "row for each of pixel_values, stem, stages, tokens, blocks, norm and logits.")


# ---------------------------------------------------------------- functions that use the options

def find_pictures(args) -> list:
    """Return the pictures that the options of `add_pictures` name.

    Each item of the list is a path, or the bytes of a picture on stdin.
    """
    from ..batch import inputs
    return inputs.find_pictures(args.images, args.recursive, sys.stdin.buffer if "-" in args.images else None)


def show(args, document, text: str):
    """Print `document` as JSON if --format is json, otherwise print `text`."""
    import json
    print(json.dumps(document, indent=2) if args.format == "json" else text)
