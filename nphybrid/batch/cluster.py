"""The rows of `run.rows`, computed by the workers of a Dask cluster: needs `pip install "nphybrid[distributed]"`.

    list -> parts, a task each -> a worker opens, prepares, computes -> the rows of all parts, in the list's order

    from distributed import Client
    from nphybrid.batch import cluster
    with Client("tcp://10.0.0.1:8786") as client:
        for row in cluster.rows(client, paths, cluster.job("model.h5", "norm")):
            …

or in a graph of one's own: `dask.bag.from_sequence(paths).map_partitions(cluster.computed, cluster.job("model.h5"))`.

A worker loads the model once, for its first part, and keeps it. Each of its threads computes a part on one core, unless
the job says num_threads. A part whose worker is lost is computed by another, and so is one that fails. Rows have the
bits that they have on one machine of the same instruction set, and come in the same order: what is written from them is
the same file, and a run that was begun here goes on there.

Workers open the files themselves. A path must lead to the same file there as here; a relative one begins in the folder
where the worker was started.
"""
import contextlib
import ctypes
import functools
import hashlib
import itertools
import json
import logging
import math
import os
import threading
import uuid
from collections import deque
from typing import NamedTuple

import numpy as np

from .. import __version__, checkpoint
from ..api import extractor
from ..api.load import load
from ..checkpoint import hub
from . import run

PART = 64                                 # pictures of a task, or fewer, so that every thread gets AHEAD of them
AHEAD = 4                                 # tasks on their way, for each thread of the cluster
RETRIES = 3                               # of a part that fails, each on another worker
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3     # malloc.h


class Job(NamedTuple):
    """What is computed, and by what a worker is known that can."""
    model: str | None                     # a path, or owner/name on the hub; None is the one that comes along
    head: str | None                      # the file of one that takes the place of its own
    digests: tuple                        # SHA-256 of weights, of configuration and image processor, of the head
    state: str                            # "logits", or as in `states`
    pool: str | None
    batch: int
    options: tuple                        # ((name, value), …) of from_pretrained
    version: str = __version__            # of nphybrid
    witness: str | None = None            # a file of the list, which every worker must see


def job(model=None, state="logits", pool=None, batch=8, head=None, **options):
    """What `rows` lets workers compute.  -> Job

    model: as in `pipeline`. state: "logits" for a classifier's, or a state of the walk, which is pooled; see `states`.
    batch: how many pictures are computed at once; no row depends on it. head: a file of `nphybrid probe fit`. options:
    engine, dtype, precision, num_threads.

    Raises what `checkpoint.read` raises.

    >>> job(state="norm", num_threads=2)[3:7]
    ('norm', None, 8, (('num_threads', 2),))
    """
    digests = _digests(model, head)
    if model is not None and os.path.exists(model):
        model = os.path.abspath(model)
    return Job(model, head and os.path.abspath(head), digests, state, pool, batch,
               tuple({"num_threads": 1, **options}.items()))


# ---------------------------------------------------------------- where the list is

def rows(client, sources, job, start=0, part=None):
    """A Row for each source from `start` on, in order, as soon as its part and those before it are computed.

    client: a distributed.Client. sources: as of `run.rows`; a list is made of it. part: how many are one task (default:
    PART, or fewer). Only so many tasks are on their way that every thread has AHEAD of them; what is left of them when
    the caller stops is cancelled. An error in a Row is a ValueError with the text that it has on one machine.
    Raises OSError for a worker that cannot do the job, and for a part that fails RETRIES times or loses as many
    workers as Dask allows (its setting distributed.scheduler.allowed-failures).
    """
    sources = list(sources)
    witness = next((name for name in sources if isinstance(name, str) and os.path.isfile(name)), None)
    job = job._replace(witness=witness)
    check(client, job)
    threads = max(sum(client.nthreads().values()), 1)
    part = part or min(PART, max(math.ceil((len(sources) - start) / (AHEAD * threads)), 1))
    name, starts, pending = f"nphybrid-{uuid.uuid4().hex}", iter(range(start, len(sources), part)), deque()

    def submit(first, avoided=()):
        # Where no other worker is left, Dask takes the same one.
        others = {"workers": [worker for worker in client.nthreads() if worker not in avoided],
                  "allow_other_workers": True} if avoided else {}
        return client.submit(computed, sources[first:first + part], job, first, pure=False,
                             key=f"{name}-{first}-{len(avoided)}", **others)

    try:
        while True:
            # Threads come and go: there may be more on their way than there should be.
            room = max(AHEAD * sum(client.nthreads().values()), 1) - len(pending)
            pending.extend((first, submit(first)) for first in itertools.islice(starts, max(room, 0)))
            if not pending:
                return
            yield from _result(*pending.popleft(), submit)
    finally:
        client.cancel([future for _, future in pending])


