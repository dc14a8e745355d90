"""The verb `classify` prints the labels of pictures."""
import os
import sys

from .loading import check_scheduler, compute_rows, load_model, relabel, run_options
from .options import add_engine, add_format, add_head, add_labels, add_model, add_pictures, find_pictures, positive
from .targets import check_target, refuse_what_is_read

DESCRIPTION = """\
Print the labels of pictures. The rows have the order of the IMAGE arguments. Each row is printed as soon as its labels
are known. In a folder, every file with the suffix of a picture format, for example .jpg or .png, is classified.
The files of a folder are sorted by the bytes of their paths. If a picture cannot be read, its row contains an error,
and the exit code is 1.
"""

EXAMPLES = """\
examples:
  nphybrid classify cat.png
  nphybrid classify photos -r --model google/vit-hybrid-base-bit-384
  nphybrid classify photos -r --format csv -o labels.csv
"""


def add(verb):
    """Add the options of `classify` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    add_pictures(verb)
    add_model(verb)
    add_head(verb)
    add_labels(verb)
    verb.add_argument("--top-k", type=positive, default=5, metavar="K",
                      help="the number of labels printed for each picture (default 5)")
    verb.add_argument("-o", "--output", metavar="FILE",
                      help="write the rows to this file (default: stdout). Without --resume, an existing file is "
                           "replaced. Only one run at a time can write to this file.")
    add_engine(verb)
    add_format(verb, "jsonl", "csv")


def run(args):
    """Print the best labels of each picture.  If a picture cannot be read, its row contains an error."""
    from ..batch import resume
    from ..tensorfile import owned
    if args.resume and (args.output is None or args.format not in resume.FORMATS):
        print("usage: --resume needs --output FILE and --format jsonl or csv", file=sys.stderr)
        return 2
    if args.output is None:
        return _classify(args)
    check_target(args, args.output, "")
    args.output = os.path.realpath(args.output)
    with owned(args.output):
        return _classify(args)


def _classify(args):
    """Compute and write the rows.  Returns the exit code."""
    from ..batch import progress, resume, rows
    from ..batch.inputs import source_name
    from ..batch.pipeline import pipeline
    from ..batch.run import preparer
    check_scheduler(args)
    pipe = pipeline("image-classification", load_model(args, args.head))
    model = pipe.model
    if args.labels is not None:
        relabel(model, args.labels)
    sources = find_pictures(args)
    if args.output is not None:
        refuse_what_is_read(args.output, sources)
    done, start, failed = _begin(args, sources, model)
    alone = len(args.images) == len(sources) == 1 and source_name(sources[0]) == args.images[0]
    found = compute_rows(args, sources, done, preparer(pipe.image_processor), lambda x: model(x).logits, "logits",
                         head=args.head)
    on_terminal = args.output is None and sys.stdout.isatty()
    with rows.writer(args.output, args.format, alone, start) as write:
        for row in progress.with_progress(found, len(sources), done, failed, not on_terminal, args.quiet):
            write(rows.labelled_fields(row, model.config, args.top_k))
            failed += row.error is not None
    if args.output is not None and args.format in resume.FORMATS:
        resume.check_rows(args.output, args.format, len(sources))
    return min(failed, 1)


def _begin(args, sources, model):
    """Create an output file that can be continued.  With --resume, find the complete rows of an existing output file.

    Returns three numbers: how many pictures already have complete rows, how many bytes these rows have, and how many of
    these pictures failed.
    """
    from ..batch import resume
    from ..batch.identity import run_identity
    if args.output is None or args.format not in resume.FORMATS:
        return 0, 0, 0
    run = run_identity(sources, row_format=args.format, top_k=args.top_k, **run_options(args, model))
    return resume.start_rows(args.output, run, args.format, args.resume)
