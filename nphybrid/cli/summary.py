"""What a network consists of, and what one forward pass costs."""
import os
from dataclasses import replace

from .options import BUNDLED, add_format, show

DESCRIPTION = """\
Print a row per state of the forward pass of one picture: its shape, the parameters that are read for it, and the
multiply-adds that it takes. A row holds only what its own state adds: the row blocks.0 is the last linear layer of
block 0, not the whole block. Nothing is computed and no weight is read.
"""


def add(verb):
    """A model, a configuration or a preset."""
    verb.description = DESCRIPTION
    verb.add_argument("model", nargs="?", metavar="MODEL",
                      help="a file, a folder, a config.json, owner/name on the Hugging Face hub, or a preset such as "
                           f"R50+ViT-B/16 (default: {BUNDLED})")
    add_format(verb)


def run(args):
    """Print a row per state: shape, parameters, multiply-adds of one picture."""
    from ..modelfile import summary
    rows = summary.summarize(_network_config(args.model))
    show(args, [row._asdict() for row in rows], summary.format_text(rows))
    return 0


def _network_config(model):
    """The `Config` of a preset, or of the model or configuration at a path."""
    from ..api.load import class_of
    from ..checkpoint import default_model, hub, read_config
    from ..config import PRESETS
    if model in PRESETS:
        return PRESETS[model]
    path = model or default_model()
    if not (os.path.exists(path) or hub.is_name(path)):
        raise FileNotFoundError(f"{path} is not a file, a folder or a preset; the presets are {', '.join(PRESETS)}")
    fields = read_config(path)
    kind = class_of(fields, path)
    network_config = kind.config_class.from_dict(fields).network_config()
    return network_config if kind.has_head else replace(network_config, classes=0)
