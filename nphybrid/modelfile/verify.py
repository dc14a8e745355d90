"""Does a file still hold the network that was converted, and does this computer compute it?

An `.h5` file stores, since its conversion, a checksum per array and the float64 logits of a built-in picture. Both are
recomputed here: the logits by the reference engine in float64, with almost no error allowed, and by another engine.
"""
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .. import checkpoint
from ..api.load import build_model
from ..config import PRESETS, Config
from ..ops import implementation
from ..pictures.decode import open_picture
from ..tensorfile import FormatError
from ..text import shortened, table
from ..trace import Trace

# The bound of the golden values' error: max|a - b| / max|b| in float64, max|a - b| / std(b) in the other dtypes. Beside
# it the largest observed error: of the bundled model, and, with fresh weights, of R+ViT-Ti/16, R26+ViT-S/32, BiT-R50x1
# and R50+ViT-B/16.
BOUNDS = {
    ("reference", "float64"): 1e-9,       # 2e-15
    ("reference", "float32"): 3e-4,       # 5.3e-5
    ("numba", "float32"): 3e-4,           # 2.1e-5
    ("numba", "bfloat16"): 0.3,           # 0.10
}


class Check(NamedTuple):
    """One check of a file, and its result."""
    what: str
    bound: float | str                    # the largest error allowed, or the expected value
    found: float | str
    ok: bool


class Published(NamedTuple):
    """What the authors of a network published about one picture."""
    name: str
    network_config: Config
    picture: tuple                        # its name, its width and height in pixels
    logits: tuple                         # the first few
    label: str


# transformers, tests/models/vit_hybrid: integration test.
PUBLISHED = Published("google/vit-hybrid-base-bit-384", replace(PRESETS["R50+ViT-B/16"], feature_stage=3),
                      ("000000039769.jpg of COCO val2017", 640, 480), (-1.9090, -0.4993, -0.2389), "tabby, tabby cat")
PUBLISHED_BOUND = 1e-3                    # they are rounded to 4 digits, and were computed in float32


def verify_model(path, engine="numba", dtype="float32", precision="highest", image=None) -> list[Check]:
    """Check an `.h5` file.

    image: the path of the picture whose logits are published, for the published network. If a checksum is wrong,
    nothing is computed. Raises FormatError for a file that breaks a rule of its format or stores no golden logits;
    ValueError for an unknown engine, or for an image or network about which nothing is published; OSError.

    >>> from nphybrid import default_model
    >>> for check in verify_model(default_model(), engine="reference"):
    ...     print(check.what, check.ok)
    SHA-256 of 117 arrays True
    10 numbers of logits, reference float64: max|a - b| / max|b| True
    10 numbers of logits, reference float32: max|a - b| / std(b) True
    """
    implementation(engine, dtype, precision)
    source = checkpoint.read(path)
    golden = checkpoint.golden_state(source.manifest, path)
    if golden is None:
        raise FormatError(f"{path} stores no golden logits to compare with; expected an .h5 that "
                          "`nphybrid convert SOURCE TARGET.h5` wrote")
    checks = [_check_checksums(source.arrays)]
    if not checks[0].ok:
        return checks
    exact = build_model(source, engine="reference", dtype="float64")
    checks.append(_check_golden(exact, *golden, path))
    if (engine, dtype) != ("reference", "float64"):
        model = build_model(source, engine=engine, dtype=dtype, precision=precision)
        checks.append(_check_golden(model, *golden, path))
    if image is not None:
        checks += _check_published(exact, image)
    return checks


def _check_checksums(arrays):
    """Read every array; reading compares the checksum."""
    damaged = []
    for name, array in arrays.items():
        try:
            array.read()
        except FormatError:
            damaged.append(name)
    return Check(f"SHA-256 of {len(arrays)} arrays", "as stored", ", ".join(damaged) or "as stored", not damaged)


def _check_golden(model, state, golden, path):
    """Recompute the golden values of a state with a model, and compare."""
    trace = Trace(keep={state})
    model.run_into(trace, checkpoint.golden_input(model.network_config).transpose(0, 3, 1, 2))
    if state not in trace or trace[state].size < len(golden):
        found = f"{trace[state].size} numbers" if state in trace else "no state of that name"
        raise FormatError(f"{path}: golden holds {len(golden)} numbers of {shortened(state)}; this network has {found}")
    difference = np.abs(trace[state].reshape(-1)[:len(golden)] - golden).max()
    if model.dtype == "float64":
        measure, size = "max|a - b| / max|b|", 0
    else:
        measure, size = "max|a - b| / std(b)", golden.std()
    # A single number has no standard deviation.
    error = float(difference / (size or np.abs(golden).max() or 1))
    bound = BOUNDS[model.engine, model.dtype]
    return Check(f"{len(golden)} numbers of {state}, {model.engine} {model.dtype}: {measure}", bound, error,
                 error <= bound)


def _check_published(model, image):
    """Compare the published logits and label with those of a float64 model of the published network."""
    name, network_config, (picture, *size), logits, label = PUBLISHED
    if model.network_config != network_config:
        raise ValueError(f"image: logits are published for {name}, and this is another network")
    opened = open_picture(image)
    if opened.size != tuple(size):
        raise ValueError(f"{image} has {opened.size[0]} x {opened.size[1]} pixels; logits are published for {picture}, "
                         f"{size[0]} x {size[1]}")
    found = model(model.image_processor()(opened, return_tensors="np").pixel_values).logits[0]
    error = float(np.abs(found[:len(logits)] - logits).max())
    best = model.config.id2label[int(found.argmax())]
    return [Check(f"published logits of {name}: max|a - b|", PUBLISHED_BOUND, error, error <= PUBLISHED_BOUND),
            Check("published label", label, best, best == label)]


def format_text(checks: list[Check]) -> str:
    """A table with a row per check."""
    rows = [(check.what, _format(check.bound), _format(check.found), "ok" if check.ok else "FAILED")
            for check in checks]
    return table([("check", "bound", "found", ""), *rows], "<<<<")


def _format(value):
    return f"{value:.1e}" if isinstance(value, float) else value
