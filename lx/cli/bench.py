"""``lx bench``: measure training speed."""

from __future__ import annotations

from pathlib import Path

from lx.cli.arguments import Parser, check_ending, check_out
from lx.config.compose import compose
from lx.errors import LxError
from lx.system.gc import freeze_after_imports


def run(arguments: list[str]) -> int:
    """Measure a configuration, print the report and return the exit code."""
    args = parser().parse_intermixed_args(arguments)
    if min(number for number in (args.steps, args.warmup, args.rounds) if number is not None) < 1:
        raise LxError("--steps, --warmup and --rounds must be at least 1")
    check_out(args.out, None, args.overrides)
    check_ending(args.out, ".json")
    cfg = compose(args.overrides, args.config_dir)
    with freeze_after_imports():
        from lx.bench.benchmark import bench
        from lx.bench.report import show, write
    report = bench(cfg, args.steps, args.warmup, args.rounds)
    show(report)
    if args.out is not None:
        write(report, args.out)
    return 0


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser(
        "bench",
        "Measure how fast a configuration trains on this machine, how near that is to what the chip can do, and where "
        "the time goes.",
    )
    parser.add_overrides("as of lx train")
    parser.add_argument("--steps", type=int, metavar="N", help="timed in a round (default: 20; on a GPU two seconds)")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="steps before them (default: 5)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of which the median counts (default: 5)")
    parser.add_config_dir()
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report here, as JSON")
    return parser
