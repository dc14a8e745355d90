"""The one decorator, the instruction set it compiles for, and the folder that keeps what it compiled."""
import contextlib
import ctypes
import hashlib
import os
import platform
import sys
import tempfile
import warnings
from pathlib import Path

import numba
from numba import config

from .. import __version__

# The register tile of each instruction set: MR rows x NV vectors of LANES float32. MR * NV sums, NV vectors of b
# and one element of x in every lane have to fit the 32 vector registers, 16 on AVX2.
# AMX multiplies in tiles of its own (amx.py); attention is AVX-512's there too.
TILES = {"avx512": (6, 4, 16), "amx": (6, 4, 16), "avx2": (6, 2, 8), "neon": (5, 4, 4), "plain": (6, 2, 4)}

# Numba's settings that change the machine code, but not the key under which Numba keeps it.
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUG", "DEBUGINFO_DEFAULT",
            "DEBUG_NRT", "NRT_STATS", "USING_SVML", "ENABLE_AVX", "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS")
ROOM = 4 << 20                            # bytes: all kernels of one instruction set take less than 2 MB

# What `available` and `_choose` do, for those who ask (nphybrid doctor).
RULE = ("the first of avx512, avx2, neon, plain whose features Numba compiles for; NPHYBRID_ISA names another, or "
        "amx, which has only been run emulated")


def _target():
    """(triple, CPU, features) that Numba compiles for; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are in it."""
    from numba.core.registry import cpu_target
    return cpu_target.target_context.codegen().magic_tuple()


def _amx_allowed():
    """Whether Linux lets this process and those it forks use AMX.  Asked once, for good: signal stacks grow by it."""
    if sys.platform != "linux":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


def available(target):
    """The instruction sets of a target, that which is chosen first."""
    return list(_available(target))


def _available(target):
    """One by one: whoever takes the first does not ask Linux for AMX."""
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
    """The first instruction set, or the wanted one.  An instruction the CPU lacks would end the process."""
    there = iter(["plain"]) if config.DISABLE_JIT else _available(target)
    if wanted and wanted not in (found := list(there)):
        raise ValueError(f"NPHYBRID_ISA={wanted}: this machine has {', '.join(found)}")
    return wanted or next(there)


def _user_cache():
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _name(isa, target):
    """A folder name that changes with all that Numba's own key does not see: callees, globals, CPU, tile."""
    settings = [str(getattr(config, name, None)) for name in SETTINGS]
    versions = __version__, numba.__version__, sys.modules["llvmlite"].__version__, platform.python_version()
    seen = hashlib.sha256(repr((isa, TILES[isa], target, settings, versions)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        seen.update(source.read_bytes())
    return f"{isa}-{seen.hexdigest()[:16]}"


def _private_temporary():
    """A folder for this user alone: whoever may write here may run code as us, for a cache holds pickles."""
    if not hasattr(os, "getuid"):
        return Path(tempfile.gettempdir()) / "nphybrid"
    folder = Path(tempfile.gettempdir()) / f"nphybrid-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = os.lstat(folder)
    if state.st_uid != os.getuid() or state.st_mode & 0o170077 != 0o040000:
        raise PermissionError(f"{folder} belongs to someone else")
    return folder


def _cache_folder(name):
    """The first folder with room to write in, or None: a kernel that cannot be kept is compiled anew.

    A full disk still takes an empty file, and Numba would fail later, inside a word: ROOM bytes are tried.
    """
    chosen = config.CACHE_DIR
    for place in (lambda: Path(chosen).absolute() if chosen else _user_cache(), _private_temporary):
        try:
            folder = place() / "nphybrid" / name
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as trial:
                trial.write(bytes(ROOM))
                trial.flush()
            return folder
        except (OSError, RuntimeError) as error:          # RuntimeError: there is no home
            reason = error
    warnings.warn(f"compiled kernels cannot be kept ({reason}): every process compiles them anew. "
                  "NUMBA_CACHE_DIR names a folder that can be written.", RuntimeWarning, stacklevel=2)
    return None


def _level2():
    """Bytes of a core's L2 cache where Linux tells, else 512 KB.  It decides about speed alone, not about bits."""
    try:
        return int(Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().rstrip("K\n")) * 1024
    except (OSError, ValueError):
        return 1 << 19


TARGET = _target()
ISA = _choose(os.environ.get("NPHYBRID_ISA"), TARGET)
MR, NV, LANES = TILES[ISA]
NR = NV * LANES
L2 = _level2()
CACHE = None if config.DISABLE_JIT else _cache_folder(_name(ISA, TARGET))


def llvm():
    """The version of the LLVM that compiles."""
    return ".".join(map(str, sys.modules["llvmlite"].binding.llvm_version_info))


def cold():
    """Whether the folder is there and holds no compiled kernel yet: the first words will take their time."""
    return CACHE is not None and next(CACHE.rglob("*.nbc"), None) is None


def jit(function):
    """Compile at the first call.

    cache: what one process compiled, the next one reads: the first calls in examples/time_kernels.py take
        0.3 s instead of 14 (Ice Lake, 2 virtual cores).
    nogil: several Python threads run kernels at once (threads.py).
    fastmath=False: the order of summation is a promise, and NaN has to pass.
    error_model="numpy": 1 / 0 is infinite, as in NumPy; a check in each division keeps LLVM from vectorizing.
    Numba reads its cache folder here and nowhere else, so the user's own setting is put back.
    No two kernels may have one name, so none is a closure: Numba names machine code by function, kinds of arguments
    and a number that each process counts for itself, and could mix up what two processes compiled.
    """
    before = config.CACHE_DIR
    try:
        config.CACHE_DIR = str(CACHE or before)
        return numba.njit(cache=CACHE is not None, nogil=True, fastmath=False, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before
