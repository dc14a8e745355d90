"""`Trace` records the intermediate states of a forward pass by name.

The functions of the network contain `x = out["stem"] = …` and `out.at("stages.2.8")`. The class of `out` decides what
happens with a state. `Trace` keeps all states or only the requested states, and `Discard` keeps no state.
`FirstNonFinite` checks every state, and `Stopwatch` measures the time of every state.

The table has the contents of each state. f is the activation of the backbone, usually relu. GN is a group norm, LN is
a layer norm, and conv is a convolution with standardized kernels. x is the input of the unit or block. Each name in a
formula is the state of this name in the same unit or block. A state that the network does not need is missing.

    pixel_values        the input, channels last
    stem.conv           conv(pixel_values)
    stem.border         stem.conv with a border of zeros
    stem.norm           f(GN(stem.conv or stem.border))
    stem                the max pool of the state before it

    in a unit stages.S.U of type bottleneck, S and U from 0:
    proj, norm_proj     conv(x), GN(proj)
    conv1, norm1        conv(x), f(GN(conv1))
    conv2, norm2        conv(norm1), f(GN(conv2))
    conv3               conv(norm2)
    stages.S.U          f(GN(conv3) + norm_proj), or f(GN(conv3) + x) without norm_proj

    in a unit stages.S.U of type preactivation:
    norm1, proj         f(GN(x)), conv(norm1)
    conv1, norm2        conv(norm1), f(GN(conv1))
    conv2, norm3        conv(norm2), f(GN(conv2))
    conv3               conv(norm3)
    stages.S.U          conv3 + proj, or conv3 + x without proj

    features_norm       f(GN(x)) of the last unit, in BiT
    tokens.proj         linear(patches of the last map or of pixel_values)
    tokens.masked       tokens.proj with the mask token in place of masked patches
    tokens              the class token and the patches, plus the positions

    in a block blocks.N, N from 0:
    norm1               LN(x)
    query, key, value   linear(norm1) each, (B, T, D): head a has the columns from a * K to (a + 1) * K - 1
    weights             softmax(query key^T / sqrt(K)) of each head, (B, A, T, T), times the head mask
    context             weights value, the heads side by side, (B, T, D)
    out                 x + linear(context)
    norm2               LN(out)
    fc1                 gelu(linear(norm2)), with the activation of the encoder in place of gelu
    blocks.N            out + linear(fc1)

    norm                LN of the last block; the last block itself if the network has no LN here
    pooler              tanh(linear(norm[:, 0])); in BiT, the mean of the last map over all positions
    pool_norm           LN of the pooled vector
    pre_logits          tanh(linear(pooled vector))
    logits              linear(pooled vector)
"""
import math
import time
from collections.abc import Callable, Collection, Iterable
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from .text import did_you_mean, dimensions, grouped, json_number, table

# The fields of a State that are added in a group of states.
SUMMED = "seconds", "share"


class NonFiniteError(ValueError):
    """Raised if an array that must be finite contains NaN or infinity."""


