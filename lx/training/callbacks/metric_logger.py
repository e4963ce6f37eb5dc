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

    def state_dict(self) -> dict[str, Any]:
        """The sums, for a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's sums."""
        vars(self).update(state_dict)

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

    def __init__(self) -> None:
        self._totals = Totals()
        self._elapsed = 0.0  # seconds of the interval that a resumed run spent before it was interrupted
        self._since = time.perf_counter()
        self._epoch = 1
        self._lr = 0.0
        self._of_step: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter() - self._elapsed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take down the epoch and the learning rate, before either moves on."""
        self._epoch = trainer.current_epoch + 1
        self._lr = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step; at a full interval, write a row."""
        self._totals.add(outputs, batch)
        self._of_step = {name: outputs[name] for name in ("grad_norm", "skipped_updates") if name in outputs}
        if is_logging_step(trainer) or trainer.global_step == trainer.max_steps:
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

    def state_dict(self) -> dict[str, Any]:
        """The interval that is under way."""
        return {
            "totals": self._totals.state_dict(),
            "elapsed": time.perf_counter() - self._since,
            "epoch": self._epoch,
            "lr": self._lr,
            "of_step": self._of_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on within an interval."""
        self._totals.load_state_dict(state_dict["totals"])
        self._elapsed, self._epoch, self._lr = (state_dict[name] for name in ("elapsed", "epoch", "lr"))
        self._of_step = state_dict["of_step"]

    def _write(self, trainer: pl.Trainer) -> None:
        # Reading the means waits for the device, so the clock is read after them.
        loss, accuracy = self._totals.means()
        seconds = time.perf_counter() - self._since
        metrics = {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "lr": self._lr,
            "tokens_per_second": self._totals.num_tokens / seconds,
            **{name: float(value) for name, value in self._of_step.items()},
        }
        self._send(trainer, metrics)
        self._totals, self._since = Totals(), time.perf_counter()

    def _send(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": self._epoch, **metrics}, step=trainer.global_step)


def is_logging_step(trainer: pl.Trainer) -> bool:
    """Whether the step just taken ends a logging interval; an interval of 0 never ends."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's connector
    return interval > 0 and trainer.global_step % interval == 0


def validates_training(trainer: pl.Trainer) -> bool:
    """Whether a validation is one of the run's: not the check of two batches before training."""
    return trainer.state.fn in (TrainerFn.FITTING, TrainerFn.VALIDATING) and not trainer.sanity_checking
