"""Python threads over serial kernels: each task once, errors arrive, nothing hangs, children compute."""
import contextvars
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import cases
import numpy as np
import pytest

from nphybrid.ops import kernels, threads


@pytest.fixture(autouse=True)
def no_work_is_small(monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 0)


@pytest.mark.parametrize("n", [1, 2, 3, 7, None])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_every_task_once(n, count):
    seen = []
    with threads.using(n):
        threads.run(count, seen.append)
    assert sorted(seen) == list(range(count))


def test_two_threads_take_part():
    both = threading.Barrier(2, timeout=20)
    with threads.using(2):
        threads.run(2, lambda i: both.wait())


def test_small_work_stays_here(monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 100)
    seen = set()
    with threads.using(4):
        threads.run(9, lambda i: seen.add(threading.get_ident()), work=99)
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("n", [1, 2, 5])
def test_an_exception_arrives_and_stops_the_rest(n):
    begun = []

    def task(i):
        begun.append(i)
        time.sleep(0.001)
        if i == 3:
            raise KeyError("three")
    with threads.using(n), pytest.raises(KeyError, match="three"):
        threads.run(500, task)
    assert len(begun) < 100
    threads.run(3, begun.append)


def test_keyboard_interrupt_arrives():
    def task(i):
        if i == 5:
            raise KeyboardInterrupt
    with threads.using(3), pytest.raises(KeyboardInterrupt):
        threads.run(20, task)


def test_nested():
    seen = []
    with threads.using(3):
        threads.run(6, lambda i: threads.run(6, lambda j: seen.append((i, j))))
    assert sorted(seen) == [(i, j) for i in range(6) for j in range(6)]


def test_the_number_is_the_callers_and_comes_back():
    before = threads.number()
    with threads.using(2):
        assert threads.number() == 2
        with threads.using(5):
            assert threads.number() == 5
            numbers = []
            threads.run(8, lambda i: numbers.append(threads.number()))
            assert set(numbers) == {5}
        with pytest.raises(RuntimeError), threads.using(3):
            raise RuntimeError
        assert threads.number() == 2
        assert contextvars.Context().run(threads.number) == before
    assert threads.number() == before


def example():
    return cases.call(kernels, "linear", cases.CASES["linear"][0].arguments()).tobytes()


def test_eight_python_threads_at_once():
    expected, got = example(), []
    callers = [threading.Thread(target=lambda: got.extend(example() for _ in range(5))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert got == [expected] * 40


def _child(connection):
    threads.SMALL = 0
    with threads.using(2):
        connection.send((example(), len(threads._workers)))


@pytest.mark.parametrize("method", sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods())))
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_computes_the_same(method):
    with threads.using(2):
        expected = example()
    here, there = multiprocessing.get_context(method).Pipe()
    child = multiprocessing.get_context(method).Process(target=_child, args=(there,))
    child.start()
    assert here.poll(60), "the child hangs"
    got, workers = here.recv()
    child.join(30)
    assert got == expected and child.exitcode == 0 and workers <= 1


def test_the_interpreter_ends_while_workers_wait():
    code = ("from nphybrid.ops import threads\n"
            "with threads.using(4): threads.run(8, lambda i: None, work=10**9)\nprint('done')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})
    assert done.stdout == "done\n" and done.returncode == 0, done.stderr


def test_warnings_of_scalars_are_silent():
    with np.errstate(all="raise"):
        threads.run(1, lambda i: np.float32(1e30) * np.float32(1e30))
