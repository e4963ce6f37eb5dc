"""The report of a sweep: its ranking, which settings mattered, and how its search went."""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from lx.report.drawing import Figure
from lx.report.page import Block, Code, Facts, Figures, Page, Section, Table, Text
from lx.report.sweep_figures import (
    expected_best_figure,
    history_figure,
    importance_figure,
    is_logarithmic,
    numbers,
    parallel_figure,
    seeds_figure,
    validations_figure,
)
from lx.report.tables import count, duration
from lx.run.verdict import read_reports
from lx.sweep.leaderboard import Row, best_command, best_finished, counterpart_on_test, rank_trials
from lx.sweep.record import Record
from lx.sweep.tables import headline, short_value, varying_keys
from lx.sweep.trials import TrialDirectory, load_trials

_MOST_AXES = 12
_MOST_LISTED = 50  # trials of the leaderboard
_MOST_MEASURED = 250  # trials whose settings' importance is computed: time grows with the square
_MOST_VALIDATIONS = 2000  # runs whose validations are drawn


def sweep_page(directory: Path) -> Page:
    """Build the report of a sweep, finished or not.

    Raises:
        LxError: no sweep there.
    """
    record = Record.read(directory)
    trials = load_trials(directory)
    rows = rank_trials(trials, record.metric, record.mode, record.further)
    keys = varying_keys(trials)
    finished = [row for row in rows if row.state == "finished" and row.objective and math.isfinite(row.objective.mean)]
    sections = [
        Section("Leaderboard", _leaderboard(rows, keys, record)),
        Section("What mattered", _settings(finished, keys, record)),
        Section("How it went", _search(trials, finished, record)),
        Section("What it was", _facts(record, rows)),
    ]
    states = ", ".join(f"{sum(row.state == s for row in rows):,} {s}" for s in dict.fromkeys(row.state for row in rows))
    lead = f"{count(len(rows), 'trial')} ({states}), ranked by {record.metric} ({record.mode}) of validation alone"
    tiles = {}
    if (best := best_finished(rows)) is not None:
        tiles = {"best trial": str(best.trial.number), record.metric: str(best.objective)}
        if best.test is not None:
            tiles[str(counterpart_on_test(record.metric))] = str(best.test)
        if best.confirmed is not None:
            tiles["on fresh seeds"] = str(best.confirmed)
    return Page(directory.resolve().name, lead, sections, tiles)


def _leaderboard(rows: Sequence[Row], keys: Sequence[str], record: Record) -> list[Block]:
    blocks: list[Block] = [_ranking(rows, keys, record)]
    if (text := headline(rows, record.metric)) is not None:
        blocks.append(Text(text))
    finished = [(row, row.objective) for row in rows if row.objective is not None and row.state == "finished"]
    if finished and any(row.objective is not None and row.objective.count > 1 for row in rows):
        means = [(_name(row, keys), mean.mean, mean.deviation, mean.count) for row, mean in finished]
        blocks.append(Figures([seeds_figure(means, record.metric)]))
    reasons = [[row.trial.number, row.state, row.reason] for row in rows if row.reason]
    if reasons:
        blocks.append(Table("Why trials did not finish", ["trial", "state", "reason"], reasons))
    return blocks


def _ranking(rows: Sequence[Row], keys: Sequence[str], record: Record) -> Table:
    test = counterpart_on_test(record.metric)
    has_confirmed = any(row.confirmed for row in rows)
    columns = ["rank", "trial", *keys, record.metric]
    columns += [test] if test else []
    columns += ["seeds", *record.further]
    columns += ["on fresh seeds"] if has_confirmed else []
    columns += ["time", "state"]
    table: list[list[object]] = []
    for rank, row in enumerate(rows[:_MOST_LISTED], 1):
        values = [short_value(row.trial.params.get(key, "")) for key in keys]
        cells: list[object] = [str(rank), str(row.trial.number), *values, str(row.objective or "-")]
        cells += [str(row.test or "-")] if test else []
        cells += [row.objective.count if row.objective else 0, *(str(mean or "-") for mean in row.further.values())]
        cells += [str(row.confirmed or "")] if has_confirmed else []
        cells += [duration(row.seconds), row.state]
        table.append(cells)
    is_cut = len(rows) > len(table)
    note = f"The first {_MOST_LISTED} of {len(rows):,} trials; all are in leaderboard.csv." if is_cut else ""
    caption = f"Trials by {record.metric}, mean ± standard deviation over seeds"
    return Table(caption, columns, table, note=note)


