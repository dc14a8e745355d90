"""The features of pictures."""
import sys

from .loading import check_scheduler, computed, load_model, what_computes
from .options import add_arithmetic, add_model, add_pictures, pictures
from .targets import check_target, refuse_what_is_read


def add(verbs):
    """Pictures, a model, which features, and the file that they are written to."""
    verb = verbs.add_parser("embed", help="write the features of pictures to a file",
                            description="Write one state of the forward pass of each picture, pooled, to a file of "
                            "features: what the model's classifier reads, the class token or the mean of any layer, or "
                            "a whole state. While the command runs, the features are kept in FEATURES.part, from where "
                            "--resume continues.")
    add_pictures(verb)
    verb.add_argument("-o", "--output", required=True, metavar="FEATURES",
                      help="a .h5, .npy or .parquet file (.parquet needs pyarrow); replaced if it exists")
    verb.add_argument("--append", action="store_true", help="add the pictures to those that the file already has")
    verb.add_argument("--state", metavar="NAME", help="the name of a state, as `nphybrid summary` lists them, such as "
                                                      "blocks.3 or stages.1 (default: what the classifier reads)")
    verb.add_argument("--pool", choices=("token", "mean", "none"),
                      help="what is kept of the state: its class token, the mean of its patches or feature map, or "
                           "all of it")
    add_model(verb)
    add_arithmetic(verb)
    return verb


def run(args):
    """Write the features.  A picture that cannot be read becomes a row with an error."""
    from ..batch import progress
    from ..batch.run import preparer_and_extractor
    from ..features import files, writer
    if args.append and args.resume:
        print("usage: --append and --resume exclude each other: to continue an interrupted --append, give it again",
              file=sys.stderr)
        return 2
    check_target(args, args.output, files.suffix(args.output))
    files.check(args.output)
    model = load_model(args)
    prepare, extractor = preparer_and_extractor(model, args.state, args.pool)
    check_scheduler(args)
    new = pictures(args)
    refuse_what_is_read(args.output, new)
    manifest = {"state": extractor.state, "pool": extractor.pool, **what_computes(args, model),
                "processor": model.processor}
    begun = writer.start(args.output, new, extractor.shape, manifest, _mode(args))
    if begun.discarded and not args.quiet:
        print(f"nphybrid: {writer.folder_of(args.output)} was that of another run; it is begun again", file=sys.stderr)
    found = begun.finished
    if found is None:
        rows = computed(args, begun.sources, begun.done, prepare, extractor.compute, extractor.state, extractor.pool)
        with writer.writer(args.output, extractor.shape) as write:
            for _ in progress.with_progress(map(write, rows), len(begun.sources), begun.done, begun.failed,
                                            quiet=args.quiet):
                pass
        found = writer.finish(args.output, begun.run, manifest)
    shape = "x".join(map(str, found.values.shape))
    print(f"{args.output}: {shape} float32, {extractor.state}, pool {extractor.pool}; {len(found.errors):,} of "
          f"{len(found.names):,} pictures failed")
    return min(len(found.errors), 1)


def _mode(args):
    """One of `writer.MODES`."""
    if args.append:
        return "append"
    return "resume" if args.resume else "replace"
