"""What a sweep says of its trials, read from directories that are written here."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import resource
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from lx.sweep.leaderboard import best_command, rank_trials, write_leaderboard
from lx.sweep.record import Record
from lx.sweep.tables import leaderboard_view, short_value
from lx.sweep.trials import Mean, Outcome, TrialDirectory, load_trials, why_failed
from lx.sweep.view import progress
from support.commands import lx


def write_trial(sweep: Path, number: int, model: str, objectives: list[float | None], status: str = "finished") -> None:
    """A trial with a run for each objective; None: a run that has not ended."""
    seeds = list(range(len(objectives)))
    params = {"model": model, "data.batch_size": "8"}
    trial = TrialDirectory(number, sweep / str(number), params, seeds, flat_seed=None)
    trial.save()
    for seed, objective in zip(seeds, objectives, strict=True):
        run = trial.replicate(seed).run
        run.path.mkdir(parents=True)
        run.config.touch()
        if objective is not None:
            metrics = {"val/accuracy": objective, "test/accuracy": 1 - objective}
            result = {"status": status, "objective": objective, "metrics": metrics, "seconds": 2.0}
            run.result.write_text(json.dumps(result))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    write_trial(tmp_path, 0, "tiny", [0.5, 0.7])
    write_trial(tmp_path, 1, "small", [0.75, 0.65])
    write_trial(tmp_path, 2, "base", [0.9, None])
    write_trial(tmp_path, 10, "large", [math.nan, math.nan])
    failed = TrialDirectory(3, tmp_path / "3", {"model": "bag", "data.batch_size": "8"}, [0, 1], flat_seed=None)
    failed.failures[1] = "killed: by nobody"
    failed.save()
    (tmp_path / "sweep.json").write_text("{}")
    return tmp_path


def test_trials_are_ranked_by_the_mean_over_seeds_of_those_that_finished(sweep: Path) -> None:
    rows = rank_trials(load_trials(sweep), "val/accuracy", "max")
    assert [row.trial.number for row in rows] == [1, 0, 2, 3, 10]
    assert [row.state for row in rows] == ["finished", "finished", "unfinished", "failed", "finished"]
    best = rows[0]
    assert best.objective == Mean(pytest.approx(0.7), pytest.approx(0.05 * math.sqrt(2)), 2)
    assert best.test is not None
    assert best.test.mean == pytest.approx(0.3)
    assert best.seconds == 4.0
    assert rank_trials(load_trials(sweep), "val/accuracy", "min")[0].trial.number == 0


def shown(sweep: Path, width: int, limit: int | None = None) -> str:
    """The leaderboard as a terminal of that width shows it."""
    console = Console(width=width, record=True, file=io.StringIO())
    rows = rank_trials(load_trials(sweep), "val/accuracy", "max")
    console.print(leaderboard_view(rows, "val/accuracy", Path("runs/sizes"), width, limit))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_shows_what_differs_and_why_a_trial_failed(width: int, sweep: Path) -> None:
    text = shown(sweep, width)
    assert "runs/sizes: 5 trials, ranked by val/accuracy" in text
    first = next(line for line in text.splitlines() if line.startswith("     1 "))
    assert first.split()[:10] == ["1", "small", "0.7000", "±", "0.0707", "0.3000", "±", "0.0707", "2", "4.0"]
    assert ("runs/sizes/1" in first) is (width == 140)
    assert "1/2" in text
    assert "trial 3 failed: seed 1: killed: by nobody" in text
    assert "batch_size" not in text


def test_a_limit_shows_the_best_and_every_failure(sweep: Path) -> None:
    text = shown(sweep, 80, limit=1)
    assert "     1  small" in text
    assert "     0  tiny" not in text
    assert "trial 3 failed" in text


def test_a_long_fraction_is_short_in_the_table() -> None:
    values = ["0.00010340554047063821", "0.0005", "1e-05", "256", "123456789", "sinusoidal", ""]
    assert [short_value(value) for value in values] == [
        "0.0001034",
        "0.0005",
        "1e-05",
        "256",
        "123456789",
        "sinusoidal",
        "",
    ]


def test_progress_is_read_from_what_a_run_has_written(tmp_path: Path) -> None:
    write_trial(tmp_path, 0, "tiny", [None])
    (replicate,) = load_trials(tmp_path)[0].replicates()
    assert progress(replicate) == (0, None)
    replicate.run.metrics.write_text("step,epoch,train/loss\n10,1,0.5\n1020,1,0.4\n1030")
    assert progress(replicate) == (0, None)
    replicate.output.write_text("epoch 1/2  step 935/1,870  validation  accuracy 0.5\n")
    assert progress(replicate) == (1020, 1870)


def test_the_csv_holds_every_key(sweep: Path) -> None:
    write_leaderboard(sweep / "leaderboard.csv", rank_trials(load_trials(sweep), "val/accuracy", "max"), "val/accuracy")
    with (sweep / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["1", "0", "2", "3", "10"]
    assert rows[0]["data.batch_size"] == "8"
    assert float(rows[0]["val/accuracy"]) == pytest.approx(0.7)
    assert rows[3]["reason"] == "seed 1: killed: by nobody"


def test_a_paused_trial_is_shown_with_what_it_reached_and_not_ranked(tmp_path: Path) -> None:
    write_trial(tmp_path, 0, "tiny", [0.9], status="paused")
    write_trial(tmp_path, 1, "small", [0.5])
    rows = rank_trials(load_trials(tmp_path), "val/accuracy", "max")
    assert [(row.trial.number, row.state, str(row.objective)) for row in rows] == [
        (1, "finished", "0.5000"),
        (0, "paused", "0.9000"),
    ]


def test_the_best_command_can_be_pasted(sweep: Path) -> None:
    row = rank_trials(load_trials(sweep), "val/accuracy", "max")[0]
    command = best_command(row, ["data=files", "name=a b"], None)
    assert command == "lx train data=files 'name=a b' model=small data.batch_size=8"
    own = best_command(row, ["data=files"], "/my conf")
    assert own == "lx train --config-dir '/my conf' data=files model=small data.batch_size=8"


@pytest.mark.parametrize(
    ("code", "outcome", "lines", "reason"),
    [
        (2, Outcome("missing"), "lx: error: no file x", "bad config: no file x"),
        (-9, Outcome("unfinished"), "step 3", "killed by signal 9, out of memory?"),
        (1, Outcome("failed", message="rank 1 (pid 3) was killed by SIGKILL"), "", "killed: rank 1"),
        (1, Outcome("failed", message="step 3: loss nan, at learning rate 1"), "", "not a number: step 3: loss nan"),
        (1, Outcome("failed", message="index out of range"), "Traceback", "exception: index out of range"),
    ],
)
def test_failures_have_a_class(code: int, outcome: Outcome, lines: str, reason: str) -> None:
    assert why_failed(code, outcome, lines).startswith(reason)


def test_a_finished_result_is_read_once_and_an_unfinished_one_until_it_is_there(tmp_path: Path) -> None:
    write_trial(tmp_path, 0, "tiny", [0.5, None])
    (trial,) = load_trials(tmp_path)
    assert rank_trials([trial], "val/accuracy", "max")[0].state == "unfinished"
    trial.replicate(0).run.result.unlink()
    write_trial(tmp_path / "later", 0, "tiny", [0.9, 0.7])
    (tmp_path / "later" / "0" / "seed-1" / "result.json").rename(trial.replicate(1).run.result)
    row = rank_trials([trial], "val/accuracy", "max")[0]
    assert row.state == "finished"
    assert row.objective == Mean(pytest.approx(0.6), pytest.approx(0.1 * math.sqrt(2)), 2)


@pytest.mark.slow
def test_two_thousand_finished_trials_are_shown_within_three_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the directories need not survive
    for number in range(2000):
        write_trial(tmp_path, number, f"m{number}", [number / 2000])
    record = Record((), None, str(tmp_path), threads=1, flat_seed=None, metric="val/accuracy", mode="max")
    (tmp_path / "sweep.json").write_text(json.dumps(asdict(record)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = lx(tmp_path, "sweep", "show", str(tmp_path))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert printed.returncode == 0, printed.stderr
    numbers = re.findall(r"^ *(\d+) ", printed.stdout, flags=re.MULTILINE)
    assert numbers[:2] == ["1999", "1998"]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3  # of the processor's time
