"""The notebook of a walk: states by name.

Model code writes `x = out["stem"] = …` and `out.at("stages.2.8")`; what becomes of it is decided here.
"""
import math
import time
from statistics import median
from typing import NamedTuple

import numpy as np

from .text import dimensions, json_number, table


class NonFiniteError(ValueError):
    """A number that is NaN or infinite, where none may be."""


def first_non_finite(x):
    """The index of the first NaN or infinity in an array of one axis or more; None if there is none."""
    bad = ~np.isfinite(x)
    return tuple(int(i) for i in np.unravel_index(bad.argmax(), x.shape)) if bad.any() else None


class Trace(dict):
    """{name: state} in the order of the walk; of a model, each an array with its shape and dtype.

    `keep` names the states to remember; None keeps every one, the (B, A, T, T) attention weights too.
    `seconds` holds, per kept state, the time since the state before it (kept or not); `model.trace(x, runs=n)` puts
    there what walks take that keep nothing. `print` shows a table, which is `report.walk_table`.

    >>> out = Trace(keep={"stem", "blocks.0.weights"})
    >>> x = out["stem"] = 1
    >>> y = out.at("blocks.0")["norm1"] = 2
    >>> dict(out), out.at("blocks.0").wants("weights")
    ({'stem': 1}, True)
    """

    def __init__(self, keep=None):
        super().__init__()
        self.keep, self.seconds, self._clock = keep, {}, time.perf_counter()

    def __setitem__(self, name, state):
        now = time.perf_counter()
        if self.wants(name):
            super().__setitem__(name, state)
            self.seconds[name] = now - self._clock
        self._clock = now

    def __repr__(self):
        return f"{type(self).__name__}({len(self)} states, {sum(self.seconds.values()):.3g} s)"

    def __str__(self):
        from .trace import states, states_table
        return states_table(states(self))

    def wants(self, name):
        """Whether a state of this name will be kept: asked before work is done for the notebook alone."""
        return self.keep is None or name in self.keep

    def at(self, scope):
        """The same notebook, one level down: its names get `scope` and a dot in front."""
        return _Scope(self, scope)


class Discard(Trace):
    """Forgets every state."""

    def __init__(self):
        super().__init__(keep=())


class FirstNonFinite(Discard):
    """Raises NonFiniteError at the first state that holds NaN or infinity, by its name."""

    def __setitem__(self, name, state):
        if where := first_non_finite(state):
            raise NonFiniteError(f"{name} is the first state with a number that is not finite: "
                                 f"{state[where]} at {list(where)} of shape {list(state.shape)}")


class _Scope:
    def __init__(self, trace, scope):
        self.trace, self.scope = trace, scope

    def __setitem__(self, name, state):
        self.trace[f"{self.scope}.{name}"] = state

    def wants(self, name):
        return self.trace.wants(f"{self.scope}.{name}")

    def at(self, scope):
        return _Scope(self.trace, f"{self.scope}.{scope}")


class State(NamedTuple):
    """One state of a walk that was computed."""
    name: str
    shape: tuple
    dtype: str
    mean: float                           # of all its numbers, in float64
    rms: float                            # the root of the mean of their squares
    seconds: float | None                 # since the state before it; None where it was not timed
    share: float | None                   # of the seconds of all states


def states(trace):
    """A row per state of a walk.  Trace -> list of State

    >>> import numpy as np
    >>> out = Trace()
    >>> out["stem"] = np.float32([[3, -4, 0, 0]])
    >>> row, = states(out)
    >>> row[:5], row.share
    (('stem', (1, 4), 'float32', -0.25, 2.5), 1.0)
    """
    whole, rows = sum(trace.seconds.values()), []
    for name, state in trace.items():
        x, seconds = np.asarray(state), trace.seconds.get(name)
        with np.errstate(all="ignore"):
            mean, square = x.mean(dtype=np.float64), np.square(x, dtype=np.float64).mean()
        rows.append(State(name, x.shape, x.dtype.name, float(mean), math.sqrt(square), seconds,
                          seconds and seconds / whole))
    return rows


def states_table(rows):
    """Rows of `states` as text, with their time."""
    cells = [(row.name, dimensions(row.shape), f"{row.mean:.4g}", f"{row.rms:.4g}", *_timing(row.seconds, row.share))
             for row in rows]
    total = ("total", "", "", "", *_timing(sum(row.seconds or 0 for row in rows), sum(row.share or 0 for row in rows)))
    return table([("state", "shape", "mean", "rms", "ms", "of time"), *cells, total], "<<>>>>")


def state_as_json(row):
    """A row of `states` as what `json` can hold."""
    return {**row._asdict(), "mean": json_number(row.mean), "rms": json_number(row.rms)}


def _timing(seconds, share):
    return ("-", "-") if seconds is None else (f"{1e3 * seconds:.3f}", f"{share:.1%}")


class Stopwatch(Discard):
    """Forgets every state, and notes in `seconds` how long each took since the one before it.

    >>> out = Stopwatch()
    >>> x = out["stem"] = 1
    >>> list(out), list(out.seconds)
    ([], ['stem'])
    """

    def __setitem__(self, name, state):
        now = time.perf_counter()
        self.seconds[name], self._clock = now - self._clock, now


def time_states(call):
    """{state: seconds} of one `call(out)`: the states of its walk, and "output" for what comes after the last."""
    out = Stopwatch()
    call(out)
    out["output"] = None
    return out.seconds


def median_times(call, runs):
    """{state: seconds}, each the median of several walks `call(out)`."""
    walks = [time_states(call) for _ in range(runs)]
    return {state: median(walk[state] for walk in walks) for state in walks[0] if state != "output"}
