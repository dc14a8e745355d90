"""What a file holds, by its header."""
from .options import add_format, show


def add(verbs):
    """A path."""
    verb = verbs.add_parser("inspect", help="print what a model file holds: tensors, checksums, whose names")
    verb.add_argument("path", metavar="PATH",
                      help="a weight file, an index of shards, a config.json, a folder, or owner/name on the hub")
    add_format(verb)
    return verb


def run(args):
    """Print what a file holds, by its header."""
    from ..modelfile.inspect import inspected, shown
    found = inspected(args.path)
    show(args, found, shown(found))
    return 0
