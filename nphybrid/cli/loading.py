"""Loads the model that the options of a verb name, and computes the rows of pictures with this model."""
import os
import sys


def model_file(args):
    """Return the `identity.ModelFile` of the model that --model names.  Without --model, the bundled model is used."""
    from ..batch.identity import ModelFile
    return ModelFile(args.model)


def load_model(args, head=None):
    """Load the model that the options of `add_model`, `add_engine` and `add_class_names` describe.

    If `head` is given, the classifier in the file `head` replaces the classifier of the model. The ModelFiles of the
    model and of the head are stored in args.files, which `loaded_sha256` and `run_options` read.
    """
    from ..api.load import load
    from ..batch import progress
    from ..batch.identity import model_files
    announce_compilation(args.engine)
    refuse_preset(args.model)
    args.files = model_files(args.model, head)
    with progress.status(f"loading {args.model or 'the bundled model'} …", getattr(args, "quiet", False)):
        model = load(args.files["model"].path, engine=args.engine, dtype=args.dtype, precision=args.precision,
                     num_threads=args.threads, head=head)
    if args.engine == "numba":
        from ..ops import memory
        # Only loading used this memory. Memory that is freed from now on is kept for later arrays.
        memory.give_back_freed_memory()
        memory.keep_freed_memory()
    if args.processor is not None:
        _use_processor(model, args.processor)
    if getattr(args, "class_names", None) is not None:
        relabel(model, args.class_names)
    return model


def _use_processor(model, path):
    """Give a model the image processor at a path.  Raises ValueError if its options are not valid."""
    from ..checkpoint import read_processor
    from ..dialects.processors import spelled_out
    processor = read_processor(path)      # its errors already name the path
    try:
        model.processor = spelled_out(processor, model.config.model_type)
        model.image_processor()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def refuse_preset(model):
    """Raise ValueError if --model names a preset.  A preset is the configuration of a network without weights.

    Raises FileNotFoundError for the name of a published model without its owner.
    """
    from ..config import PRESETS
    if model is None or os.path.exists(model):
        return
    from ..modelfile.published import PUBLISHED
    for found in PUBLISHED:
        if found.source != "google" and model == found.name.rpartition("/")[2]:
            raise FileNotFoundError(f"{model}: no such file or folder. Did you mean {found.name}?")
    if model not in PRESETS:
        return
    known = next((f"such as --model {found.name}" for found in PUBLISHED if found.network == model and found.classes),
                 "but no weights of this network are published")
    raise ValueError(f"{model} is a preset, which has sizes and no weights; expected a file, a folder or owner/name. "
                     f"`nphybrid models` lists published weights, {known}. Only bench and summary accept a preset")


def loaded_sha256(args, what="model") -> str | None:
    """Return the SHA-256 of the file that `load_model` loaded as "model" or "head".

    Returns None if `what` is "head" and no head file was loaded.
    """
    file = args.files[what]
    return file and file.sha256()


def run_options(args, model) -> dict:
    """Return the options and the SHA-256 values on which the rows depend.  `identity.run_identity` needs them."""
    from ..batch.identity import model_digests
    digests = model_digests(args.files["model"], model.config.to_dict(), model.processor, args.files["head"])
    limit = {} if args.max_pixels is None else {"max_pixels": args.max_pixels}
    return {**digests._asdict(), "engine": args.engine, "dtype": model.dtype, "precision": args.precision, **limit}


def relabel(model, path):
    """Replace the class names of a model by the names in a file.

    Raises ValueError if the file does not have one name for each class.
    """
    from ..labels import from_file
    labels, classes = from_file(path), model.network_config.classes
    if len(labels) != classes:
        raise ValueError(f"{path} contains {len(labels):,} labels; expected {classes:,}, one for each class of the "
                         "model")
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}


def announce_compilation(engine):
    """Print a line on stderr before the first kernel is compiled, because the run then takes longer."""
    if engine == "numba":
        from ..batch import progress
        from ..ops import jit

        def announce():
            # This function is called during an operation. `write` raises no error if stderr cannot be written.
            if not jit.COMPILED:
                on_terminal = sys.stderr is not None and sys.stderr.isatty()
                progress.write(f"{progress.CLEAR if on_terminal else ''}nphybrid: compiling kernels, which takes up to "
                               "about 60 seconds …\n")
        jit.before_compiling = announce


def check_scheduler(args):
    """Connect to the Dask scheduler that --scheduler names, so that connection errors are found before the run."""
    if args.scheduler is not None:
        from ..batch import cluster
        with cluster.connect(args.scheduler):
            pass


def compute_rows(args, sources, done, model, prepare, compute, state, pool=None, head=None):
    """Yield a Row for each picture from position `done` on.

    The rows are computed in this process, or with --scheduler by the workers of a Dask cluster.
    `model` is the model that `load_model` returned.
    `prepare` and `compute` have the same meaning as in `batch.run.compute_rows`.
    `state`, `pool` and `head` have the same meaning as in `cluster.job`.
    """
    from ..batch import run
    if args.scheduler is None:
        yield from run.compute_rows(sources[done:], prepare, compute, args.batch, done, args.threads)
        return
    from ..batch import cluster
    processor = None if args.processor is None else model.processor
    job = cluster.job(args.model, state, pool, args.batch, head, args.files, processor, engine=args.engine,
                      dtype=args.dtype, precision=args.precision, num_threads=args.threads or 1)
    with cluster.connect(args.scheduler) as client:
        if not client.nthreads():
            print(f"nphybrid: waiting for workers, because the scheduler {args.scheduler} has no workers "
                  "yet …", file=sys.stderr, flush=True)
        yield from cluster.compute_rows(client, sources, job, done)
