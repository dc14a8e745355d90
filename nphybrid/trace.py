"""`Trace` records the intermediate states of a forward pass by name.

The network writes `x = out["stem"] = …` and `out.at("stages.2.8")`. The class of `out` decides what happens with a
state: `Trace` keeps it, `Discard` drops it, `FirstNonFinite` checks it, `Stopwatch` times it.
"""
import math
import time
from collections.abc import Callable, Collection, Iterable
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from .text import dimensions, json_number, table


class NonFiniteError(ValueError):
    """An array holds NaN or infinity where only finite numbers are allowed."""


def first_non_finite(x: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first NaN or infinity in an array with at least one axis; None if there is none."""
    bad = ~np.isfinite(x)
    return tuple(int(i) for i in np.unravel_index(bad.argmax(), x.shape)) if bad.any() else None


class Trace(dict[str, Any]):
    """{name: state} in the order of the forward pass.  The states of a model are NumPy arrays.

    keep: the names of the states to keep; None keeps all, including the (B, A, T, T) attention weights.
    seconds: {name: seconds since the previous state} of each kept state. `model.trace(x, runs=n)` measures n more
    forward passes, which keep no state, and returns the medians of their times here. `print(trace)` shows a table.

    >>> out = Trace(keep={"stem", "blocks.0.weights"})
    >>> x = out["stem"] = 1
    >>> y = out.at("blocks.0")["norm1"] = 2
    >>> dict(out), out.at("blocks.0").wants("weights")
    ({'stem': 1}, True)
    """

    def __init__(self, keep: Collection[str] | None = None):
        super().__init__()
        self.keep = keep
        self.seconds: dict[str, float] = {}
        self._previous = time.perf_counter()

    def __setitem__(self, name: str, state: Any) -> None:
        now = time.perf_counter()
        if self.wants(name):
            super().__setitem__(name, state)
            self.seconds[name] = now - self._previous
        self._previous = now

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} states, {sum(self.seconds.values()):.3g} s)"

    def __str__(self) -> str:
        return states_table(states(self))

    def wants(self, name: str) -> bool:
        """Whether a state of this name is kept.  The network asks before it computes a state only to record it."""
        return self.keep is None or name in self.keep

    def at(self, scope: str) -> "Scope":
        """A view of this trace in which every name gets the prefix `scope` and a dot."""
        return Scope(self, scope)


class Scope:
    """A view of a Trace that adds a prefix to every name; `Trace.at` returns it."""

    def __init__(self, trace: Trace, scope: str):
        self.trace = trace
        self.scope = scope

    def __setitem__(self, name: str, state: Any) -> None:
        self.trace[f"{self.scope}.{name}"] = state

    def wants(self, name: str) -> bool:
        """`Trace.wants`, with the prefix."""
        return self.trace.wants(f"{self.scope}.{name}")

    def at(self, scope: str) -> "Scope":
        """`Trace.at`, with this prefix before the new one."""
        return Scope(self.trace, f"{self.scope}.{scope}")


class Discard(Trace):
    """Keeps no state."""

    def __init__(self):
        super().__init__(keep=())


class FirstNonFinite(Discard):
    """Raises NonFiniteError at the first state that holds NaN or infinity.  The message names it."""

    def __setitem__(self, name: str, state: np.ndarray) -> None:
        if where := first_non_finite(state):
            raise NonFiniteError(f"{name} is the first state with a number that is not finite: "
                                 f"{state[where]} at {list(where)} of shape {list(state.shape)}")


class State(NamedTuple):
    """One row of `states`."""
    name: str
    shape: tuple[int, ...]
    dtype: str
    mean: float                           # of all its numbers, in float64
    rms: float                            # the root of the mean of their squares
    seconds: float | None                 # since the previous state; None if it was not timed
    share: float | None                   # of the seconds of all states


def states(trace: Trace) -> list[State]:
    """A row for each state of a trace: shape, dtype, mean, rms and time.

    >>> import numpy as np
    >>> out = Trace()
    >>> out["stem"] = np.float32([[3, -4, 0, 0]])
    >>> row, = states(out)
    >>> row[:5], row.share
    (('stem', (1, 4), 'float32', -0.25, 2.5), 1.0)
    """
    total = sum(trace.seconds.values())
    rows = []
    for name, state in trace.items():
        x = np.asarray(state)
        with np.errstate(all="ignore"):
            mean = float(x.mean(dtype=np.float64))
            rms = math.sqrt(np.square(x, dtype=np.float64).mean())
        seconds = trace.seconds.get(name)
        share = seconds and seconds / total
        rows.append(State(name, x.shape, x.dtype.name, mean, rms, seconds, share))
    return rows


def states_table(rows: Iterable[State]) -> str:
    """Rows of `states` as a text table, with a last row of totals."""
    rows = list(rows)
    cells = [["state", "shape", "mean", "rms", "ms", "of time"]]
    for row in rows:
        cells.append([row.name, dimensions(row.shape), f"{row.mean:.4g}", f"{row.rms:.4g}",
                      *_timing(row.seconds, row.share)])
    seconds = sum(row.seconds or 0 for row in rows)
    share = sum(row.share or 0 for row in rows)
    cells.append(["total", "", "", "", *_timing(seconds, share)])
    return table(cells, "<<>>>>")


def state_as_json(row: State) -> dict[str, Any]:
    """A row of `states` as a dict that `json` can write."""
    return {**row._asdict(), "mean": json_number(row.mean), "rms": json_number(row.rms)}


def _timing(seconds, share):
    if seconds is None:
        return "-", "-"
    return f"{1e3 * seconds:.3f}", f"{share:.1%}"


class Stopwatch(Discard):
    """Keeps no state; `seconds` holds, for each state, the time since the previous one.

    >>> out = Stopwatch()
    >>> x = out["stem"] = 1
    >>> list(out), list(out.seconds)
    ([], ['stem'])
    """

    def __setitem__(self, name: str, state: Any) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._previous
        self._previous = now


def time_states(call: Callable[[Stopwatch], Any]) -> dict[str, float]:
    """{state: seconds} of one forward pass `call(out)`.  "output" is the time after the last state."""
    out = Stopwatch()
    call(out)
    out["output"] = None
    return out.seconds


def median_times(call: Callable[[Stopwatch], Any], runs: int) -> dict[str, float]:
    """{state: seconds}, each the median over `runs` forward passes `call(out)`."""
    passes = [time_states(call) for _ in range(runs)]
    return {state: median(seconds[state] for seconds in passes) for state in passes[0] if state != "output"}
