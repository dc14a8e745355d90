"""The model that the options of a command ask for, and the rows that it computes."""
import sys


def model_hash(args):
    """The SHA-256 of the file of the model that `add_model` asks for."""
    from ..batch.identity import model_digest
    return model_digest(args.model)


def computed(args, sources, done, prepare, compute, state, pool=None, head=None):
    """The rows of the pictures from `done` on, computed here or by the workers of --scheduler.  -> iterator of Row"""
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


def what_computes(args, model, head=None):
    """What the results of `load_model` depend on, for `identity.run_identity`.  -> dict"""
    from ..batch.identity import model_digests
    digests = model_digests(args.model, model.config.to_dict(), model.processor, head)
    return {**digests._asdict(), "engine": args.engine, "dtype": args.dtype, "precision": args.precision}


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
        with cluster.connect(args.scheduler):
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
