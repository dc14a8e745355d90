"""HDF5 as nphybrid uses it: a small part of a very large format, flat and with checksums.

    /                                                  the root group: arrays, and one group
    |-- vit.embeddings.cls_token                       one array: contiguous, little-endian, C order
    |       sha256 = "9f86d0..."                       of its bytes: 64 hex digits, fixed-length string
    |-- classifier.bias, ...                           names contain dots, never slashes
    `-- nphybrid/
        |-- config                                     one document: UTF-8 JSON in a 1-d uint8 dataset
        |       sha256 = "2c26b4..."
        `-- manifest, ...

Everything else that HDF5 can do is refused: links that leave the tree (soft, external, user-defined), virtual
datasets, external raw storage, chunks and filters, strings, references, compounds, a second name for one
object, a user block.  The library h5py only finds the places of the arrays.  Their bytes are read from the file
directly, after a check that every place is inside the file and overlaps no other place.  So no array can come from
another file or be larger than this one.

Safety against crafted files is not promised.  Such a file can cause memory errors in the C library behind h5py, and no
check in Python can prevent them.
`tests/tools/fuzz.py --format h5-crafted` edits the library's own structures and makes their checksums fit; of its
first 5,000 files 22 killed libhdf5 2.0.  Damage alone killed it in no test: the checksums of its structures detect it.
Prefer safetensors for weights from strangers; this format is for files that you converted or whose source you know.
"""

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..text import shortened
from .arrays import byte_count, digest, little_endian
from .atomic import write_atomically
from .documents import json_bytes, parse_json
from .errors import FilePath, FormatError, name_trouble, refusal
from .kinds import HDF5_MAGIC, refuse_unreadable
from .stored import SharedFile, Stored, read_all, read_array, shared

GROUP = "nphybrid"
LAYOUT = f"arrays, and one group {GROUP!r} of documents"
MAX_OBJECTS = 20_000
# The exceptions that h5py raises for damaged files.
_BROKEN = (OSError, LookupError, RuntimeError, ValueError, TypeError, OverflowError, AttributeError)
_TYPES = [np.dtype("<" + code) for code in ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")]


class H5File(NamedTuple):
    """The contents of one file."""

    arrays: dict[str, Any]       # name -> array, or Stored; sorted by name
    documents: dict[str, Any]    # key -> JSON value, sorted by key


class _Place(NamedTuple):
    """Where the bytes of one dataset lie."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int     # first byte, counted from the start of the file; 0 for an array without bytes
    size: int       # bytes
    sha256: str


def read_h5(path: FilePath) -> H5File:
    """Every array and document of an HDF5 file in the layout above: H5File(arrays, documents).

    Arrays are in native byte order and own their memory; the checksum of each is verified.
    Raises FormatError for a file that breaks a rule or a checksum, ImportError without h5py, OSError if the
    file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_h5(folder + "/m.h5", {"head.bias": np.float32([1, 2])}, {"config": {"depth": 12}})
    ...     read_h5(folder + "/m.h5")
    H5File(arrays={'head.bias': array([1., 2.], dtype=float32)}, documents={'config': {'depth': 12}})
    """
    stored, documents = stored_h5(path)
    return H5File(read_all(stored), documents)


def stored_h5(path: FilePath) -> H5File:
    """Every array of an HDF5 file, none read yet, and every document: H5File({name: Stored}, documents).

    Raises what `read_h5` raises. The checksum of an array is checked later, when the array is read.
    """
    file = shared(path)
    with file.opened():
        arrays, documents = _places(file)
        stored = {place.name: Stored(file.path, place.name, place.shape, place.dtype.newbyteorder("="),
                                     partial(_read, file, place), place.sha256, file) for place in arrays}
        return H5File(stored, {place.name: _document(file, place) for place in documents})


def h5_documents(path: FilePath) -> dict[str, Any]:
    """The documents alone, {key: JSON value}: every place in the file is checked, no array is read.

    Raises what `read_h5` raises.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_h5(folder + "/m.h5", {"head.bias": np.float32([1, 2])}, {"manifest": {"version": 1}})
    ...     h5_documents(folder + "/m.h5")
    {'manifest': {'version': 1}}
    """
    return stored_h5(path).documents


def write_h5(path: FilePath, arrays: Mapping[str, Any], documents: Mapping[str, Any]) -> None:
    """Writes {name: array} and {key: JSON value} in the layout above, whole or not at all; same input, same bytes.

    Arrays: float16/32/64, (u)int8..64, of any layout and byte order.  Documents: what JSON can hold.
    Raises FormatError for a name, dtype or document that the layout cannot hold, ImportError without h5py,
    OSError if the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_h5(folder + "/m.h5", {"a/b": np.zeros(3)}, {})    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    nphybrid.tensorfile.errors.FormatError: .../m.h5: tensor 'a/b': name is not allowed in this layout
    """
    _refuse_too_many(path, len(arrays) + 1 + len(documents))
    for name in (*arrays, *documents):
        _refuse_name(path, name)
    if GROUP in arrays:
        raise refusal(path, "is the name of the group of documents", tensor=GROUP)
    stored = {name: _storable(array, path, name) for name, array in arrays.items()}
    texts = {key: _text(document, path, key) for key, document in documents.items()}
    with write_atomically(path) as temporary, _created(temporary) as file:
        for name in sorted(stored):
            _add(file, name, stored[name])
        group = file.create_group(GROUP)
        for key in sorted(texts):
            _add(group, key, np.frombuffer(texts[key], np.uint8))


# ---------------------------------------------------------------- writing

@contextmanager
def _created(path: FilePath) -> Iterator[Any]:
    """A new HDF5 file, closed at the end."""
    h5py = _h5py()
    try:
        # v110: its object headers have checksums, which detect a flipped bit in a name or a shape too.
        with h5py.File(path, "w", libver=("v110", "v110")) as file:
            yield file
    # On a full disk h5py fails a second time, in close, with this.
    except RuntimeError as error:
        raise OSError(f"{os.fspath(path)}: could not be written: {error}") from error


def _storable(array: Any, path: FilePath, name: str) -> np.ndarray:
    """An array as the file holds it, refused if its type is not one of this layout."""
    array = little_endian(array, path, name)
    if array.dtype not in _TYPES:
        raise refusal(path, "cannot store this dtype", str(array.dtype), "a float or an integer", name)
    return array


def _text(document: Any, path: FilePath, key: str) -> bytes:
    """A document as JSON that the reader of this module accepts."""
    try:
        text = json_bytes(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise refusal(path, f"document {key!r} cannot be JSON ({error})") from None
    parse_json(text, path, f"document {key!r}")
    return text


def _add(group: Any, name: str, array: np.ndarray) -> None:
    """Adds one dataset and its checksum."""
    dataset = group.create_dataset(name, data=array)
    # bytes_, not str: h5py stores a str as a string of variable length, in another place (a heap).
    dataset.attrs.create("sha256", np.bytes_(digest(array)))


# ---------------------------------------------------------------- reading

def _h5py() -> Any:
    """The module h5py, imported at the first HDF5 file."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 files need h5py: pip install h5py") from error
    return h5py


