"""The verb `classify` prints the labels of pictures."""
import contextlib
import os
import sys

from .loading import check_scheduler, compute_rows, load_model, run_options
from .options import add_class_names, add_engine, add_head, add_model, add_pictures, add_scores, find_pictures
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
  nphybrid classify photos -r -o labels.csv
  nphybrid classify photos -r -o labels.csv --wide --top-k 3 --threshold 0.1
  nphybrid classify photos -r --copy-to sorted --save-drawn drawn
"""


def add(verb):
    """Add the options of `classify` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    add_pictures(verb)
    add_model(verb)
    add_head(verb)
    add_class_names(verb)
    add_scores(verb)
    verb.add_argument("-o", "--output", metavar="FILE",
                      help="write the rows to this file (default: stdout). Without --resume, an existing file is "
                           "replaced. Only one run at a time can write to this file. For jsonl and csv, the settings "
                           "of the run are written to FILE.run.json. --resume needs this file. It can be deleted when "
                           "FILE is complete.")
    verb.add_argument("--wide", action="store_true",
                      help="in a CSV file, write one row for each picture (default: one row for each label)")
    verb.add_argument("--copy-to", metavar="FOLDER",
                      help="copy each picture to FOLDER/LABEL, where LABEL is its first label. Pictures whose labels "
                           "are all below --threshold are copied to FOLDER/no label. With --copy-to and "
                           "--save-drawn, each row of a csv, json or jsonl output also has the paths copy and drawn.")
    verb.add_argument("--save-drawn", metavar="FOLDER",
                      help="write a copy of each picture with its labels and scores below it. For --copy-to and "
                           "--save-drawn, FOLDER must be new or empty. The pictures themselves do not change.")
    add_engine(verb)
    verb.add_argument("--format", choices=("text", "json", "jsonl", "csv"),
                      help="the format of the output (default: the format that the suffix of -o names: .csv, .json, "
                           ".jsonl or .txt; without a suffix and on stdout text)")
    verb.set_defaults(refuse=verb.error)


def run(args):
    """Print the best labels of each picture.  If a picture cannot be read, its row contains an error."""
    from ..tensorfile import owned
    _choose_format(args)
    _check_folders(args)
    if args.output is None:
        return _classify(args)
    check_target(args, args.output, "")
    args.output = os.path.realpath(args.output)
    with owned(args.output):
        return _classify(args)


def _choose_format(args):
    """Set args.format, and refuse options that do not fit the format."""
    from ..batch import resume, rows
    if args.output == "-":
        args.refuse("argument -o/--output: found -; expected the name of a file. Without -o, the labels are printed.")
    try:
        args.format = args.format or rows.format_of(args.output)
    except ValueError as error:
        args.refuse(f"argument -o/--output: {error}")
    if args.resume and (args.output is None or args.format not in resume.FORMATS):
        args.refuse("--resume needs --output FILE and --format jsonl or csv")
    if args.wide and args.format != "csv":
        args.refuse("--wide needs --format csv, or --output FILE.csv")


def _check_folders(args):
    """Raise OSError or ValueError if the folders for the copies of pictures cannot be used.

    The paths of the folders are replaced by absolute paths, because the identity of the run contains them. With
    --resume, `_begin` checks whether the folders are empty.
    """
    from ..batch import copies
    args.copy_to, args.save_drawn = (folder and os.path.realpath(folder) for folder in (args.copy_to, args.save_drawn))
    folders = _folders(args)
    if len(folders) > len(set(folders)):
        raise ValueError(f"{args.copy_to} is the folder of both --copy-to and --save-drawn; expected two folders")
    for folder in [] if args.resume else folders:
        try:
            copies.check_folder(folder)
        except FileExistsError as error:
            raise FileExistsError(f"{error}{_way_to_continue(args, folder)}") from None


def _way_to_continue(args, folder):
    """Return the end of a message about a folder of copies: how the run that wrote these copies is continued."""
    from ..checkpoint import read_json
    with contextlib.suppress(OSError, ValueError):
        found = read_json(f"{os.path.realpath(args.output or '')}.run.json")
        if folder in (found.get("copy_to"), found.get("save_drawn")):
            return ". The same command with --resume continues the run that wrote it"
    return ""


def _check_threshold(args, model):
    """Refuse a --threshold that no score can reach, or that every score reaches.  Logits can be any number."""
    from ..api.scores import scoring
    function = args.function_to_apply or scoring(model.config)
    if args.threshold is not None and function != "none" and not 0 <= args.threshold <= 1:
        args.refuse(f"argument --threshold: found {args.threshold:g}; the scores of {function} are between 0 and 1")


