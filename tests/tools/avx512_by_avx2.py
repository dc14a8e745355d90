"""Lets a process with AVX2 run the kernels for AVX-512 with BF16 and VNNI.

nphybrid takes the processor for one with AVX-512. LLVM does not, and replaces each vector of 16 lanes by two
vectors of 8. LLVM has no replacement for three instructions, so they are emitted as several instructions that every
processor has. Their results are those of Intel's Software Developer's Manual, volume 2. Only the sums of vdpbf16ps are
rounded in another way.
"""
from llvmlite import ir
from numba.core.registry import cpu_target

FEATURES = "+avx512f,+avx512vl,+avx512bw,+avx512bf16,+avx512vnni"


def _all(vector, number):
    """A number in every lane of a vector of integers."""
    return ir.Constant(vector.type, [number] * vector.type.count)


def vdpbf16ps(emit, sums, x, b):
    """Each lane: sums + (upper half of x) * (upper half of b) + (lower half of x) * (lower half of b)."""
    build = emit.build
    for half in (lambda bits: build.and_(bits, _all(bits, 0xFFFF0000)), lambda bits: build.shl(bits, _all(bits, 16))):
        sums = emit.fma(*(build.bitcast(half(bits), sums.type) for bits in (x, b)), sums)
    return sums


def vpdpbusd(emit, sums, x, b):
    """Each lane: sums + the products of the bytes of x, which have no sign, and the bytes of b."""
    build = emit.build
    for byte in range(4):
        left, right = (build.shl(bits, _all(bits, 24 - 8 * byte)) for bits in (x, b))
        sums = build.add(sums, build.mul(build.lshr(left, _all(x, 24)), build.ashr(right, _all(b, 24))))
    return sums


def vcvtneps2bf16(emit, x):
    """Each lane: x rounded to bfloat16, with ties to even. A denormal becomes 0."""
    build = emit.build
    bits = build.bitcast(x, ir.VectorType(ir.IntType(32), emit.lanes))
    sign = build.and_(bits, _all(bits, 0x80000000))
    size = build.xor(bits, sign)
    even = build.and_(build.lshr(size, _all(size, 16)), _all(size, 1))
    near = build.add(build.add(size, _all(size, 0x7FFF)), even)
    near = build.select(build.icmp_unsigned("<", size, _all(size, 0x00800000)), _all(size, 0), near)
    near = build.select(build.icmp_unsigned(">", size, _all(size, 0x7F800000)), _all(size, 0x7FC00000), near)
    upper = build.lshr(build.or_(near, sign), _all(size, 16))
    return build.trunc(upper, ir.VectorType(ir.IntType(16), emit.lanes))


INSTRUCTIONS = {"llvm.x86.avx512bf16.dpbf16ps.512": vdpbf16ps, "llvm.x86.avx512.vpdpbusd.512": vpdpbusd,
                "llvm.x86.avx512bf16.cvtneps2bf16.512": vcvtneps2bf16}


def pretend():
    """Change this process.  nphybrid must not have been imported before."""
    codegen = cpu_target.target_context.codegen()
    triple, cpu, features = codegen.magic_tuple()
    codegen.magic_tuple = lambda: (triple, cpu, f"{features},{FEATURES}")
    from nphybrid.ops.emit import Emit
    plain_call = Emit.call

    def call(emit, name, result, *arguments):
        """As Emit.call.  Modules without a name belong to tests of assembly, which is not run."""
        if name in INSTRUCTIONS and emit.build.module.name:
            return INSTRUCTIONS[name](emit, *arguments)
        return plain_call(emit, name, result, *arguments)
    Emit.call = call