@contextlib.contextmanager
def connected(address):
    """A client of the scheduler at an address, for a command: nothing is logged meanwhile.  Raises ImportError without
    distributed, OSError where none answers."""
    distributed = _distributed()
    try:
        with _silent(), distributed.Client(address, set_as_default=False) as client:
            yield client
    except distributed.comm.CommClosedError as error:
        raise OSError(f"{address}: the connection to the scheduler is lost: {error}") from error


@contextlib.contextmanager
def _silent():
    """Without any log, the rest of the process's too: what distributed tells in it ends in an exception here."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)


def check(client, job):
    """Raise OSError if a worker cannot do a job, before it gets any."""
    for address, told in client.run(trouble, job, on_error="return").items():
        if told is not None:
            raise OSError(f"the worker {address} cannot do this: {told}")


def _result(first, future, submit):
    """The rows of a part; where it fails, of another try."""
    avoided = []
    while True:
        try:
            return future.result()
        except Exception as error:
            told = f"the part from picture {first:,} on could not be computed: {error}"
            if not isinstance(error, PartError) or len(avoided) == RETRIES:
                raise OSError(told) from error
            avoided.append(error.args[0])
            future = submit(first, avoided)


class PartError(Exception):
    """The worker on which a part failed, and why."""

    def __str__(self):
        return "{}: {}".format(*self.args)


# ---------------------------------------------------------------- on a worker

def computed(sources, job, start=0):
    """What a task does: the rows of a part of the list, which begins at `start`.  -> list of Row

    Raises PartError for what is no picture's fault.
    """
    try:
        prepare, compute = _loaded(job)
        found = list(run.compute_rows(sources, prepare, compute, job.batch, start, dict(job.options)["num_threads"]))
        # A worker that has lost its disk shall not say that the pictures are missing.
        if any(isinstance(row.error, OSError) for row in found) and (told := trouble(job)):
            raise OSError(told)
    except Exception as error:
        raise PartError(_address(), f"{type(error).__name__}: {error}") from None
    # Not every exception survives its way to another process; its text does.
    return [row if row.error is None else row._replace(error=ValueError(str(row.error))) for row in found]


def trouble(job):
    """Why this process cannot do a job.  -> str, or None if it can"""
    if job.version != __version__:
        return f"it has nphybrid {__version__}; expected {job.version}, as here"
    on_the_hub = job.model is not None and not os.path.isabs(job.model)
    for what, path in (("model", None if on_the_hub else job.model), ("head", job.head), ("pictures", job.witness)):
        if path is not None and not os.path.exists(path):
            return f"it does not see the {what}: there is no {path} (it works in {os.getcwd()})"
    return None


_one_loads = threading.Lock()


def _loaded(job):
    """The functions of `run.rows`, from a model that this process loads once."""
    with _one_loads:
        return _load(job._replace(witness=None))


@functools.lru_cache(maxsize=1)
def _load(job):
    if told := trouble(job):
        raise OSError(told)
    _usual_malloc()
    name = job.model or checkpoint.default_model()
    if (found := _digests(job.model, job.head)) != job.digests:
        raise ValueError(f"{name} is another model: the SHA-256 of weights, settings and head are {found}; expected "
                         f"{job.digests}")
    model = load(name, head=job.head, **dict(job.options))
    if model.processor is None:
        raise ValueError(f"{name} came without an image processor; pictures cannot be prepared for it")
    prepare = run.preparer(model.processor)
    if job.state == "logits":
        return prepare, lambda x: model(x).logits
    blank = prepare(np.zeros((64, 64, 3), np.uint8))[None]
    return prepare, extractor.extractor(model, blank, job.state, job.pool).compute


def _digests(model, head):
    """SHA-256 of the weights, of configuration and image processor, which may lie in other files, and of a head."""
    path = hub.resolve(model or checkpoint.default_model())
    found = checkpoint.read(path)
    settings = json.dumps([found.config, found.processor], sort_keys=True).encode()
    return checkpoint.sha256(path), hashlib.sha256(settings).hexdigest(), head and checkpoint.sha256(head)


def _usual_malloc():
    """Undo what Dask's nanny asks of glibc: to hand the memory of every large array back to the system, which clears it
    page by page for the next one. A picture then takes 20 ms of a core instead of 12, with the model that comes along.
    These are the sizes at which glibc would arrive by itself."""
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with contextlib.suppress(OSError, AttributeError):      # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_THRESHOLD, 32 << 20)
            mallopt(M_TRIM_THRESHOLD, 64 << 20)


def _address():
    try:
        return _distributed().get_worker().address
    except (ImportError, ValueError):     # in a graph that another scheduler of Dask runs
        return f"process {os.getpid()}"


def _distributed():
    try:
        import distributed
    except ImportError as error:
        raise ImportError("A cluster needs Dask: pip install distributed") from error
    return distributed
