"""The features of pictures."""
import sys

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
                      help="a .h5, .npy or .parquet file (.parquet needs pyarrow); replaced if it exists")
    verb.add_argument("--append", action="store_true", help="add the pictures to those that the file already has")
    verb.add_argument("--state", metavar="NAME", help="the name of a state, as `nphybrid summary` lists them, such as "
                                                      "blocks.3 or stages.1 (default: what the classifier reads)")
    verb.add_argument("--pool", choices=("token", "mean", "none"),
                      help="what is kept of the state: its class token, the mean of its patches or feature map, or "
                           "all of it")
    add_model(verb)
    add_engine(verb)


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
    new = find_pictures(args)
    refuse_what_is_read(args.output, new)
    manifest = {"state": extractor.state, "pool": extractor.pool, **run_options(args, model),
                "processor": model.processor}
    begun = writer.start(args.output, new, extractor.shape, manifest, _mode(args))
    if begun.discarded and not args.quiet:
        print(f"nphybrid: {writer.folder_of(args.output)} was that of another run; it is begun again", file=sys.stderr)
    found = begun.finished
    if found is None:
        rows = compute_rows(args, begun.sources, begun.done, prepare, extractor.compute, extractor.state,
                            extractor.pool)
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
