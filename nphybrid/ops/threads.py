"""The one way to run on several cores: Python threads over serial kernels that release the GIL.

No OpenMP (its forked children die) and no Numba threading layer (`workqueue` aborts when two Python threads
compute at once). The caller works too, so a nested call can always finish by itself.
"""
import contextlib
import contextvars
import itertools
import os
import queue
import threading

import numpy as np

# Less work than this many multiply-adds stays on the caller's thread. A guess, not a measurement.
SMALL = 1_000_000

_threads = contextvars.ContextVar("threads", default=None)


@contextlib.contextmanager
def using(n):
    """Within the block kernels run on n threads; None means one per core that the process may use."""
    token = _threads.set(n)
    try:
        yield
    finally:
        _threads.reset(token)


def number():
    """How many threads a kernel may use here."""
    if hasattr(os, "sched_getaffinity"):
        return _threads.get() or len(os.sched_getaffinity(0))
    return _threads.get() or os.cpu_count() or 1


def run(count, task, work=SMALL):
    """task(i) for each i in range(count), in any order, on several threads if the work is worth it.

    The first exception stops what has not begun and is raised here. Warnings of NumPy's scalars are
    silent, because kernels pass NaN and infinity on without a word.
    """
    helpers = min(number(), count) - 1 if work >= SMALL else 0
    with np.errstate(all="ignore"):
        if helpers <= 0:
            for i in range(count):
                task(i)
            return
        job = _Job(count, task)
        for _ in range(helpers):
            _submit(contextvars.copy_context(), job.drain)
        job.drain()
        job.finished.acquire()
    if job.error is not None:
        raise job.error


class _Job:
    """`count` tasks, handed out one by one to whoever asks."""

    def __init__(self, count, task):
        self.count, self.task, self.error = count, task, None
        self.begun, self.ended = itertools.count(), itertools.count(1)
        self.finished = threading.Lock()
        self.finished.acquire()

    def drain(self):
        while (i := next(self.begun)) < self.count:
            try:
                if self.error is None:
                    self.task(i)
            except BaseException as error:                # raised by run, in the caller's thread
                self.error = error
            if next(self.ended) == self.count:
                self.task = None
                self.finished.release()


def _submit(context, function):
    with _lock:
        _idle.put((context, function))
        if len(_workers) < number() - 1:
            worker = threading.Thread(target=_work, args=(_idle,), name="nphybrid", daemon=True)
            _workers.append(worker)
            worker.start()


def _work(jobs):
    while True:
        context, function = jobs.get()
        context.run(function)
        del context, function                             # lets go of the arrays while waiting


def _fresh():
    """An empty pool; a forked child has the parent's list of threads, but not the threads."""
    global _idle, _workers, _lock
    _idle, _workers, _lock = queue.SimpleQueue(), [], threading.Lock()


_fresh()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh)
