"""Fine-tune a classifier for your own classes.

    1. A head is fitted to the features of the training pictures, as `nphybrid probe` does. A random head would change
       the features more than necessary (Kumar et al. 2022).
    2. In each step, the loss and the gradients of a batch are computed, and the optimizer changes the weights.
    3. After each epoch, the accuracy on the validation pictures is measured, and the state of the run is saved.
    4. The weights of the best epoch become the result.

The weights are kept without standardization. The forward pass standardizes the kernels of the convolutions, as the
original training code does.
"""
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import checkpoint
from ..api.base import Model
from ..api.gradients import loss_and_gradients, raw_parameters
from ..api.losses import cross_entropy, smoothed, soft_cross_entropy
from ..ops import threads
from ..params import Params, named_leaves, tree_map
from ..trace import FirstNonFinite, NonFiniteError
from .folder import RunFolder, State
from .optimizers import OPTIMIZERS, MovingAverage, clipped, global_norm
from .pictures import Labelled, Preparer, batches, order_of_epoch
from .schedules import learning_rate
from .settings import Settings, is_trained


class Step(NamedTuple):
    """The results of one step."""
    epoch: int
    step: int                             # counted from 1, over all epochs
    steps: int                            # number of steps of the run
    loss: float
    learning_rate: float
    gradient_norm: float                  # before clipping


class Epoch(NamedTuple):
    """The results of one epoch.  Epoch 0 is the state before the first step."""
    epoch: int
    loss: float | None                    # the mean loss of the validation pictures, or None if there are none
    right: int                            # number of right answers
    count: int                            # number of validation pictures


