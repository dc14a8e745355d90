"""Threads: each task runs once, errors are raised in the caller, nothing hangs, forked children compute."""
import contextlib
import contextvars
import gc
import multiprocessing
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest

from nphybrid.ops import kernels, threads

from oracles import cases
from tools.process import run_python


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


def test_small_work_stays_on_the_callers_thread(monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 100)
    seen = set()
    with threads.using(4):
        threads.run(9, lambda i: seen.add(threading.get_ident()), work=99)
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("n", [1, 2, 5])
def test_an_exception_arrives_and_stops_the_rest(n):
    begun, raising = [], threading.Event()

    def task(i):
        begun.append(i)
        if i == 3:
            raising.set()
            raise KeyError("three")
        if i > 3:
            raising.wait(20)
            time.sleep(0.01)
    with threads.using(n), pytest.raises(KeyError, match="three"):
        threads.run(500, task)
    assert len(begun) < 500
    threads.run(3, begun.append)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_later_does_every_task_once(n):
    """More jobs than may wait, with jobs of `run` between them."""
    seen = [[] for _ in range(3 * threads.MOST_LATER)]
    threads._fresh()                                      # with the workers of other tests, all tasks would run at once
    with threads.using(n), threads.Later() as later:
        for number, tasks in enumerate(seen):
            later.run(5, tasks.append)
            assert bool(later.jobs) == (n > 1) and len(later.jobs) <= threads.MOST_LATER
            if number % 7 == 3:
                now = []
                threads.run(4, now.append)
                assert sorted(now) == list(range(4))
    assert all(sorted(tasks) == list(range(5)) for tasks in seen)


def test_an_idle_worker_takes_a_later_task():
    begun = threading.Event()
    threads._fresh()
    with threads.using(2), threads.Later() as later:
        later.run(2, lambda i: begun.set())
        assert later.jobs and begun.wait(20)              # the caller takes no task before `finish`


def test_a_job_of_run_comes_before_later_tasks():
    """The only worker helps `run` before it takes the second task of an earlier job of Later."""
    order, first, go = [], threading.Event(), threading.Event()

    def slow(i):
        order.append("later")
        first.set()
        go.wait(20)

    def task(i):
        order.append("run")
        go.set()
        both.wait()
    both = threading.Barrier(2, timeout=20)
    threads._fresh()                                      # no worker of other tests
    with threads.using(2), threads.Later() as later:
        later.run(5, slow)
        assert first.wait(20)
        threads.run(2, task)
        assert order[:3] == ["later", "run", "run"]


def test_an_error_of_a_later_task_arrives_in_finish():
    def task(i):
        if i == 1:
            raise KeyError("one")
    threads._fresh()
    with threads.using(2), threads.Later() as later:
        later.run(3, task)
        with pytest.raises(KeyError, match="one"):
            later.finish()
        seen = []
        later.run(2, seen.append)
        later.finish()
    assert sorted(seen) == [0, 1]


def test_an_error_in_the_block_stops_later_tasks():
    begun = []

    def task(i):
        begun.append(i)
        time.sleep(0.01)
    threads._fresh()
    with pytest.raises(KeyError), threads.using(2), threads.Later() as later:
        later.run(500, task)
        raise KeyError
    count = len(begun)
    assert count < 500
    time.sleep(0.05)
    assert len(begun) == count


def test_a_later_job_releases_its_arrays_before_finish():
    array = np.zeros(3)
    gone = threading.Event()
    weakref.finalize(array, gone.set)
    threads._fresh()
    with threads.using(2), threads.Later() as later:
        later.run(2, lambda array, i: None, arguments=(array,))
        assert later.jobs
        del array
        assert gone.wait(20)


def test_later_tasks_run_at_once_if_another_caller_has_more_workers():
    """All workers could take the tasks, and would exceed the limit of this caller."""
    threads._fresh()
    with threads.using(4):
        threads.run(8, lambda i: None)
    threads_of_tasks = set()
    with threads.using(2), threads.Later() as later:
        later.run(40, lambda i: threads_of_tasks.add(threading.get_ident()))
        assert not later.jobs
    assert len(threads_of_tasks) <= 2


def test_keyboard_interrupt_arrives():
    def task(i):
        if i == 5:
            raise KeyboardInterrupt
    with threads.using(3), pytest.raises(KeyboardInterrupt):
        threads.run(20, task)


INTERRUPTED = """
import signal, sys, threading, time
from nphybrid.ops import threads
ended = []
def task(i):
    time.sleep(0.002)
    ended.append(i)
def interrupt():
    time.sleep(0.05)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
for round in range(20):
    try:
        threading.Thread(target=interrupt).start()
        with threads.using(4): threads.run(10**6, task, work=10**9)
    except KeyboardInterrupt:
        after = len(ended)
        time.sleep(0.01)
        assert len(ended) == after, "the workers go on"
    else:
        raise AssertionError("no interrupt")
print("done")
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to send a signal to a thread")
def test_a_real_interrupt_stops_the_workers():
    done = run_python("-c", INTERRUPTED)
    assert done.stdout == "done\n" and done.returncode == 0, done.stderr


WAITING = """
import signal, threading, time
from nphybrid.ops import threads
main, inside, ended = threading.get_ident(), threading.Event(), []
def task(i):                                      # the caller waits for the worker
    if threading.get_ident() == main:
        return inside.wait(20)
    inside.set()
    time.sleep(0.1)
    signal.pthread_kill(main, signal.SIGINT)
    time.sleep(0.1)
    ended.append(i)
