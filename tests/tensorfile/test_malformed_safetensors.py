"""safetensors files made by hand, each with its verdict; and the verdict of the safetensors package."""
import hashlib
import json
import struct

import numpy as np
import pytest

from nphybrid.tensorfile import CHECKSUMS, FormatError, read_safetensors, safetensors_header, write_safetensors

from oracles.specimens import F4, GOOD, blob, entry, safetensors

TABLE = {  # name -> (bytes, None if accepted, else a part of the message)
    "good": (blob(GOOD, F4), None),
    "good with metadata": (blob({"__metadata__": {"format": "pt"}, **GOOD}, F4), None),
    "no arrays": (blob({}), None),
    "only metadata": (blob({"__metadata__": {}}), None),
    "0-d": (blob({"w": entry(shape=())}, F4), None),
    "zero size": (blob({"w": entry(shape=(0, 5), end=0)}), None),
    "zero size between": (blob({"a": entry(), "b": entry(begin=4, end=8),
                                "z": entry(shape=(0,), begin=4, end=4)}, F4 * 2), None),
    "NaN values": (blob(GOOD, np.float32([np.nan]).tobytes()), None),
    "bfloat16": (blob({"w": entry("BF16", (2,))}, F4), None),
    "bool": (blob({"w": entry("BOOL", (4,))}, b"\0\1\1\0"), None),
    "empty name": (blob({"": entry()}, F4), None),
    "NUL in a name": (blob({"a\0b": entry()}, F4), None),
    "slashes in a name": (blob({"../../etc/passwd": entry()}, F4), None),
    "trailing spaces": (blob(json.dumps(GOOD).encode() + b"   ", F4), None),
    "trailing newline": (blob(json.dumps(GOOD).encode() + b"\n", F4), None),
    "header of 640 bytes, a pickle's first two": (blob(json.dumps(GOOD).encode().ljust(640), F4), None),
    "header of 123 bytes, JSON's first": (blob(json.dumps(GOOD).encode().ljust(123), F4), None),

    "nothing": (b"", "empty (0 bytes)"),
    "seven bytes": (bytes(7), "too short"),
    "only a length": (struct.pack("<Q", 0), "does not begin with '{'"),
    "header of no bytes": (blob(b"", F4), "does not begin with '{'"),
    "length beyond the file": (blob(GOOD, F4, length=1000), "ends inside its header"),
    "length one too long": (blob({}, length=3), "ends inside its header"),
    "length one too short": (blob(b'{"a":1}', length=6), "not valid JSON"),
    "length 100 MB and one": (blob(GOOD, F4, length=100_000_001), "limit, so this is no safetensors"),
    "length 2^32": (blob(GOOD, F4, length=2**32), "over the format's limit"),
    "length 2^63": (blob(GOOD, F4, length=2**63), "over the format's limit"),
    "length 2^64 - 1": (blob(GOOD, F4, length=2**64 - 1), "over the format's limit"),
    "leading space, the length like a pickle's first bytes": (blob(b" " + json.dumps(GOOD).encode().ljust(639), F4),
                                                              "is a pickle"),
    "leading space, the length like JSON's first byte": (blob(b" " + json.dumps(GOOD).encode().ljust(122), F4),
                                                         "is of another kind"),
    "leading space": (blob(b" " + json.dumps(GOOD).encode(), F4), "does not begin with '{'"),
    "byte order mark": (blob(b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), F4), "does not begin with '{'"),
    "a list": (blob([GOOD], F4), "does not begin with '{'"),
    "broken JSON": (blob(b'{"w": ', F4), "not valid JSON"),
    "two values": (blob(b"{}{}"), "not valid JSON"),
    "NUL padding": (blob(json.dumps(GOOD).encode() + b"\0\0", F4), "not valid JSON"),
    "single quotes": (blob(b"{'w': 1}"), "not valid JSON"),
    "control character": (blob(b'{"a\x01": 1}'), "not valid JSON"),
    "not UTF-8": (blob(b'{"\xff\xfe": 1}'), "not valid UTF-8"),
    "overlong UTF-8": (blob(b'{"\xc0\xaf": 1}'), "not valid UTF-8"),
    "surrogate in UTF-8": (blob(b'{"\xed\xa0\x80": 1}'), "not valid UTF-8"),
    "lone surrogate escape": (blob(b'{"\\ud800": %s}' % json.dumps(entry()).encode(), F4), "not valid UTF-8"),
    "200,000 levels": (blob(b'{"a":' + b"[" * 200_000), "nested too deeply"),
    "200,000 closed levels": (blob(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "nested too deeply"),
    "NaN in JSON": (blob(b'{"a": NaN}'), "not valid JSON"),
    "integer of a million digits": (blob(b'{"w": {"dtype": "F32", "shape": [%s]}}' % (b"9" * 10**6)),
                                    "the number"),
    "float beyond range": (blob(b'{"w": {"dtype": "F32", "shape": [1e999]}}'), "the number"),

    "duplicate tensor": (blob(b'{"w": %s, "w": %s}' % ((json.dumps(entry()).encode(),) * 2), F4),
                         "duplicate key"),
    "duplicate field": (blob(b'{"w": {"dtype": "F64", "dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
                             F4), "duplicate key"),
    "duplicate metadata": (blob(b'{"__metadata__": {}, "__metadata__": {}}'), "duplicate key"),
    "duplicate in metadata": (blob(b'{"__metadata__": {"a": "1", "a": "2"}}'), "duplicate key"),
    "duplicate by escape": (blob(b'{"__metadata__": {"a": "1", "\\u0061": "2"}}'), "duplicate key"),
    "metadata a number": (blob({"__metadata__": 1}), "not an object of strings"),
    "metadata null": (blob({"__metadata__": None}), "not an object of strings"),
    "metadata with a number": (blob({"__metadata__": {"a": 1}}), "not an object of strings"),
    "metadata with a map": (blob({"__metadata__": {"a": {}}}), "not an object of strings"),
    "metadata an entry": (blob({"__metadata__": entry()}, F4), "not an object of strings"),

    "entry a number": (blob({"w": 1}, F4), "wrong fields"),
    "entry a list": (blob({"w": ["F32", [1], [0, 4]]}, F4), "wrong fields"),
    "entry null": (blob({"w": None}), "wrong fields"),
    "no dtype": (blob({"w": {"shape": [1], "data_offsets": [0, 4]}}, F4), "wrong fields"),
    "no shape": (blob({"w": {"dtype": "F32", "data_offsets": [0, 4]}}, F4), "wrong fields"),
    "no offsets": (blob({"w": {"dtype": "F32", "shape": [1]}}, F4), "wrong fields"),
    "extra field": (blob({"w": entry(strides=[4])}, F4), "wrong fields"),
    "old field name": (blob({"w": {"dtype": "F32", "shape": [1], "offsets": [0, 4]}}, F4), "wrong fields"),

    "float8": (blob({"w": entry("F8_E4M3", (4,))}, F4), "'F8_E4M3', expected one of U64"),
    "four bits": (blob({"w": entry("F4", (8,))}, F4), "dtype is not supported"),
    "complex": (blob({"w": entry("C64", (1,), 0, 8)}, bytes(8)), "dtype is not supported"),
    "lower case": (blob({"w": entry("f32")}, F4), "dtype is not supported"),
    "NumPy's name": (blob({"w": entry("float32")}, F4), "dtype is not supported"),
    "invented": (blob({"w": entry("F128")}, F4), "dtype is not supported"),
    "dtype null": (blob({"w": entry(None)}, F4), "dtype is not supported"),
    "dtype a list": (blob({"w": entry(["F32"])}, F4), "dtype is not supported"),
    "bool of two": (blob({"w": entry("BOOL", (4,))}, b"\0\1\2\0"), "neither 0 nor 1"),

    "shape a number": (blob({"w": {**entry(), "shape": 1}}, F4), "shape is not a list of non-negative integers"),
    "shape null": (blob({"w": {**entry(), "shape": None}}, F4), "shape is not a list of non-negative integers"),
    "shape negative": (blob({"w": entry(shape=(-1,))}, F4), "shape is not a list of non-negative integers"),
    "shape minus zero": (blob(b'{"w": {"dtype": "F32", "shape": [-0], "data_offsets": [0, 0]}}'),
                         "the number"),
    "shape negative twice": (blob({"w": entry(shape=(-1, -1))}, F4), "shape is not a list of non-negative integers"),
    "shape float": (blob({"w": entry(shape=(1.0,))}, F4), "shape is not a list of non-negative integers"),
    "shape true": (blob({"w": entry(shape=(True,))}, F4), "shape is not a list of non-negative integers"),
    "shape string": (blob({"w": entry(shape=("1",))}, F4), "shape is not a list of non-negative integers"),
    "shape null inside": (blob({"w": entry(shape=(None,))}, F4), "shape is not a list of non-negative integers"),
    "shape nested": (blob({"w": entry(shape=([1],))}, F4), "shape is not a list of non-negative integers"),
    "shape wraps at 2^64": (blob({"w": entry(shape=(2**62 + 1,))}, F4), "too large for an array"),
    "shape wraps at 2^32": (blob({"w": entry(shape=(2**16, 2**16, 1))}, b""), "shape disagree"),
    "shape wraps to zero": (blob({"w": entry(shape=(2**32, 2**32), end=0)}), "too large for an array"),
    "huge beside zero": (blob({"w": entry(shape=(0, 2**63), end=0)}), "too large for an array"),
    "65 axes": (blob({"w": entry(shape=(1,) * 65)}, F4), "too large for an array"),
    "a million axes": (blob({"w": entry(shape=(10**19,) * 10**5)}, F4), "too large for an array"),
    "petabytes": (blob({"w": entry(shape=(2**50,), end=2**52)}, F4), "ends inside its arrays"),

    "offsets null": (blob({"w": {**entry(), "data_offsets": None}}, F4), "not a pair of non-negative integers"),
    "one offset": (blob({"w": {**entry(), "data_offsets": [4]}}, F4), "not a pair of non-negative integers"),
    "three offsets": (blob({"w": {**entry(), "data_offsets": [0, 4, 8]}}, F4), "not a pair of non-negative integers"),
    "offset float": (blob({"w": entry(begin=0.0)}, F4), "not a pair of non-negative integers"),
    "offset false": (blob({"w": entry(begin=False)}, F4), "not a pair of non-negative integers"),
    "offset negative": (blob({"w": entry(begin=-4, end=0)}, F4), "not a pair of non-negative integers"),
    "offset over 64 bits": (blob({"w": entry(end=10**30)}, F4), "the number"),
    "offsets reversed": (blob({"w": entry(begin=4, end=0)}, F4), "shape disagree"),
    "span too long": (blob({"w": entry(end=8)}, F4 * 2),
                      "found '[0, 8], 8 bytes', expected 4 bytes for F32 [1]"),
    "span too short": (blob({"w": entry(shape=(2,))}, F4), "shape disagree"),
    "span for the wrong type": (blob({"w": entry("F64")}, F4), "shape disagree"),
    "gap before": (blob({"w": entry(begin=4, end=8)}, F4 * 2), "there is a gap before the array"),
    "gap between": (blob({"a": entry(), "b": entry(begin=8, end=12)}, F4 * 3), "there is a gap before the array"),
    "gap of an empty array": (blob({"w": entry(shape=(0,), begin=4, end=4)}, F4), "there is a gap before the array"),
    "overlap by a byte": (blob({"a": entry(), "b": entry(begin=3, end=7)}, bytes(7)), "overlaps"),
    "aliases": (blob({"k": entry(), "v": entry()}, F4), "tensor 'v': the array overlaps"),
    "empty array inside another": (blob({"a": entry(), "z": entry(shape=(0,), begin=2, end=2)}, F4),
                                   "overlaps"),
    "byte missing": (blob(GOOD, bytes(3)), "the file ends inside its arrays: is the file truncated?"),
    "data missing": (blob(GOOD), "ends inside its arrays"),
    "byte too many": (blob(GOOD, bytes(5)), "bytes after the last array"),
    "bytes behind nothing": (blob({}, b"x"), "bytes after the last array"),
    "zip behind": (blob(GOOD, F4 + b"PK\x05\x06" + bytes(18)), "bytes after the last array"),
}


