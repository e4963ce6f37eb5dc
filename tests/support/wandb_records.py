"""W&B records on disk, read back with wandb's own reader, ``wandb leet inspect``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def records(part: Path) -> list[dict[str, Any]]:
    """Every record of a part, in its order."""
    return [json.loads(line) for line in inspect(part).splitlines()]


def inspect(part: Path, *options: str) -> str:
    """What wandb's reader prints of a part, as JSON."""
    (log,) = part.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(log)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def parts(run: Path) -> list[Path]:
    """The parts of a run's record, in the order in which they were begun."""
    return sorted(run.glob("wandb/*run-2*"), key=lambda part: part.name.partition("run-")[2])


def rows(run: Path) -> list[dict[str, Any]]:
    """The rows of all parts."""
    found = [record for part in parts(run) for record in records(part) if record["type"] == "history"]
    return [record["history"]["item"] for record in found]
