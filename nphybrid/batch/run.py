"""Computes a row for each picture of a list.  All cores are used, and the rows keep the order of the list.

While a batch is computed, threads open and prepare the pictures of later batches. A batch is divided into shares, and
each share is computed by one thread.

Each core computes its own pictures. For the bundled model, one picture per core is 1.3 to 1.6 times as fast as one
picture on all cores. For R50+ViT-B/16, one picture per core is as fast as one picture on all cores.

The bits of a row do not depend on the other pictures of the batch. Each picture is prepared separately. The results of
a model depend neither on the size of the batch nor on the number of threads.

If a picture cannot be read, prepared or computed, its row contains an error. Only the pictures in progress are in
memory. A long list needs no more memory than a short list.
"""
import contextlib
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..api import extractor
from ..api.base import Model
from ..api.processor import ViTHybridImageProcessor
from ..ops import threads
from .inputs import open_source

# The types of the errors that a Row can contain. PictureError, NonFiniteError and all errors of the image processor
# are ValueErrors.
PICTURE_ERRORS = (ValueError, OSError)

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
    `workers` is the number of threads that prepare pictures, and also the largest number of threads that compute
    pictures. The default of `workers` is the number of cores. With `workers=0`, the calling thread prepares and
    computes all pictures, and takes each source only when the batch of this source is needed. A generator that reuses
    the memory of its items needs `workers=0`.

    Several threads call `prepare` and `compute`. If one of these functions raises ValueError or OSError, the row of the
    picture contains the error. Any other exception stops the run.

    >>> def half(number):
    ...     return np.full((1, 1, 1), number / 2)
    >>> [float(row.result) for row in compute_rows([1, 2, 3], half, lambda x: x.sum((1, 2, 3)), batch=2)]
    [0.5, 1.0, 1.5]
    """
    workers = threads.number() if workers is None else workers
    with contextlib.closing(_map_ahead(prepare, sources, workers=workers, ahead=2 * batch)) as prepared:
        first = list(itertools.islice(prepared, batch))
        share_size = max(len(first) // max(workers, 1), 1)
        shares = _chunks(itertools.chain(first, prepared), share_size)
        # If a batch has fewer pictures than `workers`, several cores compute each picture.
        computing = min(workers, len(first))
        cores = workers // computing if computing else None

        def compute_share(share):
            with threads.using(cores):
                return _share_results(share, compute)

        position = itertools.count(start)
        with contextlib.closing(_map_ahead(compute_share, shares, workers=computing, ahead=computing)) as computed:
            for share in computed:
                if share.error is not None:
                    raise share.error
                for picture, (result, error) in zip(share.item, share.value):
                    yield Row(next(position), picture.item, result, error)


def preparer(processor: ViTHybridImageProcessor | dict, **options: Any) -> Prepare:
    """Return a `prepare` function for `compute_rows`: source -> pixel_values (C, H, W).

    `processor` is an image processor, or a dict with the options of an image processor.
    `options` are given to each call of the image processor.
    A source is an item of the list that `inputs.find_pictures` returns, or any other argument that `open_picture`
    accepts. A source can also be an array, which is given to the image processor unchanged.
    """
    processor = ViTHybridImageProcessor.from_dict(processor) if isinstance(processor, dict) else processor

    def prepare(source: Any) -> np.ndarray:
        is_array = isinstance(source, np.ndarray)
        if is_array and source.ndim > 3:
            raise ValueError(f"found an array of shape {source.shape}; expected a picture with 2 or 3 axes. Several "
                             "pictures must be given as a list.")
        picture = source if is_array else open_source(source)
        return processor(picture, return_tensors="np", **options).pixel_values[0]
    return prepare


def preparer_and_extractor(model: Model, state: str | None = None, pool: str | None = None
                           ) -> tuple[Prepare, extractor.Extractor]:
    """Return the `prepare` function of a model, and an Extractor whose `compute` function computes features.

    `model` is a model of any class.
    `state` and `pool` select the features; see `nphybrid.api.extractor`.
    One blank picture is computed, to find the names and shapes of all states.
    Raises ValueError if the model has no image processor. Raises the same errors as `extractor`.
    """
    prepare = preparer(model.image_processor())
    blank = prepare(np.zeros((64, 64, 3), np.uint8))[None]
    return prepare, extractor.extractor(model, blank, state, pool)


# ---------------------------------------------------------------- functions that compute the shares of a batch

def _chunks(items, size):
    """Yield lists of `size` items.  The last list may be shorter."""
    return iter(lambda: list(itertools.islice(items, size)), [])


def _share_results(share, compute):
    """Return (result, None) or (None, error) for each picture of a share.  A share is a list of Outcomes."""
    results = _results([picture.value for picture in share if picture.error is None], compute)
    return [next(results) if picture.error is None else (None, picture.error) for picture in share]


def _results(pictures, compute):
    """Yield (result, None) or (None, error) for each picture (C, H, W).

    If a group of pictures cannot be computed together, its pictures are computed one by one.
    """
    for _, group in itertools.groupby(pictures, np.shape):
        together = list(group)
        try:
            results = list(compute(np.stack(together)))
            if len(results) != len(together):
                raise TypeError(f"`compute` returned {len(results)} results for {len(together)} pictures; expected one "
                                "result for each picture")
            yield from ((result, None) for result in results)
        except PICTURE_ERRORS as error:
            if len(together) == 1:
                yield None, error
            else:
                for picture in together:
                    yield from _results([picture], compute)


# ---------------------------------------------------------------- functions that run on several threads

class Outcome(NamedTuple):
    """An item, and the value that a function returned for it, or the error that the function raised."""
    item: Any
    value: Any
    error: Any                            # None, or one of PICTURE_ERRORS


class _Job(NamedTuple):
    item: Any
    answer: queue.SimpleQueue             # receives one pair (value, error)


def _map_ahead(function, items, *, workers, ahead):
    """Yield an Outcome for each item, in order.  Meanwhile, threads call the function for up to `ahead` later items.

    `workers` is the number of threads. With `workers=0`, the calling thread calls the function.
    The threads are daemons, so the process can end while a thread still decodes a picture.
    """
    if not workers:
        for item in items:
            yield _outcome(item, *_call(function, item))
        return
    jobs, pending = queue.SimpleQueue(), deque()
    for _ in range(workers):
        threading.Thread(target=_work, args=(function, jobs), name="nphybrid pictures", daemon=True).start()
    try:
        for item in items:
            pending.append(_Job(item, queue.SimpleQueue()))
            jobs.put(pending[-1])
            if len(pending) > ahead:
                yield _finished(pending.popleft())
        while pending:
            yield _finished(pending.popleft())
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                jobs.get_nowait()
        for _ in range(workers):
            jobs.put(None)


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
        return None, error
