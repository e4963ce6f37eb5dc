"""The processes of a run, read from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def processes_of(run: Path) -> dict[int, str]:
    """Find process ids and command lines of a run: of those that name it, and of all that they started."""
    parents, lines, members = {}, {}, set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state == "Z":
                    continue
                parents[int(entry.name)] = int(parent)
                line = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                lines[int(entry.name)] = " ".join(line)
                works_there = (entry / "cwd").readlink() == run.parent
                if {run.name, str(run), f"run_dir={run.name}"} & set(line) and works_there:
                    members.add(int(entry.name))
    while more := {child for child, parent in parents.items() if parent in members} - members:
        members |= more
    return {pid: lines[pid] for pid in sorted(members)}


def workers_of(run: Path) -> list[int]:
    """Find the process ids of the ranks of a run."""
    return [pid for pid, line in processes_of(run).items() if "lx.training.worker" in line]


def kill_all(run: Path) -> None:
    """Send SIGKILL to every process of a run."""
    for pid in processes_of(run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def assert_nothing_left(run: Path, seconds: float = 10) -> None:
    """No process of a run is left, or will be in a moment."""
    deadline = time.monotonic() + seconds
    while left := processes_of(run):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)
