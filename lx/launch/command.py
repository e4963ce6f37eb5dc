"""The command that trains a run on this machine: one process, or the launcher of several ranks."""

from __future__ import annotations

import sys
from typing import Any

from lx.run.directory import RunDirectory


def worker_command(run: RunDirectory, config: dict[str, Any]) -> list[str]:
    """Return the command line that trains in a run directory, by its configuration."""
    module = "lx.launch.torchrun" if has_ranks(config["hardware"]) else "lx.training.worker"
    return [sys.executable, "-m", module, str(run.path)]


def has_ranks(hardware: dict[str, Any]) -> bool:
    """Return whether the settings of ``hardware`` ask for torchrun's launcher."""
    return bool(hardware["devices"] != 1 or hardware["num_nodes"] > 1 or hardware["strategy"] != "auto")
