"""Sweeps that end or pause trials early, in real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lx.run.directory import RunDirectory
from lx.run.predictions import read_predictions
from support.commands import lx
from support.process_table import assert_nothing_left
from support.ranks import ranks
from support.run_files import rows
from support.sweeps import kill_and_resume, leaderboard, losses, statuses, sweep

pytestmark = pytest.mark.slow
RATES = "optimizer.lr=0.03,0.01,0.0001,0.02,0.0002"
MEDIAN = [RATES, "sweep/pruner=median", "sweep.pruner.n_startup_trials=2", "trainer.max_epochs=2"]
# The loss of the network itself: calibrated ones differ less.
BY_LOSS = ["objective.metric=val/loss", "task.calibrate=false", "trainer.val_check_interval=0.5"]


def test_a_killed_sweep_prunes_what_an_undisturbed_one_prunes(folder: Path) -> None:
    settings = [*MEDIAN, *BY_LOSS, "seed=0,1"]
    done = lx(folder, *sweep("pruned", *settings))
    assert done.returncode == 0, done.stderr
    found = statuses(folder / "pruned")
    assert {name: status for name, (status, _, _) in found.items() if status == "pruned"}.keys() == {
        "2/seed-0",
        "4/seed-0",
    }
    assert not (folder / "pruned" / "2" / "seed-1").exists()  # a pruned trial gets no further seeds
    assert {row["state"] for row in leaderboard(folder / "pruned")} == {"finished", "pruned"}
    kill_and_resume(folder, "pruned-killed", *settings, times=3, seconds=12)
    assert statuses(folder / "pruned-killed") == found
    assert losses(folder / "pruned-killed") == losses(folder / "pruned")


def test_a_pruned_run_keeps_its_best_weights_and_goes_on_only_when_told(folder: Path) -> None:
    done = lx(folder, *sweep("kept", *MEDIAN, *BY_LOSS))
    assert done.returncode == 0, done.stderr
    run = folder / "kept" / "2"
    assert lx(folder, "eval", str(run)).returncode == 0
    refused = lx(folder, "resume", str(run))
    assert refused.returncode == 2
    assert "was pruned by its sweep or by W&B" in refused.stderr
    assert json.loads((run / "result.json").read_text())["status"] == "pruned"
    told = lx(folder, "resume", str(run), "--pruned")
    assert told.returncode == 0, told.stderr
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("finished", 14)


def test_all_ranks_end_when_the_first_is_told_to(folder: Path) -> None:
    settings = [*MEDIAN, *BY_LOSS, "optimizer.lr=0.03,0.01,0.0001"]
    alone, together = lx(folder, *sweep("alone", *settings)), lx(folder, *sweep("together", *ranks(2), *settings))
    assert (alone.returncode, together.returncode) == (0, 0), together.stderr
    assert [(name, s, n) for name, (s, n, _) in sorted(statuses(folder / "together").items())] == [
        (name, s, n) for name, (s, n, _) in sorted(statuses(folder / "alone").items())
    ]
    assert_nothing_left(folder / "together")


def test_what_the_sweep_is_told_is_what_was_logged(folder: Path) -> None:
    done = lx(folder, *sweep("logged", "sweep/pruner=asha", "trainer.max_epochs=2", *BY_LOSS, "logger=csv"))
    assert done.returncode == 0, done.stderr
    reports = json.loads((folder / "logged" / "0" / "reports.json").read_text())
    logged = [float(row["val/loss"]) for row in rows(folder / "logged" / "0") if row["val/loss"]]
    assert [report["objective"] for report in reports] == pytest.approx(logged)
    assert [(report["validation"], report["step"]) for report in reports] == [(1, 4), (2, 7), (3, 11), (4, 14)]


def test_the_best_trials_are_confirmed_on_seeds_that_selection_has_not_seen(folder: Path) -> None:
    settings = ["optimizer.lr=0.03,0.0001,0.01", "seed=0", "trainer.max_epochs=2", *BY_LOSS[:2]]
    assert lx(folder, *sweep("confirmed", *settings)).returncode == 0
    before = statuses(folder / "confirmed")
    done = lx(folder, "sweep", "resume", "confirmed", "sweep.confirm=2", "sweep.confirm_seeds=2")
    assert done.returncode == 0, done.stderr
    after = statuses(folder / "confirmed")
    assert after.keys() - before.keys() == {f"{trial}/seed-{seed}" for trial in (0, 2) for seed in (1000, 1001)}
    first, second, third = leaderboard(folder / "confirmed")
    assert [row["trial"] for row in (first, second, third)] == ["0", "2", "1"]
    assert [row["confirmed_n"] for row in (first, second, third)] == ["2", "2", "0"]
    values = [after[f"0/seed-{seed}"][2] for seed in (1000, 1001)]
    assert float(first["confirmed"]) == pytest.approx(sum(values) / 2)
    assert float(first["val/loss"]) == before["0"][2]  # what it was chosen by stays as it was
    assert "trial 0 on 2 fresh seeds: val/loss" in done.stdout
    again = lx(folder, "sweep", "resume", "confirmed")
    assert again.returncode == 0
    assert statuses(folder / "confirmed") == after


PROMOTED = [
    "optimizer.lr=0.0001,0.03,0.0003,0.01,0.001,0.02",
    "trainer.max_epochs=2",
    *BY_LOSS,
    "sweep.promote=true",
    "sweep.reduction=2",
]


def test_promoted_trials_go_on_as_if_they_had_never_paused(folder: Path) -> None:
    done = lx(folder, *sweep("promoted", *PROMOTED))
    assert done.returncode == 0, done.stderr
    found = statuses(folder / "promoted")
    # At validations 1 and 2 half of those that came so far go on: 1, 3 and 5 pass the first, of those 1 the second.
    assert {name: status for name, (status, _, _) in found.items()} == {
        "0": "paused",
        "1": "finished",
        "2": "paused",
        "3": "paused",
        "4": "paused",
        "5": "paused",
    }
    whole = lx(folder, *sweep("whole", *PROMOTED[:-2]))
    assert whole.returncode == 0, whole.stderr
    assert losses(folder / "promoted")["1"] == losses(folder / "whole")["1"]
    assert found["1"] == statuses(folder / "whole")["1"]
    kept = [(folder / name / "1" / "predictions.arrow").read_bytes() for name in ("promoted", "whole")]
    assert kept[0] == kept[1]
    paused = RunDirectory(folder / "promoted" / "0")
    (validation,) = read_predictions(paused).splits.values()
    assert validation.loss.mean() == pytest.approx(paused.read_result().metrics["val/loss"], rel=1e-5)


def test_a_killed_sweep_promotes_what_an_undisturbed_one_promotes(folder: Path) -> None:
    kill_and_resume(folder, "promoted-killed", *PROMOTED, times=3, seconds=12)
    assert statuses(folder / "promoted-killed") == statuses(folder / "promoted")
    assert losses(folder / "promoted-killed") == losses(folder / "promoted")


def test_a_trial_behind_the_best_gets_no_further_seeds(folder: Path) -> None:
    done = lx(
        folder,
        *sweep("race", "optimizer.lr=0.03,0.0001", "sweep.seeds=4", "sweep.race=true", *BY_LOSS[:2]),
    )
    assert done.returncode == 0, done.stderr
    best, behind = leaderboard(folder / "race")
    assert (best["optimizer.lr"], best["n"], best["state"]) == ("0.03", "4", "finished")
    assert (behind["n"], behind["state"]) == ("3", "pruned")
    assert "behind the best by" in behind["reason"]
