"""Save the training state and the best weights of a run."""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from lx.distributed.fsdp import full_state_dict, is_sharded
from lx.distributed.process_group import DelayedMax
from lx.errors import TrainingError
from lx.run.checkpoint import CheckpointWriter, write_checkpoint, write_training_state
from lx.run.directory import RunDirectory
from lx.run.ending import Reached
from lx.system.private_api import training_state
from lx.tasks.base import Evaluation
from lx.tracking.loggers import record_best
from lx.training.module import TextClassifier
from lx.training.run_length import RunLength

log = logging.getLogger(__name__)


class Checkpoint(Callback):
    """Keeps ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt`` of a run directory.

    ``last.ckpt`` is the whole training state after a step, saved every so many steps, every so many minutes, before
    each validation and at the end; ``previous.ckpt`` is the one before it. ``best.ckpt`` holds the weights of the
    best validation, and what the task chose there: ``{"weights", "step", "epoch", "objective", "choices"}``; further
    ones, where they are kept, are ``best-STEP.ckpt``.

    Only the first rank writes, beside training, and the others do not wait for it, unless each holds a
    shard of the training state and all are needed.

    Args:
        run: where the checkpoints go.
        objective: the metric that is reported of the best validation, for example ``val/accuracy``.
        metric: the one that says which validation is the best, for example ``val/loss``.
        mode: of that metric; ``max`` if more is better, ``min`` if less is.
        run_length: when validations come, and the end.
        every_n_steps: steps between two saves; None: do not count.
        every_n_minutes: minutes between two saves; None: do not look at the clock.
        keep_best: how many of the best weights to keep.
    """

    def __init__(
        self,
        run: RunDirectory,
        objective: str,
        metric: str,
        mode: str,
        run_length: RunLength,
        every_n_steps: int | None = None,
        every_n_minutes: float | None = None,
        keep_best: int = 1,
    ) -> None:
        self.run = run
        self.objective = objective
        self.metric = metric
        self.sign = 1.0 if mode == "max" else -1.0
        self.run_length = run_length
        self.every_n_steps = every_n_steps or run_length.total_steps
        self.every_n_seconds = math.inf if every_n_minutes is None else 60 * every_n_minutes
        self.keep_best = keep_best
        self.kept: list[tuple[float, int]] = []  # metric and step of the best, the best first
        self.best: float | None = None
        self.best_metrics: dict[str, float] = {}
        self.best_evaluation: Evaluation | None = None
        self.validated_step = self.step = 0
        self._writer = CheckpointWriter()
        self._saved_at = time.monotonic()

    @property
    def reached(self) -> Reached:
        """How far the run has come."""
        return Reached(self.step, self.run_length.position(self.step)[0], self.best_objective, self.best_metrics)

    @property
    def best_objective(self) -> float | None:
        """The objective of the best validation; None: there was none."""
        return self.best_metrics.get(self.objective)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = time.monotonic()
        timed = math.isfinite(self.every_n_seconds)
        self._late_on_any_rank = DelayedMax() if timed and is_sharded(pl_module) else None

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        late = time.monotonic() - self._saved_at >= self.every_n_seconds
        if self._late_on_any_rank is not None:
            late = bool(self._late_on_any_rank(int(late)))
        self.step = step = trainer.global_step
        if (
            late
            or step % self.every_n_steps == 0
            or self.run_length.validates_after(step)
            or step == self.run_length.total_steps
        ):
            self.save_training_state(trainer)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TextClassifier)
        self.validated_step = step = trainer.global_step
        evaluation, measured = pl_module.evaluations["val"], pl_module.scalars("val")
        value = measured[self.metric]
        if is_best := self._rank(value, step):
            self.best, self.best_metrics, self.best_evaluation = value, measured, evaluation
        record_best(trainer.loggers, self.best_metrics)  # a logger itself keeps the last values
        if not is_best and (self.keep_best == 1 or (value, step) not in self.kept):
            return
        weights = full_state_dict(pl_module.net)  # with shards every rank must call it
        if trainer.is_global_zero:
            content = {
                "weights": weights,
                "step": step,
                "epoch": self.run_length.position(max(step - 1, 0))[0],  # that of the last step
                "choices": evaluation.choices,
                "objective": measured[self.objective],
            }
            self._writer.submit(content, partial(self._keep, is_best, [step for _, step in self.kept]))
            if trainer.state.fn != TrainerFn.FITTING:
                self._writer.wait()

    def _rank(self, value: float, step: int) -> bool:
        """Add a validation to the ranking, unless its metric is not a number; return whether it is the best so far."""
        if not math.isnan(value):
            ranked = sorted([*self.kept, (value, step)], key=lambda entry: -self.sign * entry[0])
            self.kept = ranked[: self.keep_best]
        return self.best is None or self.sign * value > self.sign * self.best or math.isnan(self.best)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._writer.wait()
        if self._late_on_any_rank is not None:
            self._late_on_any_rank.wait()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        with suppress(TrainingError):  # the exception itself is reported
            self._writer.wait()

    def save_training_state(self, trainer: Trainer, wait: bool = False) -> None:
        """Write ``last.ckpt``.

        Args:
            trainer: the state is taken from it and its callbacks.
            wait: return only when the file is on the disk.

        Raises:
            TrainingError: this state or the one before could not be written, or is of a loss that is not finite.
        """
        module = trainer.lightning_module
        assert isinstance(module, TextClassifier)
        module.guard.flush()
        self._saved_at = time.monotonic()
        if not trainer.is_global_zero and not is_sharded(module.net):
            return
        for logger in trainer.loggers:
            logger.save()
        state = training_state(trainer)
        if trainer.is_global_zero:
            self._writer.submit(state, partial(write_training_state, self.run))
            if wait:
                self._writer.wait()

    @override
    def state_dict(self) -> dict[str, Any]:
        evaluation = self.best_evaluation
        return {
            "best": self.best,
            "best_objective": self.best_objective,
            "best_metrics": self.best_metrics,
            "best_summary": None if evaluation is None else evaluation.to_plain(),
            "kept": [list(entry) for entry in self.kept],
            "validated_step": self.validated_step,
            "steps_per_epoch": self.run_length.steps_per_epoch,
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        evaluation = state_dict["best_summary"]
        self.best, self.best_metrics = state_dict["best"], state_dict["best_metrics"]
        self.best_evaluation = None if evaluation is None else Evaluation.from_plain(evaluation)
        self.kept = [(value, step) for value, step in state_dict["kept"]]
        self.validated_step = state_dict["validated_step"]

    def _keep(self, is_best: bool, kept: list[int], content: dict[str, Any]) -> None:
        """Write best.ckpt and best-STEP.ckpt, and delete those out of the best. Runs in the writer thread."""
        if is_best:
            write_checkpoint(self.run.best, content)
        if self.keep_best > 1:
            write_checkpoint(self.run.best_at(content["step"]), content)
            expected = set(map(self.run.best_at, kept))
            for path in self.run.best.parent.glob("best-*.ckpt"):
                if path not in expected:
                    path.unlink()
