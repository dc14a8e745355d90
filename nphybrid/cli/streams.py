"""The standard streams of the command line: closed streams, closed pipes, interrupts."""
import contextlib
import os
import sys


def stdout_reader_left():
    """Whether nobody reads stdout any more, as after `| head`.  If so, stdout leads to the null device from then on."""
    import select
    try:
        stdout = sys.stdout.fileno()
    except (OSError, ValueError):                           # in a Jupyter notebook, stdout is not a file
        return False
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(stdout, select.POLLOUT)
        if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            return False
    # Otherwise Python reports the broken pipe again when it closes stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


@contextlib.contextmanager
def reopen_closed_streams():
    """Open, for the block, the standard streams that the caller closed, which Python leaves None.

    stdin is empty, and what is written to stderr is discarded. Writing to stdout raises io.UnsupportedOperation,
    because data must not be lost silently.
    """
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, open(os.devnull, "w" if name == "stderr" else "r"))
    try:
        yield
    finally:
        for name in closed:
            setattr(sys, name, None)


@contextlib.contextmanager
def repeat_lost_interrupts():
    """Raise KeyboardInterrupt again when it was raised in a callback or a __del__, where Python only prints it."""
    hook, timers = sys.unraisablehook, []

    def interrupt_again(lost):
        if issubclass(lost.exc_type, KeyboardInterrupt):
            import _thread
            import threading

            # At once, it would be raised in the same callback.
            timers.append(threading.Timer(0.02, _thread.interrupt_main))
            timers[-1].start()
        else:
            hook(lost)
    sys.unraisablehook = interrupt_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if any(timer.is_alive() for timer in timers):
            for timer in timers:
                timer.cancel()
            raise KeyboardInterrupt
