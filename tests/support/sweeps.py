"""Sweeps of tiny runs, and what their directories hold."""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from support.commands import lx, start, training
from support.process_table import assert_nothing_left
from support.run_files import result, rows
from support.waiting import wait_until


def sweep(name: str, *overrides: str) -> list[str]:
    """A sweep of runs that take a second."""
    command, *settings = training("unused", "trainer.max_epochs=2", *overrides)
    settings = [text for text in settings if not text.startswith("run_dir=")]
    return [command, "-m", *settings, f"sweep.dir={name}"]


def leaderboard(directory: Path) -> list[dict[str, str]]:
    with (directory / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def objectives(directory: Path) -> dict[str, float]:
    """The objective of every run, by its directory below the sweep's."""
    return {
        str(path.parent.relative_to(directory)): result(path.parent)["objective"]
        for path in directory.rglob("result.json")
    }


def losses(directory: Path) -> dict[str, list[str]]:
    return {
        str(path.parent.relative_to(directory)): [row["train/loss"] for row in rows(path.parent)]
        for path in directory.rglob("metrics.csv")
    }


def statuses(directory: Path) -> dict[str, tuple[str, int, float]]:
    """Status, steps and objective of every run, by its directory below the sweep's."""
    results: dict[str, Any] = {
        str(path.parent.relative_to(directory)): result(path.parent) for path in directory.rglob("result.json")
    }
    return {name: (found["status"], found["steps"], found["objective"]) for name, found in results.items()}


def kill_and_resume(folder: Path, name: str, *overrides: str, times: int, seconds: float) -> None:
    """Start a sweep, kill its process group so many seconds after it is planned, again and again, then let it end."""
    draw = random.Random(name)
    for _ in range(times):
        running = start(folder, sweep(name, *overrides), preexec=os.setsid)
        wait_until((folder / name / "sweep.json").exists, "the sweep is planned")
        until = time.monotonic() + draw.uniform(0, seconds)
        while running.code is None and time.monotonic() < until:
            time.sleep(0.02)
        if running.code is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        assert_nothing_left(folder / name)
    done = lx(folder, "sweep", "resume", name)
    assert done.returncode == 0, done.stderr
