"""Add up the times of the states in each stage of a forward pass.  In this file, a stage is a group of states."""
import re
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

# (pattern, stage): the times of all states whose names match the pattern are added to the time of the stage.
# The time of a stage of the encoder, for example "norms", is the sum over all encoder blocks.
STAGES = (
    (r"pixel_values", "input"),           # checks of the input, and the transposition to channels last
    (r"stem(\..+)?", "stem"),
    (r"(stages\.\d+)\..+", r"\1"),
    (r"tokens(\..+)?", "tokens"),
    (r"blocks\.\d+\.norm\d|norm", "norms"),
    (r"blocks\.\d+\.(query|key|value)", "query, key, value"),
    (r"blocks\.\d+\.(context|weights)", "attention"),
    (r"blocks\.\d+\.(out|fc1)", r"\1"),
    (r"blocks\.\d+", "fc2"),
    (r"features_norm|pooler|logits", "head"),
    (r"output", "output"),                # checks of the output
)


class Lap(NamedTuple):
    """The time of one stage or state."""
    name: str
    seconds: float                        # median of the times in all calls
    share: float                          # `seconds` divided by the sum of `seconds` over all Laps
    gflops: float | None                  # GFLOP/s, or None if there is no matrix product


def stage(state: str) -> str:
    """The name of the stage that contains a state.  A state that matches no pattern is a stage of its own."""
    for pattern, name in STAGES:
        if found := re.fullmatch(pattern, state):
            return found.expand(name)
    return state


def laps(calls: list[dict], multiply_adds: dict, name: Callable[[str], str] = stage) -> list[Lap]:
    """Return one Lap for each stage, in the order of the forward pass.

    `calls` has a dict {state: seconds} for each call. `multiply_adds` is {state: number of multiply-adds in a call}.
    name(state) returns the name of the Lap in which the state is counted. If `name` is `str`, each state has a Lap of
    its own.
    """
    rows: dict[str, list[str]] = {}
    for state in calls[0]:
        rows.setdefault(name(state), []).append(state)
    times = {row: median(sum(seconds[state] for state in states) for seconds in calls) for row, states in rows.items()}
    work = {row: 2e-9 * sum(multiply_adds.get(state, 0) for state in states) for row, states in rows.items()}
    return [Lap(row, seconds, seconds / sum(times.values()), work[row] / seconds if work[row] else None)
            for row, seconds in times.items()]