@contextmanager
def _opened(file: SharedFile) -> Iterator[Any]:
    """The file, opened by h5py; an exception of h5py about broken content becomes a FormatError."""
    refuse_unreadable(file, "hdf5")
    with file.opened() as reader:
        magic = reader.read(len(HDF5_MAGIC))
    # The library also looks for its signature at bytes 512, 1024, 2048 ..., behind the beginning of another file.
    if magic != HDF5_MAGIC:
        rule = "does not begin with HDF5's signature: not an HDF5 file?"
        raise refusal(file, rule, magic, shortened(HDF5_MAGIC))
    h5py = _h5py()
    try:
        # By its path, not as a Python file object: h5py warns of crashes and deadlocks with those.
        with h5py.File(file.absolute, "r") as root:
            yield root
    except FormatError:
        raise
    except _BROKEN as error:
        raise refusal(file, f"is broken or truncated ({type(error).__name__} from HDF5: {error})") from error


def _places(file: SharedFile) -> tuple[list[_Place], list[_Place]]:
    """Where every array and every document lies, checked.  -> arrays, documents; none is read"""
    path = file.path
    with _opened(file) as tree:
        root = _members(tree, path)
        group = root.pop(GROUP, None)
        if not hasattr(group, "keys"):
            raise refusal(path, f"has no group {GROUP!r}: not a file of this layout", expected=LAYOUT)
        inner = _members(group, path)
        _refuse_too_many(path, len(root) + 1 + len(inner))
        # A second name of one object, or a group within itself.
        objects = [tree, group, *root.values(), *inner.values()]
        if len({_address(item) for item in objects}) < len(objects):
            raise refusal(path, "one object has two names", expected="one name each")
        arrays = [_place(item, path, name) for name, item in root.items()]
        documents = [_place(item, path, key) for key, item in inner.items()]
    with file.opened() as reader:
        _refuse_overlap(arrays + documents, path, reader.size())
    return arrays, documents


def _address(item: Any) -> int:
    """The byte where an object's header stands; no two objects have the same."""
    return _h5py().h5o.get_info(item.id).addr


def _members(group: Any, path: FilePath) -> dict[str, Any]:
    """The objects of one group, {name: object}; each is reached by one hard link, never by a path."""
    h5py = _h5py()
    members = {}
    names = list(itertools.islice(group, MAX_OBJECTS + 1))
    _refuse_too_many(path, len(names))
    for name in names:
        _refuse_name(path, name)
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise refusal(path, "is a link to another place", type(link).__name__, "a hard link", name)
        members[name] = group[name]
    return members