try:
    with threads.using(2): threads.run(2, task, work=10**9)
except KeyboardInterrupt:
    print("done", len(ended))
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to send a signal to a thread")
def test_an_interrupt_while_waiting_lets_tasks_end():
    done = run_python("-c", WAITING)
    assert done.stdout == "done 1\n" and done.returncode == 0, done.stderr


@pytest.mark.parametrize("who", ["caller", "worker"])
def test_an_error_keeps_no_arrays_alive(who):
    caller, other = threading.get_ident(), threading.Event()

    def attempt():
        array = np.zeros(5)

        def task(i):
            if (threading.get_ident() == caller) == (who == "caller"):
                other.set()
                raise KeyError(array.size)
            other.wait(20)
        with threads.using(2):
            try:
                threads.run(20, task)
            except KeyError:
                return weakref.ref(array)
    gc.disable()
    try:
        left = attempt()
        until = time.monotonic() + 5                      # the worker may still hold the frame
        while left() is not None and time.monotonic() < until:
            time.sleep(0.001)
        assert left() is None
    finally:
        gc.enable()


def test_threads_that_cannot_be_started(monkeypatch):
    threads._fresh()

    def refuse(self):
        raise RuntimeError("can't start new thread")
    seen = []
    with monkeypatch.context() as patch, threads.using(4):
        patch.setattr(threading.Thread, "start", refuse)
        threads.run(20, seen.append)
        assert sorted(seen) == list(range(20)) and not threads._workers and threads._idle.empty()
    test_two_threads_take_part()


@pytest.mark.parametrize("n", [0, -1])
def test_less_than_one_thread_is_refused(n):
    with pytest.raises(ValueError, match="at least 1"), threads.using(n):
        pass


def test_nested():
    seen = []
    with threads.using(3):
        threads.run(6, lambda i: threads.run(6, lambda j: seen.append((i, j))))
    assert sorted(seen) == [(i, j) for i in range(6) for j in range(6)]


def test_the_number_is_the_callers_and_comes_back():
    before = threads.number()
    with threads.using(2):
        assert threads.number() == 2
        for more in (5, None):
            with threads.using(more):
                assert threads.number() == 2
        with threads.using(1):
            assert threads.number() == 1
        numbers = []
        threads.run(8, lambda i: numbers.append(threads.number()))
        assert set(numbers) == {2}
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


@pytest.mark.slow
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
    done = run_python("-c", "from nphybrid.ops import threads\n"
                      "with threads.using(4): threads.run(8, lambda i: None, work=10**9)\nprint('done')")
    assert done.stdout == "done\n" and done.returncode == 0, done.stderr


def test_warnings_of_scalars_are_silent():
    with np.errstate(all="raise"):
        threads.run(1, lambda i: np.float32(1e30) * np.float32(1e30))


def test_a_request_for_very_many_threads_is_bounded(monkeypatch):
    threads._fresh()
    monkeypatch.setattr(threads, "MOST_THREADS", 3)
    with threads.using(2**31 - 1):
        assert threads.number() == 3
        threads.run(50, lambda i: None)
    assert len(threads._workers) == 2


def test_a_signal_handler_may_start_workers():
    """A signal can come while its thread holds the lock."""
    with threads._lock:
        assert threads._lock.acquire(blocking=False)
        threads._lock.release()


@pytest.mark.skipif(threads._core is None or len(os.sched_getaffinity(0)) < 2, reason="needs two cores, and Linux")
def test_apart(monkeypatch):
    """The caller may use its core, and the workers the others.  After release(), the block or an error, all cores."""
    threads.run(2, lambda i: None, float("inf"))          # starts a worker
    cores = os.sched_getaffinity(0)
    core = max(cores)
    monkeypatch.setattr(threads, "_core", lambda: core)
    workers = [worker.native_id for worker in threads._workers]
    for error in None, ValueError, KeyboardInterrupt:
        with contextlib.suppress(ValueError, KeyboardInterrupt), threads.using(2), threads.apart() as release:
            assert workers and all(os.sched_getaffinity(worker) == cores - {core} for worker in workers)
            assert os.sched_getaffinity(0) == {core}
            if error:
                raise error
            release()
            assert all(os.sched_getaffinity(thread) == cores for thread in (0, *workers))
        assert all(os.sched_getaffinity(thread) == cores for thread in (0, *workers))


