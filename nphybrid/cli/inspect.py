"""The verb `inspect` prints which tensors and settings a file contains."""
from .options import add_format, show

DESCRIPTION = """\
Print what a file of a model, of features or of a classifier contains. The report states the SHA-256 of the file and
the naming scheme of the tensors, and has a row for each tensor. No tensor is loaded. To compute the SHA-256, all
bytes of the file are read.
"""

EXAMPLES = """\
examples:
  nphybrid inspect model.h5
  nphybrid inspect folder --format json
"""


def add(verb):
    """Add the options of `inspect` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("path", metavar="PATH", help="a file of weights, an index of shards, a config.json, a folder, or "
                                                   "owner/name on the Hugging Face hub")
    add_format(verb)


def run(args):
    """Print which tensors and settings a file contains."""
    from ..modelfile.inspect import format_text, inspect_file
    report = inspect_file(args.path)
    show(args, report, format_text(report))
    return 0
