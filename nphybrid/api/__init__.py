"""The classes that Hugging Face users know: configurations, image processor, models and outputs.

`configs`, `processor`, `vit_hybrid`, `bit` and `outputs` have the public classes. `base` is what the models share,
`checks` checks their inputs, `source` adapts a Checkpoint, `load` selects a class, `losses` and `scores` follow the
logits, `extractor` computes features, `presets` builds the published networks.
"""
