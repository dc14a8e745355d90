"""The model that the options of a verb name, and the rows that it computes."""
import os
import sys


class ModelFile:
    """The file or the folder of a model, which must not change between loading and hashing.

    path: where it lies; a name on the Hugging Face hub is downloaded.
    """

    def __init__(self, path):
        from ..checkpoint import hub
        self.path = hub.resolve(path)
        self._loaded = self._weights()

    def sha256(self) -> str:
        """The SHA-256 of the weights, in hex.  Raises FormatError if they changed after this object was made."""
        from .. import checkpoint, tensorfile
        digest = checkpoint.sha256(self.path)
        if self._weights() != self._loaded:
            raise tensorfile.FormatError(f"{self.path} was replaced or written to after it was loaded")
        return digest

    def _weights(self):
        """{file: what changes when the file is replaced or written to}"""
        files = self.path.glob("*.safetensors") if self.path.is_dir() else [self.path]
        states = {file: os.stat(file) for file in files if file.exists()}
        return {file: (each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for file, each in states.items()}


def model_file(args) -> ModelFile:
    """The file of the model that --model names, by default that of the model that comes with nphybrid."""
    from ..checkpoint import default_model
    return ModelFile(args.model or default_model())


def load_model(args, head=None):
    """The model that `add_model` and `add_engine` ask for, with its own classifier or with the one in the file `head`.

    The files are kept in args.files, where `loaded_sha256` finds them.
    """
    from ..api.load import load
    announce_compilation(args.engine)
    args.files = {"model": model_file(args), "head": head and ModelFile(head)}
    return load(args.files["model"].path, engine=args.engine, dtype=args.dtype, precision=args.precision,
                num_threads=args.threads, head=head)


def loaded_sha256(args, what="model") -> str | None:
    """The SHA-256 of the file that `load_model` loaded.  what: "model", or "head", which may be None"""
    file = args.files[what]
    return file and file.sha256()


def run_options(args, model) -> dict:
    """What the answers of a model that `load_model` loaded depend on, for `resume.identity`.

    model and head are the SHA-256 of the loaded files. config is that of the configuration, labels included, and of the
    image processor, which a folder keeps in other files.
    """
    import hashlib
    import json
    settings = json.dumps([model.config.to_dict(), model.processor], sort_keys=True).encode()
    return {"model": loaded_sha256(args), "head": loaded_sha256(args, "head"),
            "config": hashlib.sha256(settings).hexdigest(),
            "engine": args.engine, "dtype": args.dtype, "precision": args.precision}


def relabel(model, path):
    """Give the classes of a model the names in a file.  Raises ValueError if their number differs."""
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
        with cluster.connected(args.scheduler):
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
    with cluster.connected(args.scheduler) as client:
        if not client.nthreads():
            print(f"nphybrid: {args.scheduler} has no workers yet; waiting …", file=sys.stderr, flush=True)
        yield from cluster.rows(client, sources, job, done)
