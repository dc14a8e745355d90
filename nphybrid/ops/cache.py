"""The folder that keeps the compiled kernels."""
import contextlib
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
from .target import ISA, TARGET, TILES

# The settings of Numba that change the machine code, but are missing in Numba's own cache key.
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUG", "DEBUGINFO_DEFAULT",
            "DEBUG_NRT", "NRT_STATS", "USING_SVML", "ENABLE_AVX", "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS")

ROOM = 4 << 20                            # size of the test file in bytes; all kernels together take less than 2 MB


def _user_cache():
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _name(isa, target):
    """Return a folder name that depends on what changes the machine code, but is missing in Numba's own cache key.

    Numba's key does not contain the code of called functions, the values of global variables or the size of the
    register tile.
    """
    settings = [str(getattr(config, name, None)) for name in SETTINGS]
    versions = __version__, numba.__version__, sys.modules["llvmlite"].__version__, platform.python_version()
    seen = hashlib.sha256(repr((isa, TILES[isa], target, settings, versions)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        seen.update(source.read_bytes())
    return f"{isa}-{seen.hexdigest()[:16]}"


def _private_temporary():
    """Return a temporary folder that only this user can open.

    The cache holds pickles. Anybody who can write into the cache can run code with the rights of this user.
    """
    if not hasattr(os, "getuid"):
        return Path(tempfile.gettempdir()) / "nphybrid"
    folder = Path(tempfile.gettempdir()) / f"nphybrid-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = os.lstat(folder)
    if state.st_uid != os.getuid() or state.st_mode & 0o170077 != 0o040000:
        raise PermissionError(f"{folder}: expected a folder that only this user can open, found another owner or mode")
    return folder


def _cache_folder(name):
    """Choose between two folders, and return the first one that can be written.  None if neither can be written.

    One folder is in NUMBA_CACHE_DIR or in the user's cache, the other in a private temporary folder. Without a
    folder, every process compiles the kernels again. On a full disk, an empty file can be created, but a kernel cannot
    be stored. Numba would then fail later, inside an operation. So `_cache_folder` tests each folder with a file of
    ROOM bytes.
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
        except (OSError, RuntimeError) as error:          # RuntimeError means that this user has no home folder
            reason = error
    warnings.warn(f"compiled kernels cannot be kept ({reason}): every process compiles the kernels again. "
                  "NUMBA_CACHE_DIR can be set to a folder that can be written.", RuntimeWarning, stacklevel=2)
    return None


CACHE = None if config.DISABLE_JIT else _cache_folder(_name(ISA, TARGET))


def is_cold():
    """Return True if the cache folder has no compiled kernel yet.

    In this case, the first call of each operation takes long, because its kernels are compiled during the call.
    """
    return CACHE is not None and next(CACHE.rglob("*.nbc"), None) is None
