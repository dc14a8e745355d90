"""Computes the rows of `run.compute_rows` on a Dask cluster.  Needs `pip install distributed`.

The list of pictures is divided into parts. Each part is one task of Dask. A worker opens and prepares the pictures of a
part, and computes their rows. The rows of all parts are returned in the order of the list:

    from distributed import Client
    from nphybrid.batch import cluster
    with Client("tcp://10.0.0.1:8786") as client:
        for row in cluster.compute_rows(client, paths, cluster.job("model.h5", "norm")):
            …

In a Dask graph of your own, use `compute_part`:
`dask.bag.from_sequence(paths).map_partitions(cluster.compute_part, cluster.job("model.h5"))`.

A worker loads the model for its first part, and keeps the model for all later parts. Each thread of a worker computes
one part at a time. By default, a thread uses one core. The option num_threads of a job sets another
number of cores. If a part fails, or if its worker is lost, another worker computes the whole part.

On computers with the same instruction set, a cluster and a single computer compute identical rows. The output
files are then identical too. A cluster can continue a run that a single computer started.

Each worker opens the picture files itself. A path must lead to the same file on the client and on every worker. A
worker looks for a relative path in its own working folder.
"""
import contextlib
import ctypes
import functools
import itertools
import json
import logging
import math
import os
import threading
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .. import __version__, checkpoint
from ..api.load import load
from ..pictures import max_pixels
from ..tensorfile.errors import refuse_empty
from . import run
from .identity import ModelFile, model_digests, model_files

PART = 64                                 # the largest number of pictures in a part; a short list has smaller parts
AHEAD = 4                                 # the largest number of submitted tasks for each thread of the cluster
RETRIES = 3                               # how often a failed part is repeated at most, if possible on another worker
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3     # mallopt parameters, from malloc.h


class Job(NamedTuple):
    """Describes what a worker computes.  A Job also names the files that the worker needs."""
    model: str | None                     # a path or owner/name on the Hugging Face hub; None is the bundled model
    head: str | None                      # the file of a classifier that replaces the classifier of the model
    digests: tuple                        # identity.ModelDigests: the SHA-256 values of the model
    state: str                            # "logits", or the name of a state; see `api.extractor`
    pool: str | None
    batch: int
    options: tuple                        # the options of from_pretrained as ((name, value), …)
    version: str = __version__            # the version of nphybrid on the client
    largest: int | None = None            # the largest number of pixels of a picture that is decoded
    witness: str | None = None            # a path from the list of pictures, which must exist on every worker
    processor: str | None = None          # the options of another image processor as JSON; None is that of the model


def job(model: str | None = None, state: str = "logits", pool: str | None = None, batch: int = 8,
        head: str | None = None, files: dict[str, ModelFile | None] | None = None, processor: dict | None = None,
        **options: Any) -> Job:
    """Return the Job that `compute_rows` gives to the workers.

    `model` is a path, or owner/name on the Hugging Face hub. If `model` is None, the bundled model is used.
    `state` is "logits" for a model with a classifier, or the name of a state whose pooled features are computed.
    `pool` is the pooling of the state; see `api.extractor`.
    `batch` is the number of pictures that are computed together. The rows do not depend on `batch`.
    `head` is a file that `nphybrid probe fit` wrote.
    `files` is the result of `identity.model_files(model, head)`, if the client has already loaded the model. The
    workers must load files with the same content.
    `processor` contains the options of an image processor that replaces the image processor of the model.
    `options` are the options engine, dtype, precision and num_threads of `from_pretrained`.

    Raises the same errors as `checkpoint.read`. Raises FormatError if a file of `files` has changed.

    >>> job(state="norm", num_threads=2)[3:7]
    ('norm', None, 8, (('num_threads', 2),))
    """
    if head is not None:
        refuse_empty(head)
    digests = _digests(files or model_files(model, head))
    if model is not None and os.path.exists(model):
        model = os.path.abspath(model)
    return Job(model, head and os.path.abspath(head), digests, state, pool, batch,
               tuple({"num_threads": 1, **options}.items()), largest=max_pixels(),
               processor=None if processor is None else json.dumps(processor))


