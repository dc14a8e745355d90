"""The verb `convert` writes a model in another format."""
import os
import sys

from .loading import refuse_preset, relabel
from .options import add_class_names, say
from .targets import refuse_what_is_read

DESCRIPTION = """\
Write a model in another format, and print a summary of the written file. Some formats cannot store every property of a
model. By default, a conversion that loses properties is refused. With --lossy, the conversion may lose properties, and
the lost properties are printed.
"""

EXAMPLES = """\
examples:
  nphybrid convert google/vit-hybrid-base-bit-384 model.h5
  nphybrid convert model.h5 folder
  nphybrid convert model.h5 folder --to timm --lossy
  nphybrid convert model.h5 small.h5 --dtype int8
  nphybrid convert model.h5 folder --dtype int8
"""


def add(verb):
    """Add the options of `convert` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("source", metavar="SOURCE",
                      help="a file, a folder, or owner/name or owner/name@revision on the Hugging Face hub")
    verb.add_argument("target", metavar="TARGET",
                      help="the path to write: an .h5 file, an .npz file with Google's parameter names, or a new "
                           "folder. Other suffixes are refused. Without --dtype, only an .h5 file can store every "
                           "property of a model. "
                           "The folder of a file must exist. Missing parents of a new folder are created. If "
                           "an array of SOURCE is float64, all arrays of TARGET are float64.")
    verb.add_argument("--to", choices=("h5", "huggingface", "timm", "google"),
                      help="the format of TARGET (default: huggingface for a folder, h5 for .h5, google for .npz)")
    verb.add_argument("--lossy", action="store_true",
                      help="allow the conversion to lose properties of the model, and print the lost properties")
    verb.add_argument("--dtype", choices=("bfloat16", "int8"),
                      help="round the weights of an .h5 file or of a folder of Hugging Face. TARGET is about two to "
                           "four times smaller, and only nphybrid can read it, in this dtype. It stores every property "
                           "of the model, but the weights before rounding cannot be restored from it. If SOURCE is "
                           "such a file or folder, TARGET gets the same weights.")
    add_class_names(verb)


def run(args):
    """Convert the model.  Print a summary of the written file and the lost properties."""
    from .. import checkpoint
    from ..api.load import load
    from ..batch.identity import ModelFile
    from ..modelfile import convert
    form = convert.target_format(args.target, args.to)
    convert.check_dtype(args.target, form, args.dtype)
    convert.check_place(args.target, form)
    refuse_preset(args.source)
    refuse_what_is_read(args.target, [args.source, args.class_names])
    file = ModelFile(args.source)
    wide = args.dtype is None and any(array.dtype == "float64" for array in checkpoint.read(file.path).arrays.values())
    model = load(file.path, engine="reference", **({"dtype": "float64"} if wide else {}))
    if args.class_names is not None:
        relabel(model, args.class_names)
    source = {"name": _source_name(args.source, file.path), "sha256": file.sha256()}
    # A file with narrow weights names the model from which it was converted, also after a second conversion.
    origin = source if model.stored_dtype is None else checkpoint.read(file.path).manifest.get("source")
    losses, change = convert.convert(model, args.target, args.to, args.lossy, origin, args.dtype)
    say(f"{args.target}: {type(model).__name__}, {model.num_parameters():,} parameters, "
        f"{_size(args.target):,} bytes, source sha256 {source['sha256']}")
    if losses:
        print(f"lost properties:\n{convert.format_losses(losses)}", file=sys.stderr)
    if losses or change:
        print(f"the logits of a built-in picture change by {change:.2g} of their standard deviation", file=sys.stderr)
    return 0


def _source_name(source, path):
    """Return the name of a local file or folder, or owner/name@commit for a model on the Hugging Face hub.

    The folder of a downloaded model is named after its commit.
    """
    name = os.path.basename(os.path.abspath(path))
    return name if os.path.exists(source) else f"{source.partition('@')[0]}@{name}"


def _size(path):
    """Return the size of a file in bytes, or the total size of the files in a folder."""
    paths = [os.path.join(path, name) for name in os.listdir(path)] if os.path.isdir(path) else [path]
    return sum(map(os.path.getsize, paths))
