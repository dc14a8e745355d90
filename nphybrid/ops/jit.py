"""The decorator of all kernels, which compiles a kernel at its first call or loads it from the cache."""
import contextvars
import functools
import hashlib
import io
import linecache
import pickle

import numba
from llvmlite import binding as llvm
from numba import config, types
from numba.core import ir
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.environment import Environment, lookup_environment
from numba.core.runtime import nrtdynmod, rtsys
from numba.core.serialize import dumps

from . import cache
from .interrupts import uninterrupted

USED = []                                 # the cache names of the kernels that this process loaded or compiled
COMPILED = []                             # the cache names of the kernels that this process compiled
MEMORY_MANAGER = "memory_manager"         # the cache name of Numba's memory manager

# If True, no kernel is compiled in this context. A call of a kernel that is not in the cache raises NotCompiled.
only_load = contextvars.ContextVar("only_load", default=False)


class NotCompiled(Exception):
    """Raised if a kernel is not in the cache, and must not be compiled."""


def before_compiling():
    """Do nothing.  KernelCache calls this function before a kernel is compiled.  The command line replaces it."""


def jit(function):
    """Compile a function at its first call, without reference counts.

    The function can slice and change the arrays that it gets. It must not make an array, receive an array from a
    function that it calls, or return an array: the memory of such an array would never be freed, or would be freed
    twice. Functions that do this are decorated with `jit_allocating`. A compilation raises TypeError if this rule is
    broken.

    A later process loads the compiled kernels from the cache. With the cache, the first calls in
    examples/time_kernels.py take 0.3 s instead of 14 s (Ice Lake, 2 virtual cores).

    `nogil`: Several Python threads can run kernels at the same time (threads.py).
    `fastmath=False`: LLVM keeps the order of every summation, and the results for NaN are correct.
    `error_model="numpy"`: 1 / 0 is infinite, as in NumPy. A check for 0 in each division would prevent vectorization.
    `_nrt=False`: Numba does not count the references to an array. It counts with atomic instructions, before which the
    processor waits for all earlier stores. Without counts, the bundled model takes 5 % less time (Zen 5, 2 threads).
    `_nrt` is an internal option of Numba 0.61 to 0.68.

    The file of a kernel in the cache is named after its module and its function. So two kernels in a module must not
    have the same name, and a kernel cannot be a closure. Raises TypeError for a closure.
    """
    return _compiled(function, counts=False)


def jit_allocating(function):
    """As `jit`, for a function that makes, receives or returns arrays.  Numba counts the references to each array.

    The hot loops are in functions of their own, which are decorated with `jit`.
    """
    return _compiled(function, counts=True)


def _compiled(function, counts):
    if function.__closure__:
        raise TypeError(f"{function.__qualname__} uses variables of an enclosing function; expected a function of a "
                        "module")
    dispatcher = numba.njit(nogil=True, fastmath=False, error_model="numpy", _nrt=counts)(function)
    if not config.DISABLE_JIT:
        # Numba's own cache (cache=True) loads damaged files, ignores changes in called functions, and does not work
        # with a read-only folder.
        dispatcher._cache = KernelCache(function, counts)
        dispatcher.compile = uninterrupted(dispatcher.compile)
    return dispatcher


class KernelCache:
    """The cache of one kernel.  It replaces numba.core.caching.FunctionCache, and has the methods that Numba calls."""

    cache_path = None

    def __init__(self, function, counts):
        self.counts = counts              # whether the kernel counts references
        # The source is read now, because the file may change later.
        source = "".join(linecache.getlines(function.__code__.co_filename, function.__globals__))
        self.source = hashlib.sha256(source.encode()).hexdigest()
        self.prefix = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"

    def load_overload(self, signature, target_context):
        """Return the compiled kernel for a signature, or None.  If None is returned, Numba compiles the kernel."""
        name = self._name(signature)
        data = cache.load(name)
        if data is None and only_load.get():
            raise NotCompiled(name)
        _start_memory_manager(target_context)
        USED.append(name)
        if data is None:
            before_compiling()
            COMPILED.append(name)
            target_context.refresh()
            return None
        # Numba's own cache also calls `refresh` here, which imports all that a compilation needs, and takes 0.3 s.
        return _rebuilt(target_context, *_Reader(io.BytesIO(data)).load())

    def save_overload(self, signature, compiled):
        """Write a compiled kernel, unless its machine code contains addresses of this process.

        Raises TypeError if a kernel without reference counts returns an array, or receives one from another kernel.
        Numba itself raises an error if such a kernel makes an array.
        """
        if not self.counts and (trouble := _uncounted_array(compiled)):
            raise TypeError(f"{self.prefix} {trouble}; expected the decorator jit_allocating")
        if not (compiled.lifted or compiled.library.has_dynamic_globals):
            cache.store(self._name(signature), dumps(compiled._reduce()))

    def _name(self, signature):
        """Return MODULE.KERNEL-HASH.  HASH depends on the module's source and on the types of the arguments."""
        digest = hashlib.sha256(f"{signature} {self.source}".encode()).hexdigest()
        return f"{self.prefix}-{digest[:16]}"


