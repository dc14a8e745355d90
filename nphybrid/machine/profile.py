"""Where the time of a forward pass goes: the times of its states, added up by stage."""
import re
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

# The states that match a pattern are added to a stage. The stages of the encoder add up all of its blocks.
STAGES = (
    (r"pixel_values", "input"),           # checks, and the transposition to channels last
    (r"stem(\..+)?", "stem"),
    (r"(stages\.\d+)\..+", r"\1"),
    (r"tokens(\..+)?", "tokens"),
    (r"blocks\.\d+\.norm\d|norm", "norms"),
    (r"blocks\.\d+\.(query|key|value)", "query, key, value"),
    (r"blocks\.\d+\.(context|weights)", "attention"),
    (r"blocks\.\d+\.(out|fc1)", r"\1"),
    (r"blocks\.\d+", "fc2"),
    (r"features_norm|pooler|logits", "head"),
    (r"output", "output"),                # checks
)


class Lap(NamedTuple):
    """The time of one stage or state."""
    name: str
    seconds: float                        # median over the calls
    share: float                          # of the seconds of all rows
    gflops: float | None                  # GFLOP/s; None without a matrix product


def stage(state: str) -> str:
    """The stage of a state; a state that matches no pattern is its own stage."""
    for pattern, name in STAGES:
        if found := re.fullmatch(pattern, state):
            return found.expand(name)
    return state


def laps(calls: list[dict], multiply_adds: dict, name: Callable[[str], str] = stage) -> list[Lap]:
    """A Lap per stage, in the order of the forward pass.

    calls: [{state: seconds}], one per call. multiply_adds: {state: number} of one call. name: the row that a state is
    counted in; with `str`, every state has a row.
    """
    rows: dict[str, list[str]] = {}
    for state in calls[0]:
        rows.setdefault(name(state), []).append(state)
    times = {row: median(sum(seconds[state] for state in states) for seconds in calls) for row, states in rows.items()}
    work = {row: 2e-9 * sum(multiply_adds.get(state, 0) for state in states) for row, states in rows.items()}
    return [Lap(row, seconds, seconds / sum(times.values()), work[row] / seconds if work[row] else None)
            for row, seconds in times.items()]
