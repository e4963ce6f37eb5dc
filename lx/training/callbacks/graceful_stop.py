"""Ends training after the step during which a signal came."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lx.distributed.process_group import DelayedMax
from lx.system.signals import Stopped, StopRequest
from lx.training.callbacks.checkpoint import Checkpoint


class GracefulStop(Callback):
    """Saves the training state and raises :class:`lx.system.signals.Stopped` when a stop was requested of any rank.

    While validation runs a signal acts at once: the training state was saved just before.

    Args:
        request: what the signal handler notes.
        checkpoint: saves the training state.
    """

    def __init__(self, request: StopRequest, checkpoint: Checkpoint) -> None:
        self.request = request
        self.checkpoint = checkpoint

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on a signal waits for the step to end."""
        self.request.listen()  # Lightning has put a handler of its own for SIGTERM in place, which exits with 0
        self._agree = DelayedMax()
        self.request.patient = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if asked to."""
        if received := self._agree(self.request.received or 0):
            self.request.patient = False
            self.checkpoint.save_training_state(trainer, wait=True)
            raise Stopped(received, together=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on a signal acts at once; one that came before does now."""
        self._act_at_once()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on a signal waits for the step to end again."""
        self.request.patient = trainer.state.fn == TrainerFn.FITTING

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A signal acts at once again; one that came after the last step does now."""
        self._agree.wait()
        self._act_at_once()

    def _act_at_once(self) -> None:
        self.request.patient = False
        if self.request.received is not None:
            raise Stopped(self.request.received)
