"""Goes on where a checkpoint was saved."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from lx.training.run_length import RunLength


class RestoreLoops(Callback):
    """Tells Lightning's loops how far the run has come, and makes up for a validation that was due.

    Weights, optimizer, schedule and callbacks are restored by Lightning from the checkpoint.

    Args:
        step: optimizer steps taken when the checkpoint was saved.
        run_length: of the run.
    """

    def __init__(self, step: int, run_length: RunLength) -> None:
        self.step = step
        self.run_length = run_length

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the counters of the loops."""
        epoch, _ = self.run_length.position(self.step)
        loop = trainer.fit_loop
        for epochs in (loop.epoch_progress.current, loop.epoch_progress.total):
            epochs.ready = epochs.completed = epoch
            epochs.started = epochs.processed = epoch  # type: ignore[attr-defined]
        for steps in (loop.epoch_loop.batch_progress, loop.epoch_loop.manual_optimization.optim_step_progress):
            steps.total.ready = steps.total.completed = self.step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate, if the checkpoint was saved just before a validation, as Lightning does within an epoch."""
        if self.run_length.validates_after(self.step):
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
