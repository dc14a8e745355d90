"""The model that the options of a command ask for, and the rows that it computes."""
import hashlib
import json
import sys


def model_hash(args):
    """The SHA-256 of the file of the model that `add_model` asks for."""
    from .. import checkpoint
    from ..checkpoint import hub
    return checkpoint.sha256(hub.resolve(args.model or checkpoint.default_model()))


def computed(args, sources, done, prepare, compute, state, pool=None, head=None):
    """The rows of the pictures from `done` on, computed here or by the workers of --scheduler.  -> iterator of Row"""
    from ..batch import run
    if args.scheduler is None:
        yield from run.compute_rows(sources[done:], prepare, compute, args.batch, done, args.threads)
        return
    from ..batch import cluster
    job = cluster.job(args.model, state, pool, args.batch, head, engine=args.engine, dtype=args.dtype,
                      precision=args.precision, num_threads=args.threads or 1)
    with cluster.connected(args.scheduler) as client:
        if not client.nthreads():
            print(f"nphybrid: {args.scheduler} has no workers yet; waiting …", file=sys.stderr, flush=True)
        yield from cluster.rows(client, sources, job, done)


def what_computes(args, model, head=None):
    """What the answers of `load_model` depend on, for `apps.resume.identity`.  -> dict

    model and head are the SHA-256 of their files, config that of configuration (labels too) and image processor, which
    a folder keeps in other files.
    """
    from ..checkpoint import sha256
    settings = json.dumps([model.config.to_dict(), model.processor], sort_keys=True).encode()
    return {"model": model_hash(args), "head": head and sha256(head), "config": hashlib.sha256(settings).hexdigest(),
            "engine": args.engine, "dtype": args.dtype, "precision": args.precision}


def load_model(args, head=None):
    """The model that `add_model` and `add_arithmetic` ask for, with its own head or another."""
    from ..api.load import load
    from ..checkpoint import default_model
    announce_compilation(args.engine)
    return load(args.model or default_model(), engine=args.engine, dtype=args.dtype, precision=args.precision,
                num_threads=args.threads, head=head)


def check_scheduler(args):
    """Raise what is wrong with --scheduler, before anything is written."""
    if args.scheduler is not None:
        from ..batch import cluster
        with cluster.connected(args.scheduler):
            pass


def announce_compilation(engine):
    """Tell why the first run takes longer."""
    if engine == "numba":
        from ..ops import cache
        if cache.is_cold():
            print("nphybrid: compiling the kernels, this once (about 20 seconds) …", file=sys.stderr, flush=True)


def relabel(model, path):
    """Call the model's classes what a file calls them."""
    from ..labels import from_file
    labels = from_file(path)
    if len(labels) != model.network_config.classes:
        raise ValueError(f"{path} holds {len(labels):,} labels, but the model has {model.network_config.classes:,} classes")
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}