def test_the_size_of_the_table():
    assert len(TABLE) == 113 and sum(message is not None for _, message in TABLE.values()) == 96


@pytest.mark.parametrize("case", TABLE)
def test_verdict(tmp_path, case):
    data, message = TABLE[case]
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    if message is None:
        assert list(read_safetensors(path)) == list(safetensors_header(path)[0])
        return
    for reader in (read_safetensors, safetensors_header) if case != "bool of two" else (read_safetensors,):
        with pytest.raises(FormatError) as refused:
            reader(path)
        text = str(refused.value)
        assert message in text and text.startswith(str(path)) and len(text) < 900 + len(str(path))
        assert text.replace("\n", "").isprintable()


def test_every_truncation_is_noticed(tmp_path):
    data = blob(*safetensors())
    for length in range(len(data)):
        (tmp_path / "m").write_bytes(data[:length])
        with pytest.raises(FormatError):
            read_safetensors(tmp_path / "m")


@pytest.mark.parametrize("text, message", [
    ("{", "not valid JSON"), ("[]", "does not belong to the arrays"), ("{}", "does not belong to the arrays"),
    ('{"w": "00", "v": "00"}', "does not belong to the arrays"), ('{"w": "00"}', "the checksum does not match"),
    ('{"w": null}', "does not belong to the arrays"), ('{"w": ["00"]}', "does not belong to the arrays")])
