"""Several cores: Python threads that run serial kernels, which release the GIL.

    run(5, task) on 3 threads

    caller      task(0)   task(3)           wait          each thread takes the next number when it is free,
    worker 1    task(1)            task(4)                until there are no more; the caller returns when
    worker 2       task(2)                                no worker is inside a task

In plain Python `run(count, task)` is `for i in range(count): task(i)`. Workers are started when they are first needed,
and then wait for jobs in a queue. The caller takes tasks too, so a `run` inside a task can always finish without
workers.

Not used: OpenMP (its forked children die), and Numba's threading layers (`workqueue` aborts when two Python threads
compute at once).
"""
import contextlib
import contextvars
import itertools
import os
import queue
import threading

import numpy as np

# Work of fewer multiply-adds stays on the caller's thread: 50 microseconds, about the time to wake another thread and
# to wait for it.
SMALL = 8_000_000
ELEMENT = 64                              # an elementwise operation on one element counts as this many multiply-adds

_threads = contextvars.ContextVar("threads", default=None)


@contextlib.contextmanager
def using(n):
    """Within the block, kernels run on at most n threads.

    n: at least 1. None sets no limit. An enclosing block's limit holds too; without any limit there is one thread per
    core that the process may use. Raises ValueError for n < 1.

    >>> with using(2):
    ...     with using(5):
    ...         print(number())
    2
    """
    if n is not None and n < 1:
        raise ValueError(f"threads: expected at least 1, or None for one per core, found {n}")
    limit = _threads.get()
    if limit is None:
        limit = n
    elif n is not None:
        limit = min(n, limit)
    token = _threads.set(limit)
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
    """How many threads a kernel should use here for this many multiply-adds."""
    return number() if work >= SMALL else 1


def run(count, task, work=SMALL):
    """task(i) for each i in range(count), in any order, on several threads if `work` multiply-adds are worth it.

    After the first exception (KeyboardInterrupt too) no further task begins. The exception is raised here, once no task
    is running. NumPy's warnings are switched off, because kernels pass NaN and infinity on without a warning.
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
        except BaseException:                             # KeyboardInterrupt may come between any two steps
            job.count = 0
            job.wait()
            raise
        finally:
            job.task = job.error = None
    try:
        if error is not None:
            raise error
    finally:
        del error                         # breaks the circle error, traceback, this frame: it would keep arrays alive


class _Job:
    """`count` tasks, each given to one thread; a count of 0 stops the job."""

    def __init__(self, count, task):
        self.count = count
        self.task = task
        self.error = None
        self.begun = itertools.count()    # next() is one step under the GIL: no number is taken twice
        self.lock = threading.Lock()
        self.inside = 0                   # workers that take tasks now
        self.left = queue.SimpleQueue()   # gets an item whenever a worker has left

    def drain(self):
        """Take tasks until there are no more."""
        while (i := next(self.begun)) < self.count:
            self.task(i)

    def help(self):
        """A worker's share.  A worker that comes too late finds no task."""
        with self.lock:
            self.inside += 1
        try:
            self.drain()
        except BaseException as error:                    # `run` raises it in the caller's thread
            self.error = self.error or error
            self.count = 0
        with self.lock:
            self.inside -= 1
        self.left.put(None)

    def wait(self):
        """Return when no worker is inside.  May be interrupted and called again: each worker inside puts an item."""
        while self.inside:
            self.left.get()


def _submit(context, function):
    """Give the function to a worker.  Without any worker it is dropped, and the caller does all tasks."""
    with _lock:
        if len(_workers) < number() - 1:
            worker = threading.Thread(target=_work, args=(_idle,), name="nphybrid", daemon=True)
            with contextlib.suppress(RuntimeError):
                worker.start()
                _workers.append(worker)
        if _workers:
            _idle.put((context, function))


def _work(jobs):
    """A worker: runs functions from the queue `jobs`, for ever."""
    while True:
        context, function = jobs.get()
        context.run(function)
        del context, function                             # so that waiting workers keep no arrays alive


def _fresh():
    """Start with no workers.  A forked child needs this: it has the parent's list of threads, but not the threads."""
    global _idle, _workers, _lock
    _idle = queue.SimpleQueue()
    _workers = []
    _lock = threading.Lock()


_fresh()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh)
