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
import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import checkpoint
from ..api import checks
from ..api.base import Model
from ..api.gradients import loss_and_gradients, raw_parameters
from ..api.losses import cross_entropy, smoothed, soft_cross_entropy
from ..ops import threads
from ..ops.memory import keep_freed_memory
from ..params import Params, named_leaves, tree_map
from ..trace import FirstNonFinite, NonFiniteError
from .augmentation import generator
from .folder import Epoch, RunFolder, State, Step
from .optimizers import OPTIMIZERS, MovingAverage, clipped, global_norm
from .pictures import Labelled, Preparer, batches, order_of_epoch
from .schedules import learning_rate
from .settings import Settings, is_trained

Mix = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class Trainer:
    """A classifier in training.

    `model`: a classifier with the right number of classes, in float32 or float64. Its weights are the start, and it
    computes the answers for the validation pictures. `known`, `held_out`: the training and the validation pictures.
    `prepare`: an object with the two methods of a Preparer, or None for a Preparer with the augmentation of the
    settings. `mix`: a function such as `augmentation.mixed` without `alpha`, or None. It gets the pixel_values of a
    batch, the probability of each class (B, K), and a Generator, and returns other pixel_values and probabilities.
    """

    def __init__(self, model: Model, known: Labelled, held_out: Labelled, settings: Settings,
                 prepare: Any = None, mix: Mix | None = None):
        self.model = model
        self.known = known
        self.held_out = held_out
        self.settings = settings.checked()
        self.prepare = prepare or Preparer(model.image_processor(), settings.augment, settings.seed)
        self.mix = mix
        self.learned: Params = raw_parameters(model)
        self.weights = {name: array for name, array in named_leaves(self.learned).items() if self.is_trained(name)}
        fast = model.engine == "numba"
        self.optimizer: Any = OPTIMIZERS[settings.optimizer](settings.weight_decay, fast=fast)
        self.average = MovingAverage(self.weights, settings.average, fast) if settings.average else None
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
        # The model needs its own copy of the weights only in `evaluate`, which calls `load_model`.
        self.model.params, self.model.originals = self.learned, {}
        order = order_of_epoch(len(self.known.sources), settings.seed, epoch)

        def prepare(i):
            return self.prepare(self.known.sources[i], epoch, i)
        group: list[tuple[np.ndarray, np.ndarray]] = []
        step = (epoch - 1) * self.steps_of_epoch
        with contextlib.closing(batches(prepare, order.tolist(), settings.batch)) as pixel_values:
            for b, x in enumerate(pixel_values):
                labels = self.known.classes[order[b * settings.batch:(b + 1) * settings.batch]]
                group.append(self._with_targets(x, labels, epoch, b))
                if len(group) == settings.accumulate or (b + 1) * settings.batch >= len(order):
                    step += 1
                    yield self._step(epoch, step, group)
                    group = []

    def _with_targets(self, x, labels, epoch, b):
        """The pixel_values and the target probabilities of batch b of an epoch, mixed if the trainer has `mix`."""
        targets = smoothed(labels, self.model.network_config.classes, self.settings.smoothing)
        if self.mix is None:
            return x, targets
        # The Generators of the pictures have the numbers before this one.
        return self.mix(x, targets, generator(self.settings.seed, epoch, len(self.known.sources) + b))

    def _step(self, epoch, step, group):
        """Change the weights once, with the mean loss of all pictures in a group of batches."""
        settings = self.settings
        count = sum(len(x) for x, _ in group)
        total, sums = 0.0, {}
        for x, targets in group:
            loss, gradients = self._loss_and_gradients(step, x, targets, len(x) / count)
            total += loss
            sums = {name: sums[name] + gradient if sums else gradient for name, gradient in gradients.items()}
        rate = learning_rate(settings.schedule, settings.learning_rate, step - 1, self.steps, settings.warmup)
        with threads.using(self.model.num_threads):
            norm = global_norm(sums, self.model.engine == "numba")
            if not np.isfinite(norm):
                name = next(name for name, gradient in sums.items() if not np.isfinite(gradient).all())
                raise NonFiniteError(f"step {step}: the gradient of {name} contains a number that is not finite")
            self.optimizer.step(self.weights, clipped(sums, settings.clip, norm) if settings.clip else sums, rate)
            if self.average:
                self.average.update(self.weights)
        return Step(epoch, step, self.steps, total, rate, norm)

    def _loss_and_gradients(self, step, x, targets, share):
        """The loss and the gradients of a batch, multiplied by the share of the batch in its group."""
        def loss(logits):
            found, gradient = soft_cross_entropy(logits, targets)
            return found * logits.dtype.type(share), gradient * logits.dtype.type(share)
        inputs = self.model.check_inputs(x)
        found = loss_and_gradients(self.model, self.learned, inputs, loss, self.is_trained, pixels=False)
        if not np.isfinite(found.loss):
            raise NonFiniteError(f"step {step}: the loss is {found.loss}; {self._first_non_finite(inputs)}")
        gradients = named_leaves(found.parameters)
        return float(found.loss), {name: gradients[name] for name in self.weights}

    def _first_non_finite(self, inputs):
        """A sentence about the first state of the forward pass that is not finite."""
        ops, config = self.model.ops, self.model.network_config
        try:
            with np.errstate(all="ignore"):
                prepared = ops.prepare(self.learned, config, self.model.dtype)
                self.model.network(inputs.x, prepared, config, ops, FirstNonFinite())
        except NonFiniteError as error:
            return str(error)
        return "all states are finite"

    # -- the result of an epoch

    def evaluate(self, epoch: int) -> Epoch:
        """Measure the loss and the accuracy on the validation pictures.  The model gets the present weights.

        Raises NonFiniteError if a weight or a state is not finite.
        """
        try:
            with np.errstate(all="ignore"):
                self.load_model()
                loss, right = self._validation_loss()
        except NonFiniteError as error:
            raise NonFiniteError(f"validation after epoch {epoch}: {error}") from None
        return Epoch(epoch, loss, right, len(self.held_out.classes))

    def _validation_loss(self):
        """The mean loss of the validation pictures, or None without pictures, and the number of right answers."""
        classes, total, right, at = self.held_out.classes, 0.0, 0, 0

        def prepare(i):
            return self.prepare.plain(self.held_out.sources[i])
        with contextlib.closing(batches(prepare, range(len(classes)), self.settings.batch)) as pixel_values:
            for x in pixel_values:
                labels = classes[at:at + len(x)]
                logits = self.model(x).logits
                total += float(cross_entropy(logits, labels)) * len(labels)
                right += int((logits.argmax(1) == labels).sum())
                at += len(x)
        return total / at if at else None, right

    def load_model(self) -> None:
        """Give the model the moving average of the weights, or the weights if there is no average.

        Raises NonFiniteError for weights that are not finite.
        """
        mean = self.average.mean if self.average else {}
        for name, array in (mean or self.weights).items():
            checks.finite(array, name)
        tree = tree_map(lambda name, array: mean.get(name, array), self.learned)
        self.model.load_state_dict(checkpoint.to_state_dict(tree, self.model.table, self.model.network_config))

    def state(self, epoch: int, best: Epoch) -> State:
        """The state of the run after an epoch.  Its arrays change with the next step."""
        return State(epoch, best, dict(self.weights), self.optimizer.state(),
                     dict(self.average.mean) if self.average else {})

    def load(self, state: State) -> None:
        """Continue from a State."""
        for name, array in self.weights.items():
            array[...] = state.weights[name]
        self.optimizer.load(state.optimizer)
        if self.average:
            self.average.mean = {name: state.average[name] for name in self.average.mean}


