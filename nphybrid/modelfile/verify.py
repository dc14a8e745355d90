"""Checks that a file still holds the converted network, and that this computer computes the network correctly.

When a model is converted to an `.h5` file, the file stores a checksum of each array.  The file also stores the float64
logits of a built-in picture.  This module computes the checksums and the logits a second time, and compares them with
the file.  First the reference engine computes the logits in float64, and almost no error is allowed.  Then the engine
that the user chose computes the logits, and a larger error is allowed.  The logits in a file with narrow weights are
those of the reference engine in the dtype of the file.  A folder with narrow weights stores the same as an `.h5` file.
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
from ..text import name_list, shortened, table
from ..trace import Trace

# The largest error of the golden values that is allowed, for each engine and dtype.
# The error is max|a - b| / max|b| in float64, and max|a - b| / std(b) in the other dtypes.
# The comment beside a bound is the largest observed error.
# The errors were observed in the bundled model, and in four networks with random weights.
# The four networks are R+ViT-Ti/16, R26+ViT-S/32, BiT-R50x1 and R50+ViT-B/16.
BOUNDS = {
    ("reference", "float64"): 1e-9,       # 2e-15
    ("reference", "float32"): 3e-4,       # 5.3e-5
    ("numba", "float32"): 3e-4,           # 2.1e-5
    ("reference", "bfloat16"): 0.2,       # 6.3e-2
    ("numba", "bfloat16"): 0.2,           # 6.6e-2
    ("reference", "int8"): 0.4,           # 0.15
    ("numba", "int8"): 0.4,               # 0.17
}
# The bounds for a file with narrow weights, whose golden values were computed in its own dtype.
# If sums are added in another order, some activations are rounded to the next number. So the engine numba, and the
# reference engine with another NumPy, differ almost as much as two dtypes. The errors of bfloat16 were observed in the
# first four networks, and the errors of int8 in all.
NARROW_BOUNDS = {
    ("reference", "bfloat16"): 0.1,       # 0 with the same NumPy on the same machine
    ("numba", "bfloat16"): 0.1,           # 3.3e-2
    ("reference", "int8"): 0.25,          # 0 with the same NumPy on the same machine
    ("numba", "int8"): 0.25,              # 9.3e-2
}


class Check(NamedTuple):
    """One check of a file, and its result."""
    what: str
    bound: float | str                    # the largest error allowed, or the expected value
    found: float | str
    ok: bool


class Published(NamedTuple):
    """The results that were published for one network and one picture."""
    name: str
    network_config: Config
    picture: tuple                        # the name of the picture, its width and its height in pixels
    logits: tuple                         # the first logits
    label: str


# The values are from the integration test in tests/models/vit_hybrid of Hugging Face's transformers.
PUBLISHED = Published("google/vit-hybrid-base-bit-384", replace(PRESETS["R50+ViT-B/16"], feature_stage=3),
                      ("000000039769.jpg of COCO val2017", 640, 480), (-1.9090, -0.4993, -0.2389), "tabby, tabby cat")
PUBLISHED_BOUND = 1e-3                    # the published logits were computed in float32, and rounded to 4 decimals


def verify_model(path, engine="numba", dtype=None, precision="highest", image=None) -> list[Check]:
    """Checks an `.h5` file, or a folder with narrow weights.  -> list of Check

    `dtype` is the dtype of the second computation, or None for the dtype of a file with narrow weights, or float32.
    `image` is the path of the picture whose logits are published. With `image`, the file must hold the published
    network. If a checksum is wrong, no logits are computed. Raises FormatError for a file that breaks a rule of its
    format or stores no golden logits. Raises ValueError for an unknown engine, and for an image or a network without
    published logits. Raises OSError if a file cannot be opened.

    >>> from nphybrid import default_model
    >>> for check in verify_model(default_model(), engine="reference"):
    ...     print(check.what, check.ok)
    SHA-256 of 117 arrays True
    10 numbers of logits, reference float64: max|a - b| / max|b| True
    10 numbers of logits, reference float32: max|a - b| / std(b) True
    """
    source = checkpoint.read(path)
    stored = checkpoint.stored_dtype(source.manifest, path)
    dtype = dtype or stored or "float32"
    implementation(engine, dtype, precision)
    golden = checkpoint.golden_state(source.manifest, path)
    if golden is None:
        raise FormatError(f"{path} stores no golden logits to compare with; expected an .h5 file that "
                          "`nphybrid convert SOURCE TARGET.h5` wrote, or a folder that `nphybrid convert SOURCE FOLDER "
                          "--dtype …` wrote")
    checks = [_check_checksums(source.arrays)]
    if not checks[0].ok:
        return checks
    exact = build_model(source, engine="reference", dtype=stored or "float64")
    bounds = NARROW_BOUNDS if stored else BOUNDS
    checks.append(_check_golden(exact, *golden, path, bounds))
    if (engine, dtype) != ("reference", exact.dtype):
        model = build_model(source, engine=engine, dtype=dtype, precision=precision)
        checks.append(_check_golden(model, *golden, path, bounds))
    if image is not None:
        checks += _check_published(exact, image)
    return checks


def _check_checksums(arrays):
    """Reads every array, and returns one Check of all checksums.  The method `Stored.read` compares the checksum."""
    damaged = []
    for name, array in arrays.items():
        try:
            array.read()
        except FormatError:
            damaged.append(name)
    return Check(f"SHA-256 of {len(arrays)} arrays", "as stored", name_list(damaged) or "as stored", not damaged)


def _check_golden(model, state, golden, path, bounds):
    """Computes the golden values with a model, and compares them with the values that the file stores."""
    trace = Trace(keep={state})
    model.run_into(trace, checkpoint.golden_input(model.network_config).transpose(0, 3, 1, 2))
    if state not in trace or trace[state].size < len(golden):
        found = f"{trace[state].size} numbers" if state in trace else "no state of this name"
        raise FormatError(f"{path}: golden holds {len(golden)} numbers of the state {shortened(state)}; this network "
                          f"has {found}")
    found = trace[state].reshape(-1)[:len(golden)]
    if model.dtype == "float64":
        measure = "max|a - b| / max|b|"
        error = float(np.abs(found - golden).max() / (np.abs(golden).max() or 1))
    else:
        measure = "max|a - b| / std(b)"
        error = checkpoint.golden_error(found, golden)
    bound = bounds[model.engine, model.dtype]
    return Check(f"{len(golden)} numbers of {state}, {model.engine} {model.dtype}: {measure}", bound, error,
                 error <= bound)


def _check_published(model, image):
    """Compares the published logits and the published label with the results of a float64 model."""
    name, network_config, (picture, *size), logits, label = PUBLISHED
    if model.network_config != network_config:
        raise ValueError(f"image: logits are published for {name}, and this file holds another network")
    opened = open_picture(image)
    if opened.size != tuple(size):
        raise ValueError(f"{image} has {opened.size[0]} x {opened.size[1]} pixels; logits are published for {picture}, "
                         f"which has {size[0]} x {size[1]} pixels")
    found = model(model.image_processor()(opened, return_tensors="np").pixel_values).logits[0]
    error = float(np.abs(found[:len(logits)] - logits).max())
    best = model.config.id2label[int(found.argmax())]
    return [Check(f"published logits of {name}: max|a - b|", PUBLISHED_BOUND, error, error <= PUBLISHED_BOUND),
            Check("published label", label, best, best == label)]


def format_text(checks: list[Check]) -> str:
    """Formats the checks as a table with one row for each check."""
    rows = [(check.what, _format(check.bound), _format(check.found), "ok" if check.ok else "FAILED")
            for check in checks]
    return table([("check", "bound", "found", ""), *rows], "<<<<")


def _format(value):
    return f"{value:.1e}" if isinstance(value, float) else value
