"""Handles closed standard streams, closed pipes, missing characters, warnings and interrupts of the command line."""
import contextlib
import io
import os
import signal
import sys
import threading
import warnings

from ..pictures import being_read


def stdout_reader_left():
    """Return True if the process that reads stdout has ended, for example `head` in a pipe.

    If the reading process has ended, stdout is redirected to the null device.
    """
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
    _drop_stdout()
    return True


def drop_unwritten():
    """If the text in the buffer of stdout cannot be written, write it to the null device.

    Otherwise, Python would report the error a second time when it closes stdout, and end with the exit code 120.
    """
    try:
        sys.stdout.flush()
    except OSError:
        _drop_stdout()


def _drop_stdout():
    """Redirect stdout to the null device."""
    with contextlib.suppress(OSError, ValueError):          # in a Jupyter notebook, stdout is not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def reopen_closed_streams():
    """Replace the standard streams that the calling program closed.  The replacement lasts for a `with` block.

    Python sets a closed standard stream to None. The replacement of stdin is empty. The replacement of stderr discards
    all text. Writing to the replacement of stdout raises io.UnsupportedOperation, because results must not be lost.
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
def escape_characters():
    """During a `with` block, print an escape for each character that the encoding of stdout does not have.

    For example, a file name with bytes that are not UTF-8 is printed with escapes. Without the escapes, printing this
    name would end the run with an error.
    """
    stdout = sys.stdout
    # In a Jupyter notebook, stdout has no encoding. The user can choose another error handler with PYTHONIOENCODING.
    if not isinstance(stdout, io.TextIOWrapper) or stdout.errors != "strict":
        yield
        return
    errors = stdout.errors
    stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        # `reconfigure` also flushes stdout. This fails if the disk is full or stdout is closed.
        with contextlib.suppress(OSError, ValueError):
            stdout.reconfigure(errors=errors)


@contextlib.contextmanager
def warnings_as_lines():
    """During a `with` block, print each warning as one line, without the line of code that caused it.

    A warning of Pillow gets the name of the picture that is decoded, and is printed one time for each picture.
    """
    shown = set()

    def show(message, *_):
        name, line = being_read.get(), " ".join(str(message).split())
        if name and (name, line) in shown:
            return
        shown.add((name, line))
        with contextlib.suppress(OSError):                  # the run continues if stderr is closed
            print(f"nphybrid: {name}: {line}" if name else f"nphybrid: {line}", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning, module=r"PIL\.")
        warnings.showwarning = show
        yield


class Terminated(KeyboardInterrupt):
    """Raised in the main thread if the signal SIGTERM arrives."""


@contextlib.contextmanager
def raise_at_sigterm():
    """During a `with` block, SIGTERM ends the run like Ctrl-C, with the exception Terminated.

    Linux ignores SIGTERM in the first process of a container (PID 1) if the process has no handler. A handler that the
    calling program has set is kept.
    """
    def stop(*_):
        raise Terminated
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def repeat_lost_interrupts():
    """During a `with` block, raise each lost KeyboardInterrupt a second time.

    A KeyboardInterrupt is lost if it is raised in a callback or in a __del__. Python prints a lost exception, and
    then continues.
    """
    hook, timers, at_the_end = sys.unraisablehook, [], False

    def interrupt_again(lost):
        nonlocal at_the_end
        if issubclass(lost.exc_type, KeyboardInterrupt):
            import _thread

            number = signal.SIGTERM if issubclass(lost.exc_type, Terminated) else signal.SIGINT
            # Without the delay, the second KeyboardInterrupt would be raised in the same callback.
            timer = threading.Timer(0.02, _thread.interrupt_main, (number,))
            try:
                timer.start()
                timers.append(timer)
            except RuntimeError:                            # no new thread can be started
                at_the_end = True
        else:
            hook(lost)
    sys.unraisablehook = interrupt_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if at_the_end or any(timer.is_alive() for timer in timers):
            for timer in timers:
                timer.cancel()
            raise KeyboardInterrupt
