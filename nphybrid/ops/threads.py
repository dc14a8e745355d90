"""Run serial kernels on several cores, in Python threads.  The kernels release the GIL.

    run(5, task) on 3 threads

    caller      task(0)   task(3)           wait
    worker 1    task(1)            task(4)
    worker 2       task(2)

A free thread takes the next task, until all tasks are taken. `run` returns when all tasks have ended. With one thread,
`run(count, task)` is the loop `for i in range(count): task(i)`. The operations of the forward pass give a kernel and
its arguments instead of a closure: `run(count, kernel, work, arguments)` calls kernel(*arguments, i).

`Later` is for jobs whose results are needed later, such as the gradients of weights. Their tasks fill the time in which
a worker would wait for the caller.

A worker, which is a thread other than the caller, is started when it is first needed. A job is one call of `run`. A
worker without a job waits until a call of `run` puts its job into the queue. The caller takes tasks too. So a `run`
inside a task can finish even if no worker is free.

OpenMP is not used, because the forked children of a process that uses OpenMP are terminated. Numba's threading layers
are not used, because the layer `workqueue` aborts the process when two Python threads compute at the same time.
"""
import contextlib
import contextvars
import ctypes
import itertools
import os
import queue
import threading

import numpy as np

# Work of fewer multiply-adds than SMALL stays on the caller's thread.
# SMALL multiply-adds take about 190 microseconds on one thread (Zen 3). For less work, another thread is not woken.
SMALL = 8_000_000
# A job of a plan is started without Python, so smaller work is divided (plan.py).
SMALL_IN_PLAN = 100_000
# The largest number of threads. More threads than cores make a computation slower: with 64 threads on 2 cores, the
# bundled model takes 3 to 4 times as long (Zen 3).
MOST_THREADS = 1024
ELEMENT = 64                              # an elementwise operation counts as ELEMENT multiply-adds per element
MOST_LATER = 8                            # the most jobs that wait in a Later: each keeps its arrays in memory
COPY = 16                                 # copying one element takes as long as COPY multiply-adds

# A function that returns the number of the core on which the calling thread runs, or None.
_core = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None

_threads = contextvars.ContextVar("threads", default=None)
# An object that is told of each job, and that supplies the memory of new arrays (recorder.py), or None.
recorder = contextvars.ContextVar("recorder", default=None)


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


def threads_for(work):
    """The number of threads among which a kernel should divide `work` multiply-adds."""
    return number() if work >= (SMALL if recorder.get() is None else SMALL_IN_PLAN) else 1


@contextlib.contextmanager
def apart():
    """Within the `with` block, the caller stays on its core, and the workers stay on other cores.  Only on Linux.

    The block gets a function `release`. After release(), the caller and the workers may use all cores that the caller
    could use before the block. So Linux can move a thread if another process uses its core. The end of the block does
    the same. A thread whose cores another program has changed keeps its cores. `number` does not change in the block. A
    process that a signal handler starts in the block has one core.

    In a virtual machine, Linux was seen to move a thread to the core of another one although a core was idle. The
    probable reason: the host has taken the idle core away, and Linux regards it as busy. After pauses of 0.15 seconds,
    a forward pass of R26+ViT-S/32 at 224 pixels takes 11 instead of 14 to 16 ms in int8, and 23 instead of 30 ms in
    float32 (Zen 5, 2 threads, medians of two processes each). Beside two busy processes, a forward pass of R50+ViT-B/16
    takes 0.37 to 0.40 s in bfloat16. If no thread may change its core until the end, it takes 0.54 to 0.68 s.
    """
    n = number()
    cores = os.sched_getaffinity(0) if _core and n > 1 else set()
    core = {_core()} & cores if cores else set()
    if len(cores) < 2 or not core:
        yield lambda: None
        return
    _ready_workers(n - 1)                 # they must exist, so that they can be given other cores
    given = {worker.native_id: cores - core for worker in _workers} | {threading.get_native_id(): core}

    def release():
        """Let all of them use all cores of the caller, except a thread whose cores another program has changed."""
        for thread, own in given.items():
            _allow(thread, cores, instead_of=own)
    try:
        for thread, own in given.items():
            _allow(thread, own)
        with using(n):                    # the caller now has one core, from which `number` would conclude one thread
            yield release
    finally:
        try:
            release()
        except BaseException:             # KeyboardInterrupt must not leave a thread on few cores
            release()
            raise


def _allow(thread, cores, instead_of=None):
    """Let a thread, given by its native id, run on some cores, but only if it now has the cores `instead_of`."""
    with contextlib.suppress(OSError):                    # a container may forbid it
        if instead_of is None or os.sched_getaffinity(thread) == instead_of:
            os.sched_setaffinity(thread, cores)


def run(count, task, work=SMALL, arguments=()):
    """Call task(*arguments, i) for each i in range(count), in any order.

    `work` is the number of multiply-adds of all tasks together. Work of at least SMALL is done on several threads.
    After the first exception, which may be KeyboardInterrupt, no further task begins. `run` raises the exception after
    all running tasks have ended. NumPy's warnings are switched off in the tasks, because kernels pass on NaN and
    infinity without a warning.
    """
    if count and (listener := recorder.get()):
        listener.job(count, task, work, arguments)
    helpers = min(number() if work >= SMALL else 1, count) - 1
    with np.errstate(all="ignore"):
        if helpers > 0:
            _Job(count, task, arguments).finish(helpers)
            return
        for i in range(count):
            task(*arguments, i)


