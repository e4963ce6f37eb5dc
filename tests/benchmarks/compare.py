"""Training speed of lx and of other programs, in alternating rounds on the same examples.

    python tests/benchmarks/compare.py hf,lightning,bare data=ag_news model=base --rounds 5 --out report.json

Prints and writes the report of ``lx bench``, with the rounds of every program. Needs lx[bench].
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from baselines import SubprocessBaseline
from omegaconf import OmegaConf
from programs import PROGRAMS
from rich.table import Table

import lx
from lx.bench.benchmark import bench
from lx.bench.report import Report, show, write
from lx.errors import LxError
from lx.system.console import console
from lx.system.hardware import resolve


def compare(groups: list[str], overrides: list[str], steps: int | None, warmup: int, rounds: int) -> Report:
    """Start the programs of the groups, and let them train in turn with lx.

    Raises:
        LxError: a group is not known, a program fails, or training would refuse the configuration.
    """
    if unknown := [group for group in groups if group not in PROGRAMS]:
        raise LxError(f"{unknown[0]}: unknown; there are: {', '.join(PROGRAMS)}")
    cfg = lx.compose(["recipe=plain", *overrides])  # the programs have sizes before the data is read
    hardware = resolve(cfg.hardware.accelerator, cfg.hardware.precision, cfg.hardware.threads)
    settings = {"cfg": OmegaConf.to_container(cfg, resolve=True), "hardware": asdict(hardware)}
    script = str(Path(__file__).with_name("programs.py"))
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        baselines = []
        for group in groups:
            for program in PROGRAMS[group]:
                command, log = [sys.executable, script, group, program], Path(scratch) / f"{program}.txt"
                baselines.append(stack.enter_context(closing(SubprocessBaseline(program, command, settings, log))))
        return bench(cfg, steps, warmup, rounds, baselines)


def comparison(report: Report) -> Table:
    """Build the table of medians and ratios."""
    table = Table("program", title="alternating rounds on the same examples", title_justify="left")
    for heading in ("real tokens/s, median", "slowest to fastest", "lx is"):
        table.add_column(heading, justify="right")
    speed_of_lx = statistics.median(report.rounds["lx"])
    for name, speeds in report.rounds.items():
        middle = statistics.median(speeds)
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        table.add_row(name, f"{middle:,.0f}", spread, f"{speed_of_lx / middle:.2f} times as fast")
    return table


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", help=f"of programs, separated by commas: {', '.join(PROGRAMS)}")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as of lx train")
    parser.add_argument("--steps", type=int, help="timed in a round; default: 20, on a GPU two seconds")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the report here, as JSON")
    args = parser.parse_intermixed_args()
    try:
        report = compare(args.groups.split(","), args.overrides, args.steps, args.warmup, args.rounds)
    except LxError as error:
        sys.exit(f"error: {error}")
    show(report)
    console().print(comparison(report))
    if args.out is not None:
        write(report, args.out)


if __name__ == "__main__":
    main()
