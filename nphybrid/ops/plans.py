"""The plans of a model: which forward passes are recorded, and who uses a plan (plan.py).

Recording takes as long as several passes. So a shape is recorded after some unrecorded passes, and a shape whose plans
were dropped waits longer. Each caller needs a plan of its own, because a plan has only one copy of its arrays. A caller
who finds no plan records one, or computes the pass without a plan if MOST_CALLERS others are at work.

A large batch is computed in parts, one after the other. So the states of a part stay in the cache, and its plan fits
into MOST_BYTES (recorder.py). The table shows the milliseconds of a forward pass (Zen 5, 2 threads):

                                         one part               parts of at most 2^17 pixels
                                 float32  bfloat16  int8        float32  bfloat16  int8
    R26+ViT-S/32, 224, batch 8       435       184   218            150        93    68
    R26+ViT-S/32, 384, batch 8     2,185     1,979 1,831            451       294   216
    R50+ViT-B/16, 384, batch 4     1,430     1,847 1,386          1,265       748   534
"""
import contextvars
import copy
import os
import threading
import weakref

import numpy as np

from . import threads
from .integers import ceil_div
from .recorder import NotRecordable, record

PASSES = 2                                # a shape is recorded after PASSES unrecorded passes
LONGER = 8                                # after its plans were dropped, a shape waits LONGER times as long
MOST_SHAPES = 4                           # number of shapes that a model keeps plans for
MOST_CALLERS = 4                          # number of plans for one shape
PART = 1 << 17                            # number of pixels: a batch of more pixels is computed in parts
MOST_KEYS = 64                            # number of shapes whose passes are counted


class Recording:
    """Exists while a caller records a plan.  It is gone if an interrupt stopped the caller."""


class ShapePlans:
    """The plans for one shape of pixel_values, one set of states and one number of threads."""

    def __init__(self):
        self.passes = 0                   # the number of passes without a plan
        self.wanted = PASSES              # the number of passes after which a plan is recorded
        self.free = []                    # the plans that no caller uses
        self.plans = weakref.WeakSet()    # all plans; a plan is gone if an interrupt stopped its caller
        self.recordings = weakref.WeakSet()         # a Recording of each caller that records a plan now

    def drop(self):
        """Drop the plans, and wait longer before the next recording."""
        self.free = []
        self.passes = 0
        self.wanted *= LONGER


class Plans:
    """The plans of one model.  Several threads may call `run` at the same time."""

    def __init__(self):
        self.clear()
        _instances.add(self)

    def clear(self):
        """Drop all plans."""
        with _lock:
            self.learned = ()             # the params, the config and the operations for which the plans were recorded
            self.shapes = {}              # {key: ShapePlans}, the least recently used first

    def __reduce__(self):
        return Plans, ()                  # the addresses in a plan have no meaning in another process

    def run(self, learned, x, ops, out, network):
        """Compute a forward pass for the images x (B, H, W, C).  -> the result of the network

        `learned` is (params, config). `network(x, ops, out)` computes the forward pass, and records states in `out`.
        The first axis of the result and of each state is B.
        """
        if threads.recorder.get():        # a signal handler of a caller who records a plan
            return contextvars.copy_context().run(self._run_unrecorded, learned, x, ops, out, network)
        B, H, W, _ = x.shape
        if not B:
            return network(x, ops, out)   # there are no tasks to record
        count = min(ceil_div(B * H * W, PART), B)
        if count <= 1:
            return self._run_part(learned, x, ops, out, network)
        results, traces = [], []
        for part in np.array_split(x, count):
            traces.append(_cleared(out))
            results.append(self._run_part(learned, part, ops, traces[-1], network))
        for name in traces[0]:
            out[name] = np.concatenate([trace[name] for trace in traces])
        return np.concatenate(results)

    def _run_unrecorded(self, *arguments):
        """As `run`, without the recorder of the caller."""
        threads.recorder.set(None)
        return self.run(*arguments)

    def _run_part(self, learned, x, ops, out, network):
        """Compute a forward pass, with a plan if possible.

        If memory is short, all plans that no caller uses are dropped.
        """
        with _lock:
            shape = self._plans_for((*learned, ops), x, out)
            plan = shape.free.pop() if shape.free else None
            if plan is None:
                shape.passes += 1
                if shape.passes <= shape.wanted or len(shape.plans) + len(shape.recordings) >= MOST_CALLERS:
                    shape = None
                else:
                    recording = Recording()
                    shape.recordings.add(recording)
                    self._drop_oldest(shape)
        if shape is None:
            return network(x, ops, out)
        try:
            if plan is None:
                try:
                    plan = record(x, ops, _cleared(out), network)
                    shape.plans.add(plan)
                finally:
                    shape.recordings.discard(recording)
                result = plan.copied(out)
            else:
                result = plan.run(x, out)
        except NotRecordable:
            shape.wanted = float("inf")
        except MemoryError:
            with _lock:
                for other in self.shapes.values():
                    other.drop()
        else:
            shape.free.append(plan)
            return result
        del plan                          # frees its memory, which the network can need
        return network(x, ops, out)

    def _plans_for(self, learned, x, out):
        """The ShapePlans for a forward pass."""
        if len(self.learned) != len(learned) or any(old is not new for old, new in zip(self.learned, learned)):
            self.shapes = {}
            self.learned = learned
        key = x.shape, frozenset(out.keep), threads.number()
        shape = self.shapes[key] = self.shapes.pop(key, None) or ShapePlans()
        if len(self.shapes) > MOST_KEYS:
            self.shapes.pop(list(self.shapes)[0], None)
        return shape

    def _drop_oldest(self, shape):
        """Make room for the plans of a ShapePlans."""
        others = [other for other in list(self.shapes.values()) if other.plans and other is not shape]
        for other in others[:max(len(others) + 1 - MOST_SHAPES, 0)]:
            other.drop()


def _cleared(trace):
    """A copy of a trace without entries.  What is recorded in it does not reach the trace of the caller."""
    trace = copy.copy(trace)
    trace.clear()
    return trace


# A signal handler may compute a forward pass while its thread holds the lock, so the lock is an RLock.
_lock = threading.RLock()
_instances = weakref.WeakSet()            # each Plans


def _after_fork():
    """Make a new lock, because another thread may hold it during a fork.  Forget the callers in other threads."""
    global _lock
    _lock = threading.RLock()
    for plans in list(_instances):
        for shape in list(plans.shapes.values()):
            shape.plans = weakref.WeakSet(shape.free)
            shape.recordings = weakref.WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