def _folders(args):
    """Return the folders for the copies of pictures."""
    return [folder for folder in (args.copy_to, args.save_drawn) if folder is not None]


def _classify(args):
    """Compute and write the rows.  Returns the exit code."""
    from ..batch import copies, progress, resume, rows
    from ..batch.inputs import source_name
    from ..batch.pipeline import pipeline
    from ..batch.run import preparer
    check_scheduler(args)
    pipe = pipeline("image-classification", load_model(args, args.head))
    model = pipe.model
    _check_threshold(args, model)
    is_bundled = args.model is None and args.head is None and args.class_names is None
    if is_bundled and not args.quiet and sys.stderr.isatty():
        names = list(model.config.id2label.values())
        progress.write(f"nphybrid: the bundled model knows only {len(names)} classes: {', '.join(names)}. "
                       "`nphybrid models` lists other models\n")
    sources = find_pictures(args)
    if args.output is not None:
        refuse_what_is_read(args.output, sources)
    wide = min(args.top_k, model.config.num_labels) if args.wide else 0
    more = ["copy"] * (args.copy_to is not None) + ["drawn"] * (args.save_drawn is not None)
    columns = rows.columns(wide, more)
    for folder in _folders(args):
        copies.refuse_inputs(folder, args.images, sources, args.recursive)
        copies.refuse_pipes(sources)
    done, start, failed = _begin(args, sources, model, columns)
    copiers = _copiers(args, sources, model)
    alone = len(args.images) == len(sources) == 1 and source_name(sources[0]) == args.images[0]
    found = compute_rows(args, sources, done, model, preparer(pipe.image_processor), lambda x: model(x).logits,
                         "logits", head=args.head)
    can_resume = args.output is not None and args.format in resume.FORMATS
    on_terminal = args.output is None and sys.stdout.isatty()
    go_on = "; the same command with --resume goes on" if can_resume else ""
    if args.output is not None and not can_resume:
        go_on = f"; only a jsonl or csv file can be continued, and {args.output} is {args.format}"
    not_copied = 0

    def tell(text):
        if not args.quiet:
            progress.write(f"nphybrid: {rows.one_line(text)}\n")
    with rows.writer(args.output, args.format, alone, start, wide, more) as write:
        def store(row):
            """Write the copies of a picture, and its row."""
            nonlocal not_copied
            fields = rows.labelled_fields(row, model.config, args.top_k, args.function_to_apply, args.threshold)
            # The copies are written before the row. So --resume writes the copies of all pictures without a row.
            for column, copy in copiers.items() if row.error is None else ():
                try:
                    fields[column] = copy(row, fields["labels"])
                except (OSError, ValueError) as error:
                    not_copied += 1
                    tell(f"no copy of {source_name(row.source)}: {error}")
            write(fields)
            return row
        # `store` runs inside of with_progress, which counts the pictures if Ctrl-C interrupts it.
        for row in progress.with_progress(map(store, found), len(sources), done, failed, not on_terminal, args.quiet,
                                          go_on):
            failed += row.error is not None
    if can_resume:
        resume.check_rows(args.output, args.format, len(sources), columns)
    if not_copied:
        tell(f"copies that could not be written: {not_copied:,}")
    return min(failed + not_copied, 1)


def _copiers(args, sources, model):
    """Return {column: function} with the functions that write copies of a picture.

    The arguments of a function are a Row and its labels. The function returns the path of the copy.
    """
    from ..batch import copies
    copiers = {}
    if args.copy_to is not None:
        copiers["copy"] = copies.sorted_copies(args.copy_to, sources, model.config.id2label.values())
    if args.save_drawn is not None:
        from ..explain.labelled import drawn_copies
        copiers["drawn"] = drawn_copies(args.save_drawn, sources)
    return copiers


def _begin(args, sources, model, columns):
    """Create an output file that can be continued.  With --resume, find the complete rows of an existing output file.

    Returns three numbers: how many pictures already have complete rows, how many bytes these rows have, and how many of
    these pictures failed.
    """
    from ..batch import copies, resume
    from ..batch.identity import run_identity
    if args.output is None or args.format not in resume.FORMATS:
        return 0, 0, 0
    run = run_identity(sources, row_format="wide csv" if args.wide else args.format, top_k=args.top_k,
                       function_to_apply=args.function_to_apply, threshold=args.threshold, copy_to=args.copy_to,
                       save_drawn=args.save_drawn, **run_options(args, model))
    # Files in the folders are replaced only if the same run wrote them.
    if args.resume and not resume.is_continued(args.output, run):
        for folder in _folders(args):
            copies.check_folder(folder)
    return resume.start_rows(args.output, run, args.format, args.resume, columns)