# ---------------------------------------------------------------- functions that run on the client

def compute_rows(client: Any, sources: Iterable[Any], job: Job, start: int = 0, part: int | None = None
                 ) -> Iterator[run.Row]:
    """Yield a Row for each source from position `start` on, in the order of the sources.

    A Row is yielded as soon as its part and all earlier parts are computed.
    `client` is a distributed.Client.
    `sources` has the same meaning as in `run.compute_rows`. All sources are put into a list before the first task.
    `part` is the number of pictures in a task. The default of `part` is PART, or less for a short list.

    At most AHEAD tasks for each thread of the cluster are pending at any time. If the caller stops early, all pending
    tasks are cancelled. The error in a Row is a ValueError with the same text as on a single computer.

    Raises OSError if a worker cannot compute the job, or if a part fails more than RETRIES times. Also raises OSError
    if too many workers are lost while they compute the same part. The largest allowed number of lost workers is the
    Dask setting distributed.scheduler.allowed-failures.
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
            # If there is no other worker, Dask uses one of the avoided workers.
            where = {"workers": [worker for worker in client.nthreads() if worker not in avoided],
                     "allow_other_workers": True}
        return client.submit(compute_part, sources[first:first + part], job, first, pure=False,
                             key=f"{name}-{first}-{len(avoided)}", **where)

    try:
        while True:
            # If the cluster has lost workers, `pending` may be longer than the new limit, so `room` may be negative.
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
    """Return a context manager that connects a client to the scheduler at an address.

    The command line uses `connect`. During the `with` block, all logging of this process is off.
    Raises ValueError for an empty address, because Dask would start a new cluster. Raises ImportError if the package
    distributed is not installed. Raises OSError if no scheduler answers.
    """
    if not address:
        raise ValueError("found an empty address of a scheduler; expected an address such as tcp://10.0.0.1:8786")
    distributed = _distributed()
    try:
        with _without_logging(), distributed.Client(address, set_as_default=False) as client:
            yield client
    except distributed.comm.CommClosedError as error:
        raise OSError(f"the connection to the scheduler {address} was lost: {error}") from error


@contextlib.contextmanager
def _without_logging():
    """Turn off logging in this process.  No error is lost, because distributed also raises each error that it logs."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)


def check_workers(client: Any, job: Job) -> None:
    """Raise OSError if a worker cannot compute a job.  The workers are checked before they receive any part."""
    for address, problem in client.run(find_problem, job, on_error="return").items():
        if problem is not None:
            raise OSError(f"the worker {address} cannot compute the job: {problem}")


def _part_rows(first, future, submit):
    """Return the rows of a part.  A part that fails is computed again, up to RETRIES times."""
    avoided = []
    while True:
        try:
            return future.result()
        except Exception as error:
            if not isinstance(error, PartError) or len(avoided) == RETRIES:
                reason = " ".join(str(error).split())     # one line: some texts of Dask have several lines
                raise OSError(f"the part that begins at picture {first:,} could not be computed: {reason}") from error
            avoided.append(error.args[0])
            future = submit(first, avoided)


class PartError(Exception):
    """Raised if a part fails on a worker.  A PartError contains the address of the worker and the reason."""

    def __str__(self):
        return f"{self.args[0]}: {self.args[1]}"


# ---------------------------------------------------------------- functions that run on a worker

