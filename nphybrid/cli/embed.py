"""The features of pictures."""
import os
import sys
from functools import partial

from .loading import check_scheduler, compute_rows, load_model, run_options
from .options import add_engine, add_model, add_pictures, find_pictures
from .targets import check_target, refuse_what_is_read

DESCRIPTION = """\
Write one state of the forward pass of each picture, pooled, to a file of features: what the classifier reads, the
class token or the mean of any layer, or a whole state. Until the file is complete, the features are kept in
FEATURES.part, which --resume continues.
"""

EXAMPLES = """\
examples:
  nphybrid embed photos -r -o features.h5
  nphybrid embed photos -r -o features.npy --state blocks.3 --pool mean
"""


def add(verb):
    """Pictures, a model, which features, and where they go."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    add_pictures(verb)
    verb.add_argument("-o", "--output", required=True, metavar="FEATURES",
                      help="a .h5, .npy or .parquet (which needs pyarrow); replaced if it exists")
    verb.add_argument("--append", action="store_true", help="add to the pictures that the file holds")
    verb.add_argument("--state", metavar="NAME", help="the name of a state, as `nphybrid summary` lists them, such as "
                                                      "blocks.3 or stages.1 (default: what the head reads)")
    verb.add_argument("--pool", choices=("token", "mean", "none"),
                      help="what is kept of the state: its class token, the mean of its patches or map, or all of it")
    add_model(verb)
    add_engine(verb)


def run(args):
    """Write the features; a picture that cannot be read costs its own row only."""
    import numpy as np

    from ..api import extractor as states
    from ..batch import progress, resume
    from ..batch.run import preparer
    from ..features import files, writer
    if args.append and args.resume:
        print("usage: --append and --resume exclude each other: an interrupted --append goes on when it is given again",
              file=sys.stderr)
        return 2
    check_target(args, args.output, files.suffix(args.output))
    files.check(args.output)
    model = load_model(args)
    if model.processor is None:
        raise ValueError(f"{args.model} came without an image processor; pictures cannot be prepared for it")
    prepare = preparer(model.processor)
    extractor = states.extractor(model, prepare(np.zeros((64, 64, 3), np.uint8))[None], args.state, args.pool)
    check_scheduler(args)
    new = find_pictures(args)
    refuse_what_is_read(args.output, new)
    depends = {"state": extractor.state, "pool": extractor.pool, **run_options(args, model)}
    manifest = {**depends, "processor": model.processor}
    identity = partial(resume.identity, shape=list(extractor.shape), **depends)
    interrupted = writer.finished(args.output) if args.append or args.resume else None
    held = _held(args, manifest)
    sources = [*(held.names if held else ()), *new]
    if args.resume:
        found = writer.complete(args.output, identity(sources))
    else:
        found = _added(interrupted, new, identity)
    if found is None:
        done, failed = _begun(args, identity(sources), held)
        rows = compute_rows(args, sources, done, prepare, extractor.compute, extractor.state, extractor.pool)
        with writer.writer(args.output, extractor.shape) as write:
            for _ in progress.watched(map(write, rows), len(sources), done, failed, quiet=args.quiet):
                pass
        found = writer.finish(args.output, identity(sources), manifest)
    shape = "x".join(map(str, found.values.shape))
    print(f"{args.output}: {shape} float32, {extractor.state}, pool {extractor.pool}; {len(found.errors):,} of "
          f"{len(found.names):,} pictures failed")
    return min(len(found.errors), 1)


def _held(args, manifest):
    """What the file holds that is to be added to; refused where other features were computed."""
    from ..features import files
    if not args.append or not os.path.exists(args.output):
        return None
    held = files.contents(args.output)
    other = [key for key in manifest if held.manifest.get(key) != manifest[key]]
    if other:
        raise ValueError(f"{args.output} holds features of another {', '.join(other)}; it cannot be added to")
    return held


def _added(interrupted, new, identity):
    """What an --append wrote that was killed in its last step, if it is now given again."""
    if interrupted is None:
        return None
    before = interrupted.names[:len(interrupted.names) - len(new)]
    return interrupted if identity([*before, *new]) == interrupted.manifest["run"] else None


def _begun(args, identity, held):
    """How many pictures are done, how many of them failed."""
    from ..features import writer
    again = args.resume or args.append and writer.holds(args.output, identity)
    if args.append and not again and os.path.exists(writer.part(args.output)) and not args.quiet:
        print(f"nphybrid: {writer.part(args.output)} was of another run, and is begun again", file=sys.stderr)
    done, failed = writer.begun(args.output, identity, again)
    # What the file holds is copied whole: its pictures may be gone by now.
    if held and done < len(held.names):
        writer.begun(args.output, identity)
        done, failed = writer.seed(args.output, held)
    return done, failed
