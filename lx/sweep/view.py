"""Shows a sweep while it runs: one live table on a terminal, plain lines in a pipe."""

from __future__ import annotations

import csv
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lx.report.next_commands import report_command
from lx.report.tables import count, duration
from lx.sweep.leaderboard import Row, best_command, best_finished, rank_trials
from lx.sweep.plan import Plan
from lx.sweep.record import Record
from lx.sweep.space import Interval
from lx.sweep.tables import leaderboard_view, short_value
from lx.sweep.trials import DONE, Replicate, TrialDirectory, load_trials
from lx.system.console import console
from lx.system.files import as_argument
from lx.system.output import say

if TYPE_CHECKING:
    from lx.sweep.scheduler import Job  # imports torch, which `lx sweep show` does without

_REFRESH_S = 0.5
_SHOWN = 20
_TAIL_BYTES = 2000


class View:
    """What a person sees of a sweep; ``trials``, by number, grows while the sweep runs."""

    def __init__(self, plan: Plan, directory: Path, trials: Mapping[int, TrialDirectory]) -> None:
        self._plan = plan
        self._directory = directory
        self._trials = trials
        self._out = console(stderr=True)
        self._live: Live | None = None
        self._running: dict[Path, Job] = {}
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._done_before = 0

    def plan(self) -> None:
        """Say what is about to happen."""
        plan = self._plan
        seeds, trials = len(plan.space.seeds), plan.num_trials
        runs = f"{trials:,} x {count(seeds, 'seed')} = {count(trials * seeds, 'run')}"
        if plan.is_automatic:
            runs = f"as many as {plan.settings['budget']} have room for"
        runs += f", {plan.settings['n_jobs']} at a time"
        table = Table(show_header=False, title=Text(f"sweep {self._directory}"), title_justify="left")
        table.add_row("trials", runs)
        for axis in plan.axes:
            if isinstance(axis, Interval):
                values = f"{axis.low:g} to {axis.high:g}{', on a logarithmic scale' if axis.log else ''}"
            else:
                values = ", ".join(axis.values)
            table.add_row(Text(axis.key), Text(values))
        table.add_row("seeds", ", ".join(map(str, plan.space.seeds)))
        table.add_row("objective", f"{plan.metric}, {plan.mode}, of validation alone")
        for name, mode in plan.further_objectives.items():
            table.add_row("", f"{name}, {mode}")
        console().print(table)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show progress while the block runs."""
        self._done_before, self._started = self._done(), time.monotonic()
        if not self._out.is_terminal:
            yield
            return
        with Live(console=self._out, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def show(self, running: list[Job]) -> None:
        """Show the runs that are under way; called often."""
        if self._live is None:
            self._print_changes(running)
        elif time.monotonic() - self._shown_at >= _REFRESH_S:
            self._shown_at = time.monotonic()
            self._live.update(self._table(running), refresh=True)

    def _print_changes(self, running: list[Job]) -> None:
        """Print a line for each run that has ended or begun since the last call."""
        now = {job.replicate.run.path: job for job in running}
        for path, job in self._running.items():
            if path not in now:
                ending, counts = self._describe_end(job), self._counts(self._ranking(), running)
                say(f"lx: {path}: {ending}; {counts}", sys.stderr)
        for path in now.keys() - self._running.keys():
            replicate = now[path].replicate
            say(f"lx: {path}: {self._values(replicate.trial)} seed={replicate.seed}", sys.stderr)
        self._running = now

    def _describe_end(self, job: Job) -> str:
        outcome = job.replicate.outcome()
        has_failed = job.replicate.seed in self._trials[job.replicate.trial].failures
        objective = "" if outcome.objective is None else f", objective {outcome.objective:.4f}"
        seconds = duration(time.monotonic() - job.started)
        return f"{'failed' if has_failed else outcome.status}{objective}, {seconds}"

    def _values(self, trial: int) -> str:
        return " ".join(f"{key}={short_value(value)}" for key, value in self._trials[trial].params.items())

    def _done(self) -> int:
        return sum(r.outcome().status in DONE for t in self._trials.values() for r in t.replicates())

    def _counts(self, rows: list[Row], running: list[Job]) -> str:
        """Say how many runs are done, how many trials failed or were pruned, and how long the rest will take."""
        plan = self._plan
        total, done = plan.num_trials * len(plan.space.seeds), self._done()
        texts = [f"{count(done, 'run')} done" if plan.is_automatic else f"{done:,} of {count(total, 'run')} done"]
        states = Counter(row.state for row in rows)
        texts += [
            f"{count(states[name], 'trial')} {name}"
            for name in ("failed", "pruned", "infeasible", "paused")
            if states[name]
        ]
        left = total - done - sum(len(row.trial.seeds) for row in rows if row.state == "failed")
        seconds = self._seconds_left(done - self._done_before, left, running)
        if left > 0 and seconds is not None and not plan.is_automatic:
            texts.append(f"{duration(seconds)} left")
        return ", ".join(texts)

    def _seconds_left(self, done: int, left: int, running: list[Job]) -> float | None:
        """Estimate the time of the ``left`` runs, from those done since the start or the steps of those running."""
        elapsed = time.monotonic() - self._started
        if done > 0:
            return elapsed / done * left
        estimates = (_run_seconds_left(job, *progress(job.replicate)) for job in running)
        known = [seconds for seconds in estimates if seconds is not None]
        if not known:
            return None
        seconds_a_run = elapsed + sum(known) / len(known)
        return seconds_a_run * left / len(running) - elapsed

    def _table(self, running: list[Job]) -> Group:
        rows = self._ranking()
        table = Table(
            title=Text(self._counts(rows, running)), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
        )
        table.add_column("trial", justify="right")
        table.add_column("values", overflow="fold")
        for heading in ("seed", "step", "time", "left"):
            table.add_column(heading, justify="right", no_wrap=True)
        for job in running:
            step, total = progress(job.replicate)
            left = _run_seconds_left(job, step, total)
            table.add_row(
                str(job.replicate.trial),
                Text(self._values(job.replicate.trial)),
                str(job.replicate.seed),
                f"{step:,}" if total is None else f"{step:,}/{total:,}",
                duration(time.monotonic() - job.started),
                "-" if left is None else duration(left),
            )
        if (best := best_finished(rows)) is None:
            return Group(table)
        name = f"trial {best.trial.number}, {self._values(best.trial.number)}"
        return Group(table, Text(f"best so far: {name}: {self._plan.metric} {best.objective}"))

    def _ranking(self) -> list[Row]:
        plan = self._plan
        return rank_trials(self._trials.values(), plan.metric, plan.mode, plan.further_objectives)

    def end(self, stopped: bool) -> None:
        """Show the leaderboard and the next commands: if the sweep was stopped, how to resume it."""
        out, rows = console(), self._ranking()
        if rows:
            out.print(leaderboard_view(rows, self._plan.metric, self._directory, out.width, _SHOWN))
        directory = shlex.quote(as_argument(self._directory))
        best = best_finished(rows)
        commands = [f"lx sweep show {directory}"] if len(rows) > _SHOWN else []
        if stopped:
            commands = [f"lx sweep resume {directory}"]
        elif best is not None:
            commands += [
                *report_command(self._directory),
                best_command(best, self._plan.space.fixed, self._plan.config_dir),
            ]
        for command in commands:
            _print_command(command)


def _print_command(command: str) -> None:
    """Print a command on one line, however long, to be pasted."""
    console().print(command, highlight=False, soft_wrap=True, markup=False)


def show_sweep(directory: Path) -> None:
    """Print the leaderboard of a sweep, finished or not, and the command that trains its best trial again.

    Raises:
        LxError: no sweep there.
    """
    record = Record.read(directory)
    rows = rank_trials(load_trials(directory), record.metric, record.mode, record.further)
    out = console()
    out.print(leaderboard_view(rows, record.metric, directory, out.width))
    if (best := best_finished(rows)) is not None:
        _print_command(best_command(best, record.fixed, record.config_dir))


def progress(replicate: Replicate) -> tuple[int, int | None]:
    """Return the last step that a run has logged, and how many it will take; None until it has printed that number."""
    with suppress(OSError, ValueError, IndexError):
        step = int(next(csv.reader([_tail(replicate.run.metrics).splitlines()[-1]]))[0])
        totals = re.findall(r"step [\d,]+/([\d,]+)", _tail(replicate.output))
        return step, int(totals[-1].replace(",", "")) if totals else None
    return 0, None


def _run_seconds_left(job: Job, step: int, total: int | None) -> float | None:
    """Estimate how much longer a run will take, from its mean time of a step; None if unknown."""
    if not step or total is None:
        return None
    return (time.monotonic() - job.started) / step * (total - step)


def _tail(path: Path) -> str:
    """Read the end of a text file, without a last line that is still being written."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace").rpartition("\n")[0]
