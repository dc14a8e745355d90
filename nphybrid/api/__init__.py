"""The classes that Hugging Face users know: configurations, image processor, models and outputs.

The public classes are in `configs`, `processor`, `vit_hybrid`, `bit` and `outputs`. `base` has the base class of the
models, and `config_base` that of the configurations. `arguments` and `hints` handle arguments and attributes of
transformers and PyTorch that nphybrid does not have. `checks` checks the inputs of the models. `source` changes the
array names, the classifier and the picture size of a Checkpoint to fit a model. `load` selects the class of a model.
`losses` computes losses from logits, and `scores` computes scores from logits. `gradients` computes gradients.
`extractor` computes features. `presets` builds the published networks.
"""
