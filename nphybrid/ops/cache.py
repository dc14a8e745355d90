"""Keeps the compiled kernels in files, so that later processes do not compile them again.

    FOLDER/nphybrid/ISA-HASH/MODULE.KERNEL-HASH.kernel
    FOLDER/nphybrid/ISA-HASH/memory_manager.kernel             Numba's memory manager, which kernels call (jit.py)
    FOLDER/nphybrid/ISA-HASH/KEY.weights                       the packed weights of a model (checkpoint/kept.py)

Kernels are searched in two FOLDERs. The first FOLDER is NUMBA_CACHE_DIR. If this variable is not set, the first FOLDER
is the user's cache. The second FOLDER is a private temporary folder, for example /tmp/nphybrid-1000 for the user 1000.
A new kernel is written into the first FOLDER that can be written. A warning says if this is the second FOLDER. If all
kernels are found, nothing is written. New folders and files can be written by this user only, from the moment in which
they are created, whatever the umask is. Anybody who can write a kernel can run code with the rights of this user.

ISA-HASH depends on everything that changes the machine code: the sources of the kernels, the versions, the CPU, and the
settings of Numba. So the kernels of several versions can lie in one FOLDER.

A file contains the SHA-256 of its data, and then the data. If the data has a different SHA-256, the file is damaged,
for example by a power failure. A damaged file is never loaded, because LLVM could abort the process. The kernel in a
damaged file is compiled again, and the file is replaced.
"""
import contextlib
import hashlib
import importlib.resources
import os
import platform
import shutil
import stat
import sys
import tempfile
import warnings
from pathlib import Path

import numba
from numba import config

from .. import __version__
from ..tensorfile import write_atomically
from .target import ISA, TARGET, TILES

# The settings of Numba that change the machine code.
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUG", "DEBUGINFO_DEFAULT",
            "DEBUG_NRT", "NRT_STATS", "USING_SVML", "ENABLE_AVX", "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS")

SUFFIX = ".kernel"
WEIGHTS = ".weights"
ROOM = 16 << 20                           # bytes; all kernels together take 5 to 10 MB
NO_FOLDER = "this user has no home folder and no private temporary folder"


def _name(isa, target):
    """Return the folder name ISA-HASH."""
    settings = [str(getattr(config, name, None)) for name in SETTINGS]
    versions = __version__, numba.__version__, sys.modules["llvmlite"].__version__, platform.python_version()
    seen = hashlib.sha256(repr((isa, TILES[isa], target, settings, versions)).encode())
    for source in sources(__package__):
        seen.update(source)
    return f"{isa}-{seen.hexdigest()[:16]}"


def sources(package):
    """Return the contents of all Python files of a package, without those of its subpackages."""
    files = [file for file in importlib.resources.files(package).iterdir() if file.name.endswith(".py")]
    return [file.read_bytes() for file in sorted(files, key=lambda file: file.name)]


NAME = _name(ISA, TARGET)


# ---------------------------------------------------------------- the folders

