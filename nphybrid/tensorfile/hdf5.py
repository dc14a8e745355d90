"""Reads and writes HDF5 files with a flat layout and with checksums.

    /                                                  the root group: arrays, and one group
    |-- vit.embeddings.cls_token                       one array: contiguous, little-endian, C order
    |       sha256 = "9f86d0..."                       SHA-256 of its bytes: 64 hex digits, fixed-length string
    |-- classifier.bias, ...                           names may contain dots, but no slashes
    `-- nphybrid/
        |-- config                                     one document: UTF-8 JSON in a 1-d uint8 dataset
        |       sha256 = "2c26b4..."
        `-- manifest, ...

These files use only a small part of the HDF5 format.  All other features are refused.  Links that leave the tree (soft,
external, user-defined) are refused.  Virtual datasets, external raw storage, chunks and filters are refused.  Strings,
references, compounds, a second name for one object, and a user block are refused.

The reader uses the library h5py only for the names, types, shapes, places and checksums of arrays.  Every place must be
inside the file, and must overlap no other place.  After the check of all places, the bytes of the arrays are read
from the file without h5py.  So no array can come from another file or be larger than its file.

This reader is not safe against files that were made for an attack.  Such a file can cause memory errors in libhdf5, the
C library behind h5py.  No check in Python can prevent these errors.  `tests/tools/fuzz.py --format h5-crafted` changes
HDF5's internal structures in a file and corrects their checksums.  Of the first 5,000 such files, 24 crashed libhdf5
2.0.  Random damage never crashed libhdf5 in the tests, because checksums detect random damage.  For weights from
strangers, use safetensors.  Use HDF5 only for files that you converted, or whose source you know.
"""

import errno
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from ..shortage import memory_error, out_of_memory
from ..text import shortened
from .arrays import byte_count, digest, little_endian, refuse_wrong_digest
from .atomic import write_atomically
from .documents import document_bytes, parse_json
from .errors import FilePath, FormatError, name_trouble, refusal
from .kinds import HDF5_MAGIC, refuse_unreadable
from .stored import SharedFile, Stored, read_all, read_array, shared

