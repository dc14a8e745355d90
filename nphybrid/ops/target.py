"""The instruction set that the kernels are compiled for, and the size of its register tile."""
import ctypes
import os
import sys
from pathlib import Path

from numba import config

# The register tile of each instruction set: MR rows x NV vectors of LANES float32. MR * NV sums, NV vectors of b
# and one element of x in every lane have to fit into the 32 vector registers, 16 on AVX2.
# AMX has its own tiles for layers (amx.py); there attention uses the register tile of AVX-512.
TILES = {"avx512": (6, 4, 16), "amx": (6, 4, 16), "avx2": (6, 2, 8), "neon": (5, 4, 4), "plain": (6, 2, 4)}

# The rule of `available` and `_choose`, as `nphybrid doctor` prints it.
RULE = ("the first of avx512, avx2, neon, plain whose features Numba compiles for; NPHYBRID_ISA names another, or "
        "amx, which has only been run emulated")


def _target():
    """(triple, CPU, features) that Numba compiles for; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are in it."""
    from numba.core.registry import cpu_target
    return cpu_target.target_context.codegen().magic_tuple()


def _amx_allowed():
    """Whether Linux permits AMX to this process and its forks.  A permission stays, and enlarges signal stacks."""
    if sys.platform != "linux":
        return False
    arch_prctl = 158                      # its number as a system call; ARCH_REQ_XCOMP_PERM; XFEATURE_XTILEDATA
    request_permission = 0x1023
    tile_data = 18
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


def available(target):
    """The instruction sets of a target; the first is the default."""
    return list(_available(target))


def _available(target):
    """The instruction sets one by one, so that a caller that takes only the first does not ask Linux for AMX."""
    triple, _, features = target
    features = set(features.split(","))
    if {"+avx512f", "+avx512vl"} <= features:
        yield "avx512"
        if {"+amx-tile", "+amx-bf16"} <= features and _amx_allowed():
            yield "amx"
    if {"+avx2", "+fma"} <= features:
        yield "avx2"
    if triple.startswith(("aarch64", "arm64")):
        yield "neon"
    yield "plain"


def _choose(wanted, target):
    """The first instruction set, or the wanted one.

    Raises ValueError if this machine lacks it, because an instruction that the CPU lacks ends the process.
    """
    there = iter(["plain"]) if config.DISABLE_JIT else _available(target)
    if wanted and wanted not in (found := list(there)):
        raise ValueError(f"NPHYBRID_ISA={wanted}: this machine has {', '.join(found)}")
    return wanted or next(there)


def _level2():
    """Bytes of a core's L2 cache as Linux reports them, else 512 KB.  They change the speed, not the bits."""
    try:
        return int(Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().rstrip("K\n")) * 1024
    except (OSError, ValueError):
        return 1 << 19


TARGET = _target()
ISA = _choose(os.environ.get("NPHYBRID_ISA"), TARGET)
MR, NV, LANES = TILES[ISA]
NR = NV * LANES
L2 = _level2()


def llvm():
    """The version of the LLVM that compiles."""
    return ".".join(map(str, sys.modules["llvmlite"].binding.llvm_version_info))
