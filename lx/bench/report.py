"""The results of a benchmark, for the terminal and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

from lx.report.tables import pairs_table
from lx.system.console import console
from lx.system.files import output_file, to_json


@dataclass
class Report:
    """The results of a benchmark, and the content of its JSON file.

    Attributes:
        device: its name.
        arithmetic: its precision, and whose kernels compute.
        threads: CPU threads.
        batch_size: examples of a step.
        tokens_per_second: real tokens, the median of the rounds.
        examples_per_second: likewise.
        padding: share of the tokens that are padding.
        matmul_flops: of square matrix products on this device in this precision, per second; the median of the rounds.
        utilisation: arithmetic of the real tokens over that rate, measured before each round; the median of the rounds.
        phases: seconds of a step, by phase.
        peak_memory: bytes, of the process on a CPU, of the device elsewhere.
        rounds: real tokens per second of each round, by program.
        matmul_rounds: the rate of matrix products before each round.
    """

    device: str
    arithmetic: str
    threads: int
    batch_size: int
    tokens_per_second: float
    examples_per_second: float
    padding: float
    matmul_flops: float
    utilisation: float
    phases: dict[str, float]
    peak_memory: int
    rounds: dict[str, list[float]] = field(default_factory=dict)
    matmul_rounds: list[float] = field(default_factory=list)


def show(report: Report) -> None:
    """Print a report."""
    out = console()
    facts = {
        "hardware": f"{report.device}, {report.arithmetic}, {report.threads} threads",
        "real tokens": f"{report.tokens_per_second:,.0f} a second",
        "examples": f"{report.examples_per_second:,.1f} a second, {report.batch_size} a step",
        "padding": f"{report.padding:.1%} of the tokens",
        "matrix products": f"{report.matmul_flops / 1e9:,.0f} GFLOP/s, measured before each round",
        "utilisation": f"{report.utilisation:.1%} of that, by the arithmetic of the real tokens",
        "peak memory": f"{report.peak_memory / 2**30:.2f} GiB",
    }
    out.print(pairs_table("training speed", facts))
    step = sum(report.phases.values())
    phases = Table("phase of a step", title=f"{1000 * step:,.1f} ms a step", title_justify="left")
    phases.add_column("ms", justify="right")
    phases.add_column("share", justify="right")
    for name, seconds in sorted(report.phases.items(), key=lambda item: -item[1]):
        phases.add_row(name, f"{1000 * seconds:,.1f}", f"{seconds / step:.1%}")
    out.print(phases)


def write(report: Report, path: Path) -> None:
    """Write a report as JSON."""
    with output_file(path) as written:
        written.write_text(to_json(asdict(report)), encoding="utf-8")
