"""How many pictures of known classes a model gets right."""
from .loading import load_model
from .options import add_arithmetic, add_format, add_head, add_model, pictures, positive, show
from .targets import check_target, refuse_what_is_read


def add(verbs):
    """Pictures, what they are of, a model, and how to compute it."""
    verb = verbs.add_parser("evaluate", help="count how many pictures of known classes a model gets right",
                            description="Print top-1 and top-5 accuracy with their 95 % intervals (Wilson's), of all "
                            "pictures and of each class. A class is called by a label of the model, or by its number.")
    add_known(verb)
    add_model(verb)
    add_head(verb)
    add_arithmetic(verb)
    add_format(verb)
    return verb


def add_known(verb, metavar="FOLDER", more=""):
    """Pictures whose classes are known, for `known`; more: what else a verb takes in their place."""
    verb.add_argument("images", nargs="+", metavar=metavar,
                      help=f"a folder of folders, one per class; with --labels any files, folders and globs{more}")
    verb.set_defaults(recursive=True)
    verb.add_argument("--labels", metavar="LABELS.csv", help="rows path,label, or a label per picture in their order")
    verb.add_argument("--confusion", metavar="MATRIX.png", help="draw what was taken for what")
    verb.add_argument("--batch", type=positive, default=8, metavar="N",
                      help="how many pictures are computed at once (default 8); no answer depends on it")
    verb.add_argument("--quiet", action="store_true", help="no progress and no errors on stderr")


def run(args):
    """Print the accuracy; a picture that cannot be read is counted and listed, and is neither right nor wrong."""
    from ..api.load import CLASSIFIERS
    from ..batch import progress
    from ..classifier import classes, evaluate, scores
    if args.confusion is not None:
        check_target(args, args.confusion, ".png")
    sources, names = known(args)
    model = load_model(args, head=args.head)
    if not isinstance(model, tuple(CLASSIFIERS.values())) or not model.network_config.classes:
        raise ValueError(f"a {type(model).__name__} without a classifier has no accuracy; give a --head")
    if model.processor is None:
        raise ValueError(f"{args.model} came without an image processor; pictures cannot be prepared for it")
    numbers = classes.class_numbers(names, list(model.config.id2label.values()))
    found = evaluate.evaluate_model(model, model.processor, sources, numbers, args.batch,
                               lambda rows: progress.with_progress(rows, len(sources), quiet=args.quiet))
    if args.confusion is not None:
        matrix = scores.confusion(found.classes, found.answers[:, 0], len(found.labels))
        scores.save_picture(scores.confusion_picture(matrix, found.labels, "What was taken for what"), args.confusion)
    show(args, evaluate.document(found), evaluate.text(found))
    return int(bool(found.errors))


def known(args):
    """The pictures of `add_known`, and the names of their classes."""
    from ..classifier import classes
    if args.labels is None:
        sources, names = classes.of_folders(args.images)
    else:
        sources = pictures(args)
        names = classes.of_file(args.labels, sources)
    if args.confusion is not None:
        refuse_what_is_read(args.confusion, sources)
    return sources, names
