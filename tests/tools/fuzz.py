"""Fuzzing: files changed where it hurts, and what the readers make of them.

    python tests/tools/fuzz.py --format h5 --count 200000 --seed 0 --resume STATE --keep FOLDER

(with the package installed, or PYTHONPATH=. in front).  Each mutant follows from format, seed and index alone.  It
begins as a valid file and is changed by somebody who knows the format: numbers become interesting ones, keys are
doubled, removed and renamed, arrays are laid out anew, checksums are made to fit again; then perhaps by somebody who
does not: bits flipped, pieces spliced, inserted and cut.

A mutant may be refused, or accepted and read right.  Findings are: a signal; more than 2 s of computing; another
exception than the one the reader's docstring states; memory beyond 64 MB and three times the file; a file in which an
independent reader sees something else; a refusal that names neither file nor key, is long, or would upset a terminal.

The parent has imported the readers and computed nothing.  It forks a child per batch; what kills the child costs one
mutant, and the next child goes on behind it.  With --resume a run can be stopped at any moment.
Exit code 1 if there were findings.  Another format is one more row in FORMATS.
"""
import argparse
import hashlib
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import safetensors

from nphybrid import BitConfig, ViTHybridConfig
from nphybrid.checkpoint import read_config
from nphybrid.tensorfile import FormatError, read_h5, read_safetensors, safetensors_header, write_json

from oracles import specimens
from tools import fuzz_npz

SECONDS = 2                               # of computing, per mutant
PATIENCE = 60                             # seconds on the clock, for a reader that sleeps
MEMORY = 64 * 2**20                       # bytes beside three times the file
BATCH = 200                               # mutants per child
IN_MEMORY = "/dev/shm"                    # a folder whose files are on no disk


class Format(NamedTuple):
    """What the fuzzer knows of one format."""
    mutant: Callable                      # (random.Random) -> bytes
    verdict: Callable                     # (path, bytes) -> "refused" or "accepted"; raises what is a finding
    trusted: bool = True                  # False: what kills, hangs or swells a child is counted as the library's


# ---------------------------------------------------------------- bytes

