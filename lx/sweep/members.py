"""Find the runs of a sweep that predict together, and load a run or sweep, perhaps a stranger's, for prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lx.errors import LxError
from lx.run.directory import RunDirectory
from lx.run.paths import runs_of_path
from lx.sweep.leaderboard import best_finished, rank_trials
from lx.sweep.trials import Replicate, TrialDirectory, load_trials
from lx.system.plain_data import read_json

if TYPE_CHECKING:
    from lx.inference.average import Average
    from lx.inference.classifier import Classifier

_MOST_BYTES = 1 << 26  # of a result, with a confusion matrix


def is_sweep(path: Path) -> bool:
    """Return whether a directory holds a sweep."""
    return (path / "sweep.json").exists()


def members(path: Path, top: int | None = None) -> list[Path]:
    """Return the run directories that a path stands for: a run itself, a trial's runs, or the members of a sweep.

    Args:
        path: of a run; of a folder of runs, such as those of a trial's seeds, ``SWEEP/0``; or of a sweep.
        top: how many of a sweep's best runs to take, from any trial, ranked by their own validation. None: the number
            that ``sweep=auto`` has recorded; without one, the finished runs of the best trial, one per seed.

    Raises:
        LxError: the path is none of them, the sweep has no finished run, or it is damaged.
    """
    if not is_sweep(path):
        if top is not None:
            raise LxError(f"--top {top}: {path} is not a sweep, whose best runs could be chosen")
        return runs_of_path(path)
    try:
        return _best_runs(path, top)
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # a stranger's files can cause any
        raise LxError(f"{path} is a damaged sweep: {type(error).__name__}: {error}") from error


def _best_runs(directory: Path, top: int | None) -> list[Path]:
    record = read_json(_checked_path(directory, directory / "sweep.json"))
    metric, mode = str(record["metric"]), str(record["mode"])
    trials = _read_trials(directory)
    top = top or record.get("top")
    if top is None:
        best = best_finished(rank_trials(trials, metric, mode, record.get("further")))
        replicates = _finished([best.trial]) if best is not None else []
    else:
        sign = -1.0 if mode == "max" else 1.0
        replicates = sorted(_finished(trials), key=lambda replicate: sign * _objective(replicate))[:top]
    if not replicates:
        raise LxError(f"no run of the sweep {directory} has finished: lx sweep resume {RunDirectory(directory).quoted}")
    return [replicate.run.path for replicate in replicates]


def _finished(trials: Sequence[TrialDirectory]) -> list[Replicate]:
    feasible = [trial for trial in trials if not trial.infeasible]
    replicates = [each for trial in feasible for each in (*trial.replicates(), *trial.confirmations())]
    return [each for each in replicates if each.outcome().status == "finished" and not math.isnan(_objective(each))]


def _objective(replicate: Replicate) -> float:
    objective = replicate.outcome().objective
    return math.nan if objective is None else float(objective)


def _read_trials(directory: Path) -> list[TrialDirectory]:
    """Read the trials; refuse files that lie outside of the sweep."""
    for path in directory.iterdir():
        if path.name.isdecimal():
            _checked_path(directory, path / "trial.json")
    trials = load_trials(directory)
    for trial in trials:
        if any(type(seed) is not int for seed in (*trial.seeds, *trial.fresh_seeds)):
            raise TypeError(f"the seeds of {trial.path} are no whole numbers")
        for replicate in (*trial.replicates(), *trial.confirmations()):
            _checked_path(directory, replicate.run.result)
    return trials


def _checked_path(directory: Path, path: Path) -> Path:
    """Return a path; raise LxError if a link leads out of the sweep, or it is no regular file of moderate size."""
    if path.resolve() != directory.resolve() / path.relative_to(directory):
        raise LxError(f"{path} is a link, or lies beyond one: a sweep directory must hold its own files")
    if path.exists() and (not path.is_file() or path.stat().st_size > _MOST_BYTES):
        raise LxError(f"{path} is no file, or larger than {_MOST_BYTES:,} bytes, and was not read")
    return path


def load(
    path: str | Path,
    accelerator: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    trust: Sequence[str] = (),
    top: int | None = None,
) -> Classifier | Average:
    """Load a finished run, or the average of several of a sweep, for prediction.

    Args:
        path: the directory of a run or of a sweep.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        precision: Lightning's name, or ``auto``; None: as the first run was configured.
        threads: CPU threads; None: torch's default.
        trust: packages whose classes may be built from the runs' configurations.
        top: see :func:`members`.

    Raises:
        LxError: not a complete run or sweep, one that was refused, or hardware that is not available.
    """
    from lx.inference.average import build_predictor
    from lx.inference.load import load_run
    from lx.system.hardware import resolve

    loaded = [load_run(run, trust) for run in members(Path(path), top)]
    precision = precision or str(loaded[0].config["hardware"]["precision"])
    return build_predictor(loaded, resolve(accelerator, precision, threads))
