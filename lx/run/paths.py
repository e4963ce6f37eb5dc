"""Where runs lie: those that a path names, and the directory of a new one."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from lx.errors import LxError
from lx.run.directory import RunDirectory


def runs_of_path(path: Path) -> list[Path]:
    """Return the run that a path names, or the runs in a folder, such as a trial's seeds in ``SWEEP/0``; skip links.

    Raises:
        LxError: it is a directory, but neither a run nor a folder of runs.
    """
    if RunDirectory(path).config.exists() or not path.is_dir():  # a missing one is refused when it is read
        return [path]
    if runs := sorted(each for each in path.iterdir() if not each.is_symlink() and RunDirectory(each).config.exists()):
        return runs
    raise LxError(f"{path} is neither a run nor a sweep, nor a folder of runs: no config.yaml, no sweep.json")


def default_run_dir(name: str) -> Path:
    """Return ``runs/<date>_<time>_<name>``, with a number behind it if that exists."""
    base = Path("runs") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}"
    candidates = (base, *(base.with_name(f"{base.name}_{n}") for n in range(2, 1000)))
    return next(path for path in candidates if not path.exists())
