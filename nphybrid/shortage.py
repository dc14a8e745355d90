"""Recognizes and explains errors that are caused by a lack of memory, threads or disk space.

Not every lack of memory raises MemoryError.  The C libraries behind zlib, Pillow and h5py report a lack of memory in
the text of another error.  The loader of shared libraries does this, too.  An error that is caused by a lack of memory
does not mean that the file is damaged.
"""
import contextlib
import errno
import os
import re
import zlib
from collections.abc import Iterator

# These error texts are from zlib (Z_MEM_ERROR), HDF5, Pillow, the decoders of Pillow, and the loaders of glibc and
# macOS.
_NO_MEMORY = re.compile("Error -4 while|can't allocate|unable to allocate|cannot allocate|allocation failed|"
                        "no space available for allocation|out of memory|insufficient memory|"
                        "failed to map segment", re.IGNORECASE)


def out_of_memory(error: BaseException) -> bool:
    """Return True if the cause of an error is a lack of memory.

    >>> out_of_memory(MemoryError()), out_of_memory(zlib.error("Error -4 while decompressing data"))
    (True, True)
    >>> out_of_memory(zlib.error("Error -3 while decompressing data: invalid block type"))
    False
    """
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    # The text of another error, for example a ValueError, may contain a file name, so this text is not searched.
    from_library = type(error) is OSError or isinstance(error, (ImportError, RuntimeError, zlib.error))
    cause = error.__cause__ or error.__context__
    return from_library and bool(_NO_MEMORY.search(str(error)) or cause is not None and out_of_memory(cause))


def memory_error(error: BaseException, where: str = "") -> MemoryError:
    """Return a MemoryError for an error whose cause is a lack of memory.

    `where` is the name of the file or picture that was read. A MemoryError whose message already contains "not enough
    memory" is returned unchanged.

    >>> print(memory_error(MemoryError("Unable to allocate 1 GiB"), "a.png"))
    a.png: not enough memory (Unable to allocate 1 GiB)
    """
    if isinstance(error, MemoryError) and "not enough memory" in str(error):
        return error
    lines = str(error).strip().splitlines()
    reason = f" ({lines[-1].strip()})" if lines else ""
    return MemoryError(f"{where}: not enough memory{reason}" if where else f"not enough memory{reason}")


@contextlib.contextmanager
def path_in_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Return a context manager that adds the path to an OSError without a path.

    For example, the OSError of a full disk contains no path.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise


def no_new_thread(error: BaseException) -> bool:
    """Return True if an error means that no new thread can be started.

    >>> no_new_thread(RuntimeError("can't start new thread")), no_new_thread(RuntimeError("a bug"))
    (True, False)
    """
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"
