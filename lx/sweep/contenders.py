"""Find what is compared: runs, trials with a run for each seed, and sweeps, each of whose trials is a contender."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lx.errors import LxError
from lx.report.compare import Comparison, compare_contenders
from lx.report.contenders import read_contender
from lx.report.tables import count
from lx.run.paths import runs_of_path
from lx.sweep.members import is_sweep
from lx.sweep.trials import TrialDirectory, load_trials
from lx.system.output import say


def compare(paths: Sequence[str | Path]) -> Comparison:
    """Compare runs: what differs in settings and results, and whether the difference is real.

    Args:
        paths: of run directories; of folders whose runs differ in their seed alone, such as a trial of a sweep; and of
            sweeps, each of whose finished trials is compared with the others.

    Returns:
        The comparison; ``pairs`` has the difference of every two.

    Raises:
        LxError: a directory holds no runs, or the runs cannot be compared: their test rows, tasks or classes differ.
    """
    if not paths:
        raise LxError("there is nothing to compare: name two runs, or a sweep")
    shared = os.path.commonpath([Path(path).absolute().parent for path in paths])
    found = [entry for path in paths for entry in _find(Path(path), os.path.relpath(path, shared), len(paths) == 1)]
    if twice := next((name for name, times in Counter(name for name, _ in found).items() if times > 1), None):
        raise LxError(f"{twice} is named twice")
    return compare_contenders([read_contender(name, runs) for name, runs in found])


def _find(path: Path, name: str, is_alone: bool) -> list[tuple[str, list[Path]]]:
    """Return the name and the runs of each contender in a directory; of a sweep, each finished trial is one."""
    trial = TrialDirectory.load(path) if path.name.isdecimal() else None
    if trial is not None and (finished := _finished(trial)):
        return [(name, finished)]
    if not is_sweep(path):
        return [(name, runs_of_path(path))]
    trials = load_trials(path)
    prefix = "" if is_alone else f"{name}: "
    found = [(prefix + _params(trial), runs) for trial in trials if (runs := _finished(trial))]
    if not found:
        raise LxError(f"{path}: no trial of this sweep has finished")
    if left_out := len(trials) - len(found):
        say(f"{path}: {count(left_out, 'trial')} without a finished run left out", sys.stderr)
    return found


def _finished(trial: TrialDirectory) -> list[Path]:
    return [each.run.path for each in trial.replicates() if each.outcome().status == "finished"]


def _params(trial: TrialDirectory) -> str:
    return ", ".join(f"{key}={value}" for key, value in trial.params.items()) or trial.path.name