def _name(row: Row, keys: Sequence[str]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={short_value(row.trial.params.get(key, ''))}" for key in keys)


def _settings(finished: Sequence[Row], keys: Sequence[str], record: Record) -> list[Block]:
    complete = [row for row in finished if all(key in row.trial.params for key in keys)]
    if len(complete) < 2 or not keys:
        return [Text("Fewer than two trials have finished: there is nothing to compare.")]
    values = {key: [row.trial.params[key] for row in complete] for key in keys[:_MOST_AXES]}
    objective = [row.objective.mean for row in complete if row.objective is not None]
    figures = [parallel_figure(values, objective, record.mode)]
    step = -(-len(complete) // _MOST_MEASURED)  # a stride, so that good and bad trials of the ranking stay in
    sample = {key: texts[::step] for key, texts in values.items()}
    if (importances := _importances(sample, objective[::step])) is not None:
        figures.append(importance_figure(importances, "functional ANOVA (Hutter et al. 2014)"))
    return [Figures(figures)]


def _importances(values: Mapping[str, Sequence[str]], objective: Sequence[float]) -> dict[str, float] | None:
    """Let Optuna compute the importance of each setting; None if the objective does not vary, or trials are too few."""
    if len(set(objective)) < 2 or len(objective) < 4:
        return None
    distributions: dict[str, BaseDistribution] = {}
    columns: dict[str, list[float | str]] = {}
    for key, texts in values.items():
        parsed = numbers(texts)
        if parsed is None:
            distributions[key], columns[key] = CategoricalDistribution(tuple(dict.fromkeys(texts))), [*texts]
        else:
            low, high = float(parsed.min()), float(parsed.max())
            distributions[key] = FloatDistribution(low, high, log=is_logarithmic(parsed))
            columns[key] = parsed.tolist()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={key: column[index] for key, column in columns.items()}, distributions=distributions, value=value
            )
            for index, value in enumerate(objective)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=16, max_depth=16, seed=0)
        importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(value) for key, value in importances.items()}


def _search(trials: Sequence[TrialDirectory], finished: Sequence[Row], record: Record) -> list[Block]:
    means = [row.objective.mean for row in finished if row.objective is not None]
    figures: list[Figure] = []
    if len(means) > 1:
        figures.append(history_figure([row.trial.number for row in finished], means, record.metric, record.mode))
        if _is_random(record):
            figures.append(expected_best_figure(means, record.metric, record.mode))
    runs: list[tuple[list[float], list[float], bool]] = []
    for replicate in (replicate for trial in trials for replicate in trial.replicates()):
        reports = read_reports(replicate.run)
        if reports and len(runs) < _MOST_VALIDATIONS:
            pruned = replicate.outcome().status == "pruned"
            runs.append(([report.step for report in reports], [report.objective for report in reports], pruned))
    if runs:
        figures.append(validations_figure(runs, record.metric))
    return [Figures(figures)] if figures else []


def _is_random(record: Record) -> bool:
    return any(text in ("sweep=random", "sweep=qmc") for text in record.overrides)


def _facts(record: Record, rows: Sequence[Row]) -> list[Block]:
    pairs = {
        "objective": f"{record.metric}, {record.mode}",
        "time of all runs": duration(sum(row.seconds for row in rows)),
        "git revision": str(record.revision),
        "begun in": record.cwd,
    }
    folder = ["--config-dir", record.config_dir] if record.config_dir else []
    blocks: list[Block] = [
        Facts("This sweep", pairs),
        Code(shlex.join(["lx", "train", "-m", *folder, *record.overrides])),
    ]
    if (best := best_finished(rows)) is not None:
        blocks += [Text("The best trial again:"), Code(best_command(best, record.fixed, record.config_dir))]
    return blocks