NUMBERS = [0, 1, -1, 2, 3, 7, 16, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def damaged(rng, data, other):
    """Bytes with one to three of them changed by somebody who knows nothing of the format."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at, start = rng.randint(0, len(data)), rng.randint(0, len(other))
        kind = rng.choice(["flip", "flip", "put", "number", "copy", "splice", "cut", "drop", "insert"])
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "put" and at < len(data):
            data[at] = rng.choice(b'\0\xff{}[]",:0159-e\\u ')
        elif kind == "number":
            data[at:at + 8] = number(rng, 8)
        elif kind == "copy":
            data[at:at + 16] = data[start:start + 16]
        elif kind == "splice":
            data[at:] = other[start:]
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at:at + rng.randint(1, 9)]
        elif kind == "insert":
            data[at:at] = rng.randbytes(rng.randint(1, 9))
    return bytes(data)


def number(rng, size):
    """An interesting number as `size` bytes."""
    return (rng.choice(NUMBERS) % 256 ** size).to_bytes(size, "little")


# ---------------------------------------------------------------- JSON

class Pairs(list):
    """A JSON object as a list of [key, value]: here a key may come twice."""


class Literal(str):
    """A value as it is spelled in the file."""


LITERALS = [Literal(text) for text in (
    "-0", "0.5", "1.0", "-1e-7", "1e308", "1e999", "NaN", "-Infinity", "null", "true", "false", '""', '"a"', '"1"',
    "[]", "{}", "[[]]", '{"a": 1}', "[1, 2]", '["stage1"]', '"\\ud800"', '"\\u0000"', '"\\u001b[31m"', "9" * 40,
    "9" * 5000, '"' + "x" * 5000 + '"', "[" * 60 + "]" * 60, "[" * 980 + "]" * 980, "[" * 100_000,
    '{"a":' * 500 + "1" + "}" * 500)]


def tree(value):
    """A JSON value with its objects as Pairs."""
    return json.loads(json.dumps(value), object_pairs_hook=lambda pairs: Pairs(map(list, pairs)))


def spelled(node):
    """The text of a tree."""
    if isinstance(node, Literal):
        return str(node)
    if isinstance(node, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{spelled(value)}" for key, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(spelled, node)) + "]"
    return json.dumps(node)


def containers(node):
    """Every object and array of a tree, the outermost first."""
    if isinstance(node, list):
        yield node
        for item in node:
            yield from containers(item[1] if isinstance(node, Pairs) else item)


def change(rng, root, words):
    """Changes one place of a tree: a value, a key, or how often it is there."""
    full = [node for node in containers(root) if node]
    if not full:
        return
    node = rng.choice(full)
    i, kind = rng.randrange(len(node)), rng.choice(["value"] * 4 + ["number", "drop", "double", "key", "swap"])
    holder, place = (node[i], 1) if isinstance(node, Pairs) else (node, i)
    if kind == "value":
        counts = type(holder[place]) is int and rng.random() < 0.5
        holder[place] = rng.choice(NUMBERS if counts else [*LITERALS, *words, *NUMBERS])
    elif kind == "number" and type(holder[place]) is int:
        holder[place] += rng.choice([-8, -4, -1, 1, 4, 8])
    elif kind == "drop":
        del node[i]
    elif kind == "double":
        node.insert(rng.randint(0, len(node)), list(node[i]) if isinstance(node, Pairs) else node[i])
    elif kind == "key" and isinstance(node, Pairs):
        node[i][0] = rng.choice([*words, rng.choice(node)[0], "", "\0", "../x", "é" * 9])
    elif kind == "swap":
        j = rng.randrange(len(node))
        if isinstance(node, Pairs):
            node[i][1], node[j][1] = node[j][1], node[i][1]
        else:
            node[i], node[j] = node[j], node[i]


def changed(rng, root, words, most=3):
    """The UTF-8 text of a JSON value with up to `most` changes."""
    root = tree(root)
    for _ in range(rng.randint(0, most)):
        change(rng, root, words)
    return spelled(root).encode()


# ---------------------------------------------------------------- what every refusal must be

def refusal(path, error):
    """ "refused", if the message of an exception names the file and is short and safe to print."""
    text = str(error)
    assert text.startswith(str(path)), f"the message does not begin with the file: {text[:300]}"
    assert len(text) < 1000 + len(str(path)), f"{len(text)} characters: {text[:300]!r}"
    assert text.replace("\n", "").isprintable(), f"upsets a terminal: {text!r}"
    return "refused"


# ---------------------------------------------------------------- safetensors

TYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "C64": 8}
SAFETENSORS_WORDS = [*TYPES, "dtype", "shape", "data_offsets", "__metadata__", "w"]

# Where this reader is stricter than the safetensors package, by the words of its message, and why.
STRICTER = {
    "duplicate key": "the package keeps the last of two",
    "wrong fields": "the package ignores what it does not know; here each of the three fields, and nothing else",
    "dtype is not supported": "NumPy has no number of this type",
    "does not begin with '{'": "the format's README demands it; the package lets spaces stand in front",
    "not an object of strings": "the package takes null for no metadata",
    "neither 0 nor 1": "the package looks at no array; such a bool means different things to different operations",
    "too large for an array": "NumPy has at most 64 axes and 2**63 - 1 bytes, zeros left out",
    "is a pickle": "spaces in front, behind a length that looks like a pickle's first bytes",
    "is of another kind": "spaces in front, behind a length that looks like another kind's first bytes",
}


def safetensors_mutant(rng):
    """Arrays of random type and shape, in an order of their own; then changed."""
    header, begin, names = {}, 0, [f"layer.{i}" for i in range(rng.randint(0, 5))]
    for name in names:
        dtype = rng.choice(list(TYPES))
        shape = [rng.randint(0 if rng.random() < 0.1 else 1, 4) for _ in range(rng.randint(0, 3))]
        end = begin + math.prod(shape) * TYPES[dtype]
        header[name], begin = specimens.entry(dtype, shape, begin, end), end
    if rng.random() < 0.3:
        header["__metadata__"] = {"format": "pt"}
    text = changed(rng, dict(rng.sample(list(header.items()), len(header))), SAFETENSORS_WORDS)
    text += b" " * rng.choice([0, 0, -len(text) % 8, 1])
    body = bytes(rng.choice([0, 1]) for _ in range(begin)) if rng.random() < 0.5 else rng.randbytes(begin)
    length = rng.choice(NUMBERS) % 2**64 if rng.random() < 0.05 else len(text) + rng.choice([0] * 18 + [-1, 1])
    data = specimens.blob(text, body, length)
    return damaged(rng, data, specimens.blob(*specimens.safetensors())) if rng.random() < 0.3 else data


def safetensors_verdict(path, data):
    """The verdict of the safetensors package, or a stricter one; and its bytes."""
    try:
        theirs = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError:
        theirs = None
    try:
        ours, entries = read_safetensors(path), safetensors_header(path)[0]
    except FormatError as error:
        assert theirs is None or any(words in str(error) for words in STRICTER), f"refused only here: {error}"
        return refusal(path, error)
    assert theirs is not None, "accepted only here"
    assert set(ours) == set(entries) == set(theirs)
    for name, array in ours.items():
        stored, found = theirs[name], array
        if stored["dtype"] == "BF16":
            assert not array.view(np.uint32).astype(np.uint16).any()
            found = (array.view(np.uint32) >> 16).astype("<u2")
        assert (entries[name].dtype, array.shape) == (stored["dtype"], tuple(stored["shape"])), name
        assert found.astype(found.dtype.newbyteorder("<")).tobytes() == bytes(stored["data"]), name
    return "accepted"


# ---------------------------------------------------------------- HDF5

def lookup3(data):
    """The checksum of HDF5's own structures: Bob Jenkins, 2006, `hashlittle` with initval 0."""
    mask = 2**32 - 1

    def turned(x, bits):
        return (x << bits | x >> 32 - bits) & mask
    words = [int.from_bytes(data[i:i + 4], "little") for i in range(0, len(data), 4)]
    words += [0] * (-len(words) % 3)
    a = b = c = (0xDEADBEEF + len(data)) & mask
    for i in range(0, len(words), 3):
        a, b, c = a + words[i] & mask, b + words[i + 1] & mask, c + words[i + 2] & mask
        if i < len(words) - 3:
            for bits in (4, 6, 8, 16, 19, 4):
                a, c = a - c & mask ^ turned(c, bits), c + b & mask
                a, b, c = b, c, a
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - turned(b, bits) & mask
        a, b, c = b, c, a
    return b


class Block(NamedTuple):
    """A structure of the HDF5 library inside a file."""
    start: int
    size: int
    at: int                               # its checksum: behind it, or a field inside that counts as zero


def blocks(data):
    """Every structure with a checksum: what begins with a signature and agrees with its own checksum."""
    found = []
    for match in re.finditer(rb"\x89HDF\r|OHDR|OCHK|FRHP|FSHD|FSSE|BTHD|BTLF|FHDB", data):
        start, inside = match.start(), match[0] == b"FHDB"
        guesses = (Block(start, 512, at) for at in range(13, 24)) if inside else (
            Block(start, size, size) for size in range(12, min(1024, len(data) - start - 4)))
        if block := next((guess for guess in guesses if checksum(data, guess) == data[start + guess.at:][:4]), None):
            found.append(block)
    return found


def checksum(data, block):
    """The four bytes that agree with a block."""
    own = bytearray(data[block.start:block.start + block.size])
    if block.at < block.size:
        own[block.at:block.at + 4] = bytes(4)
    return lookup3(own).to_bytes(4, "little")


@cache
def h5_seeds():
    """Valid files with their blocks: links in a header, and links in a heap."""
    return [(data, blocks(data)) for data in (specimens.few_arrays(), specimens.many_arrays())]


def h5_crafted(rng):
    """Fields of the library's structures replaced, and their checksums made to fit."""
    data, places = rng.choice(h5_seeds())
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        block = rng.choice(places)
        size, at = rng.choice([1, 1, 2, 4, 8]), block.start + rng.randrange(4, block.size)
        old = int.from_bytes(data[at:at + size], "little")
        other = rng.randrange(len(data))
        data[at:at + size] = rng.choice([
            number(rng, size), data[other:other + size], rng.randbytes(size),
            ((old ^ 1 << rng.randrange(8 * size)) % 256**size).to_bytes(size, "little"),
            ((old + rng.choice([-1, 1, 8])) % 256**size).to_bytes(size, "little"),
            (rng.choice([0, len(data), rng.choice(places).start]) % 256**size).to_bytes(size, "little")])
        data[block.start + block.at:block.start + block.at + 4] = checksum(data, block)
    return bytes(data)


H5_TYPES = ["<f4", "<f8", "<f2", "<i8", "<u1", ">f4", "?", "<c8", "S4", [("a", "<f4")]]
H5_OPTIONS = [{}] * 6 + [{"chunks": True}, {"compression": "gzip"}, {"shuffle": True}, {"fletcher32": True},
                         {"maxshape": None}]
SECRET = b"root:x:0:0:secret secret secret secret secret secret secret!!!!!"


def h5_built(rng):
    """A file that the library itself writes, with things in it that this layout does not have."""
    with h5py.File.in_memory(libver=("v110", "v110")) as file:
        file.create_group("nphybrid")
        for key in "config", "manifest":
            text = changed(rng, {"depth": 12, "labels": {"0": "é"}, "list": [1, 2.5, None]}, ["depth", "labels"], 1)
            specimens.checked(file["nphybrid"], key, np.frombuffer(text, np.uint8))
        for i in range(rng.choice([0, 1, 2, 3, 10])):
            h5_add(rng, file if rng.random() < 0.9 else file["nphybrid"], f"layer.{i}")
        file.flush()
        return file.id.get_file_image()


def h5_add(rng, group, name):
    """One more dataset, mostly of the layout; or a link."""
    odd = rng.random() < 0.08
    if odd and rng.random() < 0.6:
        group[name] = rng.choice([h5py.SoftLink("/layer.0"), h5py.ExternalLink("secret.h5", "/w"), h5py.SoftLink("/"),
                                  group, np.dtype("f4"), group.file["nphybrid"]])
        return
    shape = tuple(rng.randint(0 if rng.random() < 0.1 else 1, 4) for _ in range(rng.randint(0, 3)))
    array = np.frombuffer(rng.randbytes(512), np.uint8)
    array = np.resize(array, (*shape, 16)).view(rng.choice(H5_TYPES if odd else H5_TYPES[:5]))[..., 0].copy()
    options = rng.choice(H5_OPTIONS) if odd and array.size and array.shape else {}
    if "maxshape" in options:
        options = {"maxshape": (None,) * array.ndim}
    dataset = group.create_dataset(name, data=array, **options)
    specimens.sign(dataset, hashlib.sha256(array.tobytes()).hexdigest())
    if odd and not options:
        rng.choice([lambda: dataset.attrs.create("more", 1), lambda: dataset.attrs.__delitem__("sha256"),
                    lambda: specimens.sign(dataset), lambda: specimens.sign(dataset, "A" * 64)])()


def h5_mutant(rng):
    """Built anew, or damaged, or both."""
    (few, _), (many, _) = h5_seeds()
    data = h5_built(rng) if rng.random() < 0.5 else rng.choice([few, many])
    return data if rng.random() < 0.4 else damaged(rng, data, many)


def h5_verdict(path, data):
    """What h5py sees in an accepted file: hard links to whole datasets, whose bytes have their SHA-256."""
    try:
        arrays, documents = read_h5(path)
    except FormatError as error:
        return refusal(path, error)
    with h5py.File(path) as file:
        inner = file["nphybrid"]
        assert set(file) == {*arrays, "nphybrid"} and set(inner) == set(documents)
        for group in file, inner:
            assert all(type(group.get(name, getlink=True)) is h5py.HardLink for name in group)
        for name, array in arrays.items():
            held, digits = file[name][()], file[name].attrs["sha256"].decode()
            assert (held.dtype, held.shape, held.tobytes()) == (array.dtype, array.shape, array.tobytes()), name
            assert hashlib.sha256(held.tobytes()).hexdigest() == digits, name
            assert SECRET[:8] not in array.tobytes()
        for key, document in documents.items():
            assert json.loads(inner[key][()].tobytes()) == document, key
    return "accepted"


# ---------------------------------------------------------------- config.json

@cache
def configs():
    """Configurations of each kind, with and without what follows from the rest."""
    whole = [specimens.hybrid_config(), specimens.bit_config()]
    derived = {"id2label", "label2id", "backbone_featmap_shape", "out_indices", "stage_names"}
    return whole + [{key: value for key, value in fields.items() if key not in derived} | {"num_labels": 3}
                    for fields in whole]


CONFIG_WORDS = ["bit", "vit-hybrid", "same", "bottleneck", "stem", "stage1", "stage9", "gelu_new", "swish",
                "num_labels", "id2label", "self", "kwargs", "sizes", "__class__", "out_indices", "depths",
                "hidden_size"]


def config_mutant(rng):
    """A configuration with a few values, keys or bytes changed."""
    text = changed(rng, rng.choice(configs()), CONFIG_WORDS, 4)
    return damaged(rng, text, spelled(tree(rng.choice(configs()))).encode()) if rng.random() < 0.15 else text


def config_verdict(path, data):
    """An accepted configuration keeps every key, and comes back from its own JSON."""
    try:
        fields = read_config(path)
    except FormatError as error:
        return refusal(path, error)
    kind = BitConfig if fields.get("model_type") == "bit" else ViTHybridConfig
    try:
        config = kind.from_dict(fields)
    except ValueError as error:
        inner = fields["backbone_config"] if isinstance(fields.get("backbone_config"), dict) else {}
        known = {*configs()[0], *configs()[1], *fields, *inner, "num_labels"}
        assert any(key in str(error) for key in known if key), f"names no key: {error}"
        return refusal(path, f"{path}: {error}")
    assert set(fields) - {"num_labels"} <= set(config.to_dict()), "a key is lost"
    again = kind.from_dict(json.loads(config.to_json_string()))
    assert again == config and again.network_config() == config.network_config()
    return "accepted"


# ---------------------------------------------------------------- npz

def npz_mutant(rng):
    """A zip archive of .npy files, wrong in a place or two."""
    return next(fuzz_npz.mutants(rng.getrandbits(64), 1))


def npz_verdict(path, data):
    """NumPy reads what we read."""
    return "accepted" if fuzz_npz.verdict_on(path, data) else "refused"


FORMATS = {
    "safetensors": Format(safetensors_mutant, safetensors_verdict),
    "h5": Format(h5_mutant, h5_verdict),
    # No check from outside stops the library's own errors: this row measures what is not promised.
    "h5-crafted": Format(h5_crafted, h5_verdict, trusted=False),
    "config": Format(config_mutant, config_verdict),
    "npz": Format(npz_mutant, npz_verdict),
}


# ---------------------------------------------------------------- running

def mutant(name, seed, index):
    """The bytes of one mutant."""
    return FORMATS[name].mutant(random.Random(f"{name} {seed} {index}"))


def batch(name, seed, first, last, folder):
    """The verdicts on some mutants, in order, from a child: [["refused" | "accepted" | "library" | "finding", text]].

    The child ends after a finding, and where it is killed.  The file at fault is then folder/mutant.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            confined()
            for index in range(first, last):
                said = judged(name, mutant(name, seed, index), Path(folder, "mutant"))
                os.write(writer, (json.dumps(said) + "\n").encode())
                if said[0] == "finding":
                    break
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        verdicts = [json.loads(line) for line in pipe]
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    hangs = {-signal.SIGPROF: f"computes for more than {SECONDS} s", -signal.SIGALRM: f"waits for {PATIENCE} s"}
    if code > 0:
        raise RuntimeError(f"{name}, seed {seed}, index {first + len(verdicts)}: the fuzzer itself failed, see above")
    if code:
        verdicts.append([fault(name), hangs.get(code) or f"killed by {signal.Signals(-code).name}"])
    return verdicts


def fault(name):
    """The verdict on what Python code alone cannot do."""
    return "finding" if FORMATS[name].trusted else "library"


def confined():
    """Limits for a child: no core dumps, and memory that leaves the machine in peace."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 2**30,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def judged(name, data, path):
    """["refused" | "accepted", ""], or ["finding", what].  A hang is a signal, which ends the process."""
    path.write_bytes(data)
    before = peak()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        said = [FORMATS[name].verdict(path, data), ""]
    except Exception as error:
        text = "".join(traceback.format_exception_only(error))[-1000:]
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = ["finding", f"{text.strip()} ({Path(place.filename).name}:{place.lineno})"]
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    grown = peak() - before
    if grown > MEMORY + 3 * len(data):
        said = [fault(name), f"takes {grown >> 20} MB for a file of {len(data)} bytes"]
    return said


def peak():
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(name, count, seed=0, first=0, state=None, keep=None, until_found=None):
    """Judges mutants first .. first + count - 1, and says what was found.  -> counts by verdict, findings as a list

    With `state`, a file, goes on where an earlier run of the same format and seed has stopped. With `until_found`, a
    text, the run ends after the first finding that has it.
    """
    done = {"format": name, "seed": seed, "next": first, "refused": 0, "accepted": 0, "library": 0, "findings": []}
    if state and os.path.exists(state):
        done = json.loads(Path(state).read_text())
        if (done["format"], done["seed"]) != (name, seed):
            raise ValueError(f"{state} is of {done['format']} and seed {done['seed']}, not {name} and {seed}")
    FORMATS[name].mutant(random.Random(0))      # what every child needs is made once, here
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None) as folder:
        specimens.write_secret(folder, SECRET)
        while done["next"] < first + count and not has_found(done, until_found):
            last = min(done["next"] + BATCH, first + count)
            for said, text in batch(name, seed, done["next"], last, folder):
                if said == "finding":
                    report(name, seed, done["next"], text, Path(folder, "mutant"), keep)
                    done["findings"].append([done["next"], text])
                else:
                    done[said] += 1
                done["next"] += 1
            if state:
                write_json(state, done)
    return done


