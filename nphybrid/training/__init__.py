"""Trains networks without a deep-learning framework.

`finetune` makes a model for your own classes from pictures.
`loop` has the steps and epochs of a run.
`optimizers` has AdamW, SGD with momentum, gradient clipping, and a moving average of the weights.
`schedules` has learning rates that change from step to step.
`augmentation` has random changes of pictures.
`pictures` divides pictures into training and validation, and prepares batches.
`settings` has the settings of a run, and `folder` the files of a run, from which it can be continued.
`curves` draws the loss of each step and the accuracy of each epoch.
"""
from .finetune import Finetuned, finetune
from .settings import Settings

__all__ = ["Finetuned", "Settings", "finetune"]
