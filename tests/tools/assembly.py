"""Functions written in LLVM, translated to assembly for any instruction set, and run."""

from llvmlite import ir

FLOATS, INT, INTS = ir.FloatType().as_pointer(), ir.IntType(64), ir.IntType(64).as_pointer()


def emitted(module, name, kinds, body):
    """Add a function whose body is body(builder, *arguments)."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    build = ir.IRBuilder(function.append_basic_block())
    body(build, *function.args)
    build.ret_void()