class Later:
    """Jobs whose results nobody needs before `finish`.  Idle workers do their tasks.

        with Later() as later:
            later.run(count, kernel, work, arguments)     # may return before the tasks have run
            ...                                           # must not read the results
            later.finish()                                # all tasks have run

    A worker takes one task, and goes to the end of the queue of workers' jobs. So a job of `run` waits for one task at
    most. The end of the `with` block calls `finish`. After an exception in the block, no further task begins. A process
    that is forked within the block must not use the Later.
    """

    def __init__(self):
        self.jobs = []                    # the jobs that are not finished
        self.helpers = 0                  # number of workers that take tasks, or are asked to
        self.lock = threading.Lock()

    def __enter__(self):
        return self

    def run(self, count, kernel, work=SMALL, arguments=()):
        """As the function `run`, but the tasks may run later.  At most MOST_LATER jobs wait.

        `kernel` is jitted. The tasks run at once if the work is less than SMALL. They also run at once if the process
        has more workers than this caller may use, because all of them could take tasks.
        """
        helpers = (number() if work >= SMALL else 1) - 1
        if not helpers or len(_workers) > helpers:
            run(count, kernel, work, arguments)
            return
        if len(self.jobs) == MOST_LATER:
            self._finish_first()
        helpers = _ready_workers(helpers)
        with self.lock:
            self.jobs.append(_Job(count, kernel, arguments))
            missing = max(helpers - self.helpers, 0)
            self.helpers += missing
        for _ in range(missing):
            _idle.put((contextvars.copy_context(), self._help))

    def _help(self):
        """Take one task as a worker, and ask to take the next one."""
        with self.lock:
            job = next((job for job in self.jobs if not job.empty), None)
            if job is None:
                self.helpers -= 1
                return
        if not job.help_once():
            job.release()
        _idle.put((contextvars.copy_context(), self._help))

    def finish(self):
        """Take tasks until no task is left, and wait for the workers.  Raises the first error of a task."""
        while self.jobs:
            self._finish_first()

    def _finish_first(self):
        self.jobs[0].finish()
        del self.jobs[0]

    def __exit__(self, kind, error, traceback):
        try:
            if kind is None:
                self.finish()
        finally:
            for job in self.jobs:
                job.stop()


class _Job:
    """A job of `count` tasks.  No task is run twice."""

    def __init__(self, count, task, arguments):
        self.count = count
        self.task = task
        self.arguments = arguments
        self.error = None
        self.empty = False                # whether a thread found no task left
        self.begun = itertools.count()    # next() is one step under the GIL, so no number is taken twice
        self.lock = threading.Lock()
        self.inside = 0                   # number of workers that take tasks now
        self.left = queue.SimpleQueue()   # gets an item each time that a worker leaves the job

    def take(self):
        """Take one task.  Returns False if no task is left."""
        task = self.task
        arguments = self.arguments
        i = next(self.begun)
        if i >= self.count:
            self.empty = True
            return False
        task(*arguments, i)
        return True

    def drain(self):
        """Take tasks until no task is left."""
        while self.take():
            pass

    def help(self):
        """Take tasks as a worker.  A worker that comes too late finds no task."""
        self._help(self.drain)

    def help_once(self):
        """Take one task as a worker.  Returns False if no task is left."""
        return self._help(self.take)

    def _help(self, take):
        with self.lock:
            self.inside += 1
        result = False
        try:
            result = take()
        except BaseException as error:                    # `finish` raises the error in the caller's thread
            self.error = self.error or error
            self.count = 0
            self.empty = True
        with self.lock:
            self.inside -= 1
        self.left.put(None)
        return result

    def finish(self, helpers=0):
        """Ask some workers for help, take tasks until no task is left, and raise the first error of a task."""
        try:
            for _ in range(_ready_workers(helpers)):
                _idle.put((contextvars.copy_context(), self.help))
            self.drain()
            self.wait()
            error = self.error
        except BaseException:                             # KeyboardInterrupt may come between any two statements
            self.stop()
            raise
        finally:
            self.release()
            self.error = None
        try:
            if error is not None:
                raise error
        finally:
            # The error, its traceback and this frame refer to each other, and would keep arrays alive.
            del error

    def wait(self):
        """Return when no worker is inside the job.

        An interrupted `wait` may be called again, because each worker puts an item into `left` when it leaves.
        """
        while self.inside:
            self.left.get()

    def stop(self):
        """Begin no further task, and wait for the workers."""
        self.count = 0
        self.empty = True
        self.wait()
        self.release()
        self.error = None

    def release(self):
        """Drop the arrays of a job that has no task left."""
        self.task = self.arguments = None


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
    _lock = threading.RLock()             # a signal handler may call a kernel while its thread holds the lock


_fresh()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh)
