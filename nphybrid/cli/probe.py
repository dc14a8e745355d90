"""The verb `probe` fits a classifier for your own classes to labelled pictures or features."""
import os
import sys

from .evaluate import add_known, find_known
from .loading import load_model, loaded_sha256, model_file
from .options import add_engine, add_format, add_model, positive, show, whole
from .targets import check_target

DESCRIPTION = """\
Fit a linear classifier. It receives the same features as the classifier of the model. Cross-validation chooses the
strength of the regularization. The printed accuracy is measured on pictures that were not used for the fit. The new
classifier replaces the classifier of the model in `nphybrid classify --head HEAD.h5`, and in Python with
from_pretrained(…, head="HEAD.h5").
"""

EXAMPLES = """\
examples:
  nphybrid probe fit photos -o head.h5
  nphybrid embed photos -r -o features.h5
  nphybrid probe fit features.h5 -o head.h5
"""


def add(verb):
    """Add the options of `probe` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("action", choices=("fit",), metavar="fit", help="the only action")
    add_known(verb, "FOLDER_OR_FEATURES",
              " One .h5, .npy or .parquet file that `nphybrid embed` wrote is also accepted. Without --truth, the "
              "classes are the folders of its pictures.")
    verb.add_argument("-o", "--output", required=True, metavar="HEAD.h5", help="write the classifier to this file")
    verb.add_argument("--method", choices=("logistic", "ridge"), default="logistic",
                      help="logistic regression or ridge regression (default logistic). As in the ViT paper, ridge "
                           "regression fits the targets -1 and 1 by least squares.")
    verb.add_argument("--folds", type=positive, default=5, metavar="N",
                      help="the number of folds of the cross-validation (default 5). If there are fewer than N "
                           "pictures, each picture is one fold.")
    verb.add_argument("--seed", type=whole, default=0, metavar="N",
                      help="the seed of the random division into folds (default 0)")
    add_model(verb)
    add_engine(verb)
    add_format(verb)
    verb.set_defaults(refuse=verb.error)


def run(args):
    """Fit and write the classifier, and print the report."""
    from ..batch import progress
    from ..checkpoint import write_head
    from ..classifier import scores, teach
    if args.folds < 2:
        args.refuse(f"argument --folds: found {args.folds}; expected two folds or more")
    check_target(args, args.output, ".h5")
    if args.confusion is not None:
        check_target(args, args.confusion, ".png")
    files, names, errors = (_read_features if _is_file_of_features(args.images[0]) else _compute_features)(args)
    names = teach.readable_names(names, errors)
    with progress.status("fitting the classifier …", args.quiet):
        head, report = teach.fit_head(files, names, args.method, args.folds, args.seed)
    write_head(args.output, head)
    if args.confusion is not None:
        page = scores.confusion_picture(_matrix(report), report["labels"], "Confusion matrix of the cross-validation")
        scores.save_picture(page, args.confusion)
    show(args, {**report, "failed": len(errors), "head": args.output}, teach.text(report))
    return int(bool(errors))


def _is_file_of_features(path):
    from ..features.files import SUFFIXES
    return path.endswith(SUFFIXES) and not os.path.isdir(path)


def _read_features(args):
    """Read the features from a file that `nphybrid embed` wrote.

    Returns three values: the Features, the class of every picture in the file, and the errors as {position: error}.
    """
    from ..batch.rows import one_line
    from ..classifier import classes
    from ..features import files
    path = args.images[0]
    if len(args.images) > 1:
        raise ValueError(f"{path} is a feature file; expected only one input")
    if args.processor is not None:
        raise ValueError(f"{path} is a feature file, whose pictures are already prepared; expected no --processor")
    if not os.path.exists(path):
        raise FileNotFoundError(f"the feature file {path} does not exist")
    contents = files.contents(path)
    features = files.features_of(contents)
    if args.model is not None and (digest := model_file(args).sha256()) != features.model:
        raise ValueError(f"{path} contains features of a model with SHA-256 {features.model}; expected {digest}, the "
                         f"SHA-256 of {args.model}")
    if args.truth is not None:
        names = classes.of_file(args.truth, contents.names)
    else:
        try:
            names = classes.of_paths(contents.names)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if not args.quiet:
        for _, message in sorted(contents.errors.items()):
            print(f"nphybrid: {one_line(message)}", file=sys.stderr)
    return features, names, contents.errors


def _compute_features(args):
    """Compute the features of the given pictures.  Returns the same three values as `_read_features`."""
    from ..batch import progress
    from ..classifier import teach
    sources, names = find_known(args)
    # Errors in the classes are raised here, before anything is computed.
    teach.readable_names(names)
    model = load_model(args)
    features, errors = teach.features_of(model, loaded_sha256(args), sources, args.batch,
                                         lambda rows: progress.with_progress(rows, len(sources), quiet=args.quiet))
    return features, names, errors


def _matrix(report):
    import numpy as np
    return np.array(report["confusion"])
