"""The features of pictures."""
import os
import sys
from functools import partial

from .loading import check_scheduler, computed, load_model, what_computes
from .options import add_arithmetic, add_model, add_pictures, pictures
from .targets import check_target, refuse_what_is_read


def add(verbs):
    """Pictures, a model, which features, and where they go."""
    verb = verbs.add_parser("embed", help="write the features of pictures to a file",
                            description="Write one state of the walk of each picture, pooled, to a file of features: "
                            "what the head reads, the class token or the mean of any layer, or a whole state. While it "
                            "runs, they are kept in FEATURES.part, from where --resume goes on.")
    add_pictures(verb)
    verb.add_argument("-o", "--output", required=True, metavar="FEATURES",
                      help="a .h5, .npy or .parquet (which needs pyarrow); replaced if it exists")
    verb.add_argument("--append", action="store_true", help="add to the pictures that the file holds")
    verb.add_argument("--state", metavar="NAME", help="the name of a state, as `nphybrid summary` lists them, such as "
                                                      "blocks.3 or stages.1 (default: what the head reads)")
    verb.add_argument("--pool", choices=("token", "mean", "none"),
                      help="what is kept of the state: its class token, the mean of its patches or map, or all of it")
    add_model(verb)
    add_arithmetic(verb)
    return verb


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
    new = pictures(args)
    refuse_what_is_read(args.output, new)
    depends = {"state": extractor.state, "pool": extractor.pool, **what_computes(args, model)}
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
        rows = computed(args, sources, done, prepare, extractor.compute, extractor.state, extractor.pool)
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
