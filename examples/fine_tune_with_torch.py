"""Fine-tunes the bundled network in PyTorch for one epoch, and loads the new weights into nphybrid.

    pip install ".[parity]"
    python examples/fine_tune_with_torch.py
    python examples/fine_tune_with_torch.py photos --output photos.h5

`photos` is a folder that contains one folder per class, with at least 4 pictures of each class. Without an argument,
the pictures are the shapes of teach_your_own_classes.py. One half of the pictures is used for training, and the other
half for the accuracies. First, a classifier is fitted to the features of the bundled
network, because a training that starts with a random classifier distorts the features (Kumar et al. 2022). Then the
whole network is trained. Before the training, Hugging Face's network loads the `state_dict()` of nphybrid. After the
training, nphybrid loads the `state_dict()` of Hugging Face's network.
"""
import argparse
import tempfile

import numpy as np
import torch
from teach_your_own_classes import draw_into, halves

from nphybrid import ViTHybridForImageClassification, default_model
from nphybrid.batch import run
from nphybrid.checkpoint import sha256
from nphybrid.classifier import classes, scores, teach
from nphybrid.testing import torch_twin

BATCH, RATE = 20, 3e-5


def with_fitted_head(pictures):
    """Returns the bundled network with a classifier that is fitted to `pictures`, a list of (path, class name)."""
    network = ViTHybridForImageClassification.from_pretrained(default_model())
    features, _ = teach.features_of(network, sha256(default_model()), [path for path, _ in pictures])
    head, _ = teach.fit_head(features, [name for _, name in pictures])
    return ViTHybridForImageClassification.from_pretrained(default_model(), head=head)


def prepared(model, pictures):
    """Returns pixel_values (n, 3, 64, 64) and the class index of each picture (n,)."""
    prepare = run.preparer(model.processor)
    return np.stack([prepare(path) for path, _ in pictures]), np.array(
        [model.config.label2id[name] for _, name in pictures])


def epoch(network, pixel_values, labels, seed=0):
    """Train a PyTorch network for one epoch.  -> the mean loss of each batch"""
    optimizer, losses = torch.optim.AdamW(network.parameters(), RATE), []
    network.train()
    for rows in np.array_split(np.random.default_rng(seed).permutation(len(labels)), -(-len(labels) // BATCH)):
        loss = network(torch.from_numpy(pixel_values[rows]), labels=torch.from_numpy(labels[rows])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    network.eval()
    return losses


def load_from_torch(model, network):
    """Load the weights of a PyTorch network into a model, without changing names, layouts or bits."""
    model.load_state_dict({name: tensor.numpy() for name, tensor in network.state_dict().items()})


def accuracy(model, pixel_values, labels):
    """Returns the accuracy of a model as text."""
    logits = np.concatenate([model(x).logits for x in np.array_split(pixel_values, -(-len(labels) // BATCH))])
    return scores.accuracy_text(int((logits.argmax(1) == labels).sum()), len(labels))


def train(folder, output=None):
    """Fit a classifier, train in PyTorch, load and save the new weights, and print the accuracies."""
    known, new = halves(*classes.of_folders([folder]))
    model = with_fitted_head(known)
    (pixel_values, labels), unseen = prepared(model, known), prepared(model, new)
    print(f"fitted classifier    accuracy {accuracy(model, *unseen)} on {len(new)} new pictures")
    network = torch_twin(model)
    losses = epoch(network, pixel_values, labels)
    print(f"one epoch, PyTorch   loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    load_from_torch(model, network)
    print(f"after one epoch      accuracy {accuracy(model, *unseen)} on {len(new)} new pictures")
    with torch.inference_mode():
        theirs = network(torch.from_numpy(unseen[0][:BATCH])).logits.numpy()
    difference = np.abs(model(unseen[0][:BATCH]).logits - theirs).max()
    print(f"The logits of {BATCH} pictures differ by at most {difference:.1e} between PyTorch and nphybrid.")
    if output is not None:
        model.save(output, source={"fine-tuned": f"one epoch in PyTorch on the pictures in {folder}"})


def main(arguments=None):
    """Train on the folder that the command line names, or on drawn shapes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", help="a folder that contains one folder per class (default: drawn shapes)")
    parser.add_argument("--output", metavar="MODEL.h5", help="write the new model to this file (default: no file)")
    args = parser.parse_args(arguments)
    if args.folder is not None:
        train(args.folder, args.output)
        return
    with tempfile.TemporaryDirectory() as work:
        draw_into(f"{work}/shapes")
        train(f"{work}/shapes", args.output)


if __name__ == "__main__":
    main()
