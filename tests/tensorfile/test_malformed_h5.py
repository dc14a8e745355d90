"""HDF5 files made by hand, each with the words of its refusal: links out of the file, and what is no plain array."""
import hashlib
import os

import h5py
import numpy as np
import pytest

from nphybrid.tensorfile import FormatError, h5_documents, read_h5

from oracles.specimens import checked, sign

SECRET = b"root:x:0:0:secret secret secret secret secret!!!"


def linked(make_link, at):
    """A link to another file's dataset: as an array, as a document, or as the group of documents."""
    def build(file, folder):
        with h5py.File(folder / "other.h5", "w") as other:
            checked(other, "w", np.frombuffer(SECRET, np.uint8))
            checked(other.create_group("g"), "config", np.frombuffer(b'"secret"', np.uint8))
        checked(file, "real", np.frombuffer(SECRET, np.uint8))
        if at == "group":
            del file["nphybrid"]
        place = {"array": "w", "document": "nphybrid/config", "group": "nphybrid", "parent": "deep"}[at]
        file[place] = make_link(folder, "/g" if at in ("group", "parent") else "/w")
    return build


def soft(folder, target):
    return h5py.SoftLink("/real")


def external(folder, target):
    return h5py.ExternalLink(str(folder / "other.h5"), target)


def dangling(folder, target):
    return h5py.ExternalLink("/no/such/file", "/w")


def virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["w"] = np.frombuffer(SECRET, np.uint8)
    layout = h5py.VirtualLayout((len(SECRET),), "u1")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "w", (len(SECRET),))
    sign(file.create_virtual_dataset("w", layout))


def raw_storage(file, folder):
    (folder / "passwd").write_bytes(SECRET)
    sign(file.create_dataset("w", (len(SECRET),), "u1", external=[(str(folder / "passwd"), 0, len(SECRET))]),
         hashlib.sha256(SECRET).hexdigest())


def dataset_of(*arguments, **options):
    def build(file, folder):
        sign(file.create_dataset("w", *arguments, **options))
    return build


def special(kind):
    def build(file, folder):
        dtype = {"object": h5py.string_dtype(), "vlen": h5py.vlen_dtype(np.dtype("f4")),
                 "reference": h5py.ref_dtype, "enum": h5py.enum_dtype({"A": 1}), "bytes": np.dtype("S8"),
                 "opaque": h5py.opaque_dtype(np.dtype("M8[s]")), "compound": np.dtype([("a", "f4")]),
                 "array": np.dtype(("f4", (2,)))}[kind]
        sign(file.create_dataset("w", (2,), dtype))
    return build


def early(file, folder):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((4,))
    sign(h5py.Dataset(h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, space, plan)))


def attribute(value, **options):
    def build(file, folder):
        file["w"] = np.zeros(4, "f4")
        file["w"].attrs.create("sha256", value, **options)
    return build


ZEROS = hashlib.sha256(bytes(16)).hexdigest()


def alias(file, folder):
    checked(file, "w", np.zeros(4, "f4"))
    file["v"] = file["w"]


def empty_alias(file, folder):
    checked(file, "w", np.zeros(0, "f4"))
    file["v"] = file["w"]


def cycle(file, folder):
    file["nphybrid"]["again"] = file["nphybrid"]


def root_cycle(file, folder):
    del file["nphybrid"]
    file["nphybrid"] = file["/"]


def extra_attribute(file, folder):
    checked(file, "w", np.zeros(4, "f4")).attrs["x"] = 1


def group_among_arrays(file, folder):
    checked(file.create_group("layer"), "w", np.zeros(4, "f4"))


def group_among_documents(file, folder):
    file.create_group("nphybrid/deep")


def named_type(file, folder):
    file["w"] = np.dtype("f4")


def no_group(file, folder):
    del file["nphybrid"]


def group_a_dataset(file, folder):
    del file["nphybrid"]
    checked(file, "nphybrid", np.zeros(4, "f4"))


def document(array):
    def build(file, folder):
        checked(file["nphybrid"], "config", array)
    return build


def text(string):
    return document(np.frombuffer(string, np.uint8))


def crowd(file, folder):
    shared = file.create_dataset("0", data=np.zeros(0, "f4"))
    for i in range(1, 20_002):
        file[str(i)] = shared


