"""Verdicts on trials follow from the study alone: asked again after a crash, they are the same."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.pruners import BasePruner

from lx.run.directory import RunDirectory
from lx.run.verdict import GO_ON, PRUNE, Report, read_verdict, write_reports
from lx.sweep.hearing import Hearing
from lx.sweep.judge import PrunerJudge

PRUNERS = {
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=2),
    "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=8, reduction_factor=2),
}
VALUES = [0.5, 0.9, 0.1, 0.7, 0.2, 0.95, 0.3, 0.6]


class CrashError(Exception):
    pass


class CrashAfter(BasePruner):
    """A pruner of a process that dies after the pruner has made its notes."""

    def __init__(self, pruner: BasePruner) -> None:
        self.pruner = pruner

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        self.pruner.prune(study, trial)
        raise CrashError


def verdicts(folder: Path, name: str, crash: bool) -> list[list[str]]:
    """Verdicts on eight trials of four validations each, with a crash at each verdict."""
    study = optuna.create_study(study_name="lx", direction="maximize")
    judge, dying = PrunerJudge(study, PRUNERS[name]), PrunerJudge(study, lambda: CrashAfter(PRUNERS[name]()))
    given = []
    for value in VALUES:
        trial, run = study.ask(), RunDirectory(folder / f"{name}-{crash}-{value}")
        run.path.mkdir()
        given.append([])
        reports: list[Report] = []
        Hearing(study, judge).open(trial.number, run)
        for validation in range(1, 5):
            reports.append(Report(validation, 10 * validation, value + 0.01 * validation, final=validation == 4))
            write_reports(run, reports)
            if crash and validation < 4:
                with pytest.raises(CrashError):
                    Hearing(study, dying).hear(trial.number, run)
            Hearing(study, judge).hear(trial.number, run)
            given[-1].append(read_verdict(run)[1])
            if given[-1][-1] == PRUNE:
                break
        state = optuna.trial.TrialState.PRUNED if given[-1][-1] == PRUNE else optuna.trial.TrialState.COMPLETE
        study.tell(trial, None if state == optuna.trial.TrialState.PRUNED else value, state=state)
    return given


@pytest.mark.parametrize("name", PRUNERS)
def test_a_verdict_that_a_crash_cut_off_is_given_again(name: str, tmp_path: Path) -> None:
    undisturbed = verdicts(tmp_path, name, crash=False)
    assert PRUNE in {verdict for trial in undisturbed for verdict in trial}
    assert GO_ON in {verdict for trial in undisturbed for verdict in trial}
    assert verdicts(tmp_path, name, crash=True) == undisturbed
