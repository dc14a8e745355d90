"""Your own classes: a classifier that is fitted to pictures or features with labels."""
import os

from .evaluate import add_known, find_known
from .loading import load_model, loaded_sha256, model_file
from .options import add_engine, add_format, add_model, positive, show
from .targets import check_target

DESCRIPTION = """\
Fit a linear classifier to what the classifier of the model reads, and print its accuracy on pictures that it was
not fitted to. Cross-validation chooses the strength of the regularization. The result replaces the model's own
classifier: `nphybrid classify --head HEAD.h5`, or in Python from_pretrained(…, head="HEAD.h5").
"""

EXAMPLES = """\
examples:
  nphybrid probe fit photos -o head.h5
  nphybrid embed photos -r -o features.h5
  nphybrid probe fit features.h5 --labels labels.csv -o head.h5
"""


def add(verb):
    """What to fit, to what, and where the classifier goes."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("action", choices=("fit",), metavar="fit", help="the only action")
    add_known(verb, "FOLDER_OR_FEATURES",
              "; or one file that `nphybrid embed` wrote (.h5, .npy, .parquet), with --labels for its pictures")
    verb.add_argument("-o", "--output", required=True, metavar="HEAD.h5", help="write the classifier to this file")
    verb.add_argument("--method", choices=("logistic", "ridge"), default="logistic",
                      help="logistic regression, or ridge: least squares onto -1 and 1, as in the ViT paper (default "
                           "logistic)")
    verb.add_argument("--folds", type=positive, default=5, metavar="N",
                      help="how many folds the cross-validation has (default 5, at most one per picture)")
    verb.add_argument("--seed", type=int, default=0, metavar="N",
                      help="the seed of the random folds (default 0)")
    add_model(verb)
    add_engine(verb)
    add_format(verb)


def run(args):
    """Write the classifier, and print the report."""
    from ..checkpoint import write_head
    from ..classifier import scores, teach
    check_target(args, args.output, ".h5")
    if args.confusion is not None:
        check_target(args, args.confusion, ".png")
    files, names, errors = (_read_features if _is_file_of_features(args.images[0]) else _compute_features)(args)
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


def _read_features(args):
    """The features in the file that `nphybrid embed` wrote.

    -> Features, the classes of all pictures in the file, {position: error} of those that failed
    """
    from ..classifier import classes
    from ..features import files
    path = args.images[0]
    if len(args.images) > 1 or args.labels is None:
        raise ValueError(f"{path}: expected one file of features, and --labels for its pictures")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: there is no such file of features")
    contents = files.contents(path)
    features = files.features_of(contents)
    if args.model is not None and (digest := model_file(args).sha256()) != features.model:
        raise ValueError(f"{path} holds features of the model with SHA-256 {features.model}, but the SHA-256 of "
                         f"{args.model} is {digest}")
    return features, classes.of_file(args.labels, contents.names), contents.errors


def _compute_features(args):
    """The features of pictures.  -> as `_read_features`"""
    from ..batch import progress
    from ..classifier import teach
    sources, names = find_known(args)
    # Raises what is wrong with the classes before anything is computed.
    teach.readable_names(names)
    model = load_model(args)
    features, errors = teach.features_of(model, loaded_sha256(args), sources, args.batch,
                                         lambda rows: progress.with_progress(rows, len(sources), quiet=args.quiet))
    return features, names, errors


def _matrix(report):
    import numpy as np
    return np.array(report["confusion"])
