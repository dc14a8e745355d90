"""Files of prepared weights: what was written is mapped, bit for bit, and damage is noticed."""
import os
import pickle

import numpy as np
import pytest

from nphybrid.ops import mapped
from nphybrid.ops.packed import Packed
from nphybrid.ops.reference_narrow import Kernel
from nphybrid.ops.target import CACHE_LINE


def leaves_of(seed=0):
    """Leaves of every kind, with odd sizes."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)
    exact = normal(1, 1, 8, 8).astype(np.float16).astype(np.float32)
    return {
        "bias": normal(13), "one": normal(1), "table": normal(5, 7),
        "none": np.zeros((0, 3), np.float32),
        "linear": Packed(normal(19, 37)), "high": Packed(normal(19, 37), "high"), "conv": Packed(normal(3, 3, 5, 17)),
        "exact": Packed(exact), "denormal": Packed(np.full((3, 3), 1e-41, np.float32)),
        "bfloat16": Packed(Kernel.of(normal(19, 37), "bfloat16")),
        "int8": Packed(Kernel.of(normal(19, 37), "int8")),
        "int8 conv": Packed(Kernel.of(normal(3, 3, 5, 17), "int8")),
        "long": normal(3000), "empty, the last": np.zeros((2, 0), np.float32),
    }


def pieces(leaf):
    """The attributes of a leaf, with arrays as bytes."""
    attributes = leaf.attributes() if isinstance(leaf, Packed) else {"array": leaf}
    return {name: (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
            for name, value in attributes.items()}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "folder" / "some.weights"
    mapped.write(path, leaves_of(), {"a": "b", "c": None})
    return path


def test_what_is_written_is_mapped(file):
    leaves, note = mapped.read(file)
    expected = leaves_of()
    assert note == {"a": "b", "c": None} and list(leaves) == list(expected)
    for name, leaf in leaves.items():
        assert pieces(leaf) == pieces(expected[name]), name
        assert type(leaf) is type(expected[name]) and leaf.shape == expected[name].shape, name


def test_a_packed_is_used_as_before(file):
    """Unpacked, pickled, and as the arguments of a product: the same shapes, types and alignment."""
    leaves, _ = mapped.read(file)
    for name, expected in leaves_of().items():
        if not isinstance(expected, Packed):
            continue
        packed = leaves[name]
        assert np.asarray(packed).tobytes() == np.asarray(expected).tobytes(), name
        assert pieces(pickle.loads(pickle.dumps(packed))) == pieces(expected), name
        assert np.shares_memory(packed.panels, packed.weights.panels)
        for found, wanted in zip(packed.weights, expected.weights):
            assert (found.dtype, found.shape, found.flags.writeable) == (wanted.dtype, wanted.shape, True), name
            assert found.flags.c_contiguous and found.ctypes.data % CACHE_LINE == 0


def test_writing_into_an_array_does_not_change_the_file(file):
    before = file.read_bytes()
    leaves, _ = mapped.read(file)
    leaves["bias"][:] = 7
    leaves["linear"].panels[:] = 7
    assert file.read_bytes() == before and mapped.read(file)[0]["bias"][0] != 7


def test_the_arrays_outlive_the_file(file):
    """A process that uses the weights keeps them when another process deletes or replaces the file."""
    leaves, _ = mapped.read(file)
    mapped.write(file, leaves_of(seed=1), {})
    file.unlink()
    assert pieces(leaves["conv"]) == pieces(leaves_of()["conv"])


def test_every_flipped_bit_of_an_array_or_of_the_header_is_noticed(file):
    """1,000 random bits, and the last byte of each array. Only the zeros between the arrays may change."""
    content = bytearray(file.read_bytes())
    expected = {name: pieces(leaf) for name, leaf in leaves_of().items()}
    rng = np.random.default_rng(0)
    harmless = 0
    arrays = [array for leaf in leaves_of().values()
              for array in (leaf.attributes().values() if isinstance(leaf, Packed) else [leaf])]
    ends = [content.index(array.tobytes()) + array.nbytes - 1 for array in arrays
            if isinstance(array, np.ndarray) and array.any()]
    for at in [0, 7, 8, 39, 40, 41, *ends, *rng.integers(len(content), size=1000).tolist()]:
        bit = 1 << int(rng.integers(8))
        content[at] ^= bit
        file.write_bytes(content)
        content[at] ^= bit
        try:
            leaves, _ = mapped.read(file)
        except ValueError as error:
            assert "damaged" in str(error)
        else:
            assert at not in ends and content[at] == 0
            assert {name: pieces(leaf) for name, leaf in leaves.items()} == expected
            harmless += 1
    assert harmless < 40                  # observed: 8


def test_exchanged_pages_and_words_are_noticed(file):
    """Two pages of one array, and two bits that change in opposite directions in different pages."""
    content = file.read_bytes()
    at = content.index(leaves_of()["long"].tobytes())
    first, second = (content[at + page:at + page + 4096] for page in (0, 4096))
    file.write_bytes(content[:at] + second + first + content[at + 8192:])
    with pytest.raises(ValueError, match="1 of .* arrays are damaged"):
        mapped.read(file)
    first, second = bytearray(first), bytearray(second)
    first[3], second[3] = first[3] & 0x7F, second[3] | 0x80
    file.write_bytes(content[:at] + first + second + content[at + 8192:])
    with pytest.raises(ValueError, match="1 of .* arrays are damaged"):
        mapped.read(file)


@pytest.mark.parametrize("keep", [0, 1, 8, 39, 40, 1000, -4096, -1])
def test_a_shorter_file_is_refused(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[:keep])
    with pytest.raises(ValueError, match="damaged|truncated|empty"):
        mapped.read(file)


def test_a_lost_page_is_noticed(file):
    """After a power failure, a file can have pages of zeros."""
    content = file.read_bytes()
    pages = [at for at in range(0, len(content), 4096) if any(content[at:at + 4096])]
    assert len(pages) > 4
    for at in pages:
        file.write_bytes(content[:at] + bytes(len(content[at:at + 4096])) + content[at + 4096:])
        with pytest.raises(ValueError, match="damaged"):
            mapped.read(file)


def test_a_failed_write_leaves_the_old_file(file, monkeypatch):
    before = file.read_bytes()

    def fail(array):
        raise OSError("no space left")
    monkeypatch.setattr(mapped, "_bytes", fail)
    with pytest.raises(OSError):
        mapped.write(file, leaves_of(seed=1), {})
    assert file.read_bytes() == before and os.listdir(file.parent) == [file.name]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_only_this_user_can_write(tmp_path):
    old = os.umask(0)
    try:
        mapped.write(tmp_path / "a" / "b" / "some.weights", leaves_of(), {})
    finally:
        os.umask(old)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/some.weights")]
    assert modes == [0o755, 0o755, 0o644]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("before", [None, 0o600, 0o644, 0o666])
def test_nobody_else_reads_private_weights(before, tmp_path, monkeypatch):
    """Also while they are written, and if they replace a file with more permissions."""
    found, bytes_of = [], mapped._bytes

    def spy(array):
        found.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.suffix == ".tmp")
        return bytes_of(array)
    monkeypatch.setattr(mapped, "_bytes", spy)
    if before is not None:
        (tmp_path / "some.weights").touch()
        (tmp_path / "some.weights").chmod(before)
    mapped.write(tmp_path / "some.weights", leaves_of(), {}, 0o600)
    assert found and {*found} == {0o600} and (tmp_path / "some.weights").stat().st_mode & 0o777 == 0o600
