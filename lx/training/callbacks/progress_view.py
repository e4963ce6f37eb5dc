"""Two ways to show progress: a live bar on a terminal, plain lines in a pipe or a log file."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from typing_extensions import override

from lx.report.tables import duration
from lx.training.run_length import RunLength

log = logging.getLogger(__name__)

_REFRESH_S = 0.25  # between two refreshes of a live bar
_LINE_S = 10.0  # between two plain lines
_ABBREVIATIONS = {"accuracy": "acc"}


@dataclass(frozen=True)
class Status:
    """Where training stands.

    Attributes:
        run_length: of the run.
        step: optimizer steps taken.
        averages: running averages by name, ``loss`` first.
        tokens_per_second: None: not known yet.
        seconds_left: to the end of training; None: not known, or at the end.
    """

    run_length: RunLength
    step: int
    averages: Mapping[str, float] = field(default_factory=dict)
    tokens_per_second: float | None = None
    seconds_left: float | None = None

    def position(self) -> str:
        """E.g. ``epoch 1/2  step 50/1200``; of a run without steps ``no steps``."""
        run_length = self.run_length
        if not run_length.total_steps:
            return "no steps"
        epoch = f"epoch {run_length.epoch_of(self.step)}/{run_length.num_epochs}"
        return f"{epoch}  step {self.step}/{run_length.total_steps}"

    def figures(self) -> str:
        """E.g. ``loss 0.412  acc 0.871  18.2k tokens/s  1:20 left``: with the position, within 80 columns."""
        figures = [f"{_ABBREVIATIONS.get(name, name)} {value:.3f}" for name, value in self.averages.items()]
        if self.tokens_per_second is not None:
            figures.append(f"{_thousands(self.tokens_per_second)} tokens/s")
        if self.seconds_left is not None:
            figures.append(f"{duration(self.seconds_left)} left")
        return "  ".join(figures)


class View:
    """One way to show progress; this one shows nothing."""

    def due(self, logging_step: bool, idle: float) -> bool:
        """Whether to show the status now, ``idle`` seconds after the last time; asked at every step."""
        return False

    def training(self, status: Status) -> None:
        """Show where training stands."""

    def evaluation(self, name: str, done: int, total: float) -> None:
        """Show how many batches of a validation or test are done."""

    def evaluation_end(self) -> None:
        """Show no evaluation any more."""

    def message(self, text: str) -> None:
        """Show a line that stays."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class LineView(View):
    """A log line at a logging step, at least ten seconds after the last, and for each message."""

    @override
    def due(self, logging_step: bool, idle: float) -> bool:
        return logging_step and idle >= _LINE_S

    @override
    def training(self, status: Status) -> None:
        self.message(f"{status.position()}  {status.figures()}")

    @override
    def message(self, text: str) -> None:
        log.info("%s", text)


class LiveView(LineView):
    """A bar for training and, below it, one for the evaluation that is running.

    While it is live, what is written to ``sys.stderr`` and ``sys.stdout`` appears above the bars.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}", markup=False),
        )
        # No refresh thread: data workers may be forked while it holds the console's lock.
        self._bars = Progress(*columns, console=console, auto_refresh=False)
        self._training: TaskID | None = None
        self._evaluation: TaskID | None = None
        self._evaluation_shown_at = 0.0

    @override
    def due(self, logging_step: bool, idle: float) -> bool:
        return idle >= _REFRESH_S

    @override
    def training(self, status: Status) -> None:
        if self._training is None:
            self._training = self._add("")
        self._bars.update(
            self._training,
            description=status.position(),
            completed=status.step,
            total=status.run_length.total_steps,
            figures=status.figures(),
            refresh=True,
        )

    @override
    def evaluation(self, name: str, done: int, total: float) -> None:
        if self._evaluation is None:
            self._evaluation = self._add(name)
        if time.monotonic() - self._evaluation_shown_at >= _REFRESH_S:
            self._evaluation_shown_at = time.monotonic()
            figures = f"{done}/{total}"
            self._bars.update(self._evaluation, completed=done, total=total, figures=figures, refresh=True)

    @override
    def evaluation_end(self) -> None:
        if self._evaluation is not None:
            self._bars.remove_task(self._evaluation)
            self._evaluation = None
            self._bars.refresh()

    @override
    def close(self) -> None:
        self._bars.stop()

    def _add(self, description: str) -> TaskID:
        self._bars.start()
        return self._bars.add_task(description, total=None, figures="")


def view_for(console: Console) -> View:
    """The live view where the cursor can be moved, log lines elsewhere."""
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else LineView()


def _thousands(number: float) -> str:
    """E.g. ``950``, ``18.2k`` or ``1.2M``."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"