def has_found(done, text):
    """Whether there is a finding with a text; False if there is no text to look for."""
    return text is not None and any(text in found for _, found in done["findings"])


def report(name, seed, index, text, path, keep):
    """Prints a finding and how to see it again; keeps its file where asked to."""
    print(f"FINDING {name}: {text}\n    again: --format {name} --seed {seed} --first {index} --count 1", flush=True)
    if keep:
        Path(keep).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, Path(keep, f"{name}-{seed}-{index}"))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--count", type=int, default=5000, help="how many mutants (default 5000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first mutant (default 0)")
    parser.add_argument("--resume", metavar="STATE", help="a file that keeps count, and lets a later run go on")
    parser.add_argument("--keep", metavar="FOLDER", help="where mutants with findings are written")
    parser.add_argument("--until-found", metavar="TEXT", help="stop after the first finding that has this text")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    done = run(args.format, args.count, args.seed, args.first, args.resume, args.keep, args.until_found)
    library = "" if FORMATS[args.format].trusted else f"{done['library']} faults of the library, "
    print(f"{args.format}: {done['refused']} refused, {done['accepted']} accepted, {library}"
          f"{len(done['findings'])} findings, {time.perf_counter() - started:.0f} s")
    return int(bool(done["findings"]))


if __name__ == "__main__":
    sys.exit(main())
