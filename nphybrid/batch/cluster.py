"""The rows of `run.compute_rows`, computed by the workers of a Dask cluster: `pip install "nphybrid[distributed]"`.

    list -> parts, a task each -> a worker opens, prepares, computes -> the rows of all parts, in the order of the list

    from distributed import Client
    from nphybrid.batch import cluster
    with Client("tcp://10.0.0.1:8786") as client:
        for row in cluster.compute_rows(client, paths, cluster.job("model.h5", "norm")):
            …

or in your own graph: `dask.bag.from_sequence(paths).map_partitions(cluster.compute_part, cluster.job("model.h5"))`.

A worker loads the model once, for its first part, and keeps it. Each thread of the worker computes one part at a time,
on one core, unless the job sets num_threads. A part whose worker is lost, and a part that fails, are computed by
another worker. The rows have the same bits and the same order as on one machine of the same instruction set. So the
files written from them are equal, and a run that was started on one machine can be continued on a cluster.

Workers open the files themselves. A path must lead to the same file on every worker as on the client; a relative path
starts in the folder in which the worker was started.
"""
import contextlib
import ctypes
import functools
import itertools
import logging
import math
import os
import threading
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__, checkpoint
from ..api.load import load
from . import run
from .identity import ModelFile, model_digests

PART = 64                                 # pictures of a task; fewer if otherwise a thread got less than AHEAD tasks
AHEAD = 4                                 # submitted tasks for each thread of the cluster
RETRIES = 3                               # of a part that fails, each on another worker
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3     # malloc.h


class Job(NamedTuple):
    """What is computed, and what a worker must have to compute it."""
    model: str | None                     # a path, or owner/name on the hub; None is the bundled model
    head: str | None                      # the file of a head that replaces the model's own
    digests: tuple                        # identity.ModelDigests: the SHA-256 of weights, head, configuration
    state: str                            # "logits", or a state as in `api.extractor`
    pool: str | None
    batch: int
    options: tuple                        # ((name, value), …) of from_pretrained
    version: str = __version__            # of nphybrid
    witness: str | None = None            # a file of the list, which every worker must be able to see


def job(model: str | None = None, state: str = "logits", pool: str | None = None, batch: int = 8,
        head: str | None = None, **options: Any) -> Job:
    """What `compute_rows` lets workers compute.

    model: as in `pipeline`. state: "logits" for those of a classifier, or a state of the forward pass, which is pooled;
    see `api.extractor`. batch: how many pictures are computed at once; no row depends on it. head: a file of
    `nphybrid probe fit`. options: engine, dtype, precision, num_threads.

    Raises what `checkpoint.read` raises.

    >>> job(state="norm", num_threads=2)[3:7]
    ('norm', None, 8, (('num_threads', 2),))
    """
    digests = _digests(model, head)
    if model is not None and os.path.exists(model):
        model = os.path.abspath(model)
    return Job(model, head and os.path.abspath(head), digests, state, pool, batch,
               tuple({"num_threads": 1, **options}.items()))


# ---------------------------------------------------------------- on the client

def compute_rows(client: Any, sources: Iterable[Any], job: Job, start: int = 0, part: int | None = None
                 ) -> Iterator[run.Row]:
    """A Row for each source from `start` on, in order, as soon as its part and all parts before it are computed.

    client: a distributed.Client. sources: as in `run.compute_rows`; they are made a list. part: the number of pictures
    of a task (default: PART, or fewer). At any time AHEAD tasks are submitted for each thread; when the caller stops,
    those that are left are cancelled. An error in a Row is a ValueError with the text that it has on one machine.
    Raises OSError for a worker that cannot do the job, and for a part that fails RETRIES times or loses more
    workers than Dask allows (its setting distributed.scheduler.allowed-failures).
    """
    sources = list(sources)
    witness = next((name for name in sources if isinstance(name, str) and os.path.isfile(name)), None)
    job = job._replace(witness=witness)
    check_workers(client, job)
    threads = max(sum(client.nthreads().values()), 1)
    part = part or min(PART, max(math.ceil((len(sources) - start) / (AHEAD * threads)), 1))
    name = f"nphybrid-{uuid.uuid4().hex}"
    starts = iter(range(start, len(sources), part))
    pending = deque()

    def submit(first, avoided=()):
        where = {}
        if avoided:
            # If no other worker is left, Dask takes one that should be avoided.
            where = {"workers": [worker for worker in client.nthreads() if worker not in avoided],
                     "allow_other_workers": True}
        return client.submit(compute_part, sources[first:first + part], job, first, pure=False,
                             key=f"{name}-{first}-{len(avoided)}", **where)

    try:
        while True:
            # Threads come and go, so more tasks may be submitted than there should be.
            room = max(AHEAD * sum(client.nthreads().values()), 1) - len(pending)
            for first in itertools.islice(starts, max(room, 0)):
                pending.append((first, submit(first)))
            if not pending:
                return
            first, future = pending.popleft()
            yield from _part_rows(first, future, submit)
    finally:
        client.cancel([future for _, future in pending])


