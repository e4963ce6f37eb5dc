"""Go on at the step where a checkpoint was saved."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lx.system.private_api import set_loop_counters, validate_within_fit
from lx.training.run_length import RunLength


class RestoreLoops(Callback):
    """Sets Lightning's loops to the step of a checkpoint, and runs the validation that was due there.

    Weights, optimizer, schedule and callbacks are restored by Lightning from the checkpoint.

    Args:
        step: optimizer steps taken when the checkpoint was saved.
        run_length: of the run.
    """

    def __init__(self, step: int, run_length: RunLength) -> None:
        self.step = step
        self.run_length = run_length

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch, _ = self.run_length.position(self.step)
        set_loop_counters(trainer, epoch, self.step)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.run_length.validates_after(self.step):  # the checkpoint is from just before that validation
            validate_within_fit(trainer)
