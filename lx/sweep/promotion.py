"""Promotion: a trial pauses at a rung, and goes on when it turns out to be among the best there."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Container

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lx.run.verdict import GO_ON, PAUSE, Report
from lx.sweep.judge import is_paused, record_verdict, recorded_verdicts


class PromotionJudge:
    """Asynchronous successive halving with promotion (Li et al. 2020, algorithm 2).

    Rungs are validations 1, r, r^2, ... for a reduction r of at least 2. At a rung a trial goes on if it is among the
    best n // r of the n trials that have reached it so far, and pauses otherwise. When there is room, a paused trial
    that has become one of these best goes on before a new trial begins. When no trial is left to begin, at least the
    best of a rung goes on, so that one is trained to the end.
    """

    def __init__(self, study: Study, reduction: int) -> None:
        self._study = study
        self._reduction = reduction

    def verdict(self, trial: FrozenTrial, report: Report) -> str:
        """See :class:`lx.sweep.judge.Judge`."""
        rung = report.validation
        if rung not in self._rungs(rung):
            return GO_ON
        if (recorded := recorded_verdicts(trial).get(rung)) is not None:
            return recorded
        verdict = GO_ON if trial.number in self._best(rung, least=0) else PAUSE
        record_verdict(self._study, trial, rung, verdict)
        return verdict

    def promote(self, paused: Container[int], last: bool) -> int | None:
        """Choose a paused trial that goes on, and record the choice.

        Args:
            paused: numbers of the trials that have paused.
            last: whether no trial is left to begin, and none is running.

        Returns:
            Its number; None if none is good enough.
        """
        trials = self._study.get_trials(deepcopy=False)
        furthest = max((step for trial in trials for step in trial.intermediate_values), default=0)
        for rung in reversed(self._rungs(furthest)):
            for number in self._best(rung, least=int(last)):
                if number in paused and recorded_verdicts(trials[number]).get(rung) == PAUSE:
                    record_verdict(self._study, trials[number], rung, GO_ON)
                    return number
        return None

    def _rungs(self, furthest: int) -> list[int]:
        rungs = [1]
        while rungs[-1] * self._reduction <= furthest:
            rungs.append(rungs[-1] * self._reduction)
        return rungs

    def _best(self, rung: int, least: int) -> Collection[int]:
        """Return the numbers of the best n // r of the n trials at a rung, at least ``least``, the best first."""
        values = {
            trial.number: trial.intermediate_values[rung]
            for trial in self._study.get_trials(deepcopy=False)
            if rung in trial.intermediate_values
        }
        sign = -1.0 if self._study.direction == StudyDirection.MAXIMIZE else 1.0
        finite = [number for number, value in values.items() if not math.isnan(value)]
        return sorted(finite, key=lambda number: (sign * values[number], number))[
            : max(least, len(values) // self._reduction)
        ]


class PausedAsPruned(Study):
    """A study that shows paused trials as pruned, because samplers learn nothing from trials that are under way."""

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = [_paused_as_pruned(trial) for trial in super()._get_trials(deepcopy, None, use_cache)]
        return [trial for trial in trials if states is None or trial.state in states]

    @classmethod
    def of(cls, study: Study) -> PausedAsPruned:
        """Return such a view of a study."""
        return cls(study.study_name, study._storage, study.sampler)


def _paused_as_pruned(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.RUNNING or not is_paused(trial):
        return trial
    trial = copy.copy(trial)
    trial.state = TrialState.PRUNED
    trial.value = trial.intermediate_values[max(trial.intermediate_values)]
    return trial
