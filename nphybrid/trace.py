"""The notebook of a walk: states by name.

Model code writes `x = out["stem"] = …` and `out.at("stages.2.8")`; what becomes of it is decided here.
"""
import time

import numpy as np


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
        from .report import states, walk_table
        return walk_table(states(self))

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


class FirstBad(Discard):
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
