"""What a person does with sweeps: run one, resume or extend it, or work on one beside others."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lx.config.session import hydra_session
from lx.errors import LxError, shorten_text
from lx.sweep.best_average import choose_average
from lx.sweep.claims import Claims
from lx.sweep.leaderboard import Row
from lx.sweep.limits import seconds_of
from lx.sweep.plan import ADJUSTABLE, make_plan, read_settings
from lx.sweep.record import Record, check_extension
from lx.sweep.runner import Runner
from lx.sweep.scheduler import Stop
from lx.sweep.state import Sweep
from lx.sweep.storage import reporting_loss
from lx.sweep.view import View

# What a sweep that was killed before it had written sweep.json may have left.
_BEFORE_THE_RECORD = (".lock", "journal.log", ".journal.log.lock")
_WORKER_SETTINGS = ("sweep.n_jobs", "sweep.per_gpu", "sweep.budget")


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


def _make_directory(named: str | None) -> Path:
    """Make the directory of a sweep: the one that is named, which may exist already, or a new one.

    Raises:
        LxError: it cannot be made, or holds something else.
    """
    directory = Path(named) if named is not None else default_directory()
    try:
        directory.mkdir(parents=True, exist_ok=named is not None)
        content = [path.name for path in directory.iterdir()]
    except FileExistsError:
        if named is None:  # a sweep that began in the same second
            time.sleep(1)
            return _make_directory(named)
        raise LxError(f"sweep.dir={directory} is a file: choose another directory") from None
    except OSError as error:
        raise LxError(f"cannot make the sweep's directory {shorten_text(str(directory))}: {error.strerror}") from error
    if "sweep.json" not in content and any(name not in _BEFORE_THE_RECORD for name in content):
        raise LxError(f"sweep.dir={directory} is no sweep, and not empty: choose another directory")
    return directory


def run_sweep(overrides: Sequence[str], config_dir: str | Path | None = None, *, dry_run: bool = False) -> SweepResult:
    """Run a sweep, or go on with the one in ``sweep.dir``.

    Args:
        overrides: as for ``lx train``, with several values for each key that varies, and those of ``sweep``.
        config_dir: a folder of the user's config groups.
        dry_run: show the plan, and run nothing.

    Raises:
        LxError: bad input; no run has begun then.
    """
    started = time.monotonic()
    if "WANDB_SWEEP_ID" in os.environ:
        raise LxError("lx train -m inside a W&B agent: the agent chooses the values, so leave -m out of its command")
    with hydra_session(config_dir) as hydra:
        plan = make_plan(hydra, overrides, None if config_dir is None else str(Path(config_dir).resolve()))
        if dry_run:
            directory = Path(plan.settings["dir"] or default_directory())
            View(plan, directory, {}).plan()
            return SweepResult(directory, 0, [])
        directory = _make_directory(plan.settings["dir"])
        record = directory / "sweep.json"
        claims = Claims(directory)
        with claims.exclusive():
            before = Record.read(directory) if record.exists() else None
            if before is not None:
                before.warn_of_other_code()
                check_extension(directory, before, hydra, plan)
            Record.of(plan, before).write(directory)
            sweep = Sweep(directory, plan, hydra, claims)
            sweep.enqueue_trials()
        return _work(sweep, started)


def work_on_sweep(directory: Path, settings: Sequence[str] = ()) -> SweepResult:
    """Run what a sweep lacks, beside its other workers or alone, until it has ended.

    Args:
        directory: of the sweep.
        settings: of this worker alone: ``sweep.n_jobs``, ``sweep.per_gpu`` and ``sweep.budget``.

    Raises:
        LxError: no sweep there, or settings of another kind.
    """
    started, record = time.monotonic(), Record.read(directory)
    directory = directory.resolve()
    _enter(record.cwd)
    for setting in settings:
        if setting.partition("=")[0] not in _WORKER_SETTINGS:
            raise LxError(f"{setting}: a worker sets {', '.join(_WORKER_SETTINGS)}; lx sweep resume changes the sweep")
    with hydra_session(record.config_dir) as hydra:
        plan = make_plan(hydra, [*record.overrides, *settings], record.config_dir, num_checked=1)
        plan = replace(plan, overrides=record.overrides)
        record.warn_of_other_code()
        claims = Claims(directory)
        with claims.exclusive():
            sweep = Sweep(directory, plan, hydra, claims)
        return _work(sweep, started)


def _work(sweep: Sweep, started: float) -> SweepResult:
    """Run what is missing; the budget counts from when the command ``started``, on the monotonic clock."""
    plan = sweep.plan
    budget = seconds_of(plan.settings["budget"])
    stop = Stop(None if budget is None else started + budget)
    view = View(plan, sweep.directory, sweep.trials)
    view.plan()
    with stop.listening(), reporting_loss(sweep.directory):
        code = Runner(sweep, view, stop).run()
    view.end(stopped=stop.exit_code is not None)
    if plan.is_automatic and not stop.exit_code:
        choose_average(sweep)
    return SweepResult(sweep.directory, code, sweep.ranking())


def resume_sweep(directory: Path, changes: Sequence[str] = ()) -> SweepResult:
    """Go on with an interrupted sweep, or extend one.

    Args:
        directory: of the sweep.
        changes: of ``sweep`` settings, ``sweep.n_trials=+20`` for twenty more.

    Raises:
        LxError: no sweep there, or a change that would make it another sweep.
    """
    record = Record.read(directory)
    directory = directory.resolve()
    _enter(record.cwd)
    overrides = [*record.overrides]
    adjustable = [f"sweep.{name}" for name in sorted(ADJUSTABLE)]
    for change in changes:
        key, _, value = change.partition("=")
        if key not in adjustable:
            raise LxError(f"{change}: a sweep goes on as it was; what can change: {', '.join(adjustable)}")
        if value.startswith("+"):
            value = _increased(change, overrides, record.config_dir)
        overrides = _with(overrides, key, value)
    return run_sweep(_with(overrides, "sweep.dir", str(directory)), record.config_dir)


def _with(overrides: Sequence[str], key: str, value: str) -> list[str]:
    """Return the overrides with this value for a key, at the end."""
    return [*(text for text in overrides if not text.startswith(f"{key}=")), f"{key}={value}"]


def _increased(change: str, overrides: Sequence[str], config_dir: str | None) -> str:
    """Return the value that a setting gets by a change such as ``sweep.n_trials=+20``."""
    key, _, value = change.partition("=+")
    with hydra_session(config_dir) as hydra:
        before = read_settings(hydra, overrides)[key.removeprefix("sweep.")]
    if not value.isdecimal() or not isinstance(before, int | None):
        now = "not set" if before is None else before
        raise LxError(f"{change}: only a whole number can be added, and only to one; {key} is {now}")
    return str((before or 0) + int(value))


def _enter(folder: str) -> None:
    """Work where the sweep began: paths in its command are relative to there."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise LxError(f"the sweep began in {folder}, which cannot be entered here: {error.strerror}") from error