@pytest.mark.skipif(threads._core is None or len(os.sched_getaffinity(0)) < 2, reason="needs two cores, and Linux")
def test_a_worker_can_be_the_caller(monkeypatch):
    """A task that enters the block stays on its core, and the other workers leave this core."""
    cores = os.sched_getaffinity(0)
    core = min(cores)
    monkeypatch.setattr(threads, "_core", lambda: core)
    both, found = threading.Barrier(2), []

    def task(i):
        both.wait(30)                     # so that a worker has one of the two tasks
        if threading.current_thread() is not threading.main_thread():
            with threads.apart():
                me = threading.get_native_id()
                others = [worker.native_id for worker in threads._workers if worker.native_id != me]
                found.append((os.sched_getaffinity(0), [os.sched_getaffinity(other) for other in others]))
    with threads.using(2):
        threads.run(2, task, float("inf"))
    (own, others), = found
    assert own == {core} and all(other == cores - {core} for other in others)


@pytest.mark.skipif(threads._core is None or len(os.sched_getaffinity(0)) < 2, reason="needs two cores, and Linux")
def test_the_first_worker_is_apart(monkeypatch):
    """A worker that starts with the block stays on another core, too.  Any thread can call release() for all."""
    for name in "_idle", "_workers", "_lock":
        monkeypatch.setattr(threads, name, None)          # given back at the end
    threads._fresh()
    cores = os.sched_getaffinity(0)
    core = min(cores)
    monkeypatch.setattr(threads, "_core", lambda: core)
    with threads.using(2), threads.apart() as release:
        threads.run(2, lambda i: None, float("inf"))
        workers = [worker.native_id for worker in threads._workers]
        assert [os.sched_getaffinity(worker) for worker in workers] == [cores - {core}]
        helper = threading.Thread(target=release)
        helper.start()
        helper.join()
        assert [os.sched_getaffinity(thread) for thread in (0, *workers)] == [cores, cores]


@pytest.mark.skipif(threads._core is None or len(os.sched_getaffinity(0)) < 2, reason="needs two cores, and Linux")
def test_apart_does_not_change_the_number_of_threads():
    """Without a limit, `number` counts the cores of the caller, and the caller has only one in the block."""
    cores = os.sched_getaffinity(0)
    with threads.apart() as release:
        assert len(os.sched_getaffinity(0)) == 1 and threads.number() == len(cores)
        release()
        assert threads.number() == len(cores)


@pytest.mark.skipif(threads._core is None or len(os.sched_getaffinity(0)) < 2, reason="needs two cores, and Linux")
def test_an_interrupt_at_the_end_of_the_block(monkeypatch):
    """All threads may use all cores, although the interrupt comes between two of them."""
    threads.run(2, lambda i: None, float("inf"))          # starts a worker
    cores = os.sched_getaffinity(0)
    workers = [worker.native_id for worker in threads._workers]
    allow = threads._allow
    ends = []

    def interrupted(moved, given, **options):
        if given == cores:                # the end of the block
            ends.append(moved)
            if len(ends) == 2:            # after the caller, before the first worker
                raise KeyboardInterrupt
        allow(moved, given, **options)
    monkeypatch.setattr(threads, "_allow", interrupted)
    with pytest.raises(KeyboardInterrupt), threads.using(2), threads.apart():
        assert len(os.sched_getaffinity(0)) == 1
    assert all(os.sched_getaffinity(thread) == cores for thread in (0, *workers)) and len(ends) == 3 + len(workers)


@pytest.mark.skipif(threads._core is None or len(os.sched_getaffinity(0)) < 2, reason="needs two cores, and Linux")
def test_cores_that_another_program_has_chosen_stay():
    """For example, taskset changes the cores of a thread during a forward pass."""
    threads.run(2, lambda i: None, float("inf"))          # starts a worker
    cores = os.sched_getaffinity(0)
    worker = threads._workers[0].native_id
    try:
        with threads.using(2), threads.apart() as release:
            own = os.sched_getaffinity(0)
            os.sched_setaffinity(0, cores - own)
            os.sched_setaffinity(worker, own)
            release()
        assert (os.sched_getaffinity(0), os.sched_getaffinity(worker)) == (cores - own, own)
    finally:
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(worker, cores)


@pytest.mark.skipif(threads._core is None, reason="needs Linux")
def test_cores_apart_that_cannot_be_had(monkeypatch):
    """One thread, one core, a system that forbids it or does not know cores, or an unknown core: nothing changes."""
    threads.run(2, lambda i: None, float("inf"))          # starts a worker
    cores = os.sched_getaffinity(0)
    workers = [worker.native_id for worker in threads._workers]

    def unchanged():
        return all(os.sched_getaffinity(worker) == cores for worker in workers)
    assert workers
    with threads.using(1), threads.apart():
        assert unchanged()

    def forbidden(thread, cores):
        raise PermissionError
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_setaffinity", forbidden)
        with threads.using(2), threads.apart():
            assert unchanged()
    os.sched_setaffinity(0, {min(cores)})
    try:
        with threads.using(2), threads.apart():
            assert unchanged()
        assert unchanged()                # also after the block
    finally:
        os.sched_setaffinity(0, cores)
    for unknown in None, lambda: -1:
        monkeypatch.setattr(threads, "_core", unknown)
        with threads.using(2), threads.apart():
            assert unchanged()