class _Reader(pickle.Unpickler):
    """Reads a kernel from the cache, without importing the modules of the functions of Numba that it calls.

    A kernel has an Environment for each function that it calls: the global names of the function's module, and
    constants. Numba would import the module for its names. Only code in Numba's object mode reads the names. Kernels
    are never in object mode, so only the constants are needed. Without the import of numba.np.arrayobj, the first
    kernel of a process is loaded in 15 instead of 44 ms (Numba 0.68, Zen 3).
    """

    def find_class(self, module, name):
        ours = (module, name) == ("numba.core.environment", "_rebuild_env")
        return _environment if ours else super().find_class(module, name)


def _environment(module, constants, name):
    """Return the Environment of this name: the one that exists already, or a new one with only the constants."""
    found = lookup_environment(name)
    if found is None:
        found = Environment({"__name__": module})
        found.consts[:] = constants
        found.env_name = name
        Environment._memo[name] = found
    return found


def _rebuilt(target_context, library, descriptor, *others):
    """Rebuild a compiled kernel from the parts that `CompileResult._reduce` returned.

    A file in the cache has the machine code and the LLVM code of a kernel. The LLVM code is parsed only when a kernel
    that calls this kernel is compiled. Numba itself would parse it at once, which takes 58 ms and 10 MB for the 20
    kernels of an int8 model (Numba 0.68, Zen 5).
    """
    name, kind, (machine_code, llvm_code) = library
    # Numba finds the names of the functions in the LLVM code, and looks up the address of a known name only.
    target_context.codegen()._engine._defined_symbols.update(
        (descriptor.llvm_func_name, descriptor.llvm_cpython_wrapper_name, descriptor.llvm_cfunc_wrapper_name))
    library = name, kind, (machine_code, _no_code())
    compiled = CompileResult._rebuild(target_context, library, descriptor, *others)
    compiled.library._get_module_for_linking = functools.cache(lambda: llvm.parse_bitcode(llvm_code))
    return compiled


@functools.cache
def _no_code():
    """The LLVM code of an empty module."""
    return llvm.parse_assembly("").as_bitcode()


@global_compiler_lock
def _start_memory_manager(target_context):
    """Start Numba's memory manager, which kernels call to make and free arrays.  A later call does nothing.

    Numba would compile it in each process, which takes 13 ms, and 21 MB of memory for the parts of LLVM that compile
    (Numba 0.68, Zen 5). `rtsys.initialize` takes no compiled library, so the function that it calls is replaced. If the
    process has used Numba before, the memory manager runs already, and it is not kept.
    """
    compile_it = nrtdynmod.compile_nrt_functions
    nrtdynmod.compile_nrt_functions = _memory_manager
    try:
        rtsys.initialize(target_context)
    finally:
        nrtdynmod.compile_nrt_functions = compile_it


def _memory_manager(target_context):
    """Return the library of the memory manager.  It is kept in the cache, as a kernel is."""
    data = cache.load(MEMORY_MANAGER)
    if data is None and only_load.get():
        raise NotCompiled(MEMORY_MANAGER)
    if data is not None:
        return target_context.codegen().unserialize_library(pickle.loads(data))
    module, library = nrtdynmod.create_nrt_module(target_context)
    library.enable_object_caching()       # keeps the machine code, which is written into the cache
    library.add_ir_module(module)
    library.finalize()
    cache.store(MEMORY_MANAGER, pickle.dumps(library.serialize_using_object_code()))
    return library


def _uncounted_array(compiled):
    """What a kernel without reference counts must not do with an array, or None if it does nothing of this kind."""
    if _holds_array(compiled.signature.return_type):
        return "returns an array"
    annotation = compiled.type_annotation
    for call, signature in annotation.calltypes.items():
        if isinstance(call, ir.Expr) and call.op == "call":
            called = annotation.typemap[call.func.name]
            if isinstance(called, types.Dispatcher) and _holds_array(signature.return_type):
                return f"gets an array from {called.dispatcher.py_func.__name__}"
    return None


def _holds_array(kind):
    return isinstance(kind, types.Array) or isinstance(kind, types.BaseTuple) and any(map(_holds_array, kind))
