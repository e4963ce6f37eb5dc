"""The ranking of a sweep's trials, by validation alone, and ``leaderboard.csv``."""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path

from lx.sweep.pareto import pareto_front
from lx.sweep.trials import ENDED_WELL, Mean, Outcome, TrialDirectory
from lx.system.files import atomic_write


@dataclass(frozen=True)
class Row:
    """A trial on the leaderboard.

    Attributes:
        trial: its directory.
        objective: over the replicates that ended well, from validation alone; trials are ranked by it.
        test: the test split's counterpart of the objective, shown and never ranked by.
        confirmed: the objective on fresh seeds, which selection has not seen.
        confirmed_test: the test split's counterpart of that.
        seconds: of all its runs.
        state: ``finished``, ``failed``, ``pruned``, ``infeasible``, ``paused`` or ``unfinished``.
        reason: why it failed.
        further: the means of further objectives, by name.
        on_front: whether it has finished on the Pareto front of all objectives, where there are several.
    """

    trial: TrialDirectory
    objective: Mean | None
    test: Mean | None
    confirmed: Mean | None
    confirmed_test: Mean | None
    seconds: float
    state: str
    reason: str
    further: Mapping[str, Mean | None] = field(default_factory=dict)
    on_front: bool = False


def rank_trials(
    trials: Iterable[TrialDirectory], metric: str, mode: str, further: Mapping[str, str] | None = None
) -> list[Row]:
    """Read the results of trials and rank them: see :func:`ranked`.

    Args:
        trials: of a sweep.
        metric: the objective's name, for example ``val/accuracy``.
        mode: ``max`` or ``min``.
        further: the modes of further objectives, by name. If there are any, the Pareto front of all comes first.
    """
    further = further or {}
    rows = ranked([row_of(trial, metric, tuple(further)) for trial in trials], mode)
    if not further:
        return rows
    modes = [mode, *further.values()]
    costs = {row.trial.number: _costs(row, modes) for row in rows if row.state == "finished"}
    complete = {number: values for number, values in costs.items() if not any(map(math.isnan, values))}
    front = set(compress(complete, pareto_front([*complete.values()])))
    rows = [replace(row, on_front=row.trial.number in front) for row in rows]
    return sorted(rows, key=lambda row: not row.on_front)


def _costs(row: Row, modes: Sequence[str]) -> list[float]:
    return [_cost(mean, mode) for mean, mode in zip((row.objective, *row.further.values()), modes, strict=True)]


def _cost(mean: Mean | None, mode: str) -> float:
    """Return a number that is smaller the better a mean is; not a number (NaN) if there is no mean."""
    if mean is None:
        return math.nan
    return -mean.mean if mode == "max" else mean.mean


def row_of(trial: TrialDirectory, metric: str, further: Sequence[str]) -> Row:
    """Read a trial's results: its objective, called ``metric``, and those called ``further``."""
    outcomes = [replicate.outcome() for replicate in trial.replicates()]
    fresh = [replicate.outcome() for replicate in trial.confirmations()]
    objective, test = _means(outcomes, metric)
    confirmed, confirmed_test = _means(fresh, metric)
    return Row(
        trial=trial,
        objective=objective,
        test=test,
        confirmed=confirmed,
        confirmed_test=confirmed_test,
        seconds=sum(outcome.seconds for outcome in [*outcomes, *fresh]),
        state=_state(trial, outcomes),
        reason=trial.dropped or "; ".join(f"seed {seed}: {reason}" for seed, reason in trial.failures.items()),
        further=further_means(outcomes, further),
    )


def further_means(outcomes: Sequence[Outcome], names: Sequence[str]) -> dict[str, Mean | None]:
    """Return the means of further objectives over the runs that have ended well."""
    done = [outcome for outcome in outcomes if outcome.status in ENDED_WELL]
    measured = {name: [value for outcome in done if (value := outcome.value(name)) is not None] for name in names}
    return {name: Mean.of(values) for name, values in measured.items()}


