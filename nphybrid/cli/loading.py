"""Loads the model that the options of a verb name, and computes its rows."""
import sys


def model_file(args):
    """The `identity.ModelFile` that --model names, by default that of the model that comes with nphybrid."""
    from ..batch.identity import ModelFile
    return ModelFile(args.model or None)


def load_model(args, head=None):
    """The model that `add_model` and `add_engine` ask for, with its own classifier or with the one in the file `head`.

    The files are kept in args.files, where `loaded_sha256` finds them.
    """
    from pathlib import Path

    from ..api.load import load
    from ..batch.identity import ModelFile
    announce_compilation(args.engine)
    # A str could also be a name on the hub; a head is always a file.
    args.files = {"model": model_file(args), "head": head and ModelFile(Path(head))}
    return load(args.files["model"].path, engine=args.engine, dtype=args.dtype, precision=args.precision,
                num_threads=args.threads, head=head)


def loaded_sha256(args, what="model") -> str | None:
    """The SHA-256 of the file that `load_model` loaded.  what: "model", or "head", which may be None"""
    file = args.files[what]
    return file and file.sha256()


def run_options(args, model) -> dict:
    """The options and files on which the rows of a loaded model depend, for `identity.run_identity`.  -> dict"""
    from ..batch.identity import model_digests
    digests = model_digests(args.files["model"], model.config.to_dict(), model.processor, args.files["head"])
    return {**digests._asdict(), "engine": args.engine, "dtype": args.dtype, "precision": args.precision}


def relabel(model, path):
    """Replace the names of a model's classes by those in a file.

    Raises ValueError if the file does not have one name for each class.
    """
    from ..labels import from_file
    labels, classes = from_file(path), model.network_config.classes
    if len(labels) != classes:
        raise ValueError(f"{path} holds {len(labels):,} labels, but the model has {classes:,} classes")
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}


def announce_compilation(engine):
    """Say on stderr why the first run takes longer."""
    if engine == "numba":
        from ..ops import cache
        if cache.is_cold():
            print("nphybrid: compiling the kernels, this once (about 20 seconds) …", file=sys.stderr, flush=True)


def check_scheduler(args):
    """Connect to --scheduler, to raise what is wrong with it before anything is written."""
    if args.scheduler is not None:
        from ..batch import cluster
        with cluster.connect(args.scheduler):
            pass


def compute_rows(args, sources, done, prepare, compute, state, pool=None, head=None):
    """The rows of the pictures from `done` on, computed here or by the workers of --scheduler.  -> iterator of Row

    prepare, compute: as in `batch.run.compute_rows`. state, pool, head: what a worker computes, as in `cluster.job`.
    """
    from ..batch import run
    if args.scheduler is None:
        yield from run.compute_rows(sources[done:], prepare, compute, args.batch, done, args.threads)
        return
    from ..batch import cluster
    job = cluster.job(args.model, state, pool, args.batch, head, engine=args.engine, dtype=args.dtype,
                      precision=args.precision, num_threads=args.threads or 1)
    with cluster.connect(args.scheduler) as client:
        if not client.nthreads():
            print(f"nphybrid: {args.scheduler} has no workers yet; waiting …", file=sys.stderr, flush=True)
        yield from cluster.compute_rows(client, sources, job, done)
