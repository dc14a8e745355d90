"""nphybrid: the Hybrid Vision Transformer in NumPy and Numba.

A convolutional backbone (BiT) turns a picture into a feature map. The cells of the map become the tokens of a
transformer encoder (ViT). The network is described in Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", section
3.1, "Hybrid Architecture".

Read the files in this order: model, config, params, image, backbone, tokens, encoder; then ops/reference.

Docstrings, comments and error messages use the following letters:

    `B`    The number of images.
    `H W`  The numbers of rows and columns.
    `C O`  The numbers of input channels and output channels.
    `P`    The side of a patch.
    `N`    The number of patches in the grid.
    `T`    The number of tokens: N patches, and usually a class token.
    `D`    The width of a token.
    `L`    The number of encoder blocks.
    `A`    The number of attention heads.
    `K`    The width of an attention head: D = A * K.
    `F`    The hidden width of the MLP.
    `G`    The number of groups in a group norm.
    `M`    The inner width of a residual unit.
    `KH KW`           The height and width of a convolution kernel.
    `MR NR MC KC NC`  The sizes of register tiles and cache blocks.

The papers write k for the number of attention heads, and D_h for the width of an attention head. Three letters have
other meanings in some files. In api/losses.py, K is the number of classes. In ops/gradients.py, N is the number of rows
in a linear layer. In lesson 6 and in the files of matrix products in ops/, the matrices have the shapes (M, K) and
(K, N).

Docstrings, comments and error messages use the following terms:

    `state`         A named array of the forward pass: "stem", "stages.1.1", "blocks.3.weights", "logits".
    `trace`         A dict {name: state} of one forward pass.
    `engine`        The implementation of the operations: "numba" (fast) or "reference" (plain NumPy).
    `reference`     The engine in ops/reference.py, which defines every operation. The tests compare other engines with
                    the float64 results of the reference.
    `kernel`        The weights of a convolution, the matrix of a linear layer, or a Numba function (ops/kernels.py).
    `filter`        The weights of a kernel for one output channel.
    `map`           An array (B, H, W, C). A feature map is the result of the stem or of a unit.
    `cell`          One place (row, column) of a map, with its C numbers.
    `stage`         A group of residual units in the backbone.
    `unit`          A residual unit of the backbone.
    `block`         An encoder block.
    `dialect`       The array names, layouts and numerics of a family of checkpoints (Hugging Face, timm or Google).
    `table of names`  A dict with the name and the layout of each learned array in a dialect.
    `golden input`  A fixed input for tests of a model. The `.h5` file of a model has the float64 logits of the golden
                    input. `nphybrid verify` computes new logits and compares them with the logits in the file.
    `norm`          A normalization: subtract the mean, divide by the root of the variance, apply a learned scale and
                    bias. It is not the length of a vector.
    `activation`    A function of each number of an array, such as ReLU, max(x, 0). Also: the numbers of a state.
    `project`       Multiply by a learned matrix.
    `shortcut`      The input of a unit or block, which is added to the result, often after a projection.
    `stride`        The distance in cells from one window of a convolution to the next window.
    `dilation`      The distance in cells from one weight of a kernel to the next weight, usually 1.
    `MLP`           A multilayer perceptron: two linear layers, and an activation between them.
    `position vector`  The learned vector that is added to a token. The ViT paper calls it position embedding.
    `mask token`    The learned vector that replaces hidden patches, in models that were trained to restore patches.
    `pooler`        A linear layer with tanh that reads the class token, in models without a classifier.
    `logit`         The number that the classifier computes for a class.
    `score`         The softmax or the sigmoid of a logit. An attention score is the dot product of a query and a key,
                    divided by sqrt(K).
    `head`          The classifier (`p.head`), or an attention head.
    `head file`     A file with a classifier for your own classes, written by `nphybrid probe fit`.
    `upstream`      Hugging Face transformers 4.57.6.
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
    "pixel_limit": "pictures",
    "default_model": "checkpoint",
}

if TYPE_CHECKING:
    # Only editors and type checkers read the imports of this branch. Python executes the `else` branch.
    # For a type checker, the form `X as X` exports a name.
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
    from .pictures import pixel_limit as pixel_limit
    from .pictures.decode import PictureError as PictureError, open_picture as open_picture
    from .tensorfile import FormatError as FormatError
    from .trace import NonFiniteError as NonFiniteError, Trace as Trace
else:
    __all__ = [*_HOME, "__version__"]

    def __getattr__(name):
        """Import a public name at the first use of the name.  So `import nphybrid` loads neither Numba nor h5py."""
        if name not in _HOME:
            raise AttributeError(f"module 'nphybrid' has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
