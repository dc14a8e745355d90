"""Your own classes: a head from pictures or features with labels."""
import os

from .common import add_arithmetic, add_format, add_model, check_target, load_model, model_hash, positive, show
from .evaluate import add_known, known


def add(verbs):
    """What to fit, to what, and where the head goes."""
    verb = verbs.add_parser("probe", help="fit a classifier of your own classes to features",
                            description="Fit a linear classifier to what the model's head reads, its strength chosen "
                            "by cross-validation, and print its accuracy on pictures that it was not fitted to. The "
                            "head takes the place of the model's own: from_pretrained(…, head=HEAD.h5).")
    verb.add_argument("action", choices=("fit",), metavar="fit")
    add_known(verb)
    verb.add_argument("-o", "--output", required=True, metavar="HEAD.h5", help="where the head goes")
    verb.add_argument("--method", choices=("logistic", "ridge"), default="logistic",
                      help="logistic regression, or least squares onto -1 and 1, which is the ViT paper's (default "
                           "logistic)")
    verb.add_argument("--folds", type=positive, default=5, metavar="N", help="of cross-validation (default 5)")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of folds (default 0)")
    add_model(verb)
    add_arithmetic(verb)
    add_format(verb)
    return verb


def run(args):
    """Write the head, and print the report."""
    from ..apps import scores, teach
    from ..checkpoint import write_head
    check_target(args.output, ".h5")
    if args.confusion is not None:
        check_target(args.confusion, ".png")
    features, names, failed = _features(args)
    head, report = teach.taught(features, names, args.method, args.folds, args.seed)
    write_head(args.output, head)
    if args.confusion is not None:
        page = scores.confusion_picture(_matrix(report), report["labels"], "What was taken for what")
        scores.save_picture(page, args.confusion)
    show(args, {**report, "failed": failed, "head": args.output}, teach.text(report))
    return int(bool(failed))


def _features(args):
    """Features with the names of their classes, and how many pictures failed."""
    from ..apps import classes, features, progress, teach
    if os.path.isfile(args.images[0]) and args.images[0].endswith(features.SUFFIXES):
        if len(args.images) > 1 or args.labels is None:
            raise ValueError(f"{args.images[0]}: expected one file of features, and --labels for its pictures")
        found = features.read(args.images[0])
        return found, classes.of_file(args.labels, found.paths), 0
    sources, names = known(args)
    found, errors = teach.features_of(load_model(args), model_hash(args), sources, args.batch,
                                      lambda rows: progress.watched(rows, len(sources), quiet=args.quiet))
    return found, [name for i, name in enumerate(names) if i not in errors], len(errors)


def _matrix(report):
    import numpy as np
    return np.array(report["confusion"])
