"""The maps inside the residual unit that the page shows: the last unit before the tokens or the classifier."""
import numpy as np

from ..config import Config, plan
from ..ops import reference

MAPS = 8                                  # at most, of each state: the maps that vary most over the picture


def shown_unit(config: Config) -> tuple[int, int]:
    """The stage and the unit."""
    s = config.feature_stage % (len(config.depths) + 1) - 1
    return s, config.depths[s] - 1


def maps(trace, p, config) -> dict:
    """The results of the convolutions, the shortcut, and the output of the unit.  -> {name: (H, W, C)}

    "branch" is the result of the third convolution, after its norm if a norm follows. "sum" is the output of the unit.
    In a bottleneck, the output is the activation of branch + shortcut.
    """
    s, u = shown_unit(config)
    name, learned = f"stages.{s}.{u}", p.stages[s][u]
    found = {part: trace[f"{name}.{part}"][0] for part in ("conv1", "conv2")}
    branch, shortcut = trace[f"{name}.conv3"], _input(trace, s, u, config)
    if plan(config)[s][u].project:
        shortcut = trace[f"{name}.norm_proj" if config.unit == "bottleneck" else f"{name}.proj"]
    if config.unit == "bottleneck":
        branch = reference.group_norm(branch, learned.norm3, config.groups, config.gn_eps)
    return {**found, "branch": branch[0], "shortcut": shortcut[0], "sum": trace[name][0]}


def _input(trace, s, u, config):
    """The input of unit u of stage s."""
    if u:
        return trace[f"stages.{s}.{u - 1}"]
    return trace[f"stages.{s - 1}.{config.depths[s - 1] - 1}" if s else "stem"]


def channels(found) -> dict:
    """The channels that vary most.  The branch, the shortcut and the sum show the same channels: those of the sum."""
    return {name: np.argsort(-found[name].var((0, 1)), kind="stable")[:MAPS] for name in ("conv1", "conv2", "sum")}