@contextlib.contextmanager
def connect(address: str) -> Iterator[Any]:
    """A context with a client of the scheduler at an address, for a command: meanwhile nothing is logged.

    Raises ImportError without the package distributed, OSError if no scheduler answers.
    """
    distributed = _distributed()
    try:
        with _without_logging(), distributed.Client(address, set_as_default=False) as client:
            yield client
    except distributed.comm.CommClosedError as error:
        raise OSError(f"{address}: the connection to the scheduler is lost: {error}") from error


@contextlib.contextmanager
def _without_logging():
    """Logging of the whole process is off: what distributed logs, it also raises here."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)


def check_workers(client: Any, job: Job) -> None:
    """Raise OSError if a worker cannot do a job, before it gets any part."""
    for address, problem in client.run(find_problem, job, on_error="return").items():
        if problem is not None:
            raise OSError(f"the worker {address} cannot do this: {problem}")


def _part_rows(first, future, submit):
    """The rows of a part; if it fails, those of another try."""
    avoided = []
    while True:
        try:
            return future.result()
        except Exception as error:
            if not isinstance(error, PartError) or len(avoided) == RETRIES:
                raise OSError(f"the part from picture {first:,} on could not be computed: {error}") from error
            avoided.append(error.args[0])
            future = submit(first, avoided)


class PartError(Exception):
    """The address of the worker on which a part failed, and the reason."""

    def __str__(self):
        return f"{self.args[0]}: {self.args[1]}"


# ---------------------------------------------------------------- on a worker

def compute_part(sources: list, job: Job, start: int = 0) -> list[run.Row]:
    """What a task does: the rows of a part of the list.  start: the position of its first picture

    Raises PartError for every error that is not a picture's fault.
    """
    try:
        prepare, compute = load_functions(job)
        found = list(run.compute_rows(sources, prepare, compute, job.batch, start, dict(job.options)["num_threads"]))
        # A worker that has lost its disk must not report that the pictures are missing.
        if any(isinstance(row.error, OSError) for row in found) and (problem := find_problem(job)):
            raise OSError(problem)
    except Exception as error:
        raise PartError(_address(), f"{type(error).__name__}: {error}") from None
    # Not every exception can be sent to another process; its text can.
    return [row if row.error is None else row._replace(error=ValueError(str(row.error))) for row in found]


def find_problem(job: Job) -> str | None:
    """Why this process cannot do a job, or None if it can."""
    if job.version != __version__:
        return f"it has nphybrid {__version__}; expected {job.version}, as on the client"
    is_path = job.model is not None and os.path.isabs(job.model)
    for what, path in (("model", job.model if is_path else None), ("head", job.head), ("pictures", job.witness)):
        if path is not None and not os.path.exists(path):
            return f"it does not see the {what}: there is no {path} (it works in {os.getcwd()})"
    return None


_loading = threading.Lock()


def load_functions(job: Job) -> tuple[run.Prepare, run.Compute]:
    """`prepare` and `compute` of `run.compute_rows`, with a model that this process loads only once."""
    with _loading:
        return load_once(job._replace(witness=None))


@functools.lru_cache(maxsize=1)
def load_once(job: Job) -> tuple[run.Prepare, run.Compute]:
    """`prepare` and `compute` of a job without a witness.  Raises ValueError for another model than the client's"""
    if problem := find_problem(job):
        raise OSError(problem)
    _restore_malloc_thresholds()
    _refuse_other_model(job)
    model = load(job.model or checkpoint.default_model(), head=job.head, **dict(job.options))
    # Again, because a file may have been replaced before it was loaded.
    _refuse_other_model(job)
    if job.state == "logits":
        return run.preparer(model.image_processor()), lambda x: model(x).logits
    prepare, extractor = run.preparer_and_extractor(model, job.state, job.pool)
    return prepare, extractor.compute


def _refuse_other_model(job):
    """Raise ValueError unless the files of a job have the SHA-256 values that they have on the client."""
    found = _digests(job.model, job.head)
    if found != job.digests:
        name = job.model or checkpoint.default_model()
        raise ValueError(f"{name} is another model: the SHA-256 of weights, head and settings are {tuple(found)}; "
                         f"expected {tuple(job.digests)}")


def _digests(model, head):
    """The ModelDigests of the files of a job, which are not loaded."""
    file = ModelFile(model or None)
    source = checkpoint.read(file.path)
    # A str could also be a name on the hub; a head is always a file.
    return model_digests(file, source.config, source.processor, ModelFile(Path(head)) if head else None)


def _restore_malloc_thresholds():
    """Undo a setting of Dask's nanny, which makes glibc return the memory of every large array to the system.

    The system then clears that memory page by page for the next array. With the bundled model a picture takes 20 ms of
    a core with that setting, 12 ms without it. The values are those that glibc itself would reach.
    """
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


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ImportError("a cluster needs Dask: pip install distributed") from error
    return distributed
