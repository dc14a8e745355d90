"""Records a forward pass as a Plan (plan.py).

The network does not know that it is recorded. The `Recorder` is a further implementation of the operations, as `Record`
is (record.py), and the states of the network are `Variable`s. `threads.run` tells the recorder of each job, and
`memory.empty` gets the memory of new arrays from it.

An operation becomes the steps of its jobs if these jobs alone compute the result from the arguments. Everything else
becomes a function that Python calls: a function of NumPy, such as np.concatenate, and an operation with a closure or
with an array that the recorder does not know. Functions that follow each other are one step, because the other threads
sleep if Python takes long. A view of a known array is no step.

So an operation must not write into the result of `memory.empty` with NumPy: only kernels may do this.

As in an unrecorded pass, the memory of a state that is not used any more serves for later states.
"""
import contextvars
import functools
import os
import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

from . import threads
from .emit import I32, I64
from .integers import ceil_div
from .interrupts import uninterrupted
from .memory import give_back_freed_memory
from .packed import Packed
from .plan import Plan
from .record import Variable, values
from .target import CACHE_LINE

MOST_BYTES = 1 << 26                      # a pass that needs more memory for its states is not recorded

NO_WORDS = (lambda: None), (), None       # the value of `Recorder.last` if no words can be shared

_engines = []                             # they hold the machine code of `_entry`


class NotRecordable(Exception):
    """Raised if a forward pass cannot be recorded."""


class Region(NamedTuple):
    """A part of the memory of a plan.  It is free again when its array is gone."""
    start: int
    end: int
    array: Callable[[], np.ndarray | None]        # a weak reference


def record(x, ops, out, network):
    """Compute a forward pass, and record it.  -> Plan

    `network(x, ops, out)` computes the forward pass. `out` is an empty trace, and contains Variables at the end. Raises
    NotRecordable.
    """
    give_back_freed_memory()              # of unrecorded passes, which the plan replaces
    plan = Plan(x, threads.number(), MOST_BYTES)
    recorder = Recorder(ops, plan)

    def run():
        threads.recorder.set(recorder)
        return network(Variable(plan.x, recorder), recorder, out)
    try:
        # A context of its own: an interrupt cannot leave the recorder in the context of the caller.
        result = contextvars.copy_context().run(run)
        plan.finish(result.value, {name: state.value for name, state in out.items()})
    except (TypeError, AttributeError) as error:          # the network calls a function that a Variable does not have
        raise NotRecordable from error
    return plan


class Recorder:
    """An implementation of the operations that computes a forward pass and records it as a Plan.

    `ops` is the module that computes the operations.
    """

    def __init__(self, ops, plan):
        self.ops = ops
        self.plan = plan
        self.known = []                   # the arrays that a job may use: arguments of the operation
        self.complete = True              # whether all jobs of the operation are steps
        self.used = []                    # the Regions that are in use, in the order of their addresses
        self.last = NO_WORDS              # a weak reference to the memory of the last x in words, its key, its words

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
        """Compute an operation, and record it.  -> Variable

        A Variable calls this method for functions of NumPy, as it calls `Record.note`. `rule` is not used.
        """
        before = len(self.plan.steps)
        inputs = values(arguments)
        self.known = list(_arrays(inputs))
        self.complete = True
        result = operation(*inputs)
        if not isinstance(result, np.ndarray):
            raise NotRecordable(f"{operation}: expected one array, found {type(result).__name__}")
        if not (self.complete and self._knows(result)):
            del self.plan.steps[before:]
            self.last = NO_WORDS          # its steps may be among those that were deleted
            if before - 1 not in self.plan.functions:
                self.plan.functions[before] = []
                self.plan.steps.append((0, None, 1, 0))
            self.plan.functions[len(self.plan.steps) - 1].append(_function(operation, inputs, result))
        return Variable(result, self)

    def job(self, count, task, work, arguments):
        """Record a job as a step.  `threads.run` calls this method before it runs the job."""
        if not (isinstance(task, Dispatcher) and all(map(self._knows, _arrays(arguments)))):
            self.complete = False
        if self.complete:
            kinds = (*map(task.typeof_pyval, arguments), types.int64)
            self.plan.steps.append((_entry(task, kinds), np.array(_frame(arguments), np.int64), count, work))

    def words_of(self, write, x, *arguments):
        """Return write(x, *arguments), the words of x.  A second call in a row with equal arguments writes nothing.

        So the products that compute q, k and v share the words of one x. `words.words_of` calls this method.
        """
        owner = x if x.base is None else x.base
        key = x.ctypes.data, x.shape, *arguments
        last_owner, last_key, words = self.last
        if last_owner() is not owner or not all(map(np.array_equal, last_key, key)):
            words = write(x, *arguments)
            self.last = weakref.ref(owner), key, words
        return words

    def memory(self, size):
        """Return `size` bytes that no array uses.  `memory.empty` calls this method.

        They start at the beginning of a cache line, and no other array lies in their last cache line.
        """
        self.used = [region for region in self.used if region.array() is not None]
        room = ceil_div(size, CACHE_LINE) * CACHE_LINE
        starts = [0, *(region.end for region in self.used)]
        ends = [*(region.start for region in self.used), self.plan.memory.size]
        gap = next((i for i, (start, end) in enumerate(zip(starts, ends)) if end - start >= room), None)
        if gap is None:
            raise NotRecordable("too much memory")
        start = starts[gap]
        # The base of this array is no array, so it is the base of all views of it, and lives as long as they do.
        array = np.frombuffer(self.plan.memory.data[start:start + size], np.uint8)
        self.used.insert(gap, Region(start, start + room, weakref.ref(array)))
        return array

    def _knows(self, array):
        """Whether an array lies in the memory of the plan, or in an argument of the operation."""
        return not array.size or any(np.may_share_memory(array, other) for other in (self.plan.memory, *self.known))


