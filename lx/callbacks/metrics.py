"""Training and validation metrics, by optimizer step, to every logger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor


class SizedBatch(Protocol):
    """What is read of a batch: whole numbers that are known without asking the device."""

    num_tokens: int
    num_examples: int


class Totals:
    """Sums over steps. Tensors stay on their device until :meth:`means` reads them."""

    def __init__(self) -> None:
        self.steps = self.num_examples = self.num_tokens = 0
        self._loss: Tensor | float = 0.0
        self._correct: Tensor | float = 0.0

    def add(self, outputs: Mapping[str, Tensor], batch: SizedBatch) -> None:
        """Add a step.

        Args:
            outputs: ``loss``, the mean over the batch, and ``correct``, a count; scalars.
            batch: The step's batch.
        """
        self.steps += 1
        self.num_examples += batch.num_examples
        self.num_tokens += batch.num_tokens
        self._loss = self._loss + outputs["loss"].detach()
        self._correct = self._correct + outputs["correct"].detach()

    def means(self) -> tuple[float, float]:
        """Mean loss of the steps and accuracy over their examples; waits for the device."""
        return float(self._loss) / max(self.steps, 1), float(self._correct) / max(self.num_examples, 1)


class MetricLogger(Callback):
    """Write a row of metrics every ``trainer.log_every_n_steps`` optimizer steps and after each validation.

    A training row has ``train/loss``, ``train/accuracy`` and ``tokens_per_second`` over the steps since the
    row before, and the ``lr`` and ``grad_norm`` (if the module gives it) of its step. ``epoch`` counts
    from 1. Steps after the last full interval get a row at the end of training. The time of validation
    does not count in ``tokens_per_second``.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        self._begin()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take down the epoch and the learning rate, before either moves on."""
        self._epoch = trainer.current_epoch + 1
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step; at a full interval, write a row."""
        self._totals.add(outputs, batch)
        self._grad_norm = outputs.get("grad_norm")
        if is_logging_step(trainer):
            self._write(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the validation metrics that the module logged, and restart the clock."""
        if not validates_training(trainer):
            return
        self._since += time.perf_counter() - self._validation_start
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self._send(trainer, metrics)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the steps that no row has yet."""
        if self._totals.steps:
            self._write(trainer)

    def _begin(self) -> None:
        self._totals = Totals()
        self._since = time.perf_counter()

    def _write(self, trainer: pl.Trainer) -> None:
        # Reading the means waits for the device, so the clock is read after them.
        loss, accuracy = self._totals.means()
        seconds = time.perf_counter() - self._since
        metrics = {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "lr": float(self._lr),
            "tokens_per_second": self._totals.num_tokens / seconds,
        }
        if self._grad_norm is not None:
            metrics["grad_norm"] = float(self._grad_norm)
        self._send(trainer, metrics)
        self._begin()

    def _send(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": self._epoch, **metrics}, step=trainer.global_step)


def is_logging_step(trainer: pl.Trainer) -> bool:
    """Whether the step just taken ends a logging interval; an interval of 0 never ends."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's connector
    return interval > 0 and trainer.global_step % interval == 0


def validates_training(trainer: pl.Trainer) -> bool:
    """Whether a validation belongs to training: neither ``trainer.validate`` nor the check before it."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
