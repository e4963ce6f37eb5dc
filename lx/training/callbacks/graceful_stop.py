"""End training after the step during which a signal came."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from lx.distributed.process_group import DelayedMax
from lx.system.signals import Stopped, StopRequest
from lx.training.callbacks.checkpoint import Checkpoint


class GracefulStop(Callback):
    """Saves the training state and raises :class:`lx.system.signals.Stopped` when any rank has received a signal.

    In training the step is finished first. In validation a signal acts at once: the training state was saved just
    before.
    """

    def __init__(self, request: StopRequest, checkpoint: Checkpoint) -> None:
        self.request = request
        self.checkpoint = checkpoint

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.request.listen()  # Lightning has put a handler of its own for SIGTERM in place, which exits with 0
        self._signal_of_all = DelayedMax()
        self.request.patient = True

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if received := self._signal_of_all(self.request.received or 0):
            self.request.patient = False
            self.checkpoint.save_training_state(trainer, wait=True)
            raise Stopped(received, together=True)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._act_at_once()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.request.patient = trainer.state.fn == TrainerFn.FITTING

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signal_of_all.wait()
        self._act_at_once()

    def _act_at_once(self) -> None:
        self.request.patient = False
        if self.request.received is not None:
            raise Stopped(self.request.received)
