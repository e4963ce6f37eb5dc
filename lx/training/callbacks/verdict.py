"""Report each validation to the sweep that a run belongs to, and obey what it decides."""

from __future__ import annotations

import logging
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from lx.distributed.process_group import scatter
from lx.run.directory import RunDirectory
from lx.run.verdict import GO_ON, PAUSE, PRUNE, Report, read_reports, read_verdict, write_reports
from lx.training.module import TextClassifier
from lx.training.run_length import RunLength

log = logging.getLogger(__name__)

_POLL_S = 0.005
_PATIENCE_S = 60.0
_STATUSES = {GO_ON: "finished", PRUNE: "pruned", PAUSE: "paused"}


class AwaitVerdict(Callback):
    """Writes the objective of each validation into the run directory, and ends training where the sweep says so.

    Training waits for the verdict, which takes the sweep some hundredths of a second: the same trials are then pruned
    whatever the machine was doing. A sweep that does not answer is waited for once; training goes on without it, and
    obeys the verdict that it finds after a later validation.

    It stands before the callback that delays signals to the end of a step: while it waits, a signal ends the run at
    once. Nothing is lost, since the training state was saved before the validation.
    """

    def __init__(self, run: RunDirectory, metric: str, run_length: RunLength) -> None:
        self.run = run
        self.metric = metric
        self.run_length = run_length
        self.verdict = GO_ON
        self._patience = _PATIENCE_S

    @property
    def status(self) -> str:
        """How the run ends: ``finished``, ``pruned`` or ``paused``."""
        return _STATUSES[self.verdict]

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        assert isinstance(pl_module, TextClassifier)
        answers: list[Any] = []
        if trainer.is_global_zero:
            step = trainer.global_step
            number, objective = self.run_length.validations_by(step), pl_module.scalars("val")[self.metric]
            report = Report(number, step, objective, final=step >= self.run_length.total_steps)
            answers = [self._ask(report)] * trainer.world_size
        self.verdict = scatter(answers)
        if self.verdict != GO_ON:
            trainer.should_stop = True

    def _ask(self, report: Report) -> str:
        reports = read_reports(self.run)
        if report.validation not in {earlier.validation for earlier in reports}:
            write_reports(self.run, [*reports, report])
        if report.final:
            return GO_ON
        deadline = time.monotonic() + self._patience
        number, verdict = read_verdict(self.run)
        while verdict == GO_ON and number < report.validation:
            if time.monotonic() >= deadline:
                if self._patience:
                    log.warning("the sweep has not answered for %.0f s: training goes on", self._patience)
                self._patience = 0.0
                return GO_ON
            time.sleep(_POLL_S)
            number, verdict = read_verdict(self.run)
        self._patience = _PATIENCE_S
        return verdict
