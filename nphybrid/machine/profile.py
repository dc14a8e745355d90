"""Where the time of a call goes: a notebook that stamps the clock, and its states gathered into stages."""
import re
from statistics import median
from typing import NamedTuple

# A state of the walk, and the stage in whose row its time is counted; the encoder's rows are sums over its blocks.
STAGES = (
    (r"pixel_values", "input"),           # checked, and turned to channels last
    (r"stem(\..+)?", "stem"),
    (r"(stages\.\d+)\..+", r"\1"),
    (r"tokens(\..+)?", "tokens"),
    (r"blocks\.\d+\.norm\d|norm", "norms"),
    (r"blocks\.\d+\.(query|key|value)", "query, key, value"),
    (r"blocks\.\d+\.(context|weights)", "attention"),
    (r"blocks\.\d+\.(out|fc1)", r"\1"),
    (r"blocks\.\d+", "fc2"),
    (r"features_norm|pooler|logits", "head"),
    (r"output", "output"),                # checked
)


class Lap(NamedTuple):
    """What one stage or state took."""
    name: str
    seconds: float                        # median over the calls
    share: float                          # of all rows' seconds
    gflops: float | None                  # GFLOP/s; None for what multiplies no matrices


def stage(state):
    """The stage that a state belongs to; one that no rule knows is a stage of its own."""
    for pattern, name in STAGES:
        if found := re.fullmatch(pattern, state):
            return found.expand(name)
    return state


def laps(walks, multiply_adds, name=stage):
    """A Lap per stage, in the order of the walk.

    walks: [{state: seconds}], one per call. multiply_adds: {state: number} of one call. name: the row that a state
    is counted in; `str` gives every state its own.
    """
    rows = {}
    for state in walks[0]:
        rows.setdefault(name(state), []).append(state)
    times = {row: median(sum(walk[state] for state in states) for walk in walks) for row, states in rows.items()}
    work = {row: 2e-9 * sum(multiply_adds.get(state, 0) for state in states) for row, states in rows.items()}
    return [Lap(row, seconds, seconds / sum(times.values()), work[row] / seconds if work[row] else None)
            for row, seconds in times.items()]