def train(trainer: Trainer, folder: RunFolder | None = None, start: State | None = None,
          watch: Callable[[Step | Epoch], None] = lambda result: None) -> tuple[Epoch, NonFiniteError | None]:
    """Train all epochs, and give the model of the trainer the weights of the best epoch.

    `folder`: the folder of the run, or None to save nothing. `start`: the State of an interrupted run, or None.
    `watch`: a function that gets the result of each step and of each epoch, for example to show progress.

    Returns the best Epoch, and None. If a loss, a gradient or a weight is not finite, the run ends early, and the error
    is returned instead of None. Raises the error if it comes before the end of epoch 0.
    """
    keep_freed_memory()
    best = _Best(folder, start and start.best)
    error = None
    try:
        for result in _results(trainer, start):
            if folder is not None:
                folder.add_row(result)
            if isinstance(result, Epoch):
                best.finish(trainer, result)
            watch(result)
    except NonFiniteError as found:
        if best.epoch is None:
            raise
        error = found
    trainer.load(best.state())
    trainer.load_model()
    return best.epoch, error


def _results(trainer, start):
    """Yield each Step and each Epoch of a run."""
    if start is None:
        yield trainer.evaluate(0)
    else:
        trainer.load(start)
    for epoch in range(start.epoch + 1 if start else 1, trainer.settings.epochs + 1):
        yield from trainer.epoch(epoch)
        yield trainer.evaluate(epoch)


def _merit(epoch):
    loss = epoch.loss or 0                             # without validation pictures, the loss is None
    return epoch.right, -math.inf if math.isnan(loss) else -loss


class _Best:
    """Saves each epoch, and knows the best one.  Without a folder, the state of the best epoch is kept in memory."""

    def __init__(self, folder, epoch):
        self.folder = folder
        self.epoch: Any = epoch           # the best Epoch so far, or None
        self._state: Any = None

    def finish(self, trainer, found):
        """Save an epoch.  Of epochs with equal accuracy, the smallest loss is best; of equal losses, the latest."""
        is_best = self.epoch is None or _merit(found) >= _merit(self.epoch)
        if is_best:
            self.epoch = found
        state = trainer.state(found.epoch, self.epoch)
        if self.folder is not None:
            self.folder.save(state)
        elif is_best:
            self._state = copy.deepcopy(state)

    def state(self):
        """The State after the best epoch."""
        return self.folder.read(self.epoch.epoch)[0] if self.folder else self._state
