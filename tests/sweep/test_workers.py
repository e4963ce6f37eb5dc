"""Several workers on one sweep, in real processes."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest

from support.commands import Started, lx, start
from support.process_table import assert_nothing_left
from support.sweeps import objectives, sweep
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
