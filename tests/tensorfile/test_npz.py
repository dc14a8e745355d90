"""npz: what NumPy writes is read, what is written NumPy reads, every other archive is refused by name."""
import importlib
import io
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from nphybrid import tensorfile
from nphybrid.tensorfile import FormatError, npz_header, read, read_npz, sniff, stored, stored_npz, write_npz

from tools.fuzz_npz import ONES, archive, deflated, member, mutants, npy, numpy_arrays, streamed, verdict, zip64

PACKAGE = Path(tensorfile.__file__).parent


def same(a, b):
    """Equal names, and each array equal in dtype, shape and bytes."""
    return sorted(a) == sorted(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a)


def native(array):
    """The same array as every reader gives it: native byte order, C order."""
    return np.array(array, np.asarray(array).dtype.newbyteorder("="), order="C")


def zoo():
    """Arrays of every type that is read, of awkward shape, layout and byte order."""
    rng = np.random.default_rng(0)
    cube = rng.standard_normal((3, 4, 5))
    codes = "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split()
    arrays = {f"type/{order}{code}": rng.integers(0, 100, (2, 3)).astype(code).astype(order + code)
              for code in codes for order in "<>"}
    return arrays | {
        "0-d": np.array(7, "f4"), "0-d/big": np.array(258, ">i4"), "zero size": np.zeros((2, 0, 3), "f4"),
        "one": np.ones((1, 1, 1, 1), "f4"), "5-d": rng.standard_normal((2, 1, 3, 1, 2)).astype("f4"),
        "fortran": np.asfortranarray(cube), "fortran/big": np.asfortranarray(cube.astype(">f4")),
        "strided": cube[::2, ::-1, 1::3], "transposed": cube.T, "ünï/коd": np.float32([1.5]), "": np.float32([2]),
        "special": np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], "f4"),
        "payload": np.array([0x7FC12345, 0xFF800001], "<u4").view("<f4"),
        "Transformer/encoderblock_0/LayerNorm_0/scale": np.linspace(0, 1, 7, dtype="f4"),
        "larger than a block": rng.standard_normal((300, 301)).astype("f4")}


# ---------------------------------------------------------------- round trips

@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, write_npz],
                         ids=["savez", "savez_compressed", "write_npz"])
def test_what_is_written_is_read(tmp_path, save):
    arrays = zoo()
    if save is write_npz:
        save(tmp_path / "m.npz", arrays)
    else:
        save(tmp_path / "m.npz", **arrays)
    got = read_npz(tmp_path / "m.npz")
    assert same(got, {name: native(array) for name, array in arrays.items()})
    assert same(got, numpy_arrays((tmp_path / "m.npz").read_bytes())) and same(got, read(tmp_path / "m.npz"))
    assert all(array.flags.c_contiguous and array.flags.writeable and array.dtype.isnative for array in got.values())
    assert all(type(array) is np.ndarray for array in got.values())


def test_what_is_streamed_into_a_pipe_is_read(tmp_path):
    """np.savez cannot go back to a member's header there: sizes and CRC-32 follow the member."""
    code = "import sys, numpy as np; np.savez(sys.stdout.buffer, a=np.arange(7), b=np.ones((2, 3), '>f4'))"
    data = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    (tmp_path / "m").write_bytes(data)
    assert data[6] == 8, "not streamed"
    assert same(read_npz(tmp_path / "m"), {"a": np.arange(7), "b": np.ones((2, 3), "f4")})


def test_file_order_and_header(tmp_path):
    np.savez_compressed(tmp_path / "m.npz", z=np.zeros((3, 5), ">i2"), a=np.asfortranarray(np.ones((2, 2))))
    header, data = npz_header(tmp_path / "m.npz"), (tmp_path / "m.npz").read_bytes()
    assert list(header) == ["z", "a"]
    assert header["z"][:3] == (">i2", (3, 5), False) and header["a"][:3] == ("<f8", (2, 2), True)
    for name, (_, _, _, length, entry) in header.items():
        content = zlib.decompress(data[entry.begin:entry.begin + entry.stored], -15)
        with np.load(tmp_path / "m.npz") as held:
            assert len(content) == entry.size == length + held[name].nbytes
        assert content[length - 1:length] == b"\n" and zlib.crc32(content) == entry.crc


