"""Lets Ctrl-C wait for a function that must not end in the middle."""
import functools
import signal
import threading


def uninterrupted(function):
    """Decorate a function so that Ctrl-C takes effect after its end.

    Python calls the handler of SIGINT in the main thread, between any two instructions. The usual handler raises
    KeyboardInterrupt. If Numba is imported or compiles at this moment, its tables are left incomplete, and later
    compilations can fail or wait forever.

    A handler that the C library calls, such as SIG_DFL, is not delayed, because it raises no exception.
    """
    @functools.wraps(function)
    def run(*arguments, **options):
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(handler):
            return function(*arguments, **options)
        interrupts = []
        signal.signal(signal.SIGINT, lambda *interrupt: interrupts.append(interrupt))
        try:
            return function(*arguments, **options)
        finally:
            signal.signal(signal.SIGINT, handler)
            if interrupts:
                handler(*interrupts[0])
    return run
