"""A recorded forward pass, which is repeated without Python between its kernels.

The bundled model has 101 jobs (threads.py) per forward pass, and most of them take 10 to 50 microseconds. Python
between two jobs takes as long as the jobs, and a second thread cannot be woken for such a short job. So the second
forward pass of a shape is recorded as a `Plan`, and later passes run the plan:

    step    entry                   frame                             count
    0       _pad_into               its arguments                     1           a step is a job: `count` tasks
    1       _multiply_into          its arguments, as 64-bit words    8
    2       sum_chunk_into          ...                               4
    ...
    40      0                                                         1           a function of NumPy, called by Python
    ...

Each thread of a plan goes through all steps (`_walk`). At each step, it takes tasks until none is left, and then waits
until all tasks of the step have ended: first it spins, and later it sleeps, so that other processes can run. A thread
that comes late skips the steps that have ended. No thread has a special role, so no thread waits for one that has not
begun.

The network does not know of plans. The `Recorder` is a further implementation of the operations, as `Record` is
(record.py), and the states of the network are `Variable`s. An operation whose arrays and jobs are all known becomes
steps. Everything else, such as np.concatenate or an operation with a closure, becomes one step that Python calls.

The arrays of a plan are never allocated again, and never cleared. As in an unrecorded pass, the memory of a state that
is not used any more serves for later states. A plan holds addresses of the learned arrays, so their new values are
used if they are changed in place.
"""
import functools
import sys
import time

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

from . import threads
from .emit import I32, I64, pointers
from .jit import jit
from .packed import Packed
from .record import Variable, values
from .target import ISA

LINE = 8                                  # the counters of each step lie in a cache line of their own
TAKEN, DONE = 0, 1                        # the counters of a step: the number of tasks that were taken, that have ended
SPIN = 2000                               # number of times that a thread looks before it sleeps: about 50 microseconds
SLEEP = 5e-5                              # seconds
LONG = 2_000_000_000                      # after this many multiply-adds, Python can raise KeyboardInterrupt
GO_ON, CALL, WAIT = range(3)              # why `_walk` returns: nothing, a step for Python, tasks of another thread

PASSES = 2                                # a shape is recorded after this number of unrecorded passes
MOST_BYTES = 1 << 26                      # a plan with more memory is not kept
MOST_SHAPES = 4                           # number of shapes that a model keeps plans for
MOST_CALLERS = 4                          # number of plans for one shape

_LIST = [np.empty(0)]
UNUSED = sys.getrefcount(_LIST[0])        # number of references to an array that only a list holds
_engines = []                             # they hold the machine code of `_entry`


# ---------------------------------------------------------------- run a plan

@intrinsic
def _call(typing, entry, frame, number):
    """Call the function with the address `entry`.  -> 0 if it succeeded"""
    def codegen(context, build, signature, arguments):
        entry, *rest = arguments
        return build.call(build.inttoptr(entry, ir.FunctionType(I32, [I64, I64]).as_pointer()), rest)
    return types.int32(types.int64, types.int64, types.int64), codegen


@intrinsic
def _add(typing, counters, at):
    """counters[at] += 1, in one step for all threads.  -> the value before"""
    def codegen(context, build, signature, arguments):
        counters, at = pointers(context, build, signature, arguments)
        return build.atomic_rmw("add", build.gep(counters, [at]), I64(1), "seq_cst")
    return types.int64(counters, types.int64), codegen


@intrinsic
def _look(typing, counters, at):
    """Return counters[at], as other threads have left it, after a short pause."""
    def codegen(context, build, signature, arguments):
        counters, at = pointers(context, build, signature, arguments)
        if ISA in ("avx2", "avx512", "amx"):
            pause = ir.FunctionType(ir.VoidType(), [])
            build.call(cgutils.get_or_insert_function(build.module, pause, "llvm.x86.sse2.pause"), [])
        return build.load_atomic(build.gep(counters, [at]), "seq_cst", 8)
    return types.int64(counters, types.int64), codegen


@jit
def _walk(entries, frames, counts, rests, counters, first):
    """Take tasks from step `first` on.  -> the step that was reached, and GO_ON, CALL or WAIT

    The last counter is not 0 if the plan must stop.
    """
    stop = counters.size - 1
    for step in range(first, counts.size):
        taken = step * LINE + TAKEN
        done = step * LINE + DONE
        count = counts[step]
        number = _add(counters, taken)
        while number < count:
            if entries[step] == 0:
                return step, CALL
            if _call(entries[step], frames[step], number) != 0:
                _add(counters, stop)
            _add(counters, done)
            number = _add(counters, taken)
        looks = 0
        while _look(counters, done) < count:
            looks += 1
            if looks == SPIN:
                return step, WAIT
        if counters[stop]:
            return counts.size, GO_ON
        if rests[step]:
            return step + 1, GO_ON
    return counts.size, GO_ON


