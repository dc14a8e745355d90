"""nphybrid: the Hybrid Vision Transformer in NumPy and Numba.

A convolutional backbone (BiT) turns a picture into a feature map. The cells of the map become the tokens of a
transformer encoder (ViT). Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", section 3.1, "Hybrid Architecture".

Read it in this order: model, config, params, image, backbone, tokens, encoder; then ops/reference.

The letters, in docstrings, comments and errors:

    B   images                  T   tokens = 1 + N             KH KW   taps of a kernel
    H W rows, columns           N   patches of the grid        C O     input, output channels
    P   side of a patch         D   width of a token           G       groups of a group norm
    A   attention heads         K   width of a head, D = A K   M       width inside a bottleneck
    L   encoder blocks          F   hidden width of the MLP    MR NR MC KC NC  tile and cache blocks

The papers call the number of heads k and their width D_h. Where K is the number of classes, the text states it.

The terms of this project:

    state         an array of the forward pass that has a name: "stem", "stages.1.1", "blocks.3.weights", "logits"
    trace         a dict {name: state} of one forward pass
    engine        what computes the operations: "numba" (the kernels, fast) or "reference" (plain NumPy)
    reference     ops/reference.py, which defines every operation; in float64 it is the truth of the tests
    kernels       ops/kernels.py, which computes the same operations with Numba; also: the weights of a convolution
    stage, unit   a stage of the backbone is a group of residual units; a block is always an encoder block
    dialect       the array names, layouts and numerics of a family of checkpoints: Hugging Face's, timm's, Google's
    table         (of names) for each learned array its name and layout in a dialect
    golden input  a fixed input; an .h5 file holds the float64 logits for it, which `nphybrid verify` recomputes
    head          the classifier, `p.head`; the heads (A) are those of the attention
    head file     a classifier for your own classes, written by `nphybrid probe fit`
    upstream      Hugging Face transformers 4.57.6
"""
import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "ViTHybridConfig": "api.configs", "BitConfig": "api.configs",
    "ViTHybridImageProcessor": "api.processor", "BatchFeature": "api.processor",
    "ViTConfig": "api.configs", "ViTModel": "api.vit_hybrid", "ViTForImageClassification": "api.vit_hybrid",
    "ViTHybridModel": "api.vit_hybrid", "ViTHybridForImageClassification": "api.vit_hybrid",
    "BitModel": "api.bit", "BitBackbone": "api.bit", "BitForImageClassification": "api.bit",
    "pipeline": "batch.pipeline",
    "Config": "config", "PRESETS": "config", "Trace": "trace", "NonFiniteError": "trace",
    "FormatError": "tensorfile", "PictureError": "pictures.decode", "open_picture": "pictures.decode",
    "default_model": "checkpoint",
}

if TYPE_CHECKING:
    # Editors and type checkers read these imports; Python executes the other branch. The form `X as X` exports a name.
    from .api.bit import (BitBackbone as BitBackbone, BitForImageClassification as BitForImageClassification,
                          BitModel as BitModel)
    from .api.configs import BitConfig as BitConfig, ViTConfig as ViTConfig, ViTHybridConfig as ViTHybridConfig
    from .api.processor import BatchFeature as BatchFeature, ViTHybridImageProcessor as ViTHybridImageProcessor
    from .api.vit_hybrid import (ViTForImageClassification as ViTForImageClassification,
                                 ViTHybridForImageClassification as ViTHybridForImageClassification,
                                 ViTHybridModel as ViTHybridModel, ViTModel as ViTModel)
    from .batch.pipeline import pipeline as pipeline
    from .checkpoint import default_model as default_model
    from .config import PRESETS as PRESETS, Config as Config
    from .pictures.decode import PictureError as PictureError, open_picture as open_picture
    from .tensorfile import FormatError as FormatError
    from .trace import NonFiniteError as NonFiniteError, Trace as Trace
else:
    __all__ = [*_HOME, "__version__"]

    def __getattr__(name):
        """Import a public name at its first use: `import nphybrid` loads neither Numba nor h5py."""
        if name not in _HOME:
            raise AttributeError(f"module 'nphybrid' has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
