"""A Slurm cluster that answers, as tests look at it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.waiting import wait_until

SECONDS = 300  # that anything here may take, on a busy machine too


def until(holds: Callable[[], Any], what: str) -> None:
    """Wait for something to come true."""
    wait_until(holds, what, SECONDS, poll=0.3)


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def queue() -> str:
    return slurm("squeue", "--noheader")


def state(job: int) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S*)", slurm("scontrol", "--oneliner", "show", "job", str(job))))


def processes_in(place: Path) -> list[str]:
    """The command lines that name a directory."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(place) in line:
            lines.append(line)
    return lines


def is_training(run: Path) -> bool:
    """Whether a run has begun to train, as its first checkpoint shows."""
    return (run / "checkpoints" / "last.ckpt").exists()


def resumed_after(run: Path) -> list[int]:
    """The steps at which a run went on."""
    return [int(step) for step in re.findall(r"going on after step (\d+)", (run / "log.txt").read_text())]
