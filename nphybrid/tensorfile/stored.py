"""Arrays that stay in their file until they are read, and files that several readers share.

    file = SharedFile("model.h5")
    with file.opened() as reader:          opens the file
        with file.opened() as second:      uses the open file with a second position
            ...
    with file.opened() as reader:          opens the file again, and checks that it is the same file

At the beginning and at the end of every block, the file is compared with the file that was opened first.  The
comparison uses the device, the inode, the size, and the time of the last change.  A file that was replaced or changed
is refused with a FormatError.
"""

import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from .arrays import raw
from .errors import FilePath, refusal, refuse_empty

# On systems without `preadv`, only one reader at a time may move the position of a file and read.
_NO_PREADV = threading.Lock()

# The largest number of bytes in one system call. Linux reads at most 2 GiB. macOS refuses more than 2 GiB.
_MOST_AT_ONCE = 1 << 30


class SharedFile:
    """A file at a path.  The file is open as long as at least one `opened` block runs, in any thread.

    Every function of this package that takes a path also takes a SharedFile.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "answer.txt")
    ...     with open(path, "w") as file:
    ...         _ = file.write("42, of course")
    ...     shared = SharedFile(path)
    ...     with shared.opened() as one, shared.opened() as other:
    ...         one.read(4), other.read(2), one.read(9)
    (b'42, ', b'42', b'of course')
    """

    def __init__(self, path: FilePath):
        refuse_empty(path)
        self.path = os.fspath(path)                        # the path for messages
        self.absolute = os.path.abspath(self.path)         # the path that stays right if the working folder changes
        self.kind: str | None = None           # the kind that `kinds.sniff` found
        self._first: tuple | None = None       # identities of the open file and the file at the path, when first opened
        self._file: IO[bytes] | None = None
        self._users = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for a copy or a pickle, without the open file.

        The copy also refuses every file that is not the file that was opened first.
        """
        return {**self.__dict__, "_file": None, "_users": 0, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    @contextmanager
    def opened(self) -> Iterator["Reader"]:
        """Opens the file, and gives a Reader at its first byte.

        Raises OSError if the file cannot be opened. Raises FormatError if the file is not a regular file. Raises
        FormatError if the file was replaced or changed since it was first opened.
        """
        with self._lock:
            if self._file is None:
                # The status is read before the file is opened. A file that is replaced in between is also refused.
                status = _regular_status(self)
                self._file = open(self.absolute, "rb")
                self._first = self._first or (_identity(os.fstat(self._file.fileno())), _identity(status))
            self._users += 1
        try:
            self._refuse_changed()
            yield Reader(self._file)
            self._refuse_changed()
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._file.close()
                    self._file = None

    def _refuse_changed(self) -> None:
        """Raises FormatError if the open file or the file at the path differs from the one that was opened first."""
        assert self._file is not None
        state = _identity(os.fstat(self._file.fileno())), _identity(os.stat(self.absolute))
        if state != self._first:
            raise refusal(self.path, "the file was replaced or written to while it was read")


class Reader:
    """A position in an open file.  Several threads may read from one file, each with its own Reader."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._position = 0

    def size(self) -> int:
        """Returns the size of the file in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, like the method `seek` of a file, and returns the new position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size()}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, memory: memoryview) -> int:
        """Fills memory with the next bytes of the file.  -> number of bytes; less than len(memory) if the file ends"""
        count = 0
        while count < len(memory) and (read := self._read_once_into(memory[count:count + _MOST_AT_ONCE])):
            count += read
            self._position += read
        return count

    def read(self, count: int) -> bytes:
        """Reads the next `count` bytes; fewer bytes if the file ends."""
        memory = bytearray(max(0, min(count, self.size() - self._position)))
        return bytes(memoryview(memory)[:self.readinto(memoryview(memory))])

    def _read_once_into(self, memory: memoryview) -> int:
        """Reads the next bytes with one system call.  -> number of bytes

        The function `preadv` does not use the position of the file, which all readers share. On systems without
        `preadv`, a lock allows only one reader at a time to move this position.
        """
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [memory], self._position)
        with _NO_PREADV:
            self._file.seek(self._position)
            return self._file.readinto(memory)       # type: ignore[attr-defined]


def shared(path: FilePath) -> SharedFile:
    """Returns a SharedFile for a path.  A SharedFile is returned without a change."""
    return path if isinstance(path, SharedFile) else SharedFile(path)


def _regular_status(file: SharedFile) -> os.stat_result:
    """Returns the status of the file at the path.

    Raises FormatError for a folder, a pipe or a device, before it is opened. Opening a pipe could wait forever.
    """
    status = os.stat(file.absolute)
    if not stat.S_ISREG(status.st_mode):
        folder = stat.S_ISDIR(status.st_mode)
        raise refusal(file, "the path is a folder, not a file" if folder else "the path is not a regular file")
    return status


def _identity(status: os.stat_result) -> tuple:
    """Returns values that change if the file is replaced or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def file_state(path: FilePath) -> tuple[int, ...]:
    """Returns numbers that change if a file is changed or replaced.

    On POSIX, the modification time (st_mtime) can be set to an old value, for example by `cp -p`, but the change time
    (st_ctime) cannot be set.
    """
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True)
class Stored:
    """An array in a file.  The place of the array is checked, but its bytes are not read yet.

    The method `read` reads the bytes into new memory, at every call. The function np.asarray calls `read`. Any thread
    may call `read`. The method raises FormatError for bytes that break a rule, and for a file that was replaced or
    changed since the place of the array was checked.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype                         # the dtype after reading: native byte order; float32 for a stored BF16
    read: Callable[[], np.ndarray]
    sha256: str | None                      # the SHA-256 of the bytes, if the file states it
    file: SharedFile | None = None          # the file that `kept_open` opens

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.read(), dtype)


@contextmanager
def kept_open(arrays: Iterable[Any]) -> Iterator[None]:
    """Keeps the files of the arrays open until the `with` block ends.

    Each file is opened one time, not again for every array. Arrays that are not Stored are ignored. Raises the
    exceptions of `SharedFile.opened`.
    """
    files = dict.fromkeys(array.file for array in arrays if isinstance(array, Stored))
    with ExitStack() as blocks:
        for file in files:
            if file is not None:
                blocks.enter_context(file.opened())
        yield


def read_all(stored: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """Reads every array.  {name: Stored} -> {name: array}"""
    with kept_open(stored.values()):
        return {name: array.read() for name, array in stored.items()}


def read_array(reader: Reader, offset: int, shape: tuple[int, ...], dtype: np.dtype, path: FilePath,
               tensor: str) -> np.ndarray:
    """Reads the array at the byte `offset` of an open file, in native byte order, into new memory.

    This function moves the position of the reader. The caller has checked that the bytes exist. Raises
    FormatError if the file became shorter after the caller's check.
    """
    array = np.empty(shape, dtype)
    memory = raw(array)
    reader.seek(offset)
    count = reader.readinto(memory)
    if count < len(memory):
        raise refusal(path, "the file ends inside the array", count, f"{len(memory)} bytes", tensor)
    return array.astype(dtype.newbyteorder("="), copy=False)
