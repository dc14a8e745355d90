"""The instruction set that the kernels are compiled for, and the size of the register tile."""
import ctypes
import os
import sys
from pathlib import Path

from numba import config

# TILES gives (MR, NV, LANES) for each instruction set.
# A register tile has MR rows of NV vectors of LANES float32 numbers.
# A tile needs registers for MR * NV vectors of sums, for NV vectors of weights, and for one element of x.
# A CPU with AVX-512 or NEON has 32 vector registers. A CPU with AVX2 has 16.
# With AMX, linear layers and convolutions use the tiles of amx.py. Attention uses the register tile.
TILES = {"avx512": (6, 4, 16), "amx": (6, 4, 16), "avx2": (6, 2, 8), "neon": (5, 4, 4), "plain": (6, 2, 4)}

# With avx512bf16 and avx512vnni, a word holds two bfloat16 or four int8 (widths.py). AMX multiplies such words.
FEATURES_OF_AMX = {"+amx-tile", "+amx-bf16", "+amx-int8", "+avx512bf16", "+avx512vnni"}

# `nphybrid doctor` prints this rule, which `available`, `_choose` and `instructions` follow.
RULE = ("The default is the first of avx512, avx2, neon and plain that Numba can compile for. NPHYBRID_ISA can name a "
        "different instruction set, for example amx. The kernels for neon and amx were tested only in emulation. The "
        "instructions for bfloat16 and int8 follow from the instruction set and the features of the CPU.")


def _target():
    """Return the target that Numba compiles for, as (triple, CPU, features).

    If NUMBA_CPU_NAME or NUMBA_CPU_FEATURES is set, the target contains its value.
    """
    from numba.core.registry import cpu_target
    return cpu_target.target_context.codegen().magic_tuple()


def _amx_allowed():
    """Ask Linux to permit AMX to this process and its forks.  Returns True if Linux permits AMX.

    The permission cannot be withdrawn. A process with this permission needs larger signal stacks.
    """
    if sys.platform != "linux":
        return False
    arch_prctl = 158                      # the number of the system call arch_prctl
    request_permission = 0x1023           # ARCH_REQ_XCOMP_PERM
    tile_data = 18                        # XFEATURE_XTILEDATA
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


def available(target):
    """The instruction sets of a target.  The first instruction set is the default."""
    return list(_available(target))


def _available(target):
    """Yield the instruction sets one by one.  If only the first is taken, Linux is not asked to permit AMX."""
    triple, _, features = target
    features = set(features.split(","))
    if {"+avx512f", "+avx512vl"} <= features:
        yield "avx512"
        if FEATURES_OF_AMX <= features and _amx_allowed():
            yield "amx"
    if {"+avx2", "+fma"} <= features:
        yield "avx2"
    if triple.startswith(("aarch64", "arm64")):
        yield "neon"
    yield "plain"


def _choose(wanted, target):
    """Return the wanted instruction set, or the first available instruction set if `wanted` is empty.

    Raises ValueError if this machine lacks the wanted instruction set. An instruction that the CPU lacks would end the
    process.
    """
    there = iter(["plain"]) if config.DISABLE_JIT else _available(target)
    if wanted and wanted not in (found := list(there)):
        hint = "; NUMBA_DISABLE_JIT=1 allows only plain" if config.DISABLE_JIT else ""
        raise ValueError(f"NPHYBRID_ISA={wanted}: expected an instruction set of this machine ({', '.join(found)})"
                         f"{hint}")
    return wanted or next(there)


def instructions(isa, target):
    """The instruction that multiplies two words, for each narrow width: {"bfloat16": name, "int8": name}.

    The name is "" if the target has no such instruction. Then several instructions of the float32 tile or of integers
    multiply a word. widths.py explains the instructions.
    """
    features = set(target[2].split(","))
    bfloat16 = int8 = ""
    if isa in ("avx512", "amx"):
        bfloat16 = "vdpbf16ps" if "+avx512bf16" in features else ""
        int8 = "vpdpbusd" if "+avx512vnni" in features else "vpmaddwd" if "+avx512bw" in features else ""
    elif isa == "avx2":
        int8 = "vpdpbusd" if "+avxvnni" in features else "vpmaddwd"
    elif isa == "neon":
        bfloat16 = "bfdot" if "+bf16" in features else ""
        int8 = "usdot" if "+i8mm" in features else "sdot" if "+dotprod" in features else ""
    return {"bfloat16": bfloat16, "int8": int8}


def _level2():
    """Return the size of a core's L2 cache in bytes.  If Linux does not report a size, the result is 512 KB.

    The size of L2 changes the speed of the kernels, but not the bits of the results.
    """
    try:
        return int(Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().rstrip("K\n")) * 1024
    except (OSError, ValueError):
        return 1 << 19


TARGET = _target()
ISA = _choose(os.environ.get("NPHYBRID_ISA"), TARGET)
INSTRUCTIONS = instructions(ISA, TARGET)
MR, NV, LANES = TILES[ISA]
NR = NV * LANES
SHORT = 2                                 # rows of the smaller tile; of 577 and 50 tokens, 1 and 2 are left if MR = 6
L2 = _level2()
CACHE_LINE = 64                           # bytes
# Whether kernels ask for memory before they need it (matmul.py). On Zen 3, which has AVX2, R50+ViT-B/16 and
# R26+ViT-S/32 take 1 to 2 % less time without these requests.
PREFETCH = ISA not in ("avx2", "plain")


def llvm():
    """The version of LLVM, which compiles the kernels."""
    return ".".join(map(str, sys.modules["llvmlite"].binding.llvm_version_info))