class Trainer:
    """A classifier in training.

    `model`: a classifier with the right number of classes, in float32 or float64. Its weights are the start, and it
    computes the answers for the validation pictures. `known`, `held_out`: the training and the validation pictures.
    """

    def __init__(self, model: Model, known: Labelled, held_out: Labelled, settings: Settings):
        self.model = model
        self.known = known
        self.held_out = held_out
        self.settings = settings.checked()
        self.prepare = Preparer(model.image_processor(), settings.augment, settings.seed)
        self.learned: Params = raw_parameters(model)
        self.weights = named_leaves(self.learned)
        fast = model.engine == "numba"
        self.optimizer: Any = OPTIMIZERS[settings.optimizer](settings.weight_decay, fast=fast)
        trained = {name: array for name, array in self.weights.items() if self.is_trained(name)}
        self.average = MovingAverage(trained, settings.average, fast) if settings.average else None
        group = settings.batch * settings.accumulate
        self.steps_of_epoch = -(-len(known.sources) // group)
        self.steps = self.steps_of_epoch * settings.epochs

    def is_trained(self, name: str) -> bool:
        """Whether the array `name` of Params is trained."""
        return is_trained(self.settings.train, self.model.network_config.blocks, name)

    # -- steps

    def epoch(self, epoch: int) -> Iterator[Step]:
        """Train for one epoch, and yield the results of each step."""
        settings = self.settings
        order = order_of_epoch(len(self.known.sources), settings.seed, epoch)

        def prepare(i):
            return self.prepare(self.known.sources[i], epoch, i)
        group: list[tuple[np.ndarray, np.ndarray]] = []
        step = (epoch - 1) * self.steps_of_epoch
        with contextlib.closing(batches(prepare, order.tolist(), settings.batch)) as pixel_values:
            for b, x in enumerate(pixel_values):
                group.append((x, self.known.classes[order[b * settings.batch:(b + 1) * settings.batch]]))
                if len(group) == settings.accumulate or (b + 1) * settings.batch >= len(order):
                    step += 1
                    yield self._step(epoch, step, group)
                    group = []

    def _step(self, epoch, step, group):
        """Change the weights once, with the mean loss of all pictures in a group of batches."""
        settings = self.settings
        count = sum(len(labels) for _, labels in group)
        total, sums = 0.0, {}
        for x, labels in group:
            loss, gradients = self._loss_and_gradients(x, labels, len(labels) / count)
            total += loss
            sums = {name: sums[name] + gradient if sums else gradient for name, gradient in gradients.items()}
        norm = global_norm(sums)
        if not np.isfinite(norm):
            name = next(name for name, gradient in sums.items() if not np.isfinite(gradient).all())
            raise NonFiniteError(f"step {step}: the gradient of {name} contains a number that is not finite")
        rate = learning_rate(settings.schedule, settings.learning_rate, step - 1, self.steps, settings.warmup)
        with threads.using(self.model.num_threads):
            self.optimizer.step(self.weights, clipped(sums, settings.clip, norm) if settings.clip else sums, rate)
            if self.average:
                self.average.update(self.weights)
        return Step(epoch, step, self.steps, total, rate, norm)

    def _loss_and_gradients(self, x, labels, share):
        """The loss and the gradients of a batch, multiplied by the share of the batch in its group."""
        classes = self.model.network_config.classes

        def loss(logits):
            found, gradient = soft_cross_entropy(logits, smoothed(labels, classes, self.settings.smoothing))
            return found * logits.dtype.type(share), gradient * logits.dtype.type(share)
        inputs = self.model.check_inputs(x)
        found = loss_and_gradients(self.model, self.learned, inputs, loss, self.is_trained, pixels=False)
        if not np.isfinite(found.loss):
            self._raise_first_non_finite(inputs)
        gradients = named_leaves(found.parameters)
        return float(found.loss), {name: gradients[name] for name in self.weights if self.is_trained(name)}

    def _raise_first_non_finite(self, inputs):
        ops, config = self.model.ops, self.model.network_config
        prepared = ops.prepare(self.learned, config, self.model.dtype)
        with np.errstate(all="ignore"):
            self.model.network(inputs.x, prepared, config, ops, FirstNonFinite())
        raise NonFiniteError("the loss is not finite, although all states are finite")

    # -- the result of an epoch

    def evaluate(self, epoch: int) -> Epoch:
        """Measure the loss and the accuracy on the validation pictures.  The model gets the present weights."""
        self.model.load_state_dict(self.state_dict())
        classes, total, right = self.held_out.classes, 0.0, 0

        def prepare(i):
            return self.prepare.plain(self.held_out.sources[i])
        if not len(classes):
            return Epoch(epoch, None, 0, 0)
        at = 0
        with contextlib.closing(batches(prepare, range(len(classes)), self.settings.batch)) as pixel_values:
            for x in pixel_values:
                labels = classes[at:at + len(x)]
                logits = self.model(x).logits
                total += float(cross_entropy(logits, labels)) * len(labels)
                right += int((logits.argmax(1) == labels).sum())
                at += len(x)
        return Epoch(epoch, total / len(classes), right, len(classes))

    def state_dict(self) -> dict[str, np.ndarray]:
        """{Hugging Face name: array} of the moving average, or of the weights if there is no average."""
        mean = self.average.mean if self.average else {}
        tree = tree_map(lambda name, array: mean.get(name, array), self.learned)
        return checkpoint.to_state_dict(tree, self.model.table, self.model.network_config)

    def state(self, epoch: int, best: int, best_right: int) -> State:
        """The state of the run after an epoch."""
        return State(epoch, best, best_right, dict(self.weights), self.optimizer.state(),
                     dict(self.average.mean) if self.average else {})

    def load(self, state: State) -> None:
        """Continue from a State."""
        for name, array in self.weights.items():
            array[...] = state.weights[name]
        self.optimizer.load(state.optimizer)
        if self.average:
            self.average.mean = {name: state.average[name] for name in self.average.mean}


def train(trainer: Trainer, folder: RunFolder | None = None, start: State | None = None,
          watch: Callable[[Step | Epoch], None] = lambda result: None) -> Epoch:
    """Train all epochs, and give the model of the trainer the weights of the best epoch.  Returns the best Epoch.

    `folder`: the folder of the run, or None to save nothing. `start`: the State of an interrupted run, or None.
    `watch`: a function that gets the result of each step and of each epoch, for example to show progress.
    """
    kept = _Best(folder)

    def finish(epoch):
        found = trainer.evaluate(epoch)
        if folder is not None:
            folder.add_row(found._asdict())
        kept.finish(trainer, found)
        watch(found)
    if start is None:
        finish(0)
    else:
        trainer.load(start)
        kept.load(start)
    for epoch in range((start.epoch if start else 0) + 1, trainer.settings.epochs + 1):
        for step in trainer.epoch(epoch):
            if folder is not None:
                folder.add_row(step._asdict())
            watch(step)
        finish(epoch)
    return kept.restore(trainer)


class _Best:
    """Remembers the best epoch: in the folder of the run, or in memory if there is no folder."""

    def __init__(self, folder):
        self.folder = folder
        self.epoch = 0
        self.right = -1
        self.state = None

    def load(self, state):
        self.epoch, self.right = state.best, state.best_right

    def finish(self, trainer, found):
        """Save an epoch.  Of two equally good epochs, the later one is better, because it was trained longer."""
        if found.right >= self.right:
            self.epoch, self.right = found.epoch, found.right
            if self.folder is None:
                state = trainer.state(found.epoch, found.epoch, found.right)
                self.state = state._replace(**{group: {name: array.copy() for name, array in part.items()}
                                               for group, part in state._asdict().items() if isinstance(part, dict)})
        if self.folder is not None:
            self.folder.save(trainer.state(found.epoch, self.epoch, self.right))

    def restore(self, trainer):
        """Give the trainer and its model the weights of the best epoch, and measure this epoch again."""
        trainer.load(self.state if self.folder is None else self.folder.read(self.epoch)[0])
        return trainer.evaluate(self.epoch)
