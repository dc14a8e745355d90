"""The thread that computes.  It does one job after the other, in the order in which the jobs came.

One picture is decoded and computed at a time, so the memory of a server does not grow with the number of its clients.
The kernels of this picture use all cores.
"""
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from .limits import Refusal


class Worker:
    """A thread that calls functions for other threads.

    >>> worker = Worker()
    >>> worker.do(60, divmod, 17, 5)
    (3, 2)
    >>> worker.stop(1)
    """

    def __init__(self) -> None:
        self.jobs = queue.SimpleQueue()
        self.stopping = False
        # The process can end while a daemon still works.
        self.thread = threading.Thread(target=self._work, name="nphybrid serve", daemon=True)
        self.thread.start()

    def do(self, seconds: float, function: Callable, *arguments: Any) -> Any:
        """Call a function in the thread of the worker, and return its result or raise its exception.

        Raises Refusal if there is no result after `seconds`. If the function was not yet called, it is not called.
        """
        future = Future()
        self.jobs.put((future, function, arguments))
        wait([future], seconds)
        if not future.done():
            future.cancel()
            raise Refusal(503, f"there was no result after {seconds:g} seconds, because the server is busy or the "
                               "picture takes too long; try again later", **{"Retry-After": "5"})
        try:
            return future.result()
        finally:
            del future                    # an exception and its future would keep each other in memory

    def stop(self, seconds: float) -> None:
        """End the thread after its present job, and wait for the end, but no longer than `seconds`."""
        self.stopping = True
        self.jobs.put(None)
        self.thread.join(seconds)

    def _work(self):
        while (job := self.jobs.get()) is not None and not self.stopping:
            future, function, arguments = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)
            del job, future, function, arguments             # free the memory of the picture
