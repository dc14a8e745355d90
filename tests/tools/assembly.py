"""Functions written in LLVM, translated to assembly for any instruction set, and run."""

import ctypes

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

FLOATS, INT, INTS = ir.FloatType().as_pointer(), ir.IntType(64), ir.IntType(64).as_pointer()
LINUX = "x86_64-unknown-linux-gnu"
ARM = "aarch64-unknown-linux-gnu"
# A vector to or from the stack.
SPILLS = {LINUX: r"%[xyz]mm\d+.*\(%rsp|\(%rsp.*%[xyz]mm\d+", ARM: r"\b[qv]\d+.*\[sp"}


def emitted(module, name, kinds, body):
    """Add a function whose body is body(builder, *arguments)."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    build = ir.IRBuilder(function.append_basic_block())
    body(build, *function.args)
    build.ret_void()


def assembly(triple, cpu, kinds, emit):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    except RuntimeError as error:
        pytest.skip(f"this llvmlite does not know {triple}: {error}")
    module = ir.Module()
    module.triple = triple
    emitted(module, "tile", kinds, emit)
    return machine.emit_assembly(llvm.parse_assembly(str(module)))


def on_this_machine(module):
    """An engine, and a way to call its functions.  LLVM splits vectors that this CPU lacks into those that it has."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module.triple = llvm.get_default_triple()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()

    def function(name, kinds):
        types = [ctypes.c_int64 if kind == INT else ctypes.c_void_p for kind in kinds]
        entry = ctypes.CFUNCTYPE(None, *types)(engine.get_function_address(name))
        return lambda *args: entry(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in args))
    return engine, function
