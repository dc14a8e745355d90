"""A model in another format."""
import os
import sys

from .loading import relabel
from .options import add_labels

DESCRIPTION = """\
Write a model in another format, and print what it holds and what was lost. What the target cannot hold is refused,
unless --lossy is given.
"""

EXAMPLES = """\
examples:
  nphybrid convert google/vit-hybrid-base-bit-384 model.h5
  nphybrid convert model.h5 folder
  nphybrid convert model.h5 folder --to timm --lossy
"""


def add(verb):
    """From where, to where, and what may be lost."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("source", metavar="SOURCE",
                      help="a file, a folder, or owner/name[@revision] on the Hugging Face hub")
    verb.add_argument("target", metavar="TARGET",
                      help="a .h5 file, which holds everything; a .npz file with Google's names; or a new folder")
    verb.add_argument("--to", choices=("h5", "huggingface", "timm", "google"),
                      help="the format (default: by the name of TARGET; huggingface for a folder)")
    verb.add_argument("--lossy", action="store_true", help="write what the target can hold, and list what is lost")
    add_labels(verb)


def run(args):
    """Write a model in another format, and print what it holds and what was lost."""
    from ..api.load import load
    from ..batch.identity import ModelFile
    from ..modelfile import convert
    convert.target_format(args.target, args.to)
    file = ModelFile(args.source)
    model = load(file.path, engine="reference")
    if args.labels:
        relabel(model, args.labels)
    source = {"name": _source_name(args.source, file.path), "sha256": file.sha256()}
    losses, change = convert.convert(model, args.target, args.to, args.lossy, source)
    print(f"{args.target}: {type(model).__name__}, {model.num_parameters():,} parameters, "
          f"{_size(args.target):,} bytes, source sha256 {source['sha256']}")
    if losses:
        print(f"lost:\n{convert.format_losses(losses)}\nthe golden logits change by {change:.2g} of their standard "
              "deviation", file=sys.stderr)
    return 0


def _source_name(source, path):
    """The name of a file or folder; owner/name@commit of a model on the hub, whose folder is named after the commit."""
    name = os.path.basename(os.path.abspath(path))
    return name if os.path.exists(source) else f"{source.partition('@')[0]}@{name}"


def _size(path):
    """Bytes of a file, or of the files of a folder."""
    paths = [os.path.join(path, name) for name in os.listdir(path)] if os.path.isdir(path) else [path]
    return sum(map(os.path.getsize, paths))
