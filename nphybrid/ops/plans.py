"""The plans of a model: which forward passes are recorded, and who uses a plan (plan.py).

The first forward pass of a shape is not recorded, because many programs compute only one. Each caller needs a plan of
its own, because a plan has only one copy of its arrays. A caller who finds no plan records one, or computes the pass
without a plan if MOST_CALLERS others are at work.
"""
import os
import threading

from . import threads
from .recorder import NotRecordable, record

PASSES = 1                                # a shape is recorded after PASSES unrecorded passes
MOST_SHAPES = 4                           # number of shapes that a model keeps plans for
MOST_CALLERS = 4                          # number of plans for one shape


class Shape:
    """The plans for one shape of pixel_values, one set of states and one number of threads."""

    def __init__(self):
        self.passes = 0                   # the number of unrecorded passes, at most PASSES
        self.free = [None] * MOST_CALLERS         # the plans that no caller uses, and None for each plan not yet made


class Plans:
    """The plans of one model.  Several threads may call `run` at the same time."""

    def __init__(self):
        self.clear()

    def clear(self):
        """Drop all plans."""
        with _lock:
            self.learned = None, None     # the params and the config for which the plans were recorded
            self.shapes = {}              # {key: Shape}, the least recently used first

    def __reduce__(self):
        return Plans, ()                  # the addresses in a plan have no meaning in another process

    def run(self, learned, x, ops, out, network):
        """Compute a forward pass, with a plan if possible.  -> the result of the network

        `learned` is (params, config). `network(x, ops, out)` computes the forward pass, and records states in `out`. If
        memory is short, all plans are dropped.
        """
        with _lock:
            shape = self._shape(learned, x, out)
            if shape.passes < PASSES or not shape.free:
                shape.passes = min(shape.passes + 1, PASSES)
                plan = shape = None
            else:
                plan = shape.free.pop()
        if shape is None:
            return network(x, ops, out)
        return self._run(shape, plan, x, ops, out, network)

    def _shape(self, learned, x, out):
        """The Shape for a forward pass."""
        if any(old is not new for old, new in zip(self.learned, learned)):
            self.learned = learned
            self.shapes = {}
        key = x.shape, frozenset(out.keep), threads.number()
        shape = self.shapes[key] = self.shapes.pop(key, None) or Shape()
        if len(self.shapes) > MOST_SHAPES:
            del self.shapes[next(iter(self.shapes))]
        return shape

    def _run(self, shape, plan, x, ops, out, network):
        """Compute a forward pass with a plan, or record the plan if it is None."""
        try:
            if plan is None:
                plan = record(x, ops, out, network)
                result = plan.copied(out)
            else:
                result = plan.run(x, out)
        except NotRecordable:
            shape.free = []
        except MemoryError:
            self.clear()
        except BaseException:
            shape.free.insert(0, None)    # the plan is dropped: after an interrupt, a thread may still be inside it
            raise
        else:
            shape.free.append(plan)
            return result
        del plan
        out.clear()
        return network(x, ops, out)


def _fresh():
    """Make the lock.  A forked process calls `_fresh`, because another thread may hold the lock during a fork."""
    global _lock
    _lock = threading.Lock()


_fresh()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh)
