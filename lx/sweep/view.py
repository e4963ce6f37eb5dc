"""Shows a sweep while it runs: one live table on a terminal, plain lines in a pipe."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lx.report.tables import console, duration
from lx.sweep.leaderboard import best_command, leaderboard_table
from lx.sweep.scheduler import Job

if TYPE_CHECKING:
    from lx.sweep.sweep import Plan, Sweep

_REFRESH_S = 0.5
_SHOWN = 20


class View:
    """What a person sees of a sweep.

    Args:
        enabled: False: show nothing while it runs.
    """

    def __init__(self, enabled: bool) -> None:
        self._out = console(stderr=True)
        self._enabled = enabled
        self._live: Live | None = None
        self._sweep: Sweep | None = None
        self._known: dict[Path, Job] = {}
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._done_before = 0

    def plan(self, plan: Plan, directory: Path) -> None:
        """Say what is about to happen."""
        if not self._enabled:
            return
        seeds, trials = len(plan.space.seeds), plan.num_trials
        table = Table(show_header=False, title=Text(f"sweep {directory}"), title_justify="left")
        table.add_row("trials", f"{trials:,} x {seeds} seed(s) = {trials * seeds:,} runs, {plan.settings['n_jobs']} at a time")
        for axis in plan.space.axes:
            values = getattr(axis, "values", None)
            shown = ", ".join(values) if values else f"{axis.low:g} to {axis.high:g}{', log' if axis.log else ''}"  # type: ignore[union-attr]
            table.add_row(Text(axis.key), Text(shown))
        table.add_row("seeds", ", ".join(map(str, plan.space.seeds)))
        table.add_row("objective", f"{plan.metric}, {plan.mode}")
        console().print(table)

    @contextmanager
    def live(self, sweep: Sweep) -> Iterator[None]:
        """Show progress while the block runs."""
        self._sweep = sweep
        self._done_before = self._done()
        self._started = time.monotonic()
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
        for path, job in self._known.items():
            if path not in now:
                outcome = job.replicate.outcome()
                value = "" if outcome.objective is None else f", objective {outcome.objective:.4f}"
                seconds = duration(time.monotonic() - job.started)
                print(f"lx: {path}: {outcome.status}{value}, {seconds}; {self._counts()}", file=sys.stderr, flush=True)
        for path in now.keys() - self._known.keys():
            params = self._sweep.trials[now[path].replicate.trial].params if self._sweep else {}
            values = " ".join(f"{key}={value}" for key, value in params.items())
            print(f"lx: {path}: {values} seed={now[path].replicate.seed}", file=sys.stderr, flush=True)
        self._known = now

    def _done(self) -> int:
        assert self._sweep is not None
        return sum(r.outcome().status in ("finished", "pruned") for t in self._sweep.trials.values() for r in t.replicates())

    def _counts(self) -> str:
        assert self._sweep is not None
        plan = self._sweep.plan
        total, done = plan.num_trials * len(plan.space.seeds), self._done()
        failed = sum(bool(trial.reasons) for trial in self._sweep.trials.values())
        text = f"{done} of {total} runs done" + (f", {failed} trials failed" if failed else "")
        fresh = done - self._done_before
        if 0 < fresh and done < total:
            text += f", {duration((time.monotonic() - self._started) / fresh * (total - done))} left"
        return text

    def _table(self, running: list[Job]) -> Group:
        assert self._sweep is not None
        table = Table(title=Text(self._counts()), title_justify="left")
        for heading in ("run", "values", "seed", "step", "time"):
            table.add_column(heading, overflow="fold")
        for job in running:
            params = self._sweep.trials[job.replicate.trial].params
            table.add_row(
                str(job.replicate.trial),
                Text(" ".join(f"{key}={value}" for key, value in params.items())),
                str(job.replicate.seed),
                _last_step(job.replicate.run.metrics),
                duration(time.monotonic() - job.started),
            )
        best = next((row for row in self._sweep.rows() if row.state == "finished"), None)
        line = "" if best is None else f"best so far: trial {best.trial.number}, {self._sweep.plan.metric} {best.objective}"
        return Group(table, Text(line))

    def end(self, sweep: Sweep, stopped: int | None) -> None:
        """Show the leaderboard and what to do next."""
        out, rows = console(), sweep.rows()
        if rows and self._enabled:
            out.print(leaderboard_table(rows, sweep.plan.metric, _SHOWN))
        best = next((row for row in rows if row.state == "finished"), None)
        if stopped is not None:
            out.print(f"stopped; to go on: lx sweep resume {sweep.directory}", highlight=False, soft_wrap=True)
        elif best is not None and self._enabled:
            out.print(best_command(best, sweep.plan.space.fixed), highlight=False, soft_wrap=True, markup=False)


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
