"""Is this file still the network that was converted, and does this machine compute it?

An `.h5` keeps, from its conversion, a checksum per array and the float64 logits of a built-in picture. Here both are
recomputed: by the reference engine in float64, where next to nothing may differ, and by the engine of one's choice.
"""
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .. import checkpoint
from ..api.load import load
from ..api.processor import ViTHybridImageProcessor
from ..config import PRESETS, Config
from ..ops import implementation
from ..pictures.decode import open_picture
from ..tensorfile import FormatError
from ..text import shortened, table
from ..trace import Trace

# The bound of the golden values' error, of max|a - b| / max|b| in float64 and of max|a - b| / std(b) in the others; and
# the largest observed: the model that comes along, and, with fresh weights, R+ViT-Ti/16, R26+ViT-S/32, BiT-R50x1 and
# R50+ViT-B/16.
BOUNDS = {
    ("reference", "float64"): 1e-9,       # 2e-15
    ("reference", "float32"): 3e-4,       # 5.3e-5
    ("numba", "float32"): 3e-4,           # 2.1e-5
    ("numba", "bfloat16"): 0.3,           # 0.10
}


class Check(NamedTuple):
    """One question to a file, and its answer."""
    what: str
    bound: float | str                    # of an error, or what is expected
    found: float | str
    ok: bool


class Published(NamedTuple):
    """What its authors tell about a network, by which everyone can recognize it."""
    name: str
    network_config: Config
    picture: tuple                        # its name, its width and height in pixels
    logits: tuple                         # the first few
    label: str


# transformers, tests/models/vit_hybrid: integration test.
PUBLISHED = Published("google/vit-hybrid-base-bit-384", replace(PRESETS["R50+ViT-B/16"], feature_stage=3),
                      ("000000039769.jpg of COCO val2017", 640, 480), (-1.9090, -0.4993, -0.2389), "tabby, tabby cat")
PUBLISHED_BOUND = 1e-3                    # they are rounded to 4 digits, and were computed in float32


def verified(path, engine="numba", dtype="float32", precision="highest", image=None):
    """Every check of an `.h5`.  -> list of Check

    image: the path of the picture whose logits are published, for the published network. Where a checksum is wrong,
    nothing is computed. Raises FormatError for a file that breaks a rule of its format or keeps no golden logits;
    ValueError for an unknown engine, or an image that nothing is published about; OSError.

    >>> from nphybrid import default_model
    >>> for check in verified(default_model(), engine="reference"):
    ...     print(check.what, check.ok)
    SHA-256 of 117 arrays True
    10 numbers of logits, reference float64: max|a - b| / max|b| True
    10 numbers of logits, reference float32: max|a - b| / std(b) True
    """
    implementation(engine, dtype, precision)
    source = checkpoint.read(path)
    golden = checkpoint.golden_state(source.manifest, path)
    if golden is None:
        raise FormatError(f"{path} keeps no golden logits, by which it could be verified; an .h5 that "
                          "`nphybrid convert SOURCE TARGET.h5` writes does")
    checks = [_checksums(source.arrays)]
    if not checks[0].ok:
        return checks
    exact = load(path, engine="reference", dtype="float64")
    checks += [_recomputed(exact, *golden, path)]
    if (engine, dtype) != ("reference", "float64"):
        checks += [_recomputed(load(path, engine=engine, dtype=dtype, precision=precision), *golden, path)]
    return checks if image is None else checks + _published(exact, image)


def _checksums(arrays):
    """Read every array once; its reader compares the checksum."""
    damaged = []
    for name, array in arrays.items():
        try:
            array.read()
        except FormatError:
            damaged.append(name)
    return Check(f"SHA-256 of {len(arrays)} arrays", "as stored", ", ".join(damaged) or "as stored", not damaged)


def _recomputed(model, state, golden, path):
    """The golden values once more, by a model's engine."""
    out = Trace(keep={state})
    model.run_into(out, checkpoint.golden_input(model.network_config).transpose(0, 3, 1, 2))
    if state not in out or out[state].size < len(golden):
        found = f"{out[state].size} numbers" if state in out else "no state of that name"
        raise FormatError(f"{path}: golden holds {len(golden)} numbers of {shortened(state)}; this network has {found}")
    apart = np.abs(out[state].reshape(-1)[:len(golden)] - golden).max()
    exact, bound = model.dtype == "float64", BOUNDS[model.engine, model.dtype]
    error = float(apart / ((0 if exact else golden.std()) or np.abs(golden).max() or 1))
    return Check(f"{len(golden)} numbers of {state}, {model.engine} {model.dtype}: "
                 f"max|a - b| / {'max|b|' if exact else 'std(b)'}", bound, error, error <= bound)


def _published(model, image):
    """The published logits and label, by a model of the published sizes in float64."""
    name, sizes, (picture, *size), logits, label = PUBLISHED
    if model.network_config != sizes:
        raise ValueError(f"image: logits are published for {name}, and this is another network")
    opened = open_picture(image)
    if opened.size != tuple(size):
        raise ValueError(f"{image} has {opened.size[0]} x {opened.size[1]} pixels; logits are published for {picture}, "
                         f"{size[0]} x {size[1]}")
    if model.processor is None:
        raise ValueError("image: this file came without an image processor")
    processor = ViTHybridImageProcessor.from_dict(model.processor)
    found = model(processor(opened, return_tensors="np").pixel_values).logits[0]
    error, best = float(np.abs(found[:len(logits)] - logits).max()), model.config.id2label[int(found.argmax())]
    return [Check(f"published logits of {name}: max|a - b|", PUBLISHED_BOUND, error, error <= PUBLISHED_BOUND),
            Check("published label", label, best, best == label)]


def shown(checks):
    """The checks as a text, a row each."""
    rows = [(check.what, *(f"{each:.1e}" if isinstance(each, float) else each for each in check[1:3]),
             "ok" if check.ok else "FAILED") for check in checks]
    return table([("check", "bound", "found", ""), *rows], "<<<<")