def first_non_finite(x: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first NaN or infinity in an array, or None if all numbers are finite.

    The array x must have at least one axis.
    """
    finite = np.isfinite(x)
    return None if finite.all() else tuple(int(i) for i in np.unravel_index(finite.argmin(), x.shape))


class Trace(dict[str, Any]):
    """A dict {name: state} in the order of the forward pass.  The states of a model are NumPy arrays.

    `keep`: the names of the states to keep, or None for all states, including the (B, A, T, T) attention weights.

    The attribute `seconds` is a dict {name: seconds since the previous state}. `model.trace(x, runs=n)` measures n
    additional forward passes, which keep no states. For n > 0, `seconds` has the median times of the n additional
    passes. `print(trace)` shows a table of the states.

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

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle.  Without it, pickle would call `__setitem__` before the trace has its attributes."""
        return _restored, (type(self), dict(self), self.__dict__)

    def __missing__(self, name: str) -> Any:
        """Raise KeyError for a state that the trace does not contain.  The message suggests a similar name."""
        raise KeyError(f"the trace has no state {name!r}{did_you_mean(str(name), self)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} states, {sum(self.seconds.values()):.3g} s)"

    def __str__(self) -> str:
        return states_table(states(self))

    def wants(self, name: str) -> bool:
        """Whether the trace keeps the state `name`.

        The network calls `wants` before it computes a state that is only recorded, such as the attention weights.
        """
        return self.keep is None or name in self.keep

    def at(self, scope: str) -> "Scope":
        """A view of the trace that puts `scope` and a dot before every name."""
        return Scope(self, scope)


def _restored(kind, states, attributes):
    """Make a Trace again from the parts in a pickle."""
    trace = kind.__new__(kind)
    trace.__dict__.update(attributes)
    dict.update(trace, states)
    return trace


class Scope:
    """A view of a Trace that adds a prefix to every name.  `Trace.at` returns a Scope."""

    def __init__(self, trace: Trace, scope: str):
        self.trace = trace
        self.scope = scope

    def __setitem__(self, name: str, state: Any) -> None:
        self.trace[f"{self.scope}.{name}"] = state

    def wants(self, name: str) -> bool:
        """Calls `Trace.wants` with the prefix before the name."""
        return self.trace.wants(f"{self.scope}.{name}")

    def at(self, scope: str) -> "Scope":
        """A view with a longer prefix: the prefix of this view, a dot and `scope`."""
        return Scope(self.trace, f"{self.scope}.{scope}")


class Discard(Trace):
    """A Trace that keeps no states."""

    def __init__(self):
        super().__init__(keep=())


class FirstNonFinite(Discard):
    """A Trace that raises NonFiniteError for the first state that contains NaN or infinity.

    The error message has the name of the first state that contains NaN or infinity.
    """

    def __setitem__(self, name: str, state: np.ndarray) -> None:
        if where := first_non_finite(state):
            raise NonFiniteError(f"{name} is the first state with a number that is not finite: "
                                 f"{state[where]} at {list(where)} of shape {list(state.shape)}")


class State(NamedTuple):
    """A row of the list that the function `states` returns."""
    name: str
    shape: tuple[int, ...]
    dtype: str
    mean: float                           # the mean of all numbers, computed in float64
    rms: float                            # the square root of the mean of all squared numbers
    seconds: float | None                 # the time since the previous state, or None if it was not measured
    share: float | None                   # `seconds` divided by the sum of `seconds` over all states


def states(trace: Trace) -> list[State]:
    """Returns a row for each state of a trace, with the shape, dtype, mean, rms and time of the state.

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


def states_table(rows: Iterable[State], depth: int | None = None) -> str:
    """Converts the rows of `states` to a text table.  The last row of the table has the total time.

    `depth` is the depth of the groups, as in `text.grouped`. A group has the time of all its states, and the shape, the
    mean and the rms of its last state.
    """
    rows = list(rows)
    cells = [["state", "shape", "mean", "rms", "ms", "of time"]]
    for line in grouped(rows, SUMMED, depth):
        row = line.row
        cells.append([line.label, dimensions(row.shape), f"{row.mean:.4g}", f"{row.rms:.4g}",
                      *_timing(row.seconds, row.share)])
    seconds = sum(row.seconds or 0 for row in rows)
    share = sum(row.share or 0 for row in rows)
    cells.append(["total", "", "", "", *_timing(seconds, share)])
    return table(cells, "<<>>>>")


def state_as_json(row: State) -> dict[str, Any]:
    """Converts a row of `states` to a dict that the module `json` can write."""
    return {**row._asdict(), "mean": json_number(row.mean), "rms": json_number(row.rms)}


def _timing(seconds, share):
    if seconds is None:
        return "-", "-"
    return f"{1e3 * seconds:.3f}", f"{share:.1%}"


class Stopwatch(Discard):
    """A Trace that keeps no states, and stores the time of each state in the dict `seconds`.

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
    """Measures one forward pass `call(out)`.  -> {name of a state: seconds}

    The value of the key "output" is the time from the last state to the end of the pass.
    """
    out = Stopwatch()
    call(out)
    out["output"] = None
    return out.seconds


def median_times(call: Callable[[Stopwatch], Any], runs: int) -> dict[str, float]:
    """Measures `runs` forward passes `call(out)`.  -> {name of a state: median seconds}"""
    passes = [time_states(call) for _ in range(runs)]
    return {state: median(seconds[state] for seconds in passes) for state in passes[0] if state != "output"}
