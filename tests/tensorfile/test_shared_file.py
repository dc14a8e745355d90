"""SharedFile: several readers of one open file, a file that changes, copies; and arrays that are copied unread."""
import copy
import importlib
import os
import pickle
import threading

import numpy as np
import pytest

from nphybrid import FormatError, ViTHybridForImageClassification, checkpoint, default_model

stored = importlib.import_module("nphybrid.tensorfile.stored")        # nphybrid.tensorfile.stored is also a function
BYTES = np.random.default_rng(0).bytes(10_007)


def replace(path, data=BYTES):
    """Put another file in the place of a file."""
    other = path.with_name("other")
    other.write_bytes(data)
    os.replace(other, path)


CHANGES = [replace, lambda path: os.utime(path, ns=(0, 0)), lambda path: path.write_bytes(b"")]
COPIES = [copy.copy, copy.deepcopy, lambda file: pickle.loads(pickle.dumps(file))]


@pytest.fixture
def path(tmp_path):
    """A file of BYTES."""
    (tmp_path / "file").write_bytes(BYTES)
    return tmp_path / "file"


@pytest.mark.parametrize("preadv", [pytest.param(True, marks=pytest.mark.skipif(
    not hasattr(os, "preadv"), reason="a system without preadv")), False])
def test_readers_in_threads_do_not_move_each_other(preadv, path, monkeypatch):
    if not preadv:
        monkeypatch.delattr(os, "preadv", raising=False)
    file, found = stored.SharedFile(path), {}

    def read(thread):
        pieces = []
        with file.opened() as reader:
            while piece := reader.read(thread + 1):
                pieces.append(piece)
        found[thread] = b"".join(pieces)
    with file.opened():
        threads = [threading.Thread(target=read, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert found == dict.fromkeys(range(4), BYTES)


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="a system without preadv")
def test_one_system_call_reads_a_limited_number_of_bytes(path, monkeypatch):
    assert stored._MOST_AT_ONCE < 2**31 - 4096            # Linux reads at most that many
    counts, preadv = [], os.preadv

    def counted(descriptor, buffers, offset):
        counts.append(len(buffers[0]))
        return preadv(descriptor, buffers, offset)
    monkeypatch.setattr(os, "preadv", counted)
    monkeypatch.setattr(stored, "_MOST_AT_ONCE", 1000)
    with stored.SharedFile(path).opened() as reader:
        assert reader.read(len(BYTES)) == BYTES
    assert counts == [1000] * 10 + [7]


def test_the_path_is_that_of_the_first_working_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = stored.SharedFile("file")
    monkeypatch.chdir("/")
    with file.opened() as reader:
        assert reader.read(5) == BYTES[:5]
    assert str(file) == "file"


def test_a_file_that_is_replaced_during_its_first_opening_is_refused(path, monkeypatch):
    status = stored._regular_status

    def and_then_replaced(file):
        found = status(file)
        replace(path)
        return found
    monkeypatch.setattr(stored, "_regular_status", and_then_replaced)
    with pytest.raises(FormatError, match="was replaced or written to while it was read"), \
            stored.SharedFile(path).opened():
        pass


@pytest.mark.parametrize("copied", [lambda file: file, *COPIES])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_between_two_openings_is_refused(copied, change, path):
    file = stored.SharedFile(path)
    with file.opened() as reader:
        assert reader.size() == len(BYTES)
        again = copied(file)
    with again.opened() as reader:
        assert reader.read(7) == BYTES[:7]
    change(path)
    with pytest.raises(FormatError, match="was replaced or written to while it was read"), again.opened():
        pass


@pytest.mark.parametrize("copied", COPIES)
def test_a_checkpoint_can_be_copied_and_pickled(copied):
    found = checkpoint.read(default_model())
    again = copied(found)
    assert again.config == found.config and list(again.arrays) == list(found.arrays)
    for name, array in found.arrays.items():
        assert np.array_equal(again.arrays[name], array), name
    model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    x = np.zeros((1, 3, 64, 64), np.float32)
    assert np.array_equal(copied(model)(x).logits, model(x).logits)