def compute_part(sources: list, job: Job, start: int = 0) -> list[run.Row]:
    """Compute the rows of a part of the list.  Each task of Dask calls this function.

    `start` is the position of the first picture of the part.
    An error of a single picture is stored in the Row of this picture. Every other error is raised as a PartError.
    """
    try:
        prepare, compute = load_functions(job)
        found = list(run.compute_rows(sources, prepare, compute, job.batch, start, dict(job.options)["num_threads"]))
        # If the worker can no longer reach the files, the whole part fails. Otherwise, existing pictures would be
        # reported as missing.
        if any(isinstance(row.error, OSError) for row in found) and (problem := find_problem(job)):
            raise OSError(problem)
    except Exception as error:
        raise PartError(_address(), f"{type(error).__name__}: {error}") from None
    # Some exceptions cannot be sent to another process, but their texts can be sent.
    return [row if row.error is None else row._replace(error=ValueError(str(row.error))) for row in found]


def find_problem(job: Job) -> str | None:
    """Return the reason why this process cannot compute a job, or None if the process can compute the job."""
    if job.version != __version__:
        return f"nphybrid {__version__} is installed; expected {job.version}, the version of the client"
    is_path = job.model is not None and os.path.isabs(job.model)
    for what, path in (("model", job.model if is_path else None), ("head", job.head), ("pictures", job.witness)):
        if path is not None and not os.path.exists(path):
            return f"the path {path} of the {what} does not exist; the working folder is {os.getcwd()}"
    return None


_loading = threading.Lock()


def load_functions(job: Job) -> tuple[run.Prepare, run.Compute]:
    """Return `prepare` and `compute` for `run.compute_rows`.  Later calls with the same job reuse the model."""
    with _loading:
        return load_once(job._replace(witness=None))


@functools.lru_cache(maxsize=1)
def load_once(job: Job) -> tuple[run.Prepare, run.Compute]:
    """Load the model of a job whose `witness` is None, and return `prepare` and `compute`.

    Raises ValueError if the model differs from the model of the client.
    """
    if problem := find_problem(job):
        raise OSError(problem)
    _restore_malloc_thresholds()
    _refuse_other_model(job)
    model = load(job.model or checkpoint.default_model(), head=job.head, **dict(job.options))
    # The check is repeated, because a file may have been replaced between the first check and the loading.
    _refuse_other_model(job)
    if job.processor is not None:
        model.processor = json.loads(job.processor)
    if job.state == "logits":
        return run.preparer(model.image_processor(), job.largest), lambda x: model(x).logits
    prepare, extractor = run.preparer_and_extractor(model, job.state, job.pool, job.largest)
    return prepare, extractor.compute


def _refuse_other_model(job):
    """Raise ValueError if the files of a job have other SHA-256 values than the files on the client."""
    found = _digests(model_files(job.model, job.head))
    if found != job.digests:
        name = job.model or checkpoint.default_model()
        raise ValueError(f"{name} differs from the model of the client. The SHA-256 values of weights, head and "
                         f"settings are {tuple(found)}; expected {tuple(job.digests)}")


def _digests(files):
    """Return the ModelDigests of files from `identity.model_files`.  The files are hashed, but not loaded."""
    source = checkpoint.read(files["model"].path)
    return model_digests(files["model"], source.config, source.processor, files["head"])


def _restore_malloc_thresholds():
    """Undo the changes that Dask makes to the memory settings of glibc.

    With the settings of Dask, glibc returns the memory of every deleted large array to the system. The system must then
    clear new memory for the next array. With the bundled model, one picture takes 20 ms on one core with the settings
    of Dask, and 12 ms without them. This function sets the largest values that glibc itself would choose without Dask.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with contextlib.suppress(OSError, AttributeError):      # the C library is not glibc
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_THRESHOLD, 32 << 20)
            mallopt(M_TRIM_THRESHOLD, 64 << 20)


def _address():
    try:
        return _distributed().get_worker().address
    except (ImportError, ValueError):     # not on a worker of distributed, for example in another scheduler of Dask
        return f"process {os.getpid()}"


def _distributed() -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ImportError("a Dask cluster needs the package distributed: pip install distributed") from error
    return distributed