def _chosen_folder():
    """Return NUMBA_CACHE_DIR or the user's cache.  None if this user has no home folder."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR).absolute()
    with contextlib.suppress(RuntimeError):
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches"
        # The XDG Base Directory Specification says that a relative path is ignored.
        place = os.environ.get("XDG_CACHE_HOME", "")
        return Path(place) if os.path.isabs(place) else Path.home() / ".cache"
    return None


CHOSEN = _chosen_folder()
PRIVATE_TOO = True                        # False if only the folder CHOSEN is used


def use(folder):
    """Use only the given folder from now on.  The folder is created if it does not exist.

    `use` must be called before the first kernel is called. Kernels that were loaded earlier are not stored in the
    folder. Raises OSError if the folder cannot be created. Raises PermissionError if the folder cannot be written.
    """
    global CHOSEN, PRIVATE_TOO
    CHOSEN, PRIVATE_TOO = Path(folder).absolute(), False
    path = CHOSEN / "nphybrid" / NAME
    _create(path)
    if reason := obstacle(path):
        raise PermissionError(reason)


def folders(create=False):
    """Yield the kernel folders of this version, in the order in which they are searched.

    A yielded folder may not exist yet. With `create`, the private temporary folder is created if it is needed.
    """
    if CHOSEN is not None:
        yield CHOSEN / "nphybrid" / NAME
    if PRIVATE_TOO:
        with contextlib.suppress(OSError):
            yield _private_folder(create) / NAME


def _private_folder(create):
    """Return the private temporary folder, which only this user can open.

    Raises PermissionError if other users can open the folder. The files of kernels contain pickles. Anybody who can
    write these files can run code with the rights of this user.
    """
    if not hasattr(os, "getuid"):
        return Path(tempfile.gettempdir()) / "nphybrid"
    folder = Path(tempfile.gettempdir()) / f"nphybrid-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        if create:
            folder.mkdir(mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        state = os.lstat(folder)
        if state.st_uid != os.getuid() or state.st_mode & 0o170077 != 0o040000:
            raise PermissionError(f"{folder}: expected a folder that only the user {os.getuid()} can open, found the "
                                  f"owner {state.st_uid} and the mode {stat.filemode(state.st_mode)}")
    return folder


def _create(folder):
    """Create a folder and its parents.  Only this user can write in the new folders."""
    for path in reversed([path for path in (folder, *folder.parents) if not os.path.exists(path)]):
        path.mkdir(mode=0o755, exist_ok=True)


def obstacles():
    """Return the reason why no kernel can be written, for each folder that is searched.  None: it can be written."""
    reasons = [] if CHOSEN is None else [obstacle(CHOSEN / "nphybrid" / NAME)]
    if PRIVATE_TOO:
        try:
            reasons.append(obstacle(_private_folder(create=False) / NAME))
        except OSError as error:
            reasons.append(str(error))
    return reasons


def obstacle(folder):
    """Return the reason why no kernel can be written into a folder, or None.  `obstacle` writes nothing."""
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} is not a folder that can be written"
    free = shutil.disk_usage(existing).free
    if free < ROOM:
        return f"{existing} has {free / 1e6:.1f} MB of free space; expected {ROOM / 1e6:.1f} MB"
    return None


# ---------------------------------------------------------------- the files

def load(name):
    """Return the data of a kernel, or None if no folder has the kernel."""
    damaged = None
    for folder in folders():
        path = folder / f"{name}{SUFFIX}"
        data = _read(path)
        if data is not None:
            return data
        if os.path.isfile(path):
            damaged = path
    if damaged is not None:
        warnings.warn(f"the compiled kernel {damaged} is damaged and is compiled again", RuntimeWarning, stacklevel=2)
    return None


def store(name, data):
    """Write the data of a kernel.  If no folder can be written, later processes compile the kernel again.

    A failed write is not an error, because the compiled kernel is already in the memory of this process.
    """
    reasons = []
    for folder in folders(create=True):
        try:
            with written(folder / f"{name}{SUFFIX}") as file:
                file.write_bytes(hashlib.sha256(data).digest() + data)
        except (OSError, ValueError) as error:
            reasons.append(error)
        else:
            if reasons:
                _warn_once(f"compiled kernels are kept in {folder}, because the chosen folder cannot be used "
                           f"({reasons[0]})")
            return
    _warn_once(f"compiled kernels cannot be kept ({reasons[0] if reasons else NO_FOLDER}): every process compiles the "
               "kernels again. NUMBA_CACHE_DIR can be set to a folder that can be written.")


@contextlib.contextmanager
def written(path, mode=0o755):
    """As `write_atomically`, for a file that has at most the permissions `mode`.  Missing folders are created."""
    _create(path.parent)
    with write_atomically(path, mode) as file:
        yield file


def files(suffix=SUFFIX):
    """Return the paths of all compiled kernels of this version, or with the suffix WEIGHTS, of all packed weights."""
    return [path for folder in folders() for path in sorted(folder.glob(f"*{suffix}")) if os.path.isfile(path)]


def open_to_others():
    """Return the existing folders, kernels and packed weights in which every user can write.  POSIX only."""
    if os.name != "posix":
        return []
    paths = [path for folder in folders() for path in (folder.parent.parent, folder.parent, folder)]
    paths += files() + files(WEIGHTS)
    return [path for path in dict.fromkeys(paths) if os.path.exists(path) and path.stat().st_mode & 0o1002 == 0o2]


def good_names():
    """Return the names of the kernels that can be loaded."""
    return {path.stem for path in files() if _read(path) is not None}


def damaged_files():
    """Return the paths of damaged kernel files.  A file is left out if its kernel can be loaded from another folder."""
    good = good_names()
    return [path for path in files() if path.stem not in good]


def _read(path):
    """Return the data in a file, or None if the file is damaged or cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    size = hashlib.sha256().digest_size
    digest, data = content[:size], content[size:]
    return data if hashlib.sha256(data).digest() == digest else None


def _warn_once(message):
    """Warn about the folders, at most once in this process."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=3)


_warned = False
