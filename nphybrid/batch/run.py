"""Pictures in, a row for each out: in order, on all cores, in bounded memory.

    sources -> open and prepare, on threads that work ahead -> compute shares of a batch, one thread each -> rows

Each core computes pictures of its own. Measured against cores that share the work on one picture: 1.3 to 1.6 times as
many pictures a second with the bundled model, no more with R50+ViT-B/16.

A picture's row has the same bits whatever else is in the batch: each picture is prepared alone, and the results of a
model depend neither on the batch nor on the number of threads. A picture that cannot be read, prepared or computed
becomes a row with an error. Only the pictures in progress are held in memory, so a list of any length takes the memory
of a short one.
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

# The errors that become rows. PictureError, NonFiniteError and the processor's errors are ValueErrors.
PICTURE_ERRORS = (ValueError, OSError)

Prepare = Callable[[Any], np.ndarray]                  # source -> pixel_values (C, H, W)
Compute = Callable[[np.ndarray], Iterable[Any]]        # pixel_values (B, C, H, W) -> B results


class Row(NamedTuple):
    """The result of one picture, or its error."""
    position: int                         # in the list, from 0
    source: Any                           # as it is in the list
    result: Any                           # None if there is an error
    error: Exception | None


def compute_rows(sources: Iterable[Any], prepare: Prepare, compute: Compute, batch: int = 8, start: int = 0,
                 workers: int | None = None) -> Iterator[Row]:
    """A Row for each source, in order, soon after its share of a batch is computed.

    sources: an iterable; its items are taken only when they are needed. prepare: source -> pixel_values (C, H, W).
    compute: pixel_values (B, C, H, W) -> B results. Both are called on several threads. If one of them raises
    ValueError or OSError, the picture becomes a row with the error. Any other exception ends the run. batch: the
    largest number of pictures that are computed at a time. A batch is divided into shares, one per thread. The pictures
    of a share that have one shape are computed together. start: the position of the first source.
    workers: the number of threads that prepare, and the number of threads that compute (default: one per core). With 0
    the caller's thread does both, and no source is taken before its batch is needed; a generator that reuses its
    memory requires this.

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
        # With fewer pictures than cores, each picture gets several cores.
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
    """The `prepare` of `compute_rows`: source -> pixel_values (C, H, W).

    processor: an image processor, or its options as a dict. options: those of its call. A source is an item of
    `inputs.find_pictures`, anything else that `open_picture` takes, or an array, which the processor takes unchanged.
    """
    processor = ViTHybridImageProcessor.from_dict(processor) if isinstance(processor, dict) else processor

    def prepare(source: Any) -> np.ndarray:
        is_array = isinstance(source, np.ndarray)
        if is_array and source.ndim > 3:
            raise ValueError(f"expected an array of 2 or 3 axes as a picture, found the shape {source.shape}; for "
                             "several pictures, give a list")
        picture = source if is_array else open_source(source)
        return processor(picture, return_tensors="np", **options).pixel_values[0]
    return prepare


def preparer_and_extractor(model: Model, state: str | None = None, pool: str | None = None
                           ) -> tuple[Prepare, extractor.Extractor]:
    """The `prepare` of a model, and its Extractor, whose `compute` computes features.

    model: of any class. state, pool: which features; see `nphybrid.api.extractor`. One blank picture is computed, from
    which the names and shapes of all states are known. Raises ValueError for a model without an image processor, and
    what `extractor` raises.
    """
    prepare = preparer(model.image_processor())
    blank = prepare(np.zeros((64, 64, 3), np.uint8))[None]
    return prepare, extractor.extractor(model, blank, state, pool)


# ---------------------------------------------------------------- shares of a batch

def _chunks(items, size):
    """Lists of `size` items; the last may be shorter."""
    return iter(lambda: list(itertools.islice(items, size)), [])


def _share_results(share, compute):
    """(result, None) or (None, error) for each Outcome of `prepare` in a share."""
    results = _results([picture.value for picture in share if picture.error is None], compute)
    return [next(results) if picture.error is None else (None, picture.error) for picture in share]


def _results(pictures, compute):
    """(result, None) or (None, error) for each (C, H, W).  If pictures cannot be computed together: one by one."""
    for _, group in itertools.groupby(pictures, np.shape):
        together = list(group)
        try:
            results = list(compute(np.stack(together)))
            if len(results) != len(together):
                raise TypeError(f"compute gave {len(results)} results for {len(together)} pictures")
            yield from ((result, None) for result in results)
        except PICTURE_ERRORS as error:
            if len(together) == 1:
                yield None, error
            else:
                for picture in together:
                    yield from _results([picture], compute)


# ---------------------------------------------------------------- threads that work ahead

class Outcome(NamedTuple):
    """An item, and what a function returned for it or raised."""
    item: Any
    value: Any
    error: Any                            # None, or one of PICTURE_ERRORS


class _Job(NamedTuple):
    item: Any
    answer: queue.SimpleQueue             # of one: (value, error)


def _map_ahead(function, items, *, workers, ahead):
    """An Outcome for each item, in order, while threads call the function for up to `ahead` later items.

    workers: how many threads; 0 is the caller's own. The threads are daemons, so that a picture that is being decoded
    when a run is interrupted does not keep the process alive.
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
    """The Outcome of a job, as soon as its thread has it."""
    return _outcome(job.item, *job.answer.get())


def _outcome(item, value, error):
    """The Outcome of an item.  Raises any error that is not the picture's fault."""
    if error is not None and not isinstance(error, PICTURE_ERRORS):
        raise error
    return Outcome(item, value, error)


def _work(function, jobs):
    """What a thread does: jobs, until None comes."""
    while (job := jobs.get()) is not None:
        job.answer.put(_call(function, job.item))
        del job                           # releases the picture while waiting


def _call(function, item):
    """The value and None, or None and the error."""
    try:
        return function(item), None
    except BaseException as error:
        return None, error
