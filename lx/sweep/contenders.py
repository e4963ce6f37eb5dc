"""Find the contenders of a comparison: single runs, trials with a run for each seed, and the trials of sweeps."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lx.errors import LxError, require_list
from lx.report.compare import Comparison, compare_contenders
from lx.report.contenders import read_contender
from lx.report.tables import count
from lx.run.paths import runs_of_path
from lx.sweep.members import is_sweep
from lx.sweep.trials import TrialDirectory, load_trials
from lx.system.output import say


def compare(runs: Iterable[str | Path]) -> Comparison:
    """Compare runs: what differs in settings and results, and whether the difference is real.

    Args:
        runs: paths of run directories; of folders whose runs differ in their seed alone, such as a trial of a sweep;
            and of sweeps, each of whose finished trials is compared with the others.

    Returns:
        The comparison; ``pairs`` has the difference of every two.

    Raises:
        LxError: a directory holds no runs, or the runs cannot be compared: their test rows, tasks or classes differ.
    """
    require_list("runs", runs)
    paths = [Path(path) for path in runs]
    if not paths:
        raise LxError("there is nothing to compare: name two runs, or a sweep")
    root = os.path.commonpath([path.absolute().parent for path in paths])
    contenders = []
    for path in paths:
        name = os.path.relpath(path, root) if len(paths) > 1 else str(path)
        if (trial := _trial_of(path)) is not None:
            contenders.append((name, _finished_runs(trial)))
        elif is_sweep(path):
            contenders += [(params if len(paths) == 1 else f"{name}: {params}", runs) for params, runs in _trials(path)]
        else:
            contenders.append((name, runs_of_path(path)))
    if twice := next((name for name, times in Counter(name for name, _ in contenders).items() if times > 1), None):
        raise LxError(f"{twice} is named twice")
    return compare_contenders([read_contender(name, runs) for name, runs in contenders])


def _trial_of(path: Path) -> TrialDirectory | None:
    """Return the trial whose directory this is; None if it is no trial's, or no run of the trial has finished."""
    trial = TrialDirectory.load(path) if path.name.isdecimal() else None
    return trial if trial is not None and _finished_runs(trial) else None


def _trials(sweep: Path) -> list[tuple[str, list[Path]]]:
    """Return name and finished runs of each trial; print how many have none; raise LxError if no trial has any."""
    trials = load_trials(sweep)
    finished = [(_params(trial), runs) for trial in trials if (runs := _finished_runs(trial))]
    if not finished:
        raise LxError(f"{sweep}: no trial of this sweep has finished")
    if left_out := len(trials) - len(finished):
        say(f"{sweep}: {count(left_out, 'trial')} without a finished run left out", sys.stderr)
    return finished


def _finished_runs(trial: TrialDirectory) -> list[Path]:
    return [each.run.path for each in trial.replicates() if each.outcome().status == "finished"]


def _params(trial: TrialDirectory) -> str:
    return ", ".join(f"{key}={value}" for key, value in trial.params.items()) or trial.path.name
