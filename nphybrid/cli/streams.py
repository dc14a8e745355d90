"""The standard streams of the command line: closed ones, a reader that left, interrupts."""
import _thread
import contextlib
import os
import select
import sys
import threading


def _reader_left():
    """Whether it is stdout that nobody reads any more, as after `| head`; then it leads nowhere from here on."""
    try:
        stdout = sys.stdout.fileno()
    except (OSError, ValueError):                           # a notebook's is no file
        return False
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(stdout, select.POLLOUT)
        if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            return False
    # Python would complain once more when it closes stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


@contextlib.contextmanager
def _closed_streams_open():
    """Standard streams that the caller closed, and Python left None, are open in the block: empty to read from, for
    errors a sink; what is written to stdout must not get lost, and is an error: io.UnsupportedOperation."""
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, open(os.devnull, "w" if name == "stderr" else "r"))
    try:
        yield
    finally:
        for name in closed:
            setattr(sys, name, None)


@contextlib.contextmanager
def _every_interrupt_counts():
    """Ctrl-C that fell into a callback or a __del__, where Python prints and forgets it, comes once more."""
    hook, timers = sys.unraisablehook, []

    def again(found):
        if issubclass(found.exc_type, KeyboardInterrupt):
            # At once it would fall into the same callback.
            timers.append(threading.Timer(0.02, _thread.interrupt_main))
            timers[-1].start()
        else:
            hook(found)
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if any(timer.is_alive() for timer in timers):
            for timer in timers:
                timer.cancel()
            raise KeyboardInterrupt
