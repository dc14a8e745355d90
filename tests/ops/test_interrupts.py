"""Ctrl-C does not end an import of Numba, a compilation, or the wait of a fork in the middle."""
import os
import signal
import threading

import pytest
from numba import types

from nphybrid.ops import cache, jit, recorder
from nphybrid.ops.interrupts import uninterrupted

from tools.process import run_python

no_jit = pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="nothing is compiled")
reached = []


@pytest.fixture(autouse=True)
def usual_handler():
    """The handler that Python sets at its start, which is set again after the test."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    reached.clear()
    yield
    left = signal.signal(signal.SIGINT, handler)
    assert left is signal.default_int_handler


def interrupt():
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


@uninterrupted
def interrupted(*, error=None, times=1):
    for _ in range(times):
        interrupt()
    reached.append("end")
    if error:
        raise error
    return "result"


@pytest.fixture
def no_cache(monkeypatch):
    """No kernel is loaded or stored."""
    monkeypatch.setattr(cache, "load", lambda name: None)
    monkeypatch.setattr(cache, "store", lambda name, data: None)


@jit.jit
def double(number):
    return number + number


@jit.jit
def triple(number):
    return 3 * number


# ---------------------------------------------------------------- the decorator

@pytest.mark.parametrize("times", [1, 3])
def test_the_function_ends_first(times):
    with pytest.raises(KeyboardInterrupt):
        interrupted(times=times)
    assert reached == ["end"]


def test_an_error_and_an_interrupt():
    with pytest.raises(KeyboardInterrupt) as stop:
        interrupted(error=ValueError("the error of the function"))
    assert repr(stop.value.__context__) == "ValueError('the error of the function')"


def test_one_in_another():
    @uninterrupted
    def outer():
        interrupted()
        reached.append("end of the outer function")
    with pytest.raises(KeyboardInterrupt):
        outer()
    assert reached == ["end", "end of the outer function"]


def test_another_handler_is_called_once_and_may_return():
    calls = []
    try:
        signal.signal(signal.SIGINT, lambda *arguments: calls.append((*arguments, list(reached))))
        assert interrupted(times=2) == "result"
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    (number, frame, before), = calls
    assert number == signal.SIGINT and frame.f_code.co_name == "interrupt" and before == ["end"]


def test_an_ignored_interrupt_stays_ignored():
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert interrupted() == "result" and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_handler_that_the_function_sets_stays():
    try:
        uninterrupted(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_does_not_touch_the_handler():
    """Only the main thread can set handlers, and Python calls them in the main thread."""
    handlers = []
    thread = threading.Thread(target=uninterrupted(lambda: handlers.append(signal.getsignal(signal.SIGINT))))
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


ALARMS = """
import random, signal
from nphybrid.ops.interrupts import uninterrupted

class Alarm(Exception):
    pass

def alarm(*_):
    raise Alarm

def ended():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return True
    return False

signal.signal(signal.SIGALRM, alarm)
draw, nothing, alarms = random.Random(0), uninterrupted(lambda: None), 0
while alarms < 2000:
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 3e-5))
        try:
            while True:
                nothing()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Alarm:
        alarms += 1
        assert ended(), f"alarm {alarms}: Ctrl-C has no effect any more"
print("ended")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a system without setitimer")
def test_a_handler_of_another_signal_raises_at_any_time():
    done = run_python("-c", ALARMS)
    assert done.stdout == "ended\n", done.stderr


# ---------------------------------------------------------------- its uses

@no_jit
def test_a_kernel_is_compiled_to_its_end(no_cache, monkeypatch):
    monkeypatch.setattr(jit, "before_compiling", interrupt)
    with pytest.raises(KeyboardInterrupt):
        double(1)
    assert double.signatures == [(types.int64,)]


@no_jit
def test_an_entry_is_compiled_to_its_end(no_cache, monkeypatch):
    class Engines(list):
        def append(self, engine):
            interrupt()
            super().append(engine)
    monkeypatch.setattr(recorder, "_engines", engines := Engines())
    with pytest.raises(KeyboardInterrupt):
        recorder._entry(triple, (types.int64,))
    assert len(engines) == 1


IMPORT = """
import signal, sys
from nphybrid import ops

class Finder:
    def find_spec(name, *_):
        if name == "numba.core.typing":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder)
try:
    ops.implementation("numba", "float32")
except KeyboardInterrupt:
    print("stopped", "numba" in sys.modules, "nphybrid.ops.kernels" in sys.modules)
"""


def test_numba_is_imported_to_its_end():
    done = run_python("-c", IMPORT)
    assert done.stdout == "stopped True True\n", done.stderr


FORK = """
import os, signal, threading
from numba.core.compiler_lock import global_compiler_lock
from nphybrid.ops import recorder

def compile():                            # a compilation, during which Ctrl-C is pressed
    with global_compiler_lock:
        locked.set()
        forking.wait()
        threading.Event().wait(1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        threading.Event().wait(0.2)

locked, forking = threading.Event(), threading.Event()
os.register_at_fork(before=forking.set)   # Python calls the last function that was registered first
thread = threading.Thread(target=compile)
thread.start()
locked.wait()
child = os.fork()
if not child:
    os._exit(7 if global_compiler_lock._lock.acquire(timeout=10) else 8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_fork_gets_the_lock_of_the_compiler():
    done = run_python("-W", "ignore", "-c", FORK)
    assert done.stdout == "7\n" and "KeyboardInterrupt" in done.stderr, done.stderr
