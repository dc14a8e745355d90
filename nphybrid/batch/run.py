"""The engine-room: pictures in, a row for each out, in order.

    sources -> opened and prepared, on threads that work ahead -> shares of a batch, computed by a thread each -> rows

Cores that compute pictures of their own wait less than cores that share the work on one. With the bundled model that
gives 1.3 to 1.6 times as many pictures a second; with R50+ViT-B/16 no more. A picture's row has the same bits whatever
stands beside it: each is prepared alone, and a model's numbers depend neither on the batch nor on threads. A picture
that cannot be read, prepared or computed costs its own row. Nothing is held but the pictures on their way, so that a
list of any length takes the memory of a short one.
"""
import contextlib
import itertools
import queue
import threading
from collections import deque
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..api.processor import ViTHybridImageProcessor
from ..ops import threads
from .inputs import opened

# What a picture may do wrong: PictureError, NonFiniteError and the processor's errors are ValueErrors.
BAD = (ValueError, OSError)


class Row(NamedTuple):
    """What became of one picture: a result, or the error that it cost."""
    position: int                         # in the list, from 0
    source: Any                           # as it stands in the list
    result: Any
    error: Exception | None


def compute_rows(sources, prepare, compute, batch=8, start=0, workers=None):
    """A Row for each source, in order, soon after its share is computed.  -> iterator of Row

    sources: an iterable, of which only what is on its way is taken. prepare: source -> pixel_values (C, H, W). compute:
    pixel_values (B, C, H, W) -> B results. Both are called on several threads, and may raise ValueError and OSError,
    which become rows; whatever else they raise ends the run. batch: how many are computed at a time, in shares, one per
    thread, those of a share together where they have one shape. start: the position of the first source. workers: how
    many threads prepare, and how many compute (default: one per core); 0 is the caller's own for both, which takes a
    batch only when it is due, as a generator that reuses its memory wants it.

    >>> def half(number):
    ...     return np.full((1, 1, 1), number / 2)
    >>> [float(row.result) for row in rows([1, 2, 3], half, lambda x: x.sum((1, 2, 3)), batch=2)]
    [0.5, 1.0, 1.5]
    """
    workers = threads.number() if workers is None else workers
    with contextlib.closing(_ahead(sources, prepare, workers, 2 * batch)) as ready:
        first = list(itertools.islice(ready, batch))
        shares = _shares(itertools.chain(first, ready), max(len(first) // max(workers, 1), 1))
        # Of a batch of fewer pictures than cores, each gets several.
        computing = min(workers, len(first))
        cores = workers // computing if computing else None
        with contextlib.closing(_ahead(shares, partial(_results, compute, cores), computing, computing)) as computed:
            position = itertools.count(start)
            for share, results, _ in computed:
                for (source, _, _), (result, error) in zip(share, results):
                    yield Row(next(position), source, result, error)


def preparer(processor, **options):
    """What `rows` needs to prepare pictures: source -> pixel_values (C, H, W).

    processor: a ViTHybridImageProcessor, or its options as a dict; options: of its call. A source is what
    `inputs.listed` gives, whatever else `open_picture` takes, or an array, which the processor takes as it is.
    """
    processor = ViTHybridImageProcessor.from_dict(processor) if isinstance(processor, dict) else processor

    def prepare(source):
        array = isinstance(source, np.ndarray)
        if array and source.ndim > 3:
            raise ValueError(f"a picture is an array of 2 or 3 axes; found the shape {source.shape}: give a list")
        picture = source if array else opened(source)
        return processor(picture, return_tensors="np", **options).pixel_values[0]
    return prepare


def _shares(ready, size):
    """What is ready, `size` at a time."""
    return iter(lambda: list(itertools.islice(ready, size)), [])


def _results(compute, cores, share):
    """(result, None) or (None, error) for each (source, pixel_values, error) of a share, on so many cores."""
    with threads.using(cores):
        results = _computed([pixels for _, pixels, error in share if error is None], compute)
        return [next(results) if error is None else (None, error) for _, _, error in share]


def _computed(pictures, compute):
    """(result, None) or (None, error) for each (C, H, W); where pictures cannot be computed together, one by one."""
    for _, group in itertools.groupby(pictures, np.shape):
        together = list(group)
        try:
            results = list(compute(np.stack(together)))
            if len(results) != len(together):
                raise TypeError(f"compute gave {len(results)} results for {len(together)} pictures")
            yield from ((result, None) for result in results)
        except BAD as error:
            if len(together) == 1:
                yield None, error
            else:
                for picture in together:
                    yield from _computed([picture], compute)


# ---------------------------------------------------------------- ahead

def _ahead(items, function, workers, room):
    """(item, its value or None, None or its error) in order, while threads work on up to `room` items more.

    Daemons: what they decode when a run is interrupted keeps no process alive.
    """
    if not workers:
        for item in items:
            yield _finished(item, _tried(function, item))
        return
    jobs, pending = queue.SimpleQueue(), deque()
    for _ in range(workers):
        threading.Thread(target=_work, args=(function, jobs), name="nphybrid pictures", daemon=True).start()
    try:
        for item in items:
            pending.append((item, queue.SimpleQueue()))
            jobs.put(pending[-1])
            if len(pending) > room:
                item, answer = pending.popleft()
                yield _finished(item, answer.get())
        while pending:
            item, answer = pending.popleft()
            yield _finished(item, answer.get())
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                jobs.get_nowait()
        for _ in range(workers):
            jobs.put(None)


def _finished(item, answer):
    value, error = answer
    if error is not None and not isinstance(error, BAD):
        raise error
    return item, value, error


def _work(function, jobs):
    while (job := jobs.get()) is not None:
        item, answer = job
        answer.put(_tried(function, item))
        del job, item, answer             # lets go of the picture while waiting


def _tried(function, item):
    try:
        return function(item), None
    except BaseException as error:
        return None, error