GROUP = "nphybrid"
LAYOUT = f"arrays, and one group {GROUP!r} of documents"
MAX_OBJECTS = 20_000
# Each object needs a header and an entry in its group. Together, they need less than HEADER_BYTES bytes, without the
# name of the object.
HEADER_BYTES = 1024
# The exceptions that h5py raises for damaged files.
_BROKEN = (OSError, LookupError, RuntimeError, ValueError, TypeError, OverflowError, AttributeError)
_TYPES = [np.dtype("<" + code) for code in ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")]


class H5File(NamedTuple):
    """The contents of one file."""

    arrays: dict[str, Any]       # name -> array, or Stored; sorted by name
    documents: dict[str, Any]    # key -> JSON value, sorted by key


class _Place(NamedTuple):
    """The header of one dataset, and the place of its bytes in the file."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int     # position of the first byte in the file; 0 for an array without bytes
    size: int       # number of bytes
    sha256: str


def read_h5(path: FilePath) -> H5File:
    """Reads every array and every document of an HDF5 file.  -> H5File(arrays, documents)

    Arrays are in native byte order and own their memory. The checksum of each array is verified. Raises FormatError for
    a file that breaks a rule of this layout, or that has a wrong checksum. Raises ImportError if h5py is not installed.
    Raises OSError if the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_h5(folder + "/m.h5", {"head.bias": np.float32([1, 2])}, {"config": {"depth": 12}})
    ...     read_h5(folder + "/m.h5")
    H5File(arrays={'head.bias': array([1., 2.], dtype=float32)}, documents={'config': {'depth': 12}})
    """
    stored, documents = stored_h5(path)
    return H5File(read_all(stored), documents)


def stored_h5(path: FilePath) -> H5File:
    """Finds every array of an HDF5 file, but reads only the documents.  -> H5File({name: Stored}, documents)

    Raises the exceptions of `read_h5`. The checksum of an array is checked later, when the array is read.
    """
    file = shared(path)
    with file.opened():
        arrays, documents = _places(file)
        stored = {place.name: Stored(file.path, place.name, place.shape, place.dtype.newbyteorder("="),
                                     partial(_read, file, place), place.sha256, file) for place in arrays}
        return H5File(stored, {place.name: _document(file, place) for place in documents})


def h5_documents(path: FilePath) -> dict[str, Any]:
    """Reads only the documents of an HDF5 file.  -> {key: JSON value}

    The place of every array is checked, but no array is read. Raises the exceptions of `read_h5`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_h5(folder + "/m.h5", {"head.bias": np.float32([1, 2])}, {"manifest": {"version": 1}})
    ...     h5_documents(folder + "/m.h5")
    {'manifest': {'version': 1}}
    """
    return stored_h5(path).documents


def write_h5(path: FilePath, arrays: Mapping[str, Any], documents: Mapping[str, Any]) -> None:
    """Writes {name: array} and {key: JSON value} to an HDF5 file, completely or not at all.

    Equal input gives equal bytes. Arrays have the dtype float16/32/64 or (u)int8..64, and any layout and byte order.
    Documents are values that JSON can hold. Raises FormatError for a name, a dtype or a document that the layout cannot
    hold. Raises ImportError if h5py is not installed. Raises OSError if the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_h5(folder + "/m.h5", {"a/b": np.zeros(3)}, {})    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    nphybrid.tensorfile.errors.FormatError: .../m.h5: tensor 'a/b': the name is not allowed in this layout
    """
    _refuse_too_many(path, len(arrays) + 1 + len(documents))
    for name in (*arrays, *documents):
        _refuse_name(path, name)
    if GROUP in arrays:
        raise refusal(path, "this name belongs to the group of documents", tensor=GROUP)
    stored = {name: _storable(array, path, name) for name, array in arrays.items()}
    texts = {key: document_bytes(document, path, key) for key, document in documents.items()}
    size = sum(array.nbytes for array in stored.values()) + sum(map(len, texts.values()))
    headers = sum(HEADER_BYTES + len(name.encode()) for name in ("/", GROUP, *stored, *texts))
    with write_atomically(path) as temporary:
        _refuse_full_disk(temporary, size + headers)
        with _created(temporary) as file:
            for name in sorted(stored):
                _add(file, name, stored[name])
            group = file.create_group(GROUP)
            for key in sorted(texts):
                _add(group, key, np.frombuffer(texts[key], np.uint8))


# ---------------------------------------------------------------- writing

def _refuse_full_disk(path: FilePath, size: int) -> None:
    """Raises OSError if the empty file at `path` cannot become `size` bytes long.  Then the file is empty again.

    If a write fails, libhdf5 can crash when the process ends. So the free space is checked before libhdf5 writes.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
            file.truncate(0)


@contextmanager
def _created(path: FilePath) -> Iterator[Any]:
    """Gives a new HDF5 file, which is closed when the block ends.  An OSError does not name the file."""
    h5py = _h5py()
    try:
        # The object headers of HDF5 1.10 (v110) have checksums, which also detect a flipped bit in a name or a shape.
        with h5py.File(path, "w", libver=("v110", "v110"), locking=False) as file:
            yield file
    # On a full disk, h5py raises OSError when it writes, and RuntimeError when it closes the file. The long text of the
    # error contains the error number of the system.
    except (OSError, RuntimeError) as error:
        if out_of_memory(error):
            raise memory_error(error) from error
        if number := re.search(r"errno = (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise OSError(errno.EIO, f"could not be written: {error}") from error


def _storable(array: Any, path: FilePath, name: str) -> np.ndarray:
    """Converts an array to the form that a file stores.  Raises FormatError for a dtype that is not allowed."""
    array = little_endian(array, path, name)
    if array.dtype not in _TYPES:
        raise refusal(path, "the format cannot store this dtype", str(array.dtype), "a float or an integer", name)
    return array


def _add(group: Any, name: str, array: np.ndarray) -> None:
    """Adds one dataset and its checksum."""
    dataset = group.create_dataset(name, data=array)
    # The type is bytes_, because h5py stores a str as a string of variable length in another place (a heap).
    dataset.attrs.create("sha256", np.bytes_(digest(array)))


# ---------------------------------------------------------------- reading

def _h5py() -> Any:
    """Returns the module h5py, which is imported when the first HDF5 file is used."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ImportError("HDF5 files need h5py: pip install h5py") from error
    return h5py


@contextmanager
def _opened(file: SharedFile) -> Iterator[Any]:
    """Opens a file with h5py.  If h5py raises an exception about broken content, FormatError is raised instead.

    If a system call of libhdf5 fails, OSError is raised. If there is too little memory, MemoryError is raised.
    """
    refuse_unreadable(file, "hdf5")
    with file.opened() as reader:
        magic = reader.read(len(HDF5_MAGIC))
    # The library also accepts HDF5's signature at byte 512, 1024, 2048 and so on, after other content.
    if magic != HDF5_MAGIC:
        rule = "the file does not begin with HDF5's signature: is it an HDF5 file?"
        raise refusal(file, rule, magic, shortened(HDF5_MAGIC))
    try:
        with _h5py_file(file.absolute) as root:
            yield root
    except FormatError:
        raise
    except _BROKEN as error:
        if out_of_memory(error):
            raise memory_error(error, file.path) from error
        _refuse_blame(file, str(error))
        raise refusal(file, f"the file is broken or truncated ({type(error).__name__} from HDF5: {error})") from error


def _h5py_file(path: str) -> Any:
    """Opens a file with h5py for reading, without a lock.

    Some file systems have no locks, and another program may have locked the file.
    """
    h5py = _h5py()
    try:
        # The argument is a path, because h5py's documentation warns of crashes and deadlocks with Python file objects.
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        # This process already has the file open with a lock. HDF5 opens a file twice only with the same kind of lock.
        return h5py.File(path, "r")


def _refuse_blame(file: SharedFile, message: str) -> None:
    """Raises OSError or MemoryError if the message of an exception from h5py shows another cause than damage."""
    if system_call := re.search(r"errno = (\d+)", message):
        number = int(system_call[1])
        raise OSError(number, os.strerror(number), file.path)
    if "already open for" in message:                     # a mark in the file, which is there without any lock
        raise OSError(f"{file} is marked as open for writing: close the file in the other program. If no program has "
                      f"the file open, a program ended without closing it; then `h5clear -s {file}` removes the mark "
                      "(h5clear is one of the tools of HDF5)")
    if "flag values don't match" in message:
        raise OSError(f"{file}: this process has the file already open, with another kind of lock")
    if "memory allocation failed" in message:             # a KeyError can also have this text
        raise memory_error(MemoryError("memory allocation failed"), file.path)


def _places(file: SharedFile) -> tuple[list[_Place], list[_Place]]:
    """Finds and checks the places of arrays and documents, but does not read the bytes there.  -> arrays, documents"""
    path = file.path
    with _opened(file) as tree:
        names = _names(tree, path)
        group = tree[GROUP] if GROUP in names else None
        if not hasattr(group, "keys"):
            raise refusal(path, f"the file has no group {GROUP!r}", expected=LAYOUT)
        names.remove(GROUP)
        keys = _names(group, path)
        _refuse_too_many(path, len(names) + 1 + len(keys))
        # This check finds a second name of an object, and a group that contains itself.
        addresses = {*_addresses(tree, [".", GROUP, *names]), *_addresses(group, keys)}
        if len(addresses) < len(names) + len(keys) + 2:
            raise refusal(path, "one object has two names", expected="one name for each object")
        # One dataset is open at a time. With the 560 datasets of an int8 file open, HDF5 takes 8 MB.
        arrays = [_place(_object(tree, name), path, name) for name in names]
        documents = [_place(_object(group, key), path, key) for key in keys]
    with file.opened() as reader:
        _refuse_overlap(arrays + documents, path, reader.size())
    return arrays, documents


def _object(group: Any, name: str) -> Any:
    """Opens an object of one group.  The wrapper of h5py would take 4 times as long."""
    return _h5py().h5o.open(group.id, name.encode())


def _addresses(group: Any, names: list[str]) -> list[int]:
    """Returns the addresses of the headers of objects of one group, which are not opened.  "." is the group itself.

    Different objects have different addresses.
    """
    return [_h5py().h5o.get_info(group.id, name.encode()).addr for name in names]


def _names(group: Any, path: FilePath) -> list[str]:
    """Returns the names of the objects of one group.

    Raises FormatError for a name that is not allowed, and for a link to another place.
    """
    h5py = _h5py()
    names = list(itertools.islice(group, MAX_OBJECTS + 1))
    _refuse_too_many(path, len(names))
    for name in names:
        _refuse_name(path, name)
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            found = type(group.get(name, getlink=True)).__name__
            raise refusal(path, "the name is a link to another place", found, "a hard link", name)
    return names


def _refuse_too_many(path: FilePath, count: int) -> None:
    """Raises FormatError for more than MAX_OBJECTS objects.  No known model has so many objects."""
    if count > MAX_OBJECTS:
        raise refusal(path, "the file holds too many objects", count, f"at most {MAX_OBJECTS}")


def _refuse_name(path: FilePath, name: Any) -> None:
    """Raises FormatError for a name that is not text, is empty, or is a path."""
    trouble = name_trouble(name)
    if not trouble and (name in ("", ".") or "/" in name or "\0" in name):
        trouble = "the name is not allowed in this layout"
    if trouble:
        raise refusal(path, trouble, tensor=name)


def _place(dataset: Any, path: FilePath, name: str) -> _Place:
    """Checks the header of one dataset, and returns the place of the dataset."""
    h5py = _h5py()
    if not isinstance(dataset, h5py.h5d.DatasetID):
        expected = f"a dataset; the only group is {GROUP!r}"
        found = "a group" if isinstance(dataset, h5py.h5g.GroupID) else "a named type"
        raise refusal(path, "the object is not a dataset", found, expected, name)
    # The layout is checked first, because reading the shape of a virtual dataset can open other files.
    plan = dataset.get_create_plist()
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_nfilters():
        rule = "the dataset is compact, chunked or virtual"
        raise refusal(path, rule, expected="one contiguous block of bytes", tensor=name)
    if plan.get_external_count():
        rule = "the dataset keeps its bytes in another file"
        raise refusal(path, rule, plan.get_external(0)[0], "no other file", name)
    dtype = _dtype(dataset, path, name)
    shape = dataset.shape
    if shape is None:
        raise refusal(path, "the dataset has no shape", "an empty dataspace", "a length for each axis", name)
    size = byte_count(shape, dtype, path, name)
    offset = dataset.get_offset()
    # For bytes that were never written, the library would return as many zeros as the shape needs.
    if size and offset is None:
        raise refusal(path, "the dataset declares bytes that were never written", size, "bytes in the file", name)
    return _Place(name, dtype, shape, offset if size else 0, size, _checksum(dataset, path, name))


def _dtype(dataset: Any, path: FilePath, name: str) -> np.dtype:
    """Returns the NumPy type of a dataset, which is one of _TYPES.  The result is never built from bytes of the file.
    """
    stored = dataset.get_type()
    for dtype, theirs in _h5_types():
        if stored == theirs:
            return dtype
    expected = "little-endian " + ", ".join(dtype.name for dtype in _TYPES)
    raise refusal(path, "the type of the dataset is not allowed in this layout", type(stored).__name__, expected, name)


@cache
def _h5_types() -> list[tuple[np.dtype, Any]]:
    """The types in _TYPES, and the same types in HDF5."""
    return [(dtype, _h5py().h5t.py_create(dtype)) for dtype in _TYPES]


def _checksum(dataset: Any, path: FilePath, name: str) -> str:
    """Returns the hex digits in the attribute sha256, which must be the only attribute of the dataset."""
    h5py = _h5py()
    count = h5py.h5a.get_num_attrs(dataset)
    if count != 1 or not h5py.h5a.exists(dataset, b"sha256"):
        raise refusal(path, "the dataset has wrong attributes", f"{count} attributes", "only sha256", name)
    attribute = h5py.h5a.open(dataset, b"sha256")
    stored = attribute.get_type()
    scalar = attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
    # For a string of variable length, get_size returns the size of a pointer.
    if not isinstance(stored, h5py.h5t.TypeStringID) or stored.get_size() != 64 or not scalar:
        raise refusal(path, "sha256 is not a string of fixed length 64", expected="64 hex digits", tensor=name)
    digits = np.zeros((), "S64")
    attribute.read(digits)
    text = digits.item().decode("latin-1")
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise refusal(path, "sha256 is not a SHA-256", text, "64 hex digits, lower case", name)
    return text


def _refuse_overlap(places: list[_Place], path: FilePath, size: int) -> None:
    """Raises FormatError for a place outside the file, and for two places that share bytes.

    If no error is raised, all arrays and documents together are not larger than the file.
    """
    end, last = 0, ""
    for place in sorted((place for place in places if place.size), key=lambda place: place.offset):
        if place.offset + place.size > size:
            found = f"bytes up to {place.offset + place.size}"
            rule = "the array lies outside the file: is the file truncated?"
            raise refusal(path, rule, found, f"at most {size}", place.name)
        if place.offset < end:
            found = f"offset {place.offset}"
            raise refusal(path, f"the array shares bytes with {shortened(last)}", found, f"at least {end}", place.name)
        end, last = place.offset + place.size, place.name


def _read(file: SharedFile, place: _Place) -> np.ndarray:
    """Reads the array at a place.  Raises FormatError if the checksum of the bytes is wrong."""
    with file.opened() as reader:
        array = read_array(reader, place.offset, place.shape, place.dtype, file, place.name)
    refuse_wrong_digest(array, place.sha256, file, place.name)
    return array


def _document(file: SharedFile, place: _Place) -> Any:
    """Reads the JSON value at a place."""
    if place.dtype != np.uint8 or len(place.shape) != 1:
        found = f"{place.dtype.name} {place.shape}"
        raise refusal(file, "the document is not text", found, "1-d uint8", place.name)
    return parse_json(bytes(_read(file, place)), file, f"document {place.name!r}")
