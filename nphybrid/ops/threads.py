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

# Less work than this many multiply-adds stays on the caller's thread: 50 microseconds, about what it takes to wake
# another thread and to wait for it. Work on one element of an array counts as ELEMENT of them.
SMALL, ELEMENT = 8_000_000, 64

_threads = contextvars.ContextVar("threads", default=None)


@contextlib.contextmanager
def using(n):
    """Within the block kernels run on n threads at most; None adds no limit to that of a block around it, which without
    any is one per core that the process may use."""
    if n is not None and n < 1:
        raise ValueError(f"{n} threads; expected at least 1, or None for one per core")
    token = _threads.set(min((m for m in (n, _threads.get()) if m is not None), default=None))
    try:
        yield
    finally:
        _threads.reset(token)


def number():
    """How many threads a kernel may use here."""
    if hasattr(os, "sched_getaffinity"):
        return _threads.get() or len(os.sched_getaffinity(0))
    return _threads.get() or os.cpu_count() or 1


def worth(work):
    """How many threads a kernel should use here for so many multiply-adds."""
    return number() if work >= SMALL else 1


def run(count, task, work=SMALL):
    """task(i) for each i in range(count), in any order, on several threads if the work is worth it.

    The first exception, an interrupt too, stops what has not begun, and is raised here once no task is
    running. Warnings of NumPy's scalars are silent, because kernels pass NaN and infinity on without a word.
    """
    helpers = min(worth(work), count) - 1
    with np.errstate(all="ignore"):
        if helpers <= 0:
            for i in range(count):
                task(i)
            return
        job = _Job(count, task)
        try:
            for _ in range(helpers):
                _submit(contextvars.copy_context(), job.help)
            job.drain()
            job.wait()
            error = job.error
        except BaseException:                             # an interrupt may strike between any two steps
            job.count = 0
            job.wait()
            raise
        finally:
            job.task = job.error = None
    try:
        if error is not None:
            raise error
    finally:
        del error                         # error -> traceback -> this frame -> error: arrays would live on


class _Job:
    """`count` tasks, handed out one by one to whoever asks; none any more once count is 0."""

    def __init__(self, count, task):
        self.count, self.task, self.error = count, task, None
        self.begun = itertools.count()    # the GIL makes next() of it one step: no number goes out twice
        self.lock, self.inside, self.left = threading.Lock(), 0, queue.SimpleQueue()

    def drain(self):
        while (i := next(self.begun)) < self.count:
            self.task(i)

    def help(self):
        """A worker's share.  One that comes too late finds nothing to do."""
        with self.lock:
            self.inside += 1
        try:
            self.drain()
        except BaseException as error:                    # raised by run, in the caller's thread
            self.error, self.count = self.error or error, 0
        with self.lock:
            self.inside -= 1
        self.left.put(None)

    def wait(self):
        """Until no worker is inside.  May be interrupted and repeated: who is inside has yet to put."""
        while self.inside:
            self.left.get()


def _submit(context, function):
    """Hand the function to a worker; where no thread can be had, the caller does it all."""
    with _lock:
        if len(_workers) < number() - 1:
            worker = threading.Thread(target=_work, args=(_idle,), name="nphybrid", daemon=True)
            with contextlib.suppress(RuntimeError):
                worker.start()
                _workers.append(worker)
        if _workers:
            _idle.put((context, function))


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
