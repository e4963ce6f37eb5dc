"""Shows a sweep while it runs: one live table on a terminal, plain lines in a pipe."""

from __future__ import annotations

import csv
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lx.report.tables import duration
from lx.sweep.leaderboard import Row, best_command, headline, leaderboard_table, rank_trials
from lx.sweep.plan import Plan
from lx.sweep.record import Record
from lx.sweep.space import Interval
from lx.sweep.trials import DONE, TrialDirectory, load_trials
from lx.system.console import console

if TYPE_CHECKING:
    from lx.sweep.scheduler import Job  # imports torch, which `lx sweep show` does without

_REFRESH_S = 0.5
_SHOWN = 20


class View:
    """What a person sees of a sweep.

    Args:
        plan: of the sweep.
        directory: of the sweep.
        trials: that have begun, by number; grows while the sweep runs.
        enabled: False: show nothing.
    """

    def __init__(self, plan: Plan, directory: Path, trials: Mapping[int, TrialDirectory], enabled: bool) -> None:
        self._plan = plan
        self._directory = directory
        self._trials = trials
        self._enabled = enabled
        self._out = console(stderr=True)
        self._live: Live | None = None
        self._running: dict[Path, Job] = {}
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._done_before = 0

    def plan(self) -> None:
        """Say what is about to happen."""
        if not self._enabled:
            return
        plan = self._plan
        seeds, trials = len(plan.space.seeds), plan.num_trials
        runs = f"{trials:,} x {_count(seeds, 'seed')} = {_count(trials * seeds, 'run')}"
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
        if not self._enabled or not self._out.is_terminal:
            yield
            return
        with Live(console=self._out, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def show(self, running: list[Job]) -> None:
        """Show the runs that are under way; called often."""
        if not self._enabled:
            return
        if self._live is None:
            self._lines(running)
        elif time.monotonic() - self._shown_at >= _REFRESH_S:
            self._shown_at = time.monotonic()
            self._live.update(self._table(running), refresh=True)

    def _lines(self, running: list[Job]) -> None:
        now = {job.replicate.run.path: job for job in running}
        for path, job in self._running.items():
            if path not in now:
                outcome = job.replicate.outcome()
                value = "" if outcome.objective is None else f", objective {outcome.objective:.4f}"
                seconds = duration(time.monotonic() - job.started)
                print(f"lx: {path}: {outcome.status}{value}, {seconds}; {self._counts()}", file=sys.stderr, flush=True)
        for path in now.keys() - self._running.keys():
            params = self._trials[now[path].replicate.trial].params
            values = " ".join(f"{key}={value}" for key, value in params.items())
            print(f"lx: {path}: {values} seed={now[path].replicate.seed}", file=sys.stderr, flush=True)
        self._running = now

    def _done(self) -> int:
        return sum(r.outcome().status in DONE for t in self._trials.values() for r in t.replicates())

    def _counts(self) -> str:
        plan = self._plan
        total, done = plan.num_trials * len(plan.space.seeds), self._done()
        failed = sum(bool(trial.failures) for trial in self._trials.values())
        text = f"{done} of {total} runs done" + (f", {failed} trials failed" if failed else "")
        fresh = done - self._done_before
        if fresh > 0 and done < total:
            text += f", {duration((time.monotonic() - self._started) / fresh * (total - done))} left"
        return text

    def _table(self, running: list[Job]) -> Group:
        table = Table(title=Text(self._counts()), title_justify="left")
        for heading in ("run", "values", "seed", "step", "time"):
            table.add_column(heading, overflow="fold")
        for job in running:
            params = self._trials[job.replicate.trial].params
            table.add_row(
                str(job.replicate.trial),
                Text(" ".join(f"{key}={value}" for key, value in params.items())),
                str(job.replicate.seed),
                _last_step(job.replicate.run.metrics),
                duration(time.monotonic() - job.started),
            )
        best = next((row for row in self._ranking() if row.state == "finished"), None)
        line = "" if best is None else f"best so far: trial {best.trial.number}, {self._plan.metric} {best.objective}"
        return Group(table, Text(line))

    def _ranking(self) -> list[Row]:
        plan = self._plan
        return rank_trials(self._trials.values(), plan.metric, plan.mode, plan.further_objectives)

    def end(self, stopped: bool) -> None:
        """Show the leaderboard and what to do next.

        Args:
            stopped: whether trials are left to run.
        """
        if not self._enabled:
            return
        out, rows = console(), self._ranking()
        if rows:
            _print_ranking(rows, self._plan.metric, _SHOWN)
        best = next((row for row in rows if row.state == "finished"), None)
        command = f"lx sweep show {shlex.quote(str(self._directory))}" if len(rows) > _SHOWN else None
        if stopped:
            command = f"lx sweep resume {shlex.quote(str(self._directory))}"
        elif best is not None:
            command = best_command(best, self._plan.space.fixed)
        if command is not None:
            out.print(command, highlight=False, soft_wrap=True, markup=False)


def show_sweep(directory: Path) -> None:
    """Print the leaderboard of a sweep, finished or not.

    Raises:
        LxError: no sweep there.
    """
    record = Record.read(directory)
    rows = rank_trials(load_trials(directory), record.metric, record.mode, record.further)
    _print_ranking(rows, record.metric)


def _print_ranking(rows: list[Row], metric: str, limit: int | None = None) -> None:
    console().print(leaderboard_table(rows, metric, limit))
    if line := headline(rows, metric):
        console().print(line, highlight=False)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _last_step(metrics: Path) -> str:
    """The last step that a run has logged."""
    try:
        with metrics.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 500))
            last = file.read().decode("utf-8", errors="replace").strip().splitlines()[-1]
        return next(csv.reader([last]))[0] if last[:1].isdecimal() else "-"
    except (OSError, IndexError, StopIteration):
        return "-"
