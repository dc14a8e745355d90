"""npz files, right or wrong in any byte: a builder, mutants made with it, and the verdict on how one was read.

    for data in mutants(seed=1, n=1000):
        verdict(data)      # AssertionError if it was read wrongly; refused, or read right, is well
"""
import copy
import io
import random
import re
import struct
import tempfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from nphybrid import tensorfile

ONES = 0xFFFFFFFF


# ---------------------------------------------------------------- the builder

def npy(items=bytes(8), descr="<f4", shape=(2,), order=False, version=(1, 0), text=None, length=None):
    """The bytes of an .npy file; `text` takes the place of the header, `length` of its length."""
    if text is None:
        text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    text = text if isinstance(text, bytes) else text.encode("latin-1")
    width = "<H" if version[0] == 1 else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(width, len(text) if length is None else length) + text + items


def member(name="w", content=None, local=(), entry=(), gap=b"", behind=b"", data=None, **both):
    """One member.  `local` and `entry` are fields of its two headers, `both` of both; `data` is what is stored."""
    content = npy() if content is None else content
    return {"name": name.encode() + b".npy" if isinstance(name, str) else name, "content": content, "gap": gap,
            "behind": behind, "data": data, "local": dict(local), "entry": dict(entry), "both": both}


def deflated(content, level=9):
    """A raw deflate stream."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -15)
    return stream.compress(content) + stream.flush()


def streamed(name="w", content=None, wide=True):
    """A member as np.savez writes it into a pipe: its sizes follow it."""
    content = npy() if content is None else content
    sizes = struct.pack("<4sI2Q" if wide else "<4s3I", b"PK\x07\x08", zlib.crc32(content), len(content), len(content))
    size = ONES if wide else 0
    local = {"crc": 0, "stored": size, "size": size, "extra": zip64(0, 0) if wide else b""}
    return member(name, content, local, behind=sizes, flags=8)


def zip64(*numbers):
    """The extra field of numbers of 64 bits."""
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


def archive(*members, between=b"", after=b"", end=(), end64=None, locator=()):
    """The bytes of a zip archive.  `end`, `end64` and `locator` are fields of the records at its end (None: none)."""
    data, directory = bytearray(), bytearray()
    for part in members:
        data += part["gap"]
        local, entry, stored = headers(part, len(data))
        data += struct.pack("<4s5H3I2H", b"PK\x03\x04", *(local[key] for key in LOCAL))
        data += local["name"] + local["extra"] + stored + part["behind"]
        directory += struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *(entry[key] for key in ENTRY))
        directory += entry["name"] + entry["extra"] + entry["comment"]
    data += between
    fields = {"disk": 0, "first": 0, "here": len(members), "count": len(members), "length": len(directory),
              "begin": len(data), "comment": 0}
    data += directory
    if end64 is not None:
        full = {"rest": 44, "made": 45, "needed": 45} | fields | dict(end64)
        where = {"disk": 0, "at": len(data), "disks": 1} | dict(locator)
        data += struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", *(full[key] for key in END64))
        data += struct.pack("<4sIQI", b"PK\x06\x07", *where.values())
    return bytes(data + struct.pack("<4s4H2IH", b"PK\x05\x06", *(fields | dict(end)).values()) + after)


LOCAL = "needed flags method time date crc stored size n e".split()
ENTRY = ["made", *LOCAL, *"c disk inner outer offset".split()]
END64 = "rest made needed disk first here count length begin".split()


def headers(part, offset):
    """The fields of a member's local header and directory entry, and what is stored."""
    method = part["both"].get("method", 0)
    stored = part["data"]
    if stored is None:
        stored = deflated(part["content"]) if method == 8 else part["content"]
    fields = {"made": 20, "needed": 20, "flags": 0, "method": 0, "time": 0, "date": 33, "disk": 0, "inner": 0,
              "outer": 0, "crc": zlib.crc32(part["content"]), "stored": len(stored), "size": len(part["content"]),
              "name": part["name"], "extra": b"", "comment": b"", "offset": offset} | part["both"]
    both = []
    for header in (fields | part["local"], fields | part["entry"]):
        both.append({"n": len(header["name"]), "e": len(header["extra"]), "c": len(header["comment"])} | header)
    return *both, stored


# ---------------------------------------------------------------- mutants

SHORT = [0, 1, 2, 8, 20, 45, 46, 99, 255, 2**11, 2**15, 0xFFFF]
NUMBERS = [*SHORT, 2**16, 2**31, 2**32 - 2, ONES]
TYPES = ["<f4", ">f4", "<f8", ">f2", "|u1", "|i1", "|b1", "<i8", "<V2", "|V2", "V2", ">V2", "|O", "<U1", "<M8[s]",
         "<c8", "f4", "=f4", "<f3", "<f16", "<u1", "", "float32", "|S4", "?"]
