"""Sweeps on a real Slurm cluster, such as ``.ci/slurm start DIR`` makes: runs as jobs, and workers as jobs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import Started, environment, lx, start
from support.run_files import has_finished, result
from support.sweeps import leaderboard, objectives, sweep
from support.waiting import wait_until

pytestmark = pytest.mark.slurm

AXES = ["optimizer.lr=0.03,0.003", "seed=0,1", "sweep.threads=1", "trainer.max_epochs=30"]
ON_SLURM = ["hardware=slurm", "hardware.accelerator=cpu", "hardware.precision=32-true", "sweep.n_jobs=2"]
SECONDS = 300


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """A cluster that answers."""
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        pytest.skip("no Slurm cluster answers; .ci/slurm start DIR makes one")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, float]:
    """The objectives of the sweep on this machine."""
    done = lx(folder, *sweep("alone", *AXES))
    assert done.returncode == 0, done.stderr
    return objectives(folder / "alone")


def begin(folder: Path, name: str) -> Started:
    """Begin the sweep with its runs as jobs, and wait until two train."""
    started = start(folder, sweep(name, *AXES, *ON_SLURM), preexec=os.setsid)
    wait_until(lambda: len(list((folder / name).rglob("metrics.csv"))) == 2, "two jobs train", SECONDS)
    return started


def jobs_of(sweep: Path) -> dict[str, int]:
    """How many jobs each run had."""
    return {str(path.parent.relative_to(sweep)): len(list(path.glob("*-0.log"))) for path in sweep.rglob("slurm")}


def test_runs_are_jobs_and_the_jobs_of_a_sweep_that_is_killed_are_adopted(
    folder: Path, alone: dict[str, float]
) -> None:
    killed = begin(folder, "adopted")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    done = lx(folder, "sweep", "resume", "adopted", timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert objectives(folder / "adopted") == alone
    assert jobs_of(folder / "adopted") == dict.fromkeys(alone, 1)
    assert [row["n"] for row in leaderboard(folder / "adopted")] == ["2", "2"]


def test_an_interrupt_saves_the_runs_in_their_jobs_and_the_sweep_goes_on(folder: Path, alone: dict[str, float]) -> None:
    started = begin(folder, "interrupted")
    runs = [path.parent for path in (folder / "interrupted").rglob("metrics.csv")]
    started.send(signal.SIGINT)
    ended = started.wait(SECONDS)
    assert ended.code == 130, ended.output
    assert [result(run)["status"] for run in runs if not has_finished(run)]
    assert len(jobs_of(folder / "interrupted")) == 2
    done = lx(folder, "sweep", "resume", "interrupted", timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert objectives(folder / "interrupted") == alone


def test_workers_are_the_tasks_of_a_job_array_and_one_is_killed(folder: Path, alone: dict[str, float]) -> None:
    directory = folder / "array"
    started = start(folder, sweep("array", *AXES), preexec=os.setsid)
    wait_until(lambda: list(directory.rglob("*claim.json")), "the sweep has begun", SECONDS)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    command = f"exec {sys.executable} -m lx sweep work {directory}"
    submit = ["sbatch", "--array=0-1", "--output=worker-%a.log", f"--wrap={command}"]
    subprocess.run(submit, cwd=folder, env=environment(folder), capture_output=True, check=True)
    wait_until(lambda: len(workers_of(directory) - {started.pid}) == 2, "two workers train", SECONDS)
    os.kill(min(workers_of(directory) - {started.pid}), signal.SIGKILL)
    logs = [folder / f"worker-{task}.log" for task in (0, 1)]
    wait_until(lambda: sum("ranked by" in log.read_text() for log in logs) == 1, "the other ends the sweep", SECONDS)
    assert objectives(directory) == alone
    assert not list(directory.rglob("*claim.json"))


def workers_of(directory: Path) -> set[int]:
    """The process ids of the workers that have claimed runs of a sweep."""
    claims = (path.read_text() for path in directory.rglob("*claim.json"))
    return {json.loads(content)["pid"] for content in claims if content.endswith("\n")}
