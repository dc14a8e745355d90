"""How many pictures of known classes a model gets right."""
from .loading import load_model
from .options import add_engine, add_format, add_head, add_model, find_pictures, positive, show
from .targets import check_target, refuse_what_is_read

DESCRIPTION = """\
Print the top-1 and top-5 accuracy of a model with 95 % intervals (Wilson's), of all pictures and of each class. A
class is named by a label of the model or by its number.
"""

EXAMPLES = """\
examples:
  nphybrid evaluate photos
  nphybrid evaluate photos --labels labels.csv --model model.h5 --confusion matrix.png
"""


def add(verb):
    """Pictures, their classes, a model, and how to compute it."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    add_known(verb)
    add_model(verb)
    add_head(verb)
    add_engine(verb)
    add_format(verb)


def add_known(verb, metavar="FOLDER", more=""):
    """The options of pictures whose classes are known, for `find_known`.  more: what else a verb takes"""
    verb.add_argument("images", nargs="+", metavar=metavar,
                      help=f"a folder with one folder per class; with --labels, any files, folders and globs{more}")
    verb.set_defaults(recursive=True)
    verb.add_argument("--labels", metavar="LABELS.csv",
                      help="the classes of the pictures: rows path,label, or one label per picture in their order")
    verb.add_argument("--confusion", metavar="MATRIX.png", help="draw the confusion matrix into this file")
    verb.add_argument("--batch", type=positive, default=8, metavar="N",
                      help="how many pictures are computed at once (default 8); the answers do not depend on it")
    verb.add_argument("--quiet", action="store_true", help="print neither progress nor errors on stderr")


def run(args):
    """Print the accuracy; a picture that cannot be read is counted and listed, and is neither right nor wrong."""
    from ..api.load import CLASSIFIERS
    from ..batch import progress
    from ..classifier import classes, evaluate, scores
    if args.confusion is not None:
        check_target(args, args.confusion, ".png")
    sources, names = find_known(args)
    model = load_model(args, head=args.head)
    if not isinstance(model, tuple(CLASSIFIERS.values())) or not model.network_config.classes:
        raise ValueError(f"expected a model with a classifier, found a {type(model).__name__}; --head gives it one")
    numbers = classes.class_numbers(names, list(model.config.id2label.values()))
    found = evaluate.evaluate_model(model, model.image_processor(), sources, numbers, args.batch,
                                    lambda rows: progress.with_progress(rows, len(sources), quiet=args.quiet))
    if args.confusion is not None:
        matrix = scores.confusion(found.classes, found.answers[:, 0], len(found.labels))
        scores.save_picture(scores.confusion_picture(matrix, found.labels, "What was taken for what"), args.confusion)
    show(args, evaluate.document(found), evaluate.text(found))
    return int(bool(found.errors))


def find_known(args):
    """The pictures that the options of `add_known` name.  -> list of pictures, list of the names of their classes"""
    from ..classifier import classes
    if args.labels is None:
        sources, names = classes.of_folders(args.images)
    else:
        sources = find_pictures(args)
        names = classes.of_file(args.labels, sources)
    if args.confusion is not None:
        refuse_what_is_read(args.confusion, sources)
    return sources, names
