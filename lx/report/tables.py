"""What a person reads at the start and at the end of a run.

Tables and commands go to standard output, progress and log lines to standard error, so that ``2>run.log``
keeps the two apart. In a pipe there are no colour codes and lines are not wrapped at 80 columns.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lx.tracking.evaluation import ClassRow

_PIPE_WIDTH = 120
_NUM_WORST = 5


@dataclass(frozen=True)
class DataSummary:
    """The data of a run.

    Args:
        source: Where it comes from, e.g. ``docstrings`` or ``train.csv``.
        rows: Split name to number of rows.
        num_classes: Number of classes.
        truncated: Share of the training texts that are cut at ``max_length``, in [0, 1].
        max_length: Tokens kept of a text.
        duplicates: Texts of the training split that stand in another split too.
    """

    source: str
    rows: Mapping[str, int]
    num_classes: int
    truncated: float
    max_length: int
    duplicates: int


@dataclass(frozen=True)
class ModelSummary:
    """The model of a run: its name, its trainable and frozen parameters, its vocabulary in pieces."""

    name: str
    parameters: int
    vocabulary: int


@dataclass(frozen=True)
class HardwareSummary:
    """What a run computes on.

    Args:
        device: Its name.
        arithmetic: Its precision, and whose kernels compute.
        threads: CPU threads of each process.
        num_ranks: Processes, one a device.
        micro_batch: Examples of one forward pass.
    """

    device: str
    arithmetic: str
    threads: int
    num_ranks: int
    micro_batch: int


@dataclass(frozen=True)
class StepsSummary:
    """The length of a run; ``batch_size`` counts the examples of one optimizer step on all devices."""

    epochs: int
    steps_per_epoch: int
    total_steps: int
    batch_size: int


@dataclass(frozen=True)
class RunSummary:
    """All that the table at the start shows."""

    name: str
    data: DataSummary
    model: ModelSummary
    hardware: HardwareSummary
    steps: StepsSummary


def console(stderr: bool = False) -> Console:
    """A console for one of the standard streams.

    Args:
        stderr: Standard error (progress, log lines) instead of standard output (tables, commands).

    Returns:
        On a terminal, rich's default; otherwise 120 columns wide and free of control codes, whatever
        FORCE_COLOR says.
    """
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(stderr=stderr)
    return Console(stderr=stderr, width=_PIPE_WIDTH, force_terminal=False, color_system=None)


def start_table(summary: RunSummary) -> Table:
    """The table at the start of a run: data, model, hardware, steps."""
    data, model, hardware, steps = summary.data, summary.model, summary.hardware, summary.steps
    return _pairs(
        summary.name,
        [
            ("data", data.source),
            ("rows", ", ".join(f"{split} {rows:,}" for split, rows in data.rows.items())),
            ("classes", f"{data.num_classes:,}"),
            ("truncated", f"{data.truncated:.1%} of the training texts, at {data.max_length:,} tokens"),
            ("duplicates", f"{data.duplicates:,} training texts stand in another split too"),
            ("model", f"{model.name}, {model.parameters:,} parameters, {model.vocabulary:,} pieces"),
            (
                "hardware",
                f"{hardware.device}, {hardware.arithmetic}, "
                f"{hardware.num_ranks} x {_count(hardware.threads, 'thread')}",
            ),
            ("batch", f"{steps.batch_size:,} examples a step, {hardware.micro_batch:,} at a time"),
            (
                "steps",
                f"{_count(steps.epochs, 'epoch')} of {_count(steps.steps_per_epoch, 'step')},"
                f" {steps.total_steps:,} in total",
            ),
        ],
    )


def result_table(metrics: Mapping[str, float], rows: Sequence[ClassRow], seconds: float) -> Group:
    """The tables at the end of a run: metrics and the classes with the lowest F1.

    Args:
        metrics: Metric name to value, shown in this order.
        rows: One row per class.
        seconds: How long the run took.

    Returns:
        Both tables, as one thing to print. Classes without examples are not among the worst.
    """
    shown = [(name, f"{value:.4f}") for name, value in metrics.items()]
    worst = sorted((row for row in rows if row.support), key=lambda row: row.f1)[:_NUM_WORST]
    classes = Table(title="worst classes", title_justify="left")
    classes.add_column("class", overflow="fold")
    for header in ("F1", "precision", "recall", "examples"):
        classes.add_column(header, justify="right")
    classes.add_column("most often taken for", overflow="fold")
    for row in worst:
        classes.add_row(
            Text(row.name),
            f"{row.f1:.3f}",
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.support:,}",
            Text(f"{row.confused_with} ({row.confused_count:,})" if row.confused_with is not None else "-"),
        )
    return Group(_pairs("result", [*shown, ("time", duration(seconds))]), classes)


def next_commands(run_dir: Path, sync_command: str | None = None) -> list[str]:
    """Three commands to go on with, ready to paste.

    Args:
        run_dir: The run directory, as the person would write it.
        sync_command: The command that uploads the tracked run, if it was recorded offline.
    """
    run = shlex.quote(str(run_dir))
    return [
        f'lx predict {run} --text "your text"',
        f"lx eval {run}",
        sync_command or "lx train model=base",
    ]


def duration(seconds: float) -> str:
    """A time span as a person reads it: ``8.3 s``, ``2:05`` (minutes) or ``1:02:05`` (hours)."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _pairs(title: str, pairs: Iterable[tuple[str, str]]) -> Table:
    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(name), Text(value))
    return table


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
