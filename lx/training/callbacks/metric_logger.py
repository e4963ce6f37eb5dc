"""Training and validation metrics, by optimizer step, to every logger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from lx.training.run_length import RunLength


class SizedBatch(Protocol):
    """The sizes of a batch: whole numbers that are known without asking the device."""

    num_tokens: int
    num_examples: int


@dataclass
class Totals:
    """Sums over training steps. Tensors stay on their device until :meth:`means` reads them.

    Attributes:
        steps: optimizer steps.
        num_examples: of these steps.
        num_tokens: likewise, without padding.
        seconds: that they took.
        loss: sum of the mean losses of the steps.
        counts: sums over the examples, by name, for example ``accuracy``: how many are right.
    """

    steps: int = 0
    num_examples: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    loss: Tensor | float = 0.0
    counts: dict[str, Tensor | float] = field(default_factory=dict)

    def add(self, outputs: Mapping[str, Any], batch: SizedBatch) -> None:
        """Add a step.

        Args:
            outputs: ``loss``, the mean over the batch, and ``counts``, sums over its examples by name; scalars.
            batch: the step's batch.
        """
        self.steps += 1
        self.num_examples += batch.num_examples
        self.num_tokens += batch.num_tokens
        self.loss = self.loss + outputs["loss"]
        for name, count in outputs["counts"].items():
            self.counts[name] = self.counts.get(name, 0.0) + count

    def __add__(self, other: Totals) -> Totals:
        names = self.counts | other.counts
        return Totals(
            steps=self.steps + other.steps,
            num_examples=self.num_examples + other.num_examples,
            num_tokens=self.num_tokens + other.num_tokens,
            seconds=self.seconds + other.seconds,
            loss=self.loss + other.loss,
            counts={name: self.counts.get(name, 0.0) + other.counts.get(name, 0.0) for name in names},
        )

    def means(self) -> dict[str, float]:
        """Compute the mean loss of the steps and each count's share of the examples; waits for the device."""
        counts = {name: float(count) / max(self.num_examples, 1) for name, count in self.counts.items()}
        return {"loss": float(self.loss) / max(self.steps, 1), **counts}

    @property
    def tokens_per_second(self) -> float:
        """Real tokens a second."""
        return self.num_tokens / self.seconds

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> Totals:
        """Read a checkpoint's sums."""
        if "_correct" in content:  # the format of lx 0.1.0
            sizes = {name: content[name] for name in ("steps", "num_examples", "num_tokens")}
            return cls(**sizes, loss=content["_loss"], counts={"accuracy": content["_correct"]})
        return cls(**content)


class MetricLogger(Callback):
    """Write a row of metrics every ``trainer.log_every_n_steps`` optimizer steps and after each validation.

    A training row has ``train/loss``, ``train/NAME`` for each of the task's counts, and ``tokens_per_second`` over the
    steps since the row before; and the ``lr`` and ``grad_norm`` (if the module gives it) of its step. ``epoch`` counts
    from 1. Steps after the last full interval get a row at the end of training. The time of validation does not count
    in ``tokens_per_second``.

    Args:
        run_length: tells the epoch of a step.
    """

    def __init__(self, run_length: RunLength) -> None:
        self.run_length = run_length
        self._totals = Totals()
        self._previous = Totals()  # of the interval before
        self._since = time.perf_counter()
        self._elapsed = 0.0  # seconds of the interval that a resumed run spent before it was interrupted
        self._lr = 0.0
        self._of_step: dict[str, Tensor] = {}

    def running_averages(self) -> tuple[dict[str, float], float]:
        """Compute means and tokens a second over the steps since the last row and the interval before it.

        Waits for the device.
        """
        totals = self._previous + self._totals
        means = totals.means()
        totals.seconds += time.perf_counter() - self._since if self._totals.steps else 0.0
        return means, totals.tokens_per_second

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.perf_counter() - self._elapsed

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._lr = float(trainer.optimizers[0].param_groups[0]["lr"])  # before the schedule moves on

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._totals.add(outputs, batch)
        self._of_step = {name: outputs[name] for name in ("grad_norm", "skipped_updates") if name in outputs}
        if is_logging_step(trainer) or trainer.global_step == trainer.max_steps:
            self._write(trainer)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_start = time.perf_counter()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not validates_training(trainer):
            return
        self._since += time.perf_counter() - self._validation_start
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self._send(trainer, metrics)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._totals.steps:
            self._write(trainer)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "totals": vars(self._totals) | {"counts": dict(self._totals.counts)},
            "elapsed": time.perf_counter() - self._since,
            "lr": self._lr,
            "of_step": self._of_step,
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._totals = Totals.from_plain(state_dict["totals"])
        self._elapsed, self._lr, self._of_step = (state_dict[name] for name in ("elapsed", "lr", "of_step"))

    def _write(self, trainer: pl.Trainer) -> None:
        totals = self._totals
        means = totals.means()  # waits for the device, so the clock is read after it
        totals.seconds = time.perf_counter() - self._since
        metrics = {
            **{f"train/{name}": mean for name, mean in means.items()},
            "lr": self._lr,
            "tokens_per_second": totals.tokens_per_second,
            **{name: float(value) for name, value in self._of_step.items()},
        }
        self._send(trainer, metrics)
        self._previous, self._totals, self._since = totals, Totals(), time.perf_counter()

    def _send(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        epoch = self.run_length.epoch_of(trainer.global_step)
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": epoch, **metrics}, step=trainer.global_step)


def is_logging_step(trainer: pl.Trainer) -> bool:
    """Whether the step just taken ends a logging interval; an interval of 0 never ends."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's connector
    return interval > 0 and trainer.global_step % interval == 0


def validates_training(trainer: pl.Trainer) -> bool:
    """Whether a validation is one of the run's: not the check of two batches before training."""
    return trainer.state.fn in (TrainerFn.FITTING, TrainerFn.VALIDATING) and not trainer.sanity_checking
