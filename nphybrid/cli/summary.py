"""The verb `summary` prints the shapes, parameters, multiply-adds and memory of a model, for each part and in total."""
import os
from dataclasses import replace

from .options import BUNDLED, add_depth, add_format, show

DESCRIPTION = """\
Print a row for each part of the network and for each state of the forward pass of one picture. A state is a named
intermediate array. The row of a part, for example blocks.0, is the sum of the indented rows below it. The row
"rest of blocks.0" counts what no other row of blocks.0 counts. The columns contain the shape of the last state, the
number of parameters, the number of multiply-adds, and the size of all states in float32. A forward pass needs less
memory than the total, because it does not keep the states. All tokens of the last block are counted, although
`nphybrid classify` computes only the tokens that the classifier needs. No state is computed, and no weight is read. The
format json has only the rows that have no rows below them. They add up to the total. The rest of a bottleneck unit is
norm3, the sum with the shortcut, and the activation. The states norm1 and norm2 of a unit are the results of the
activations after these norms. The rest of an encoder block is fc2 and the sum with the shortcut. The state fc1 is the
result of the activation after fc1, and the state out includes the sum with the shortcut.
"""

EXAMPLES = """\
examples:
  nphybrid summary
  nphybrid summary R50+ViT-B/16 --depth 1
  nphybrid summary model.h5 --format json
"""


def add(verb):
    """Add the options of `summary` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("model", nargs="?", metavar="MODEL",
                      help="a file, a folder, a config.json, owner/name on the Hugging Face hub, or a preset "
                           f"(default: {BUNDLED}). For example, R50+ViT-B/16 is a preset.")
    add_depth(verb)
    add_format(verb)


def run(args):
    """Print the shape, the parameters, the multiply-adds and the size of each state for one picture."""
    from ..modelfile import summary
    from ..text import undivided
    rows = summary.summarize(_network_config(args.model))
    document = [row._asdict() for row in undivided(rows, summary.SUMMED, args.depth)]
    show(args, document, summary.format_text(rows, args.depth))
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
