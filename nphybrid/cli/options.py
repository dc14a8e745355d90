"""Defines the options that several verbs share, and the functions that use these options."""
import argparse
import math
import sys

from ..pictures import MAX_PIXELS
from ..shortage import path_in_errors
from ..text import is_url, url_refusal

# The values that the package nphybrid.ops accepts. The values are repeated here, so that --help does not import NumPy.
ENGINES = ("numba", "reference")
DTYPES = ("float32", "float64", "bfloat16", "int8")
PRECISIONS = ("highest", "high")
FUNCTIONS = ("softmax", "sigmoid", "none")

BUNDLED = "the CIFAR-10 model that comes with nphybrid"


# ---------------------------------------------------------------- types

def positive(text: str) -> int:
    """Convert a text to a whole number from 1 to 2**31 - 1.  argparse uses `positive` as a type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}; expected a whole number that is 1 or larger")
    if int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"found {text}; expected a whole number below 2**31")
    return int(text)


def whole(text: str) -> int:
    """Convert a text to a whole number from 0 to 2**31 - 1.  argparse uses `whole` as a type."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"found {text}; expected a whole number from 0 to 2**31 - 1")
    return int(text)


def number(text: str) -> float:
    """Convert a text to a finite number.  argparse uses `number` as a type."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"found {text}; expected a finite number")
    return value


# ---------------------------------------------------------------- options

def add_pictures(verb):
    """Add the options of verbs that process many pictures.

    `find_pictures` and `loading.compute_rows` read these options.
    """
    verb.add_argument("images", nargs="+", metavar="IMAGE",
                      help="a file, a folder, a glob, or - for stdin. stdin contains one picture or a list of names. "
                           "Colour profiles and gamma of pictures are not applied.")
    verb.add_argument("-r", "--recursive", action="store_true", help="also search the folders inside a folder")
    verb.add_argument("--batch", type=positive, default=8, metavar="N",
                      help="the number of pictures that are computed together (default 8). The rows do not depend on "
                           "--batch.")
    verb.add_argument("--resume", action="store_true", help="continue the output file of an interrupted run")
    verb.add_argument("--scheduler", metavar="ADDRESS",
                      help="the address of a Dask scheduler. The workers of the scheduler compute the pictures. Each "
                           "worker must be able to read the picture files and the model.")
    verb.add_argument("--quiet", action="store_true", help="print neither progress nor errors on stderr")
    add_max_pixels(verb)


def add_max_pixels(verb):
    """Add the option --max-pixels, which `cli.main` reads."""
    verb.add_argument("--max-pixels", type=positive, metavar="N",
                      help=f"refuse a picture with more than N pixels, rows times columns (default {MAX_PIXELS:,}). "
                           "Decoding a picture may need 24 bytes for each pixel.")


def add_model(verb):
    """Add the options --model and --processor, which `loading.load_model` reads."""
    verb.add_argument("--model",
                      help="a file, a folder, or owner/name on the Hugging Face hub. `nphybrid models` lists published "
                           f"models (default: {BUNDLED}).")
    verb.add_argument("--processor", metavar="FILE",
                      help="a preprocessor_config.json, or a model that contains one. Pictures are prepared with its "
                           "options (default: the options that the model contains).")


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
                           "AMX multiply numbers with 16 significant bits, which needs half as many products.")
    verb.add_argument("--threads", type=positive, metavar="N",
                      help="the number of threads (default: the number of cores that this process may use). "
                           "NUMBA_NUM_THREADS and OMP_NUM_THREADS do not change it.")


def add_class_names(verb, old_name=True):
    """Add the option --class-names, which `loading.load_model` reads.

    With `old_name`, the old name --labels is accepted too.
    """
    verb.add_argument("--class-names", metavar="FILE",
                      help="a file with the names of the classes (default: the names that the model contains). The "
                           "file contains one name on each line, or a JSON list or object."
                           + (" The old name --labels also works." if old_name else ""))
    if old_name:
        verb.add_argument("--labels", dest="class_names", help=argparse.SUPPRESS)


def add_truth(verb):
    """Add the option --truth with the classes of the pictures, which `evaluate.find_known` reads."""
    verb.add_argument("--truth", metavar="LABELS.csv",
                      help="a file with the classes of the pictures. Each line is path,label or a label alone. A path "
                           "is looked up in the current folder, in the folder of LABELS.csv, and in FOLDER. Lines "
                           "without a path must have the order of the pictures. The old name --labels also works.")
    verb.add_argument("--labels", dest="truth", help=argparse.SUPPRESS)


def add_scores(verb):
    """Add the options --top-k, --function-to-apply and --threshold, which `rows.labelled_fields` needs."""
    verb.add_argument("--top-k", type=positive, default=5, metavar="N",
                      help="the largest number of labels for each picture (default 5)")
    verb.add_argument("--function-to-apply", choices=FUNCTIONS,
                      help="the function that computes the scores from the logits, as in the pipeline of transformers "
                           "(default: none for a regression, sigmoid for models with several labels for each picture "
                           "and for models with one class, else softmax). With none, the scores are the logits.")
    verb.add_argument("--threshold", type=number, metavar="X",
                      help="leave out labels whose score is below X (default: no label is left out). Scores are "
                           "between 0 and 1, except with --function-to-apply none.")


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
    """Return the pictures that the options of `add_pictures` name.  Tell on stderr what was left out in folders.

    Each item of the list is a path, or the bytes of a picture on stdin.
    """
    from collections import Counter

    from ..batch import inputs
    left_out = Counter()
    stdin = sys.stdin.buffer if "-" in args.images else None
    sources = inputs.find_pictures(args.images, args.recursive, stdin, left_out)
    for source in sources:
        if is_url(source):                # from a list on stdin
            raise ValueError(url_refusal(source))
    tell_left_out(args, left_out)
    return sources


def tell_left_out(args, left_out):
    """Print one line on stderr about the files of folders that are not read.  `left_out` is a Counter."""
    from ..batch import inputs
    if left_out and not args.quiet:
        print(f"nphybrid: {inputs.left_out_text(left_out)}", file=sys.stderr)


def say(text: str, end: str = "\n", flush: bool = False):
    """Print a text on stdout.  An OSError names stdout."""
    with path_in_errors("stdout"):
        print(text, end=end, flush=flush)


def show(args, document, text: str):
    """Print `document` as JSON if --format is json, otherwise print `text`."""
    import json
    say(json.dumps(document, indent=2) if args.format == "json" else text)
