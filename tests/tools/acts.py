"""Acts of a reader on the network, computed by Python from the learned arrays."""
import numpy as np

from nphybrid.config import Config
from nphybrid.model import hybrid
from nphybrid.ops import reference
from nphybrid.params import tree_map
from nphybrid.trace import Trace


class Blanking(Trace):
    """A Trace that sets channels of states to 0 when they are recorded.  The network goes on with these states."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def __setitem__(self, name, state):
        state[..., self.channels.get(name, [])] = 0
        super().__setitem__(name, state)


def acted(act, value, x, p, config):
    """The states after an act, computed by Python."""
    out, options = Trace(), {}
    if act == "headMask":
        options["head_mask"] = np.array(value, np.float32)
    elif act == "masked":
        p = p._replace(tokens=p.tokens._replace(mask=np.zeros(config.width, np.float32)))
        options["masked"] = np.isin(np.arange(config.grid[0] * config.grid[1]), value)[None]
    elif act == "blanked":
        out = Blanking(value)
    elif act == "temperature":
        # A score is linear in the query, so the query is divided by the temperature.
        p = p._replace(blocks=tuple(block._replace(query=tree_map(
            lambda name, leaf: leaf / np.float32(value), block.query)) for block in p.blocks))
    elif act == "classToken":
        start = untouched(x, p, config)["tokens.proj"].mean(1, keepdims=True) if isinstance(value, str) else value
        p = p._replace(tokens=p.tokens._replace(cls=np.array(start, np.float32)))
    elif act == "positions":
        first = int(config.class_token)
        places = np.r_[np.arange(first), first + np.array(value)]
        p = p._replace(tokens=p.tokens._replace(positions=p.tokens.positions[places]))
    elif act == "skipped":
        p = p._replace(blocks=tuple(block for l, block in enumerate(p.blocks) if l not in value))
    hybrid(x, p, config if act != "skipped" else Config(**{**fields(config), "blocks": len(p.blocks)}), reference, out,
           **options)
    return out


def fields(config):
    return {name: value for name, value in vars(config).items() if name != "feature_map"}


def untouched(x, p, config):
    """The states without an act."""
    out = Trace()
    hybrid(x, p, config, reference, out)
    return out
