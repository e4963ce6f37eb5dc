"""What a person does with sweeps: run one, resume or extend it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lx.config.session import hydra_session
from lx.errors import LxError
from lx.run.directory import RunDirectory
from lx.run.lock import locked
from lx.sweep.leaderboard import Row, rank_trials
from lx.sweep.plan import ADJUSTABLE, check_extension, make_plan, read_sweep, seconds_of
from lx.sweep.runner import Sweep
from lx.sweep.scheduler import Stop
from lx.sweep.view import View


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        directory: of the sweep.
        exit_code: 0; 1 if trials failed; 130 or 143 if a signal stopped it.
        rows: the ranking, the best first.
    """

    directory: Path
    exit_code: int
    rows: list[Row]


def default_directory() -> Path:
    """``runs/sweeps/<date>_<time>``."""
    return Path("runs") / "sweeps" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def run_sweep(
    overrides: Sequence[str], config_dir: str | Path | None = None, *, dry_run: bool = False, show: bool = True
) -> SweepResult:
    """Run a sweep, or go on with the one in ``sweep.dir``.

    Args:
        overrides: of ``lx train``, with several values for what varies, and of ``sweep``.
        config_dir: a folder of the user's config groups.
        dry_run: show the plan, and run nothing.
        show: whether to show plan, progress and leaderboard.

    Raises:
        LxError: bad input; no run has begun then.
    """
    if "WANDB_SWEEP_ID" in os.environ:
        raise LxError("lx train -m inside a W&B agent: the agent chooses the values, so leave -m out of its command")
    with hydra_session(config_dir) as hydra:
        plan = make_plan(hydra, overrides, None if config_dir is None else str(Path(config_dir).resolve()))
        directory = Path(plan.settings["dir"] or default_directory())
        if dry_run:
            View(plan, directory, {}, show).plan()
            return SweepResult(directory, 0, [])
        if (directory / "sweep.json").exists():
            check_extension(directory, hydra, plan)
        elif directory.exists() and any(directory.iterdir()):
            raise LxError(f"sweep.dir={directory} is no sweep, and not empty: choose another directory")
        directory.mkdir(parents=True, exist_ok=True)
        with locked(RunDirectory(directory)):
            stop = Stop(seconds_of(plan.settings["budget"]))
            with stop.listening():
                sweep = Sweep(directory, plan, hydra)
                view = View(plan, directory, sweep.trials, show)
                sweep.save()
                view.plan()
                code = sweep.run(view, stop)
            view.end(stopped=stop.exit_code is not None)
    return SweepResult(directory, code, rank_trials(sweep.trials.values(), plan.metric, plan.mode))


def resume_sweep(directory: Path, changes: Sequence[str] = ()) -> SweepResult:
    """Go on with an interrupted sweep, or extend one.

    Args:
        directory: of the sweep.
        changes: of ``sweep`` settings, ``sweep.n_trials=+20`` for twenty more.

    Raises:
        LxError: no sweep there, or a change that would make it another sweep.
    """
    content = read_sweep(directory)
    directory = directory.resolve()
    os.chdir(content["cwd"])
    overrides = [*content["overrides"]]
    for change in changes:
        key, _, value = change.partition("=")
        if key.removeprefix("sweep.") not in ADJUSTABLE or not key.startswith("sweep."):
            allowed = ", ".join(f"sweep.{name}" for name in sorted(ADJUSTABLE))
            raise LxError(f"{change}: a sweep goes on as it was; what can change: {allowed}")
        before = next((text for text in reversed(overrides) if text.startswith(f"{key}=")), f"{key}=0")
        if value.startswith("+"):
            value = str(int(before.partition("=")[2]) + int(value))
        overrides = [text for text in overrides if not text.startswith(f"{key}=")] + [f"{key}={value}"]
    overrides = [text for text in overrides if not text.startswith("sweep.dir=")] + [f"sweep.dir={directory}"]
    return run_sweep(overrides, content["config_dir"])
