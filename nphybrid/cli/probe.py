"""Your own classes: a head from pictures or features with labels."""
import os

from .evaluate import add_known, known
from .loading import load_model, model_hash
from .options import add_arithmetic, add_format, add_model, positive, show
from .targets import check_target


def add(verbs):
    """What to fit, to what, and where the head goes."""
    verb = verbs.add_parser("probe", help="fit a classifier of your own classes to features",
                            description="Fit a linear classifier to what the model's head reads, its strength chosen "
                            "by cross-validation, and print its accuracy on pictures that it was not fitted to. The "
                            "head takes the place of the model's own: from_pretrained(…, head=HEAD.h5).")
    verb.add_argument("action", choices=("fit",), metavar="fit")
    add_known(verb, "FOLDER_OR_FEATURES",
              "; or one file that `nphybrid embed` wrote (.h5, .npy, .parquet), with --labels for its pictures")
    verb.add_argument("-o", "--output", required=True, metavar="HEAD.h5", help="where the head goes")
    verb.add_argument("--method", choices=("logistic", "ridge"), default="logistic",
                      help="logistic regression, or least squares onto -1 and 1, which is the ViT paper's (default "
                           "logistic)")
    verb.add_argument("--folds", type=positive, default=5, metavar="N",
                      help="of cross-validation (default 5, at most one per picture)")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of folds (default 0)")
    add_model(verb)
    add_arithmetic(verb)
    add_format(verb)
    return verb


def run(args):
    """Write the head, and print the report."""
    from ..checkpoint import write_head
    from ..classifier import scores, teach
    check_target(args, args.output, ".h5")
    if args.confusion is not None:
        check_target(args, args.confusion, ".png")
    files, names, errors = (_of_file if _is_file_of_features(args.images[0]) else _of_pictures)(args)
    names = teach.readable_names(names, errors)
    head, report = teach.fit_head(files, names, args.method, args.folds, args.seed)
    write_head(args.output, head)
    if args.confusion is not None:
        page = scores.confusion_picture(_matrix(report), report["labels"], "What was taken for what")
        scores.save_picture(page, args.confusion)
    show(args, {**report, "failed": len(errors), "head": args.output}, teach.text(report))
    return int(bool(errors))


def _is_file_of_features(path):
    from ..features.files import SUFFIXES
    return path.endswith(SUFFIXES) and not os.path.isdir(path)


def _of_file(args):
    """Features that `nphybrid embed` wrote, the classes of its whole list, and the errors of those that failed."""
    from ..classifier import classes
    from ..features import files
    path = args.images[0]
    if len(args.images) > 1 or args.labels is None:
        raise ValueError(f"{path}: expected one file of features, and --labels for its pictures")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: there is no such file of features")
    found = files.contents(path)
    values = files.features_of(found)
    if args.model is not None and model_hash(args) != values.model:
        raise ValueError(f"{path} holds features of the model with SHA-256 {values.model}, but {args.model} has "
                         f"{model_hash(args)}")
    return values, classes.of_file(args.labels, found.names), found.errors


def _of_pictures(args):
    """The features of pictures, the classes of all of them, and the errors of those that failed."""
    from ..batch import progress
    from ..classifier import teach
    sources, names = known(args)
    # Raises what is wrong with the classes before anything is computed.
    teach.readable_names(names)
    values, errors = teach.features_of(load_model(args), model_hash(args), sources, args.batch,
                                       lambda rows: progress.with_progress(rows, len(sources), quiet=args.quiet))
    return values, names, errors


def _matrix(report):
    import numpy as np
    return np.array(report["confusion"])
