"""The sweep's side of verdicts: hears what trials report, asks the judge, and answers."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from lx.run.directory import RunDirectory
from lx.run.verdict import GO_ON, Report, read_reports, read_verdict, write_verdict
from lx.sweep.judge import Judge, PrunerJudge, is_paused, recorded_verdicts
from lx.sweep.promotion import PromotionJudge


class Hearing:
    """Takes in the reports of a sweep's trials and answers them as a judge decides."""

    def __init__(self, study: Study, judge: Judge) -> None:
        self._study = study
        self._judge = judge
        self._heard_at: dict[Path, int | None] = {}

    def open(self, number: int, run: RunDirectory) -> None:
        """Write the last verdict on a trial into its run before the run starts; with that file it reports and waits."""
        recorded = recorded_verdicts(self._trial(number))
        last = max(recorded, default=0)
        write_verdict(run, last, recorded.get(last, GO_ON))
        self._heard_at.pop(run.path, None)

    def has_news(self, run: RunDirectory) -> bool:
        """Whether a run has reported since :meth:`hear` last read its reports."""
        return self._heard_at.get(run.path) != _reported_at(run)

    def hear(self, number: int, run: RunDirectory) -> None:
        """Take in the new reports of a trial's run (that of its first seed) in their order, and answer the last."""
        if not self.has_news(run):
            return
        self._heard_at[run.path] = _reported_at(run)
        for report in read_reports(run):
            self._record(number, report)
            if report.final:
                continue
            verdict = self._judge.verdict(self._trial(number), report)
            if read_verdict(run)[0] < report.validation:
                write_verdict(run, report.validation, verdict)
            if verdict != GO_ON:
                return

    def is_paused(self, number: int) -> bool:
        """Whether the last verdict on a trial was to pause."""
        return is_paused(self._trial(number))

    def promote(self, paused: Container[int], last: bool) -> int | None:
        """See :meth:`lx.sweep.promotion.PromotionJudge.promote`; None with a judge that pauses none."""
        return self._judge.promote(paused, last) if isinstance(self._judge, PromotionJudge) else None

    def _record(self, number: int, report: Report) -> None:
        trial = self._trial(number)
        if report.validation not in trial.intermediate_values and not trial.state.is_finished():
            self._study._storage.set_trial_intermediate_value(trial._trial_id, report.validation, report.objective)

    def _trial(self, number: int) -> FrozenTrial:
        storage = self._study._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))


def _reported_at(run: RunDirectory) -> int | None:
    """When a run last reported, in nanoseconds; None if it has not."""
    try:
        return run.reports.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def build_hearing(study: Study, settings: Mapping[str, Any]) -> Hearing | None:
    """Build the hearing of a sweep; None if its settings neither prune nor pause trials."""
    if settings["promote"]:
        return Hearing(study, PromotionJudge(study, settings["reduction"]))
    if not settings["pruner"]:
        return None
    from hydra.utils import instantiate

    node = dict(settings["pruner"])
    return Hearing(study, PrunerJudge(study, lambda: instantiate(node)))