def test_same_input_same_bytes(tmp_path):
    arrays = zoo()
    write_npz(tmp_path / "1", arrays)
    time.sleep(2.1)     # a zip's clock ticks every two seconds
    write_npz(tmp_path / "2", dict(reversed(arrays.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    header = npz_header(tmp_path / "1")
    assert list(header) == sorted(arrays) and all(member.header % 64 == 0 for member in header.values())


def test_an_archive_of_nothing(tmp_path):
    np.savez(tmp_path / "numpy.npz")
    write_npz(tmp_path / "ours.npz", {})
    for name in ("numpy.npz", "ours.npz"):
        assert read_npz(tmp_path / name) == npz_header(tmp_path / name) == {}
    # Any empty archive looks like this, so who does not ask for an npz is told so.
    with pytest.raises(FormatError, match="'zip'"):
        read(tmp_path / "numpy.npz")


def test_bfloat16_is_widened_exactly_for_every_bit_pattern(tmp_path):
    halves = np.arange(65536, dtype="<u2")
    for order in (False, True):
        for descr in ("<V2", "|V2", "V2"):
            (tmp_path / "m").write_bytes(archive(member(content=npy(halves.tobytes(), descr, (256, 256), order))))
            array, held = stored_npz(tmp_path / "m")["w"], halves.reshape(256, 256, order="F" if order else "C")
            assert (array.dtype, array.shape) == (np.float32, (256, 256)) and array.read().flags.c_contiguous
            assert (array.read().view(np.uint32) == held.astype(np.uint32) << 16).all()


def test_bfloat16_of_ml_dtypes(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    wide = np.float32([[1, -2.5, 3e38], [np.inf, 0, 1e-40]])
    halves = wide.astype(ml_dtypes.bfloat16)
    np.savez(tmp_path / "m.npz", w=halves, scalar=np.array(1.5, ml_dtypes.bfloat16))
    got = read_npz(tmp_path / "m.npz")
    assert same(got, {"w": halves.astype(np.float32), "scalar": np.array(1.5, "f4")})
    assert all(type(array) is np.ndarray for array in got.values())


def test_deflates_own_limit_is_no_bomb(tmp_path):
    np.savez_compressed(tmp_path / "m.npz", w=np.zeros(2**22, "f4"))
    assert 2**24 / os.path.getsize(tmp_path / "m.npz") > 1000
    assert not read_npz(tmp_path / "m.npz")["w"].any()


def test_pictures_of_cifar10(root):
    path = root / "tests" / "data" / "cifar10_test_1000.npz"
    assert same(read_npz(path), numpy_arrays(path.read_bytes()))


def test_any_archiver_will_do(tmp_path):
    """Info-ZIP's members have time stamps and owners in their extra fields."""
    if not shutil.which("zip"):
        pytest.skip("needs zip")
    np.save(tmp_path / "w.npy", np.arange(1000))
    subprocess.run(["zip", "-q", "m.npz", "w.npy"], cwd=tmp_path, check=True)
    assert read_npz(tmp_path / "m.npz")["w"].tolist() == list(range(1000))


@pytest.mark.parametrize("name, array, message", [
    ("../w", np.zeros(1), "leads out of the folder"), ("a/..", np.zeros(1), "leads out of the folder"),
    ("/w", np.zeros(1), "leads out of the folder"), ("C:w", np.zeros(1), "leads out of the folder"),
    ("a\\w", np.zeros(1), "leads out of the folder"), ("a\0w", np.zeros(1), "leads out of the folder"),
    (3, np.zeros(1), "must be a string"), ("\ud800", np.zeros(1), "valid Unicode"),
    ("ü" * 32766, np.zeros(1), "65,535 bytes"), ("w", np.array([None]), "cannot store this dtype"),
    ("w", np.array(["text"]), "cannot store this dtype"), ("w", np.zeros(2, "M8[s]"), "cannot store this dtype"),
    ("w", np.zeros(2, [("a", "f4")]), "cannot store this dtype"), ("w", np.zeros(2, "c8"), "cannot store this dtype"),
    ("w", np.zeros(2, "V2"), "cannot store this dtype"), ("w", np.zeros(2, "g"), "cannot store this dtype")])
def test_the_writer_refuses_what_the_reader_would(tmp_path, name, array, message):
    with pytest.raises(FormatError, match=message):
        write_npz(tmp_path / "m", {name: array})
    assert os.listdir(tmp_path) == []


def test_the_writer_counts(tmp_path):
    with pytest.raises(FormatError, match="found 20001, expected at most 20000"):
        write_npz(tmp_path / "m", dict.fromkeys(map(str, range(20_001)), np.zeros(0)))


# ---------------------------------------------------------------- the table of verdicts

GOOD = member()
SIZE = len(npy())
WIDE = {"size": ONES, "stored": ONES, "extra": zip64(SIZE, SIZE)}
PART = 30 + len("w.npy") + SIZE       # a member and its local header
TWO = {"w": np.float32([0, 0])}
NAN = np.float32([np.nan, 1]).tobytes()
EIGHT = np.arange(8, dtype="u1").tobytes()
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


def text(header):
    """A member of 8 bytes of items, behind this header."""
    return archive(member(content=npy(text=header)))


def typed(descr, items=bytes(8), shape=(2,), **more):
    return archive(member(content=npy(items, descr, shape, **more)))


def both(**fields):
    return archive(member(**fields))


ACCEPTED = {  # name -> (bytes, what is read)
    "good": (archive(GOOD), TWO),
    "no member": (archive(), {}),
    "two members": (archive(GOOD, member("a/b", npy(NAN))), TWO | {"a/b": np.frombuffer(NAN, "f4")}),
    "deflated": (both(method=8), TWO),
    "deflated in stored blocks": (both(method=8, data=deflated(npy(), 0)), TWO),
    "deflated with its effort in the flags": (both(method=8, flags=6), TWO),
    "streamed, 64 bits": (archive(streamed()), TWO),
    "streamed, 32 bits": (archive(streamed(wide=False)), TWO),
    "zip64 in the local header": (both(local=WIDE), TWO),
    "zip64 in the local header of Python 3.10": (both(local={"extra": zip64(SIZE, SIZE)}), TWO),
    "zip64 in the directory": (both(entry=WIDE | {"offset": ONES, "extra": zip64(SIZE, SIZE, 0)}), TWO),
    "zip64 for the offset": (both(entry={"offset": ONES, "extra": zip64(0)}), TWO),
    "zip64 end record": (archive(GOOD, end64={}), TWO),
    "zip64 end record, all ones": (archive(GOOD, end64={}, end={"count": 0xFFFF, "here": 0xFFFF, "begin": ONES}), TWO),
    "directory in another order": (archive(member("b", entry={"offset": PART, "name": b"a.npy"}),
                                           member("a", entry={"offset": 0, "name": b"b.npy"})),
                                   {"a": TWO["w"], "b": TWO["w"]}),
    "unknown extra fields": (both(extra=b"UT\1\0x" + b"ux\0\0"), TWO),
    "comment of an entry": (both(entry={"comment": b"mine"}), TWO),
    "another date, another system": (both(date=0xFFFF, time=0xFFFF, made=0x031E, outer=ONES), TWO),
    "UTF-8 name": (both(name="é", flags=1 << 11), {"é": TWO["w"]}),
    "no name": (both(name=""), {"": TWO["w"]}),
    "name of a pickle": (both(name="data.pkl"), {"data.pkl": TWO["w"]}),
    "items that spell a pickle's name": (typed("|u1", b"data.pkl", (8,)), {"w": np.frombuffer(b"data.pkl", "u1")}),
    "npy 2.0": (typed("<f4", version=(2, 0)), TWO),
    "npy 3.0": (typed("<f4", version=(3, 0)), TWO),
    "big-endian": (typed(">i4", EIGHT), {"w": np.frombuffer(EIGHT, ">i4").astype("i4")}),
    "Fortran order": (typed("|u1", EIGHT, (2, 4), order=True), {"w": np.uint8([[0, 2, 4, 6], [1, 3, 5, 7]])}),
    "0-d": (typed("<f8", shape=()), {"w": np.float64(0)}),
    "no item": (typed("<f8", b"", (3, 0)), {"w": np.zeros((3, 0))}),
    "bool": (typed("|b1", bytes([0, 1]), (2,)), {"w": np.array([False, True])}),
    "keys in another order": (text("{'shape': (2,), 'descr': '<f4', 'fortran_order': False}\n"), TWO),
    "no spaces": (text("{'descr':'<f4','fortran_order':False,'shape':(2,)}\n"), TWO),
    "the longest header": (text(HEADER.ljust(9999) + "\n"), TWO),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(tmp_path, case):
    data, expected = ACCEPTED[case]
    (tmp_path / "m").write_bytes(data)
    assert same(read_npz(tmp_path / "m"), {name: np.asarray(array) for name, array in expected.items()})
    assert verdict(data)


NOT_NUMPYS = "the npy header does not have the form that NumPy writes"
REFUSED = {  # name -> (bytes, a part of the message)
    "nothing": (b"", "empty (0 bytes)"),
    "only a signature": (b"PK\3\4", "the end record is missing: is the file truncated?"),
    "cut in its last byte": (archive(GOOD)[:-1], "the end record is missing"),
    "cut in a member": (archive(GOOD)[:60], "the end record is missing"),
    "no end record": (archive(GOOD)[:-22], "the end record is missing"),
    "bytes at the end": (archive(GOOD, after=b"x"), "the end record is missing"),
    "a comment": (archive(GOOD, end={"comment": 4}, after=b"mine"), "the end record is missing"),
    "a comment that is an end record": (archive(GOOD, end={"comment": 22}, after=archive()), "at the end record"),
    "a comment that is not there": (archive(GOOD, end={"comment": 1}), "or has a comment"),
    "bytes in front": (b"MZ" + archive(GOOD), "directory does not end at the end record"),
    "bytes in front that are counted": (archive(member(gap=b"#!")),
                                        "there is a gap before the member: found 'local header at 2'"),
    "another disk": (archive(GOOD, end={"disk": 1}), "part of an archive"),
    "the directory's other disk": (archive(GOOD, end={"first": 1}), "part of an archive"),
    "a member's other disk": (both(entry={"disk": 1}), "disk 1"),
    "entries on another disk": (archive(GOOD, end={"count": 2}), "1 of 2 entries"),
    "an entry too many": (archive(GOOD, end={"count": 2, "here": 2}), "the directory entry is missing"),
    "an entry too few": (archive(GOOD, member("v"), end={"count": 1, "here": 1}), "do not fill the directory"),
    "65,535 entries": (archive(GOOD, end={"count": 0xFFFF, "here": 0xFFFF}), "too many members"),
    "2^63 entries": (archive(GOOD, end64={"count": 2**63, "here": 2**63}, end={"count": 0xFFFF, "here": 0xFFFF}),
                     "too many members"),
    "directory shorter than it is": (archive(GOOD, end={"length": 50}), "does not end at the end record"),
    "directory begins elsewhere": (archive(GOOD, end={"begin": 0}), "does not end at the end record"),
    "bytes in front of the directory": (archive(GOOD, between=b"abc"), "between the last member and the"),
    "a member that is in no directory": (archive(GOOD)[:PART] + archive(member(gap=archive(GOOD)[:PART])),
                                         "directory does not end"),
    "a hidden member": (archive(member(gap=archive(GOOD)[:PART])), "there is a gap before the member"),
    "two members in one place": (archive(member(), member("w2", entry={"offset": 0})), "overlaps the member before it"),
    "a member inside another": (archive(member(content=npy(archive(GOOD)[:PART], "|u1", (PART,))),
                                        member("w2", entry={"offset": 163})), "overlaps the member before it"),
    "a member inside the directory": (both(stored=SIZE + 20, size=SIZE + 20), "reaches into the directory"),
    "a member beyond the file": (both(stored=2**31, size=2**31), "reaches into the directory"),
    "a member of 2^63 bytes": (both(stored=ONES, size=ONES, extra=zip64(2**63, 2**63),
                                    entry={"extra": zip64(2**63, 2**63)}), "reaches into the directory"),
    "an offset of 2^64 - 1": (both(entry={"offset": ONES, "extra": zip64(2**64 - 1)}),
                              "there is a gap before the member"),
    "no local header": (both(gap=b"abcd", entry={"offset": 0}), "the local header is missing"),

    "two local names": (both(local={"name": b"v.npy"}), "disagree on name, flags or method"),
    "two flags": (both(local={"flags": 1 << 11}), "disagree on name, flags or method"),
    "two methods": (both(local={"method": 8}), "disagree on name, flags or method"),
    "two sizes": (both(local={"size": 1}), "disagree on CRC-32, stored size or size"),
    "two stored sizes": (both(local={"stored": 1}), "disagree on CRC-32, stored size or size"),
    "two CRC-32s": (both(local={"crc": 1}), "disagree on CRC-32, stored size or size"),
    "two sizes in zip64": (both(local=WIDE | {"extra": zip64(SIZE, SIZE + 1)}), "disagree on CRC-32"),
    "sizes in front of a streamed member": (archive(streamed() | {"local": {}}), "disagree on CRC-32"),
    "other sizes behind it": (archive(streamed() | {"behind": streamed(content=b"")["behind"]}), "disagree on CRC"),
    "nothing behind it": (archive(streamed() | {"behind": b""}), "reaches into the directory"),
    "no descriptor behind it": (archive(streamed() | {"behind": bytes(24)}), "the data descriptor is missing"),
    "32 bits behind a member of 64": (archive(streamed() | {"behind": streamed(wide=False)["behind"]}), "reaches into"),
    "all ones and no zip64": (both(entry={"size": ONES}), "one number for each field whose bits are all 1"),
    "zip64 of another size": (both(local={"extra": zip64(SIZE, SIZE + 1)}), "one number for each field whose bits"),
    "zip64 of too many numbers": (both(extra=zip64(SIZE)), "one number for each field whose bits are all 1"),
    "zip64 of too few numbers": (both(entry=WIDE | {"extra": zip64(SIZE)}), "one number for each"),
    "zip64 twice": (both(extra=zip64() + zip64()), "extra fields are broken"),
    "extra field too long": (both(extra=b"UT\5\0abc"), "extra fields are broken"),
    "extra field too short": (both(extra=b"UT\0"), "extra fields are broken"),
    "a long name, and another": (both(name="x" * 60_000, local={"name": b"y" * 60_000}), "disagree on name"),
    "a second name": (both(extra=b"up\2\0ab"), "has a second name"),
    "zip64 end records disagree": (archive(GOOD, end64={"count": 2}),
                                   "the end record and the zip64 end record disagree"),
    "zip64 end record elsewhere": (archive(GOOD, end64={}, locator={"at": 0}), "has a wrong place or length"),
    "zip64 end record longer": (archive(GOOD, end64={"rest": 60}), "has a wrong place or length"),
    "zip64 on two disks": (archive(GOOD, end64={}, locator={"disks": 2}), "has a wrong place or length"),
    "a zip64 locator alone": (archive(member(), after=b"")[:-22] + struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)
                              + archive(GOOD)[-22:], "the zip64 end record is missing"),

    "encrypted": (both(flags=1), "is encrypted"),
    "strongly encrypted": (both(flags=1 << 6), "is encrypted"),
    "encrypted directory": (both(flags=1 << 13), "is encrypted"),
    "patched": (both(flags=1 << 5), "needs a feature that is not supported"),
    "effort of no deflate": (both(flags=2), "needs a feature that is not supported"),
    "a later version": (both(needed=46), "version 46"),
    "a later local version": (both(local={"needed": 63}), "version at most 45"),
    **{f"method {method}": (both(method=method, data=npy()), "the compression method of the member is not supported")
       for method in (1, 6, 9, 12, 14, 93, 95, 99)},

    **{f"name {name!r}": (both(name=name, flags=1 << 11), "leads out of the folder")
       for name in ("../w", "a/../w", "..", "a/..", "/w", "C:/w", "c:w", "a\\b", "a\0b")},
    "no array": (archive(GOOD, member(b"a.txt")), "member is not an array"),
    "a folder": (archive(GOOD, member(b"a/", b"")), "member is not an array"),
    "a pickle": (archive(GOOD, member(b"data.pkl", b"")), "is a pickle"),
    "a pickle of torch": (archive(GOOD, member(b"archive/data.pkl", b"")), "is a pickle"),
    "a name not in UTF-8": (both(name=b"\xff.npy", flags=1 << 11), "the name of a member cannot be read"),
    "a name in an old code page": (both(name=b"\x82.npy"), "the name of a member cannot be read"),
    "one name twice": (archive(GOOD, GOOD), "two members have this name"),
    "a Unicode name twice": (archive(member("w", flags=1 << 11), GOOD), "two members have this name"),

    "plain, of another size": (both(stored=SIZE - 1), "a size that the bytes of the member cannot hold"),
    "1,101 times its size": (both(method=8, data=b"x", size=1101), "a size that the bytes of the member cannot hold"),
    "2^40 bytes in 60": (both(method=8, size=ONES, entry={"extra": zip64(2**40)}), "at most 1100 x"),
    "deflates to more": (both(method=8, data=deflated(npy() + b"x"), content=npy()),
                         "inflates to more bytes than its entry states"),
    "deflates to less": (both(method=8, data=deflated(npy()[:-1]), content=npy()),
                         "holds fewer bytes than its entry states"),
    "deflates to nothing": (both(method=8, data=deflated(b"")), "holds fewer bytes than its entry states"),
    "stream without an end": (both(method=8, data=deflated(npy())[:-2]), "at the end of the member: found 'no end'"),
    "stream and more": (both(method=8, data=deflated(npy()) + b"\0"), "found 'bytes after the stream'"),
    "two streams": (both(method=8, data=deflated(npy()) * 2), "found 'bytes after the stream'"),
    "no stream": (both(method=8, data=npy()), "deflate stream"),
    "zlib's wrapping": (both(method=8, data=zlib.compress(npy())), "deflate stream is broken"),
    "another CRC-32": (both(crc=0), "checksum does not match: the bytes are damaged: found"),
    "a flipped item": (both(data=npy()[:-1] + b"\1"), "checksum does not match"),
    "a flipped item, deflated": (both(method=8, data=deflated(npy()[:-1] + b"\1")), "checksum does not match"),
    "another shape of as many bytes": (both(data=npy(shape=(1, 2))), "checksum does not match"),

    "no npy": (both(content=b""), "is not an .npy file"),
    "text": (both(content=b"some text"), "is not an .npy file"),
    "npy 0.0": (typed("<f4", version=(0, 0)), "version 1.0, 2.0 or 3.0"),
    "npy 1.1": (typed("<f4", version=(1, 1)), "version 1.0, 2.0 or 3.0"),
    "npy 4.0": (typed("<f4", version=(4, 0)), "version 1.0, 2.0 or 3.0"),
    "only a magic": (both(content=npy()[:8]), NOT_NUMPYS),
    "header beyond the member": (both(content=npy(length=1000)), "npy header is too long: found '1000 bytes'"),
    "header of 10,001 bytes": (text(HEADER.ljust(10_000) + "\n"), "npy header is too long"),
    "header of 2^32 - 1 bytes": (both(content=npy(version=(2, 0), length=ONES)), "npy header is too long"),
    "header one byte short": (both(content=npy(length=117)), NOT_NUMPYS),
    **{f"header {header!r:.60}": (text(header), NOT_NUMPYS) for header in (
        "", "\n", "{}\n", HEADER, f"[{HEADER}]\n", f" {HEADER}\n", f"{HEADER}\n\n", f"{HEADER}#\n", "(" * 9000 + "\n",
        "{'descr': '<f4', 'descr': '<f8', 'fortran_order': False}\n")},
    **{f"{wrong:.40} for {right}": (text(HEADER.replace(right, wrong) + "\n"), NOT_NUMPYS)
       for right, wrong in [
           ("}", "'x': 1}"), ("(2,)", "(2)"), ("(2,)", "[2]"), ("(2,)", "2"), ("2", "-2"), ("2", "2L"), ("2", "2.0"),
           ("2", "02"), ("2", "1+1"), ("2", "9" * 5000), ("False", "0"), ("False", "None"), ("False", "'False'"),
           ("'<f4'", "False"), ("'<f4'", "'<' 'f4'"), ("'<f4'", "[('a', '<f4')]"), ("shape", "descr"), ("'", '"'),
           ("'<f4'", "__import__('os').abort()")]},
    **{f"dtype {descr!r}": (typed(descr), "dtype is not supported") for descr in (
        "|O", "O", "<U1", "|S4", "<M8[s]", "<m8[s]", "<c8", "<f16", "<f12", "<f3", "f4", "=f4", "float32", "|f4", "<u1",
        ">V2", "|V4", "V", "?", "", "|b2", "<f4,<f4", "\xe9")},
    "byte of no bool": (typed("|b1", b"\0\2", (2,)), "neither 0 nor 1"),
    "items too many": (typed("<f4", bytes(12)),
                       "the length of the member does not fit its shape: found '140 bytes', expected 136 bytes"),
    "items too few": (typed("<f4", bytes(7)), "the length of the member does not fit its shape"),
    "items of half the size": (typed("<f2"), "the length of the member does not fit its shape"),
    "shape of 2^40": (typed("<f4", shape=(2**20, 2**20)), "the length of the member does not fit its shape"),
    "shape beyond 2^63": (typed("<f4", shape=(2**62,)), "too large for an array"),
    "shape that wraps to 0": (typed("<f4", b"", (2**32, 2**32)), "too large for an array"),
    "no items along 2^63": (typed("<f4", b"", (0, 2**63)), "too large for an array"),
    "65 axes": (typed("<f8", shape=(1,) * 65), "too large for an array"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    data, message = REFUSED[case]
    path = tmp_path / "weights.npz"
    path.write_bytes(data)
    with pytest.raises(FormatError) as refused:
        read_npz(path)
    assert message in str(refused.value) and str(refused.value).startswith(str(path))
    assert len(str(refused.value)) < 700 and str(refused.value).isascii() and os.listdir(tmp_path) == [path.name]
    if not any(words in message for words in ("checksum", "neither 0 nor 1")):
        for header_of in (npz_header, stored_npz):
            with pytest.raises(FormatError):
                header_of(path)


def test_what_holds_objects_is_refused(tmp_path):
    np.savez(tmp_path / "m.npz", w=np.array([{}, None]))
    with pytest.raises(FormatError, match="tensor 'w': dtype is not supported: found '|O'"):
        read_npz(tmp_path / "m.npz")


@pytest.mark.parametrize("method", [0, 8])
def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path, method):
    """But in the bytes that say nothing: made by, version, time, date, attributes; a deflate stream has spare bits."""
    items = np.arange(6, dtype="<f4").tobytes()
    good = archive(member("a", npy(items, shape=(2, 3)), method=method), streamed("b"))
    (tmp_path / "m").write_bytes(good)
    want, quiet, rng = read_npz(tmp_path / "m"), set(), random.Random(3)
    for length in range(len(good)):
        (tmp_path / "m").write_bytes(good[:length])
        with pytest.raises(FormatError):
            read_npz(tmp_path / "m")
    for at in range(len(good)):
        (tmp_path / "m").write_bytes(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1:])
        try:
            assert same(read_npz(tmp_path / "m"), want), f"byte {at}"
            quiet.add(at)
        except FormatError:
            pass
    second, directory = good.index(b"PK\3\4", 1), good.index(b"PK\1\2")
    locals_ = {begin + at for begin in (0, second) for at in (4, *range(10, 14))}
    entries = {begin + at for begin in (directory, good.index(b"PK\1\2", directory + 1))
               for at in (4, 5, 6, *range(12, 16), *range(36, 42))}
    stream = set(range(PART - SIZE, second)) if method == 8 else set()
    assert quiet <= locals_ | entries | stream and len(quiet & stream) < 8


# ---------------------------------------------------------------- large files, small memory

def test_offsets_beyond_4_gib(tmp_path):
    """A sparse file: a member of 4 GiB that is never written, and a small one behind it."""
    header = npy(b"", "|u1", (2**32 + 10,))
    size = len(header) + 2**32 + 10
    wide = {"size": ONES, "stored": ONES, "extra": zip64(size, size)}
    first = archive(member("huge", header, wide, wide, crc=7))
    begin = first.index(header) + len(header)
    offset = begin + 2**32 + 10
    second = archive(member("small", npy(NAN)))
    place = second.index(b"PK\1\2")
    entries = first[first.index(b"PK\1\2"):-22] + archive(member("small", npy(NAN), entry={
        "offset": ONES, "extra": zip64(offset)}))[place:-22]
    end = archive(end64={"count": 2, "here": 2, "length": len(entries), "begin": offset + place},
                  end={"count": 2, "here": 2, "length": len(entries), "begin": ONES},
                  locator={"at": offset + place + len(entries)})
    with open(tmp_path / "m", "wb") as file:
        file.write(first[:begin])
        file.seek(offset)
        file.write(second[:place] + entries + end)
    arrays = stored_npz(tmp_path / "m")
    assert arrays["huge"].shape == (2**32 + 10,) and arrays["small"].read().tobytes() == NAN
    with np.load(tmp_path / "m") as held:
        assert held["small"].tobytes() == NAN


BOMBS = {  # name -> () -> bytes
    "2^40 bytes in 100": lambda: both(
        method=8, content=npy(b"", "|u1", (2**40,)), size=ONES, stored=100, data=bytes(100),
        local={"extra": zip64(2**40 + 128)}, entry={"extra": zip64(2**40 + 128)}),
    "1,095 times, and no such stream": lambda: both(
        method=8, size=2**30, content=npy(b"", "|u1", (2**30 - 128,)),
        data=deflated(npy(bytes(20_000), "|u1", (2**30 - 128,))) + bytes(980_000)),
    "a million times what it claims": lambda: both(method=8, data=deflated(npy() + bytes(136 * 10**6), 1)),
    "20 members of a megabyte in one place": lambda: archive(
        member("0", npy(bytes(10**6), "|u1", (10**6,))),
        *(member(str(i), b"", entry={"offset": 0, "stored": 10**6, "size": 10**6}) for i in range(1, 20))),
    "a directory of 20,001 entries": lambda: archive(*(member(str(i), b"") for i in range(20_001))),
    "an npy header of 4 GiB": lambda: both(content=npy(version=(2, 0), length=ONES)),
    "a stream of a million empty blocks": lambda: both(method=8, data=b"\0\0\0\xff\xff" * 10**6),
    "extra fields without bytes": lambda: both(
        extra=b"".join(struct.pack("<2H", i, 0) for i in range(2, 16_384)) + struct.pack("<2H", 2, 0)),
}
CHILD = """
import resource, sys
from nphybrid.tensorfile import FormatError, read_npz
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_npz(sys.argv[1])
except FormatError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in KiB")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_within_50_mb(tmp_path, bomb):
    (tmp_path / "m.npz").write_bytes(BOMBS[bomb]())
    result = subprocess.run([sys.executable, "-c", CHILD, tmp_path / "m.npz"], text=True,
                            capture_output=True, timeout=60)
    assert result.returncode == 0 and int(result.stdout) * 1024 < 50e6, result.stdout + result.stderr[-2000:]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_stays_in_the_file_takes_no_memory(tmp_path, save):
    arrays = {str(i): np.random.default_rng(i).standard_normal(2**19).astype("f4") for i in range(4)}
    save(tmp_path / "m.npz", **arrays)
    stored_npz(tmp_path / "m.npz")
    tracemalloc.start()
    try:
        held = stored_npz(tmp_path / "m.npz")
        headers = tracemalloc.get_traced_memory()[1]
        for array in held.values():
            array.read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert headers < 2**20 and peak < 1.2 * 2**21, f"{headers}, then {peak} bytes for arrays of 2 MiB"


# ---------------------------------------------------------------- arrays that stay in their file

def test_any_thread_may_read(tmp_path):
    arrays = {name: native(array) for name, array in zoo().items()}
    np.savez_compressed(tmp_path / "m.npz", **arrays)
    lazy, wrong = stored(tmp_path / "m.npz"), []

    def work():
        for _ in range(5):
            got = {name: array.read() for name, array in lazy.items()}
            if not same(got, arrays):
                wrong.append(got)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for name, array in lazy.items():
        assert (array.name, array.shape, array.dtype) == (name, arrays[name].shape, arrays[name].dtype)


# ---------------------------------------------------------------- kinds

@pytest.mark.parametrize("data, message", [
    (b"<!DOCTYPE html>", "web page"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    (b"\x80\x02}q\x00.", "is a pickle"), (b"\x89HDF\r\n\x1a\n", "found 'hdf5', expected npz"),
    (struct.pack("<Q", 2) + b"{}", "found 'safetensors', expected npz"), (npy(), "the end record is missing")])
def test_other_kinds_are_told_by_name(tmp_path, data, message):
    (tmp_path / "m.npz").write_bytes(data)
    with pytest.raises(FormatError, match=message):
        read_npz(tmp_path / "m.npz")


def test_no_file_and_no_regular_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "absent")
    with pytest.raises(FormatError, match="is a folder"):
        read_npz(tmp_path)


def test_a_pickle_is_known_by_a_name_not_by_items(tmp_path):
    stream = io.BytesIO()
    np.savez(stream, **{"w": np.frombuffer(b"an archive/data.pkl PK\1\2", "u1"), "data.pkl": np.zeros(1)})
    (tmp_path / "m").write_bytes(stream.getvalue())
    assert sniff(tmp_path / "m") == "npz" and len(read_npz(tmp_path / "m")) == 2
    for name in ("data.pkl", "modèle/data.pkl", "a" * 200 + "/data.pkl"):
        for parts in ([member(name.encode())], [GOOD, member(name.encode())]):
            (tmp_path / "m").write_bytes(archive(*parts))
            assert sniff(tmp_path / "m") == "pickle-zip"


# ---------------------------------------------------------------- the fuzzer

@pytest.mark.slow
def test_mutants_are_refused_or_read_as_numpy_reads_them():
    read = [verdict(data) for data in mutants(3, 800)]
    assert 100 < sum(read) < 400


def test_mutants_are_the_seeds():
    assert list(mutants(1, 20)) == list(mutants(1, 20)) != list(mutants(2, 20))


BUGS = {  # name -> (module, what it says, what a bug would say)
    "CRC-32 not compared": ("npz", "if crc != member.entry.crc:", "if False:"),
    "shape not held against the member": ("npz", "if needed != entry.size:", "if False:"),
    "Fortran order forgotten": ("npz", "stored.T if member.fortran_order else stored", "stored"),
    "big-endian read as little": ("npz", '{dtype.str: dtype for dtype in _NUMBERS}',
                                  '{dtype.str: dtype.newbyteorder("<") for dtype in _NUMBERS}'),
    "objects read as numbers": ("npz", "| _BFLOAT16\n", '| _BFLOAT16 | {"|O": np.dtype("<u8")}\n'),
    "bfloat16 shifted by 15 bits": ("arrays", "wide <<= 16", "wide <<= 15"),
    "names not compared": ("archive", "if found != expected or needed > _VERSION:", "if False:"),
    "names not checked": ("archive", "    if trouble:\n", "    if False:\n"),
    "expansion not bounded": ("archive", "limit = MAX_RATIO * stored", "limit = 2**62"),
    "inflated beyond the claim": ("archive", "if left < 0:", "if False:"),
    "missing bytes not noticed": ("archive", "    if left:\n", "    if False:\n"),
    "a broken stream's own error": ("archive", "except zlib.error as error:", "except KeyError as error:"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_fuzzer_finds_planted_bugs(tmp_path, monkeypatch, bug):
    library = planted(tmp_path, monkeypatch, *BUGS[bug])
    with pytest.raises(AssertionError):
        for data in mutants(3, 800):
            verdict(data, library)


def planted(folder, monkeypatch, module, line, wrong):
    """The package tensorfile, with one piece of its source replaced."""
    name = f"planted_{abs(hash((module, line, wrong)))}"
    shutil.copytree(PACKAGE, folder / name / "tensorfile", ignore=shutil.ignore_patterns("__pycache__"))
    for module_beside in ("text.py", "shortage.py"):
        shutil.copy(PACKAGE.parent / module_beside, folder / name)
    (folder / name / "__init__.py").touch()
    source = (folder / name / "tensorfile" / f"{module}.py").read_text("utf-8")
    assert source.count(line) == 1
    (folder / name / "tensorfile" / f"{module}.py").write_text(source.replace(line, wrong), "utf-8")
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(f"{name}.tensorfile")