def test_checksums(tmp_path, text, message):
    """They are compared when an array is read.  The header is read without them."""
    path = tmp_path / "m.safetensors"
    write_safetensors(path, {"w": np.ones(2, np.float32)}, {CHECKSUMS: text})
    assert safetensors_header(path)[1] == {CHECKSUMS: text}
    with pytest.raises(FormatError, match=f"{path}.*: .*{message}"):
        read_safetensors(path)


def test_right_checksums(tmp_path):
    arrays = {"w": np.arange(6, dtype=np.uint16).reshape(2, 3)[:, ::-1], "v": np.float32(2), "empty": np.zeros((0, 3))}
    write_safetensors(tmp_path / "m", arrays, {"a": "b"}, checksums=True)
    assert all(np.array_equal(array, arrays[name]) for name, array in read_safetensors(tmp_path / "m").items())
    metadata = safetensors_header(tmp_path / "m")[1]
    assert metadata["a"] == "b" and json.loads(metadata[CHECKSUMS]) == {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for name, array in arrays.items()}
    data = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(FormatError, match="the checksum does not match"):
        read_safetensors(tmp_path / "m")


# ---------------------------------------------------------------- against the safetensors package

@pytest.mark.parametrize("case", TABLE)
def test_verdict_is_the_packages_or_stricter(tmp_path, case):
    """The same verdict and the same bytes; or a refusal for one of the reasons in STRICTER."""
    pytest.importorskip("safetensors")
    pytest.importorskip("resource")        # Windows has none
    from tools import fuzz
    data, message = TABLE[case]
    (tmp_path / "m").write_bytes(data)
    assert fuzz.safetensors_verdict(tmp_path / "m", data) == ("accepted" if message is None else "refused")


def test_where_this_reader_is_stricter(tmp_path):
    """Each reason is met by a row that the package accepts."""
    package = pytest.importorskip("safetensors")
    pytest.importorskip("resource")        # Windows has none
    from tools import fuzz
    met = set()
    for data, message in TABLE.values():
        try:
            package.deserialize(data)
            (tmp_path / "m").write_bytes(data)
            read_safetensors(tmp_path / "m")
        except package.SafetensorError:
            pass
        except FormatError as error:
            met |= {reason for reason in fuzz.STRICTER if reason in str(error)}
    assert met == set(fuzz.STRICTER)
