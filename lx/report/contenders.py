"""What is compared: the runs of each contender, read from their directories, and whether they can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lx.config.flatten import flatten
from lx.errors import LxError, quote, shorten
from lx.report.statistics import linearized
from lx.run.directory import RunDirectory
from lx.run.predictions import SplitPredictions, read_predictions

_NO_DIFFERENCE = ("name", "run_dir", "seed", "resume", "launch", "logger", "data.cache_dir", "data.keep_texts")
"""Settings that make no other configuration of a run."""


@dataclass(frozen=True)
class ComparedRun:
    """One run of a contender.

    Attributes:
        path: its directory.
        config: its settings by dotted key, but for those that make no other run.
        seed: of the run.
        task: the class of its task, and its class names if it has any.
        numbers: its metrics, ``parameters``, ``epochs``, ``steps`` and ``seconds``, where they are known.
        metric: name of the main metric.
        splits: predictions by split, without their scores.
    """

    path: Path
    config: dict[str, Any]
    seed: Any
    task: tuple[str, Any]
    numbers: dict[str, float]
    metric: str
    splits: dict[str, SplitPredictions]


@dataclass(frozen=True)
class Contender:
    """What is compared with others: a configuration, and its runs with different seeds."""

    name: str
    runs: tuple[ComparedRun, ...]

    def values(self, split: str) -> NDArray[np.float64]:
        """Return values [S, N] of each example of a split in each run, whose mean is the run's main metric."""
        splits = [run.splits[split] for run in self.runs]
        return np.stack([linearized(each.metric, each.weight) for each in splits])

    def numbers(self) -> dict[str, list[float]]:
        """Return what all its runs have measured, by name."""
        shared = [name for name in self.runs[0].numbers if all(name in run.numbers for run in self.runs)]
        return {name: [run.numbers[name] for run in self.runs] for name in shared}


def read_contender(name: str, paths: Sequence[Path]) -> Contender:
    """Read the runs of a contender.

    Raises:
        LxError: one is no complete run, or they differ in more than their seed.
    """
    runs = tuple(read_run(path) for path in paths)
    first = runs[0]
    for run in runs[1:]:
        if keys := changed_settings([first.config, run.config]):
            raise LxError(
                f"{first.path} and {run.path} are no replicates, they differ in {shorten(keys)}: give each by itself"
            )
    seeds = [run.seed for run in runs]
    if len(set(map(str, seeds))) < len(seeds):
        raise LxError(f"{first.path.parent} holds several runs with one seed ({shorten(list(map(str, seeds)))})")
    return Contender(name, runs)


def read_run(path: Path) -> ComparedRun:
    """Read what a comparison needs of a run, perhaps a stranger's; raise LxError if it is not complete."""
    run = RunDirectory(path)
    config, result, kept = run.read_config(), run.read_result(), read_predictions(run)
    task = config.get("task")
    if not isinstance(task, dict):
        raise LxError(f"{run.config} has no task: this is not the configuration of a run")
    names = run.read_label_set().get("class_names")
    counts = {name: getattr(result, name) for name in ("parameters", "epochs", "steps", "seconds")}
    measured = result.metrics if isinstance(result.metrics, dict) else {}
    numbers = {name: value for name, value in {**measured, **counts}.items() if _is_finite(value)}
    splits = {name: split.without_scores() for name, split in kept.splits.items()}
    settings = {key: _plain(value) for key, value in flatten(config).items() if not _is_ignored(key)}
    kind = str(task.get("_target_")), names
    return ComparedRun(path, settings, _plain(config.get("seed")), kind, numbers, kept.metric, splits)


def _plain(value: Any) -> Any:
    """Return a setting as JSON can hold it; in YAML from a stranger there may be dates."""
    return value if isinstance(value, str | int | float | None) else repr(value)


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_ignored(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in _NO_DIFFERENCE)


def changed_settings(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the settings that are not the same in all; one that a run does not have is as good as null."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]


def shared_split(contenders: Sequence[Contender]) -> str:
    """Return the split to compare on: the test split, or validation where no run has been tested.

    Raises:
        LxError: the runs differ in their task, their classes or their rows: says which two, and in what.
    """
    runs = [run for contender in contenders for run in contender.runs]
    first = runs[0]
    tested = [run for run in runs if "test" in run.splits]
    if tested and len(tested) < len(runs):
        other = next(run for run in runs if "test" not in run.splits)
        raise LxError(f"{other.path} has no predictions of a test split, and {tested[0].path} has: they share no rows")
    split = "test" if tested else "validation"
    for run in runs:
        if difference := _why_not(first, run, split):
            raise LxError(f"{first.path} and {run.path} cannot be compared: {difference}")
        if split not in run.splits:
            raise LxError(f"{run.path} has no predictions of the {split} split")
    return split


def _why_not(one: ComparedRun, other: ComparedRun, split: str) -> str | None:
    """Say why two runs cannot be compared; None: they can."""
    if one.task[0] != other.task[0]:
        return f"their tasks differ, {quote(one.task[0])} and {quote(other.task[0])}"
    if one.metric != other.metric:
        return f"one has kept its {quote(one.metric)}, the other its {quote(other.metric)}"
    if one.task[1] != other.task[1]:
        return "their classes differ"
    if split not in one.splits or split not in other.splits:
        return None
    a, b = one.splits[split], other.splits[split]
    if len(a.rows) != len(b.rows):
        return f"their {split} splits have {len(a.rows):,} and {len(b.rows):,} rows"
    if a.texts != b.texts or not np.array_equal(a.rows, b.rows):
        return f"the texts of their {split} splits differ"
    return None if np.array_equal(a.labels, b.labels) else f"the labels of their {split} splits differ"


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation; none of one value."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
