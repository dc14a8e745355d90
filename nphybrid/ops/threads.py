"""Run serial kernels on several cores, in Python threads.  The kernels release the GIL.

    run(5, task) on 3 threads

    caller      task(0)   task(3)           wait
    worker 1    task(1)            task(4)
    worker 2       task(2)

A free thread takes the next task, until all tasks are taken. `run` returns when all tasks have ended. With one thread,
`run(count, task)` is the loop `for i in range(count): task(i)`. The operations of the forward pass give a kernel and
its arguments instead of a closure: `run(count, kernel, work, arguments)` calls kernel(*arguments, i).

A worker, which is a thread other than the caller, is started when it is first needed. A job is one call of `run`. A
worker without a job waits until a call of `run` puts its job into the queue. The caller takes tasks too. So a `run`
inside a task can finish even if no worker is free.

OpenMP is not used, because the forked children of a process that uses OpenMP are terminated. Numba's threading layers
are not used, because the layer `workqueue` aborts the process when two Python threads compute at the same time.
"""
import contextlib
import contextvars
import itertools
import os
import queue
import threading

import numpy as np

# Work of fewer multiply-adds than SMALL stays on the caller's thread.
# SMALL multiply-adds take 50 microseconds, about the time to wake another thread and to wait for its result.
SMALL = 8_000_000
# The largest number of threads. More threads than cores do not make a computation faster.
MOST_THREADS = 1024
ELEMENT = 64                              # an elementwise operation counts as ELEMENT multiply-adds per element
COPY = 16                                 # copying one element takes as long as COPY multiply-adds

_threads = contextvars.ContextVar("threads", default=None)


@contextlib.contextmanager
def using(n):
    """Within the `with` block, kernels run on at most n threads, and never on more than MOST_THREADS threads.

    `n` is at least 1, or None for no limit. The limit of an enclosing block also applies. Without any limit, there is
    one thread for each core that the process may use. Raises ValueError for n < 1.

    >>> with using(2):
    ...     with using(5):
    ...         print(number())
    2
    """
    if n is not None and n < 1:
        raise ValueError(f"threads: expected at least 1, or None for one thread per core, found {n}")
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
    """The number of threads that a kernel may use in the current context."""
    wanted = _threads.get()
    if wanted is None:
        wanted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(wanted, MOST_THREADS)


def worth(work):
    """The number of threads that a kernel should use for `work` multiply-adds."""
    return number() if work >= SMALL else 1


def run(count, task, work=SMALL, arguments=()):
    """Call task(*arguments, i) for each i in range(count), in any order.

    `work` is the number of multiply-adds of all tasks together. Work of at least SMALL is done on several threads.
    After the first exception, which may be KeyboardInterrupt, no further task begins. `run` raises the exception after
    all running tasks have ended. NumPy's warnings are switched off in the tasks, because kernels pass on NaN and
    infinity without a warning.
    """
    helpers = min(worth(work), count) - 1
    with np.errstate(all="ignore"):
        if helpers <= 0:
            for i in range(count):
                task(*arguments, i)
            return
        job = _Job(count, task, arguments)
        try:
            for _ in range(_ready_workers(helpers)):
                _idle.put((contextvars.copy_context(), job.help))
            job.drain()
            job.wait()
            error = job.error
        except BaseException:                             # KeyboardInterrupt may come between any two statements
            job.count = 0
            job.wait()
            raise
        finally:
            job.task = job.arguments = job.error = None
    try:
        if error is not None:
            raise error
    finally:
        # The error, its traceback and this frame refer to each other, and would keep arrays alive.
        del error


class _Job:
    """A job of `count` tasks.  No task is run twice.  Setting `count` to 0 stops the job."""

    def __init__(self, count, task, arguments):
        self.count = count
        self.task = task
        self.arguments = arguments
        self.error = None
        self.begun = itertools.count()    # next() is one step under the GIL, so no number is taken twice
        self.lock = threading.Lock()
        self.inside = 0                   # number of workers that take tasks now
        self.left = queue.SimpleQueue()   # gets an item each time that a worker leaves the job

    def drain(self):
        """Take tasks until no task is left."""
        while (i := next(self.begun)) < self.count:
            self.task(*self.arguments, i)

    def help(self):
        """Take tasks as a worker.  A worker that comes too late finds no task."""
        with self.lock:
            self.inside += 1
        try:
            self.drain()
        except BaseException as error:                    # `run` raises the error in the caller's thread
            self.error = self.error or error
            self.count = 0
        with self.lock:
            self.inside -= 1
        self.left.put(None)

    def wait(self):
        """Return when no worker is inside the job.

        An interrupted `wait` may be called again, because each worker puts an item into `left` when it leaves.
        """
        while self.inside:
            self.left.get()


def _ready_workers(wanted):
    """Start workers until there are `wanted` workers.  Return the number of workers, but at most `wanted`.

    If no new thread can be started, the caller and the existing workers do all tasks.
    """
    with _lock:
        while len(_workers) < wanted:
            worker = threading.Thread(target=_work, args=(_idle,), name="nphybrid", daemon=True)
            try:
                worker.start()
            except (RuntimeError, MemoryError):
                break
            _workers.append(worker)
        return min(len(_workers), wanted)


def _work(jobs):
    """Run functions from the queue `jobs` without end, as the target of a worker thread."""
    while True:
        context, function = jobs.get()
        context.run(function)
        del context, function                             # a waiting worker must not keep arrays alive


def _fresh():
    """Set up an empty queue and an empty list of workers.

    A forked process calls `_fresh`, because a fork inherits the list of workers but not their threads.
    """
    global _idle, _workers, _lock
    _idle = queue.SimpleQueue()
    _workers = []
    _lock = threading.Lock()


_fresh()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh)
