"""The verb `embed` writes the features of pictures to a file."""
import sys

from .loading import check_scheduler, compute_rows, load_model, run_options
from .options import add_engine, add_model, add_pictures, find_pictures, say
from .targets import check_target, refuse_what_is_read

DESCRIPTION = """\
Write the features of pictures to a file. The features are one state of the forward pass. A state is a named
intermediate array. By default, the features are the input of the classifier. --state selects another state. --pool
chooses what is kept of the state: the class token, the mean or the whole state. An unfinished run keeps its features in
the folder FEATURES.part. --resume continues this run.
"""

EXAMPLES = """\
examples:
  nphybrid embed photos -r -o features.h5
  nphybrid embed photos -r -o features.npy --state blocks.3 --pool mean
"""


def add(verb):
    """Add the options of `embed` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    add_pictures(verb)
    verb.add_argument("-o", "--output", required=True, metavar="FEATURES",
                      help="write the features to this .h5, .npy or .parquet file. Without --append and --resume, an "
                           "existing file is replaced. Only one run at a time can write a file. A .parquet file needs "
                           "the package pyarrow. In an .h5 file, `paths` has the bytes of all paths, with a NUL byte "
                           "after each path; in Python, nphybrid.features.files.read(FEATURES).paths is the list.")
    verb.add_argument("--append", action="store_true", help="add the features of the pictures to an existing file")
    verb.add_argument("--state", metavar="NAME",
                      help="the name of a state, for example blocks.3 or stages.1 (default: the input of the "
                           "classifier). `nphybrid summary` lists the names.")
    verb.add_argument("--pool", choices=("token", "mean", "none"),
                      help="the pooling of the state. --pool token keeps the class token. --pool mean computes the "
                           "mean over the patches or over the feature map. --pool none keeps the whole state.")
    add_model(verb)
    add_engine(verb)
    verb.set_defaults(refuse=verb.error)


def run(args):
    """Write the features.  If a picture cannot be read, its row in the file contains an error."""
    from ..features import files
    from ..tensorfile import owned
    if args.append and args.resume:
        args.refuse("--append and --resume cannot be combined. To continue an interrupted --append, repeat its "
                    "command.")
    check_target(args, args.output, files.suffix(args.output))
    files.check(args.output)
    with owned(args.output):
        return _embed(args)


def _embed(args):
    """Compute and write the features.  Returns the exit code."""
    from ..batch import progress
    from ..batch.run import preparer_and_extractor
    from ..features import writer
    from ..text import name_list
    model = load_model(args)
    prepare, extractor = preparer_and_extractor(model, args.state, args.pool)
    check_scheduler(args)
    new = find_pictures(args)
    refuse_what_is_read(args.output, new)
    manifest = {"state": extractor.state, "pool": extractor.pool, **run_options(args, model),
                "processor": model.processor}
    begun = writer.start(args.output, new, extractor.shape, manifest, _mode(args))
    if begun.discarded and not args.quiet:
        print(f"nphybrid: the folder {writer.folder_of(args.output)} belonged to another run and was "
              "replaced by an empty folder", file=sys.stderr)
    if begun.repeated and not args.quiet:
        print(f"nphybrid: {args.output} already has {len(begun.repeated):,} of {len(new):,} pictures, which are added "
              f"a second time: {name_list(begun.repeated, 3)}", file=sys.stderr)
    found = begun.finished
    if found is None:
        rows = compute_rows(args, begun.sources, begun.done, model, prepare, extractor.compute, extractor.state,
                            extractor.pool)
        go_on = f"; the same command{'' if args.append else ' with --resume'} goes on"
        with writer.writer(args.output, extractor.shape) as write:
            for _ in progress.with_progress(map(write, rows), len(begun.sources), begun.done, begun.failed,
                                            quiet=args.quiet, go_on=go_on):
                pass
        found = writer.finish(args.output, begun.run, manifest)
    shape = "x".join(map(str, found.values.shape))
    say(f"{args.output}: {shape} float32, {extractor.state}, pool {extractor.pool}; {len(found.errors):,} of "
        f"{len(found.names):,} pictures failed")
    return min(len(found.errors), 1)


def _mode(args):
    """Return one of `writer.MODES`."""
    if args.append:
        return "append"
    return "resume" if args.resume else "replace"
