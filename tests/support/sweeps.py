"""Sweeps of tiny runs, and what their directories hold."""

from __future__ import annotations

import csv
from pathlib import Path

from support.commands import training
from support.run_files import result, rows


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
