"""Prints a table with the errors of nphybrid and PyTorch.

    pip install ".[parity]"
    python examples/parity_with_torch.py                             # the bundled CIFAR-10 model
    python examples/parity_with_torch.py --model R50+ViT-B/16        # random weights that make mistakes visible

The error of an intermediate state x is max|x - truth| / std(truth). The truth is the state that nphybrid's reference
engine computes in float64. benchmark_against.py compares the speeds of nphybrid and PyTorch.
"""
import argparse
from pathlib import Path

import numpy as np

import nphybrid
from nphybrid import ViTHybridForImageClassification
from nphybrid.api.presets import fresh
from nphybrid.testing import telling_weights, torch_states, torch_twin


def error(x, truth):
    """Returns max|x - truth| / std(truth)."""
    return float(np.abs(x.astype(np.float64) - truth).max() / truth.std())


def network(name, seed, **options):
    """Returns the preset `name` with the random weights of `telling_weights`, or the model at the path `name`."""
    if name not in nphybrid.PRESETS:
        return ViTHybridForImageClassification.from_pretrained(name, **options)
    model = fresh(name, engine="reference")
    return type(model)(model.config, state_dict=telling_weights(model, seed), **options)


def picture(size):
    """Returns the photograph of the cat as float32 pixel_values (1, 3, H, W)."""
    processor = nphybrid.ViTHybridImageProcessor(size={"height": size[0], "width": size[1]}, do_center_crop=False,
                                                 image_mean=[0.5] * 3, image_std=[0.5] * 3)
    photograph = nphybrid.open_picture(Path(__file__).parent / "images" / "cat.png")
    return processor(photograph, return_tensors="np").pixel_values


def parity(name, seed):
    """Print one row per state: the float32 error of nphybrid, the float32 error of PyTorch, and their ratio."""
    exact = network(name, seed, engine="reference", dtype="float64")
    x = picture(exact.network_config.image)
    truth = exact.trace(x)
    ours = type(exact)(exact.config, state_dict=exact.state_dict()).trace(x)
    theirs = torch_states(torch_twin(exact, "float32"), x)
    height, width = exact.network_config.image
    print(f"{name}, seed {seed}, photograph at {height} x {width}; error = max|x - truth| / std(truth)")
    print(f"{'state':24}  {'nphybrid':>9}  {'PyTorch':>9}  ratio")
    for state in truth:
        # The input and the states inside a unit or block are not printed.
        most_dots = 2 if state.startswith("stages") else 1
        if state == "pixel_values" or state not in theirs or state.count(".") > most_dots:
            continue
        a, b = error(ours[state], truth[state]), error(theirs[state], truth[state])
        print(f"{state:24}  {a:9.2e}  {b:9.2e}  {a / b:5.2f}")
    same = int(ours["logits"].argmax()) == int(theirs["logits"].argmax())
    print(f"same label: {'yes' if same else 'NO'}")


def main():
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(nphybrid.default_model()), help="the name of a preset, or a path")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    parity(args.model, args.seed)


if __name__ == "__main__":
    main()
