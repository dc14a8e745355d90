"""Delays Ctrl-C until the end of a function that must not end in the middle."""
import contextlib
import functools
import signal


def uninterrupted(function):
    """Decorate a function so that Ctrl-C takes effect after its end.

    Python calls the handler of SIGINT in the main thread, between any two instructions. The usual handler raises
    KeyboardInterrupt. If Numba is imported or compiles at this moment, its tables are left incomplete, and later
    compilations can fail or wait forever.

    SIG_DFL, SIG_IGN and a handler that was not set from Python are not delayed, because Python does not call them.
    """
    @functools.wraps(function)
    def run(*arguments, **options):
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            return function(*arguments, **options)
        interrupts, running = [], True

        def delay(*interrupt):
            if running:
                interrupts.append(interrupt)
            else:                         # `delay` was not replaced, because the handler of another signal raised
                handler(*interrupt)
        try:
            with contextlib.suppress(ValueError):         # a thread in which Python calls no handlers
                signal.signal(signal.SIGINT, delay)
            return function(*arguments, **options)
        finally:
            running = False
            if signal.getsignal(signal.SIGINT) is delay:
                signal.signal(signal.SIGINT, handler)
            if interrupts:
                handler(*interrupts.pop(0))
    return run
