"""Whole sweeps in real processes: interrupted, extended, failing, on several ranks."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from support import corpus
from support.commands import lx, start
from support.corpus import jsonl
from support.process_table import assert_nothing_left
from support.ranks import ranks
from support.run_files import result
from support.sweeps import leaderboard, losses, objectives, sweep
from support.waiting import wait_until

pytestmark = pytest.mark.slow


def test_a_grid_over_seeds_ranks_by_the_mean_whatever_runs_side_by_side(folder: Path) -> None:
    axes = ["optimizer.lr=0.03,0.003", "seed=0,1", "sweep.threads=1"]
    for name, jobs in (("one", 1), ("two", 2)):
        done = lx(folder, *sweep(name, *axes, f"sweep.n_jobs={jobs}"))
        assert done.returncode == 0, done.stderr
        assert "ranked by val/accuracy" in done.stdout
    assert sorted(objectives(folder / "one")) == ["0/seed-0", "0/seed-1", "1/seed-0", "1/seed-1"]
    assert objectives(folder / "one") == objectives(folder / "two")
    assert losses(folder / "one") == losses(folder / "two")
    assert [row["n"] for row in leaderboard(folder / "one")] == ["2", "2"]
    shown = lx(folder, "sweep", "show", "one")
    assert shown.returncode == 0
    assert "0.003" in shown.stdout
    assert shown.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]  # the best command
    assert shown.stdout.splitlines()[-1].startswith("lx train data=files")
    assert ("lx report two" in done.stdout.splitlines()) == (find_spec("matplotlib") is not None)


def test_a_sweep_that_is_killed_again_and_again_ends_as_an_undisturbed_one(folder: Path) -> None:
    axes = ["optimizer.lr=0.03,0.01,0.003", "seed=0,1", "sweep.n_jobs=2", "sweep.threads=1"]
    assert lx(folder, *sweep("undisturbed", *axes)).returncode == 0
    draw = random.Random(0)
    for _ in range(6):
        running = start(folder, sweep("killed", *axes), preexec=os.setsid)
        until = time.monotonic() + draw.uniform(1, 9)
        while running.code is None and time.monotonic() < until:
            time.sleep(0.02)
        if running.code is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        assert_nothing_left(folder / "killed")
    done = lx(folder, *sweep("killed", *axes))  # goes on, and begins if even the first lines were not written
    assert done.returncode == 0, done.stderr
    assert objectives(folder / "killed") == objectives(folder / "undisturbed")
    assert losses(folder / "killed") == losses(folder / "undisturbed")
    assert [row["trial"] for row in leaderboard(folder / "killed")] == [
        row["trial"] for row in leaderboard(folder / "undisturbed")
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_all_runs_and_the_sweep_goes_on_from_there(
    number: signal.Signals, code: int, folder: Path
) -> None:
    name = f"stopped-{code}"
    axes = ["trainer.max_epochs=60", "seed=0,1,2,3", "sweep.n_jobs=3", "sweep.threads=1"]
    running = start(folder, sweep(name, *axes))
    runs = [folder / name / "0" / f"seed-{seed}" for seed in (0, 1, 2)]
    wait_until(lambda: all(run.joinpath("metrics.csv").exists() for run in runs), "three runs train")
    running.send(number)
    ended = running.wait()
    assert ended.code == code, ended.output
    assert f"lx sweep resume {name}" in ended.output
    assert [result(run)["status"] for run in runs] == ["stopped"] * 3
    seconds = [result(run)["seconds"] for run in runs]
    assert not (folder / name / "0" / "seed-3" / "result.json").exists()
    done = lx(folder, "sweep", "resume", name)
    assert done.returncode == 0, done.stderr
    assert all("going on after step" in (run / "log.txt").read_text() for run in runs)
    assert len(objectives(folder / name)) == 4
    assert all(result(run)["seconds"] > before for run, before in zip(runs, seconds, strict=True))  # of both sessions


def test_the_same_command_with_more_of_everything_runs_what_is_missing(folder: Path) -> None:
    assert lx(folder, *sweep("grown", "optimizer.lr=0.03,0.01", "trainer.max_epochs=1")).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (folder / "grown").rglob("result.json")}
    assert len(before) == 2
    done = lx(folder, *sweep("grown", "optimizer.lr=0.03,0.02,0.01", "trainer.max_epochs=1", "sweep.seeds=2"))
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert sorted(objectives(folder / "grown")) == ["0", "0/seed-1", "1", "1/seed-1", "2", "2/seed-1"]
    assert {row["optimizer.lr"] for row in leaderboard(folder / "grown")} == {"0.03", "0.02", "0.01"}
    refused = lx(folder, *sweep("grown", "optimizer.lr=0.03,0.01", "trainer.max_epochs=2", "sweep.seeds=2"))
    assert refused.returncode == 2
    assert "holds another sweep" in refused.stderr
    assert "trainer.max_epochs=2 was not there" in refused.stderr
    again = lx(folder, "sweep", "resume", "grown")
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_search_can_be_lengthened(folder: Path) -> None:
    search = ["sweep=tpe", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "sweep.n_trials=2", "trainer.max_epochs=1"]
    done = lx(folder, *sweep("search", *search))
    assert done.returncode == 0, done.stderr
    assert "0.0005" in {row["optimizer.lr"] for row in leaderboard(folder / "search")}  # the default comes first
    assert lx(folder, "sweep", "resume", "search", "sweep.n_trials=+2").returncode == 0
    values = [row["optimizer.lr"] for row in leaderboard(folder / "search")]
    assert len(values) == len(set(values)) == 4


def test_failures_cost_a_trial_each_and_say_why(folder: Path) -> None:
    rates = [{"optimizer.lr": rate} for rate in (0.03, 0.02, 0.01, 0.003, 0.001)]
    faults = [{"model._target_": f"failing.{name}Classifier"} for name in ("Raising", "Killed", "NotANumber")]
    (folder / "failing.jsonl").write_text(jsonl([*rates, *faults]))
    path = os.pathsep.join([str(Path(corpus.__file__).parent), os.environ.get("PYTHONPATH", "")])
    settings = ["sweep.list=failing.jsonl", "sweep.n_jobs=3", "sweep.threads=1", "trainer.max_epochs=10"]
    done = lx(folder, *sweep("failing", *settings), env={"PYTHONPATH": path})
    assert done.returncode == 1, done.stderr
    rows = sorted(leaderboard(folder / "failing"), key=lambda row: int(row["trial"]))
    assert [row["state"] for row in rows] == ["finished"] * 5 + ["failed"] * 3
    assert "exception: no such row" in rows[5]["reason"]
    assert "killed by signal 9" in rows[6]["reason"]
    assert json.loads((folder / "failing" / "6" / "trial.json").read_text())["attempts"] == {"0": 1}
    assert "not a number" in rows[7]["reason"]
    assert not list((folder / "failing").rglob("*claim.json"))


def test_a_run_that_is_killed_goes_on_in_a_second_attempt(folder: Path) -> None:
    running = start(folder, sweep("attempts", "trainer.max_epochs=30", "trainer.save_every_n_steps=5", "seed=0"))
    run = folder / "attempts" / "0"
    wait_until(lambda: (run / "checkpoints" / "last.ckpt").exists(), "a checkpoint")
    (worker,) = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _trains(path, run / "output.txt")]
    os.kill(worker, signal.SIGKILL)
    ended = running.wait()
    assert ended.code == 0, ended.output
    assert "going on after step" in (run / "log.txt").read_text()


def _trains(process: Path, output: Path) -> bool:
    try:
        return (process / "fd" / "1").readlink() == output.resolve()
    except OSError:
        return False


def test_runs_of_two_ranks_sweep_too(folder: Path) -> None:
    done = lx(folder, *sweep("ranks", *ranks(2), "optimizer.lr=0.03,0.01,0.003,0.001", "trainer.max_epochs=1"))
    assert done.returncode == 0, done.stderr
    alone = lx(folder, *sweep("alone", "optimizer.lr=0.03,0.01,0.003,0.001", "trainer.max_epochs=1"))
    assert alone.returncode == 0, alone.stderr
    assert objectives(folder / "ranks") == objectives(folder / "alone")
    assert_nothing_left(folder / "ranks")


def test_a_budget_stops_in_time_and_the_sweep_can_go_on(folder: Path) -> None:
    done = lx(folder, *sweep("budget", "trainer.max_epochs=50000", "seed=0,1", "sweep.budget=15s"))
    assert done.returncode == 0, done.stderr
    assert "lx sweep resume budget" in done.stdout
    assert result(folder / "budget" / "0" / "seed-0")["status"] == "stopped"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.dim=8,9"], "model.dim=9 is not divisible"),
        (["sweep=tpe", "optimizer.lr=interval(0.1,0.2)"], "sweep.n_trials=N"),
        (["optimizer.lr=interval(0.1,0.2)"], "a grid needs a list of values"),
        (["sweep=grib"], "did you mean 'grid'"),
        (["sweep.n_job=2", "seed=0,1"], "did you mean"),
        (["sweep.n_jobs=0", "seed=0,1"], "sweep.n_jobs must be a whole number of at least 1"),
        (["sweep.budget=soon"], "sweep.budget=soon"),
        (["sweep.list=trials.jsonl", "seed=0"], "trials.jsonl"),
    ],
)
def test_a_bad_value_costs_no_trial(overrides: list[str], message: str, folder: Path) -> None:
    done = lx(folder, *sweep("refused", *overrides))
    assert done.returncode == 2
    assert message in done.stderr
    assert not (folder / "refused").exists()


def test_a_dry_run_shows_the_plan_and_writes_nothing(folder: Path) -> None:
    done = lx(folder, *sweep("dry", "optimizer.lr=0.03,0.003", "seed=0,1,2", "--dry-run"))
    assert done.returncode == 0
    assert "2 x 3 seeds = 6 runs" in done.stdout
    assert not (folder / "dry").exists()
