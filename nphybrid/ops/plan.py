"""A recorded forward pass, which is repeated without Python between its kernels.

The bundled model has 101 jobs (threads.py) per forward pass, and most of them take 5 to 100 microseconds. Python
between two jobs takes almost as long, and a second thread cannot be woken for such a short job. So a forward pass is
recorded as a `Plan` (recorder.py), and later passes of the same shape run the plan (plans.py):

    step    entry            frame                                    tasks
       0    _pad_into        its arguments, as 64-bit fields          1           a step is a job: `count` tasks
       1    _multiply_into   its arguments                            4
       2    sum_chunk_into   its arguments                            4
     ...
      63    0                                                         1           functions that Python calls

Each thread of a plan goes through all steps. The tasks of a step are divided into one share for each thread. A thread
takes the tasks of its share, then the tasks that are left in other shares, and then waits until all tasks of the step
have ended. First it spins, and later it sleeps, so that other processes can run. No thread has a special role: a thread
that comes late skips the steps that have ended, and no thread waits for it.

The tasks of a step are numbered in the order of the rows that they compute. So a thread mostly reads rows that it has
written itself, and that are in its own cache. With an earlier order of the tasks, R50+ViT-B/16 in int8 took 135 instead
of 133 ms, and 184 instead of 166 ms at times when a virtual machine copies slowly between its two cores (medians of
runs in turn, Zen 5).

The arrays of a plan are never allocated again, and never cleared. A plan holds the addresses of the learned arrays, so
a value that is changed in place is used.
"""
import time
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import threads
from .emit import I32, I64, Emit, pointers
from .jit import jit
from .target import CACHE_LINE, ISA

LINE = CACHE_LINE // 8                    # each counter lies in a cache line of its own
SPIN = 2000                               # a thread looks SPIN times before it sleeps: about 50 microseconds
SLEEP = 5e-5                              # seconds
PATIENCE = 20                             # sleeps: 2 to 3 milliseconds, because Linux adds 50 microseconds to each
LONG = 2_000_000_000                      # after LONG multiply-adds, Python can raise KeyboardInterrupt
GO_ON, CALL, WAIT = range(3)              # why `_take_tasks` returns


@intrinsic
def _call(typing, entry, frame, number):
    """Call the function with the address `entry`.  -> 0 if it succeeded"""
    def codegen(context, build, signature, arguments):
        entry, *rest = arguments
        return build.call(build.inttoptr(entry, ir.FunctionType(I32, [I64, I64]).as_pointer()), rest)
    return types.int32(types.int64, types.int64, types.int64), codegen


@intrinsic
def _add(typing, counters, at):
    """counters[at] += 1, as an atomic operation.  -> the value before"""
    def codegen(context, build, signature, arguments):
        counters, at = pointers(context, build, signature, arguments)
        return build.atomic_rmw("add", build.gep(counters, [at]), I64(1), "seq_cst")
    return types.int64(counters, types.int64), codegen


@intrinsic
def _look(typing, counters, at):
    """Read counters[at] as an atomic operation, on x86 after a short pause.  -> the value"""
    def codegen(context, build, signature, arguments):
        counters, at = pointers(context, build, signature, arguments)
        if ISA in ("avx2", "avx512", "amx"):
            Emit(build, 1).call("llvm.x86.sse2.pause", ir.VoidType())
        return build.load_atomic(build.gep(counters, [at]), "seq_cst", 8)
    return types.int64(counters, types.int64), codegen


class Steps(NamedTuple):
    """The steps of a plan, as the kernel reads them.  Each array has a number for each step."""
    entries: np.ndarray                   # the address of a function, or 0 if Python calls the step's functions
    frames: np.ndarray                    # the address of the fields of a kernel's arguments (recorder.py)
    counts: np.ndarray                    # number of tasks
    returns: np.ndarray                   # not 0 if the kernel returns to Python after the step


