"""Several workers on one sweep, in real processes."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import optuna
import pytest

from lx.sweep.storage import open_storage
from lx.sweep.study import JOURNAL_NAME
from support.commands import Started, lx, start
from support.process_table import assert_nothing_left
from support.sweeps import objectives, statuses, sweep
from support.waiting import wait_until

pytestmark = pytest.mark.slow

AXES = ["optimizer.lr=0.03,0.01,0.003", "seed=0,1", "sweep.threads=1"]


def work(folder: Path, name: str, *settings: str) -> Started:
    return start(folder, ["sweep", "work", name, *settings], preexec=os.setsid)


def test_workers_share_a_sweep_and_take_over_from_one_that_is_killed(folder: Path) -> None:
    first = start(folder, sweep("shared", *AXES, "trainer.max_epochs=20"), preexec=os.setsid)
    wait_until((folder / "shared" / "sweep.json").exists, "the sweep is planned")
    workers = [work(folder, "shared"), work(folder, "shared", "sweep.n_jobs=2")]
    claims = folder / "shared"
    wait_until(lambda: len(list(claims.rglob("*claim.json"))) == 4, "four runs are claimed")
    os.killpg(workers[1].pid, signal.SIGKILL)
    for process in (first, workers[0]):
        ended = process.wait()
        assert ended.code == 0, ended.output
    workers[1].wait()
    assert_nothing_left(folder / "shared")
    assert lx(folder, *sweep("alone", *AXES, "trainer.max_epochs=20")).returncode == 0
    assert len(objectives(folder / "shared")) == 6
    assert objectives(folder / "shared") == objectives(folder / "alone")
    assert not list((folder / "shared").rglob("*claim.json"))
    with (folder / "shared" / "leaderboard.csv").open(newline="") as file:
        assert [row["n"] for row in csv.DictReader(file)] == ["2", "2", "2"]


JUDGED = [
    *["optimizer.lr=0.03,0.0001,0.01,0.0002,0.02,0.0003", "objective.metric=val/loss", "trainer.max_epochs=3"],
    *["trainer.val_check_interval=0.5", "sweep.threads=1"],
]
ENDS = {"sweep/pruner=median": ("pruned", "PRUNED"), "sweep.promote=true": ("paused", "RUNNING")}


@pytest.mark.parametrize("setting", ENDS)
def test_workers_end_or_pause_trials_together_and_run_each_once(setting: str, folder: Path) -> None:
    name = setting.partition("=")[0].replace("/", "-")
    extra = ["sweep.pruner.n_startup_trials=2"] if "pruner" in setting else ["sweep.reduction=2"]
    first = start(folder, sweep(name, *JUDGED, setting, *extra))
    wait_until((folder / name / "sweep.json").exists, "the sweep is planned")
    second = work(folder, name)
    for process in (first, second):
        ended = process.wait()
        assert ended.code == 0, ended.output
        assert "seed=0" in ended.output  # it has run something
    status, state = ENDS[setting]
    found = {int(trial): status for trial, (status, _, _) in statuses(folder / name).items()}
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    assert set(found.values()) == {"finished", status}
    study = optuna.load_study(study_name=JOURNAL_NAME, storage=open_storage(folder / name, None))
    recorded = {trial.number: trial.state.name for trial in study.get_trials()}
    assert recorded == {number: "COMPLETE" if end == "finished" else state for number, end in found.items()}
    assert not list((folder / name).rglob("*claim.json"))
