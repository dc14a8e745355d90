"""Computes a row for each picture of a list.  All cores are used, and the rows keep the order of the list.

While a batch is computed, threads open and prepare the pictures of later batches. A batch is divided into shares, and
each share is computed by one thread.

Each core computes its own pictures. For the bundled model, one picture per core is 1.3 to 1.6 times as fast as one
picture on all cores. For R50+ViT-B/16, one picture per core is as fast as one picture on all cores.

The bits of a row do not depend on the other pictures of the batch. Each picture is prepared separately. The results of
a model depend neither on the size of the batch nor on the number of threads.

If a picture cannot be read, prepared or computed, its row contains an error. Only the pictures in progress are in
memory. A long list needs no more memory than a short list.

If there is not enough memory for the pictures in progress, all results that are not yet in a row are deleted. The next
picture is then computed alone. If there is not enough memory for a single picture, the row of this picture contains an
error. Otherwise, the remaining pictures are computed in batches of half the size.

If no thread can be started, the calling thread prepares and computes all pictures.
"""
import contextlib
import itertools
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..api import extractor
from ..api.base import Model
from ..api.checks import as_array
from ..api.processor import ViTHybridImageProcessor
from ..ops import threads
from ..shortage import memory_error, out_of_memory
from .inputs import open_source, source_name

# The types of the errors that a Row can contain. PictureError, NonFiniteError and all errors of the image processor
# are ValueErrors.
PICTURE_ERRORS = (ValueError, OSError, MemoryError)
LAST_SECONDS = 0.3

Prepare = Callable[[Any], np.ndarray]                  # source -> pixel_values (C, H, W)
Compute = Callable[[np.ndarray], Iterable[Any]]        # pixel_values (B, C, H, W) -> B results


class Row(NamedTuple):
    """The result of one picture, or its error."""
    position: int                         # the position in the list, counted from 0
    source: Any                           # the item of the list
    result: Any                           # None if there is an error
    error: Exception | None


