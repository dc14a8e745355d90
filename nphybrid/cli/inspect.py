"""What a file holds, according to its header."""
from .options import add_format, show

DESCRIPTION = """\
Print what a file of a model, of features or of a classifier holds: SHA-256, whose names the tensors have, and a
row per tensor. No array is loaded.
"""


def add(verb):
    """A path."""
    verb.description = DESCRIPTION
    verb.add_argument("path", metavar="PATH", help="a file of weights, an index of shards, a config.json, a folder, or "
                                                   "owner/name on the Hugging Face hub")
    add_format(verb)


def run(args):
    """Print what a file holds, according to its header."""
    from ..modelfile.inspect import format_text, inspect_file
    report = inspect_file(args.path)
    show(args, report, format_text(report))
    return 0