@jit
def _take_tasks(steps, counters, first, thread, n):
    """Take tasks from step `first` on, as one of n threads.  -> the step to go on with, and GO_ON, CALL or WAIT

    CALL: Python calls the functions of the step, and then `_end_task`. WAIT: other threads compute the last tasks of
    the step, which takes long.

    Each step has n counters of the tasks that were taken from each share, and a counter of the tasks that have ended.
    The last counter of all is not 0 if the plan must stop.
    """
    entries = steps.entries
    frames = steps.frames
    counts = steps.counts
    returns = steps.returns
    stop = counters.size - 1
    for step in range(first, counts.size):
        taken = step * (n + 1) * LINE
        done = taken + n * LINE
        count = counts[step]
        for i in range(n):
            share = (thread + i) % n
            start = share * count // n
            end = (share + 1) * count // n
            number = start + _add(counters, taken + share * LINE)
            while number < end:
                if entries[step] == 0:
                    return step, CALL
                if _call(entries[step], frames[step], number) != 0:
                    _add(counters, stop)
                _add(counters, done)
                number = start + _add(counters, taken + share * LINE)
        looks = 0
        while _look(counters, done) < count and _look(counters, stop) == 0:
            looks += 1
            if looks == SPIN:
                return step, WAIT
        if _look(counters, stop) != 0:
            return counts.size, GO_ON
        if returns[step]:
            return step + 1, GO_ON
    return counts.size, GO_ON


@jit
def _end_task(counters, step, n):
    """Count a task as ended.  All threads that see the count also see what the task has written."""
    _add(counters, (step * (n + 1) + n) * LINE)


def _returns(work):
    """Not 0 for each step that completes a further LONG multiply-adds.  `work`: multiply-adds of each step"""
    return np.diff(np.cumsum(work) // LONG, prepend=0)


class Plan:
    """A recorded forward pass of one shape.  One caller at a time can use it."""

    def __init__(self, x, n, size):
        self.x = x.copy()
        self.n = n                        # number of threads
        self.steps = []                   # (entry, frame as an array or None, count, work)
        self.functions = {}               # {step: the functions that Python calls}
        self.states = {}                  # {name: array}
        self.result = None
        # The system provides a page of this memory when the recording first uses it.
        buffer = np.empty(size + CACHE_LINE, np.uint8)
        self.memory = buffer[-buffer.ctypes.data % CACHE_LINE:][:size]        # for the states

    def finish(self, result, states):
        """Add what the network returned at the end of the recording: its result, and a dict {name: state}."""
        self.result = result
        self.states = states
        entries, frames, counts, work = zip(*self.steps)
        addresses = [0 if frame is None else frame.ctypes.data for frame in frames]
        self.arrays = Steps(np.array(entries), np.array(addresses), np.array(counts), _returns(work))
        self.counters = np.zeros((len(counts) * (self.n + 1) + 1) * LINE, np.int64)

    def run(self, x, out):
        """Run all steps for the input x.  Copies the states to `out`.  -> a copy of the result

        Raises MemoryError if a kernel has too little memory.
        """
        self.x[:] = x
        self.counters[:] = 0
        with threads.apart() as release:
            threads.run(self.n, self._work, arguments=(release,))
        if self.counters[-1]:
            raise MemoryError("not enough memory for a kernel")
        return self.copied(out)

    def copied(self, out):
        """Copy the states to `out`.  -> a copy of the result"""
        for name, state in self.states.items():
            out[name] = state.copy()
        return self.result.copy()

    def _work(self, release, thread):
        """Take part in the plan until all steps have ended or the plan is stopped.

        After PATIENCE sleeps in one step, release() lets all threads change their cores. Then the thread that is waited
        for probably shares its core with another process.
        """
        step = sleeps = 0
        try:
            while step < len(self.steps):
                step, why = _take_tasks(self.arrays, self.counters, step, thread, self.n)
                sleeps = sleeps + 1 if why == WAIT else 0
                if why == CALL:
                    for function in self.functions[step]:
                        function()
                    _end_task(self.counters, step, self.n)
                elif why == WAIT:
                    if sleeps == PATIENCE:
                        release()
                    time.sleep(SLEEP)
        except BaseException:
            self.counters[-1] = 1         # the other threads must not wait for this one
            raise
