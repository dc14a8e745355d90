"""A model in another format."""
import os
import sys

from .loading import relabel
from .options import add_labels


def add(verbs):
    """From where, to where, and what may be lost."""
    verb = verbs.add_parser("convert", help="write a model in another format")
    verb.add_argument("source", metavar="SOURCE", help="a file or folder, or owner/name[@revision] on the hub")
    verb.add_argument("target", metavar="TARGET",
                      help="a .h5, which loses nothing; a .npz with Google's names; or a folder")
    verb.add_argument("--to", choices=("h5", "huggingface", "timm", "google"),
                      help="what the target's name does not tell: a folder of timm (default huggingface)")
    verb.add_argument("--lossy", action="store_true", help="write what the target can hold, and list what is lost")
    add_labels(verb)
    return verb


def run(args):
    """Write a model in another format, and print what it holds and what was lost."""
    from .. import checkpoint
    from ..api.load import load
    from ..checkpoint import hub
    from ..modelfile import convert
    convert.format_of(args.target, args.to)
    path = hub.resolve(args.source)
    model = load(path, engine="reference")
    if args.labels:
        relabel(model, args.labels)
    # The folder of a model that was fetched is named after its commit.
    here = os.path.basename(os.path.abspath(path))
    name = here if os.path.exists(args.source) else f"{args.source.partition('@')[0]}@{here}"
    digest = checkpoint.sha256(path)
    source = {"name": name, "sha256": digest}
    lost, moved = convert.convert(model, args.target, args.to, args.lossy, source)
    print(f"{args.target}: {type(model).__name__}, {model.num_parameters():,} parameters, "
          f"{_size(args.target):,} bytes, source sha256 {digest}")
    if lost:
        print(f"lost:\n{convert.listed(lost)}\nthe golden logits move by {moved:.2g} of their standard deviation",
              file=sys.stderr)
    return 0


def _size(path):
    """Bytes of a file, or of the files of a folder."""
    return sum(map(os.path.getsize, [os.path.join(path, name) for name in os.listdir(path)])
               if os.path.isdir(path) else [os.path.getsize(path)])
