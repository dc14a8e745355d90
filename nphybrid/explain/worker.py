"""The worker of the page: whether the page can compute the network, and the numbers that it needs for this.

The page of a small network holds the weights and a forward pass in JavaScript (the files in `network/`), which runs in
a worker. So a reader can open another picture on the page. The pages of all other networks show only the stored states
of one picture.

The weights are stored with 16 bits, and with one scale for each output channel. The alternatives were measured on the
bundled model: the largest difference of a logit on the first 100 test pictures of CIFAR-10, and the size of the
weights in the page. No label changes in any format.

    format                              difference    size in base64
    float32                             0             7.84 MB
    16 bits, scale per output channel   5.2e-4        3.95 MB
    12 bits, scale per output channel   9.3e-3        2.96 MB
    bfloat16                            7.5e-2        3.92 MB, compressed 3.12 MB
    8 bits, scale per output channel    1.9e-1        2.01 MB
"""
import base64
import dataclasses
from pathlib import Path

import numpy as np

from ..api.processor import steps_of
from ..api.scores import scoring
from ..config import plan
from ..params import named_leaves
from .scene import attention_storage, cell_size, used_stages

HERE = Path(__file__).parent / "network"
# The scripts of the worker, in the order in which the worker runs the scripts.
SCRIPTS = ("trace.js", "config.js", "reference.js", "activations.js", "backbone.js", "encoder.js", "model.js",
           "image.js", "pixels.js", "measures.js", "weights.js", "inside.js", "unit.js", "scene.js", "worker.js")
MAX_PARAMETERS = 1_600_000                # 4.3 MB in the page
ACTIVATIONS = "relu", "gelu"
FILTERS = 2, 3                            # Pillow's bilinear and bicubic filter


def obstacle(model) -> str | None:
    """The reason why the page of a model cannot compute the network, as a clause, or None if the page can.

    The network must be small, the page must show the attention weights one by one, and the network must use only what
    the scripts implement.

    >>> from nphybrid import ViTHybridForImageClassification, default_model
    >>> obstacle(ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")) is None
    True
    """
    config, steps = model.network_config, steps_of(model.image_processor())
    if model.num_parameters() > MAX_PARAMETERS:
        return (f"the network has {model.num_parameters():,} parameters, and a page can compute a network of at most "
                f"{MAX_PARAMETERS:,} parameters")
    if config.blocks and attention_storage(config).bits != 16:
        return "the network has too many attention weights to show them one by one"
    if config.channels != 3:
        return f"the page prepares pictures with 3 channels, and the input of the network has {config.channels}"
    for activation in (config.backbone_activation, config.activation):
        if activation not in ACTIVATIONS:
            return f"the page does not have the activation {activation}"
    if steps.size is not None and steps.resample not in FILTERS:
        return "the page can resize pictures only with the bilinear and the bicubic filter"
    return None


def network_facts(model) -> dict:
    """What the worker must know about the network, for JSON."""
    config = model.network_config
    steps = steps_of(model.image_processor())
    derived = {"head_width": config.head_width, "grid": config.grid, "tokens": config.tokens} if config.blocks else {}
    stages = [[unit._asdict() for unit in stage] for stage in plan(config)]
    return {"config": {**dataclasses.asdict(config), **derived, "plan": stages, "used": used_stages(config)},
            "cell": cell_size(config) if config.blocks else None,
            "steps": {"size": steps.size, "resample": steps.resample, "crop": steps.crop,
                      "crop_rounding": steps.crop_rounding},
            "score": scoring(model.config), "labels": [model.config.id2label[i] for i in range(config.classes)],
            "leaves": [(name, leaf.shape) for name, leaf in outputs_first(model.learned()).items()]}


def outputs_first(p) -> dict:
    """The learned arrays by name, and with the output channels of each kernel on the first axis.

    A kernel (KH, KW, C, O) becomes (O, KH, KW, C), and a kernel (C, O) becomes (O, C).
    """
    return {name: np.moveaxis(leaf, -1, 0) if name.endswith("kernel") or leaf.ndim == 4 else leaf
            for name, leaf in named_leaves(p).items()}


def weights(p) -> dict:
    """The numbers of all learned arrays.  Params -> {"exact": float32, "codes": int16}

    `exact` has the arrays of one axis, and for every other array the scale of each index of the first axis. `codes` has
    the other arrays. A number of these arrays is code * scale / 32767. The order is that of `outputs_first`.
    """
    exact, codes = [], []
    for leaf in outputs_first(p).values():
        if leaf.ndim == 1:
            exact.append(leaf)
            continue
        rows = leaf.reshape(len(leaf), -1)
        scales = np.abs(rows).max(1)
        exact.append(scales)
        codes.append(np.rint(rows / np.where(scales, scales, 1)[:, None] * 32767).reshape(-1))
    return {"exact": np.concatenate(exact).astype("<f4"), "codes": np.concatenate(codes).astype("<i2")}


def script() -> str:
    """The text of the worker."""
    return "\n".join((HERE / name).read_text("utf-8") for name in SCRIPTS)


def network_html(model) -> str:
    """The script of the worker and the weights, as HTML elements.  The weights are in base64."""
    parts = [f'<script type="text/plain" id="worker">{script()}</script>']
    for part, numbers in weights(model.learned()).items():
        parts.append(f'<script type="application/octet-stream" id="weights-{part}">'
                     f"{base64.b64encode(numbers.tobytes()).decode()}</script>")
    return "\n".join(parts)
