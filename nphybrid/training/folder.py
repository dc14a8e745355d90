"""The folder of a training run: what is needed to continue the run after it was interrupted at any moment.

    MODEL.h5.run/settings.json      the settings, the classes and the `identity` of the run
    MODEL.h5.run/unreadable.json    {position: error} of the pictures that cannot be read
    MODEL.h5.run/log.jsonl          a row for each step, and a row for each epoch
    MODEL.h5.run/epoch-N.h5         the state after epoch N; epoch-0.h5 is the state before the first step
    MODEL.h5.run/curves.png         the loss of each step and the accuracy of each epoch

An epoch file is written completely or not at all. It contains the size of the log at this moment. A run that is
continued reads the last epoch file, and cuts the log to this size. So the continued run repeats the steps after this
epoch, and writes the same bytes as an undisturbed run. The rows contain no time. Only one run at a time can own the
folder: while it runs, the log has a lock (tensorfile/owner.py).

Only two epoch files are kept: the last one, and the best one. An epoch file contains only the arrays
that are trained. The other arrays are in the model from which the run began.
"""
import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..batch.identity import refuse_other_run
from ..checkpoint import read_json
from ..shortage import path_in_errors
from ..tensorfile import FilePath, FormatError, owned, read_h5, write_h5, write_json


class Step(NamedTuple):
    """The results of one step, a row of the log."""
    epoch: int
    step: int                             # counted from 1, over all epochs
    steps: int                            # number of steps of the run
    loss: float
    learning_rate: float
    gradient_norm: float                  # before clipping


class Epoch(NamedTuple):
    """The results of one epoch, a row of the log.  Epoch 0 is the state before the first step."""
    epoch: int
    loss: float | None                    # the mean loss of the validation pictures, or None if there are none
    right: int                            # number of right answers
    count: int                            # number of validation pictures


class State(NamedTuple):
    """The state of a run after an epoch."""
    epoch: int
    best: Epoch                           # the best epoch so far: the best accuracy, then the smallest loss
    weights: dict[str, np.ndarray]        # {name in Params: array}, for each array that is trained
    optimizer: dict[str, np.ndarray]
    average: dict[str, np.ndarray]        # the moving average of the weights, or {}


class RunFolder:
    """The folder of a run."""

    def __init__(self, path: FilePath):
        self.path = Path(path)
        self.log = self.path / "log.jsonl"

    @contextlib.contextmanager
    def begun(self, identity: dict[str, Any], resume: bool) -> Iterator[State | None]:
        """Make the folder, and own it until the `with` block ends.  -> the last State of an interrupted run, or None

        `identity` is a JSON object that describes the run. A run without an epoch file is replaced. Raises
        BlockingIOError if another run owns the folder. Raises FileExistsError if the folder holds an epoch file and
        `resume` is False, or if the path is a file. Raises ValueError if the run in the folder has another identity.
        """
        self.path.mkdir(exist_ok=True)
        with owned(self.log):
            yield self._begin(identity, resume)

    def _begin(self, identity, resume):
        settings = self.path / "settings.json"
        if not self._epochs():
            write_json(settings, identity)
        elif not resume:
            raise FileExistsError(f"{self.path} holds an interrupted or finished run; continue it with --resume, or "
                                  "delete the folder")
        else:
            refuse_other_run(os.fspath(self.path), read_json(settings), json.loads(json.dumps(identity)),
                             "delete the folder to begin again")
        state, size = self._last()
        self._cut_log(size)
        return state

    def _cut_log(self, size):
        with open(self.log, "ab") as log:
            if log.tell() < size:
                raise FormatError(f"{self.log} has {log.tell():,} bytes; expected at least {size:,}. Delete the folder "
                                  f"{self.path} to begin again")
            log.truncate(size)

    def errors(self) -> dict[int, str]:
        """{position: error} of the pictures that could not be read when the run began."""
        return {int(position): error for position, error in read_json(self.path / "unreadable.json").items()}

    def write_errors(self, errors: dict[int, str]) -> None:
        """Write the file that `errors` reads."""
        write_json(self.path / "unreadable.json", errors)

    def add_row(self, row: Step | Epoch) -> None:
        """Append a row to the log."""
        with path_in_errors(self.log), open(self.log, "a", encoding="utf-8", newline="\n") as log:
            log.write(json.dumps(row._asdict()) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the log."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    def save(self, state: State) -> None:
        """Write the file of an epoch, then delete the files that are not needed any more."""
        groups = {"weights": state.weights, "optimizer": state.optimizer, "average": state.average}
        arrays = {f"{group}.{name}": array for group, part in groups.items() for name, array in part.items()}
        with open(self.log, "rb+") as log:
            os.fsync(log.fileno())        # after a power failure, the log must not be shorter than the epoch file says
        numbers = {"epoch": state.epoch, "best": state.best._asdict(), "log_size": self.log.stat().st_size}
        write_h5(self._file(state.epoch), arrays, {"run": numbers})
        for epoch in self._epochs():
            if epoch not in (state.epoch, state.best.epoch):
                self._file(epoch).unlink()

    def read(self, epoch: int) -> tuple[State, int]:
        """The State in the file of an epoch, and the size of the log at this moment."""
        arrays, documents = read_h5(self._file(epoch))
        groups: dict[str, dict[str, np.ndarray]] = {"weights": {}, "optimizer": {}, "average": {}}
        for name, array in arrays.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = array
        numbers: Any = documents["run"]
        return State(numbers["epoch"], Epoch(**numbers["best"]), **groups), numbers["log_size"]

    def _last(self):
        epochs = self._epochs()
        return self.read(max(epochs)) if epochs else (None, 0)

    def _epochs(self):
        found = (re.fullmatch(r"epoch-(\d+)\.h5", path.name) for path in self.path.iterdir())
        return [int(match[1]) for match in found if match]

    def _file(self, epoch):
        return self.path / f"epoch-{epoch}.h5"