class Plan:
    """A recorded forward pass of one shape.  One caller at a time can use it."""

    def __init__(self, x):
        self.x = x.copy()
        self.steps = []                   # (entry, frame as an array or None, count, work)
        self.functions = {}               # {step: a function that Python calls}
        self.states = {}                  # {name: array}
        self.result = None
        self.blocks = []                  # the memory of the states
        self.n = threads.number()

    def finish(self, result, states):
        """End the recording."""
        self.result = result
        self.states = states
        entries, frames, counts, work = zip(*self.steps)
        self.keep = frames
        self.arrays = (np.array(entries), np.array([0 if frame is None else frame.ctypes.data for frame in frames]),
                       np.array(counts), np.diff(np.cumsum(work) // LONG, prepend=0))
        self.counters = np.zeros((len(counts) + 1) * LINE, np.int64)

    def run(self, x, out):
        """Run all steps for the input x.  Copies the states to `out`.  -> a copy of the result

        Raises MemoryError if a kernel has too little memory.
        """
        self.x[:] = x
        self.counters[:] = 0
        threads.run(self.n, self._walk)
        if self.counters[-1]:
            raise MemoryError("not enough memory for a kernel")
        return self.copied(out)

    def copied(self, out):
        """Copy the states to `out`.  -> a copy of the result"""
        for name, state in self.states.items():
            out[name] = state.copy()
        return self.result.copy()

    def _walk(self, _):
        """Take part in the plan, until all steps have ended or the plan is stopped."""
        step = 0
        try:
            while step < len(self.steps):
                step, why = _walk(*self.arrays, self.counters, step)
                if why == CALL:
                    self.functions[step]()
                    self.counters[step * LINE + DONE] = 1
                elif why == WAIT:
                    time.sleep(SLEEP)
        except BaseException:
            self.counters[-1] = 1         # the other threads must not wait for this one
            raise


# ---------------------------------------------------------------- record a plan

class Recorder:
    """An implementation of the operations that computes a forward pass and records it as a Plan.

    `ops` is the module that computes the operations.
    """

    def __init__(self, ops, plan):
        self.ops = ops
        self.plan = plan
        self.known = []                   # the arrays that a job may use: arguments of the operation
        self.complete = True              # whether all jobs of the operation are steps

    def __getattr__(self, name):
        return functools.partial(self._operation, getattr(self.ops, name))

    def _operation(self, operation, *arguments):
        return self.note(operation, None, *map(self._contiguous, arguments))

    def _contiguous(self, argument):
        """The operations copy an array that is not contiguous.  This copy must be a step."""
        if isinstance(argument, Variable) and not argument.value.flags.carray:
            return self.note(np.ascontiguousarray, None, argument)
        return argument

    def note(self, operation, rule, *arguments):
        """Compute an operation, and record it.  -> Variable.  A Variable calls this method for functions of NumPy."""
        before = len(self.plan.steps)
        inputs = values(arguments)
        self.known = list(_arrays(inputs))
        self.complete = True
        result = operation(*inputs)
        if not isinstance(result, np.ndarray):
            raise TypeError(f"{operation}: expected one array, found {type(result).__name__}")
        if not (self.complete and self._knows(result)):
            del self.plan.steps[before:]
            self.plan.functions[before] = lambda: np.copyto(result, operation(*inputs))
            self.plan.steps.append((0, None, 1, 0))
        return Variable(result, self)

    def job(self, count, task, work, arguments):
        """Record a job as a step.  `threads.run` calls this method before it runs the job."""
        if not (isinstance(task, Dispatcher) and all(map(self._knows, _arrays(arguments)))):
            self.complete = False
        if self.complete:
            kinds = (*map(task.typeof_pyval, arguments), types.int64)
            self.plan.steps.append((_entry(task, kinds), np.array(_words(arguments), np.int64), count, work))

    def memory(self, size):
        """Return `size` bytes that no array uses, on a 64-byte boundary.  `memory.empty` calls this method."""
        blocks = self.plan.blocks
        free = [i for i in range(len(blocks)) if blocks[i].size >= size + 64 and sys.getrefcount(blocks[i]) == UNUSED]
        if free:
            block = blocks[min(free, key=lambda i: blocks[i].size)]
        else:
            block = np.empty(size + 64, np.uint8)
            blocks.append(block)
        start = -block.ctypes.data % 64
        return block[start:start + size]

    def _knows(self, array):
        """Whether an array lies in the memory of the plan, or in an argument of the operation."""
        return not array.size or any(np.may_share_memory(array, other) for other in (*self.known, *self.plan.blocks))


def _arrays(argument):
    """Yield the arrays in an argument.  Tuples, branches of Params and lists are searched."""
    if isinstance(argument, Packed):
        yield argument.panels
    elif isinstance(argument, np.ndarray):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for part in argument:
            yield from _arrays(part)


def _words(argument):
    """The words of 64 bits that a compiled kernel gets for an argument.

    The words of an array are the fields of Numba's ArrayStruct. Its two owners are 0: the plan owns the memory.
    """
    if isinstance(argument, np.ndarray):
        return [0, 0, argument.size, argument.itemsize, argument.ctypes.data, *argument.shape, *argument.strides]
    if isinstance(argument, tuple):
        return [word for part in argument for word in _words(part)]
    if isinstance(argument, float):
        return [int(np.float64(argument).view(np.int64))]
    if isinstance(argument, np.float32):
        return [int(argument.view(np.int32))]
    return [int(argument)]


@functools.cache
@global_compiler_lock
def _entry(kernel, kinds):
    """Compile entry(frame, number), which calls a kernel with the words of a frame and a task's number.  -> address

    `kinds` are the Numba types of the kernel's arguments. All entries have one signature, so `_walk` can call each.
    """
    kernel.compile(kinds)
    compiled = kernel.overloads[kinds]
    name = compiled.fndesc.llvm_func_name
    kernel_type = compiled.target_context.call_conv.get_function_type(compiled.signature.return_type, kinds)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(I32, [I64, I64]), "entry")
    build = ir.IRBuilder(function.append_basic_block())
    frame = build.inttoptr(function.args[0], I64.as_pointer())
    # The first two arguments of each compiled kernel are places for its result and its exception.
    places = [cgutils.alloca_once(build, kind.pointee) for kind in kernel_type.args[:2]]
    words = [build.load(build.bitcast(build.gep(frame, [I64(i)]), kind.as_pointer()))
             for i, kind in enumerate(kernel_type.args[2:-1])]
    kernel_address = compiled.library.get_pointer_to_function(name)
    build.ret(build.call(build.inttoptr(I64(kernel_address), kernel_type.as_pointer()),
                         [*places, *words, function.args[1]]))
    # Numba's own code generator would optimize the function, which takes 15 ms.
    machine = llvm.Target.from_default_triple().create_target_machine(opt=1, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(function.name)


# ---------------------------------------------------------------- keep plans

class Shape:
    """The plans for one shape of pixel_values, one set of states and one number of threads."""

    def __init__(self):
        self.passes = 0                   # the number of unrecorded passes, at most PASSES
        self.slots = [None] * MOST_CALLERS        # for each caller that may come: a plan, or None if not recorded yet


class Plans:
    """The plans of one model.

    Several threads may call `run` at the same time. Each uses a plan of its own. There are no locks, because pop and
    append are single steps. In the worst case, a plan is lost and recorded again.
    """

    def __init__(self):
        self.learned = None               # the params and the config for which the plans were recorded
        self.shapes = {}                  # {key: Shape}, the least recently used first

    def __reduce__(self):
        return Plans, ()                  # the addresses in a plan have no meaning in another process

    def run(self, learned, x, ops, out, network):
        """Compute a forward pass, with a plan if possible.  -> the result of the network

        `learned` is (params, config). `network(x, ops, out)` computes the forward pass and records states in `out`. If
        memory is short, all plans are dropped.
        """
        shape = self._shape(learned, x, out)
        if shape.passes < PASSES or not shape.slots:
            shape.passes = min(shape.passes + 1, PASSES)
            return network(x, ops, out)
        try:
            return _run(shape.slots, x, ops, out, network)
        except MemoryError:
            self.shapes = {}
            out.clear()
        return network(x, ops, out)

    def _shape(self, learned, x, out):
        """The Shape for a forward pass."""
        if self.learned is None or any(old is not new for old, new in zip(self.learned, learned)):
            self.learned = learned
            self.shapes = {}
        shapes = self.shapes
        key = x.shape, frozenset(out.keep), threads.number()
        shape = shapes[key] = shapes.pop(key, None) or Shape()
        if len(shapes) > MOST_SHAPES:
            shapes.pop(next(iter(shapes)), None)
        return shape


def _run(slots, x, ops, out, network):
    """Compute a forward pass with the plan of a slot, or record this plan.  Another caller may take the last slot."""
    try:
        plan = slots.pop()
    except IndexError:
        return network(x, ops, out)
    try:
        if plan is None:
            plan = recorded(x, ops, out, network)
            # A shape that cannot be recorded loses a slot each time.
            result = network(x, ops, out) if plan is None else plan.copied(out)
        else:
            result = plan.run(x, out)
    except BaseException:
        slots.insert(0, None)             # after an interrupt, a thread may still be inside the plan
        raise
    if plan is not None:
        slots.append(plan)
    return result


def recorded(x, ops, out, network):
    """Compute a forward pass, and record it.  -> Plan, or None if the pass cannot be recorded"""
    plan = Plan(x)
    recorder = Recorder(ops, plan)
    token = threads.recorder.set(recorder)
    try:
        result = network(Variable(plan.x, recorder), recorder, out)
        plan.finish(result.value, {name: state.value for name, state in out.items()})
    except (TypeError, AttributeError):
        return None                       # the network calls a function that a Variable does not have
    finally:
        threads.recorder.reset(token)
    return plan if sum(block.size for block in plan.blocks) <= MOST_BYTES else None
