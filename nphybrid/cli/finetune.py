"""The verb `finetune` trains a model for your own classes."""
import argparse
import os
import sys

from .evaluate import find_known
from .loading import load_model, loaded_sha256
from .options import add_engine, add_format, add_max_pixels, add_model, add_truth, positive, show, tell_left_out, whole
from .targets import check_target

# The choices and defaults of training.settings. They are repeated here, so that --help does not import NumPy.
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "linear", "cosine")
AUGMENTATIONS = ("crop-flip", "crop", "none")

DESCRIPTION = """\
Train a model for your own classes. First, a classifier is fitted as `nphybrid probe` does. Then the weights are trained
with the cross-entropy loss. After each epoch, the accuracy on the validation pictures is measured. The weights of the
best epoch are written to MODEL.h5. The log, the curves and the saved epochs are in the folder MODEL.h5.run. The
defaults are those of run_image_classification.py in transformers, except the learning rate: with 1e-4, the bundled
model learned the digits of MNIST better than with 5e-5.
"""

EXAMPLES = """\
examples:
  nphybrid finetune photos -o model.h5
  nphybrid finetune photos -o model.h5 --train last:2 --epochs 10 --learning-rate 3e-4
  nphybrid finetune photos -o model.h5 --resume
"""


def add(verb):
    """Add the options of `finetune` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("images", nargs="+", metavar="FOLDER",
                      help="a folder that contains one folder for each class. With --truth, the inputs can be any "
                           "files, folders and globs.")
    verb.add_argument("-o", "--output", required=True, metavar="MODEL.h5", help="write the model to this file")
    add_truth(verb)
    verb.add_argument("--validation", metavar="FOLDER|SHARE", default="0.2",
                      help="the validation pictures: a folder like FOLDER, or the share of the pictures that is held "
                           "out (default 0.2). With 0, the last epoch is the result.")
    verb.add_argument("--resume", action="store_true",
                      help="continue an interrupted run after its last whole epoch. The result has the same bytes as "
                           "without the interruption.")
    verb.add_argument("--max-images", type=positive, metavar="N", help="use only N pictures, chosen at random")
    _add_settings(verb)
    verb.add_argument("--quiet", action="store_true", help="print neither progress nor errors on stderr")
    add_max_pixels(verb)
    verb.set_defaults(recursive=True, confusion=None, refuse=verb.error)
    add_model(verb)
    add_engine(verb)
    add_format(verb)


def _add_settings(verb):
    """Add an option for each field of training.Settings."""
    verb.add_argument("--epochs", type=positive, default=3, metavar="N", help="the number of epochs (default 3)")
    verb.add_argument("--learning-rate", type=_number, default=1e-4, metavar="X",
                      help="the largest learning rate (default 1e-4)")
    verb.add_argument("--batch", type=positive, default=8, metavar="N",
                      help="the number of pictures that are computed together (default 8)")
    verb.add_argument("--accumulate", type=positive, default=1, metavar="N",
                      help="the number of batches whose gradients are added up for one step (default 1)")
    verb.add_argument("--train", default="all", metavar="PART",
                      help="the weights that are trained: all (default), head, or last:N for the last N blocks of the "
                           "encoder and the head")
    verb.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw",
                      help="AdamW (default), or SGD with momentum 0.9")
    verb.add_argument("--schedule", choices=SCHEDULES, default="linear",
                      help="how the learning rate changes after the warm-up (default linear, down to 0)")
    verb.add_argument("--warmup", type=whole, default=0, metavar="N",
                      help="the number of steps in which the learning rate rises from 0 (default 0)")
    verb.add_argument("--weight-decay", type=_number, default=0.0, metavar="X",
                      help="the weight decay of the kernels of linear layers and convolutions (default 0)")
    verb.add_argument("--clip", type=_number, default=1.0, metavar="X",
                      help="the largest norm of all gradients together (default 1). 0 means no limit.")
    verb.add_argument("--smoothing", type=_number, default=0.0, metavar="X", help="the label smoothing (default 0)")
    verb.add_argument("--average", type=_number, default=0.0, metavar="DECAY",
                      help="use an exponential moving average of the weights with this decay, for example 0.998 "
                           "(default 0: no average)")
    verb.add_argument("--augment", choices=AUGMENTATIONS, default="crop-flip",
                      help="how the training pictures are changed: random crops and mirroring (crop-flip, the "
                           "default), only random crops, or no change. Mirrored letters and digits are wrong, so use "
                           "crop or none for them.")
    verb.add_argument("--seed", type=whole, default=42, metavar="N",
                      help="the seed of all random choices (default 42)")


def run(args):
    """Train the model, write it, and print the result."""
    from ..tensorfile import owned
    from ..training import Settings
    try:
        args.settings = Settings(**{name: getattr(args, name) for name in Settings._fields}).checked()
        args.validation = _validation(args.validation)
    except ValueError as error:
        args.refuse(str(error))
    check_target(args, args.output, ".h5")
    args.output = os.path.realpath(args.output)
    args.folder = f"{args.output}.run"
    with owned(args.output):              # the folder is owned by training.finetune
        try:
            return _finetune(args)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted. The same command with --resume continues after the last epoch in "
                                    f"{args.folder}.") from None


def _finetune(args):
    from ..batch import progress
    from ..batch.identity import run_identity
    from ..classifier import scores
    from ..training import finetune
    sources, names = _pictures(args)
    held_out = args.validation if isinstance(args.validation, float) else _held_out(args)
    others = [] if isinstance(held_out, float) else held_out[0]
    model = load_model(args)
    identity = run_identity([*sources, *others], validation=args.validation, model=loaded_sha256(args),
                            engine=args.engine, dtype=model.dtype, processor=model.processor)

    def watched(rows):
        return progress.with_progress(rows, len(sources) + len(others), quiet=args.quiet)
    with _Progress(args) as show_result:
        found = finetune(model, sources, names, args.settings, held_out, folder=args.folder, identity=identity,
                         resume=args.resume, watch=show_result, watched=watched)
    best, epochs = found.best, args.settings.epochs
    made = {**args.settings._asdict(), "model": identity["model"], "epoch": best.epoch}
    found.model.save(args.output, source={"fine-tuned": made})
    labels = list(found.model.config.id2label.values())
    document = {"model": args.output, "epoch": best.epoch, "epochs": epochs, "failed": len(found.errors),
                "labels": labels, "validation_loss": best.loss, **scores.accuracy_fields(best.right, best.count)}
    text = f"{args.output}: {len(labels)} classes, epoch {best.epoch} of {epochs}"
    if best.count:
        accuracy = scores.accuracy_text(best.right, best.count)
        text += f", accuracy on {best.count:,} validation pictures {accuracy}"
    if best.epoch == 0 and not found.stopped:
        text += "\nThe training made the fitted classifier worse. A smaller --learning-rate may help."
    show(args, document, text)
    return 3 if found.stopped else int(bool(found.errors))


def _validation(text):
    """Convert --validation to a share.  If `text` is the path of a folder, the path is returned."""
    if os.path.isdir(text):
        return text
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ValueError(f"argument --validation: found {text}; expected a folder that contains one folder for each "
                         "class, or a number from 0 to below 1")
    return share


def _held_out(args):
    """Return the pictures in the folder of --validation, and their class names."""
    from collections import Counter

    from ..classifier import classes
    left_out = Counter()
    found = classes.of_folders([args.validation], left_out)
    tell_left_out(args, left_out)
    return found


def _pictures(args):
    """Return the pictures and their class names, at most --max-images of them."""
    sources, names = find_known(args)
    if args.max_images is not None and args.max_images < len(sources):
        import numpy as np
        chosen = np.sort(np.random.default_rng(args.seed).permutation(len(sources))[:args.max_images])
        sources, names = [sources[i] for i in chosen], [names[i] for i in chosen]
    return sources, names


class _Progress:
    """Prints a line for each epoch on stderr, draws the curves, and shows a bar if stderr is a terminal.

    A _Progress is used as a context manager. At the end of the `with` block, the bar is erased.
    """

    def __init__(self, args):
        from ..training.folder import RunFolder
        self.folder = RunFolder(args.folder)
        self.title = f"Training of {os.path.basename(args.output)}"
        self.quiet = args.quiet
        self.has_bar = not args.quiet and sys.stderr is not None and sys.stderr.isatty()
        self.start = None                 # the time and the number of the first step in this process
        self.accuracy = ""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        from ..batch import progress
        if self.has_bar:
            progress.draw("")

    def __call__(self, result):
        """Show a Step or an Epoch."""
        if not hasattr(result, "step"):
            self._show_epoch(result)
        elif self.has_bar:
            self._show_step(result)

    def _show_epoch(self, result):
        from ..batch import progress
        from ..classifier import scores
        from ..training.curves import curves
        line = f"epoch {result.epoch}" + " (the fitted classifier, before the training)" * (result.epoch == 0)
        if result.count:
            self.accuracy = f"   accuracy {100 * result.right / result.count:.2f} %"
            line += f"   validation loss {result.loss:.4f}{self.accuracy}"
        if not self.quiet:
            progress.write(f"{progress.CLEAR if self.has_bar else ''}{line}\n")
        scores.save_picture(curves(self.folder.rows(), self.title), self.folder.path / "curves.png")

    def _show_step(self, result):
        import time

        from ..batch import progress
        if self.start is None:
            self.start = time.monotonic(), result.step
        rate = progress.rate(result.step - self.start[1], time.monotonic() - self.start[0])
        bar = progress.progress_bar(result.step, result.steps, rate)
        progress.draw(f"{bar}   loss {result.loss:.4f}{self.accuracy}")


def _number(text):
    """Convert a text to a finite number that is 0 or larger."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text}; expected a number that is 0 or larger")
    return value
