"""Arrays that stay in their file until they are read, and the file, opened once for all who read from it.

    file = SharedFile("model.h5")
    with file.opened() as reader:          opens the file
        with file.opened() as second:      the same handle, a position of its own
            ...
    with file.opened() as reader:          opens it again: is it still the file of the first time?

Every time a block begins or ends, the file is compared with the one that was opened first: device, inode, size, and the
time of the last change.  A file that was replaced or written to in between is refused with a FormatError.
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
from .errors import FilePath, refusal

# Of systems without `preadv`: one reader at a time moves the position of a file and reads.
_NO_PREADV = threading.Lock()

# Bytes of one system call: Linux reads at most 2 GiB, macOS refuses to read more.
_MOST_AT_ONCE = 1 << 30


class SharedFile:
    """A file at a path.  It is open as long as at least one `opened` block runs, in any thread.

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
        self.path = os.fspath(path)                        # as it was given, for messages
        self.absolute = os.path.abspath(self.path)         # so that a change of the working folder does not matter
        self.kind: str | None = None           # set by `kinds.sniff`
        self._first: tuple | None = None       # the identities of the open file and of the path, at the first opening
        self._file: IO[bytes] | None = None
        self._users = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle is closed, and refuses every file that is not the one that was opened first."""
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
        """A Reader at the first byte of the open file.

        Raises OSError if the file cannot be opened; FormatError if it is not a regular file, or is not the one that
        was opened first, or was written to since then.
        """
        with self._lock:
            if self._file is None:
                # The path's status is from before: a file that replaces it while it is opened is noticed too.
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
            raise refusal(self.path, "was replaced or written to while it was read")


class Reader:
    """A position in an open file.  Several readers of one file may be used at once, each in its own thread."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._position = 0

    def size(self) -> int:
        """The size of the file in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, as the method of a file does."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size()}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, memory: memoryview) -> int:
        """Fills writable memory from the position on.  -> bytes read: fewer only at the end of the file"""
        count = 0
        while count < len(memory) and (read := self._read_once_into(memory[count:count + _MOST_AT_ONCE])):
            count += read
            self._position += read
        return count

    def read(self, count: int) -> bytes:
        """The next bytes, as many as asked for or as the file has."""
        memory = bytearray(max(0, min(count, self.size() - self._position)))
        return bytes(memoryview(memory)[:self.readinto(memoryview(memory))])

    def _read_once_into(self, memory: memoryview) -> int:
        """One system call that does not move the file's own position; where there is none, one reader at a time."""
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [memory], self._position)
        with _NO_PREADV:
            self._file.seek(self._position)
            return self._file.readinto(memory)       # type: ignore[attr-defined]


def shared(path: FilePath) -> SharedFile:
    """The SharedFile of a path, or the SharedFile itself."""
    return path if isinstance(path, SharedFile) else SharedFile(path)


def _regular_status(file: SharedFile) -> os.stat_result:
    """The status of the file at the path.

    Raises FormatError for a folder, a pipe or a device, before it is opened. (Opening a pipe could wait for ever.)
    """
    status = os.stat(file.absolute)
    if not stat.S_ISREG(status.st_mode):
        raise refusal(file, "is a folder, not a file" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    return status


def _identity(status: os.stat_result) -> tuple:
    """What differs between a file and one that replaced it, or itself after it was written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Stored:
    """An array that lies in a file: its place is checked, its bytes are not read yet.

    `read` and np.asarray read the bytes, again at every call, into new memory; any thread may call them. Both raise
    FormatError for bytes that break a rule, or if the file was replaced or written to since it was checked.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype                         # of the result of `read`: native byte order; float32 where BF16 is stored
    read: Callable[[], np.ndarray]
    sha256: str | None                      # of the bytes, where the file states it
    file: SharedFile | None = None          # what `kept_open` opens

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.read(), dtype)


@contextmanager
def kept_open(arrays: Iterable[Any]) -> Iterator[None]:
    """Until the block ends, the files of these arrays stay open: each is opened once, not once for every array.

    Arrays that are not Stored are ignored. Raises what `SharedFile.opened` raises.
    """
    files = dict.fromkeys(array.file for array in arrays if isinstance(array, Stored))
    with ExitStack() as blocks:
        for file in files:
            if file is not None:
                blocks.enter_context(file.opened())
        yield


def read_all(stored: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """{name: Stored} -> {name: array}"""
    with kept_open(stored.values()):
        return {name: array.read() for name, array in stored.items()}


def read_array(reader: Reader, offset: int, shape: tuple[int, ...], dtype: np.dtype, path: FilePath,
               tensor: str) -> np.ndarray:
    """The array stored at `offset` of an open file, in native byte order and new memory.

    Side effect: moves the reader's position.  The caller has checked that the bytes exist; a file that was cut
    since then is still refused here.
    """
    array = np.empty(shape, dtype)
    memory = raw(array)
    reader.seek(offset)
    count = reader.readinto(memory)
    if count < len(memory):
        raise refusal(path, "the file ends inside the array", count, f"{len(memory)} bytes", tensor)
    return array.astype(dtype.newbyteorder("="), copy=False)
