"""Progress of training and evaluation, on standard error."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor

from lx.system.console import console
from lx.training.callbacks.metric_logger import SizedBatch, Totals, is_logging_step, validates_training
from lx.training.callbacks.progress_view import Status, View, view_for

_SMOOTHING_S = 5.0  # time constant of the running averages


@dataclass(frozen=True)
class Averages:
    """Running averages over the last seconds of training."""

    loss: float
    accuracy: float
    tokens_per_second: float


class Meter:
    """Running averages that wait for the device only when they are read, not at every step."""

    def __init__(self) -> None:
        self._totals = Totals()
        self._read_at = time.monotonic()
        self._averages: Averages | None = None

    @property
    def idle(self) -> float:
        """Seconds of training since the last reading."""
        return time.monotonic() - self._read_at

    def add(self, outputs: Mapping[str, Tensor], batch: SizedBatch) -> None:
        """Add a step."""
        self._totals.add(outputs, batch)

    def skip(self, seconds: float) -> None:
        """Leave a pause in training, such as a validation, out of the speed."""
        self._read_at += seconds

    def read(self) -> Averages | None:
        """The averages up to now; None before the first step."""
        totals = self._totals
        if totals.steps:
            loss, accuracy = totals.means()
            seconds = self.idle
            new = Averages(loss, accuracy, totals.num_tokens / seconds)
            self._averages = _blend(self._averages, new, 1 - math.exp(-seconds / _SMOOTHING_S))
            self._totals = Totals()
            self._read_at += seconds
        return self._averages


class Progress(ProgressBar):
    """A live bar on a terminal, log lines in a pipe or a file.

    Shows epoch, step, loss, accuracy, tokens per second and time left; after each validation a line with
    its metrics. Loss and accuracy are running averages, read from the device only when they are shown.
    """

    def __init__(self) -> None:
        super().__init__()
        self._view: View = View()
        self._enabled = True
        self._meter = Meter()
        self._epoch = 1

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False
        self._view = View()

    def enable(self) -> None:
        """Show progress again."""
        self._enabled = True
        self._view = view_for(console(stderr=True))

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a line without breaking the bar."""
        self._view.message(kwargs.get("sep", " ").join(str(arg) for arg in args))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin a stage with an empty screen."""
        if self._enabled:
            self.enable()
        super().setup(trainer, pl_module, stage)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar."""
        self._view.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar before the error is printed."""
        self._view.close()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        self._meter = Meter()
        self._start, self._start_step = time.monotonic(), trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take down the epoch, which has moved on when training ends."""
        self._epoch = trainer.current_epoch + 1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step; show it if that is due."""
        self._meter.add(outputs, batch)
        if self._view.due(is_logging_step(trainer), self._meter.idle):
            self._view.training(self._status(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show where training ended."""
        if self._meter.read():
            self._view.training(self._status(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock of training."""
        self._validation_start = time.monotonic()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the validation bar."""
        self.has_dataloader_changed(dataloader_idx)
        self._view.evaluation("validation", batch_idx + 1, self.total_val_batches_current_dataloader)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the metrics of a validation within training."""
        self._view.evaluation_end()
        if not validates_training(trainer):
            return
        seconds = time.monotonic() - self._validation_start
        self._meter.skip(seconds)
        metrics = [
            f"{name.removeprefix('val/')} {float(value):.4f}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        ]
        place = Status(*self._position(trainer)).place()
        self._view.message("  ".join([place, "validation", *metrics, f"({seconds:.1f} s)"]))

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the test bar."""
        self.has_dataloader_changed(dataloader_idx)
        self._view.evaluation("test", batch_idx + 1, self.total_test_batches_current_dataloader)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the test bar away."""
        self._view.evaluation_end()

    def state_dict(self) -> dict[str, Any]:
        """The epoch that a validation belongs to, should a resumed run begin with one."""
        return {"epoch": self._epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in that epoch."""
        self._epoch = state_dict["epoch"]

    def _position(self, trainer: pl.Trainer) -> tuple[int, int | None, int, int | None]:
        return self._epoch, _limit(trainer.max_epochs), trainer.global_step, max_steps(trainer)

    def _status(self, trainer: pl.Trainer) -> Status:
        position = self._position(trainer)
        averages = self._meter.read()
        if averages is None:
            return Status(*position)
        left = self._seconds_left(step=trainer.global_step, last=position[-1])
        return Status(*position, averages.loss, averages.accuracy, averages.tokens_per_second, left)

    def _seconds_left(self, step: int, last: int | None) -> float | None:
        """From the mean time of a step so far, validations included."""
        if last is None or step >= last or step == self._start_step:
            return None
        return (time.monotonic() - self._start) / (step - self._start_step) * (last - step)


def max_steps(trainer: pl.Trainer) -> int | None:
    """The optimizer steps of a whole training run, at one per batch; None if it has no end."""
    limits = [_limit(trainer.max_steps)]
    if (epochs := _limit(trainer.max_epochs)) and math.isfinite(trainer.num_training_batches):
        limits.append(epochs * int(trainer.num_training_batches))
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(value: int | None) -> int | None:
    """Lightning writes -1 for no limit."""
    return value if value is not None and value >= 0 else None


def _blend(old: Averages | None, new: Averages, weight: float) -> Averages:
    if old is None:
        return new
    return Averages(
        old.loss + weight * (new.loss - old.loss),
        old.accuracy + weight * (new.accuracy - old.accuracy),
        old.tokens_per_second + weight * (new.tokens_per_second - old.tokens_per_second),
    )