TEXTS = ["{}", "{'descr': '<f4', 'fortran_order': False}", "{'descr': [('a', '<f4')], 'shape': (2,)}",
         "{'descr': '<f4', 'shape': (2,), 'fortran_order': 0}",
         "{'shape': (2,), 'fortran_order': False, 'descr': '<f4'}",
         "{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", "(" * 200, "{'descr': '<f4',",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (2L,), }", "__import__('os').abort()"]
NAMES = ["w", "a/b", "../w", "/w", "C:w", "a\\b", "a\0b", "w.npy", "", "é", "a/../w", "..", "x" * 300]
SHAPES = [(), (0,), (1,), (2,), (8,), (2, 0, 3), (2**31,), (2**62, 4), (0, 2**63), (1,) * 65, (3, 1), (1, 3), (-2,)]


def specimen(rng):
    """A few members as np.savez and its like may write them: plain, deflated, streamed or with zip64."""
    parts = [arrayed(f"{'abcd'[i]}/{i}", rng) for i in range(rng.randrange(4))]
    if rng.random() < 0.2:
        parts.append(streamed("s", npy(rng.randbytes(8)), rng.random() < 0.5))
    return parts


def arrayed(name, rng):
    """A member of some items, plain or deflated; a few are longer than any npy header."""
    times = rng.choice([1] * 9 + [600])
    items = rng.randbytes(24 * times)
    descr, (first, *rest) = rng.choice([
        ("<f4", (2, 3)), (">f4", (3, 2)), ("<f8", (3, 1)), ("|u1", (2, 3, 4)), ("<i8", (3,)), ("|V2", (12,)),
        (">u2", (4, 3)), ("<f2", (1, 12)), ("|b1", (24,))])
    items = bytes(byte & 1 for byte in items) if descr == "|b1" else items
    version = rng.choice([(1, 0), (1, 0), (2, 0), (3, 0)])
    content = npy(items, descr, (first * times, *rest), rng.random() < 0.3, version)
    if rng.random() < 0.2:
        size = len(content)
        wide = {"size": ONES, "stored": ONES, "extra": zip64(size, size)}
        return member(name, content, wide, wide if rng.random() < 0.5 else ())
    return member(name, content, method=rng.choice([0, 8]))


def change_header(parts, options, rng):
    """One field of one header, or of both, of one member."""
    part = rng.choice(parts)
    key = rng.choice(ENTRY)
    numbers = NUMBERS if key in ("crc", "stored", "size", "offset", "outer") else SHORT
    part[rng.choice(["local", "entry", "both"])][key] = rng.choice(numbers)


def change_end(parts, options, rng):
    """One field of a record at the end."""
    which = rng.choice(["end", "end64", "locator"])
    keys = {"end": "disk first here count length begin comment".split(), "end64": END64,
            "locator": ["disk", "at", "disks"]}[which]
    key = rng.choice(keys)
    fields = {key: rng.choice(SHORT if which == "end" or key in ("made", "needed") else NUMBERS)}
    options |= {"end64": {}, which: fields} if which != "end" else {which: fields}


