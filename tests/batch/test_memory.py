"""Too little memory, and no new thread: rows that are right, or that say so."""
import io
import threading

import numpy as np
import pytest

from nphybrid.batch.run import compute_rows


def prepare(number):
    return np.full((1, 1, 1), number, np.float32)


def compute(x):
    return x[:, 0, 0, 0] * 2


def refuse(self):
    raise RuntimeError("can't start new thread")


def rows_of(prepare, compute, batch=8, workers=2):
    rows = list(compute_rows(range(40), prepare, compute, batch, workers=workers))
    assert [row.position for row in rows] == [row.source for row in rows] == list(range(40))
    return rows


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_a_group_that_does_not_fit_is_computed_in_smaller_parts(limit):
    sizes = []

    def small(x):
        sizes.append(len(x))
        if len(x) > limit:
            raise MemoryError
        return compute(x)
    rows = rows_of(prepare, small, batch=16)
    assert [float(row.result) for row in rows] == [2.0 * i for i in range(40)]
    assert max(sizes) > limit


@pytest.mark.parametrize("batch, workers", [(1, 2), (8, 2), (3000, 3), (8, 1)])
def test_a_picture_whose_neighbours_need_the_memory_is_prepared_again(batch, workers):
    """At most six prepared pictures fit into this memory.  Every row is right."""
    alive, lock = [0], threading.Lock()

    class Held(np.ndarray):
        def __del__(self):
            if getattr(self, "counted", False):
                with lock:
                    alive[0] -= 1

    def scarce(number):
        with lock:
            if alive[0] >= 6:
                raise MemoryError("Unable to allocate")
            alive[0] += 1
        picture = prepare(number).view(Held)
        picture.counted = True
        return picture
    rows = rows_of(scarce, compute, batch, workers)
    assert [row.error for row in rows] == [None] * 40
    assert [float(row.result) for row in rows] == [2.0 * i for i in range(40)]


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 1 GiB"), OSError(12, "Cannot allocate memory")])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_does_not_fit_alone_is_its_own_row(error, workers):
    def scarce(number):
        if number in (5, 6, 30):
            raise error
        return prepare(number)
    rows = rows_of(scarce, compute, workers=workers)
    assert [row.position for row in rows if row.error is not None] == [5, 6, 30]
    assert str(rows[5].error) == f"picture 5: not enough memory ({error})" and isinstance(rows[5].error, MemoryError)


def test_the_row_names_the_file():
    def scarce(name):
        raise MemoryError
    (row,) = compute_rows(["a.png"], scarce, compute)
    assert str(row.error) == "a.png: not enough memory"


def test_a_memory_error_keeps_no_arrays():
    """The traceback of the first error would keep the arrays that did not fit beside others."""
    def scarce(x):
        raise MemoryError
    (row,) = compute_rows([1], prepare, scarce)
    assert row.error.__traceback__ is row.error.__cause__ is row.error.__context__ is None


@pytest.mark.parametrize("workers", [1, 4])
def test_without_threads_the_caller_computes(workers, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", refuse)
    seen = set()

    def counted(x):
        seen.add(threading.get_ident())
        return compute(x)
    rows = rows_of(prepare, counted, workers=workers)
    assert [float(row.result) for row in rows] == [2.0 * i for i in range(40)] and seen == {threading.get_ident()}


def test_no_more_threads_than_pictures_are_started(monkeypatch):
    count, start = [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda self: (count.append(self), start(self)))
    rows = list(compute_rows(range(3), prepare, compute, workers=2**31 - 1))
    assert [float(row.result) for row in rows] == [0, 2, 4] and len(count) <= 6


def test_a_reused_source_is_not_prepared_twice():
    """With workers=0, a generator may reuse the memory of its items."""
    def reused():
        array = np.zeros(1)
        for i in range(20):
            array[0] = i
            yield array

    def scarce(array):
        if array[0] == 3:
            raise MemoryError
        return prepare(array[0])
    rows = list(compute_rows(reused(), scarce, compute, workers=0))
    assert [row.position for row in rows if row.error] == [3]
    assert [float(row.result) for row in rows if not row.error] == [2.0 * i for i in range(20) if i != 3]


def test_a_picture_that_fails_alone_does_not_make_later_batches_smaller():
    sizes = []

    def prepare(number):
        if number == 3:
            raise MemoryError
        return np.full((1, 1, 1), float(number))

    def compute(x):
        sizes.append(len(x))
        return x.sum((1, 2, 3))

    rows = list(compute_rows(range(40), prepare, compute, batch=8, workers=1))
    assert [row.position for row in rows if row.error] == [3] and [row.position for row in rows] == list(range(40))
    assert sizes[-1] == 4 and sizes[-4:-1] == [8, 8, 8]


def test_an_open_file_is_not_read_twice():
    """After a lack of memory, an open file is at its end. The pictures around it still get their rows."""
    def prepare(file):
        data = file.read()
        if data == b"2":
            raise MemoryError
        return np.full((1, 1, 1), float(data))

    files = [io.BytesIO(str(number).encode()) for number in range(8)]
    rows = list(compute_rows(files, prepare, lambda x: x.sum((1, 2, 3)), batch=4, workers=2))
    assert [float(row.result) for row in rows if not row.error] == [0, 1, 3, 4, 5, 6, 7]
    assert [row.position for row in rows if isinstance(row.error, MemoryError)] == [2]
