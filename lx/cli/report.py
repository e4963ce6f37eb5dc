"""``lx report``: one HTML file that shows a run, several runs, or a sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lx.cli.arguments import Parser, check_out
from lx.errors import LxError

if TYPE_CHECKING:
    from lx.report.page import Page


def run(arguments: list[str]) -> int:
    """Write the report, print where it is, and return the exit code."""
    args = parser().parse_args(arguments)
    try:
        import matplotlib as mpl  # noqa: F401
    except ModuleNotFoundError as error:
        raise LxError("lx report draws with matplotlib: pip install 'lx[report]'") from error
    from lx.system.output import say

    out = args.out or args.directories[0] / "report.html"
    for directory in args.directories:
        check_out(args.out, str(directory))
    page = _page(args.directories)
    if args.figures is not None and page.write_figures(args.figures, args.format):
        say("lx: no installed font has all letters of the figures: --format svg leaves them to the viewer", sys.stderr)
    page.write(out)
    say(str(out))
    return 0


def _page(directories: Sequence[Path]) -> Page:
    from lx.run.directory import RunDirectory
    from lx.run.paths import runs_of_path
    from lx.sweep.members import is_sweep

    sweeps = [directory for directory in directories if is_sweep(directory)]
    if sweeps and len(directories) > 1:
        raise LxError(f"{sweeps[0]} is a sweep: a report shows one sweep, or runs; its runs are {sweeps[0]}/0, ...")
    if sweeps:
        from lx.sweep.report import sweep_page

        return sweep_page(sweeps[0])
    from lx.report.record import read_run

    records = [read_run(RunDirectory(run)) for directory in directories for run in runs_of_path(directory)]
    if len(records) > 1:
        from lx.report.runs_page import runs_page

        return runs_page(records)
    from lx.report.run_page import run_page

    return run_page(records[0])


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser(
        "report",
        "Write one HTML file that opens from disk, without network: of a run its learning curves, confusions, "
        "calibration and mistakes; of several runs what differs; of a sweep the leaderboard and what mattered.",
    )
    text = "a run, several, a folder of runs such as SWEEP/0, or a sweep"
    parser.add_argument("directories", nargs="+", type=Path, metavar="RUN", help=text)
    text = "the HTML file (default: report.html in the first directory)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=text)
    parser.add_argument("--figures", type=Path, metavar="DIR", help="also write each figure to a file in DIR")
    parser.add_argument("--format", choices=("svg", "png"), default="svg", help="of the figures (default: svg)")
    return parser