def compute_rows(sources: Iterable[Any], prepare: Prepare, compute: Compute, batch: int = 8, start: int = 0,
                 workers: int | None = None) -> Iterator[Row]:
    """Yield a Row for each source, in the order of the sources.

    `sources` is an iterable. An item of `sources` is taken only when it is needed.
    `prepare` is a function: source -> pixel_values (C, H, W).
    `compute` is a function: pixel_values (B, C, H, W) -> B results.
    `batch` is the largest number of pictures in a batch. A batch is divided into shares, about one share for each
    thread. In a share, successive pictures of equal shape are computed together.
    `start` is the position that the Row of the first source gets.
    At most `workers` threads prepare pictures, and at most `workers` threads compute pictures. The default of `workers`
    is the number of cores. With `workers=0`, the calling thread prepares and computes all pictures, and takes each
    source only when the batch of this source is needed. A generator that reuses the memory of its items needs
    `workers=0`.

    Several threads call `prepare` and `compute`. If one of these functions raises ValueError or OSError, the row of the
    picture contains the error. The row contains a MemoryError if there is not enough memory for this picture alone.
    Any other exception stops the run.

    >>> def half(number):
    ...     return np.full((1, 1, 1), number / 2)
    >>> [float(row.result) for row in compute_rows([1, 2, 3], half, lambda x: x.sum((1, 2, 3)), batch=2)]
    [0.5, 1.0, 1.5]
    """
    workers = min(threads.number() if workers is None else workers, threads.MOST_THREADS)
    again, rest = deque(), iter(sources)  # the sources to compute again after a lack of memory, and the new sources
    position = itertools.count(start)
    while True:
        waiting, started = deque(), []    # the sources that have no row yet, and the started threads
        results = _results_ahead(_take(again, rest, waiting), prepare, compute, batch, workers, started)
        with contextlib.closing(results):
            for result, error in results:
                if isinstance(error, MemoryError) and workers and all(map(_is_repeatable, waiting)):
                    break
                yield _row(next(position), waiting.popleft(), result, error)
            else:
                return
        # All results that have no row are now deleted. Each thread may still work on one picture.
        for thread in started:
            thread.join()
        again.extendleft(reversed(waiting))
        source = again.popleft()
        with threads.using(workers):
            picture = _outcome(source, *_call(prepare, source))
            ((result, error),) = _share_results([picture], compute)
        del picture
        yield _row(next(position), source, result, error)
        if error is None:                 # there was only not enough memory for several pictures together
            batch = max(batch // 2, 1)


def _is_repeatable(source):
    """Return True if a source can be prepared twice.  An open file can be read only once.

    With `workers=0`, no source is prepared twice, because a later source may use the memory of an earlier source.
    """
    return not hasattr(source, "read")


def _row(position, source, result, error):
    """Return a Row.  A MemoryError gets a message that names the picture."""
    if isinstance(error, MemoryError):
        named = isinstance(source, (str, os.PathLike))
        error = memory_error(error, source_name(source) if named else f"picture {position:,}")
    return Row(position, source, result, error)


def _take(again, rest, waiting):
    """Yield the sources of the deque `again`, then those of the iterator `rest`.  Append each source to `waiting`."""
    while again:
        waiting.append(again.popleft())
        yield waiting[-1]
    for source in rest:
        waiting.append(source)
        yield source


def _results_ahead(sources, prepare, compute, batch, workers, started):
    """Yield (result, None) or (None, error) for each source.  Every thread that is started is appended to `started`."""
    prepared = _map_ahead(prepare, sources, workers=workers, ahead=2 * batch, started=started)
    with contextlib.closing(prepared):
        first = list(itertools.islice(prepared, batch))
        share_size = max(len(first) // max(workers, 1), 1)
        shares = _chunks(itertools.chain(first, prepared), share_size)
        # If a batch has fewer pictures than `workers`, several cores compute each picture.
        computing = min(workers, len(first))
        cores = workers // computing if computing else None
        del first

        def compute_share(share):
            with threads.using(cores):
                return _share_results(share, compute)

        computed = _map_ahead(compute_share, shares, workers=computing, ahead=computing, started=started)
        with contextlib.closing(computed):
            for share in computed:
                if isinstance(share.error, MemoryError):
                    yield from [(None, share.error)] * len(share.item)
                elif share.error is not None:
                    raise share.error
                else:
                    yield from share.value


def preparer(processor: ViTHybridImageProcessor | dict, largest: int | None = None, **options: Any) -> Prepare:
    """Return a `prepare` function for `compute_rows`: source -> pixel_values (C, H, W).

    `processor` is an image processor, or a dict with the options of an image processor.
    `largest` is the argument max_pixels of `open_picture`.
    `options` are given to each call of the image processor.
    A source is an item of the list that `inputs.find_pictures` returns, or any other argument that `open_picture`
    accepts. A source can also be an array or a PyTorch tensor, which is given to the image processor unchanged.
    """
    processor = ViTHybridImageProcessor.from_dict(processor) if isinstance(processor, dict) else processor

    def prepare(source: Any) -> np.ndarray:
        source = as_array(source) if hasattr(source, "cpu") else source         # a PyTorch tensor
        is_array = isinstance(source, np.ndarray)
        if is_array and source.ndim > 3:
            raise ValueError(f"found an array of shape {source.shape}; expected a picture with 2 or 3 axes. Several "
                             "pictures must be given as a list.")
        picture = source if is_array else open_source(source, largest)
        return processor(picture, return_tensors="np", **options).pixel_values[0]
    return prepare


def preparer_and_extractor(model: Model, state: str | None = None, pool: str | None = None,
                           largest: int | None = None) -> tuple[Prepare, extractor.Extractor]:
    """Return the `prepare` function of a model, and an Extractor whose `compute` function computes features.

    `model` is a model of any class.
    `state` and `pool` select the features; see `nphybrid.api.extractor`.
    `largest` is the argument max_pixels of `open_picture`.
    One blank picture is computed, to find the names and shapes of all states.
    Raises ValueError if the model has no image processor. Raises the same errors as `extractor`.
    """
    prepare = preparer(model.image_processor(), largest)
    blank = prepare(Image.new("RGB", (64, 64)))[None]
    return prepare, extractor.extractor(model, blank, state, pool)


# ---------------------------------------------------------------- functions that compute the shares of a batch

def _chunks(items, size):
    """Yield lists of `size` items.  The last list may be shorter."""
    return iter(lambda: list(itertools.islice(items, size)), [])


def _share_results(share, compute):
    """Return (result, None) or (None, error) for each picture of a share.  A share is a list of Outcomes."""
    groups = itertools.groupby((picture.value for picture in share if picture.error is None), np.shape)
    results = itertools.chain.from_iterable(_group_results(list(group), compute) for _, group in groups)
    return [next(results) if picture.error is None else (None, picture.error) for picture in share]


def _group_results(pictures, compute):
    """Return [(result, None) or (None, error)] for pictures (C, H, W) of equal shape.

    If there is not enough memory to compute the pictures together, the two halves of the list are computed separately.
    If the pictures cannot be computed together for another reason, they are computed one by one.
    """
    try:
        results = list(compute(np.stack(pictures)))
        if len(results) != len(pictures):
            raise TypeError(f"`compute` returned {len(results)} results for {len(pictures)} pictures; expected one "
                            "result for each picture")
        return [(result, None) for result in results]
    except PICTURE_ERRORS as error:
        found = _without_memory(error)
    if len(pictures) == 1:
        return [(None, found)]
    size = math.ceil(len(pictures) / 2) if isinstance(found, MemoryError) else 1
    parts = (pictures[i:i + size] for i in range(0, len(pictures), size))
    return [result for part in parts for result in _group_results(part, compute)]


def _without_memory(error):
    """Return a new MemoryError if the cause of an error is a lack of memory, and otherwise the error itself.

    The traceback of the old error would keep large arrays in memory.
    """
    return MemoryError(str(error)) if out_of_memory(error) else error


# ---------------------------------------------------------------- functions that run on several threads

class Outcome(NamedTuple):
    """An item, and the value that a function returned for it, or the error that the function raised."""
    item: Any
    value: Any
    error: Any                            # None, or one of PICTURE_ERRORS


class _Job(NamedTuple):
    item: Any
    answer: queue.SimpleQueue             # receives one pair (value, error)


def _map_ahead(function, items, *, workers, ahead, started):
    """Yield an Outcome for each item, in order.  Meanwhile, threads call the function for up to `ahead` later items.

    `workers` is the largest number of threads. A thread is started when there is an item for it, and is appended to the
    list `started`. With `workers=0`, or if no thread can be started, the calling thread calls the function.

    The threads are daemons, so the process can end while a thread still decodes a picture. If a process ends during a
    matrix product of OpenBLAS, the process may hang. So `_map_ahead` waits up to LAST_SECONDS for the threads.
    """
    jobs, pending, crew = queue.SimpleQueue(), deque(), []
    try:
        for item in items:
            job = _Job(item, queue.SimpleQueue())
            pending.append(job)
            if len(crew) < min(workers, len(pending)) and (thread := _start(function, jobs)):
                crew.append(thread)
                started.append(thread)
            if crew:
                jobs.put(job)
            else:
                job.answer.put(_call(function, item))
            del job, item                 # free the memory of the picture when its row is finished
            if len(pending) > (ahead if crew else 0):
                yield _finished(pending.popleft())
        while pending:
            yield _finished(pending.popleft())
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                jobs.get_nowait()
        for _ in crew:
            jobs.put(None)
        last = time.monotonic() + LAST_SECONDS
        for thread in crew:
            thread.join(max(last - time.monotonic(), 0))


def _start(function, jobs):
    """Start and return a thread that does the jobs of a queue.  Return None if no thread can be started."""
    thread = threading.Thread(target=_work, args=(function, jobs), name="nphybrid pictures", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError):
        return None
    return thread


def _finished(job):
    """Wait until a thread has finished a job, and return the Outcome."""
    return _outcome(job.item, *job.answer.get())


def _outcome(item, value, error):
    """Return the Outcome of an item.  Raises any error that is not one of PICTURE_ERRORS."""
    if error is not None and not isinstance(error, PICTURE_ERRORS):
        raise error
    return Outcome(item, value, error)


def _work(function, jobs):
    """Do the jobs of a queue until the queue returns None.  Each thread runs `_work`."""
    while (job := jobs.get()) is not None:
        job.answer.put(_call(function, job.item))
        del job                           # free the memory of the picture before waiting for the next job


def _call(function, item):
    """Call a function, and return (value, None) or (None, error)."""
    try:
        return function(item), None
    except BaseException as error:
        return None, _without_memory(error)
