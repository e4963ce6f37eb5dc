"""Progress of training and evaluation, on standard error."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback
from typing_extensions import override

from lx.system.console import console
from lx.training.callbacks.metric_logger import MetricLogger, is_logging_step, validates_training
from lx.training.callbacks.progress_view import Status, View, view_for
from lx.training.run_length import RunLength


class EvaluationBar(Callback):
    """A live bar on a terminal for each pass over a validation or test split.

    Args:
        view: how to show it; None: whatever standard error is capable of.
    """

    def __init__(self, view: View | None = None) -> None:
        self._given_view = view
        self._view = view or View()

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._view = self._given_view or view_for(console(stderr=True))

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._view.close()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._view.close()  # before the error is printed

    @override
    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._view.evaluation("validation", batch_idx + 1, trainer.num_val_batches[0])

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._view.evaluation_end()

    @override
    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._view.evaluation("test", batch_idx + 1, trainer.num_test_batches[0])

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._view.evaluation_end()


class ProgressBar(EvaluationBar):
    """A live bar on a terminal, log lines in a pipe or a file.

    Shows epoch, step, the metric logger's running averages, and the time left; after each validation a line with its
    metrics. The averages are read from the device only when they are shown.

    Args:
        metric_logger: has the averages; it comes before this callback.
        run_length: of the run.
        view: how to show it; None: whatever standard error is capable of.
    """

    def __init__(self, metric_logger: MetricLogger, run_length: RunLength, view: View | None = None) -> None:
        super().__init__(view)
        self.metric_logger = metric_logger
        self.run_length = run_length

    @property
    @override
    def state_key(self) -> str:
        return "Progress"  # its name in checkpoints of lx 0.1.0, which hold a state that is not needed

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = self._shown_at = time.monotonic()
        self._start_step = trainer.global_step

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._view.due(is_logging_step(trainer), time.monotonic() - self._shown_at):
            self._show_training(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step > self._start_step:
            self._show_training(trainer)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_start = time.monotonic()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not validates_training(trainer):
            return
        seconds = time.monotonic() - self._validation_start
        metrics = [
            f"{name.removeprefix('val/')} {float(value):.4f}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        ]
        position = Status(self.run_length, trainer.global_step).position()
        self._view.message("  ".join([position, "validation", *metrics, f"({seconds:.1f} s)"]))

    def _show_training(self, trainer: pl.Trainer) -> None:
        averages, tokens_per_second = self.metric_logger.running_averages()
        step = trainer.global_step
        left = self._seconds_left(step)
        self._view.training(Status(self.run_length, step, averages, tokens_per_second, left))
        self._shown_at = time.monotonic()

    def _seconds_left(self, step: int) -> float | None:
        """Estimate from the mean time of a step so far, validations included."""
        if step >= self.run_length.total_steps:
            return None
        seconds_per_step = (time.monotonic() - self._start) / (step - self._start_step)
        return seconds_per_step * (self.run_length.total_steps - step)