def change_npy(parts, options, rng):
    """Another npy header in front of other items, sizes and CRC-32 right."""
    items = rng.randbytes(rng.choice([0, 4, 7, 8, 8, 8, 24]))
    change = rng.randrange(4)
    if change == 0:
        descr = rng.choice(TYPES)
        content = npy(items, descr, (len(items) // int(re.sub("[^1-9]", "", descr) or 8),))
    elif change == 1:
        content = npy(items, shape=rng.choice(SHAPES), order=rng.choice([False, True, 0, None]))
    elif change == 2:
        content = npy(items, text=rng.choice(TEXTS).ljust(63) + rng.choice(["\n", "", " "]))
    else:
        content = npy(items, version=rng.choice([(0, 0), (1, 1), (2, 0), (4, 0)]), length=rng.choice(SHORT))
    rng.choice(parts)["content"] = content


def change_items(parts, options, rng):
    """Bytes behind the npy header are missing, too many, or flipped; size and CRC-32 are right, or those of before."""
    part = rng.choice(parts)
    before = {"crc": zlib.crc32(part["content"]), "size": len(part["content"])}
    part["both"] |= {key: before[key] for key in before if rng.random() < 0.5}
    at = rng.randrange(len(part["content"]) - 4, len(part["content"]))
    flipped = bytes([part["content"][at] ^ 1 << rng.randrange(8)])
    part["content"] = part["content"][:at] + rng.choice([b"", bytes(3), flipped]) + part["content"][at + 1:]


def change_stream(parts, options, rng):
    """A deflate stream that is damaged, cut, or followed by more; it may claim what it does not hold."""
    part = rng.choice(parts)
    part["both"]["method"] = 8
    data = bytearray(deflated(part["content"] + rng.choice([b"", bytes(9)]), rng.choice([0, 9])))
    if rng.random() < 0.5:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    part["data"] = bytes(data[:len(data) - rng.choice([0, 0, 1, 5])]) + rng.choice([b"", b"", b"\0"])


def change_bomb(parts, options, rng):
    """A deflated member that claims, in its headers and its shape, what it does not hold."""
    part, count = rng.choice(parts), rng.choice([2**20, 2**25, 2**27])
    part["content"] = npy(bytes(20_000), shape=(count,))
    part["both"] |= {"method": 8, "size": len(part["content"]) - 20_000 + 4 * count}


def change_name(parts, options, rng):
    """Another name, in both headers or in one."""
    name = rng.choice(NAMES).encode() + rng.choice([b".npy", b".npy", b".txt", b""])
    rng.choice(parts)[rng.choice(["local", "entry", "both"])]["name"] = name


def change_order(parts, options, rng):
    """A member twice, a gap, or bytes that belong to nothing."""
    place = rng.randrange(4)
    if place == 0:
        parts.append(copy.deepcopy(rng.choice(parts)))
    elif place == 1:
        rng.choice(parts)["gap"] = rng.randbytes(rng.randrange(1, 5))
    else:
        options[("between", "after")[place - 2]] = rng.randbytes(rng.randrange(1, 5))


CHANGES = [change_header, change_end, change_npy, change_npy, change_items, change_stream, change_bomb, change_name,
           change_order]


def damaged(data, rng):
    """Bytes flipped, spliced, cut or inserted."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at, other = rng.randrange(len(data)), rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at:at + 8] = data[other:other + 8]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 5))
        else:
            del data[at:at + rng.choice([1, 4, 30])]
        data = data or bytearray(b"P")
    return bytes(data)


def mutants(seed, n):
    """`n` npz files, most of them wrong in one or two places: an iterator of bytes; the seed decides them all."""
    rng = random.Random(seed)
    for _ in range(n):
        parts, options = specimen(rng) or [member()], {"end64": {}} if rng.random() < 0.1 else {}
        for _ in range(rng.choice([0, 1, 1, 1, 1, 2])):
            rng.choice(CHANGES)(parts, options, rng)
        data = archive(*parts, **options)
        yield damaged(data, rng) if rng.random() < 0.2 else data


# ---------------------------------------------------------------- the verdict

def verdict(data, library=tensorfile):
    """`verdict_on` a temporary file of these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.npz")
        path.write_bytes(data)
        return verdict_on(path, data, library)


def verdict_on(path, data, library=tensorfile):
    """Raises AssertionError unless the bytes in a file are refused by FormatError or read as NumPy reads them.

    In both cases in at most 64 MB and three times the file. Returns whether they were read.
    """
    tracemalloc.start()
    try:
        arrays = library.read_npz(path)
    except library.FormatError:
        arrays = None
    except Exception as error:
        raise AssertionError(f"neither read nor refused, but {error!r}") from error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= 64e6 + 3 * len(data), f"{peak} bytes of memory for a file of {len(data)}"
    if arrays is not None:
        check_against_numpy(arrays, data)
    return arrays is not None


def check_against_numpy(arrays, data):
    """The same names, each once and none that leads out of the folder; the same arrays, bit for bit."""
    with zipfile.ZipFile(io.BytesIO(data)) as held:
        names = held.namelist()
    assert sorted(names) == sorted(f"{name}.npy" for name in arrays)
    for name in arrays:
        assert ".." not in PurePosixPath(name).parts and not name.startswith("/") and not set(name) & set("\\\0")
    try:
        # NumPy takes a file without a member for a truncated one.
        theirs = numpy_arrays(data) if names else {}
    except Exception as error:
        raise AssertionError(f"read, but NumPy refuses it: {error!r}") from error
    for name, array in arrays.items():
        assert array.dtype == theirs[name].dtype and array.shape == theirs[name].shape
        assert array.tobytes() == theirs[name].tobytes(), f"{name} is not what NumPy reads"


def numpy_arrays(data):
    """What np.load reads, as native types in C order; of V2, the float32 of which it is the upper half."""
    arrays = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        for name in held.zip.namelist():
            array = held[name]
            if array.dtype.kind == "V":
                array = np.pad(np.frombuffer(array.tobytes(), "<u2").reshape(-1, 1), [(0, 0), (1, 0)]).astype(
                    "<u2").view("<f4").reshape(array.shape)
            arrays[name[:-len(".npy")]] = np.array(array, array.dtype.newbyteorder("="), order="C")
    return arrays