HOSTILE = {
    **{f"{link.__name__} link as {at}": (linked(link, at), "is a link to another place")
       for link in (soft, external, dangling) for at in ("array", "document", "group", "parent")},
    "virtual dataset": (virtual, "compact, chunked or virtual"),
    "external raw storage": (raw_storage, "keeps its bytes in another file"),
    "chunked": (dataset_of((4,), "f4", chunks=(2,)), "compact, chunked or virtual"),
    "resizable": (dataset_of((4,), "f4", maxshape=(None,)), "compact, chunked or virtual"),
    "gzip bomb": (dataset_of((2**40, 2**10), "f4", chunks=(2**10, 2**10), compression="gzip"), "chunked"),
    "shuffle": (dataset_of((4,), "f4", chunks=(4,), shuffle=True), "chunked"),
    "fletcher32": (dataset_of((4,), "f4", chunks=(4,), fletcher32=True), "chunked"),
    "compact": (early, "compact, chunked or virtual"),
    "never written": (dataset_of((2**40, 2**10), "f4"), "never written"),
    "too large for an array": (dataset_of((0, 2**62), "f8"), "too large for an array"),
    "no dataspace": (lambda file, folder: sign(file.create_dataset("w", data=h5py.Empty("f4"))),
                     "no shape"),
    **{kind: (special(kind), "the type of the dataset is not allowed in this layout")
       for kind in ("object", "vlen", "reference", "enum", "opaque", "bytes", "compound", "array")},
    "big-endian": (dataset_of(data=np.zeros(4, ">f4")), "the type of the dataset is not allowed in this layout"),
    "bool": (dataset_of(data=np.zeros(4, bool)), "the type of the dataset is not allowed in this layout"),
    "complex": (dataset_of(data=np.zeros(4, "c8")), "the type of the dataset is not allowed in this layout"),
    "long double": (dataset_of(data=np.zeros(4, "g")), "the type of the dataset is not allowed in this layout"),
    "no checksum": (lambda file, folder: file.create_dataset("w", data=np.zeros(4)),
                    "the dataset has wrong attributes"),
    "another attribute": (extra_attribute, "the dataset has wrong attributes"),
    "checksum of variable length": (attribute(ZEROS), "fixed length 64"),
    "checksum too short": (attribute(np.bytes_(ZEROS[:63])), "fixed length 64"),
    "checksum too long": (attribute(np.bytes_(ZEROS + "0")), "fixed length 64"),
    "checksum in a list": (attribute(np.array([ZEROS], "S64")), "fixed length 64"),
    "checksum a number": (attribute(3), "fixed length 64"),
    "checksum in capitals": (attribute(np.bytes_(ZEROS.upper())), "not a SHA-256"),
    "checksum of another array": (attribute(np.bytes_("0" * 64)), "checksum does not match"),
    "two names": (alias, "one object has two names"),
    "two names of nothing": (empty_alias, "one object has two names"),
    "group in itself": (cycle, "one object has two names"),
    "root in itself": (root_cycle, "one object has two names"),
    "group among arrays": (group_among_arrays, "is not a dataset"),
    "group among documents": (group_among_documents, "is not a dataset"),
    "named type": (named_type, "is not a dataset"),
    "no group": (no_group, "has no group 'nphybrid'"),
    "group a dataset": (group_a_dataset, "has no group 'nphybrid'"),
    "20,002 objects": (crowd, "too many objects"),
    "document of floats": (document(np.zeros(4, "f4")), "document is not text"),
    "document in 2-d": (document(np.zeros((2, 2), "u1")), "document is not text"),
    "document empty": (text(b""), "not valid JSON"),
    "document not UTF-8": (text(b'"\xff"'), "not valid UTF-8"),
    "document not JSON": (text(b"{'a': 1}"), "not valid JSON"),
    "document with NaN": (text(b"[NaN]"), "not valid JSON"),
    "document with a duplicate": (text(b'{"a": {"b": 1, "b": 2}}'), "duplicate key"),
    "document too deep": (text(b"[" * 200_000), "nested too deeply"),
}


def test_the_size_of_the_table():
    assert len(HOSTILE) == 62


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_h5_is_refused(tmp_path, case):
    build, message = HOSTILE[case]
    with h5py.File(tmp_path / "m.h5", "w", libver=("v110", "v110")) as file:
        file.create_group("nphybrid")
        build(file, tmp_path)
    with pytest.raises(FormatError) as refused:
        read_h5(tmp_path / "m.h5")
    assert message in str(refused.value) and "secret" not in str(refused.value)
    if "checksum of another" not in case:
        with pytest.raises(FormatError):
            h5_documents(tmp_path / "m.h5")


@pytest.mark.parametrize("front, message", [(bytes(8), "HDF5's signature"), (b"\x89HDF\r\n\x1a\n", "broken")])
def test_a_file_behind_other_bytes_is_refused(tmp_path, front, message):
    with h5py.File(tmp_path / "m.h5", "w", userblock_size=512) as file:
        file.create_group("nphybrid")
    with open(tmp_path / "m.h5", "r+b") as file:
        file.write(front)
    with h5py.File(tmp_path / "m.h5") if not any(front) else open(os.devnull) as file:
        assert file
    with pytest.raises(FormatError, match=message):
        read_h5(tmp_path / "m.h5")