def _refuse_too_many(path: FilePath, count: int) -> None:
    """Refuses more objects than any model has."""
    if count > MAX_OBJECTS:
        raise refusal(path, "holds too many objects", count, f"at most {MAX_OBJECTS}")


def _refuse_name(path: FilePath, name: Any) -> None:
    """Refuses a name that is not text, is empty, or is a path."""
    trouble = name_trouble(name)
    if not trouble and (name in ("", ".") or "/" in name or "\0" in name):
        trouble = "name is not allowed in this layout"
    if trouble:
        raise refusal(path, trouble, tensor=name)


def _place(dataset: Any, path: FilePath, name: str) -> _Place:
    """Where one dataset lies, after every check that its own header allows."""
    h5py = _h5py()
    if not isinstance(dataset, h5py.Dataset):
        raise refusal(path, "is not a dataset", type(dataset).__name__, f"only the group {GROUP!r}", name)
    # The layout comes first: asking a virtual dataset for its shape can open other files.
    plan = dataset.id.get_create_plist()
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_nfilters():
        raise refusal(path, "is compact, chunked or virtual", expected="one contiguous run", tensor=name)
    if plan.get_external_count():
        raise refusal(path, "keeps its bytes in another file", plan.get_external(0)[0], "none", name)
    dtype = _dtype(dataset, path, name)
    shape = dataset.shape
    if shape is None:
        raise refusal(path, "has no shape", "an empty dataspace", "counts along each axis", name)
    size = byte_count(shape, dtype, path, name)
    offset = dataset.id.get_offset()
    # The library would return zeros for bytes that were never written, as many as the shape needs.
    if size and offset is None:
        raise refusal(path, "declares bytes that were never written", size, "bytes in the file", name)
    return _Place(name, dtype, shape, offset if size else 0, size, _checksum(dataset, path, name))


def _dtype(dataset: Any, path: FilePath, name: str) -> np.dtype:
    """The NumPy type of a dataset: one of the few that are allowed, never built from the type in the file."""
    h5py = _h5py()
    stored = dataset.id.get_type()
    for dtype in _TYPES:
        if stored == h5py.h5t.py_create(dtype):
            return dtype
    expected = "little-endian " + ", ".join(dtype.name for dtype in _TYPES)
    raise refusal(path, "has a type outside this layout", type(stored).__name__, expected, name)


def _checksum(dataset: Any, path: FilePath, name: str) -> str:
    """The hex digits in the attribute sha256, which must be the only attribute."""
    h5py = _h5py()
    count = h5py.h5a.get_num_attrs(dataset.id)
    if count != 1 or not h5py.h5a.exists(dataset.id, b"sha256"):
        raise refusal(path, "has other attributes", f"{count} attributes", "exactly sha256", name)
    attribute = h5py.h5a.open(dataset.id, b"sha256")
    stored = attribute.get_type()
    scalar = attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
    # A string of variable length has the size of its pointer.
    if not isinstance(stored, h5py.h5t.TypeStringID) or stored.get_size() != 64 or not scalar:
        raise refusal(path, "sha256 is not a string of fixed length 64", expected="64 hex digits", tensor=name)
    digits = np.zeros((), "S64")
    attribute.read(digits)
    text = digits.item().decode("latin-1")
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise refusal(path, "sha256 is not a SHA-256", text, "64 hex digits, lower case", name)
    return text


def _refuse_overlap(places: list[_Place], path: FilePath, size: int) -> None:
    """Refuses places outside the file, or that share bytes: so together they are no larger than the file."""
    end, last = 0, ""
    for place in sorted((place for place in places if place.size), key=lambda place: place.offset):
        if place.offset + place.size > size:
            found = f"bytes up to {place.offset + place.size}"
            raise refusal(path, "lies outside the file: truncated?", found, f"at most {size}", place.name)
        if place.offset < end:
            found = f"offset {place.offset}"
            raise refusal(path, f"shares bytes with {shortened(last)}", found, f"at least {end}", place.name)
        end, last = place.offset + place.size, place.name


def _read(file: SharedFile, place: _Place) -> np.ndarray:
    """The array at a place, refused unless its bytes have the checksum with which they were written."""
    with file.opened() as reader:
        array = read_array(reader, place.offset, place.shape, place.dtype, file, place.name)
    found = digest(array)
    if found != place.sha256:
        raise refusal(file, "checksum does not match: damaged bytes", found, place.sha256, place.name)
    return array


def _document(file: SharedFile, place: _Place) -> Any:
    """The JSON value at a place."""
    if place.dtype != np.uint8 or len(place.shape) != 1:
        found = f"{place.dtype.name} {place.shape}"
        raise refusal(file, "document is not text", found, "1-d uint8", place.name)
    return parse_json(bytes(_read(file, place)), file, f"document {place.name!r}")
