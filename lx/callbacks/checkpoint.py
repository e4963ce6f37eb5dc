"""Checkpoints: the newest training state, and the best weights."""

from __future__ import annotations

import logging
import math
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lx.errors import LxError
from lx.module import TextClassifier
from lx.run import RunDirectory, atomic_write
from lx.tasks.task import Summary

log = logging.getLogger(__name__)


class Checkpoint(Callback):
    """Keeps ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt`` of a run directory.

    ``last.ckpt`` is Lightning's whole training state, saved after each epoch. ``best.ckpt`` holds the weights of the
    validation with the best objective: ``{"weights", "step", "epoch", "objective"}``.

    Args:
        run: where the checkpoints go.
        metric: the objective, for example ``val/accuracy``.
        mode: ``max`` if more is better, ``min`` if less is.
    """

    def __init__(self, run: RunDirectory, metric: str, mode: str) -> None:
        self.run = run
        self.metric = metric
        self.sign = 1.0 if mode == "max" else -1.0
        self.best: float | None = None
        self.best_metrics: dict[str, float] = {}
        self.best_summary: Summary | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights if the objective is better than ever before."""
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, TextClassifier)
        measured = pl_module.scalars("val")
        objective = measured[self.metric]
        if self.best is None or self.sign * objective > self.sign * self.best or math.isnan(self.best):
            self.best = objective
            self.best_metrics, self.best_summary = measured, pl_module.summaries["val"]
            content = {
                "weights": pl_module.net.state_dict(),
                "step": trainer.global_step,
                "epoch": trainer.current_epoch,
                "objective": objective,
            }
            save(self.run.best, content)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the training state."""
        self.save_training_state(trainer)

    def save_training_state(self, trainer: Trainer) -> None:
        """Write ``last.ckpt``."""
        try:
            with atomic_write(self.run.last) as temporary:
                trainer.save_checkpoint(temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise LxError(f"cannot write the checkpoint {self.run.last}: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """What was best, for the training state."""
        return {"best": self.best, "best_metrics": self.best_metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a training state."""
        self.best, self.best_metrics = state_dict["best"], state_dict["best_metrics"]


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of plain containers and tensors, so that a reader sees all of it or nothing.

    Raises:
        LxError: the disk does not take it.
    """
    try:
        with atomic_write(path) as temporary:
            torch.save(content, temporary)
    except RuntimeError as error:
        raise LxError(f"cannot write the checkpoint {path}: {error}") from error


def load_weights(run: RunDirectory) -> dict[str, Tensor]:
    """The best weights of a run, on the CPU. Nothing in the file is executed: only tensors and plain containers load.

    Raises:
        LxError: missing, truncated, or not a checkpoint of plain data.
    """
    path = run.trusted(run.best)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise LxError(
            f"{path} holds more than tensors and plain containers, and was not loaded: it could run code of its own"
        ) from error
    except Exception as error:  # damage can surface anywhere in torch's reader
        raise LxError(f"{path} is truncated or not a checkpoint ({type(error).__name__})") from error
    weights = content.get("weights") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise LxError(f"{path} holds no weights of lx's")
    return weights
