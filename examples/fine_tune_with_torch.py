"""Fine-tune in PyTorch and load the result: one epoch on the shapes of teach_your_own_classes.py.

    pip install ".[parity]"
    python examples/fine_tune_with_torch.py

First a classifier, the head, is fitted to the features of the bundled network. Then the whole network is trained (Kumar
et al. 2022: training with a random head distorts the features). `state_dict()` is loaded into Hugging Face's own
network, and back after the training.
"""
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
    """The bundled network with a classifier fitted to pictures, a list of (path, class name)."""
    network = ViTHybridForImageClassification.from_pretrained(default_model())
    features, _ = teach.features_of(network, sha256(default_model()), [path for path, _ in pictures])
    head, _ = teach.fit_head(features, [name for _, name in pictures])
    return ViTHybridForImageClassification.from_pretrained(default_model(), head=head)


def prepared(model, pictures):
    """pixel_values (n, 3, 64, 64), and the index of each picture's class (n,)"""
    prepare = run.preparer(model.processor)
    return np.stack([prepare(path) for path, _ in pictures]), np.array(
        [model.config.label2id[name] for _, name in pictures])


def epoch(network, pixel_values, labels, seed=0):
    """Train a PyTorch network once on every picture.  -> the mean loss of each batch"""
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
    """Load what a PyTorch network has learned into a model: names, layouts and bits are the same."""
    model.load_state_dict({name: tensor.numpy() for name, tensor in network.state_dict().items()})


def accuracy(model, pixel_values, labels):
    """The accuracy of a model, as text."""
    logits = np.concatenate([model(x).logits for x in np.array_split(pixel_values, -(-len(labels) // BATCH))])
    return scores.accuracy_text(int((logits.argmax(1) == labels).sum()), len(labels))


def main(folder):
    """Fit a classifier, train in PyTorch, load the result, and print the accuracies."""
    known, new = halves(*classes.of_folders([folder]))
    model = with_fitted_head(known)
    (pixel_values, labels), unseen = prepared(model, known), prepared(model, new)
    print(f"a fitted head        accuracy {accuracy(model, *unseen)} on {len(new)} new pictures")
    network = torch_twin(model)
    losses = epoch(network, pixel_values, labels)
    print(f"one epoch, PyTorch   loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    load_from_torch(model, network)
    print(f"back in nphybrid     accuracy {accuracy(model, *unseen)} on {len(new)} new pictures")
    with torch.inference_mode():
        theirs = network(torch.from_numpy(unseen[0][:BATCH])).logits.numpy()
    difference = np.abs(model(unseen[0][:BATCH]).logits - theirs).max()
    print(f"PyTorch and nphybrid differ by {difference:.1e} at most in the logits of {BATCH} pictures")
    model.save(f"{folder}.h5", source={"fine-tuned": "one epoch on drawn shapes"})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        draw_into(f"{work}/shapes")
        main(f"{work}/shapes")
