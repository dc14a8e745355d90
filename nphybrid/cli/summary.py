"""The verb `summary` prints the shapes, parameters and multiply-adds of a model."""
import os
from dataclasses import replace

from .options import BUNDLED, add_format, show

DESCRIPTION = """\
Print a row for each state of the forward pass of one picture. A state is a named intermediate array. The row contains
the shape of the state, the number of parameters and the number of multiply-adds. The two numbers count only the layers
between the previous state and this state. For example, the row blocks.0 counts the last linear layer of block 0, and
not the whole block. No state is computed, and no weight is read.
"""

EXAMPLES = """\
examples:
  nphybrid summary
  nphybrid summary R50+ViT-B/16
  nphybrid summary model.h5 --format json
"""


def add(verb):
    """Add the options of `summary` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("model", nargs="?", metavar="MODEL",
                      help="a file, a folder, a config.json, owner/name on the Hugging Face hub, or a preset "
                           f"(default: {BUNDLED}). For example, R50+ViT-B/16 is a preset.")
    add_format(verb)


def run(args):
    """Print the shape, the parameters and the multiply-adds of each state for one picture."""
    from ..modelfile import summary
    rows = summary.summarize(_network_config(args.model))
    show(args, [row._asdict() for row in rows], summary.format_text(rows))
    return 0


def _network_config(model):
    """Return the `Config` of a preset, or the `Config` of a model or configuration file."""
    from ..api.load import class_of
    from ..checkpoint import default_model, hub, read_config
    from ..config import PRESETS
    from ..text import did_you_mean
    if model in PRESETS:
        return PRESETS[model]
    path = default_model() if model is None else model
    if not (os.path.exists(path) or hub.is_name(path)):
        raise FileNotFoundError(f"found {path}; expected a file, a folder or one of the presets {', '.join(PRESETS)}"
                                + did_you_mean(str(path), PRESETS))
    fields = read_config(path)
    kind = class_of(fields, path)
    network_config = kind.config_class.from_dict(fields).network_config()
    return network_config if kind.has_head else replace(network_config, classes=0)
