"""What several verbs share: options, the types of their values, and what is done with them."""
import argparse
import contextlib
import hashlib
import json
import os
import sys

# Those of ops, which would import NumPy.
ENGINES, DTYPES, PRECISIONS = ("numba", "reference"), ("float32", "float64", "bfloat16"), ("highest", "high")


# ---------------------------------------------------------------- options

def add_model(verb):
    """--model, of the verbs that look at pictures, for `load_model`."""
    verb.add_argument("--model", help="a file or folder, or owner/name on the hub (default: the CIFAR-10 "
                                      "model that comes along)")


def add_head(verb):
    """--head, for `load_model`."""
    verb.add_argument("--head", metavar="HEAD.h5", help="a head of `nphybrid probe fit` in the place of the model's")


def add_arithmetic(verb):
    """How to compute, for `load_model`."""
    verb.add_argument("--engine", choices=ENGINES, default="numba")
    verb.add_argument("--dtype", choices=DTYPES, default="float32")
    verb.add_argument("--precision", choices=PRECISIONS, default="highest",
                      help="high: less of float32 where that is faster, on AMX (default highest)")
    verb.add_argument("--threads", type=positive, metavar="N", help="how many threads (default: every core)")


def add_labels(verb):
    """--labels, for `relabel`."""
    verb.add_argument("--labels", metavar="FILE", help="what to call the classes: one name a line, or a JSON list or "
                                                       "object (default: the model's own names)")


def add_format(verb, *more):
    """--format, for `show`; more: what a verb knows beyond text and JSON."""
    verb.add_argument("--format", choices=("text", "json", *more), default="text")


def positive(text):
    """A type of argparse: an int of 1 or more."""
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of 1 or more, below 2**31")
    return int(text)


def add_pictures(verb):
    """Which pictures, and how they are gone through, for `pictures` and `apps.run`."""
    verb.add_argument("images", nargs="+", metavar="IMAGE",
                      help="a file, a folder, a glob, or - for a picture or a list of names on stdin")
    verb.add_argument("-r", "--recursive", action="store_true", help="also the folders in a folder")
    verb.add_argument("--batch", type=positive, default=8, metavar="N",
                      help="how many pictures are computed at once (default 8); no row depends on it")
    verb.add_argument("--resume", action="store_true", help="go on with what an interrupted run has written")
    verb.add_argument("--scheduler", metavar="ADDRESS", help="let the workers of this Dask cluster compute; they must "
                                                             "see the same files")
    verb.add_argument("--quiet", action="store_true", help="no progress and no errors on stderr")


# ---------------------------------------------------------------- what is done with them

def pictures(args):
    """The list that `add_pictures` asks for.  -> list of paths, or bytes for a picture on stdin"""
    from ..apps.inputs import listed
    return listed(args.images, args.recursive, sys.stdin.buffer if "-" in args.images else None)


def model_hash(args):
    """The SHA-256 of the file of the model that `add_model` asks for."""
    from .. import checkpoint, hub
    return checkpoint.sha256(hub.located(args.model or checkpoint.default_model()))


def computed(args, sources, done, prepare, compute, state, pool=None, head=None):
    """The rows of the pictures from `done` on, computed here or by the workers of --scheduler.  -> iterator of Row"""
    from ..apps import run
    if args.scheduler is None:
        yield from run.rows(sources[done:], prepare, compute, args.batch, done, args.threads)
        return
    from ..apps import cluster
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
    from ..api.pipeline import load
    from ..checkpoint import default_model
    announce_compilation(args.engine)
    return load(args.model or default_model(), engine=args.engine, dtype=args.dtype, precision=args.precision,
                num_threads=args.threads, head=head)


def check_scheduler(args):
    """Raise what is wrong with --scheduler, before anything is written."""
    if args.scheduler is not None:
        from ..apps import cluster
        with cluster.connected(args.scheduler):
            pass


def check_target(args, path, suffix):
    """Raise what is wrong with the place of a file that is to be written, before anything is computed."""
    folder = os.path.dirname(os.path.realpath(path))
    if not path.endswith(suffix):
        raise ValueError(f"{path!r} is no name for what is written here; expected one that ends in {suffix}")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{path}: there is no folder {folder}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} cannot be replaced: it is no regular file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: nothing may be written in {folder}")
    images = getattr(args, "images", [getattr(args, "image", None)])
    refuse_what_is_read(path, [*images, args.model, getattr(args, "head", None), getattr(args, "labels", None),
                               "/dev/stdin" if "-" in images else None])


def refuse_what_is_read(path, names):
    """Raise ValueError for a file that is to be written and is one of those that are read.  names: what is no str is
    none of them"""
    if not os.path.exists(path):
        return
    target = os.stat(path)
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            if isinstance(name, str) and os.path.samestat(os.stat(name), target):
                break
    else:
        return
    raise ValueError(f"{path} cannot be replaced: it is what is read")


def announce_compilation(engine):
    """Tell why the first run takes longer."""
    if engine == "numba":
        from ..ops import jit
        if jit.cold():
            print("nphybrid: compiling the kernels, this once (about 20 seconds) …", file=sys.stderr, flush=True)


def relabel(model, path):
    """Call the model's classes what a file calls them."""
    from ..labels import from_file
    labels = from_file(path)
    if len(labels) != model.sizes.classes:
        raise ValueError(f"{path} holds {len(labels):,} labels, but the model has {model.sizes.classes:,} classes")
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}


def show(args, document, text):
    """Print what was found in the format that was asked for: as JSON, or as a text."""
    print(json.dumps(document, indent=2) if args.format == "json" else text)
