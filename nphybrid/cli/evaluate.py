"""The verb `evaluate` measures the accuracy of a model on pictures whose classes are known."""
from .loading import load_model
from .options import (add_class_names, add_engine, add_format, add_head, add_max_pixels, add_model, add_truth,
                      find_pictures, positive, show, tell_left_out)
from .targets import check_target, refuse_what_is_read

DESCRIPTION = """\
Print the top-1 and top-5 accuracy of a model on all pictures and on the pictures of each class, with 95 % Wilson
confidence intervals. The known class of a picture is given as a label of the model, as the number of a class, or as the
WordNet number of an ImageNet class, such as n01440764.
"""

EXAMPLES = """\
examples:
  nphybrid evaluate photos
  nphybrid evaluate photos --truth labels.csv --model model.h5 --confusion matrix.png
"""


def add(verb):
    """Add the options of `evaluate` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    add_known(verb)
    add_model(verb)
    add_head(verb)
    add_class_names(verb, old_name=False)
    add_engine(verb)
    add_format(verb)


def add_known(verb, metavar="FOLDER", more=""):
    """Add the options that `find_known` reads: pictures and their classes.

    `metavar` is the name of the inputs in the help text. `more` is a text at the end of the help for the inputs.
    """
    verb.add_argument("images", nargs="+", metavar=metavar,
                      help="a folder that contains one folder for each class. With --truth, the inputs can be any "
                           f"files, folders and globs.{more}")
    verb.set_defaults(recursive=True)
    add_truth(verb)
    verb.add_argument("--confusion", metavar="MATRIX.png", help="write a picture of the confusion matrix to this file")
    verb.add_argument("--batch", type=positive, default=8, metavar="N",
                      help="the number of pictures that are computed together (default 8). The answers do not depend "
                           "on --batch.")
    verb.add_argument("--quiet", action="store_true", help="print neither progress nor errors on stderr")
    add_max_pixels(verb)


def run(args):
    """Print the accuracy.

    Pictures that cannot be read are counted and listed, but they do not change the accuracy.
    """
    from ..api.load import CLASSIFIERS
    from ..batch import progress
    from ..classifier import classes, evaluate, scores
    if args.confusion is not None:
        check_target(args, args.confusion, ".png")
    sources, names = find_known(args)
    model = load_model(args, head=args.head)
    if not isinstance(model, tuple(CLASSIFIERS.values())) or not model.network_config.classes:
        raise ValueError(f"found a {type(model).__name__}; expected a model with a classifier. The option --head adds "
                         "a classifier.")
    numbers = classes.class_numbers(names, list(model.config.id2label.values()))
    found = evaluate.evaluate_model(model, model.image_processor(), sources, numbers, args.batch,
                                    lambda rows: progress.with_progress(rows, len(sources), quiet=args.quiet))
    if args.confusion is not None:
        matrix = scores.confusion(found.classes, found.answers[:, 0], len(found.labels))
        scores.save_picture(scores.confusion_picture(matrix, found.labels, "Confusion matrix"), args.confusion)
    show(args, evaluate.document(found), evaluate.text(found))
    return int(bool(found.errors))


def find_known(args):
    """Return the list of pictures that the options of `add_known` name, and the list of their class names."""
    from collections import Counter

    from ..classifier import classes
    if args.truth is None:
        left_out = Counter()
        sources, names = classes.of_folders(args.images, left_out)
        tell_left_out(args, left_out)
    else:
        sources = find_pictures(args)
        names = classes.of_file(args.truth, sources, args.images)
    if args.confusion is not None:
        refuse_what_is_read(args.confusion, sources)
    return sources, names
