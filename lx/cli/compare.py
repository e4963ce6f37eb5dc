"""``lx compare``: what differs between runs, and whether the difference is real."""

from __future__ import annotations

import sys
from pathlib import Path

from lx.cli.arguments import Parser, check_out


def run(arguments: list[str]) -> int:
    """Compare runs, print tables, write a file on request and return the exit code."""
    args = parser().parse_args(arguments)
    for directory in args.directories:
        check_out(args.out, directory)
    from lx.report.comparison_tables import check_format, comparison_tables, write_comparison

    check_format(args.out)
    from lx.sweep.contenders import compare
    from lx.system.console import show
    from lx.system.output import say

    comparison = compare(args.directories)
    show(*comparison_tables(comparison))
    if args.out:
        write_comparison(args.out, comparison)
        say(f"written to {args.out}", sys.stderr)
    return 0


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser(
        "compare",
        "Compare runs on the rows that all were tested on: what differs in settings and results, and whether the "
        "difference is real, by a paired bootstrap over rows and seeds.",
    )
    text = "a run; a folder of runs that differ in their seed alone, such as SWEEP/0; or a sweep, for all its trials"
    parser.add_argument("directories", nargs="+", metavar="RUN", help=text)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it too, as .csv, .json or .md (Markdown)")
    return parser
