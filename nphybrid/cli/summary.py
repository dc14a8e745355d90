"""What a network is made of, and what it costs, from its sizes alone."""
import os
from dataclasses import replace

from .options import add_format, show


def add(verbs):
    """A model, a configuration or a preset."""
    verb = verbs.add_parser("summary", help="print shapes, parameters and multiply-adds of a model or a config")
    verb.add_argument("model", nargs="?", metavar="MODEL",
                      help="a file, a folder, a config.json, owner/name on the hub, or a preset such as "
                           "R50+ViT-B/16")
    add_format(verb)
    return verb


def run(args):
    """Print a row per state: shape, parameters, multiply-adds of one image."""
    from ..modelfile import summary
    rows = summary.summary(_sizes(args.model))
    show(args, [row._asdict() for row in rows], summary.summary_table(rows))
    return 0


def _sizes(model):
    """The `Config` of a preset, or of what lies at a path."""
    from ..api.load import class_of
    from ..checkpoint import default_model, hub, read_config
    from ..config import PRESETS
    if model in PRESETS:
        return PRESETS[model]
    path = model or default_model()
    if not (os.path.exists(path) or hub.is_name(path)):
        raise FileNotFoundError(f"{path} is no file or folder, and no preset; those are {', '.join(PRESETS)}")
    fields = read_config(path)
    kind = class_of(fields, path)
    sizes = kind.config_class.from_dict(fields).network_config()
    return sizes if kind.has_head else replace(sizes, classes=0)