def _function(operation, inputs, result):
    """A function that computes an operation again, and writes into the array `result`.

    If NumPy can write into it directly, nothing is allocated.
    """
    if isinstance(operation, np.ufunc) or getattr(operation, "func", None) is np.concatenate:
        return lambda: operation(*inputs, out=result)
    return lambda: np.copyto(result, operation(*inputs))


def _arrays(argument):
    """Yield the arrays in an argument.  Tuples, branches of Params and lists are searched."""
    if isinstance(argument, Packed):
        yield from _arrays((*argument.weights, argument.factors))
    elif isinstance(argument, np.ndarray):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for part in argument:
            yield from _arrays(part)


def _frame(argument):
    """The 64-bit fields that a compiled kernel gets for an argument.

    The fields of an array are those of Numba's ArrayStruct. Its two owners are 0: the plan owns the memory.
    """
    if isinstance(argument, np.ndarray):
        return [0, 0, argument.size, argument.itemsize, argument.ctypes.data, *argument.shape, *argument.strides]
    if isinstance(argument, tuple):
        return [field for part in argument for field in _frame(part)]
    if isinstance(argument, float):
        return [int(np.float64(argument).view(np.int64))]
    if isinstance(argument, np.float32):
        return [int(argument.view(np.int32))]
    return [int(argument)]


@functools.cache
@uninterrupted
@global_compiler_lock
def _entry(kernel, kinds):
    """Compile entry(frame, number), which calls a kernel with the fields of a frame and a task's number.  -> address

    `kinds` are the Numba types of the kernel's arguments. All entries have one signature, so `_take_tasks` calls each.
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
    fields = [build.load(build.bitcast(build.gep(frame, [I64(i)]), kind.as_pointer()))
              for i, kind in enumerate(kernel_type.args[2:-1])]
    kernel_address = compiled.library.get_pointer_to_function(name)
    build.ret(build.call(build.inttoptr(I64(kernel_address), kernel_type.as_pointer()),
                         [*places, *fields, function.args[1]]))
    # Numba's own code generator would optimize the function, which takes 15 ms.
    machine = llvm.Target.from_default_triple().create_target_machine(opt=1, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(function.name)


# A child that is forked while another thread compiles would wait for the lock forever. So a fork waits for the lock.
# If Ctrl-C ended `acquire`, Python would print the exception, and fork without the lock. So Ctrl-C is delayed until
# `acquire` has ended. The fork goes on, and Python only prints the KeyboardInterrupt. So Ctrl-C must be pressed again.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=uninterrupted(global_compiler_lock.acquire),
                        after_in_parent=global_compiler_lock.release, after_in_child=global_compiler_lock.release)
