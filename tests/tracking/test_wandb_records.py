"""What W&B holds of a run, whichever way the run went: the real client, and a server on loopback."""

from __future__ import annotations

import csv
import os
import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.commands import lx, start, training
from support.corpus import write_splits
from support.process_table import workers_of
from support.run_files import result
from support.waiting import wait_for_steps, wait_until
from support.wandb_records import parts, rows
from support.wandb_server import WandbRun, WandbServer

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_splits(tmp_path)


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, and none of the settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def tracked(*overrides: str) -> list[str]:
    """A run of some seconds that W&B records."""
    return [text for text in training("run", *overrides) if text != "logger=csv"]


def expected_rows(run: Path) -> Counter[tuple[int, str]]:
    """Step and kind of each row that a run logs, by its metrics.csv."""
    expected: Counter[tuple[int, str]] = Counter()
    with (run / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            expected[int(row["step"]), "train"] += bool(row["train/loss"])
            expected[int(row["step"]), "val"] += bool(row["val/loss"])
    return +expected


def recorded_rows(history: Iterable[Mapping[str, Any]]) -> Counter[tuple[int, str]]:
    kinds = [
        (row["trainer/global_step"], kind) for row in history for kind in ("train", "val") if f"{kind}/loss" in row
    ]
    return Counter(kinds)


def kill(folder: Path, command: list[str], env: Mapping[str, str], steps: int = 30) -> None:
    """Start a run and kill its worker after so many steps; W&B's client goes down with it."""
    begun = start(folder, command, env=env)
    wait_for_steps(folder / "run", steps)
    wait_until(lambda: (folder / "run/checkpoints/previous.ckpt").exists(), "a checkpoint before the last")
    for worker in workers_of(folder / "run"):
        os.kill(worker, signal.SIGKILL)
    assert begun.wait().code == 1


def assert_complete(run: WandbRun, directory: Path) -> None:
    """Every item is there, and none twice."""
    assert recorded_rows(run.history) == expected_rows(directory)
    steps = [row["_step"] for row in run.history]
    assert steps == sorted(set(steps))
    ended = result(directory)
    assert run.summary["status"] == ended["status"] == "finished"
    assert run.summary["val/accuracy"] == pytest.approx(ended["metrics"]["val/accuracy"])


LONG = ("trainer.max_epochs=20", "trainer.save_every_n_steps=7")


@pytest.mark.usefixtures("home")
def test_offline_killed_resumed_and_synced(folder: Path) -> None:
    kill(folder, tracked(*LONG), {"WANDB_MODE": "offline"})
    resumed = lx(folder, "resume", "run", env={"WANDB_MODE": "offline"})
    assert resumed.returncode == 0, resumed.stderr
    assert len(parts(folder / "run")) == 2
    assert recorded_rows(rows(folder / "run")) == expected_rows(folder / "run")
    assert "lx sync run" in resumed.stdout
    server = WandbServer()
    with server.serving() as env:
        synced = lx(folder, "sync", "run", env=env)
        assert synced.returncode == 0, synced.stderr
        again = lx(folder, "sync", "run", env=env)
    assert "uploaded 1 run" in synced.stdout
    assert "nothing to upload" in again.stdout
    (run,) = server.runs.values()
    assert_complete(run, folder / "run")
    assert run.exit_codes == [1, 0]


@pytest.mark.usefixtures("home")
def test_online_killed_and_resumed(folder: Path) -> None:
    server = WandbServer()
    with server.serving() as env:
        kill(folder, tracked(*LONG), env)
        resumed = lx(folder, "resume", "run", env=env)
    assert resumed.returncode == 0, resumed.stderr
    (run,) = server.runs.values()
    assert_complete(run, folder / "run")
    assert run.exit_codes == [0]
