"""Wait for conditions, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 120


def wait_until(holds: Callable[[], object], what: str, seconds: float = PATIENCE_S, poll: float = 0.005) -> None:
    """Wait until a condition holds, and fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(poll)


def wait_for_steps(run: Path, count: int) -> None:
    """Wait until a run that logs every step has taken so many steps."""
    metrics = run / "metrics.csv"
    wait_until(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > count, f"{count} steps of {run}")