def _means(outcomes: Sequence[Outcome], metric: str) -> tuple[Mean | None, Mean | None]:
    """Return the mean objective, and the same metric on the test split, over the runs that have ended well."""
    done = [outcome for outcome in outcomes if outcome.status in ENDED_WELL]
    values = [outcome.objective for outcome in done if outcome.objective is not None]
    test = counterpart_on_test(metric)
    on_test = [outcome.metrics[test] for outcome in done if test is not None and test in outcome.metrics]
    return Mean.of(values), Mean.of(on_test)


def counterpart_on_test(metric: str) -> str | None:
    """Return the name of a validation metric on the test split; None if it is not a validation metric."""
    return metric.replace("val/", "test/", 1) if metric.startswith("val/") else None


def best_finished(rows: Iterable[Row]) -> Row | None:
    """Return the best trial of a ranking; None if none has finished."""
    return next((row for row in rows if row.state == "finished"), None)


def _state(trial: TrialDirectory, outcomes: Sequence[Outcome]) -> str:
    if trial.failures.keys() & set(trial.seeds):
        return "failed"
    if trial.dropped:
        return "infeasible" if trial.infeasible else "pruned"
    statuses = {outcome.status for outcome in outcomes}
    if statuses == {"finished"}:
        return "finished"
    return next((status for status in ("pruned", "paused") if status in statuses), "unfinished")


def ranked(rows: Sequence[Row], mode: str) -> list[Row]:
    """Sort finished trials from best to worst, then those without an objective and all others by number."""

    def key(row: Row) -> tuple[bool, float, int]:
        cost = _cost(row.objective, mode)
        is_ranked = row.state == "finished" and not math.isnan(cost)
        return not is_ranked, cost if is_ranked else 0.0, row.trial.number

    return sorted(rows, key=key)


def write_leaderboard(path: Path, rows: Sequence[Row], metric: str) -> None:
    """Write ``leaderboard.csv``."""
    keys = list(dict.fromkeys(key for row in rows for key in row.trial.params))
    further = list(rows[0].further) if rows else []
    heading = ["trial", *keys, metric, "deviation", "n", "test", "test_deviation"]
    heading += ["confirmed", "confirmed_deviation", "confirmed_n", "confirmed_test", "confirmed_test_deviation"]
    heading += [*(name for name in further if name != "seconds"), *(["front"] if further else [])]
    heading += ["seconds", "state", "reason", "run_dir"]
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(_cells(row, keys) for row in rows)


def _cells(row: Row, keys: Sequence[str]) -> list[object]:
    """Return the values of a row in the order of the heading."""
    cells: list[object] = [row.trial.number, *(row.trial.params.get(key, "") for key in keys)]
    cells += [*_mean_and_deviation(row.objective), row.objective.count if row.objective is not None else 0]
    cells += _mean_and_deviation(row.test)
    cells += [*_mean_and_deviation(row.confirmed), row.confirmed.count if row.confirmed is not None else 0]
    cells += _mean_and_deviation(row.confirmed_test)
    cells += [_mean_and_deviation(mean)[0] for name, mean in row.further.items() if name != "seconds"]
    cells += [row.on_front] if row.further else []
    return [*cells, round(row.seconds, 3), row.state, row.reason, row.trial.path]


def _mean_and_deviation(mean: Mean | None) -> tuple[float | str, float | str]:
    if mean is None:
        return "", ""
    return mean.mean, "" if mean.deviation is None else mean.deviation


def best_command(row: Row, fixed: Sequence[str], config_dir: str | None) -> str:
    """The command that trains a trial's configuration again; ``config_dir`` is the user's folder of config groups."""
    folder = ["--config-dir", config_dir] if config_dir else []
    overrides = [*fixed, *(f"{key}={value}" for key, value in row.trial.params.items())]
    return shlex.join(["lx", "train", *folder, *overrides])
